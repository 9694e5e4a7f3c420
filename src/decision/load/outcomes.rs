//! The success of exchanges: counts of good answers and of all answers, over one second and over 0.3 s.

use super::{RECENT, decay};
use crate::tally::Tally;

/// Good answers that [`Outcomes::success_at_least`] adds to the counts, so that a few failures do not decide.
const CERTAIN: f64 = 10.0;
/// Good answers that [`Outcomes::success_now`] adds to the counts.
const CERTAIN_NOW: f64 = 3.0;

/// Decaying counts of answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcomes {
    good: f64,
    judged: f64,
    good_recent: f64,
    judged_recent: f64,
}

impl Outcomes {
    /// Folds one sweep in.
    pub(super) fn fold(&mut self, tally: &Tally, elapsed: f64) {
        let keep = decay(elapsed, 1.0);
        self.good = self.good * keep + tally.completed;
        self.judged = self.judged * keep + tally.completed + tally.failed;
        let keep = decay(elapsed, RECENT);
        self.good_recent = self.good_recent * keep + tally.completed;
        self.judged_recent = self.judged_recent * keep + tally.completed + tally.failed;
    }

    /// Forgets all answers.
    pub(super) fn clear(&mut self) {
        *self = Outcomes::default();
    }

    /// Whether enough answers came within the last seconds for a success ratio.
    pub(super) fn is_judged(&self) -> bool {
        self.judged >= 0.5
    }

    /// The success ratio; 1 before the first answer.
    pub(super) fn success(&self) -> f64 {
        if self.judged < 1.0 { 1.0 } else { (self.good / self.judged).clamp(0.0, 1.0) }
    }

    /// The success ratio with ten good answers added: one failure among two requests does not halve the
    /// ratio.
    pub(super) fn success_at_least(&self) -> f64 {
        (self.good + CERTAIN) / (self.judged + CERTAIN)
    }

    /// The success ratio of the last 0.3 s with three good answers added.
    pub(super) fn success_now(&self) -> f64 {
        (self.good_recent + CERTAIN_NOW) / (self.judged_recent + CERTAIN_NOW)
    }
}
