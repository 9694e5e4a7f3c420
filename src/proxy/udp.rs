//! UDP: all datagrams of a flow go to the endpoint selected for the first; the source address of answers is the
//! address that the client sent to.
//!
//! A flow is a client address, a listener address, and a socket to one endpoint. A flow ends after an idle time, and
//! sooner if the endpoint never answered: clients with forged addresses must not hold sockets for long. If the endpoint
//! goes down or is no longer permitted, the next datagram starts a new flow to another endpoint. At the limit of flows a
//! new flow replaces the oldest unanswered flow.
//!
//! # Not here
//! Queues: a datagram that cannot be sent at once is dropped and counted, as in a router. Load: answers are not matched
//! to requests, so only health, dials and ceilings decide.

mod flow;

use self::flow::{Flow, Key, Names, is_refusal, moment};
use super::admission::{Admitted, admit_flow};
use super::refusal::Refusal;
use super::selection::{Reach, Selection, Tried, select};
use super::withheld;
use super::worker::{Cells, Stopped, Worker};
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::plan::{
    Address, ClassIndex, ClusterIndex, ListenerIndex, Protocol, Transport,
};
use crate::decision::units::{Timestamp, hash};
use crate::os::datagram::{Datagrams, Run};
use crate::os::process;
use crate::policy::{PolicyRequest, Seat};
use crate::shared::{Counted, Scarcity, View};
use crate::telemetry::cells::ListenerCells;
use crate::telemetry::results::StatusClass;
use socket2::Socket;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// The interval between two checks whether a silent flow may continue.
const LOOK: Duration = Duration::from_secs(5);
/// How long the proxy waits for answers after the listener has stopped.
const LINGER: Duration = Duration::from_secs(1);
/// The most batches received in one turn before other tasks run.
const BATCHES_A_TURN: usize = 8;

/// The most batches received after a listener is stopped: more than its queue can hold, but bounded even if
/// clients continue to send.
const LAST_BATCHES: usize = 64;

/// A listening socket and its flows.
struct Listening {
    address: Address,
    socket: Datagrams,
    flows: RefCell<HashMap<Key, Rc<Flow>>>,
    /// Unanswered flows, the oldest first. Flows that were answered meanwhile, or have ended, may still be in the
    /// list.
    unanswered: RefCell<VecDeque<Weak<Flow>>>,
    stopped: Cell<Option<Timestamp>>,
    stop: Notify,
}

/// Serves the datagrams of one listening socket until it is stopped.
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
            // The stop command first; datagrams that have already arrived are still served.
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

/// Continues to receive while flows wait for their last answers: the socket is still bound. If a reload has
/// added the listener again, the kernel still assigns a part of the datagrams to this socket.
async fn linger(worker: &Rc<Worker>, listening: &Rc<Listening>, address: &Address) {
    let is_back = || {
        let view = worker.view();
        let index = view.plan.listener_at(Transport::Datagram, address);
        let is_udp = |index: ListenerIndex| {
            matches!(view.plan.listeners[index].protocol, Protocol::Udp { .. })
        };
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

/// Receives the available datagrams and forwards them.
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
            // An ICMP error from a client that is gone: an answer could not be delivered.
            Err(_) => {}
        }
    }
}

/// The listener of received datagrams, and the view for the selection of endpoints.
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

    fn cluster_of(&self, flow: &Flow) -> Option<ClusterIndex> {
        self.view.plan.clusters.find(|cluster| cluster.name == flow.names.cluster)
    }

    fn refuse(&self, run: &Run<'_>, refusal: Option<Refusal>) {
        self.cells.dropped.add(run.count());
        let Some(refusal) = refusal else { return };
        self.cells.refusals[refusal].add(1);
        let service = self.view.plan.classes[self.class].service;
        let exchange = self.worker.exchange_cells(self.view, self.index, Some(service), None);
        exchange.by_class[StatusClass::None].add(1);
    }

    /// Selects an endpoint for a new flow. The endpoints in `tried` have refused datagrams. If the error has no
    /// refusal, it was already counted.
    fn begin(&self, key: Key, tried: &mut Tried) -> Result<Rc<Flow>, Option<Refusal>> {
        let (worker, view) = (self.worker, self.view);
        let client = key.0.ip().to_canonical();
        let (admitted, seat) = self.admit(client)?;
        let seed = hash(client.to_string().as_bytes());
        loop {
            let selected = select(worker, view, self.class, tried, seed, Reach::Anywhere);
            let selection = selected.map_err(|refusal| {
                withheld::note(worker, view, (self.index, self.class), refusal, client, "");
                Some(refusal)
            })?;
            let held = self.count(&selection).ok_or(Some(Refusal::Overloaded))?;
            match self.socket_towards(&selection)? {
                Some(upstream) => {
                    let counts = (admitted, seat, held);
                    return Ok(self.start(key, upstream, selection, counts));
                }
                None => tried.add(selection.cluster, selection.signals(view).id),
            }
        }
    }

    /// Whether the listener and the service's policy permit another flow of this client.
    fn admit(&self, client: IpAddr) -> Result<(Admitted, Seat), Option<Refusal>> {
        let (worker, view) = (self.worker, self.view);
        if worker.shared.scarcity() >= Scarcity::Refuse {
            return Err(Some(Refusal::Overloaded));
        }
        let listener = &view.plan.listeners[self.index];
        let evict = || self.listening.evict();
        let admitted = admit_flow(worker, listener, client, evict).ok_or(None)?;
        let seat = match view.plan.service_of(self.class).policy {
            Some(policy) => view.policies.admit(policy, &PolicyRequest::flow(client)),
            None => Ok(None),
        };
        let seat = seat.map_err(|why| Some(Refusal::from(&why)))?;
        Ok((admitted, seat))
    }

    /// Counts a flow to the cluster, and evicts an unanswered flow if necessary; `None` if the cluster is full.
    fn count(&self, selection: &Selection) -> Option<Counted> {
        let most = self.view.plan.clusters[selection.cluster].connections_max;
        let live = &self.view.clusters[selection.cluster];
        let count = || self.worker.shared.count_upstream(live, most);
        count().or_else(|| self.listening.evict().then(count).flatten())
    }

    /// A socket to the endpoint, and its address; `None` if the endpoint failed, which is reported.
    ///
    /// # Errors
    /// A refusal if the proxy has no port, descriptor or memory left.
    fn socket_towards(
        &self,
        selection: &Selection,
    ) -> Result<Option<(Datagrams, SocketAddr)>, Option<Refusal>> {
        let endpoint = selection.signals(self.view);
        let towards = match &endpoint.address {
            Address::Ip(address) => Datagrams::towards(*address).map(|made| (made, *address)),
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        match towards {
            Ok(made) => Ok(Some(made)),
            // EAGAIN: no port is left.
            Err(error)
                if process::is_exhaustion(&error) || error.kind() == io::ErrorKind::WouldBlock =>
            {
                Err(Some(Refusal::Overloaded))
            }
            Err(_) => {
                let (endpoint, cause, client) = (endpoint.id, Cause::Refused, None);
                self.worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
                Ok(None)
            }
        }
    }

    /// Starts a flow on its socket, with the task that returns answers to the client.
    fn start(
        &self,
        key: Key,
        (upstream, to): (Datagrams, SocketAddr),
        selection: Selection,
        (admitted, seat, held): (Admitted, Seat, Counted),
    ) -> Rc<Flow> {
        let (worker, view) = (self.worker, self.view);
        let listener = &view.plan.listeners[self.index];
        let class = &view.plan.classes[self.class];
        let now = worker.now();
        let group = view.clusters[selection.cluster].group.as_ref();
        let flow = Rc::new(Flow {
            key,
            upstream,
            to,
            endpoint: selection.signals(view).id,
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
            exchange: worker.exchange_cells(
                view,
                self.index,
                Some(class.service),
                Some(selection.cluster),
            ),
            names: Names {
                listener: listener.name.clone(),
                service: view.plan.services[class.service].name.clone(),
                data: class.data.join(","),
                cluster: view.plan.clusters[selection.cluster].name.clone(),
                reason: selection.why.label(),
            },
            meter: view.slots.meter(worker.id, self.class, selection.slot),
            line: group.map(|group| group.meter.clone()),
            held: RefCell::new(Some((admitted, seat, held, selection.into_counts()))),
        });
        self.listening.note(&flow);
        let answers = answer(worker.clone(), self.listening.clone(), flow.clone());
        tokio::task::spawn_local(answers);
        flow
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

    /// When a flow ends if no further datagram arrives.
    fn end_of(&self, flow: &Flow) -> Timestamp {
        let silent = flow.expires();
        self.stopped.get().map_or(silent, |since| silent.min(since.plus(LINGER)))
    }

    /// Ends the oldest unanswered flow; returns whether there was one.
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

/// Returns answers to the client until the flow ends.
async fn answer(worker: Rc<Worker>, listening: Rc<Listening>, flow: Rc<Flow>) {
    while !flow.over.get() {
        let left = listening.end_of(&flow).since(worker.now()).min(LOOK);
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
        // The client may have a newer flow.
        if flows.get(&flow.key).is_some_and(|known| Rc::ptr_eq(known, &flow)) {
            flows.remove(&flow.key);
        }
    }
    flow.log(&worker);
}

/// Whether a flow may continue according to the latest view, even if its client is silent.
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
        let bytes = run.bytes.len() as u64;
        if let Some(line) = &flow.line {
            line.received(run.bytes.len());
        }
        if let Some(meter) = flow.meter.count() {
            meter.add(bytes);
        }
        flow.moved.set(worker.about_now());
        flow.answered.set(true);
        if listening.socket.send(&run, client, ours).is_err() {
            flow.cells.dropped.add(run.count());
            continue;
        }
        flow.bytes_out.set(flow.bytes_out.get() + bytes);
        flow.cells.bytes_out.add(bytes);
    }
}
