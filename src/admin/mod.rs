//! The admin API: what the proxy believes, as plain JSON, and the few things an operator may change.
//!
//! It serialises the same view that workers read and computes no truth of its own. It runs beside the
//! background work, never on a worker, with its own bounds.

mod api;
mod events;
mod guard;

pub use api::metrics_text;

use crate::decision::assess::Event;
use crate::decision::plan::Address;
use crate::shared::{Decision, Shared};
use crate::telemetry::metrics::ServerFigures;
use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::{get, post, put};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// What the API asks of the server.
#[derive(Debug)]
pub enum Request {
    /// Reload; answered with the generation, or with all problems.
    Reload(oneshot::Sender<Result<u64, Vec<Value>>>),
    /// Fold a dial in; answered when it is in force, with an error if it could not be kept.
    Dial(Event, oneshot::Sender<Result<(), String>>),
}

/// What the API needs of the server.
pub struct Backend {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Where requests go.
    pub requests: mpsc::Sender<Request>,
    /// How the configuration stands: `hash`, `generation`, `loaded_at`, `last_reload`.
    pub config: Box<dyn Fn() -> Value + Send + Sync>,
    /// The configuration in force, in the words of the file.
    pub effective: Box<dyn Fn() -> Arc<Value> + Send + Sync>,
    /// Figures for metrics.
    pub figures: Box<dyn Fn() -> ServerFigures + Send + Sync>,
    /// The last decisions that were not simply the nearest.
    pub decisions: Arc<Mutex<VecDeque<Decision>>>,
    /// Words of the refusals, in the order of their counters.
    pub refusals: Vec<&'static str>,
    /// Seconds since the start.
    pub uptime: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Where the API listens.
    pub address: Address,
    /// Who may use it.
    pub access: Arc<ArcSwap<Access>>,
}

/// Who may use the API; a reload may change it.
#[derive(Clone, Default)]
pub struct Access {
    /// The token that writes need.
    pub token: Option<String>,
    /// Further values of `Host` under which it answers.
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

/// Connections at once, at most.
const CONNECTIONS_MAX: usize = 256;
/// To the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

fn router(backend: Arc<Backend>) -> Router {
    let guarded = Router::new()
        .route("/", get(api::index))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/clusters", get(api::clusters))
        .route("/api/v1/clusters/{name}", get(api::cluster))
        .route("/api/v1/services", get(api::services))
        .route("/api/v1/config", get(api::config))
        .route("/api/v1/explain", get(api::explain))
        .route("/api/v1/decisions", get(api::decisions))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/reload", post(api::reload))
        .route("/api/v1/{kind}/{name}/drain", post(api::drain))
        .route("/api/v1/{kind}/{name}/undrain", post(api::undrain))
        .route("/api/v1/{kind}/{name}/dial", put(api::set_dial).delete(api::undrain))
        .layer(axum::middleware::from_fn_with_state(backend.clone(), guard::guard));
    let open = Router::new()
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
        .route("/healthz", get(api::readyz))
        .route("/metrics", get(api::metrics))
        .route("/stats/prometheus", get(api::metrics))
        .layer(axum::middleware::from_fn_with_state(backend.clone(), guard::only_ours));
    Router::new().merge(open).merge(guarded).fallback(api::not_found).with_state(backend)
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
pub async fn serve(listener: Listener, backend: Backend) {
    let shared = backend.shared.clone();
    let router = router(Arc::new(backend));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match &listener {
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    let view = shared.view.load();
                    match view.tls.admin.as_ref().map(|secured| secured.config.clone()) {
                        Some(config) => spawn_secure(stream, config, router.clone(), permit),
                        None => spawn(stream, router.clone(), permit),
                    }
                }
                Err(error) => pause(&error).await,
            },
            Listener::Unix(listener) => match listener.accept().await {
                Ok((stream, _)) => spawn(stream, router.clone(), permit),
                Err(error) => pause(&error).await,
            },
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin API could not accept");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn spawn_secure(
    stream: tokio::net::TcpStream,
    config: Arc<rustls::ServerConfig>,
    router: Router,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    tokio::spawn(async move {
        let shaking = tokio_rustls::TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(HEAD_TIMEOUT, shaking).await {
            Ok(Ok(stream)) => spawn(stream, router, permit),
            Ok(Err(error)) => tracing::debug!(%error, "a handshake with the admin API failed"),
            Err(_) => tracing::debug!("a handshake with the admin API took too long"),
        }
    });
}

fn spawn<S>(stream: S, router: Router, permit: tokio::sync::OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an admin connection ended");
        }
        drop(permit);
    });
}
