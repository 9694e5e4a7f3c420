//! HAProxy's backends as services and clusters.

use super::super::compression::set_types;
use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{block, endpoint, name, seconds};
use super::parse::{Line, Section, time};
use super::{Translation, is_http, last, option};

/// Makes the service of a backend; the keys of a route to it.
pub(super) fn backend(translation: &mut Translation<'_>, section: &Section) -> Map {
    let chosen = name(&section.name);
    let mut route = Map::default();
    route.set("service", chosen.as_str());
    if translation.model.services.iter().any(|service| service.name == chosen) {
        return route;
    }
    let mut keys = Map::default();
    let (main, backup) = servers(translation, section, &mut keys);
    probe(translation, section, &mut keys);
    timeouts(section, &mut keys);
    let mut clusters = vec![chosen.clone()];
    let mut first = keys.clone();
    first.0.insert(0, ("endpoints".to_owned(), Doc::List(main)));
    block(&mut translation.model.clusters, &chosen, &section.at).keys = first;
    if !backup.is_empty() {
        let backup_name = format!("{chosen}-backup");
        keys.0.insert(0, ("endpoints".to_owned(), Doc::List(backup)));
        block(&mut translation.model.clusters, &backup_name, &section.at).keys = keys;
        clusters.push(backup_name);
    }
    let mut service = Map::default();
    service.set("clusters", Doc::texts(&clusters));
    if clusters.len() > 1 {
        service.set("strategy", Doc::word("priority"));
    }
    if is_http(section) {
        http(translation, section, &mut service);
    }
    balance(translation, section, &mut service);
    block(&mut translation.model.services, &chosen, &section.at).keys = service;
    route
}

fn http(translation: &mut Translation<'_>, section: &Section, service: &mut Map) {
    if let Some(span) = last(section, &["timeout", "server"]).and_then(|line| time(line.word(2))) {
        service.set("timeout", seconds(span));
    }
    if let Some(retries) =
        last(section, &["retries"]).and_then(|line| line.word(1).parse::<u64>().ok())
    {
        service.set("retry.retries", Doc::word(retries.min(10)));
    }
    if let Some(cookie) = last(section, &["cookie"]) {
        service.set("affinity.cookie", cookie.word(1));
        if let Some(life) = cookie.after("maxlife").and_then(time) {
            service.set("affinity.ttl", seconds(life));
        }
        let hint = "Tidegate's cookie identifies the endpoint by a token of its own, so present sessions are balanced anew";
        translation.model.differs(&cookie.at, &cookie.shown(), hint);
    }
    if let Some(stick) = last(section, &["stick", "on"]) {
        match stick.word(2) {
            "src" => service.set("endpoint_policy", Doc::word("hash")),
            _ => {
                let hint =
                    "use `affinity`, or `endpoint_policy: hash` with a header field or a cookie";
                translation.model.left_out(&stick.at, &stick.shown(), hint);
            }
        }
    }
    if let Some(algorithm) = last(section, &["compression", "algo"]) {
        service.set("compression.algorithms", Doc::texts(&["gzip"]));
        if algorithm.words.iter().skip(2).any(|word| word != "gzip") {
            translation.model.differs(&algorithm.at, &algorithm.shown(), "the algorithm is gzip");
        }
        if let Some(types) = last(section, &["compression", "type"]) {
            let (model, shown) = (&mut translation.model, types.shown());
            set_types(model, &types.at, &shown, &types.words[2..], service);
        }
    }
    super::errors::of_backend(translation, section, service);
}

fn servers(
    translation: &mut Translation<'_>,
    section: &Section,
    keys: &mut Map,
) -> (Vec<Doc>, Vec<Doc>) {
    let (mut main, mut backup) = (Vec::new(), Vec::new());
    let mut defaults = Vec::new();
    for line in &section.lines {
        match line.word(0) {
            "default-server" => defaults.extend(line.words.iter().skip(1).cloned()),
            "server" | "server-template" => {
                let from = if line.word(0) == "server" { 3 } else { 4 };
                let own = line.words.get(from..).unwrap_or_default();
                let whole =
                    Line { words: [defaults.as_slice(), own].concat(), at: line.at.clone() };
                if whole.has("disabled") && !whole.has("enabled") {
                    translation.model.unneeded(
                        &line.at,
                        &line.shown(),
                        "it is disabled, so it is not written",
                    );
                    continue;
                }
                let address = line.word(from - 1);
                let address = address.trim_start_matches("ipv4@").trim_start_matches("ipv6@");
                let address = match address
                    .strip_prefix("unix@")
                    .or(Some(address).filter(|a| a.starts_with('/')))
                {
                    Some(path) => format!("unix:{path}"),
                    None => default_port(translation, section, line, address),
                };
                let weight = whole
                    .after("weight")
                    .and_then(|weight| weight.parse::<u16>().ok())
                    .unwrap_or(1);
                if weight == 0 {
                    translation.model.unneeded(
                        &line.at,
                        &line.shown(),
                        "its weight is 0, so it is not written",
                    );
                    continue;
                }
                if line.word(0) == "server-template" {
                    let hint = "all addresses of the name are endpoints";
                    translation.model.differs(&line.at, &line.shown(), hint);
                }
                let made = endpoint(&address, weight);
                if whole.has("backup") {
                    backup.push(made)
                } else {
                    main.push(made)
                }
                server_keys(translation, &whole, line, keys);
            }
            _ => {}
        }
    }
    if main.is_empty() {
        std::mem::swap(&mut main, &mut backup);
    }
    (main, backup)
}

fn default_port(
    translation: &mut Translation<'_>,
    section: &Section,
    line: &Line,
    address: &str,
) -> String {
    if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return address.to_owned();
    }
    let hint = "it has no port of its own: Tidegate cannot use the client's; 80 is written";
    translation.model.left_out(&line.at, &line.shown(), hint);
    let _ = section;
    format!("{}:80", address.trim_end_matches(':'))
}

/// Options of a server that hold for the whole cluster.
fn server_keys(translation: &mut Translation<'_>, options: &Line, line: &Line, keys: &mut Map) {
    if options.has("ssl") {
        if keys.get("tls").is_none() {
            keys.set("tls", Map::default());
        }
        let named = options.after("sni").or(options.after("verifyhost"));
        match named.map(|named| named.trim_start_matches("str(").trim_end_matches(')')) {
            Some(named) if crate::config::scalar::is_host_name(named) => {
                keys.set("tls.server_name", named)
            }
            Some(_) => translation.model.left_out(
                &line.at,
                "sni",
                "`tls.server_name` of a cluster is a fixed name",
            ),
            None => {}
        }
        match options.after("ca-file") {
            Some("@system-ca") | None => {}
            Some(ca) => keys.set("tls.ca", beside(&translation.folder, ca)),
        }
        if let Some(cert) = options.after("crt") {
            let file = beside(&translation.folder, cert);
            keys.set("tls.client_cert", file.as_str());
            keys.set("tls.client_key", file);
        }
        if options.after("verify") == Some("none") {
            let hint = "HAProxy did not verify the certificate; Tidegate does: set `tls.server_name` and `tls.ca` of the cluster";
            translation.model.differs(&line.at, "verify none", hint);
        }
        if options.after("alpn").is_some_and(|alpn| alpn.contains("h2")) {
            keys.set("protocol", Doc::word("auto"));
        }
    } else if options.after("proto") == Some("h2") {
        keys.set("protocol", Doc::word("http2"));
    }
    for (word, version) in
        [("send-proxy", "v1"), ("send-proxy-v2", "v2"), ("send-proxy-v2-ssl", "v2")]
    {
        if options.has(word) {
            keys.set("send_proxy_protocol", Doc::word(version));
        }
    }
    if let Some(span) = options.after("slowstart").and_then(time) {
        keys.set("slow_start", seconds(span));
    }
    for (word, hint) in [
        ("maxconn", "`limits.connections` and `capacity.concurrent` hold for the whole cluster"),
        ("observe", "endpoints are ejected by their traffic in any case (`outlier`)"),
        ("on-marked-down", "open connections of an endpoint that is down are not cut"),
        ("track", "each cluster has its own probes"),
        ("agent-check", "load is reported by `reports: orca`"),
        ("check-sni", "the probe uses `tls.server_name`"),
        ("redir", "write a route with `redirect`"),
    ] {
        if options.has(word) {
            translation.model.differs(&line.at, word, hint);
        }
    }
}

/// The probe of a backend whose servers are checked.
fn probe(translation: &mut Translation<'_>, section: &Section, keys: &mut Map) {
    let checked = section
        .lines
        .iter()
        .filter(|l| matches!(l.word(0), "server" | "default-server" | "server-template"));
    let checked: Vec<&Line> = checked.filter(|line| line.has("check")).collect();
    if checked.is_empty() {
        return;
    }
    let value = |key: &str| {
        let lines =
            section.lines.iter().rev().filter(|l| matches!(l.word(0), "server" | "default-server"));
        lines.clone().find_map(|line| line.after(key).map(str::to_owned))
    };
    if option(section, "httpchk") {
        keys.set("probe.kind", Doc::word("http"));
        if let Some(line) = last(section, &["option", "httpchk"]) {
            let path = line.words.iter().skip(2).find(|word| word.starts_with('/'));
            if let Some(path) = path {
                keys.set("probe.path", path.as_str());
            }
            if let Some(host) = line.shown().split("Host:").nth(1) {
                keys.set("probe.host", host.trim());
            }
            if line.words.get(2).is_some_and(|word| {
                !word.starts_with('/') && !matches!(word.as_str(), "GET" | "HEAD" | "OPTIONS")
            }) {
                translation.model.differs(&line.at, &line.shown(), "probes are GET requests");
            }
        }
        checks(translation, section, keys);
    }
    if let Some(port) = value("port").filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    {
        keys.set("probe.port", Doc::word(port));
    }
    let interval = value("inter").as_deref().and_then(time).map(|span| span.max(0.01));
    if let Some(interval) = interval {
        keys.set("probe.interval", seconds(interval));
    }
    let timeout = last(section, &["timeout", "check"]).and_then(|line| time(line.word(2)));
    if let Some(timeout) = timeout {
        // The default interval is 500 ms.
        keys.set("probe.timeout", seconds(timeout.min(interval.unwrap_or(0.5))));
    } else if interval.is_some_and(|interval| interval < 0.4) {
        keys.set("probe.timeout", seconds(interval.unwrap_or(0.4)));
    }
    for key in ["fall", "rise"] {
        if let Some(number) =
            value(key).filter(|n| n.parse::<u8>().is_ok_and(|n| (1..=100).contains(&n)))
        {
            keys.set(&format!("probe.{key}"), Doc::word(number));
        }
    }
}

/// `http-check` lines.
fn checks(translation: &mut Translation<'_>, section: &Section, keys: &mut Map) {
    for line in section.lines.iter().filter(|line| line.word(0) == "http-check") {
        match line.word(1) {
            "send" => {
                if let Some(path) = line.after("uri") {
                    keys.set("probe.path", path);
                }
                for (index, _) in line.words.iter().enumerate().filter(|(_, word)| *word == "hdr") {
                    let (name, value) = (line.word(index + 1), line.word(index + 2));
                    if value.contains('%') {
                        translation.model.left_out(
                            &line.at,
                            &line.shown(),
                            "fields of a probe have no variables",
                        );
                    } else if name.eq_ignore_ascii_case("host") {
                        keys.set("probe.host", value);
                    } else {
                        keys.put("probe.headers", &name.to_ascii_lowercase(), value);
                    }
                }
            }
            "expect" if line.word(2) == "status" => {
                let statuses: Vec<&str> = line.word(3).split(',').collect();
                let valid = |s: &&str| {
                    s.split('-').all(|n| n.parse::<u16>().is_ok_and(|n| (100..600).contains(&n)))
                };
                match statuses.iter().all(valid) {
                    true => keys.set("probe.status", Doc::texts(&statuses)),
                    false => translation.model.left_out(
                        &line.at,
                        &line.shown(),
                        "`probe.status` lists statuses",
                    ),
                }
            }
            _ => {
                let hint = "a probe is one GET request, judged by its status";
                translation.model.left_out(&line.at, &line.shown(), hint);
            }
        }
    }
}

fn timeouts(section: &Section, keys: &mut Map) {
    if let Some(span) = last(section, &["timeout", "connect"]).and_then(|line| time(line.word(2))) {
        keys.set("timeouts.connect_total", seconds(span));
    }
    if let Some(span) = last(section, &["timeout", "queue"]).and_then(|line| time(line.word(2))) {
        keys.set("timeouts.queue", seconds(span));
    }
}

fn balance(translation: &mut Translation<'_>, section: &Section, service: &mut Map) {
    let Some(line) = last(section, &["balance"]) else { return };
    let argument = |text: &str| {
        text.split_once('(')
            .map(|(_, argument)| argument.trim_end_matches(')').to_ascii_lowercase())
    };
    match line.word(1) {
        "roundrobin" | "static-rr" => service.set("endpoint_policy", Doc::word("round_robin")),
        "leastconn" => {
            let why =
                "the default `endpoint_policy: least_wait` prefers endpoints with a short queue";
            translation.model.unneeded(&line.at, &line.shown(), why);
        }
        "source" => service.set("endpoint_policy", Doc::word("hash")),
        "hash" if line.word(2) == "src" => service.set("endpoint_policy", Doc::word("hash")),
        way if way.starts_with("random") => service.set("endpoint_policy", Doc::word("random_two")),
        way if way.starts_with("hdr(") => {
            if let Some(name) = argument(way) {
                service.set("endpoint_policy", Doc::word("hash"));
                service.set("hash.header", name);
            }
        }
        _ => {
            let hint = "`endpoint_policy` is least_wait, round_robin, random_two, or hash by address, header field or cookie";
            translation.model.left_out(&line.at, &line.shown(), hint);
        }
    }
}
