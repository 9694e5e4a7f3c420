//! The state of one endpoint: its health, its speed, and what its cluster publishes of it.

use super::blamed::Blamed;
use super::{Found, News};
use crate::endpoint::Cost;
use crate::endpoint::speed::Speed;
use crate::health::{Cause, Health};
use crate::latency::Distance;
use crate::outlier::Standing;
use crate::plan::{Address, Cluster};
use crate::signal::EndpointSignals;
use crate::units::Timestamp;
use std::time::Duration;

/// The state of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) id: u32,
    pub(super) address: Address,
    pub(super) weight: u16,
    pub(super) health: Health,
    pub(super) rtt: Distance,
    pub(super) answer: Distance,
    pub(super) speed: Speed,
    /// Failures since the last sweep.
    pub(super) failures: f64,
    /// Failures since the last sweep, each client counted once, for the comparison with the answers: if most
    /// exchanges fail, a few answers do not end a series of failures.
    pub(super) blamed: Blamed,
    pub(super) standing: Standing,
    /// Exchanges answered or failed, a second.
    pub(super) requests_per_s: f64,
    /// Whether the endpoint was reported as ejected, the number of returns since, and whether it has answered nothing
    /// since the last one.
    out: bool,
    returns: u32,
    pub(super) unused: bool,
    pub(super) probe_due: Timestamp,
    pub(super) probing: bool,
    /// The time of the last round-trip sample from an exchange's handshake.
    rtt_heard: Timestamp,
}

/// Exchanges a second below which an endpoint counts as out of use.
const REQUESTS_FEW: f64 = 0.01;
/// Interval between two samples of distance from exchanges.
const RTT_INTERVAL: Duration = Duration::from_millis(250);

impl EndpointState {
    /// A new endpoint, whose first probe is due at `probe_due`.
    pub(super) fn new(id: u32, found: &Found, seed: u64, probe_due: Timestamp) -> EndpointState {
        EndpointState {
            id,
            address: found.address.clone(),
            weight: found.weight,
            health: Health::new(seed),
            rtt: Distance::default(),
            answer: Distance::default(),
            speed: Speed::default(),
            failures: 0.0,
            blamed: Blamed::default(),
            standing: Standing::default(),
            requests_per_s: 0.0,
            out: false,
            returns: 0,
            unused: false,
            probe_due,
            probing: false,
            rtt_heard: Timestamp::START,
        }
    }

    /// The news that the endpoint was ejected, unless that was reported already.
    pub(super) fn ejected(&mut self, cluster: &str, cause: Cause) -> Option<News> {
        let news =
            News::Ejected { cluster: cluster.to_owned(), endpoint: self.address.clone(), cause };
        (!std::mem::replace(&mut self.out, true)).then_some(news)
    }

    /// The news that the endpoint returned, if it did and was reported as ejected. Its speed and
    /// its failures are forgotten: it may be another process.
    pub(super) fn returned(&mut self, cluster: &str, now: Timestamp) -> Option<News> {
        if !self.out || !self.health.is_usable(now) {
            return None;
        }
        self.out = false;
        self.unused = true;
        self.returns = self.returns.wrapping_add(1);
        self.speed = Speed::default();
        self.standing = Standing::default();
        Some(News::Returned { cluster: cluster.to_owned(), endpoint: self.address.clone() })
    }

    /// Whether the first probes have decided its state.
    pub(super) fn is_judged(&self, now: Timestamp) -> bool {
        let usable = self.health.is_usable(now);
        self.health.is_probed() && (!usable || self.rtt.is_settled())
    }

    /// Folds in the round trip of exchanges' own handshakes, at most every 250 ms, so that probes keep their weight.
    pub(super) fn hear_rtt(&mut self, rtt: Option<f64>, now: Timestamp) {
        if let Some(rtt) = rtt.filter(|_| now.since(self.rtt_heard) >= RTT_INTERVAL) {
            self.rtt_heard = now;
            self.rtt.observe(rtt);
        }
    }

    /// Whether the endpoint is out of use, and its state does not change by time alone: a sweep would find nothing new.
    pub(super) fn is_settled(&self, cluster: &Cluster, now: Timestamp) -> bool {
        self.requests_per_s < REQUESTS_FEW
            && self.health.is_settled(cluster.slow_start, now)
            && self.speed.is_settled()
    }

    pub(super) fn believe(
        &self,
        cluster: &Cluster,
        turns_per_s: f64,
        now: Timestamp,
    ) -> EndpointSignals {
        let ramp = self.health.slow_start(cluster.slow_start, now);
        let rtt = self.rtt.median();
        EndpointSignals {
            id: self.id,
            address: self.address.clone(),
            weight: (f64::from(self.weight) * ramp).max(0.1),
            up: self.health.is_usable(now),
            rtt,
            latency: self.speed.typical().or(rtt).unwrap_or(0.001),
            slowness: self.speed.slowness(),
            trickle: self.speed.trickle(turns_per_s),
            returns: self.returns,
            cost: Cost::default(),
            requests_per_s: self.requests_per_s,
            last_error: self.health.last_error(),
        }
    }
}
