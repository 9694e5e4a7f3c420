//! `/api/v1/operations`: drills of a site and gradual shifts of a service. They run in the proxy; a client only begins
//! and follows them.
//!
//! [`run`] takes the figures of each second, and puts the step of the state machine ([`Operation`]) in force as a
//! temporary change. A change that is not extended for [`BLIND`] ends by itself.

mod kept;
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
pub(super) use kept::Operations;
pub use kept::{Keep, KeptReport};
use order::{Order, order};
use record::Record;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

type Shared = State<Arc<Backend>>;

/// The interval between two writes of the report of a running operation, beside those at each phase.
const STORE: Duration = Duration::from_secs(10);

/// Advances the running operation at each recorded second, until the process ends.
pub(super) async fn run(backend: Arc<Backend>) {
    let changes = backend.memory.operations.lock().take_changes();
    for change in changes {
        if let Keep::Write { id, report } = &change {
            let (id, kind, name) = (*id, report["kind"].as_str(), report["name"].as_str());
            tracing::warn!(id, kind, name, "operation {id} ended with the process that ran it");
        }
        (backend.keep)(change);
    }
    let mut stored = Timestamp::START;
    loop {
        let second = backend.memory.history.next().await;
        let view = backend.shared.view.load_full();
        let now = view.signals.at;
        let changed = {
            let mut all = backend.memory.operations.lock();
            let Some(record) = all.running() else { continue };
            let before = record.operation.phase();
            let seen = record.order.seen(&view, &second);
            record.observe(&seen, now, (backend.now)());
            let has_changed = record.operation.phase() != before;
            let is_due = now.since(stored) >= STORE;
            (has_changed || is_due).then(|| (has_changed, record.clone()))
        };
        put_in_force(&backend, now);
        if let Some((has_changed, record)) = changed {
            stored = now;
            match has_changed {
                true => tell(&backend, &record),
                false => store(&backend, record.id, record.full(backend.rfc3339)),
            }
        }
    }
}

/// Puts the step of the running operation in force, and extends it.
fn put_in_force(backend: &Arc<Backend>, now: Timestamp) {
    let newest = backend.memory.operations.lock().own_newest().cloned();
    let Some(record) = newest else { return };
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

/// Writes the report of an operation to `state_dir`.
fn store(backend: &Backend, id: u64, report: Value) {
    (backend.keep)(Keep::Write { id, report });
}

/// Reports and stores a change of phase; the end is counted, and also goes to the audit log.
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
    let report = record.full(backend.rfc3339);
    if let (Phase::Ended, Some(outcome)) = (operation.phase(), outcome) {
        backend.memory.operations.lock().count(&report);
        let message = match &cause {
            Some(cause) => format!("{}: {cause}", outcome.label()),
            None => outcome.label().to_owned(),
        };
        let (action, percent) = (order.label(), Some(operation.percent()));
        let ok = *outcome == Outcome::Done;
        remember(backend, who.clone(), Done { action, kind, name, percent, ok, message });
    }
    store(backend, *id, report);
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
    let (record, dropped) = {
        let mut all = backend.memory.operations.lock();
        if all.running().is_some() {
            return (StatusCode::CONFLICT, BUSY).into_response();
        }
        let id = all.next_id();
        let record = Record::new(id, order, operation, who, expected, (backend.now)());
        let dropped = all.push(record.clone());
        (record, dropped)
    };
    if let Some(id) = dropped {
        (backend.keep)(Keep::Remove { id });
    }
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
    Json(backend.memory.operations.lock().briefs())
}

fn find(backend: &Backend, id: &str) -> Option<Value> {
    let full = |record: &Record| record.full(backend.rfc3339);
    backend.memory.operations.lock().report(id.parse().ok()?, full)
}

fn unknown(id: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("no operation `{id}`\n")).into_response()
}

/// `GET /api/v1/operations/ID`: the report as JSON, also while the operation is running.
pub(super) async fn one(State(backend): Shared, Path(id): Path<String>) -> Response {
    match find(&backend, &id) {
        Some(report) => Json(report).into_response(),
        None => unknown(&id),
    }
}

/// `GET /api/v1/operations/ID/report`: the report as Markdown.
pub(super) async fn report(State(backend): Shared, Path(id): Path<String>) -> Response {
    match find(&backend, &id) {
        Some(report) => {
            let text = text::markdown(&report);
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response()
        }
        None => unknown(&id),
    }
}

/// `DELETE /api/v1/operations/ID`: aborts the operation; its traffic returns at once.
pub(super) async fn abort(State(backend): Shared, Path(id): Path<String>) -> Response {
    let now = backend.shared.view.load().signals.at;
    let found = id.parse().ok().and_then(|id| {
        let mut all = backend.memory.operations.lock();
        all.own(id).map(|record| {
            let before = record.operation.phase();
            record.operation.abort(now);
            (record.operation.phase() != before, record.clone())
        })
    });
    let Some((aborted, record)) = found else {
        // An operation of an earlier process has ended.
        return find(&backend, &id).map_or_else(|| unknown(&id), |past| Json(past).into_response());
    };
    if aborted {
        put_in_force(&backend, now);
        tell(&backend, &record);
    }
    Json(record.full(backend.rfc3339)).into_response()
}
