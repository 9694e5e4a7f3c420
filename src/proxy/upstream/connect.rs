//! The connection for an exchange: an idle one, or a new one within a timeout.
//!
//! Every address of a name is an endpoint of its own with its own probes, so health checks exclude a dead IPv6
//! address before it is dialled. This replaces happy eyeballs (RFC 8305).

use super::multiplexed::{self, Lease};
use super::pool::{Connection, Key};
use crate::decision::health::Cause;
use crate::decision::plan::{Address, Cluster, SendProxy};
use crate::decision::signal::EndpointSignals;
use crate::decision::tls_failure::TlsFailure;
use crate::os::process;
use crate::os::proxy_header::{self, Origin};
use crate::os::stream::Stream;
use crate::shared::{Counted, Held, LiveCluster};
use crate::tls::client::{Speaks, Upstream};
use crate::tls::handshake;
use crate::worker::Worker;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoConnection {
    /// The endpoint refused the connection or failed, for this cause.
    Endpoint(Cause),
    /// The exchange's connect timeout passed before the endpoint's own timeout.
    Late,
    /// The cluster has reached its connection limit, or other exchanges wait: the exchange must wait
    /// with [`wait_for_connection`].
    Busy,
    /// No connection became available in time, or the queue is full.
    Full,
    /// The proxy has no port, descriptor or memory left.
    Exhausted,
}

/// The connect timeout: four round trips plus 200 ms, from 250 ms to 2 s; 1 s if the round trip is unknown, which
/// leaves time for another endpoint.
#[must_use]
pub fn patience(cluster: &Cluster, rtt: Option<f64>) -> Duration {
    cluster.connect.unwrap_or_else(|| {
        Duration::from_secs_f64((4.0 * rtt.unwrap_or(0.2) + 0.2).clamp(0.25, 2.0))
    })
}

/// The properties of the required connection.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its counters.
    pub live: &'a LiveCluster,
    /// The endpoint.
    pub endpoint: &'a EndpointSignals,
    /// The TLS settings.
    pub upstream: Option<&'a Upstream>,
    /// Whether the connection must be new.
    pub fresh: bool,
    /// The client, if the cluster expects a PROXY header.
    pub origin: Option<Origin>,
    /// The protocol.
    pub speaks: Speaks,
}

impl Wanted<'_> {
    /// The key of suitable connections.
    fn key(&self) -> Key {
        (self.endpoint.id, self.upstream.map_or(0, |upstream| upstream.id))
    }
}

/// The upstream connection of an exchange.
#[derive(Debug)]
pub enum UpstreamConnection {
    /// An HTTP/1.1 connection.
    Http1(Box<Connection>),
    /// A stream on a shared HTTP/2 connection.
    Http2(Box<Lease>),
}

impl UpstreamConnection {
    /// Whether the connection has served an exchange before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        match self {
            UpstreamConnection::Http1(connection) => connection.reused,
            UpstreamConnection::Http2(lease) => lease.reused,
        }
    }

    /// The round trip of the handshake, if the connection is new.
    #[must_use]
    pub fn handshake_rtt(&self) -> Option<Duration> {
        match self {
            UpstreamConnection::Http1(connection) => connection.stream.handshake_rtt(),
            UpstreamConnection::Http2(_) => None,
        }
    }
}

/// An idle HTTP/1.1 connection to the endpoint, unless a new connection is required, or other exchanges wait for one.
#[must_use]
pub fn idle_connection(worker: &Worker, wanted: &Wanted<'_>) -> Option<UpstreamConnection> {
    if wanted.fresh || wanted.cluster.http2 || !wanted.live.connection_queue.is_empty() {
        return None;
    }
    let idle = worker.pool.borrow_mut().take(wanted.key(), worker.about_now())?;
    Some(UpstreamConnection::Http1(idle))
}

/// Returns an idle connection to the endpoint (unless `fresh` requires a new connection), a new connection within
/// `span`, or a stream on a shared HTTP/2 connection; and the time that connecting took. `granted` is the result of an
/// earlier [`wait_for_connection`].
///
/// # Errors
/// [`NoConnection`].
pub async fn connection(
    worker: &Worker,
    wanted: &Wanted<'_>,
    span: Duration,
    granted: Option<Available>,
) -> Result<(UpstreamConnection, Option<Duration>), NoConnection> {
    let Wanted { cluster, live, upstream, fresh, .. } = *wanted;
    let key = wanted.key();
    // New exchanges do not overtake those that wait.
    let slot = match granted {
        Some(Available::Idle(idle)) => return Ok((UpstreamConnection::Http1(idle), None)),
        Some(Available::Slot(held)) => Some(held),
        None => None,
    };
    let first = || slot.is_some() || live.connection_queue.is_empty();
    let idle = || worker.pool.borrow_mut().take(key, worker.about_now());
    if !fresh
        && first()
        && let Some(idle) = idle()
    {
        return Ok((UpstreamConnection::Http1(idle), None));
    }
    // One deadline for the wait for a shared connection, for connecting and for TLS.
    let until = worker.now().plus(span);
    let left = || until.since(worker.now());
    let may =
        upstream.is_some_and(Upstream::offers_http2) && !worker.h2_pool.borrow().is_only_http1(key);
    let multiplexes = cluster.http2 || may && wanted.speaks == Speaks::Traffic;
    let _dialling = match multiplexes && cluster.send_proxy == SendProxy::None {
        false => None,
        // Boxed: few clusters speak HTTP/2.
        true => match Box::pin(lease_or_turn(worker, key, span, fresh)).await? {
            Lookup::Lease(lease) => return Ok((UpstreamConnection::Http2(lease), None)),
            Lookup::Dial(dialling) => Some(dialling),
            Lookup::Http1 => match Some(()).filter(|()| !fresh && first()).and_then(|()| idle()) {
                Some(idle) => return Ok((UpstreamConnection::Http1(idle), None)),
                None => None,
            },
        },
    };
    let pending =
        Held::enter_below(&live.pending, cluster.pending_max).ok_or(NoConnection::Full)?;
    let most = cluster.connections_max;
    let slot = match first() {
        true => slot.or_else(|| worker.shared.count_upstream(live, most)),
        false => None,
    };
    let held = slot.ok_or(NoConnection::Busy)?;
    let started = worker.now();
    // Boxed: exchanges seldom dial, and their future should stay small.
    let connection = Box::pin(open(worker, wanted, left(), held)).await?;
    drop(pending);
    let took = worker.now().since(started);
    let agreed = connection.stream.agreed();
    let http2 = agreed.map_or(cluster.http2, |agreed| agreed.is_http2 || cluster.http2);
    if !http2 {
        if may && multiplexes {
            worker.h2_pool.borrow_mut().note_only_http1(key);
        }
        return Ok((UpstreamConnection::Http1(connection), Some(took)));
    }
    let lease = share(worker, wanted, connection, left()).await?;
    Ok((UpstreamConnection::Http2(Box::new(lease)), Some(took)))
}

/// Begins HTTP/2 on a new connection within `span`, and adds it to the pool for other exchanges.
async fn share(
    worker: &Worker,
    wanted: &Wanted<'_>,
    connection: Box<Connection>,
    span: Duration,
) -> Result<Lease, NoConnection> {
    let (stream, _, held) = connection.into_stream();
    stream.keep_alive();
    let begun = multiplexed::begin(&worker.h2_pool, wanted.key(), stream, held, worker.about_now());
    match tokio::time::timeout(span, Box::pin(begun)).await {
        Ok(Ok(lease)) => {
            if wanted.cluster.send_proxy != SendProxy::None {
                // The connection belongs to this client only.
                lease.retire();
            }
            Ok(lease)
        }
        Ok(Err(_)) | Err(_) => Err(NoConnection::Endpoint(Cause::Protocol)),
    }
}

/// Wakes waiting exchanges when a connection was made, or failed.
struct Dialling<'a> {
    worker: &'a Worker,
    key: Key,
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.worker.h2_pool.borrow_mut().dialled(self.key);
    }
}

/// The result of a search for a shared connection.
enum Lookup<'a> {
    Lease(Box<Lease>),
    Dial(Dialling<'a>),
    /// The endpoint speaks HTTP/1.1 only: its connections are not shared.
    Http1,
}

/// Returns a stream on a shared connection, or the turn to make such a connection.
async fn lease_or_turn(
    worker: &Worker,
    key: Key,
    span: Duration,
    fresh: bool,
) -> Result<Lookup<'_>, NoConnection> {
    let look = async {
        loop {
            let now = worker.about_now();
            if !fresh && let Some(lease) = worker.h2_pool.borrow_mut().lease(key, now) {
                return Lookup::Lease(Box::new(lease));
            }
            if worker.h2_pool.borrow().is_only_http1(key) {
                return Lookup::Http1;
            }
            let Some(other) = worker.h2_pool.borrow_mut().dialling(key) else {
                return Lookup::Dial(Dialling { worker, key });
            };
            other.notified().await;
        }
    };
    // Only the exchange that dials learns the endpoint's failure.
    let late = |_| NoConnection::Full;
    tokio::time::timeout(span, look).await.map_err(late)
}

/// The timeout of writing a few bytes to a new socket.
const WRITE_SPAN: Duration = Duration::from_secs(1);
/// The additional round trips and time that TLS may take.
const TLS_TRIPS: f64 = 5.0;
const TLS_SPAN: f64 = 0.5;

/// Makes a new connection within `span`, with a TLS handshake if required; `held` counts it.
///
/// # Errors
/// [`NoConnection`].
pub async fn open(
    worker: &Worker,
    wanted: &Wanted<'_>,
    span: Duration,
    held: Counted,
) -> Result<Box<Connection>, NoConnection> {
    let Wanted { cluster, live, endpoint, upstream, .. } = *wanted;
    let until = worker.now().plus(span);
    let due = patience(cluster, endpoint.rtt);
    let mut stream = dial(&endpoint.address, span.min(due)).await.map_err(|why| match why {
        NoConnection::Endpoint(Cause::ConnectTimeout) if span < due => NoConnection::Late,
        _ => why,
    })?;
    if let Some(group) = &live.group {
        stream = stream.metered(group.meter.clone());
    }
    if cluster.send_proxy != SendProxy::None {
        let header = proxy_header::write(cluster.send_proxy, wanted.origin);
        // The header fits into the buffer of any new socket.
        let written = tokio::time::timeout(WRITE_SPAN, stream.write_all(&header)).await;
        if !matches!(written, Ok(Ok(()))) {
            return Err(NoConnection::Endpoint(Cause::Reset));
        }
    }
    if let Some(upstream) = upstream {
        let rtt = endpoint.rtt.unwrap_or(0.1).min(1.0);
        let due = Duration::from_secs_f64(TLS_TRIPS * rtt + TLS_SPAN);
        let left = until.since(worker.now());
        let shaking = handshake::connect(stream, upstream, wanted.speaks, &endpoint.address);
        stream = match tokio::time::timeout(left.min(due), shaking).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(failure)) => return Err(NoConnection::Endpoint(Cause::Tls(failure))),
            Err(_) if left < due => return Err(NoConnection::Late),
            Err(_) => return Err(NoConnection::Endpoint(Cause::Tls(TlsFailure::Timeout))),
        };
    }
    let (reads, writes) = (worker.deadlines.watch(), worker.deadlines.watch());
    let mut connection = Box::new(Connection::new(stream, reads, writes, held));
    connection.secured = upstream.map_or(0, |upstream| upstream.id);
    connection.personal = cluster.send_proxy != SendProxy::None;
    Ok(connection)
}

/// The result of a wait for a connection.
#[derive(Debug)]
pub enum Available {
    /// An idle connection.
    Idle(Box<Connection>),
    /// Permission to make a connection, already counted.
    Slot(Counted),
}

/// Waits in the cluster's queue until another connection may be made, or a connection is idle again.
///
/// # Errors
/// [`NoConnection::Full`] after `span`, or when the queue is full.
pub async fn wait_for_connection(
    worker: &Worker,
    wanted: &Wanted<'_>,
    span: Duration,
) -> Result<Available, NoConnection> {
    let Wanted { cluster, live, fresh, .. } = *wanted;
    let _pending =
        Held::enter_below(&live.pending, cluster.pending_max).ok_or(NoConnection::Full)?;
    let turn = live.connection_queue.join(worker.id);
    let look = || {
        let idle = || worker.pool.borrow_mut().take(wanted.key(), worker.about_now());
        let idle = Some(()).filter(|()| !fresh).and_then(|()| idle());
        let slot = || worker.shared.count_upstream(live, cluster.connections_max);
        idle.map(Available::Idle).or_else(|| slot().map(Available::Slot))
    };
    let waiting = std::future::poll_fn(|context| turn.poll(context, look));
    tokio::time::timeout(span, waiting).await.map_err(|_| NoConnection::Full)
}

/// Connects within `span`.
///
/// # Errors
/// [`NoConnection`].
pub async fn dial(address: &Address, span: Duration) -> Result<Stream, NoConnection> {
    match tokio::time::timeout(span, Stream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(classify(&error)),
        Err(_) => Err(NoConnection::Endpoint(Cause::ConnectTimeout)),
    }
}

fn classify(error: &io::Error) -> NoConnection {
    match error.kind() {
        // No local port is left for this endpoint; there may be ports for others.
        io::ErrorKind::AddrNotAvailable => NoConnection::Full,
        _ if process::is_ours(error) => NoConnection::Exhausted,
        // A unix socket returns this error when its backlog is full.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            NoConnection::Endpoint(Cause::ConnectTimeout)
        }
        _ => NoConnection::Endpoint(Cause::Refused),
    }
}
