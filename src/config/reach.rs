//! Whether a route's policy can be bypassed: warnings about paths and methods that other routes, or the cluster, may
//! interpret differently.

use super::compiler::Compiler;
use super::error::Position;
use crate::decision::matching::RequestFacts;
use crate::decision::plan::{Listener, ListenerIndex, Protocol, Slashes};
use crate::decision::route::{PathMatch, Route, RouteQuery, Unrouted};
use std::net::IpAddr;

/// Warns of routes whose policy depends on how a cluster interprets a path, and of routes whose other methods are not
/// served. `places` are the positions of the compiled routes in the file.
pub(super) fn warn(compiler: &mut Compiler<'_>, places: &[(Position, String)]) {
    let mut warnings = Vec::new();
    for (route, place) in compiler.plan.routes.routes().iter().zip(places) {
        if route.policy.is_none() {
            continue;
        }
        if let Some(listener) = ambiguous_listener(compiler, route) {
            let message = format!(
                "the route's policy depends on how the cluster interprets slashes: listener `{}` keeps `//` or `%2F` in paths",
                listener.name
            );
            let hint = "keep `slashes: merge` and `encoded_slash: refuse` for policies that depend on the path";
            warnings.push((place, message, hint));
        }
        if let Some(other) = cut_off(compiler, route) {
            let methods = route.methods.join(", ");
            let message = format!(
                "has a policy and matches only {methods}: other methods are answered 405 and do not reach `{other}`"
            );
            let hint =
                "add a route for the same path and the other methods, or leave `methods` out";
            warnings.push((place, message, hint));
        }
    }
    for ((at, path), message, hint) in warnings {
        compiler.problems.warning(*at, path.as_str(), message, hint);
    }
}

/// A listener of this route that forwards repeated slashes, which clusters may interpret differently.
fn ambiguous_listener<'p>(compiler: &'p Compiler<'_>, route: &Route) -> Option<&'p Listener> {
    if matches!(&route.path, PathMatch::Prefix(prefix) if prefix == "/") {
        return None;
    }
    let mut listeners = compiler.plan.listeners.enumerated();
    let keeps = |listener: &Listener| {
        listener.limits.keep_encoded_slash || listener.limits.slashes == Slashes::Keep
    };
    let is_its =
        |index: ListenerIndex| route.listeners.is_empty() || route.listeners.contains(&index);
    let found =
        listeners.find(|(index, l)| l.protocol == Protocol::Http && is_its(*index) && keeps(l));
    found.map(|(_, listener)| listener)
}

/// A request with these fields.
struct Fields<'a>(&'a [(String, String)]);

impl RequestFacts for Fields<'_> {
    fn has_field(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.0.iter().any(|(known, value)| known == name && test(value.as_bytes()))
    }

    fn query(&self) -> &str {
        ""
    }

    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn is_https(&self) -> bool {
        false
    }
}

/// The route that would serve the other methods if this route's policy did not end the search.
fn cut_off(compiler: &Compiler<'_>, route: &Route) -> Option<String> {
    if route.methods.is_empty() {
        return None;
    }
    let path = match &route.path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path,
        PathMatch::Pattern(_) => return None,
    };
    let host = route.hosts.first().map_or(String::new(), |host| host.replacen('*', "any", 1));
    if route.conditions.is_some() {
        return None;
    }
    let request = Fields(&route.headers);
    let listeners = compiler.plan.listeners.enumerated();
    let mut listeners = listeners.filter(|(_, l)| l.protocol == Protocol::Http);
    listeners.find_map(|(listener, _)| {
        let query = RouteQuery {
            listener,
            host: &host,
            path,
            method: "ANOTHER-METHOD",
            announced: None,
            request: &request,
        };
        match compiler.plan.routes.find(&query) {
            Err(Unrouted::Method(_)) => {
                let behind = compiler.plan.routes.find_behind(&query)?;
                Some(compiler.plan.routes.route(behind).name.clone())
            }
            Ok(_) | Err(Unrouted::NoRoute | Unrouted::Ambiguous) => None,
        }
    })
}
