//! What one decision costs: the pick of a cluster and of an endpoint, as a worker makes it.
//!
//! `cargo bench --bench decision`: nanoseconds (the least of many batches), and allocations, which must be
//! none. Fails when any size costs more than 250 ns, when anything allocates, or when 4,096 endpoints a
//! cluster cost 100 ns more than 16 do: what grows is only how far apart their figures lie in memory, and a
//! request costs more than 10,000 ns.
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "it prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tidegate::decision::endpoint::{Chance, pick as pick_endpoint};
use tidegate::decision::plan::{Address, EndpointPolicy};
use tidegate::decision::signal::{Choice, ClusterSignals, EndpointSignals, State, Why};
use tidegate::decision::spill::{Credits, pick};
use tidegate::decision::units::Dice;

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

fn cluster(endpoints: usize) -> ClusterSignals {
    let endpoint = |index: usize| EndpointSignals {
        id: index as u32,
        address: Address::Ip(([127, 0, 0, 1], 80).into()),
        weight: 1.0,
        up: true,
        rtt: Some(0.001),
        latency: 0.020 + 0.001 * (index % 7) as f64,
        last_error: None,
    };
    ClusterSignals {
        state: State::Up,
        cause: "",
        dial: 100,
        rtt: Some(0.001),
        distance: 0.001,
        service: 0.02,
        queue: 0.0,
        requests_per_s: 0.0,
        success: 1.0,
        share: 0.0,
        usd_per_hour: 0.0,
        endpoints: (0..endpoints).map(endpoint).collect(),
        usable: (0..endpoints).collect(),
    }
}

/// Nanoseconds and allocations of one decision.
fn measure(clusters: usize, endpoints: usize) -> (f64, f64) {
    const BATCH: u64 = 20_000;
    let signals: Vec<ClusterSignals> = (0..clusters).map(|_| cluster(endpoints)).collect();
    let in_flight: Vec<u32> = (0..endpoints).map(|index| (index % 5) as u32).collect();
    // All hot, so that the loop goes to its end: the dearest case.
    let choice = |slot: usize| {
        let share = if slot + 1 == clusters { 1.0 } else { 0.3 };
        Choice { cluster: slot, slot, share, why: Why::Spill }
    };
    let choices: Vec<Choice> = (0..clusters).map(choice).collect();
    let mut credits = Credits::seeded(clusters, 7);
    let mut dice = Dice::seeded(1);
    let mut offered = vec![0_u64; clusters];
    let mut least = f64::INFINITY;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..60 {
        let started = Instant::now();
        for turn in 0..BATCH {
            let picked = pick(black_box(&choices), &mut credits, |_| true, |s| offered[s] += 1);
            let Some(picked) = picked else { continue };
            let mut chance = Chance { dice: &mut dice, turn, key: turn };
            let endpoint = pick_endpoint(
                EndpointPolicy::LeastWait,
                &signals[picked.cluster],
                &[],
                |index| in_flight[index],
                &mut chance,
            );
            black_box(endpoint);
        }
        least = least.min(started.elapsed().as_secs_f64() * 1e9 / BATCH as f64);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    (least, allocations as f64 / (60 * BATCH) as f64)
}

fn main() -> ExitCode {
    let sizes = [(3, 16), (3, 256), (3, 4_096), (8, 16), (32, 16)];
    let mut figures = Vec::new();
    println!("clusters  endpoints each   ns a decision   allocations");
    for (clusters, endpoints) in sizes {
        let (ns, allocations) = measure(clusters, endpoints);
        println!("{clusters:>8}  {endpoints:>14}   {ns:>13.1}   {allocations:>11.4}");
        figures.push((ns, allocations));
    }
    let within = figures.iter().all(|(ns, _)| *ns <= 250.0);
    let none = figures.iter().all(|(_, allocations)| *allocations == 0.0);
    let flat = figures[2].0 - figures[0].0 <= 100.0;
    println!("≤ 250 ns: {within}; no allocation: {none}; flat in endpoints: {flat}");
    if within && none && flat { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
