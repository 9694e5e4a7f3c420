//! The choice of a cluster among three that spill, and of one of sixteen endpoints.

use std::hint::black_box;
use tidegate::decision::endpoint::{Chance, Cost, Turns, pick as pick_endpoint, prepare};
use tidegate::decision::index::EndpointIndex;
use tidegate::decision::plan::{Address, ClusterIndex, EndpointPolicy};
use tidegate::decision::signal::{Choice, ClusterSignals, EndpointSignals, Why};
use tidegate::decision::spill::{Credits, pick};
use tidegate::decision::units::{Dice, Timestamp};

/// Decides this often.
pub fn run(count: u64) {
    let clusters: Vec<ClusterSignals> = (0..3).map(|_| cluster()).collect();
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

fn cluster() -> ClusterSignals {
    let endpoint = |index: usize| EndpointSignals {
        id: index as u32,
        address: Address::Ip(([127, 0, 0, 1], 80).into()),
        weight: 1.0,
        up: true,
        rtt: Some(0.001),
        latency: 0.020,
        slowness: 1.0 + 0.5 * (index % 7) as f64,
        trickle: (0.03, 2.0),
        returns: 0,
        cost: Cost::default(),
        requests_per_s: 0.0,
        last_error: None,
    };
    let mut cluster = ClusterSignals {
        dial: 100,
        rtt: Some(0.001),
        distance: Some(0.001),
        endpoints: (0..16).map(endpoint).collect(),
        usable: (0..16).map(EndpointIndex).collect(),
        members: 1,
        ..ClusterSignals::default()
    };
    prepare(&mut cluster, |_| 1.0);
    cluster
}
