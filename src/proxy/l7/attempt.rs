//! One attempt at one endpoint: request up, response down, both at once.
//!
//! Until the first byte goes to the client everything can still be tried elsewhere; [`Failure`] says
//! how. After it, the only honest end of a failure is to break the client's connection off.

use super::awaited::{Awaited, NoResponse, head_failure, read_head};
use super::carrier::{Http1, Http2In, Http2Out, Incoming, Outgoing, RelayEnd, Sent};
use super::client::{Client, Reply, Response};
use super::failure::{Failure, Retry, What};
use super::hedge::{Berth, Line, On, Rival, Waiting};
use super::record::{End, InSlot, Record, explanation};
use super::upload::{Both, Phase, Progress, ReadWhole, Replay, upload};
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::outlier::Failures;
use crate::decision::report::Report;
use crate::decision::retry::Kind;
use crate::decision::route::Route;
use crate::decision::units::Timestamp;
use crate::http::field::Role;
use crate::http::forward::Edits;
use crate::http::response::{Asked, ResponseHead};
use crate::http::{Framing, grpc, translate};
use crate::proxy::body::{Pace, Sink, Source};
use crate::proxy::deadline::ENDLESS;
use crate::proxy::place::Place;
use crate::proxy::refusal::Refusal;
use crate::proxy::upstream::connect::Carrier;
use crate::proxy::upstream::multiplexed::Lease;
use crate::proxy::upstream::pool::Connection;
use crate::proxy::worker::Worker;
use crate::shared::View;
use crate::telemetry::cells::Aborted;
use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
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
    pub place: &'a Place,
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
    /// After how long without an answer it waits beside another, where it may.
    pub hedge: Option<Duration>,
    /// Since when its answer is waited for, where it has been sent before.
    pub resumed: Option<Timestamp>,
    /// The one that waits beside it.
    pub berth: &'a Berth<'v>,
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
    fn failures(&self) -> &Failures {
        &self.view.plan.clusters[self.place.cluster].outlier.failures
    }

    /// Tells of a failure that its endpoint is blamed for, if it is one that counts.
    fn blame(&self, cause: Cause) {
        if self.failures().has(cause) {
            let (endpoint, client) = (self.place.signals(self.view).id, Some(self.client));
            self.worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
        }
    }
}

/// Interim responses of one exchange.
const INTERIM_MAX: usize = 16;

/// How an attempt ended, if it did not fail.
pub enum Ended<'v> {
    /// The response was sent.
    Done,
    /// It was sent, and waits for its answer beside another.
    Waits(Waiting<'v>),
    /// The attempt that waited beside it was quicker: it is broken off.
    Overtaken,
    /// The connection became a tunnel.
    Tunnel(Connection),
}

/// What an attempt begins with.
pub enum Start<'v> {
    /// A connection.
    Fresh(Carrier),
    /// A request that was sent.
    Resumed(Waiting<'v>),
}

/// Makes one attempt. A connection is given back to the pool when it can be.
///
/// # Errors
/// [`Failure`].
pub async fn run<'v, C: Client>(
    attempt: &Attempt<'_, 'v>,
    client: &mut C,
    start: Start<'v>,
    request: &mut Vec<u8>,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<Ended<'v>, Failure> {
    let Attempt { worker, view, place, .. } = *attempt;
    let mut head = worker.lend_response();
    let mut parts = Parts { request, replay, head: &mut head };
    let (reused, shared) = match &start {
        Start::Fresh(carrier) => (carrier.is_reused(), matches!(carrier, Carrier::Http2(_))),
        Start::Resumed(waiting) => waiting.line.is_reused(),
    };
    let (slot, result) = match start {
        Start::Fresh(carrier) => {
            let slot = view.slots.slot(worker.id, attempt.class, place.slot);
            let slot = InSlot::enter(slot, record.attempts, attempt.stratum, worker.about_now());
            let result = match carrier {
                Carrier::Http1(connection) => {
                    over_http1(attempt, client, connection, &mut parts, record, &slot).await
                }
                // Boxed: seldom, and an exchange over HTTP/1 should not have room for it.
                Carrier::Http2(lease) => {
                    Box::pin(over_http2(attempt, client, *lease, &mut parts, record, &slot)).await
                }
            };
            (slot, result)
        }
        // Likewise.
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
            return Ok(Ended::Waits(Waiting { slot, since, client, line: Line::new(on) }));
        }
        Err(failed) => Err(failed),
    };
    result.map_err(|failure| {
        // A reused connection that dies without a word says nothing about the endpoint: it was idle
        // for too long.
        let failure =
            if reused && is_unheard(failure, shared) { failure.excused() } else { failure };
        if !slot.is_over() {
            settle(attempt, failure, &slot);
        }
        failure
    })
}

/// Whether a connection died without a word.
fn is_unheard(failure: Failure, shared: bool) -> bool {
    failure.refusal() == Some(Refusal::UpstreamReset)
        && match failure.retry {
            Retry::IfGranted(Kind::Unsent) => true,
            // A shared connection says so itself when it has aged.
            Retry::IfGranted(Kind::Died) => !shared,
            Retry::IfGranted(_) | Retry::Granted(_) | Retry::No => false,
        }
}

/// Counts a failed attempt out of its slot, and blames its endpoint where the endpoint is to blame.
fn settle(attempt: &Attempt<'_, '_>, failure: Failure, slot: &InSlot<'_>) {
    if let Some(cause) = failure.cause().filter(|cause| attempt.failures().has(*cause)) {
        slot.failed();
        attempt.blame(cause);
    }
    // That a client leaves says that it waited; that it leaves again and again, nothing more.
    if failure.what == What::Over && attempt.worker.has_just_left(attempt.client) {
        slot.end(End::ClientsFault);
    }
}

/// How an attempt ended on its connection.
enum Over {
    Done,
    Tunnel(Connection),
    /// All of the request was sent, and another is to be asked meanwhile.
    Sent(On, Timestamp),
    Overtaken,
}

/// Goes on with a request that was sent before.
async fn resume<'v, C: Client>(
    attempt: &Attempt<'_, 'v>,
    client: &mut C,
    waiting: Waiting<'v>,
    parts: &mut Parts<'_>,
    record: &mut Record,
) -> (InSlot<'v>, Result<Over, Failure>) {
    let Waiting { slot, line, .. } = waiting;
    let result = match line.take() {
        None => Err(Failure::OVER),
        Some(On::Http1(connection)) => {
            over_http1(attempt, client, connection, parts, record, &slot).await
        }
        Some(On::Http2(mut incoming)) => {
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

async fn over_http1<C: Client>(
    attempt: &Attempt<'_, '_>,
    client: &mut C,
    mut connection: Connection,
    parts: &mut Parts<'_>,
    record: &mut Record,
    slot: &InSlot<'_>,
) -> Result<Over, Failure> {
    let Attempt { worker, view, place, .. } = *attempt;
    let progress = match attempt.resumed {
        Some(_) => Progress::resumed(),
        None => Progress::default(),
    };
    let result = {
        let (reader, writer) = connection.stream.split();
        let (buffer, watch) = (&mut connection.buffer, &connection.read_watch);
        let mut incoming = Http1::new(Source::new(reader, buffer, watch), attempt.head_bytes);
        let outgoing = Sink {
            writer,
            pending: &mut *parts.request,
            watch: &connection.write_watch,
            stall: attempt.stall,
            sent: &progress.sent,
            pace: Pace::default(),
        };
        let (replay, head) = (&mut *parts.replay, &mut *parts.head);
        let way = Way { outgoing, incoming: &mut incoming, progress: &progress };
        // Boxed: each async function that holds it would be moved with it, which costs more than the box.
        Box::pin(both_ways(attempt, client, way, replay, head, record, slot)).await
    };
    if let Ok(Next::Slow) = result {
        let since = attempt.resumed.or(progress.ended.get()).unwrap_or_else(|| worker.now());
        return Ok(Over::Sent(On::Http1(connection), since));
    }
    if matches!(result, Err(_) | Ok(Next::Overtaken)) {
        // An end would wait behind what the cluster has not taken; whoever still works should know now.
        connection.stream.reset_on_close();
    }
    match result? {
        Next::Keep => {
            let cluster = &view.plan.clusters[place.cluster];
            let most = (cluster.connections_max as usize / worker.shared.busy.len().max(1)).max(1);
            let (key, latest) = ((place.signals(view).id, connection.secured), worker.view());
            // The latest view may know other clusters by this number; then the endpoint is not among
            // its endpoints and the connection is closed.
            let now = worker.about_now();
            worker.pool.borrow_mut().put(connection, key, place.cluster, &latest, most, now);
            Ok(Over::Done)
        }
        Next::Close | Next::Slow => Ok(Over::Done),
        Next::Overtaken => Ok(Over::Overtaken),
        Next::Tunnel => Ok(Over::Tunnel(connection)),
    }
}

async fn over_http2<C: Client>(
    attempt: &Attempt<'_, '_>,
    client: &mut C,
    mut lease: Lease,
    parts: &mut Parts<'_>,
    record: &mut Record,
    slot: &InSlot<'_>,
) -> Result<Over, Failure> {
    let (worker, head) = (attempt.worker, client.head());
    let secure = attempt.view.tls.cluster(attempt.place.cluster).is_some();
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
        tracing::debug!(%error, "a request could not be begun");
        lease.retire();
        Failure::retry(Kind::Unsent, Refusal::UpstreamReset)
    })?;
    let progress = Progress::default();
    progress.sent.set(1);
    let watch = worker.deadlines.watch();
    let outgoing = Http2Out::new(stream, bare, &watch, attempt.stall, &progress.sent);
    let mut incoming = Http2In::new(future, lease, worker.deadlines.watch(), is_head);
    let way = Way { outgoing, incoming: &mut incoming, progress: &progress };
    let (replay, head) = (&mut *parts.replay, &mut *parts.head);
    let result = Box::pin(both_ways(attempt, client, way, replay, head, record, slot)).await;
    if progress.complete.get().is_some() {
        incoming.note_sent();
    }
    if let Ok(Next::Slow) = result {
        let since = progress.ended.get().unwrap_or_else(|| worker.now());
        return Ok(Over::Sent(On::Http2(incoming), since));
    }
    retire_if_silent(&incoming, &result);
    match result? {
        Next::Keep | Next::Close | Next::Slow => Ok(Over::Done),
        Next::Overtaken => Ok(Over::Overtaken),
        Next::Tunnel => Err(Failure::refuse(Refusal::UpstreamReset)),
    }
}

/// A shared connection on which no answer came is perhaps dead: others should not be sent there.
fn retire_if_silent(incoming: &Http2In, result: &Result<Next, Failure>) {
    if matches!(result, Err(failure) if *failure == Failure::refuse(Refusal::UpstreamTimeout)) {
        incoming.retire();
    }
}

/// What an attempt works on.
struct Parts<'a> {
    /// The request's head, as the cluster gets it.
    request: &'a mut Vec<u8>,
    replay: &'a mut Replay,
    head: &'a mut ResponseHead,
}

/// The way to a cluster and back.
struct Way<'a, S, I> {
    outgoing: S,
    incoming: &'a mut I,
    progress: &'a Progress,
}

/// What becomes of the cluster's connection.
#[derive(Clone, Copy)]
enum Next {
    Keep,
    Close,
    Tunnel,
    /// Its answer is slow to come: another endpoint is to be asked as well. That was granted already.
    Slow,
    /// The attempt that waited beside it was quicker.
    Overtaken,
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
    let asked = Asked { head: head.is_head(), upgrade: head.upgrade() };
    let kept = Cell::new(std::mem::take(replay));
    let framing = head.framing;
    let result = {
        // Dropped with this block, wherever it is: then what it was lent is back.
        let edits = &attempt.route.request_edits;
        let edits = Edits { remove: &edits.remove, set: &edits.set, add: &edits.add };
        let whole = |replay: &mut Replay| {
            replay.edit_trailers(&edits);
            if let Some(read_whole) = attempt.read_whole.filter(|_| replay.is_whole()) {
                read_whole(head, replay);
            }
        };
        let (worker, body) = (attempt.worker, &mut request_body);
        let upload = pin!(upload(worker, body, outgoing, framing, &kept, progress, slot, whole));
        let mut both = Both { upload, progress, gone: false };
        respond(attempt, &mut both, incoming, answer, asked, &mut response, &kept, record, slot)
            .await
    };
    if result.is_err() && progress.is_owed(attempt.worker.now()) {
        slot.end(End::ClientsFault);
    }
    *replay = kept.take();
    result
}

/// What comes back: interim responses, the head, the body.
#[expect(
    clippy::too_many_arguments,
    reason = "the other half of `both_ways`, cut out for its length"
)]
async fn respond<U: Future<Output = ()>, I: Incoming, R: Response>(
    attempt: &Attempt<'_, '_>,
    both: &mut Both<'_, U>,
    incoming: &mut I,
    answer: &mut ResponseHead,
    asked: Asked<'_>,
    response: &mut R,
    kept: &Cell<Replay>,
    record: &mut Record,
    slot: &InSlot<'_>,
) -> Result<Next, Failure> {
    let (worker, progress) = (attempt.worker, both.progress);
    let begun = attempt.resumed.unwrap_or_else(|| worker.now());
    let mut rival = Rival::of(attempt.berth);
    let mut interims = 0;
    if !progress.open.get() {
        // Boxed: most requests expect nothing.
        Box::pin(super::expect::settle(both, incoming, response)).await?;
    }
    let end = loop {
        let waited = {
            // Pinned here: each that waits for it would otherwise be moved with it.
            let reading =
                pin!(read_head(attempt, progress, incoming, answer, asked, interims == 0));
            both.and(rival.beside(worker, attempt.view, reading), Phase::Waiting).await
        };
        let end = match waited {
            Err(()) => return Err(both.client_failure()),
            Ok(None) => return Ok(Next::Overtaken),
            Ok(Some(Ok(Awaited::Head(end)))) => end,
            Ok(Some(Ok(Awaited::Slow))) => return Ok(Next::Slow),
            Ok(Some(Err(error))) => {
                // Once the client was told anything, nothing may be tried again.
                let again = attempt.replaceable(progress) && interims == 0;
                let error = match error {
                    NoResponse::Refused if interims > 0 => NoResponse::Closed { begun: true },
                    other => other,
                };
                return Err(head_failure(error, progress.sent.get() == 0 && interims == 0, again));
            }
        };
        if !answer.is_interim() {
            break end;
        }
        interims += 1;
        record.hedges[1] += u64::from(rival.give_up(worker, attempt.view));
        if interims > INTERIM_MAX {
            return Err(Failure::refuse(Refusal::UpstreamReset));
        }
        if answer.status == 100 {
            progress.open_gate();
        }
        let told = response.interim(answer, incoming.bytes().get(..end).unwrap_or_default()).await;
        incoming.used(end);
        record.sent = response.sent();
        if told.is_err() {
            return Err(Failure::OVER);
        }
    };
    record.first_byte = Some(worker.now().since(begun));
    learn(attempt, progress, answer.status, begun, slot);
    if matches!(answer.status, 502..=504)
        && interims == 0
        && attempt.replaceable(progress)
        && (rival.waits() || (attempt.may_retry)(Kind::GatewayStatus))
    {
        // What it is told if nobody else can be found, near to what the cluster said.
        let refusal = match answer.status {
            503 => Refusal::Overloaded,
            504 => Refusal::UpstreamTimeout,
            _ => Refusal::UpstreamReset,
        };
        return Err(Failure::granted(Kind::GatewayStatus, refusal));
    }
    record.hedges[1] += u64::from(rival.give_up(worker, attempt.view));
    let upgraded = answer.upgrades;
    let complete = progress.complete.get().is_some() && !upgraded;
    let mut extra = if attempt.explain { explanation(attempt) } else { Vec::new() };
    if attempt.edge {
        push_load(&mut extra, attempt);
    }
    extra.extend_from_slice(&record.answer_lines);
    if let Some(line) = &attempt.set_cookie {
        extra.extend_from_slice(line.as_bytes());
    }
    if let Some(port) = attempt.http3 {
        // RFC 7838, for a day.
        extra.extend_from_slice(format!("alt-svc: h3=\":{port}\"; ma=86400\r\n").as_bytes());
    }
    let bytes = incoming.bytes().get(..end).unwrap_or_default();
    hear(attempt, answer, bytes);
    let edits = &attempt.route.response_edits;
    let edits = Edits { remove: &edits.remove, set: &edits.set, add: &edits.add };
    record.status = answer.status;
    // A drain may have begun since the request came: this is the last chance to say so.
    let complete = complete && !worker.shared.is_draining();
    let reply = Reply { head: answer, bytes, edits, complete: complete || upgraded, extra: &extra };
    response.begin(&reply);
    progress.committed.set(true);
    drop(kept.take());
    let kind = answer.value(bytes, Role::ContentType);
    let endless = kind.is_some_and(is_event_stream) || attempt.is_call && grpc::is_grpc(kind);
    incoming.used(end);
    let idle = if endless { ENDLESS } else { attempt.stream_idle };
    if endless {
        incoming.keep_alive();
        response.keep_alive();
    }
    let relayed = {
        let relaying = incoming.relay(answer.framing, response, idle, edits);
        both.and(relaying, Phase::Answering).await
    };
    record.sent = response.sent();
    slot.bytes(record.sent.total());
    match relayed {
        Ok(Ok(())) if upgraded => Ok(Next::Tunnel),
        Ok(Ok(())) => {
            let complete = progress.complete.get().is_some();
            let clean = answer.keep_alive && complete && incoming.is_clean();
            Ok(if clean { Next::Keep } else { Next::Close })
        }
        // Part of a response is on its way: it must not pass for whole.
        Ok(Err(end @ (RelayEnd::Cluster | RelayEnd::Untaken))) => {
            if end == RelayEnd::Cluster {
                attempt.blame(Cause::Reset);
            }
            record.aborted = Some(Aborted::Cluster);
            Err(Failure::OVER)
        }
        Ok(Err(RelayEnd::Client)) | Err(()) => Err(Failure::OVER),
    }
}

/// Learns from an answer: a failure, or how long it took from when the cluster had all of the request. One that
/// came while the client kept the cluster waiting says neither.
fn learn(
    attempt: &Attempt<'_, '_>,
    progress: &Progress,
    status: u16,
    begun: Timestamp,
    slot: &InSlot<'_>,
) {
    let (worker, now) = (attempt.worker, attempt.worker.now());
    if progress.is_owed(now) {
        slot.end(End::ClientsFault);
    } else if attempt.failures().has_status(status) {
        slot.failed();
        attempt.blame(match status {
            502..=504 => Cause::GatewayStatus,
            _ => Cause::Status,
        });
    } else {
        let took = now.since(progress.asked.get().map_or(begun, |asked| asked.max(begun)));
        slot.completed(took);
        attempt.place.live.record(worker.id, took.as_secs_f64());
    }
}

/// Takes what a cluster says of its load to its slot, where its word was asked for.
fn hear(attempt: &Attempt<'_, '_>, head: &ResponseHead, bytes: &[u8]) {
    let reports = attempt.view.plan.clusters[attempt.place.cluster].reports;
    let report = Report::heard(reports, |name| head.told(bytes, name));
    let Some(report) = report else { return };
    let slot = attempt.view.slots.slot(attempt.worker.id, attempt.class, attempt.place.slot);
    if let Some(slot) = slot {
        slot.report.write(&report, attempt.worker.now());
    }
}

/// Adds `tidegate-load`: what the clusters of this site have to do for this class.
fn push_load(lines: &mut Vec<u8>, attempt: &Attempt<'_, '_>) {
    let Some(beliefs) = attempt.view.signals.classes.get(attempt.class) else { return };
    let Some(report) = &beliefs.report else { return };
    let mut text = String::with_capacity(96);
    report.write_tidegate(&mut text);
    lines.extend_from_slice(b"tidegate-load: ");
    lines.extend_from_slice(text.as_bytes());
    lines.extend_from_slice(b"\r\n");
}

fn is_event_stream(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    crate::http::chars::trim(kind).eq_ignore_ascii_case(b"text/event-stream")
}
