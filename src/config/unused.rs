//! Unused parts of a configuration: listeners without routes, services and clusters that nothing refers to.
//!
//! These are warnings, and only for a file without errors: a wrong reference is already an error.

use super::error::Problems;
use super::file::{File, Listener, Protocol, Route};
use super::shape::Spanned;
use std::collections::BTreeSet;

/// Warns of all unused parts.
pub(super) fn warn(file: &File, problems: &mut Problems) {
    if problems.errors() > 0 {
        return;
    }
    for (name, listener) in &file.listeners.0 {
        if listener.protocol == Protocol::Http
            && listener.service.is_none()
            && !routes(file).any(|route| is_on(route, &name.value))
        {
            let message =
                "the listener has neither `service` nor routes: every request is answered 404";
            let hint = "set `service`, or write `routes`";
            problems.warning(name.at, format!("listeners.{}", name.value), message, hint);
        }
    }
    let services: BTreeSet<&str> = file
        .listeners
        .0
        .iter()
        .flat_map(|(_, one)| of_listener(one))
        .chain(routes(file).flat_map(of_route))
        .collect();
    let hint = "use it, or remove it";
    for (name, _) in
        file.services.0.iter().filter(|(name, _)| !services.contains(name.value.as_str()))
    {
        let message = "no listener and no route uses this service";
        problems.warning(name.at, format!("services.{}", name.value), message, hint);
    }
    for (name, _) in file.capacity_groups.iter().flat_map(|groups| &groups.0) {
        let of_clusters = file.clusters.0.iter().map(|(_, cluster)| &cluster.capacity_group);
        let sites = file.sites.iter().flat_map(|sites| &sites.0);
        let of_sites = sites.map(|(_, site)| &site.capacity_group);
        if !of_clusters.chain(of_sites).flatten().any(|wanted| wanted.value == name.value) {
            let message = "no site and no cluster uses this capacity group";
            let path = format!("capacity_groups.{}", name.value);
            problems.warning(name.at, path, message, hint);
        }
    }
    let of_service = file.services.0.iter().flat_map(|(_, service)| &service.clusters);
    let clusters: BTreeSet<&str> = of_service.map(|name| name.value.as_str()).collect();
    for (name, _) in
        file.clusters.0.iter().filter(|(name, _)| !clusters.contains(name.value.as_str()))
    {
        let message = "no service lists this cluster: it is probed and gets no traffic";
        problems.warning(name.at, format!("clusters.{}", name.value), message, hint);
    }
}

fn routes(file: &File) -> impl Iterator<Item = &Route> {
    file.routes.iter().flatten()
}

fn is_on(route: &Route, listener: &str) -> bool {
    route.listeners.as_ref().is_none_or(|names| names.iter().any(|name| name.value == listener))
}

fn of_listener(listener: &Listener) -> Vec<&str> {
    let by_name = listener.sni.iter().flat_map(|sni| &sni.0).map(|(_, service)| service.as_str());
    by_name.chain(text(&listener.service)).collect()
}

fn of_route(route: &Route) -> Vec<&str> {
    let shares = route.split.iter().flat_map(|split| &split.0).map(|(name, _)| name.value.as_str());
    let mirror = route.mirror.iter().map(|mirror| mirror.service.value.as_str());
    shares.chain(mirror).chain(text(&route.service)).collect()
}

fn text(name: &Option<Spanned<String>>) -> Option<&str> {
    name.as_ref().map(|name| name.value.as_str())
}
