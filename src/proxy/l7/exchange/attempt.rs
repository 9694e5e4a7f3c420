//! The inputs of one attempt at one endpoint, its start, and its result.
//!
//! # Not here
//! The work of an attempt: `send` sends the request, `response` handles the response.

use super::hedge::{PendingAttempt, PrimarySlot};
use super::upload::{Progress, ReadWhole};
use crate::decision::assess::Event;
use crate::decision::compression::Compression;
use crate::decision::edits;
use crate::decision::health::Cause;
use crate::decision::outlier::Failures;
use crate::decision::plan::ClassIndex;
use crate::decision::retry::Kind;
use crate::decision::units::Timestamp;
use crate::http::forward::Edits;
use crate::selection::Selection;
use crate::shared::View;
use crate::upstream::connect::UpstreamConnection;
use crate::upstream::pool::Connection;
use crate::worker::Worker;
use std::net::IpAddr;
use std::time::Duration;

/// The inputs of an attempt.
pub struct Attempt<'a, 'v> {
    /// The worker.
    pub worker: &'a Worker,
    /// The view of the exchange.
    pub view: &'v View,
    /// Edits of the request's fields, which hold for its trailers, too.
    pub request_edits: &'a edits::Edits,
    /// Edits of the response's fields.
    pub response_edits: Edits<'a>,
    /// The class.
    pub class: ClassIndex,
    /// The kind of the request among those of its class.
    pub stratum: u8,
    /// The selected cluster and endpoint.
    pub selection: &'a Selection,
    /// The client's address.
    pub client: IpAddr,
    /// Compression of the response, if it is configured for the route.
    pub compression: Option<&'a Compression>,
    /// The limit of a response head, in bytes.
    pub head_bytes: usize,
    /// The timeout to the response head.
    pub timeout: Duration,
    /// The timeout between two bytes of the response.
    pub stream_idle: Duration,
    /// The timeout without progress while sending.
    pub stall: Duration,
    /// Whether the request is a gRPC call; the client's content type alone is not sufficient.
    pub is_call: bool,
    /// Whether the method is idempotent.
    pub idempotent: bool,
    /// Whether the response carries `tidegate-decision`.
    pub explain: bool,
    /// Whether the client is another edge, which receives this site's load.
    pub edge: bool,
    /// The listener's HTTP/3 port, if it has one, which the response advertises.
    pub http3: Option<u16>,
    /// The `Set-Cookie` line for session affinity, if there is one.
    pub set_cookie: Option<String>,
    /// The time without an answer after which a hedge is sent, if hedging is allowed.
    pub hedge: Option<Duration>,
    /// The time when the request was sent, if this attempt resumes a pending one.
    pub resumed: Option<Timestamp>,
    /// The slot of the pending primary, if this attempt is a hedge.
    pub primary_slot: &'a PrimarySlot<'v>,
    /// Called once the whole request was read.
    pub(super) read_whole: Option<ReadWhole<'a>>,
    /// Whether a failure of this kind may be retried; a granted retry is charged to the budget.
    pub may_retry: &'a dyn Fn(Kind) -> bool,
}

impl Attempt<'_, '_> {
    /// Whether the request may be sent again: method and body permit it.
    pub(super) fn replaceable(&self, progress: &Progress) -> bool {
        self.idempotent && !progress.lost.get()
    }

    /// The causes that the cluster counts as failures.
    pub(super) fn failures(&self) -> &Failures {
        &self.view.plan.clusters[self.selection.cluster].outlier.failures
    }

    /// Reports a failure of the endpoint to the control thread, if the cluster counts the cause.
    pub(super) fn blame(&self, cause: Cause) {
        if self.failures().has(cause) {
            let (endpoint, client) = (self.selection.signals(self.view).id, Some(self.client));
            self.worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
    }
}

/// The result of an attempt that did not fail.
pub enum Ended<'v> {
    /// The response was sent.
    Done,
    /// The request was sent, and the response is pending: a hedge follows.
    Pending(Box<PendingAttempt<'v>>),
    /// The pending primary answered first: this attempt was cancelled.
    Overtaken,
    /// The connection became a tunnel.
    Tunnel(Box<Connection>),
}

/// The start of an attempt.
pub enum Start<'v> {
    /// A connection.
    Fresh(UpstreamConnection),
    /// A request that was already sent.
    Resumed(Box<PendingAttempt<'v>>),
}

impl Start<'_> {
    /// When the request was sent, if it was sent before.
    pub(super) fn resumed(&self) -> Option<Timestamp> {
        match self {
            Start::Resumed(waiting) => Some(waiting.since),
            Start::Fresh(_) => None,
        }
    }
}
