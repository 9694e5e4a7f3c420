//! Field scenarios S18 to S24 with real processes: simulated clusters with few slots, one proxy in front of them at a
//! time (Tidegate, nginx, HAProxy), ordinary clients at a fixed rate, and the fault or client that the scenario
//! examines.
//!
//! `FIELD_LONG=1` runs all scenarios with every proxy (`make field`); without it Tidegate runs the short form.
//! Options: `--only S18c,S22` by prefixes of names, `--proxy tidegate,nginx`. Tables are printed and written to
//! `target/field/table.md`. The exit code is 1 when Tidegate misses a gate; the figures of the other proxies are
//! shown only.
//!
//! # Relaxations
//! The gates are those of the simulated scenarios. A run of seconds counts tens of requests where a simulation counts
//! thousands; if a bound is wider for that reason, a comment states it.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test, and it shares its support")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, reads the clock, and prints its figures"
)]

mod balance;
mod blame;
mod client;
mod demand;
mod endpoint;
mod load;
mod proxies;
mod report;
mod slow;
#[path = "../e2e/support.rs"]
mod support;
mod unkind;

use endpoint::{Endpoint, Traits};
use proxies::{Cluster, Kind, Probe, Running, Setup};
use report::Played;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::eventually;

/// Scenarios run at the same time: they sleep most of the time, and share only the processors.
const LANES: usize = 8;

/// One scenario with one proxy.
#[derive(Clone, Copy)]
pub struct Stage {
    pub name: &'static str,
    pub kind: Kind,
    pub long: bool,
}

impl Stage {
    /// Seconds of a phase, by form.
    pub fn seconds(&self, long: f64, short: f64) -> f64 {
        if self.long { long } else { short }
    }
}

type Scenario = fn(Stage) -> Played;

const SCENARIOS: [(&str, Scenario); 18] = [
    ("S18a same prefix", slow::same_prefix),
    ("S18a other prefix", slow::other_prefix),
    ("S18c", slow::closed_loop),
    ("S18 overload", slow::overload),
    ("S19 10x", slow::release),
    ("S19 100x", slow::idle_release),
    ("S19 overload", slow::release_overload),
    ("S20 slow second", balance::slow_second),
    ("S20 killed", balance::killed),
    ("S21", balance::distance),
    ("freeze", balance::frozen),
    ("S22 uploads", blame::uploads),
    ("S22 aborts", blame::aborts),
    ("S22 chained aborts", blame::chained_aborts),
    ("S22 rejected", blame::rejected),
    ("S22 untaken", blame::untaken),
    ("S23", demand::steps),
    ("S24 priority 9", demand::priorities),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Test runners list tests first; this program is one test.
    if arguments.iter().any(|argument| argument == "--list") {
        println!("field: test");
        return ExitCode::SUCCESS;
    }
    let long = std::env::var_os("FIELD_LONG").is_some();
    let only = words(&arguments, "--only");
    let chosen = |name: &str| only.is_empty() || only.iter().any(|word| name.starts_with(word));
    let proxies = words(&arguments, "--proxy");
    let kinds = Kind::ALL.into_iter().filter(|kind| match proxies.as_slice() {
        [] => long || *kind == Kind::Tidegate,
        some => some.iter().any(|word| kind.name().eq_ignore_ascii_case(word)),
    });
    let kinds: Vec<Kind> = kinds.collect();
    let chosen: Vec<_> = SCENARIOS.iter().filter(|(name, _)| chosen(name)).collect();
    let all = play(&chosen, &kinds, long);
    for played in all.iter().filter(|played| !played.reasons.is_empty()) {
        println!("{} {}: {}", played.scenario, played.kind.name(), played.reasons);
    }
    let text = report::tables(&all);
    println!("{text}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/field");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("table.md"), &text).unwrap();
    let ours = all.iter().filter(|played| played.kind == Kind::Tidegate);
    let gates = ours.flat_map(|played| played.gates.iter().map(move |gate| (played, gate)));
    let (met, missed): (Vec<_>, Vec<_>) = gates.partition(|(_, gate)| gate.met);
    for (played, gate) in &missed {
        println!("missed: {}: {}", played.scenario, gate.what);
    }
    println!("{} of {} gates met", met.len(), met.len() + missed.len());
    if missed.is_empty() && !all.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The words after an option, cut at commas.
fn words(arguments: &[String], option: &str) -> Vec<String> {
    let at = arguments.iter().position(|argument| argument == option);
    let value = at.and_then(|at| arguments.get(at + 1));
    value.map(|value| value.split(',').map(str::to_owned).collect()).unwrap_or_default()
}

/// Runs every scenario with every proxy, one proxy after another, a few scenarios at once.
fn play(scenarios: &[&(&'static str, Scenario)], kinds: &[Kind], long: bool) -> Vec<Played> {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((name, scenario)) =
                    scenarios.get(next.fetch_add(1, Ordering::SeqCst))
                {
                    for (place, kind) in kinds.iter().enumerate() {
                        let played = scenario(Stage { name, kind: *kind, long });
                        let order = SCENARIOS.iter().position(|(known, _)| known == name);
                        all.lock().unwrap().push((order, place, played));
                    }
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap();
    all.sort_by_key(|(order, place, _)| (*order, *place));
    all.into_iter().map(|(_, _, played)| played).collect()
}

/// Endpoints of one cluster, all alike.
pub fn endpoints(name: &str, count: usize, traits: &Traits) -> Vec<Endpoint> {
    (0..count).map(|number| Endpoint::start(&format!("{name}-{number}"), traits)).collect()
}

/// Endpoints with this number of slots and this service time; `report` takes a second.
pub fn traits(slots: usize, service_ms: f64, distance_ms: u64) -> Traits {
    let service = Duration::from_secs_f64(service_ms / 1_000.0);
    let times = vec![("", service), ("report", Duration::from_secs(1))];
    Traits { slots, times, distance: Duration::from_millis(distance_ms) }
}

/// The reason why the cloud is the second choice.
#[derive(Clone, Copy, PartialEq)]
pub enum Farther {
    /// Its price; TCP probes take no time to either cluster.
    Priced,
    /// Its distance, which HTTP probes show and handshakes do not; the proxy has no price configured.
    Distant,
}

/// Starts a proxy before an IDC and one cloud.
pub fn before(kind: Kind, idc: &[Endpoint], cloud: &[Endpoint], farther: Farther) -> Running {
    let priced = farther == Farther::Priced;
    let clusters = vec![
        Cluster { name: "idc", endpoints: idc, priced: false },
        Cluster { name: "cloud", endpoints: cloud, priced },
    ];
    let probe = if priced { Probe::Tcp } else { Probe::Http };
    let running = Running::start(kind, &Setup { clusters, probe, services: Vec::new() });
    // Every proxy has probed a few times before the first client comes.
    sleep(Duration::from_millis(2_000));
    running
}

/// The names of endpoints, in their order.
pub fn names(clusters: &[&[Endpoint]]) -> Vec<String> {
    clusters.iter().flat_map(|all| all.iter()).map(|endpoint| endpoint.name.clone()).collect()
}

pub fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A thread with a small stack: there are hundreds.
pub fn spawn(act: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().stack_size(256 * 1024).spawn(act).unwrap()
}

pub fn sleep(span: Duration) {
    std::thread::sleep(span);
}

pub fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}
