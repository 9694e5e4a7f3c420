//! Clients that stay where they were served: a cookie names the endpoint.
//!
//! It has no address in it, and every proxy reads it alike, so that a client stays at an endpoint whichever edge it
//! comes by. One that nobody knows, or whose endpoint is down, is no cookie at all.

use super::connection::Arrival;
use super::terms::cookie;
use crate::decision::endpoint::identity;
use crate::decision::plan::Affinity;
use crate::decision::signal::EndpointSignals;
use crate::decision::units::mix;
use crate::http::request::RequestHead;
use crate::proxy::place::Stay;

/// Where a request's client was served before.
pub(super) fn stay(affinity: &Affinity, head: &RequestHead) -> Option<Stay> {
    let value = cookie(head, &affinity.cookie)?;
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 16)?;
    let token = u64::from_str_radix(text, 16).ok()?;
    Some(Stay { identity: token, across_clusters: affinity.across_clusters })
}

/// What an endpoint is called in cookies.
pub(super) fn token(endpoint: &EndpointSignals) -> u64 {
    mix(identity(endpoint))
}

/// The line that has a client stay at an endpoint; `None` when it does already.
pub(super) fn set_cookie(
    affinity: &Affinity,
    endpoint: &EndpointSignals,
    stay: Option<Stay>,
    arrival: &Arrival,
) -> Option<String> {
    let token = token(endpoint);
    if stay.is_some_and(|stay| stay.identity == token) {
        return None;
    }
    let age = affinity.ttl.map(|ttl| format!("; Max-Age={}", ttl.as_secs())).unwrap_or_default();
    let secure = if arrival.scheme() == "https" { "; Secure" } else { "" };
    let name = &affinity.cookie;
    Some(format!(
        "set-cookie: {name}={token:016x}; Path=/{age}; HttpOnly; SameSite=Lax{secure}\r\n"
    ))
}
