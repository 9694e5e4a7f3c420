//! What is dropped on purpose when every cluster is overloaded: the excess, from the lowest priority up.
//!
//! While the shortest queue is longer than anybody should wait, more is asked for than can be served; who is
//! let in then waits for an answer that comes too late, and keeps others from theirs. So the part of the
//! demand that is not coming back is refused, a little more while the queue is long, and no priority
//! before all lower ones are.
//!
//! # Units
//! Exchanges a second; seconds.

/// Priorities, 0 the first to be dropped.
pub const PRIORITIES: usize = 10;
/// A queue in seconds that nobody has to wait.
const QUEUE_MIN: f64 = 0.250;
/// Likewise, in queues that are worth accepting at the nearest.
const QUEUE_TOLERABLE: f64 = 5.0;
/// The most that is dropped: without some traffic nobody would see that there is room again.
const SHED_MAX: f64 = 0.95;
/// The window in which demand is counted, in seconds.
const WINDOW: f64 = 0.5;

/// What is dropped now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shed {
    /// Lower priorities are dropped.
    pub below: u8,
    /// The share of this one that is dropped.
    pub share: f64,
}

/// How long the shortest queue may be, when `tolerable` is worth accepting at the nearest cluster.
#[must_use]
pub fn bound(tolerable: f64) -> f64 {
    QUEUE_MIN.max(QUEUE_TOLERABLE * tolerable)
}

/// How much is asked for, by priority.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked([f64; PRIORITIES]);

impl Asked {
    /// Folds in what was asked for since the last sweep, shed or not.
    pub fn fold(&mut self, counts: &[f64; PRIORITIES], elapsed: f64) {
        let keep = (-elapsed / WINDOW).exp();
        for (rate, count) in self.0.iter_mut().zip(counts) {
            *rate = *rate * keep + count / elapsed.max(1e-9) * (1.0 - keep);
        }
    }

    /// What to drop when `served` comes back, the shortest queue is `queue` and nobody should wait longer
    /// than `bound`.
    #[must_use]
    pub fn shed(&self, served: f64, queue: f64, bound: f64) -> Shed {
        let all: f64 = self.0.iter().sum();
        if queue <= bound || all <= 0.0 || !served.is_finite() {
            return Shed::default();
        }
        // The queue itself is to be gone in about a second.
        let drain = 1.0 / (1.0 + (queue - bound));
        let mut excess = (all - served * drain).clamp(0.0, SHED_MAX * all);
        for (priority, rate) in self.0.iter().enumerate() {
            if *rate > 0.0 && excess <= *rate {
                return Shed { below: priority as u8, share: excess / rate };
            }
            excess -= rate;
        }
        Shed { below: (PRIORITIES - 1) as u8, share: SHED_MAX }
    }
}

impl Shed {
    /// Whether an exchange of this priority is dropped; `owed` is the worker's account of the share.
    pub fn takes(self, priority: u8, owed: &mut f64) -> bool {
        if priority < self.below {
            return true;
        }
        if priority > self.below || self.share <= 0.0 {
            return false;
        }
        *owed += self.share;
        let due = *owed >= 1.0;
        if due {
            *owed -= 1.0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(rates: &[(usize, f64)]) -> Asked {
        let mut counts = [0.0; PRIORITIES];
        rates.iter().for_each(|(priority, rate)| counts[*priority] = rate * 10.0);
        let mut asked = Asked::default();
        asked.fold(&counts, 10.0);
        asked
    }

    #[test]
    fn nothing_is_shed_while_nobody_waits_long() {
        assert_eq!(asked(&[(5, 100.0)]).shed(10.0, 0.25, bound(0.01)), Shed::default());
        assert_eq!(asked(&[]).shed(0.0, 5.0, 0.25), Shed::default());
        assert_eq!(bound(0.1), 0.5);
    }

    #[test]
    fn the_excess_goes_from_the_lowest_priority_up() {
        let asked = asked(&[(2, 50.0), (5, 100.0), (9, 50.0)]);
        let shed = |served| asked.shed(served, 0.2500001, 0.25);
        assert_eq!(shed(175.0).below, 2);
        assert!((shed(175.0).share - 0.5).abs() < 0.01);
        assert_eq!(shed(100.0).below, 5);
        assert!((shed(100.0).share - 0.5).abs() < 0.01);
        assert_eq!(shed(25.0).below, 9);
        let worst = asked.shed(0.0, 10.0, 0.25);
        assert!(worst.below == 9 && worst.share <= 0.81, "some are let in to see: {worst:?}");
        assert_eq!(asked.shed(f64::NAN, 10.0, 0.25), Shed::default());
    }

    #[test]
    fn a_longer_queue_sheds_more() {
        let asked = asked(&[(5, 100.0)]);
        let shares = [0.3, 0.5, 1.0, 3.0].map(|queue| asked.shed(80.0, queue, 0.25).share);
        assert!(shares.windows(2).all(|pair| pair[0] < pair[1]), "{shares:?}");
        assert!(shares[0] > 0.2);
    }

    #[test]
    fn a_share_of_a_tenth_takes_every_tenth_and_higher_priorities_never() {
        let shed = Shed { below: 5, share: 0.1 };
        let mut owed = 0.0;
        let taken = (0..1_000).filter(|_| shed.takes(5, &mut owed)).count();
        assert!((99..=100).contains(&taken), "{taken}");
        assert!(!shed.takes(6, &mut owed) && shed.takes(4, &mut owed));
        assert!(!Shed::default().takes(0, &mut owed));
    }
}
