//! Peak-EWMA of Finagle, Linkerd and Tower (tower-rs/tower, `load/peak_ewma.rs`): the cheaper of two
//! servers, by a latency that rises to peaks at once and decays over 10 s, times the exchanges in flight.
//! Failures count as 5 s (Linkerd's load biaser).

use super::open;
use super::spread::{draw_endpoint, load};
use crate::policy::{Answer, Ask, End, Pick, Policy};
use crate::spec::{PlaceSpec, Spec};
use decision::units::Dice;

const DECAY: f64 = 10.0;
const FIRST: f64 = 1.0;
const FAILURE: f64 = 5.0;

/// Latency by place and endpoint, and when it was last updated.
#[derive(Debug)]
pub struct PeakEwma(Vec<Vec<(f64, f64)>>);

impl PeakEwma {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(spec: &Spec) -> PeakEwma {
        let first = |place: &PlaceSpec| vec![(FIRST, 0.0); place.endpoints.len()];
        PeakEwma(spec.places.iter().map(first).collect())
    }
}

impl Policy for PeakEwma {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if places.is_empty() {
            return None;
        }
        let (a, b) = (draw_endpoint(ask, &places, dice), draw_endpoint(ask, &places, dice));
        let cost = |pick: Pick| {
            let (latency, updated) = self.0[pick.place][pick.endpoint];
            latency * (-(ask.now - updated) / DECAY).exp() * (load(ask, pick) + 1.0)
        };
        Some(if cost(a) <= cost(b) { a } else { b })
    }

    fn answered(&mut self, answer: &Answer) {
        let sample = if answer.end == End::Good { answer.latency } else { FAILURE };
        let (latency, updated) = &mut self.0[answer.pick.place][answer.pick.endpoint];
        let weight = (-(answer.now - *updated) / DECAY).exp();
        *latency =
            if sample > *latency { sample } else { *latency * weight + sample * (1.0 - weight) };
        *updated = answer.now;
    }
}
