//! Concurrent exchanges on one connection of HTTP/2 or HTTP/3.

use crate::boxed::boxed;
use crate::deadline::Watch;
use crate::decision::plan::ListenerTimeouts;
use crate::http::request::RequestHead;
use crate::http::translate::{self, Tunnel, Wrong};
use crate::http::{Limits, Underscores, grpc};
use crate::l7::client::Client;
use crate::l7::connection_info::ConnectionInfo;
use crate::l7::exchange::answer;
use crate::l7::exchange::entry;
use crate::l7::exchange::forward::After;
use crate::l7::exchange::record::Record;
use crate::refusal::Refusal;
use crate::shared::{Scarcity, violation};
use crate::worker::{Viewed, Worker};
use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// The most concurrent streams.
pub const STREAMS_MAX: u32 = 100;
/// The receive windows of a stream and of the connection, in bytes.
pub const STREAM_WINDOW: u32 = 64 * 1024;
/// The receive window of the connection.
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The number of streams in work that may be reset per second, by either side.
pub const RESETS_A_SECOND: f64 = 100.0;

/// The counters that the streams of a connection share with it.
#[derive(Debug, Default)]
pub struct Account {
    active: Cell<usize>,
    /// The number of reset streams, less the permitted rate.
    resets: Cell<f64>,
    /// Bytes from the client that are accounted for by heads and bodies.
    explained: Cell<u64>,
    /// The number of streams whose response the client currently does not read.
    stalled: Cell<usize>,
    /// Whether memory or descriptors are scarce.
    scarce: Cell<bool>,
}

/// The number of streams up to which each stream may hold a large buffer.
const FEW: usize = 8;

/// The write timeout of a stalled stream if there are many of them, or if memory is scarce.
const BURDENED: Duration = Duration::from_secs(10);

/// How long a client may read nothing of a response.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    account: Option<&'a Account>,
    idle: Duration,
    /// The same for responses that may pause for long by nature.
    long: Duration,
    burdened: Duration,
}

impl<'a> Patience<'a> {
    /// Taken from the listener's timeouts, and shorter if the connection costs too much memory. A response that
    /// the client does not read holds an upstream connection: its timeout is `write`, as with HTTP/1.
    #[must_use]
    pub fn of(account: &'a Account, timeouts: &ListenerTimeouts) -> Patience<'a> {
        let (idle, long) = (timeouts.write, timeouts.stream_idle.max(timeouts.write));
        Patience { account: Some(account), idle, long, burdened: BURDENED.min(timeouts.write) }
    }

    /// Switches to the long timeout, for responses that may pause by nature: event streams and gRPC messages.
    pub fn lengthen(&mut self) {
        self.idle = self.long;
    }

    /// Whether there are so many streams that the memory of each one matters.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.account.is_some_and(|account| account.active() > FEW)
    }

    /// A fixed timeout.
    #[must_use]
    pub fn fixed(idle: Duration) -> Patience<'static> {
        Patience { account: None, idle, long: idle, burdened: idle }
    }

    /// Waits for capacity to send, or for bytes from the client.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn wait<F: Future>(&self, watch: &Watch, ready: F) -> io::Result<F::Output> {
        let _stalled = self.account.map(Stalled::enter);
        let mut ready = pin!(ready);
        let mut waited = Duration::ZERO;
        while waited < self.idle {
            let slice = self.burdened.min(self.idle.saturating_sub(waited));
            if let Ok(output) = watch.within(slice, ready.as_mut()).await {
                return Ok(output);
            }
            waited += slice;
            if self.account.is_some_and(Account::is_burdened) {
                break;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Counted as stalled until dropped.
struct Stalled<'a>(&'a Account);

impl<'a> Stalled<'a> {
    fn enter(account: &'a Account) -> Stalled<'a> {
        account.stalled.set(account.stalled.get() + 1);
        Stalled(account)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.stalled.set(self.0.stalled.get().saturating_sub(1));
    }
}

impl Account {
    /// The number of open streams.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.get()
    }

    /// Counts an open stream until the returned value is dropped.
    #[must_use]
    pub fn enter(self: &Rc<Account>) -> Active {
        self.active.set(self.active.get() + 1);
        Active(self.clone())
    }

    /// Notes whether memory or descriptors are scarce.
    pub fn note_scarce(&self, scarce: bool) {
        self.scarce.set(scarce);
    }

    /// Whether stalled streams cost too much: more than half of the permitted streams are stalled, or memory
    /// is scarce.
    fn is_burdened(&self) -> bool {
        self.scarce.get() || self.stalled.get() > STREAMS_MAX as usize / 2
    }

    /// Bytes from the client that are accounted for, estimated generously.
    #[must_use]
    pub fn explained(&self) -> u64 {
        self.explained.get()
    }

    /// Adds the bytes of a body, or the size of a head; the same amount is added for framing.
    pub fn explain(&self, bytes: u64) {
        self.explained.set(self.explained.get().saturating_add(bytes.saturating_mul(2)));
    }

    /// Counts a stream that was reset.
    pub fn broke_off(&self) {
        self.resets.set(self.resets.get() + 1.0);
    }

    /// Subtracts the number of resets that are permitted in this time.
    pub fn forgive(&self, elapsed: Duration) {
        let forgiven = elapsed.as_secs_f64() * RESETS_A_SECOND;
        self.resets.set((self.resets.get() - forgiven).max(0.0));
    }

    /// Whether more streams were reset than any legitimate client needs.
    #[must_use]
    pub fn is_abused(&self) -> bool {
        self.resets.get() > RESETS_A_SECOND
    }
}

/// Counts an open stream until its exchange ends, even if its task panics.
#[derive(Debug)]
pub struct Active(Rc<Account>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

/// The request of a stream, with the properties of its head.
#[derive(Debug)]
pub struct StreamRequest {
    /// The head.
    pub head: Box<RequestHead>,
    /// The reason for which the head is refused, if it is.
    pub refusal: Option<Refused>,
    /// Bytes of a body, at most.
    pub limit: Option<u64>,
    /// The minimum rate of a body, in bytes a second.
    pub rate_min: u64,
}

/// Parses a head; `ends` is true if no body follows. `None`: the head is malformed, which was counted.
#[must_use]
pub fn request(
    worker: &Worker,
    info: &ConnectionInfo,
    account: &Account,
    parts: &::http::request::Parts,
    ends: bool,
    tunnel: Option<Tunnel<'_>>,
) -> Option<StreamRequest> {
    let limits = info.limits();
    let kind = parts.headers.get(::http::header::CONTENT_TYPE);
    let says_grpc = grpc::is_grpc(kind.map(::http::HeaderValue::as_bytes));
    let mut bytes = Vec::with_capacity(512);
    let translated = translate::request_head(parts, ends, tunnel, limits, &mut bytes);
    let mut head = worker.lend_head();
    let read = match translated {
        // Metadata names may have underscores. Whether the request is a gRPC call is known only after
        // routing.
        Ok(()) if says_grpc && limits.underscores == Underscores::Refuse => {
            head.read(&bytes, &Limits { underscores: Underscores::Allow, ..*limits })
        }
        Ok(()) => head.read(&bytes, limits),
        Err(Wrong::Refused(violation)) => Err(violation),
        Err(Wrong::Malformed(why)) => {
            tracing::debug!(why, "HTTP/2 or HTTP/3 request rejected: {why}");
            info.terms.cells.refusals[Refusal::BadRequest].add(1);
            account.broke_off();
            return None;
        }
    };
    if read.is_err() {
        // The head is reused, and still has its previous content.
        *head = RequestHead::EMPTY;
    }
    let (limit, rate_min) = info.body_bounds();
    let takes_trailers = parts.headers.get(::http::header::TE).is_some_and(|te| te == "trailers");
    let says_grpc = says_grpc && takes_trailers;
    let refusal =
        read.err().map(|violation| Refused { why: violation::refusal(violation), says_grpc });
    Some(StreamRequest { head, refusal, limit, rate_min })
}

/// The reason why a head is refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    why: Refusal,
    /// Whether its content type is gRPC.
    says_grpc: bool,
}

/// Serves one exchange. `refused` is the reason for which its head is refused.
pub async fn serve<C: Client>(
    worker: &Worker,
    view: &Viewed,
    info: &ConnectionInfo,
    client: &mut C,
    refused: Option<Refused>,
) -> (After, Record) {
    let mut record = Record::begin(worker.now());
    record.says_grpc = refused.is_some_and(|refused| refused.says_grpc);
    let scarce = worker.shared.scarcity() >= Scarcity::Refuse;
    let refusal = match refused {
        Some(refused) => Some(refused.why),
        None if scarce => Some(Refusal::Overloaded),
        None => info.is_too_large(client.head()).then_some(Refusal::BodyTooLarge),
    };
    let after = match refusal {
        Some(refusal) => {
            answer::refuse((worker, view, info), client, refusal, "", &mut record).await;
            After::Next
        }
        // Boxed, because spawning moves the future, and this future is large.
        None => boxed(|| entry::serve(worker, view, client, info, &mut record)).await,
    };
    (after, record)
}
