//! Every policy in every scenario, in virtual time, with the production decisions.
//!
//! `cargo bench --bench routing [-- --quick] [--seed N] [--seeds N] [--scenario S1,S3] [--policies tidegate,O1]`
//!
//! Prints one table, then for each gate `met`, `missed` or `impossible` with its figure; writes CSV and plots to
//! `target/bench/routing/`; fails when a gate is missed. Figures are means over the seeds.
#![allow(missing_docs, clippy::expect_used, reason = "a program of its own, that may fail loudly")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::sim::baseline::{self, Entry};
use tidegate::sim::gate::{self, Judgement, Runs, Verdict};
use tidegate::sim::outcome::Outcome;
use tidegate::sim::plot::{Chart, Line};
use tidegate::sim::scenario::{self, Scenario};
use tidegate::sim::spec::Spec;
use tidegate::sim::world;

struct Options {
    quick: bool,
    seeds: Vec<u64>,
    scenarios: Vec<String>,
    /// The policies; all if empty.
    policies: Vec<String>,
}

/// Policies that are compared in a quick run.
const QUICK: [&str; 5] = ["tidegate", "waterfall-1.0", "prequal", "O1", "O2"];
/// Policies that run in the field scenarios.
const FIELD: [&str; 3] = ["tidegate", "least-request", "O1"];
/// Scenarios that a quick run skips because of their length.
const LONG: [&str; 5] = ["S8", "S9", "S12b", "S14", "S16"];

const USAGE: &str = "cargo bench --bench routing -- [--quick] [--seed N | --seeds N] [--scenario S1,S19*] \
                     [--policies tidegate,O1]";

/// The options; `None` if an argument is not known, or its value is none.
fn options(mut words: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        quick: false,
        seeds: (1..=10).collect(),
        scenarios: Vec::new(),
        policies: Vec::new(),
    };
    let names = |text: String| text.split(',').map(str::to_owned).collect();
    while let Some(word) = words.next() {
        match word.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--quick" => (options.quick, options.seeds) = (true, vec![1, 2]),
            "--seed" => options.seeds = vec![words.next()?.parse().ok()?],
            "--seeds" => options.seeds = (1..=words.next()?.parse().ok()?).collect(),
            "--scenario" => options.scenarios = names(words.next()?),
            "--policies" => options.policies = names(words.next()?),
            _ => return None,
        }
    }
    let selects = |name: &&String| scenario::all(true).iter().any(|one| is_named(one, name));
    let unknown = options.scenarios.iter().find(|name| !selects(name));
    let policies = || baseline::ALL.iter().map(|entry| entry.name);
    let stranger = options.policies.iter().find(|name| policies().all(|known| known != *name));
    match (unknown, stranger) {
        (None, None) => Some(options),
        (Some(name), _) => {
            let all: Vec<&str> = scenario::all(true).iter().map(|one| one.name).collect();
            eprintln!("no scenario {name}; there are {}", all.join(", "));
            None
        }
        (None, Some(name)) => {
            eprintln!("no policy {name}; there are {}", policies().collect::<Vec<_>>().join(", "));
            None
        }
    }
}

/// Whether `name` selects the scenario: by its name, or as `S19*` by the beginning of it.
fn is_named(scenario: &Scenario, name: &str) -> bool {
    match name.strip_suffix('*') {
        Some(start) => scenario.name.starts_with(start),
        None => name == scenario.name,
    }
}

/// The scenarios of this run; those named, else all, or the short ones.
fn scenarios(options: &Options) -> Vec<Scenario> {
    let wanted = |scenario: &Scenario| match options.scenarios.as_slice() {
        [] => !(options.quick && LONG.contains(&scenario.name)),
        names => names.iter().any(|name| is_named(scenario, name)),
    };
    scenario::all(!options.quick).into_iter().filter(wanted).collect()
}

/// A world to run: the policy, with or without reports, and the seed.
#[derive(Clone, Copy)]
struct Job {
    entry: &'static Entry,
    reports: bool,
    seed: u64,
}

fn with_reports(scenario: &Scenario, reports: bool) -> Spec {
    let age = if ["S9", "S9-fleet", "S26-fleet"].contains(&scenario.name) { 1.0 } else { 0.0 };
    let fleet = scenario.spec.fleet && !reports;
    Spec { reports: reports.then_some(age), fleet, ..scenario.spec.clone() }
}

/// Whether a policy runs in a scenario: field scenarios examine the engine.
fn wants(options: &Options, scenario: &str, policy: &str) -> bool {
    if !options.policies.is_empty() {
        return options.policies.iter().any(|name| name == policy);
    }
    let quick = !options.quick || QUICK.contains(&policy);
    quick && (!scenario::is_field(scenario) || FIELD.contains(&policy))
}

/// Runs all jobs on all cores; returns the outcomes by policy, mode and seed.
fn run(scenario: &Scenario, options: &Options) -> BTreeMap<(&'static str, bool), Vec<Outcome>> {
    let mut jobs = Vec::new();
    for entry in baseline::ALL {
        if !wants(options, scenario.name, entry.name) {
            continue;
        }
        for &seed in &options.seeds {
            jobs.push(Job { entry, reports: true, seed });
            if entry.name == "tidegate" {
                jobs.push(Job { entry, reports: false, seed });
            }
        }
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let spec = with_reports(scenario, job.reports);
                    let make = |s: &Spec, e: usize| (job.entry.make)(s, e, job.seed);
                    let outcome = world::run(&spec, &make, job.seed);
                    let key = (job.entry.name, job.reports, job.seed);
                    done.lock().expect("no thread panics").insert(key, outcome);
                }
            });
        }
    });
    let mut by_policy: BTreeMap<(&'static str, bool), Vec<Outcome>> = BTreeMap::new();
    for ((name, reports, _), outcome) in done.into_inner().expect("no thread panics") {
        by_policy.entry((name, reports)).or_default().push(outcome);
    }
    by_policy
}

fn label(name: &str, reports: bool) -> String {
    if reports { name.to_owned() } else { format!("{name} (client-only)") }
}

/// Prints a line of the table for each policy, and writes its CSV.
fn tell(
    scenario: &Scenario,
    outcomes: &BTreeMap<(&'static str, bool), Vec<Outcome>>,
    csv: &mut String,
) {
    println!("\n{}: {}", scenario.name, scenario.about);
    println!(
        "  {:26} {:>17} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>9}",
        "policy", "mean ms", "p50", "p99", "p99.9", "good %", "home %", "needl. %", "per try"
    );
    let (from, to) = (scenario.spec.measured_from, scenario.spec.seconds);
    let order = |name: &str| baseline::ALL.iter().position(|entry| entry.name == name);
    let mut rows: Vec<_> = outcomes.iter().collect();
    rows.sort_by_key(|((name, reports), _)| (order(name), !reports));
    for ((name, reports), outcomes) in rows {
        let all: Vec<_> = outcomes.iter().map(|outcome| outcome.between(from, to)).collect();
        let of = |figure: &dyn Fn(&tidegate::sim::outcome::Summary) -> f64| {
            gate::interval(&all.iter().map(figure).collect::<Vec<f64>>())
        };
        let (mean, half) = of(&|s| s.mean);
        let tries = outcomes.iter().map(|o| o.attempts as f64 / o.records.len().max(1) as f64);
        let tries = tries.sum::<f64>() / outcomes.len().max(1) as f64;
        let [p50, p99, p999, good, home, needless] = [
            of(&|s| s.p50).0,
            of(&|s| s.p99).0,
            of(&|s| s.p999).0,
            of(&|s| s.good * 100.0).0,
            of(&|s| s.home * 100.0).0,
            of(&|s| s.needless * 100.0).0,
        ];
        let label = label(name, *reports);
        println!(
            "  {label:26} {mean:>9.1} ±{half:>6.1} {p50:>8.1} {p99:>8.1} {p999:>8.1} {good:>7.2} {home:>7.1} {needless:>8.2} {tries:>9.3}"
        );
        writeln!(csv, "{},{label},{mean:.3},{half:.3},{p50:.3},{p99:.3},{p999:.3},{good:.4},{home:.3},{needless:.4},{tries:.4}", scenario.name).expect("a string");
    }
}

/// Plots the home share and the mean over time, of the engine and the best other policies.
fn plots(
    scenario: &Scenario,
    outcomes: &BTreeMap<(&'static str, bool), Vec<Outcome>>,
    folder: &Path,
) {
    let shown = [
        ("tidegate", true),
        ("tidegate", false),
        ("waterfall-1.0", true),
        ("prequal", true),
        ("O1", true),
    ];
    let width = scenario.spec.seconds / 120.0;
    let lines = |figure: &dyn Fn(&Outcome, f64) -> f64| -> Vec<Line> {
        let known = shown.iter().filter_map(|key| Some((key, outcomes.get(key)?.first()?)));
        let line = |((name, reports), outcome): (&(&'static str, bool), &Outcome)| Line {
            name: label(name, *reports),
            points: (1..120)
                .map(|n| (f64::from(n) * width, figure(outcome, f64::from(n) * width)))
                .collect(),
        };
        known.map(line).collect()
    };
    let chart = |title: &str, unit: &str, lines| Chart {
        title: format!("{}: {title}", scenario.name),
        axes: ("seconds".to_owned(), unit.to_owned()),
        lines,
        spans: Vec::new(),
        end: None,
    };
    let home = lines(&|outcome, at| outcome.between(at - width, at).home * 100.0);
    let mean = lines(&|outcome, at| outcome.between(at - width, at).mean.min(400.0));
    for (kind, chart) in [
        ("home", chart("share at the first place", "%", home)),
        ("mean", chart("mean (cut at 400 ms)", "ms", mean)),
    ] {
        let path = folder.join(format!("{}-{kind}.svg", scenario.name));
        std::fs::write(path, chart.svg()).expect("the folder can be written");
    }
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/routing");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let mut csv = "scenario,policy,mean_ms,mean_ci95,p50_ms,p99_ms,p999_ms,good_percent,home_percent,needless_percent,attempts\n".to_owned();
    let mut verdicts: Vec<(String, Verdict)> = Vec::new();
    // The outcomes that later scenarios are compared with, by name and mode.
    let mut kept: BTreeMap<(&str, bool), Vec<Outcome>> = BTreeMap::new();
    for scenario in scenarios(&options) {
        let outcomes = run(&scenario, &options);
        tell(&scenario, &outcomes, &mut csv);
        plots(&scenario, &outcomes, &folder);
        for reports in [true, false] {
            let spec = with_reports(&scenario, reports);
            let Some(engine) = outcomes.get(&("tidegate", reports)) else { continue };
            let find = |name: &str| -> &[Outcome] {
                outcomes
                    .iter()
                    .find(|((known, _), _)| *known == name)
                    .map_or(&[], |(_, outcomes)| outcomes)
            };
            if ["S13", "S8-reactive"].contains(&scenario.name) || scenario.spec.fleet {
                kept.insert((scenario.name, reports), engine.clone());
            }
            let compared = gate::compared_with(scenario.name, reports);
            let compared = compared.and_then(|other| kept.get(&other));
            let compared = compared.map_or(&[][..], Vec::as_slice);
            let runs = Runs { spec: &spec, engine, other: &find, compared };
            let mode = if reports { "reports" } else { "client-only" };
            let name = format!("{:10} {mode:11}", scenario.name);
            verdicts
                .extend(gate::judge(scenario.name, &runs).into_iter().map(|v| (name.clone(), v)));
        }
    }
    std::fs::write(folder.join("routing.csv"), csv).expect("the folder can be written");
    println!("\ngates ({} seeds)", options.seeds.len());
    let count = |wanted: Judgement| {
        verdicts.iter().filter(|(_, verdict)| verdict.judgement() == wanted).count()
    };
    for (name, verdict) in &verdicts {
        let word = match verdict.judgement() {
            Judgement::Met => "met       ".to_owned(),
            Judgement::Missed => "missed    ".to_owned(),
            Judgement::Impossible => {
                format!("impossible (optimum {:.2})", verdict.best.map_or(f64::NAN, |best| best.0))
            }
        };
        let sign = if verdict.at_most { "≤" } else { "≥" };
        let (figure, half) = verdict.figure;
        let half = if half.is_nan() { String::new() } else { format!(" ±{half:.4}") };
        println!("  {word} {name} {}: {figure:.4}{half} {sign} {}", verdict.gate, verdict.bound);
    }
    let missed = count(Judgement::Missed);
    println!(
        "\n{} of {} gates met, {} impossible, {missed} missed; table and plots in target/bench/routing/",
        count(Judgement::Met),
        verdicts.len(),
        count(Judgement::Impossible)
    );
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
