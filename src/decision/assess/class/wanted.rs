//! The capacity that a class wants at the end of the lead time, from its forecast and from the rates that its clusters have served.

use super::{ClassState, idle};
use crate::assess::place::PermittedCluster;
use crate::capacity::{self, Seen, Supply};
use crate::plan::{Kind, Plan};
use crate::scaling::LEAD;
use crate::spill::{self, Candidate};

/// The fraction of a tolerable queue at which a cluster counts as full: the level at which spilling keeps it.
const FULL: f64 = 0.4;

/// The wanted capacity of each cluster, by slot; empty where none is known.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Requests a second.
    pub(super) rps: Vec<f64>,
    /// Endpoints for that rate.
    pub(super) endpoints: Vec<Option<f64>>,
}

/// The horizon of the demand forecast, in seconds.
pub(super) fn lead(plan: &Plan) -> f64 {
    plan.lead.unwrap_or(LEAD).as_secs_f64()
}

impl ClassState {
    /// The rate that each cluster should be able to serve at the end of the lead time.
    pub(super) fn wanted(
        &mut self,
        plan: &Plan,
        places: &[PermittedCluster<'_>],
        candidates: &[Candidate],
        elapsed: f64,
    ) -> Wanted {
        let (order, idle) = (self.order.current(), idle(candidates));
        let mut supplies = Vec::with_capacity(order.len());
        for &slot in order {
            let (cluster, track) = (&plan.clusters[places[slot].cluster], &self.tracks[slot]);
            let service = candidates[slot].service;
            let endpoints = places[slot].state.usable_count();
            let (rate, queue) = (track.good_rate(), candidates[slot].queue);
            let bounded = slot == self.first && self.before.bounded;
            let queues = queue > FULL * spill::tolerable_queue(&idle, slot);
            let full = places.len() > 1 && (queues || bounded);
            let seen = Seen { rate, service, queue, endpoints, full, bounded };
            self.capacity[slot].fold(seen, elapsed);
            let at_once = |all: f64| all / endpoints.max(1) as f64;
            let stated = cluster.ceiling.or(cluster.capacity).map(|all| at_once(f64::from(all)));
            let reported = track.report().and_then(|report| report.capacity).map(at_once);
            let known = self.capacity[slot].concurrency();
            let whole = |each: f64| each * endpoints as f64 / service;
            let seen = self.capacity[slot].rate().map(|each| each * endpoints as f64);
            let own = seen.or(track.reported_capacity()).or(stated.map(whole));
            supplies.push(Supply {
                each: reported.or(known).or(stated).map(|each| each / service),
                rate: own.filter(|rate| *rate > 0.0),
                endpoints,
                is_cloud: cluster.kind == Kind::Cloud,
            });
        }
        let level = self.forecast.level();
        let demand = self.forecast.ahead(lead(plan)).map_or(self.demand, |ahead| ahead.max(level));
        let parts = capacity::pour(demand, &supplies);
        let endpoints = capacity::replicas(&parts, &supplies);
        let (mut rps, mut needed) = (vec![0.0; places.len()], vec![None; places.len()]);
        for (position, &slot) in order.iter().enumerate() {
            (rps[slot], needed[slot]) = (parts[position], endpoints[position]);
        }
        Wanted { rps, endpoints: needed }
    }
}
