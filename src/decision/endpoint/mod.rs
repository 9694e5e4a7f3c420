//! The choice of an endpoint inside a cluster: one file per policy, one `match`.
//!
//! Seeded dice are allowed here: endpoints of one cluster are alike, so a random draw spreads the
//! herd, while between clusters it would only add noise.

mod hash;
mod least_wait;
mod random_two;
mod round_robin;

pub use hash::identity;

use super::plan::EndpointPolicy;
use super::signal::{ClusterSignals, EndpointSignals};
use super::units::Dice;

/// What a pick may draw on: owned by one worker.
#[derive(Debug)]
pub struct Chance<'a> {
    /// Seeded dice.
    pub dice: &'a mut Dice,
    /// Counts picks, for the policies that take turns.
    pub turn: u64,
    /// The exchange's key, for `hash`.
    pub key: u64,
}

/// Picks an endpoint by index in `cluster.endpoints`. `in_flight` is asked by that index too; those in
/// `tried` are used only when there is no other. `None`: the cluster has no usable endpoint.
pub fn pick(
    policy: EndpointPolicy,
    cluster: &ClusterSignals,
    tried: &[u32],
    in_flight: impl Fn(usize) -> u32,
    chance: &mut Chance<'_>,
) -> Option<usize> {
    let usable = &cluster.usable;
    if tried.is_empty() || usable.iter().all(|index| tried.contains(&cluster.endpoints[*index].id))
    {
        return pick_among(policy, &cluster.endpoints, usable, in_flight, chance);
    }
    let fresh: Vec<usize> = usable
        .iter()
        .copied()
        .filter(|index| !tried.contains(&cluster.endpoints[*index].id))
        .collect();
    pick_among(policy, &cluster.endpoints, &fresh, in_flight, chance)
}

fn pick_among(
    policy: EndpointPolicy,
    endpoints: &[EndpointSignals],
    usable: &[usize],
    in_flight: impl Fn(usize) -> u32,
    chance: &mut Chance<'_>,
) -> Option<usize> {
    match usable {
        [] => None,
        [only] => Some(*only),
        [..] => Some(match policy {
            EndpointPolicy::LeastWait => {
                least_wait::pick(endpoints, usable, in_flight, chance.dice)
            }
            EndpointPolicy::RandomTwo => random_two::pick(usable, in_flight, chance.dice),
            EndpointPolicy::RoundRobin => round_robin::pick(endpoints, usable, chance.turn),
            EndpointPolicy::Hash => hash::pick(endpoints, usable, chance.key),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::Address;

    fn cluster(weights: &[f64]) -> ClusterSignals {
        let endpoints = weights.iter().enumerate().map(|(index, weight)| EndpointSignals {
            id: index as u32,
            address: Address::Unix(format!("/{index}").into()),
            weight: *weight,
            up: true,
            rtt: None,
            latency: 0.010,
            last_error: None,
        });
        ClusterSignals {
            dial: 100,
            endpoints: endpoints.collect(),
            usable: (0..weights.len()).collect(),
            ..ClusterSignals::default()
        }
    }

    fn counts(
        policy: EndpointPolicy,
        cluster: &ClusterSignals,
        tried: &[u32],
        busy: usize,
    ) -> Vec<usize> {
        let mut dice = Dice::seeded(3);
        let mut counts = vec![0; cluster.endpoints.len()];
        for turn in 0..4_000 {
            let mut chance =
                Chance { dice: &mut dice, turn, key: crate::decision::units::mix(turn) };
            let in_flight = |index| if index == busy { 50 } else { 1 };
            counts[pick(policy, cluster, tried, in_flight, &mut chance).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn weights_are_kept_by_every_policy_that_has_them() {
        let cluster = cluster(&[1.0, 3.0]);
        for policy in [EndpointPolicy::RoundRobin, EndpointPolicy::Hash] {
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
    fn a_tried_endpoint_is_left_out_while_there_is_another() {
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
        less.usable.remove(2);
        let mut dice = Dice::seeded(1);
        for key in (0..2_000).map(crate::decision::units::mix) {
            let mut chance = Chance { dice: &mut dice, turn: 0, key };
            let before = pick(EndpointPolicy::Hash, &full, &[], |_| 0, &mut chance);
            let after = pick(EndpointPolicy::Hash, &less, &[], |_| 0, &mut chance);
            assert!(before == Some(2) || before == after);
        }
    }
}
