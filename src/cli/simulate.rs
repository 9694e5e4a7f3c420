//! `tidegate simulate`: the production decisions against the operator's own clusters, in virtual time.

use super::remote::AdminArguments;
use super::{FAILED, fail, print, read_config};
use crate::admin::client::Remote;
use crate::config::load;
use crate::config::scenario::{Event, Scenario};
use crate::decision::plan::{Class, Cluster, Kind, Plan, ServiceIndex, Strategy};
use crate::sim::engine::Engine;
use crate::sim::expect::own_plan;
use crate::sim::outcome::Outcome;
use crate::sim::plot::{Chart, Line, page};
use crate::sim::spec::{Change, EdgeSpec, PlaceSpec, Service, Spec};
use crate::sim::world;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The configuration file; `-` reads standard input.
    #[arg(long, short, env = "TIDEGATE_CONFIG")]
    config: PathBuf,
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
    /// Takes distances, service times and rates from a running proxy instead of assumed ones.
    #[command(flatten)]
    admin: AdminArguments,
    /// A folder for the CSV and the page with plots.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The assumed size of a response in bytes, for prices.
const RESPONSE_BYTES: f64 = 20_000.0;
/// Requests a second, if no argument gives a rate.
const RATE: f64 = 200.0;
const SERVICE: f64 = 0.020;
/// The maximum number of requests in a simulation: about one minute and half a gigabyte of memory.
const REQUESTS_MAX: f64 = 2e7;
/// The assumed load of the nearest cluster at the usual rate, if its capacity is not stated.
const USUAL_LOAD: f64 = 0.7;

/// Runs a simulation; fails if the scenario is invalid.
pub(super) fn simulate(question: &Question) -> ExitCode {
    match prepare(question).and_then(|prepared| tell(question, &prepared)) {
        Ok(code) => code,
        Err(message) => fail(&message),
    }
}

/// A simulated world made from a configuration.
struct Prepared {
    spec: Spec,
    plan: Arc<Plan>,
    assumed: Vec<String>,
}

/// Measurements of a running proxy, by cluster: distance and service time in seconds.
type Measured = BTreeMap<String, (Option<f64>, Option<f64>)>;

fn prepare(question: &Question) -> Result<Prepared, String> {
    let scenario = scenario(&question.scenario)?;
    let (text, folder) = read_config(&question.config)?;
    let outcome = load(&text, &folder, &|name| std::env::var(name).ok());
    let Some(config) = outcome.config else {
        let name = question.config.display().to_string();
        let lines: Vec<String> = outcome.problems.iter().map(|p| p.render(&name)).collect();
        return Err(format!("the configuration has errors\n{}", lines.join("\n")));
    };
    let service = match &question.service {
        Some(name) => {
            let found = config.plan.services.find(|service| service.name == *name);
            found.ok_or(format!("the configuration has no service `{name}`"))?
        }
        None => ServiceIndex(0),
    };
    let class = config.plan.classes.iter().find(|class| class.service == service && !class.l4);
    let class = class.ok_or("no http route or listener leads to this service")?;
    let (measured, rate) = match &question.admin.remote()? {
        Some(remote) => measured(remote, &config.plan.services[service].name)?,
        None => (Measured::new(), None),
    };
    let rate = question.rate.or(scenario.rate).or(rate);
    build(&config.plan, class, &scenario, &measured, rate)
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

fn measured(remote: &Remote, service: &str) -> Result<(Measured, Option<f64>), String> {
    let json = |path: &str| -> Result<serde_json::Value, String> {
        let (answer, url) = (remote.get(path)?, &remote.url);
        match answer.status {
            200 => serde_json::from_str(&answer.body)
                .map_err(|_| format!("the response of {url} to {path} is not JSON")),
            status => Err(format!("{url} answers {status} for {path}: {}", answer.body.trim())),
        }
    };
    let mut known = Measured::new();
    for cluster in json("/api/v1/clusters")?.as_array().into_iter().flatten() {
        let seconds = |key: &str| {
            cluster[key].as_f64().map(|ms| ms / 1e3).filter(|s| s.is_finite() && *s > 0.0)
        };
        let name = cluster["name"].as_str().unwrap_or_default().to_owned();
        known.insert(name, (seconds("distance_ms"), seconds("service_ms")));
    }
    let services = json("/api/v1/services")?;
    let own = services.as_array().into_iter().flatten().find(|s| s["name"] == service);
    let rate = own.and_then(|own| own["demand_rps"].as_f64()).filter(|rate| *rate >= 1.0);
    Ok((known, rate))
}

fn build(
    plan: &Plan,
    class: &Class,
    scenario: &Scenario,
    measured: &Measured,
    rate: Option<f64>,
) -> Result<Prepared, String> {
    let mut assumed = Vec::new();
    let rate = rate.unwrap_or_else(|| {
        assumed.push(format!("{RATE} requests/s (--rate, or --admin of a proxy with traffic)"));
        RATE
    });
    if !(0.1..=1e6).contains(&rate) {
        return Err("the rate must be from 0.1 to 1000000".to_owned());
    }
    let clusters: Vec<&Cluster> =
        class.permitted.clusters.iter().map(|index| &plan.clusters[*index]).collect();
    let known = clusters.iter().filter_map(|cluster| measured.get(&cluster.name)?.1);
    let service = scenario.service_time.or(known.reduce(f64::min)).unwrap_or_else(|| {
        assumed.push(format!("a mean service time of {} ms, exponential", SERVICE * 1e3));
        SERVICE
    });
    let mut clouds = 0;
    let mut rtt_ms = Vec::new();
    let mut places = Vec::new();
    for cluster in &clusters {
        clouds += usize::from(cluster.kind == Kind::Cloud);
        let distance = measured.get(&cluster.name).and_then(|known| known.0).map(|s| s * 1e3);
        rtt_ms.push(distance.unwrap_or_else(|| {
            let ms = if cluster.kind == Kind::Idc { 1.0 } else { 40.0 * clouds as f64 - 10.0 };
            assumed.push(format!("`{}` is {ms} ms away", cluster.name));
            ms
        }));
        places.push(place(cluster, rate, service, &mut assumed));
    }
    let mut spec = Spec {
        edges: vec![EdgeSpec { rtt_ms, workers: 2, share: 1.0 }],
        service: Service::Exponential(service),
        kinds: Vec::new(),
        services: 1,
        probe: None,
        demand: Vec::new(),
        changes: Vec::new(),
        seconds: scenario.seconds,
        measured_from: 2.0_f64.min(scenario.seconds / 2.0),
        reports: None,
        jitter: 0.1,
        impatience: None,
        sensitive: 0.0,
        usd_per_hour: None,
        places,
    };
    happen(&mut spec, scenario, rate, service)?;
    let most = spec.demand.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    if most * spec.seconds > REQUESTS_MAX {
        return Err(format!(
            "{most:.0} requests/s for {} s are more than {REQUESTS_MAX:.0}: lower --rate, or shorten the scenario",
            spec.seconds
        ));
    }
    if plan.services[class.service].strategy != Strategy::Nearest {
        assumed.push("the strategy `nearest`, although the service has another".to_owned());
    }
    assumed.push("load is inferred (no reports); one proxy with two workers".to_owned());
    let clusters = clusters.into_iter().cloned().collect();
    let plan = Arc::new(own_plan(plan, class, clusters));
    Ok(Prepared { spec, plan, assumed })
}

fn place(cluster: &Cluster, rate: f64, service: f64, assumed: &mut Vec<String>) -> PlaceSpec {
    let endpoints = cluster.source.stated_count().map_or(2, |count| count.max(1));
    let servers = cluster.ceiling.or(cluster.capacity).unwrap_or_else(|| {
        let home = (rate * service / USUAL_LOAD).ceil().max(1.0);
        let servers = if cluster.kind == Kind::Idc { home } else { 4.0 * home };
        let name = &cluster.name;
        assumed.push(format!(
            "`{name}` serves {servers} exchanges at once (set capacity.concurrent to change this)"
        ));
        servers as u32
    });
    let share = |index: usize| {
        let servers = servers as usize;
        (servers / endpoints + usize::from(index < servers % endpoints)).max(1)
    };
    PlaceSpec {
        endpoints: (0..endpoints).map(share).collect(),
        usd_per_request: cluster.prices.dollars(RESPONSE_BYTES),
        ..PlaceSpec::queue(&cluster.name, cluster.kind, servers as usize)
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
    let Prepared { spec, plan, assumed } = prepared;
    let make = |spec: &Spec, edge: usize| -> Box<dyn crate::sim::policy::Policy> {
        Box::new(Engine::with_plan(plan.clone(), spec, edge, question.seed))
    };
    let outcome = world::run(spec, &make, question.seed);
    let mut text = String::from("assumed:\n");
    for line in assumed {
        put(&mut text, format_args!("  {line}\n"));
    }
    text.push('\n');
    text.push_str(&table(spec, &outcome, 12, "  "));
    let all = outcome.between(spec.measured_from, spec.seconds);
    put(
        &mut text,
        format_args!(
            "\n{} requests, {:.2} % successful, mean {:.1} ms, p99 {:.1} ms, ${:.4} in {} s (seed {})\n",
            all.count,
            all.good * 100.0,
            all.mean,
            all.p99,
            outcome.usd.iter().sum::<f64>(),
            spec.seconds,
            question.seed
        ),
    );
    let printed = print(&text);
    let Some(folder) = &question.out else { return Ok(printed) };
    let failed = |error: std::io::Error| format!("cannot write to {}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    std::fs::write(folder.join("simulation.csv"), csv(spec, &outcome)).map_err(failed)?;
    let title = format!("tidegate simulate {}", question.scenario);
    std::fs::write(folder.join("simulation.html"), page(&title, assumed, &charts(spec, &outcome)))
        .map_err(failed)?;
    print(&format!("plots and figures in {}\n", folder.display()));
    Ok(if printed == ExitCode::SUCCESS { printed } else { FAILED })
}

/// One time window of the output.
struct Row {
    from: f64,
    demand: f64,
    shares: Vec<f64>,
    mean: f64,
    p99: f64,
    bad: f64,
    usd_per_hour: f64,
}

fn rows(spec: &Spec, outcome: &Outcome, count: usize) -> Vec<Row> {
    let width = spec.seconds / count as f64;
    let shares = outcome.shares(spec, width);
    let row = |index: usize| {
        let from = index as f64 * width;
        let summary = outcome.between(from, from + width);
        let demand = summary.count as f64 / width;
        let shares = shares.get(index).cloned().unwrap_or_default();
        let usd: f64 = shares
            .iter()
            .zip(&spec.places)
            .map(|(share, place)| share * place.usd_per_request)
            .sum();
        Row {
            from,
            demand,
            mean: summary.mean,
            p99: summary.p99,
            bad: 1.0 - summary.good,
            usd_per_hour: usd * demand * 3600.0,
            shares,
        }
    };
    (0..count).map(row).collect()
}

fn table(spec: &Spec, outcome: &Outcome, count: usize, indent: &str) -> String {
    let mut text = format!("{indent}{:>6} {:>9}", "from s", "requests/s");
    for place in &spec.places {
        put(&mut text, format_args!(" {:>12}", place.name));
    }
    put(&mut text, format_args!(" {:>9} {:>9} {:>7} {:>9}\n", "mean ms", "p99 ms", "bad %", "$/h"));
    for row in rows(spec, outcome, count) {
        put(&mut text, format_args!("{indent}{:>6.0} {:>10.0}", row.from, row.demand));
        for share in &row.shares {
            put(&mut text, format_args!(" {:>10.1} %", share * 100.0));
        }
        let (mean, p99, bad) = (row.mean, row.p99, row.bad * 100.0);
        put(
            &mut text,
            format_args!(" {mean:>9.1} {p99:>9.1} {bad:>7.2} {:>9.2}\n", row.usd_per_hour),
        );
    }
    text
}

fn csv(spec: &Spec, outcome: &Outcome) -> String {
    let names: Vec<String> =
        spec.places.iter().map(|place| format!("share_{}", place.name)).collect();
    let mut text =
        format!("second,requests_per_s,{},mean_ms,p99_ms,bad,usd_per_h\n", names.join(","));
    for row in rows(spec, outcome, (spec.seconds as usize).max(1)) {
        let shares: Vec<String> = row.shares.iter().map(|share| format!("{share:.4}")).collect();
        put(
            &mut text,
            format_args!(
                "{:.0},{:.1},{},{:.2},{:.2},{:.5},{:.4}\n",
                row.from,
                row.demand,
                shares.join(","),
                row.mean,
                row.p99,
                row.bad,
                row.usd_per_hour
            ),
        );
    }
    text
}

fn charts(spec: &Spec, outcome: &Outcome) -> Vec<Chart> {
    let rows = rows(spec, outcome, (spec.seconds as usize).max(1));
    let line = |name: &str, value: &dyn Fn(&Row) -> f64| Line {
        name: name.to_owned(),
        points: rows.iter().map(|row| (row.from, value(row))).collect(),
    };
    let chart = |title: &str, unit: &str, lines| Chart {
        title: title.to_owned(),
        axes: ("seconds".to_owned(), unit.to_owned()),
        lines,
    };
    let places = spec.places.iter().enumerate();
    let shares = places.map(|(index, place)| {
        line(&place.name, &|row| row.shares.get(index).map_or(0.0, |s| s * 100.0))
    });
    vec![
        chart("share by cluster", "%", shares.collect()),
        chart("latency", "ms", vec![line("mean", &|row| row.mean), line("p99", &|row| row.p99)]),
        chart("cost", "$/h", vec![line("all clusters", &|row| row.usd_per_hour)]),
    ]
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    out.write_fmt(text).unwrap_or_default();
}
