//! Peak-EWMA of Finagle, Linkerd and Tower (tower-rs/tower, `load/peak_ewma.rs`): the cheaper of two
//! servers, by a latency that believes peaks at once and forgets them over 10 s, times what is in flight.
//! Failures count as 5 s (Linkerd's load biaser).

use super::spread::draw;
use super::{at, open, stated};
use crate::decision::units::Dice;
use crate::sim::policy::{Answer, Ask, End, Pick, Policy};
use crate::sim::spec::Spec;

const DECAY: f64 = 10.0;
const FIRST: f64 = 1.0;
const FAILURE: f64 = 5.0;

/// Latency by place, and when it was last told.
#[derive(Debug)]
pub struct PeakEwma(Vec<(f64, f64)>);

impl PeakEwma {
    /// Nobody measured yet.
    #[must_use]
    pub fn new(spec: &Spec) -> PeakEwma {
        PeakEwma(vec![(FIRST, 0.0); spec.places.len()])
    }
}

impl Policy for PeakEwma {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if places.is_empty() {
            return None;
        }
        let (a, b) = (draw(ask, &places, dice), draw(ask, &places, dice));
        let cost = |place: usize| {
            let (latency, told) = self.0[place];
            let faded = latency * (-(ask.now - told) / DECAY).exp();
            faded * (f64::from(ask.edge.at(place)) / stated(ask.spec, place) + 1.0)
        };
        Some(at(ask.edge, if cost(a) <= cost(b) { a } else { b }, dice))
    }

    fn answered(&mut self, answer: &Answer) {
        let sample = if answer.end == End::Good { answer.latency } else { FAILURE };
        let (latency, told) = &mut self.0[answer.pick.place];
        let weight = (-(answer.now - *told) / DECAY).exp();
        *latency =
            if sample > *latency { sample } else { *latency * weight + sample * (1.0 - weight) };
        *told = answer.now;
    }
}
