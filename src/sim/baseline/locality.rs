//! By health alone: locality failover (the nearest place that is healthy enough), and Envoy's priority levels
//! (`min(100 %, 140 % x healthy share)`, envoyproxy.io, "Priority levels"). Load has no influence.

use super::{at, open};
use crate::policy::{Ask, Edge, Pick, Policy};
use decision::units::Dice;

/// The nearest place with at least 70 % of its endpoints healthy, else the nearest.
#[derive(Debug)]
pub struct Failover;

fn healthy(edge: &Edge, place: usize) -> f64 {
    let all = &edge.alive[place];
    all.iter().filter(|alive| **alive).count() as f64 / all.len().max(1) as f64
}

impl Policy for Failover {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        let fit = places.iter().copied().find(|place| healthy(ask.edge, *place) >= 0.7);
        let place = fit.or_else(|| places.first().copied())?;
        Some(at(ask.edge, place, dice))
    }
}

/// Envoy's priorities, the nearest first.
#[derive(Debug)]
pub struct Priority;

impl Policy for Priority {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        let mut roll = dice.unit();
        for place in &places {
            let takes = (1.4 * healthy(ask.edge, *place)).min(1.0);
            if roll < takes {
                return Some(at(ask.edge, *place, dice));
            }
            roll = (roll - takes) / (1.0 - takes).max(1e-9);
        }
        places.last().map(|place| at(ask.edge, *place, dice))
    }
}
