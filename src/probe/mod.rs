//! Probes one endpoint once, for health and distance; the result is an event.
//!
//! A probe opens a new connection. The round trip is measured by the TCP handshake and excludes the application; an
//! HTTP probe times its response separately.

mod grpc;
mod http;

use crate::decision::assess::{Event, ProbeOrder};
use crate::decision::health::Cause;
use crate::decision::plan::{Address, Plan, ProbeKind, Reports, SendProxy};
use crate::decision::report::Report;
use crate::os::clock;
use crate::os::process;
use crate::os::proxy_header;
use crate::os::stream::Stream;
use crate::tls::client::{Speaks, Upstream};
use crate::tls::handshake;
use crate::tls::store::Store;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The result of a probe.
#[derive(Debug)]
pub struct Probed {
    /// The event for the assessor.
    pub event: Event,
    /// The cluster's name.
    pub cluster: String,
    /// The duration of the probe.
    pub took: Duration,
}

/// How late the timer of a probe may fire before the probe is void: a stalled control thread must not take
/// clusters down.
const STALL: Duration = Duration::from_millis(50);

/// Makes one probe.
pub async fn probe(plan: &Plan, tls: &Store, order: ProbeOrder) -> Option<Probed> {
    let cluster = plan.clusters.get(order.cluster)?;
    let settings = &cluster.probe;
    let address = with_port(&order.address, settings.port);
    let started = clock::now();
    let upstream = tls.cluster(order.cluster);
    // The PROXY header is sent on the traffic port only: a separate probe port may not expect a header.
    let header = settings.port.map_or(cluster.send_proxy, |_| SendProxy::None);
    let edge = (cluster.reports, plan.site.as_str());
    let connected = Cell::new(false);
    let to = Target { header, address: &address, edge, upstream, connected };
    let result = tokio::time::timeout(settings.timeout, once(&settings.kind, &to)).await;
    let took = clock::now().since(started);
    let endpoint = order.endpoint;
    let event = match result {
        _ if took > settings.timeout + STALL => Event::ProbeVoid { endpoint },
        Ok(Ok((rtt, answered))) => {
            let (answer, report) = answered.unzip();
            Event::ProbeSucceeded { endpoint, rtt, answer, report: report.flatten() }
        }
        Ok(Err(Unproven::Ours)) => Event::ProbeVoid { endpoint },
        Ok(Err(Unproven::Theirs(cause))) => Event::ProbeFailed { endpoint, cause },
        Err(_) if !to.connected.get() => {
            Event::ProbeFailed { endpoint, cause: Cause::ConnectTimeout }
        }
        Err(_) => Event::ProbeFailed { endpoint, cause: Cause::ProbeTimeout },
    };
    Some(Probed { event, cluster: cluster.name.clone(), took })
}

/// The round trip; for an HTTP probe also the time to its response and the load report.
type Answered = (Duration, Option<(Duration, Option<Report>)>);

/// The target of a probe.
struct Target<'a> {
    address: &'a Address,
    edge: (Reports, &'a str),
    upstream: Option<&'a Upstream>,
    header: SendProxy,
    /// Whether the connection was established: a failure before that may be due to a full listen backlog.
    connected: Cell<bool>,
}

/// The reason why a probe failed.
enum Unproven {
    /// The proxy had no port, descriptor or memory for the probe.
    Ours,
    /// The endpoint is at fault.
    Theirs(Cause),
}

impl From<Cause> for Unproven {
    fn from(cause: Cause) -> Unproven {
        Unproven::Theirs(cause)
    }
}

fn unconnected(error: &io::Error) -> Unproven {
    match error.kind() {
        _ if process::is_ours(error) => Unproven::Ours,
        // A unix socket reports a full backlog with this error.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Unproven::Theirs(Cause::ConnectTimeout)
        }
        _ => Unproven::Theirs(Cause::Refused),
    }
}

impl Target<'_> {
    /// Starts TLS on a connection, if the cluster uses it.
    async fn secure(&self, mut stream: Stream, speaks: Speaks) -> Result<Stream, Cause> {
        if self.header != SendProxy::None {
            // The header has no client address, because the probe comes from the proxy itself.
            let header = proxy_header::write(self.header, None);
            stream.write_all(&header).await.map_err(|_| Cause::Reset)?;
        }
        match self.upstream {
            None => Ok(stream),
            Some(upstream) => {
                handshake::connect(stream, upstream, speaks, self.address).await.map_err(Cause::Tls)
            }
        }
    }
}

async fn once(kind: &ProbeKind, to: &Target<'_>) -> Result<Answered, Unproven> {
    let started = clock::now();
    let mut stream = Stream::connect(to.address).await.map_err(|error| unconnected(&error))?;
    to.connected.set(true);
    let connected = clock::now();
    let took = connected.since(started);
    // The user-space time includes the time for which this thread was busy.
    let rtt = stream.handshake_rtt().map_or(took, |rtt| rtt.min(took));
    match kind {
        ProbeKind::None | ProbeKind::Tcp => {
            // Dropping the connection sends a FIN, as load balancers' health checks do: some servers log a reset as an
            // error, and firewalls count resets.
            Ok((rtt, None))
        }
        ProbeKind::Tls => {
            let mut stream = to.secure(stream, Speaks::Traffic).await?;
            // The probe has already succeeded; an error on close is irrelevant.
            drop(stream.shutdown().await);
            Ok((rtt, None))
        }
        ProbeKind::Grpc { service } => {
            let stream = to.secure(stream, Speaks::Http2).await?;
            let connected = clock::now();
            let authority = to.address.to_string();
            grpc::check(stream, service, &authority, to.upstream.is_some()).await?;
            Ok((rtt, Some((clock::now().since(connected), None))))
        }
        ProbeKind::Http { path, host, headers, status } => {
            stream = to.secure(stream, Speaks::Http1).await?;
            let connected = clock::now();
            let host = host.clone().unwrap_or_else(|| to.address.to_string());
            let (code, report) = http::get(&mut stream, path, &host, headers, to.edge).await?;
            if !status.iter().any(|range| range.contains(&code)) {
                return Err(Cause::ProbeStatus.into());
            }
            Ok((rtt, Some((clock::now().since(connected), report))))
        }
    }
}

fn with_port(address: &Address, port: Option<u16>) -> Address {
    match (address, port) {
        (Address::Ip(address), Some(port)) => Address::Ip(SocketAddr::new(address.ip(), port)),
        (address, _) => address.clone(),
    }
}
