//! nginx's servers as listeners and groups of rules.

use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{block, seconds, size};
use super::Translation;
use super::condition::Server;
use super::parse::Directive;
use super::values::{Scope, bytes};
use std::collections::BTreeMap;

/// One `listen` of a server.
#[derive(Clone, Debug)]
struct Listen<'a> {
    /// The address, normalised.
    address: String,
    is_default: bool,
    tls: bool,
    proxy_protocol: bool,
    directive: Option<&'a Directive>,
}

/// Translates all servers.
pub(super) fn servers(translation: &mut Translation<'_>) {
    let http = translation.http;
    let servers: Vec<&Directive> = http.iter().filter(|d| d.name == "server").collect();
    let listens: Vec<Vec<Listen<'_>>> =
        servers.iter().map(|server| listens(translation, server)).collect();
    let addresses = addresses(&listens);
    for (server, listens) in servers.iter().zip(&listens) {
        for listen in listens {
            let Some((address, name)) = addresses.get(&listen.address) else { continue };
            let tls_elsewhere = listen.tls;
            listener(translation, server, listen, address, name, tls_elsewhere);
        }
    }
    let several = servers.len() > 1;
    for (index, (server, own)) in servers.iter().zip(&listens).enumerate() {
        let names: Vec<String> = own
            .iter()
            .filter_map(|l| addresses.get(&l.address))
            .map(|(_, name)| name.clone())
            .collect();
        let defaults: Vec<String> = own
            .iter()
            .filter(|listen| is_default(listen, index, &listens))
            .filter_map(|l| addresses.get(&l.address))
            .map(|(_, name)| name.clone())
            .collect();
        let mut hosts = hosts(translation, server);
        let tls = match (own.iter().all(|l| l.tls), own.iter().any(|l| l.tls)) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        };
        let server_name =
            hosts.first().map_or("_", |host| host.trim_start_matches("*.")).to_owned();
        let levels = vec![http, server.inner()];
        let scope = Scope { levels, server_name, tls, values: Vec::new() };
        let whole = defaults.len() == names.len();
        if whole && !covered(&hosts, &servers, index) {
            hosts.clear();
        }
        for (hosts, listeners) in [(hosts.clone(), names), (Vec::new(), defaults)] {
            let is_second = hosts.is_empty() && !whole;
            if listeners.is_empty() || whole && is_second {
                continue;
            }
            let at = server.at.clone();
            let is_any = hosts.is_empty();
            let server = Server { scope: scope.clone(), at, listeners, hosts };
            super::location::rules(translation, &server, several && !is_any);
            if whole {
                break;
            }
        }
    }
}

/// Whether another server has a wildcard for one of these names, which would take it from a route for any host.
fn covered(hosts: &[String], servers: &[&Directive], own: usize) -> bool {
    let others = servers.iter().enumerate().filter(|(index, _)| *index != own);
    let names = others.flat_map(|(_, server)| server.inner()).filter(|d| d.name == "server_name");
    let mut suffixes = names.flat_map(|d| &d.words).filter_map(|name| {
        name.strip_prefix('*').or(Some(name.as_str()).filter(|name| name.starts_with('.')))
    });
    suffixes.any(|suffix| hosts.iter().any(|host| host.ends_with(suffix)))
}

fn is_default(listen: &Listen<'_>, server: usize, all: &[Vec<Listen<'_>>]) -> bool {
    let same = |other: &&Listen<'_>| other.address == listen.address;
    if all.iter().flatten().filter(same).any(|other| other.is_default) {
        return listen.is_default;
    }
    all.iter().position(|listens| listens.iter().any(|other| same(&other))) == Some(server)
}

fn listens<'a>(translation: &mut Translation<'_>, server: &'a Directive) -> Vec<Listen<'a>> {
    let mut listens = Vec::new();
    for directive in server.inner().iter().filter(|d| d.name == "listen") {
        let Some(address) = listen_address(directive.word(0)) else {
            let hint = "a listener has an IP address and a port, or is a unix socket";
            translation.model.left_out(&directive.at, &directive.shown(), hint);
            continue;
        };
        let has = |word: &str| directive.words.iter().any(|w| w == word);
        if has("quic") {
            let hint =
                "add `alpn: [h3, h2, http/1.1]` to the listener's `tls` (cargo feature http3)";
            translation.model.left_out(&directive.at, &directive.shown(), hint);
            continue;
        }
        listens.push(Listen {
            address,
            is_default: has("default_server") || has("default"),
            tls: has("ssl") || server.inner().iter().any(|d| d.name == "ssl" && d.word(0) == "on"),
            proxy_protocol: has("proxy_protocol"),
            directive: Some(directive),
        });
    }
    if !server.inner().iter().any(|d| d.name == "listen") {
        let address = "0.0.0.0:80".to_owned();
        listens.push(Listen {
            address,
            is_default: false,
            tls: false,
            proxy_protocol: false,
            directive: None,
        });
    }
    listens
}

/// The address of a `listen`, with `0.0.0.0` for all of IPv4.
pub(super) fn listen_address(text: &str) -> Option<String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/').then(|| format!("unix:{path}"));
    }
    if text.parse::<u16>().is_ok_and(|port| port > 0) {
        return Some(format!("0.0.0.0:{text}"));
    }
    let text = text.replace("localhost", "127.0.0.1");
    let text = text.strip_prefix("*:").map_or(text.clone(), |port| format!("0.0.0.0:{port}"));
    let text = match text.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => format!("{ip}:80"),
        Ok(std::net::IpAddr::V6(_)) | Err(_) if text.ends_with(']') => format!("{text}:80"),
        Ok(_) | Err(_) => text,
    };
    text.parse::<std::net::SocketAddr>().ok().filter(|a| a.port() > 0).map(|a| a.to_string())
}

/// For each written address, the address to listen at and the listener's name. `[::]` takes IPv4 too, and an address
/// of its own beside the wildcard is served by the wildcard.
fn addresses(listens: &[Vec<Listen<'_>>]) -> BTreeMap<String, (String, String)> {
    let mut addresses: BTreeMap<String, (String, String)> = BTreeMap::new();
    let all: Vec<&Listen<'_>> = listens.iter().flatten().collect();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for listen in &all {
        let port = listen.address.rsplit_once(':').map_or("", |(_, port)| port);
        let has = |wildcard: &str| all.iter().any(|l| l.address == format!("{wildcard}:{port}"));
        let address = match listen.address.as_str() {
            unix if unix.starts_with("unix:") => unix.to_owned(),
            _ if has("[::]") => format!("[::]:{port}"),
            _ if has("0.0.0.0") => format!("0.0.0.0:{port}"),
            own => own.to_owned(),
        };
        let base = match (port, listen.tls) {
            ("80", _) => "web".to_owned(),
            ("443", true) => "web-tls".to_owned(),
            (port, _) if !port.is_empty() && port.parse::<u16>().is_ok() => format!("web-{port}"),
            _ => "web-unix".to_owned(),
        };
        let mut name = base.clone();
        let mut number = 2;
        while names.get(&name).is_some_and(|known| *known != address) {
            name = format!("{base}-{number}");
            number += 1;
        }
        let known =
            names.iter().find(|(_, known)| **known == address).map(|(name, _)| name.clone());
        let name = known.unwrap_or(name);
        names.insert(name.clone(), address.clone());
        addresses.insert(listen.address.clone(), (address, name));
    }
    addresses
}

fn hosts(translation: &mut Translation<'_>, server: &Directive) -> Vec<String> {
    let mut hosts = Vec::new();
    for directive in server.inner().iter().filter(|d| d.name == "server_name") {
        for name in &directive.words {
            let name = name.to_ascii_lowercase();
            let bare = name.trim_start_matches("*.").trim_start_matches('.');
            let valid = crate::config::scalar::is_host_name(bare)
                || bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
            match name.as_str() {
                "_" | "" => {}
                name if name.starts_with('~')
                    || name.ends_with(".*")
                    || !valid
                    || name.contains('$') =>
                {
                    let hint = "hosts are exact, or begin with `*.`: list the names";
                    translation.model.left_out(&directive.at, &format!("server_name {name}"), hint);
                }
                name if name.starts_with('.') => {
                    hosts.push(bare.to_owned());
                    hosts.push(format!("*.{bare}"));
                }
                name => hosts.push(name.to_owned()),
            }
        }
    }
    hosts.dedup();
    hosts
}

fn listener(
    translation: &mut Translation<'_>,
    server: &Directive,
    listen: &Listen<'_>,
    address: &str,
    name: &str,
    tls: bool,
) {
    let scope = Scope {
        levels: vec![translation.http, server.inner()],
        server_name: String::new(),
        tls: Some(tls),
        values: Vec::new(),
    };
    let at = listen.directive.map_or(&server.at, |directive| &directive.at);
    let mut keys = std::mem::take(&mut block(&mut translation.model.listeners, name, at).keys);
    keys.set("address", address);
    keys.set("protocol", Doc::word("http"));
    if tls {
        tls_keys(translation, &mut keys, &scope);
    }
    let trusted: Vec<&Directive> = scope.all("set_real_ip_from");
    for directive in &trusted {
        if directive.word(0).parse::<ipnet::IpNet>().is_ok()
            || directive.word(0).parse::<std::net::IpAddr>().is_ok()
        {
            let key = if listen.proxy_protocol { "proxy_protocol.from" } else { "trusted_proxies" };
            keys.push(key, directive.word(0));
        } else {
            let hint = "`trusted_proxies` lists networks";
            translation.model.left_out(&directive.at, &directive.shown(), hint);
        }
    }
    if listen.proxy_protocol && keys.get("proxy_protocol").is_none() {
        keys.set("proxy_protocol.from", Doc::texts(&["0.0.0.0/0", "::/0"]));
    }
    if let Some(header) = scope.last("real_ip_header") {
        let known = ["x-forwarded-for", "proxy_protocol"];
        if !known.contains(&header.word(0).to_ascii_lowercase().as_str()) {
            let hint = "the client's address is taken from X-Forwarded-For or Forwarded of `trusted_proxies`";
            translation.model.left_out(&header.at, &header.shown(), hint);
        }
    }
    timeouts(&mut keys, &scope);
    limits(translation, &mut keys, &scope, server);
    block(&mut translation.model.listeners, name, at).keys = keys;
}

fn timeouts(keys: &mut Map, scope: &Scope<'_>) {
    for (directive, key) in [
        ("client_header_timeout", "timeouts.head"),
        ("client_body_timeout", "timeouts.body_idle"),
        ("keepalive_timeout", "timeouts.idle"),
        ("send_timeout", "timeouts.write"),
    ] {
        if let Some((span, _)) = scope.seconds(directive).filter(|(span, _)| *span >= 1.0) {
            keys.absent(key, seconds(span));
        }
    }
}

/// The limits of a listener are the widest of its servers and locations.
fn limits(
    translation: &mut Translation<'_>,
    keys: &mut Map,
    scope: &Scope<'_>,
    server: &Directive,
) {
    let mut sizes = Vec::new();
    let own = scope.last("client_max_body_size");
    let mut inner = Vec::new();
    collect(server.inner(), "client_max_body_size", &mut inner);
    for directive in own.into_iter().chain(inner.iter().copied()) {
        match bytes(directive.word(0)) {
            Some(bytes) => sizes.push(if bytes == 0 { u64::MAX } else { bytes }),
            None => translation.model.left_out(&directive.at, &directive.shown(), "not a size"),
        }
    }
    if own.is_none() {
        sizes.push(1 << 20);
    }
    let widest = sizes.iter().copied().max().unwrap_or(u64::MAX);
    for directive in own.into_iter().chain(inner) {
        if bytes(directive.word(0)).is_some_and(|bytes| bytes != 0 && bytes < widest) {
            let hint = "the limit of a listener (`limits.body`) is the widest of its servers and locations";
            translation.model.differs(&directive.at, &directive.shown(), hint);
        }
    }
    let known = keys.get("limits.body").and_then(Doc::text).map(str::to_owned);
    let known = known.map(|text| written_bytes(&text));
    let widest = known.map_or(widest, |known| known.max(widest));
    let body = if widest == u64::MAX { Doc::word("none") } else { size(widest) };
    keys.set("limits.body", body);
    let underscores = scope.last("underscores_in_headers").is_some_and(|d| d.word(0) == "on");
    keys.set("limits.underscores", Doc::word(if underscores { "allow" } else { "drop" }));
    keys.set("limits.encoded_slash", Doc::word("keep"));
    if scope.last("merge_slashes").is_some_and(|d| d.word(0) == "off") {
        keys.set("limits.slashes", Doc::word("keep"));
    }
    if let Some(buffers) = scope.last("large_client_header_buffers") {
        let count = buffers.word(0).parse::<u64>().unwrap_or(1);
        let whole =
            bytes(buffers.word(1)).map(|each| each.saturating_mul(count).clamp(1 << 14, 1 << 18));
        if let Some(head) = whole {
            keys.set("limits.head", size(head));
            let uri = bytes(buffers.word(1)).unwrap_or(1 << 13);
            keys.set("limits.uri", size(uri.clamp(1 << 13, head)));
        }
    }
}

/// The bytes of a size that was written before.
fn written_bytes(text: &str) -> u64 {
    let text = text.to_ascii_lowercase();
    bytes(text.trim_end_matches("ib")).unwrap_or(u64::MAX)
}

fn collect<'a>(directives: &'a [Directive], name: &str, found: &mut Vec<&'a Directive>) {
    for directive in directives.iter().filter(|d| d.block.is_some()) {
        found.extend(directive.inner().iter().filter(|d| d.name == name));
        collect(directive.inner(), name, found);
    }
}

fn tls_keys(translation: &mut Translation<'_>, keys: &mut Map, scope: &Scope<'_>) {
    let (certs, private) = (scope.all("ssl_certificate"), scope.all("ssl_certificate_key"));
    for (cert, key) in certs.iter().zip(&private) {
        if cert.word(0).contains('$') || cert.word(0).starts_with("data:") {
            let hint = "certificates are files that `tls.certificates` lists";
            translation.model.left_out(&cert.at, &cert.shown(), hint);
            continue;
        }
        let mut files = Map::default();
        files.set("cert", beside(&translation.folder, cert.word(0)));
        files.set("key", beside(&translation.folder, key.word(0)));
        keys.push("tls.certificates", files);
    }
    if keys.get("tls").is_none() {
        keys.set("tls", Map::default());
    }
    if let Some(protocols) = scope.last("ssl_protocols") {
        let has = |version: &str| protocols.words.iter().any(|word| word == version);
        if has("TLSv1") || has("TLSv1.1") || has("SSLv3") {
            let hint = "TLS 1.2 is the oldest version";
            translation.model.differs(&protocols.at, &protocols.shown(), hint);
        }
        if has("TLSv1.3") && protocols.words.len() == 1 {
            keys.set("tls.min_version", "1.3");
        }
    }
    let Some(verify) = scope.last("ssl_verify_client") else { return };
    match (verify.word(0), scope.last("ssl_client_certificate")) {
        ("on", Some(ca)) => keys.set("tls.client_ca", beside(&translation.folder, ca.word(0))),
        ("off", _) => {}
        _ => {
            let hint = "client certificates are demanded (`tls.client_ca`) or not asked for";
            translation.model.left_out(&verify.at, &verify.shown(), hint);
        }
    }
}
