//! Listening sockets: bound for a plan, handed to the workers, and stopped when no plan has them.

use super::worker;
use crate::config::Problem;
use crate::config::error::Position;
use crate::decision::plan::{Address, Plan, Spot, Transport};
use crate::os::inherit::Inherited;
use crate::os::listen;
use socket2::Socket;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// To accept what is queued, and to say so.
const STOPPED: Duration = Duration::from_secs(5);

/// The sockets of the plan in force.
#[derive(Debug)]
pub(super) struct Sockets {
    workers: Vec<mpsc::Sender<worker::Command>>,
    listening: BTreeMap<Spot, Listening>,
    inherited: Inherited,
    /// Places whose sockets flows and connections may hold for a while after they were stopped.
    lingering: Vec<Spot>,
    /// Whether a successor listens at the same places: their files are its own then.
    handed_over: bool,
}

#[derive(Debug)]
struct Listening {
    name: String,
    bound: Address,
    /// Copies of the workers' sockets, for a successor.
    sockets: Vec<Socket>,
}

/// Sockets that are bound and wait for their configuration to be in force.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    spot: Spot,
    pub(super) bound: Address,
    pub(super) sockets: Vec<Socket>,
}

impl Sockets {
    /// No sockets yet, for these workers.
    pub(super) fn new(workers: Vec<mpsc::Sender<worker::Command>>) -> Sockets {
        Sockets {
            workers,
            listening: BTreeMap::new(),
            inherited: Inherited::default(),
            lingering: Vec::new(),
            handed_over: false,
        }
    }

    /// Takes sockets that this process was started with, before it binds its own.
    pub(super) fn inherit(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    /// Leaves everything that can be seen from outside to a successor.
    pub(super) fn hand_over(&mut self) {
        self.handed_over = true;
    }

    /// The sockets that a successor gets.
    pub(super) fn to_pass(&self) -> impl Iterator<Item = &Socket> {
        let passed = self.listening.iter().filter(|(spot, _)| spot.transport != Transport::Quic);
        passed.flat_map(|(_, listening)| &listening.sockets)
    }

    /// Where each listener is: with the port the kernel chose, where port 0 was asked.
    pub(super) fn addresses(&self) -> BTreeMap<String, Address> {
        let entry = |l: &Listening| (l.name.clone(), l.bound.clone());
        self.listening.values().map(entry).collect()
    }

    /// Binds what is new. Nothing listens yet.
    pub(super) fn bind(&mut self, plan: &Plan) -> Result<Vec<Built>, Problem> {
        let mut built: Vec<Built> = Vec::new();
        for (listener, spot) in
            plan.listeners.iter().flat_map(|listener| listener.spots().map(move |s| (listener, s)))
        {
            if self.listening.contains_key(&spot) {
                continue;
            }
            // Where the kernel chose a port, it is the listener's for every transport.
            let chosen = self.listening.iter().map(|(known, listening)| (known, &listening.bound));
            let chosen = chosen.chain(built.iter().map(|built| (&built.spot, &built.bound)));
            let mut beside = chosen.filter(|(known, _)| known.address == spot.address);
            let address = beside.next().map_or(&spot.address, |(_, bound)| bound).clone();
            let place = Spot { address, ..spot.clone() };
            // Our own sockets there would make the trial bind fail; they are about to go.
            let mut known = self.listening.keys().chain(&self.lingering);
            let ours = known.any(|known| same_port(known, &place));
            // QUIC's are a predecessor's own, until it has ended.
            let theirs = spot.transport == Transport::Quic && Inherited::has_predecessor();
            let trial = if ours || theirs { listen::Trial::None } else { listen::Trial::First };
            // QUIC's connections are known to one process alone: they are not passed on.
            let found = match spot.transport {
                Transport::Quic => Vec::new(),
                Transport::Stream | Transport::Datagram => self.inherited.for_spot(&place),
            };
            let count = self.workers.len();
            let sockets = match found.is_empty() {
                false => listen::share_out(&place, found, count),
                true => listen::bind(&place, listener.mode, count, trial),
            };
            let sockets =
                sockets.map_err(|error| unbound(&listener.name, &listener.address, &error))?;
            let bound = sockets.first();
            let bound = bound.map_or(place.address.clone(), |socket| {
                listen::local_address(socket, &place.address)
            });
            built.push(Built { name: listener.name.clone(), spot, bound, sockets });
        }
        Ok(built)
    }

    /// Hands new sockets out.
    pub(super) async fn hand_out(&mut self, plan: &Plan, built: Vec<Built>) {
        for Built { name, spot, bound, sockets } in built {
            let by = spot.transport.label();
            tracing::info!(listener = name, address = %bound, by, "listener {name} listening on {bound}");
            let copies = sockets.iter().filter_map(|socket| socket.try_clone().ok()).collect();
            for (worker, socket) in self.workers.iter().zip(sockets) {
                let spot = spot.clone();
                told(worker.send(worker::Command::Listen { spot, socket }).await);
            }
            self.listening.insert(spot, Listening { name, bound, sockets: copies });
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
            for spot in listener.spots() {
                if let Some(listening) = self.listening.get_mut(&spot) {
                    listening.name.clone_from(&listener.name);
                }
            }
            // The socket goes on; who may use it may have changed.
            if let Address::Unix(path) = &listener.address
                && let Err(error) = listen::set_mode(path, listener.mode)
            {
                tracing::warn!(%error, path = %path.display(), "mode of unix socket {} not changed", path.display());
            }
        }
    }

    /// Stops the listeners that a plan does not have, while the old view still knows them: what they
    /// have queued is served first.
    pub(super) async fn stop_unwanted(&mut self, plan: &Plan) {
        let wanted = |spot: &Spot| plan.listeners.iter().any(|l| l.spots().any(|s| s == *spot));
        let gone: Vec<Spot> = self.listening.keys().filter(|spot| !wanted(spot)).cloned().collect();
        for spot in gone {
            self.listening.remove(&spot);
            if spot.transport != Transport::Stream && !self.lingering.contains(&spot) {
                self.lingering.push(spot.clone());
            }
            let address = &spot.address;
            tracing::info!(%address, "listener on {address} stopped");
            for worker in &self.workers {
                let (done, stopped) = oneshot::channel();
                told(worker.send(worker::Command::Stop { spot: spot.clone(), done }).await);
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

fn same_port(a: &Spot, b: &Spot) -> bool {
    a.transport.collides(b.transport)
        && matches!((&a.address, &b.address), (Address::Ip(a), Address::Ip(b)) if a.port() == b.port() && a.port() != 0)
}

/// The problem of a listener that cannot listen.
pub(super) fn unbound(name: &str, address: &Address, error: &std::io::Error) -> Problem {
    let message = format!("cannot listen on {address}: {error}");
    Problem::error(Position::START, format!("listeners.{name}.address"), message)
}

/// Logs that a command found nobody.
pub(super) fn told<T>(result: Result<(), mpsc::error::SendError<T>>) {
    if result.is_err() {
        tracing::error!("command to a worker dropped: the worker has ended");
    }
}
