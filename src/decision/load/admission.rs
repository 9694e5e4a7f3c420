//! The share of the exchanges offered to a cluster that was sent to the cluster, over 0.2 s.

use super::decay;
use crate::tally::Tally;

/// The window, in seconds.
const WINDOW: f64 = 0.2;

/// Decaying counts of exchanges offered and sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Admission {
    offered: f64,
    accepted: f64,
}

impl Admission {
    /// Folds one sweep in; `open` is the share of the offered exchanges that dial and slow start admit.
    pub(super) fn fold(&mut self, tally: &Tally, open: f64, elapsed: f64) {
        let keep = decay(elapsed, WINDOW);
        self.offered = self.offered * keep + tally.offered * open;
        self.accepted = self.accepted * keep + tally.accepted;
    }

    /// The share that was sent, at least 0.02; 1 while hardly any exchanges are offered.
    pub(super) fn share(&self) -> f64 {
        match self.offered > 1.0 {
            true => (self.accepted / self.offered).clamp(0.02, 1.0),
            false => 1.0,
        }
    }

    /// Exchanges sent, a second.
    pub(super) fn accepted_rate(&self) -> f64 {
        self.accepted / WINDOW
    }
}
