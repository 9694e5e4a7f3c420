//! How quickly a cluster that had a queue may get more exchanges again.
//!
//! While the queue of a cluster is long, the cluster accepts a smaller share. If it accepted everything again as soon as the
//! queue is empty, the queue would return one response time later. Share and queue would oscillate, with a period of about a
//! second, and requests would wait longer than with a constant share of the same mean. So the rate at which exchanges ended at
//! the cluster while it had a queue is remembered as a bound of what is sent there, and is raised slowly, the longer there is no queue the faster: as TCP does
//! after a loss (RFC 5681, RFC 9438).
//!
//! # Units
//! Exchanges a second; seconds.
//!
//! # Invariants
//! * A bound rises while there is no queue, to the whole demand within nine seconds, and is not below what the cluster completes.
//! * The bound does not limit a lower demand: after an overload nothing spills because of it.

/// The bound is set after this many responses from the cluster while it had a queue. After fewer, random variation could be
/// mistaken for a queue.
const EVIDENCE: f64 = 30.0;
/// Time constant with which the bound follows the completion rate while there is a queue, in seconds.
const FOLLOWS: f64 = 0.5;
/// How fast the bound rises while there is no queue, as a fraction of the demand per second. It starts at 0, grows by `RISE`
/// with each second without a queue, and is at most `RISE_MAX`.
const RISE: f64 = 0.025;
const RISE_MAX: f64 = 0.2;
/// A bound above this multiple of the demand is forgotten.
const FORGOTTEN: f64 = 1.5;

/// The limit on the rate that one class sends to its nearest cluster, learned while the cluster had a queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Congestion {
    bound: Option<f64>,
    /// Responses that arrived while the cluster had a queue, less those that arrived since.
    evidence: f64,
    /// For how long the cluster has had no queue.
    clear: f64,
}

/// One sweep of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Whether the cluster has a longer queue than is tolerated.
    pub queues: bool,
    /// Exchanges that ended there since the last sweep.
    pub ended: f64,
    /// Exchanges that ended there, a second.
    pub ended_rate: f64,
    /// Exchanges offered to it, a second.
    pub demand: f64,
    /// Whether the offered rate has dropped sharply.
    pub fell: bool,
}

impl Congestion {
    /// Folds in a sweep, `elapsed` seconds after the last.
    pub fn fold(&mut self, seen: Seen, elapsed: f64) {
        let Seen { queues, ended, ended_rate, demand, fell } = seen;
        if queues && ended == 0.0 {
            // A cluster that answers nothing at all for a moment says nothing of its capacity.
            self.clear = 0.0;
        } else if queues {
            self.clear = 0.0;
            self.evidence = (self.evidence + ended).min(2.0 * EVIDENCE);
            let follows = 1.0 - (-elapsed / FOLLOWS).exp();
            self.bound = match self.bound {
                Some(bound) => Some(bound + (ended_rate - bound) * follows),
                None => (self.evidence >= EVIDENCE).then_some(ended_rate),
            };
        } else {
            self.clear += elapsed;
            self.evidence = (self.evidence - ended.max(demand * elapsed)).max(0.0);
            let rise = (RISE * self.clear).min(RISE_MAX) * demand * elapsed;
            self.bound = self.bound.map(|bound| bound.max(ended_rate) + rise);
        }
        self.bound = self.bound.filter(|bound| !fell && *bound <= FORGOTTEN * demand);
    }

    /// The bound, in exchanges a second.
    #[must_use]
    pub fn bound(&self) -> Option<f64> {
        self.bound
    }

    /// The share of the demand that may be sent to the cluster, from 0 to 1.
    #[must_use]
    pub fn share(&self, demand: f64) -> f64 {
        self.bound.filter(|bound| *bound < demand).map_or(1.0, |bound| bound / demand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWEEP: f64 = 0.05;
    const DEMAND: f64 = 1_000.0;

    /// A cluster that completed 700 of 1,000 exchanges a second while it had a queue, for `seconds`.
    fn congested(seconds: f64) -> Congestion {
        let mut congestion = Congestion::default();
        let seen =
            Seen { queues: true, ended: 35.0, ended_rate: 700.0, demand: DEMAND, fell: false };
        pass(&mut congestion, seen, seconds);
        congestion
    }

    fn pass(congestion: &mut Congestion, seen: Seen, seconds: f64) {
        (0..(seconds / SWEEP).round() as u32).for_each(|_| congestion.fold(seen, SWEEP));
    }

    fn clear(ended_rate: f64, demand: f64) -> Seen {
        Seen { queues: false, ended: ended_rate * SWEEP, ended_rate, demand, fell: false }
    }

    #[test]
    fn what_a_cluster_with_a_queue_completed_bounds_it_and_the_bound_rises_ever_faster() {
        let mut congestion = congested(1.0);
        assert!((congestion.share(DEMAND) - 0.7).abs() < 1e-9);
        let mut shares = Vec::new();
        for _ in 0..5 {
            pass(&mut congestion, clear(700.0, DEMAND), 1.0);
            shares.push(congestion.share(DEMAND));
        }
        assert!(shares[0] < 0.73, "{shares:?}");
        assert!(shares[1] - shares[0] < shares[2] - shares[1], "{shares:?}");
        assert_eq!(shares[4], 1.0, "{shares:?}");
    }

    #[test]
    fn a_few_late_responses_bound_nothing_but_a_known_bound_follows_at_once() {
        let mut few = Congestion::default();
        let seen = Seen { queues: true, ended: 1.0, ended_rate: 20.0, demand: 30.0, fell: false };
        pass(&mut few, seen, 1.4);
        assert_eq!(few.share(30.0), 1.0, "28 responses");
        pass(&mut few, seen, 0.2);
        assert!((few.share(30.0) - 20.0 / 30.0).abs() < 1e-9, "32 responses");
        let mut known = congested(1.0);
        pass(&mut known, clear(700.0, DEMAND), 0.5);
        known.fold(Seen { ended_rate: 400.0, demand: DEMAND, ..seen }, SWEEP);
        assert!(known.share(DEMAND) < 0.69, "{}", known.share(DEMAND));
    }

    #[test]
    fn a_cluster_that_answers_nothing_for_a_moment_keeps_its_bound() {
        let mut congestion = congested(1.0);
        let frozen =
            Seen { queues: true, ended: 0.0, ended_rate: 0.0, demand: DEMAND, fell: false };
        pass(&mut congestion, frozen, 2.0);
        assert!((congestion.share(DEMAND) - 0.7).abs() < 1e-9, "{}", congestion.share(DEMAND));
        let mut fresh = Congestion::default();
        pass(&mut fresh, frozen, 2.0);
        assert_eq!(fresh.share(DEMAND), 1.0);
    }

    #[test]
    fn whatever_the_bound_it_is_gone_within_nine_seconds_without_a_queue() {
        let mut congestion = congested(1.0);
        let seen = Seen { queues: true, ended: 1.0, ended_rate: 1.0, demand: DEMAND, fell: false };
        pass(&mut congestion, seen, 10.0);
        assert!(congestion.share(DEMAND) < 0.01);
        pass(&mut congestion, clear(1.0, DEMAND), 9.0);
        assert_eq!(congestion.share(DEMAND), 1.0);
    }

    #[test]
    fn without_a_queue_the_evidence_is_forgotten() {
        let mut congestion = Congestion::default();
        let queue =
            Seen { queues: true, ended: 25.0, ended_rate: 500.0, demand: DEMAND, fell: false };
        for _ in 0..100 {
            congestion.fold(queue, SWEEP);
            congestion.fold(clear(500.0, DEMAND), SWEEP);
        }
        assert_eq!(congestion.share(DEMAND), 1.0, "a queue in every second sweep is chance");
    }

    #[test]
    fn a_lower_demand_is_not_bounded() {
        let mut congestion = congested(1.0);
        assert_eq!(congestion.share(600.0), 1.0);
        congestion.fold(clear(400.0, 400.0), SWEEP);
        assert_eq!(congestion.share(DEMAND), 1.0, "the bound is forgotten");
        let mut congestion = congested(1.0);
        congestion.fold(Seen { fell: true, ..clear(700.0, DEMAND) }, SWEEP);
        assert_eq!(congestion.share(DEMAND), 1.0, "demand fell: the bound is forgotten");
    }

    #[test]
    fn hostile_figures_leave_a_share() {
        let mut dice = crate::units::Dice::seeded(7);
        let mut congestion = Congestion::default();
        for _ in 0..5_000 {
            let any = |unit: f64| if unit < 0.1 { 0.0 } else { 1e9 * unit.powi(8) };
            let seen = Seen {
                queues: dice.unit() < 0.5,
                ended: any(dice.unit()),
                ended_rate: any(dice.unit()),
                demand: any(dice.unit()),
                fell: dice.unit() < 0.1,
            };
            congestion.fold(seen, any(dice.unit()).min(10.0));
            let share = congestion.share(any(dice.unit()));
            assert!((0.0..=1.0).contains(&share), "{seen:?}: {share}");
        }
    }
}
