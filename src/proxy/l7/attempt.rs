//! One attempt at one endpoint: request up, response down, both at once.
//!
//! Until the first byte goes to the client everything can still be tried elsewhere; [`Failed`] says
//! how. After it, the only honest end of a failure is to break the client's connection off.

use super::carrier::{Http1, Http2In, Http2Out, Incoming, NoHead, Outgoing, RelayEnd};
use super::client::{Client, Reply, Response};
use super::record::{InSlot, Record, rejected};
use super::upload::{Both, Phase, Progress, Replay, upload};
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::report::Report;
use crate::decision::retry::Kind;
use crate::decision::route::Route;
use crate::decision::signal::EndpointSignals;
use crate::decision::units::Timestamp;
use crate::http::field::Role;
use crate::http::forward::Edits;
use crate::http::response::{Asked, ResponseHead};
use crate::http::{Framing, grpc, translate};
use crate::proxy::body::{Sink, Source};
use crate::proxy::place::Place;
use crate::proxy::refusal::Refusal;
use crate::proxy::upstream::connect::Carrier;
use crate::proxy::upstream::multiplexed::Lease;
use crate::proxy::upstream::pool::Connection;
use crate::proxy::worker::Worker;
use crate::shared::View;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// What an attempt needs.
pub struct Attempt<'a> {
    /// Whose it is.
    pub worker: &'a Worker,
    /// What its exchange goes by.
    pub view: &'a View,
    /// Its route.
    pub route: &'a Route,
    /// Its class.
    pub class: usize,
    /// Where it goes.
    pub place: &'a Place,
    /// To the response head.
    pub timeout: Duration,
    /// Without a byte of the response.
    pub stream_idle: Duration,
    /// Without progress while sending.
    pub stall: Duration,
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
    /// Whether a failure of this kind may be tried elsewhere; if so, the retry is paid for.
    pub may_retry: &'a dyn Fn(Kind) -> bool,
}

impl Attempt<'_> {
    /// Whether the request may be sent again, method and body considered.
    fn replaceable(&self, progress: &Progress) -> bool {
        self.idempotent && !progress.lost.get()
    }
}

/// Interim responses of one exchange.
const INTERIM_MAX: usize = 16;
/// How often a wait for a response looks whether its endpoint was ejected.
const EJECTION_CHECK: Duration = Duration::from_millis(100);

/// What may be silent for as long as it likes is still bounded.
pub const ENDLESS: Duration = Duration::from_secs(86_400);

/// How an attempt ended well.
pub enum Ended {
    /// The response was sent.
    Done,
    /// The connection became a tunnel.
    Tunnel(Connection),
}

/// How an attempt failed before any byte went to the client.
#[derive(Clone, Copy, Debug)]
pub enum Failed {
    /// It may be tried again, if the budget grants this kind.
    Retry(Kind, Refusal),
    /// Likewise, and the endpoint is not to blame: its idle connection had aged.
    Stale(Kind, Refusal),
    /// It is to be tried again: that was granted already.
    Granted(Kind, Refusal),
    /// It may not.
    Refuse(Refusal),
    /// The client is gone, or was told all it can be told.
    Over,
}

/// Makes one attempt. A connection is given back to the pool when it can be.
///
/// # Errors
/// [`Failed`].
pub async fn run<C: Client>(
    attempt: &Attempt<'_>,
    client: &mut C,
    carrier: Carrier,
    request: &mut Vec<u8>,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<Ended, Failed> {
    let Attempt { worker, view, place, .. } = *attempt;
    let slot = view.slots.slot(worker.id, attempt.class, place.slot);
    let mut slot = InSlot::enter(slot, record.attempts, worker.about_now());
    let mut head = worker.lend_response();
    let (reused, shared) = (carrier.is_reused(), matches!(carrier, Carrier::Http2(_)));
    let mut parts = Parts { request, replay, head: &mut head };
    let result = match carrier {
        Carrier::Http1(connection) => {
            over_http1(attempt, client, connection, &mut parts, record, &mut slot).await
        }
        // Boxed: seldom, and an exchange over HTTP/1 should not have room for it.
        Carrier::Http2(lease) => {
            Box::pin(over_http2(attempt, client, *lease, &mut parts, record, &mut slot)).await
        }
    };
    worker.give_back_response(head);
    let result = match result {
        // A reused connection that dies without a word says nothing about the endpoint: it was idle
        // for too long.
        Err(Failed::Retry(kind @ (Kind::Unsent | Kind::Died), refusal))
            if reused
                && refusal == Refusal::UpstreamReset
                // A shared connection says so itself when it has aged.
                && (!shared || kind == Kind::Unsent) =>
        {
            Err(Failed::Stale(kind, refusal))
        }
        other => other,
    };
    // A gateway status was told where it was seen; an ejection needs no telling.
    if let Err(Failed::Retry(Kind::Unsent | Kind::Died, refusal) | Failed::Refuse(refusal)) =
        &result
        && let Some(cause) = blame(*refusal)
    {
        slot.failed();
        let endpoint = place.signals(view).id;
        worker.shared.tell(Event::ExchangeFailed { endpoint, cause });
    }
    result
}

async fn over_http1<C: Client>(
    attempt: &Attempt<'_>,
    client: &mut C,
    mut connection: Connection,
    parts: &mut Parts<'_>,
    record: &mut Record,
    slot: &mut InSlot<'_>,
) -> Result<Ended, Failed> {
    let Attempt { worker, view, place, .. } = *attempt;
    let progress = Progress::default();
    let result = {
        let (reader, writer) = connection.stream.split();
        let (buffer, watch) = (&mut connection.buffer, &connection.read_watch);
        let incoming = Http1::new(Source { reader, buffer, watch });
        let outgoing = Sink {
            writer,
            pending: &mut *parts.request,
            watch: &connection.write_watch,
            stall: attempt.stall,
            sent: &progress.sent,
        };
        let (replay, head) = (&mut *parts.replay, &mut *parts.head);
        let way = Way { outgoing, incoming, progress: &progress };
        // Boxed: each async function that holds it would be moved with it, which costs more than the box.
        Box::pin(both_ways(attempt, client, way, replay, head, record, slot)).await
    };
    if result.is_err() {
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
            Ok(Ended::Done)
        }
        Next::Close => Ok(Ended::Done),
        Next::Tunnel => Ok(Ended::Tunnel(connection)),
    }
}

async fn over_http2<C: Client>(
    attempt: &Attempt<'_>,
    client: &mut C,
    mut lease: Lease,
    parts: &mut Parts<'_>,
    record: &mut Record,
    slot: &mut InSlot<'_>,
) -> Result<Ended, Failed> {
    let (worker, head) = (attempt.worker, client.head());
    let secure = attempt.view.tls.cluster(attempt.place.cluster).is_some();
    let scheme = if secure { "https" } else { "http" };
    let trailers = head.value(Role::Te).is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
    let is_head = head.method() == "HEAD";
    let bare = matches!(head.framing, Framing::None | Framing::Length(0));
    let request = translate::request(parts.request, scheme, trailers);
    let Some(request) = request else { return Err(Failed::Refuse(Refusal::BadRequest)) };
    let begun = match std::future::poll_fn(|context| lease.send.poll_ready(context)).await {
        Ok(()) => lease.send.send_request(request, bare),
        Err(error) => Err(error),
    };
    let (future, stream) = begun.map_err(|error| {
        tracing::debug!(%error, "a request could not be begun");
        lease.retire();
        Failed::Retry(Kind::Unsent, Refusal::UpstreamReset)
    })?;
    let progress = Progress::default();
    progress.sent.set(1);
    let watches = (worker.deadlines.watch(), worker.deadlines.watch());
    let outgoing = Http2Out::new(stream, bare, &watches.1, attempt.stall, &progress.sent);
    let way =
        Way { outgoing, incoming: Http2In::new(future, &watches.0, is_head), progress: &progress };
    let (replay, head) = (&mut *parts.replay, &mut *parts.head);
    let result = Box::pin(both_ways(attempt, client, way, replay, head, record, slot)).await;
    let silent = Refusal::UpstreamTimeout;
    if matches!(result, Err(Failed::Refuse(refusal)) if refusal == silent) {
        // Perhaps it is dead: others should not be sent there.
        lease.retire();
    }
    match result? {
        Next::Keep | Next::Close => Ok(Ended::Done),
        Next::Tunnel => Err(Failed::Refuse(Refusal::UpstreamReset)),
    }
}

/// The cause an endpoint is blamed for; `None` where it is not to blame.
fn blame(refusal: Refusal) -> Option<Cause> {
    match refusal {
        Refusal::UpstreamReset => Some(Cause::Reset),
        Refusal::UpstreamTimeout => Some(Cause::ResponseTimeout),
        Refusal::UpstreamConnect => Some(Cause::GatewayStatus),
        Refusal::BadRequest
        | Refusal::NoRoute
        | Refusal::MethodNotAllowed
        | Refusal::RequestTimeout
        | Refusal::BodyTooLarge
        | Refusal::UriTooLong
        | Refusal::ExpectationFailed
        | Refusal::HeadersTooLarge
        | Refusal::NotImplemented
        | Refusal::NoPermittedCluster
        | Refusal::NoHealthyCluster
        | Refusal::Overloaded
        | Refusal::Loop
        | Refusal::Misdirected
        | Refusal::Unauthorized
        | Refusal::Forbidden
        | Refusal::RateLimited
        | Refusal::Budget
        | Refusal::Draining => None,
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
    incoming: I,
    progress: &'a Progress,
}

/// What becomes of the cluster's connection.
#[derive(Clone, Copy)]
enum Next {
    Keep,
    Close,
    Tunnel,
}

async fn both_ways<C: Client, S: Outgoing, I: Incoming>(
    attempt: &Attempt<'_>,
    client: &mut C,
    way: Way<'_, S, I>,
    replay: &mut Replay,
    answer: &mut ResponseHead,
    record: &mut Record,
    slot: &mut InSlot<'_>,
) -> Result<Next, Failed> {
    let Way { outgoing, mut incoming, progress } = way;
    let (head, mut request_body, mut response) = client.split();
    progress.open.set(!head.expects_continue);
    progress.lost.set(!replay.is_whole());
    let asked = Asked { head: head.method() == "HEAD", upgrade: head.upgrade() };
    let kept = Cell::new(std::mem::take(replay));
    let framing = head.framing;
    let result = {
        // Dropped with this block, wherever it is: then what it was lent is back.
        let upload =
            pin!(upload(attempt.worker, &mut request_body, outgoing, framing, &kept, progress));
        let mut both = Both { upload, progress, gone: false };
        let (incoming, response) = (&mut incoming, &mut response);
        respond(attempt, &mut both, incoming, answer, asked, response, &kept, record, slot).await
    };
    *replay = kept.take();
    result
}

/// What comes back: interim responses, the head, the body.
#[expect(
    clippy::too_many_arguments,
    reason = "the other half of `both_ways`, cut out for its length"
)]
async fn respond<U: Future<Output = ()>, I: Incoming, R: Response>(
    attempt: &Attempt<'_>,
    both: &mut Both<'_, U>,
    incoming: &mut I,
    answer: &mut ResponseHead,
    asked: Asked<'_>,
    response: &mut R,
    kept: &Cell<Replay>,
    record: &mut Record,
    slot: &mut InSlot<'_>,
) -> Result<Next, Failed> {
    let (worker, progress) = (attempt.worker, both.progress);
    let begun = worker.now();
    let mut interims = 0;
    let end = loop {
        let reading = read_head(attempt, progress, incoming, answer, asked, interims == 0);
        let end = match both.and(reading, Phase::Waiting).await {
            Err(()) => return Err(both.client_failure()),
            Ok(Ok(end)) => end,
            Ok(Err(error)) => {
                // Once the client was told anything, nothing may be tried again.
                let again = attempt.replaceable(progress) && interims == 0;
                return Err(head_failure(error, progress.sent.get() == 0 && interims == 0, again));
            }
        };
        if !answer.is_interim() {
            break end;
        }
        interims += 1;
        if interims > INTERIM_MAX {
            return Err(Failed::Refuse(Refusal::UpstreamReset));
        }
        if answer.status == 100 {
            progress.open_gate();
        }
        let told = response.interim(answer, incoming.bytes().get(..end).unwrap_or_default()).await;
        incoming.used(end);
        record.bytes_out = response.sent();
        if told.is_err() {
            return Err(Failed::Over);
        }
    };
    let took = worker.now().since(begun);
    record.first_byte = Some(took);
    if matches!(answer.status, 502..=504) {
        slot.failed();
        let endpoint = attempt.place.signals(attempt.view).id;
        worker.shared.tell(Event::ExchangeFailed { endpoint, cause: Cause::GatewayStatus });
        if interims == 0
            && attempt.replaceable(progress)
            && (attempt.may_retry)(Kind::GatewayStatus)
        {
            // What it is told if nobody else can be found, near to what the cluster said.
            let refusal = match answer.status {
                503 => Refusal::Overloaded,
                504 => Refusal::UpstreamTimeout,
                _ => Refusal::UpstreamReset,
            };
            return Err(Failed::Granted(Kind::GatewayStatus, refusal));
        }
    } else {
        slot.completed(took);
        attempt.place.live.record(worker.id, took.as_secs_f64());
    }
    let upgraded = answer.upgrades;
    let complete = progress.complete.get().is_some() && !upgraded;
    let mut extra = if attempt.explain { explanation(attempt) } else { Vec::new() };
    if attempt.edge {
        push_load(&mut extra, attempt);
    }
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
    let endless = kind.is_some_and(is_event_stream) || grpc::is_grpc(kind);
    incoming.used(end);
    let idle = if endless { ENDLESS } else { attempt.stream_idle };
    let relayed = {
        let relaying = incoming.relay(answer.framing, response, idle);
        both.and(relaying, Phase::Answering).await
    };
    record.bytes_out = response.sent();
    slot.bytes(response.sent());
    match relayed {
        Ok(Ok(())) if upgraded => Ok(Next::Tunnel),
        Ok(Ok(())) => {
            let complete = progress.complete.get().is_some();
            let clean = answer.keep_alive && complete && incoming.is_clean();
            Ok(if clean { Next::Keep } else { Next::Close })
        }
        // Part of a response is on its way: it must not pass for whole.
        Ok(Err(RelayEnd::Cluster)) => {
            let endpoint = attempt.place.signals(attempt.view).id;
            worker.shared.tell(Event::ExchangeFailed { endpoint, cause: Cause::Reset });
            Err(Failed::Over)
        }
        Ok(Err(RelayEnd::Client)) | Err(()) => Err(Failed::Over),
    }
}

/// Takes what a cluster says of its load to its slot, where its word was asked for.
fn hear(attempt: &Attempt<'_>, head: &ResponseHead, bytes: &[u8]) {
    let reports = attempt.view.plan.clusters[attempt.place.cluster].reports;
    let report = Report::heard(reports, |name| head.told(bytes, name));
    let Some(report) = report else { return };
    let slot = attempt.view.slots.slot(attempt.worker.id, attempt.class, attempt.place.slot);
    if let Some(slot) = slot {
        slot.report.write(&report, attempt.worker.now());
    }
}

/// Adds `tidegate-load`: what the clusters of this site have to do for this class.
fn push_load(lines: &mut Vec<u8>, attempt: &Attempt<'_>) {
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

/// `tidegate-decision` for a trusted client that asked.
fn explanation(attempt: &Attempt<'_>) -> Vec<u8> {
    let (view, place) = (attempt.view, attempt.place);
    let cluster = &view.plan.clusters[place.cluster].name;
    let rejected = rejected(view, attempt.class, Some(place.cluster)).join(",");
    let endpoint = &place.signals(view).address;
    let reason = place.why.label();
    let line = format!(
        "tidegate-decision: cluster={cluster}; endpoint={endpoint}; reason={reason}; rejected=\"{rejected}\"\r\n"
    );
    line.into_bytes()
}

/// Why no response head comes.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Closed {
        begun: bool,
    },
    /// The cluster says that it has not begun with it.
    Refused,
    Late,
    Malformed,
    Ejected,
}

fn head_failure(error: Failure, unsent: bool, replaceable: bool) -> Failed {
    match error {
        Failure::Refused => Failed::Retry(Kind::Unsent, Refusal::UpstreamReset),
        Failure::Closed { begun: false } if unsent => {
            Failed::Retry(Kind::Unsent, Refusal::UpstreamReset)
        }
        Failure::Closed { begun: false } if replaceable => {
            Failed::Retry(Kind::Died, Refusal::UpstreamReset)
        }
        Failure::Ejected => Failed::Granted(Kind::Died, Refusal::UpstreamReset),
        Failure::Closed { .. } | Failure::Malformed => Failed::Refuse(Refusal::UpstreamReset),
        Failure::Late => Failed::Refuse(Refusal::UpstreamTimeout),
    }
}

/// Reads a response's head; gives where it ends in what has come.
async fn read_head<I: Incoming>(
    attempt: &Attempt<'_>,
    progress: &Progress,
    incoming: &mut I,
    head: &mut ResponseHead,
    asked: Asked<'_>,
    untold: bool,
) -> Result<usize, Failure> {
    loop {
        match incoming.head(head, asked) {
            Ok(end) => return Ok(end),
            Err(NoHead::Partial) => {}
            Err(NoHead::Malformed) => return Err(Failure::Malformed),
        }
        // The cluster's time begins when it has all of the request it will get, and then is absolute.
        let waited = |since: Timestamp| attempt.worker.about_now().since(since);
        let left = match progress.ended.get() {
            Some(since) => attempt.timeout.saturating_sub(waited(since)),
            None => attempt.timeout,
        };
        if left.is_zero() {
            return Err(Failure::Late);
        }
        let begun = !incoming.bytes().is_empty();
        match incoming.more(left.min(EJECTION_CHECK)).await {
            Ok(0) => return Err(Failure::Closed { begun }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                // Its answer may yet come: it is given up only for another endpoint's.
                if untold
                    && attempt.replaceable(progress)
                    && !begun
                    && is_ejected(attempt)
                    && (attempt.may_retry)(Kind::Died)
                {
                    return Err(Failure::Ejected);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && !begun => {
                return Err(match progress.lost.get() {
                    // What it has had of the body cannot be sent again.
                    true => Failure::Closed { begun },
                    false => Failure::Refused,
                });
            }
            Err(_) => return Err(Failure::Closed { begun }),
        }
    }
}

/// Whether the endpoint was found dead since the exchange was placed; one that was removed or drained
/// goes on with what it has.
fn is_ejected(attempt: &Attempt<'_>) -> bool {
    let latest: Rc<_> = attempt.worker.view();
    let id = attempt.place.signals(attempt.view).id;
    let knows = |endpoint: &EndpointSignals| endpoint.id == id;
    let mut clusters = latest.signals.clusters.iter();
    clusters.any(|cluster| cluster.endpoints.iter().any(knows) && !cluster.uses(id))
}
