//! Desired replicas: how many endpoints each service needs of each cluster, over all proxies of the fleet; and the
//! receiver of webhooks.
//!
//! The needs of several proxies are added before anything is rounded: three proxies that each need a third of an
//! endpoint need one together.
//!
//! # Units
//! Exchanges a second; endpoints.
//!
//! # Not here
//! How the need of one proxy follows from its demand (`capacity`, `demand`). Sockets (`scaling`).

use super::plan::{ClusterIndex, Plan, ServiceIndex};
use super::signal::Signals;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The horizon of the demand forecast without `scaling.lead`: the time that a cloud needs to start an endpoint.
pub const LEAD: Duration = Duration::from_secs(60);
/// The rate below which a cluster is not needed, in exchanges a second.
const ACTIVE_RPS: f64 = 0.01;
/// The part by which the need must fall below the last number of replicas before that number is reduced.
const RESERVE: f64 = 0.1;
/// A part of an endpoint that does not require one more endpoint: sums of rounded reports are inexact.
const ROUNDING: f64 = 0.01;

/// The receiver of webhooks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Webhook {
    /// Whether the receiver is reached over TLS.
    pub secure: bool,
    /// Host and port, to connect to.
    pub authority: String,
    /// Host, and port if one is written.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// The certificate authorities for its certificate; those of the system if `None`.
    pub ca: Option<PathBuf>,
    /// The file with the secret that signs messages.
    pub secret_file: PathBuf,
    /// The longest time between two messages.
    pub interval: Duration,
    /// The deadline of one attempt.
    pub timeout: Duration,
}

/// The state of the webhook, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebhookFigures {
    /// Messages that the receiver accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that were dropped.
    pub dropped: u64,
    /// Events that wait for delivery.
    pub waiting: usize,
    /// When a message was last accepted, in seconds since 1970; 0 if none was.
    pub delivered_at: f64,
}

/// The need of a cluster for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// Endpoints for `known_rps`, not rounded.
    pub endpoints: f64,
    /// The rate for which the number of endpoints is known.
    pub known_rps: f64,
    /// The rate for which it is not known: the capacity of an endpoint was never seen.
    pub unknown_rps: f64,
}

impl Need {
    /// Adds the need of another proxy, or of another class.
    pub fn add(&mut self, other: Need) {
        self.endpoints += other.endpoints;
        self.known_rps += other.known_rps;
        self.unknown_rps += other.unknown_rps;
    }

    /// The rate that the cluster should be able to serve.
    #[must_use]
    pub fn rps(self) -> f64 {
        self.known_rps + self.unknown_rps
    }

    /// Whether the cluster is needed at all.
    #[must_use]
    pub fn is_active(self) -> bool {
        self.rps() >= ACTIVE_RPS
    }

    /// Endpoints for the whole rate, not rounded; `None` if no proxy knows the capacity of an endpoint. What one proxy
    /// knows of an endpoint applies to the rates of the others.
    #[must_use]
    pub fn replicas(self) -> Option<f64> {
        if !self.is_active() {
            return Some(0.0);
        }
        (self.known_rps > 0.0).then(|| self.endpoints * self.rps() / self.known_rps)
    }
}

/// The needs of this proxy, by service and permitted cluster. Services without HTTP are not listed, since connections
/// do not show what an endpoint can serve.
#[must_use]
pub fn needs(plan: &Plan, signals: &Signals) -> BTreeMap<(ServiceIndex, ClusterIndex), Need> {
    let mut all: BTreeMap<_, Need> = BTreeMap::new();
    for (class, known) in plan.classes.iter().zip(&signals.classes) {
        if class.l4 {
            continue;
        }
        for (slot, cluster) in class.permitted.clusters.iter().enumerate() {
            let rate = known.wanted_rps.get(slot).copied().unwrap_or_default();
            let need = match known.wanted_endpoints.get(slot).copied().flatten() {
                Some(endpoints) => Need { endpoints, known_rps: rate, ..Need::default() },
                None => Need { unknown_rps: rate, ..Need::default() },
            };
            all.entry((class.service, *cluster)).or_default().add(need);
        }
    }
    all
}

/// The number of replicas after `last`, for this need. The number rises at once, and falls only when the need is a
/// tenth below it, so that a need close to a whole number does not make an autoscaler go back and forth.
#[must_use]
pub fn steady(last: u64, needed: f64) -> u64 {
    let whole = |needed: f64| (needed - ROUNDING).ceil().max(0.0) as u64;
    let (now, with_reserve) = (whole(needed), whole(needed * (1.0 + RESERVE)));
    if now > last || with_reserve < last { now } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(endpoints: f64, known_rps: f64, unknown_rps: f64) -> Need {
        Need { endpoints, known_rps, unknown_rps }
    }

    #[test]
    fn needs_are_added_before_they_are_rounded_and_one_proxys_knowledge_serves_all() {
        let mut sum = Need::default();
        (0..3).for_each(|_| sum.add(need(1.0 / 3.0, 50.0, 0.0)));
        assert_eq!(steady(0, sum.replicas().unwrap()), 1);
        sum.add(need(0.0, 0.0, 150.0));
        assert!((sum.replicas().unwrap() - 2.0).abs() < 1e-9, "{sum:?}");
    }

    #[test]
    fn an_unknown_capacity_is_no_number_and_a_cluster_without_demand_needs_nothing() {
        let unknown = need(0.0, 0.0, 20.0);
        assert_eq!((unknown.replicas(), unknown.is_active()), (None, true));
        assert_eq!(Need::default().replicas(), Some(0.0));
        let dust = need(0.0001, 0.001, 0.0);
        assert_eq!((dust.replicas(), dust.is_active()), (Some(0.0), false));
    }

    #[test]
    fn replicas_rise_at_once_and_do_not_follow_noise_downwards() {
        #[rustfmt::skip]
        let table = [
            // last, needed, next
            (0, 0.3, 1), (1, 3.2, 4), (4, 3.9, 4), (4, 3.7, 4), (4, 2.6, 3), (4, 0.0, 0), (5, 5.004, 5), (5, 5.1, 6),
            (6, 4.95, 6), (6, 4.5, 5), (10, 5.0, 5), (0, f64::NAN, 0),
        ];
        for (last, needed, next) in table {
            assert_eq!(steady(last, needed), next, "{last} replicas, {needed} needed");
        }
        let mut changes = 0;
        let mut replicas = 5;
        for turn in 0..1_000 {
            let next = steady(replicas, 5.0 + 0.2 * f64::from(turn).sin());
            changes += u32::from(next != replicas);
            replicas = next;
        }
        assert_eq!((replicas, changes), (6, 1), "a need of 5 with noise of a fifth");
    }
}
