//! The choice of a cluster: the nearest first; only as many exchanges as its queue requires go farther.
//!
//! Priced proportional spill: each cluster may hold a queue `q*`, derived from how much farther the next cluster is;
//! as the queue grows past a part of `q*`, the share that the cluster accepts falls along a ramp. The share is
//! applied by error diffusion instead of dice, so that a share of a tenth is every tenth exchange. A fixed threshold
//! is right only for the load that it was tuned for, and choosing the minimum of stale signals causes herding
//! (Mitzenmacher, TPDS 2000).
//!
//! [`accept`] runs at each sweep; [`pick`] runs for each exchange and only adds and compares.
//!
//! # Invariants
//! * A cluster that is not among the choices is never picked: constraints are applied before.
//! * A share falls as its queue grows, and stays within `P_MIN..=1` before dial and slow start.

use super::plan::ClusterIndex;
use super::shed::Shed;
use super::signal::{Choice, Why};

/// The part of a cluster's advantage in distance that its queue may use up.
pub const KAPPA: f64 = 0.15;
/// A queue this short, in seconds, never causes a spill: it is within the timing noise of machines, which would count
/// as load if distances are below a millisecond.
const Q_MIN: f64 = 0.001;
/// The ramp begins at this part of `q*`: with a shorter queue nothing spills.
pub const RAMP_START: f64 = 0.3;
/// The length of the ramp in multiples of `q*`.
const RAMP_SPAN: f64 = 1.7;
/// The least share of a live cluster: without traffic its recovery would not be noticed.
pub const P_MIN: f64 = 0.02;
/// The lower bound of the ramp as a part of the share that the cluster can serve, if load is inferred.
const FEED_FORWARD_FLOOR: f64 = 0.8;
/// The same, and the length of the ramp, if load is reported.
const FEED_FORWARD_FLOOR_REPORTED: f64 = 0.7;
const RAMP_SPAN_REPORTED: f64 = 1.5;

/// The estimates of one candidate at a sweep. Seconds, except shares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Distance, service time, price and penalties.
    pub base: f64,
    /// Queue delay now.
    pub queue: f64,
    /// Service time.
    pub service: f64,
    /// Distance.
    pub distance: f64,
    /// The share of offered exchanges that the cluster can serve: from the recent completion rate, or as
    /// reported.
    pub supply: Option<f64>,
    /// Whether its load is reported rather than inferred.
    pub reported: bool,
    /// Whether its queue is reported, or measured by many exchanges.
    pub measured: bool,
    /// Whether the answers of other proxies show its queue too.
    pub pooled: bool,
    /// Whether so many exchanges were sent just now that the completion rate is not known yet.
    pub flooded: bool,
}

/// The queue that is tolerated at candidate `at`, in seconds.
#[must_use]
pub fn tolerable_queue(candidates: &[Candidate], at: usize) -> f64 {
    let here = candidates[at];
    let alternative = least_of_others(candidates, at, |other| other.base + other.queue / KAPPA);
    (KAPPA * (alternative - here.base)).clamp((0.05 * here.service).clamp(Q_MIN, 1.0), 1.0)
}

/// The queue, in seconds, above which candidate `at` spills: the queue of another cluster plus 0.3 of the tolerated
/// difference in distance, for the cluster where this sum is lowest. Leaving a queue for an equally long one gains nothing.
/// A queue seen in only a few exchanges counts as none: it may be slower work, and only a spill can tell the two apart.
fn ramp_start(candidates: &[Candidate], at: usize, tolerable: f64) -> f64 {
    let here = candidates[at];
    let start = least_of_others(candidates, at, |other| {
        let queue = if other.measured { other.queue } else { 0.0 };
        queue + RAMP_START * KAPPA * (other.base - here.base)
    });
    start.max(RAMP_START * tolerable).min(tolerable)
}

/// The least value among all candidates except the one at `at`.
fn least_of_others(candidates: &[Candidate], at: usize, value: impl Fn(&Candidate) -> f64) -> f64 {
    let others = candidates.iter().enumerate().filter(|(index, _)| *index != at);
    others.map(|(_, other)| value(other)).fold(f64::INFINITY, f64::min)
}

/// The share of the offered exchanges that candidate `at` accepts, from `P_MIN` to 1. The rest goes to the next
/// candidate.
#[must_use]
pub fn accept(candidates: &[Candidate], at: usize) -> f64 {
    if candidates.len() == 1 {
        return 1.0;
    }
    let here = candidates[at];
    let tolerable = tolerable_queue(candidates, at);
    let (span, floor) = match (here.reported, here.pooled) {
        (true, _) => (RAMP_SPAN_REPORTED, FEED_FORWARD_FLOOR_REPORTED),
        // A queue that a whole site sees is as certain as a reported one.
        (false, true) => (RAMP_SPAN, FEED_FORWARD_FLOOR_REPORTED),
        (false, false) => (RAMP_SPAN, FEED_FORWARD_FLOOR),
    };
    let start = ramp_start(candidates, at, tolerable);
    let ramp = (1.0 - (here.queue - start) / (span * tolerable)).clamp(0.0, 1.0);
    let feed_forward = match here.supply.filter(|_| here.reported || here.queue > 0.0) {
        Some(share) => {
            let urgency = 1.0 + (tolerable - here.queue) / (0.1 + here.distance);
            let unserved = (1.0 - share * urgency).clamp(0.0, 1.0);
            // If the queue is within noise, the completion rate shows the load sent, not the capacity.
            1.0 - unserved * (here.queue / Q_MIN).min(1.0)
        }
        None => 1.0,
    };
    // With little traffic the inferred queue is uncertain, and the share moves slowly; with much traffic in flight it does not.
    let known = here.queue > 0.0 && (here.supply.is_some() || !here.reported) && !here.flooded;
    let floor = if known { floor * feed_forward } else { 0.0 };
    ramp.clamp(floor.min(feed_forward), feed_forward).clamp(P_MIN, 1.0)
}

/// The error-diffusion credit that each worker keeps for each candidate of a class.
#[derive(Clone, Debug)]
pub struct Credits {
    of: Vec<f64>,
    /// Credit for shedding.
    shed: f64,
}

impl Credits {
    /// Credits for `count` candidates, scattered by `seed` so that workers do not act in lockstep.
    #[must_use]
    pub fn seeded(count: usize, seed: u64) -> Credits {
        let scatter = |slot| (super::units::mix(seed ^ slot) >> 11) as f64 / (1_u64 << 53) as f64;
        Credits { of: (0..count as u64).map(scatter).collect(), shed: scatter(count as u64) }
    }

    /// Whether an exchange of this priority is shed.
    pub fn sheds(&mut self, shed: Shed, priority: u8) -> bool {
        shed.takes(priority, &mut self.shed)
    }
}

/// A picked cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Picked {
    /// Which cluster.
    pub cluster: ClusterIndex,
    /// The cluster's position among the permitted clusters of its class.
    pub slot: usize,
    /// Why this cluster was picked.
    pub why: Why,
}

/// Picks a cluster for one exchange. `choices` are live and in order; `has_capacity` tells whether a cluster
/// is below its ceiling and not excluded by earlier attempts. Returns `None` if all clusters are full.
pub fn pick(
    choices: &[Choice],
    credits: &mut Credits,
    has_capacity: impl Fn(ClusterIndex) -> bool,
    mut offered: impl FnMut(usize),
) -> Option<Picked> {
    let mut fallback: Option<(&Choice, f64)> = None;
    for choice in choices {
        if !has_capacity(choice.cluster) {
            continue;
        }
        offered(choice.slot);
        let Some(credit) = credits.of.get_mut(choice.slot) else { continue };
        *credit = (*credit + choice.share).min(2.0);
        if *credit >= 1.0 || choice.share >= 1.0 {
            *credit = (*credit - 1.0).max(0.0);
            return Some(Picked { cluster: choice.cluster, slot: choice.slot, why: choice.why });
        }
        if fallback.is_none_or(|(_, most)| *credit > most) {
            fallback = Some((choice, *credit));
        }
    }
    // All clusters are overloaded: the cluster with the highest credit is used. Using the least loaded
    // one would cause herding.
    let (choice, _) = fallback?;
    if let Some(credit) = credits.of.get_mut(choice.slot) {
        *credit = (*credit - 1.0).max(-2.0);
    }
    Some(Picked { cluster: choice.cluster, slot: choice.slot, why: choice.why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    fn candidate(base: f64, queue: f64) -> Candidate {
        Candidate {
            base,
            queue,
            service: 0.020,
            distance: base - 0.020,
            supply: None,
            reported: false,
            measured: true,
            pooled: false,
            flooded: false,
        }
    }

    #[test]
    fn a_queue_within_noise_does_not_limit_the_nearest_cluster() {
        let here = Candidate { supply: Some(0.8), ..candidate(0.021, 0.00005) };
        assert!(accept(&[here, candidate(0.021, 0.0)], 0) > 0.98);
        let queues = Candidate { queue: 0.003, ..here };
        assert!(accept(&[queues, candidate(0.021, 0.0)], 0) < 0.8);
    }

    #[test]
    fn without_a_queue_the_nearest_takes_all() {
        assert_eq!(accept(&[candidate(0.021, 0.0), candidate(0.050, 0.0)], 0), 1.0);
    }

    #[test]
    fn the_share_falls_as_the_queue_grows_and_never_leaves_its_bounds() {
        let mut dice = Dice::seeded(5);
        for _ in 0..2_000 {
            let others = [candidate(dice.unit(), dice.unit()), candidate(dice.unit(), 0.0)];
            let (base, completed) = (dice.unit(), dice.unit());
            let mut before = 1.0;
            for step in 0..50 {
                let mut here = candidate(base, f64::from(step) * 0.02);
                here.supply = (step > 0).then_some(completed);
                let share = accept(&[here, others[0], others[1]], 0);
                assert!(share <= before + 1e-12 && (P_MIN..=1.0).contains(&share), "{share}");
                before = share;
            }
        }
    }

    #[test]
    fn a_spill_begins_beyond_the_queue_of_the_cluster_that_would_take_it() {
        let share = |queue: f64, theirs: f64, measured: bool| {
            let other = Candidate { measured, ..candidate(0.120, theirs) };
            accept(&[candidate(0.020, queue), other], 0)
        };
        // The other cluster is 100 ms farther: 15 ms of queue are tolerated, and 4.5 ms cause no spill.
        assert_eq!(share(0.0044, 0.0, true), 1.0);
        assert!(share(0.006, 0.0, true) < 1.0);
        // It queues for 20 ms itself.
        assert_eq!(share(0.024, 0.020, true), 1.0, "an exchange that leaves gains nothing");
        assert!(share(0.026, 0.020, true) < 1.0);
        // The excess of a few exchanges there may be slower work, and only a spill shows which of both it is.
        assert!(share(0.024, 0.020, false) < 0.95);
        // A third cluster, farther and without a queue, takes the excess at the queue that its distance justifies.
        let three = |queue| {
            accept(&[candidate(0.020, queue), candidate(0.120, 0.020), candidate(0.320, 0.0)], 0)
        };
        assert_eq!(three(0.0134), 1.0);
        assert!(three(0.0136) < 1.0);
    }

    #[test]
    fn noise_between_equally_near_clusters_causes_no_spill() {
        let quick = |queue| Candidate { service: 0.0002, ..candidate(0.0003, queue) };
        assert_eq!(accept(&[quick(0.0002), quick(0.0)], 0), 1.0);
        assert!(accept(&[quick(0.002), quick(0.0)], 0) < 0.9);
    }

    fn choice(slot: usize, share: f64) -> Choice {
        Choice {
            cluster: ClusterIndex(slot),
            slot,
            share,
            why: Why::Nearest,
            warm: false,
            usd: 0.0,
        }
    }

    #[test]
    fn a_share_of_a_tenth_is_every_tenth() {
        let choices = [choice(0, 0.1), choice(1, 1.0)];
        let mut credits = Credits::seeded(2, 9);
        let picks: Vec<usize> = (0..1_000)
            .filter_map(|_| pick(&choices, &mut credits, |_| true, |_| {}))
            .map(|picked| picked.slot)
            .collect();
        for window in picks.windows(100) {
            let first = window.iter().filter(|slot| **slot == 0).count();
            assert!((9..=11).contains(&first), "{first}");
        }
    }

    #[test]
    fn when_all_clusters_are_hot_exchanges_are_still_shared_among_them() {
        let choices = [choice(0, 0.02), choice(1, 0.04)];
        let mut credits = Credits::seeded(2, 1);
        let mut counts = [0; 2];
        for _ in 0..600 {
            counts[pick(&choices, &mut credits, |_| true, |_| {}).unwrap().slot] += 1;
        }
        assert!(counts[0] > 100 && counts[1] > 100, "{counts:?}");
        assert!(pick(&choices, &mut credits, |_| false, |_| {}).is_none());
    }
}
