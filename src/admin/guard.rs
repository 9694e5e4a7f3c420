//! Access control of the admin API: the token, `Host` and `Origin`.
//!
//! Any web page can make an operator's browser send requests to this API. `Host` and `Origin` distinguish such
//! requests (DNS rebinding, cross-site requests) from the operator's own.

use super::{Access, Backend};
use crate::decision::plan::Address;
use crate::telemetry::results::AdminRefusal;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Permits a request, or answers with the reason for its refusal.
pub(super) async fn guard(
    State(backend): State<Arc<Backend>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    match judge(&backend, request.method(), request.uri().path(), request.headers()) {
        Ok(()) => {
            let mut response = next.run(request).await;
            let headers = response.headers_mut();
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("cache-control", "no-store"),
                ("content-security-policy", "default-src 'self'; frame-ancestors 'none'"),
            ] {
                if let (Ok(name), Ok(value)) =
                    (http::HeaderName::try_from(name), http::HeaderValue::try_from(value))
                {
                    headers.insert(name, value);
                }
            }
            response
        }
        Err(refused) => answer(&backend, refused),
    }
}

/// A refused request: status, the reason for the client, and the reason under which it is counted, if it is.
pub(super) type Refused = (StatusCode, &'static str, Option<AdminRefusal>);

/// Counts and answers a refused request.
pub(super) fn answer(backend: &Backend, (status, message, counted): Refused) -> Response {
    if let Some(reason) = counted {
        backend.shared.registry.admin_refused.count(reason);
    }
    (status, format!("{message}\n")).into_response()
}

/// Permits requests that need no token, unless their `Host` is foreign: otherwise a web page could read the names and
/// loads of a site's clusters from the metrics.
pub(super) async fn only_ours(
    State(backend): State<Arc<Backend>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let host = request.headers().get(HOST).map(|value| value.to_str().unwrap_or("?"));
    match host.is_none_or(|host| is_ours(&backend, &backend.access.load(), host)) {
        true => next.run(request).await,
        false => answer(&backend, FOREIGN_HOST),
    }
}

const FOREIGN_HOST: Refused =
    (StatusCode::FORBIDDEN, "foreign Host; see admin.allowed_hosts", Some(AdminRefusal::Host));
const FOREIGN_ORIGIN: Refused =
    (StatusCode::FORBIDDEN, "foreign Origin; see admin.allowed_hosts", Some(AdminRefusal::Host));

pub(super) fn judge(
    backend: &Backend,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), Refused> {
    // A value that is not valid text matches no permitted value.
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let access = backend.access.load();
    let host = text(HOST.as_str());
    let writes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if host.map_or(writes, |host| !is_ours(backend, &access, host)) {
        return Err(FOREIGN_HOST);
    }
    if let Some(origin) = text(ORIGIN.as_str()) {
        let from = origin.split_once("://").map_or("", |(_, host)| host);
        // For an API on a wildcard address, any IP address is accepted as Host; Origin must equal Host.
        let same = host.is_some_and(|host| host.eq_ignore_ascii_case(from));
        if !(same || is_ours(backend, &access, from) && !is_ip(from)) {
            return Err(FOREIGN_ORIGIN);
        }
    }
    let off_loopback =
        matches!(&backend.address, Some(Address::Ip(address)) if !address.ip().is_loopback());
    if !writes && !off_loopback {
        return Ok(());
    }
    // Peers of the fleet read the report, and need not be able to do anything else.
    let report = access.fleet_token.as_ref();
    let report = report.filter(|_| *method == Method::GET && path == crate::fleet::PATH);
    let permitted: Vec<&String> = access.token.iter().chain(report).collect();
    if permitted.is_empty() {
        let message = "no token is configured; see admin.token_file";
        return Err((StatusCode::FORBIDDEN, message, Some(AdminRefusal::Token)));
    }
    let given = text(AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let is_permitted = given.is_some_and(|(_, given)| {
        let equal = |token: &&String| bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()));
        // All are compared, so that the time tells nothing.
        permitted.iter().fold(false, |found, token| found | equal(token))
    });
    if !is_permitted {
        let message = "the bearer token is missing or wrong";
        return Err((StatusCode::UNAUTHORIZED, message, Some(AdminRefusal::Token)));
    }
    let kind = text(CONTENT_TYPE.as_str()).map(|kind| kind.split(';').next().unwrap_or("").trim());
    // POST and DELETE may come without a body, and then without a content type.
    let is_json =
        kind.map_or(*method != Method::PUT, |kind| kind.eq_ignore_ascii_case("application/json"));
    if writes && !is_json {
        let message = "the content type must be application/json";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message, None));
    }
    Ok(())
}

/// Whether the host is loopback, this socket's own address, or a name in `allowed_hosts`; the port is ignored.
fn is_ours(backend: &Backend, access: &Access, host: &str) -> bool {
    let bare = without_port(host);
    if bare.eq_ignore_ascii_case("localhost")
        || access
            .allowed_hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(bare) || known.eq_ignore_ascii_case(host))
    {
        return true;
    }
    match (bare.parse::<IpAddr>(), &backend.address) {
        (Ok(address), _) if address.is_loopback() => true,
        (Ok(address), Some(Address::Ip(own))) => own.ip() == address || own.ip().is_unspecified(),
        (Ok(_) | Err(_), _) => matches!(backend.address, Some(Address::Unix(_))),
    }
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
    }
}

fn is_ip(host: &str) -> bool {
    without_port(host).parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
}
