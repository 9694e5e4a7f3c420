//! Distance is ignored: round robin by weight, and the less busy of two (Mitzenmacher 2001; Envoy's
//! `LEAST_REQUEST`). Weights are the numbers of servers, as an operator would configure them.

use super::{Diffusion, at, open, stated};
use crate::policy::{Ask, Pick, Policy};
use decision::units::Dice;

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

/// A server drawn at random, by its endpoint.
pub(super) fn draw_endpoint(ask: &Ask<'_>, places: &[usize], dice: &mut Dice) -> Pick {
    let place = draw(ask, places, dice);
    let there = &ask.spec.places[place].endpoints;
    let usable = |endpoint: &usize| ask.edge.alive[place][*endpoint];
    let alive: Vec<usize> = (0..there.len()).filter(usable).collect();
    let all: usize = alive.iter().map(|endpoint| there[*endpoint]).sum();
    let mut left = dice.below(all.max(1));
    for endpoint in alive {
        match left.checked_sub(there[endpoint]) {
            Some(rest) => left = rest,
            None => return Pick { place, endpoint },
        }
    }
    Pick { place, endpoint: 0 }
}

/// This proxy's exchanges in flight for each server of an endpoint.
pub(super) fn load(ask: &Ask<'_>, pick: Pick) -> f64 {
    let servers = ask.spec.places[pick.place].endpoints[pick.endpoint].max(1) as f64;
    f64::from(ask.edge.in_flight[pick.place][pick.endpoint]) / servers
}

impl Policy for LeastRequest {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if places.is_empty() {
            return None;
        }
        let (a, b) = (draw_endpoint(ask, &places, dice), draw_endpoint(ask, &places, dice));
        Some(if load(ask, a) <= load(ask, b) { a } else { b })
    }
}
