//! UDP: all datagrams of a flow go to the endpoint selected for the first; answers leave from the address that the
//! client sent to.
//!
//! A flow is a client address, a listener address, and a socket to one endpoint. A flow ends after an idle time, and
//! sooner if the endpoint never answered: clients with forged addresses must not hold sockets for long. If the endpoint
//! goes down or is no longer permitted, the next datagram starts a new flow to another endpoint. At the limit of flows a
//! new flow replaces the oldest unanswered flow.
//!
//! # Not here
//! Queues: a datagram that cannot be sent at once is dropped and counted, as in a router. Load: answers are not matched
//! to requests, so only health, dials and ceilings decide.

use super::admission::{Admitted, admit_flow};
use super::refusal::Refusal;
use super::selection::{Reach, Tried, select};
use super::worker::{Cells, NOBODY, Stopped, Worker};
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::plan::{Address, ClassIndex, ListenerIndex, Protocol, Transport};
use crate::decision::units::{Timestamp, hash};
use crate::os::datagram::{Datagrams, Run};
use crate::os::{clock, process};
use crate::policy::{PolicyRequest, Seat};
use crate::shared::{Counted, Held, Scarcity, View};
use crate::telemetry::access_log::{Line, milliseconds};
use crate::telemetry::cells::{ExchangeCells, ListenerCells};
use socket2::Socket;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a flow lasts that nobody has answered.
const UNANSWERED: Duration = Duration::from_secs(10);
/// Between two looks whether a flow may go on, where nothing moves.
const LOOK: Duration = Duration::from_secs(5);
/// How long answers are waited for once the listener has stopped.
const LINGER: Duration = Duration::from_secs(1);
/// Batches received in one turn, at most, before others get theirs.
const BATCHES_A_TURN: usize = 8;

/// Whose a flow is, and the address of ours it speaks to.
type Key = (SocketAddr, Option<IpAddr>);

/// Batches taken once a listener is stopped: more than its queue can hold, and no more, whoever goes on sending.
const LAST_BATCHES: usize = 64;

/// A listening socket and its flows.
struct Listening {
    address: Address,
    socket: Datagrams,
    flows: RefCell<HashMap<Key, Rc<Flow>>>,
    /// The oldest first; those that were answered meanwhile, or are over, among them.
    unanswered: RefCell<VecDeque<Weak<Flow>>>,
    stopped: Cell<Option<Timestamp>>,
    stop: Notify,
}

/// A client's datagrams and their answers.
struct Flow {
    key: Key,
    upstream: Datagrams,
    to: SocketAddr,
    endpoint: u32,
    class: u64,
    idle: Duration,
    /// The view by which it was last seen to be in order.
    checked: Cell<(u64, Timestamp)>,
    began: Timestamp,
    moved: Cell<Timestamp>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    answered: Cell<bool>,
    over: Cell<bool>,
    end: Notify,
    cells: Cells<ListenerCells>,
    exchange: Cells<ExchangeCells>,
    names: Names,
    /// Until it is over.
    held: RefCell<Option<Counts>>,
}

/// Where a flow is counted.
type Counts = (Admitted, Seat, Counted, (Held, Held));

/// What the log says of a flow.
struct Names {
    listener: String,
    service: String,
    data: String,
    cluster: String,
    reason: &'static str,
}

/// Serves the datagrams of one listening socket until told to stop.
pub async fn serve(worker: Rc<Worker>, socket: Socket, address: Address, mut stopped: Stopped) {
    let socket = match Datagrams::adopt(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, %address, "UDP listener {address} receives nothing in this worker");
            return;
        }
    };
    let listening = Rc::new(Listening {
        address: address.clone(),
        socket,
        flows: RefCell::default(),
        unanswered: RefCell::default(),
        stopped: Cell::new(None),
        stop: Notify::new(),
    });
    loop {
        tokio::select! {
            // Stopping first, but what has come was promised service.
            biased;
            done = &mut stopped => {
                take(&worker, &listening, &address, LAST_BATCHES);
                listening.stopped.set(Some(worker.now()));
                listening.stop.notify_waiters();
                if done.is_ok_and(|done| done.send(()).is_err()) {
                    tracing::debug!("end of a listener not reported: the main task has gone");
                }
                let last = linger(&worker, &listening, &address);
                return drop(tokio::time::timeout(LINGER, last).await);
            }
            ready = listening.socket.readable() => {
                if ready.is_err() {
                    return;
                }
                take(&worker, &listening, &address, BATCHES_A_TURN);
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Goes on receiving while flows wait for their last answers: their socket is still bound, and should a reload
/// have brought the listener back, the kernel gives this one its part of the datagrams.
async fn linger(worker: &Rc<Worker>, listening: &Rc<Listening>, address: &Address) {
    let is_back = || {
        let view = worker.view();
        let index = view.plan.listener_at(Transport::Datagram, address);
        let is_udp =
            |index: usize| matches!(view.plan.listeners[index].protocol, Protocol::Udp { .. });
        index.is_some_and(is_udp) && !worker.shared.is_draining()
    };
    while !listening.flows.borrow().is_empty() {
        tokio::select! {
            ready = listening.socket.readable(), if is_back() => {
                if ready.is_err() {
                    return;
                }
                take(worker, listening, address, BATCHES_A_TURN);
            }
            () = tokio::time::sleep(LINGER / 20) => {}
        }
    }
}

/// Receives what is there, and sends it on.
fn take(worker: &Rc<Worker>, listening: &Rc<Listening>, address: &Address, batches: usize) {
    let view = worker.view();
    let Some(index) = view.plan.listener_at(Transport::Datagram, address) else { return };
    let Protocol::Udp { class } = view.plan.listeners[index].protocol else { return };
    let cells = worker.listener_cells(&view.plan.listeners[index].name);
    let inbound = Inbound { worker, view: &view, index, class, listening, cells: &cells };
    for _ in 0..batches {
        let mut batch = worker.datagrams.borrow_mut();
        match listening.socket.receive(&mut batch) {
            Ok(()) => batch.runs().for_each(|run| inbound.forward(&run)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Of a client that is gone: its answer could not be delivered.
            Err(_) => {}
        }
    }
}

/// The listener of received datagrams, and the view that their endpoints are selected by.
struct Inbound<'a> {
    worker: &'a Rc<Worker>,
    view: &'a View,
    index: ListenerIndex,
    class: ClassIndex,
    listening: &'a Rc<Listening>,
    cells: &'a Cells<ListenerCells>,
}

impl Inbound<'_> {
    fn forward(&self, run: &Run<'_>) {
        let key = (run.from, run.to);
        let known = self.listening.flows.borrow().get(&key).cloned();
        let known = known.filter(|flow| {
            let stays = !flow.over.get() && flow.stays(self.view, self.class);
            if !stays {
                flow.finish();
            }
            stays
        });
        let mut tried = Tried::default();
        let mut flow = known;
        loop {
            let current = match flow.take().map_or_else(|| self.begin(key, &mut tried), Ok) {
                Ok(flow) => flow,
                Err(refusal) => return self.refuse(run, refusal),
            };
            match current.upstream.send(run, current.to, None) {
                Ok(()) => return current.moved_up(run, self.worker.about_now()),
                Err(error) if is_refusal(&error) => {
                    current.refused(self.worker);
                    if let Some(cluster) = self.cluster_of(&current) {
                        tried.add(cluster, current.endpoint);
                    }
                }
                Err(_) => return self.cells.dropped.add(run.count()),
            }
        }
    }

    fn cluster_of(&self, flow: &Flow) -> Option<usize> {
        self.view.plan.clusters.iter().position(|cluster| cluster.name == flow.names.cluster)
    }

    fn refuse(&self, run: &Run<'_>, refusal: Option<Refusal>) {
        self.cells.dropped.add(run.count());
        let Some(refusal) = refusal else { return };
        self.cells.refusals[refusal.index()].add(1);
        let service = self.view.plan.classes[self.class].service;
        let exchange = self.worker.exchange_cells(self.view, self.index, service, NOBODY);
        exchange.by_class[5].add(1);
    }

    /// Places a new flow. `tried` have said that nobody is there. No refusal: it was counted already.
    fn begin(&self, key: Key, tried: &mut Tried) -> Result<Rc<Flow>, Option<Refusal>> {
        let (worker, view) = (self.worker, self.view);
        let listener = &view.plan.listeners[self.index];
        if worker.shared.scarcity() >= Scarcity::Refuse {
            return Err(Some(Refusal::Overloaded));
        }
        let client = key.0.ip().to_canonical();
        let evict = || self.listening.evict();
        let admitted = admit_flow(worker, listener, client, evict).ok_or(None)?;
        let seat = match view.plan.service_of(self.class).policy {
            Some(policy) => view.policies.admit(policy, &PolicyRequest::flow(client)),
            None => Ok(None),
        };
        let seat = seat.map_err(|why| Some(Refusal::from(&why)))?;
        let seed = hash(client.to_string().as_bytes());
        loop {
            let selection =
                select(worker, view, self.class, tried, seed, Reach::Anywhere).map_err(Some)?;
            let (cluster, endpoint) =
                (&view.plan.clusters[selection.cluster], selection.signals(view));
            let live = &view.clusters[selection.cluster];
            let count = || worker.shared.count_upstream(live, cluster.connections_max);
            let held = count().or_else(|| self.listening.evict().then(count).flatten());
            let held = held.ok_or(Some(Refusal::Overloaded))?;
            let towards = match &endpoint.address {
                Address::Ip(address) => Datagrams::towards(*address).map(|made| (made, *address)),
                Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            let (upstream, to) = match towards {
                Ok(made) => made,
                // EAGAIN: no port is left.
                Err(error)
                    if process::is_exhaustion(&error)
                        || error.kind() == io::ErrorKind::WouldBlock =>
                {
                    return Err(Some(Refusal::Overloaded));
                }
                Err(_) => {
                    let (endpoint, cause, client) = (endpoint.id, Cause::Refused, None);
                    worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
                    tried.add(selection.cluster, endpoint);
                    continue;
                }
            };
            let class = &view.plan.classes[self.class];
            let now = worker.now();
            let flow = Rc::new(Flow {
                key,
                upstream,
                to,
                endpoint: endpoint.id,
                class: class.id,
                idle: listener.timeouts.idle_l4,
                checked: Cell::new(moment(view)),
                began: now,
                moved: Cell::new(now),
                bytes_in: Cell::new(0),
                bytes_out: Cell::new(0),
                answered: Cell::new(false),
                over: Cell::new(false),
                end: Notify::new(),
                cells: self.cells.clone(),
                exchange: worker.exchange_cells(view, self.index, class.service, selection.cluster),
                names: Names {
                    listener: listener.name.clone(),
                    service: view.plan.services[class.service].name.clone(),
                    data: class.data.join(","),
                    cluster: cluster.name.clone(),
                    reason: selection.why.label(),
                },
                held: RefCell::new(Some((admitted, seat, held, selection.into_counts()))),
            });
            self.listening.note(&flow);
            let answers = answer(worker.clone(), self.listening.clone(), flow.clone());
            tokio::task::spawn_local(answers);
            return Ok(flow);
        }
    }
}

impl Listening {
    /// Notes a new flow.
    fn note(&self, flow: &Rc<Flow>) {
        let mut flows = self.flows.borrow_mut();
        flows.insert(flow.key, flow.clone());
        let mut unanswered = self.unanswered.borrow_mut();
        if unanswered.len() > 2 * flows.len() {
            unanswered.retain(|flow| flow.upgrade().is_some_and(|flow| flow.is_unanswered()));
        }
        unanswered.push_back(Rc::downgrade(flow));
    }

    /// Ends the oldest flow that nobody has answered; says whether there was one.
    fn evict(&self) -> bool {
        loop {
            let Some(oldest) = self.unanswered.borrow_mut().pop_front() else { return false };
            if let Some(flow) = oldest.upgrade().filter(|flow| flow.is_unanswered()) {
                flow.finish();
                return true;
            }
        }
    }
}

/// Which view it is: one for each plan and each assessment of the clusters.
fn moment(view: &View) -> (u64, Timestamp) {
    (view.generation, view.signals.at)
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

impl Flow {
    /// Whether it may go on as it is: permitted, and its endpoint usable, by the latest view.
    fn stays(&self, view: &View, class: ClassIndex) -> bool {
        if self.checked.get() == moment(view) {
            return true;
        }
        let policy = view.plan.service_of(class).policy.map(|policy| &view.plan.policies[policy]);
        let admitted = policy.is_none_or(|policy| policy.admits(self.key.0.ip().to_canonical()));
        let class = &view.plan.classes[class];
        let is_ours = |cluster: &&usize| view.plan.clusters[**cluster].name == self.names.cluster;
        let stays = admitted
            && class.id == self.class
            && class.permitted.clusters.iter().find(is_ours).is_some_and(|cluster| {
                let beliefs = &view.signals.clusters[*cluster];
                beliefs.usable.iter().any(|index| beliefs.endpoints[*index].id == self.endpoint)
            });
        self.checked.set(moment(view));
        stays
    }

    fn moved_up(&self, run: &Run<'_>, now: Timestamp) {
        let bytes = run.bytes.len() as u64;
        self.bytes_in.set(self.bytes_in.get() + bytes);
        self.cells.bytes_in.add(bytes);
        self.moved.set(now);
    }

    fn refused(&self, worker: &Worker) {
        if !self.over.get() {
            let (endpoint, cause, client) = (self.endpoint, Cause::Refused, None);
            worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
        self.finish();
    }

    fn is_unanswered(&self) -> bool {
        !self.answered.get() && !self.over.get()
    }

    /// Has its task end it; it counts no longer.
    fn finish(&self) {
        self.over.set(true);
        self.held.take();
        self.end.notify_one();
    }

    /// When it ends if nothing moves.
    fn expires(&self, listening: &Listening) -> Timestamp {
        let patience = if self.answered.get() { self.idle } else { self.idle.min(UNANSWERED) };
        let silent = self.moved.get().plus(patience);
        listening.stopped.get().map_or(silent, |since| silent.min(since.plus(LINGER)))
    }
}

/// Sends answers back until the flow is over.
async fn answer(worker: Rc<Worker>, listening: Rc<Listening>, flow: Rc<Flow>) {
    while !flow.over.get() {
        let left = flow.expires(&listening).since(worker.now()).min(LOOK);
        if left.is_zero()
            || listening.stopped.get().is_none() && !may_go_on(&worker, &listening, &flow)
        {
            break;
        }
        tokio::select! {
            biased;
            () = flow.end.notified() => {}
            () = listening.stop.notified() => {}
            ready = flow.upstream.readable() => {
                if ready.is_err() {
                    break;
                }
                take_answers(&worker, &listening, &flow);
            }
            () = tokio::time::sleep(left) => {}
        }
    }
    flow.over.set(true);
    {
        let mut flows = listening.flows.borrow_mut();
        // Its client may have another one by now.
        if flows.get(&flow.key).is_some_and(|known| Rc::ptr_eq(known, &flow)) {
            flows.remove(&flow.key);
        }
    }
    log(&worker, &flow);
}

/// Whether a flow may go on by the latest view: one whose client is silent, too.
fn may_go_on(worker: &Worker, listening: &Listening, flow: &Flow) -> bool {
    let view = worker.view();
    let index = view.plan.listener_at(Transport::Datagram, &listening.address);
    index.is_some_and(|index| match view.plan.listeners[index].protocol {
        Protocol::Udp { class } => flow.stays(&view, class),
        Protocol::Http | Protocol::Tcp { .. } | Protocol::TlsPassthrough(_) => false,
    })
}

fn take_answers(worker: &Worker, listening: &Listening, flow: &Flow) {
    let mut batch = worker.datagrams.borrow_mut();
    match flow.upstream.receive(&mut batch) {
        Ok(()) => {}
        Err(error) if is_refusal(&error) => return flow.refused(worker),
        Err(_) => return,
    }
    let (client, ours) = flow.key;
    for run in batch.runs() {
        flow.moved.set(worker.about_now());
        flow.answered.set(true);
        if listening.socket.send(&run, client, ours).is_err() {
            flow.cells.dropped.add(run.count());
            continue;
        }
        let bytes = run.bytes.len() as u64;
        flow.bytes_out.set(flow.bytes_out.get() + bytes);
        flow.cells.bytes_out.add(bytes);
    }
}

fn log(worker: &Worker, flow: &Flow) {
    let duration = worker.now().since(flow.began);
    flow.exchange.by_class[5].add(1);
    flow.exchange.duration.observe(duration.as_secs_f64());
    if worker.log.is_on() {
        worker.log.write(&Line {
            time: clock::rfc3339(clock::since_epoch()).into(),
            listener: &flow.names.listener,
            client: flow.key.0.ip().to_canonical().to_string().into(),
            protocol: "udp",
            bytes_in: flow.bytes_in.get(),
            bytes_out: flow.bytes_out.get(),
            duration_ms: milliseconds(duration),
            service: &flow.names.service,
            data: flow.names.data.as_str().into(),
            cluster: &flow.names.cluster,
            endpoint: flow.to.to_string().into(),
            reason: flow.names.reason,
            attempts: 1,
            ..Line::default()
        });
    }
}
