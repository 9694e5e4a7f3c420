//! Which clusters are swept: all that are used or whose state changes by time alone, and the others now and then.
//!
//! A sweep of a cluster costs time for each of its endpoints. A cluster whose endpoints answer nothing and whose state
//! has settled rests: nothing that its sweep could find is urgent. Whatever happens to it ends the rest.
//!
//! # Invariants
//! * A cluster whose set of endpoints or whose health has changed is swept at the next sweep.
//! * A cluster of at most [`SMALL`] endpoints that was used is swept at the next sweep.

use crate::units::{Timestamp, mix};
use std::time::Duration;

/// The interval between two sweeps of a resting cluster. Each cluster has an interval of its own between this one and
/// half as much again, so that not all are swept at once.
const REST: Duration = Duration::from_secs(8);
/// The longest time that one sweep accounts for, in seconds.
pub(super) const ELAPSED_MAX: f64 = 15.0;
/// Up to this many endpoints, a cluster is swept at every sweep.
const SMALL: usize = 5_000;
/// For each endpoint beyond them, the time between two sweeps grows by this, so that their cost stays a small share.
const EACH: Duration = Duration::from_micros(10);

/// When a cluster is swept again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Next {
    /// At once.
    #[default]
    Now,
    /// As soon as its size permits.
    Soon,
    /// After its rest.
    Rest,
}

/// When a cluster was swept, and when it is swept again.
#[derive(Debug, Default)]
pub(super) struct Rest {
    next: Next,
    swept: Option<Timestamp>,
}

impl Rest {
    /// The cluster's endpoints or their health changed.
    pub(super) fn wake(&mut self) {
        self.next = Next::Now;
    }

    /// The cluster was used or probed.
    pub(super) fn stir(&mut self) {
        if self.next == Next::Rest {
            self.next = Next::Soon;
        }
    }

    /// Whether the cluster is swept now. `seed` scatters the rests of clusters.
    pub(super) fn is_over(&self, endpoints: usize, seed: u64, now: Timestamp) -> bool {
        let Some(swept) = self.swept else { return true };
        let excess = u32::try_from(endpoints.saturating_sub(SMALL)).unwrap_or(u32::MAX);
        let least = match self.next {
            Next::Now => return true,
            Next::Soon => Duration::ZERO,
            Next::Rest => REST + (REST / 2).mul_f64((mix(seed) % 1024) as f64 / 1024.0),
        };
        now.since(swept) >= least.max(EACH * excess)
    }

    /// Seconds since the last sweep; `None` before the first.
    pub(super) fn seconds(&self, now: Timestamp) -> Option<f64> {
        self.swept.map(|swept| now.secs_since(swept).clamp(0.001, ELAPSED_MAX))
    }

    /// Whether the next sweep may wait until the rest is over.
    pub(super) fn is_resting(&self) -> bool {
        self.next == Next::Rest
    }

    /// Whether the next sweep must not wait.
    pub(super) fn is_awake(&self) -> bool {
        self.next == Next::Now
    }

    /// Whether the cluster was not swept after `moment`.
    pub(super) fn lasts_since(&self, moment: Timestamp) -> bool {
        self.swept.is_some_and(|swept| swept <= moment)
    }

    /// The cluster was swept. `settled`: without an event, another sweep is not urgent.
    pub(super) fn begin(&mut self, settled: bool, now: Timestamp) {
        self.next = if settled { Next::Rest } else { Next::Soon };
        self.swept = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_millis(ms))
    }

    /// The sweeps of `length`, one each 50 ms, at which the cluster is swept, in milliseconds.
    fn swept(rest: &mut Rest, endpoints: usize, settled: bool, length: u64) -> Vec<u64> {
        let mut swept = Vec::new();
        for ms in (50..=length).step_by(50) {
            if rest.is_over(endpoints, 0, at(ms)) {
                rest.begin(settled, at(ms));
                swept.push(ms);
            }
        }
        swept
    }

    #[test]
    fn a_settled_cluster_is_swept_now_and_then_and_another_one_always() {
        assert_eq!(swept(&mut Rest::default(), SMALL, false, 200), [50, 100, 150, 200]);
        let times = swept(&mut Rest::default(), 1, true, 60_000);
        assert!((5..=8).contains(&times.len()) && times[0] == 50, "{times:?}");
    }

    #[test]
    fn what_happens_to_a_cluster_ends_its_rest() {
        for end in [Rest::wake, Rest::stir] {
            let mut rest = Rest::default();
            rest.begin(true, at(0));
            assert!(!rest.is_over(1, 0, at(50)));
            end(&mut rest);
            assert!(rest.is_over(1, 0, at(50)));
        }
    }

    #[test]
    fn a_large_cluster_is_swept_less_often_but_at_once_when_its_health_changes() {
        let mut rest = Rest::default();
        let times = swept(&mut rest, 50_000, false, 1_000);
        assert_eq!(times, [50, 500, 950]);
        rest.stir();
        assert!(!rest.is_over(50_000, 0, at(1_000)));
        rest.wake();
        assert!(rest.is_over(50_000, 0, at(1_000)));
    }
}
