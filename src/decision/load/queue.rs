//! The queue's delay, filtered over 50 ms; without new samples the delay decays.

use super::decay;

/// Time constant of the filter, in seconds.
const FILTER: f64 = 0.05;
/// Delays below this count as 0, in seconds.
const NEGLIGIBLE: f64 = 1e-6;

/// The delay, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    filtered: f64,
    /// The delay caused by the exchanges sent since the newest report.
    since_report: f64,
}

impl Queue {
    /// Moves the filtered delay towards `sample`.
    pub(super) fn follow(&mut self, sample: f64, elapsed: f64) {
        self.filtered += (sample - self.filtered) * (1.0 - decay(elapsed, FILTER));
    }

    /// Lets the filtered delay decay to 0 within three times its own length, but at least half a second.
    pub(super) fn fade(&mut self, elapsed: f64) {
        self.filtered *= decay(elapsed, (3.0 * self.filtered).max(0.5));
    }

    /// Sets the delay caused by the exchanges sent since the newest report; 0 without a report.
    pub(super) fn set_since_report(&mut self, seconds: f64) {
        self.since_report = seconds;
    }

    /// The filtered delay alone.
    pub(super) fn filtered(&self) -> f64 {
        self.filtered
    }

    /// The delay now: the greater of the filtered delay and the delay since the report.
    pub(super) fn seconds(&self) -> f64 {
        let queue = self.filtered.max(self.since_report);
        if queue < NEGLIGIBLE { 0.0 } else { queue }
    }
}
