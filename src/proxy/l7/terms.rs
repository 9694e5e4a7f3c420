//! What a request goes by: its route, its deadlines, its share of a split, its key.

use super::connection_info::ConnectionInfo;
use super::failure::Failure;
use super::record::Record;
use crate::decision::plan::{HashKey, Service};
use crate::decision::route::{Action, Asked, Route, RouteIndex, Unrouted};
use crate::decision::strata;
use crate::decision::units::{hash, mix};
use crate::http::field::Role;
use crate::http::grpc;
use crate::http::request::RequestHead;
use crate::proxy::deadline::ENDLESS;
use crate::proxy::refusal::Refusal;
use crate::shared::View;
use std::hash::Hasher;
use std::time::Duration;

pub(super) fn head_timeout(route: &Route, service: &Service) -> Duration {
    route.timeout.unwrap_or(service.timeout).min(per_try(route, service))
}

fn per_try(route: &Route, service: &Service) -> Duration {
    route.per_try_timeout.unwrap_or(service.per_try_timeout).unwrap_or(Duration::MAX)
}

pub(super) fn route<'v>(
    view: &'v View,
    info: &ConnectionInfo,
    head: &RequestHead,
    record: &mut Record,
) -> Result<&'v Route, Failure> {
    let asked = asked(info, head);
    let has_header = |name: &str, value: &str| {
        head.fields().iter().any(|field| {
            field.name.of(head.bytes()).eq_ignore_ascii_case(name.as_bytes())
                && field.value.of(head.bytes()) == value.as_bytes()
        })
    };
    let asked = Asked { has_header: &has_header, ..asked };
    match view.plan.routes.find(&asked) {
        Ok(index) => {
            record.route = Some(index);
            Ok(view.plan.routes.route(index))
        }
        Err(Unrouted::NoRoute) => Err(Failure::refuse(Refusal::NoRoute)),
        Err(Unrouted::Method(methods)) => {
            record.refusal_lines = format!("allow: {}\r\n", methods.join(", "));
            Err(Failure::refuse(Refusal::MethodNotAllowed))
        }
        Err(Unrouted::Ambiguous) => {
            record.refusal_why = "a parameter in the path leads to another policy";
            Err(Failure::refuse(Refusal::BadRequest))
        }
    }
}

fn asked<'a>(info: &ConnectionInfo, head: &'a RequestHead) -> Asked<'a> {
    Asked {
        listener: info.listener,
        host: head.host(),
        path: head.target().path(),
        method: head.method(),
        has_header: &|_, _| false,
    }
}

/// The deadline of the whole exchange, where its route or service has one, or the call itself.
pub(super) fn walk_timeout(
    view: &View,
    head: &RequestHead,
    route: Option<&Route>,
) -> Option<Duration> {
    let is_call = grpc::is_grpc(head.value(Role::ContentType));
    // Looked for only there: a look at every field costs each exchange.
    let told = is_call.then(|| head.field("grpc-timeout").and_then(grpc::timeout)).flatten();
    let configured = route.and_then(|route| configured_timeout(view, route));
    match (configured, told.map(|told| told.min(ENDLESS))) {
        (Some(configured), Some(told)) => Some(configured.min(told)),
        (configured, told) => configured.or(told),
    }
}

fn configured_timeout(view: &View, route: &Route) -> Option<Duration> {
    let of =
        |class: &usize| route.total_timeout.unwrap_or(view.plan.service_of(*class).total_timeout);
    match &route.action {
        Action::Forward(class) => of(class),
        Action::Split(parts) => parts.iter().filter_map(|(_, class)| of(class)).max(),
        Action::Redirect { .. } | Action::Respond { .. } => None,
    }
}

/// A class by its share: turns are spread by the golden ratio, so that a twentieth is every twentieth.
pub(super) fn split(parts: &[(u32, usize)], turn: u64) -> usize {
    let total: u64 = parts.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let spread = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut left = ((u128::from(spread) * u128::from(total)) >> 64) as u64;
    for (weight, class) in parts {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return *class,
        }
    }
    parts.first().map_or(0, |(_, class)| *class)
}

/// Segments of a path that tell kinds of requests apart: what follows is mostly a name or a number.
const SEGMENTS: usize = 2;

/// Which kind of request it is: those of a kind are expected to take about as long as each other.
pub(super) fn stratum(route: Option<RouteIndex>, head: &RequestHead) -> u8 {
    let path = head.target().path().as_bytes();
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    let end = ends.map(|(at, _)| at).nth(SEGMENTS - 1).unwrap_or(path.len());
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write_usize(route.map_or(0, |route| route + 1));
    hasher.write(head.method().as_bytes());
    hasher.write(&path[..end]);
    strata::number(mix(hasher.finish()))
}

pub(super) fn hash_key(
    route: &Route,
    service: &Service,
    head: &RequestHead,
    info: &ConnectionInfo,
) -> u64 {
    use crate::decision::plan::EndpointPolicy;
    if service.endpoint_policy != EndpointPolicy::Hash {
        return 0;
    }
    let client = || hash(info.client(head).to_string().as_bytes());
    match route.hash_key.as_ref().unwrap_or(&service.hash_key) {
        HashKey::ClientIp => client(),
        HashKey::Header(name) => head.field(name).map_or_else(client, hash),
        HashKey::Cookie(name) => cookie(head, name).map_or_else(client, hash),
    }
}

/// A cookie of a request.
pub(super) fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    let pairs = head.field("cookie")?.split(|byte| *byte == b';');
    pairs.map(crate::http::chars::trim).find_map(|pair| {
        pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_keeps_its_shares_closely() {
        let parts = [(95, 7), (5, 8)];
        let picks: Vec<usize> = (0..2_000).map(|turn| split(&parts, turn)).collect();
        for window in picks.windows(200) {
            let few = window.iter().filter(|class| **class == 8).count();
            assert!((8..=12).contains(&few), "{few}");
        }
    }
}
