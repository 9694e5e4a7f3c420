//! Probes and failed exchanges: their results, and which probes are due.

use super::cluster::thresholds;
use super::endpoint::EndpointState;
use super::{Assessor, ProbeOrder};
use crate::health::Cause;
use crate::plan::ProbeKind;
use crate::units::{Timestamp, mix};
use std::net::IpAddr;
use std::time::Duration;

/// Interval between probes of an endpoint whose state is in doubt.
const SUSPICIOUS_INTERVAL: Duration = Duration::from_millis(100);

impl Assessor {
    pub(super) fn probe_succeeded(
        &mut self,
        id: u32,
        rtt: Duration,
        answer: Option<Duration>,
        now: Timestamp,
    ) {
        let Some((index, endpoint)) = self.locate(id) else { return };
        let (cluster, state) = (&self.plan.clusters[index], &mut self.clusters[index]);
        let endpoint = &mut state.endpoints[endpoint];
        endpoint.probing = false;
        endpoint.rtt.observe(rtt.as_secs_f64());
        if let Some(answer) = answer {
            endpoint.answer.observe(answer.as_secs_f64());
            endpoint.speed.probed(answer.as_secs_f64());
        }
        if !endpoint.rtt.is_settled() {
            // A new endpoint needs several probes at once for its first state.
            endpoint.probe_due = now;
        } else if endpoint.rtt.is_doubtful() {
            // The path may have changed: the next probes measure it.
            endpoint.probe_due = endpoint.probe_due.min(now.plus(SUSPICIOUS_INTERVAL));
        }
        let came_up = endpoint.health.probe_succeeded(thresholds(cluster), now);
        let news = endpoint.returned(&cluster.name, now);
        if came_up || news.is_some() {
            state.rest.wake()
        } else {
            state.rest.stir()
        }
        self.news.extend(news);
    }

    pub(super) fn probe_failed(&mut self, id: u32, cause: Cause, now: Timestamp) {
        let Some((index, endpoint)) = self.locate(id) else { return };
        let (cluster, state) = (&self.plan.clusters[index], &mut self.clusters[index]);
        let endpoint = &mut state.endpoints[endpoint];
        endpoint.probing = false;
        endpoint.probe_due = endpoint.probe_due.min(now.plus(SUSPICIOUS_INTERVAL));
        state.rest.stir();
        if endpoint.health.probe_failed(cause, thresholds(cluster), now) {
            state.rest.wake();
            let news = endpoint.ejected(&cluster.name, cause);
            self.news.extend(news);
        }
    }

    pub(super) fn exchange_failed(
        &mut self,
        id: u32,
        cause: Cause,
        client: Option<IpAddr>,
        now: Timestamp,
    ) {
        let Some((index, endpoint)) = self.locate(id) else { return };
        let (cluster, state) = (&self.plan.clusters[index], &mut self.clusters[index]);
        let may_eject = !cause.is_limited() || state.may_eject(&cluster.outlier, now);
        let endpoint = &mut state.endpoints[endpoint];
        // A hedge that was quicker is no failure of the endpoint: an endpoint that still answers others is slow, not
        // down.
        let failures = if cause == Cause::Overtaken { 0.0 } else { 1.0 };
        endpoint.failures += failures;
        endpoint.probe_due = endpoint.probe_due.min(now.plus(SUSPICIOUS_INTERVAL));
        if cause != Cause::Overtaken {
            endpoint.blamed.add(client);
        }
        state.rest.stir();
        if endpoint.health.exchange_failed(cause, client, may_eject, now) {
            state.rest.wake();
            self.news.extend(endpoint.ejected(&cluster.name, cause));
        }
    }

    /// Probes that are due; each counts as running until its result is folded in.
    pub fn due_probes(&mut self, now: Timestamp) -> Vec<ProbeOrder> {
        let mut orders = Vec::new();
        for ((index, cluster), state) in self.plan.clusters.enumerated().zip(&mut self.clusters) {
            if cluster.probe.kind == ProbeKind::None {
                continue;
            }
            for endpoint in &mut state.endpoints {
                if endpoint.probing || now < endpoint.probe_due {
                    continue;
                }
                let interval = match endpoint.health.is_suspicious() {
                    true => cluster.probe.interval.min(SUSPICIOUS_INTERVAL),
                    false => cluster.probe.interval,
                };
                let scatter = mix(self.seed ^ u64::from(endpoint.id) ^ now.as_nanos()) % 1024;
                let jitter = 0.9 + 0.2 * scatter as f64 / 1024.0;
                endpoint.probe_due = now.plus(interval.mul_f64(jitter));
                endpoint.probing = true;
                let address = endpoint.address.clone();
                orders.push(ProbeOrder { cluster: index, endpoint: endpoint.id, address });
            }
        }
        orders
    }

    /// Whether the state of every cluster is known: discovered, and each endpoint decided by first probes.
    #[must_use]
    pub fn first_round_is_over(&self, now: Timestamp) -> bool {
        self.plan.clusters.iter().zip(&self.clusters).all(|(cluster, state)| {
            let judged = |endpoint: &EndpointState| endpoint.is_judged(now);
            state.discovered
                && (cluster.probe.kind == ProbeKind::None || state.endpoints.iter().all(judged))
        })
    }
}
