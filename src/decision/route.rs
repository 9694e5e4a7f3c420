//! Routing: from host, path, method and headers to a route.
//!
//! Tables are keyed, not scanned: an exact host or path costs one ordered lookup, a prefix one per
//! segment up to the deepest configured one, so the cost does not depend on the number of routes.
//!
//! # Invariants
//! * A request with another method cannot bypass a route with a policy: unless another route has the same path,
//!   the response is 405 and no less specific route is tried.
//! * A request with a path parameter cannot bypass a route with a policy (`/internal;x`), which servlet containers
//!   drop before they match.

pub use super::index::RouteIndex;

use super::cors::Cors;
use super::edits::ByListener;
use super::index::{ClassIndex, ListenerIndex, Table};
use super::matching::{Matcher, RequestFacts};
use super::pages::ErrorPages;
use super::rewrite::Rewrite;
use super::template::Template;
use super::terms::Destination;
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One rule from a request to a service.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route's name in the API and the log.
    pub name: String,
    /// Hosts in lower case, `*.` in front of a wildcard; empty is any host.
    pub hosts: Vec<String>,
    /// Matching paths.
    pub path: PathMatch,
    /// Matching methods; empty is any.
    pub methods: Vec<String>,
    /// Fields that must be present with this value; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Further conditions.
    pub conditions: Option<Box<Matcher>>,
    /// Listeners; empty is every one.
    pub listeners: Vec<ListenerIndex>,
    /// The action.
    pub action: Action,
    /// Edits of the proxy's own responses; [`Terms`](super::terms::Terms) has those of forwarded messages.
    pub response_edits: ByListener,
    /// Rewrites of path and host for the cluster.
    pub rewrite: Option<Box<Rewrite>>,
    /// Error pages; those of the service and of the listener follow.
    pub error_pages: Option<ErrorPages>,
    /// Cross-origin rules: its own or those of its services. The edits of responses remove the clusters' fields then.
    pub cors: Option<Arc<Cors>>,
    /// Mirroring.
    pub mirror: Option<Mirror>,
    /// The access policy.
    pub policy: Option<super::policy::PolicyIndex>,
}

impl Route {
    /// Whether a request meets the conditions beside host, path, method and listener.
    fn suits(&self, request: &dyn RequestFacts) -> bool {
        let has = |(name, value): &(String, String)| {
            request.has_field(name, &|found| found == value.as_bytes())
        };
        self.headers.iter().all(has)
            && self.conditions.as_ref().is_none_or(|conditions| conditions.matches(request))
    }

    fn conditions_count(&self) -> usize {
        self.headers.len() + self.conditions.as_ref().map_or(0, |conditions| conditions.count())
    }
}

/// Mirroring of a route's requests; the responses are discarded.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// The service that receives the mirrored requests, with the data classes of the original.
    pub to: Destination,
    /// The mirrored share of the requests, 0 to 1.
    pub share: f64,
}

/// Which paths a route matches.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// This path.
    Exact(String),
    /// This path and all paths below it, by whole segments.
    Prefix(String),
    /// Paths that the pattern matches from beginning to end.
    Pattern(Regex),
}

/// The action for a request.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most routes forward, and are read in place")]
pub enum Action {
    /// Forwards to this destination.
    Forward(Destination),
    /// Forwards to one of these destinations, in proportion to the weights.
    Split(Vec<(u32, Destination)>),
    /// The client is redirected.
    Redirect {
        /// `Location`.
        to: Template,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// A fixed response.
    Respond {
        /// Its status.
        status: u16,
        /// Its body, as text.
        body: String,
    },
}

impl Action {
    /// The destinations of the route; none if the proxy itself answers.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let (one, parts) = match self {
            Action::Forward(to) => (Some(to), None),
            Action::Split(parts) => (None, Some(parts)),
            Action::Redirect { .. } | Action::Respond { .. } => (None, None),
        };
        one.into_iter().chain(parts.into_iter().flatten().map(|(_, to)| to))
    }

    /// The destinations of the route, to be changed.
    pub fn destinations_mut(&mut self) -> impl Iterator<Item = &mut Destination> {
        let (one, parts) = match self {
            Action::Forward(to) => (Some(to), None),
            Action::Split(parts) => (None, Some(parts)),
            Action::Redirect { .. } | Action::Respond { .. } => (None, None),
        };
        one.into_iter().chain(parts.into_iter().flatten().map(|(_, to)| to))
    }

    /// The destination of this class.
    #[must_use]
    pub fn destination(&self, class: ClassIndex) -> Option<&Destination> {
        self.destinations().find(|to| to.class == class)
    }

    /// The longest total timeout of the route's destinations; `None` if no destination has one.
    #[must_use]
    pub fn total_timeout(&self) -> Option<Duration> {
        self.destinations().filter_map(|to| to.terms.total_timeout).max()
    }
}

/// The properties of a request that determine its route.
#[derive(Clone, Copy)]
pub struct RouteQuery<'a> {
    /// The request's listener.
    pub listener: ListenerIndex,
    /// The request's host, in lower case, without port.
    pub host: &'a str,
    /// The request's canonical path.
    pub path: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The method of the request that the request announces, if it is a preflight.
    pub announced: Option<&'a str>,
    /// The request, for further conditions.
    pub request: &'a dyn RequestFacts,
}

/// Why there is no route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unrouted {
    /// No route matches host and path.
    NoRoute,
    /// Routes match host and path, but for these methods only.
    Method(Vec<String>),
    /// The request matches routes of different policies with and without its path parameters.
    Ambiguous,
}

/// The state of a search.
#[derive(Default)]
struct Search {
    /// Routes that match except for the method.
    differing: Vec<RouteIndex>,
    /// Whether such a route has a policy, which ends the search.
    held: bool,
    /// Whether the search ignores policies.
    passes: bool,
}

/// All routes, compiled.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Table<RouteIndex, Route>,
    hosts: BTreeMap<String, PathTable>,
    wildcards: BTreeMap<String, PathTable>,
    any_host: PathTable,
    catch_alls: BTreeMap<ListenerIndex, RouteIndex>,
}

#[derive(Clone, Debug, Default)]
struct PathTable {
    exact: BTreeMap<String, Vec<RouteIndex>>,
    prefixes: BTreeMap<String, Vec<RouteIndex>>,
    segments_max: usize,
    patterns: Vec<(Regex, RouteIndex)>,
}

impl RouteTable {
    /// Compiles routes in file order. `catch_alls` are the last routes of the listeners that have one.
    #[must_use]
    pub fn new(routes: Vec<Route>, catch_alls: Vec<(ListenerIndex, Route)>) -> RouteTable {
        let mut table = RouteTable::default();
        let mut routes = Table::from(routes);
        for (index, route) in routes.enumerated() {
            if route.hosts.is_empty() {
                table.any_host.insert(&route.path, index);
            }
            for host in &route.hosts {
                let by_path = match host.strip_prefix("*.") {
                    Some(suffix) => table.wildcards.entry(suffix.to_owned()).or_default(),
                    None => table.hosts.entry(host.clone()).or_default(),
                };
                by_path.insert(&route.path, index);
            }
        }
        for (listener, route) in catch_alls {
            table.catch_alls.insert(listener, routes.push(route));
        }
        table.routes = routes;
        table
    }

    /// The route that serves a request. A preflight has the route of the request that it announces, if this route has
    /// cross-origin rules: a route that takes only `POST` is found, too.
    ///
    /// # Errors
    /// [`Unrouted`] when no route matches.
    pub fn find(&self, query: &RouteQuery<'_>) -> Result<RouteIndex, Unrouted> {
        let announced = query.announced.and_then(|method| {
            let index = self.find(&RouteQuery { method, announced: None, ..*query }).ok()?;
            self.routes[index].cors.is_some().then_some(index)
        });
        if let Some(index) = announced {
            return Ok(index);
        }
        match without_parameters(query.path) {
            None => self.search(query, &mut Search::default()),
            Some(bare) => self.find_both(query, &bare),
        }
    }

    /// The route that would match if a policy did not end the search for requests with other methods.
    #[must_use]
    pub fn find_behind(&self, query: &RouteQuery<'_>) -> Option<RouteIndex> {
        self.search(query, &mut Search { passes: true, ..Search::default() }).ok()
    }

    /// Searches by the received path, and by the path without its parameters in case a policy applies to that path.
    fn find_both(&self, query: &RouteQuery<'_>, bare: &str) -> Result<RouteIndex, Unrouted> {
        let whole = self.search(query, &mut Search::default())?;
        let mut search = Search::default();
        match self.search(&RouteQuery { path: bare, ..*query }, &mut search) {
            Err(unrouted) if search.held => Err(unrouted),
            Err(_) => Ok(whole),
            Ok(other) => match (self.routes[whole].policy, self.routes[other].policy) {
                (_, None) => Ok(whole),
                (None, Some(_)) => Ok(other),
                (Some(_), Some(_)) if whole == other => Ok(whole),
                (Some(_), Some(_)) => Err(Unrouted::Ambiguous),
            },
        }
    }

    fn search(&self, query: &RouteQuery<'_>, search: &mut Search) -> Result<RouteIndex, Unrouted> {
        let exact = self.hosts.get(query.host);
        let tables =
            exact.into_iter().chain(self.wildcard_tables(query.host)).chain([&self.any_host]);
        for table in tables {
            if let Some(found) = self.find_by_path(table, query, search) {
                return Ok(found);
            }
            if search.held {
                return Err(self.other_methods(search));
            }
        }
        match self.catch_alls.get(&query.listener) {
            Some(index) => Ok(*index),
            None if search.differing.is_empty() => Err(Unrouted::NoRoute),
            None => Err(self.other_methods(search)),
        }
    }

    fn other_methods(&self, search: &Search) -> Unrouted {
        let mut methods = Vec::new();
        for method in search.differing.iter().flat_map(|index| &self.routes[*index].methods) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        Unrouted::Method(methods)
    }

    /// Wildcards that cover `host`, longest suffix first; each covers at least one label.
    fn wildcard_tables<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a PathTable> {
        let dots = host.match_indices('.').take(if self.wildcards.is_empty() { 0 } else { 127 });
        dots.filter(|(at, _)| *at > 0).filter_map(|(at, _)| self.wildcards.get(&host[at + 1..]))
    }

    fn find_by_path(
        &self,
        table: &PathTable,
        query: &RouteQuery<'_>,
        search: &mut Search,
    ) -> Option<RouteIndex> {
        if let Some(found) = table.exact.get(query.path) {
            let best = self.best(found, query, search);
            if best.is_some() {
                return best;
            }
        }
        let own = query.path.trim_end_matches('/');
        for prefix in prefixes(query.path, table.segments_max) {
            // A policy must not be bypassed: only a route for the same path may take other methods.
            if search.held && prefix != own {
                return None;
            }
            if let Some(found) = table.prefixes.get(prefix) {
                let best = self.best(found, query, search);
                if best.is_some() || search.held {
                    return best;
                }
            }
        }
        let mut held_by = if search.held { Some("") } else { None };
        for (pattern, index) in table.patterns.iter().filter(|(p, _)| p.is_match(query.path)) {
            if held_by.is_some_and(|held| held != pattern.as_str()) {
                return None;
            }
            let best = self.best(&[*index], query, search);
            if best.is_some() {
                return best;
            }
            held_by = search.held.then_some(pattern.as_str());
        }
        None
    }

    /// The most specific of routes that share host and path: a route with methods first, then the route with more
    /// conditions, then the first in the file.
    fn best(
        &self,
        candidates: &[RouteIndex],
        query: &RouteQuery<'_>,
        search: &mut Search,
    ) -> Option<RouteIndex> {
        let mut best: Option<(bool, usize, RouteIndex)> = None;
        for &index in candidates {
            let route = &self.routes[index];
            let listens = route.listeners.is_empty() || route.listeners.contains(&query.listener);
            if !listens || !route.suits(query.request) {
                continue;
            }
            if !route.methods.is_empty() && !route.methods.iter().any(|m| m == query.method) {
                search.differing.push(index);
                search.held |= route.policy.is_some() && !search.passes;
                continue;
            }
            let rank = (!route.methods.is_empty(), route.conditions_count());
            if best.is_none_or(|(method, headers, _)| rank > (method, headers)) {
                best = Some((rank.0, rank.1, index));
            }
        }
        best.map(|(.., index)| index)
    }

    /// The route at `index`.
    #[must_use]
    pub fn route(&self, index: RouteIndex) -> &Route {
        &self.routes[index]
    }

    /// All routes: those of the configuration file, then one catch-all route for each listener with a default service.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

impl PathTable {
    fn insert(&mut self, path: &PathMatch, index: RouteIndex) {
        match path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default().push(index),
            PathMatch::Prefix(prefix) => {
                let key = prefix.trim_end_matches('/');
                self.segments_max = self.segments_max.max(key.matches('/').count());
                self.prefixes.entry(key.to_owned()).or_default().push(index);
            }
            PathMatch::Pattern(pattern) => self.patterns.push((pattern.clone(), index)),
        }
    }
}

/// The path without the parameters of its segments: `/a;x/b` is `/a/b`; `None` if the path has no parameters.
fn without_parameters(path: &str) -> Option<String> {
    path.contains(';').then(|| {
        let segments = path.split('/').map(|segment| segment.split(';').next());
        segments.map(Option::unwrap_or_default).collect::<Vec<_>>().join("/")
    })
}

/// `/a/b/c` → `/a/b/c`, `/a/b`, `/a`, and the root as an empty string; at most `deepest` segments.
fn prefixes(path: &str, deepest: usize) -> impl Iterator<Item = &str> {
    let cut = path.match_indices('/').nth(deepest).map_or(path.len(), |(at, _)| at);
    let first = path[..cut].trim_end_matches('/');
    std::iter::successors(Some(first), |prefix| {
        prefix.rfind('/').map(|slash| prefix[..slash].trim_end_matches('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::PolicyIndex;

    fn route(name: &str, hosts: &[&str], path: PathMatch) -> Route {
        Route {
            name: name.to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            path,
            methods: Vec::new(),
            headers: Vec::new(),
            listeners: Vec::new(),
            action: Action::Respond { status: 200, body: String::new() },
            response_edits: ByListener::default(),
            rewrite: None,
            error_pages: None,
            conditions: None,
            policy: None,
            cors: None,
            mirror: None,
        }
    }

    fn prefix(path: &str) -> PathMatch {
        PathMatch::Prefix(path.to_owned())
    }

    /// A request with `x-canary: 1`, or without fields.
    struct Canary(bool);

    impl RequestFacts for Canary {
        fn has_field(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
            self.0 && name == "x-canary" && test(b"1")
        }
        fn query(&self) -> &str {
            ""
        }
        fn client(&self) -> Option<std::net::IpAddr> {
            None
        }
        fn is_https(&self) -> bool {
            false
        }
    }

    fn find(table: &RouteTable, method: &str, host: &str, path: &str) -> String {
        let request = Canary(path == "/h");
        let query = RouteQuery {
            listener: ListenerIndex(0),
            host,
            path,
            method,
            announced: None,
            request: &request,
        };
        match table.find(&query) {
            Ok(index) => table.route(index).name.clone(),
            Err(unrouted) => format!("{unrouted:?}"),
        }
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_file_order() {
        let posts = Route { methods: vec!["POST".into()], ..route("posts", &[], prefix("/p")) };
        let canary = Route {
            headers: vec![("x-canary".into(), "1".into())],
            ..route("canary", &[], prefix("/h"))
        };
        let table = RouteTable::new(
            vec![
                route("any", &[], prefix("/any")),
                route(
                    "pattern",
                    &["a.example"],
                    PathMatch::Pattern(Regex::new("^/re.*$").unwrap()),
                ),
                route("root", &["a.example"], prefix("/")),
                route("shop", &["a.example"], prefix("/shop/")),
                route("deep", &["a.example"], prefix("/shop/deep")),
                route("exact", &["a.example"], PathMatch::Exact("/shop/deep".into())),
                route("wild", &["*.example"], prefix("/")),
                route("wilder", &["*.b.example"], prefix("/")),
                route("plain-h", &[], prefix("/h")),
                canary,
                posts,
            ],
            vec![],
        );
        for (method, host, path, expected) in [
            ("GET", "a.example", "/shop/deep", "exact"),
            ("GET", "a.example", "/shop/deep/", "deep"),
            ("GET", "a.example", "/shop/deeper", "shop"),
            ("GET", "a.example", "/shop", "shop"),
            ("GET", "a.example", "/shopping", "root"),
            ("GET", "a.example", "/re1", "root"),
            ("GET", "x.b.example", "/", "wilder"),
            ("GET", "b.example", "/", "wild"),
            ("GET", "x.y.b.example", "/", "wilder"),
            ("GET", "example", "/any/thing", "any"),
            ("GET", "example", "/else", "NoRoute"),
            ("GET", "example", "/p", "Method([\"POST\"])"),
            ("POST", "example", "/p", "posts"),
            ("GET", "example", "/h", "canary"),
        ] {
            assert_eq!(find(&table, method, host, path), expected, "{method} {host}{path}");
        }
    }

    #[test]
    fn the_listeners_own_route_is_the_last_even_after_a_pattern() {
        let pattern = PathMatch::Pattern(Regex::new("^/re$").unwrap());
        let table = RouteTable::new(
            vec![route("pattern", &[], pattern)],
            vec![(ListenerIndex(0), route("last", &[], prefix("/")))],
        );
        assert_eq!(find(&table, "GET", "x", "/re"), "pattern");
        assert_eq!(find(&table, "GET", "x", "/other"), "last");
    }

    /// A route with a policy, for GET alone.
    fn guarded(name: &str, path: PathMatch) -> Route {
        Route {
            methods: vec!["GET".into()],
            policy: Some(PolicyIndex(0)),
            ..route(name, &[], path)
        }
    }

    #[test]
    fn a_policy_for_some_methods_cannot_be_bypassed_with_other_methods() {
        let pattern = || PathMatch::Pattern(Regex::new("^/re.*$").unwrap());
        let post =
            |name: &str, path| Route { methods: vec!["POST".into()], ..route(name, &[], path) };
        let table = RouteTable::new(
            vec![
                guarded("admin", prefix("/admin")),
                post("admin-post", PathMatch::Exact("/admin/post".into())),
                guarded("exact", PathMatch::Exact("/exact".into())),
                post("exact-post", prefix("/exact")),
                guarded("deep", prefix("/admin/deep")),
                guarded("pattern", pattern()),
                post("pattern-post", pattern()),
                post("open-post", prefix("/open")),
            ],
            vec![(ListenerIndex(0), route("last", &[], prefix("/")))],
        );
        for (method, path, expected) in [
            ("GET", "/admin/x", "admin"),
            ("HEAD", "/admin/x", "Method([\"GET\"])"),
            ("get", "/admin", "Method([\"GET\"])"),
            ("POST", "/admin/post", "admin-post"),
            // No policy is bypassed: the exact route has no policy.
            ("PUT", "/admin/post", "Method([\"POST\", \"GET\"])"),
            ("PUT", "/admin/deep", "Method([\"GET\"])"),
            ("POST", "/exact", "exact-post"),
            ("PUT", "/exact", "Method([\"GET\", \"POST\"])"),
            ("POST", "/real", "pattern-post"),
            ("PUT", "/real", "Method([\"GET\", \"POST\"])"),
            ("GET", "/open", "last"),
            ("PUT", "/administrator", "last"),
        ] {
            assert_eq!(find(&table, method, "x", path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_policy_cannot_be_bypassed_with_a_path_parameter() {
        let other = Route { policy: Some(PolicyIndex(1)), ..route("other", &[], prefix("/other")) };
        let table = RouteTable::new(
            vec![
                guarded("internal", prefix("/internal")),
                other,
                route("open", &[], prefix("/open")),
            ],
            vec![(ListenerIndex(0), route("last", &[], prefix("/")))],
        );
        for (method, path, expected) in [
            ("GET", "/internal;x", "internal"),
            ("GET", "/internal;x=1/y", "internal"),
            ("GET", "/internal/y;z", "internal"),
            ("PUT", "/internal;x", "Method([\"GET\"])"),
            ("GET", "/open;x", "last"),
            ("GET", "/open/y;x", "open"),
            ("GET", "/other/y;x", "other"),
        ] {
            assert_eq!(find(&table, method, "x", path), expected, "{method} {path}");
        }
        let root = Route { policy: Some(PolicyIndex(2)), ..route("root", &[], prefix("/")) };
        let table = RouteTable::new(vec![guarded("internal", prefix("/internal")), root], vec![]);
        assert_eq!(find(&table, "GET", "x", "/internal;x"), "Ambiguous");
        assert_eq!(find(&table, "GET", "x", "/else;x"), "root");
    }

    #[test]
    fn a_path_of_thousands_of_segments_is_cut_to_the_deepest_route() {
        assert_eq!(prefixes(&"/a".repeat(4_000), 2).count(), 3);
        assert_eq!(prefixes("/a/b/c", 9).collect::<Vec<_>>(), ["/a/b/c", "/a/b", "/a", ""]);
        assert_eq!(prefixes("/", 0).collect::<Vec<_>>(), [""]);
    }
}
