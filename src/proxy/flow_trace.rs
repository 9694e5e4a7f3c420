//! The spans of a traced L4 connection: one for the connection, and below it those of its decisions and attempts.
//!
//! A connection carries no `traceparent`, so a new trace begins, and `sample_ratio` decides. The spans hold names: a
//! connection may last for days, and its view is freed earlier. They go to the exporter when the connection ends.
//!
//! # Not here
//! HTTP exchanges (`l7::exchange::trace`). UDP flows have no spans.

use super::refusal::Refusal;
use super::rejected::rejected;
use super::selection::Selection;
use super::worker::Worker;
use crate::decision::plan::ClassIndex;
use crate::decision::units::Timestamp;
use crate::os::clock;
use crate::shared::View;
use crate::shared::trace::{
    AttemptSpan, DecisionSpan, ExchangeSpan, Subject, Timing, Trace, new_ids, new_span,
};

/// The most attempts of a connection that have spans.
const STEPS_MAX: usize = 16;

/// The spans of a connection, while it lasts.
#[derive(Debug)]
pub struct FlowTrace {
    trace: u128,
    span: u64,
    deciding: Timestamp,
    steps: Vec<Step>,
}

/// A decision and the attempt that follows.
#[derive(Debug)]
struct Step {
    began: Timestamp,
    decided: Timestamp,
    decision: DecisionSpan,
    attempt: Option<AttemptSpan>,
    /// When the attempt failed; the last one ends with the connection.
    failed: Option<Timestamp>,
}

/// What the span of a connection shows of its result.
#[derive(Debug)]
pub struct Ended {
    /// When the connection was accepted.
    pub started: Timestamp,
    /// The fields of the connection's span, without times.
    pub span: ExchangeSpan,
}

/// Begins the spans of a connection, if a collector is configured and the connection is sampled.
#[must_use]
pub fn begin(worker: &Worker, view: &View) -> Option<Box<FlowTrace>> {
    let sampling = view.plan.sampling?;
    let (trace, span) = new_ids(&mut worker.dice.borrow_mut());
    let (deciding, steps) = (worker.now(), Vec::new());
    sampling.takes(trace).then(|| Box::new(FlowTrace { trace, span, deciding, steps }))
}

impl FlowTrace {
    /// A decision has selected this endpoint: its attempt begins.
    pub fn decided(
        &mut self,
        worker: &Worker,
        view: &View,
        class: ClassIndex,
        selection: &Selection,
    ) {
        let cluster = &view.plan.clusters[selection.cluster].name;
        let chosen = (selection.cluster, selection.why);
        let decision = DecisionSpan {
            cluster: Some((cluster.clone(), selection.why.label())),
            rejected: rejected(view, class, Some(chosen)),
            ..DecisionSpan::default()
        };
        let number = self.steps.iter().filter(|step| step.attempt.is_some()).count();
        let attempt = AttemptSpan {
            cluster: cluster.clone(),
            endpoint: selection.signals(view).address.to_string(),
            resend: u32::try_from(number).unwrap_or(u32::MAX),
            ..AttemptSpan::default()
        };
        self.step(worker, decision, Some(attempt));
    }

    /// A decision has selected no endpoint.
    pub fn undecided(&mut self, worker: &Worker, view: &View, class: ClassIndex, refusal: Refusal) {
        let (rejected, error) = (rejected(view, class, None), Some(refusal.label()));
        self.step(worker, DecisionSpan { rejected, error, ..DecisionSpan::default() }, None);
    }

    fn step(
        &mut self,
        worker: &Worker,
        mut decision: DecisionSpan,
        mut attempt: Option<AttemptSpan>,
    ) {
        let (began, decided) = (self.deciding, worker.now());
        if self.steps.len() < STEPS_MAX {
            let mut dice = worker.dice.borrow_mut();
            decision.timing.span = new_span(&mut dice);
            if let Some(attempt) = &mut attempt {
                attempt.timing.span = new_span(&mut dice);
            }
            self.steps.push(Step { began, decided, decision, attempt, failed: None });
        }
    }

    /// The last attempt has failed; the next decision begins.
    pub fn failed(&mut self, refusal: Refusal, now: Timestamp) {
        self.deciding = now;
        let last = self.steps.last_mut().filter(|step| step.failed.is_none());
        if let Some(step) = last
            && let Some(attempt) = &mut step.attempt
        {
            attempt.error = Some(refusal.label());
            step.failed = Some(now);
        }
    }

    /// Hands the spans of an ended connection to the exporter; drops and counts them if its queue is full.
    pub fn send(self, worker: &Worker, ended: Ended) {
        let (now, since_epoch) = (worker.now(), clock::since_epoch());
        let at = |moment: Timestamp| since_epoch.saturating_sub(now.since(moment));
        let timing = |span, start, end| Timing { span, start: at(start), end: at(end) };
        let FlowTrace { trace, span, steps, .. } = self;
        let Ended { started, span: mut exchange } = ended;
        exchange.timing = timing(span, started, now);
        let (mut decisions, mut attempts) = (Vec::with_capacity(steps.len()), Vec::new());
        for Step { began, decided, mut decision, attempt, failed } in steps {
            decision.timing = timing(decision.timing.span, began, decided);
            decisions.push(decision);
            if let Some(mut attempt) = attempt {
                attempt.timing = timing(attempt.timing.span, decided, failed.unwrap_or(now));
                attempts.push(attempt);
            }
        }
        debug_assert!(matches!(exchange.subject, Subject::Connection { .. }));
        worker.shared.export(Trace { trace, parent: None, exchange, decisions, attempts });
    }
}
