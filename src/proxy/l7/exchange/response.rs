//! The response: receives and evaluates its head, then sends head and body to the client.

use super::attempt::Attempt;
use super::compression::{self, Encoded, Encoding};
use super::failure::Failure;
use super::hedge::PrimaryGuard;
use super::record::{End, InSlot, Record};
use super::response_head::{Again, Awaited, NoResponse, head_failure, read_head};
use super::upload::{Both, Phase, Progress, Replay};
use crate::deadline::ENDLESS;
use crate::decision::health::Cause;
use crate::decision::report::Report;
use crate::decision::retry::Kind;
use crate::decision::units::Timestamp;
use crate::http::Framing;
use crate::http::field::Role;
use crate::http::grpc;
use crate::http::request::RequestHead;
use crate::http::response::{RequestKind, ResponseHead};
use crate::l7::client::{Reply, Response};
use crate::l7::outbound::{Incoming, RelayEnd};
use crate::refusal::Refusal;
use crate::rejected::rejected;
use crate::telemetry::results::{Aborted, HedgeResult};
use std::cell::Cell;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

/// The most interim responses in one exchange.
const INTERIM_MAX: usize = 16;

/// The next step for the cluster's connection.
#[derive(Clone, Copy)]
pub(super) enum Next {
    Keep,
    Close,
    Tunnel,
    /// The response is slow: a hedge was granted and follows.
    Slow,
    /// The pending primary answered first.
    Overtaken,
}

/// The state of the response during the upload of the request.
pub(super) struct Answering<'a, 'v, U, I, R> {
    pub(super) attempt: &'a Attempt<'a, 'v>,
    pub(super) both: Both<'a, U>,
    pub(super) incoming: &'a mut I,
    pub(super) head: &'a mut ResponseHead,
    pub(super) request: &'a RequestHead,
    pub(super) request_kind: RequestKind<'a>,
    pub(super) response: &'a mut R,
    /// The bytes of the request that are kept for a retry.
    pub(super) kept: &'a Cell<Replay>,
    pub(super) record: &'a mut Record,
    pub(super) slot: &'a InSlot<'a>,
    /// Interim responses so far.
    pub(super) interims: usize,
}

impl<'v, U: Future<Output = ()>, I: Incoming, R: Response> Answering<'_, 'v, U, I, R> {
    /// Handles the response: interim responses, head, and body.
    pub(super) async fn respond(&mut self) -> Result<Next, Failure> {
        let begun = self.attempt.resumed.unwrap_or_else(|| self.attempt.worker.now());
        let mut primary = PrimaryGuard::of(self.attempt.primary_slot);
        if !self.both.progress.open.get() {
            // Boxed: most requests have no Expect field.
            let (incoming, response) = (&mut *self.incoming, &mut *self.response);
            Box::pin(super::expect::settle(&mut self.both, incoming, response)).await?;
        }
        // Pinned here and below: a future awaited by value would be moved.
        let end = match pin!(self.await_head(&mut primary)).await? {
            ControlFlow::Continue(end) => end,
            ControlFlow::Break(next) => return Ok(next),
        };
        self.judge(begun, &primary)?;
        let (worker, view) = (self.attempt.worker, self.attempt.view);
        self.record.hedges[HedgeResult::Won].add(u64::from(primary.give_up(worker, view)));
        let framing = self.head.framing;
        let (idle, encoding) = self.send_head(end);
        match encoding {
            None => pin!(self.relay(framing, idle)).await,
            // Boxed: most responses are not compressed.
            Some(encoding) => Box::pin(self.relay_encoded(framing, idle, encoding)).await,
        }
    }

    /// Waits for the final head and forwards interim responses; returns the end of the head in the received bytes.
    async fn await_head(
        &mut self,
        primary: &mut PrimaryGuard<'_, 'v>,
    ) -> Result<ControlFlow<Next, usize>, Failure> {
        let (attempt, progress) = (self.attempt, self.both.progress);
        loop {
            let waited = {
                let (incoming, head) = (&mut *self.incoming, &mut *self.head);
                // Pinned here: otherwise each outer future would be moved with it.
                let is_first = self.interims == 0;
                let reading =
                    pin!(read_head(attempt, progress, incoming, head, self.request_kind, is_first));
                let either = primary.beside(attempt.worker, attempt.view, reading);
                self.both.and(either, Phase::Waiting).await
            };
            let end = match waited {
                Err(()) => return Err(self.both.client_failure()),
                Ok(None) => return Ok(ControlFlow::Break(Next::Overtaken)),
                Ok(Some(Ok(Awaited::Slow))) => return Ok(ControlFlow::Break(Next::Slow)),
                Ok(Some(Ok(Awaited::Head(end)))) => end,
                Ok(Some(Err(error))) => return Err(self.no_head(error)),
            };
            if !self.head.is_interim() {
                return Ok(ControlFlow::Continue(end));
            }
            self.interims += 1;
            let won = primary.give_up(attempt.worker, attempt.view);
            self.record.hedges[HedgeResult::Won].add(u64::from(won));
            if self.interims > INTERIM_MAX {
                return Err(Failure::refuse(Refusal::UpstreamReset));
            }
            if self.head.status == 100 {
                progress.open_gate();
            }
            let bytes = self.incoming.bytes().get(..end).unwrap_or_default();
            let sent = self.response.interim(self.head, bytes).await;
            self.incoming.used(end);
            self.record.sent = self.response.sent();
            if sent.is_err() {
                return Err(Failure::OVER);
            }
        }
    }

    /// The failure when no head arrives.
    fn no_head(&self, error: NoResponse) -> Failure {
        let progress = self.both.progress;
        // There is no retry once the client has received an interim response.
        let is_untold = self.interims == 0;
        let again = match is_untold {
            true if progress.sent.get() == 0 => Again::Unsent,
            true if self.attempt.replaceable(progress) => Again::Replaceable,
            _ => Again::Never,
        };
        let error = match error {
            NoResponse::Refused if !is_untold => NoResponse::Closed { begun: true },
            other => other,
        };
        head_failure(error, again)
    }

    /// Learns from the head. A gateway status that may be retried is a failure.
    fn judge(&mut self, begun: Timestamp, primary: &PrimaryGuard<'_, 'v>) -> Result<(), Failure> {
        let (attempt, progress, status) = (self.attempt, self.both.progress, self.head.status);
        self.record.first_byte = Some(attempt.worker.now().since(begun));
        learn(attempt, progress, status, begun, self.slot);
        if matches!(status, 502..=504)
            && self.interims == 0
            && attempt.replaceable(progress)
            && (primary.waits() || (attempt.may_retry)(Kind::GatewayStatus))
        {
            // The client's refusal if no other endpoint can be tried, similar to the cluster's status.
            let refusal = match status {
                503 => Refusal::Overloaded,
                504 => Refusal::UpstreamTimeout,
                _ => Refusal::UpstreamReset,
            };
            return Err(Failure::granted(Kind::GatewayStatus, refusal));
        }
        Ok(())
    }

    /// Sends the head; returns the timeout between two bytes of the body, and the encoding of the body, if it gets one.
    fn send_head(&mut self, end: usize) -> (Duration, Option<Box<Encoding>>) {
        let (attempt, progress) = (self.attempt, self.both.progress);
        let is_complete = progress.complete.get().is_some();
        let mut extra = extra_lines(attempt, self.record);
        let bytes = self.incoming.bytes().get(..end).unwrap_or_default();
        hear(attempt, self.head, bytes);
        let encoding = attempt.compression.and_then(|compression| {
            let head = (&mut *self.head, bytes);
            compression::begin(compression, attempt, self.request, head, &mut extra)
        });
        self.record.status = self.head.status;
        // A drain may have begun meanwhile: only the head can still announce it.
        let keeps = is_complete && !attempt.worker.shared.is_draining();
        let reply = Reply {
            head: self.head,
            bytes,
            edits: attempt.response_edits,
            complete: keeps || self.head.upgrades,
            extra: &extra,
        };
        self.response.begin(&reply);
        progress.committed.set(true);
        drop(self.kept.take());
        let kind = self.head.value(bytes, Role::ContentType);
        let is_call = attempt.is_call && grpc::is_grpc(kind);
        let is_endless = kind.is_some_and(is_event_stream) || is_call;
        self.incoming.used(end);
        if is_endless {
            self.incoming.keep_alive();
            self.response.keep_alive();
        }
        (if is_endless { ENDLESS } else { attempt.stream_idle }, encoding)
    }

    /// Sends the body to its end.
    async fn relay(&mut self, framing: Framing, idle: Duration) -> Result<Next, Failure> {
        let edits = self.attempt.response_edits;
        let relayed = {
            let relaying = self.incoming.relay(framing, self.response, idle, edits);
            self.both.and(relaying, Phase::Answering).await
        };
        self.relayed(relayed)
    }

    /// Sends the body to its end, encoded.
    async fn relay_encoded(
        &mut self,
        framing: Framing,
        idle: Duration,
        encoding: Box<Encoding>,
    ) -> Result<Next, Failure> {
        let edits = self.attempt.response_edits;
        let relayed = {
            let mut response = Encoded::new(&mut *self.response, *encoding);
            let relaying = self.incoming.relay(framing, &mut response, idle, edits);
            self.both.and(relaying, Phase::Answering).await
        };
        self.relayed(relayed)
    }

    /// The next step after the body.
    fn relayed(&mut self, relayed: Result<Result<(), RelayEnd>, ()>) -> Result<Next, Failure> {
        self.record.sent = self.response.sent();
        match relayed {
            Ok(Ok(())) if self.head.upgrades => Ok(Next::Tunnel),
            Ok(Ok(())) => {
                let is_complete = self.both.progress.complete.get().is_some();
                let is_clean = self.head.keep_alive && is_complete && self.incoming.is_clean();
                Ok(if is_clean { Next::Keep } else { Next::Close })
            }
            // A partial response must not appear complete.
            Ok(Err(end @ (RelayEnd::Cluster | RelayEnd::Untaken))) => {
                if end == RelayEnd::Cluster {
                    self.attempt.blame(Cause::Reset);
                }
                self.record.aborted = Some(Aborted::Cluster);
                Err(Failure::OVER)
            }
            Ok(Err(RelayEnd::Client)) | Err(()) => Err(Failure::OVER),
        }
    }
}

/// Complete lines that the proxy adds to the response head.
fn extra_lines(attempt: &Attempt<'_, '_>, record: &Record) -> Vec<u8> {
    let mut extra = if attempt.explain { explanation(attempt) } else { Vec::new() };
    if attempt.edge {
        push_load(&mut extra, attempt);
    }
    extra.extend_from_slice(&record.answer_lines);
    extra.extend_from_slice(&record.cors_lines);
    if let Some(line) = &attempt.set_cookie {
        extra.extend_from_slice(line.as_bytes());
    }
    if let Some(port) = attempt.http3 {
        // RFC 7838, valid for a day.
        extra.extend_from_slice(format!("alt-svc: h3=\":{port}\"; ma=86400\r\n").as_bytes());
    }
    extra
}

/// Learns from a response: a failure, or the time since the cluster received the whole request. A response during
/// a slow upload shows neither.
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
        let took = now.since(progress.sent_at.get().map_or(begun, |sent| sent.max(begun)));
        slot.completed(took);
        attempt.selection.live.record(worker.id, took.as_secs_f64());
    }
}

/// Stores the cluster's load report in its slot, if reports are configured.
fn hear(attempt: &Attempt<'_, '_>, head: &ResponseHead, bytes: &[u8]) {
    let reports = attempt.view.plan.clusters[attempt.selection.cluster].reports;
    let report = Report::from_headers(reports, |name| head.tidegate_field(bytes, name));
    let Some(report) = report else { return };
    let slot = attempt.view.slots.slot(attempt.worker.id, attempt.class, attempt.selection.slot);
    if let Some(slot) = slot {
        slot.report.write(&report, attempt.worker.now());
    }
}

/// Adds `tidegate-load`: the load of this site's clusters for this class.
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

/// `tidegate-decision` for a trusted client that requested it.
fn explanation(attempt: &Attempt<'_, '_>) -> Vec<u8> {
    let (view, selection) = (attempt.view, attempt.selection);
    let cluster = &view.plan.clusters[selection.cluster].name;
    let rejected =
        rejected(view, attempt.class, Some((selection.cluster, selection.why))).join(",");
    let endpoint = &selection.signals(view).address;
    let reason = selection.why.label();
    let line = format!(
        "tidegate-decision: cluster={cluster}; endpoint={endpoint}; reason={reason}; rejected=\"{rejected}\"\r\n"
    );
    line.into_bytes()
}
