//! Listening sockets: bound for a plan, passed to the workers, and stopped when the plan no longer contains them.

use crate::config::Problem;
use crate::config::error::Position;
use crate::decision::plan::{Address, BindKey, Plan, Transport};
use crate::os::inherit::Inherited;
use crate::os::listen;
use crate::proxy::worker_thread;
use socket2::Socket;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The time for a stopped listener to accept its queued connections.
const STOPPED: Duration = Duration::from_secs(5);

/// The sockets of the plan in force.
#[derive(Debug)]
pub(super) struct Sockets {
    workers: Vec<mpsc::Sender<worker_thread::Command>>,
    listening: BTreeMap<BindKey, Listening>,
    inherited: Inherited,
    /// The keys of stopped sockets that UDP flows or QUIC connections may still use.
    lingering: Vec<BindKey>,
    /// Whether a successor listens on the same addresses: the successor then owns the socket files.
    handed_over: bool,
}

#[derive(Debug)]
struct Listening {
    name: String,
    bound: Address,
    /// Copies of the workers' sockets, for a successor.
    sockets: Vec<Socket>,
}

/// Bound sockets of a listener whose configuration is not in force yet.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    key: BindKey,
    pub(super) bound: Address,
    pub(super) sockets: Vec<Socket>,
}

impl Sockets {
    /// Creates the state without sockets, for these workers.
    pub(super) fn new(workers: Vec<mpsc::Sender<worker_thread::Command>>) -> Sockets {
        Sockets {
            workers,
            listening: BTreeMap::new(),
            inherited: Inherited::default(),
            lingering: Vec::new(),
            handed_over: false,
        }
    }

    /// Adds the sockets that this process inherited, before it binds its own.
    pub(super) fn inherit(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    /// Hands the socket files over to a successor.
    pub(super) fn hand_over(&mut self) {
        self.handed_over = true;
    }

    /// The sockets to pass to a successor.
    pub(super) fn to_pass(&self) -> impl Iterator<Item = &Socket> {
        let passed = self.listening.iter().filter(|(key, _)| key.transport != Transport::Quic);
        passed.flat_map(|(_, listening)| &listening.sockets)
    }

    /// The address of each listener, with the port that the kernel chose for port 0.
    pub(super) fn addresses(&self) -> BTreeMap<String, Address> {
        let entry = |l: &Listening| (l.name.clone(), l.bound.clone());
        self.listening.values().map(entry).collect()
    }

    /// Binds sockets for new listeners. They do not listen yet.
    pub(super) fn bind(&mut self, plan: &Plan) -> Result<Vec<Built>, Problem> {
        let mut built: Vec<Built> = Vec::new();
        for (listener, key) in plan
            .listeners
            .iter()
            .flat_map(|listener| listener.bind_keys().map(move |s| (listener, s)))
        {
            if self.listening.contains_key(&key) {
                continue;
            }
            // If the kernel chose a port, all transports of the listener use that port.
            let chosen = self.listening.iter().map(|(known, listening)| (known, &listening.bound));
            let chosen = chosen.chain(built.iter().map(|built| (&built.key, &built.bound)));
            let mut beside = chosen.filter(|(known, _)| known.address == key.address);
            let address = beside.next().map_or(&key.address, |(_, bound)| bound).clone();
            let wanted = BindKey { address, ..key.clone() };
            // The trial bind would fail because of this process's own sockets, which are about to be
            // closed.
            let mut known = self.listening.keys().chain(&self.lingering);
            let ours = known.any(|known| same_port(known, &wanted));
            // A predecessor keeps its QUIC sockets until it ends.
            let theirs = key.transport == Transport::Quic && Inherited::has_predecessor();
            let trial = if ours || theirs { listen::Trial::None } else { listen::Trial::First };
            // QUIC sockets are not passed on: only the process that accepted a QUIC connection has its state.
            let found = match key.transport {
                Transport::Quic => Vec::new(),
                Transport::Stream | Transport::Datagram => self.inherited.for_key(&wanted),
            };
            let count = self.workers.len();
            let sockets = match found.is_empty() {
                false => listen::share_out(&wanted, found, count),
                true => listen::bind(&wanted, listener.mode, count, trial),
            };
            let sockets =
                sockets.map_err(|error| unbound(&listener.name, &listener.address, &error))?;
            let bound = sockets.first();
            let bound = bound.map_or(wanted.address.clone(), |socket| {
                listen::local_address(socket, &wanted.address)
            });
            built.push(Built { name: listener.name.clone(), key, bound, sockets });
        }
        Ok(built)
    }

    /// Sends the new sockets to the workers.
    pub(super) async fn hand_out(&mut self, plan: &Plan, built: Vec<Built>) {
        for Built { name, key, bound, sockets } in built {
            let by = key.transport.label();
            tracing::info!(listener = name, address = %bound, by, "listener {name} listening on {bound}");
            let copies = sockets.iter().filter_map(|socket| socket.try_clone().ok()).collect();
            for (worker, socket) in self.workers.iter().zip(sockets) {
                let key = key.clone();
                let sent = worker.send(worker_thread::Command::Listen { key, socket }).await;
                log_undelivered("a worker", sent);
            }
            self.listening.insert(key, Listening { name, bound, sockets: copies });
        }
        if !self.inherited.is_empty() {
            let count = self.inherited.len();
            tracing::warn!(
                count,
                "{count} inherited sockets closed: no listener has their addresses"
            );
            self.inherited = Inherited::default();
        }
        for listener in &plan.listeners {
            for key in listener.bind_keys() {
                if let Some(listening) = self.listening.get_mut(&key) {
                    listening.name.clone_from(&listener.name);
                }
            }
            // The socket stays; the permissions of its file may have changed.
            if let Address::Unix(path) = &listener.address
                && let Err(error) = listen::set_mode(path, listener.mode)
            {
                tracing::warn!(%error, path = %path.display(), "mode of unix socket {} not changed", path.display());
            }
        }
    }

    /// Stops the listeners that the new plan does not contain. The old view still contains them, so their
    /// queued connections are served first.
    pub(super) async fn stop_unwanted(&mut self, plan: &Plan) {
        let wanted =
            |key: &BindKey| plan.listeners.iter().any(|l| l.bind_keys().any(|s| s == *key));
        let gone: Vec<BindKey> =
            self.listening.keys().filter(|key| !wanted(key)).cloned().collect();
        for key in gone {
            self.listening.remove(&key);
            if key.transport != Transport::Stream && !self.lingering.contains(&key) {
                self.lingering.push(key.clone());
            }
            let address = &key.address;
            tracing::info!(%address, "listener on {address} stopped");
            for worker in &self.workers {
                let (done, stopped) = oneshot::channel();
                let sent =
                    worker.send(worker_thread::Command::Stop { key: key.clone(), done }).await;
                log_undelivered("a worker", sent);
                if !matches!(tokio::time::timeout(STOPPED, stopped).await, Ok(Ok(()))) {
                    tracing::warn!(%address, "listener on {address} not stopped in time by a worker");
                }
            }
            if let Address::Unix(path) = address
                && !self.handed_over
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::debug!(%error, path = %path.display(), "unix socket file not removed");
            }
        }
    }
}

fn same_port(a: &BindKey, b: &BindKey) -> bool {
    a.transport.collides(b.transport)
        && matches!((&a.address, &b.address), (Address::Ip(a), Address::Ip(b)) if a.port() == b.port() && a.port() != 0)
}

/// The problem report for a listener that cannot listen.
pub(super) fn unbound(name: &str, address: &Address, error: &std::io::Error) -> Problem {
    let message = listen::failure(address, error);
    Problem::error(Position::START, format!("listeners.{name}.address"), message)
}

/// Logs that a command was not delivered because the thread of its receiver has ended. This is an error: workers and the
/// control thread end only when the last command was sent, so an earlier end is a defect or a panic.
pub(super) fn log_undelivered<T>(receiver: &str, result: Result<(), mpsc::error::SendError<T>>) {
    if result.is_err() {
        tracing::error!(receiver, "command to {receiver} dropped: its thread has ended");
    }
}
