//! HAProxy's frontends as listeners.

use super::super::document::{Doc, Map};
use super::super::files::{beside, glob};
use super::super::model::{Rule, When, block, name, seconds};
use super::acl::{Atom, condition};
use super::backend::backend;
use super::parse::{Line, Section, time};
use super::rules::{Binds, rules, to_backend};
use super::{Translation, is_http, last};
use std::path::Path;

/// Translates a frontend, or the frontend's part of a `listen` section.
pub(super) fn frontend(translation: &mut Translation<'_>, section: &Section) {
    let has_server = section.lines.iter().any(|line| line.word(0).starts_with("server"));
    if section.kind == "listen" && !has_server && last(section, &["stats", "enable"]).is_some() {
        let why = "use the admin API: /metrics, /api/v1/status and the dashboard";
        return translation.model.unneeded(&section.at, &format!("listen {}", section.name), why);
    }
    if !is_http(section) {
        return tcp(translation, section);
    }
    let mut binds = Binds::default();
    for line in section.lines.iter().filter(|line| line.word(0) == "bind") {
        for address in addresses(translation, line) {
            let has_tls = line.has("ssl");
            let base = name(&section.name);
            let suffix =
                if has_tls && !base.contains("tls") && !base.contains("ssl") { "-tls" } else { "" };
            let listener = translation.model.unused_listener_name(&format!("{base}{suffix}"));
            let mut keys = Map::default();
            keys.set("address", address);
            keys.set("protocol", Doc::word("http"));
            if has_tls {
                tls(translation, line, &mut keys);
            }
            common(section, line, &mut keys);
            http(section, &mut keys);
            super::errors::of_frontend(translation, section, &mut keys);
            block(&mut translation.model.listeners, &listener, &line.at).keys = keys;
            if has_tls { binds.tls.push(listener) } else { binds.plain.push(listener) }
        }
    }
    if binds.all().is_empty() {
        let hint = "it has no `bind` line that can be translated";
        if section.kind == "frontend" {
            translation.model.left_out(&section.at, &format!("frontend {}", section.name), hint);
        }
        return;
    }
    let fallback = match (section.kind.as_str(), last(section, &["default_backend"])) {
        ("listen", None) => to_backend(translation, &section.name, &section.at, &binds),
        (_, Some(line)) => to_backend(translation, line.word(1), &line.at, &binds),
        (_, None) => Vec::new(),
    };
    let mut group = rules(translation, section, &binds, fallback);
    let all = When { listeners: binds.all(), ..When::default() };
    group.retain_mut(|rule: &mut Rule| match rule.when.and(&all) {
        Ok(when) => {
            rule.when = when;
            true
        }
        Err(_) => false,
    });
    for rule in &group {
        if let super::super::model::PathTest::Prefix(prefix) = &rule.when.path
            && !prefix.ends_with('/')
        {
            let hint = "a prefix matches whole segments: not `/abc` by `/ab`";
            translation.model.differs(&rule.at, &format!("path_beg {prefix}"), hint);
        }
    }
    translation.model.groups.push(group);
}

/// The addresses of a `bind` line.
fn addresses(translation: &mut Translation<'_>, line: &Line) -> Vec<String> {
    let mut found = Vec::new();
    for part in line.word(1).split(',') {
        let part = part
            .trim_start_matches("ipv4@")
            .trim_start_matches("ipv6@")
            .trim_start_matches("quic4@");
        let unix = part.strip_prefix("unix@").or(Some(part).filter(|part| part.starts_with('/')));
        let address = match (unix, part.rsplit_once(':')) {
            (Some(path), _) if path.starts_with('/') => Some(format!("unix:{path}")),
            (None, Some(("" | "*" | "0.0.0.0", port))) => valid(&format!("0.0.0.0:{port}")),
            (None, Some(("::" | "[::]", port))) => valid(&format!("[::]:{port}")),
            (None, Some((host, port))) if host.contains(':') && !host.starts_with('[') => {
                valid(&format!("[{host}]:{port}"))
            }
            (None, Some(_)) => valid(&part.replace("localhost", "127.0.0.1")),
            (Some(_) | None, _) => None,
        };
        match address {
            // `[::]` takes IPv4 too.
            Some(address) if address.starts_with("[::]:") => {
                found.retain(|known: &String| {
                    known.rsplit(':').next() != address.rsplit(':').next()
                });
                found.push(address);
            }
            Some(address)
                if found.iter().any(|known| {
                    known.starts_with("[::]:")
                        && known.rsplit(':').next() == address.rsplit(':').next()
                }) => {}
            Some(address) => found.push(address),
            None => {
                let hint = "a listener has an IP address and one port, or is a unix socket";
                translation.model.left_out(&line.at, &line.shown(), hint);
            }
        }
    }
    let known = &translation.model.listeners;
    let taken = |address: &String| {
        known.iter().any(|block| block.keys.get("address").and_then(Doc::text) == Some(address))
    };
    if found.iter().any(taken) {
        found.retain(|address| !taken(address));
        let hint = "another section listens at this address";
        translation.model.left_out(&line.at, &line.shown(), hint);
    }
    found
}

fn valid(text: &str) -> Option<String> {
    text.parse::<std::net::SocketAddr>()
        .ok()
        .filter(|address| address.port() > 0)
        .map(|a| a.to_string())
}

fn tls(translation: &mut Translation<'_>, line: &Line, keys: &mut Map) {
    keys.set("tls", Map::default());
    for (index, _) in line.words.iter().enumerate().filter(|(_, word)| *word == "crt") {
        let path = beside(&translation.folder, line.word(index + 1));
        let in_folder = glob(translation.files, &Path::new(&path).join("*"));
        let files: Vec<String> = match in_folder.is_empty() {
            true => vec![path],
            false => in_folder.iter().map(|path| path.display().to_string()).collect(),
        };
        for file in files
            .iter()
            .filter(|f| ![".key", ".ocsp", ".sctl", ".issuer"].iter().any(|end| f.ends_with(end)))
        {
            // One file has the chain and the key, or the key is in FILE.key.
            let beside_it = format!("{file}.key");
            let has_key = translation.files.read(Path::new(&beside_it)).is_ok();
            let mut certificate = Map::default();
            certificate.set("cert", file.as_str());
            certificate.set("key", if has_key { beside_it.as_str() } else { file.as_str() });
            keys.push("tls.certificates", certificate);
        }
    }
    if let Some(list) = line.after("crt-list") {
        translation.model.left_out(
            &line.at,
            &format!("crt-list {list}"),
            "list the files in `tls.certificates`",
        );
    }
    match (line.after("ca-file"), line.after("verify")) {
        (Some(ca), Some("required")) => keys.set("tls.client_ca", beside(&translation.folder, ca)),
        (Some(_), Some("optional")) => {
            let hint = "client certificates are demanded (`tls.client_ca`) or not asked for";
            translation.model.left_out(&line.at, "verify optional", hint);
        }
        _ => {}
    }
    if line.after("ssl-min-ver") == Some("TLSv1.3") || line.has("no-tlsv12") {
        keys.set("tls.min_version", "1.3");
    }
    if let Some(alpn) = line.after("alpn") {
        let known: Vec<&str> =
            alpn.split(',').filter(|p| matches!(*p, "h2" | "http/1.1")).collect();
        if known == ["http/1.1"] {
            keys.set("tls.alpn", Doc::texts(&known));
        }
    }
}

/// Keys of all listeners.
fn common(section: &Section, line: &Line, keys: &mut Map) {
    if line.has("accept-proxy") {
        keys.set("proxy_protocol.from", Doc::texts(&["0.0.0.0/0", "::/0"]));
    }
    if let Some(mode) = line
        .after("mode")
        .filter(|mode| mode.len() <= 4 && mode.bytes().all(|b| (b'0'..=b'7').contains(&b)))
    {
        keys.set("mode", format!("{mode:0>4}"));
    }
    if let Some(span) =
        last(section, &["timeout", "client-fin"]).and_then(|line| time(line.word(2)))
    {
        keys.set("timeouts.half_close", seconds(span));
    }
}

fn http(section: &Section, keys: &mut Map) {
    for (words, key) in [
        (["timeout", "http-request"], "timeouts.head"),
        (["timeout", "http-keep-alive"], "timeouts.idle"),
        (["timeout", "client"], "timeouts.body_idle"),
        (["timeout", "tunnel"], "timeouts.stream_idle"),
    ] {
        if let Some(span) = last(section, &words).and_then(|line| time(line.word(2))) {
            keys.set(key, seconds(span.max(0.1)));
        }
    }
    keys.set("limits.underscores", Doc::word("allow"));
    keys.set("limits.encoded_slash", Doc::word("keep"));
    keys.set("limits.slashes", Doc::word("keep"));
}

/// A frontend of TCP, or of TLS routed by its server name.
fn tcp(translation: &mut Translation<'_>, section: &Section) {
    let names = names(translation, section);
    let target = match last(section, &["default_backend"]) {
        Some(line) => translation.backend(line.word(1)),
        None if section.kind == "listen" => translation.backend(&section.name),
        None => None,
    };
    let service = target
        .map(|target| backend(translation, target))
        .and_then(|keys| keys.get("service").cloned());
    for line in section.lines.iter().filter(|line| line.word(0) == "bind") {
        if line.has("ssl") {
            let hint = "TLS is terminated for HTTP only: use `protocol: tls-passthrough`, or an http listener";
            translation.model.left_out(&line.at, &line.shown(), hint);
            continue;
        }
        if service.is_none() && names.0.is_empty() {
            let hint = "there is no backend for it";
            translation.model.left_out(&line.at, &line.shown(), hint);
            continue;
        }
        for address in addresses(translation, line) {
            let mut keys = Map::default();
            keys.set("address", address);
            keys.set(
                "protocol",
                Doc::word(if names.0.is_empty() { "tcp" } else { "tls-passthrough" }),
            );
            if let Some(service) = &service {
                keys.set("service", service.clone());
            }
            if !names.0.is_empty() {
                keys.set("sni", names.clone());
            }
            common(section, line, &mut keys);
            if let Some(span) =
                last(section, &["timeout", "client"]).and_then(|line| time(line.word(2)))
            {
                keys.set("timeouts.idle_l4", seconds(span));
            }
            let listener = translation.model.unused_listener_name(&name(&section.name));
            block(&mut translation.model.listeners, &listener, &line.at).keys = keys;
        }
    }
    for line in section.lines.iter().filter(|line| line.word(0) == "tcp-request") {
        if !line.words.iter().any(|word| word.contains("inspect-delay") || word == "accept") {
            let hint = "use `allow`, `deny`, `rate_limit` and `concurrency` of the service";
            translation.model.left_out(&line.at, &line.shown(), hint);
        }
    }
}

/// Services by server name.
fn names(translation: &mut Translation<'_>, section: &Section) -> Map {
    let lists: Vec<&Line> = section.lines.iter().filter(|line| line.word(0) == "acl").collect();
    let mut names = Map::default();
    for line in section.lines.iter().filter(|line| line.word(0) == "use_backend") {
        let found = condition(line, &lists).ok().and_then(|alternatives| {
            let sni = |conjunction: Vec<(bool, Atom)>| match conjunction.as_slice() {
                [(false, Atom::Sni(name))] => Some(name.clone()),
                _ => None,
            };
            alternatives.into_iter().map(sni).collect::<Option<Vec<String>>>()
        });
        match (found, translation.backend(line.word(1))) {
            (Some(found), Some(target)) => {
                let keys = backend(translation, target);
                for host in found {
                    if let Some(service) = keys.get("service").cloned() {
                        names.set_key(&host, service);
                    }
                }
            }
            _ => {
                let hint =
                    "connections are routed by the server name alone (`req_ssl_sni -i NAME`)";
                translation.model.left_out(&line.at, &line.shown(), hint);
            }
        }
    }
    names
}
