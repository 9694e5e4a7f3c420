//! Hedging: a second attempt, the hedge, while a slow first one, the primary, continues. The first answer is used.
//!
//! Only one attempt at a time uses the client. The pending primary is only a connection on which the whole request
//! was sent. If its answer begins first, the hedge is cancelled and the primary continues; if the hedge answers
//! first, the primary is cancelled, so that its cluster can stop working. If a hedge fails, the primary continues.
//!
//! # Not here
//! Whether a hedge is sent: `decision::retry` has the budget, `forward` selects the endpoints.

use super::record::InSlot;
use crate::body::Source;
use crate::deadline::ENDLESS;
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::units::Timestamp;
use crate::l7::outbound::{Http2In, Incoming};
use crate::selection::Selection;
use crate::shared::View;
use crate::upstream::pool::Connection;
use crate::worker::Worker;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;

/// The connection on which a request was sent.
#[derive(Debug)]
pub enum SentOn<'v> {
    /// A connection of its own.
    Http1(Box<Connection>),
    /// A stream of a shared connection.
    Http2(Http2In<'v>),
}

/// An attempt whose whole request was sent, and that has no answer yet.
#[derive(Debug)]
pub struct PendingAttempt<'v> {
    /// Its entry in the slot's counters.
    pub slot: InSlot<'v>,
    /// When the wait for the answer began.
    pub since: Timestamp,
    /// The client's address.
    pub client: IpAddr,
    /// The connection.
    pub connection: PendingConnection<'v>,
}

/// The connection of a pending attempt. Dropping it cancels the request, so that the cluster can stop.
#[derive(Debug)]
pub struct PendingConnection<'v>(Option<SentOn<'v>>);

impl<'v> PendingConnection<'v> {
    /// Wraps a connection.
    #[must_use]
    pub fn new(on: SentOn<'v>) -> PendingConnection<'v> {
        PendingConnection(Some(on))
    }

    /// Takes the connection out in order to continue with it; the connection is always present.
    #[must_use]
    pub fn take(mut self) -> Option<SentOn<'v>> {
        self.0.take()
    }

    /// Whether the connection has served an exchange before, and whether it is shared.
    #[must_use]
    pub fn is_reused(&self) -> (bool, bool) {
        match &self.0 {
            Some(SentOn::Http1(connection)) => (connection.reused, false),
            Some(SentOn::Http2(incoming)) => (incoming.is_reused(), true),
            None => (false, false),
        }
    }
}

impl Drop for PendingConnection<'_> {
    fn drop(&mut self) {
        if let Some(SentOn::Http1(connection)) = &self.0 {
            connection.stream.reset_on_close();
        }
    }
}

/// The primary attempt while its hedge runs.
#[derive(Debug)]
pub struct PendingPrimary<'v> {
    /// The selected cluster and endpoint.
    pub selection: Selection,
    /// The pending attempt.
    pub waiting: Box<PendingAttempt<'v>>,
}

impl PendingPrimary<'_> {
    /// Waits for the beginning of the response; an error means that the connection ended without a response.
    async fn stirs(&mut self) -> io::Result<()> {
        let more = match &mut self.waiting.connection.0 {
            Some(SentOn::Http1(connection)) => {
                let (reader, _) = connection.stream.split();
                let (buffer, watch) = (&mut connection.buffer, &connection.read_watch);
                let meter = self.waiting.slot.received();
                Source::new(reader, buffer, watch).metered(meter).more(ENDLESS).await?
            }
            Some(SentOn::Http2(incoming)) => incoming.more(ENDLESS).await?,
            None => 0,
        };
        if more > 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Cancels the attempt because the other one has answered. A single slow response has no consequence, but an
    /// endpoint whose hedges always win is ejected.
    fn give_up(self, worker: &Worker, view: &View) {
        let waited = worker.now().since(self.waiting.since).as_secs_f64();
        self.selection.live.record_overtaken(worker.id, waited);
        self.blame(worker, view, Cause::Overtaken);
    }

    /// Reports a failure if the cluster counts its cause; returns whether it does.
    fn blame(&self, worker: &Worker, view: &View, cause: Cause) -> bool {
        let counts = view.plan.clusters[self.selection.cluster].outlier.failures.has(cause);
        if counts {
            let (endpoint, client) = (self.selection.signals(view).id, Some(self.waiting.client));
            worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
        counts
    }

    /// Handles the end of a connection without a response. A reused connection may have been stale, and a cluster
    /// may refuse a stream: the endpoint is not blamed for either.
    fn died(self, worker: &Worker, view: &View, error: &io::Error) {
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        if refused || self.waiting.connection.is_reused().0 {
            return;
        }
        if self.blame(worker, view, Cause::Reset) {
            self.waiting.slot.failed();
        }
    }
}

/// The slot of the pending primary in an exchange.
pub type PrimarySlot<'v> = Cell<Option<Box<PendingPrimary<'v>>>>;

/// Takes the pending primary out of its slot for a wait, and puts it back at the end.
pub struct PrimaryGuard<'a, 'v> {
    primary_slot: &'a PrimarySlot<'v>,
    pending: Option<Box<PendingPrimary<'v>>>,
}

impl<'a, 'v> PrimaryGuard<'a, 'v> {
    /// Takes the pending primary, if there is one.
    pub fn of(primary_slot: &'a PrimarySlot<'v>) -> PrimaryGuard<'a, 'v> {
        PrimaryGuard { primary_slot, pending: primary_slot.take() }
    }

    /// Whether there is a pending primary.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.pending.is_some()
    }

    /// Waits for `other` and watches the pending primary; `None` means that the primary's answer has begun.
    pub async fn beside<F: Future>(
        &mut self,
        worker: &Worker,
        view: &View,
        other: F,
    ) -> Option<F::Output> {
        let mut other = pin!(other);
        while let Some(pending) = &mut self.pending {
            let stirred = tokio::select! {
                // An available result of `other` is used first.
                biased;
                output = &mut other => return Some(output),
                // Boxed: seldom used, and the future of every exchange should stay small.
                stirred = Box::pin(pending.stirs()) => stirred,
            };
            let Err(error) = stirred else { return None };
            if let Some(pending) = self.pending.take() {
                pending.died(worker, view, &error);
            }
        }
        Some(other.await)
    }

    /// Cancels the primary because the hedge has answered; returns whether there was one.
    pub fn give_up(&mut self, worker: &Worker, view: &View) -> bool {
        self.pending.take().map(|pending| pending.give_up(worker, view)).is_some()
    }
}

impl Drop for PrimaryGuard<'_, '_> {
    fn drop(&mut self) {
        self.primary_slot.set(self.pending.take());
    }
}
