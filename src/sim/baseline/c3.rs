//! C3 (Suresh et al., NSDI 2015): the least `R - 1/mu + q^3 / mu`, where R is the mean response, 1/mu the
//! mean service and q = 1 + own in flight x clients + the reported queue. Loads are for each server, since a
//! place has many. Left out: the cubic rate control, which only sheds.

use super::{at, open, stated};
use crate::decision::units::Dice;
use crate::sim::policy::{Answer, Ask, End, Pick, Policy};
use crate::sim::spec::Spec;

/// Mean response and reported queue by place.
#[derive(Debug)]
pub struct C3(Vec<(f64, f64)>);

impl C3 {
    /// Nobody measured yet.
    #[must_use]
    pub fn new(spec: &Spec) -> C3 {
        C3(vec![(0.0, 0.0); spec.places.len()])
    }
}

impl Policy for C3 {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let service = ask.spec.service.mean();
        let clients = ask.spec.edges.len() as f64;
        let score = |place: &usize| {
            let (response, queue) = self.0[*place];
            let own = f64::from(ask.edge.at(*place)) * clients;
            let queue = 1.0 + (own + queue) / stated(ask.spec, *place);
            response.max(ask.edge.rtt[*place] + service) - service + queue.powi(3) * service
        };
        let place = open(ask).into_iter().min_by(|a, b| score(a).total_cmp(&score(b)))?;
        Some(at(ask.edge, place, dice))
    }

    fn answered(&mut self, answer: &Answer) {
        if answer.end != End::Good {
            return;
        }
        let (response, queue) = &mut self.0[answer.pick.place];
        *response += 0.1 * (answer.latency - *response);
        if let Some(report) = answer.report {
            *queue = (report.in_flight - report.capacity.unwrap_or(0.0)).max(0.0);
        }
    }
}
