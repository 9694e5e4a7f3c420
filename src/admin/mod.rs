//! The admin API: the proxy's state as plain JSON, and the few actions that an operator may take.
//!
//! The API serialises the same view that the workers read and computes no state of its own. It runs on the background
//! runtime, never on a worker, with limits of its own for connections (`connection`) and answers (`answers`).
//! Liveness and readiness probes are subject to neither limit.

mod answers;
mod api;
mod audit;
pub mod client;
mod connection;
pub mod cost;
mod dashboard;
mod decisions;
mod events;
mod expect;
pub mod explain;
mod fleet;
mod guard;
mod history;
mod operations;
mod picture;

pub use api::metrics_text;
pub use decisions::{Decisions, keep};
pub use operations::{Keep, KeptReport};

use crate::decision::assess::Event;
use crate::decision::plan::Address;
use crate::fleet::Fleet;
use crate::shared::Shared;
use crate::telemetry::metrics::ServerFigures;
use crate::tls::in_clear;
use answers::Bounds;
use arc_swap::ArcSwap;
use audit::Peer;
use axum::Router;
use axum::extract::Extension;
use axum::routing::{get, post, put};
use connection::{ConnectionGuard, Connections, HEAD_TIMEOUT};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// Requests of the API to the main task.
#[derive(Debug)]
pub enum Request {
    /// Reload the configuration; answered with the generation, or with all problems.
    Reload(oneshot::Sender<Result<u64, Vec<Value>>>),
    /// Apply a dial; answered when the dial is in force, with an error if it could not be stored.
    Dial(Event, oneshot::Sender<Result<(), String>>),
}

/// The inputs of the API.
pub struct Backend {
    /// The state that all threads share.
    pub shared: Arc<Shared>,
    /// The queue of requests to the main task.
    pub requests: mpsc::Sender<Request>,
    /// The state of the configuration: `hash`, `generation`, `loaded_at`, `last_reload`.
    pub config: Box<dyn Fn() -> Value + Send + Sync>,
    /// The configuration in force, in the format of the file.
    pub effective: Box<dyn Fn() -> Arc<Value> + Send + Sync>,
    /// How the file on disk differs from the configuration in force: `file`, `comparable`, `changes`, `problems`.
    pub difference: Box<dyn Fn() -> Value + Send + Sync>,
    /// Figures of the process, for metrics.
    pub figures: Box<dyn Fn() -> ServerFigures + Send + Sync>,
    /// The last decisions.
    pub decisions: Arc<Decisions>,
    /// Seconds since the start.
    pub uptime: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The known state of other proxies and sites.
    pub fleet: Arc<Fleet>,
    /// The address of the API; without one, only metrics and health are served.
    pub address: Option<Address>,
    /// The access rules.
    pub access: Arc<ArcSwap<Access>>,
    /// The time since 1970.
    pub now: fn() -> Duration,
    /// Formats a time since 1970 as in RFC 3339.
    pub rfc3339: fn(Duration) -> String,
    /// Changes the reports of operations in `state_dir`; never waits.
    pub keep: Box<dyn Fn(Keep) + Send + Sync>,
    /// The state of the API itself.
    pub memory: Memory,
}

/// The state of the API itself.
#[derive(Debug, Default)]
pub struct Memory {
    history: history::History,
    audit: audit::Audit,
    operations: operations::Operations,
    snapshot: events::Snapshot,
}

impl Memory {
    /// The state at the start, with the reports of operations that earlier processes kept.
    #[must_use]
    pub fn restored(reports: Vec<KeptReport>) -> Memory {
        Memory { operations: operations::Operations::restored(reports), ..Memory::default() }
    }
}

impl Backend {
    /// Sends an event to all subscribers.
    fn tell(&self, mut event: Value) {
        if let Some(object) = event.as_object_mut() {
            object.insert("time".to_owned(), json!((self.rfc3339)((self.now)())));
        }
        if self.shared.news.send(event.to_string()).is_err() {
            tracing::trace!("event dropped: no subscriber");
        }
    }
}

/// The access rules of the API; a reload may change them.
#[derive(Clone, Default)]
pub struct Access {
    /// The token that writes require.
    pub token: Option<String>,
    /// The token that permits only the report for fleet peers.
    pub fleet_token: Option<String>,
    /// Further values of `Host` that the API accepts.
    pub allowed_hosts: Vec<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("allowed_hosts", &self.allowed_hosts).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The send buffer in the kernel: small, so that a client that reads nothing is detected soon.
const SEND_BUFFER: usize = 128 * 1024;

fn router(backend: Arc<Backend>, bounds: &Arc<Bounds>) -> Router {
    let bounded = axum::middleware::from_fn_with_state(bounds.clone(), answers::bounded);
    let guarded = Router::new()
        .route("/api", get(api::index))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/clusters", get(api::clusters))
        .route("/api/v1/clusters/{name}", get(api::cluster))
        .route("/api/v1/services", get(api::services))
        .route("/api/v1/cost", get(cost::cost))
        .route("/api/v1/config", get(api::config))
        .route("/api/v1/config/diff", get(api::config_diff))
        .route("/api/v1/explain", get(explain::explain))
        .route("/api/v1/expect", get(expect::expect))
        .route("/api/v1/decisions", get(decisions::decisions))
        .route("/api/v1/why/{request_id}", get(decisions::why))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/audit", get(audit::audit))
        .route("/api/v1/token", post(api::token))
        .route("/api/v1/fleet", get(fleet::fleet))
        .route(crate::fleet::PATH, get(fleet::report))
        .route("/api/v1/reload", post(api::reload))
        .route("/api/v1/operations", get(operations::list).post(operations::begin))
        .route("/api/v1/operations/{id}", get(operations::one).delete(operations::abort))
        .route("/api/v1/operations/{id}/report", get(operations::report))
        .route("/api/v1/{kind}/{name}/drain", post(api::drain))
        .route("/api/v1/{kind}/{name}/undrain", post(api::undrain))
        .route("/api/v1/{kind}/{name}/dial", put(api::set_dial).delete(api::undrain))
        .layer(bounded.clone())
        .layer(axum::middleware::from_fn_with_state(backend.clone(), guard::guard));
    let page = Router::new()
        .route("/", get(dashboard::root))
        .route("/dashboard/{*path}", get(dashboard::asset))
        .layer(bounded);
    let open = health()
        .merge(metrics(bounds.clone()))
        .merge(page)
        .layer(axum::middleware::from_fn_with_state(backend.clone(), guard::only_ours));
    Router::new().merge(open).merge(guarded).fallback(api::not_found).with_state(backend)
}

/// Liveness and readiness.
fn health() -> Router<Arc<Backend>> {
    Router::new()
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
        .route("/healthz", get(api::readyz))
}

fn metrics(bounds: Arc<Bounds>) -> Router<Arc<Backend>> {
    Router::new()
        .route("/metrics", get(api::metrics))
        .route("/stats/prometheus", get(api::metrics))
        .layer(axum::middleware::from_fn_with_state(bounds, answers::bounded))
}

/// A bound admin socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(tokio::net::TcpListener),
    /// Unix-domain.
    Unix(tokio::net::UnixListener),
}

/// Serves the API until the process ends.
pub async fn serve(listener: Listener, backend: Arc<Backend>) {
    let shared = backend.shared.clone();
    let connections = Arc::new(Connections::new(shared.registry.admin_refused.clone()));
    let router = router(backend.clone(), &Arc::new(Bounds::new(connections.clone())));
    tokio::select! {
        () = accept(listener, Some(&shared), router, &connections) => {}
        () = history::record(backend.clone()) => {}
        () = operations::run(backend) => {}
    }
}

/// Serves metrics and health alone until the process ends: without TLS or a token, and for any `Host`, since the
/// operator chose to expose exactly this.
pub async fn serve_metrics(listener: tokio::net::TcpListener, backend: Arc<Backend>) {
    let connections = Arc::new(Connections::new(backend.shared.registry.admin_refused.clone()));
    let bounds = Arc::new(Bounds::new(connections.clone()));
    let router = Router::new()
        .merge(metrics(bounds))
        .merge(health())
        .fallback(api::not_here)
        .with_state(backend);
    accept(Listener::Tcp(listener), None, router, &connections).await;
}

/// Accepts connections; with TLS if `shared` has a certificate of the admin API.
async fn accept(
    listener: Listener,
    shared: Option<&Shared>,
    router: Router,
    connections: &Arc<Connections>,
) {
    loop {
        match &listener {
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, peer)) => {
                    let router = router.clone().layer(Extension(Peer(peer.to_string())));
                    give_up_on_silence(&stream);
                    let secured = shared.and_then(|shared| {
                        shared.view.load().tls.admin.as_ref().map(|s| s.config.clone())
                    });
                    bound(&stream);
                    match secured {
                        Some(config) => {
                            spawn_secure(stream, config, router, connections.enter());
                        }
                        None => spawn(stream, router, connections.enter()),
                    }
                }
                Err(error) => pause(&error).await,
            },
            Listener::Unix(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    bound(&stream);
                    let router = router.clone().layer(Extension(Peer("unix".to_owned())));
                    spawn(stream, router, connections.enter());
                }
                Err(error) => pause(&error).await,
            },
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "admin API: connection not accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Sets a deadline for bytes in the kernel's buffer: if the client's receive window stays closed, the connection
/// ends.
fn give_up_on_silence(stream: &tokio::net::TcpStream) {
    let socket = socket2::SockRef::from(stream);
    if let Err(error) = socket.set_tcp_user_timeout(Some(connection::WRITE_TIMEOUT)) {
        tracing::debug!(%error, "admin connection: TCP_USER_TIMEOUT not set");
    }
}

fn bound<'a>(stream: impl Into<socket2::SockRef<'a>>) {
    if let Err(error) = stream.into().set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "admin connection: send buffer size not set");
    }
}

fn spawn_secure(
    stream: tokio::net::TcpStream,
    config: Arc<rustls::ServerConfig>,
    router: Router,
    guard: ConnectionGuard,
) {
    tokio::spawn(async move {
        let shaking = async {
            let mut first = [0; 1];
            if stream.peek(&mut first).await? == 1 && in_clear::is_http(first[0]) {
                in_clear::answer(stream).await;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a plaintext request on a TLS port",
                ));
            }
            tokio_rustls::TlsAcceptor::from(config).accept(stream).await
        };
        match guard.hold(tokio::time::timeout(HEAD_TIMEOUT, shaking)).await {
            Some(Ok(Ok(stream))) => spawn(stream, router, guard),
            Some(Ok(Err(error))) => {
                tracing::debug!(%error, "admin connection closed: TLS handshake failed");
            }
            Some(Err(_)) => tracing::debug!("admin connection closed: TLS handshake timed out"),
            None => tracing::debug!(
                "admin connection closed during its TLS handshake: replaced by a newer one"
            ),
        }
    });
}

fn spawn<S>(stream: S, router: Router, guard: ConnectionGuard)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if guard.hold(connection::serve(stream, router, &guard)).await.is_none() {
            tracing::debug!("admin connection closed: replaced by a newer one");
        }
    });
}
