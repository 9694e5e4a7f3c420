//! A worker thread: its runtime, its listening sockets, and its periodic tasks.

use crate::accept::{Accepted, accept};
use crate::admission::{admit, must_wait};
use crate::deadline::TICK;
use crate::decision::plan::{Address, BindKey, ListenerIndex, Transport};
use crate::l4;
use crate::l7;
use crate::os::stream::Stream;
use crate::os::{clock, cores, process, turn};
use crate::refusal::Refusal;
use crate::shared::{Scarcity, Shared, View};
use crate::telemetry::access_log::AccessLog;
use crate::udp;
use crate::upstream::warm::warm;
use crate::worker::{Stopped, Viewed, Worker};
use rustix::net::{SocketFlags, accept_with};
use socket2::Socket;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

/// Commands to a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on this listening socket.
    Listen {
        /// The key of the socket.
        key: BindKey,
        /// The socket.
        socket: Socket,
    },
    /// Accept the queued connections, then stop listening, then answer.
    Stop {
        /// The key of the socket.
        key: BindKey,
        /// Answered when no connection is queued any more.
        done: oneshot::Sender<()>,
    },
    /// Close idle connections, and let active connections finish.
    Drain,
    /// End the thread, and answer.
    End(oneshot::Sender<()>),
}

/// A connection accepted by another worker.
#[derive(Debug)]
pub struct HandedOver {
    socket: Socket,
    address: Address,
}

/// The inputs of a worker's thread.
#[derive(Debug)]
pub struct WorkerSetup {
    /// The worker's number.
    pub id: usize,
    /// The core that the thread is pinned to.
    pub core: Option<usize>,
    /// The state that all threads share.
    pub shared: Arc<Shared>,
    /// The queue of the access log.
    pub log: AccessLog,
    /// Commands from the main thread.
    pub commands: mpsc::Receiver<Command>,
    /// Connections that other workers hand over.
    pub inbox: mpsc::Receiver<HandedOver>,
    /// Queues to hand connections over: one for each worker.
    pub outboxes: Vec<mpsc::Sender<HandedOver>>,
}

/// The most connections accepted in one turn before other tasks run.
const ACCEPTS_A_TURN: usize = 16;
/// The most connections that a stopped listener still accepts: more than the listen backlog can hold.
const QUEUE_MAX: usize = 65_536;
/// The least difference in utilisation for handing a connection over to a less busy worker, in per mille.
const HANDOVER_MARGIN: u32 = 200;
/// The interval between two measurements of a worker's utilisation.
const BUSY_WINDOW: Duration = Duration::from_millis(250);

/// Runs a worker until a command ends it.
///
/// # Errors
/// When the runtime cannot be created.
pub fn run(setup: WorkerSetup) -> io::Result<()> {
    if let Some(core) = setup.core {
        cores::stay_on(core);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(31)
        .on_thread_unpark(turn::begin)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(setup));
    Ok(())
}

/// The command to stop an acceptor; the inner sender is answered when the acceptor has stopped.
type Stop = oneshot::Sender<oneshot::Sender<()>>;

async fn serve(mut setup: WorkerSetup) {
    let worker = Worker::new(setup.id, setup.shared.clone(), setup.log.clone());
    let outboxes = Rc::new(std::mem::take(&mut setup.outboxes));
    let mut acceptors: HashMap<BindKey, Stop> = HashMap::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut busy = Busy::new();
    loop {
        tokio::select! {
            // Commands first: they must not wait behind connections.
            biased;
            command = setup.commands.recv() => match command {
                None => return,
                Some(Command::End(done)) => {
                    if done.send(()).is_err() {
                        tracing::debug!("end of a worker not reported: the main task has gone");
                    }
                    return;
                }
                Some(command) => obey(&worker, &outboxes, &mut acceptors, command),
            },
            Some(handed) = setup.inbox.recv() => begin(&worker, handed.socket, &handed.address),
            _ = ticks.tick() => {
                worker.tick();
                warm(&worker);
                busy.measure(&worker);
            }
        }
    }
}

fn obey(
    worker: &Rc<Worker>,
    outboxes: &Rc<Vec<mpsc::Sender<HandedOver>>>,
    acceptors: &mut HashMap<BindKey, Stop>,
    command: Command,
) {
    match command {
        Command::Listen { key, socket } => {
            let (stop, stopped) = oneshot::channel();
            let (worker, address) = (worker.clone(), key.address.clone());
            match key.transport {
                Transport::Stream => {
                    let accepting = accept_loop(worker, outboxes.clone(), socket, address, stopped);
                    tokio::task::spawn_local(accepting);
                }
                Transport::Datagram => {
                    tokio::task::spawn_local(udp::serve(worker, socket, address, stopped));
                }
                #[cfg(feature = "http3")]
                Transport::Quic => {
                    let serve = l7::inbound::h3_listener::serve(worker, socket, address, stopped);
                    tokio::task::spawn_local(serve);
                }
                // `check` has refused this combination.
                #[cfg(not(feature = "http3"))]
                Transport::Quic => {}
            }
            acceptors.insert(key, stop);
        }
        Command::Stop { key, done } => {
            if let Some(stop) = acceptors.remove(&key)
                && stop.send(done).is_err()
            {
                tracing::debug!(?key, "acceptor not stopped: it has ended already");
            }
        }
        Command::Drain => worker.deadlines.end_idle(),
        Command::End(_) => {}
    }
}

async fn accept_loop(
    worker: Rc<Worker>,
    outboxes: Rc<Vec<mpsc::Sender<HandedOver>>>,
    socket: Socket,
    address: Address,
    mut stopped: Stopped,
) {
    #[expect(deprecated, reason = "the other constructor is unsafe; a Socket owns its descriptor")]
    let registered = AsyncFd::with_interest(socket, Interest::READABLE);
    let socket = match registered {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "listener {address} accepts nothing in this worker: its socket cannot be registered");
            return;
        }
    };
    let mut backoff = Duration::from_millis(10);
    loop {
        tokio::select! {
            // Stop first, but only after the listen backlog is empty: see below.
            biased;
            done = &mut stopped => {
                // Connections in the kernel's backlog are served before the listener stops.
                for _ in 0..QUEUE_MAX {
                    let Ok(accepted) = accept_one(socket.get_ref()) else { break };
                    begin(&worker, accepted, &address);
                }
                if done.is_ok_and(|done| done.send(()).is_err()) {
                    tracing::debug!("end of a listener not reported: the main task has gone");
                }
                return;
            }
            ready = socket.readable() => {
                let Ok(mut ready) = ready else { return };
                if worker.shared.scarcity() == Scarcity::NoAccept {
                    // Connections in the kernel's backlog use no memory of the process.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
                for _ in 0..ACCEPTS_A_TURN {
                    match ready.try_io(|socket| accept_one(socket.get_ref())) {
                        Ok(Ok(accepted)) => {
                            backoff = Duration::from_millis(10);
                            take(&worker, &outboxes, accepted, &address);
                        }
                        Ok(Err(error)) => {
                            if process::is_exhaustion(&error) {
                                tracing::warn!(%error, "connections stay in the listen backlog: out of descriptors or memory");
                                tokio::time::sleep(backoff).await;
                                backoff = (backoff * 2).min(Duration::from_millis(50));
                            }
                            break;
                        }
                        Err(_would_block) => break,
                    }
                }
            }
        }
        // The accepted connections start before the next ones are accepted.
        tokio::task::yield_now().await;
    }
}

fn accept_one(socket: &Socket) -> io::Result<Socket> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(Socket::from(accept_with(socket, flags)?))
}

/// Serves a connection here, or hands it to a worker that is much less busy, before any byte is read.
fn take(
    worker: &Rc<Worker>,
    outboxes: &Rc<Vec<mpsc::Sender<HandedOver>>>,
    socket: Socket,
    address: &Address,
) {
    let busy = |id: usize| worker.shared.busy.get(id).map_or(0, |b| b.load(Ordering::Relaxed));
    let least = (0..outboxes.len()).min_by_key(|id| busy(*id)).unwrap_or(worker.id);
    if busy(worker.id) <= busy(least) + HANDOVER_MARGIN {
        return begin(worker, socket, address);
    }
    let handed = HandedOver { socket, address: address.clone() };
    // A full queue means that the other worker is busy too.
    if let Err(mpsc::error::TrySendError::Full(kept) | mpsc::error::TrySendError::Closed(kept)) =
        outboxes[least].try_send(handed)
    {
        begin(worker, kept.socket, &kept.address);
    }
}

/// Starts serving a connection, if the limits permit.
fn begin(worker: &Rc<Worker>, socket: Socket, address: &Address) {
    let view = worker.view();
    // By address: the listener may have been renamed since the socket was bound.
    let Some(index) = view.plan.listener_at(Transport::Stream, address) else { return };
    let listener = &view.plan.listeners[index];
    let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    // Behind a load balancer that sends PROXY headers, the peer's address is that of the load balancer and
    // is not counted.
    let client = peer.map(|peer| peer.ip()).filter(|peer| !listener.is_proxied(*peer));
    if must_wait(worker, listener, client) {
        // Closes with a reset: a client that connects in a loop should leave no state in the kernel either.
        if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
            tracing::trace!(%error, "refused connection closed without RST: cannot set SO_LINGER");
        }
        return;
    }
    let Some(admitted) = admit(worker, listener, client) else { return };
    let stream = match Stream::adopt(socket) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "client connection dropped: its socket cannot be registered");
            return;
        }
    };
    let worker = worker.clone();
    let accepting = Box::pin(accepted(worker.clone(), stream, view.clone(), index));
    tokio::task::spawn_local(async move {
        // Released when the connection ends, and also when its task panics. Not moved: it would be kept twice.
        let _held = &admitted;
        let Some(accepted) = accepting.await else { return };
        let Some(_of_client) = count_proxied(&worker, &view, index, &accepted) else { return };
        match accepted.class {
            None => l7::inbound::h1_connection::serve(worker, accepted, view, index).await,
            // Boxed: the future of an idle HTTP connection should stay small.
            Some(class) => Box::pin(l4::serve(worker, accepted, view, index, class)).await,
        }
    });
}

async fn accepted(
    worker: Rc<Worker>,
    stream: Stream,
    view: Viewed,
    index: ListenerIndex,
) -> Option<Box<Accepted>> {
    accept(&worker, stream, &view, index).await
}

/// Counts a connection by the client address in its PROXY header. `None`: the client has reached its limit, or must
/// wait.
fn count_proxied(
    worker: &Worker,
    view: &View,
    index: ListenerIndex,
    accepted: &Accepted,
) -> Option<Option<crate::shared::OfClient>> {
    let listener = &view.plan.listeners[index];
    if !listener.is_proxied(accepted.stream.peer()) {
        return Some(None);
    }
    if must_wait(worker, listener, Some(accepted.peer())) {
        accepted.stream.reset_on_close();
        return None;
    }
    let Some(most) = listener.limits.connections_per_client else { return Some(None) };
    let counted = worker.shared.by_client.enter(accepted.peer(), most);
    if counted.is_none() {
        let cells = worker.listener_cells(&listener.name);
        cells.refusals[Refusal::Overloaded].add(1);
        accepted.stream.reset_on_close();
    }
    counted.map(Some)
}

/// A worker's utilisation, from the runtime's metrics.
struct Busy {
    since: crate::decision::units::Timestamp,
    before: Duration,
}

impl Busy {
    fn new() -> Busy {
        Busy { since: clock::now(), before: Duration::ZERO }
    }

    fn measure(&mut self, worker: &Worker) {
        let now = clock::now();
        let elapsed = now.since(self.since);
        if elapsed < BUSY_WINDOW {
            return;
        }
        let metrics = tokio::runtime::Handle::current().metrics();
        if let Some(cell) = worker.shared.tasks.get(worker.id) {
            let tasks = u32::try_from(metrics.num_alive_tasks()).unwrap_or(u32::MAX);
            cell.store(tasks, Ordering::Relaxed);
        }
        let total = metrics.worker_total_busy_duration(0);
        let busy = total.saturating_sub(self.before).as_secs_f64() / elapsed.as_secs_f64();
        if let Some(cell) = worker.shared.busy.get(worker.id) {
            cell.store((busy * 1e3).clamp(0.0, 1e3) as u32, Ordering::Relaxed);
        }
        (self.since, self.before) = (now, total);
    }
}
