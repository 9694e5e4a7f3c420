//! What workers counted of one class at one cluster between two sweeps.
//!
//! # Units
//! Exchanges; seconds; bytes.

use super::report::Report;

/// What workers saw of one class at one cluster since the last sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Exchanges for which this cluster was considered.
    pub offered: f64,
    /// Exchanges sent to it.
    pub accepted: f64,
    /// Those of them that had been sent somewhere before: they are no demand of anybody's.
    pub retried: f64,
    /// Responses whose head came.
    pub completed: f64,
    /// Exchanges that failed: 502, 503, 504, resets, connect failures, head timeouts.
    pub failed: f64,
    /// Exchanges whose client left before the response head.
    pub abandoned: f64,
    /// Sum of the times they had waited.
    pub abandoned_seconds: f64,
    /// Exchanges of which the client kept the cluster from an answer, or whose client leaves again and again.
    pub excused: f64,
    /// Sum of the times they had waited.
    pub excused_seconds: f64,
    /// Sum of the times to the response head.
    pub latency_sum: f64,
    /// Sum of their squares.
    pub latency_squares: f64,
    /// Exchanges for which a connection had to be made.
    pub dialled: f64,
    /// Bytes of responses.
    pub bytes: f64,
    /// Exchanges waiting for their response head now.
    pub waiting: f64,
    /// The newest report that came with a response.
    pub report: Option<Report>,
}

impl Tally {
    /// Whether nothing was sent, nothing came back and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let ended = [self.completed, self.failed, self.abandoned, self.excused];
        let mut counts = [self.accepted, self.waiting].into_iter().chain(ended);
        counts.all(|count| count == 0.0) && self.report.is_none()
    }

    /// Exchanges whose clients left within `usual` seconds, when no cluster could have answered them yet, and the
    /// sum of the seconds they were in flight. Such exchanges are not queued any more, and waited for nothing.
    #[must_use]
    pub fn left_early(&self, usual: f64) -> (f64, f64) {
        let left = [(self.abandoned, self.abandoned_seconds), (self.excused, self.excused_seconds)];
        let early = left.into_iter().filter(|(count, seconds)| *seconds <= count * usual);
        early.fold((0.0, 0.0), |sum, (count, seconds)| (sum.0 + count, sum.1 + seconds))
    }
}
