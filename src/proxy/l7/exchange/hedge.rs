//! A second attempt beside a slow first one: the first waits, parked, and whichever answers first serves.
//!
//! Only one attempt at a time has the client. The parked one is nothing but a connection on which all of the
//! request was sent: should it stir first, the other is given up and it goes on from where it was; should the
//! other answer first, it is broken off, so that its cluster can stop working. An attempt that fails beside a
//! parked one costs nothing: the parked one goes on.
//!
//! # Not here
//! Whether there is a second attempt at all: `decision::retry` has the budget, the walk the endpoints.

use super::record::InSlot;
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::units::Timestamp;
use crate::proxy::body::Source;
use crate::proxy::deadline::ENDLESS;
use crate::proxy::l7::outbound::{Http2In, Incoming};
use crate::proxy::place::Place;
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
pub enum On {
    /// On a connection of its own.
    Http1(Connection),
    /// On a stream.
    Http2(Http2In),
}

/// An attempt whose request was sent whole, and that has no answer yet.
#[derive(Debug)]
pub struct Waiting<'v> {
    /// Its count.
    pub slot: InSlot<'v>,
    /// When its answer began to be waited for.
    pub since: Timestamp,
    /// Who asks.
    pub client: IpAddr,
    /// On what.
    pub line: Line,
}

/// Its connection; dropped, it is broken off, so that the cluster can stop.
#[derive(Debug)]
pub struct Line(Option<On>);

impl Line {
    /// Holds it.
    #[must_use]
    pub fn new(on: On) -> Line {
        Line(Some(on))
    }

    /// Takes it out, to go on with it; `None` never is.
    #[must_use]
    pub fn take(mut self) -> Option<On> {
        self.0.take()
    }

    /// Whether it has served an exchange before, and whether others use it, too.
    #[must_use]
    pub fn is_reused(&self) -> (bool, bool) {
        match &self.0 {
            Some(On::Http1(connection)) => (connection.reused, false),
            Some(On::Http2(incoming)) => (incoming.is_reused(), true),
            None => (false, false),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(On::Http1(connection)) = &self.0 {
            connection.stream.reset_on_close();
        }
    }
}

/// One that waits beside another.
#[derive(Debug)]
pub struct Parked<'v> {
    /// Where it went.
    pub place: Place,
    /// What it waits for.
    pub waiting: Waiting<'v>,
}

impl Parked<'_> {
    /// Waits for the beginning of its answer; an error is its end without one.
    async fn stirs(&mut self) -> io::Result<()> {
        let more = match &mut self.waiting.line.0 {
            Some(On::Http1(connection)) => {
                let (reader, _) = connection.stream.split();
                let (buffer, watch) = (&mut connection.buffer, &connection.read_watch);
                Source::new(reader, buffer, watch).more(ENDLESS).await?
            }
            Some(On::Http2(incoming)) => incoming.more(ENDLESS).await?,
            None => 0,
        };
        if more > 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Another has answered first. Once is nothing, but an endpoint that is overtaken every time is hung.
    fn give_up(self, worker: &Worker, view: &View) {
        let waited = worker.now().since(self.waiting.since).as_secs_f64();
        self.place.live.record_overtaken(worker.id, waited);
        self.blame(worker, view, Cause::Overtaken);
    }

    /// Tells of a failure, if it is one that counts; says whether it is.
    fn blame(&self, worker: &Worker, view: &View, cause: Cause) -> bool {
        let counts = view.plan.clusters[self.place.cluster].outlier.failures.has(cause);
        if counts {
            let (endpoint, client) = (self.place.signals(view).id, Some(self.waiting.client));
            worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
        counts
    }

    /// It has ended. A connection that had been idle may have aged, and a cluster may refuse a stream: neither
    /// says anything against the endpoint.
    fn died(self, worker: &Worker, view: &View, error: &io::Error) {
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        if refused || self.waiting.line.is_reused().0 {
            return;
        }
        if self.blame(worker, view, Cause::Reset) {
            self.waiting.slot.failed();
        }
    }
}

/// Where the walk keeps the parked one.
pub type Berth<'v> = Cell<Option<Box<Parked<'v>>>>;

/// The parked one, taken out to be watched; it goes back however that ends.
pub struct Rival<'a, 'v> {
    berth: &'a Berth<'v>,
    parked: Option<Box<Parked<'v>>>,
}

impl<'a, 'v> Rival<'a, 'v> {
    /// Takes it out, if there is one.
    pub fn of(berth: &'a Berth<'v>) -> Rival<'a, 'v> {
        Rival { berth, parked: berth.take() }
    }

    /// Whether there is one.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.parked.is_some()
    }

    /// Waits for `other` while the parked one is watched; `None` says that its answer has begun.
    pub async fn beside<F: Future>(
        &mut self,
        worker: &Worker,
        view: &View,
        other: F,
    ) -> Option<F::Output> {
        let mut other = pin!(other);
        while let Some(parked) = &mut self.parked {
            let stirred = tokio::select! {
                // What is there already is taken: it is the later one's, which others are less likely to have.
                biased;
                output = &mut other => return Some(output),
                // Boxed: seldom, and every exchange should not have room for it.
                stirred = Box::pin(parked.stirs()) => stirred,
            };
            let Err(error) = stirred else { return None };
            if let Some(parked) = self.parked.take() {
                parked.died(worker, view, &error);
            }
        }
        Some(other.await)
    }

    /// Breaks it off, since another has answered; says whether there was one.
    pub fn give_up(&mut self, worker: &Worker, view: &View) -> bool {
        self.parked.take().map(|parked| parked.give_up(worker, view)).is_some()
    }
}

impl Drop for Rival<'_, '_> {
    fn drop(&mut self) {
        self.berth.set(self.parked.take());
    }
}
