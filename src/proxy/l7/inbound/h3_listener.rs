//! The QUIC connections of one listening socket: the quinn crate is the transport, and each worker has its own
//! socket.
//!
//! The kernel assigns a client's packets to a worker by its address. A client whose address changes reaches another
//! worker, which does not know the connection and answers with a reset; the client then connects anew.

use super::h3_connection;
use super::streams::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS_MAX};
use crate::admission::{Admitted, admit, must_wait};
use crate::decision::plan::{Address, Listener, ListenerIndex, Transport};
use crate::l7::connection_info::ConnectionInfo;
use crate::os::proxy_header::Origin;
use crate::os::secure::Agreed;
use crate::shared::{Scarcity, View};
use crate::tls::handshake::Failure;
use crate::tls::server::Quic;
use crate::worker::{Stopped, Viewed, Worker};
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    ConnectionError, Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use socket2::Socket;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The most unacknowledged bytes of a connection.
const SEND_WINDOW: u64 = 512 * 1024;
/// The streams that a client may open for the protocol: control, two for QPACK, and some spare.
const OWN_STREAMS: u32 = 8;
/// The idle time after which a client counts as gone; keep-alives are sent more often.
const GONE: Duration = Duration::from_secs(30);
const ASKED: Duration = Duration::from_secs(10);
/// The number of handshakes in progress above which a client must prove its address first.
const UNPROVEN_MAX: usize = 64;

/// Serves the connections of one listening socket until it is stopped.
pub async fn serve(worker: Rc<Worker>, socket: Socket, address: Address, mut stopped: Stopped) {
    let endpoint = match endpoint(&worker.view(), socket, &address) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(%error, %address, "HTTP/3 listener {address} serves nothing in this worker");
            return;
        }
    };
    let shaking = Rc::new(Cell::new(0));
    loop {
        tokio::select! {
            biased;
            done = &mut stopped => {
                // Open connections continue; new ones are refused.
                endpoint.set_server_config(None);
                if done.is_ok_and(|done| done.send(()).is_err()) {
                    tracing::debug!("end of a listener not reported: the main task has gone");
                }
                return;
            }
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => begin(&worker, incoming, &address, &shaking),
                None => return,
            }
        }
    }
}

fn endpoint(view: &View, socket: Socket, address: &Address) -> io::Result<Endpoint> {
    let gone = || io::Error::other("the listener was removed by a reload");
    let index = view.plan.listener_at(Transport::Quic, address).ok_or_else(gone)?;
    let config = config(view, index).ok_or_else(gone)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(EndpointConfig::default(), Some(config), socket.into(), runtime)
}

/// The configuration of a new connection in the latest view.
fn config(view: &View, index: ListenerIndex) -> Option<ServerConfig> {
    let Quic(quic) = view.tls.listener(index)?.quic.clone()?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(OWN_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .keep_alive_interval(Some(ASKED))
        .max_idle_timeout(GONE.try_into().ok())
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(quic);
    config.transport_config(Arc::new(transport));
    Some(config)
}

/// Begins a handshake, if the limits permit.
fn begin(worker: &Rc<Worker>, incoming: Incoming, address: &Address, shaking: &Rc<Cell<usize>>) {
    let view = worker.view();
    let found = view.plan.listener_at(Transport::Quic, address);
    let scarce = worker.shared.scarcity() >= Scarcity::Refuse;
    let Some((index, config)) =
        found.filter(|_| !scarce).and_then(|i| Some((i, config(&view, i)?)))
    else {
        return incoming.refuse();
    };
    if shaking.get() >= UNPROVEN_MAX && !incoming.remote_address_validated() {
        if incoming.retry().is_err() {
            tracing::debug!("QUIC Retry not sent: the client address is validated already");
        }
        return;
    }
    let listener = &view.plan.listeners[index];
    let client = Some(incoming.remote_address().ip());
    if must_wait(worker, listener, client) {
        return incoming.refuse();
    }
    let Some(admitted) = admit(worker, listener, client) else {
        return incoming.refuse();
    };
    let (worker, shaking, at) = (worker.clone(), Shaking::enter(shaking), address.clone());
    tokio::task::spawn_local(async move {
        let origin = origin(&incoming, &at);
        let connection = shake(&worker, &view.plan.listeners[index], incoming, config).await;
        drop(shaking);
        let Some(connection) = connection else { return };
        take(worker, view, index, origin, (connection, admitted)).await;
    });
}

/// Counts a handshake in progress.
struct Shaking(Rc<Cell<usize>>);

impl Shaking {
    fn enter(count: &Rc<Cell<usize>>) -> Shaking {
        count.set(count.get() + 1);
        Shaking(count.clone())
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn origin(incoming: &Incoming, at: &Address) -> Origin {
    let client = incoming.remote_address();
    let server = match (at, incoming.local_ip()) {
        (Address::Ip(at), ip) => SocketAddr::new(ip.unwrap_or(at.ip()), at.port()),
        (Address::Unix(_), _) => client,
    };
    Origin { client, server }
}

async fn shake(
    worker: &Worker,
    listener: &Listener,
    incoming: Incoming,
    config: ServerConfig,
) -> Option<quinn::Connection> {
    let cells = worker.listener_cells(&listener.name);
    let shaking = async { incoming.accept_with(Arc::new(config))?.await };
    let failure = match tokio::time::timeout(listener.timeouts.handshake, shaking).await {
        Ok(Ok(connection)) => {
            cells.handshakes_ok.add(1);
            return Some(connection);
        }
        Ok(Err(error)) => why(&error),
        Err(_) => Failure::Timeout,
    };
    cells.handshakes_failed[failure].add(1);
    tracing::debug!(cause = failure.label(), "client connection closed: QUIC handshake failed");
    None
}

/// The failure for the alert that TLS would have sent (RFC 9001 §4.8, RFC 8446 §6).
fn why(error: &ConnectionError) -> Failure {
    match error {
        ConnectionError::TimedOut => Failure::Timeout,
        ConnectionError::ConnectionClosed(_) => Failure::Alert,
        ConnectionError::TransportError(error) => match u64::from(error.code).checked_sub(0x100) {
            Some(40 | 70 | 71 | 120) => Failure::NothingInCommon,
            Some(41..=46 | 48 | 49 | 116) => Failure::ClientCertificate,
            Some(_) | None => Failure::Protocol,
        },
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::VersionMismatch
        | ConnectionError::CidsExhausted => Failure::Closed,
    }
}

async fn take(
    worker: Rc<Worker>,
    view: Viewed,
    index: ListenerIndex,
    origin: Origin,
    (connection, _admitted): (quinn::Connection, Admitted),
) {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let agreed = Agreed {
        version: "TLSv1.3",
        is_http2: false,
        sni: data.and_then(|data| data.server_name),
        peer: peer(&connection),
    };
    let info = ConnectionInfo::of(&worker, &view, index, origin, Some(agreed));
    drop(view);
    h3_connection::serve(&worker, &connection, Rc::new(info)).await;
    // Bytes in transit still arrive, because the close is a normal frame.
    connection.close(NO_ERROR, b"");
}

/// The verified certificate of the client.
fn peer(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// H3_NO_ERROR (RFC 9114 §8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
