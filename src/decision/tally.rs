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
    /// Exchanges in `accepted` that are retries: they are not demand.
    pub retried: f64,
    /// Exchanges whose response head arrived.
    pub completed: f64,
    /// Exchanges that failed: 502, 503, 504, resets, connect failures, head timeouts.
    pub failed: f64,
    /// Exchanges whose client left before the response head.
    pub abandoned: f64,
    /// Sum of the times that the exchanges in `abandoned` had waited.
    pub abandoned_seconds: f64,
    /// Exchanges that failed through the client's own fault, or whose client leaves repeatedly.
    pub excused: f64,
    /// Sum of the times that the exchanges in `excused` had waited.
    pub excused_seconds: f64,
    /// Sum of the times to the response head.
    pub latency_sum: f64,
    /// Sum of the squares of these times.
    pub latency_squares: f64,
    /// Exchanges that needed a new connection.
    pub dialled: f64,
    /// Bytes received from the cluster, also by exchanges whose response head came before.
    pub bytes: f64,
    /// Exchanges in flight, without a response head, now.
    pub waiting: f64,
    /// The newest report received with a response.
    pub report: Option<Report>,
}

impl Tally {
    /// Exchanges that ended, for whatever reason.
    #[must_use]
    pub fn ended(&self) -> f64 {
        self.completed + self.failed + self.abandoned + self.excused
    }

    /// Whether no exchange was sent, ended, received a byte or is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let mut counts = [self.accepted, self.waiting, self.bytes, self.ended()].into_iter();
        counts.all(|count| count == 0.0) && self.report.is_none()
    }

    /// Exchanges whose clients left within `usual` seconds, before any cluster could have answered, and the
    /// sum of their seconds in flight. Such exchanges are no longer in the queue and delay no other
    /// exchange.
    #[must_use]
    pub fn left_early(&self, usual: f64) -> (f64, f64) {
        let left = [(self.abandoned, self.abandoned_seconds), (self.excused, self.excused_seconds)];
        let early = left.into_iter().filter(|(count, seconds)| *seconds <= count * usual);
        early.fold((0.0, 0.0), |sum, (count, seconds)| (sum.0 + count, sum.1 + seconds))
    }
}
