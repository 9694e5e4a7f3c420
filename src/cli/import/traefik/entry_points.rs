//! Entry points as listeners.

use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{Origin, Rule, When, block, name, redirect, seconds};
use super::Translation;
use super::tree::Tree;

/// An entry point.
#[derive(Clone, Debug)]
pub(super) struct EntryPoint {
    /// Traefik's name.
    pub(super) name: String,
    /// The name of the listener.
    pub(super) listener: String,
    pub(super) tls: bool,
    pub(super) udp: bool,
    pub(super) address: String,
    pub(super) at: Origin,
    /// Whether requests are redirected, so that no router is used.
    pub(super) redirects: bool,
    /// Names of middlewares for all routers.
    pub(super) middlewares: Vec<String>,
}

/// Makes a listener for each entry point; without static configuration, for each that routers name.
pub(super) fn listeners(translation: &mut Translation<'_>) {
    let root = translation.root;
    let mut points: Vec<EntryPoint> = Vec::new();
    for (key, tree) in root.entries("entryPoints") {
        let written = tree.text("address").unwrap_or("");
        let (bare, protocol) = written.split_once('/').unwrap_or((written, "tcp"));
        let address = match bare.strip_prefix(':') {
            // Traefik's `:80` takes IPv4 and IPv6.
            Some(port) => format!("[::]:{port}"),
            None => bare.to_owned(),
        };
        if !address.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() > 0) {
            translation.model.left_out(
                &tree.at,
                &format!("entryPoints.{key}"),
                "it needs an address such as `:80`",
            );
            continue;
        }
        let mut point = EntryPoint {
            name: key.clone(),
            listener: name(key),
            tls: is_tls(root, key, tree),
            udp: protocol == "udp",
            address,
            at: tree.at.clone(),
            redirects: false,
            middlewares: tree.texts("http.middlewares"),
        };
        if points.iter().any(|known| known.address == point.address && known.udp == point.udp) {
            translation.model.left_out(
                &tree.at,
                &format!("entryPoints.{key}"),
                "another entry point has this address",
            );
            continue;
        }
        point.redirects = tree.get("http.redirections.entryPoint").is_some();
        points.push(point);
    }
    assumed(translation, &mut points);
    for point in &points {
        if let Some(tree) = root.get(&format!("entryPoints.{}", point.name)) {
            http_keys(translation, point, tree);
        }
    }
    translation.listeners = points;
}

/// Entry points that routers name and no file defines.
fn assumed(translation: &mut Translation<'_>, points: &mut Vec<EntryPoint>) {
    let root = translation.root;
    if !points.is_empty() || root.get("entryPoints").is_some() {
        return;
    }
    let mut wanted: Vec<(String, Origin)> = Vec::new();
    for layer in ["http.routers", "tcp.routers"] {
        for (_, router) in root.entries(layer) {
            let mut names = router.texts("entryPoints");
            if names.is_empty() {
                names
                    .push(if router.get("tls").is_some() { "websecure" } else { "web" }.to_owned());
            }
            for one in names {
                if !wanted.iter().any(|(known, _)| *known == one) {
                    wanted.push((one, router.at.clone()));
                }
            }
        }
    }
    for (index, (key, at)) in wanted.into_iter().enumerate() {
        let tls = is_tls(root, &key, root);
        let port = match key.as_str() {
            "web" | "http" => 80,
            "websecure" | "https" => 443,
            _ => 8_000 + index,
        };
        let hint = format!("no file defines the entry point: port {port} is assumed");
        translation.model.left_out(&at, &format!("entryPoints: {key}"), &hint);
        points.push(EntryPoint {
            listener: name(&key),
            name: key,
            tls,
            udp: false,
            address: format!("[::]:{port}"),
            at,
            redirects: false,
            middlewares: Vec::new(),
        });
    }
}

/// Whether an entry point has TLS, by itself or by its routers.
fn is_tls(root: &Tree, key: &str, tree: &Tree) -> bool {
    tree.get("http.tls").is_some()
        || root.entries("http.routers").iter().any(|(_, router)| {
            let names = router.texts("entryPoints");
            has_tls(router) && names.iter().any(|name| name == key)
        })
}

/// Whether a router has TLS: `tls: {}` and the label `tls=true`.
pub(super) fn has_tls(router: &Tree) -> bool {
    router.get("tls").is_some()
        && router.text("tls").is_none_or(|text| text.eq_ignore_ascii_case("true"))
}

fn http_keys(translation: &mut Translation<'_>, point: &EntryPoint, tree: &Tree) {
    let mut keys = Map::default();
    let trusted = tree.texts("forwardedHeaders.trustedIPs");
    if !trusted.is_empty() {
        keys.set("trusted_proxies", Doc::texts(&trusted));
    } else if tree.is_true("forwardedHeaders.insecure") {
        keys.set("trusted_proxies", Doc::texts(&["0.0.0.0/0", "::/0"]));
    }
    let from = tree.texts("proxyProtocol.trustedIPs");
    if !from.is_empty() {
        keys.set("proxy_protocol.from", Doc::texts(&from));
    } else if tree.is_true("proxyProtocol.insecure") {
        keys.set("proxy_protocol.from", Doc::texts(&["0.0.0.0/0", "::/0"]));
    }
    for (key, path) in [
        ("transport.respondingTimeouts.idleTimeout", "timeouts.idle"),
        ("transport.respondingTimeouts.readTimeout", "timeouts.body_idle"),
        ("transport.respondingTimeouts.writeTimeout", "timeouts.write"),
    ] {
        if let Some(span) = tree.text(key).and_then(time).filter(|span| *span >= 0.1) {
            keys.set(path, seconds(span));
        }
    }
    if tree.get("http3").is_some() {
        let hint = "add `alpn: [h3, h2, http/1.1]` to the listener's `tls` (cargo feature http3)";
        translation.model.left_out(&tree.at, &format!("entryPoints.{}.http3", point.name), hint);
    }
    block(&mut translation.model.listeners, &point.listener, &point.at).keys = keys;
    if let Some(to) = tree.get("http.redirections.entryPoint") {
        redirected(translation, point, to);
    }
}

fn redirected(translation: &mut Translation<'_>, point: &EntryPoint, to: &Tree) {
    let target = to.text("to").unwrap_or("websecure");
    let scheme = to.text("scheme").unwrap_or("https");
    let port = match target.strip_prefix(':') {
        Some(port) => Some(port.to_owned()),
        None => {
            let address = translation.root.text(&format!("entryPoints.{target}.address"));
            address.and_then(|address| Some(address.rsplit_once(':')?.1.to_owned()))
        }
    };
    let port = match port.as_deref() {
        Some("443") | None => String::new(),
        Some(port) => format!(":{port}"),
    };
    let status = if to.text("permanent") == Some("false") { 302 } else { 308 };
    let mut keys = Map::default();
    redirect(&mut keys, &format!("{scheme}://{{host}}{port}{{path}}?{{query}}"), status);
    let when = When { listeners: vec![point.listener.clone()], ..When::default() };
    translation.model.groups.push(vec![Rule { at: to.at.clone(), when, keys }]);
}

/// Sets address and protocol of the listeners that are used, and their certificates.
pub(super) fn finish(translation: &mut Translation<'_>) {
    for point in translation.listeners.clone() {
        let is_l4 = translation
            .model
            .listeners
            .iter()
            .any(|block| block.name == point.listener && block.keys.get("protocol").is_some());
        let used = translation.model.has_rule_of(&point.listener);
        if is_l4 || !used {
            if !is_l4 {
                translation.model.listeners.retain(|block| block.name != point.listener);
                let why = "no router uses it, so it is not written";
                translation.model.unneeded(&point.at, &format!("entryPoints.{}", point.name), why);
            }
            continue;
        }
        let mut keys = Map::default();
        keys.set("address", point.address.as_str());
        keys.set("protocol", Doc::word("http"));
        if point.tls {
            tls(translation, &point, &mut keys);
        }
        let listener = block(&mut translation.model.listeners, &point.listener, &point.at);
        keys.0.append(&mut listener.keys.0);
        keys.set("limits.underscores", Doc::word("allow"));
        keys.set("limits.encoded_slash", Doc::word("keep"));
        listener.keys = keys;
    }
}

fn tls(translation: &mut Translation<'_>, point: &EntryPoint, keys: &mut Map) {
    let root = translation.root;
    keys.set("tls", Map::default());
    let defaults = root.get("tls.stores.default.defaultCertificate");
    for certificate in defaults.into_iter().chain(root.items("tls.certificates")) {
        let (Some(cert), Some(key)) = (certificate.text("certFile"), certificate.text("keyFile"))
        else {
            continue;
        };
        let mut files = Map::default();
        files.set("cert", beside(&translation.folder, cert));
        files.set("key", beside(&translation.folder, key));
        keys.push("tls.certificates", files);
    }
    let of_point = root.get(&format!("entryPoints.{}.http.tls", point.name));
    let routers = root.entries("http.routers").iter().filter(|(_, router)| {
        let names = router.texts("entryPoints");
        names.is_empty() || names.contains(&point.name)
    });
    let mut resolver = of_point.and_then(|tls| tls.text("certResolver")).map(str::to_owned);
    let mut domains: Vec<String> = of_point.map_or(Vec::new(), listed);
    for (_, router) in routers {
        resolver = resolver.or(router.text("tls.certResolver").map(str::to_owned));
        if router.text("tls.certResolver").is_some()
            || of_point.is_some_and(|tls| tls.text("certResolver").is_some())
        {
            domains.extend(router.get("tls").map_or(Vec::new(), listed));
            for when in router
                .text("rule")
                .and_then(|rule| super::rule::conditions(rule).ok())
                .into_iter()
                .flatten()
            {
                domains.extend(when.hosts);
            }
        }
    }
    domains.sort();
    domains.dedup();
    let Some(resolver) = resolver else { return };
    acme(translation, &resolver, domains, keys);
}

fn listed(tls: &Tree) -> Vec<String> {
    let of = |item: &&Tree| {
        let main = item.text("main").map(str::to_owned);
        main.into_iter().chain(item.texts("sans")).collect::<Vec<_>>()
    };
    tls.items("domains").iter().flat_map(of).collect()
}

fn acme(translation: &mut Translation<'_>, resolver: &str, domains: Vec<String>, keys: &mut Map) {
    let root = translation.root;
    let (wild, plain): (Vec<String>, Vec<String>) =
        domains.into_iter().partition(|name| name.starts_with('*'));
    let found = root.get(&format!("certificatesResolvers.{resolver}.acme"));
    let at = found.map_or_else(|| root.at.clone(), |found| found.at.clone());
    let what = format!("certificatesResolvers.{resolver}");
    if !wild.is_empty() {
        let hint = format!(
            "wildcard certificates ({}) need the DNS challenge: name a certificate file",
            wild.join(", ")
        );
        translation.model.left_out(&at, &what, &hint);
    }
    if found.is_some_and(|acme| acme.get("dnsChallenge").is_some()) {
        let hint =
            "the challenges are http-01 and tls-alpn-01, which need port 80 or 443 reachable";
        translation.model.left_out(&at, &format!("{what}.acme.dnsChallenge"), hint);
    }
    if plain.is_empty() {
        return;
    }
    let mut acme = Map::default();
    acme.set("domains", Doc::texts(&plain));
    if let Some(found) = found {
        for (key, path) in [("caServer", "directory"), ("email", "email")] {
            if let Some(text) = found.text(key) {
                acme.set(path, text);
            }
        }
        let tls_alpn = found.get("tlsChallenge").is_some();
        acme.set("challenge", Doc::word(if tls_alpn { "tls-alpn-01" } else { "http-01" }));
    }
    acme.set("accept_terms", Doc::word("true"));
    keys.set("tls.acme", acme);
}

/// A duration such as `30s`, `1m30s`, or a number of seconds.
pub(super) fn time(text: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "" | "s" => 1.0,
                "ms" => 0.001,
                "us" => 0.000_001,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    (total < 31_622_400.0).then_some(total)
}
