//! The cost of one decision: the selection of a cluster and of an endpoint by a worker; and the cost of one sweep,
//! which creates the signals for the workers, 20 times a second.
//!
//! `cargo bench --bench decision`: time by criterion, instructions by callgrind if valgrind is installed
//! (instruction counts are exactly repeatable and show small changes), and allocations, of which there must be
//! none. The benchmark fails if a decision of any size costs more than 100 ns or 1,000 instructions, if a decision
//! allocates, or if a cluster of 4,096 endpoints costs 100 ns more than one of 16 (only cache misses grow with the
//! size). The pick of an endpoint alone may cost 60 ns, with equal or unequal weights. A sweep of 1,000 classes of
//! which 100 are in use may cost 1 ms.
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "it prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod signals;
mod sweep;

use criterion::{BenchmarkId, Criterion};
use signals::cluster;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tidegate::decision::endpoint::{Chance, Turns, pick as pick_endpoint};
use tidegate::decision::index::EndpointIndex;
use tidegate::decision::plan::{ClusterIndex, EndpointPolicy};
use tidegate::decision::signal::{Choice, ClusterSignals, Why};
use tidegate::decision::spill::{Credits, pick};
use tidegate::decision::units::{Dice, Timestamp};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator is unsafe by its trait; this one forwards all")]
// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Listed weights of a cluster's endpoints.
#[derive(Clone, Copy, Debug)]
enum Weights {
    Equal,
    OneToThree,
}

impl Weights {
    fn of(self, index: usize) -> f64 {
        match self {
            Weights::Equal => 1.0,
            Weights::OneToThree => 1.0 + (index % 3) as f64,
        }
    }
}

/// The state of a worker for a decision.
struct Desk {
    signals: Vec<ClusterSignals>,
    in_flight: Vec<u32>,
    choices: Vec<Choice>,
    credits: Credits,
    dice: Dice,
    offered: Vec<u64>,
    turns: Vec<Turns>,
    key: u64,
}

impl Desk {
    fn new(clusters: usize, endpoints: usize) -> Desk {
        // All clusters have a queue, so that the loop visits all of them: the most expensive case.
        let choice = |slot: usize| {
            let share = if slot + 1 == clusters { 1.0 } else { 0.3 };
            Choice {
                cluster: ClusterIndex(slot),
                slot,
                share,
                why: Why::Spill,
                warm: false,
                usd: 0.0,
            }
        };
        Desk {
            signals: (0..clusters).map(|_| cluster(endpoints, &|_| 1.0)).collect(),
            in_flight: (0..endpoints).map(|index| (index % 5) as u32).collect(),
            choices: (0..clusters).map(choice).collect(),
            credits: Credits::seeded(clusters, 7),
            dice: Dice::seeded(1),
            offered: vec![0; clusters],
            turns: vec![Turns::new(0, 2); clusters],
            key: 0,
        }
    }

    #[inline(never)]
    fn decide(&mut self) -> Option<EndpointIndex> {
        let offered = &mut self.offered;
        let choices = black_box(&self.choices);
        let picked = pick(choices, &mut self.credits, |_| true, |slot| offered[slot] += 1)?;
        self.decide_in(picked.cluster.0)
    }

    #[inline(always)]
    fn decide_in(&mut self, cluster: usize) -> Option<EndpointIndex> {
        self.key += 1;
        let now = Timestamp::from_nanos(self.key * 1_000);
        let turns = &mut self.turns[cluster];
        let mut chance = Chance { dice: &mut self.dice, turns, now, key: self.key };
        let in_flight = &self.in_flight;
        let signals = &self.signals[cluster];
        pick_endpoint(EndpointPolicy::LeastWait, signals, &[], |at| in_flight[at.0], &mut chance)
    }
}

const SIZES: [(usize, usize); 5] = [(3, 16), (3, 256), (3, 4_096), (8, 16), (32, 16)];
const BATCH: u64 = 20_000;

/// Nanoseconds (the least of many batches) and allocations of one decision.
fn measure(clusters: usize, endpoints: usize) -> (f64, f64) {
    let mut desk = Desk::new(clusters, endpoints);
    time(|| desk.decide())
}

/// The cost of the pick of an endpoint alone.
fn measure_pick(endpoints: usize, weights: Weights) -> (f64, f64) {
    let mut desk = Desk::new(1, endpoints);
    desk.signals = vec![cluster(endpoints, &|index| weights.of(index))];
    time(|| desk.decide_in(black_box(0)))
}

fn time(mut decide: impl FnMut() -> Option<EndpointIndex>) -> (f64, f64) {
    let mut least = f64::INFINITY;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..60 {
        let started = Instant::now();
        (0..BATCH).for_each(|_| {
            black_box(decide());
        });
        least = least.min(started.elapsed().as_secs_f64() * 1e9 / BATCH as f64);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    (least, allocations as f64 / (60 * BATCH) as f64)
}

/// The instructions of one decision: the difference between two runs of this program under callgrind, the
/// second with twice as many decisions.
fn instructions(clusters: usize, endpoints: usize) -> Option<f64> {
    let run = |count: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args(["--decide", &clusters.to_string(), &endpoints.to_string(), &count.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.contains("Collected :"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    Some((run(20_000)? - run(10_000)?) / 10_000.0)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--decide") {
        let number = |offset: usize| arguments[at + offset].parse::<usize>().unwrap_or(0);
        let mut desk = Desk::new(number(1), number(2));
        (0..number(3)).for_each(|_| {
            black_box(desk.decide());
        });
        return ExitCode::SUCCESS;
    }
    let mut criterion = Criterion::default().without_plots();
    let mut group = criterion.benchmark_group("decide");
    for (clusters, endpoints) in SIZES {
        let id = BenchmarkId::from_parameter(format!("{clusters}x{endpoints}"));
        let mut desk = Desk::new(clusters, endpoints);
        group.bench_function(id, |bencher| bencher.iter(|| desk.decide()));
    }
    group.finish();
    let mut figures = Vec::new();
    println!("clusters  endpoints each   ns a decision   instructions   allocations");
    for (clusters, endpoints) in SIZES {
        let (ns, allocations) = measure(clusters, endpoints);
        let count = instructions(clusters, endpoints);
        let instructions = count.map_or("no valgrind".to_owned(), |count| format!("{count:.0}"));
        println!(
            "{clusters:>8}  {endpoints:>14}   {ns:>13.1}   {instructions:>12}   {allocations:>11.4}"
        );
        figures.push((ns, count, allocations));
    }
    println!("endpoints  weights      ns a pick   allocations");
    let mut picks = Vec::new();
    for weights in [Weights::Equal, Weights::OneToThree] {
        for endpoints in [2, 3, 8, 50, 4_096] {
            let (ns, allocations) = measure_pick(endpoints, weights);
            let weights = format!("{weights:?}");
            println!("{endpoints:>9}  {weights:<10}   {ns:>9.1}   {allocations:>11.4}");
            picks.push((ns, allocations));
        }
    }
    println!("classes   in use   ms a sweep");
    let mut sweeps = Vec::new();
    for active in [0, 100, sweep::CLASSES] {
        let Some(ms) = sweep::measure(active) else { return ExitCode::FAILURE };
        println!("{:>7}   {active:>6}   {ms:>10.3}", sweep::CLASSES);
        sweeps.push(ms);
    }
    let swept = sweeps[..2].iter().all(|ms| *ms <= 1.0);
    // The first pick allocates memory for its endpoints.
    let quick = picks.iter().all(|(ns, allocations)| *ns <= 60.0 && *allocations < 1e-4);
    let within = figures.iter().all(|(ns, ..)| *ns <= 100.0);
    let few = figures.iter().all(|(_, count, _)| count.is_none_or(|count| count <= 1_000.0));
    let none = figures.iter().all(|(.., allocations)| *allocations < 1e-4);
    let flat = figures[2].0 - figures[0].0 <= 100.0;
    println!(
        "≤ 100 ns: {within}; ≤ 1,000 instructions: {few}; no allocation: {none}; flat: {flat}; a pick ≤ 60 ns: {quick}; \
         a sweep ≤ 1 ms: {swept}"
    );
    let all = within && few && none && flat && quick && swept;
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
