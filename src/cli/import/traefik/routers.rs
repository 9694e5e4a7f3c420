//! Routers as rules and layer-4 listeners.

use super::super::capabilities::close;
use super::super::document::{Doc, Map};
use super::super::model::{PathTest, Rule, When, block};
use super::Translation;
use super::entry_points::{EntryPoint, has_tls};
use super::middlewares::Middlewares;
use super::rule::{Part, alternatives, conditions};
use super::services::service_name;
use super::tree::Tree;

/// A router with its priority.
struct Ranked<'a> {
    name: &'a str,
    router: &'a Tree,
    priority: i64,
}

/// HTTP routers: one group of rules, by priority.
pub(super) fn http(translation: &mut Translation<'_>) {
    let root = translation.root;
    let mut ranked: Vec<Ranked<'_>> = Vec::new();
    for (name, router) in root.entries("http.routers") {
        let rule = router.text("rule").unwrap_or_default();
        let own = router.text("priority").and_then(|priority| priority.parse::<i64>().ok());
        let priority = own.filter(|own| *own != 0).unwrap_or(rule.len() as i64);
        ranked.push(Ranked { name, router, priority });
    }
    // Traefik's default is the length of the rule.
    ranked.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.name.cmp(b.name)));
    let mut group = Vec::new();
    for Ranked { name, router, .. } in ranked {
        let what = format!("http.routers.{name}");
        for key in ["ruleSyntax", "observability"] {
            if let Some(found) = router.get(key) {
                translation.model.unneeded(
                    &found.at,
                    &format!("{what}.{key}"),
                    "it has no effect here",
                );
            }
        }
        let Some(rule) = router.text("rule") else {
            translation.model.left_out(&router.at, &what, "it has no rule");
            continue;
        };
        let conditions = match conditions(rule) {
            Ok(conditions) => conditions,
            Err(hint) => {
                let at = router.get("rule").map_or(&router.at, |rule| &rule.at);
                translation.model.left_out(at, &format!("{what}: {rule}"), &hint);
                continue;
            }
        };
        group.extend(of_router(translation, name, router, &conditions));
    }
    translation.model.groups.push(group);
}

fn of_router(
    translation: &mut Translation<'_>,
    name: &str,
    router: &Tree,
    conditions: &[When],
) -> Vec<Rule> {
    let points = points(translation, router);
    let mut group = Vec::new();
    let mut listeners: Vec<String> = Vec::new();
    let mut shared: Vec<String> = Vec::new();
    let mut closed = false;
    for point in &points {
        // On an entry point with TLS, a router without `tls` serves plain text only, and nobody sends it.
        let of_point =
            translation.root.get(&format!("entryPoints.{}.http.tls", point.name)).is_some();
        if point.tls != (has_tls(router) || of_point) {
            let hint = format!(
                "it does not serve requests on `{}`, since one has TLS and the other has not",
                point.name
            );
            translation.model.differs(&router.at, &format!("http.routers.{name}"), &hint);
            continue;
        }
        if !point.redirects {
            closed |= super::tls_options::is_lost(translation, name, router, point);
            listeners.push(point.listener.clone());
            shared.extend(point.middlewares.iter().cloned());
        }
    }
    if listeners.is_empty() {
        return group;
    }
    let mut keys = Map::default();
    let Some(service) = router.text("service") else {
        translation.model.left_out(
            &router.at,
            &format!("http.routers.{name}"),
            "it has no service",
        );
        return group;
    };
    super::services::route_keys(translation, service, router, &mut keys);
    if closed {
        close(&mut keys);
    }
    shared.extend(router.texts("middlewares"));
    let middlewares = Middlewares { names: shared, at: router.at.clone() };
    for when in conditions {
        if let PathTest::Prefix(prefix) = &when.path
            && !prefix.ends_with('/')
        {
            let hint = "a prefix matches whole segments: not `/abc` by `/ab`";
            translation.model.differs(&router.at, &format!("PathPrefix(`{prefix}`)"), hint);
        }
        let when = When { listeners: listeners.clone(), ..when.clone() };
        let mut keys = keys.clone();
        middlewares.apply(translation, &when, &mut keys);
        group.push(Rule { at: router.at.clone(), when, keys });
    }
    group
}

/// The entry points of a router; without names all that are not for UDP.
fn points(translation: &mut Translation<'_>, router: &Tree) -> Vec<EntryPoint> {
    let names = router.texts("entryPoints");
    let mut found = Vec::new();
    for point in &translation.listeners {
        let default = names.is_empty() && !point.udp && point.tls == has_tls(router);
        if default || names.contains(&point.name) {
            found.push(point.clone());
        }
    }
    for name in &names {
        if !translation.listeners.iter().any(|point| point.name == *name) {
            translation.model.left_out(
                &router.at,
                &format!("entryPoints: {name}"),
                "there is no such entry point",
            );
        }
    }
    found
}

/// TCP routers: a listener is TCP as a whole, or routes TLS by its server name.
pub(super) fn tcp(translation: &mut Translation<'_>) {
    let root = translation.root;
    for (name, router) in root.entries("tcp.routers") {
        let what = format!("tcp.routers.{name}");
        let rule = router.text("rule").unwrap_or("HostSNI(`*`)");
        let names = alternatives(rule).ok().and_then(|all| {
            all.into_iter()
                .map(|conjunction| match conjunction.as_slice() {
                    [Part::Sni(name)] => Some(name.clone()),
                    _ => None,
                })
                .collect::<Option<Vec<String>>>()
        });
        let Some(names) = names else {
            translation.model.left_out(
                &router.at,
                &what,
                "connections are routed by `HostSNI` alone",
            );
            continue;
        };
        let passes = router.is_true("tls.passthrough");
        if has_tls(router) && !passes {
            let hint = "TLS is terminated for HTTP only: use `tls.passthrough`";
            translation.model.left_out(&router.at, &what, hint);
            continue;
        }
        let Some(service) = router.text("service") else { continue };
        let service = super::services::l4(translation, "tcp", service);
        for point in points(translation, router) {
            let used = translation.model.has_rule_of(&point.listener);
            if used {
                let hint = format!(
                    "`{}` serves HTTP: give this router an entry point of its own",
                    point.name
                );
                translation.model.left_out(&router.at, &what, &hint);
                continue;
            }
            let mut keys = std::mem::take(
                &mut block(&mut translation.model.listeners, &point.listener, &point.at).keys,
            );
            keys.set("address", point.address.as_str());
            let any = names.iter().any(|name| name == "*");
            let protocol =
                if passes || keys.get("sni").is_some() { "tls-passthrough" } else { "tcp" };
            keys.set("protocol", Doc::word(protocol));
            if any {
                keys.set("service", service.as_str());
            }
            for name in names.iter().filter(|name| *name != "*") {
                keys.put("sni", name, service.as_str());
            }
            keys.remove("trusted_proxies");
            block(&mut translation.model.listeners, &point.listener, &point.at).keys = keys;
        }
    }
}

/// UDP routers.
pub(super) fn udp(translation: &mut Translation<'_>) {
    let root = translation.root;
    for (_, router) in root.entries("udp.routers") {
        let Some(service) = router.text("service") else { continue };
        let service = super::services::l4(translation, "udp", service);
        let names = router.texts("entryPoints");
        let points: Vec<EntryPoint> = translation
            .listeners
            .iter()
            .filter(|p| p.udp && names.contains(&p.name))
            .cloned()
            .collect();
        for point in points {
            let mut keys = Map::default();
            keys.set("address", point.address.as_str());
            keys.set("protocol", Doc::word("udp"));
            keys.set("service", service_name(&service));
            block(&mut translation.model.listeners, &point.listener, &point.at).keys = keys;
        }
    }
}
