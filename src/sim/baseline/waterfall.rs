//! Google Cloud's waterfall by region: fill the nearest place to a configured part of its configured capacity, then
//! the next; when all are full, all equally (cloud.google.com, "Advanced load balancing optimizations").
//!
//! Given: one controller a second that knows the whole demand of the last second, exact capacities in
//! requests a second. Left out: zones, and draining by health shares below 100 %.

use super::{Diffusion, at, open, stated};
use crate::policy::{Ask, Pick, Policy};
use crate::spec::Spec;
use decision::units::Dice;

/// Fills to `fill` of capacity.
#[derive(Debug)]
pub struct Waterfall {
    share: f64,
    fill: f64,
    capacity: Vec<f64>,
    weights: Vec<f64>,
    diffusion: Diffusion,
    demand: f64,
    order: Vec<usize>,
    decided: f64,
}

impl Waterfall {
    /// A waterfall over the places of a world.
    #[must_use]
    pub fn new(spec: &Spec, edge: usize, fill: f64) -> Waterfall {
        let rate = |place: usize| stated(spec, place) / spec.mean_service();
        let capacity: Vec<f64> = (0..spec.places.len()).map(rate).collect();
        Waterfall {
            share: spec.group(edge).share,
            fill,
            weights: capacity.clone(),
            capacity,
            diffusion: Diffusion::default(),
            demand: 0.0,
            order: Vec::new(),
            decided: -1.0,
        }
    }

    fn decide(&mut self, places: &[usize], sensitive: f64) {
        // The demand that only the nearest place may serve is assigned to it first.
        let mut bound = self.demand * sensitive;
        let mut left = self.demand - bound;
        self.weights.fill(0.0);
        for place in places {
            let headroom = self.fill * self.capacity[*place] - std::mem::take(&mut bound);
            let take = left.min(headroom).max(0.0);
            self.weights[*place] = take;
            left -= take;
        }
        if left > 0.0 {
            for place in places {
                self.weights[*place] = self.capacity[*place];
            }
        } else if self.demand <= 0.0
            && let Some(first) = places.first()
        {
            self.weights[*first] = 1.0;
        }
    }
}

impl Policy for Waterfall {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if ask.sensitive {
            return places.first().map(|place| at(ask.edge, *place, dice));
        }
        if ask.now - self.decided >= 1.0 || places != self.order {
            self.demand = ask.spec.demand_at(ask.now - 1.0) * self.share;
            self.decide(&places, ask.spec.sensitive);
            self.decided = ask.now;
            self.order.clone_from(&places);
        }
        let place = self.diffusion.next(&places, &self.weights)?;
        Some(at(ask.edge, place, dice))
    }
}
