//! Exchanges sent and ended over the last 0.3 s: their difference shows whether the queue grows.

use super::decay;
use crate::tally::Tally;

/// The window for recent values, in seconds.
pub(super) const RECENT: f64 = 0.3;
/// A cluster with more exchanges than this within the window is flooded.
const FLOOD: f64 = 50.0;

/// Time constant with which the highest counts are forgotten, in seconds.
const PROVEN: f64 = 10.0;
/// The part of the highest demand below which demand has fallen, and the standard errors of a count that are added.
const FELL: f64 = 0.7;
const ERRORS: f64 = 3.0;

/// Decaying counts of exchanges.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    offered: f64,
    completed: f64,
    accepted: f64,
    /// Exchanges whose client left before an idle cluster could have answered.
    left_early: f64,
    /// All exchanges whose client left.
    gone: f64,
    /// Mean number in flight of the exchanges in `left_early`.
    leaving_early: f64,
    /// The most that was offered, and the most that completed, in the last seconds.
    most_offered: f64,
    most_completed: f64,
}

/// Exchanges of one sweep whose clients left before an idle cluster could have answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftEarly {
    /// Number of exchanges.
    pub(super) count: f64,
    /// Sum of the seconds they were in flight.
    pub(super) seconds: f64,
}

impl Flow {
    /// Folds one sweep in; `open` is the share of the offered exchanges that dial and slow start admit.
    pub(super) fn fold(&mut self, tally: &Tally, open: f64, left: LeftEarly, elapsed: f64) {
        let keep = decay(elapsed, RECENT);
        self.offered = self.offered * keep + tally.offered * open;
        self.completed = self.completed * keep + tally.completed;
        let keep_most = decay(elapsed, PROVEN);
        self.most_offered = (self.most_offered * keep_most).max(self.offered);
        self.most_completed = (self.most_completed * keep_most).max(self.completed);
        self.accepted = self.accepted * keep + tally.accepted;
        self.left_early = self.left_early * keep + left.count;
        self.gone = self.gone * keep + tally.abandoned + tally.excused;
        let news = (1.0 - keep) / elapsed.max(1e-9);
        self.leaving_early = self.leaving_early * keep + left.seconds * news;
    }

    /// Mean number in flight of exchanges whose client will leave before an idle cluster could answer.
    pub(super) fn leaving_early(&self) -> f64 {
        self.leaving_early
    }

    /// Exchanges answered, a second.
    pub(super) fn completed_rate(&self) -> f64 {
        self.completed / RECENT
    }

    /// Exchanges that ended, a second, failures left out.
    pub(super) fn ended_rate(&self) -> f64 {
        (self.completed + self.gone) / RECENT
    }

    /// By how many seconds a second the queue grows, less two standard errors; 0 to 10.
    pub(super) fn growth(&self) -> f64 {
        let more = self.accepted - self.completed - self.left_early;
        let noise = 2.0 * (self.accepted + self.completed).sqrt();
        ((more - noise) / self.completed.max(1.0)).clamp(0.0, 10.0)
    }

    /// The share of offered exchanges that ended; `None` while few are offered.
    pub(super) fn completed_share(&self) -> Option<f64> {
        let ended = self.completed + self.gone + 0.5;
        let proven = if self.has_fallen() { self.most_completed.min(self.offered) } else { 0.0 };
        (self.offered > 5.0).then(|| ended.max(proven) / self.offered)
    }

    /// Whether demand is far below the highest demand of the last seconds: then the completion rate shows how little was
    /// sent, and the highest completion rate shows the capacity.
    pub(super) fn has_fallen(&self) -> bool {
        self.offered + ERRORS * self.offered.sqrt() < FELL * self.most_offered
    }

    /// Whether more than 50 exchanges were offered within the window.
    pub(super) fn is_flood(&self) -> bool {
        self.offered > FLOOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Phases of so many sweeps: so many exchanges a sweep are offered, sent and completed.
    fn share(phases: &[(u32, f64, f64)]) -> f64 {
        let mut flow = Flow::default();
        for (sweeps, offered, sent) in phases {
            for _ in 0..*sweeps {
                let tally = Tally {
                    offered: *offered,
                    accepted: *sent,
                    completed: *sent,
                    ..Tally::default()
                };
                flow.fold(&tally, 1.0, LeftEarly { count: 0.0, seconds: 0.0 }, 0.05);
            }
        }
        flow.completed_share().unwrap()
    }

    #[test]
    fn after_demand_fell_a_cluster_is_known_to_serve_what_it_served_before() {
        // 200 exchanges arrive in each sweep and 50 complete: the capacity is 50 a sweep.
        assert!(share(&[(100, 200.0, 50.0)]) < 0.3);
        // Now 20 are offered, and 5 are still sent there.
        assert!(share(&[(100, 200.0, 50.0), (40, 20.0, 5.0)]) > 0.99);
        // A cluster that lost servers while demand stayed is not known to serve more.
        assert!(share(&[(100, 200.0, 200.0), (40, 200.0, 50.0)]) < 0.3);
    }
}
