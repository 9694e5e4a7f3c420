//! The record of an exchange: counters, samples and the access log.

use super::failure::Failure;
use super::trace::{Facts, Trace};
use crate::decision::index::EndpointIndex;
use crate::decision::plan::{ClassIndex, ClusterIndex, ListenerIndex};
use crate::decision::route::RouteIndex;
use crate::decision::signal::Why;
use crate::decision::units::Timestamp;
use crate::http::forward;
use crate::http::request::RequestHead;
use crate::l7::client::{Client, Sent};
use crate::l7::connection_info::ConnectionInfo;
use crate::os::clock;
use crate::policy::DenialResponse;
use crate::policy::seats::Taken;
use crate::refusal::Refusal;
use crate::rejected::rejected;
use crate::selection::Selection;
use crate::shared::decided::{self, Decision, Urgency};
use crate::shared::{Ring, Slot, Ticket, View};
use crate::telemetry::access_log::{Line, milliseconds};
use crate::telemetry::counter::{Count, PerVariant};
use crate::telemetry::results::{Aborted, HedgeResult, RetryResult, StatusClass};
use crate::withheld;
use crate::worker::Worker;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// The longest path in a published decision, in characters.
const PATH_MAX: usize = 200;

/// The record of a running exchange.
#[derive(Debug)]
pub struct Record {
    /// When its head was read.
    pub started: Timestamp,
    /// The status that was sent; 0 if none.
    pub status: u16,
    /// The refusal, if the exchange was not served.
    pub refusal: Option<Refusal>,
    /// The explanation of the refusal, if it is more precise than the default.
    pub refusal_why: &'static str,
    /// Complete lines that the refusal adds to its head.
    pub refusal_lines: String,
    /// Whether an invalid head had a gRPC content type.
    pub says_grpc: bool,
    /// The response of the authorization service that replaces the refusal.
    pub denial: Option<Box<DenialResponse>>,
    /// Fields of the authorization service for the cluster.
    pub granted: Vec<(String, String)>,
    /// Complete lines of the authorization service for the client's response.
    pub answer_lines: Vec<u8>,
    /// Complete cross-origin lines for the client's response.
    pub cors_lines: Vec<u8>,
    /// Its permits of the concurrency limits.
    pub seats: Vec<Taken>,
    /// The side that aborted the exchange.
    pub aborted: Option<Aborted>,
    /// Bytes sent to the client.
    pub sent: Sent,
    /// The route.
    pub route: Option<RouteIndex>,
    /// The class.
    pub class: Option<ClassIndex>,
    /// The cluster of the last attempt, the endpoint's index, and the reason.
    pub selection: Option<(ClusterIndex, EndpointIndex, Why)>,
    /// Attempts.
    pub attempts: u32,
    /// Whether no cluster was left for the exchange, or for its next attempt.
    pub unplaced: bool,
    /// The connect time of the last connection.
    pub connected: Option<Duration>,
    /// From sending to the response head.
    pub first_byte: Option<Duration>,
    /// The request id that was sent to the cluster; empty without an access log.
    pub request_id: String,
    /// The request id that the proxy generated, used unless a trusted client sent one; zeros before.
    pub own_id: [u8; 32],
    /// Whether a trusted client requested the decision.
    pub is_requested: bool,
    /// The `traceparent` of the exchange; empty without an access log.
    pub trace_parent: String,
    /// The spans of the exchange, if it is traced.
    pub trace: Option<Box<Trace>>,
    /// Retries.
    pub retries: PerVariant<RetryResult>,
    /// Hedges.
    pub hedges: PerVariant<HedgeResult>,
}

/// Bytes from the client, and to it.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    bodies: (u64, u64),
    heads: (u64, u64),
}

impl Record {
    /// A new record.
    #[must_use]
    pub fn begin(now: Timestamp) -> Record {
        Record {
            started: now,
            status: 0,
            refusal: None,
            refusal_why: "",
            refusal_lines: String::new(),
            says_grpc: false,
            denial: None,
            granted: Vec::new(),
            answer_lines: Vec::new(),
            cors_lines: Vec::new(),
            seats: Vec::new(),
            aborted: None,
            sent: Sent::default(),
            route: None,
            class: None,
            selection: None,
            attempts: 0,
            unplaced: false,
            connected: None,
            first_byte: None,
            request_id: String::new(),
            own_id: [0; 32],
            is_requested: false,
            trace_parent: String::new(),
            trace: None,
            retries: PerVariant::default(),
            hedges: PerVariant::default(),
        }
    }

    /// Records an attempt.
    pub fn attempt(&mut self, worker: &Worker, selection: &Selection) {
        self.attempts += 1;
        let place = (selection.cluster, selection.endpoint, selection.why);
        self.selection = Some(place);
        if let Some(trace) = &mut self.trace {
            trace.decided(worker, place);
        }
    }

    /// Records that an earlier attempt (the primary) continues.
    pub fn goes_on(&mut self, selection: &Selection) {
        self.selection = Some((selection.cluster, selection.endpoint, selection.why));
        self.unplaced = false;
        if let Some(trace) = &mut self.trace {
            trace.resumes();
        }
    }

    /// Records that no endpoint was selected.
    pub fn undecided(&mut self, worker: &Worker, failure: Failure) {
        self.unplaced = true;
        if let Some(trace) = &mut self.trace {
            trace.undecided(worker, failure);
        }
    }

    /// Counts and logs the exchange.
    pub fn finish<C: Client>(
        &self,
        worker: &Worker,
        view: &Arc<View>,
        client: &C,
        info: &ConnectionInfo,
        tunnelled: (u64, u64),
    ) {
        let bytes = Bytes {
            bodies: (client.received() + tunnelled.0, self.sent.body + tunnelled.1),
            heads: (client.head().bytes().len() as u64, self.sent.heads),
        };
        info.terms.cells.bytes_in.add(bytes.bodies.0);
        info.terms.cells.bytes_out.add(bytes.bodies.1);
        info.terms.cells.head_bytes_in.add(bytes.heads.0);
        info.terms.cells.head_bytes_out.add(bytes.heads.1);
        if let Some(refusal) = self.refusal {
            info.terms.cells.refusals[refusal].add(1);
            if let Some(class) = self.class.filter(|_| self.unplaced) {
                let (client, id) =
                    (info.client(client.head()), self.request_id(client.head(), info.trusted));
                withheld::note(worker, view, (info.terms.index, class), refusal, client, &id);
            }
        }
        if let Some(aborted) = self.aborted {
            info.terms.cells.aborted[aborted].add(1);
        }
        let duration = self.count(worker, view, info.terms.index);
        self.tell_decision(worker, view, client, info);
        if worker.log.is_on() {
            self.log(worker, view, client, info, bytes, duration);
        }
        if let Some(trace) = &self.trace {
            trace.send(worker, view, client, info, &self.facts(client.head(), info.trusted));
        }
    }

    /// Counts the exchange for its service, cluster and route; returns its duration in seconds.
    pub fn count(&self, worker: &Worker, view: &View, listener: ListenerIndex) -> f64 {
        let duration = worker.now().since(self.started).as_secs_f64();
        let service = self.class.map(|class| view.plan.classes[class].service);
        let cluster = self.selection.map(|(cluster, ..)| cluster);
        let cells = worker.exchange_cells(view, listener, service, cluster);
        let class = StatusClass::of(self.status);
        cells.by_class[class].add(1);
        cells.duration.observe(duration);
        cells.latencies.observe(duration);
        if let Some(first_byte) = self.first_byte {
            cells.upstream.observe(first_byte.as_secs_f64());
        }
        cells.retries.fold(&self.retries);
        cells.hedges.fold(&self.hedges);
        if let Some((.., why)) = self.selection {
            cells.by_reason[why].add(1);
        }
        if let Some(route) = self.route {
            let cells = worker.route_cells(view, route);
            cells.by_class[class].add(1);
            cells.duration.observe(duration);
        }
        duration
    }

    /// Publishes the decision, unless enough were published just now: then nothing is allocated.
    fn tell_decision<C: Client>(
        &self,
        worker: &Worker,
        view: &Arc<View>,
        client: &C,
        info: &ConnectionInfo,
    ) {
        let Some(class) = self.class else { return };
        let urgency = match (self.refusal, self.selection) {
            // The proxy itself answered.
            (None, None) => return,
            _ if self.is_requested => Urgency::Requested,
            (None, Some((.., Why::Nearest | Why::Only | Why::Affinity))) => Urgency::Usual,
            (Some(_), _) | (None, Some(_)) => Urgency::Unusual,
        };
        if !decided::may_record(&worker.shared.decisions, urgency) {
            return;
        }
        let head = client.head();
        // A query may contain secrets.
        let path = head.target().as_str().split('?').next().unwrap_or_default();
        let decision = Decision {
            at: clock::since_epoch(),
            view: view.clone(),
            request_id: self.request_id(head, info.trusted),
            method: head.method().to_owned(),
            host: head.authority().to_owned(),
            path: path.chars().take(PATH_MAX).collect(),
            listener: info.terms.index,
            route: self.route,
            class,
            selection: self.selection,
            refusal: self.refusal.map(Refusal::label),
            rejected: rejected(view, class, self.selection.map(|(cluster, _, why)| (cluster, why))),
            status: self.status,
            attempts: self.attempts,
            connected: self.connected,
            first_byte: self.first_byte,
            duration: worker.now().since(self.started),
        };
        // If the queue is full, enough decisions were published.
        drop(worker.shared.decisions.try_send(decision));
    }

    /// What the span of the exchange shows.
    pub(super) fn facts(&self, head: &RequestHead, trusted: bool) -> Facts {
        Facts {
            started: self.started,
            status: self.status,
            refusal: self.refusal.map(Refusal::label),
            aborted: self.aborted.map(Aborted::label),
            route: self.route,
            class: self.class,
            selection: self.selection,
            attempts: self.attempts,
            request_id: self.request_id(head, trusted),
        }
    }

    /// The request's id; empty if the exchange ended before it had one.
    fn request_id(&self, head: &RequestHead, trusted: bool) -> String {
        if self.own_id == [0; 32] {
            return String::new();
        }
        let id = forward::believed_request_id(head, trusted, &self.own_id);
        String::from_utf8_lossy(id).into_owned()
    }

    fn log<C: Client>(
        &self,
        worker: &Worker,
        view: &View,
        client: &C,
        info: &ConnectionInfo,
        bytes: Bytes,
        duration: f64,
    ) {
        let head = client.head();
        // A tunnel over HTTP/2 and HTTP/3 is answered 200 (RFC 8441 §5), whatever the cluster answered.
        let status = match (self.status, client.protocol()) {
            (101, protocol) if !protocol.starts_with("HTTP/1.") => 200,
            (status, _) => status,
        };
        let endpoint = self.selection.and_then(|(cluster, endpoint, _)| {
            view.signals.clusters[cluster].endpoints.get(endpoint)
        });
        let agent = head.value(crate::http::field::Role::UserAgent).unwrap_or_default();
        worker.log.write(&Line {
            time: clock::rfc3339(clock::since_epoch()).into(),
            listener: &info.terms.name,
            client: info.client(head).to_string().into(),
            method: head.method().into(),
            host: head.authority().into(),
            path: head.target().as_str().into(),
            protocol: client.protocol(),
            status,
            refusal: self.refusal.map(Refusal::label),
            aborted: self.aborted.map(Aborted::label),
            bytes_in: bytes.bodies.0,
            bytes_out: bytes.bodies.1,
            head_bytes_in: bytes.heads.0,
            head_bytes_out: bytes.heads.1,
            duration_ms: (duration * 1e6).round() / 1e3,
            route: self.route.map_or("", |route| &view.plan.routes.route(route).name),
            service: self.class.map_or("", |class| &view.plan.service_of(class).name),
            data: self.class.map_or(String::new(), |c| view.plan.classes[c].data.join(",")).into(),
            cluster: self.selection.map_or("", |(cluster, ..)| &view.plan.clusters[cluster].name),
            endpoint: endpoint.map_or(String::new(), |e| e.address.to_string()).into(),
            reason: self.selection.map_or("", |(.., why)| why.label()),
            attempts: self.attempts,
            upstream_connect_ms: self.connected.map(milliseconds),
            upstream_first_byte_ms: self.first_byte.map(milliseconds),
            request_id: self.request_id.as_str().into(),
            trace_id: self.trace_parent.split('-').nth(1).unwrap_or_default().into(),
            tls: info.agreed.as_ref().map(|agreed| agreed.version),
            user_agent: String::from_utf8_lossy(agent),
        });
    }
}

/// The result of an attempt, for the counters of the cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// The response head arrived this long after the cluster had the whole request.
    Answered(Duration),
    /// The attempt failed by a cause that the cluster counts as a failure.
    Failed,
    /// The client prevented a response, or has left too often: the attempt is not used for learning.
    ClientsFault,
    /// The client left: the wait is a lower bound of the response time.
    Left,
}

/// The stage of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The cluster has not received the whole request; the client may still be sending.
    Unsent,
    /// The cluster has received the whole request.
    Sent,
    /// The attempt was counted.
    Over,
}

/// One attempt in its slot's counters. It is counted as sent once the cluster has the whole request or has answered,
/// and its end is always counted: an unfinished upload does not count.
#[derive(Debug)]
pub struct InSlot<'a> {
    slot: Option<&'a Slot>,
    number: u32,
    stage: Cell<Stage>,
    since: Cell<Timestamp>,
    stratum: u8,
    noted: Cell<Option<Ticket>>,
}

impl<'a> InSlot<'a> {
    /// Starts an attempt; `number` is 1 for an exchange's first, `stratum` the kind of its request.
    #[must_use]
    pub fn enter(slot: Option<&'a Slot>, number: u32, stratum: u8, now: Timestamp) -> InSlot<'a> {
        InSlot {
            slot,
            number,
            stage: Cell::new(Stage::Unsent),
            since: Cell::new(now),
            stratum,
            noted: Cell::new(None),
        }
    }

    /// The whole request was sent.
    pub fn sent(&self, now: Timestamp) {
        if self.stage.get() == Stage::Unsent {
            self.stage.set(Stage::Sent);
            self.since.set(now);
            self.count_in();
            let ring = self.slot.map(|slot| slot.ring.get_or_init(Ring::default));
            self.noted.set(ring.and_then(|ring| ring.sent(now, self.stratum)));
        }
    }

    fn count_in(&self) {
        if let Some(slot) = self.slot {
            slot.retried.add(u64::from(self.number > 1));
            slot.accepted.add(1);
        }
    }

    /// The response head arrived this long after the cluster had the whole request.
    pub fn completed(&self, took: Duration) {
        self.end(End::Answered(took));
    }

    /// The attempt failed.
    pub fn failed(&self) {
        self.end(End::Failed);
    }

    /// Whether the end was counted.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage.get() == Stage::Over
    }

    /// Counts the end, once.
    pub fn end(&self, end: End) {
        let stage = self.stage.replace(Stage::Over);
        let tells = matches!(end, End::Answered(_) | End::Failed);
        if stage == Stage::Unsent && tells {
            self.count_in();
        }
        let Some(slot) =
            self.slot.filter(|_| stage == Stage::Sent || stage == Stage::Unsent && tells)
        else {
            return;
        };
        self.note(slot, end);
        match end {
            End::Answered(took) => {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(100_000_000);
                slot.completed.add(1);
                slot.micros.add(micros);
                slot.micros_squared.add(micros * micros);
            }
            End::Failed => slot.failed.add(1),
            End::ClientsFault => {
                slot.excused.add(1);
                slot.excused_micros.add(self.waited_micros());
            }
            End::Left => {
                slot.abandoned.add(1);
                slot.abandoned_micros.add(self.waited_micros());
            }
        }
    }

    /// Microseconds since the whole request was sent.
    fn waited_micros(&self) -> u64 {
        let waited = clock::now().since(self.since.get());
        u64::try_from(waited.as_micros()).unwrap_or(u64::MAX)
    }

    /// Records the end in the ring of exchanges.
    fn note(&self, slot: &Slot, end: End) {
        let Some((ring, ticket)) = slot.ring.get().zip(self.noted.take()) else { return };
        match end {
            End::Answered(took) => ring.answered(ticket, took),
            End::Failed | End::ClientsFault | End::Left => ring.unanswered(ticket, clock::now()),
        }
    }

    /// The counter of bytes received from the cluster.
    #[must_use]
    pub fn received(&self) -> Option<&'a Count> {
        self.slot.map(|slot| &slot.bytes)
    }
}

impl Drop for InSlot<'_> {
    fn drop(&mut self) {
        self.end(End::Left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(slot: &Slot) -> [u64; 5] {
        [&slot.accepted, &slot.completed, &slot.failed, &slot.abandoned, &slot.excused]
            .map(Count::get)
    }

    #[test]
    fn an_incomplete_request_counts_only_if_answered_or_failed() {
        let now = clock::now();
        #[rustfmt::skip]
        let table = [
            // sent, how it ends                     accepted, completed, failed, abandoned, excused
            (false, Some(End::ClientsFault),         [0, 0, 0, 0, 0]),
            (false, None,                            [0, 0, 0, 0, 0]),
            (false, Some(End::Failed),               [1, 0, 1, 0, 0]),
            (false, Some(End::Answered(Duration::ZERO)), [1, 1, 0, 0, 0]),
            (true,  Some(End::ClientsFault),         [1, 0, 0, 0, 1]),
            (true,  None,                            [1, 0, 0, 1, 0]),
            (true,  Some(End::Failed),               [1, 0, 1, 0, 0]),
            (true,  Some(End::Answered(Duration::ZERO)), [1, 1, 0, 0, 0]),
        ];
        for (sent, end, counted) in table {
            let slot = Slot::default();
            let attempt = InSlot::enter(Some(&slot), 1, 0, now);
            if sent {
                attempt.sent(now);
            }
            end.into_iter().for_each(|end| attempt.end(end));
            drop(attempt);
            assert_eq!(counts(&slot), counted, "sent {sent}, {end:?}");
        }
    }
}
