//! The exporter: takes spans from the queue, and sends them to the collector in batches.
//!
//! One request at a time, with a deadline. A request that the collector refuses for now is repeated twice; then its
//! spans are dropped. Meanwhile the queue fills, and workers drop further spans: the collector's speed bounds
//! what is sent, and memory stays constant.

use super::{Orders, otlp};
use crate::decision::plan::UpstreamTls;
use crate::decision::traces::Collector;
use crate::shared::Trace;
use crate::telemetry::cells::Registry;
use crate::tls::client::{self, Speaks};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Traces in a request, at most: about two thousand spans.
pub(super) const BATCH_MAX: usize = 512;
/// How long spans are collected for a request.
const COLLECT: Duration = Duration::from_secs(1);
/// The deadline of a request.
const ANSWERED: Duration = Duration::from_secs(5);
/// The deadline of a connection attempt.
const CONNECTED: Duration = Duration::from_secs(3);
/// Bytes of a collector's response, at most.
const RESPONSE_MAX: usize = 64 * 1024;
/// The pauses before a request is repeated.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// Characters of a collector's message in the log.
const MESSAGE_MAX: usize = 200;

/// A running exporter.
#[derive(Debug)]
pub(super) struct Running {
    runtime: Runtime,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits for the end, at most this long; then ends it.
    pub(super) async fn end(self, within: Duration) {
        if tokio::time::timeout(within, self.task).await.is_err() {
            tracing::warn!("traces: last spans not sent in time");
        }
        self.runtime.shutdown_background();
    }
}

/// Starts the exporter on a runtime of its own; `None` if there is no thread for it.
pub(super) fn start(
    queue: mpsc::Receiver<Trace>,
    orders: watch::Receiver<Orders>,
    registry: Arc<Registry>,
) -> Option<Running> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.worker_threads(1).thread_name("traces").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "traces not exported: no thread for the exporter");
            return None;
        }
    };
    let exporter = Exporter { queue, orders, registry, is_failing: false };
    let task = runtime.spawn(exporter.run());
    Some(Running { runtime, task })
}

struct Exporter {
    queue: mpsc::Receiver<Trace>,
    orders: watch::Receiver<Orders>,
    registry: Arc<Registry>,
    /// Whether the last request failed, which was logged.
    is_failing: bool,
}

impl Exporter {
    /// Exports until the proxy stops.
    async fn run(mut self) {
        loop {
            let orders = self.orders.borrow_and_update().clone();
            if orders.stopping {
                // The last batch is sent at once.
                self.orders.mark_changed();
            }
            match orders.collector {
                Some((collector, site)) => self.export(&Arc::new(collector), &site).await,
                None => self.drop_queued(),
            }
            if orders.stopping || self.orders.borrow().stopping {
                return;
            }
            // Not yet changed: there is no collector, or the queue was closed.
            if !self.orders.has_changed().unwrap_or(false) && self.orders.changed().await.is_err() {
                return;
            }
        }
    }

    /// Exports to one collector until the orders change; at shutdown, sends what is queued.
    async fn export(&mut self, collector: &Arc<Collector>, site: &str) {
        let mut client = None;
        while let Some(batch) = self.batch().await {
            let spans: u64 = batch.iter().map(|trace| trace.spans() as u64).sum();
            let request = otlp::request(batch, site);
            let result = self.send(collector, &mut client, request).await;
            self.count(collector, spans, result);
        }
    }

    /// Waits for the next traces. `None` when the settings change while the queue is empty, or when the queue is closed.
    async fn batch(&mut self) -> Option<Vec<Trace>> {
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < BATCH_MAX {
            let left = BATCH_MAX - batch.len();
            let pause = until.unwrap_or_else(Instant::now);
            tokio::select! {
                // A change first: a closed queue or a changed collector ends the batch.
                biased;
                _ = self.orders.changed() => {
                    self.orders.mark_changed();
                    let mut rest = Vec::new();
                    while rest.len() < left && let Ok(trace) = self.queue.try_recv() {
                        rest.push(trace);
                    }
                    batch.append(&mut rest);
                    break;
                }
                () = tokio::time::sleep_until(pause), if until.is_some() => break,
                taken = self.queue.recv_many(&mut batch, left) => match taken {
                    0 => break,
                    _ => until = until.or_else(|| Some(Instant::now() + COLLECT)),
                },
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Sends a request, with repetitions; the number of spans that the collector refused.
    async fn send(
        &mut self,
        collector: &Arc<Collector>,
        client: &mut Option<TraceServiceClient<Channel>>,
        request: ExportTraceServiceRequest,
    ) -> Result<u64, Status> {
        let mut pauses = PAUSES.iter();
        loop {
            let mut own = match client.take() {
                Some(client) => client,
                None => connect(collector).map_err(|error| Status::internal(error.to_string()))?,
            };
            let answer = tokio::time::timeout(ANSWERED, own.export(request.clone())).await;
            let status = match answer {
                Ok(Ok(response)) => {
                    *client = Some(own);
                    let partial = response.into_inner().partial_success.unwrap_or_default();
                    return Ok(u64::try_from(partial.rejected_spans).unwrap_or(0));
                }
                Ok(Err(status)) => status,
                // The next request would wait as long.
                Err(_) => return Err(Status::deadline_exceeded("no response in time")),
            };
            // The next request makes a new connection: this one may be dead, or the address may have changed.
            let pause = pauses.next().filter(|_| may_repeat(status.code()));
            let Some(pause) = pause else { return Err(status) };
            self.warn(collector, &status);
            tokio::select! {
                // Shutdown first: it has a deadline.
                biased;
                _ = self.orders.changed() => {
                    self.orders.mark_changed();
                    return Err(status);
                }
                () = tokio::time::sleep(*pause) => {}
            }
        }
    }

    fn count(&mut self, collector: &Collector, spans: u64, result: Result<u64, Status>) {
        let counts = &self.registry.spans;
        match result {
            Ok(rejected) => {
                let rejected = rejected.min(spans);
                counts.rejected.fetch_add(rejected, Ordering::Relaxed);
                counts.exported.fetch_add(spans - rejected, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(url = collector.url, "traces: the collector takes spans again");
                }
            }
            Err(status) => {
                counts.failed.fetch_add(spans, Ordering::Relaxed);
                self.warn(collector, &status);
            }
        }
    }

    /// Logs the first failure after a success.
    fn warn(&mut self, collector: &Collector, status: &Status) {
        if std::mem::replace(&mut self.is_failing, true) {
            return;
        }
        let message: String =
            status.message().chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect();
        let (url, code) = (&collector.url, status.code());
        tracing::warn!(
            url,
            ?code,
            message,
            "traces: the collector takes no spans, they are dropped"
        );
    }

    /// Drops what was queued for a collector that the configuration no longer has.
    fn drop_queued(&mut self) {
        while let Ok(trace) = self.queue.try_recv() {
            self.registry.spans.failed.fetch_add(trace.spans() as u64, Ordering::Relaxed);
        }
    }
}

/// Whether a request may be repeated after this response (OTLP specification, "Failures").
fn may_repeat(code: Code) -> bool {
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::OutOfRange
        | Code::DataLoss
        | Code::ResourceExhausted => true,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => false,
    }
}

/// A client that connects at its first request.
fn connect(
    collector: &Arc<Collector>,
) -> Result<TraceServiceClient<Channel>, tonic::transport::Error> {
    let host = if collector.host.contains(':') {
        format!("[{}]", collector.host)
    } else {
        collector.host.clone()
    };
    // TLS is this proxy's own, so tonic sees only the inner connection.
    let endpoint = Endpoint::from_shared(format!("http://{host}:{}", collector.port))?
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(CONNECTED);
    let collector = collector.clone();
    let connector = tower::service_fn(move |_| {
        let collector = collector.clone();
        async move { dial(&collector).await.map(TokioIo::new) }
    });
    let client = TraceServiceClient::new(endpoint.connect_with_connector_lazy(connector));
    Ok(client.max_decoding_message_size(RESPONSE_MAX))
}

/// A connection in clear, or within TLS.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

async fn dial(collector: &Collector) -> io::Result<Box<dyn Connection>> {
    let stream = TcpStream::connect((collector.host.as_str(), collector.port)).await?;
    stream.set_nodelay(true)?;
    if !collector.secure {
        return Ok(Box::new(stream));
    }
    let (server_name, client, alpn) = (None, None, Vec::new());
    let terms = UpstreamTls { server_name, ca: collector.ca.clone(), client, alpn };
    let settings = client::build(&terms, 0).map_err(io::Error::other)?;
    let name = ServerName::try_from(collector.host.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(settings.config(Speaks::Http2).clone());
    Ok(Box::new(connector.connect(name, stream).await?))
}
