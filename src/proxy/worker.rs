//! What one worker owns: its view, its pools, its accumulators, its cells. Shared by `Rc` on one
//! thread, so nothing here locks.

use super::deadline::Deadlines;
use super::leavers::Leavers;
use super::upstream::multiplexed::H2Pool;
use super::upstream::pool::{Pool, usable};
use crate::decision::endpoint::Turns;
use crate::decision::plan::ClusterIndex;
use crate::decision::retry::Budget;
use crate::decision::spill::Credits;
use crate::decision::units::{Dice, Timestamp, mix};
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::os::clock;
use crate::os::datagram::Batch;
use crate::shared::{Gauge, Shared, View};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::cells::{ExchangeCells, ExchangeLabels, ListenerCells};
use arc_swap::{ArcSwapAny, Cache};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A view as a worker holds it: cloned without touching a cache line that other workers use.
pub type Viewed = Rc<Arc<View>>;

/// The latest view, looked up without a shared counter.
type Latest = Cache<Arc<ArcSwapAny<Arc<View>>>, Arc<View>>;

/// Cells as a worker holds them, likewise.
pub type Cells<T> = Rc<Arc<T>>;

/// How an acceptor is told to stop, and whom it then tells that it has.
pub type Stopped = oneshot::Receiver<oneshot::Sender<()>>;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub id: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Its deadlines.
    pub deadlines: Rc<Deadlines>,
    /// Its idle upstream connections.
    pub pool: RefCell<Pool>,
    /// Its HTTP/2 connections towards clusters.
    pub h2_pool: RefCell<H2Pool>,
    /// Where it receives datagrams.
    pub datagrams: RefCell<Batch>,
    /// Its dice, for endpoints and identifiers.
    pub dice: RefCell<Dice>,
    /// Where it hands access log lines in.
    pub log: AccessLog,
    /// Whether a connection is being made ahead of its need.
    pub warming: Cell<bool>,
    /// Copies for mirrors that are under way.
    pub copies: Cell<usize>,
    leavers: RefCell<Leavers>,
    me: Weak<Worker>,
    cache: RefCell<Latest>,
    current: RefCell<Viewed>,
    state: RefCell<PlanState>,
    #[expect(clippy::vec_box, reason = "heads are lent as boxes: a connection holds a pointer")]
    heads: RefCell<Vec<Box<RequestHead>>>,
    #[expect(clippy::vec_box, reason = "likewise")]
    responses: RefCell<Vec<Box<ResponseHead>>>,
    turn: Cell<u64>,
    turns: RefCell<Vec<Turns>>,
    share: Cell<u64>,
    date: RefCell<(u64, Rc<str>)>,
}

/// What belongs to a plan and is carried to the next one by name.
#[derive(Debug, Default)]
struct PlanState {
    generation: u64,
    credits: Vec<(u64, Credits)>,
    budgets: Vec<(String, Budget)>,
    exchanges: FxHashMap<(u32, u32, u32), Cells<ExchangeCells>>,
    listeners: Vec<Cells<ListenerCells>>,
    by_labels: HashMap<(String, String, String), Cells<ExchangeCells>>,
    by_listener: HashMap<String, Cells<ListenerCells>>,
    gauges: HashMap<String, Arc<Gauge>>,
}

/// No cluster, where a series needs one.
pub const NOBODY: usize = u32::MAX as usize;
/// Heads kept for later exchanges.
const HEADS_KEPT: usize = 256;

impl Worker {
    /// A worker that has served nobody yet.
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
            leavers: RefCell::default(),
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

    /// Itself, for a task of its own.
    #[must_use]
    pub fn me(&self) -> Option<Rc<Worker>> {
        self.me.upgrade()
    }

    /// The view in force, for one exchange: plan and signals agree.
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

    /// Whether an endpoint is in use as of now, which may be later than an exchange's view.
    #[must_use]
    pub fn uses(&self, endpoint: u32) -> bool {
        self.view().signals.clusters.iter().any(|cluster| cluster.uses(endpoint))
    }

    /// Takes a new plan: credits and budgets go on by name, cells are looked up anew.
    fn carry(&self, view: &View) {
        let now = clock::now();
        let mut state = self.state.borrow_mut();
        let mut old = std::mem::take(&mut *state);
        let workers = self.shared.busy.len();
        state.generation = view.generation;
        for class in &view.plan.classes {
            let known = old.credits.iter().position(|(id, _)| *id == class.id);
            let seed = mix(class.id ^ mix(self.id as u64));
            let credits = match known {
                Some(at) => old.credits[at].1.clone(),
                None => Credits::seeded(class.permitted.clusters.len(), seed),
            };
            state.credits.push((class.id, credits));
        }
        for service in &view.plan.services {
            let known = old.budgets.iter().position(|(name, budget)| {
                *name == service.name && budget.share() == service.retry.budget
            });
            let budget = match known {
                Some(at) => old.budgets.swap_remove(at).1,
                None => Budget::new(service.retry.budget, workers, now),
            };
            state.budgets.push((service.name.clone(), budget));
        }
        state.by_labels = old.by_labels;
        state.by_listener = old.by_listener;
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

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        clock::now()
    }

    /// This moment, up to a tick ago: for bounds of seconds, where reading the clock would cost more than
    /// what it is read for.
    #[must_use]
    pub fn about_now(&self) -> Timestamp {
        self.deadlines.now()
    }

    /// Notes that a client left before it was answered; says whether it has just done so before.
    pub fn has_just_left(&self, client: IpAddr) -> bool {
        self.leavers.borrow_mut().has_just_left(client, self.about_now())
    }

    /// A number that grows with every call.
    pub fn next_turn(&self) -> u64 {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        turn
    }

    /// Likewise, for shares of all exchanges: nothing that becomes of an exchange moves it, or shares would
    /// depend on what they lead to.
    pub fn next_share(&self) -> u64 {
        let turn = self.share.get().wrapping_add(1);
        self.share.set(turn);
        turn
    }

    /// Works with the turns of a cluster's endpoints. An exchange of an older plan may mean another cluster:
    /// turns see to it that they are about the endpoints they are asked for.
    pub fn with_turns<T>(&self, cluster: ClusterIndex, work: impl FnOnce(&mut Turns) -> T) -> T {
        let mut turns = self.turns.borrow_mut();
        if turns.len() <= cluster {
            let workers = self.shared.busy.len();
            turns.resize_with(cluster + 1, || Turns::new(self.id, workers));
        }
        work(&mut turns[cluster])
    }

    /// Works with the credits of a class. An exchange that began before a reload goes by the class's
    /// identity, since its index means another one now.
    pub fn with_credits<T>(
        &self,
        view: &View,
        class: usize,
        work: impl FnOnce(&mut Credits) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let wanted = view.plan.classes.get(class)?;
        let at = match state.generation == view.generation {
            true => Some(class),
            false => state.credits.iter().position(|(id, _)| *id == wanted.id),
        };
        match at.and_then(|at| state.credits.get_mut(at)) {
            Some((_, credits)) => Some(work(credits)),
            None => Some(work(&mut Credits::seeded(wanted.permitted.clusters.len(), wanted.id))),
        }
    }

    /// Works with the retry budget of a service, likewise; `None` when the service is gone.
    pub fn with_budget<T>(
        &self,
        view: &View,
        service: usize,
        work: impl FnOnce(&mut Budget) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let at = match state.generation == view.generation {
            true => Some(service),
            false => {
                let wanted = &view.plan.services.get(service)?.name;
                state.budgets.iter().position(|(name, _)| name == wanted)
            }
        };
        at.and_then(|at| state.budgets.get_mut(at)).map(|(_, budget)| work(budget))
    }

    /// The cells of a listener, service and cluster; `NOBODY` where there is none.
    #[must_use]
    pub fn exchange_cells(
        &self,
        view: &View,
        listener: usize,
        service: usize,
        cluster: usize,
    ) -> Cells<ExchangeCells> {
        let key = (listener as u32, service as u32, cluster as u32);
        let plan = &view.plan;
        let mut state = self.state.borrow_mut();
        // Indices of an older plan mean others in this one.
        let current = state.generation == view.generation;
        if let Some(cells) = state.exchanges.get(&key).filter(|_| current) {
            return cells.clone();
        }
        let name = |name: Option<&String>| name.cloned().unwrap_or_default();
        let labels = ExchangeLabels {
            listener: name(plan.listeners.get(listener).map(|listener| &listener.name)),
            service: name(plan.services.get(service).map(|service| &service.name)),
            cluster: name(plan.clusters.get(cluster).map(|cluster| &cluster.name)),
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

    /// The cells of a listener of the current plan.
    #[must_use]
    pub fn listener_cells(&self, name: &str) -> Cells<ListenerCells> {
        let mut state = self.state.borrow_mut();
        let registry = &self.shared.registry;
        let make = || Rc::new(registry.listener(name));
        state.by_listener.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// How many connections a listener has in the whole process.
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

    /// The worker's regular chores: deadlines, and idle connections that have died or aged.
    pub fn tick(&self) {
        let now = clock::now();
        self.deadlines.tick(now);
        let view = self.view();
        let mut pool = self.pool.borrow_mut();
        if self.shared.upstreams_are_scarce() {
            pool.clear();
        }
        pool.yield_to_waiting(&view);
        pool.sweep(&view, now);
        drop(pool);
        for live in view.clusters.iter() {
            live.connection_queue.wake_first();
            live.queue.wake_first();
        }
        let usable = |key| usable(&view, key);
        self.h2_pool.borrow_mut().sweep(usable, now);
    }
}
