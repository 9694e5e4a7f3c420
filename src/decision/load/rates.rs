//! Exchanges a second, smoothed over one second.

use super::decay;
use crate::tally::Tally;

/// The rates, in exchanges a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    /// Exchanges sent.
    pub(super) accepted: f64,
    /// Exchanges whose client left before the response head.
    pub(super) abandoned: f64,
    /// Exchanges whose response head arrived.
    pub(super) completed: f64,
}

impl Rates {
    /// Folds one sweep in.
    pub(super) fn fold(&mut self, tally: &Tally, elapsed: f64) {
        let keep = decay(elapsed, 1.0);
        let news = (1.0 - keep) / elapsed.max(1e-9);
        self.accepted = self.accepted * keep + tally.accepted * news;
        self.abandoned = self.abandoned * keep + tally.abandoned * news;
        self.completed = self.completed * keep + tally.completed * news;
    }

    /// The share of exchanges whose client left before the response head.
    pub(super) fn leaving(&self) -> f64 {
        self.abandoned / self.accepted.max(1.0)
    }
}
