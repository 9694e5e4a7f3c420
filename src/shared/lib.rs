//! All state that threads share.
//!
//! One pointer, one writer: the control thread publishes a [`View`], workers load it once per
//! exchange. Samples flow back through single-writer slots, which the control thread sweeps; only
//! the in-flight gauges have several writers, because a ceiling must hold for the whole process.

use tidegate_decision as decision;
use tidegate_http as http;
use tidegate_os as os;
use tidegate_policy as policy;
use tidegate_telemetry as telemetry;
use tidegate_tls as tls;

mod clients;

pub use clients::{Clients, OfClient};

pub mod decided;

pub use decided::Decision;

mod endpoint;

pub use endpoint::{Activity, LiveEndpoint};

mod gauge;

pub use gauge::{Ceiling, Counted, Gauge, Held};

mod group;

pub use group::LiveGroup;

mod head_limits;

pub use head_limits::head_limits;

mod interned;

pub use interned::{Interned, LiveClusters, Places};

mod offenders;

pub use offenders::Offenders;

mod purse;

pub use purse::Purse;

mod queue;

pub use queue::{For, Queue, Turn, any_waits};

mod report;

pub use report::ReportCell;

mod ring;

pub use ring::{Ring, Ticket};

pub mod seqlock;

mod sweep;

pub use sweep::{LateTraffic, Sweep};

pub mod trace;
pub mod violation;

pub use trace::Trace;

use crate::decision::assess::Event;
use crate::decision::index::{EndpointIndex, Table};
use crate::decision::plan::{Class, ClassIndex, ClusterIndex, Plan, ServiceIndex};
use crate::decision::shed::PRIORITIES;
use crate::decision::signal::Signals;
use crate::telemetry::cells::Registry;
use crate::telemetry::counter::Count;
use crate::tls::challenges::Challenges;
use crate::tls::store::Store;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::{self, AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{broadcast, mpsc};

/// A plan and the signals of one moment; both are of the same generation.
#[derive(Debug)]
pub struct View {
    /// The compiled configuration.
    pub plan: Arc<Plan>,
    /// Certificates and keys for the plan's listeners and clusters.
    pub tls: Arc<Store>,
    /// Rate limits, credentials and other policies of the plan, with their state.
    pub policies: Arc<policy::Store>,
    /// The current signals of clusters and classes.
    pub signals: Signals,
    /// Live counters, parallel to the plan's clusters.
    pub clusters: LiveClusters,
    /// Where each endpoint is.
    pub places: Arc<Places>,
    /// Slots for samples, one table for each worker.
    pub slots: Arc<Slots>,
    /// Increases with every plan.
    pub generation: u64,
}

impl View {
    /// Where the endpoint with this id is; `None` if there is none.
    #[must_use]
    pub fn place(&self, endpoint: u32) -> Option<(ClusterIndex, EndpointIndex)> {
        self.places.get(&endpoint).copied()
    }

    /// Whether exchanges may be sent to the endpoint with this id: see [`uses`](crate::decision::signal::ClusterSignals::uses).
    #[must_use]
    pub fn uses(&self, endpoint: u32) -> bool {
        self.place(endpoint).is_some_and(|(cluster, index)| {
            self.signals.clusters.get(cluster).is_some_and(|beliefs| beliefs.uses(index))
        })
    }
}

/// The counters of a cluster; they outlive views.
#[derive(Clone, Debug, Default)]
pub struct LiveCluster {
    /// Exchanges in flight.
    pub in_flight: Arc<Gauge>,
    /// Open connections.
    pub connections: Arc<Gauge>,
    /// Idle connections.
    pub idle: Arc<Gauge>,
    /// Exchanges waiting for a connection.
    pub pending: Arc<Gauge>,
    /// Exchanges that wait because the cluster has reached its limit of connections.
    pub connection_queue: Arc<Queue>,
    /// Concurrent exchanges; the limit may change at any time if the site's proxies share it.
    pub ceiling: Arc<Ceiling>,
    /// Exchanges that wait because the cluster has reached its limit of exchanges in flight.
    pub queue: Arc<Queue>,
    /// The counters of its capacity group.
    pub group: Option<Arc<LiveGroup>>,
    /// Whether its endpoints have had samples.
    pub activity: Arc<Activity>,
    /// Parallel to the endpoints of the cluster's signals.
    pub endpoints: Arc<Table<EndpointIndex, Arc<LiveEndpoint>>>,
}

impl LiveCluster {
    /// Wakes the first waiter of each queue.
    pub fn wake_waiting(&self) {
        self.connection_queue.wake_first();
        self.queue.wake_first();
        if let Some(group) = &self.group {
            group.queue.wake_first();
        }
    }

    /// Whether the cluster and its capacity group are below their limits.
    #[must_use]
    pub fn has_capacity(&self) -> bool {
        self.ceiling.get().is_none_or(|most| self.in_flight.get() < most)
            && self.group.as_ref().is_none_or(|group| group.has_capacity())
    }

    /// Whether the cluster takes a new exchange. New exchanges do not overtake those in a queue, unless one of them
    /// `has_turn`.
    #[must_use]
    pub fn takes(&self, has_turn: bool) -> bool {
        let is_empty = || {
            self.queue.is_empty() && self.group.as_ref().is_none_or(|group| group.queue.is_empty())
        };
        self.has_capacity() && (has_turn || is_empty())
    }

    /// The queue that a new exchange joins: the cluster's own, or its group's; `None` if the cluster takes it at once.
    #[must_use]
    pub fn queue_of_full(&self) -> Option<&Arc<Queue>> {
        let is_full = |most| self.in_flight.get() >= most || !self.queue.is_empty();
        if self.ceiling.get().is_some_and(is_full) {
            return Some(&self.queue);
        }
        let group = self.group.as_ref()?;
        (!group.has_capacity() || !group.queue.is_empty()).then_some(&group.queue)
    }
}

/// Slots for samples: by worker, then class, then permitted cluster. A class that two plans have in common keeps its
/// counters, so that exchanges in flight during a reload are counted to their end.
#[derive(Debug, Default)]
pub struct Slots {
    workers: Vec<Table<ClassIndex, Arc<OfClass>>>,
    /// What services may spend.
    purses: Table<ServiceIndex, Purse>,
}

/// Samples of one class from one worker.
#[derive(Debug, Default)]
struct OfClass {
    /// The class's id.
    id: u64,
    /// Requested exchanges, by priority.
    requested: DemandCounts,
    clusters: Vec<Slot>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct DemandCounts([Count; PRIORITIES]);

/// Samples of one class at one cluster from one worker.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Slot {
    /// Exchanges for which the cluster was considered.
    pub offered: Count,
    /// Exchanges sent.
    pub accepted: Count,
    /// Exchanges sent that were retries.
    pub retried: Count,
    /// Exchanges sent that needed a new connection.
    pub dialled: Count,
    /// Exchanges whose response head arrived.
    pub completed: Count,
    /// Exchanges that failed.
    pub failed: Count,
    /// Exchanges whose client left before the response head.
    pub abandoned: Count,
    /// Microseconds from sending to abandonment, summed over abandoned exchanges.
    pub abandoned_micros: Count,
    /// Exchanges that failed through the client's fault and count for neither success nor failure.
    pub excused: Count,
    /// Microseconds from sending to failure, summed over excused exchanges.
    pub excused_micros: Count,
    /// Microseconds from sending to the response head, summed over completed exchanges.
    pub micros: Count,
    /// Squares of those microseconds, summed.
    pub micros_squared: Count,
    /// Bytes received from the cluster.
    pub bytes: Count,
    /// The newest load report that came with a response.
    pub report: ReportCell,
    /// Single exchanges; allocated at the first exchange.
    pub ring: OnceLock<Ring>,
}

impl Slots {
    /// Empty slots for a plan.
    #[must_use]
    pub fn new(plan: &Plan, workers: usize) -> Slots {
        let table = || plan.classes.iter().map(|class| Arc::new(OfClass::new(class))).collect();
        Slots { workers: (0..workers).map(|_| table()).collect(), purses: purses(plan) }
    }

    /// The slots for the next plan.
    #[must_use]
    pub fn carried(&self, plan: &Plan) -> Slots {
        let next = |classes: &Table<ClassIndex, Arc<OfClass>>| {
            let known: BTreeMap<u64, &Arc<OfClass>> =
                classes.iter().map(|class| (class.id, class)).collect();
            let carried = |class: &Class| match known.get(&class.id) {
                Some(known) => (*known).clone(),
                None => Arc::new(OfClass::new(class)),
            };
            plan.classes.iter().map(carried).collect()
        };
        Slots { workers: self.workers.iter().map(next).collect(), purses: purses(plan) }
    }

    /// What a service may spend until the next sweep.
    #[must_use]
    pub fn purse(&self, service: ServiceIndex) -> Option<&Purse> {
        self.purses.get(service)
    }

    /// The meter of a flow of a class to its permitted cluster number `place`, for a worker.
    #[must_use]
    pub fn meter(&self, worker: usize, class: ClassIndex, place: usize) -> Meter {
        Meter { of: self.workers.get(worker).and_then(|all| all.get(class)).cloned(), place }
    }

    /// The slot of a worker for a class at its permitted cluster number `place`.
    #[must_use]
    pub fn slot(&self, worker: usize, class: ClassIndex, place: usize) -> Option<&Slot> {
        self.workers.get(worker)?.get(class)?.clusters.get(place)
    }

    /// The counter of requested exchanges of a class at this priority.
    #[must_use]
    pub fn requested(&self, worker: usize, class: ClassIndex, priority: u8) -> Option<&Count> {
        self.workers.get(worker)?.get(class)?.requested.0.get(usize::from(priority))
    }
}

/// A purse for each service; the first sweep fills them.
fn purses(plan: &Plan) -> Table<ServiceIndex, Purse> {
    plan.services.iter().map(|_| Purse::default()).collect()
}

impl OfClass {
    fn new(class: &Class) -> OfClass {
        OfClass {
            id: class.id,
            requested: DemandCounts::default(),
            clusters: class.permitted.clusters.iter().map(|_| Slot::default()).collect(),
        }
    }
}

/// Counts the bytes that a flow receives from its cluster. The flow may outlive the view of its selection.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    of: Option<Arc<OfClass>>,
    place: usize,
}

impl Meter {
    /// The counter.
    #[must_use]
    pub fn count(&self) -> Option<&Count> {
        self.of.as_ref()?.clusters.get(self.place).map(|slot| &slot.bytes)
    }
}

/// The measures of the proxy when memory or descriptors run out: it stops keep-alive, then refuses
/// requests, then connections.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Scarcity {
    /// Memory and descriptors are sufficient.
    None,
    /// From 85 %: connections are not kept after their exchange.
    NoKeepAlive,
    /// From 92 %: requests are answered 503 `overloaded`.
    Refuse,
    /// From 95 %: no connection is accepted.
    NoAccept,
}

/// State shared by all threads.
#[derive(Debug)]
pub struct Shared {
    /// The view in force.
    pub view: Arc<ArcSwap<View>>,
    /// Events for the control thread. When the queue is full, events are shed and counted.
    pub events: mpsc::Sender<Event>,
    /// Decisions for the admin API. As the queue fills, fewer are recorded: see [`decided::may_record`].
    pub decisions: mpsc::Sender<Decision>,
    /// Spans for the exporter. When the queue is full, they are dropped and counted.
    pub traces: mpsc::Sender<Trace>,
    /// Events for subscribers of the admin API, as JSON.
    pub news: broadcast::Sender<String>,
    /// Whether the proxy is draining.
    pub draining: AtomicBool,
    /// Set once the first probe round is over.
    pub ready: AtomicBool,
    /// Busy share of each worker, in per mille of the last interval.
    pub busy: Vec<AtomicU32>,
    /// Counts the selections of clusters.
    pub demand: Activity,
    /// Tasks of each worker.
    pub tasks: Vec<AtomicU32>,
    /// Open client connections of the whole process.
    pub connections: Arc<Gauge>,
    /// Connections by client address, for listeners that limit them.
    pub by_client: Clients,
    /// Client addresses that are refused new connections for a time because of abuse.
    pub offenders: Offenders,
    /// Open connections and UDP flows to endpoints, of the whole process.
    pub upstreams: Arc<Gauge>,
    /// UDP flows; they may use a share of the limit of upstream connections.
    pub flows: Arc<Gauge>,
    /// Limit of client connections, and the same limit for upstream connections, derived from the descriptor limit.
    /// The remaining descriptors are for the admin API, logs and files.
    pub connections_max: AtomicU64,
    /// Open connections by listener.
    pub by_listener: Mutex<BTreeMap<String, Arc<Gauge>>>,
    /// Resident memory in percent of the memory this process may use.
    pub memory_percent: AtomicU32,
    /// The challenges of ACME authorities that this proxy answers.
    pub challenges: Challenges,
    /// The cells of all metrics.
    pub registry: Arc<Registry>,
}

impl Shared {
    /// Hands the spans of what has ended to the exporter; drops and counts them if its queue is full.
    pub fn export(&self, trace: Trace) {
        let spans = trace.spans() as u64;
        if self.traces.try_send(trace).is_err() {
            self.registry.spans.queue_full.fetch_add(spans, Ordering::Relaxed);
        }
    }

    /// Sends an event to the control thread; sheds and counts it when the queue is full.
    pub fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.registry.events_shed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an upstream connection, unless the cluster has reached `most` or the process its limit.
    #[must_use]
    pub fn count_upstream(&self, cluster: &LiveCluster, most: u32) -> Option<Counted> {
        let all = self.connections_max.load(Ordering::Relaxed);
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        // The process limit first: dropping a unit of the cluster's gauge wakes a waiter.
        let _of_all = Held::enter_below(&self.upstreams, all)?;
        let _of_cluster =
            Held::enter_queued(&cluster.connections, most, &cluster.connection_queue)?;
        Some(Counted { _of_all, _of_cluster })
    }

    /// Limit of UDP flows: a quarter of the limit of upstream connections, because a client with forged sender
    /// addresses opens flows at no cost.
    #[must_use]
    pub fn flows_max(&self) -> u32 {
        let most = self.connections_max.load(Ordering::Relaxed) / 4;
        u32::try_from(most).unwrap_or(u32::MAX).max(1)
    }

    /// Whether upstream connections use 80 % of their limit or more; then no connection is kept idle.
    #[must_use]
    pub fn upstreams_are_scarce(&self) -> bool {
        let most = self.connections_max.load(Ordering::Relaxed).max(1);
        u64::from(self.upstreams.get()) * 100 >= most * 80
    }

    /// The gauge of a listener's connections, over all workers.
    #[must_use]
    pub fn listener_gauge(&self, name: &str) -> Arc<Gauge> {
        let mut all = self.by_listener.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(name) {
            Some(gauge) => gauge.clone(),
            None => all.entry(name.to_owned()).or_default().clone(),
        }
    }

    /// Used shares of the connection limit and of memory; 1.0 is the whole limit.
    #[must_use]
    pub fn used(&self) -> (f64, f64) {
        let most = self.connections_max.load(Ordering::Relaxed).max(1);
        let open = self.connections.get().max(self.upstreams.get());
        let memory = f64::from(self.memory_percent.load(Ordering::Relaxed)) / 100.0;
        (f64::from(open) / most as f64, memory)
    }

    /// How scarce memory or descriptors are.
    #[must_use]
    pub fn scarcity(&self) -> Scarcity {
        let most = self.connections_max.load(Ordering::Relaxed).max(1);
        let open = self.connections.get().max(self.upstreams.get());
        let descriptors = u64::from(open) * 100 / most;
        let percent = descriptors.max(u64::from(self.memory_percent.load(Ordering::Relaxed)));
        match percent {
            0..85 => Scarcity::None,
            85..92 => Scarcity::NoKeepAlive,
            92..95 => Scarcity::Refuse,
            95.. => Scarcity::NoAccept,
        }
    }

    /// Whether the proxy is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
