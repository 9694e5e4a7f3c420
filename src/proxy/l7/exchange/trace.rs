//! The spans of a traced exchange, while it runs.
//!
//! [`begin`] decides whether an exchange is traced. Without a collector in the configuration this is one comparison;
//! an exchange that is not traced allocates nothing. At its end the spans go into one queue, and are dropped and
//! counted if the queue is full.
//!
//! # Not here
//! The exporter (`traces`), and the choice of the traces to record (`decision::traces`).

use super::failure::Failure;
use crate::decision::index::EndpointIndex;
use crate::decision::plan::{ClassIndex, ClusterIndex};
use crate::decision::retry::Kind;
use crate::decision::route::RouteIndex;
use crate::decision::signal::Why;
use crate::decision::units::{Dice, Timestamp};
use crate::http::field::Role;
use crate::http::request::RequestHead;
use crate::http::trace_parent::{TraceParent, believed};
use crate::l7::client::Client;
use crate::l7::connection_info::ConnectionInfo;
use crate::os::clock;
use crate::rejected::rejected;
use crate::shared::View;
use crate::shared::trace::{self, AttemptSpan, DecisionSpan, ExchangeSpan, Subject, Timing};
use crate::worker::Worker;

/// The most attempts of an exchange that have spans.
const STEPS_MAX: usize = 16;
/// Characters of a text of the client, at most.
const TEXT_MAX: usize = 512;

type Place = (ClusterIndex, EndpointIndex, Why);

/// The spans of a running exchange.
#[derive(Debug)]
pub struct Trace {
    subject: Subject,
    trace: u128,
    span: u64,
    parent: Option<u64>,
    deciding: Timestamp,
    steps: Vec<Step>,
    /// The index of the attempt that runs in the foreground; `None` if it has no span.
    running: Option<usize>,
}

/// A decision and the attempt that follows.
#[derive(Debug)]
struct Step {
    decision: u64,
    began: Timestamp,
    decided: Timestamp,
    attempt: Result<Attempted, &'static str>,
}

#[derive(Debug)]
struct Attempted {
    span: u64,
    place: Place,
    number: u32,
    end: Option<(Timestamp, AttemptEnd)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum AttemptEnd {
    Failed(&'static str),
    Cancelled,
}

/// What the span of an exchange shows of its result.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) started: Timestamp,
    pub(super) status: u16,
    pub(super) refusal: Option<&'static str>,
    pub(super) aborted: Option<&'static str>,
    pub(super) route: Option<RouteIndex>,
    pub(super) class: Option<ClassIndex>,
    pub(super) selection: Option<Place>,
    pub(super) attempts: u32,
    pub(super) request_id: String,
}

/// The ids of a new trace and of its first span.
pub(super) fn fresh(dice: &mut Dice) -> TraceParent {
    let (trace, span) = trace::new_ids(dice);
    TraceParent { trace, span, sampled: true }
}

/// Begins the spans of an exchange, if a collector is configured and the exchange is sampled: by its trusted client,
/// else by the ratio.
pub(super) fn begin(
    worker: &Worker,
    view: &View,
    head: &RequestHead,
    trusted: bool,
) -> Option<Box<Trace>> {
    let sampling = view.plan.sampling?;
    let new = fresh(&mut worker.dice.borrow_mut());
    let (trace, parent, sampled) = match believed(head, trusted) {
        Some((_, client)) => (client.trace, Some(client.span), client.sampled),
        None => (new.trace, None, sampling.takes(new.trace)),
    };
    sampled.then(|| Box::new(Trace::new(Subject::Exchange, (trace, new.span, parent))))
}

/// Begins the spans of a copy, below the span of its original.
pub(super) fn of_copy(worker: &Worker, original: TraceParent) -> Box<Trace> {
    let span = trace::new_span(&mut worker.dice.borrow_mut());
    Box::new(Trace::new(Subject::Copy, (original.trace, span, Some(original.span))))
}

impl Trace {
    fn new(subject: Subject, (trace, span, parent): (u128, u64, Option<u64>)) -> Trace {
        let (deciding, steps, running) = (Timestamp::START, Vec::new(), None);
        Trace { subject, trace, span, parent, deciding, steps, running }
    }

    /// The span of the exchange, as the parent of others.
    pub(super) fn exchange(&self) -> TraceParent {
        TraceParent { trace: self.trace, span: self.span, sampled: true }
    }

    /// The span of the running attempt, as the parent of the cluster's spans.
    pub(super) fn attempt(&self) -> TraceParent {
        let step = self.running.and_then(|index| self.steps.get(index));
        let attempt = step.and_then(|step| step.attempt.as_ref().ok());
        TraceParent { span: attempt.map_or(self.span, |attempt| attempt.span), ..self.exchange() }
    }

    /// A decision begins.
    pub(super) fn decides(&mut self, now: Timestamp) {
        self.deciding = now;
    }

    /// A decision has selected this place: its attempt begins.
    pub(super) fn decided(&mut self, worker: &Worker, place: Place) {
        let number = self.steps.iter().filter(|step| step.attempt.is_ok()).count();
        let span = trace::new_span(&mut worker.dice.borrow_mut());
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.step(worker, Ok(Attempted { span, place, number, end: None }));
    }

    /// A decision has selected no endpoint.
    pub(super) fn undecided(&mut self, worker: &Worker, failure: Failure) {
        self.step(worker, Err(error(failure)));
    }

    fn step(&mut self, worker: &Worker, attempt: Result<Attempted, &'static str>) {
        let has_room = self.steps.len() < STEPS_MAX;
        self.running = (has_room && attempt.is_ok()).then_some(self.steps.len());
        if has_room {
            let decision = trace::new_span(&mut worker.dice.borrow_mut());
            let (began, decided) = (self.deciding, worker.now());
            self.steps.push(Step { decision, began, decided, attempt });
        }
    }

    /// The pending primary runs in the foreground again: the last attempt without an end.
    pub(super) fn resumes(&mut self) {
        let is_open = |step: &Step| step.attempt.as_ref().is_ok_and(|one| one.end.is_none());
        self.running = self.steps.iter().rposition(is_open);
    }

    /// The running attempt has failed.
    pub(super) fn failed(&mut self, failure: Failure, now: Timestamp) {
        self.end(AttemptEnd::Failed(error(failure)), now);
    }

    /// The running attempt was cancelled, because the pending primary has answered.
    pub(super) fn overtaken(&mut self, now: Timestamp) {
        self.end(AttemptEnd::Cancelled, now);
    }

    fn end(&mut self, end: AttemptEnd, now: Timestamp) {
        let step = self.running.take().and_then(|index| self.steps.get_mut(index));
        if let Some(Ok(attempt)) = step.map(|step| &mut step.attempt) {
            attempt.end = Some((now, end));
        }
    }

    /// Hands the spans of an ended exchange to the exporter; drops and counts them if its queue is full.
    pub(super) fn send<C: Client>(
        &self,
        worker: &Worker,
        view: &View,
        client: &C,
        info: &ConnectionInfo,
        facts: &Facts,
    ) {
        let (now, since_epoch) = (worker.now(), clock::since_epoch());
        let at = |moment: Timestamp| since_epoch.saturating_sub(now.since(moment));
        let timing = |span, start, end| Timing { span, start: at(start), end: at(end) };
        let decisions = self.steps.iter().map(|step| {
            let timing = timing(step.decision, step.began, step.decided);
            decision_span(view, facts, timing, &step.attempt)
        });
        let attempts = self.steps.iter().enumerate().filter_map(|(index, step)| {
            let attempt = step.attempt.as_ref().ok()?;
            let end = attempt.end.map_or(now, |(end, _)| end);
            let timing = timing(attempt.span, step.decided, end);
            Some(attempt_span(view, facts, timing, attempt, self.running == Some(index)))
        });
        let timing = timing(self.span, facts.started, now);
        let trace = trace::Trace {
            trace: self.trace,
            parent: self.parent,
            decisions: decisions.collect(),
            attempts: attempts.collect(),
            exchange: ExchangeSpan {
                subject: self.subject,
                ..exchange_span(view, client, info, facts, timing)
            },
        };
        worker.shared.export(trace);
    }
}

/// The name of a failure.
fn error(failure: Failure) -> &'static str {
    match (failure.kind(), failure.refusal()) {
        (Some(Kind::GatewayStatus), _) => "gateway_status",
        (Some(Kind::Ejected), _) => "ejected",
        (_, Some(refusal)) => refusal.label(),
        (_, None) => "aborted",
    }
}

fn exchange_span<C: Client>(
    view: &View,
    client: &C,
    info: &ConnectionInfo,
    facts: &Facts,
    timing: Timing,
) -> ExchangeSpan {
    let head = client.head();
    let agent = head.value(Role::UserAgent).unwrap_or_default();
    let service = facts.class.map(|class| &view.plan.service_of(class).name);
    ExchangeSpan {
        timing,
        subject: Subject::default(),
        method: cut(head.method()),
        scheme: info.scheme(),
        host: cut(head.authority()),
        // A query may contain secrets.
        path: cut(head.target().path()),
        protocol: client.protocol(),
        client: info.client(head).to_string(),
        user_agent: cut(&String::from_utf8_lossy(agent)),
        request_id: cut(&facts.request_id),
        listener: info.terms.name.clone(),
        route: facts.route.map_or(String::new(), |at| view.plan.routes.route(at).name.clone()),
        service: service.cloned().unwrap_or_default(),
        cluster: facts.selection.map_or((String::new(), ""), |(cluster, _, why)| {
            (view.plan.clusters[cluster].name.clone(), why.label())
        }),
        status: facts.status,
        refusal: facts.refusal,
        aborted: facts.aborted,
        attempts: facts.attempts,
    }
}

fn decision_span(
    view: &View,
    facts: &Facts,
    timing: Timing,
    attempt: &Result<Attempted, &'static str>,
) -> DecisionSpan {
    let chosen = attempt.as_ref().ok().map(|attempt| (attempt.place.0, attempt.place.2));
    DecisionSpan {
        timing,
        cluster: chosen
            .map(|(cluster, why)| (view.plan.clusters[cluster].name.clone(), why.label())),
        rejected: facts.class.map_or(Vec::new(), |class| rejected(view, class, chosen)),
        error: attempt.as_ref().err().copied(),
    }
}

fn attempt_span(
    view: &View,
    facts: &Facts,
    timing: Timing,
    attempt: &Attempted,
    is_last: bool,
) -> AttemptSpan {
    let (cluster, endpoint, _) = attempt.place;
    let endpoint = view.signals.clusters[cluster].endpoints.get(endpoint);
    let (status, error, is_cancelled) = match attempt.end {
        Some((_, AttemptEnd::Failed(error))) => (0, Some(error), false),
        Some((_, AttemptEnd::Cancelled)) => (0, None, true),
        None if !is_last => (0, None, true),
        // Without a refusal, the status is the cluster's.
        None => match facts.refusal {
            Some(refusal) => (0, Some(refusal), false),
            None => (facts.status, facts.aborted, false),
        },
    };
    AttemptSpan {
        timing,
        cluster: view.plan.clusters[cluster].name.clone(),
        endpoint: endpoint.map_or(String::new(), |endpoint| endpoint.address.to_string()),
        resend: attempt.number,
        status,
        error,
        is_cancelled,
    }
}

/// At most [`TEXT_MAX`] characters of a text of the client.
fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
