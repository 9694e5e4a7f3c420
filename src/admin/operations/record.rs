//! One operation with all that its report needs.

use super::order::{Order, Subject};
use crate::admin::audit::Who;
use crate::decision::operation::{Kind, Operation, Outcome, Phase, Seen, Sums, Watched};
use crate::decision::units::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The keys of an operation in brief.
pub(super) const BRIEF: [&str; 13] = [
    "id",
    "kind",
    "name",
    "from",
    "to",
    "start_percent",
    "target_percent",
    "percent",
    "phase",
    "outcome",
    "cause",
    "seconds",
    "seconds_left",
];

/// The most points of a course; above it, two points become one.
const POINTS_MAX: usize = 240;

/// A running or ended operation.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) order: Order,
    pub(super) operation: Operation,
    pub(super) who: Who,
    expected: Value,
    /// Since 1970.
    started_at: Duration,
    ended_at: Option<Duration>,
    course: Vec<Point>,
    /// Seconds of a point.
    each: f64,
}

/// The totals of all watched services in a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    /// Since the beginning, in seconds.
    at: f64,
    seconds: f64,
    percent: u8,
    /// Sums over the seconds.
    rate: f64,
    failed: f64,
    /// The greatest of all services, in seconds.
    p99: Option<f64>,
}

impl Point {
    fn add(&mut self, other: Point) {
        self.seconds += other.seconds;
        self.rate += other.rate;
        self.failed += other.failed;
        self.percent = other.percent;
        self.p99 = self.p99.into_iter().chain(other.p99).reduce(f64::max);
    }
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn ms(seconds: f64) -> f64 {
    tenth(seconds * 1e3)
}

fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 100.0
}

impl Record {
    pub(super) fn new(
        id: u64,
        order: Order,
        operation: Operation,
        who: Who,
        expected: Value,
        started_at: Duration,
    ) -> Record {
        let (ended_at, course, each) = (None, Vec::new(), 1.0);
        Record { id, order, operation, who, expected, started_at, ended_at, course, each }
    }

    pub(super) fn is_running(&self) -> bool {
        self.operation.phase() != Phase::Ended
    }

    /// Takes the figures of a second.
    pub(super) fn observe(&mut self, seen: &Seen, now: Timestamp, at: Duration) {
        self.operation.observe(seen, now);
        if !self.is_running() {
            self.ended_at.get_or_insert(at);
        }
        let services = || seen.services.values();
        let point = Point {
            at: self.operation.seconds(),
            seconds: 1.0,
            percent: self.operation.percent(),
            rate: services().map(|one| one.rate).sum(),
            failed: services().map(|one| one.failed).sum(),
            p99: services().filter_map(|one| one.p99).reduce(f64::max),
        };
        match self.course.last_mut() {
            Some(last) if last.seconds < self.each => last.add(point),
            Some(_) | None => self.course.push(point),
        }
        if self.course.len() > POINTS_MAX {
            self.each *= 2.0;
            let two = |two: &[Point]| {
                two.iter().copied().reduce(|mut a, b| {
                    a.add(b);
                    a
                })
            };
            self.course = self.course.chunks(2).filter_map(two).collect();
        }
    }

    /// Why the operation stopped, as a sentence.
    pub(super) fn cause(&self) -> Option<String> {
        match self.operation.outcome()? {
            Outcome::Stopped(cause) => Some(cause.sentence()),
            Outcome::Done | Outcome::Aborted => None,
        }
    }

    /// The state, for those who follow.
    pub(super) fn brief(&self) -> Value {
        let Record { operation, order, .. } = self;
        let (_, name) = order.named();
        let (from, to) = match &order.subject {
            Subject::Site(_) => (None, None),
            Subject::Service { from, to, .. } => (Some(from), Some(to)),
        };
        json!({
            "id": self.id,
            "kind": order.label(),
            "name": name,
            "from": from,
            "to": to,
            "start_percent": order.span.start,
            "target_percent": order.span.target,
            "percent": operation.percent(),
            "phase": operation.phase().label(),
            "outcome": operation.outcome().map(Outcome::label),
            "cause": self.cause(),
            "seconds": tenth(operation.seconds()),
            "seconds_left": tenth(operation.seconds_left()),
        })
    }

    /// The whole report.
    pub(super) fn full(&self, rfc3339: fn(Duration) -> String) -> Value {
        let seconds = match self.order.kind {
            Kind::Drill { lasts } => lasts.as_secs(),
            Kind::Shift { over } => over.as_secs(),
        };
        let service = |(name, watched): (&String, &Watched)| self.service(name, watched);
        let services: Vec<Value> = self.operation.services().iter().map(service).collect();
        let point = |point: &Point| {
            json!({
                "at_s": tenth(point.at),
                "percent": point.percent,
                "requests_per_s": tenth(point.rate / point.seconds.max(1.0)),
                "failed_per_s": tenth(point.failed / point.seconds.max(1.0)),
                "p99_ms": point.p99.map(ms),
            })
        };
        let mut full = self.brief();
        if let Some(object) = full.as_object_mut() {
            let more = json!({
                "by": self.who.name(),
                "started_at": rfc3339(self.started_at),
                "ended_at": self.ended_at.map(rfc3339),
                "duration_s": seconds,
                "forced": self.order.force,
                "max_errors_percent": percent(self.order.limits.errors),
                "expected": self.expected,
                "services": services,
                "course": self.course.iter().map(point).collect::<Vec<_>>(),
            });
            object.extend(more.as_object().cloned().unwrap_or_default());
        }
        full
    }

    fn service(&self, name: &str, watched: &Watched) -> Value {
        let sums = |sums: &Sums| {
            let to: BTreeMap<String, f64> =
                sums.to().into_iter().map(|(cluster, rate)| (cluster, tenth(rate))).collect();
            json!({
                "seconds": sums.seconds(),
                "requests_per_s": tenth(sums.rate()),
                "failed": sums.failed().round(),
                "failed_percent": percent(sums.failed_share()),
                "p99_ms": sums.p99().map(ms),
                "to": to,
            })
        };
        let expected = self.expected_of(name);
        let held = &watched.held;
        // An early end leaves nothing to compare with.
        let off = expected.as_ref().filter(|_| held.seconds() > 0.0).map(|expected| {
            let p99 = expected["p99_ms"].as_f64().filter(|p99| *p99 > 0.0).zip(held.p99());
            let rates = held.to();
            let to: BTreeMap<&String, f64> = expected["to"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(cluster, rate)| {
                    let seen = rates.get(cluster).copied().unwrap_or(0.0);
                    (cluster, tenth(seen - rate.as_f64().unwrap_or(0.0)))
                })
                .collect();
            json!({
                "p99_percent": p99.map(|(expected, seen)| tenth((seen * 1e3 / expected - 1.0) * 100.0)),
                "to": to,
            })
        });
        json!({
            "name": name,
            "p99_limit_ms": watched.p99_limit.map(ms),
            "before": sums(&watched.before),
            "moving": sums(&watched.moving),
            "held": sums(held),
            "after": sums(&watched.after),
            "expected": expected,
            "off": off,
        })
    }

    /// The expectation of a service: the sums over its classes, and the greatest p99.
    fn expected_of(&self, name: &str) -> Option<Value> {
        let all = self.expected["services"].as_array()?;
        let own: Vec<&Value> = all.iter().filter(|service| service["name"] == name).collect();
        if own.is_empty() {
            return None;
        }
        let figure =
            |key: &'static str| own.iter().filter_map(move |one| one["after"][key].as_f64());
        let mut to: BTreeMap<String, f64> = BTreeMap::new();
        for cluster in own.iter().flat_map(|one| one["clusters"].as_array().into_iter().flatten()) {
            let name = cluster["name"].as_str().unwrap_or_default().to_owned();
            *to.entry(name).or_default() += cluster["after_rps"].as_f64().unwrap_or(0.0);
        }
        Some(json!({
            "p99_ms": figure("p99_ms").reduce(f64::max),
            "refused_rps": tenth(figure("refused_rps").sum()),
            "to": to,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::operation::{Limits, Span};

    #[test]
    fn a_report_in_brief_has_exactly_the_keys_that_a_stored_one_is_reduced_to() {
        let limits = Limits { errors: 0.01, p99: None };
        let (kind, span) =
            (Kind::Drill { lasts: Duration::from_secs(5) }, Span { start: 0, target: 100 });
        let subject = Subject::Site("idc".to_owned());
        let order = Order { subject, kind, span, limits, force: false };
        let operation = Operation::new(kind, span, limits, BTreeMap::new(), Timestamp::START);
        let record = Record::new(1, order, operation, Who::default(), Value::Null, Duration::ZERO);

        let (brief, full) = (record.brief(), record.full(|_| String::new()));

        let keys: Vec<&String> = brief.as_object().unwrap().keys().collect();
        let mut all = BRIEF;
        all.sort_unstable();
        assert_eq!(keys, all);
        assert!(BRIEF.iter().all(|key| full.get(*key) == brief.get(*key)));
    }
}
