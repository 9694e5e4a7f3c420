//! Idle connections of one worker, keyed by endpoint, checked when taken and when returned.

use crate::buffer::Buffer;
use crate::deadline::Watch;
use crate::decision::index::EndpointIndex;
use crate::decision::plan::{Cluster, ClusterIndex, SendProxy};
use crate::decision::signal::State;
use crate::decision::units::Timestamp;
use crate::os::stream::Stream;
use crate::os::turn::{self, Turn};
use crate::shared::{Counted, For, Held, View};
use rustc_hash::FxHashMap;
use std::time::Duration;

/// A connection to an endpoint. It lives in a box: exchanges and the pool pass it on many times.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Bytes that were read and not yet used.
    pub buffer: Option<Buffer>,
    /// The deadline of reads.
    pub read_watch: Watch,
    /// The deadline of writes.
    pub write_watch: Watch,
    /// Whether it has served an exchange before.
    pub reused: bool,
    /// The id of its TLS settings; 0 without TLS.
    pub secured: u64,
    /// Whether a PROXY header named the client: then the connection is never used for another client.
    pub personal: bool,
    held: Counted,
}

impl Connection {
    /// A new connection, counted by `held`.
    #[must_use]
    pub fn new(stream: Stream, read_watch: Watch, write_watch: Watch, held: Counted) -> Connection {
        Connection {
            stream,
            buffer: None,
            read_watch,
            write_watch,
            reused: false,
            secured: 0,
            personal: false,
            held,
        }
    }

    /// The stream alone, for a tunnel; it still counts.
    #[must_use]
    pub fn into_stream(self) -> (Stream, Option<Buffer>, Counted) {
        (self.stream, self.buffer, self.held)
    }
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Timestamp,
    /// The event loop's turn in which the connection became idle.
    turn: Turn,
    #[expect(dead_code, reason = "held to be counted as idle until dropped")]
    counted: Held,
}

/// Idle connections of one endpoint.
#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Idle>,
    /// The shortest idle time after which the endpoint has closed a connection.
    closes_after: Option<Duration>,
}

/// An endpoint's id and the id of its TLS settings.
pub type Key = (u32, u64);

/// All idle connections of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    shelves: FxHashMap<Key, Shelf>,
    swept: Timestamp,
    /// The worker.
    worker: usize,
}

/// The keep-alive time before the endpoint's own is known, and the maximum.
const KEPT_AT_FIRST: Duration = Duration::from_secs(4);
const KEPT_MAX: Duration = Duration::from_secs(60);
/// The minimum: a cluster that restarts also closes recent connections, which is no evidence of its keep-alive time.
const KEPT_MIN: Duration = Duration::from_secs(1);
/// The interval between two checks of idle connections.
const SWEEP: Duration = Duration::from_millis(200);

impl Pool {
    /// An empty pool of a worker.
    #[must_use]
    pub fn of(worker: usize) -> Pool {
        Pool { worker, ..Pool::default() }
    }

    /// The most recently used idle connection to an endpoint on which nothing has arrived. Connections that became idle in
    /// an earlier turn of the event loop are preferred: the runtime has polled the kernel since, so it knows what arrived
    /// before the request did. A connection that became idle in this turn is checked by a system call.
    pub fn take(&mut self, key: Key, now: Timestamp) -> Option<Box<Connection>> {
        let shelf = self.shelves.get_mut(&key)?;
        let turn = turn::current();
        while let Some(idle) = shelf.pop(turn) {
            let stream = &idle.connection.stream;
            let quiet = if idle.turn < turn { stream.seems_quiet() } else { stream.is_quiet() };
            if quiet {
                let mut connection = idle.connection;
                connection.reused = true;
                return Some(connection);
            }
            shelf.learn(now.since(idle.since));
        }
        None
    }

    /// Keeps a connection, unless its endpoint was removed, is drained or down, or has `most` connections already.
    pub fn put(
        &mut self,
        mut connection: Box<Connection>,
        key: Key,
        cluster: ClusterIndex,
        view: &View,
        most: usize,
        now: Timestamp,
    ) {
        let unused = connection.buffer.take().is_some_and(|buffer| !buffer.is_empty());
        if connection.personal
            || unused
            || !may_keep(view, cluster, key)
            || !connection.stream.seems_quiet()
        {
            return;
        }
        let (Some(live), worker) = (view.clusters.get(cluster), self.worker) else { return };
        if live.connection_queue.claims(worker) == For::Elsewhere {
            // Dropped, so that the waiting exchange may make a connection.
            return;
        }
        let counted = Held::enter(&live.idle);
        let shelf = self.shelves.entry(key).or_default();
        if shelf.idle.len() < most {
            let turn = turn::in_use();
            shelf.idle.push(Idle { connection, since: now, turn, counted });
        }
    }

    /// Closes the idle connections of clusters at their limit if an exchange waits, so that another worker may make a
    /// connection.
    pub fn yield_to_waiting(&mut self, view: &View) {
        if view.clusters.iter().all(|live| live.connection_queue.is_empty()) {
            return;
        }
        for ((endpoint, _), shelf) in &mut self.shelves {
            let live = view.place(*endpoint).and_then(|(cluster, _)| view.clusters.get(cluster));
            if live.is_some_and(|live| !live.connection_queue.is_empty()) {
                shelf.idle.clear();
            }
        }
    }

    /// Closes all idle connections, because descriptors are scarce.
    pub fn clear(&mut self) {
        self.shelves.values_mut().for_each(|shelf| shelf.idle.clear());
    }

    /// Closes connections that are dead, too old, or whose endpoint is not usable.
    pub fn sweep(&mut self, view: &View, now: Timestamp) {
        if now.since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.shelves.retain(|key, shelf| {
            let Some((cluster, endpoint)) = place(view, *key) else { return false };
            if !view.signals.clusters[cluster].is_usable(endpoint) {
                return false;
            }
            shelf.sweep(view.plan.clusters[cluster].pool_idle, now);
            !shelf.idle.is_empty() || shelf.closes_after.is_some()
        });
    }

    /// The number of idle connections to an endpoint.
    #[must_use]
    pub fn idle_at(&self, key: Key) -> usize {
        self.shelves.get(&key).map_or(0, |shelf| shelf.idle.len())
    }

    /// The number of idle connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelves.values().map(|shelf| shelf.idle.len()).sum()
    }

    /// Whether there are no idle connections.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shelf {
    /// The last connection that became idle before this turn; otherwise the last one.
    fn pop(&mut self, turn: Turn) -> Option<Idle> {
        let earlier = self.idle.partition_point(|idle| idle.turn < turn);
        match earlier.checked_sub(1) {
            Some(index) => Some(self.idle.remove(index)),
            None => self.idle.pop(),
        }
    }

    fn learn(&mut self, idle: Duration) {
        let shortest = self.closes_after.map_or(idle, |known| known.min(idle));
        self.closes_after = Some(shortest);
    }

    fn sweep(&mut self, fixed: Option<Duration>, now: Timestamp) {
        let kept = fixed.unwrap_or_else(|| {
            let learned = |idle: Duration| idle.mul_f64(0.8).clamp(KEPT_MIN, KEPT_MAX);
            self.closes_after.map_or(KEPT_AT_FIRST, learned)
        });
        let mut closed = None;
        self.idle.retain(|idle| {
            let age = now.since(idle.since);
            let quiet = idle.connection.stream.seems_quiet();
            if !quiet {
                closed = Some(closed.map_or(age, |known: Duration| known.min(age)));
            }
            quiet && age < kept
        });
        if let Some(age) = closed {
            self.learn(age);
        }
    }
}

/// The id of a cluster's TLS settings; 0 without TLS.
#[must_use]
pub fn secured(view: &View, cluster: ClusterIndex) -> u64 {
    view.tls.cluster(cluster).map_or(0, |upstream| upstream.id)
}

/// Where an endpoint with these TLS settings is; `None` if its cluster is being drained.
fn place(view: &View, (endpoint, tls): Key) -> Option<(ClusterIndex, EndpointIndex)> {
    let (cluster, index) = view.place(endpoint)?;
    let is_open = view.signals.clusters.get(cluster)?.state != State::Draining;
    (is_open && secured(view, cluster) == tls).then_some((cluster, index))
}

/// Whether an endpoint is up, and has these TLS settings.
#[must_use]
pub fn usable(view: &View, key: Key) -> bool {
    let known = place(view, key);
    known.is_some_and(|(cluster, index)| view.signals.clusters[cluster].uses(index))
}

fn may_keep(view: &View, cluster: ClusterIndex, key: Key) -> bool {
    let shared = |plan: &Cluster| plan.send_proxy == SendProxy::None;
    view.plan.clusters.get(cluster).is_some_and(shared)
        && view.place(key.0).is_some_and(|(at, _)| at == cluster)
        && usable(view, key)
}
