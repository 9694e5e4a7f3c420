//! The answers of the admin API, derived from the view that the workers read.

use super::audit::{Done, Who, remember};
use super::{Backend, Request, picture};
use crate::decision::assess::Event;
use crate::decision::headroom::headroom;
use crate::decision::plan::Listener;
use crate::shared::View;
use crate::telemetry::metrics::{self, Scrape};
use crate::tls::certificate::Certificate;
use crate::tls::server::Secured;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

type Shared = State<Arc<Backend>>;

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// What `/readyz` is asked about.
#[derive(Deserialize)]
pub(super) struct ReadyQuery {
    service: Option<String>,
    /// The least headroom of the service, in percent.
    headroom: Option<u8>,
}

/// The field of a response about a service.
const HEADROOM: HeaderName = HeaderName::from_static("tidegate-headroom");

pub(super) async fn readyz(
    State(backend): Shared,
    Query(ReadyQuery { service, headroom: least }): Query<ReadyQuery>,
) -> Response {
    let view = backend.shared.view.load();
    let asked = service.map(|name| {
        let index = view.plan.services.find(|service| service.name == name);
        index.ok_or_else(|| format!("no service `{name}`\n"))
    });
    let asked = match asked.transpose() {
        Ok(asked) => asked,
        Err(unknown) => return (StatusCode::NOT_FOUND, unknown).into_response(),
    };
    let not_ready = match () {
        () if backend.shared.is_draining() => Some("draining\n"),
        () if !backend.shared.ready.load(Ordering::Relaxed) => {
            Some("starting: the first probes are not complete\n")
        }
        () => None,
    };
    let Some(service) = asked else {
        return match not_ready {
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
            None => ready(&view).into_response(),
        };
    };
    let in_flight = |cluster| view.clusters.get(cluster).map_or(0, |live| live.in_flight.get());
    let found = headroom(&view.plan, &view.signals, service, in_flight);
    let (status, percent, text) = match not_ready {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, 0, why.to_owned()),
        None if !found.servable => {
            (StatusCode::SERVICE_UNAVAILABLE, 0, "no permitted cluster is live\n".to_owned())
        }
        None => {
            let enough = found.percent >= least.unwrap_or(0);
            let status = if enough { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let word = if enough { "ready" } else { "busy" };
            (status, found.percent, format!("{word}: headroom {} %\n", found.percent))
        }
    };
    (status, [(HEADROOM, percent.to_string())], text).into_response()
}

/// The text of a proxy that is ready, with the names that have no certificate yet. It is ready nevertheless: a load
/// balancer that left it out would keep the authority's question from it, and the name would never get a certificate.
fn ready(view: &View) -> String {
    let mut text = "ready\n".to_owned();
    for (listener, names) in pending(view) {
        for name in names {
            text.push_str(&format!("listener {listener}: no certificate for {name} yet\n"));
        }
    }
    text
}

pub(super) async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "not found: GET / lists all paths\n")
}

pub(super) async fn not_here() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "this address has /metrics, /livez, /readyz and /healthz alone\n")
}

pub(super) async fn index() -> &'static str {
    "Tidegate admin\n\n\
     GET  /livez /readyz /readyz?service=NAME&headroom=PERCENT /healthz /metrics\n\
     GET  /api/v1/status /api/v1/clusters /api/v1/clusters/NAME /api/v1/services /api/v1/cost /api/v1/config /api/v1/config/diff\n\
     GET  /api/v1/explain?host=&path=&query=&method=&header=NAME:VALUE&client=&listener=\n\
     GET  /api/v1/expect?kind=clusters|sites&name=&percent= (kind=services: &from=&to=)\n\
     GET  /api/v1/decisions /api/v1/why/REQUEST_ID /api/v1/events /api/v1/audit /api/v1/fleet\n\
     GET  /api/v1/history?range=10m|1h|24h&service=&cluster=&figures=&points=\n\
     POST /api/v1/reload /api/v1/token\n\
     POST /api/v1/clusters/NAME/drain /api/v1/clusters/NAME/undrain (also sites)\n\
     PUT  /api/v1/clusters/NAME/dial {\"percent\": 50}, DELETE removes it (also sites)\n\
     POST /api/v1/services/NAME/undrain removes the shift of a service\n\
     GET  /api/v1/operations /api/v1/operations/ID /api/v1/operations/ID/report, POST begins a drill or shift, DELETE aborts it\n"
}

pub(super) async fn metrics(State(backend): Shared) -> Response {
    // Tens of thousands of series take a while, which nothing else should wait for.
    let making = tokio::task::spawn_blocking(move || metrics_text(&backend));
    let Ok(text) = making.await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The current metrics.
#[must_use]
pub fn metrics_text(backend: &Backend) -> String {
    let view = backend.shared.view.load_full();
    let connections = |live: &crate::shared::LiveCluster| {
        let (all, idle) = (live.connections.get(), live.idle.get());
        (all.saturating_sub(idle), idle, live.pending.get())
    };
    metrics::text(&Scrape {
        registry: &backend.shared.registry,
        plan: &view.plan,
        signals: &view.signals,
        in_flight: view.clusters.iter().map(|live| live.in_flight.get()).collect(),
        connections: view.clusters.iter().map(connections).collect(),
        certificates: certificates(&view),
        pending: pending(&view)
            .map(|(listener, names)| (listener.to_owned(), names.len()))
            .collect(),
        operations: backend.memory.operations.figures(),
        server: (backend.figures)(),
    })
}

/// The expiry time of each certificate, by listener and first name.
fn certificates(view: &View) -> Vec<(String, String, i64)> {
    let of = |(listener, secured): (&Listener, &Option<Secured>)| {
        let certificates = secured.iter().flat_map(|secured| &secured.names.certificates);
        let one = |certificate: &Certificate| {
            let name = certificate.names.first().cloned().unwrap_or_default();
            (listener.name.clone(), name, certificate.expires)
        };
        certificates.map(one).collect::<Vec<_>>()
    };
    view.plan.listeners.iter().zip(&view.tls.listeners).flat_map(of).collect()
}

/// Names that wait for their first certificate, by listener that orders certificates.
fn pending(view: &View) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
    let all = view.plan.listeners.iter().zip(&view.tls.listeners);
    let ordering = all.filter(|(one, _)| one.tls.as_ref().is_some_and(|tls| tls.acme.is_some()));
    ordering.filter_map(|(one, secured)| Some((&*one.name, &secured.as_ref()?.names.pending)))
}

pub(super) async fn status(State(backend): Shared) -> Json<Value> {
    let mut status = status_view(&backend);
    // Not in the snapshots: there may be hundreds, and they change once in weeks.
    if let Some(status) = status.as_object_mut() {
        let all = certificates_view(&backend, &backend.shared.view.load());
        status.insert("certificates".to_owned(), all.into());
    }
    Json(status)
}

fn status_view(backend: &Backend) -> Value {
    let view = backend.shared.view.load();
    json!({
        "site": view.plan.site,
        "environment": view.plan.environment,
        "time": (backend.rfc3339)((backend.now)()),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": (backend.uptime)(),
        "config": (backend.config)(),
        "draining": backend.shared.is_draining(),
        "admin_refused": backend.shared.registry.admin_refused.iter().collect::<BTreeMap<_, _>>(),
    })
}

/// The listeners' certificates, and the names that have none yet (`expires` is null).
fn certificates_view(backend: &Backend, view: &View) -> Vec<Value> {
    let issued = certificates(view).into_iter().map(|(listener, name, expires)| {
        let expires = Duration::from_secs(u64::try_from(expires).unwrap_or(0));
        json!({"listener": listener, "name": name, "expires": (backend.rfc3339)(expires)})
    });
    let without = pending(view).flat_map(|(listener, names)| {
        names.iter().map(move |name| json!({"listener": listener, "name": name, "expires": null}))
    });
    issued.chain(without).collect()
}

/// The snapshot that `/api/v1/events` sends each second, as JSON.
///
/// # Errors
/// When the snapshot cannot be written as JSON, which no value of it causes.
pub(super) fn snapshot(backend: &Backend) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Snapshot<'a> {
        status: Value,
        clusters: Vec<picture::ClusterPicture<'a>>,
        services: Vec<picture::ServicePicture<'a>>,
        operation: Option<Value>,
    }
    let (view, second) = (backend.shared.view.load(), backend.memory.history.last());
    serde_json::to_string(&Snapshot {
        status: status_view(backend),
        clusters: picture::clusters(&view),
        services: picture::services(&view, &second),
        operation: backend.memory.operations.newest(),
    })
}

pub(super) async fn clusters(State(backend): Shared) -> Response {
    Json(picture::clusters(&backend.shared.view.load())).into_response()
}

pub(super) async fn cluster(State(backend): Shared, Path(name): Path<String>) -> Response {
    let view = backend.shared.view.load();
    let index = view.plan.clusters.find(|cluster| cluster.name == name);
    match index.and_then(|index| picture::cluster(&view, index)) {
        Some(cluster) => Json(cluster).into_response(),
        None => (StatusCode::NOT_FOUND, format!("no cluster `{name}`\n")).into_response(),
    }
}

pub(super) async fn services(State(backend): Shared) -> Response {
    let (view, second) = (backend.shared.view.load(), backend.memory.history.last());
    Json(picture::services(&view, &second)).into_response()
}

pub(super) async fn config(State(backend): Shared) -> Response {
    Json(&*(backend.effective)()).into_response()
}

pub(super) async fn config_diff(State(backend): Shared) -> Response {
    Json((backend.difference)()).into_response()
}

/// Answers 204 for a correct token: the guard has already rejected any other.
pub(super) async fn token() -> StatusCode {
    StatusCode::NO_CONTENT
}

pub(super) async fn reload(State(backend): Shared, who: Who) -> Response {
    let (done, answer) = oneshot::channel();
    let note = |ok, message| {
        let kind = "configuration";
        let done = Done { action: "reload", kind, name: "", percent: None, ok, message };
        remember(&backend, who, done);
    };
    if backend.requests.send(Request::Reload(done)).await.is_err() {
        return gone();
    }
    match answer.await {
        Ok(Ok(generation)) => {
            note(true, format!("generation {generation}"));
            Json(json!({"ok": true, "generation": generation})).into_response()
        }
        Ok(Err(problems)) => {
            note(false, format!("{} problems", problems.len()));
            let body = Json(json!({"ok": false, "problems": problems}));
            (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
        }
        Err(_) => gone(),
    }
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n").into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Percent {
    percent: u8,
}

pub(super) async fn set_dial(
    State(backend): Shared,
    Path((kind, name)): Path<(String, String)>,
    who: Who,
    body: axum::body::Bytes,
) -> Response {
    let percent = match serde_json::from_slice::<Percent>(&body) {
        Ok(Percent { percent: percent @ 0..=100 }) => percent,
        Ok(_) => {
            return (StatusCode::BAD_REQUEST, "percent must be from 0 to 100\n").into_response();
        }
        Err(error) => {
            let body = format!("the body must be {{\"percent\": 0-100}}: {error}\n");
            return (StatusCode::BAD_REQUEST, body).into_response();
        }
    };
    dial(&backend, who, &kind, name, Some(percent)).await
}

pub(super) async fn drain(
    State(backend): Shared,
    Path((kind, name)): Path<(String, String)>,
    who: Who,
) -> Response {
    dial(&backend, who, &kind, name, Some(0)).await
}

pub(super) async fn undrain(
    State(backend): Shared,
    Path((kind, name)): Path<(String, String)>,
    who: Who,
) -> Response {
    dial(&backend, who, &kind, name, None).await
}

async fn dial(
    backend: &Backend,
    who: Who,
    kind: &str,
    name: String,
    percent: Option<u8>,
) -> Response {
    let view = backend.shared.view.load_full();
    let known = |known: &str| known == name;
    let (found, event) = match kind {
        "clusters" => (
            view.plan.clusters.iter().any(|cluster| known(&cluster.name)),
            Event::DialCluster { cluster: name.clone(), percent },
        ),
        "sites" => (
            view.plan.clusters.iter().any(|cluster| known(&cluster.site)),
            Event::DialSite { site: name.clone(), percent },
        ),
        // A service has no dial; its shift can be removed.
        "services" if percent.is_none() => (
            view.plan.services.iter().any(|service| known(&service.name)),
            Event::Shift { service: name.clone(), shift: None },
        ),
        _ => return not_found().await.into_response(),
    };
    if !found {
        return (StatusCode::NOT_FOUND, format!("unknown name in {kind}: {name}\n"))
            .into_response();
    }
    let (done, answer) = oneshot::channel();
    if backend.requests.send(Request::Dial(event, done)).await.is_err() {
        return gone();
    }
    let note = |message| {
        let done = Done { action: "dial", kind, name: &name, percent, ok: true, message };
        remember(backend, who, done);
        backend.tell(json!({"kind": "dial", "of": kind, "name": name, "percent": percent}));
    };
    match answer.await {
        Ok(Ok(())) => {
            note(String::new());
            Json(json!({"ok": true, "percent": percent})).into_response()
        }
        Ok(Err(message)) => {
            note(message.clone());
            let body = Json(json!({"ok": true, "percent": percent, "warning": message}));
            body.into_response()
        }
        Err(_) => gone(),
    }
}
