//! C3 (Suresh et al., NSDI 2015): the least `R - 1/mu + q^3 / mu`, where R is the mean response, 1/mu the
//! mean service and q = 1 + own in flight x clients + the reported queue. Loads are for each server, since a
//! place has many. Left out: the cubic rate control, which only sheds.

use super::spread::load;
use super::{open, stated};
use crate::policy::{Answer, Ask, End, Pick, Policy};
use crate::spec::{PlaceSpec, Spec};
use decision::units::Dice;

/// Mean response and reported queue by place and endpoint.
#[derive(Debug)]
pub struct C3(Vec<Vec<(f64, f64)>>);

impl C3 {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(spec: &Spec) -> C3 {
        let first = |place: &PlaceSpec| vec![(0.0, 0.0); place.endpoints.len()];
        C3(spec.places.iter().map(first).collect())
    }
}

impl Policy for C3 {
    fn pick(&mut self, ask: &Ask<'_>, _dice: &mut Dice) -> Option<Pick> {
        let service = ask.spec.mean_service();
        let clients = ask.spec.edges.len() as f64;
        let score = |pick: &Pick| {
            let (response, queue) = self.0[pick.place][pick.endpoint];
            let queue = 1.0 + load(ask, *pick) * clients + queue / stated(ask.spec, pick.place);
            response.max(ask.edge.rtt[pick.place] + service) - service + queue.powi(3) * service
        };
        let endpoints = |place: usize| {
            let alive = ask.edge.alive[place].iter().enumerate().filter(|(_, alive)| **alive);
            alive.map(move |(endpoint, _)| Pick { place, endpoint })
        };
        let all = open(ask).into_iter().flat_map(endpoints);
        all.min_by(|a, b| score(a).total_cmp(&score(b)))
    }

    fn answered(&mut self, answer: &Answer) {
        if answer.end != End::Good {
            return;
        }
        let (response, queue) = &mut self.0[answer.pick.place][answer.pick.endpoint];
        *response += 0.1 * (answer.latency - *response);
        if let Some(report) = answer.report {
            *queue = (report.in_flight - report.capacity.unwrap_or(0.0)).max(0.0);
        }
    }
}
