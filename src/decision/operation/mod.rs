//! Operations: a drill of a site, and a gradual shift of a service, as a state machine in steps of about a second.
//!
//! ```text
//!   Baseline ----> Moving ----> Held ----> Returning ----> Ended       a drill
//!      |              |           |  `---------------------> Ended     a shift that reached its target stays in force
//!      |              |           |            ^
//!      |              `-----------+------------'  stopped: errors or latency rise, no figures, nowhere to go; aborted
//!      `----------------------------------------> Ended   stopped or aborted before anything moved
//! ```
//!
//! [`Operation::observe`] takes the figures of a second. [`Operation::percent`] is the part of the traffic that is away
//! at that moment. The caller puts it in force as a temporary change that ends by itself; so nothing stays moved when the
//! caller ends.
//!
//! # Invariants
//! * Every operation ends: each phase has a deadline, and a gap without figures stops the operation.
//! * After a stop or an abort, [`percent`](Operation::percent) is what it was before the operation.

mod figures;
mod guard;

pub use figures::{OfService, Seen, Sums, Watched};
pub use guard::{Cause, Limits};

use super::units::Timestamp;
use guard::Guard;
use std::collections::BTreeMap;
use std::time::Duration;

/// For how long figures are collected before anything moves.
pub const BASELINE: Duration = Duration::from_secs(5);
/// For how long the traffic may settle after the dial of a drill has moved, at most a quarter of the drill.
const SETTLE: Duration = Duration::from_secs(2);
/// For how long a shift is watched at its target before it ends.
pub const HOLD: Duration = Duration::from_secs(10);
/// For how long figures are collected after the return.
pub const RETURN: Duration = Duration::from_secs(5);
/// The longest gap between the figures of two seconds. A temporary change must not last longer without an extension.
pub const BLIND: Duration = Duration::from_secs(5);

/// What an operation moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// All at once, for this time, and back.
    Drill {
        /// Without the baseline and the return.
        lasts: Duration,
    },
    /// Gradually within this time. It stays.
    Shift {
        /// From the first step to the target.
        over: Duration,
    },
}

/// The part of the traffic that is away, in percent, before and after the operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// Before it, and after a stop or an abort.
    pub start: u8,
    /// At its height, and after a shift that is done.
    pub target: u8,
}

/// The state of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Figures are collected; nothing has moved yet.
    Baseline,
    /// The traffic moves.
    Moving,
    /// The traffic is where it should be.
    Held,
    /// The traffic is back; figures are collected.
    Returning,
    /// The operation is over.
    Ended,
}

impl Phase {
    /// The word in the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Phase::Baseline => "baseline",
            Phase::Moving => "moving",
            Phase::Held => "held",
            Phase::Returning => "returning",
            Phase::Ended => "ended",
        }
    }
}

/// How an operation ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// As planned.
    Done,
    /// By itself, and early.
    Stopped(Cause),
    /// By an operator.
    Aborted,
}

impl Outcome {
    /// The word in the API.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Stopped(_) => "stopped",
            Outcome::Aborted => "aborted",
        }
    }
}

/// A running or ended operation.
#[derive(Clone, Debug)]
pub struct Operation {
    kind: Kind,
    span: Span,
    phase: Phase,
    outcome: Option<Outcome>,
    started: Timestamp,
    /// When the phase began.
    since: Timestamp,
    /// The moment of the last figures.
    seen: Timestamp,
    percent: u8,
    guard: Guard,
}

impl Operation {
    /// An operation that begins now. `expected` has the expected 99th percentile of services, in seconds.
    #[must_use]
    pub fn new(
        kind: Kind,
        span: Span,
        limits: Limits,
        expected: BTreeMap<String, f64>,
        now: Timestamp,
    ) -> Operation {
        Operation {
            kind,
            span,
            phase: Phase::Baseline,
            outcome: None,
            started: now,
            since: now,
            seen: now,
            percent: span.start,
            guard: Guard::new(limits, expected),
        }
    }

    /// Takes the figures of about a second, and takes the next step.
    pub fn observe(&mut self, seen: &Seen, now: Timestamp) {
        let gap = now.since(self.seen);
        self.seen = now;
        self.guard.add(self.phase, seen);
        match self.phase {
            Phase::Ended => {}
            Phase::Baseline if now.since(self.since) >= BASELINE => {
                match self.guard.begin().or(nowhere(seen)) {
                    Some(cause) => self.finish(Outcome::Stopped(cause), now),
                    None => self.enter(Phase::Moving, now),
                }
            }
            Phase::Baseline => {}
            Phase::Moving | Phase::Held => {
                let blind = (gap > BLIND).then_some(Cause::Blind);
                match blind.or(nowhere(seen)).or_else(|| self.guard.judge()) {
                    Some(cause) => self.finish(Outcome::Stopped(cause), now),
                    None => self.advance(now),
                }
            }
            Phase::Returning if now.since(self.since) >= RETURN => self.enter(Phase::Ended, now),
            Phase::Returning => {}
        }
        self.percent = self.percent_at(now);
    }

    /// Ends the operation early: the traffic returns at once. Without effect once the traffic is back.
    pub fn abort(&mut self, now: Timestamp) {
        if matches!(self.phase, Phase::Baseline | Phase::Moving | Phase::Held) {
            self.finish(Outcome::Aborted, now);
            self.percent = self.percent_at(now);
        }
    }

    fn advance(&mut self, now: Timestamp) {
        let (moving, held) = self.durations();
        let over = now.since(self.since);
        match self.phase {
            Phase::Moving if over >= moving => self.enter(Phase::Held, now),
            Phase::Held if over >= held => self.finish(Outcome::Done, now),
            _ => {}
        }
    }

    /// The durations of the phases `Moving` and `Held`.
    fn durations(&self) -> (Duration, Duration) {
        match self.kind {
            Kind::Drill { lasts } => {
                let settle = SETTLE.min(lasts / 4);
                (settle, lasts.saturating_sub(settle))
            }
            Kind::Shift { over } => (over, HOLD),
        }
    }

    /// Sets the outcome. What has moved returns, unless it is a shift that is done.
    fn finish(&mut self, outcome: Outcome, now: Timestamp) {
        let stays = matches!((&outcome, self.kind), (Outcome::Done, Kind::Shift { .. }));
        let moved = self.phase != Phase::Baseline;
        self.outcome = Some(outcome);
        self.enter(if moved && !stays { Phase::Returning } else { Phase::Ended }, now);
    }

    fn enter(&mut self, phase: Phase, now: Timestamp) {
        (self.phase, self.since) = (phase, now);
    }

    fn percent_at(&self, now: Timestamp) -> u8 {
        let Span { start, target } = self.span;
        match (self.phase, self.kind) {
            (Phase::Baseline | Phase::Returning, _) => start,
            (Phase::Ended, _) => {
                if self.stays() {
                    target
                } else {
                    start
                }
            }
            (Phase::Held, _) | (Phase::Moving, Kind::Drill { .. }) => target,
            (Phase::Moving, Kind::Shift { over }) => {
                let part = now.secs_since(self.since) / over.as_secs_f64().max(0.001);
                let (start, target) = (f64::from(start), f64::from(target));
                // The first step is taken at once.
                let moved = (target - start) * part.min(1.0);
                let step =
                    if moved.abs() < 1.0 { (target - start).signum() } else { moved.trunc() };
                (start + step).clamp(0.0, 100.0) as u8
            }
        }
    }

    /// The part of the traffic that is away now, in percent.
    #[must_use]
    pub fn percent(&self) -> u8 {
        self.percent
    }

    /// Whether the target stays in force: a shift that is done.
    #[must_use]
    pub fn stays(&self) -> bool {
        matches!((&self.outcome, self.kind), (Some(Outcome::Done), Kind::Shift { .. }))
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How the operation ended or will end, once decided.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Seconds from the beginning of the operation to the last figures.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seen.secs_since(self.started)
    }

    /// Seconds until the planned end, at most; 0 after the end.
    #[must_use]
    pub fn seconds_left(&self) -> f64 {
        let (moving, held) = self.durations();
        let after = if matches!(self.kind, Kind::Drill { .. }) { RETURN } else { Duration::ZERO };
        let whole = match self.phase {
            Phase::Baseline => BASELINE + moving + held + after,
            Phase::Moving => moving + held + after,
            Phase::Held => held + after,
            Phase::Returning => RETURN,
            Phase::Ended => Duration::ZERO,
        };
        whole.saturating_sub(self.seen.since(self.since)).as_secs_f64()
    }

    /// The figures of each service, by name, before, during and after.
    #[must_use]
    pub fn services(&self) -> &BTreeMap<String, Watched> {
        self.guard.services()
    }
}

fn nowhere(seen: &Seen) -> Option<Cause> {
    seen.nowhere.clone().map(Cause::Nowhere)
}

#[cfg(test)]
mod tests;
