//! `/api/v1/operations`: drills of a site and gradual shifts of a service. They run in the proxy; a client only begins
//! and follows them.
//!
//! [`run`] takes the figures of each second, and puts the step of the state machine ([`Operation`]) in force as a
//! temporary change. A change that is not extended for [`BLIND`] ends by itself.

mod order;
mod record;
mod text;

use super::audit::{Done, Who, remember};
use super::expect::simulated;
use super::{Backend, Request};
use crate::decision::assess::Event;
use crate::decision::change::Temporary;
use crate::decision::operation::{BLIND, Operation, Outcome, Phase};
use crate::decision::units::Timestamp;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use order::{Order, order};
use record::Record;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

type Shared = State<Arc<Backend>>;

/// The number of operations that are kept.
const KEPT: usize = 20;

/// The last operations, the newest last; only that one may be running.
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<VecDeque<Record>>);

impl Operations {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest operation, in brief.
    pub(super) fn newest(&self) -> Option<Value> {
        self.lock().back().map(Record::brief)
    }

    fn is_running(&self) -> bool {
        self.lock().back().is_some_and(Record::is_running)
    }
}

/// Advances the running operation at each recorded second, until the process ends.
pub(super) async fn run(backend: Arc<Backend>) {
    loop {
        let second = backend.memory.history.next().await;
        let view = backend.shared.view.load_full();
        let now = view.signals.at;
        let changed = {
            let mut all = backend.memory.operations.lock();
            let Some(record) = all.back_mut().filter(|record| record.is_running()) else {
                continue;
            };
            let before = record.operation.phase();
            let seen = record.order.seen(&view, &second);
            record.observe(&seen, now, (backend.now)());
            (record.operation.phase() != before).then(|| record.clone())
        };
        put_in_force(&backend, now);
        if let Some(record) = changed {
            tell(&backend, &record);
        }
    }
}

/// Puts the step of the running operation in force, and extends it.
fn put_in_force(backend: &Arc<Backend>, now: Timestamp) {
    let Some(record) = backend.memory.operations.lock().back().cloned() else { return };
    let Record { operation, order, .. } = &record;
    let temporary = match operation.phase() {
        Phase::Baseline => return,
        Phase::Moving | Phase::Held => {
            let change = order.change(operation.percent());
            Some(Temporary { change, until: now.plus(BLIND) })
        }
        Phase::Ended if operation.stays() => {
            keep(backend, order.clone(), operation.percent());
            return;
        }
        Phase::Returning | Phase::Ended => None,
    };
    send(backend, temporary);
}

fn send(backend: &Backend, temporary: Option<Temporary>) {
    if backend.shared.events.try_send(Event::Temporary(temporary)).is_err() {
        tracing::warn!("step of an operation not sent: the queue of the control thread is full");
    }
}

/// Makes a shift that is done the operator's, and then ends the temporary one.
fn keep(backend: &Arc<Backend>, order: Order, percent: u8) {
    let backend = backend.clone();
    tokio::spawn(async move {
        let (_, name) = order.named();
        let (service, shift) = (name.to_owned(), order.shift(percent));
        let (done, answer) = oneshot::channel();
        let request = Request::Dial(Event::Shift { service, shift }, done);
        let sent = backend.requests.send(request).await.is_ok();
        match answer.await {
            Ok(Ok(())) if sent => {}
            Ok(Err(message)) => {
                tracing::warn!(message, "shift in force, but not stored: {message}")
            }
            Ok(Ok(())) | Err(_) => tracing::error!("shift not kept: the server is stopping"),
        }
        send(&backend, None);
    });
}

/// Reports a change of phase; the end also goes to the audit log.
fn tell(backend: &Backend, record: &Record) {
    let Record { operation, order, id, who, .. } = record;
    let (kind, name) = order.named();
    let outcome = operation.outcome();
    let cause = record.cause();
    backend.tell(json!({
        "kind": order.label(),
        "id": id,
        "name": name,
        "phase": operation.phase().label(),
        "outcome": outcome.map(Outcome::label),
        "cause": cause,
        "percent": operation.percent(),
    }));
    if let (Phase::Ended, Some(outcome)) = (operation.phase(), outcome) {
        let message = match &cause {
            Some(cause) => format!("{}: {cause}", outcome.label()),
            None => outcome.label().to_owned(),
        };
        let (action, percent) = (order.label(), Some(operation.percent()));
        let ok = *outcome == Outcome::Done;
        remember(backend, who.clone(), Done { action, kind, name, percent, ok, message });
    }
}

/// `POST /api/v1/operations`: begins a drill or a shift.
pub(super) async fn begin(State(backend): Shared, who: Who, body: axum::body::Bytes) -> Response {
    const BUSY: &str = "another operation is running: GET /api/v1/operations\n";
    let view = backend.shared.view.load_full();
    let order = match order(&body, &view) {
        Ok(order) => order,
        Err(refusal) => return refusal.into_response(),
    };
    if backend.memory.operations.is_running() {
        return (StatusCode::CONFLICT, BUSY).into_response();
    }
    let stuck = order.nowhere(&view).map(|service| format!("{service}: no other cluster is up"));
    let Some(asked) = order.asked(&view.plan) else {
        return (StatusCode::NOT_FOUND, "the service is gone\n").into_response();
    };
    let expected = match simulated(&backend, asked).await {
        Ok(expected) => expected,
        Err(answer) => return answer,
    };
    if let Some(refusal) = stuck.or_else(|| overload(&expected, &order)).filter(|_| !order.force) {
        let body = Json(json!({"refusal": refusal, "expected": expected}));
        return (StatusCode::UNPROCESSABLE_ENTITY, body).into_response();
    }
    let now = backend.shared.view.load().signals.at;
    let p99 = p99_of(&expected);
    let operation = Operation::new(order.kind, order.span, order.limits, p99, now);
    let record = {
        let mut all = backend.memory.operations.lock();
        if all.back().is_some_and(Record::is_running) {
            return (StatusCode::CONFLICT, BUSY).into_response();
        }
        let id = all.back().map_or(1, |last| last.id + 1);
        if all.len() == KEPT {
            all.pop_front();
        }
        let record = Record::new(id, order, operation, who, expected, (backend.now)());
        all.push_back(record.clone());
        record
    };
    let (kind, name) = record.order.named();
    let (action, percent) = (record.order.label(), Some(record.order.span.target));
    let message = format!("begins, operation {}", record.id);
    let done = Done { action, kind, name, percent, ok: true, message };
    remember(&backend, record.who.clone(), done);
    tell(&backend, &record);
    (StatusCode::ACCEPTED, Json(record.full(backend.rfc3339))).into_response()
}

/// Why the other clusters are not expected to carry the traffic.
fn overload(expected: &Value, order: &Order) -> Option<String> {
    let services = expected["services"].as_array()?;
    services.iter().find_map(|service| {
        let figure = |when: &str, key: &str| service[when][key].as_f64().unwrap_or(0.0);
        let more = figure("after", "refused_rps") - figure("now", "refused_rps");
        let demand = service["demand_rps"].as_f64().unwrap_or(0.0);
        let name = service["name"].as_str().unwrap_or_default();
        if more > (order.limits.errors * demand).max(0.5) {
            return Some(format!("{name}: {more:.1} requests/s are expected to be refused"));
        }
        let (p99, limit) = (figure("after", "p99_ms"), order.limits.p99? * 1e3);
        (p99 > limit)
            .then(|| format!("{name}: the expected p99 is {p99:.0} ms (limit {limit:.0} ms)"))
    })
}

/// The expected 99th percentile of each service, in seconds: the greatest of its classes.
fn p99_of(expected: &Value) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for service in expected["services"].as_array().into_iter().flatten() {
        let (name, ms) = (service["name"].as_str(), service["after"]["p99_ms"].as_f64());
        if let Some((name, ms)) = name.zip(ms) {
            let known = all.entry(name.to_owned()).or_insert(0.0_f64);
            *known = known.max(ms / 1e3);
        }
    }
    all
}

/// `GET /api/v1/operations`: the last operations in brief, the newest first.
pub(super) async fn list(State(backend): Shared) -> Json<Value> {
    let all = backend.memory.operations.lock();
    Json(all.iter().rev().map(Record::brief).collect())
}

fn find(backend: &Backend, id: &str) -> Option<Record> {
    let id: u64 = id.parse().ok()?;
    backend.memory.operations.lock().iter().find(|record| record.id == id).cloned()
}

fn unknown(id: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("no operation `{id}`\n")).into_response()
}

/// `GET /api/v1/operations/ID`: the report as JSON, also while the operation is running.
pub(super) async fn one(State(backend): Shared, Path(id): Path<String>) -> Response {
    match find(&backend, &id) {
        Some(record) => Json(record.full(backend.rfc3339)).into_response(),
        None => unknown(&id),
    }
}

/// `GET /api/v1/operations/ID/report`: the report as Markdown.
pub(super) async fn report(State(backend): Shared, Path(id): Path<String>) -> Response {
    match find(&backend, &id) {
        Some(record) => {
            let text = text::markdown(&record.full(backend.rfc3339));
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response()
        }
        None => unknown(&id),
    }
}

/// `DELETE /api/v1/operations/ID`: aborts the operation; its traffic returns at once.
pub(super) async fn abort(State(backend): Shared, Path(id): Path<String>) -> Response {
    let now = backend.shared.view.load().signals.at;
    let found = {
        let mut all = backend.memory.operations.lock();
        let found = all.iter_mut().find(|record| record.id.to_string() == id);
        found.map(|record| {
            let before = record.operation.phase();
            record.operation.abort(now);
            (record.operation.phase() != before, record.clone())
        })
    };
    let Some((aborted, record)) = found else { return unknown(&id) };
    if aborted {
        put_in_force(&backend, now);
        tell(&backend, &record);
    }
    Json(record.full(backend.rfc3339)).into_response()
}
