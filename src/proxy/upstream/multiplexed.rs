//! HTTP/2 connections to clusters, each shared by many exchanges.
//!
//! The h2 crate runs each connection in its own task; an exchange leases a stream. While the first connection is
//! being made, other exchanges wait for it.

use super::leaving::{Leaving, Rest};
use super::pool::Key;
use crate::coalesce::coalesced;
use crate::decision::units::Timestamp;
use crate::os::clock;
use crate::os::stream::Stream;
use crate::ping::unanswered;
use crate::shared::Counted;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// Concurrent streams of a connection, at most; fewer if the cluster's limit is lower.
const STREAMS_MAX: u32 = 100;
/// The keep-alive time of an unused connection.
const KEPT: Duration = Duration::from_secs(60);
/// The receive windows, in bytes, of a stream and of the connection: streams with slow clients must not use up the
/// connection's window.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;
/// The limit of a response's field list, in bytes.
const HEAD_MAX: u32 = 64 * 1024;

/// The state that a connection and its leases share.
#[derive(Debug)]
struct State {
    active: Cell<u32>,
    alive: Cell<bool>,
    used: Cell<Timestamp>,
    leaving: Leaving,
}

#[derive(Debug)]
struct H2Connection {
    send: SendRequest<Bytes>,
    state: Rc<State>,
}

impl H2Connection {
    /// Whether another stream may be opened: the cluster has neither closed the connection nor sent GOAWAY.
    fn takes_more(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let going = matches!(self.send.poll_ready(&mut nobody), Poll::Ready(Err(_)));
        self.state.alive.get() && !going
    }
}

/// A stream of a connection; dropping it releases the stream.
#[derive(Debug)]
pub struct Lease {
    /// The sender for one request.
    pub send: SendRequest<Bytes>,
    /// Whether the connection has served an exchange before.
    pub reused: bool,
    state: Rc<State>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.active.set(self.state.active.get().saturating_sub(1));
    }
}

impl Lease {
    /// Abandons the stream; `rest` reads the rest of it. The stream is cancelled at once or soon.
    pub fn give_up(self, rest: Rest, now: Timestamp) {
        let state = self.state.clone();
        state.leaving.add(rest, self, now);
    }

    /// Opens no further streams on this connection: the cluster is shutting it down.
    pub fn retire(&self) {
        self.state.alive.set(false);
    }
}

/// All HTTP/2 connections of one worker.
#[derive(Debug, Default)]
pub struct H2Pool {
    by_key: HashMap<Key, Vec<H2Connection>>,
    dialling: HashMap<Key, Rc<Notify>>,
    /// Endpoints that declined HTTP/2.
    only_http1: std::collections::HashSet<Key>,
}

impl H2Pool {
    /// A stream on the connection that has the most streams and is not full, so that other connections can
    /// become idle.
    pub fn lease(&mut self, key: Key, now: Timestamp) -> Option<Lease> {
        let connections = self.by_key.get_mut(&key)?;
        connections.retain_mut(H2Connection::takes_more);
        let most = |connection: &H2Connection| {
            u32::try_from(connection.send.current_max_send_streams())
                .unwrap_or(u32::MAX)
                .min(STREAMS_MAX)
        };
        let open = connections
            .iter()
            .filter(|connection| connection.state.active.get() < most(connection));
        let connection = open.max_by_key(|connection| connection.state.active.get())?;
        connection.state.active.set(connection.state.active.get() + 1);
        connection.state.used.set(now);
        Some(Lease { send: connection.send.clone(), reused: true, state: connection.state.clone() })
    }

    /// Whether there is a connection to an endpoint.
    #[must_use]
    pub fn has(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Whether an endpoint declined HTTP/2.
    #[must_use]
    pub fn is_only_http1(&self, key: Key) -> bool {
        self.only_http1.contains(&key)
    }

    /// Records that an endpoint declined HTTP/2, until the endpoint is no longer usable.
    pub fn note_only_http1(&mut self, key: Key) {
        self.only_http1.insert(key);
    }

    /// The notification to wait for if a connection is being made; `None`: the caller makes it, until it calls
    /// [`dialled`](H2Pool::dialled).
    pub fn dialling(&mut self, key: Key) -> Option<Rc<Notify>> {
        let known = self.dialling.get(&key).cloned();
        if known.is_none() {
            self.dialling.insert(key, Rc::default());
        }
        known
    }

    /// Wakes the waiting exchanges.
    pub fn dialled(&mut self, key: Key) {
        if let Some(notify) = self.dialling.remove(&key) {
            notify.notify_waiters();
        }
    }

    /// Closes connections that are unused for long, have ended, or whose endpoint is not `usable`.
    pub fn sweep(&mut self, usable: impl Fn(Key) -> bool, now: Timestamp) {
        self.only_http1.retain(|key| usable(*key));
        self.by_key.retain(|key, connections| {
            connections.retain_mut(|connection| {
                let idle = connection.state.active.get() == 0
                    && now.since(connection.state.used.get()) > KEPT;
                connection.takes_more() && !idle && usable(*key)
            });
            !connections.is_empty()
        });
    }

    fn add(&mut self, key: Key, connection: H2Connection) {
        self.by_key.entry(key).or_default().push(connection);
    }
}

/// Begins HTTP/2 on a new connection, adds it to the pool, and returns the first stream.
///
/// # Errors
/// When the cluster does not accept the preface.
pub async fn begin(
    pool: &std::cell::RefCell<H2Pool>,
    key: Key,
    stream: Stream,
    held: Counted,
    now: Timestamp,
) -> Result<Lease, h2::Error> {
    let (stream, outbox) = coalesced(stream, None);
    let shaking = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX)
        .max_concurrent_reset_streams(STREAMS_MAX as usize)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .handshake(stream);
    let (send, mut connection) = outbox.with(shaking).await?;
    let (active, alive, used) = (Cell::new(1), Cell::new(true), Cell::new(now));
    let state = Rc::new(State { active, alive, used, leaving: Leaving::default() });
    let of_task = state.clone();
    let ping = connection.ping_pong();
    tokio::task::spawn_local(async move {
        let _held = held;
        tokio::select! {
            // Check the end of the connection first: an ended connection does not answer pings.
            biased;
            ended = outbox.with(connection) => match ended {
                Ok(()) => tracing::debug!("HTTP/2 connection to an endpoint closed"),
                Err(error) => tracing::debug!(%error, "HTTP/2 connection to an endpoint failed"),
            },
            () = of_task.leaving.run(clock::now) => {}
            // Dropping the connection fails its streams.
            () = unanswered(ping, || of_task.active.get() > 0) => {
                tracing::debug!("HTTP/2 connection to an endpoint closed: PING not acknowledged");
            }
        }
        of_task.alive.set(false);
        of_task.leaving.end();
    });
    tracing::debug!("HTTP/2 connection to an endpoint opened");
    pool.borrow_mut().add(key, H2Connection { send: send.clone(), state: state.clone() });
    Ok(Lease { send, reused: false, state })
}
