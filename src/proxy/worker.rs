//! The state of one worker: view, pools, accumulators, counters. Shared by `Rc` on one thread, without locks.

use super::deadline::Deadlines;
use super::encoder::BytesInFlight;
use super::leavers::Leavers;
use super::listener_terms::ListenerTerms;
use super::refusal_log::RefusalLog;
use super::upstream::multiplexed::H2Pool;
use super::upstream::pool::{Pool, usable};
use crate::decision::endpoint::Turns;
use crate::decision::index::Table;
use crate::decision::plan::{ClassIndex, ClusterIndex, ListenerIndex, ServiceIndex};
use crate::decision::retry::Budget;
use crate::decision::route::RouteIndex;
use crate::decision::spill::Credits;
use crate::decision::units::{Dice, Timestamp, mix};
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::os::clock;
use crate::os::datagram::Batch;
use crate::shared::{Gauge, LiveCluster, Shared, View, any_waits};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::cells::{
    CompressionCells, ExchangeCells, ExchangeLabels, ListenerCells, RouteCells,
};
use arc_swap::{ArcSwapAny, Cache};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A view as held by a worker: cloning it touches no cache line of other workers.
pub type Viewed = Rc<Arc<View>>;

/// The latest view, looked up without a shared counter.
type Latest = Cache<Arc<ArcSwapAny<Arc<View>>>, Arc<View>>;

/// Counters as held by a worker; cloning touches no shared cache line.
pub type Cells<T> = Rc<Arc<T>>;

/// The command that stops an acceptor; the inner sender is answered once it has stopped.
pub type Stopped = oneshot::Receiver<oneshot::Sender<()>>;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// The worker's number.
    pub id: usize,
    /// The state that all threads share.
    pub shared: Arc<Shared>,
    /// The worker's deadlines.
    pub deadlines: Rc<Deadlines>,
    /// Idle upstream connections.
    pub pool: RefCell<Pool>,
    /// HTTP/2 connections to clusters.
    pub h2_pool: RefCell<H2Pool>,
    /// The receive buffers for datagrams.
    pub datagrams: RefCell<Batch>,
    /// The random generator for endpoint selection and identifiers.
    pub dice: RefCell<Dice>,
    /// The queue of the access log.
    pub log: AccessLog,
    /// Whether a connection is being made in advance.
    pub warming: Cell<bool>,
    /// Running copies for mirrors.
    pub copies: Cell<usize>,
    /// The bytes in flight in encoders.
    pub encoding: BytesInFlight,
    leavers: RefCell<Leavers>,
    refusal_log: RefCell<RefusalLog>,
    me: Weak<Worker>,
    cache: RefCell<Latest>,
    current: RefCell<Viewed>,
    state: RefCell<PlanState>,
    #[expect(clippy::vec_box, reason = "heads are lent as boxes: a connection holds a pointer")]
    heads: RefCell<Vec<Box<RequestHead>>>,
    #[expect(clippy::vec_box, reason = "likewise")]
    responses: RefCell<Vec<Box<ResponseHead>>>,
    turn: Cell<u64>,
    turns: RefCell<Table<ClusterIndex, Turns>>,
    share: Cell<u64>,
    date: RefCell<(u64, Rc<str>)>,
}

/// State that belongs to a plan and is carried over to the next one by name.
#[derive(Debug, Default)]
struct PlanState {
    generation: u64,
    credits: Table<ClassIndex, (u64, Credits)>,
    budgets: Table<ServiceIndex, (String, Budget)>,
    exchanges: FxHashMap<
        (ListenerIndex, Option<ServiceIndex>, Option<ClusterIndex>),
        Cells<ExchangeCells>,
    >,
    listeners: Table<ListenerIndex, Cells<ListenerCells>>,
    terms: FxHashMap<ListenerIndex, Rc<ListenerTerms>>,
    routes: FxHashMap<RouteIndex, Cells<RouteCells>>,
    by_labels: HashMap<(String, String, String), Cells<ExchangeCells>>,
    by_listener: HashMap<String, Cells<ListenerCells>>,
    by_route: HashMap<String, Cells<RouteCells>>,
    by_compressed: HashMap<String, Cells<CompressionCells>>,
    gauges: HashMap<String, Arc<Gauge>>,
}

/// Heads kept for later exchanges.
const HEADS_KEPT: usize = 256;

impl Worker {
    /// A new worker.
    #[must_use]
    pub fn new(id: usize, shared: Arc<Shared>, log: AccessLog) -> Rc<Worker> {
        let mut cache = Cache::new(shared.view.clone());
        let current = Rc::new(cache.load().clone());
        let seed = clock::entropy() ^ mix(id as u64);
        let deadlines = Rc::new(Deadlines::default());
        deadlines.tick(clock::now());
        let worker = Rc::new_cyclic(|me| Worker {
            id,
            deadlines,
            pool: RefCell::new(Pool::of(id)),
            h2_pool: RefCell::default(),
            datagrams: RefCell::default(),
            dice: RefCell::new(Dice::seeded(seed)),
            log,
            warming: Cell::new(false),
            copies: Cell::new(0),
            encoding: BytesInFlight::default(),
            leavers: RefCell::default(),
            refusal_log: RefCell::default(),
            me: me.clone(),
            cache: RefCell::new(cache),
            state: RefCell::default(),
            heads: RefCell::default(),
            responses: RefCell::default(),
            turn: Cell::new(seed % 1024),
            turns: RefCell::default(),
            share: Cell::new(seed % 4096),
            date: RefCell::new((0, Rc::from(""))),
            current: RefCell::new(current.clone()),
            shared,
        });
        worker.carry(&current);
        worker
    }

    /// A handle to this worker, for a new task.
    #[must_use]
    pub fn me(&self) -> Option<Rc<Worker>> {
        self.me.upgrade()
    }

    /// The current view, for one exchange: plan and signals are consistent.
    #[must_use]
    pub fn view(&self) -> Viewed {
        let mut cache = self.cache.borrow_mut();
        let latest = cache.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(latest, &current) {
            *current = Rc::new(latest.clone());
            if self.state.borrow().generation != current.generation {
                self.carry(&current);
            }
        }
        current.clone()
    }

    /// Whether an endpoint is usable in the latest view, which may be newer than an exchange's view.
    #[must_use]
    pub fn uses(&self, endpoint: u32) -> bool {
        self.view().uses(endpoint)
    }

    /// Adopts a new plan: credits and budgets are kept by name, counters are looked up anew.
    fn carry(&self, view: &View) {
        let now = clock::now();
        let mut state = self.state.borrow_mut();
        let old = std::mem::take(&mut *state);
        let workers = self.shared.busy.len();
        state.generation = view.generation;
        let mut credits: FxHashMap<u64, Credits> = old.credits.into_iter().collect();
        for class in &view.plan.classes {
            let seed = mix(class.id ^ mix(self.id as u64));
            let fresh = || Credits::seeded(class.permitted.clusters.len(), seed);
            let credits = credits.remove(&class.id).unwrap_or_else(fresh);
            state.credits.push((class.id, credits));
        }
        let classes: FxHashSet<u64> = view.plan.classes.iter().map(|class| class.id).collect();
        self.refusal_log.borrow_mut().keep(|id| classes.contains(&id));
        let mut budgets: HashMap<String, Budget> = old.budgets.into_iter().collect();
        for service in &view.plan.services {
            let share = service.retry.budget;
            let known = budgets.remove(&service.name).filter(|budget| budget.share() == share);
            let budget = known.unwrap_or_else(|| Budget::new(share, workers, now));
            state.budgets.push((service.name.clone(), budget));
        }
        state.by_labels = old.by_labels;
        state.by_listener = old.by_listener;
        state.by_route = old.by_route;
        state.by_compressed = old.by_compressed;
        state.gauges = old.gauges;
        for listener in &view.plan.listeners {
            let cells = state
                .by_listener
                .entry(listener.name.clone())
                .or_insert_with(|| Rc::new(self.shared.registry.listener(&listener.name)))
                .clone();
            state.listeners.push(cells);
        }
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        clock::now()
    }

    /// The current time, at most one tick old: for timeouts of seconds, for which reading the clock would cost
    /// too much.
    #[must_use]
    pub fn about_now(&self) -> Timestamp {
        self.deadlines.now()
    }

    /// Records that a client left before its answer; returns whether it did so just before.
    pub fn has_just_left(&self, client: IpAddr) -> bool {
        self.leavers.borrow_mut().has_just_left(client, self.about_now())
    }

    /// Whether a refusal of a class gets a line in the log: the number of refusals without a line since the last one.
    pub fn may_log_refusal(&self, class: u64) -> Option<u64> {
        self.refusal_log.borrow_mut().is_due(class, self.about_now())
    }

    /// A number that grows with every call.
    pub fn next_turn(&self) -> u64 {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        turn
    }

    /// A counter for shares of all exchanges. The result of an exchange does not advance it, so that shares do not
    /// depend on results.
    pub fn next_share(&self) -> u64 {
        let turn = self.share.get().wrapping_add(1);
        self.share.set(turn);
        turn
    }

    /// Calls `work` with the turns of a cluster's endpoints. The cluster index of an older plan may mean another
    /// cluster: turns check their endpoints.
    pub fn with_turns<T>(&self, cluster: ClusterIndex, work: impl FnOnce(&mut Turns) -> T) -> T {
        let mut turns = self.turns.borrow_mut();
        while turns.get(cluster).is_none() {
            turns.push(Turns::new(self.id, self.shared.busy.len()));
        }
        work(&mut turns[cluster])
    }

    /// Calls `work` with the credits of a class. An exchange that began before a reload is found by the class's id,
    /// because indices change.
    pub fn with_credits<T>(
        &self,
        view: &View,
        class: ClassIndex,
        work: impl FnOnce(&mut Credits) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let wanted = view.plan.classes.get(class)?;
        let at = match state.generation == view.generation {
            true => Some(class),
            false => state.credits.find(|(id, _)| *id == wanted.id),
        };
        match at.and_then(|at| state.credits.get_mut(at)) {
            Some((_, credits)) => Some(work(credits)),
            None => Some(work(&mut Credits::seeded(wanted.permitted.clusters.len(), wanted.id))),
        }
    }

    /// Calls `work` with the retry budget of a service; `None` if the service was removed.
    pub fn with_budget<T>(
        &self,
        view: &View,
        service: ServiceIndex,
        work: impl FnOnce(&mut Budget) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let at = match state.generation == view.generation {
            true => Some(service),
            false => {
                let wanted = &view.plan.services.get(service)?.name;
                state.budgets.find(|(name, _)| name == wanted)
            }
        };
        at.and_then(|at| state.budgets.get_mut(at)).map(|(_, budget)| work(budget))
    }

    /// The cells of a listener, and of the service and the cluster that an exchange reached.
    #[must_use]
    pub fn exchange_cells(
        &self,
        view: &View,
        listener: ListenerIndex,
        service: Option<ServiceIndex>,
        cluster: Option<ClusterIndex>,
    ) -> Cells<ExchangeCells> {
        let key = (listener, service, cluster);
        let plan = &view.plan;
        let mut state = self.state.borrow_mut();
        // Indices of an older plan are not valid in this plan.
        let current = state.generation == view.generation;
        if let Some(cells) = state.exchanges.get(&key).filter(|_| current) {
            return cells.clone();
        }
        let name = |name: Option<&String>| name.cloned().unwrap_or_default();
        let service = service.and_then(|index| plan.services.get(index));
        let cluster = cluster.and_then(|index| plan.clusters.get(index));
        let labels = ExchangeLabels {
            listener: name(plan.listeners.get(listener).map(|listener| &listener.name)),
            service: name(service.map(|service| &service.name)),
            cluster: name(cluster.map(|cluster| &cluster.name)),
        };
        let names = (labels.listener.clone(), labels.service.clone(), labels.cluster.clone());
        let registry = &self.shared.registry;
        let cells = state
            .by_labels
            .entry(names)
            .or_insert_with(|| Rc::new(registry.exchange(labels)))
            .clone();
        if current {
            state.exchanges.insert(key, cells.clone());
        }
        cells
    }

    /// The cells of a route. They are made at the route's first exchange on this worker.
    #[must_use]
    pub fn route_cells(&self, view: &View, route: RouteIndex) -> Cells<RouteCells> {
        let mut state = self.state.borrow_mut();
        // Indices of an older plan are not valid in this plan.
        let current = state.generation == view.generation;
        if let Some(cells) = state.routes.get(&route).filter(|_| current) {
            return cells.clone();
        }
        let name = &view.plan.routes.route(route).name;
        let registry = &self.shared.registry;
        let make = || Rc::new(registry.route(name));
        let cells = state.by_route.entry(name.clone()).or_insert_with(make).clone();
        if current {
            state.routes.insert(route, cells.clone());
        }
        cells
    }

    /// The cells of a service's compressed responses.
    #[must_use]
    pub fn compression_cells(&self, service: &str) -> Cells<CompressionCells> {
        let mut state = self.state.borrow_mut();
        if let Some(cells) = state.by_compressed.get(service) {
            return cells.clone();
        }
        let cells = Rc::new(self.shared.registry.compression(service));
        state.by_compressed.insert(service.to_owned(), cells.clone());
        cells
    }

    /// The cells of a listener of the current plan.
    #[must_use]
    pub fn listener_cells(&self, name: &str) -> Cells<ListenerCells> {
        let mut state = self.state.borrow_mut();
        let registry = &self.shared.registry;
        let make = || Rc::new(registry.listener(name));
        state.by_listener.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// The settings of a listener, shared by its connections.
    #[must_use]
    pub fn listener_terms(&self, view: &View, listener: ListenerIndex) -> Rc<ListenerTerms> {
        let current = self.state.borrow().generation == view.generation;
        if let Some(terms) = self.state.borrow().terms.get(&listener).filter(|_| current) {
            return terms.clone();
        }
        let cells = self.listener_cells(&view.plan.listeners[listener].name);
        let terms = Rc::new(ListenerTerms::of(view, listener, cells));
        if current {
            self.state.borrow_mut().terms.insert(listener, terms.clone());
        }
        terms
    }

    /// The number of a listener's connections in the whole process.
    #[must_use]
    pub fn listener_gauge(&self, name: &str) -> Arc<Gauge> {
        let mut state = self.state.borrow_mut();
        match state.gauges.get(name) {
            Some(gauge) => gauge.clone(),
            None => {
                let gauge = self.shared.listener_gauge(name);
                state.gauges.entry(name.to_owned()).or_insert(gauge).clone()
            }
        }
    }

    /// A head to read a request into.
    #[must_use]
    pub fn lend_head(&self) -> Box<RequestHead> {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a head back.
    pub fn give_back(&self, head: Box<RequestHead>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < HEADS_KEPT {
            heads.push(head);
        }
    }

    /// A head to read a response into.
    #[must_use]
    pub fn lend_response(&self) -> Box<ResponseHead> {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a response's head back.
    pub fn give_back_response(&self, head: Box<ResponseHead>) {
        let mut heads = self.responses.borrow_mut();
        if heads.len() < HEADS_KEPT {
            heads.push(head);
        }
    }

    /// `Date`, made once a second.
    #[must_use]
    pub fn date(&self) -> Rc<str> {
        let second = self.deadlines.now().as_nanos() / 1_000_000_000;
        let mut date = self.date.borrow_mut();
        if date.0 != second || date.1.is_empty() {
            *date = (second, Rc::from(clock::http_date(clock::since_epoch())));
        }
        date.1.clone()
    }

    /// The periodic tasks of a worker: deadlines, and idle connections that are dead or too old.
    pub fn tick(&self) {
        let now = clock::now();
        self.deadlines.tick(now);
        let view = self.view();
        let mut pool = self.pool.borrow_mut();
        if self.shared.upstreams_are_scarce() {
            pool.clear();
        }
        if any_waits() {
            pool.yield_to_waiting(&view);
            view.clusters.iter().for_each(LiveCluster::wake_waiting);
        }
        pool.sweep(&view, now);
        drop(pool);
        let usable = |key| usable(&view, key);
        self.h2_pool.borrow_mut().sweep(usable, now);
    }
}
