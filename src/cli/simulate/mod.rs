//! `tidegate simulate`: the production decisions against the operator's own clusters, in virtual time.

mod forecast;
mod in_force;
mod inputs;
mod known;

use self::forecast::Forecast;
use self::in_force::in_force;
use self::inputs::{Inputs, Load, Site};
use self::known::{Known, ask};
use super::remote::AdminArguments;
use super::{FAILED, fail, load_config, print, read_config};
use crate::config::scenario::{Event, Scenario};
use crate::decision::capacity_group::GroupIndex;
use crate::decision::plan::{Class, Cluster, Kind, Plan, ServiceIndex, Strategy};
use crate::sim::engine::Engine;
use crate::sim::expect::own_plan;
use crate::sim::plot::{Chart, Line, Span, page};
use crate::sim::spec::{Change, EdgeSpec, PlaceSpec, Service, Spec};
use crate::sim::world;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The configuration file; `-` reads standard input. Without one, the configuration in force at --admin.
    #[arg(long, short, env = "TIDEGATE_CONFIG", required_unless_present = "admin")]
    config: Option<PathBuf>,
    /// outage:CLUSTER, flash:10x, overload:1.3, slow:CLUSTER:3x, wan:CLUSTER:+80ms, or a YAML file.
    #[arg(long)]
    scenario: String,
    /// Service to simulate; the first by default.
    #[arg(long)]
    service: Option<String>,
    /// Seed of all random draws: the same seed gives the same figures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests a second before the first event.
    #[arg(long)]
    rate: Option<f64>,
    /// Takes distances, service times, capacities, dials, demand, sizes of responses and the balance of the budget from
    /// a running proxy instead of assumed ones.
    #[command(flatten)]
    admin: AdminArguments,
    /// A folder for the CSV and the page with plots.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// The maximum number of requests in a simulation: about one minute and half a gigabyte of memory.
const REQUESTS_MAX: f64 = 2e7;

/// Runs a simulation; fails if the scenario is invalid.
pub(super) fn simulate(question: &Question) -> ExitCode {
    match prepare(question).and_then(|prepared| tell(question, &prepared)) {
        Ok(code) => code,
        Err(message) => fail(&message),
    }
}

/// A simulated world made from a configuration.
struct Prepared {
    service: String,
    scenario: Scenario,
    spec: Spec,
    plan: Arc<Plan>,
    /// The balance of the service's budget, in dollars.
    balance: Option<f64>,
    inputs: Inputs,
}

fn prepare(question: &Question) -> Result<Prepared, String> {
    let scenario = scenario(&question.scenario)?;
    let remote = question.admin.remote()?;
    let (plan, first) = match (&question.config, &remote) {
        (Some(path), _) => (plan_of_file(path)?, None),
        (None, Some(remote)) => in_force(remote)?,
        (None, None) => return Err("needs `--config` or `--admin`".to_owned()),
    };
    let service = match question.service.as_ref().or(first.as_ref()) {
        Some(name) => {
            let found = plan.services.find(|service| service.name == *name);
            found.ok_or(format!("the configuration has no service `{name}`"))?
        }
        None => ServiceIndex(0),
    };
    let class = plan.classes.iter().find(|class| class.service == service && !class.l4);
    let class = class.ok_or("no http route or listener leads to this service")?;
    let known = match &remote {
        Some(remote) => ask(remote, &plan.services[service].name)?,
        None => Known::default(),
    };
    build(&plan, class, scenario, &known, question.rate)
}

fn plan_of_file(path: &Path) -> Result<Plan, String> {
    let (text, folder) = read_config(path)?;
    let outcome = load_config(&text, &folder);
    outcome.config.map(|config| config.plan).ok_or_else(|| {
        let name = path.display().to_string();
        let lines: Vec<String> = outcome.problems.iter().map(|p| p.render(&name)).collect();
        format!("the configuration has errors\n{}", lines.join("\n"))
    })
}

fn scenario(word: &str) -> Result<Scenario, String> {
    let path = Path::new(word);
    if !path.is_file() {
        return Scenario::from_word(word);
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {word}: {e}"))?;
    Scenario::from_text(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| problem.render(word)).collect();
        format!("the scenario has errors\n{}", lines.join("\n"))
    })
}

fn build(
    plan: &Plan,
    class: &Class,
    scenario: Scenario,
    known: &Known,
    rate: Option<f64>,
) -> Result<Prepared, String> {
    let mut inputs = Inputs::default();
    let service = &plan.services[class.service];
    let mut clusters: Vec<Cluster> =
        class.permitted.clusters.iter().map(|index| plan.clusters[*index].clone()).collect();
    let listed: Vec<&Cluster> = clusters.iter().collect();
    let load = inputs.load(rate, &scenario, known, &listed);
    if !(0.1..=1e6).contains(&load.rate) {
        return Err("the rate must be from 0.1 to 1000000".to_owned());
    }
    let sites = sites(&mut inputs, &mut clusters, known, load, &scenario);
    let balance = service.budget.map(|limit| {
        inputs.balance(limit.usd_per_hour * limit.share, limit.burst(), known.balance)
    });
    let mut spec = spec(&clusters, &sites, load, scenario.seconds);
    happen(&mut spec, &scenario, load.rate, load.service)?;
    let most = spec.demand.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    if most * spec.seconds > REQUESTS_MAX {
        return Err(format!(
            "{most:.0} requests/s for {} s are more than {REQUESTS_MAX:.0}: lower --rate, or shorten the scenario",
            spec.seconds
        ));
    }
    if service.strategy != Strategy::Nearest {
        let text = "the strategy `nearest`, although the service has another";
        inputs.assume("strategy", text);
    }
    inputs.assume("reports", "load is inferred (no reports); one proxy with two workers");
    if spec.places.iter().any(|place| place.usd_per_request > 0.0) {
        let text = "dollars are for requests and bytes from clusters: not for bytes to clusters, TLS, TCP, probes and fixed costs";
        inputs.assume("usd", text);
    }
    lines(&mut inputs, plan, &clusters);
    let plan = Arc::new(own_plan(plan, class, clusters));
    let service = service.name.clone();
    Ok(Prepared { service, scenario, spec, plan, balance, inputs })
}

/// The lines behind the clusters, and what is assumed of them.
fn lines(inputs: &mut Inputs, plan: &Plan, clusters: &[Cluster]) {
    let groups: BTreeSet<GroupIndex> =
        clusters.iter().filter_map(|cluster| cluster.group).collect();
    let groups = groups.into_iter().filter_map(|group| plan.groups.get(group));
    let names: Vec<&str> = groups.map(|group| inputs.line(group)).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        let text = format!(
            "no other service uses the lines {names}; they carry responses alone, and requests do not wait for them"
        );
        inputs.assume("capacity_groups", &text);
    }
}

/// The inputs of all clusters, whose dials become those in force.
fn sites(
    inputs: &mut Inputs,
    clusters: &mut [Cluster],
    known: &Known,
    load: Load,
    scenario: &Scenario,
) -> Vec<Site> {
    let mut clouds = 0;
    let site = |cluster: &mut Cluster| {
        clouds += usize::from(cluster.kind == Kind::Cloud);
        let site = inputs.site(cluster, clouds, known, load, scenario);
        cluster.dial = site.dial;
        site
    };
    clusters.iter_mut().map(site).collect()
}

/// The world at the beginning, without the demand.
fn spec(clusters: &[Cluster], sites: &[Site], load: Load, seconds: f64) -> Spec {
    let down = sites.iter().enumerate().filter(|(_, site)| site.is_down);
    let all = clusters.iter().zip(sites);
    Spec {
        places: all.map(|(cluster, site)| place(cluster, site, load.service)).collect(),
        edges: vec![EdgeSpec {
            rtt_ms: sites.iter().map(|site| site.distance_ms).collect(),
            workers: 2,
            share: 1.0,
        }],
        service: match load.spread {
            Some(spread) => Service::Lognormal(load.service, spread),
            None => Service::Exponential(load.service),
        },
        kinds: Vec::new(),
        services: 1,
        probe: None,
        demand: Vec::new(),
        changes: down.map(|(place, _)| (0.0, Change::Down(place))).collect(),
        seconds,
        measured_from: 2.0_f64.min(seconds / 2.0),
        reports: None,
        fleet: false,
        jitter: 0.1,
        impatience: None,
        sensitive: 0.0,
        usd_per_hour: None,
    }
}

fn place(cluster: &Cluster, site: &Site, service: f64) -> PlaceSpec {
    let share = |index: usize| {
        let (servers, endpoints) = (site.servers, site.endpoints);
        (servers / endpoints + usize::from(index < servers % endpoints)).max(1)
    };
    PlaceSpec {
        endpoints: (0..site.endpoints).map(share).collect(),
        speeds: vec![(service / site.service).clamp(0.01, 100.0); site.endpoints],
        usd_per_request: cluster.prices.dollars(site.bytes),
        response_bytes: site.bytes,
        ..PlaceSpec::queue(&cluster.name, cluster.kind, site.servers)
    }
}

fn happen(spec: &mut Spec, scenario: &Scenario, rate: f64, service: f64) -> Result<(), String> {
    let place = |spec: &Spec, name: &str| {
        let found = spec.places.iter().position(|place| place.name == name);
        let names: Vec<&str> = spec.places.iter().map(|place| place.name.as_str()).collect();
        found.ok_or(format!("`{name}` is not a cluster of this service: {}", names.join(", ")))
    };
    let home: usize = spec.places.first().map_or(1, |place| place.endpoints.iter().sum());
    let mut levels = vec![(0.0, rate)];
    for step in &scenario.steps {
        let (from, until) = (step.at, step.until);
        match &step.event {
            Event::Outage(name) => {
                let place = place(spec, name)?;
                spec.changes.push((from, Change::Down(place)));
                spec.changes.push((until, Change::Up(place)));
            }
            Event::Slow(name, factor) => {
                let place = place(spec, name)?;
                spec.changes.push((from, Change::Slow { place, factor: *factor }));
                spec.changes.push((until, Change::Slow { place, factor: 1.0 }));
            }
            Event::Wan(name, ms) => {
                let place = place(spec, name)?;
                spec.changes.push((from, Change::Wan { place, ms: *ms }));
                spec.changes.push((until, Change::Wan { place, ms: 0.0 }));
            }
            Event::Demand(factor) => levels.extend(level(from, until, rate, rate * factor)),
            Event::Overload(factor) => {
                let full = home as f64 / service;
                levels.extend(level(from, until, rate, full * factor));
            }
        }
    }
    levels.sort_by(|a, b| a.0.total_cmp(&b.0));
    spec.demand = levels;
    Ok(())
}

fn level(from: f64, until: f64, usual: f64, then: f64) -> [(f64, f64); 4] {
    [(from, usual), (from + 0.001, then), (until, then), (until + 0.001, usual)]
}

fn tell(question: &Question, prepared: &Prepared) -> Result<ExitCode, String> {
    let Prepared { service, scenario, spec, plan, balance, inputs } = prepared;
    let make = |spec: &Spec, edge: usize| -> Box<dyn crate::sim::policy::Policy> {
        let mut engine = Engine::with_plan(plan.clone(), spec, edge, question.seed);
        if let Some(usd) = balance {
            engine.restore(*usd);
        }
        Box::new(engine)
    };
    let outcome = world::run(spec, &make, question.seed);
    let phases = forecast::phases(spec, scenario, &outcome);
    let second = |at: usize| {
        let from = at as f64;
        forecast::phase(spec, &outcome, "", (from, (from + 1.0).min(spec.seconds)))
    };
    let forecast = Forecast {
        service: service.clone(),
        scenario: question.scenario.clone(),
        seed: question.seed,
        seconds: spec.seconds,
        headlines: forecast::headlines(&phases),
        inputs: inputs.list.clone(),
        total: forecast::phase(spec, &outcome, "total", (0.0, spec.seconds)),
        phases,
        usd: outcome.usd.iter().sum(),
        over_time: (0..(spec.seconds as usize).max(1)).map(second).collect(),
    };
    if let Some(folder) = &question.out {
        write(folder, &forecast, scenario)?;
    }
    let text = match question.json {
        true => serde_json::to_string_pretty(&forecast).map_err(|error| error.to_string())? + "\n",
        false => forecast.text(),
    };
    let printed = print(&text);
    let Some(folder) = question.out.as_ref().filter(|_| !question.json) else {
        return Ok(printed);
    };
    print(&format!("plots and figures in {}\n", folder.display()));
    Ok(if printed == ExitCode::SUCCESS { printed } else { FAILED })
}

/// Writes the CSV and the page.
fn write(folder: &Path, forecast: &Forecast, scenario: &Scenario) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write to {}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    std::fs::write(folder.join("simulation.csv"), forecast.csv()).map_err(failed)?;
    let title = format!("tidegate simulate {}", forecast.scenario);
    let inputs = forecast.inputs.iter().map(|input| {
        let source = input.source.label();
        format!("{} ({source})", input.text)
    });
    let notes: Vec<String> = forecast.headlines.iter().cloned().chain(inputs).collect();
    let page = page(&title, &notes, &charts(forecast, scenario));
    std::fs::write(folder.join("simulation.html"), page).map_err(failed)
}

fn charts(forecast: &Forecast, scenario: &Scenario) -> Vec<Chart> {
    let rows = &forecast.over_time;
    // A second without an answer has no point.
    let line = |name: &str, value: &dyn Fn(&forecast::Phase) -> Option<f64>| Line {
        name: name.to_owned(),
        points: rows.iter().filter_map(|row| Some((row.from_s, value(row)?))).collect(),
    };
    let spans = || {
        let spans = forecast::spans(scenario).into_iter();
        spans.map(|(from, until, name)| Span { from, until, name }).collect()
    };
    let chart = |title: &str, unit: &str, lines| Chart {
        title: title.to_owned(),
        axes: ("seconds".to_owned(), unit.to_owned()),
        lines,
        spans: spans(),
        end: Some(forecast.seconds),
    };
    let places = forecast.total.shares.iter().enumerate();
    let shares = places.map(|(index, share)| {
        line(&share.cluster, &|row| row.shares.get(index).map(|share| share.ratio * 100.0))
    });
    let errors = line("not served", &|row| Some(row.errors as f64));
    vec![
        chart("share by cluster", "%", shares.collect()),
        chart(
            "latency",
            "ms",
            vec![line("mean", &|row| row.mean_ms), line("p99", &|row| row.p99_ms)],
        ),
        chart("errors", "requests/s", vec![errors]),
        chart("cost", "$/h", vec![line("all clusters", &|row| Some(row.usd_per_hour))]),
    ]
}
