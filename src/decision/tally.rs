//! Counts of one class at one cluster between two sweeps.
//!
//! # Units
//! Exchanges; seconds; bytes.

use super::report::Report;

/// Counts of one class at one cluster since the last sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Exchanges for which this cluster was considered.
    pub offered: f64,
    /// Exchanges sent to it.
    pub accepted: f64,
    /// Exchanges of `accepted` that had been sent before: they are not demand.
    pub retried: f64,
    /// Responses whose head came.
    pub completed: f64,
    /// Exchanges that failed: 502, 503, 504, resets, connect failures, head timeouts.
    pub failed: f64,
    /// Exchanges whose client left before the response head.
    pub abandoned: f64,
    /// Sum of the times that the exchanges in `abandoned` had waited.
    pub abandoned_seconds: f64,
    /// Exchanges that the client kept from being answered, or whose client leaves again and again.
    pub excused: f64,
    /// Sum of the times that the exchanges in `excused` had waited.
    pub excused_seconds: f64,
    /// Sum of the times to the response head.
    pub latency_sum: f64,
    /// Sum of the squares of these times.
    pub latency_squares: f64,
    /// Exchanges for which a connection had to be made.
    pub dialled: f64,
    /// Bytes of responses.
    pub bytes: f64,
    /// Exchanges in flight, without a response head, now.
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

    /// Exchanges whose clients left within `usual` seconds, when no cluster could have answered yet, and the
    /// sum of the seconds they were in flight. Such exchanges are no longer queued and delayed no other.
    #[must_use]
    pub fn left_early(&self, usual: f64) -> (f64, f64) {
        let left = [(self.abandoned, self.abandoned_seconds), (self.excused, self.excused_seconds)];
        let early = left.into_iter().filter(|(count, seconds)| *seconds <= count * usual);
        early.fold((0.0, 0.0), |sum, (count, seconds)| (sum.0 + count, sum.1 + seconds))
    }
}
