//! The order of clusters, nearest first, without flapping.
//!
//! Two distances within max(2 ms, 10 %) are a tie. In a tie the current order is kept; when the two are within half
//! of that, the order of the configuration applies again. A cluster moves up only after it was nearer for a second;
//! the first measurement takes effect at once.

use super::units::Timestamp;
use std::time::Duration;

/// How long a nearer cluster must stay nearer.
const DWELL: Duration = Duration::from_secs(1);

/// An order of candidates that changes only for a lasting difference.
#[derive(Clone, Debug)]
pub struct Order {
    /// Candidates by index, nearest first.
    current: Vec<usize>,
    /// Since when the candidate at `i + 1` has been better than the candidate at `i`.
    better_since: Vec<Option<Timestamp>>,
    known: Vec<bool>,
}

/// The difference up to which two distances are a tie, in seconds.
fn tie(distance: f64) -> f64 {
    (distance * 0.1).max(0.002)
}

/// Whether `challenger` is nearer than `holder` by more than a tie, in seconds.
fn clearly_nearer(challenger: f64, holder: f64) -> bool {
    challenger + tie(holder) < holder
}

/// Whether `challenger` is as near as `holder`. The margin is narrower than a tie, so that the two do not alternate.
fn as_near(challenger: f64, holder: f64) -> bool {
    challenger < holder + tie(holder) / 2.0
}

impl Order {
    /// The operator's order of `count` candidates.
    #[must_use]
    pub fn listed(count: usize) -> Order {
        Order {
            current: (0..count).collect(),
            better_since: vec![None; count.saturating_sub(1)],
            known: vec![false; count],
        }
    }

    /// Folds the current distances in, in seconds; `known` tells which distances are measured.
    pub fn update(&mut self, base: &[f64], known: &[bool], now: Timestamp) {
        let news = known.iter().zip(&self.known).any(|(now, before)| *now && !before);
        self.known.copy_from_slice(known);
        if news {
            self.settle(base, known);
        }
        for place in 0..self.better_since.len() {
            let (holder, challenger) = (self.current[place], self.current[place + 1]);
            let measured = known[holder] && known[challenger];
            let listed = challenger < holder && as_near(base[challenger], base[holder]);
            if !(measured && (listed || clearly_nearer(base[challenger], base[holder]))) {
                self.better_since[place] = None;
                continue;
            }
            let since = *self.better_since[place].get_or_insert(now);
            if now.since(since) >= DWELL {
                self.current.swap(place, place + 1);
                self.better_since.fill(None);
            }
        }
    }

    /// Sorts at once, for the first measurement of a cluster.
    fn settle(&mut self, base: &[f64], known: &[bool]) {
        self.better_since.fill(None);
        for end in 1..self.current.len() {
            for place in (0..end).rev() {
                let (holder, challenger) = (self.current[place], self.current[place + 1]);
                let measured = known[holder] && known[challenger];
                if !(measured && clearly_nearer(base[challenger], base[holder])) {
                    break;
                }
                self.current.swap(place, place + 1);
            }
        }
    }

    /// Candidates by index, nearest first.
    #[must_use]
    pub fn current(&self) -> &[usize] {
        &self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_millis(ms))
    }

    #[test]
    fn the_configured_order_holds_until_measured_and_breaks_ties() {
        let mut order = Order::listed(3);
        order.update(&[0.3, 0.1, 0.2], &[false, false, false], at(0));
        assert_eq!(order.current(), [0, 1, 2]);
        order.update(&[0.0305, 0.0300, 0.010], &[true, true, true], at(50));
        assert_eq!(order.current(), [2, 0, 1], "a tie keeps the listed order");
    }

    #[test]
    fn a_challenger_must_stay_nearer_for_a_second() {
        let mut order = Order::listed(2);
        let known = [true, true];
        order.update(&[0.010, 0.030], &known, at(0));
        for ms in (50..1_000).step_by(50) {
            order.update(&[0.090, 0.030], &known, at(ms));
            assert_eq!(order.current(), [0, 1], "at {ms} ms");
        }
        order.update(&[0.010, 0.030], &known, at(1_000));
        for ms in (1_050..2_050).step_by(50) {
            order.update(&[0.090, 0.030], &known, at(ms));
        }
        assert_eq!(order.current(), [0, 1], "an interruption starts the second anew");
        order.update(&[0.090, 0.030], &known, at(2_050));
        assert_eq!(order.current(), [1, 0]);
    }

    #[test]
    fn a_tie_restores_the_configured_order_with_hysteresis() {
        let mut order = Order::listed(2);
        let known = [true, true];
        order.update(&[0.005, 0.002], &known, at(0));
        assert_eq!(order.current(), [1, 0]);
        for ms in (50..3_000).step_by(50) {
            order.update(&[0.0035, 0.002], &known, at(ms));
            assert_eq!(order.current(), [1, 0], "not near enough to return, at {ms} ms");
        }
        for ms in (3_000..4_050).step_by(50) {
            order.update(&[0.0025, 0.002], &known, at(ms));
        }
        assert_eq!(order.current(), [0, 1]);
        for ms in (4_050..8_000).step_by(50) {
            order.update(&[0.0035, 0.002], &known, at(ms));
            assert_eq!(order.current(), [0, 1], "a tie keeps its holder, at {ms} ms");
        }
    }
}
