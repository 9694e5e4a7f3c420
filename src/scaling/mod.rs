//! Interfaces for autoscalers: KEDA's external scaler, and a webhook for others.
//!
//! The desired replicas follow from the view in force and from the reports of the fleet. They are computed four times a
//! second, on the runtime of the admin API; no exchange waits for an autoscaler, and no autoscaler sees more than
//! names and numbers.
//!
//! # Not here
//! The needs themselves (`decision::scaling`).

mod call;
mod connection;
mod figures;
mod message;
mod news;
mod outbox;
mod post;
pub mod properties;
mod protobuf;
mod scaler;
mod webhook;

use crate::decision::scaling::{Webhook, WebhookFigures};
use crate::fleet::Fleet;
use crate::shared::Shared;
use call::Code;
use connection::CONNECTIONS_MAX;
use figures::{Figures, WARM};
use scaler::Method;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// The interval between two computations of the desired replicas.
const TICK: Duration = Duration::from_millis(250);
/// Streams at once, over all connections.
const STREAMS_MAX: usize = 1024;
/// The time in which streams and connections end when the proxy stops.
const ENDED: Duration = Duration::from_secs(1);

/// The interfaces for autoscalers.
#[derive(Debug)]
pub struct Scaling {
    shared: Arc<Shared>,
    fleet: Arc<Fleet>,
    started: Instant,
    published: watch::Sender<Arc<Figures>>,
    /// Whether the proxy is draining.
    ending: watch::Sender<bool>,
    connections: Arc<Semaphore>,
    streams: Semaphore,
    /// Whether the external scaler has a socket.
    has_scaler: AtomicBool,
    counters: Counters,
    /// The receiver of webhooks and the task that sends them.
    webhook: Mutex<(Option<Webhook>, JoinSet<()>)>,
    webhook_counters: webhook::Counters,
    /// The background tasks; they end when they are dropped.
    tasks: Mutex<JoinSet<()>>,
}

/// Calls by method and status.
#[derive(Debug, Default)]
struct Counters([[AtomicU64; Code::ALL.len()]; Method::ALL.len()]);

impl Counters {
    fn count(&self, method: Method, code: Code) {
        let at = |known: &Code| *known == code;
        if let Some(column) = Code::ALL.iter().position(at) {
            self.0[method as usize][column].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The state of the external scaler, for metrics.
#[derive(Clone, Debug, Default)]
pub struct ScalerFigures {
    /// Calls that ended: method, status, count.
    pub calls: Vec<(&'static str, &'static str, u64)>,
    /// Open streams.
    pub streams: usize,
}

impl Scaling {
    /// Interfaces that are not configured yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>, fleet: Arc<Fleet>) -> Scaling {
        Scaling {
            shared,
            fleet,
            started: Instant::now(),
            published: watch::Sender::default(),
            ending: watch::Sender::new(false),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
            streams: Semaphore::new(STREAMS_MAX),
            has_scaler: AtomicBool::new(false),
            counters: Counters::default(),
            webhook: Mutex::default(),
            webhook_counters: webhook::Counters::default(),
            tasks: Mutex::default(),
        }
    }

    /// Computes desired replicas from now on. Further calls have no effect.
    pub fn begin(self: &Arc<Scaling>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.is_empty() {
            self.compute();
            tasks.spawn(self.clone().repeat());
        }
    }

    /// Sends webhooks to this receiver from now on, or to none. An unchanged receiver keeps its messages.
    pub fn notify(self: &Arc<Scaling>, receiver: Option<&Webhook>) {
        let mut current = self.webhook.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0.as_ref() == receiver {
            return;
        }
        *current = (receiver.cloned(), JoinSet::new());
        if let Some(receiver) = receiver {
            current.1.spawn(webhook::run(self.clone(), receiver.clone()));
        }
    }

    /// Serves the external scaler on this socket until the task is aborted; open connections continue.
    pub fn serve(self: &Arc<Scaling>, listener: TcpListener) -> JoinHandle<()> {
        self.has_scaler.store(true, Ordering::Relaxed);
        tokio::spawn(connection::accept(self.clone(), listener))
    }

    /// Ends all streams with `OK`, so that their clients connect to another proxy.
    pub fn drain(&self) {
        self.ending.send_replace(true);
    }

    /// Stops all tasks, once all connections have ended; at most for [`ENDED`].
    pub async fn stop(self: &Arc<Scaling>) {
        self.drain();
        if timeout(ENDED, self.connections.acquire_many(CONNECTIONS_MAX)).await.is_err() {
            tracing::debug!("scaler: connections cut");
        }
        self.notify(None);
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = JoinSet::new();
    }

    /// The state of the external scaler; `None` where there is none.
    #[must_use]
    pub fn scaler_figures(&self) -> Option<ScalerFigures> {
        if !self.has_scaler.load(Ordering::Relaxed) {
            return None;
        }
        let rows = Method::ALL.iter().zip(&self.counters.0);
        let cells = rows
            .flat_map(|(method, row)| Code::ALL.iter().zip(row).map(move |cell| (method, cell)));
        let calls = cells.map(|(method, (code, count))| {
            (method.label(), code.label(), count.load(Ordering::Relaxed))
        });
        let streams = STREAMS_MAX - self.streams.available_permits();
        Some(ScalerFigures { calls: calls.collect(), streams })
    }

    /// The state of the webhook; `None` where no receiver is configured.
    #[must_use]
    pub fn webhook_figures(self: &Arc<Scaling>) -> Option<WebhookFigures> {
        let current = self.webhook.lock().unwrap_or_else(PoisonError::into_inner);
        current.0.as_ref().map(|_| self.webhook_counters.figures())
    }

    fn figures(&self) -> Arc<Figures> {
        self.published.borrow().clone()
    }

    fn compute(&self) {
        let others = self.fleet.needs_of_others();
        let view = self.shared.view.load();
        let is_warm = self.started.elapsed() >= WARM && self.shared.ready.load(Ordering::Relaxed);
        let next = Figures::of(&view.plan, &view.signals, &others, &self.figures(), is_warm);
        self.published.send_replace(Arc::new(next));
    }

    async fn repeat(self: Arc<Scaling>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.compute();
        }
    }
}
