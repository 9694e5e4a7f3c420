//! An exchange from its request head to its end: route, policies, destination, then forwarded or answered locally.
//!
//! This file contains the sequence of steps of a request. The steps are implemented elsewhere: routes in
//! `decision::route`, policies in `policy`, clusters, attempts and retries in `forward`.
//!
//! # Invariants
//! The route is looked up once; the exchange's deadline is part of the result.

use super::answer::{self, Place};
use super::context::Bound;
use super::cors;
use super::failure::{Failure, What};
use super::forward::{After, forward};
use super::mirror::Copier;
use super::policy;
use super::record::Record;
use super::request_head::Ids;
use super::rewrite;
use super::route_query::Asked;
use super::trace;
use super::upload::ReadWhole;
use crate::deadline::ENDLESS;
use crate::decision::acme::HTTP_PATH;
use crate::decision::plan::ClassIndex;
use crate::decision::route::{Action, Route, RouteQuery, Unrouted};
use crate::decision::template::Variable;
use crate::decision::terms::Destination;
use crate::http::field::Role;
use crate::http::request::RequestHead;
use crate::http::{Underscores, grpc};
use crate::l7::client::Client;
use crate::l7::connection_info::ConnectionInfo;
use crate::refusal::Refusal;
use crate::selection::Reach;
use crate::shared::View;
use crate::telemetry::results::Aborted;
use crate::worker::Worker;
use std::time::Duration;

/// Serves one exchange. Every early return is a [`Failure`].
pub async fn serve<C: Client>(
    worker: &Worker,
    view: &View,
    client: &mut C,
    info: &ConnectionInfo,
    record: &mut Record,
) -> After {
    record.trace = trace::begin(worker, view, client.head(), info.trusted);
    if let Some(text) = challenge(worker, view, info, client.head()) {
        Box::pin(answer::challenge(client, &text, record)).await;
        return After::Next;
    }
    let served = match route(view, info, client.head(), record) {
        Err(refused) => Err(refused),
        Ok(Routed { route, deadline: None }) => {
            serve_route(worker, view, client, info, record, route).await
        }
        Ok(Routed { route, deadline: Some(span) }) => {
            let served = serve_route(worker, view, client, info, record, route);
            match tokio::time::timeout(span, served).await {
                Ok(served) => served,
                Err(_) => Err(too_late(client, record)),
            }
        }
    };
    match served {
        Ok(after) => return after,
        Err(failure) => conclude((worker, view, info), client, record, failure).await,
    }
    After::Next
}

/// The answer to an ACME authority that validates a name. Other requests for such a path are routed as usual: a cluster
/// may have an ACME client of its own.
fn challenge(
    worker: &Worker,
    view: &View,
    info: &ConnectionInfo,
    head: &RequestHead,
) -> Option<String> {
    if !view.plan.listeners.get(info.terms.index)?.answers_acme {
        return None;
    }
    worker.shared.challenges.text(head.target().path().strip_prefix(HTTP_PATH)?)
}

/// Ends an exchange that has passed its deadline.
fn too_late<C: Client>(client: &C, record: &mut Record) -> Failure {
    // An interim response may have been sent in part: no response can follow it.
    if client.sent() > 0 {
        record.aborted = Some(Aborted::Timeout);
        return Failure::OVER;
    }
    record.aborted = (record.status != 0).then_some(Aborted::Timeout);
    Failure::refuse(Refusal::UpstreamTimeout)
}

/// Sends the failure to the client, if a response is still possible.
async fn conclude<C: Client>(
    place: Place<'_>,
    client: &mut C,
    record: &mut Record,
    failure: Failure,
) {
    match failure.what {
        // A response that has begun cannot be replaced by a refusal.
        What::Refused(_) if record.status != 0 => {
            record.aborted = record.aborted.or(Some(Aborted::Cluster));
            client.abort();
        }
        What::Refused(refusal) => {
            let why = why(place.1, refusal, record);
            Box::pin(answer::refuse(place, client, refusal, &why, record)).await;
        }
        What::Over => {
            record.aborted = record.aborted.or(Some(Aborted::Client));
            client.abort();
        }
    }
}

/// A request's route.
struct Routed<'v> {
    route: &'v Route,
    /// The total timeout of the exchange.
    deadline: Option<Duration>,
}

/// Looks up the request's route.
fn route<'v>(
    view: &'v View,
    info: &ConnectionInfo,
    head: &RequestHead,
    record: &mut Record,
) -> Result<Routed<'v>, Failure> {
    super::inject::panic_on(head.target().path());
    if is_misdirected(view, info, head) {
        return Err(Failure::refuse(Refusal::Misdirected));
    }
    let query = RouteQuery {
        listener: info.terms.index,
        host: head.host(),
        path: head.target().path(),
        method: head.method(),
        announced: head.announced_method(),
        request: &Asked { info, head },
    };
    match view.plan.routes.find(&query) {
        Ok(index) => {
            record.route = Some(index);
            let route = view.plan.routes.route(index);
            Ok(Routed { route, deadline: deadline(head, route) })
        }
        Err(Unrouted::NoRoute) => Err(Failure::refuse(Refusal::NoRoute)),
        Err(Unrouted::Method(methods)) => {
            record.refusal_lines = format!("allow: {}\r\n", methods.join(", "));
            Err(Failure::refuse(Refusal::MethodNotAllowed))
        }
        Err(Unrouted::Ambiguous) => {
            record.refusal_why = "a parameter in the path would select another policy";
            Err(Failure::refuse(Refusal::BadRequest))
        }
    }
}

/// Whether the certificate for the request's host differs from that of the connection's server name.
fn is_misdirected(view: &View, info: &ConnectionInfo, head: &RequestHead) -> bool {
    let Some(sni) = info.agreed.as_ref().and_then(|agreed| agreed.sni.as_deref()) else {
        return false;
    };
    let secured = view.tls.listener(info.terms.index);
    secured.is_some_and(|secured| !secured.names.agree(sni, head.host()))
}

/// The total timeout: of the route or service, or of the gRPC call.
fn deadline(head: &RequestHead, route: &Route) -> Option<Duration> {
    let is_call = grpc::is_grpc(head.value(Role::ContentType));
    // Only for gRPC: a search of all fields costs time.
    let of_client = is_call.then(|| head.field("grpc-timeout").and_then(grpc::timeout)).flatten();
    match (route.action.total_timeout(), of_client.map(|timeout| timeout.min(ENDLESS))) {
        (Some(configured), Some(of_client)) => Some(configured.min(of_client)),
        (configured, of_client) => configured.or(of_client),
    }
}

/// Serves a request with its route: policies, then the destination.
async fn serve_route<C: Client>(
    worker: &Worker,
    view: &View,
    client: &mut C,
    info: &ConnectionInfo,
    record: &mut Record,
    route: &Route,
) -> Result<After, Failure> {
    let to = match &route.action {
        Action::Forward(to) => Some(to),
        Action::Split(parts) => split(parts, worker.next_share()),
        Action::Redirect { .. } | Action::Respond { .. } => None,
    };
    let class = to.map(|to| to.class);
    if let Some(cors) = &route.cors {
        if client.head().announced_method().is_some() {
            cors::answer_preflight((worker, view, info), client, cors, record).await;
            return Ok(After::Next);
        }
        record.cors_lines = cors::lines(cors, client.head());
    }
    if client.head().has_underscores() && !may_have_underscores(view, info, class) {
        record.refusal_why = "_ in a field name";
        return Err(Failure::refuse(Refusal::BadRequest));
    }
    let of_service = class.and_then(|class| view.plan.service_of(class).policy);
    if route.policy.is_some() || of_service.is_some() {
        record.class = class;
        let policies = route.policy.into_iter().chain(of_service);
        // Boxed: most routes have no policy.
        Box::pin(policy::pass(view, policies, info, client.head(), record)).await?;
    }
    let Some(Destination { class, terms }) = to else {
        return Box::pin(answer_here((worker, view, info), client, route, record)).await;
    };
    record.class = Some(*class);
    if client.head().max_forwards() == Some(0) {
        Box::pin(answer::last_hop((worker, view, info), client, record)).await;
        return Ok(After::Next);
    }
    let via = via(view, info, client.head())?;
    let reach = if via.is_empty() { Reach::Anywhere } else { Reach::ThisSite };
    let ids = Ids::new(worker, record.trace.as_deref());
    let target = rewrite::target(route.rewrite.as_deref(), client.head())?;
    let target = target.as_deref();
    let bound = Bound { route, class: *class, terms, reach, target, ids: &ids, is_copy: false };
    let copier = Copier::of(worker, view, info, &bound, record.route);
    let copy = copier.as_ref().map(|copier| |head: &_, replay: &_| copier.copy(head, replay));
    let read_whole = copy.as_ref().map(|copy| copy as ReadWhole<'_>);
    forward(worker, view, client, info, record, &bound, read_whole).await
}

/// Whether field names may have underscores: by the listener, or as metadata of a gRPC call.
fn may_have_underscores(view: &View, info: &ConnectionInfo, class: Option<ClassIndex>) -> bool {
    info.limits().underscores != Underscores::Refuse
        || class.is_some_and(|class| view.plan.serves_grpc_alone(class))
}

/// The value of `tidegate-via`: the sites that have forwarded this request, separated by commas. Empty for untrusted peers.
///
/// # Errors
/// [`Refusal::Loop`] when this site is among them.
fn via(view: &View, info: &ConnectionInfo, head: &RequestHead) -> Result<String, Failure> {
    if !(info.trusted || info.is_verified()) {
        return Ok(String::new());
    }
    let visited = head.field("tidegate-via").unwrap_or_default();
    let sites = String::from_utf8_lossy(visited);
    match sites.split(',').any(|site| site.trim() == view.plan.site) {
        true => Err(Failure::refuse(Refusal::Loop)),
        false => Ok(sites.into_owned()),
    }
}

/// A destination by its share: turns are spread by the golden ratio, so that a share of a twentieth takes exactly
/// every twentieth turn.
pub(super) fn split<T>(parts: &[(u32, T)], turn: u64) -> Option<&T> {
    let total: u64 = parts.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let spread = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut left = ((u128::from(spread) * u128::from(total)) >> 64) as u64;
    for (weight, to) in parts {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return Some(to),
        }
    }
    parts.first().map(|(_, to)| to)
}

/// Sends the route's own answer: a redirect, or a fixed response.
async fn answer_here<C: Client>(
    place: Place<'_>,
    client: &mut C,
    route: &Route,
    record: &mut Record,
) -> Result<After, Failure> {
    match &route.action {
        Action::Redirect { to, status } => {
            if to.has(&Variable::Host) && client.head().host().is_empty() {
                record.refusal_why = "the redirect needs the request's host";
                return Err(Failure::refuse(Refusal::BadRequest));
            }
            let location = answer::location(place, client.head(), record, to);
            let lines = [&b"location: "[..], &location, b"\r\n", &record.answer_lines].concat();
            answer::local(place, client, (*status, &lines, b""), record).await;
        }
        Action::Respond { status, body } => {
            let lines = b"content-type: text/plain; charset=utf-8\r\n";
            let lines = [&lines[..], &record.answer_lines].concat();
            answer::local(place, client, (*status, &lines, body.as_bytes()), record).await;
        }
        Action::Forward(_) | Action::Split(_) => {}
    }
    Ok(After::Next)
}

/// The explanation of a refusal, one line.
fn why(view: &View, refusal: Refusal, record: &Record) -> String {
    if !record.refusal_why.is_empty() {
        return record.refusal_why.to_owned();
    }
    let service = record.class.map_or("", |class| view.plan.service_of(class).name.as_str());
    refusal.text(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_keeps_its_shares_closely() {
        let parts = [(95, 7), (5, 8)];
        let picks: Vec<usize> =
            (0..2_000).filter_map(|turn| split(&parts, turn).copied()).collect();
        for window in picks.windows(200) {
            let few = window.iter().filter(|class| **class == 8).count();
            assert!((8..=12).contains(&few), "{few}");
        }
    }
}
