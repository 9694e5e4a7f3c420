//! The estimates of each cluster, endpoint and class at one moment. Immutable once published.

use super::capacity::Learned;
use super::capacity_group::{GroupIndex, GroupSignals};
use super::endpoint::{Cost, Wheel};
use super::health::Cause;
use super::index::{EndpointIndex, Table};
use super::plan::{Address, ClassIndex, ClusterIndex, Plan, ServiceIndex};
use super::pool::Recent;
use super::price::Spend;
use super::report::Report;
use super::shed::Shed;
use super::units::Timestamp;
use std::sync::Arc;

/// All estimates of one moment, parallel to the plan's clusters and classes.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// The moment of the estimates.
    pub at: Timestamp,
    /// One entry for each cluster of the plan.
    pub clusters: Table<ClusterIndex, Arc<ClusterSignals>>,
    /// One entry for each capacity group of the plan.
    pub groups: Table<GroupIndex, GroupSignals>,
    /// One entry for each class of the plan.
    pub classes: Table<ClassIndex, Arc<ClassSignals>>,
    /// The balance in dollars by service of the plan, if the service has a budget.
    pub budgets: Table<ServiceIndex, Option<f64>>,
    /// The level of the budget's bucket by service of the plan, 0 to 1, if the service has a budget.
    pub budget_levels: Table<ServiceIndex, Option<f64>>,
    /// This proxy's part of the budget by service of the plan, 0 to 1: less than 1 where the proxies of the site share it.
    pub budget_parts: Table<ServiceIndex, Option<f64>>,
    /// Dollars that may be spent until the next sweep, by service of the plan: the balance, less the expected cost of the
    /// exchanges in flight. `None` without a budget.
    pub allowances: Table<ServiceIndex, Option<f64>>,
    /// The traffic since the start and its cost by service of the plan, parallel to the service's clusters.
    pub spent: Table<ServiceIndex, Arc<Vec<Spend>>>,
    /// Clusters to which a worker should open connections in advance, because exchanges begin to queue at a nearer
    /// cluster. One entry for each such class.
    pub warm: Vec<ClusterIndex>,
}

impl Signals {
    /// The name of a cluster's capacity group, if the group is full.
    #[must_use]
    pub fn full_group<'a>(&self, plan: &'a Plan, cluster: ClusterIndex) -> Option<&'a str> {
        let group = plan.clusters.get(cluster)?.group?;
        let is_full = self.groups.get(group).is_some_and(|signals| signals.full);
        Some(plan.groups.get(group)?.name.as_str()).filter(|_| is_full)
    }
}

/// The state of a cluster, as the API names it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// All endpoints are usable.
    #[default]
    Up,
    /// Some endpoints are down, or exchanges fail.
    Degraded,
    /// No endpoint is usable.
    Down,
    /// The cluster's dial is at 0.
    Draining,
}

impl State {
    /// The word in the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Degraded => "degraded",
            State::Down => "down",
            State::Draining => "draining",
        }
    }
}

/// The estimates of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSignals {
    /// The cluster's state.
    pub state: State,
    /// Why the cluster is not up: a cause's label, `no_endpoints`, `dial`, `failback_manual`, `failback_hold`, or empty.
    pub cause: &'static str,
    /// Exchanges at once, over the whole process: the configured ceiling, or this proxy's share of it.
    pub ceiling: Option<u32>,
    /// Effective dial in percent.
    pub dial: u8,
    /// The dial that an operator set for the cluster's site, in percent; 100 where none is set.
    pub site_dial: u8,
    /// Round trip in seconds, when measured.
    pub rtt: Option<f64>,
    /// Distance in seconds, when measured: the round trip, and the path behind a middlebox that answers for the cluster.
    pub distance: Option<f64>,
    /// Service time in seconds, once learned or reported.
    pub service: Option<f64>,
    /// Queue delay in seconds, if known.
    pub queue: Option<f64>,
    /// Expected time of one more exchange in seconds: the score that the decision compares, plus the
    /// queue.
    pub total: Option<f64>,
    /// The class that sends most to this cluster; `service`, `total` and the reasons belong to it.
    pub class: Option<ClassIndex>,
    /// Exchanges a second.
    pub requests_per_s: f64,
    /// Share of exchanges that did not fail; `None` without exchanges.
    pub success: Option<f64>,
    /// The moment since which no endpoint of the cluster has been usable.
    pub down_since: Option<Timestamp>,
    /// The end of the hold after a return, by `failback.hold`.
    pub held_until: Option<Timestamp>,
    /// Whether the cluster has returned and `failback.mode: manual` keeps it out until an operator undrains it.
    pub awaits_undrain: bool,
    /// The part of its share that the return ramp admits; 1 if the cluster is not returning.
    pub return_share: f64,
    /// Share of all exchanges of this proxy.
    pub share: f64,
    /// Dollars an hour.
    pub usd_per_hour: f64,
    /// The cluster's endpoints. Shared by successive signals while they do not change, as are `usable` and `wheel`.
    pub endpoints: Arc<Table<EndpointIndex, EndpointSignals>>,
    /// Indices of the usable endpoints, in ascending order; all endpoints if none was ever probed, or too few are up.
    pub usable: Arc<[EndpointIndex]>,
    /// Indices of endpoints that returned and have had no exchange since.
    pub returned: Vec<EndpointIndex>,
    /// Identifies the set of endpoints: another set has another number.
    pub members: u64,
    /// Turns of the usable endpoints.
    pub wheel: Arc<Wheel>,
}

impl ClusterSignals {
    /// Why the cluster is not live: the rule of `failback` that keeps it out, or its state.
    #[must_use]
    pub fn objection(&self) -> &'static str {
        match self.cause {
            "failback_hold" | "failback_manual" => self.cause,
            _ => self.state.label(),
        }
    }

    /// Whether exchanges may be sent to an endpoint: the endpoint is up, or all endpoints are used because too few
    /// are up.
    #[must_use]
    pub fn uses(&self, endpoint: EndpointIndex) -> bool {
        self.endpoints.get(endpoint).is_some_and(|known| known.up || self.is_usable(endpoint))
    }

    /// Whether an endpoint is one of the usable endpoints.
    #[must_use]
    pub fn is_usable(&self, endpoint: EndpointIndex) -> bool {
        self.usable.binary_search(&endpoint).is_ok()
    }
}

/// The estimates of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSignals {
    /// Identity for the life of the process: one per cluster name and address.
    pub id: u32,
    /// The endpoint's address.
    pub address: Address,
    /// Configured weight times slow start, at least 0.1.
    pub weight: f64,
    /// Whether the endpoint may be used.
    pub up: bool,
    /// Round trip in seconds, when measured.
    pub rtt: Option<f64>,
    /// Typical response time in seconds: the geometric mean.
    pub latency: f64,
    /// Response time relative to the siblings, failures included; 1 if the difference is not
    /// significant.
    pub slowness: f64,
    /// The share of its turns that the endpoint keeps although a sibling is faster, and the seconds after which it
    /// gets an exchange in any case.
    pub trickle: (f64, f64),
    /// How many times the endpoint was ejected and returned.
    pub returns: u32,
    /// The weight that a pick uses.
    pub cost: Cost,
    /// Exchanges a second, as a mean over about a second; failed ones included.
    pub requests_per_s: f64,
    /// The last failure of a probe or an exchange, and when it was.
    pub last_error: Option<(Cause, Timestamp)>,
}

/// The estimates of a class: the clusters to try, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassSignals {
    /// Live permitted clusters, nearest first.
    pub choices: Vec<Choice>,
    /// All permitted clusters, nearest first, including those that are down.
    pub order: Vec<ClusterIndex>,
    /// Scores for explanations, parallel to `order`.
    pub scores: Vec<Score>,
    /// The shift of the service's traffic, if there is one between two clusters of this class.
    pub shift: Option<ShiftSignals>,
    /// Exchanges a second.
    pub demand_rps: f64,
    /// The share of exchanges that spilled: load kept them from the nearest live cluster.
    pub spill: f64,
    /// Share of this class's exchanges by cluster, parallel to `order`.
    pub shares: Vec<f64>,
    /// The load of this site's clusters, as reported to other edges.
    pub report: Option<Report>,
    /// Forecast of exchanges a second after the lead time, by default a minute from now, once known.
    pub forecast_rps: Option<f64>,
    /// The rate that limits the nearest live cluster after a queue, in exchanges a second; `None` if something else does.
    pub bound_rps: Option<f64>,
    /// Whether a live cluster was left out because the budget is spent.
    pub unfunded: bool,
    /// The exchanges that are shed while all clusters are overloaded.
    pub shed: Shed,
    /// The rate that each cluster should be able to serve after the lead time, in exchanges a second, parallel to the
    /// class's permitted clusters.
    pub wanted_rps: Vec<f64>,
    /// The number of endpoints for that rate, not rounded, if the capacity of one endpoint is known.
    pub wanted_endpoints: Vec<Option<f64>>,
    /// What each cluster was observed to serve at most, parallel to the class's permitted clusters.
    pub learned: Vec<Learned>,
    /// The newest response times for the other proxies of the site, parallel to the class's permitted clusters; empty
    /// unless they share them.
    pub recent: Vec<Recent>,
}

/// A part of a service's traffic that goes to another cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShiftSignals {
    /// The cluster that gives traffic away.
    pub from: ClusterIndex,
    /// The cluster that gets the traffic.
    pub to: ClusterIndex,
    /// Percent.
    pub percent: u8,
    /// Whether the target is not live, so that the shift has no effect now.
    pub rests: bool,
}

/// The score of a cluster: all inputs of the decision. Seconds, except shares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Round trip, when measured.
    pub rtt: Option<f64>,
    /// Distance, when measured: the round trip, and the path behind a middlebox.
    pub distance: Option<f64>,
    /// Service time, once learned or reported.
    pub service: Option<f64>,
    /// Price, as a distance.
    pub price: f64,
    /// Penalties for failures and for new connections.
    pub penalty: f64,
    /// Queue delay, if known.
    pub queue: Option<f64>,
    /// The queue that this cluster may have before exchanges spill.
    pub tolerates: f64,
    /// The share of the exchanges offered to the cluster that the cluster accepts.
    pub accept: f64,
    /// Whether the cluster is live.
    pub live: bool,
}

impl Score {
    /// The expected time of one more exchange at the cluster, price and failures included; `None` before distance and
    /// service time are known.
    #[must_use]
    pub fn total(&self) -> Option<f64> {
        let queue = self.queue.unwrap_or(0.0);
        Some(self.distance? + self.service? + self.price + self.penalty + queue)
    }
}

/// One live candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The cluster.
    pub cluster: ClusterIndex,
    /// The cluster's position in the class's permitted list.
    pub slot: usize,
    /// The share of the exchanges offered to the cluster that the cluster accepts.
    pub share: f64,
    /// The reason for which an exchange is sent to this cluster.
    pub why: Why,
    /// Whether connections to this cluster should be opened in advance, because exchanges begin to queue at a nearer
    /// cluster. See [`Signals::warm`].
    pub warm: bool,
    /// Dollars that an exchange is expected to cost there, if a budget limits them; otherwise 0.
    pub usd: f64,
}

/// Why a cluster was chosen.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// The cluster is the nearest.
    Nearest,
    /// Nearer clusters are loaded.
    Spill,
    /// Nearer clusters are down, fail, or failed this exchange.
    Failover,
    /// The nearest cluster is returning: the exchange belongs to its growing share, or to the rest for the next
    /// cluster.
    Returning,
    /// Nearer clusters are dialled down.
    Dial,
    /// The cluster is the only permitted one.
    Only,
    /// Affinity: the cluster served this client before.
    Affinity,
    /// All permitted clusters are down; this cluster's endpoints are tried anyway.
    Panic,
    /// Hedge: an earlier attempt at another cluster is slow and still in flight.
    Hedge,
}

impl Why {
    /// All reasons, for metrics.
    pub const ALL: &[Why] = &[
        Why::Nearest,
        Why::Spill,
        Why::Failover,
        Why::Returning,
        Why::Dial,
        Why::Only,
        Why::Affinity,
        Why::Panic,
        Why::Hedge,
    ];

    /// The word in the API, logs, metrics and headers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Why::Nearest => "nearest",
            Why::Spill => "spill",
            Why::Failover => "failover",
            Why::Returning => "returning",
            Why::Dial => "dial",
            Why::Only => "only",
            Why::Affinity => "affinity",
            Why::Panic => "panic",
            Why::Hedge => "hedge",
        }
    }

    /// Why an exchange with this reason passed over a nearer live cluster.
    #[must_use]
    pub fn objection(self) -> &'static str {
        match self {
            Why::Nearest | Why::Only | Why::Spill => "load",
            Why::Failover | Why::Panic => "failed",
            Why::Returning => "returning",
            Why::Dial => "dial",
            Why::Affinity => "affinity",
            Why::Hedge => "late",
        }
    }
}
