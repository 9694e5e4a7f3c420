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
        Err((status, message)) => {
            let refused = &backend.shared.registry.admin;
            match status {
                _ if [FOREIGN_HOST, FOREIGN_ORIGIN].contains(&message) => {
                    refused.count(AdminRefusal::Host);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    refused.count(AdminRefusal::Token);
                }
                _ => {}
            }
            (status, format!("{message}\n")).into_response()
        }
    }
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
        false => {
            backend.shared.registry.admin.count(AdminRefusal::Host);
            (StatusCode::FORBIDDEN, format!("{FOREIGN_HOST}\n")).into_response()
        }
    }
}

const FOREIGN_HOST: &str = "foreign Host; see admin.allowed_hosts";
const FOREIGN_ORIGIN: &str = "foreign Origin; see admin.allowed_hosts";

pub(super) fn judge(
    backend: &Backend,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, &'static str)> {
    // A value that is not valid text matches no permitted value.
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let access = backend.access.load();
    let host = text(HOST.as_str());
    let writes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if host.map_or(writes, |host| !is_ours(backend, &access, host)) {
        return Err((StatusCode::FORBIDDEN, FOREIGN_HOST));
    }
    if let Some(origin) = text(ORIGIN.as_str()) {
        let from = origin.split_once("://").map_or("", |(_, host)| host);
        // For an API on a wildcard address, any IP address is accepted as Host; Origin must equal Host.
        let same = host.is_some_and(|host| host.eq_ignore_ascii_case(from));
        if !(same || is_ours(backend, &access, from) && !is_ip(from)) {
            return Err((StatusCode::FORBIDDEN, FOREIGN_ORIGIN));
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
        return Err((StatusCode::FORBIDDEN, "no token is configured; see admin.token_file"));
    }
    let given = text(AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let is_permitted = given.is_some_and(|(_, given)| {
        let equal = |token: &&String| bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()));
        // All are compared, so that the time tells nothing.
        permitted.iter().fold(false, |found, token| found | equal(token))
    });
    if !is_permitted {
        return Err((StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong"));
    }
    let kind = text(CONTENT_TYPE.as_str()).map(|kind| kind.split(';').next().unwrap_or("").trim());
    // POST and DELETE may come without a body, and then without a content type.
    let is_json =
        kind.map_or(*method != Method::PUT, |kind| kind.eq_ignore_ascii_case("application/json"));
    if writes && !is_json {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type must be application/json",
        ));
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
