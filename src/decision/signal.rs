//! What we believe of each cluster, endpoint and class at one moment. Immutable once published.

use super::endpoint::{Cost, Wheel};
use super::plan::{Address, ClassIndex, ClusterIndex};
use super::report::Report;
use super::shed::Shed;
use super::units::Timestamp;
use std::sync::Arc;

/// All beliefs of one moment, parallel to the plan's clusters and classes.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// When they were formed.
    pub at: Timestamp,
    /// One for each cluster of the plan.
    pub clusters: Vec<Arc<ClusterSignals>>,
    /// One for each class of the plan.
    pub classes: Vec<Arc<ClassSignals>>,
    /// Dollars left by service of the plan, where it has a budget.
    pub budgets: Vec<Option<f64>>,
}

/// The state of a cluster, as the API names it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// All endpoints are usable.
    #[default]
    Up,
    /// Some endpoints are down, or exchanges fail.
    Degraded,
    /// Nothing is usable.
    Down,
    /// Its dial is at 0.
    Draining,
}

impl State {
    /// The word the API uses.
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

/// What we believe of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSignals {
    /// Its state.
    pub state: State,
    /// Why it is not up: a cause's label, `no_endpoints`, `dial`, or nothing.
    pub cause: &'static str,
    /// Effective dial in percent.
    pub dial: u8,
    /// Round trip in seconds, when measured.
    pub rtt: Option<f64>,
    /// Distance in seconds, when measured: the round trip and what lies behind a middlebox that answers for it.
    pub distance: Option<f64>,
    /// Service time in seconds, once it was learned or reported.
    pub service: Option<f64>,
    /// Queue delay in seconds, where it can be told.
    pub queue: Option<f64>,
    /// What one more exchange is expected to take in all, in seconds: what the decision compares, and the queue.
    pub total: Option<f64>,
    /// The class that sends it the most: the one that `service`, `total` and the reasons are of.
    pub class: Option<ClassIndex>,
    /// Exchanges a second.
    pub requests_per_s: f64,
    /// Share of exchanges that did not fail, where there were some.
    pub success: Option<f64>,
    /// Since when no endpoint of it has been usable.
    pub down_since: Option<Timestamp>,
    /// Until when it is held back after its return, by `failback.hold`.
    pub held_until: Option<Timestamp>,
    /// The part of its share that its return ramp lets through; 1 when it is not returning.
    pub return_share: f64,
    /// Part of all exchanges of this proxy.
    pub share: f64,
    /// Dollars an hour.
    pub usd_per_hour: f64,
    /// Its endpoints.
    pub endpoints: Vec<EndpointSignals>,
    /// Indices of those that may be used; if none was ever probed, or too few are up, all.
    pub usable: Vec<usize>,
    /// Indices of those that are back and had no exchange since.
    pub returned: Vec<usize>,
    /// Names the set of endpoints: another set, another number.
    pub members: u64,
    /// Turns of the usable ones.
    pub wheel: Wheel,
}

impl ClusterSignals {
    /// Whether exchanges may be sent to the endpoint with this id: it is up, or used all the same.
    #[must_use]
    pub fn uses(&self, id: u32) -> bool {
        let known = self.endpoints.iter().position(|endpoint| endpoint.id == id);
        known.is_some_and(|index| self.endpoints[index].up || self.usable.contains(&index))
    }
}

/// What we believe of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSignals {
    /// Identity for the life of the process: one per cluster name and address.
    pub id: u32,
    /// Where it is.
    pub address: Address,
    /// Listed weight times slow start, 0.1 at least.
    pub weight: f64,
    /// Whether it may be used.
    pub up: bool,
    /// Round trip in seconds, when measured.
    pub rtt: Option<f64>,
    /// Typical response time in seconds: the geometric mean.
    pub latency: f64,
    /// How slow it is beside its siblings, failures included; 1 where no difference is significant.
    pub slowness: f64,
    /// The share of its turns it takes although a sibling would be quicker, and the seconds after which it
    /// takes one in any case.
    pub trickle: (f64, f64),
    /// How many times it has come back into use.
    pub returns: u32,
    /// What a pick weighs it by.
    pub cost: Cost,
    /// What last went wrong.
    pub last_error: Option<&'static str>,
}

/// What we believe of a class: whom to try, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassSignals {
    /// Live permitted clusters, nearest first.
    pub choices: Vec<Choice>,
    /// All permitted clusters, nearest first: those that are down too.
    pub order: Vec<ClusterIndex>,
    /// Scores for explaining, parallel to `order`.
    pub scores: Vec<Score>,
    /// Exchanges a second.
    pub demand_rps: f64,
    /// Share of exchanges that went beyond the nearest live cluster because of load.
    pub spill: f64,
    /// Share of this class's exchanges by cluster, parallel to `order`.
    pub shares: Vec<f64>,
    /// What the clusters of this site have to do, for edges of others.
    pub report: Option<Report>,
    /// Exchanges a second a minute from now, once that can be told.
    pub forecast_rps: Option<f64>,
    /// Dollars spent since the start by cluster, parallel to the class's permitted ones.
    pub spent_usd: Vec<f64>,
    /// Whether a live cluster was left out because there is no money for it.
    pub unfunded: bool,
    /// What is dropped on purpose, since all clusters are overloaded.
    pub shed: Shed,
    /// What each cluster should be able to serve a minute from now, in exchanges a second, parallel to the
    /// class's permitted ones.
    pub wanted_rps: Vec<f64>,
    /// The endpoints that takes, not rounded, where it is known what one can serve.
    pub wanted_endpoints: Vec<Option<f64>>,
}

/// The score of a cluster: all that the decision used. Seconds, unless it says share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Round trip, when measured.
    pub rtt: Option<f64>,
    /// Distance, when measured: the round trip and what lies behind a middlebox.
    pub distance: Option<f64>,
    /// Service time, once it was learned or reported.
    pub service: Option<f64>,
    /// Money as distance.
    pub price: f64,
    /// What failures count for, and connections that have to be made.
    pub penalty: f64,
    /// Queue delay, where it can be told.
    pub queue: Option<f64>,
    /// The queue that is worth accepting here.
    pub tolerates: f64,
    /// Share it accepts of what reaches it.
    pub accept: f64,
    /// Whether it is live.
    pub live: bool,
}

impl Score {
    /// What one more exchange is expected to take here, money and failures counted in; `None` before distance
    /// and service time are known.
    #[must_use]
    pub fn total(&self) -> Option<f64> {
        let queue = self.queue.unwrap_or(0.0);
        Some(self.distance? + self.service? + self.price + self.penalty + queue)
    }
}

/// One live candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Which cluster.
    pub cluster: ClusterIndex,
    /// Its place in the class's permitted list.
    pub slot: usize,
    /// Share it accepts of what reaches it.
    pub share: f64,
    /// Why an exchange that gets here gets here.
    pub why: Why,
    /// Whether a connection should be ready there: a nearer one is beginning to queue.
    pub warm: bool,
}

/// Why a cluster was chosen.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// It is the nearest.
    Nearest,
    /// Nearer ones are loaded.
    Spill,
    /// Nearer ones are down, fail, or failed this exchange.
    Failover,
    /// The nearest is on its way back: this is its growing share, or what it leaves to the next.
    Returning,
    /// Nearer ones are dialled down.
    Dial,
    /// It is the only permitted one.
    Only,
    /// The client was served there before.
    Affinity,
    /// All that may serve are down, and this one's endpoints are tried all the same.
    Panic,
    /// An earlier attempt at another cluster is late, and still waits.
    Hedge,
}

impl Why {
    /// All of them, for metrics.
    pub const ALL: [Why; 9] = [
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

    /// The word the API, log, metrics and headers use.
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

    /// What speaks against a live cluster that an exchange passed over for this reason.
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
