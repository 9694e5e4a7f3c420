//! Properties of requests: the kind, the key of the `hash` policy, cookies.

use crate::decision::plan::HashKey;
use crate::decision::route::RouteIndex;
use crate::decision::strata;
use crate::decision::units::{hash, mix};
use crate::http::request::RequestHead;
use crate::l7::connection_info::ConnectionInfo;
use std::hash::Hasher;

/// Path segments that distinguish kinds of requests: later segments are mostly names or numbers.
const SEGMENTS: usize = 2;

/// The kind of a request: requests of one kind are expected to take about the same time.
pub(super) fn stratum(route: Option<RouteIndex>, head: &RequestHead) -> u8 {
    let path = head.target().path().as_bytes();
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    let end = ends.map(|(at, _)| at).nth(SEGMENTS - 1).unwrap_or(path.len());
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write_usize(route.map_or(0, |route| route.0 + 1));
    hasher.write(head.method().as_bytes());
    hasher.write(&path[..end]);
    strata::number(mix(hasher.finish()))
}

/// The key of the `hash` policy; 0 if the service has another policy.
pub(super) fn hash_key(key: Option<&HashKey>, head: &RequestHead, info: &ConnectionInfo) -> u64 {
    let Some(key) = key else { return 0 };
    let client = || hash(info.client(head).to_string().as_bytes());
    match key {
        HashKey::ClientIp => client(),
        HashKey::Header(name) => head.field(name).map_or_else(client, hash),
        HashKey::Cookie(name) => cookie(head, name).map_or_else(client, hash),
    }
}

/// The value of a request's cookie.
pub(super) fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    let pairs = head.field("cookie")?.split(|byte| *byte == b';');
    pairs.map(crate::http::chars::trim).find_map(|pair| {
        pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })
}
