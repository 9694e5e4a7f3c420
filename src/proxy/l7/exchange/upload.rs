//! The upload of the request to a cluster, and the state of the client meanwhile.
//!
//! The upload runs concurrently with the response, and ends only when the client has left.

use super::failure::Failure;
use super::record::InSlot;
use crate::body::Broken;
use crate::decision::units::Timestamp;
use crate::http::Framing;
use crate::http::forward::Edits;
use crate::http::request::RequestHead;
use crate::l7::client::RequestBody;
use crate::l7::outbound::Outgoing;
use crate::refusal::Refusal;
use crate::worker::Worker;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a body waits for `100 Continue`.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// Bytes of a body that are kept for a retry.
const REPLAY_MAX: usize = 64 * 1024;
/// How long a client that has closed its direction may wait for a response. A client that is gone must not keep its
/// cluster busy; a half-closed client usually has its response by then.
pub(super) const LEAVING: Duration = Duration::from_millis(80);
/// If the proxy has waited this long for the client's bytes, a failure of the cluster is attributed to the
/// client.
const OWED: Duration = Duration::from_millis(50);

/// The bytes of a request body that were read, for a retry.
#[derive(Debug, Default)]
pub struct Replay {
    bytes: Vec<u8>,
    lost: bool,
    complete: bool,
    trailers: Vec<u8>,
}

impl Replay {
    /// Whether all bytes that were read can be sent again.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.lost
    }

    /// The body and the trailers, once they are complete.
    #[must_use]
    pub fn whole(&self) -> (Vec<u8>, Vec<u8>) {
        (self.bytes.clone(), self.trailers.clone())
    }

    /// Removes from the trailers the fields that the route's edits remove or set.
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

/// Called when a request was read to its end, with its head and its buffered body, if the buffered body
/// is complete.
pub(super) type ReadWhole<'a> = &'a dyn Fn(&RequestHead, &Replay);

/// The state that both directions of an attempt share.
#[derive(Default)]
pub(super) struct Progress {
    /// When the whole request was sent.
    pub(super) complete: Cell<Option<Timestamp>>,
    /// When the upload ended, successfully or not: the cluster's response timeout starts.
    pub(super) ended: Cell<Option<Timestamp>>,
    /// The error of the upload, if it failed.
    pub(super) end: RefCell<Option<UploadEnd>>,
    /// Whether the response head was sent to the client: no bytes are then kept for a retry.
    pub(super) committed: Cell<bool>,
    /// Whether some of the body bytes read are no longer available for a retry.
    pub(super) lost: Cell<bool>,
    /// Bytes sent to the cluster.
    pub(super) sent: Cell<u64>,
    /// Whether the body may be sent: if the client expects a 100, only after the 100.
    pub(super) open: Cell<bool>,
    waiting: Cell<Option<Waker>>,
    /// Whether the request was sent before.
    resumed: bool,
    /// Since when the proxy has been waiting for the client, and the sum of the earlier waits.
    owed_since: Cell<Option<Timestamp>>,
    owed: Cell<Duration>,
    /// The exact time when the whole request was sent, if the proxy had to wait for the client.
    pub(super) sent_at: Cell<Option<Timestamp>>,
}

#[derive(Debug)]
pub(super) enum UploadEnd {
    Client(Broken),
    Cluster(io::Error),
}

/// The phase of the response during the upload.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Phase {
    /// The response head has not arrived.
    Waiting,
    /// The response is being sent: an incomplete request does not end it.
    Answering,
}

/// The upload together with the response.
pub(super) struct Both<'a, U> {
    pub(super) upload: Pin<&'a mut U>,
    pub(super) progress: &'a Progress,
    pub(super) gone: bool,
}

impl<U: Future<Output = ()>> Both<'_, U> {
    /// Waits for `other` while the upload continues. `Err`: the client has ended the exchange. An upload error at the
    /// cluster does not end the exchange: the response may be in transit.
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
    /// The state for a request that was already sent.
    pub(super) fn resumed() -> Progress {
        let progress = Progress { resumed: true, ..Progress::default() };
        progress.sent.set(1);
        progress
    }

    /// Whether the proxy waits for the client: the cluster is then neither slow nor to blame.
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

/// Sends the request, then watches for the client to leave. `whole` is called when the request has been read to its
/// end, `slot` is updated when it has been sent.
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

/// The bytes kept for a retry, borrowed by this attempt; they are always returned.
struct Lent<'a> {
    from: &'a Cell<Replay>,
    replay: Replay,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.from.set(std::mem::take(&mut self.replay));
    }
}

/// Writes to the cluster, unless the client leaves first: a stalled cluster must not hold an exchange without a
/// client.
async fn unless_broken<B: RequestBody>(
    body: &B,
    mut write: Pin<&mut impl Future<Output = io::Result<()>>>,
) -> Result<(), UploadEnd> {
    let mut broken = pin!(body.broken());
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
        // Boxed: most requests have no Expect field. There is no await before a piece is used: a dropped piece would
        // be read as the next request.
        false => Box::pin(when_open(body, sink, replay, progress)).await?,
    };
    if first.is_none() {
        unless_broken(body, pin!(sink.piece(framing, &replay.bytes))).await?;
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
                unless_broken(body, pin!(sink.flush())).await?;
                body.read_at_most(sink.capacity());
                match progress.owing(worker, body.next()).await {
                    // After the response head a slow upload is permitted: request and response may depend
                    // on each other.
                    Err(Broken::Late) if progress.committed.get() => continue,
                    next => next.map_err(UploadEnd::Client)?,
                }
            }
        };
        match next {
            Some(count) => {
                // Marked as used even if the write fails or is dropped: the bytes are kept for a retry, and must
                // never be read as the next request.
                let taken = Taken { body: &mut *body, count };
                let data = taken.body.data().get(..count).unwrap_or_default();
                match progress.committed.get() {
                    true => replay.lose(),
                    false => replay.keep(data),
                }
                progress.lost.set(!replay.is_whole());
                sent += count as u64;
                unless_broken(taken.body, pin!(sink.piece(framing, data))).await?;
            }
            None => {
                replay.complete = true;
                replay.trailers = body.trailers();
                whole(replay);
            }
        }
    }
    if matches!(framing, Framing::Length(length) if length != sent) {
        // Cannot happen; if it did, missing bytes would be taken from the next request.
        return Err(UploadEnd::Client(Broken::Gone));
    }
    unless_broken(body, pin!(sink.end(framing, &replay.trailers))).await
}

/// Waits until the body may be sent; returns a piece that was available without a wait.
async fn when_open<B: RequestBody, S: Outgoing>(
    body: &mut B,
    sink: &mut S,
    replay: &Replay,
    progress: &Progress,
) -> Result<Option<Option<usize>>, UploadEnd> {
    // Bytes that were read already need no wait.
    if !replay.bytes.is_empty() || replay.complete {
        progress.open.set(true);
        return Ok(None);
    }
    if let Some(first) = body.ready().map_err(UploadEnd::Client)? {
        progress.open.set(true);
        return Ok(Some(first));
    }
    unless_broken(body, pin!(sink.flush())).await?;
    let open = pin!(async {
        opened(progress).await;
        Ok(())
    });
    unless_broken(body, open).await?;
    Ok(None)
}

/// Waits until the body may be sent: until a 100, or a timeout, because some clusters ignore the expectation (RFC
/// 9110 §10.1.1).
async fn opened(progress: &Progress) {
    if tokio::time::timeout(CONTINUE_WAIT, progress.opened()).await.is_err() {
        tracing::trace!("request body sent to an endpoint that has not sent 100 Continue in time");
    }
}

/// A piece that counts as used at the end of its use, even on an error.
struct Taken<'a, B: RequestBody> {
    body: &'a mut B,
    count: usize,
}

impl<B: RequestBody> Drop for Taken<'_, B> {
    fn drop(&mut self) {
        self.body.used(self.count);
    }
}
