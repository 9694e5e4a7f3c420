//! What one attempt at one endpoint goes by, what it begins with, and how it ends.
//!
//! # Not here
//! What an attempt does: `send` has the request's way on its connection, `response` what comes back.

use super::hedge::{PendingAttempt, PrimarySlot};
use super::upload::{Progress, ReadWhole};
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::outlier::Failures;
use crate::decision::retry::Kind;
use crate::decision::route::Route;
use crate::decision::units::Timestamp;
use crate::proxy::selection::Selection;
use crate::proxy::upstream::connect::UpstreamConnection;
use crate::proxy::upstream::pool::Connection;
use crate::proxy::worker::Worker;
use crate::shared::View;
use std::net::IpAddr;
use std::time::Duration;

/// What an attempt needs.
pub struct Attempt<'a, 'v> {
    /// Whose it is.
    pub worker: &'a Worker,
    /// What its exchange goes by.
    pub view: &'v View,
    /// Its route.
    pub route: &'a Route,
    /// Its class.
    pub class: usize,
    /// Which kind of request it is, among those of its class.
    pub stratum: u8,
    /// Where it goes.
    pub selection: &'a Selection,
    /// Who asks.
    pub client: IpAddr,
    /// Bytes of its head, at most.
    pub head_bytes: usize,
    /// To the response head.
    pub timeout: Duration,
    /// Without a byte of the response.
    pub stream_idle: Duration,
    /// Without progress while sending.
    pub stall: Duration,
    /// Whether it is a call of gRPC, by more than its client's word.
    pub is_call: bool,
    /// Whether the request may be sent twice, as far as its method goes.
    pub idempotent: bool,
    /// Whether the client is told the decision.
    pub explain: bool,
    /// Whether the client is another edge, which is told what this site has to do.
    pub edge: bool,
    /// On which port the listener speaks HTTP/3, where it does: the client is told.
    pub http3: Option<u16>,
    /// A line that has the client stay at this endpoint, where it is to.
    pub set_cookie: Option<String>,
    /// After how long without an answer it is hedged, where it may be.
    pub hedge: Option<Duration>,
    /// Since when its answer is waited for, where it has been sent before.
    pub resumed: Option<Timestamp>,
    /// The pending primary, where this attempt is a hedge.
    pub primary_slot: &'a PrimarySlot<'v>,
    /// Called once the request was read whole.
    pub(super) read_whole: Option<ReadWhole<'a>>,
    /// Whether a failure of this kind may be tried elsewhere; if so, the retry is paid for.
    pub may_retry: &'a dyn Fn(Kind) -> bool,
}

impl Attempt<'_, '_> {
    /// Whether the request may be sent again, method and body considered.
    pub(super) fn replaceable(&self, progress: &Progress) -> bool {
        self.idempotent && !progress.lost.get()
    }

    /// What the cluster counts as a failure.
    pub(super) fn failures(&self) -> &Failures {
        &self.view.plan.clusters[self.selection.cluster].outlier.failures
    }

    /// Tells of a failure that its endpoint is blamed for, if it is one that counts.
    pub(super) fn blame(&self, cause: Cause) {
        if self.failures().has(cause) {
            let (endpoint, client) = (self.selection.signals(self.view).id, Some(self.client));
            self.worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
    }
}

/// How an attempt ended, if it did not fail.
pub enum Ended<'v> {
    /// The response was sent.
    Done,
    /// It was sent, and its answer is pending: a hedge is to be made.
    Pending(PendingAttempt<'v>),
    /// The attempt that waited beside it was quicker: it is broken off.
    Overtaken,
    /// The connection became a tunnel.
    Tunnel(Connection),
}

/// What an attempt begins with.
pub enum Start<'v> {
    /// A connection.
    Fresh(UpstreamConnection),
    /// A request that was sent.
    Resumed(PendingAttempt<'v>),
}

impl Start<'_> {
    /// Since when the answer is waited for, if the request was sent before.
    pub(super) fn resumed(&self) -> Option<Timestamp> {
        match self {
            Start::Resumed(waiting) => Some(waiting.since),
            Start::Fresh(_) => None,
        }
    }
}
