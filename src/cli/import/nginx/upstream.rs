//! nginx's upstreams as clusters and services.

use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{Origin, block, endpoint, name, seconds};
use super::Translation;
use super::parse::Directive;
use super::values::{Scope, time};

/// The target of `proxy_pass` or `grpc_pass`.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Whether the cluster uses TLS.
    pub(super) tls: bool,
    /// Whether it is gRPC.
    pub(super) grpc: bool,
    /// The name of an upstream, or `host:port`, or `unix:/path`.
    pub(super) address: String,
    /// The URI after the address, if there is one.
    pub(super) uri: Option<String>,
}

/// Reads a target; variables are already replaced.
pub(super) fn target(text: &str) -> Option<Target> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let (tls, grpc) = match scheme {
        "http" => (false, false),
        "https" => (true, false),
        "grpc" => (false, true),
        "grpcs" => (true, true),
        _ => return None,
    };
    let (address, uri) = match rest.strip_prefix("unix:") {
        Some(path) => {
            let (path, uri) = path.split_once(':').map_or((path, None), |(p, u)| (p, Some(u)));
            (format!("unix:{path}"), uri.filter(|uri| !uri.is_empty()).map(str::to_owned))
        }
        None => match rest.find('/') {
            Some(at) => (rest[..at].to_owned(), Some(rest[at..].to_owned())),
            None => (rest.to_owned(), None),
        },
    };
    (!address.is_empty()).then_some(Target { tls, grpc, address, uri })
}

/// `HOST:PORT` with the scheme's port, or a socket.
pub(super) fn with_port(address: &str, port: u16) -> String {
    let is_v6 = address.starts_with('[') && address.ends_with(']');
    if address.starts_with("unix:") || (address.contains(':') && !is_v6) {
        return address.to_owned();
    }
    format!("{address}:{port}")
}

impl Translation<'_> {
    /// The service of a target under the settings of a scope; it is made when it is new.
    pub(super) fn service(&mut self, target: &Target, scope: &Scope<'_>, at: &Origin) -> String {
        let http = self.http;
        let is_it = |d: &&Directive| d.name == "upstream" && d.word(0) == target.address;
        let upstream = http.iter().find(is_it);
        let mut keys = Map::default();
        self.tls_keys(&mut keys, target, upstream.is_none(), scope);
        self.host_key(&mut keys, target, upstream.is_none(), scope, at);
        let grpc = target.grpc;
        if grpc {
            keys.set("protocol", Doc::word("http2"));
        }
        let connect =
            scope.seconds("proxy_connect_timeout").or(scope.seconds("grpc_connect_timeout"));
        if let Some((time, _)) = connect {
            keys.set("timeouts", Map::default());
            keys.set("timeouts.connect", seconds(time));
            keys.set("timeouts.connect_total", seconds(time));
        }
        let made_of = format!("{target:?}{keys:?}", target = (&target.address, target.tls, grpc));
        if let Some((_, known)) = self.made.iter().find(|(known, _)| *known == made_of) {
            return known.clone();
        }
        let base = name(&target.address.replace("unix:", ""));
        let mut chosen = base.clone();
        let mut number = 2;
        while self.made.iter().any(|(_, known)| *known == chosen) {
            chosen = format!("{base}-{number}");
            number += 1;
        }
        self.made.push((made_of, chosen.clone()));
        let port = if target.tls { 443 } else { 80 };
        match upstream {
            Some(upstream) => self.of_upstream(upstream, &chosen, keys, port),
            None => {
                keys.0.insert(
                    0,
                    ("endpoints".to_owned(), Doc::texts(&[with_port(&target.address, port)])),
                );
                block(&mut self.model.clusters, &chosen, at).keys = keys;
                let service = block(&mut self.model.services, &chosen, at);
                service.keys.set("clusters", Doc::texts(&[&chosen]));
            }
        }
        if grpc {
            block(&mut self.model.services, &chosen, at).keys.set("protocol", Doc::word("grpc"));
        }
        chosen
    }

    fn tls_keys(&mut self, keys: &mut Map, target: &Target, is_name: bool, scope: &Scope<'_>) {
        if !target.tls {
            return;
        }
        keys.set("tls", Map::default());
        let host =
            target.address.rsplit_once(':').map_or(target.address.as_str(), |(host, _)| host);
        let named = scope.last("proxy_ssl_name").and_then(|d| scope.template(d.word(0)).ok());
        match named.filter(|named| !named.contains('{')) {
            Some(named) => keys.set("tls.server_name", named),
            None if is_name && host.parse::<std::net::IpAddr>().is_err() => {
                keys.set("tls.server_name", host);
            }
            None => {}
        }
        for (directive, key) in [
            ("proxy_ssl_trusted_certificate", "tls.ca"),
            ("proxy_ssl_certificate", "tls.client_cert"),
            ("proxy_ssl_certificate_key", "tls.client_key"),
        ] {
            if let Some(found) = scope.last(directive) {
                keys.set(key, beside(&self.folder, found.word(0)));
            }
        }
        let verified = scope.last("proxy_ssl_verify").is_some_and(|d| d.word(0) == "on");
        if let (false, Some(pass)) =
            (verified, scope.last("proxy_pass").or(scope.last("grpc_pass")))
        {
            let hint = "nginx did not verify the cluster's certificate; Tidegate does: set `tls.server_name` and `tls.ca` of the cluster";
            self.model.differs(&pass.at, &pass.shown(), hint);
        }
    }

    /// The `Host` that clusters receive: nginx sends the name in `proxy_pass` unless told otherwise.
    fn host_key(
        &mut self,
        keys: &mut Map,
        target: &Target,
        is_name: bool,
        scope: &Scope<'_>,
        at: &Origin,
    ) {
        let is_host = |d: &&&Directive| d.word(0).eq_ignore_ascii_case("host");
        let fields = [scope.all("proxy_set_header"), scope.all("grpc_set_header")].concat();
        match fields.iter().find(is_host) {
            Some(host) => match scope.template(host.word(1)).as_deref().map_err(String::as_str) {
                // `$proxy_host` is the name in `proxy_pass`.
                Err("proxy_host") if is_name => keys.set("host", target.address.clone()),
                Ok("{host}" | "{host}:$server_port" | "{header:host}") => {}
                Ok(literal) if !literal.contains('{') => keys.set("host", literal),
                Ok(_) | Err(_) => {
                    let hint = "`Host` is preserved, or a fixed name (`clusters.*.host`)";
                    self.model.left_out(&host.at, &host.shown(), hint);
                }
            },
            None if is_name && !target.address.starts_with("unix:") => {
                let host = target
                    .address
                    .rsplit_once(':')
                    .map_or(target.address.as_str(), |(host, _)| host);
                match host.parse::<std::net::IpAddr>().is_ok() || host == "localhost" {
                    true => keys.set("host", Doc::word("endpoint")),
                    false => keys.set("host", target.address.clone()),
                }
            }
            None => {
                let hint = format!(
                    "nginx sends `Host: {}`; Tidegate preserves the client's (`clusters.*.host`)",
                    target.address
                );
                self.model.differs(at, "proxy_pass", &hint);
            }
        }
    }

    /// A cluster and a service of an `upstream` block; its backup servers are a second cluster.
    fn of_upstream(&mut self, upstream: &Directive, chosen: &str, mut keys: Map, port: u16) {
        let (mut main, mut backup) = (Vec::new(), Vec::new());
        let mut connections = Some(0_u64);
        for server in upstream.inner().iter().filter(|d| d.name == "server") {
            let options: Vec<&str> = server.words.iter().skip(1).map(String::as_str).collect();
            if options.contains(&"down") {
                self.model.unneeded(
                    &server.at,
                    &server.shown(),
                    "it is marked `down`, so it is not written",
                );
                continue;
            }
            let is_backup = options.contains(&"backup");
            let value = |key: &str| options.iter().find_map(|option| option.strip_prefix(key));
            let address = with_port(server.word(0), port);
            let weight =
                value("weight=").and_then(|weight| weight.parse::<u16>().ok()).unwrap_or(1);
            let endpoint = endpoint(&address, weight);
            connections =
                match (connections, value("max_conns=").and_then(|n| n.parse::<u64>().ok())) {
                    (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                    (Some(_) | None, _) => None,
                };
            self.failures(&mut keys, server, value("max_fails="), value("fail_timeout="));
            if let Some(span) = value("slow_start=").and_then(time) {
                keys.set("slow_start", seconds(span));
            }
            if is_backup { backup.push(endpoint) } else { main.push(endpoint) }
        }
        if let Some(connections) =
            connections.filter(|connections| (1..=1_000_000).contains(connections))
        {
            keys.set("limits", Map::default());
            keys.set("limits.connections", Doc::word(connections));
        }
        if main.is_empty() {
            std::mem::swap(&mut main, &mut backup);
        }
        if main.is_empty() {
            self.model.left_out(&upstream.at, &upstream.shown(), "it has no server");
            main.push("127.0.0.1:1".into());
        }
        let mut clusters = vec![chosen.to_owned()];
        let mut first = keys.clone();
        first.0.insert(0, ("endpoints".to_owned(), Doc::List(main)));
        block(&mut self.model.clusters, chosen, &upstream.at).keys = first;
        if !backup.is_empty() {
            let backup_name = format!("{chosen}-backup");
            keys.0.insert(0, ("endpoints".to_owned(), Doc::List(backup)));
            block(&mut self.model.clusters, &backup_name, &upstream.at).keys = keys;
            clusters.push(backup_name);
        }
        let mut service = Map::default();
        service.set("clusters", Doc::texts(&clusters));
        if clusters.len() > 1 {
            service.set("strategy", Doc::word("priority"));
        }
        self.balance(upstream, &mut service);
        block(&mut self.model.services, chosen, &upstream.at).keys = service;
    }

    fn failures(
        &mut self,
        keys: &mut Map,
        server: &Directive,
        fails: Option<&str>,
        window: Option<&str>,
    ) {
        match fails.and_then(|fails| fails.parse::<u32>().ok()) {
            Some(0) => {
                let hint = "endpoints are ejected after failures in any case; `outlier.consecutive` sets how many";
                self.model.differs(&server.at, "max_fails=0", hint);
            }
            Some(fails) if fails <= 1_000 => {
                keys.set("outlier", Map(vec![("consecutive".to_owned(), Doc::word(fails))]))
            }
            Some(_) | None => {}
        }
        if window.is_some() {
            let hint =
                "an ejected endpoint returns when its probes succeed, not after a fixed time";
            self.model.differs(&server.at, "fail_timeout", hint);
        }
    }

    fn balance(&mut self, upstream: &Directive, service: &mut Map) {
        for directive in upstream.inner() {
            match directive.name.as_str() {
                "ip_hash" => service.set("endpoint_policy", Doc::word("hash")),
                "random" => service.set("endpoint_policy", Doc::word("random_two")),
                "hash" => {
                    let key = directive.word(0).trim_start_matches('$');
                    service.set("endpoint_policy", Doc::word("hash"));
                    if matches!(key, "remote_addr" | "binary_remote_addr") {
                        continue;
                    }
                    let by =
                        key.strip_prefix("http_").map(|h| ("hash.header", h.replace('_', "-")));
                    match by.or(key.strip_prefix("cookie_").map(|c| ("hash.cookie", c.to_owned())))
                    {
                        Some((key, value)) => service.set(key, value),
                        None => {
                            service.remove("endpoint_policy");
                            let hint = "the key can be a header field, a cookie or the client's address (`hash`)";
                            self.model.left_out(&directive.at, &directive.shown(), hint);
                        }
                    }
                }
                "sticky" if directive.word(0) == "cookie" => {
                    service.set("affinity.cookie", directive.word(1));
                    let ttl = directive
                        .words
                        .iter()
                        .find_map(|w| w.strip_prefix("expires="))
                        .and_then(time);
                    if let Some(ttl) = ttl {
                        service.set("affinity.ttl", seconds(ttl));
                    }
                }
                "sticky" => {
                    let hint = "session affinity is by a cookie of Tidegate (`affinity`)";
                    self.model.left_out(&directive.at, &directive.shown(), hint);
                }
                _ => {}
            }
        }
    }
}
