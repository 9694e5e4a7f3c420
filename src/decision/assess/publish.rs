//! Makes the signals of a cluster.

use super::News;
use super::cluster::ClusterState;
use super::endpoint::EndpointState;
use super::published::{Given, Inputs, OfEndpoints};
use crate::endpoint;
use crate::fleet::lease;
use crate::health::Cause;
use crate::index::{EndpointIndex, Table};
use crate::outlier::Outlier;
use crate::plan::Cluster;
use crate::signal::{ClusterSignals, EndpointSignals, State};
use crate::units::Timestamp;
use std::sync::Arc;

impl ClusterState {
    /// The signals of the cluster now.
    pub(super) fn believe(
        &mut self,
        cluster: &Cluster,
        given: Given,
        news: &mut Vec<News>,
        now: Timestamp,
    ) -> Arc<ClusterSignals> {
        let inputs = Inputs {
            given,
            ceiling: self.ceiling(cluster, given.members, now),
            distance: self.distance(),
            awaits_undrain: self.awaits_undrain(),
            held_until: self.held_until.filter(|until| now < *until),
            return_share: self.return_share(now),
        };
        if let Some((before, signals)) = &self.published.signals
            && *before == inputs
        {
            return signals.clone();
        }
        let signals = Arc::new(self.signals(&inputs));
        self.published.signals = Some((inputs, signals.clone()));
        let (state, cause) = (signals.state, signals.cause);
        if self.announced != Some(state) {
            let first = self.announced.is_none() && state == State::Up;
            self.announced = Some(state);
            if !first {
                news.push(News::Cluster { cluster: cluster.name.clone(), state, cause });
            }
        }
        signals
    }

    fn signals(&self, inputs: &Inputs) -> ClusterSignals {
        let Given { traffic, dial, site_dial, .. } = inputs.given;
        let success =
            (traffic.rate > 0.1).then(|| (1.0 - traffic.failed_rate / traffic.rate).max(0.0));
        let (state, cause) = self.judge(inputs, success.unwrap_or(1.0));
        let of_endpoints = &self.published.of_endpoints;
        ClusterSignals {
            state,
            cause,
            ceiling: inputs.ceiling,
            dial,
            site_dial,
            rtt: self.rtt(),
            distance: inputs.distance,
            service: traffic.service,
            queue: traffic.queue,
            total: traffic.total,
            class: traffic.class,
            requests_per_s: traffic.rate,
            success,
            down_since: self.down_since,
            held_until: inputs.held_until,
            awaits_undrain: inputs.awaits_undrain,
            return_share: inputs.return_share,
            share: traffic.share,
            usd_per_hour: traffic.usd_per_hour,
            returned: of_endpoints.returned.clone(),
            usable: of_endpoints.usable.clone(),
            endpoints: of_endpoints.endpoints.clone(),
            members: self.members,
            wheel: of_endpoints.wheel.clone(),
        }
    }

    /// What is known of the endpoints now.
    pub(super) fn observe(&self, cluster: &Cluster, now: Timestamp) -> OfEndpoints {
        let turns_per_s = self.answered_per_s / self.in_use.max(1) as f64;
        let believe = |endpoint: &EndpointState| endpoint.believe(cluster, turns_per_s, now);
        let mut endpoints: Table<_, _> = self.endpoints.iter().map(believe).collect();
        let up = endpoints.iter().filter(|endpoint| endpoint.up).count();
        let usable = self.usable(&cluster.outlier, &endpoints, up);
        let unused = |index: &EndpointIndex| self.endpoints[*index].unused;
        let listed = |index: EndpointIndex| f64::from(self.endpoints[index].weight).max(0.1);
        let wheel = endpoint::prepare(&mut endpoints, &usable, listed);
        let failed = endpoints.iter().find(|endpoint| !endpoint.up).and_then(|e| e.last_error);
        OfEndpoints {
            returned: usable.iter().copied().filter(unused).collect(),
            usable: usable.into(),
            endpoints: Arc::new(endpoints),
            wheel: Arc::new(wheel),
            up,
            last_error: failed.map(|(cause, _)| cause),
        }
    }

    /// The ceiling of this process, where `members` proxies of the site may share it.
    fn ceiling(&self, cluster: &Cluster, members: u32, now: Timestamp) -> Option<u32> {
        let total = cluster.ceiling?;
        if !cluster.shared || members < 2 {
            return Some(total);
        }
        let share = self.share.as_ref().map(|share| share.ceiling(now));
        Some(lease::limit(total, share, members))
    }

    /// The endpoints that probes have shown to be up. If there are none, the endpoints that were never probed; if too few
    /// are up, all endpoints.
    fn usable(
        &self,
        knobs: &Outlier,
        endpoints: &Table<EndpointIndex, EndpointSignals>,
        up: usize,
    ) -> Vec<EndpointIndex> {
        let proven = |index: &EndpointIndex| {
            endpoints[*index].up && self.endpoints[*index].health.is_probed()
        };
        let all = || endpoints.indices();
        if knobs.panics(up, endpoints.len()) {
            return all().collect();
        }
        let known: Vec<EndpointIndex> = all().filter(proven).collect();
        if known.is_empty() { all().filter(|index| endpoints[*index].up).collect() } else { known }
    }

    fn judge(&self, inputs: &Inputs, success: f64) -> (State, &'static str) {
        let OfEndpoints { endpoints, up, last_error, .. } = &self.published.of_endpoints;
        let last_error = last_error.map_or("down", Cause::label);
        match () {
            () if endpoints.is_empty() => (State::Down, "no_endpoints"),
            () if *up == 0 => (State::Down, last_error),
            () if inputs.awaits_undrain => (State::Draining, "failback_manual"),
            () if inputs.given.dial == 0 => (State::Draining, "dial"),
            () if inputs.held_until.is_some() => (State::Down, "failback_hold"),
            () if *up < endpoints.len() => (State::Degraded, last_error),
            () if success < 0.98 => (State::Degraded, "success"),
            () => (State::Up, ""),
        }
    }
}
