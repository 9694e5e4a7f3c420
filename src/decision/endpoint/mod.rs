//! The choice of an endpoint inside a cluster: one file per policy, one `match`.
//!
//! Seeded dice are allowed here: endpoints of one cluster are alike, so a random draw avoids
//! herding, while between clusters it would only add noise.

mod hash;
mod least_wait;
mod random_two;
pub mod speed;
mod turns;
mod wheel;

pub use hash::identity;
pub use least_wait::Cost;
pub use turns::Turns;
pub use wheel::Wheel;

use super::index::{EndpointIndex, Table};
use super::plan::EndpointPolicy;
use super::signal::{ClusterSignals, EndpointSignals};
use super::units::{Dice, Timestamp};

/// Inputs of a pick besides the signals; one worker owns them.
#[derive(Debug)]
pub struct Chance<'a> {
    /// Seeded dice.
    pub dice: &'a mut Dice,
    /// The worker's turns in this cluster.
    pub turns: &'a mut Turns,
    /// The current time, exact to a tick.
    pub now: Timestamp,
    /// The exchange's key, for `hash`.
    pub key: u64,
}

/// Makes the tables of a pick: fills in the costs of a cluster's endpoints, and returns the wheel of turns.
/// `listed` gives the configured weight of an endpoint, by index.
pub fn prepare(
    endpoints: &mut Table<EndpointIndex, EndpointSignals>,
    usable: &[EndpointIndex],
    listed: impl Fn(EndpointIndex) -> f64,
) -> Wheel {
    let count = usable.len().max(1) as f64;
    let mean = usable.iter().map(|index| listed(*index)).sum::<f64>() / count;
    let least = usable.iter().map(|index| listed(*index)).fold(f64::INFINITY, f64::min);
    let ramp = |index: EndpointIndex| endpoints[index].weight / listed(index);
    // If all endpoints are in slow start, none of them is slower than its siblings.
    let fullest = usable.iter().map(|index| ramp(*index)).fold(0.0, f64::max);
    let costs: Vec<Cost> = usable
        .iter()
        .map(|&index| {
            let EndpointSignals { slowness, trickle, .. } = endpoints[index];
            let weight = (listed(index) / mean, listed(index) / least);
            Cost::new(slowness, ramp(index) / fullest, weight, trickle)
        })
        .collect();
    for (&index, cost) in usable.iter().zip(costs) {
        endpoints[index].cost = cost;
    }
    Wheel::new(usable.iter().map(|index| endpoints[*index].weight))
}

/// Picks an endpoint by index in `cluster.endpoints`. `in_flight` takes the same index. Endpoints in `tried` are used
/// only if no other endpoint is usable. Returns `None` if the cluster has no usable endpoint.
pub fn pick(
    policy: EndpointPolicy,
    cluster: &ClusterSignals,
    tried: &[u32],
    in_flight: impl Fn(EndpointIndex) -> u32,
    chance: &mut Chance<'_>,
) -> Option<EndpointIndex> {
    let usable = &cluster.usable;
    if tried.is_empty() || usable.iter().all(|index| tried.contains(&cluster.endpoints[*index].id))
    {
        return pick_among(policy, cluster, usable, in_flight, chance);
    }
    let fresh: Vec<EndpointIndex> = usable
        .iter()
        .copied()
        .filter(|index| !tried.contains(&cluster.endpoints[*index].id))
        .collect();
    pick_among(policy, cluster, &fresh, in_flight, chance)
}

fn pick_among(
    policy: EndpointPolicy,
    cluster: &ClusterSignals,
    usable: &[EndpointIndex],
    in_flight: impl Fn(EndpointIndex) -> u32,
    chance: &mut Chance<'_>,
) -> Option<EndpointIndex> {
    match usable {
        [] => None,
        [only] => Some(*only),
        [..] => Some(match policy {
            EndpointPolicy::LeastWait => least_wait::pick(cluster, usable, in_flight, chance),
            EndpointPolicy::RandomTwo => random_two::pick(usable, in_flight, chance.dice),
            EndpointPolicy::RoundRobin => chance.turns.next(&cluster.wheel, usable),
            EndpointPolicy::Hash => hash::pick(&cluster.endpoints, usable, chance.key),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Address;
    use std::sync::Arc;

    fn cluster(weights: &[f64]) -> ClusterSignals {
        let endpoints = weights.iter().enumerate().map(|(index, weight)| EndpointSignals {
            id: index as u32,
            address: Address::Unix(format!("/{index}").into()),
            weight: *weight,
            up: true,
            rtt: None,
            latency: 0.010,
            slowness: 1.0,
            trickle: (0.03, 2.0),
            returns: 0,
            cost: Cost::default(),
            requests_per_s: 0.0,
            last_error: None,
        });
        let usable: Arc<[EndpointIndex]> = (0..weights.len()).map(EndpointIndex).collect();
        let mut endpoints: Table<_, _> = endpoints.collect();
        let wheel = prepare(&mut endpoints, &usable, |index| weights[index.0]);
        ClusterSignals {
            dial: 100,
            endpoints: Arc::new(endpoints),
            usable,
            members: 1,
            wheel: Arc::new(wheel),
            ..ClusterSignals::default()
        }
    }

    /// Changes the first of a few endpoints of equal weight.
    fn change(cluster: &mut ClusterSignals, change: impl FnOnce(&mut EndpointSignals)) {
        let endpoints = Arc::make_mut(&mut cluster.endpoints);
        change(&mut endpoints[EndpointIndex(0)]);
        cluster.wheel = Arc::new(prepare(endpoints, &cluster.usable, |_| 1.0));
    }

    fn counts(
        policy: EndpointPolicy,
        cluster: &ClusterSignals,
        tried: &[u32],
        busy: usize,
    ) -> Vec<usize> {
        let mut dice = Dice::seeded(3);
        let mut turns = Turns::new(0, 1);
        let mut counts = vec![0; cluster.endpoints.len()];
        for turn in 0..4_000 {
            let (key, now) = (crate::units::mix(turn), Timestamp::from_nanos(turn));
            let mut chance = Chance { dice: &mut dice, turns: &mut turns, now, key };
            let in_flight = |index| if index == EndpointIndex(busy) { 50 } else { 1 };
            counts[pick(policy, cluster, tried, in_flight, &mut chance).unwrap().0] += 1;
        }
        counts
    }

    #[test]
    fn weights_are_kept_by_every_policy_that_has_them() {
        let cluster = cluster(&[1.0, 3.0]);
        for policy in [EndpointPolicy::LeastWait, EndpointPolicy::RoundRobin, EndpointPolicy::Hash]
        {
            let counts = counts(policy, &cluster, &[], 9);
            assert!((2_800..=3_200).contains(&counts[1]), "{policy:?}: {counts:?}");
        }
    }

    #[test]
    fn a_busy_endpoint_is_avoided() {
        let cluster = cluster(&[1.0; 4]);
        for policy in [EndpointPolicy::LeastWait, EndpointPolicy::RandomTwo] {
            let counts = counts(policy, &cluster, &[], 2);
            assert_eq!(counts[2], 0, "{policy:?}");
            assert!(counts[0] > 1_000 && counts[1] > 1_000 && counts[3] > 1_000, "{counts:?}");
        }
    }

    #[test]
    fn equal_endpoints_take_turns_while_none_is_busier() {
        for count in [2, 3, 8, 50] {
            let counts = counts(EndpointPolicy::LeastWait, &cluster(&vec![1.0; count]), &[], 99);
            let due = 4_000 / count;
            assert!(counts.iter().all(|got| got.abs_diff(due) <= 1), "{counts:?}");
        }
    }

    #[test]
    fn turns_in_one_cluster_do_not_depend_on_picks_in_another() {
        let (first, second) = (cluster(&[1.0; 2]), cluster(&[1.0; 2]));
        let (mut of_first, mut of_second) = (Turns::new(0, 1), Turns::new(0, 1));
        let mut dice = Dice::seeded(1);
        let mut counts = [0; 2];
        for _ in 0..100 {
            for (cluster, turns) in [(&first, &mut of_first), (&second, &mut of_second)] {
                let mut chance = Chance { dice: &mut dice, turns, now: Timestamp::START, key: 0 };
                let policy = EndpointPolicy::RoundRobin;
                let picked = pick(policy, cluster, &[], |_| 0, &mut chance).unwrap();
                counts[picked.0] += usize::from(std::ptr::eq(cluster, &first));
            }
        }
        assert_eq!(counts, [50, 50]);
    }

    #[test]
    fn a_slow_endpoint_keeps_a_small_share() {
        let mut cluster = cluster(&[1.0; 2]);
        change(&mut cluster, |endpoint| endpoint.slowness = 10.0);
        let slow = counts(EndpointPolicy::LeastWait, &cluster, &[], 99)[0];
        // Each endpoint has one exchange in flight, so that no endpoint is ever idle.
        assert_eq!(slow, 0);
        let mut used = |trickle: (f64, f64), gap_ms: u64| {
            change(&mut cluster, |endpoint| endpoint.trickle = trickle);
            let (mut turns, mut dice) = (Turns::new(0, 1), Dice::seeded(1));
            let pick = |turn: u64| {
                let now = Timestamp::from_nanos(turn * gap_ms * 1_000_000);
                let mut chance = Chance { dice: &mut dice, turns: &mut turns, now, key: 0 };
                pick(EndpointPolicy::LeastWait, &cluster, &[], |_| 0, &mut chance).unwrap()
            };
            (1..=4_000).map(pick).filter(|picked| *picked == EndpointIndex(0)).count()
        };
        // A part of its 2,000 turns, or one exchange every two seconds.
        assert!((55..=65).contains(&used((0.03, 1e9), 1)));
        assert!((15..=25).contains(&used((0.0, 2.0), 10)));
    }

    #[test]
    fn weights_are_kept_where_a_few_exchanges_in_flight_look_different() {
        // Each endpoint has as many exchanges in flight as busy servers: one exchange at the light endpoint
        // counts as much as three at the heavy one.
        let cluster = cluster(&[1.0, 3.0]);
        let (mut turns, mut dice) = (Turns::new(0, 1), Dice::seeded(1));
        let mut busy: Vec<(u64, EndpointIndex)> = Vec::new();
        let mut counts = [0; 2];
        for turn in 0..8_000 {
            busy.retain(|(until, _)| *until > turn);
            let in_flight =
                |index: EndpointIndex| busy.iter().filter(|(_, at)| *at == index).count() as u32;
            let now = Timestamp::from_nanos(turn * 1_000_000);
            let mut chance = Chance { dice: &mut dice, turns: &mut turns, now, key: 0 };
            let policy = EndpointPolicy::LeastWait;
            let picked = pick(policy, &cluster, &[], in_flight, &mut chance).unwrap();
            counts[picked.0] += 1;
            busy.push((turn + 1 + dice.below(3) as u64, picked));
        }
        assert!((1_700..=2_300).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_tried_endpoint_is_skipped_while_another_is_available() {
        let cluster = cluster(&[1.0; 3]);
        for policy in [
            EndpointPolicy::LeastWait,
            EndpointPolicy::RandomTwo,
            EndpointPolicy::RoundRobin,
            EndpointPolicy::Hash,
        ] {
            assert_eq!(counts(policy, &cluster, &[0, 1], 9), [0, 0, 4_000], "{policy:?}");
            assert_eq!(counts(policy, &cluster, &[0, 1, 2], 9).iter().sum::<usize>(), 4_000);
        }
    }

    #[test]
    fn hashing_moves_only_the_keys_of_a_lost_endpoint() {
        let full = cluster(&[1.0; 5]);
        let mut less = cluster(&[1.0; 5]);
        less.usable = less.usable.iter().copied().filter(|index| index.0 != 2).collect();
        let mut dice = Dice::seeded(1);
        for key in (0..2_000).map(crate::units::mix) {
            let mut turns = Turns::new(0, 1);
            let now = Timestamp::START;
            let mut chance = Chance { dice: &mut dice, turns: &mut turns, now, key };
            let before = pick(EndpointPolicy::Hash, &full, &[], |_| 0, &mut chance);
            let after = pick(EndpointPolicy::Hash, &less, &[], |_| 0, &mut chance);
            assert!(before == Some(EndpointIndex(2)) || before == after);
        }
    }
}
