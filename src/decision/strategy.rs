//! The alternatives to `nearest` for choosing a cluster.
//!
//! All strategies choose among the same live, permitted clusters as [`spill`](super::spill): no strategy can
//! add a cluster.

use super::plan::ClusterIndex;
use super::signal::{Choice, Why};
use super::spill::Picked;

/// The part of a cluster's capacity that `waterfall` fills.
const WATERFALL_FILL: f64 = 0.9;
/// Envoy's overprovisioning factor: a priority keeps all traffic while 72 % of it is healthy.
const OVERPROVISION: f64 = 1.4;

fn picked(choice: &Choice, choices: &[Choice]) -> Picked {
    let nearest = choices.first().is_some_and(|first| first.cluster == choice.cluster);
    let why = if nearest || choice.why == Why::Only { choice.why } else { Why::Spill };
    Picked { cluster: choice.cluster, slot: choice.slot, why }
}

/// Each in turn.
pub fn round_robin(
    choices: &[Choice],
    turn: u64,
    has_capacity: impl Fn(ClusterIndex) -> bool,
) -> Option<Picked> {
    let start = (turn % choices.len().max(1) as u64) as usize;
    let (before, after) = choices.split_at(start.min(choices.len()));
    let choice = after.iter().chain(before).find(|choice| has_capacity(choice.cluster))?;
    Some(picked(choice, choices))
}

/// The cluster with the fewest exchanges in flight; among equals the nearest.
pub fn least_request(
    choices: &[Choice],
    in_flight: impl Fn(ClusterIndex) -> u32,
    has_capacity: impl Fn(ClusterIndex) -> bool,
) -> Option<Picked> {
    let open = choices.iter().filter(|choice| has_capacity(choice.cluster));
    let choice = open.min_by_key(|choice| in_flight(choice.cluster))?;
    Some(picked(choice, choices))
}

/// By health alone: each level takes `min(1, 1.4 x healthy share)` of the rest (Envoy's priority levels). `roll` is
/// in `0.0..1.0`.
pub fn priority(
    choices: &[Choice],
    healthy_share: impl Fn(ClusterIndex) -> f64,
    mut roll: f64,
    has_capacity: impl Fn(ClusterIndex) -> bool,
) -> Option<Picked> {
    let mut last = None;
    for choice in choices.iter().filter(|choice| has_capacity(choice.cluster)) {
        let takes = (OVERPROVISION * healthy_share(choice.cluster)).min(1.0);
        if roll < takes {
            return Some(picked(choice, choices));
        }
        roll = (roll - takes) / (1.0 - takes).max(1e-9);
        last = Some(picked(choice, choices));
    }
    last
}

/// Fills each cluster to 0.9 of its configured capacity, nearest first; when all are full, the cluster with the lowest
/// utilisation. A cluster without a configured capacity is never full.
pub fn waterfall(
    choices: &[Choice],
    in_flight: impl Fn(ClusterIndex) -> u32,
    capacity: impl Fn(ClusterIndex) -> Option<u32>,
    has_capacity: impl Fn(ClusterIndex) -> bool,
) -> Option<Picked> {
    let fill = |choice: &&Choice| {
        let capacity = capacity(choice.cluster).map_or(f64::INFINITY, f64::from);
        f64::from(in_flight(choice.cluster)) / capacity
    };
    let open = || choices.iter().filter(|choice| has_capacity(choice.cluster));
    let choice = open()
        .find(|choice| fill(choice) < WATERFALL_FILL)
        .or_else(|| open().min_by(|a, b| fill(a).total_cmp(&fill(b))))?;
    Some(picked(choice, choices))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICES: [Choice; 2] = [
        Choice {
            cluster: ClusterIndex(4),
            slot: 0,
            share: 1.0,
            why: Why::Nearest,
            warm: false,
            usd: 0.0,
        },
        Choice {
            cluster: ClusterIndex(7),
            slot: 1,
            share: 1.0,
            why: Why::Spill,
            warm: false,
            usd: 0.0,
        },
    ];

    #[test]
    fn each_strategy_picks_as_documented() {
        let turns: Vec<_> = (0..4)
            .filter_map(|turn| round_robin(&CHOICES, turn, |_| true))
            .map(|p| p.cluster)
            .collect();
        assert_eq!(turns, [4, 7, 4, 7].map(ClusterIndex));
        let busy = |cluster| if cluster == ClusterIndex(4) { 9 } else { 3 };
        assert_eq!(least_request(&CHOICES, busy, |_| true).map(|p| p.cluster.0), Some(7));
        let healthy = |cluster| if cluster == ClusterIndex(4) { 0.5 } else { 1.0 };
        assert_eq!(priority(&CHOICES, healthy, 0.69, |_| true).map(|p| p.cluster.0), Some(4));
        assert_eq!(priority(&CHOICES, healthy, 0.71, |_| true).map(|p| p.cluster.0), Some(7));
        let capacity = |_| Some(10);
        assert_eq!(waterfall(&CHOICES, busy, capacity, |_| true).map(|p| p.cluster.0), Some(7));
        assert_eq!(waterfall(&CHOICES, |_| 8, capacity, |_| true).map(|p| p.cluster.0), Some(4));
        assert_eq!(round_robin(&CHOICES, 0, |_| false), None);
    }
}
