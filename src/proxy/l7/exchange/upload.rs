//! The request's way to a cluster, and what is seen of the client meanwhile.
//!
//! Goes on beside whatever comes back; ends only when the client has left.

use super::failure::Failure;
use super::record::InSlot;
use crate::decision::units::Timestamp;
use crate::http::Framing;
use crate::http::forward::Edits;
use crate::http::request::RequestHead;
use crate::proxy::body::Broken;
use crate::proxy::l7::client::RequestBody;
use crate::proxy::l7::outbound::Outgoing;
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Worker;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a body waits for `100 Continue`.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// Bytes of a body that are kept.
const REPLAY_MAX: usize = 64 * 1024;
/// How long a client that has ended its direction may still wait for a response: a client that is gone
/// must not keep its cluster busy, and one that only half-closed usually has its answer by then.
pub(super) const LEAVING: Duration = Duration::from_millis(80);
/// A client that has kept its cluster waiting for so long, and still owes it a part of its request, is the reason
/// for whatever the cluster then does with it.
const OWED: Duration = Duration::from_millis(50);

/// What was read of a request's body, for another attempt.
#[derive(Debug, Default)]
pub struct Replay {
    bytes: Vec<u8>,
    lost: bool,
    complete: bool,
    trailers: Vec<u8>,
}

impl Replay {
    /// Whether all that was read can be sent again.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.lost
    }

    /// The body and the trailers, once they are complete.
    #[must_use]
    pub fn whole(&self) -> (Vec<u8>, Vec<u8>) {
        (self.bytes.clone(), self.trailers.clone())
    }

    /// Leaves out of the trailers what the route's edits remove or set.
    pub fn edit_trailers(&mut self, edits: &Edits<'_>) {
        if !self.trailers.is_empty() {
            self.trailers = edits.keep(&self.trailers);
        }
    }

    fn lose(&mut self) {
        self.lost = true;
        self.bytes = Vec::new();
    }

    fn keep(&mut self, data: &[u8]) {
        if self.lost || self.bytes.len() + data.len() > REPLAY_MAX {
            self.lose();
        } else {
            self.bytes.extend_from_slice(data);
        }
    }
}

/// Called when a request was read whole, with its head and what is kept of it, where that is all of it.
pub(super) type ReadWhole<'a> = &'a dyn Fn(&RequestHead, &Replay);

/// What the two directions of an attempt tell each other.
#[derive(Default)]
pub(super) struct Progress {
    /// When the whole request was sent.
    pub(super) complete: Cell<Option<Timestamp>>,
    /// When its sending ended, well or not: from then on the cluster has its time to answer.
    pub(super) ended: Cell<Option<Timestamp>>,
    /// How it ended, if not well.
    pub(super) end: RefCell<Option<UploadEnd>>,
    /// Whether the client was told the response's head: nothing is kept for another attempt then.
    pub(super) committed: Cell<bool>,
    /// Whether what was read of the body is no longer there to be sent again.
    pub(super) lost: Cell<bool>,
    /// Bytes that went to the cluster.
    pub(super) sent: Cell<u64>,
    /// Whether the body may be sent: after a 100, when one is awaited.
    pub(super) open: Cell<bool>,
    waiting: Cell<Option<Waker>>,
    /// Whether the request was sent before.
    resumed: bool,
    /// Since when the client is waited for, and for how long it was before that.
    owed_since: Cell<Option<Timestamp>>,
    owed: Cell<Duration>,
    /// When the whole request was sent, exactly, where the client had to be waited for.
    pub(super) sent_at: Cell<Option<Timestamp>>,
}

#[derive(Debug)]
pub(super) enum UploadEnd {
    Client(Broken),
    Cluster(io::Error),
}

/// What goes on beside the upload.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Phase {
    /// The response head is awaited.
    Waiting,
    /// The response is under way: a request that stops short is then no reason to break it off.
    Answering,
}

/// The upload, and whatever goes on beside it.
pub(super) struct Both<'a, U> {
    pub(super) upload: Pin<&'a mut U>,
    pub(super) progress: &'a Progress,
    pub(super) gone: bool,
}

impl<U: Future<Output = ()>> Both<'_, U> {
    /// Waits for `other` while the upload goes on. `Err`: the client has ended the matter. That the
    /// cluster takes no more of the request does not: its response may be on its way.
    pub(super) async fn and<F: Future>(&mut self, other: F, phase: Phase) -> Result<F::Output, ()> {
        let mut other = pin!(other);
        std::future::poll_fn(|context| {
            self.gone = self.gone || self.upload.as_mut().poll(context).is_ready();
            if let Poll::Ready(output) = other.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let waiting = phase == Phase::Waiting;
            match &*self.progress.end.borrow() {
                _ if self.gone => Poll::Ready(Err(())),
                Some(UploadEnd::Client(Broken::Late)) if !waiting => Poll::Pending,
                Some(UploadEnd::Client(_)) => Poll::Ready(Err(())),
                Some(UploadEnd::Cluster(error))
                    if waiting && error.kind() == io::ErrorKind::TimedOut =>
                {
                    Poll::Ready(Err(()))
                }
                Some(UploadEnd::Cluster(_)) | None => Poll::Pending,
            }
        })
        .await
    }

    pub(super) fn client_failure(&self) -> Failure {
        match &*self.progress.end.borrow() {
            Some(UploadEnd::Client(Broken::Late)) => Failure::refuse(Refusal::RequestTimeout),
            Some(UploadEnd::Client(Broken::TooLarge)) => Failure::refuse(Refusal::BodyTooLarge),
            Some(UploadEnd::Client(Broken::Malformed(_))) => Failure::refuse(Refusal::BadRequest),
            Some(UploadEnd::Cluster(_)) if !self.gone => Failure::refuse(Refusal::UpstreamTimeout),
            Some(UploadEnd::Client(Broken::Gone) | UploadEnd::Cluster(_)) | None => Failure::OVER,
        }
    }
}

impl Progress {
    /// Of a request that was sent before.
    pub(super) fn resumed() -> Progress {
        let progress = Progress { resumed: true, ..Progress::default() };
        progress.sent.set(1);
        progress
    }

    /// Whether the client keeps the cluster waiting: then it is not the cluster that is slow, nor to blame.
    pub(super) fn is_owed(&self, now: Timestamp) -> bool {
        let since = self.owed_since.get();
        since.is_some_and(|since| self.owed.get() + now.since(since) >= OWED)
    }

    /// Waits for the client.
    async fn owing<F: Future>(&self, worker: &Worker, future: F) -> F::Output {
        let since = worker.about_now();
        self.owed_since.set(Some(since));
        let output = future.await;
        self.owed_since.set(None);
        self.owed.set(self.owed.get() + worker.about_now().since(since));
        output
    }

    pub(super) fn open_gate(&self) {
        self.open.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    async fn opened(&self) {
        std::future::poll_fn(|context| {
            if self.open.get() {
                return Poll::Ready(());
            }
            self.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Sends the request, then watches for the client to leave: ends when it has. `whole` is told once the
/// request was read to its end, `slot` once it was sent.
#[expect(clippy::too_many_arguments, reason = "one half of an attempt, cut out for its length")]
pub(super) async fn upload<B: RequestBody, S: Outgoing>(
    worker: &Worker,
    body: &mut B,
    mut sink: S,
    framing: Framing,
    kept: &Cell<Replay>,
    progress: &Progress,
    slot: &InSlot<'_>,
    whole: impl Fn(&mut Replay),
) {
    let sent = if progress.resumed {
        Ok(())
    } else {
        let mut replay = Lent { from: kept, replay: kept.take() };
        send(worker, body, &mut sink, framing, &mut replay.replay, progress, whole).await
    };
    let now = Some(worker.about_now());
    progress.ended.set(now);
    match sent {
        Ok(()) => {
            progress.complete.set(now);
            if !progress.resumed && !progress.owed.get().is_zero() {
                progress.sent_at.set(Some(worker.now()));
            }
            slot.sent(worker.now());
            body.gone().await;
            tokio::time::sleep(LEAVING).await;
        }
        Err(end) => {
            *progress.end.borrow_mut() = Some(end);
            body.broken().await;
        }
    }
}

/// What is kept for another attempt, while this one works with it; it goes back however that ends.
struct Lent<'a> {
    from: &'a Cell<Replay>,
    replay: Replay,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.from.set(std::mem::take(&mut self.replay));
    }
}

/// Writes to the cluster, unless the client breaks off first: whoever takes nothing must not hold an
/// exchange that nobody waits for.
async fn unless_broken<B: RequestBody>(
    body: &B,
    write: impl Future<Output = io::Result<()>>,
) -> Result<(), UploadEnd> {
    let (mut write, mut broken) = (pin!(write), pin!(body.broken()));
    std::future::poll_fn(|context| {
        if let Poll::Ready(written) = write.as_mut().poll(context) {
            return Poll::Ready(written.map_err(UploadEnd::Cluster));
        }
        broken.as_mut().poll(context).map(|()| Err(UploadEnd::Client(Broken::Gone)))
    })
    .await
}

async fn send<B: RequestBody, S: Outgoing>(
    worker: &Worker,
    body: &mut B,
    sink: &mut S,
    framing: Framing,
    replay: &mut Replay,
    progress: &Progress,
    whole: impl Fn(&mut Replay),
) -> Result<(), UploadEnd> {
    let mut first = match progress.open.get() {
        true => None,
        // Boxed: most requests expect nothing. From here to its use nothing is awaited: what is dropped in
        // between would be read as the next request.
        false => Box::pin(when_open(body, sink, replay, progress)).await?,
    };
    if first.is_none() {
        unless_broken(body, sink.piece(framing, &replay.bytes)).await?;
    }
    let mut sent = replay.bytes.len() as u64;
    while !replay.complete {
        let at_once = match first.take() {
            Some(next) => Some(next),
            None => body.ready().map_err(UploadEnd::Client)?,
        };
        let next = match at_once {
            Some(next) => next,
            None => {
                unless_broken(body, sink.flush()).await?;
                body.read_at_most(sink.capacity());
                match progress.owing(worker, body.next()).await {
                    // Once it is answered a client may take its time: two sides may be talking.
                    Err(Broken::Late) if progress.committed.get() => continue,
                    next => next.map_err(UploadEnd::Client)?,
                }
            }
        };
        match next {
            Some(count) => {
                // Used even if the write fails or is dropped half-way: it is kept for a replay, and must
                // never be read as the next request.
                let taken = Taken { body: &mut *body, count };
                let data = taken.body.data().get(..count).unwrap_or_default();
                match progress.committed.get() {
                    true => replay.lose(),
                    false => replay.keep(data),
                }
                progress.lost.set(!replay.is_whole());
                sent += count as u64;
                unless_broken(taken.body, sink.piece(framing, data)).await?;
            }
            None => {
                replay.complete = true;
                replay.trailers = body.trailers();
                whole(replay);
            }
        }
    }
    if matches!(framing, Framing::Length(length) if length != sent) {
        // Never: but what is missing would be taken from the next request.
        return Err(UploadEnd::Client(Broken::Gone));
    }
    unless_broken(body, sink.end(framing, &replay.trailers)).await
}

/// Waits until the body may be sent; gives a piece of it that was there already, for which nothing was awaited.
async fn when_open<B: RequestBody, S: Outgoing>(
    body: &mut B,
    sink: &mut S,
    replay: &Replay,
    progress: &Progress,
) -> Result<Option<Option<usize>>, UploadEnd> {
    // What has come need not be waited for.
    if !replay.bytes.is_empty() || replay.complete {
        progress.open.set(true);
        return Ok(None);
    }
    if let Some(first) = body.ready().map_err(UploadEnd::Client)? {
        progress.open.set(true);
        return Ok(Some(first));
    }
    unless_broken(body, sink.flush()).await?;
    unless_broken(body, async {
        opened(progress).await;
        Ok(())
    })
    .await?;
    Ok(None)
}

/// Waits until the body may be sent. A cluster that ignores the expectation never says so; then it goes on by
/// itself (RFC 9110 §10.1.1), at the latest after a while.
async fn opened(progress: &Progress) {
    if tokio::time::timeout(CONTINUE_WAIT, progress.opened()).await.is_err() {
        tracing::trace!("request body sent to an endpoint that has not sent 100 Continue in time");
    }
}

/// A piece that counts as used however its use ends.
struct Taken<'a, B: RequestBody> {
    body: &'a mut B,
    count: usize,
}

impl<B: RequestBody> Drop for Taken<'_, B> {
    fn drop(&mut self) {
        self.body.used(self.count);
    }
}
