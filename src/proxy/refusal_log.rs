//! The rate of audit lines about refused exchanges: one a second for each class, so that a flood of refusals does not
//! flood the log.

use crate::decision::units::Timestamp;
use rustc_hash::FxHashMap;
use std::time::Duration;

/// The shortest time between two lines of a class, in each worker.
const QUIET: Duration = Duration::from_secs(1);

/// The last line of each class, and the refusals without a line since. There are as many entries as classes.
#[derive(Debug, Default)]
pub struct RefusalLog(FxHashMap<u64, (Timestamp, u64)>);

impl RefusalLog {
    /// Whether a refusal of a class gets a line now: the number of refusals without a line since the last one.
    pub fn is_due(&mut self, class: u64, now: Timestamp) -> Option<u64> {
        let Some((last, unlogged)) = self.0.get_mut(&class) else {
            self.0.insert(class, (now, 0));
            return Some(0);
        };
        if now.since(*last) < QUIET {
            *unlogged += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(unlogged))
    }

    /// Forgets the classes that are not in `classes`.
    pub fn keep(&mut self, classes: impl Fn(u64) -> bool) {
        self.0.retain(|class, _| classes(*class));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_line_a_second_and_each_refusal_is_in_a_line_or_its_count() {
        let mut log = RefusalLog::default();
        let at = |ms: u64| Timestamp::START.plus(Duration::from_millis(ms));
        let (mut lines, mut told) = (0, 0);
        for ms in 0..=5_000 {
            if let Some(unlogged) = log.is_due(7, at(ms)) {
                lines += 1;
                told += 1 + unlogged;
            }
        }
        assert_eq!((lines, told), (6, 5_001));
        assert_eq!(log.is_due(8, at(5_000)), Some(0), "a class does not silence another");
        log.keep(|class| class == 8);
        assert_eq!(log.0.len(), 1);
    }
}
