//! Exchanges of one connection side by side, as HTTP/2 and HTTP/3 have them.

use super::client::Client;
use super::connection::Arrival;
use super::exchange::{self, After};
use super::record::Record;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::{Viewed, Worker};
use crate::shared::Scarcity;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Streams at once.
pub const STREAMS_MAX: u32 = 100;
/// Bytes that may be under way to us: of a stream, and of the connection.
pub const STREAM_WINDOW: u32 = 64 * 1024;
/// Of the connection.
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that may be broken off within a second while they are worked on, of either side.
pub const RESETS_A_SECOND: f64 = 100.0;

/// What the streams of a connection tell it.
#[derive(Debug, Default)]
pub struct Account {
    active: Cell<usize>,
    /// Streams that were broken off, less what is forgiven.
    resets: Cell<f64>,
}

impl Account {
    /// Streams under way.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.get()
    }

    /// Counts a stream in, until what is returned is dropped.
    #[must_use]
    pub fn enter(self: &Rc<Account>) -> Active {
        self.active.set(self.active.get() + 1);
        Active(self.clone())
    }

    /// Notes that a stream was broken off.
    pub fn broke_off(&self) {
        self.resets.set(self.resets.get() + 1.0);
    }

    /// Forgives as many as may be in such a span.
    pub fn forgive(&self, elapsed: Duration) {
        let forgiven = elapsed.as_secs_f64() * RESETS_A_SECOND;
        self.resets.set((self.resets.get() - forgiven).max(0.0));
    }

    /// Whether more were broken off than anybody has reason to.
    #[must_use]
    pub fn is_abused(&self) -> bool {
        self.resets.get() > RESETS_A_SECOND
    }
}

/// A stream under way: counted out when its exchange ends, and also when its task panics.
#[derive(Debug)]
pub struct Active(Rc<Account>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

/// One exchange. `refused` is why its head will not do.
pub async fn serve<C: Client>(
    worker: &Worker,
    view: &Viewed,
    arrival: &Arrival,
    client: &mut C,
    refused: Option<Refusal>,
) -> (After, Record) {
    let mut record = Record::begin(worker.now());
    let scarce = worker.shared.scarcity() >= Scarcity::Refuse;
    let refusal = match refused {
        Some(refusal) => Some(refusal),
        None if scarce => Some(Refusal::Overloaded),
        None => arrival.is_too_large(client.head()).then_some(Refusal::BodyTooLarge),
    };
    let after = match refusal {
        Some(refusal) => {
            super::answer::refuse(client, refusal, "", &mut record).await;
            After::Next
        }
        // Boxed: what is spawned is moved about, and this is large.
        None => Box::pin(exchange::serve(worker, view, client, arrival, &mut record)).await,
    };
    (after, record)
}
