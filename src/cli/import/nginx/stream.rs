//! nginx's `stream` block: TCP, UDP, and TLS routed by its server name.

use super::super::document::{Doc, Map};
use super::super::model::{block, endpoint, name, seconds};
use super::Translation;
use super::parse::Directive;
use super::server::listen_address;
use super::upstream::with_port;
use super::values::time;

/// Translates the servers of a `stream` block.
pub(super) fn servers(translation: &mut Translation<'_>, stream: &[Directive]) {
    for server in stream.iter().filter(|d| d.name == "server") {
        let find = |name: &str| server.inner().iter().chain(stream).find(|d| d.name == name);
        let Some(pass) = server.inner().iter().find(|d| d.name == "proxy_pass") else {
            translation.model.left_out(&server.at, "server", "it has no `proxy_pass`");
            continue;
        };
        let sni = sni_map(translation, stream, pass.word(0));
        if sni.is_none() && pass.word(0).contains('$') {
            let hint = "the target depends on the connection: only `$ssl_preread_server_name` by a map has an equivalent";
            translation.model.left_out(&pass.at, &pass.shown(), hint);
            continue;
        }
        let service = match &sni {
            Some((_, fallback)) => fallback.clone(),
            None => Some(service(translation, stream, pass.word(0), pass)),
        };
        for listen in server.inner().iter().filter(|d| d.name == "listen") {
            let Some(address) = listen_address(listen.word(0)) else {
                let hint = "a listener has an IP address and a port, or is a unix socket";
                translation.model.left_out(&listen.at, &listen.shown(), hint);
                continue;
            };
            let has = |word: &str| listen.words.iter().any(|w| w == word);
            if has("ssl") {
                let hint = "TLS is terminated for HTTP only: use `protocol: tls-passthrough`, or an http listener";
                translation.model.left_out(&listen.at, &listen.shown(), hint);
                continue;
            }
            let port = address.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
            let protocol = match (&sni, has("udp")) {
                (Some(_), _) => "tls-passthrough",
                (None, true) => "udp",
                (None, false) => "tcp",
            };
            let mut keys = Map::default();
            keys.set("address", address);
            keys.set("protocol", Doc::word(protocol));
            if let Some(service) = &service {
                keys.set("service", service.as_str());
            }
            if let Some((names, _)) = &sni {
                keys.set("sni", names.clone());
            }
            if has("proxy_protocol") {
                keys.set("proxy_protocol.from", Doc::texts(&["0.0.0.0/0", "::/0"]));
            }
            if let Some(span) = find("proxy_timeout").and_then(|d| time(d.word(0))) {
                keys.set("timeouts.idle_l4", seconds(span.max(1.0)));
            } else {
                keys.set("timeouts.idle_l4", Doc::word("10m"));
            }
            let listener =
                translation.model.unused_listener_name(&name(&format!("{protocol}-{port}")));
            block(&mut translation.model.listeners, &listener, &listen.at).keys = keys;
        }
        if find("proxy_protocol").is_some_and(|d| d.word(0) == "on") {
            for cluster in &mut translation.model.clusters {
                if Some(&cluster.name) == service.as_ref() {
                    cluster.keys.set("send_proxy_protocol", Doc::word("v1"));
                }
            }
        }
        if let Some(tls) = find("proxy_ssl").filter(|d| d.word(0) == "on") {
            let hint = "set `tls` of the cluster";
            translation.model.left_out(&tls.at, &tls.shown(), hint);
        }
    }
}

/// Services by server name, and that of other names, if the target is a map of the ClientHello's name.
fn sni_map(
    translation: &mut Translation<'_>,
    stream: &[Directive],
    pass: &str,
) -> Option<(Map, Option<String>)> {
    let variable = pass.strip_prefix('$')?;
    let map = stream.iter().find(|d| {
        d.name == "map"
            && d.word(0) == "$ssl_preread_server_name"
            && d.word(1).strip_prefix('$') == Some(variable)
    })?;
    let (mut names, mut fallback) = (Map::default(), None);
    for entry in map.inner() {
        match entry.name.as_str() {
            "hostnames" | "volatile" => {}
            "default" => fallback = Some(service(translation, stream, entry.word(0), entry)),
            host if host.starts_with('~') || host.ends_with(".*") => {
                let hint = "server names are exact, or begin with `*.`";
                translation.model.left_out(&entry.at, &entry.shown(), hint);
            }
            host => {
                let service = service(translation, stream, entry.word(0), entry);
                match host.strip_prefix('.') {
                    Some(bare) => {
                        names.set_key(bare, service.as_str());
                        names.set_key(&format!("*.{bare}"), service);
                    }
                    None => names.set_key(host, service),
                }
            }
        }
    }
    Some((names, fallback))
}

fn service(
    translation: &mut Translation<'_>,
    stream: &[Directive],
    target: &str,
    at: &Directive,
) -> String {
    let mut chosen = name(target);
    let upstream = stream.iter().find(|d| d.name == "upstream" && d.word(0) == target);
    // An http upstream may have the same name.
    if translation.http.iter().any(|d| d.name == "upstream" && d.word(0) == target) {
        chosen.push_str("-tcp");
    }
    let (mut main, mut backup) = (Vec::new(), Vec::new());
    for server in
        upstream.iter().flat_map(|upstream| upstream.inner()).filter(|d| d.name == "server")
    {
        let has = |word: &str| server.words.iter().any(|w| w == word);
        let weight =
            server.words.iter().find_map(|w| w.strip_prefix("weight=")?.parse::<u16>().ok());
        let made = endpoint(server.word(0), weight.unwrap_or(1));
        if has("down") {
            continue;
        }
        if has("backup") { backup.push(made) } else { main.push(made) }
    }
    let at = upstream.map_or(&at.at, |upstream| &upstream.at);
    if main.is_empty() {
        main.push(with_port(target, 443).into());
    }
    let mut clusters = vec![chosen.clone()];
    block(&mut translation.model.clusters, &chosen, at).keys.set("endpoints", Doc::List(main));
    if !backup.is_empty() {
        let backup_name = format!("{chosen}-backup");
        block(&mut translation.model.clusters, &backup_name, at)
            .keys
            .set("endpoints", Doc::List(backup));
        clusters.push(backup_name);
    }
    let service = block(&mut translation.model.services, &chosen, at);
    service.keys.set("clusters", Doc::texts(&clusters));
    if clusters.len() > 1 {
        service.keys.set("strategy", Doc::word("priority"));
    }
    let directives = upstream.iter().flat_map(|upstream| upstream.inner());
    for directive in directives.filter(|d| d.name == "hash" && d.word(0) == "$remote_addr") {
        let _ = directive;
        service.keys.set("endpoint_policy", Doc::word("hash"));
    }
    chosen
}
