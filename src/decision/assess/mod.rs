//! The fold from events and samples to signals: the only writer of [`Signals`].
//!
//! [`Assessor`] is plain data. It takes the time, events, and at each sweep samples, and returns
//! signals and the probes that are due. The state of an endpoint or class
//! outlives a change of plan as long as the plan has its name.

mod accounts;
mod blamed;
mod choice;
mod class;
mod cluster;
mod distance;
mod endpoint;
mod inference;
mod lines;
mod place;
mod probes;
mod publish;
mod published;
mod rest;
mod shifted;
mod success;
mod sweep;

use super::change::{Dials, Shift, Temporary};
use super::endpoint::speed::Logs;
use super::exchange::Exchanges;
use super::fleet::lease::Share;
use super::health::Cause;
use super::index::{EndpointIndex, Table};
use super::load::Tally;
use super::plan::{Address, Class, ClassIndex, Cluster, ClusterIndex, Plan};
use super::pool::Told;
use super::report::Report;
use super::shed::PRIORITIES;
use super::signal::State;
use super::units::Timestamp;
use accounts::Accounts;
use class::ClassState;
use cluster::ClusterState;
use lines::Lines;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// An endpoint that discovery found for a cluster.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Found {
    /// The endpoint's address.
    pub address: Address,
    /// The endpoint's configured weight.
    pub weight: u16,
}

/// An input of the fold.
#[derive(Clone, Debug)]
pub enum Event {
    /// A cluster's set of endpoints.
    Endpoints {
        /// The cluster's name.
        cluster: String,
        /// All its endpoints.
        found: Vec<Found>,
    },
    /// A probe succeeded.
    ProbeSucceeded {
        /// The endpoint's id.
        endpoint: u32,
        /// Time to connect.
        rtt: Duration,
        /// Time from the probe's request to its response, if a request was sent.
        answer: Option<Duration>,
        /// The load report that came with the response, if it is trusted.
        report: Option<Report>,
    },
    /// A probe failed.
    ProbeFailed {
        /// The endpoint's id.
        endpoint: u32,
        /// The cause.
        cause: Cause,
    },
    /// A probe has no result, because the prober's own timer was late.
    ProbeVoid {
        /// The endpoint's id.
        endpoint: u32,
    },
    /// An exchange failed at an endpoint.
    ExchangeFailed {
        /// The endpoint's id.
        endpoint: u32,
        /// The cause.
        cause: Cause,
        /// The client of the exchange; `None` for a failed connection attempt, which is no client's fault.
        client: Option<IpAddr>,
    },
    /// An operator's dial for a cluster; `None` removes it.
    DialCluster {
        /// The cluster's name.
        cluster: String,
        /// Percent.
        percent: Option<u8>,
    },
    /// The balance of a service's budget before a restart.
    BudgetLeft {
        /// The service's name.
        service: String,
        /// Dollars.
        usd: f64,
    },
    /// Traffic of a class that the plan no longer has; the service pays for it.
    LateTraffic {
        /// The service's name.
        service: String,
        /// The cluster's name.
        cluster: String,
        /// Exchanges sent.
        exchanges: f64,
        /// Bytes received.
        bytes: f64,
    },
    /// This proxy's shares of the ceilings and budgets that the site's proxies share.
    Shares(Vec<Share>),
    /// Response times from the report of another proxy of the site.
    Told(Vec<Told>),
    /// An operator's dial for a site; `None` removes it.
    DialSite {
        /// The site's name.
        site: String,
        /// Percent.
        percent: Option<u8>,
    },
    /// An operator's shift of a service; `None` removes it.
    Shift {
        /// The service's name.
        service: String,
        /// The shift.
        shift: Option<Shift>,
    },
    /// The change of a running operation, until its moment; `None` ends it now.
    Temporary(Option<Temporary>),
}

impl Event {
    /// For the result of a probe, the endpoint's id.
    fn probed(&self) -> Option<u32> {
        match self {
            Event::ProbeSucceeded { endpoint, .. }
            | Event::ProbeFailed { endpoint, .. }
            | Event::ProbeVoid { endpoint } => Some(*endpoint),
            _ => None,
        }
    }
}

/// Answers of an endpoint since the last sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answers {
    /// Completed exchanges.
    pub count: f64,
    /// The sum of their times to the response head, in seconds.
    pub seconds: f64,
    /// The logarithms of those times, and of abandoned exchanges, which would have taken longer.
    pub logs: Logs,
    /// The mean round trip of handshakes, in seconds; `None` without handshakes.
    pub rtt: Option<f64>,
}

/// The workers' counts since the last sweep.
pub trait Samples {
    /// The tally of a class at its permitted cluster number `slot`.
    fn class(&mut self, class: ClassIndex, slot: usize) -> Tally;
    /// The answers of an endpoint.
    fn endpoint(&mut self, id: u32) -> Answers;
    /// Whether no endpoint of a cluster, of which `first` is the id of the first one, had answers since the last call.
    /// In doubt, `false`.
    fn is_quiet(&mut self, _cluster: ClusterIndex, _first: u32) -> bool {
        false
    }
    /// Copies the exchanges of a class at its permitted cluster number `slot`, one by one.
    fn exchanges(&mut self, class: ClassIndex, slot: usize, into: &mut Exchanges);
    /// Demand of a class, by priority, accepted or shed.
    fn requested(&mut self, class: ClassIndex) -> [f64; PRIORITIES];
}

/// A probe that is due now.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOrder {
    /// The cluster whose settings apply.
    pub cluster: ClusterIndex,
    /// The endpoint's id.
    pub endpoint: u32,
    /// The endpoint's address.
    pub address: Address,
}

/// A change that is reported to the operator.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A cluster changed its state.
    Cluster {
        /// Its name.
        cluster: String,
        /// Its new state.
        state: State,
        /// The cause.
        cause: &'static str,
    },
    /// An endpoint was ejected.
    Ejected {
        /// Its cluster's name.
        cluster: String,
        /// Its address.
        endpoint: Address,
        /// The cause.
        cause: Cause,
    },
    /// An endpoint returned.
    Returned {
        /// Its cluster's name.
        cluster: String,
        /// Its address.
        endpoint: Address,
    },
    /// A service began to spill, or stopped.
    Spilling {
        /// Its name.
        service: String,
        /// Whether it spills now.
        spilling: bool,
    },
}

/// Folds events and samples into signals.
#[derive(Debug)]
pub struct Assessor {
    plan: Arc<Plan>,
    /// Parallel to the plan's clusters.
    clusters: Table<ClusterIndex, ClusterState>,
    /// The plan's clusters by name.
    by_name: BTreeMap<String, ClusterIndex>,
    /// Parallel to the plan's classes.
    classes: Table<ClassIndex, ClassState>,
    site_dials: BTreeMap<String, u8>,
    /// By service.
    shifts: BTreeMap<String, Shift>,
    temporary: Option<Temporary>,
    /// Whether a shift or the temporary change is another one since the last sweep.
    shifts_changed: bool,
    /// What services spent, and their budgets.
    accounts: Accounts,
    lines: Lines,
    ids: BTreeMap<(String, Address), u32>,
    /// Where each endpoint is, by its id. The entry of an endpoint that was removed leads nowhere, or to another one.
    at: Vec<(ClusterIndex, EndpointIndex)>,
    /// By cluster of the plan: the clusters that run the same application.
    same_application: Table<ClusterIndex, Vec<ClusterIndex>>,
    swept: Timestamp,
    /// When the last sweep took place or was skipped.
    looked: Timestamp,
    /// Counts sweeps: classes without traffic take turns.
    turn: usize,
    /// Sweeps that were skipped since the last one.
    skipped: usize,
    /// Sweeps in a row that found neither traffic nor a change.
    quiet: usize,
    /// Which clusters were live at the last sweep, and their dials.
    usable: Vec<(bool, u8)>,
    news: Vec<News>,
    seed: u64,
}

impl Assessor {
    /// An assessor without any history. `seed` scatters probes and ejections between proxies.
    #[must_use]
    pub fn new(plan: Arc<Plan>, seed: u64, now: Timestamp) -> Assessor {
        let mut assessor = Assessor {
            plan: Arc::new(Plan::default()),
            clusters: Table::default(),
            by_name: BTreeMap::new(),
            classes: Table::default(),
            site_dials: BTreeMap::new(),
            shifts: BTreeMap::new(),
            temporary: None,
            shifts_changed: false,
            accounts: Accounts::default(),
            lines: Lines::default(),
            ids: BTreeMap::new(),
            at: Vec::new(),
            same_application: Table::default(),
            swept: now,
            looked: now,
            turn: 0,
            skipped: 0,
            quiet: 0,
            usable: Vec::new(),
            news: Vec::new(),
            seed,
        };
        assessor.adopt(plan);
        assessor
    }

    /// Applies a new plan; the state of names that are no longer in the plan is dropped.
    pub fn adopt(&mut self, plan: Arc<Plan>) {
        let states = std::mem::take(&mut self.clusters);
        let known = self.plan.clusters.iter().zip(states);
        let mut known: BTreeMap<&str, (&Cluster, ClusterState)> =
            known.map(|(of, state)| (of.name.as_str(), (of, state))).collect();
        let kept = |cluster: &Cluster| {
            let Some((before, mut state)) = known.remove(cluster.name.as_str()) else {
                return ClusterState::default();
            };
            if before != cluster {
                state.rest.wake();
            }
            state
        };
        self.clusters = plan.clusters.iter().map(kept).collect();
        let by_name = plan.clusters.enumerated().map(|(index, of)| (of.name.clone(), index));
        self.by_name = by_name.collect();
        for (cluster, state) in self.clusters.enumerated() {
            note_places(&mut self.at, cluster, state);
        }
        let states = std::mem::take(&mut self.classes);
        let known = self.plan.classes.iter().zip(states);
        let mut known: BTreeMap<u64, ClassState> =
            known.map(|(class, state)| (class.id, state)).collect();
        let kept = |class: &Class| {
            let fresh = || ClassState::new(class.permitted.clusters.len());
            known.remove(&class.id).unwrap_or_else(fresh)
        };
        self.classes = plan.classes.iter().map(kept).collect();
        self.shifts.retain(|name, _| plan.services.iter().any(|service| service.name == *name));
        self.accounts.adopt(&self.plan, &plan);
        self.lines.adopt(&plan);
        self.same_application = distance::same_application(&plan);
        self.usable.clear();
        self.plan = plan;
        self.stir();
    }

    /// Folds one event in.
    pub fn fold(&mut self, event: Event, now: Timestamp) {
        let probed = event.probed();
        // Response times of other proxies do not end a rest: they are not this proxy's traffic.
        let ends_rest = !matches!(event, Event::Told(_));
        self.fold_in(event, now);
        // The result of a probe that does not change health does not end a rest.
        let place = probed.and_then(|endpoint| self.locate(endpoint));
        if ends_rest && place.is_none_or(|(cluster, _)| self.clusters[cluster].rest.is_awake()) {
            self.stir();
        }
    }

    fn fold_in(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Endpoints { cluster, found } => self.set_endpoints(&cluster, &found, now),
            Event::ProbeSucceeded { endpoint, rtt, answer, report } => {
                self.probe_succeeded(endpoint, rtt, answer, now);
                if let (Some((cluster, _)), Some(report)) = (self.locate(endpoint), report) {
                    self.clusters[cluster].report = Some((report, now));
                }
            }
            Event::ProbeFailed { endpoint, cause } => self.probe_failed(endpoint, cause, now),
            Event::ProbeVoid { endpoint } => {
                if let Some((cluster, index)) = self.locate(endpoint) {
                    self.clusters[cluster].endpoints[index].probing = false;
                }
            }
            Event::ExchangeFailed { endpoint, cause, client } => {
                self.exchange_failed(endpoint, cause, client, now);
            }
            Event::DialCluster { cluster, percent } => {
                if let Some(state) = self.cluster_mut(&cluster) {
                    state.dial = percent;
                    state.needs_undrain &= percent.is_some();
                }
            }
            Event::BudgetLeft { service, usd } => {
                self.accounts.restore(&service, usd);
            }
            Event::LateTraffic { service, cluster, exchanges, bytes } => {
                let plan = self.plan.clone();
                self.accounts.late(&plan, (&service, &cluster), (exchanges, bytes));
            }
            Event::Shares(shares) => self.take_shares(shares),
            Event::Told(told) => self.hear(&told),
            Event::Shift { service, shift } => {
                self.shifts_changed = true;
                match shift {
                    Some(shift) => self.shifts.insert(service, shift),
                    None => self.shifts.remove(&service),
                };
            }
            Event::Temporary(temporary) => {
                self.shifts_changed = true;
                self.temporary = temporary;
            }
            Event::DialSite { site, percent: Some(percent) } => {
                self.site_dials.insert(site, percent);
            }
            Event::DialSite { site, percent: None } => {
                self.site_dials.remove(&site);
                // Undraining a site applies to all clusters of that site.
                for (cluster, state) in self.plan.clusters.iter().zip(&mut self.clusters) {
                    state.needs_undrain &= cluster.site != site;
                }
            }
        }
    }

    fn hear(&mut self, all: &[Told]) {
        for told in all {
            let Some(&cluster) = self.by_name.get(&told.cluster) else { continue };
            if self.clusters[cluster].fingerprint(&self.plan.host) != told.endpoints {
                continue;
            }
            for (class, state) in self.plan.classes.iter().zip(&mut self.classes) {
                if class.l4 || self.plan.services[class.service].name != told.service {
                    continue;
                }
                let slot = class.permitted.clusters.iter().position(|one| *one == cluster);
                if let Some(slot) = slot {
                    state.hear(slot, &told.observed);
                }
            }
        }
    }

    fn set_endpoints(&mut self, name: &str, found: &[Found], now: Timestamp) {
        let Some(&index) = self.by_name.get(name) else { return };
        let (cluster, state) = (&self.plan.clusters[index], &mut self.clusters[index]);
        let ids = &mut self.ids;
        let id_of = |address: &Address| {
            let next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            *ids.entry((name.to_owned(), address.clone())).or_insert(next)
        };
        if state.set_endpoints(cluster, found, id_of, self.seed, now) {
            note_places(&mut self.at, index, state);
        }
    }

    fn cluster_mut(&mut self, name: &str) -> Option<&mut ClusterState> {
        self.clusters.get_mut(*self.by_name.get(name)?)
    }

    /// Where an endpoint is; `None` if it was removed.
    fn locate(&self, id: u32) -> Option<(ClusterIndex, EndpointIndex)> {
        let (cluster, endpoint) = *self.at.get(id as usize)?;
        let there = self.clusters.get(cluster)?.endpoints.get(endpoint)?;
        (there.id == id).then_some((cluster, endpoint))
    }

    /// Whether anything changed that should take effect at once.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The dials and shifts set by an operator.
    #[must_use]
    pub fn dials(&self) -> Dials {
        let of_clusters = self.plan.clusters.iter().zip(&self.clusters);
        let dialled = of_clusters.filter_map(|(of, state)| Some((of.name.clone(), state.dial?)));
        let (sites, shifts) = (self.site_dials.clone(), self.shifts.clone());
        Dials { clusters: dialled.collect(), sites, shifts }
    }

    /// The changes since the last call, oldest first.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

/// Notes where the endpoints of a cluster are.
fn note_places(
    at: &mut Vec<(ClusterIndex, EndpointIndex)>,
    cluster: ClusterIndex,
    state: &ClusterState,
) {
    for (index, endpoint) in state.endpoints.enumerated() {
        let id = endpoint.id as usize;
        if at.len() <= id {
            at.resize(id + 1, (cluster, index));
        }
        at[id] = (cluster, index);
    }
}

#[cfg(test)]
mod overload;
#[cfg(test)]
mod returns;
#[cfg(test)]
mod world;
