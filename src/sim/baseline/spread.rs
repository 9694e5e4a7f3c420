//! Near or far alike: round robin by weight, and the less busy of two (Mitzenmacher 2001; Envoy's
//! `LEAST_REQUEST`). Weights are the servers an operator would state.

use super::{Diffusion, at, open, stated};
use crate::decision::units::Dice;
use crate::sim::policy::{Ask, Pick, Policy};

/// Each in turn, by weight.
#[derive(Debug, Default)]
pub struct RoundRobin(Diffusion);

impl Policy for RoundRobin {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let weights: Vec<f64> = (0..ask.truth.len()).map(|place| stated(ask.spec, place)).collect();
        let place = self.0.next(&open(ask), &weights)?;
        Some(at(ask.edge, place, dice))
    }
}

/// The relatively less busy of two servers drawn at random.
#[derive(Debug)]
pub struct LeastRequest;

/// A place drawn by its servers.
pub(super) fn draw(ask: &Ask<'_>, places: &[usize], dice: &mut Dice) -> usize {
    let all: f64 = places.iter().map(|place| stated(ask.spec, *place)).sum();
    let mut left = dice.unit() * all;
    for place in places {
        left -= stated(ask.spec, *place);
        if left < 0.0 {
            return *place;
        }
    }
    places[places.len() - 1]
}

impl Policy for LeastRequest {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if places.is_empty() {
            return None;
        }
        let (a, b) = (draw(ask, &places, dice), draw(ask, &places, dice));
        let load = |place: usize| f64::from(ask.edge.at(place)) / stated(ask.spec, place);
        Some(at(ask.edge, if load(a) <= load(b) { a } else { b }, dice))
    }
}
