//! Greatest marginal service rate (arXiv 2411.17103): the place with the least marginal cost, distance
//! included, according to the last reported number in flight. The service curve of c servers is smoothed
//! as in its many-server limit: `l(N) = c/s (1 - e^(-N/c))`, so the marginal is `rtt + s e^(N/c)`.
//!
//! Given: the number in flight one round trip ago, and this proxy's own exchanges since.

use super::{at, open, stated};
use crate::policy::{Answer, Ask, Edge, Pick, Policy};
use decision::units::Dice;

/// In flight by place: as last reported, and this proxy's part at that time.
#[derive(Debug, Default)]
pub struct Gmsr {
    reported: Vec<(f64, f64)>,
    ours: Vec<f64>,
}

impl Policy for Gmsr {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let count = ask.truth.len();
        self.reported.resize(count, (0.0, 0.0));
        self.ours.resize(count, 0.0);
        for place in 0..count {
            self.ours[place] = f64::from(ask.edge.at(place));
        }
        let marginal = |place: &usize| {
            let (reported, then) = self.reported[*place];
            let now = (reported + self.ours[*place] - then).max(0.0);
            let load = (now / stated(ask.spec, *place)).min(50.0);
            ask.edge.rtt[*place] + ask.spec.mean_service() * load.exp()
        };
        let place = open(ask).into_iter().min_by(|a, b| marginal(a).total_cmp(&marginal(b)))?;
        Some(at(ask.edge, place, dice))
    }

    fn answered(&mut self, answer: &Answer) {
        let place = answer.pick.place;
        if let (Some(report), Some(reported)) = (answer.report, self.reported.get_mut(place)) {
            *reported = (report.in_flight, self.ours[place]);
        } else if let Some(reported) = self.reported.get_mut(place) {
            *reported = (self.ours[place], self.ours[place]);
        }
    }

    fn tick(&mut self, _now: f64, _edge: &Edge) {}
}
