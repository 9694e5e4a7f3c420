//! Exchanges of one connection side by side, as HTTP/2 and HTTP/3 have them.

use super::body_rate::{RATE_SLICE, Rate};
use crate::decision::plan::ListenerTimeouts;
use crate::http::request::RequestHead;
use crate::http::translate::{self, Tunnel, Wrong};
use crate::http::{Limits, Underscores, grpc};
use crate::os::clock;
use crate::proxy::body::Broken;
use crate::proxy::deadline::Watch;
use crate::proxy::l7::client::Client;
use crate::proxy::l7::connection_info::ConnectionInfo;
use crate::proxy::l7::exchange::answer;
use crate::proxy::l7::exchange::entry;
use crate::proxy::l7::exchange::forward::After;
use crate::proxy::l7::exchange::record::Record;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::{Viewed, Worker};
use crate::shared::Scarcity;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
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
    /// Bytes from the client of which it is known what they were.
    explained: Cell<u64>,
    /// Streams whose response the client takes no more of just now.
    stalled: Cell<usize>,
    /// Whether memory or descriptors are scarce.
    scarce: Cell<bool>,
}

/// Streams that may each hold a large buffer.
const FEW: usize = 8;

/// How long a stalled stream is borne with where there are many of them, or memory is scarce.
const BURDENED: Duration = Duration::from_secs(10);

/// How long a client may take nothing of a response.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    account: Option<&'a Account>,
    idle: Duration,
    /// Likewise, where what is sent may rest for long by its nature.
    long: Duration,
    burdened: Duration,
}

impl<'a> Patience<'a> {
    /// By a listener's deadlines, and less where its connection is a burden. A response that is not taken holds
    /// a connection to its cluster: it has `write`, as over HTTP/1.
    #[must_use]
    pub fn of(account: &'a Account, timeouts: &ListenerTimeouts) -> Patience<'a> {
        let (idle, long) = (timeouts.write, timeouts.stream_idle.max(timeouts.write));
        Patience { account: Some(account), idle, long, burdened: BURDENED.min(timeouts.write) }
    }

    /// For what may rest for long by its nature: events, and the messages of a call.
    pub fn lengthen(&mut self) {
        self.idle = self.long;
    }

    /// Whether so many streams are under way that what each of them holds counts.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.account.is_some_and(|account| account.active() > FEW)
    }

    /// So long, whatever else there is.
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

    /// Notes whether memory or descriptors are scarce.
    pub fn note_scarce(&self, scarce: bool) {
        self.scarce.set(scarce);
    }

    /// Whether stalled streams cost more than they are worth: more than half of those there may be, or there
    /// is little memory.
    fn is_burdened(&self) -> bool {
        self.scarce.get() || self.stalled.get() > STREAMS_MAX as usize / 2
    }

    /// Bytes from the client of which it is known what they were, generously.
    #[must_use]
    pub fn explained(&self) -> u64 {
        self.explained.get()
    }

    /// Notes bytes of a body, or a head's worth of them; what they travel in is as much again.
    pub fn explain(&self, bytes: u64) {
        self.explained.set(self.explained.get().saturating_add(bytes.saturating_mul(2)));
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

/// Counts an open stream until its exchange ends, even if its task panics.
#[derive(Debug)]
pub struct Active(Rc<Account>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

/// The request of a stream, as its head describes it.
#[derive(Debug)]
pub struct StreamRequest {
    /// The head.
    pub head: Box<RequestHead>,
    /// Why the head is refused, if it is.
    pub refusal: Option<Refused>,
    /// Bytes of a body, at most.
    pub limit: Option<u64>,
    /// Bytes a second of a body, at least.
    pub rate_min: u64,
}

/// Reads a head, which `ends` if no body follows. `None`: it is malformed, and that was counted.
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
        // Metadata may have underscores in its names. Whether it is a call is known once it is routed.
        Ok(()) if says_grpc && limits.underscores == Underscores::Refuse => {
            head.read(&bytes, &Limits { underscores: Underscores::Allow, ..*limits })
        }
        Ok(()) => head.read(&bytes, limits),
        Err(Wrong::Refused(violation)) => Err(violation),
        Err(Wrong::Malformed(why)) => {
            tracing::debug!(why, "HTTP/2 or HTTP/3 request rejected: {why}");
            info.cells.refusals[Refusal::BadRequest].add(1);
            account.broke_off();
            return None;
        }
    };
    if read.is_err() {
        // It was lent, and still says what it said last.
        *head = RequestHead::EMPTY;
    }
    let (limit, rate_min) = info.body_bounds();
    let takes_trailers = parts.headers.get(::http::header::TE).is_some_and(|te| te == "trailers");
    let says_grpc = says_grpc && takes_trailers;
    let refusal = read.err().map(|violation| Refused { why: Refusal::from(violation), says_grpc });
    Some(StreamRequest { head, refusal, limit, rate_min })
}

/// Why a head will not do.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    why: Refusal,
    /// Whether its content type is gRPC.
    says_grpc: bool,
}

/// A request's body as a stream gives it: piece by piece.
pub trait Pieces {
    /// The next piece, or the end.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<usize>, Broken>>;
    /// How fast it has to come.
    fn rate(&mut self) -> &mut Rate;
}

/// Waits for a body's next piece: not longer than `idle`, nor for one that comes too slowly.
///
/// # Errors
/// [`Broken`] when the body cannot be completed.
pub async fn next(
    body: &mut impl Pieces,
    watch: &Watch,
    idle: Duration,
) -> Result<Option<usize>, Broken> {
    let mut silent = Duration::ZERO;
    loop {
        body.rate().judge()?;
        let slice = idle.saturating_sub(silent).min(RATE_SLICE);
        let before = clock::now();
        let read = watch.within(slice, poll_fn(|context| body.poll_next(context))).await;
        body.rate().waited(clock::now().since(before));
        match read {
            Ok(piece) => return piece,
            Err(_) => silent += slice,
        }
        if silent >= idle {
            return Err(Broken::Late);
        }
    }
}

/// A body's next piece when it has come already: `Ok(None)` says that waiting would be needed.
///
/// # Errors
/// [`Broken`] for a malformed body.
pub fn ready(body: &mut impl Pieces) -> Result<Option<Option<usize>>, Broken> {
    // Whoever finds nothing waits by `next`, which registers anew.
    match body.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(piece) => piece.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// One exchange. `refused` is why its head will not do.
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
            answer::refuse(view, client, refusal, "", &mut record).await;
            After::Next
        }
        // Boxed: what is spawned is moved about, and this is large.
        None => Box::pin(entry::serve(worker, view, client, info, &mut record)).await,
    };
    (after, record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::deadline::Deadlines;

    /// Pieces that are all there.
    struct Ready(Vec<usize>, Rate);

    impl Pieces for Ready {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<usize>, Broken>> {
            Poll::Ready(Ok(self.0.pop()))
        }

        fn rate(&mut self) -> &mut Rate {
            &mut self.1
        }
    }

    #[tokio::test]
    async fn a_rate_check_loses_no_data() {
        let watch = Rc::new(Deadlines::default()).watch();
        let mut body = Ready(vec![3, 2, 1], Rate::of(512));
        let idle = Duration::from_secs(1);
        assert!(matches!(next(&mut body, &watch, idle).await, Ok(Some(1))));
        body.rate().waited(Duration::from_secs(11));
        assert!(matches!(next(&mut body, &watch, idle).await, Err(Broken::Late)));
        // Who goes on all the same has everything.
        assert!(matches!(next(&mut body, &watch, idle).await, Ok(Some(2))));
        assert!(matches!(next(&mut body, &watch, idle).await, Ok(Some(3))));
        assert!(matches!(next(&mut body, &watch, idle).await, Ok(None)));
    }
}
