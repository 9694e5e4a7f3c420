//! Traces: hands the spans of exchanges to an OpenTelemetry collector, over OTLP/gRPC.
//!
//! The exporter has a runtime of its own: a collector that is slow, hangs or lies delays neither workers nor the
//! control thread. Workers only put spans into one bounded queue (`shared::trace`).
//!
//! # Bounds
//! The queue, [`exporter::BATCH_MAX`] spans in a request, one request at a time, a deadline for each request and a
//! few attempts. Spans beyond these bounds are dropped and counted in `tidegate_trace_spans_total`.
//!
//! # Not here
//! Which exchanges are traced (`decision::traces`), and the spans while an exchange runs (`proxy::l7::exchange::trace`).

#[cfg(feature = "otel")]
mod exporter;
#[cfg(not(feature = "otel"))]
#[path = "no_exporter.rs"]
mod exporter;
#[cfg(feature = "otel")]
mod otlp;

use crate::decision::traces::Collector;
use crate::shared::Trace;
use crate::telemetry::cells::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The time for the last spans at shutdown.
const FLUSH: Duration = Duration::from_secs(2);

/// What the exporter is to do.
#[derive(Clone, Debug, Default)]
struct Orders {
    /// The collector, and the name of this site.
    collector: Option<(Collector, String)>,
    /// Whether to send what is queued, once, and to end.
    stopping: bool,
}

/// The exporter of spans; it runs from the first configuration with a collector on.
#[derive(Debug)]
pub struct Traces {
    orders: watch::Sender<Orders>,
    idle: Option<(mpsc::Receiver<Trace>, Arc<Registry>)>,
    running: Option<exporter::Running>,
}

impl Traces {
    /// The exporter of a queue, not yet running.
    #[must_use]
    pub fn new(queue: mpsc::Receiver<Trace>, registry: Arc<Registry>) -> Traces {
        let idle = Some((queue, registry));
        Traces { orders: watch::Sender::default(), idle, running: None }
    }

    /// Exports to this collector from now on; `site` is the name of this site. Without a collector, spans that are
    /// still queued are dropped and counted.
    pub fn adopt(&mut self, collector: Option<&Collector>, site: &str) {
        let collector = collector.map(|collector| (collector.clone(), site.to_owned()));
        let starts = collector.is_some();
        self.orders.send_if_modified(|orders| {
            let differs = orders.collector != collector;
            orders.collector = collector;
            differs
        });
        if let Some((queue, registry)) = self.idle.take_if(|_| starts) {
            self.running = exporter::start(queue, self.orders.subscribe(), registry);
        }
    }

    /// Sends the spans that are queued, within two seconds, and ends the exporter.
    pub async fn stop(&mut self) {
        self.orders.send_modify(|orders| orders.stopping = true);
        if let Some(running) = self.running.take() {
            running.end(FLUSH).await;
        }
    }
}
