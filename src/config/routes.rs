//! Routes: from shapes to the compiled table.

use super::compiler::Compiler;
use super::error::Problem;
use super::file;
use super::headers::is_field_name;
use super::listeners::listener_names;
use super::policies::Written;
use super::services::Layer;
use super::shadow::{Earlier, warn_if_shadowed};
use super::shape::Spanned;
use super::{compression, cors};
use crate::decision::cors::Cors;
use crate::decision::edits::{ByListener, Edits};
use crate::decision::plan::{ClassIndex, Kind, Listener, ListenerIndex, Plan, ProbeKind, Source};
use crate::decision::route::{Action, Mirror, PathMatch, Route, RouteTable};
use crate::decision::terms::{Destination, Overrides, Terms};
use crate::http::target::Target;
use crate::http::{EncodedSlash, Slashes};
use std::sync::Arc;

/// Compiles all routes into the plan.
pub(super) fn compile(compiler: &mut Compiler<'_>) {
    let file = compiler.file;
    let mut routes = Vec::new();
    let mut places = Vec::new();
    let mut earlier = Earlier::new();
    for (index, written) in file.routes.iter().flatten().enumerate() {
        if let Some(route) = route(compiler, written, index) {
            warn_if_shadowed(compiler, written, &route, &routes, &mut earlier);
            places.push((written.at, format!("routes[{index}]")));
            routes.push(route);
        }
    }
    let mut catch_alls = Vec::new();
    for (index, (name, listener)) in file.listeners.0.iter().enumerate() {
        let (file::Protocol::Http, Some(service)) = (listener.protocol, &listener.service) else {
            continue;
        };
        let path = format!("listeners.{}.service", name.value);
        if let Some(class) = compiler.class_of(service, &[], &[], Layer::L7, &path) {
            let to = destination(compiler, class, &Overrides::default());
            catch_alls.push((ListenerIndex(index), last_route(compiler, &name.value, to)));
        }
    }
    warn_of_blind_probes(compiler);
    compiler.plan.routes = RouteTable::new(routes, catch_alls);
    super::reach::warn(compiler, &places);
}

/// A class as a route's destination.
fn destination(compiler: &Compiler<'_>, class: ClassIndex, overrides: &Overrides) -> Destination {
    let mut terms = Terms::resolve(compiler.plan.service_of(class), overrides);
    terms.compression =
        compression::unless_sensitive(&compiler.plan, class, terms.compression.take());
    Destination { class, terms }
}

fn last_route(compiler: &Compiler<'_>, listener: &str, to: Destination) -> Route {
    let action = Action::Forward(to);
    let cors = cors::of_services(&compiler.plan, &action).flatten();
    let mut route = Route {
        name: format!("listeners.{listener}"),
        hosts: Vec::new(),
        path: PathMatch::Prefix("/".to_owned()),
        methods: Vec::new(),
        headers: Vec::new(),
        listeners: Vec::new(),
        action,
        response_edits: ByListener::default(),
        cors,
        rewrite: None,
        conditions: None,
        error_pages: None,
        policy: None,
        mirror: None,
    };
    apply_edits(&compiler.plan, &mut route, Edits::default(), Edits::default());
    route
}

/// Merges the edits of listeners, services and the route: for each destination, and for the proxy's own responses.
fn apply_edits(plan: &Plan, route: &mut Route, request: Edits, response: Edits) {
    let serves =
        |index: ListenerIndex| route.listeners.is_empty() || route.listeners.contains(&index);
    let edited = |of: fn(&Listener) -> &Arc<Edits>| -> Vec<(ListenerIndex, Arc<Edits>)> {
        let listeners = plan.listeners.enumerated().filter(|(index, _)| serves(*index));
        let listeners = listeners.filter(|(_, listener)| !of(listener).is_empty());
        listeners.map(|(index, listener)| (index, of(listener).clone())).collect()
    };
    let requests = edited(|listener| &listener.request_edits);
    let responses = edited(|listener| &listener.response_edits);
    let of_mirror = route.mirror.iter_mut().map(|mirror| &mut mirror.to);
    for to in route.action.destinations_mut().chain(of_mirror) {
        let service = plan.service_of(to.class);
        let own = request.after(&service.request_edits);
        to.terms.request_edits = ByListener::new(own, &requests);
        let own = response.after(&service.response_edits);
        let own = cors::without_clusters_fields(own, route.cors.as_ref());
        to.terms.response_edits = ByListener::new(own, &responses);
    }
    let own = cors::without_clusters_fields(response, route.cors.as_ref());
    route.response_edits = ByListener::new(own, &responses);
}

fn route(compiler: &mut Compiler<'_>, written: &file::Route, index: usize) -> Option<Route> {
    let path = format!("routes[{index}]");
    let hosts = hosts(compiler, written, &path);
    let path_match = path_match(compiler, written, &path);
    let methods = methods(compiler, written, &path);
    let listeners = listeners(compiler, written, &path);
    let overrides = overrides(compiler, written, &path);
    let action = action(compiler, written, &overrides, &path);
    let headers = written.headers.clone().unwrap_or_default().0;
    for (name, value) in &headers {
        if !is_field_name(&name.value) || value.chars().any(char::is_control) {
            let message = format!(
                "header `{}` has an invalid name, or a control character in its value",
                name.value.escape_debug()
            );
            compiler.problems.error(name.at, format!("{path}.headers"), message);
        }
    }
    let request_edits =
        compiler.edits(written.request_headers.as_ref(), &format!("{path}.request_headers"));
    let response_edits =
        compiler.edits(written.response_headers.as_ref(), &format!("{path}.response_headers"));
    let rewrite = compiler.rewrite(written.rewrite.as_ref(), action.as_ref(), &path);
    let conditions = compiler.conditions(written, &path);
    let error_pages = compiler.error_pages(written.error_pages.as_ref(), &path);
    let spans = [
        ("timeout", written.timeout),
        ("total_timeout", written.total_timeout.and_then(|timeout| timeout.0)),
        ("per_try_timeout", written.per_try_timeout.and_then(|timeout| timeout.0)),
        ("hedge.after", written.hedge.as_ref().and_then(|hedge| hedge.after.0)),
    ];
    compiler.not_zero(written.at, &path, &spans);
    let policy = compiler.policy(&path, &Written::of_route(written));
    let cors = cors_of(compiler, written, action.as_ref(), &path);
    warn_of_sensitive(compiler, written, action.as_ref(), &path);
    let mirror = mirror(compiler, written, action.as_ref(), &overrides, &path);
    let mut route = Route {
        policy,
        mirror,
        name: name(compiler, written, &path),
        hosts,
        path: path_match?,
        methods,
        headers: headers.into_iter().map(|(n, v)| (n.value.to_ascii_lowercase(), v)).collect(),
        listeners,
        action: action?,
        response_edits: ByListener::default(),
        cors,
        rewrite,
        conditions,
        error_pages,
    };
    apply_edits(&compiler.plan, &mut route, request_edits, response_edits);
    Some(route)
}

/// The route's own name, else its place in the file.
fn name(compiler: &mut Compiler<'_>, written: &file::Route, place: &str) -> String {
    let Some(name) = &written.name else { return place.to_owned() };
    let path = format!("{place}.name");
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !(1..=128).contains(&name.value.len()) || !name.value.chars().all(is_valid) {
        let hint = "letters, digits, `-`, `_` and `.`, at most 128";
        compiler.problems.error_with_hint(name.at, &path, "not a valid name", hint);
    }
    if !compiler.route_names.insert(name.value.clone()) {
        let message = format!("another route has the name `{}`", name.value);
        compiler.problems.error(name.at, path, message);
    }
    name.value.clone()
}

/// The cross-origin rules of a route: its own, else those of its services, which must agree: a preflight and its request
/// may go to different parts of a split.
fn cors_of(
    compiler: &mut Compiler<'_>,
    written: &file::Route,
    action: Option<&Action>,
    path: &str,
) -> Option<Arc<Cors>> {
    if let Some(own) = &written.cors {
        return Some(compiler.cors(own, path));
    }
    let of_services = cors::of_services(&compiler.plan, action?);
    if of_services.is_none() {
        let message = "the services of this split have different `cors`";
        let hint =
            "set `cors` at the route: a preflight and its request may go to different services";
        compiler.problems.error_with_hint(written.at, format!("{path}.split"), message, hint);
    }
    of_services.flatten()
}

/// Warns of `compression` that has no effect at any of the route's destinations.
fn warn_of_sensitive(
    compiler: &mut Compiler<'_>,
    written: &file::Route,
    action: Option<&Action>,
    path: &str,
) {
    for to in action.into_iter().flat_map(Action::destinations) {
        let data = compiler.plan.classes[to.class].data.clone();
        compiler.warn_of_sensitive(written.compression.as_ref(), &data, path);
    }
}

/// The settings of a route that override those of its services.
fn overrides(compiler: &mut Compiler<'_>, written: &file::Route, path: &str) -> Overrides {
    let compression = written.compression.as_ref();
    Overrides {
        timeout: written.timeout,
        total_timeout: written.total_timeout.map(|timeout| timeout.0),
        per_try_timeout: written.per_try_timeout.map(|timeout| timeout.0),
        priority: written.priority.map(super::services::priority),
        retries: written
            .retry
            .as_ref()
            .and_then(|retry| retry.retries)
            .and_then(|retries| u32::try_from(retries.0).ok()),
        hedge: written.hedge.as_ref().map(|hedge| hedge.after.0),
        hash_key: written.hash.as_ref().map(|hash| compiler.hash_key(hash, path)),
        affinity: written.affinity.as_ref().map(|stay| compiler.affinity(stay, path)),
        compression: compression.map(|written| compiler.compression(written, path)),
    }
}

fn hosts(compiler: &mut Compiler<'_>, written: &file::Route, path: &str) -> Vec<String> {
    let mut hosts = Vec::new();
    for (index, host) in written.hosts.iter().flatten().enumerate() {
        let text = host.value.to_ascii_lowercase();
        let bare = text.strip_prefix("*.").unwrap_or(&text);
        let address = bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if !(super::scalar::is_host_name(bare) || address) {
            let message = format!("`{}` is not a host name", host.value);
            let hint = "a host without port, exact or with a leading \"*.\"";
            let path = format!("{path}.hosts[{index}]");
            compiler.problems.error_with_hint(host.at, path, message, hint);
        }
        hosts.push(text.trim_end_matches('.').to_owned());
    }
    hosts
}

fn path_match(compiler: &mut Compiler<'_>, written: &file::Route, path: &str) -> Option<PathMatch> {
    let given = [&written.path, &written.path_prefix, &written.path_regex];
    if given.iter().filter(|way| way.is_some()).count() > 1 {
        let message = "has more than one of `path`, `path_prefix` and `path_regex`";
        compiler.problems.error(written.at, path, message);
        return None;
    }
    let rooted = |compiler: &mut Compiler<'_>, text: &Spanned<String>, key: &str| {
        let mut canonical = canonical_path(&text.value);
        if canonical.as_deref() == Some(text.value.as_str()) {
            return canonical.take();
        }
        let message = format!("`{}` is not a path in canonical form", text.value);
        let hint = match canonical {
            Some(canonical) => format!("write `{canonical}`"),
            None => "it must begin with `/`, without query or fragment".to_owned(),
        };
        compiler.problems.error_with_hint(text.at, format!("{path}.{key}"), message, hint);
        None
    };
    match given {
        [Some(exact), ..] => rooted(compiler, exact, "path").map(PathMatch::Exact),
        [_, Some(prefix), _] => rooted(compiler, prefix, "path_prefix").map(PathMatch::Prefix),
        [_, _, Some(pattern)] => {
            let path = format!("{path}.path_regex");
            compiler.path_pattern(pattern, &path).map(PathMatch::Pattern)
        }
        [None, None, None] => Some(PathMatch::Prefix("/".to_owned())),
    }
}

/// The canonical form of a path, in which requests are matched: a route in another form would never match.
pub(super) fn canonical_path(path: &str) -> Option<String> {
    let mut target = Target::default();
    target.read(path.as_bytes(), EncodedSlash::Keep, Slashes::Keep).ok()?;
    target.query().is_empty().then(|| target.path().to_owned())
}

fn methods(compiler: &mut Compiler<'_>, written: &file::Route, path: &str) -> Vec<String> {
    let mut methods = Vec::new();
    for (index, method) in written.methods.iter().flatten().enumerate() {
        let valid = |c: char| c.is_ascii_uppercase() || c == '-' || c == '_';
        if method.value.is_empty() || !method.value.chars().all(valid) {
            let message = format!("`{}` is not a method", method.value);
            let hint = "methods are case-sensitive: GET, POST";
            let path = format!("{path}.methods[{index}]");
            compiler.problems.error_with_hint(method.at, path, message, hint);
        }
        methods.push(method.value.clone());
    }
    methods
}

fn listeners(compiler: &mut Compiler<'_>, written: &file::Route, path: &str) -> Vec<ListenerIndex> {
    let file = compiler.file;
    let mut indices = Vec::new();
    for (index, wanted) in written.listeners.iter().flatten().enumerate() {
        let path = format!("{path}.listeners[{index}]");
        match file.listeners.position(&wanted.value) {
            Some(at) if file.listeners.0[at].1.protocol != file::Protocol::Http => {
                let message = format!("`{}` is not an http listener", wanted.value);
                compiler.problems.error(wanted.at, path, message);
            }
            Some(at) => indices.push(ListenerIndex(at)),
            None if file.listeners.is_broken(&wanted.value) => {}
            None => {
                let message = format!("there is no listener `{}`", wanted.value);
                compiler.unknown(wanted.at, &path, message, &wanted.value, listener_names(file));
            }
        }
    }
    indices
}

fn action(
    compiler: &mut Compiler<'_>,
    written: &file::Route,
    overrides: &Overrides,
    path: &str,
) -> Option<Action> {
    let ways = [
        written.service.is_some(),
        written.split.is_some(),
        written.redirect.is_some(),
        written.respond.is_some(),
    ];
    let ways = ways.iter().filter(|way| **way).count();
    if ways != 1 {
        let message = "needs exactly one of `service`, `split`, `redirect` and `respond`";
        let problem = Problem::error(written.at, path, message);
        let keys = ["service", "split", "redirect", "respond"];
        match ways {
            0 => compiler.problems.lacking(path, &keys, problem),
            _ => compiler.problems.push(problem),
        }
        return None;
    }
    let data = written.data.clone().map_or(Vec::new(), |data| data.0);
    let needs = written.needs.clone().unwrap_or_default();
    if let Some(service) = &written.service {
        let path = format!("{path}.service");
        let class = compiler.class_of(service, &data, &needs, Layer::L7, &path)?;
        return Some(Action::Forward(destination(compiler, class, overrides)));
    }
    if let Some(split) = &written.split {
        let mut parts = Vec::new();
        for (name, weight) in &split.0 {
            let path = format!("{path}.split.{}", name.value);
            let class = compiler.class_of(name, &data, &needs, Layer::L7, &path)?;
            let to = destination(compiler, class, overrides);
            parts.push((u32::try_from(weight.0).unwrap_or(u32::MAX), to));
        }
        if parts.iter().all(|(weight, _)| *weight == 0) {
            let problem = Problem::error(
                written.at,
                format!("{path}.split"),
                "all weights are 0: at least one must be greater",
            );
            compiler.problems.lacking(path, &["split"], problem);
            return None;
        }
        return Some(Action::Split(parts));
    }
    if let Some(redirect) = &written.redirect {
        return compiler.redirect(redirect, path);
    }
    let respond = written.respond.as_ref()?;
    Some(Action::Respond {
        status: respond.status.and_then(|status| u16::try_from(status.0).ok()).unwrap_or(200),
        body: respond.body.clone().unwrap_or_default(),
    })
}

/// The class of a route's copies. Copies are subject to the same constraints as the original.
fn mirror(
    compiler: &mut Compiler<'_>,
    written: &file::Route,
    action: Option<&Action>,
    overrides: &Overrides,
    path: &str,
) -> Option<Mirror> {
    let mirror = written.mirror.as_ref()?;
    let path = format!("{path}.mirror");
    let originals: Vec<ClassIndex> = match action? {
        Action::Forward(to) => vec![to.class],
        Action::Split(parts) => parts.iter().map(|(_, to)| to.class).collect(),
        Action::Redirect { .. } | Action::Respond { .. } => {
            let message = "a route with `redirect` or `respond` forwards nothing, so there is nothing to mirror";
            compiler.problems.error(mirror.at, path, message);
            return None;
        }
    };
    let percent = mirror.percent.map_or(100.0, |percent| percent.0);
    if percent > 100.0 {
        compiler.problems.error(mirror.at, format!("{path}.percent"), "must be from 0 to 100");
    }
    let classes = &compiler.plan.classes;
    let data: Vec<String> =
        originals.iter().flat_map(|class| classes[*class].data.iter().cloned()).collect();
    let needs = written.needs.clone().unwrap_or_default();
    let path = format!("{path}.service");
    let class = compiler.class_of(&mirror.service, &data, &needs, Layer::L7, &path)?;
    Some(Mirror { to: destination(compiler, class, overrides), share: percent / 100.0 })
}

/// Warns of TCP probes of a cloud cluster: a load balancer in front of the endpoints accepts connections even if all
/// endpoints are down.
fn warn_of_blind_probes(compiler: &mut Compiler<'_>) {
    let file = compiler.file;
    for ((name, _), (index, cluster)) in
        file.clusters.0.iter().zip(compiler.plan.clusters.enumerated())
    {
        let behind_balancer =
            cluster.kind == Kind::Cloud && matches!(cluster.source, Source::Dns { .. });
        let serves_http = compiler
            .plan
            .classes
            .iter()
            .any(|class| !class.l4 && class.permitted.clusters.contains(&index));
        if behind_balancer && serves_http && cluster.probe.kind == ProbeKind::Tcp {
            let message = "a tcp probe of a cloud load balancer does not tell whether the servers behind the balancer are up";
            let hint = "write `probe: { kind: http, path: /healthz }`";
            let path = format!("clusters.{}.probe", name.value);
            compiler.problems.warning(name.at, path, message, hint);
        }
    }
}
