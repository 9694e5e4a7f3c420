//! The steps before a connection's protocol: the PROXY header, the TLS handshake, and the server name (SNI).

use super::buffer::Buffer;
use super::refusal::Refusal;
use super::worker::{Viewed, Worker};
use crate::decision::plan::{ClassIndex, Listener, ListenerIndex, Protocol, Transparent};
use crate::os::clock;
use crate::os::proxy_header::{self, Origin};
use crate::os::stream::Stream;
use crate::telemetry::access_log::Line;
use crate::tls::handshake::{self, Failure};
use crate::tls::hello::Hello;
use crate::tls::in_clear;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::io::AsyncReadExt;

/// An accepted connection after its PROXY header and TLS handshake: its listener's protocol comes next.
#[derive(Debug)]
pub struct Accepted {
    /// The stream.
    pub stream: Stream,
    /// The addresses of the client and of the proxy.
    pub origin: Origin,
    /// Bytes that were read already and belong to the protocol.
    pub buffer: Option<Buffer>,
    /// Identifies the set of client authorities that verified the client; 0 without TLS.
    pub clients: u64,
    /// The class that serves the connection, if the listener is L4.
    pub class: Option<ClassIndex>,
    /// The server name (SNI) of the connection, if the listener is L4.
    pub sni: Option<String>,
}

impl Accepted {
    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.origin.client.ip().to_canonical()
    }
}

/// Reads the PROXY header if the listener requires one, performs the TLS handshake if the listener uses TLS, and
/// reads the server name if routing depends on it. `None`: the connection was refused and counted.
pub async fn accept(
    worker: &Worker,
    mut stream: Stream,
    view: &Viewed,
    index: ListenerIndex,
) -> Option<Box<Accepted>> {
    let listener = &view.plan.listeners[index];
    let mut origin = origin_of(&stream);
    if listener.transparent == Transparent::OriginalDst {
        origin.server = stream.original_destination().unwrap_or(origin.server);
    }
    if listener.is_proxied(origin.client.ip()) {
        let span = listener.timeouts.proxy_header;
        let read = Box::pin(proxy_header::read(&mut stream));
        match tokio::time::timeout(span, read).await {
            Ok(Ok(header)) => origin = header.unwrap_or(origin),
            Ok(Err(_)) => return refuse(worker, &stream, listener, Refusal::BadRequest),
            Err(_) => return refuse(worker, &stream, listener, Refusal::RequestTimeout),
        }
    }
    if view.tls.listener(index).is_some() {
        stream = secured(worker, stream, view, index).await?;
    }
    let (mut class, mut buffer, mut sni) = (None, None, None);
    match &listener.protocol {
        Protocol::Http => {}
        Protocol::Tcp { class: only } | Protocol::Udp { class: only } => {
            (class, sni) = (Some(*only), stream.agreed().and_then(|agreed| agreed.sni));
        }
        Protocol::TlsPassthrough(names) => {
            let span = listener.timeouts.handshake;
            let hello = Box::pin(hello(&mut stream));
            let (name, read) = match tokio::time::timeout(span, hello).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) => return refuse(worker, &stream, listener, Refusal::BadRequest),
                Err(_) => return refuse(worker, &stream, listener, Refusal::RequestTimeout),
            };
            class = names.find(name.as_deref());
            if class.is_none() {
                tell_unrouted(worker, listener, &origin, name.as_deref());
                return refuse(worker, &stream, listener, Refusal::NoRoute);
            }
            (buffer, sni) = (Some(read), name);
        }
    }
    // Boxed: otherwise the task of the connection would reserve memory for these values as long as it lives.
    let clients = view.tls.clients_of(index);
    Some(Box::new(Accepted { stream, origin, buffer, clients, class, sni }))
}

fn origin_of(stream: &Stream) -> Origin {
    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let (client, server) = stream.addresses().unwrap_or((LOCAL, LOCAL));
    Origin { client, server }
}

/// Closes with a reset before any byte, so that the client can distinguish a refusal from a response.
fn refuse<T>(worker: &Worker, stream: &Stream, listener: &Listener, refusal: Refusal) -> Option<T> {
    worker.listener_cells(&listener.name).refusals[refusal].add(1);
    stream.reset_on_close();
    None
}

/// Logs a connection whose TLS server name matches no service.
fn tell_unrouted(worker: &Worker, listener: &Listener, origin: &Origin, name: Option<&str>) {
    if worker.log.is_on() {
        worker.log.write(&Line {
            time: clock::rfc3339(clock::since_epoch()).into(),
            listener: &listener.name,
            client: origin.client.ip().to_canonical().to_string().into(),
            host: name.unwrap_or_default().into(),
            protocol: "tcp",
            refusal: Some(Refusal::NoRoute.label()),
            ..Line::default()
        });
    }
}

async fn secured(
    worker: &Worker,
    stream: Stream,
    view: &Viewed,
    index: ListenerIndex,
) -> Option<Stream> {
    let terms = view.tls.listener(index)?;
    let cells = worker.listener_cells(&view.plan.listeners[index].name);
    let span = view.plan.listeners[index].timeouts.handshake;
    let is_http = matches!(view.plan.listeners[index].protocol, Protocol::Http);
    // Boxed: an idle connection should not reserve memory for it.
    let shaking = Box::pin(async move {
        if is_http && stream.first_byte().await.is_ok_and(in_clear::is_http) {
            in_clear::answer(stream).await;
            return Err(Failure::NotTls);
        }
        handshake::accept(stream, terms, &worker.shared.challenges).await
    });
    let failure = match tokio::time::timeout(span, shaking).await {
        Ok(Ok(stream)) => {
            cells.handshakes_ok.add(1);
            return Some(stream);
        }
        Ok(Err(failure)) => failure,
        Err(_) => Failure::Timeout,
    };
    cells.handshakes_failed[failure].add(1);
    tracing::debug!(cause = failure.label(), "client connection closed: TLS handshake failed");
    None
}

/// Reads a ClientHello, fragmented or not, until its server name is known; returns the bytes read.
async fn hello(stream: &mut Stream) -> io::Result<(Option<String>, Buffer)> {
    let mut hello = Hello::default();
    // A silent client holds no buffer.
    stream.split().0.readable().await?;
    let mut buffer = Buffer::lend();
    loop {
        let space = buffer.space();
        if space.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let count = stream.read(space).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let found = hello.read(&space[..count])?;
        buffer.filled(count);
        if let Some(name) = found {
            return Ok((name, buffer));
        }
        buffer.fit();
    }
}
