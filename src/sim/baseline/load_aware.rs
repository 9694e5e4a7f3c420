//! Envoy's `load_aware_locality` (v1.40 documentation): each second, by the reported utilisation of
//! endpoints averaged over 5 s. All traffic stays local while the local utilisation is at most 0.1 above
//! the mean of the remote localities; otherwise localities get traffic by their headroom. 3 % always go to
//! remote localities as probes.
//!
//! Given: current utilisation, exact. Left out: report expiry.

use super::{Diffusion, at, open, stated};
use crate::policy::{Ask, Pick, Policy};
use crate::spec::Spec;
use decision::units::Dice;

const PERIOD: f64 = 1.0;
const AVERAGE: f64 = 5.0;
const VARIANCE: f64 = 0.1;
const PROBES: f64 = 0.03;

/// Utilisation by place, and the split of this second.
#[derive(Debug)]
pub struct LoadAware {
    utilisation: Vec<f64>,
    weights: Vec<f64>,
    diffusion: Diffusion,
    decided: f64,
}

impl LoadAware {
    /// Nothing reported yet.
    #[must_use]
    pub fn new(spec: &Spec) -> LoadAware {
        let count = spec.places.len();
        LoadAware {
            utilisation: vec![0.0; count],
            weights: vec![1.0; count],
            diffusion: Diffusion::default(),
            decided: -PERIOD,
        }
    }

    fn decide(&mut self, ask: &Ask<'_>, places: &[usize]) {
        let alpha = 1.0 - (-PERIOD / AVERAGE).exp();
        for place in places {
            let there = &ask.truth[*place];
            let now = there.busy() as f64 / there.servers().max(1) as f64;
            self.utilisation[*place] += alpha * (now - self.utilisation[*place]);
        }
        let Some((local, remotes)) = places.split_first() else { return };
        let hosts = |place: &usize| stated(ask.spec, *place);
        let all: f64 = remotes.iter().map(hosts).sum();
        let mean: f64 =
            remotes.iter().map(|p| hosts(p) * self.utilisation[*p]).sum::<f64>() / all.max(1.0);
        self.weights.fill(0.0);
        if self.utilisation[*local] <= mean + VARIANCE || remotes.is_empty() {
            self.weights[*local] = if remotes.is_empty() { 1.0 } else { 1.0 - PROBES };
            for remote in remotes {
                self.weights[*remote] = PROBES * hosts(remote) / all.max(1.0);
            }
            return;
        }
        for place in places {
            self.weights[*place] = hosts(place) * (1.0 - self.utilisation[*place]).max(0.0);
        }
        if places.iter().all(|place| self.weights[*place] < 1e-6) {
            for place in places {
                self.weights[*place] = hosts(place);
            }
        }
    }
}

impl Policy for LoadAware {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if ask.now - self.decided >= PERIOD {
            self.decide(ask, &places);
            self.decided = ask.now;
        }
        let place = self.diffusion.next(&places, &self.weights)?;
        Some(at(ask.edge, place, dice))
    }
}
