//! A UDP flow: one client's datagrams to one endpoint, and their answers.

use crate::admission::Admitted;
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::plan::ClassIndex;
use crate::decision::units::Timestamp;
use crate::os::clock;
use crate::os::datagram::{Datagrams, Run};
use crate::os::line_meter::LineMeter;
use crate::policy::Seat;
use crate::selection::InFlight;
use crate::shared::{Counted, Meter, View};
use crate::telemetry::access_log::{Line, milliseconds};
use crate::telemetry::cells::{ExchangeCells, ListenerCells};
use crate::telemetry::results::StatusClass;
use crate::worker::{Cells, Worker};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The idle time of an unanswered flow.
const UNANSWERED: Duration = Duration::from_secs(10);

/// The client's address, and the proxy's address that it sends to.
pub(super) type Key = (SocketAddr, Option<IpAddr>);

/// A client's datagrams and their answers.
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) upstream: Datagrams,
    pub(super) to: SocketAddr,
    pub(super) endpoint: u32,
    pub(super) class: u64,
    pub(super) idle: Duration,
    /// The moment of the view in which the flow was last checked.
    pub(super) checked: Cell<(u64, Timestamp)>,
    pub(super) began: Timestamp,
    pub(super) moved: Cell<Timestamp>,
    pub(super) bytes_in: Cell<u64>,
    pub(super) bytes_out: Cell<u64>,
    pub(super) answered: Cell<bool>,
    pub(super) over: Cell<bool>,
    pub(super) end: Notify,
    pub(super) cells: Cells<ListenerCells>,
    pub(super) exchange: Cells<ExchangeCells>,
    pub(super) names: Names,
    /// Counts the bytes from the cluster.
    pub(super) meter: Meter,
    /// The bytes of its cluster's capacity group.
    pub(super) line: Option<Arc<LineMeter>>,
    /// Until it is over.
    pub(super) held: RefCell<Option<Counts>>,
}

/// The counts of a flow.
pub(super) type Counts = (Admitted, Seat, Counted, InFlight);

/// The names in the log line of a flow.
pub(super) struct Names {
    pub(super) listener: String,
    pub(super) service: String,
    pub(super) data: String,
    pub(super) cluster: String,
    pub(super) reason: &'static str,
}

/// Identifies a view: its plan, and its assessment of the clusters.
pub(super) fn moment(view: &View) -> (u64, Timestamp) {
    (view.generation, view.signals.at)
}

pub(super) fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

impl Flow {
    /// Whether the flow may continue: permitted, and with a usable endpoint, according to the latest view.
    pub(super) fn stays(&self, view: &View, class: ClassIndex) -> bool {
        if self.checked.get() == moment(view) {
            return true;
        }
        let policy = view.plan.service_of(class).policy.map(|policy| &view.plan.policies[policy]);
        let admitted = policy.is_none_or(|policy| policy.admits(self.key.0.ip().to_canonical()));
        let class = &view.plan.classes[class];
        let stays = admitted
            && class.id == self.class
            && view.place(self.endpoint).is_some_and(|(cluster, endpoint)| {
                class.permitted.clusters.contains(&cluster)
                    && view.signals.clusters[cluster].is_usable(endpoint)
            });
        self.checked.set(moment(view));
        stays
    }

    pub(super) fn moved_up(&self, run: &Run<'_>, now: Timestamp) {
        let bytes = run.bytes.len() as u64;
        self.bytes_in.set(self.bytes_in.get() + bytes);
        self.cells.bytes_in.add(bytes);
        if let Some(line) = &self.line {
            line.sent(run.bytes.len());
        }
        self.moved.set(now);
    }

    pub(super) fn refused(&self, worker: &Worker) {
        if !self.over.get() {
            let (endpoint, cause, client) = (self.endpoint, Cause::Refused, None);
            worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
        self.finish();
    }

    pub(super) fn is_unanswered(&self) -> bool {
        !self.answered.get() && !self.over.get()
    }

    /// Makes the flow's task end it; the flow no longer counts.
    pub(super) fn finish(&self) {
        self.over.set(true);
        self.held.take();
        self.end.notify_one();
    }

    /// When it ends if nothing moves.
    pub(super) fn expires(&self) -> Timestamp {
        let patience = if self.answered.get() { self.idle } else { self.idle.min(UNANSWERED) };
        self.moved.get().plus(patience)
    }

    /// Counts and logs the flow at its end.
    pub(super) fn log(&self, worker: &Worker) {
        let duration = worker.now().since(self.began);
        self.exchange.by_class[StatusClass::None].add(1);
        self.exchange.duration.observe(duration.as_secs_f64());
        self.exchange.latencies.observe(duration.as_secs_f64());
        if worker.log.is_on() {
            worker.log.write(&Line {
                time: clock::rfc3339(clock::since_epoch()).into(),
                listener: &self.names.listener,
                client: self.key.0.ip().to_canonical().to_string().into(),
                protocol: "udp",
                bytes_in: self.bytes_in.get(),
                bytes_out: self.bytes_out.get(),
                duration_ms: milliseconds(duration),
                service: &self.names.service,
                data: self.names.data.as_str().into(),
                cluster: &self.names.cluster,
                endpoint: self.to.to_string().into(),
                reason: self.names.reason,
                attempts: 1,
                ..Line::default()
            });
        }
    }
}
