//! How fast a cluster's traffic may grow beyond the highest rate seen there, so that the failure of one cluster does
//! not overload the next.
//!
//! Above the highest rate seen at the cluster, the rate may at most double in each step. A step lasts 100 ms or the
//! cluster's own latency, whichever is longer, so that a queue is noticed before the next doubling. Meanwhile other
//! clusters take the rest; if no other cluster has capacity, the bound does not apply (`spill::pick` sends to the
//! cluster with the highest credit).
//!
//! # Units
//! Exchanges a second; seconds.

/// The shortest step.
const STEP_MIN: f64 = 0.100;
/// The rate that every cluster may get without a ramp, in exchanges a second, and as a part of the demand.
const FLOOR: f64 = 100.0;
const FLOOR_PART: f64 = 0.05;
/// Time constant for forgetting the highest rate, in seconds.
const REMEMBERED: f64 = 60.0;

/// The rate that one cluster may get.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    allowed: f64,
}

impl Default for Growth {
    fn default() -> Growth {
        Growth { allowed: FLOOR }
    }
}

impl Growth {
    /// Folds in the recent rate of exchanges sent to the cluster, the whole demand, and the latency of an
    /// exchange at the cluster.
    pub fn fold(&mut self, sent: f64, demand: f64, latency: f64, elapsed: f64) {
        let floor = FLOOR.max(FLOOR_PART * demand);
        if sent > 0.5 * self.allowed {
            let steps = elapsed / latency.max(STEP_MIN);
            // A low rate within the window must not allow a jump.
            self.allowed = (self.allowed * steps.exp2()).min(4.0 * sent);
        } else {
            self.allowed *= (-elapsed / REMEMBERED).exp();
        }
        self.allowed = self.allowed.max(floor);
    }

    /// The share of the offered exchanges that the cluster may take.
    #[must_use]
    pub fn share(&self, offered: f64) -> f64 {
        (self.allowed / offered.max(1e-9)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_doubles_in_each_step_and_keeps_the_reached_rate() {
        let mut growth = Growth::default();
        let mut sent = Vec::new();
        for _ in 0..40 {
            let now = 10_000.0 * growth.share(10_000.0);
            sent.push(now);
            growth.fold(now, 1_000.0, 0.020, 0.05);
        }
        assert_eq!(sent[0], FLOOR);
        for (step, pair) in sent.windows(3).enumerate() {
            assert!(pair[2] <= 2.0 * pair[0] + 1e-6, "step {step}: {sent:?}");
        }
        assert_eq!(sent[39], 10_000.0, "in two seconds it has all: {sent:?}");
        (0..200).for_each(|_| growth.fold(0.0, 0.0, 0.020, 0.05));
        assert!(growth.share(10_000.0) > 0.8, "ten seconds later it is still known to take it");
        (0..12_000).for_each(|_| growth.fold(0.0, 0.0, 0.020, 0.05));
        assert!(growth.share(10_000.0) <= 0.011, "ten minutes later it is not");
    }

    #[test]
    fn a_slow_cluster_grows_in_steps_of_its_own_latency() {
        let mut growth = Growth::default();
        (0..20).for_each(|_| growth.fold(10_000.0 * growth.share(10_000.0), 0.0, 1.0, 0.05));
        let share = growth.share(10_000.0);
        assert!((0.015..=0.021).contains(&share), "one doubling in a second: {share}");
    }
}
