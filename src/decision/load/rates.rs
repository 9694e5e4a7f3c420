//! Exchanges a second, smoothed over one second.

use super::{Track, decay};
use crate::tally::Tally;

/// A rate over 0.3 s that is this multiple of the rate over 1 s is not noise.
const GROWS: f64 = 1.5;

/// The rates, in exchanges a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    /// Exchanges for which the cluster was considered.
    pub(super) offered: f64,
    /// Exchanges sent.
    pub(super) accepted: f64,
    /// Exchanges whose client left before the response head.
    pub(super) abandoned: f64,
    /// Exchanges whose response head arrived.
    pub(super) completed: f64,
    /// Exchanges that ended, for whatever reason.
    pub(super) ended: f64,
}

impl Rates {
    /// Folds one sweep in.
    pub(super) fn fold(&mut self, tally: &Tally, elapsed: f64) {
        let keep = decay(elapsed, 1.0);
        let news = (1.0 - keep) / elapsed.max(1e-9);
        self.offered = self.offered * keep + tally.offered * news;
        self.accepted = self.accepted * keep + tally.accepted * news;
        self.abandoned = self.abandoned * keep + tally.abandoned * news;
        self.completed = self.completed * keep + tally.completed * news;
        self.ended = self.ended * keep + tally.ended() * news;
    }

    /// The share of exchanges whose client left before the response head.
    pub(super) fn leaving(&self) -> f64 {
        self.abandoned / self.accepted.max(1.0)
    }
}

impl Track {
    /// Exchanges a second for which the cluster was considered, whether or not they were sent to it.
    #[must_use]
    pub fn offered_rate(&self) -> f64 {
        self.rates.offered
    }

    /// Exchanges a second that ended: the average over 1 s, or over 0.3 s if that is much higher. While the rate grows, the
    /// longer average is too low.
    #[must_use]
    pub fn ended_rate(&self) -> f64 {
        let (long, brief) = (self.rates.ended, self.flow.ended_rate());
        if brief > GROWS * long { brief } else { long }
    }

    /// Exchanges sent, a second.
    #[must_use]
    pub fn accepted_rate(&self) -> f64 {
        self.rates.accepted
    }

    /// Exchanges sent within the last 0.2 s, a second.
    #[must_use]
    pub fn brief_rate(&self) -> f64 {
        self.admission.accepted_rate()
    }

    /// Good answers a second.
    #[must_use]
    pub fn good_rate(&self) -> f64 {
        self.rates.completed
    }

    /// Whether far fewer exchanges are offered than in the last seconds.
    #[must_use]
    pub fn demand_fell(&self) -> bool {
        self.flow.has_fallen()
    }
}
