//! One attempt on its connection: the request and the response at the same time.
//!
//! Until the first byte is sent to the client, a retry is possible; [`Failure`] defines how. After that, a failure
//! can only be shown by closing the client's connection.

use super::attempt::{Attempt, Ended, Start};
use super::failure::{Failure, Retry, What};
use super::hedge::{PendingAttempt, PendingConnection, SentOn};
use super::record::{End, InSlot, Record};
use super::response::{Answering, Next};
use super::upload::{Both, Progress, Replay, upload};
use super::variables::edits_with;
use crate::body::{Backpressure, Sink, Source};
use crate::boxed::boxed;
use crate::decision::retry::Kind;
use crate::decision::units::Timestamp;
use crate::http::field::Role;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::{Framing, translate};
use crate::l7::client::Client;
use crate::l7::outbound::{Http1, Http2In, Http2Out, Incoming, Outgoing, Sent};
use crate::refusal::Refusal;
use crate::upstream::connect::UpstreamConnection;
use crate::upstream::multiplexed::Lease;
use crate::upstream::pool::Connection;
use std::cell::Cell;
use std::pin::pin;

/// Makes one attempt. The connection returns to the pool if it can be reused.
///
/// # Errors
/// [`Failure`].
pub(super) async fn run<'v, C: Client>(
    attempt: &Attempt<'_, 'v>,
    client: &mut C,
    start: Start<'v>,
    request: &mut Vec<u8>,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<Ended<'v>, Failure> {
    let Attempt { worker, view, selection, .. } = *attempt;
    let mut head = worker.lend_response();
    let mut parts = Parts { request, replay, head: &mut head };
    let (reused, shared) = match &start {
        Start::Fresh(carrier) => {
            (carrier.is_reused(), matches!(carrier, UpstreamConnection::Http2(_)))
        }
        Start::Resumed(waiting) => waiting.connection.is_reused(),
    };
    let (slot, result) = match start {
        Start::Fresh(carrier) => {
            let slot = view.slots.slot(worker.id, attempt.class, selection.slot);
            let slot = InSlot::enter(slot, record.attempts, attempt.stratum, worker.about_now());
            let result = match carrier {
                UpstreamConnection::Http1(connection) => {
                    over_http1(attempt, client, connection, &mut parts, record, &slot).await
                }
                // Boxed: seldom used, and the future of an HTTP/1.1 exchange should stay small.
                UpstreamConnection::Http2(lease) => {
                    boxed(|| over_http2(attempt, client, *lease, &mut parts, record, &slot)).await
                }
            };
            (slot, result)
        }
        // Boxed: hedges are rare.
        Start::Resumed(waiting) => {
            Box::pin(resume(attempt, client, waiting, &mut parts, record)).await
        }
    };
    worker.give_back_response(head);
    let result = match result {
        Ok(Over::Done) => Ok(Ended::Done),
        Ok(Over::Tunnel(connection)) => Ok(Ended::Tunnel(connection)),
        Ok(Over::Overtaken) => Ok(Ended::Overtaken),
        Ok(Over::Sent(on, since)) => {
            let client = attempt.client;
            let connection = PendingConnection::new(on);
            let waiting = PendingAttempt { slot, since, client, connection };
            return Ok(Ended::Pending(Box::new(waiting)));
        }
        Err(failed) => Err(failed),
    };
    result.map_err(|failure| {
        // A reused connection that ends without a byte was stale: the endpoint is not at fault.
        let failure =
            if reused && is_unheard(failure, shared) { failure.excused() } else { failure };
        if !slot.is_over() {
            settle(attempt, failure, &slot);
        }
        failure
    })
}

/// Whether a connection ended without a byte of a response.
fn is_unheard(failure: Failure, shared: bool) -> bool {
    failure.refusal() == Some(Refusal::UpstreamReset)
        && match failure.retry {
            Retry::IfGranted(Kind::Unsent) => true,
            // A stale shared connection is reported by the connection itself.
            Retry::IfGranted(Kind::Died) => !shared,
            Retry::IfGranted(_) | Retry::Granted(_) | Retry::No => false,
        }
}

/// Counts a failed attempt, and blames the endpoint if it is at fault.
fn settle(attempt: &Attempt<'_, '_>, failure: Failure, slot: &InSlot<'_>) {
    if let Some(cause) = failure.cause().filter(|cause| attempt.failures().has(*cause)) {
        slot.failed();
        attempt.blame(cause);
    }
    // The wait of a client that leaves is a sample; that of a client that leaves repeatedly is not.
    if failure.what == What::Over && attempt.worker.has_just_left(attempt.client) {
        slot.end(End::ClientsFault);
    }
}

/// The end of an attempt on its connection.
enum Over<'v> {
    Done,
    Tunnel(Box<Connection>),
    /// The whole request was sent, and a hedge follows.
    Sent(SentOn<'v>, Timestamp),
    Overtaken,
}

/// Continues with a request that was sent before.
async fn resume<'v, C: Client>(
    attempt: &Attempt<'_, 'v>,
    client: &mut C,
    waiting: Box<PendingAttempt<'v>>,
    parts: &mut Parts<'_>,
    record: &mut Record,
) -> (InSlot<'v>, Result<Over<'v>, Failure>) {
    let PendingAttempt { slot, connection, .. } = *waiting;
    let result = match connection.take() {
        None => Err(Failure::OVER),
        Some(SentOn::Http1(connection)) => {
            over_http1(attempt, client, connection, parts, record, &slot).await
        }
        Some(SentOn::Http2(mut incoming)) => {
            let progress = Progress::resumed();
            let way = Way { outgoing: Sent, incoming: &mut incoming, progress: &progress };
            let (replay, head) = (&mut *parts.replay, &mut *parts.head);
            let next = both_ways(attempt, client, way, replay, head, record, &slot).await;
            retire_if_silent(&incoming, &next);
            next.map(|next| match next {
                Next::Overtaken => Over::Overtaken,
                Next::Keep | Next::Close | Next::Tunnel | Next::Slow => Over::Done,
            })
        }
    };
    (slot, result)
}

async fn over_http1<'v, C: Client>(
    attempt: &Attempt<'_, 'v>,
    client: &mut C,
    mut connection: Box<Connection>,
    parts: &mut Parts<'_>,
    record: &mut Record,
    slot: &InSlot<'v>,
) -> Result<Over<'v>, Failure> {
    let Attempt { worker, view, selection, .. } = *attempt;
    let progress = match attempt.resumed {
        Some(_) => Progress::resumed(),
        None => Progress::default(),
    };
    let result = {
        let (reader, writer) = connection.stream.split();
        let (buffer, watch) = (&mut connection.buffer, &connection.read_watch);
        let source = Source::new(reader, buffer, watch).metered(slot.received());
        let mut incoming = Http1::new(source, attempt.head_bytes);
        let outgoing = Sink {
            writer,
            pending: &mut *parts.request,
            watch: &connection.write_watch,
            stall: attempt.stall,
            sent: &progress.sent,
            backpressure: Backpressure::default(),
        };
        let (replay, head) = (&mut *parts.replay, &mut *parts.head);
        let way = Way { outgoing, incoming: &mut incoming, progress: &progress };
        // Boxed: moving the future with each outer future would cost more than the allocation.
        boxed(|| both_ways(attempt, client, way, replay, head, record, slot)).await
    };
    if let Ok(Next::Slow) = result {
        let since = attempt.resumed.or(progress.ended.get()).unwrap_or_else(|| worker.now());
        return Ok(Over::Sent(SentOn::Http1(connection), since));
    }
    if matches!(result, Err(_) | Ok(Next::Overtaken)) {
        // A FIN would wait behind unsent bytes; a reset reaches the cluster now.
        connection.stream.reset_on_close();
    }
    match result? {
        Next::Keep => {
            let cluster = &view.plan.clusters[selection.cluster];
            let most = (cluster.connections_max as usize / worker.shared.busy.len().max(1)).max(1);
            let (key, latest) = ((selection.signals(view).id, connection.secured), worker.view());
            // In the latest view this index may belong to another cluster; the endpoint is then not found, and the
            // connection is closed.
            let now = worker.about_now();
            worker.pool.borrow_mut().put(connection, key, selection.cluster, &latest, most, now);
            Ok(Over::Done)
        }
        Next::Close | Next::Slow => Ok(Over::Done),
        Next::Overtaken => Ok(Over::Overtaken),
        Next::Tunnel => Ok(Over::Tunnel(connection)),
    }
}

async fn over_http2<'v, C: Client>(
    attempt: &Attempt<'_, 'v>,
    client: &mut C,
    mut lease: Lease,
    parts: &mut Parts<'_>,
    record: &mut Record,
    slot: &InSlot<'v>,
) -> Result<Over<'v>, Failure> {
    let (worker, head) = (attempt.worker, client.head());
    let secure = attempt.view.tls.cluster(attempt.selection.cluster).is_some();
    let scheme = if secure { "https" } else { "http" };
    let trailers = head.value(Role::Te).is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
    let is_head = head.is_head();
    let bare = matches!(head.framing, Framing::None | Framing::Length(0));
    let request = translate::request(parts.request, scheme, trailers);
    let Some(request) = request else { return Err(Failure::refuse(Refusal::BadRequest)) };
    let begun = match std::future::poll_fn(|context| lease.send.poll_ready(context)).await {
        Ok(()) => lease.send.send_request(request, bare),
        Err(error) => Err(error),
    };
    let (future, stream) = begun.map_err(|error| {
        tracing::debug!(%error, "HTTP/2 stream to an endpoint not opened");
        lease.retire();
        Failure::retry(Kind::Unsent, Refusal::UpstreamReset)
    })?;
    let progress = Progress::default();
    progress.sent.set(1);
    let watch = worker.deadlines.watch();
    let outgoing = Http2Out::new(stream, bare, &watch, attempt.stall, &progress.sent);
    let (watch_in, meter) = (worker.deadlines.watch(), slot.received());
    let mut incoming = Http2In::new(future, lease, watch_in, is_head, meter);
    let way = Way { outgoing, incoming: &mut incoming, progress: &progress };
    let (replay, head) = (&mut *parts.replay, &mut *parts.head);
    let result = boxed(|| both_ways(attempt, client, way, replay, head, record, slot)).await;
    if progress.complete.get().is_some() {
        incoming.note_sent();
    }
    if let Ok(Next::Slow) = result {
        let since = progress.ended.get().unwrap_or_else(|| worker.now());
        return Ok(Over::Sent(SentOn::Http2(incoming), since));
    }
    retire_if_silent(&incoming, &result);
    match result? {
        Next::Keep | Next::Close | Next::Slow => Ok(Over::Done),
        Next::Overtaken => Ok(Over::Overtaken),
        Next::Tunnel => Err(Failure::refuse(Refusal::UpstreamReset)),
    }
}

/// Retires a shared connection without an answer: it may be dead, and other exchanges should avoid it.
fn retire_if_silent(incoming: &Http2In<'_>, result: &Result<Next, Failure>) {
    if matches!(result, Err(failure) if *failure == Failure::refuse(Refusal::UpstreamTimeout)) {
        incoming.retire();
    }
}

/// The buffers of an attempt.
struct Parts<'a> {
    /// The request head for the cluster.
    request: &'a mut Vec<u8>,
    replay: &'a mut Replay,
    head: &'a mut ResponseHead,
}

/// Both directions to a cluster.
struct Way<'a, S, I> {
    outgoing: S,
    incoming: &'a mut I,
    progress: &'a Progress,
}

async fn both_ways<C: Client, S: Outgoing, I: Incoming>(
    attempt: &Attempt<'_, '_>,
    client: &mut C,
    way: Way<'_, S, I>,
    replay: &mut Replay,
    answer: &mut ResponseHead,
    record: &mut Record,
    slot: &InSlot<'_>,
) -> Result<Next, Failure> {
    let Way { outgoing, incoming, progress } = way;
    let (head, mut request_body, mut response) = client.split();
    progress.open.set(!head.expects_continue);
    progress.lost.set(!replay.is_whole());
    let request_kind = RequestKind { head: head.is_head(), upgrade: head.upgrade() };
    let kept = Cell::new(std::mem::take(replay));
    let framing = head.framing;
    let result = {
        // Dropped at the end of the block, which returns the borrowed buffers.
        let edits = edits_with(attempt.request_edits, b"");
        let whole = |replay: &mut Replay| {
            replay.edit_trailers(&edits);
            if let Some(read_whole) = attempt.read_whole.filter(|_| replay.is_whole()) {
                read_whole(head, replay);
            }
        };
        let (worker, body) = (attempt.worker, &mut request_body);
        let upload = pin!(upload(worker, body, outgoing, framing, &kept, progress, slot, whole));
        let mut answering = Answering {
            attempt,
            both: Both { upload, progress, gone: false },
            incoming,
            head: answer,
            request: head,
            request_kind,
            response: &mut response,
            kept: &kept,
            record,
            slot,
            interims: 0,
        };
        answering.respond().await
    };
    if result.is_err() && progress.is_owed(attempt.worker.now()) {
        slot.end(End::ClientsFault);
    }
    *replay = kept.take();
    result
}
