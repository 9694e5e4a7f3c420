//! The choice of a cluster among three that spill, and of one of sixteen endpoints.

#[path = "../../benches/decision/signals.rs"]
mod signals;

use signals::cluster;
use std::hint::black_box;
use tidegate::decision::endpoint::{Chance, Turns, pick as pick_endpoint};
use tidegate::decision::index::EndpointIndex;
use tidegate::decision::plan::{ClusterIndex, EndpointPolicy};
use tidegate::decision::signal::{Choice, ClusterSignals, Why};
use tidegate::decision::spill::{Credits, pick};
use tidegate::decision::units::{Dice, Timestamp};

/// Decides this often.
pub fn run(count: u64) {
    let clusters: Vec<ClusterSignals> = (0..3).map(|_| cluster(16, &|_| 1.0)).collect();
    let share = |slot: usize| if slot == 2 { 1.0 } else { 0.3 };
    let choice = |slot: usize| Choice {
        cluster: ClusterIndex(slot),
        slot,
        share: share(slot),
        why: Why::Spill,
        warm: false,
        usd: 0.0,
    };
    let choices: Vec<Choice> = (0..3).map(choice).collect();
    let (mut credits, mut dice) = (Credits::seeded(3, 7), Dice::seeded(1));
    let mut turns = vec![Turns::new(0, 2); 3];
    for key in 0..count {
        let picked = pick(black_box(&choices), &mut credits, |_| true, |_| {}).unwrap();
        let (now, turns) = (Timestamp::from_nanos(key * 1_000), &mut turns[picked.slot]);
        let mut chance = Chance { dice: &mut dice, turns, now, key };
        let signals = &clusters[picked.slot];
        let in_flight = |at: EndpointIndex| (at.0 % 5) as u32;
        black_box(pick_endpoint(EndpointPolicy::LeastWait, signals, &[], in_flight, &mut chance));
    }
}
