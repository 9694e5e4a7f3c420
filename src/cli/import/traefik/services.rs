//! Services as services and clusters.

use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{block, endpoint, name, seconds};
use super::Translation;
use super::entry_points::time;
use super::tree::Tree;

/// Levels of services that name services.
const DEPTH_MAX: usize = 8;

/// The name without its provider: `shop@file`.
pub(super) fn service_name(text: &str) -> String {
    name(text.split('@').next().unwrap_or_default())
}

/// The keys of a route to a service.
pub(super) fn route_keys(
    translation: &mut Translation<'_>,
    service: &str,
    router: &Tree,
    keys: &mut Map,
) {
    let bare = service.split('@').next().unwrap_or_default();
    if service.ends_with("@internal") {
        let hint = "the answer is 404: the admin API and the dashboard are at `admin.address`";
        translation.model.left_out(&router.at, &format!("service {service}"), hint);
        keys.set("respond.status", Doc::word(404));
        return;
    }
    let root = translation.root;
    let Some(found) = root.get(&format!("http.services.{bare}")) else {
        let hint = "no file defines the service: the answer is 404";
        translation.model.left_out(&router.at, &format!("service {service}"), hint);
        keys.set("respond.status", Doc::word(404));
        return;
    };
    if let Some(weighted) = found.get("weighted") {
        for item in weighted.items("services") {
            let Some(part) = item.text("name") else { continue };
            let weight =
                item.text("weight").and_then(|weight| weight.parse::<u64>().ok()).unwrap_or(1);
            if let Some(own) = made(translation, part, 0) {
                keys.put("split", &own, Doc::word(weight.min(1_000_000)));
            }
        }
        sticky(translation, weighted, keys);
        return;
    }
    if let Some(mirroring) = found.get("mirroring") {
        let main = mirroring.text("service").unwrap_or_default().to_owned();
        if let Some(own) = made(translation, &main, 0).into_iter().next() {
            keys.set("service", own);
        }
        let mirrors = mirroring.items("mirrors");
        for (index, item) in mirrors.iter().enumerate() {
            let Some(copy) = item.text("name").filter(|_| index == 0) else {
                translation.model.left_out(&item.at, "mirrors", "a route has one mirror");
                continue;
            };
            if let Some(own) = made(translation, copy, 0).into_iter().next() {
                keys.set("mirror.service", own);
                keys.set(
                    "mirror.percent",
                    Doc::word(
                        item.text("percent").and_then(|p| p.parse::<u8>().ok()).unwrap_or(100),
                    ),
                );
            }
        }
        return;
    }
    match made(translation, bare, 0).into_iter().next() {
        Some(own) => keys.set("service", own),
        None => keys.set("respond.status", Doc::word(404)),
    }
}

/// Makes a service of a load balancer, or of a pair for fail-over; its name, if it could be made.
fn made(translation: &mut Translation<'_>, service: &str, depth: usize) -> Option<String> {
    let bare = service.split('@').next().unwrap_or_default();
    let chosen = name(bare);
    let root = translation.root;
    if translation.model.services.iter().any(|block| block.name == chosen) {
        return Some(chosen);
    }
    let Some(found) = root.get(&format!("http.services.{bare}")) else {
        translation.model.left_out(
            &root.at,
            &format!("service {service}"),
            "no file defines the service",
        );
        return None;
    };
    if let (Some(failover), true) = (found.get("failover"), depth < DEPTH_MAX) {
        let parts = [failover.text("service"), failover.text("fallback")];
        let mut clusters = Vec::new();
        for part in parts.into_iter().flatten() {
            if let Some(own) = made(translation, part, depth + 1) {
                let block = translation.model.services.iter().find(|block| block.name == own);
                if let Some(Doc::List(names)) = block.and_then(|block| block.keys.get("clusters")) {
                    clusters.extend(names.iter().filter_map(Doc::text).map(str::to_owned));
                }
            }
        }
        let service = block(&mut translation.model.services, &chosen, &found.at);
        service.keys.set("clusters", Doc::texts(&clusters));
        service.keys.set("strategy", Doc::word("priority"));
        return Some(chosen);
    }
    let Some(balancer) = found.get("loadBalancer") else {
        let hint = "use `split` or `mirror` of a route; they are not nested";
        translation.model.left_out(&found.at, &format!("http.services.{bare}"), hint);
        return None;
    };
    let mut cluster = Map::default();
    servers(translation, balancer, &mut cluster);
    if balancer.text("passHostHeader") == Some("false") {
        cluster.set("host", Doc::word("endpoint"));
    }
    health(translation, balancer, &mut cluster);
    block(&mut translation.model.clusters, &chosen, &found.at).keys = cluster;
    let mut keys = Map::default();
    keys.set("clusters", Doc::texts(&[&chosen]));
    sticky(translation, balancer, &mut keys);
    // Traefik waits for the response without a limit unless a transport has one.
    let transport = transport(translation, balancer);
    let limit =
        transport.and_then(|t| t.text("forwardingTimeouts.responseHeaderTimeout")).and_then(time);
    if let Some(limit) = limit.filter(|limit| *limit > 0.0) {
        keys.set("timeout", seconds(limit));
    }
    block(&mut translation.model.services, &chosen, &found.at).keys = keys;
    Some(chosen)
}

fn servers(translation: &mut Translation<'_>, balancer: &Tree, cluster: &mut Map) {
    let mut endpoints = Vec::new();
    let mut scheme_of = None;
    for server in balancer.items("servers") {
        let url = server.text("url").unwrap_or_default();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        let port = if scheme == "https" { 443 } else { 80 };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        if !path.is_empty() {
            let hint = "an endpoint is an address: use `rewrite.add_prefix` of the route";
            translation.model.left_out(&server.at, url, hint);
        }
        if scheme_of.is_some_and(|known| known != scheme) {
            let hint = "all endpoints of a cluster have the same protocol";
            translation.model.left_out(&server.at, url, hint);
            continue;
        }
        scheme_of = Some(scheme);
        let weight =
            server.text("weight").and_then(|weight| weight.parse::<u16>().ok()).unwrap_or(1);
        endpoints.push(endpoint(&address, weight));
    }
    cluster.set("endpoints", Doc::List(endpoints));
    match scheme_of {
        Some("https") => tls(translation, balancer, cluster),
        Some("h2c") => cluster.set("protocol", Doc::word("http2")),
        Some(_) | None => {}
    }
}

/// The transport of a balancer: its own, or the default of the static configuration.
fn transport<'a>(translation: &Translation<'a>, balancer: &Tree) -> Option<&'a Tree> {
    match balancer.text("serversTransport") {
        Some(named) => {
            let bare = named.split('@').next().unwrap_or_default();
            translation.root.get(&format!("http.serversTransports.{bare}"))
        }
        None => translation.root.get("serversTransport"),
    }
}

fn tls(translation: &mut Translation<'_>, balancer: &Tree, cluster: &mut Map) {
    cluster.set("tls", Map::default());
    let Some(transport) = transport(translation, balancer) else { return };
    if let Some(server_name) = transport.text("serverName") {
        cluster.set("tls.server_name", server_name);
    }
    if let Some(ca) = transport.texts("rootCAs").first() {
        cluster.set("tls.ca", beside(&translation.folder, ca));
    }
    if transport.is_true("insecureSkipVerify") {
        let hint = "Traefik did not verify the certificate; Tidegate does: set `tls.server_name` and `tls.ca` of the cluster";
        translation.model.differs(&transport.at, "insecureSkipVerify", hint);
    }
    if let Some(pair) = transport.items("certificates").first()
        && let (Some(cert), Some(key)) = (pair.text("certFile"), pair.text("keyFile"))
    {
        cluster.set("tls.client_cert", beside(&translation.folder, cert));
        cluster.set("tls.client_key", beside(&translation.folder, key));
    }
}

fn health(translation: &mut Translation<'_>, balancer: &Tree, cluster: &mut Map) {
    let Some(check) = balancer.get("healthCheck") else { return };
    if check.text("mode") == Some("grpc") {
        cluster.set("probe.kind", Doc::word("grpc"));
    } else {
        cluster.set("probe.kind", Doc::word("http"));
        cluster.set("probe.path", check.text("path").unwrap_or("/"));
    }
    if let Some(host) = check.text("hostname") {
        cluster.set("probe.host", host);
    }
    if let Some(port) =
        check.text("port").filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    {
        cluster.set("probe.port", Doc::word(port));
    }
    if let Some(status) =
        check.text("status").filter(|s| s.parse::<u16>().is_ok_and(|s| (100..600).contains(&s)))
    {
        cluster.set("probe.status", Doc::texts(&[status]));
    }
    for (key, tree) in check.entries("headers") {
        if let super::tree::Value::Text(value) = &tree.value {
            cluster.put("probe.headers", &key.to_ascii_lowercase(), value.as_str());
        }
    }
    let interval = check.text("interval").and_then(time).unwrap_or(30.0).max(0.01);
    cluster.set("probe.interval", seconds(interval));
    let timeout = check.text("timeout").and_then(time).unwrap_or(5.0).max(0.01);
    cluster.set("probe.timeout", seconds(timeout.min(interval)));
    if let Some(method) = check.text("method").filter(|method| !method.eq_ignore_ascii_case("get"))
    {
        translation.model.differs(
            &check.at,
            &format!("healthCheck.method: {method}"),
            "probes are GET requests",
        );
    }
}

fn sticky(translation: &mut Translation<'_>, balancer: &Tree, keys: &mut Map) {
    let Some(cookie) = balancer.get("sticky.cookie").or(balancer.get("sticky")) else { return };
    keys.set("affinity.cookie", cookie.text("name").unwrap_or("tg-affinity"));
    if let Some(age) =
        cookie.text("maxAge").and_then(|age| age.parse::<f64>().ok()).filter(|age| *age > 0.0)
    {
        keys.set("affinity.ttl", seconds(age.min(31_536_000.0)));
    }
    let hint = "Tidegate's cookie identifies the endpoint by a token of its own, so present sessions are balanced anew";
    translation.model.differs(&cookie.at, "sticky", hint);
}

/// Makes the service of a TCP or UDP router; its name.
pub(super) fn l4(translation: &mut Translation<'_>, layer: &str, service: &str) -> String {
    let bare = service.split('@').next().unwrap_or_default();
    let mut chosen = name(bare);
    let root = translation.root;
    if root.get(&format!("http.services.{bare}")).is_some() {
        chosen = format!("{chosen}-{layer}");
    }
    let at = root
        .get(&format!("{layer}.services.{bare}"))
        .map_or_else(|| root.at.clone(), |found| found.at.clone());
    let path = format!("{layer}.services.{bare}.loadBalancer");
    let mut endpoints = Vec::new();
    for server in root.get(&path).map_or(Vec::new(), |balancer| balancer.items("servers")) {
        if let Some(address) = server.text("address") {
            endpoints.push(endpoint(address, 1));
        }
    }
    if endpoints.is_empty() {
        let hint = "it has no server; use one service for each layer-4 router, without weights";
        translation.model.left_out(&at, &format!("{layer}.services.{bare}"), hint);
    }
    let version = root.text(&format!("{path}.proxyProtocol.version"));
    let cluster = block(&mut translation.model.clusters, &chosen, &at);
    cluster.keys.set("endpoints", Doc::List(endpoints));
    if root.get(&format!("{path}.proxyProtocol")).is_some() {
        cluster
            .keys
            .set("send_proxy_protocol", Doc::word(if version == Some("1") { "v1" } else { "v2" }));
    }
    block(&mut translation.model.services, &chosen, &at)
        .keys
        .set("clusters", Doc::texts(&[&chosen]));
    chosen
}
