//! Routes that never match, because an earlier route takes all their requests.

use super::compiler::Compiler;
use super::file;
use crate::decision::route::{PathMatch, Route};
use std::collections::BTreeMap;

/// Earlier routes by host, path and conditions. A map makes the check of ten thousand routes as quick, per route, as
/// the check of ten.
pub(super) type Earlier = BTreeMap<(String, String, Vec<(String, String)>, String), Vec<usize>>;

/// Adds a route, and warns when it never matches: for each of its hosts, an earlier route has the same path and
/// conditions, and includes all its methods and listeners.
pub(super) fn warn_if_shadowed(
    compiler: &mut Compiler<'_>,
    written: &file::Route,
    route: &Route,
    before: &[Route],
    earlier: &mut Earlier,
) {
    let path = match &route.path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(path) => format!("/{}", path.trim_end_matches('/')),
        PathMatch::Pattern(pattern) => format!("~{pattern}"),
    };
    let further = route.conditions.as_ref().map_or(String::new(), |all| format!("{all:?}"));
    let any = vec![String::new()];
    let hosts = if route.hosts.is_empty() { &any } else { &route.hosts };
    let mut shadow = None;
    let mut shadowed = true;
    for host in hosts {
        let key = (host.clone(), path.clone(), route.headers.clone(), further.clone());
        let known = earlier.entry(key).or_default();
        let found = known.iter().find(|index| {
            // A route for some methods precedes a route for all methods, whatever their order in the file.
            before[**index].methods.is_empty() == route.methods.is_empty()
                && covers(&before[**index].methods, &route.methods)
                && covers(&before[**index].listeners, &route.listeners)
        });
        shadowed &= found.is_some();
        shadow = shadow.or(found.copied());
        known.push(before.len());
    }
    if let Some(shadow) = shadow.filter(|_| shadowed) {
        let message = format!("never matches: `{}` has the same conditions", before[shadow].name);
        let hint = "remove one, or make its conditions narrower";
        let path = format!("routes[{}]", before.len());
        compiler.problems.warning(written.at, path, message, hint);
    }
}

/// Whether one list of conditions includes everything that another includes; an empty list means any.
fn covers<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|one| wide.contains(one)))
}
