//! The fleet in the API: the known state of all sites, and the report for peers.

use super::Backend;
use crate::decision::fleet::{ClusterRow, Report, ServiceRow};
use crate::fleet::{BusPicture, Ended, IDENTITY, PROTOCOL, PeerPicture, SitePicture};
use crate::telemetry::results::AdminRefusal;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

type Shared = State<Arc<Backend>>;

/// The deadline for the end of the protocol upgrade.
const SWITCHED: Duration = Duration::from_secs(5);

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

/// An unknown value is null.
fn measured(seconds: f64) -> Option<f64> {
    Some(seconds).filter(|seconds| *seconds > 0.0).map(milliseconds)
}

/// `GET /api/v1/fleet`.
pub(super) async fn fleet(State(backend): Shared) -> Json<Value> {
    let picture = backend.fleet.picture();
    let own = json!({
        "site": picture.own.by.site,
        "instance": picture.own.by.instance,
        "age_s": 0.0,
        "state": if picture.own.leaving { "leaving" } else { "live" },
        "self": true,
        "url": null,
        "error": null,
    });
    let mut members = vec![own];
    members.extend(picture.peers.iter().filter(|peer| !peer.is_own).map(member));
    let sites: Vec<Value> = picture.sites.iter().map(site).collect();
    let refused: BTreeMap<&str, u64> = backend.fleet.refused().into_iter().collect();
    Json(json!({
        "site": picture.own.by.site,
        "instance": picture.own.by.instance,
        "members": members,
        "sites": sites,
        "nats": picture.bus.as_ref().map(nats),
        "refused": refused,
        "samples": backend.fleet.samples(),
        "limit_parts": backend.shared.view.load().policies.parts(),
    }))
}

fn nats(bus: &BusPicture) -> Value {
    json!({
        "servers": bus.servers,
        "connected": bus.connected,
        "error": bus.error,
        "dropped": bus.dropped,
    })
}

fn member(peer: &PeerPicture) -> Value {
    let state = match (peer.live, peer.age) {
        (true, _) if peer.leaving => "leaving",
        (true, _) => "live",
        (false, Some(_)) => "silent",
        (false, None) => "unknown",
    };
    json!({
        "site": peer.site,
        "instance": peer.instance,
        "age_s": rounded(peer.age.unwrap_or(peer.waited)),
        "state": state,
        "self": false,
        "url": peer.url,
        "error": peer.error,
    })
}

fn site(site: &SitePicture) -> Value {
    let report = site.report.as_ref();
    let rows = |of: &dyn Fn(&Report) -> Vec<Value>| report.map(of);
    json!({
        "site": site.name,
        "own": site.is_own,
        "live": site.live,
        "age_s": rounded(site.age),
        "members": report.map(|report| report.members),
        "expected": report.map(|report| report.expected),
        "clusters": rows(&|report| report.clusters.iter().map(cluster).collect()),
        "services": rows(&|report| report.services.iter().map(service).collect()),
    })
}

fn cluster((name, row): (&String, &ClusterRow)) -> Value {
    json!({
        "name": name,
        "state": row.state.label(),
        "in_flight": row.in_flight,
        "requests_per_s": rounded(row.requests_per_s),
        "queue_ms": milliseconds(row.queue),
        "distance_ms": measured(row.distance),
        "service_ms": measured(row.service),
        "cost_usd_per_h": rounded(row.usd_per_hour),
    })
}

fn service((name, row): (&String, &ServiceRow)) -> Value {
    json!({
        "name": name,
        "demand_rps": rounded(row.demand),
        "spill_ratio": rounded(row.spill),
        "budget_left_usd": rounded(row.budget_left),
    })
}

/// `GET /api/v1/fleet/report`: the report as JSON, or an upgraded connection if the peer requests an upgrade.
pub(super) async fn report(State(backend): Shared, mut request: Request) -> Response {
    let wanted = request.headers().get(header::UPGRADE);
    if wanted.is_none_or(|protocol| protocol != PROTOCOL) {
        return Json(backend.fleet.picture().own.without_idle()).into_response();
    }
    let by = serde_json::to_string(&backend.fleet.identity()).unwrap_or_default();
    let Ok(by) = HeaderValue::try_from(by) else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the site's name is not valid in a header field\n",
        )
            .into_response();
    };
    let refused = backend.shared.registry.admin_refused.clone();
    let Some(answering) = backend.fleet.enter() else {
        refused.count(AdminRefusal::FleetConnections);
        return (StatusCode::SERVICE_UNAVAILABLE, "too many connections of fleet peers\n")
            .into_response();
    };
    let switched = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match tokio::time::timeout(SWITCHED, switched).await {
            Ok(Ok(stream)) => {
                let early = || refused.count(AdminRefusal::FleetRequests);
                if answering.answer(TokioIo::new(stream), early).await == Ended::Unread {
                    refused.count(AdminRefusal::Unread);
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "fleet peer not answered"),
            Err(_) => tracing::debug!("fleet peer not answered: protocol not switched in time"),
        }
    });
    let fields = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(PROTOCOL)),
        (HeaderName::from_static(IDENTITY), by),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, fields).into_response()
}
