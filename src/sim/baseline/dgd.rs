//! DGD-LB (arXiv 2504.10693): each frontend moves its split along the negative marginal cost `g = tau +
//! 1/l'(N)` of the number in flight that it last saw, projected on the simplex: `dx/dt = -eta g`. The
//! curve is GMSR's. The step shrinks with distance, as the paper's stability bound demands.

use super::{Diffusion, at, open, stated};
use crate::policy::{Answer, Ask, Edge, Pick, Policy};
use crate::spec::Spec;
use decision::units::Dice;

/// The share that one second of difference in cost moves, per second.
const STEP: f64 = 4.0;
const TICK: f64 = 0.05;

/// The split, and the last report of each place.
#[derive(Debug)]
pub struct Dgd {
    split: Vec<f64>,
    reported: Vec<f64>,
    stated: Vec<f64>,
    service: f64,
    edges: f64,
    diffusion: Diffusion,
}

impl Dgd {
    /// All traffic at the nearest.
    #[must_use]
    pub fn new(spec: &Spec) -> Dgd {
        let count = spec.places.len();
        let mut split = vec![0.0; count];
        if let Some(first) = split.first_mut() {
            *first = 1.0;
        }
        Dgd {
            split,
            reported: vec![0.0; count],
            stated: (0..count).map(|place| stated(spec, place)).collect(),
            service: spec.mean_service(),
            edges: spec.edges.len() as f64,
            diffusion: Diffusion::default(),
        }
    }
}

impl Policy for Dgd {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let place = self.diffusion.next(&open(ask), &self.split)?;
        Some(at(ask.edge, place, dice))
    }

    fn answered(&mut self, answer: &Answer) {
        if let Some(report) = answer.report {
            self.reported[answer.pick.place] = report.in_flight;
        }
    }

    fn tick(&mut self, _now: f64, edge: &Edge) {
        let live: Vec<usize> = (0..self.split.len()).filter(|place| edge.is_live(*place)).collect();
        let cost = |place: &usize| {
            let seen = self.reported[*place].max(f64::from(edge.at(*place)) * self.edges);
            let load = (seen / self.stated[*place]).min(8.0);
            edge.rtt[*place] + self.service * load.exp()
        };
        let costs: Vec<f64> = live.iter().map(cost).collect();
        let mean = costs.iter().sum::<f64>() / costs.len().max(1) as f64;
        for (place, cost) in live.iter().zip(&costs) {
            let step = STEP * TICK / (1.0 + 10.0 * edge.rtt[*place]);
            self.split[*place] = (self.split[*place] - step * (cost - mean)).clamp(0.001, 1.0);
        }
        let all: f64 = live.iter().map(|place| self.split[*place]).sum();
        for place in live {
            self.split[place] /= all.max(1e-9);
        }
    }
}
