//! How far and how well: one probe of one endpoint, as an event.
//!
//! A probe connects anew each time, as a new exchange would have to, so that its round trip is the
//! handshake's and says nothing of the application; an http probe then times its answer apart.

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

/// What a probe came to.
#[derive(Debug)]
pub struct Probed {
    /// The event for the assessor.
    pub event: Event,
    /// The cluster's name.
    pub cluster: String,
    /// How long it took.
    pub took: Duration,
}

/// How much later than its deadline a probe's own timer may ring before the probe is void: a control
/// thread that was stalled must not take clusters down.
const STALL: Duration = Duration::from_millis(50);

/// Makes one probe.
pub async fn probe(plan: &Plan, tls: &Store, order: ProbeOrder) -> Option<Probed> {
    let cluster = plan.clusters.get(order.cluster)?;
    let settings = &cluster.probe;
    let address = with_port(&order.address, settings.port);
    let started = clock::now();
    let upstream = tls.cluster(order.cluster);
    // Another port than the traffic's speaks for itself.
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

/// The round trip; and of an http probe, how long its answer took and what came with it.
type Answered = (Duration, Option<(Duration, Option<Report>)>);

/// What is probed.
struct Target<'a> {
    address: &'a Address,
    edge: (Reports, &'a str),
    upstream: Option<&'a Upstream>,
    header: SendProxy,
    /// Whether there was a connection: one that only stands in the listen backlog is another matter.
    connected: Cell<bool>,
}

/// Why a probe did not succeed.
enum Unproven {
    /// We had no port, descriptor or memory for it.
    Ours,
    /// The endpoint's fault.
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
        // A unix socket says so when its backlog is full.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Unproven::Theirs(Cause::ConnectTimeout)
        }
        _ => Unproven::Theirs(Cause::Refused),
    }
}

impl Target<'_> {
    /// Puts TLS on a connection, where the cluster speaks that.
    async fn secure(&self, mut stream: Stream, speaks: Speaks) -> Result<Stream, Cause> {
        if self.header != SendProxy::None {
            // In nobody's name but ours.
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
    // Ours is late by whatever kept this thread busy.
    let rtt = stream.handshake_rtt().map_or(took, |rtt| rtt.min(took));
    match kind {
        ProbeKind::None | ProbeKind::Tcp => {
            // Dropped, it ends with a FIN, as health checks of load balancers do: a reset is logged as an error
            // by some servers, and counted by firewalls.
            Ok((rtt, None))
        }
        ProbeKind::Tls => {
            let mut stream = to.secure(stream, Speaks::Traffic).await?;
            // What is proven is proven: whether the endpoint takes the end does not matter.
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
