//! Hedging: a second attempt, the hedge, beside a slow first one, the primary. Whichever answers first serves.
//!
//! Only one attempt at a time has the client. The pending primary is nothing but a connection on which all of the
//! request was sent. If its answer begins first, the hedge is given up and the primary goes on; if the hedge answers
//! first, the primary is broken off, so that its cluster can stop working. A hedge that fails costs nothing: the
//! primary goes on.
//!
//! # Not here
//! Whether there is a hedge at all: `decision::retry` has the budget, `forward` the endpoints.

use super::record::InSlot;
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::units::Timestamp;
use crate::proxy::body::Source;
use crate::proxy::deadline::ENDLESS;
use crate::proxy::l7::outbound::{Http2In, Incoming};
use crate::proxy::selection::Selection;
use crate::proxy::upstream::pool::Connection;
use crate::proxy::worker::Worker;
use crate::shared::View;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;

/// Where a request was sent, and is waited for.
#[derive(Debug)]
pub enum SentOn {
    /// A connection of its own.
    Http1(Connection),
    /// A stream of a shared one.
    Http2(Http2In),
}

/// An attempt whose request was sent whole, and that has no answer yet.
#[derive(Debug)]
pub struct PendingAttempt<'v> {
    /// Its count.
    pub slot: InSlot<'v>,
    /// When its answer began to be waited for.
    pub since: Timestamp,
    /// Who asks.
    pub client: IpAddr,
    /// On which connection.
    pub connection: PendingConnection,
}

/// Its connection; dropped, it is broken off, so that the cluster can stop.
#[derive(Debug)]
pub struct PendingConnection(Option<SentOn>);

impl PendingConnection {
    /// Holds it.
    #[must_use]
    pub fn new(on: SentOn) -> PendingConnection {
        PendingConnection(Some(on))
    }

    /// Takes it out, to go on with it; `None` never is.
    #[must_use]
    pub fn take(mut self) -> Option<SentOn> {
        self.0.take()
    }

    /// Whether it has served an exchange before, and whether others use it, too.
    #[must_use]
    pub fn is_reused(&self) -> (bool, bool) {
        match &self.0 {
            Some(SentOn::Http1(connection)) => (connection.reused, false),
            Some(SentOn::Http2(incoming)) => (incoming.is_reused(), true),
            None => (false, false),
        }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        if let Some(SentOn::Http1(connection)) = &self.0 {
            connection.stream.reset_on_close();
        }
    }
}

/// The primary attempt while its hedge is made.
#[derive(Debug)]
pub struct PendingPrimary<'v> {
    /// Where it went.
    pub selection: Selection,
    /// What it waits for.
    pub waiting: PendingAttempt<'v>,
}

impl PendingPrimary<'_> {
    /// Waits for the beginning of its answer; an error is its end without one.
    async fn stirs(&mut self) -> io::Result<()> {
        let more = match &mut self.waiting.connection.0 {
            Some(SentOn::Http1(connection)) => {
                let (reader, _) = connection.stream.split();
                let (buffer, watch) = (&mut connection.buffer, &connection.read_watch);
                Source::new(reader, buffer, watch).more(ENDLESS).await?
            }
            Some(SentOn::Http2(incoming)) => incoming.more(ENDLESS).await?,
            None => 0,
        };
        if more > 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Another has answered first. Once is nothing, but an endpoint that is overtaken every time is hung.
    fn give_up(self, worker: &Worker, view: &View) {
        let waited = worker.now().since(self.waiting.since).as_secs_f64();
        self.selection.live.record_overtaken(worker.id, waited);
        self.blame(worker, view, Cause::Overtaken);
    }

    /// Tells of a failure, if it is one that counts; says whether it is.
    fn blame(&self, worker: &Worker, view: &View, cause: Cause) -> bool {
        let counts = view.plan.clusters[self.selection.cluster].outlier.failures.has(cause);
        if counts {
            let (endpoint, client) = (self.selection.signals(view).id, Some(self.waiting.client));
            worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
        counts
    }

    /// It has ended. A connection that had been idle may have aged, and a cluster may refuse a stream: neither
    /// says anything against the endpoint.
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

/// Where an exchange keeps the pending primary.
pub type PrimarySlot<'v> = Cell<Option<Box<PendingPrimary<'v>>>>;

/// The pending primary, taken out to be watched; it goes back however that ends.
pub struct PrimaryGuard<'a, 'v> {
    primary_slot: &'a PrimarySlot<'v>,
    pending: Option<Box<PendingPrimary<'v>>>,
}

impl<'a, 'v> PrimaryGuard<'a, 'v> {
    /// Takes it out, if there is one.
    pub fn of(primary_slot: &'a PrimarySlot<'v>) -> PrimaryGuard<'a, 'v> {
        PrimaryGuard { primary_slot, pending: primary_slot.take() }
    }

    /// Whether there is one.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.pending.is_some()
    }

    /// Waits for `other` while the pending primary is watched; `None` says that its answer has begun.
    pub async fn beside<F: Future>(
        &mut self,
        worker: &Worker,
        view: &View,
        other: F,
    ) -> Option<F::Output> {
        let mut other = pin!(other);
        while let Some(pending) = &mut self.pending {
            let stirred = tokio::select! {
                // What is there already is taken: it is the later one's, which others are less likely to have.
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

    /// Breaks it off, since another has answered; says whether there was one.
    pub fn give_up(&mut self, worker: &Worker, view: &View) -> bool {
        self.pending.take().map(|pending| pending.give_up(worker, view)).is_some()
    }
}

impl Drop for PrimaryGuard<'_, '_> {
    fn drop(&mut self) {
        self.primary_slot.set(self.pending.take());
    }
}
