//! Buoyant's HAZL (docs.buoyant.io, "High Availability Zonal Load Balancing"): remote endpoints are added
//! while the load, exchanges in flight for each endpoint, is above a band of 0.8-2.0, and removed below it.
//!
//! A server counts as an endpoint. Given: the load of all proxies together. Left out: the licence.

use super::{at, open, stated};
use crate::policy::{Ask, Pick, Policy};
use decision::units::Dice;

const LOW: f64 = 0.8;
const HIGH: f64 = 2.0;

/// The number of places in use, and when it was last changed.
#[derive(Debug)]
pub struct Hazl {
    used: usize,
    changed: f64,
}

impl Default for Hazl {
    fn default() -> Hazl {
        Hazl { used: 1, changed: 0.0 }
    }
}

impl Policy for Hazl {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if places.is_empty() {
            return None;
        }
        let used = self.used.min(places.len());
        if ask.now - self.changed >= 1.0 {
            let in_use = &places[..used];
            let busy: f64 = in_use
                .iter()
                .map(|place| (ask.truth[*place].busy() + ask.truth[*place].waiting()) as f64)
                .sum();
            let servers: f64 = in_use.iter().map(|place| stated(ask.spec, *place)).sum();
            let load = busy / servers.max(1.0);
            if load > HIGH {
                self.used = (used + 1).min(places.len());
            } else if load < LOW {
                self.used = used.saturating_sub(1).max(1);
            }
            self.changed = ask.now;
        }
        let load = |place: &usize| f64::from(ask.edge.at(*place)) / stated(ask.spec, *place);
        let used = &places[..self.used.min(places.len())];
        let place = used.iter().copied().min_by(|a, b| load(a).total_cmp(&load(b)))?;
        Some(at(ask.edge, place, dice))
    }
}
