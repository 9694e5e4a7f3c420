//! The public side of the configuration: the shipped files, the messages, the schema, the examples.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

#[path = "files/mod.rs"]
mod files;

use files::{read, root};
use serde_json::Value;
use std::path::Path;
use tidegate::config::error::Position;
use tidegate::config::yaml::{Kind, Node, parse};
use tidegate::config::{Outcome, Problem, Severity, load, schema::schema};
use tidegate::decision::index::ClusterIndex;

fn check(text: &str) -> Outcome {
    load(text, Path::new("."), &|_| None)
}

/// The values of a key below a pattern like `listeners.*.limits.head`.
fn values<'a>(node: &'a Node, path: &[&str]) -> Vec<&'a Node> {
    let Some((first, rest)) = path.split_first() else { return vec![node] };
    match &node.kind {
        Kind::List(items) => items.iter().flat_map(|item| values(item, path)).collect(),
        Kind::Map(entries) => entries
            .iter()
            .filter(|(key, _)| *first == "*" || key.text() == Some(first))
            .flat_map(|(_, value)| values(value, rest))
            .collect(),
        Kind::Null | Kind::Scalar { .. } => Vec::new(),
    }
}

fn plain(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "none".to_owned(),
        Kind::Scalar { text, .. } => text.clone(),
        Kind::List(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        Kind::Map(_) => "a map".to_owned(),
    }
}

/// A default as the file has it.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Each key of the schema, as a path, with its documented default.
fn keys(schema: &Value, path: &str, out: &mut Vec<(String, Option<String>)>) {
    if schema["type"] == "array" {
        return keys(&schema["items"], path, out);
    }
    if schema["additionalProperties"].is_object() && schema["properties"].is_null() {
        return keys(&schema["additionalProperties"], &format!("{path}.*"), out);
    }
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        out.push((path.clone(), value.get("default").map(written)));
        keys(value, &path, out);
    }
}

#[test]
fn the_reference_has_every_key_with_its_default() {
    let text = read("config/reference.yaml");
    let tree = parse(&text).0.unwrap();
    let mut all = Vec::new();
    keys(&schema(), "", &mut all);
    assert!(all.len() > 120, "{}", all.len());
    for (path, default) in all {
        let found = values(&tree, &path.split('.').collect::<Vec<_>>());
        let named = path.rsplit('.').next().unwrap();
        let commented = text.contains(&format!("# {named}:"));
        assert!(!found.is_empty() || commented, "{path} is not in the reference");
        if let Some(default) = default {
            let written: Vec<String> = found.iter().map(|node| plain(node)).collect();
            let example = ["sites.*.kind", "routes"].iter().any(|known| path.starts_with(known));
            let shown = format!("# {named}: {default} ");
            let there = written.contains(&default) || commented && text.contains(&shown);
            assert!(there || example, "{path}: the default is {default}, the file has {written:?}");
        }
    }
}

#[test]
fn documented_defaults_are_the_programs() {
    let minimal = "listeners: { web: { address: 127.0.0.1:0, protocol: http, service: s } }\n\
        services: { s: { clusters: [a] } }\nclusters: { a: { endpoints: [127.0.0.1:1] } }\n";
    let spelled_out = |schema: &Value, keep: &str| -> String {
        let properties = schema["properties"].as_object().unwrap();
        let line = |(key, value): (&String, &Value)| {
            let default = written(value.get("default")?);
            Some(format!("{key}: {default}"))
        };
        let mut lines: Vec<String> = properties.iter().filter_map(line).collect();
        lines.push(keep.to_owned());
        format!("{{ {} }}", lines.join(", "))
    };
    let whole = schema();
    let of = |path: &[&str]| {
        path.iter().fold(whole.clone(), |schema, key| match *key {
            "*" => schema["additionalProperties"].clone(),
            key => schema["properties"][key].clone(),
        })
    };
    let listener = of(&["listeners", "*"]);
    let cluster = of(&["clusters", "*"]);
    let blocks = |of: &Value, names: &[&str], keep: &str| {
        let inner: Vec<String> = names
            .iter()
            .map(|name| {
                format!(
                    "{name}: {}",
                    spelled_out(&of["properties"][*name], "").replace(", }", " }")
                )
            })
            .collect();
        spelled_out(of, &format!("{}, {keep}", inner.join(", ")))
    };
    let explicit = format!(
        "version: 1\nlisteners: {{ web: {} }}\nservices: {{ s: {} }}\nclusters: {{ a: {} }}\n",
        blocks(
            &listener,
            &["timeouts", "limits"],
            "address: 127.0.0.1:0, protocol: http, service: s"
        ),
        blocks(&of(&["services", "*"]), &["retry"], "clusters: [a]"),
        blocks(&cluster, &["probe", "limits", "timeouts", "failback"], "endpoints: [127.0.0.1:1]"),
    );
    let (short, long) = (check(minimal), check(&explicit));
    assert!(long.problems.is_empty(), "{:#?}\n{explicit}", long.problems);
    let (short, long) = (short.config.unwrap(), long.config.unwrap());
    assert_eq!(short.plan.listeners, long.plan.listeners);
    assert_eq!(short.plan.services, long.plan.services);
    assert_eq!(short.plan.clusters, long.plan.clusters);
    assert_eq!(short.settings, long.settings);
}

#[test]
fn shipped_files_are_valid_without_a_warning() {
    for path in ["config/minimal.yaml", "config/reference.yaml", "docker/tidegate.yaml"] {
        let outcome = check(&read(path));
        let notes = |problem: &&Problem| problem.severity != Severity::Note;
        let told: Vec<_> = outcome.problems.iter().filter(notes).collect();
        assert!(told.is_empty(), "{path}: {told:#?}");
        assert!(outcome.config.is_some());
    }
}

#[test]
fn every_example_in_the_documents_passes_check() {
    let mut files = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        files.push(format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    }
    let mut examples = 0;
    for file in files.iter().filter(|file| file.ends_with(".md")) {
        let text = read(file);
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let outcome = check(block);
            let errors: Vec<_> =
                outcome.problems.iter().filter(|p| p.severity == Severity::Error).collect();
            assert!(errors.is_empty(), "{file}: {errors:#?}\n{block}");
            examples += 1;
        }
    }
    assert!(examples >= 3, "{examples}");
}

#[test]
fn what_is_wrong_with_a_peer_is_told_at_its_place() {
    let text = "\
listeners: { web: { address: 127.0.0.1:0, protocol: http, service: s } }
services: { s: { clusters: [a] } }
clusters: { a: { endpoints: [127.0.0.1:1] } }
fleet:
  peers:
  - { site: east, url: 'https://gw-1:9901', token_file: nowhere }
  - { site: a b, url: 'https://gw-2:9901' }
  - { site: east, url: gw-3:9901 }
  - { site: east, url: 'http://gw-4:9901', ca: ca.pem }
  - { site: east, url: 'https://gw-1:9901/' }
  - { site: east, url: 'http://gw-5:9901', token_file: Cargo.toml }
  - { site: east, url: 'https://gw-6:9901', ca: Cargo.toml }
  - { url: 'https://gw-7:9901', token: x }
";
    let told: Vec<String> = check(text).problems.iter().map(|p| p.render("t")).collect();
    let all = told.join("\n");
    for part in [
        "t:6:57: error: fleet.peers[0].token_file: cannot read `nowhere`",
        "t:7:13: error: fleet.peers[1].site: `a b` is not a valid name of a site",
        "t:8:24: error: fleet.peers[2].url: `gw-3:9901` is not a URL such as https://HOST:PORT",
        "t:9:48: error: fleet.peers[3].ca: is used only with an https URL",
        "t:10:24: error: fleet.peers[4].url: `https://gw-1:9901/` is listed twice",
        "t:11:24: warning: fleet.peers[5].url: the token would be sent in plain text",
        "t:12:49: error: fleet.peers[6].ca:",
        "fleet.peers[7]: `site` is missing",
        "fleet.peers[7].token: unknown key `token`",
    ] {
        assert!(all.contains(part), "{part}\n{all}");
    }
    let many: String = (1..=257).map(|n| format!("{{site: a, url: 'https://h:{n}'}}, ")).collect();
    let text = format!("{}\nfleet: {{ peers: [{many}] }}\n", text.split("fleet:").next().unwrap());
    let told = check(&text).problems;
    assert!(told.iter().any(|p| p.message.contains("257 peers, and at most 256")), "{told:#?}");
}

/// What is said of `fleet.nats` with these keys.
fn about_nats(keys: &str) -> String {
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
         services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\n\
         fleet: {{ nats: {{ {keys} }} }}\n"
    );
    check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
}

#[cfg(not(feature = "nats"))]
#[test]
fn a_build_without_nats_says_so() {
    let told = about_nats("url: 'tls://nats-1:4222'");
    assert!(told.starts_with("t:4:16: error: fleet.nats: this build has no NATS"), "{told}");
}

#[cfg(feature = "nats")]
#[test]
fn what_proxies_on_nats_alone_cannot_share_is_an_error() {
    let about = |fleet: &str| {
        let text = format!(
            "\
site: {{ name: t }}
listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}
services: {{ s: {{ clusters: [a], budget: {{ usd_per_hour: 5, shared_by: fleet }} }} }}
clusters: {{ a: {{ endpoints: [127.0.0.1:1], capacity: {{ concurrent: 8, shared_by: fleet }} }} }}
capacity_groups: {{ g: {{ concurrent: 8, shared_by: fleet }} }}
fleet: {{ {fleet} }}
"
        );
        check(&text).problems.iter().map(|p| p.render("t") + "\n").collect::<String>()
    };
    let nats = "nats: { url: 'nats://127.0.0.1:4222' }";
    let told = about(nats);
    for (path, what) in [
        ("services.s.budget", "budget"),
        ("clusters.a.capacity", "ceiling"),
        ("capacity_groups.g", "line"),
    ] {
        let part = format!(
            "error: {path}.shared_by: `fleet.peers` lists no proxy of this site: each proxy on `fleet.nats` would use the whole {what}"
        );
        assert!(told.contains(&part), "{part}\n{told}");
    }
    // One proxy alone, as far as the file says.
    let alone = about("peers: [{ site: other, url: 'http://127.0.0.1:9902' }]");
    assert!(!alone.contains("error") && alone.contains("the budget is not shared"), "{alone}");
    let own = "peers: [{ site: t, url: 'http://127.0.0.1:9902' }]";
    let both = about(&format!("{own}, {nats}"));
    assert!(!both.contains("shared_by"), "{both}");
}

#[cfg(feature = "nats")]
#[test]
fn what_is_wrong_with_nats_is_told_at_its_place() {
    for keys in [
        "url: 'tls://nats-1:4222, tls://[::1]:4222'",
        "url: 'nats://127.0.0.1:4222', subject: a.b-c_d, ignore_discovered_servers: true",
    ] {
        assert_eq!(about_nats(keys), "", "{keys}");
    }
    let many = format!("url: '{}'", ["tls://a:1"; 17].join(","));
    for (keys, part) in [
        ("url: 'nats://nats-1:4222'", "t:4:23: warning: fleet.nats.url: reports can be forged"),
        ("url: 'tls://me:secret@a:1'", "t:4:23: error: fleet.nats.url: credentials do not belong"),
        ("url: 'tls://a'", "error: fleet.nats.url: `tls://a` is not a URL such as tls://HOST:4222"),
        ("url: 'tls://a:1,'", "error: fleet.nats.url: `` is not a URL"),
        ("url: 'http://a:1'", "error: fleet.nats.url: `http://a:1` is not a URL"),
        (&many, "error: fleet.nats.url: 17 servers, and at most 16 are allowed"),
        ("url: 'tls://a:1', subject: a..b", "error: fleet.nats.subject: `a..b` is not a subject"),
        ("url: 'tls://a:1', subject: 'a.>'", "error: fleet.nats.subject: `a.>` is not a subject"),
        ("url: 'tls://a:1', creds_file: x", "error: fleet.nats.creds_file: cannot read `x`"),
        (
            "url: 'tls://a:1', creds_file: Cargo.toml",
            "error: fleet.nats.creds_file: `Cargo.toml` holds no credentials",
        ),
        ("url: 'tls://a:1', ca: Cargo.toml", "error: fleet.nats.ca:"),
        ("url: 'nats://localhost:1', ca: x", "error: fleet.nats.ca: is used only with a tls URL"),
        ("subject: a", "fleet.nats: `url` is missing"),
    ] {
        let told = about_nats(keys);
        assert!(told.contains(part), "{keys}: {told}");
        assert!(!told.contains("secret@"), "{told}");
    }
}

/// What is said of `tracing` with these keys.
fn about_tracing(keys: &str) -> String {
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
         services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\n\
         tracing: {{ {keys} }}\n"
    );
    check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_build_without_opentelemetry_says_so() {
    let told = about_tracing("otlp: 'http://127.0.0.1:4317'");
    assert!(told.starts_with("t:4:10: error: tracing: this build has no OpenTelemetry"), "{told}");
}

#[cfg(feature = "otel")]
#[test]
fn what_is_wrong_with_a_collector_is_told_at_its_place() {
    for keys in [
        "otlp: 'http://127.0.0.1:4317'",
        "otlp: 'http://localhost:4317/', sample_ratio: 1",
        "otlp: 'https://[::1]:4317', sample_ratio: 0",
        "otlp: 'https://collector.internal:4317', sample_ratio: 0.5",
    ] {
        assert_eq!(about_tracing(keys), "", "{keys}");
    }
    for (keys, part) in [
        (
            "otlp: 'http://c:4317'",
            "t:4:18: warning: tracing.otlp: paths and client addresses would",
        ),
        (
            "otlp: 'c:4317'",
            "t:4:18: error: tracing.otlp: `c:4317` is not a URL such as http://HOST:4317",
        ),
        ("otlp: 'https://c'", "error: tracing.otlp: `https://c` is not a URL"),
        ("otlp: 'grpc://c:1'", "error: tracing.otlp: `grpc://c:1` is not a URL"),
        (
            "otlp: 'https://c:1', sample_ratio: 2",
            "error: tracing.sample_ratio: must be from 0 to 1",
        ),
        (
            "otlp: 'https://c:1', sample_ratio: -1",
            "error: tracing.sample_ratio: `-1`: must be a number",
        ),
        ("otlp: 'https://c:1', ca: nowhere", "error: tracing.ca:"),
        ("otlp: 'http://[::1]:1', ca: x", "error: tracing.ca: is used only with an https URL"),
        ("sample_ratio: 1", "tracing: `otlp` is missing"),
    ] {
        let told = about_tracing(keys);
        assert!(told.contains(part), "{keys}: {told}");
    }
}

/// What is said of `compression` at a service and at a route of it, with these further keys of the service.
fn about_compression(service: &str, route: &str) -> String {
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
         services: {{ s: {{ clusters: [a, b]{service} }} }}\n\
         clusters:\n  a: {{ accepts: [general, sensitive], endpoints: [127.0.0.1:1] }}\n\
         \u{20} b: {{ accepts: [general, sensitive], endpoints: [127.0.0.1:2] }}\n\
         routes:\n- {{ path: /a, service: s{route} }}\n"
    );
    check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
}

#[cfg(not(feature = "compression"))]
#[test]
fn a_build_without_compression_says_so() {
    let told = about_compression(", compression: {}", "");
    let place = "t:2:49: error: services.s.compression: this build cannot compress: it needs the cargo feature `compression`";
    assert!(told.starts_with(place), "{told}");
    let told = about_compression("", ", compression: { algorithms: [] }");
    assert!(told.contains("error: routes[0].compression: this build cannot compress"), "{told}");
}

#[cfg(feature = "compression")]
#[test]
fn what_is_wrong_with_compression_is_told_at_its_place() {
    for (service, route) in [
        (", compression: {}", ""),
        (
            "",
            ", compression: { algorithms: [gzip], types: [text/*, \"application/*+json\"], min_size: 0 }",
        ),
        (", compression: {}", ", compression: { algorithms: [] }"),
        (", compression: {}", ", data: sensitive"),
        (", data: sensitive, compression: { algorithms: [] }", ""),
    ] {
        assert_eq!(about_compression(service, route), "", "{service} {route}");
    }
    for (service, route, part) in [
        (
            ", compression: { algorithms: [deflate] }",
            "",
            "services.s.compression.algorithms[0]: `deflate` is not one of the choices",
        ),
        (
            ", compression: { types: [text/*, \"*\"] }",
            "",
            "t:2:67: error: services.s.compression.types[1]: `*` is not a content type",
        ),
        (
            "",
            ", compression: { types: [text/event-stream] }",
            "error: routes[0].compression.types[0]: `text/event-stream` is never compressed",
        ),
        (
            "",
            ", compression: { min_size: little }",
            "error: routes[0].compression.min_size: `little`: must be a size",
        ),
        (
            "",
            ", compression: { level: 9 }",
            "error: routes[0].compression.level: unknown key `level`",
        ),
        (
            ", data: sensitive, compression: {}",
            "",
            "t:2:66: warning: services.s.compression: has no effect: sensitive data are never compressed",
        ),
        (
            "",
            ", data: sensitive, compression: {}",
            "warning: routes[0].compression: has no effect: sensitive data are never compressed",
        ),
    ] {
        let told = about_compression(service, route);
        assert!(told.contains(part), "{service} {route}: {told}");
    }
}

#[cfg(feature = "compression")]
#[test]
fn sensitive_data_are_never_compressed() {
    let text = "listeners: { web: { address: 127.0.0.1:0, protocol: http, service: s } }\n\
        services:\n  s: { clusters: [a], compression: {} }\n  v: { clusters: [a], data: [pii, sensitive], compression: {} }\n\
        clusters: { a: { accepts: [general, pii, sensitive], endpoints: [127.0.0.1:1] } }\n\
        routes:\n- { path: /a, service: s }\n- { path: /b, service: s, data: sensitive }\n- { path: /c, service: v }\n\
        - { path: /d, split: { s: 1, v: 1 }, compression: { algorithms: [br] } }\n- { path: /e, service: s, compression: { algorithms: [] } }\n";
    let plan = check(text).config.unwrap().plan;
    let compressed = |name: &str| -> Vec<bool> {
        let route = plan.routes.routes().iter().find(|route| route.name == name).unwrap();
        let mut action = route.action.clone();
        action.destinations_mut().map(|to| to.terms.compression.is_some()).collect()
    };
    assert_eq!(compressed("listeners.web"), [true]);
    let routes: Vec<Vec<bool>> = (0..5).map(|at| compressed(&format!("routes[{at}]"))).collect();
    assert_eq!(routes, [vec![true], vec![false], vec![false], vec![true, false], vec![false]]);
}

/// What is said of `tls.acme` with these keys, on this address.
fn about_acme(address: &str, keys: &str, others: &str) -> String {
    let text = format!(
        "listeners:\n  web: {{ address: '{address}', protocol: http, service: s, tls: {{ acme: {{ {keys} }} }} }}\n\
         services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\n{others}\n"
    );
    check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
}

#[cfg(not(feature = "acme"))]
#[test]
fn a_build_without_acme_says_so() {
    let told = about_acme("[::]:443", "domains: [a.example], accept_terms: true", "state_dir: s");
    assert!(
        told.starts_with("t:2:72: error: listeners.web.tls.acme: this build has no ACME"),
        "{told}"
    );
}

#[cfg(feature = "acme")]
#[test]
fn what_is_wrong_with_acme_is_told_at_its_place() {
    let alpn = "challenge: tls-alpn-01, accept_terms: true, domains: [a.example, B.example]";
    assert_eq!(about_acme("[::]:443", alpn, "state_dir: s"), "");
    let http = "accept_terms: true, domains: [a.example]";
    let told = about_acme("[::]:443", http, "state_dir: s");
    assert!(told.contains("warning: listeners.web.tls.acme.challenge: authorities validate names by http-01 on port 80"), "{told}");
    for (address, keys, others, part) in [
        (
            "[::]:8443",
            alpn,
            "state_dir: s",
            "warning: listeners.web.tls.acme.challenge: authorities validate names by tls-alpn-01 on port 443",
        ),
        ("[::]:443", alpn, "", "error: listeners.web.tls.acme: needs `state_dir`"),
        ("[::]:443", "domains: [a.example]", "state_dir: s", "`accept_terms` is missing"),
        (
            "[::]:443",
            "domains: [a.example], accept_terms: false",
            "state_dir: s",
            "acme.accept_terms: the authority issues nothing without consent",
        ),
        (
            "[::]:443",
            "domains: [], accept_terms: true",
            "state_dir: s",
            "acme.domains: the list of names is empty",
        ),
        (
            "[::]:443",
            "domains: ['*.a.example'], accept_terms: true",
            "state_dir: s",
            "acme.domains[0]: `*.a.example`: a wildcard can be validated neither",
        ),
        (
            "[::]:443",
            "domains: [a.example, A.example], accept_terms: true",
            "state_dir: s",
            "acme.domains[1]: `a.example`: is in the list twice",
        ),
        (
            "[::]:443",
            "domains: [127.0.0.1], accept_terms: true",
            "state_dir: s",
            "`127.0.0.1`: is not a host name",
        ),
        (
            "[::]:443",
            "domains: ['a/../b'], accept_terms: true",
            "state_dir: s",
            "`a/../b`: is not a host name",
        ),
        (
            "[::]:443",
            "domains: [a.example], accept_terms: true, directory: 'http://a.example/dir'",
            "state_dir: s",
            "acme.directory: `http://a.example/dir` is not a URL",
        ),
        (
            "[::]:443",
            "domains: [a.example], accept_terms: true, ca: nowhere.pem",
            "state_dir: s",
            "acme.ca: cannot read",
        ),
        (
            "[::]:443",
            "domains: [a.example], accept_terms: true, email: 'ops'",
            "state_dir: s",
            "acme.email: `ops` is not an address",
        ),
        (
            "[::]:443",
            "domains: [a.example], accept_terms: true, challenge: dns-01",
            "state_dir: s",
            "acme.challenge",
        ),
    ] {
        let told = about_acme(address, keys, others);
        assert!(told.contains(part), "{keys}: {part}\n{told}");
    }
    let many: Vec<String> = (0..101).map(|n| format!("n{n}.example")).collect();
    let keys = format!("domains: [{}], accept_terms: true", many.join(", "));
    assert!(about_acme("[::]:443", &keys, "state_dir: s").contains("101 names, and at most 100"));
}

#[cfg(feature = "acme")]
#[test]
fn every_plain_http_listener_answers_challenges_where_one_is_needed() {
    let text = |challenge: &str| {
        format!(
            "state_dir: s\nlisteners:\n  plain: {{ address: '[::]:80', protocol: http, service: s }}\n  \
             raw: {{ address: '[::]:81', protocol: tcp, service: s }}\n  \
             web: {{ address: '[::]:443', protocol: http, service: s, tls: {{ acme: {{ domains: [a.example], accept_terms: true, challenge: {challenge} }} }} }}\n\
             services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\n"
        )
    };
    for (challenge, expected) in [("http-01", [true, false, false]), ("tls-alpn-01", [false; 3])] {
        let outcome = check(&text(challenge));
        assert!(outcome.problems.is_empty(), "{:#?}", outcome.problems);
        let plan = outcome.config.unwrap().plan;
        let answers: Vec<bool> = plan.listeners.iter().map(|one| one.answers_acme).collect();
        assert_eq!(answers, expected, "{challenge}");
    }
}

/// What is said of a file with these keys of `config` and these others.
fn about_a_source(keys: &str, others: &str) -> (bool, String) {
    let outcome = check(&format!("config: {{ {keys} }}\n{others}\n"));
    let told: Vec<String> = outcome.problems.iter().map(|p| p.render("t")).collect();
    (outcome.bootstrap.is_some(), told.join("\n"))
}

#[cfg(not(feature = "nats"))]
#[test]
fn a_build_without_nats_refuses_a_source() {
    let keys = "source: nats, url: 'tls://a:1', bucket: b, key: k";
    let (is_valid, told) = about_a_source(keys, "state_dir: s");
    assert!(
        !is_valid && told.starts_with("t:1:9: error: config: this build has no NATS"),
        "{told}"
    );
}

#[cfg(feature = "nats")]
#[test]
fn a_file_names_a_source_and_its_state_dir_and_nothing_else() {
    let valid = "source: nats, url: 'tls://a:1', bucket: conf_1, key: idc.east/a=b";
    let told = about_a_source(valid, "version: 1\nstate_dir: state");
    assert_eq!(told, (true, String::new()));
    let (is_valid, told) = about_a_source(valid, "");
    assert!(is_valid && told.contains("warning: config: without `state_dir` a start"), "{told}");
    let key = |key: &str| format!("source: nats, url: 'tls://a:1', bucket: b, key: {key}");
    let bucket = |name: &str| format!("source: nats, url: 'tls://a:1', bucket: {name}, key: k");
    for (keys, others, part) in [
        (valid, "admin: {}", "t:2:1: error: admin: stands beside `config`"),
        (valid, "sites: {}\nfleet: {}", "t:3:1: error: fleet: stands beside `config`"),
        (
            valid,
            "include: [a]",
            "error: include: stands beside `config`: this file only names the source (the source holds",
        ),
        (valid, "stat_dir: s", "error: stat_dir: unknown key `stat_dir` (did you mean"),
        ("source: nats", "", "error: config: `url` is missing"),
        ("source: file", "", "error: config.source: `file` is not one of the choices"),
        (&key("a..b"), "", "t:1:59: error: config.key: `a..b` is not a key"),
        (&key("'a.>'"), "", "error: config.key: `a.>` is not a key"),
        (&key(&"k".repeat(129)), "", "is not a key"),
        (&bucket("a.b"), "", "error: config.bucket: `a.b` is not a bucket"),
        (&bucket("''"), "", "error: config.bucket: `` is not a bucket"),
        (
            "source: nats, url: 'nats://a:1', bucket: b, key: k",
            "state_dir: s",
            "warning: config.url: the configuration can be forged on the network",
        ),
        (
            "source: nats, url: 'tls://me:secret@a:1', bucket: b, key: k",
            "",
            "name it in `config.creds_file`",
        ),
        (
            "source: nats, url: 'tls://a:1', creds_file: x, bucket: b, key: k",
            "",
            "error: config.creds_file: cannot read `x`",
        ),
    ] {
        let (is_valid, told) = about_a_source(keys, others);
        assert!(told.contains(part), "{keys} {others}: {told}");
        assert_eq!(is_valid, !told.contains(": error: "), "{told}");
        assert!(!told.contains("secret@"), "{told}");
    }
}

#[test]
fn the_schema_is_of_a_configuration_or_of_a_source() {
    let schema = schema();
    let kinds = schema["oneOf"].as_array().unwrap();
    assert_eq!(kinds[0]["required"], serde_json::json!(["listeners", "clusters", "services"]));
    assert_eq!(kinds[0]["properties"]["config"], false);
    let mut keys: Vec<_> = kinds[1]["propertyNames"]["enum"].as_array().unwrap().iter().collect();
    keys.sort_by_key(|key| key.as_str());
    assert_eq!(keys, ["config", "state_dir", "version"]);
    assert!(schema["properties"]["config"]["properties"]["bucket"].is_object());
}

/// A folder with files, and the result of a configuration in it: whether it is valid, the problems, the effective
/// configuration.
fn with_files(main: &str, files: &[(&str, &str)]) -> (bool, String, Value) {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("tidegate-include-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(folder.join("conf.d")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let outcome = load(main, &folder, &|name| (name == "PORT").then(|| "9001".to_owned()));
    std::fs::remove_dir_all(&folder).unwrap();
    let told: Vec<String> = outcome.problems.iter().map(|p| p.render("main.yaml")).collect();
    let told = told.join("\n").replace(&format!("{}/", folder.display()), "");
    let effective = outcome.config.map(|config| config.effective);
    (effective.is_some(), told, effective.unwrap_or_default())
}

const MAIN: &str = "include: [conf.d/*.yaml]\nlisteners:\n  web: { address: 127.0.0.1:8080, protocol: http }\nroutes:\n- { hosts: [a.example], service: shop }\n";
const SHOP: &str = "version: 1\nservices:\n  shop: { clusters: [one] }\nclusters:\n  one: { endpoints: [\"127.0.0.1:${PORT}\"] }\n";
const PAY: &str = "# of another team\nservices:\n  pay: { clusters: [two] }\nclusters:\n  two: { endpoints: [127.0.0.1:9002] }\nroutes:\n- { hosts: [b.example], service: pay }\n";

#[test]
fn included_files_are_merged_by_key_and_routes_follow_each_other() {
    let files = [("conf.d/20-pay.yaml", PAY), ("conf.d/10-shop.yaml", SHOP)];
    let others = [("conf.d/.hidden.yaml", "nonsense"), ("conf.d/note.txt", "nonsense")];
    let (is_valid, told, all) = with_files(MAIN, &[files[0], files[1], others[0], others[1]]);
    assert!(is_valid && told.is_empty(), "{told}");
    assert_eq!(all["routes"][0]["service"], "shop");
    assert_eq!(all["routes"][1]["service"], "pay");
    assert_eq!(all["clusters"]["one"]["endpoints"][0], "127.0.0.1:9001");
    assert_eq!(all["clusters"]["two"]["endpoints"][0], "127.0.0.1:9002");
    // A file of two patterns is read once.
    let main = MAIN.replace("[conf.d/*.yaml]", "[conf.d/10-shop.yaml, conf.d/?0-*.yaml]");
    assert!(with_files(&main, &files).0);
}

#[test]
fn a_mistake_in_included_files_is_told_with_its_file() {
    let deep = "include: [other.yaml]\n";
    let main = "conf.d/*.yaml";
    for (pattern, files, part) in [
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", SHOP)][..],
            "conf.d/b.yaml:3:3: error: services.shop: written twice: first in conf.d/a.yaml:3:3 (remove",
        ),
        (
            main,
            &[("conf.d/a.yaml", "listeners:\n  web: {}\n")],
            "conf.d/a.yaml:2:3: error: listeners.web: written twice: first in the main file:3:3",
        ),
        (
            main,
            &[
                ("conf.d/a.yaml", SHOP),
                ("conf.d/b.yaml", "site: { name: a }\n"),
                ("conf.d/c.yaml", "site: { name: b }\n"),
            ],
            "conf.d/c.yaml:1:9: error: site.name: written twice: first in conf.d/b.yaml:1:9",
        ),
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", "\nversion: 2\n")],
            "conf.d/b.yaml:2:1: error: version: written twice: first in conf.d/a.yaml:1:1",
        ),
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", "a: [\n")],
            "conf.d/b.yaml:1:4: error: unclosed",
        ),
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", "state_dir: ${NONE}\n")],
            "conf.d/b.yaml:1:12: error: ",
        ),
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", "\nclustrs: {}\n")],
            "conf.d/b.yaml:2:1: error: clustrs: unknown key `clustrs` (did you mean `clusters`?)",
        ),
        (
            main,
            &[("conf.d/a.yaml", &SHOP.replace("[one]", "[none]"))],
            "conf.d/a.yaml:3:22: error: services.shop.clusters[0]: there is no cluster `none`",
        ),
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", "- a\n")],
            "conf.d/b.yaml:1:1: error: must be a map",
        ),
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", deep)],
            "conf.d/b.yaml:1:1: error: include: an included file cannot include others",
        ),
        (
            main,
            &[("conf.d/a.yaml", SHOP), ("conf.d/b.yaml", "config: {}\n")],
            "conf.d/b.yaml:1:1: error: config: an included file cannot name a source",
        ),
        ("absent.yaml", &[], "main.yaml:1:11: error: include: cannot read `absent.yaml`: "),
        (
            "conf.d",
            &[],
            "main.yaml:1:11: error: include: cannot read `conf.d`: it is not a regular file",
        ),
        ("*/a.yaml", &[], "main.yaml:1:11: error: include: `*/a.yaml` names no file (`*`"),
        ("conf.d/", &[], "main.yaml:1:11: error: include: `conf.d/` names no file (`*`"),
        (
            "none.d/*.yaml",
            &[],
            "main.yaml:1:11: note: include: `none.d/*.yaml` matches no file: there is no folder `none.d`",
        ),
        (main, &[], "main.yaml:1:11: note: include: `conf.d/*.yaml` matches no file"),
    ] {
        let text = MAIN.replace(
            "conf.d/*.yaml",
            if pattern.starts_with('*') { "\"*/a.yaml\"" } else { pattern },
        );
        let (is_valid, told, _) = with_files(&text, files);
        assert!(told.contains(part), "{part}\nis not in\n{told}");
        assert!(!is_valid);
    }
}

#[test]
fn a_file_that_includes_itself_is_told_once_and_a_pattern_without_files_is_a_note() {
    let main = MAIN.replace("conf.d/*.yaml", "\"*.yaml\"");
    let (is_valid, told, _) = with_files(&main, &[("main.yaml", &main), ("shop.yaml", SHOP)]);
    assert!(!is_valid);
    assert_eq!(
        told,
        "main.yaml:1:11: error: include: `main.yaml` is this file itself (put the included files into a folder of their own)"
    );
    let all = format!("{MAIN}{}", SHOP.trim_start_matches("version: 1\n"));
    let (is_valid, told, _) = with_files(&all, &[]);
    assert!(is_valid, "{told}");
    assert_eq!(told, "main.yaml:1:11: note: include: `conf.d/*.yaml` matches no file");
}

#[test]
fn a_fleet_token_differs_from_the_admin_token() {
    let folder = std::env::temp_dir().join(format!("tidegate-fleet-token-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("admin", "a\n"), ("same", " a"), ("other", "b"), ("empty", "\n")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let told = |name: &str| {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
             services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\n\
             admin: {{ token_file: admin }}\nfleet: {{ token_file: {name} }}\n"
        );
        let outcome = load(&text, &folder, &|_| None);
        let about = outcome.problems.iter().filter(|p| p.path == "fleet.token_file");
        about.map(|p| p.message.clone()).collect::<Vec<_>>().join("\n")
    };
    assert!(!told("other").contains("admin.token_file"));
    assert!(told("same").contains("is the token of `admin.token_file`"));
    assert_eq!(told("empty"), "token file `empty` is empty");
    assert!(told("nowhere").contains("cannot read `nowhere`"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_shared_ceiling_that_nobody_shares_is_told() {
    let told = |capacity: &str, peers: &str| {
        let text = format!(
            "site: {{ name: east }}\nlisteners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
             services: {{ s: {{ clusters: [a] }} }}\nfleet: {{ peers: [{peers}] }}\n\
             clusters: {{ a: {{ endpoints: [127.0.0.1:1], capacity: {{ {capacity}, shared_by: fleet }} }} }}\n"
        );
        let outcome = check(&text);
        outcome.problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
    };
    let east = "{ site: east, url: 'https://gw-1:1' }, { site: east, url: 'https://gw-2:1' }";
    assert_eq!(told("concurrent: 9", east), "");
    for (capacity, peers, part) in [
        (
            "concurrent: 9",
            "{ site: west, url: 'https://gw-1:1' }",
            "t:5:54: warning: clusters.a.capacity.shared_by: `fleet.peers` lists no proxy",
        ),
        (
            "concurrent: 2",
            east,
            "warning: clusters.a.capacity.shared_by: each of 3 proxies has a part of at least 1",
        ),
        (
            "concurrent: 9, mode: hint",
            east,
            "error: clusters.a.capacity.shared_by: has no effect with `mode: hint`",
        ),
    ] {
        let told = told(capacity, peers);
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_shared_line_that_nobody_shares_is_told() {
    let told = |group: &str, peers: &str| {
        let text = format!(
            "site: {{ name: east }}\nlisteners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
             services: {{ s: {{ clusters: [a] }} }}\nfleet: {{ peers: [{peers}] }}\n\
             capacity_groups: {{ line: {{ {group}, shared_by: fleet }} }}\n\
             clusters: {{ a: {{ endpoints: [127.0.0.1:1], capacity_group: line }} }}\n"
        );
        check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
    };
    let east = "{ site: east, url: 'https://gw-1:1' }, { site: east, url: 'https://gw-2:1' }";
    for group in ["concurrent: 9", "mbit_per_s: 0.1"] {
        assert_eq!(told(group, east), "", "{group}");
        let alone = told(group, "{ site: west, url: 'https://gw-1:1' }");
        let part = "t:5:26: warning: capacity_groups.line.shared_by: `fleet.peers` lists no proxy";
        assert!(alone.contains(part), "{alone}");
    }
    let few = told("concurrent: 2", east);
    let part =
        "warning: capacity_groups.line.shared_by: each of 3 proxies has a part of at least 1";
    assert!(few.contains(part), "{few}");
}

/// What is said of `scaling` with these keys.
fn about_scaling(keys: &str) -> String {
    let text = format!(
        "listeners: {{ web: {{ address: '127.0.0.1:8080', protocol: http, service: s }} }}\n\
         services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\n\
         scaling: {{ {keys} }}\n"
    );
    check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_wrong_with_scaling_is_told_at_its_place() {
    for keys in ["", "address: 127.0.0.1:9902", "address: '[::1]:8080', lead: 1h", "lead: 1s"] {
        assert_eq!(about_scaling(keys), "", "{keys}");
    }
    for (keys, part) in [
        ("address: 'unix:/a'", "t:4:21: error: scaling.address: KEDA connects over TCP"),
        ("address: 9902", "t:4:21: error: scaling.address: `9902`: must be IP:PORT"),
        (
            "address: 0.0.0.0:8080",
            "t:4:21: error: scaling.address: `0.0.0.0:8080` overlaps listener `web` (127.0.0.1:8080)",
        ),
        (
            "address: 127.0.0.1:9901",
            "error: scaling.address: `127.0.0.1:9901` overlaps the admin API",
        ),
        (
            "address: '127.0.0.1:9950' }\nadmin: { metrics: '0.0.0.0:9950'",
            "t:5:19: error: admin.metrics: `0.0.0.0:9950` overlaps `scaling.address`",
        ),
        (
            "}\nadmin: { metrics: '127.0.0.1:8080'",
            "t:5:19: error: admin.metrics: `127.0.0.1:8080` overlaps listener `web`",
        ),
        ("}\nadmin: { metrics: 'unix:/a'", "admin.metrics: metrics are read over TCP"),
        ("lead: 0s", "t:4:18: error: scaling.lead: must be from 1s to 1h"),
        ("lead: 2h", "t:4:18: error: scaling.lead: must be from 1s to 1h"),
        (
            "tls: { cert: a.pem, key: a.key }",
            "scaling.tls: has no effect without `scaling.address`",
        ),
        (
            "address: 127.0.0.1:9902, tls: { cert: nowhere.pem, key: nowhere.key }",
            "t:4:42: error: scaling.tls: cannot read `./nowhere.pem`",
        ),
        ("address: 127.0.0.1:9902, tls: { cert: a.pem }", "scaling.tls: `key` is missing"),
        ("adress: 127.0.0.1:1", "scaling.adress: unknown key `adress` (did you mean `address`?)"),
    ] {
        let told = about_scaling(keys);
        assert!(told.contains(part), "{keys}: {told}");
    }
    let folder = std::env::temp_dir().join(format!("tidegate-webhook-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("secret"), "a\n").unwrap();
    let secret = format!("secret_file: {}/secret", folder.display());
    for (keys, part) in [
        ("url: 'http://a/x', ca: ca.pem", "scaling.webhook.ca: is used only with an https URL"),
        ("url: 'https://a/x', ca: Cargo.toml", "error: scaling.webhook.ca:"),
        (
            "url: 'ftp://a/x'",
            "t:4:28: error: scaling.webhook.url: `ftp://a/x` is not a URL such as https",
        ),
        ("url: 'http://me:secret@a/x'", "error: scaling.webhook.url:"),
        ("url: 'http://a/x', interval: 0s", "scaling.webhook.interval: must be from 1s to 3600s"),
        ("url: 'http://a/x', timeout: 2m", "scaling.webhook.timeout: must be from 1s to 60s"),
    ] {
        let told = about_scaling(&format!("webhook: {{ {keys}, {secret} }}"));
        assert!(told.contains(part), "{keys}: {told}");
    }
    let told = about_scaling("webhook: { url: 'http://a/x', secret_file: nowhere }");
    assert!(told.contains("scaling.webhook.secret_file: cannot read `nowhere`"), "{told}");
    assert!(about_scaling("webhook: { url: 'http://a/x' }").contains("`secret_file` is missing"));
    let valid = format!("webhook: {{ url: 'https://a/x?y', {secret} }}");
    assert!(!about_scaling(&valid).contains("error"), "{}", about_scaling(&valid));
    std::fs::remove_dir_all(&folder).unwrap();
    let lead = |keys: &str| {
        let text = format!("{}\n{keys}", read("config/minimal.yaml"));
        check(&text).config.unwrap().plan.lead.map(|lead| lead.as_secs())
    };
    assert_eq!(
        [lead(""), lead("scaling: {}"), lead("scaling: { lead: 5m }")],
        [None, Some(60), Some(300)]
    );
}

#[test]
fn all_problems_are_reported_at_once_with_their_positions() {
    let text = "\
listeners:
  web: { address: 127.0.0.1:80x, protocol: http, service: shopp }
  raw: { address: 127.0.0.1:1, protocol: tcp }
  twin: { address: 127.0.0.1:1, protocol: http, service: shop, bogus: 1 }
services:
  shop: { clusters: [idc, clod], data: sensitive, strategy: neerest }
  lonely: { clusters: [cloud], data: sensitive }
sites: { here: { kind: cloud, accepts: [general] } }
clusters:
  idc: { kind: idc, endpoints: [127.0.0.1:9001], probe: { interval: 1s, timeout: 2s, fall: 0 } }
  cloud: { site: here, accepts: [general, sensitive], endpoints: [127.0.0.1] }
  both: { endpoints: [127.0.0.1:1], discover: { dns: a:1 } }
  none: { kind: moon }
routes:
- { path: a, service: shop }
- { path_prefix: /x, service: lonely, redirect: { to: / } }
- { methods: [get], path_regex: \"(\", service: shop }
";
    let problems = check(text).problems;
    let messages: Vec<String> = problems.iter().map(|p| p.render("t")).collect();
    let all = messages.join("\n");
    for part in [
        "t:2:19: error: listeners.web.address: `127.0.0.1:80x`",
        "t:3:8: error: listeners.raw: a tcp listener needs `service`",
        "t:4:20: error: listeners.twin.address: `127.0.0.1:1` overlaps listener `raw`",
        "t:4:64: error: listeners.twin.bogus: unknown key `bogus`",
        "services.shop.clusters[1]: there is no cluster `clod` (did you mean",
        "services.shop.strategy: `neerest` is not one of the choices (did you mean `nearest`?)",
        "clusters.cloud.accepts: `sensitive` is not accepted by its site",
        "clusters.idc.probe.timeout: the timeout is longer than the interval",
        "clusters.idc.probe.fall: `0`: must be a whole number from 1 to 100",
        "clusters.cloud.endpoints[0]: `127.0.0.1`",
        "clusters.both: has both `endpoints` and `discover`",
        "clusters.none.kind: `moon` is not one of the choices",
        "clusters.none: needs `endpoints` or `discover`",
        "routes[0].path: `a` is not a path in canonical form",
        "routes[1]: needs exactly one of",
        "routes[2].methods[0]: `get` is not a method",
        "routes[2].path_regex: `(` is not a regular expression",
    ] {
        assert!(all.contains(part), "{part}\nis not in\n{all}");
    }
    let mut sorted = problems.clone();
    sorted.sort_by_key(|problem| problem.at);
    assert_eq!(problems, sorted, "in the order of the file");
    assert!(problems.iter().all(|p| p.at > Position { file: 0, line: 0, column: 0 }));
}

#[test]
fn what_is_wrong_with_capacity_groups_is_told_at_its_place() {
    let text = "\
listeners: { web: { address: 127.0.0.1:0, protocol: http, service: s } }
services: { s: { clusters: [a, b] } }
sites: { east: { capacity_group: vpn }, west: { capacity_group: vpm } }
clusters:
  a: { site: east, endpoints: [127.0.0.1:1] }
  b: { site: east, endpoints: [127.0.0.1:2], capacity_group: nothing }
capacity_groups:
  vpn: { mbit_per_s: 0 }
  none: {}
  spare: { concurrent: 0 }
";
    let told = |text: &str| {
        let problems = check(text).problems;
        problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
    };
    let all = told(text);
    for part in [
        "t:3:65: error: sites.west.capacity_group: there is no capacity group `vpm` (did you mean `vpn`?)",
        "t:6:62: error: clusters.b.capacity_group: there is no capacity group `nothing`",
        "t:8:8: error: capacity_groups.vpn.mbit_per_s: must be from 0.1 to 1000000",
        "t:9:9: error: capacity_groups.none: needs `concurrent`, `mbit_per_s` or both",
        "capacity_groups.spare.concurrent: `0`: must be a whole number from 1 to 1000000",
    ] {
        assert!(all.contains(part), "{part}\nis not in\n{all}");
    }
    let good = text
        .replace("vpm", "vpn")
        .replace("nothing", "none")
        .replace("mbit_per_s: 0", "mbit_per_s: 100")
        .replace("none: {}", "none: { concurrent: 5 }")
        .replace("concurrent: 0", "concurrent: 7");
    assert_eq!(
        told(&good).replace("\n", ""),
        "t:10:3: warning: capacity_groups.spare: no site and no cluster uses this capacity group (use it, or remove it)"
    );
    let plan = check(&good).config.unwrap().plan;
    let group = |cluster: usize| {
        let group = plan.clusters[ClusterIndex(cluster)].group.unwrap();
        (plan.groups[group].name.clone(), plan.groups[group].bytes_per_s)
    };
    // 100 Mbit/s are 12.5 MB/s.
    assert_eq!(group(0), ("vpn".to_owned(), Some(12_500_000.0)), "inherited");
    assert_eq!(group(1), ("none".to_owned(), None), "its own");
}

#[test]
fn no_permitted_cluster_is_an_error_and_only_one_is_a_warning() {
    let text = |accepts: &str, needs: &str, environment: &str| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
             services: {{ s: {{ clusters: [a, b], data: sensitive, needs: [{needs}], environment: {environment} }} }}\n\
             clusters:\n  a: {{ kind: idc, accepts: [{accepts}], offers: [gpu], endpoints: [127.0.0.1:1] }}\n  b: {{ kind: cloud, endpoints: [127.0.0.1:2] }}\n"
        )
    };
    for (accepts, needs, environment, why) in [
        (
            "general",
            "",
            "production",
            "cluster a does not accept data class sensitive (it accepts general); cluster b does not accept",
        ),
        (
            "general, sensitive",
            "tpu",
            "production",
            "cluster a does not offer tpu (it offers gpu); cluster b does not accept data class sensitive",
        ),
        (
            "general, sensitive",
            "",
            "staging",
            "cluster a is of environment production, the service of staging; cluster b is of",
        ),
    ] {
        let outcome = check(&text(accepts, needs, environment));
        let messages: Vec<String> = outcome.problems.iter().map(|p| p.message.clone()).collect();
        assert!(
            outcome.config.is_none() && messages.iter().any(|m| m.contains(why)),
            "{messages:?}"
        );
    }
    let of_site = "sites: { cloud-near: { kind: cloud, accepts: [general] } }\n\
        listeners: { web: { address: 127.0.0.1:0, protocol: http, service: s } }\n\
        services: { s: { clusters: [cloud], data: sensitive } }\n\
        clusters: { cloud: { site: cloud-near, endpoints: [127.0.0.1:1] } }\n";
    let message = &check(of_site).problems[0].message;
    let expected =
        "cluster cloud does not accept data class sensitive (site cloud-near accepts general)";
    assert!(message.ends_with(expected), "{message}");
    let outcome = check(&text("general, sensitive", "gpu", "production"));
    assert!(outcome.config.is_some());
    assert_eq!(outcome.problems.len(), 1);
    assert_eq!(outcome.problems[0].severity, Severity::Warning);
    assert!(outcome.problems[0].hint.as_ref().unwrap().contains("no disaster recovery"));
}

/// A small configuration with these additions to its listener, service and clusters, and this rest.
fn small(listener: &str, service: &str, rest: &str) -> String {
    format!(
        "listeners: {{ web: {{ {listener} }} }}\nservices: {{ s: {{ clusters: [c]{service} }} }}\n\
         clusters: {{ c: {{ kind: idc, endpoints: [\"127.0.0.1:9\"] }} }}\n{rest}"
    )
}

#[test]
fn a_message_names_the_error_and_the_correction() {
    let web = "address: 127.0.0.1:80, protocol: http, service: s";
    let trusted = |network: &str| small(&format!("{web}, trusted_proxies: [{network}]"), "", "");
    for (text, expected) in [
        (
            small("address: 127.0.0.1:80, protocol: https, service: s", "", ""),
            "use `http` with `tls:`",
        ),
        (
            small("address: 127.0.0.1:99999, protocol: http, service: s", "", ""),
            "the port 99999 is not from 0 to 65535",
        ),
        (
            small("address: 127.0.0.1:80, service: s", "", ""),
            "`protocol` is missing (one of: http, tcp, ",
        ),
        (trusted("10.0.0.0/33"), "the prefix length must be from 0 to 32"),
        (trusted("\"2001:db8::/129\""), "the prefix length must be from 0 to 128"),
        (trusted("10.0.0.5/8"), "write 10.0.0.0/8 for the network, or 10.0.0.5 for the address"),
        (trusted("somewhere"), "must be a network"),
        (
            small(web, ", retry: { budget: 1.5 }", ""),
            "services.s.retry.budget: must be from 0 to 1",
        ),
    ] {
        let problems = check(&text).problems;
        assert_eq!(problems.len(), 1, "told once: {problems:?}");
        assert!(problems[0].render("t").contains(expected), "{expected}: {problems:?}");
    }
    for network in ["10.0.0.0/8", "10.0.0.5", "10.0.0.5/32", "0.0.0.0/0", "\"::1\""] {
        assert!(check(&trusted(network)).problems.is_empty(), "{network}");
    }
}

/// A missing key is not reported if an unknown or unreadable key is the reason.
#[test]
fn each_mistake_is_reported_once() {
    let (l, s) = ("address: \"127.0.0.1:0\", protocol: http, service: s", "clusters: [c]");
    let whole = |listener: &str, service: &str, cluster: &str, rest: &str| {
        format!(
            "listeners: {{ w: {{ {listener} }} }}\nservices: {{ s: {{ {service} }} }}\n\
             clusters: {{ c: {{ kind: idc, {cluster} }} }}\n{rest}"
        )
    };
    let (c, r) = ("endpoints: [\"127.0.0.1:1\"]", "routes: [{ path_prefix: /a, ");
    let good = whole(l, s, c, "");
    assert!(check(&good).problems.is_empty(), "{:?}", check(&good).problems);
    let listener = |text: &str| whole(text, s, c, "");
    let service = |text: &str| whole(l, text, c, "");
    let route = |text: &str| whole(l, s, c, &format!("{r}{text} }}]\n"));
    for (text, path) in [
        (good.replace("listeners:", "listner:"), "listner"),
        (good.replace("services:", "service:"), "service"),
        (good.replace("\nclusters:", "\nclusterz:"), "clusterz"),
        (listener(&l.replace("address:", "adress:")), "listeners.w.adress"),
        (listener(&l.replace("protocol:", "protcol:")), "listeners.w.protcol"),
        (listener(&l.replace("http, service:", "tcp, servce:")), "listeners.w.servce"),
        (listener(&l.replace("http, service:", "udp, servce:")), "listeners.w.servce"),
        (listener(&l.replace("http, service:", "tls-passthrough, sny:")), "listeners.w.sny"),
        (listener(&format!("{l}, tls: {{ certificate: [] }}")), "listeners.w.tls.certificate"),
        (
            listener(&format!("{l}, tls: {{ certificates: [{{ cert: a }}] }}")),
            "listeners.w.tls.certificates[0]",
        ),
        (service("cluster: [c]"), "services.s.cluster"),
        (service("clusters: [[c]]"), "services.s.clusters[0]"),
        (service(&format!("{s}, auth: {{ basic: x }}")), "services.s.auth.basic"),
        (service(&format!("{s}, auth: {{ jwt: {{ jwks: x }} }}")), "services.s.auth.jwt.jwks"),
        (whole(l, s, "endpoint: [\"127.0.0.1:1\"]", ""), "clusters.c.endpoint"),
        (whole(l, s, "endpoints: \"127.0.0.1:1\"", ""), "clusters.c.endpoints"),
        (whole(l, s, "discover: { dnss: \"a:1\" }", ""), "clusters.c.discover.dnss"),
        (
            whole(l, s, &format!("{c}, capacity: {{ concurent: 5 }}"), ""),
            "clusters.c.capacity.concurent",
        ),
        (
            whole(l, s, "endpoints: [{ adress: \"127.0.0.1:1\" }]", ""),
            "clusters.c.endpoints[0].adress",
        ),
        (route("sevice: s"), "routes[0].sevice"),
        (route("redirect: { too: x }"), "routes[0].redirect.too"),
        (route("service: [s]"), "routes[0].service"),
        (route("split: { s: x }"), "routes[0].split.s"),
        (good.replace("services: { s: { clusters: [c] } }", "services: {}"), "services"),
        (good.replace(&format!("{{ c: {{ kind: idc, {c} }} }}"), "{}"), "clusters"),
        // The same mistake in the listener's section counts once.
        (
            route("service: s").replace("kind: idc,", "kind: idc, accepts: [pii],"),
            "routes[0].service",
        ),
        // Without TLS no certificate file is read.
        (
            listener(&format!(
                "{}, tls: {{ certificates: [{{ cert: a, key: b }}] }}",
                l.replace("http, service: s", "tls-passthrough, sni: { a.example: s }")
            )),
            "listeners.w.tls",
        ),
        // Values of the wrong shape.
        (format!("site: here\n{good}"), "site"),
    ] {
        let outcome = check(&text);
        let paths: Vec<&str> = outcome.problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, [path], "{text}\n{:?}", outcome.problems);
        assert!(outcome.config.is_none(), "{text}");
    }
    // Two mistakes cause two problems.
    for text in [whole(l, s, "colour: red", ""), service(&format!("{s}, rate_limit: {{ per: x }}"))]
    {
        assert_eq!(check(&text).problems.len(), 2, "{text}\n{:?}", check(&text).problems);
    }
}

#[test]
fn unused_parts_are_warned_of_unless_there_are_errors() {
    let bare = "address: 127.0.0.1:80, protocol: http";
    let messages = |text: &str| -> Vec<String> {
        check(text).problems.iter().map(|problem| problem.render("t")).collect()
    };
    let text = small(bare, "", "");
    let all = messages(&text);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(
        all[0].contains("warning: listeners.web: the listener has neither `service` nor routes")
    );
    assert!(all[1].contains("warning: services.s: no listener and no route uses this service"));
    let unused = text.replace("clusters: { c:", "clusters: { d: { endpoints: [127.0.0.1:8] }, c:");
    let all = messages(&(unused.clone() + "routes: [{ service: s }]\n"));
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].contains("warning: clusters.d: no service lists this cluster"));
    let mirrored = text.replace("services: {", "services: { m: { clusters: [c] },")
        + "routes: [{ service: s, mirror: { service: m } }]\n";
    assert_eq!(messages(&mirrored), Vec::<String>::new());
    let wrong = messages(&(unused + "routes: [{ service: t }]\n"));
    assert_eq!(wrong.len(), 1, "one mistake is told once: {wrong:?}");
}

#[test]
fn json_is_yaml_and_unquoted_addresses_explain_themselves() {
    let json = r#"{"listeners": {"web": {"address": "[::1]:0", "protocol": "http", "service": "s"}},
        "services": {"s": {"clusters": ["a"]}}, "clusters": {"a": {"endpoints": ["[2001:db8::1]:80"]}}}"#;
    assert!(check(json).config.is_some(), "{:?}", check(json).problems);
    let hint = |text: &str| check(text).problems[0].hint.clone().unwrap_or_default();
    assert!(hint("listeners: { web: { address: [::]:80 } }\n").contains("quote an IPv6"));
    assert!(hint("listeners:\n  web:\n    address: [2001:db8::1]:80\n").contains("quote an IPv6"));
    assert!(hint("routes:\n- hosts: [*.example.com]\n").contains("quote a value"));
}

#[test]
fn overlapping_listeners_are_refused() {
    let with = |first: &str, second: &str| {
        let text = format!(
            "listeners:\n  a: {{ address: \"{first}\", protocol: http, service: s }}\n  b: {{ address: \"{second}\", protocol: http, service: s }}\n\
             services: {{ s: {{ clusters: [c] }} }}\nclusters: {{ c: {{ endpoints: [127.0.0.1:1] }} }}\n"
        );
        check(&text).config.is_some()
    };
    assert!(with("127.0.0.1:80", "127.0.0.2:80") && with("0.0.0.0:80", "0.0.0.0:81"));
    assert!(!with("127.0.0.1:80", "0.0.0.0:80") && !with("[::]:80", "10.0.0.1:80"));
    assert!(!with("unix:/a", "unix:/a") && !with("127.0.0.1:80", "127.0.0.1:80"));
    assert!(!with("127.0.0.1:80", "127.0.0.1:9901"), "the admin API is there");
}

#[test]
fn ten_thousand_routes_load_and_each_is_found() {
    let mut text = "listeners: { web: { address: 127.0.0.1:0, protocol: http, service: s } }\n\
        services: { s: { clusters: [a] } }\nclusters: { a: { endpoints: [127.0.0.1:1] } }\nroutes:\n"
        .to_owned();
    for number in 0..10_000 {
        text.push_str(&format!(
            "- {{ hosts: [h{number}.example], path_prefix: /p{number}, service: s }}\n"
        ));
    }
    let config = check(&text).config.unwrap();
    for number in [0, 1, 4_999, 9_999] {
        let (host, path) = (format!("h{number}.example"), format!("/p{number}/x"));
        let query = tidegate::decision::route::RouteQuery {
            listener: tidegate::decision::plan::ListenerIndex(0),
            host: &host,
            path: &path,
            method: "GET",
            announced: None,
            request: &tidegate::decision::matching::BareRequest::default(),
        };
        let found = config.plan.routes.find(&query).unwrap();
        assert_eq!(config.plan.routes.route(found).name, format!("routes[{number}]"));
    }
    assert_eq!(config.plan.routes.routes().len(), 10_001);
}

#[test]
fn a_policy_that_may_be_bypassed_is_a_warning() {
    let text = |limits: &str, route: &str| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop{limits} }} }}
services: {{ shop: {{ clusters: [a] }} }}
clusters: {{ a: {{ kind: idc, endpoints: [127.0.0.1:9001] }} }}
routes: [{route}]
"
        )
    };
    let guarded = "{ path_prefix: /admin, service: shop, allow: [10.0.0.0/8] }";
    let some = "{ path_prefix: /admin, methods: [GET], service: shop, allow: [10.0.0.0/8] }";
    let rest = "{ path_prefix: /admin, service: shop, deny: [10.0.0.0/8] }";
    for (limits, route, expected) in [
        ("", guarded.to_owned(), None),
        (
            "",
            some.to_owned(),
            Some("other methods are answered 405 and do not reach `listeners.web`"),
        ),
        ("", format!("{some}, {rest}"), None),
        ("", some.replace("allow: [10.0.0.0/8]", "priority: 3"), None),
        (", limits: { slashes: keep }", guarded.to_owned(), Some("`web` keeps `//` or `%2F`")),
        (
            ", limits: { encoded_slash: keep }",
            guarded.to_owned(),
            Some("`web` keeps `//` or `%2F`"),
        ),
        (", limits: { slashes: refuse }", guarded.to_owned(), None),
        (", limits: { slashes: keep }", guarded.replace("/admin", "/"), None),
    ] {
        let problems = check(&text(limits, &route)).problems;
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        match expected {
            Some(part) => {
                assert!(messages.len() == 1 && messages[0].contains(part), "{route}: {messages:?}")
            }
            None => assert!(messages.is_empty(), "{limits} {route}: {messages:?}"),
        }
        assert!(problems.iter().all(|problem| problem.path == "routes[0]"));
    }
}

#[test]
fn a_route_that_never_matches_is_a_warning() {
    let messages = |routes: &str| {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
             services: {{ s: {{ clusters: [a] }} }}\nclusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\nroutes:\n{routes}"
        );
        check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
    };
    let shadowed = "- { path_prefix: /a, methods: [GET, PUT], service: s }\n- { path_prefix: /a/, methods: [GET], service: s }\n";
    assert!(
        messages(shadowed).contains("routes[1]: never matches: `routes[0]`"),
        "{}",
        messages(shadowed)
    );
    for fine in [
        "- { path_prefix: /a, methods: [GET], service: s }\n- { path_prefix: /a, service: s }\n",
        "- { path_prefix: /a, hosts: [x.y], service: s }\n- { path_prefix: /a, hosts: [x.y, z.y], service: s }\n",
        "- { path: /a, service: s }\n- { path_prefix: /a, service: s }\n",
    ] {
        assert_eq!(messages(fine), "");
    }
}

#[test]
fn duplicates_and_unset_variables_hide_no_other_problem() {
    let text = "listeners: { web: { address: \"${NOBODY}:80\", protocol: http, service: s } }\n\
        services:\n  s: { clusters: [b] }\n  s: { clusters: [a] }\n\
        clusters: { a: { endpoints: [127.0.0.1:1], dial: 300, dial: 5 } }\n\
        log: { path: ${NEITHER}, level: loud }\n";
    let found: Vec<String> =
        check(text).problems.iter().map(|problem| problem.render("f")).collect();
    for (line, part) in [
        (1, "the variable `NOBODY` is not set"),
        (3, "there is no cluster `b`"),
        (4, "duplicate key `s`"),
        (5, "`300`: must be a whole number from 0 to 100"),
        (5, "duplicate key `dial`"),
        (6, "the variable `NEITHER` is not set"),
    ] {
        let here = |text: &&String| text.starts_with(&format!("f:{line}:")) && text.contains(part);
        assert_eq!(found.iter().filter(here).count(), 1, "{line} {part}: {found:#?}");
    }
    assert_eq!(found.len(), 6, "consequences are not told: {found:#?}");
}

#[test]
fn the_effective_configuration_has_every_key_defaults_inheritance_and_no_secret() {
    let text = "site: { name: here }\n\
        sites: { east: { kind: idc, accepts: [general, sensitive, medical], cost: { per_gib: 0.5 } } }\n\
        listeners: { web: { address: 127.0.0.1:1, protocol: http, service: s } }\n\
        services: { s: { clusters: [a] } }\n\
        clusters: { a: { site: east, endpoints: [127.0.0.1:1], probe: { kind: http, headers: { authorization: hush } } } }\n\
        routes: [{ path_prefix: /x, service: s, request_headers: { set: { x-key: hush } } }]\n";
    let effective = check(text).config.unwrap().effective;
    for (pointer, value) in [
        ("/site/name", Value::from("here")),
        ("/admin/address", Value::from("127.0.0.1:9901")),
        ("/drain/deadline", Value::from("30s")),
        ("/listeners/web/limits/head", Value::from("16KiB")),
        ("/listeners/web/timeouts/idle", Value::from("60s")),
        ("/clusters/a/probe/interval", Value::from("500ms")),
        ("/clusters/a/kind", Value::from("idc")),
        ("/clusters/a/accepts/2", Value::from("medical")),
        ("/clusters/a/cost/per_gib", Value::from(0.5)),
        ("/clusters/a/dial", Value::from(100)),
        ("/clusters/a/probe/status/0", Value::from("200-399")),
        ("/clusters/a/capacity", Value::Null),
        ("/services/s/data/0", Value::from("general")),
        ("/services/s/strategy", Value::from("nearest")),
        ("/routes/0/request_headers/set/x-key", Value::from("redacted")),
    ] {
        let found = effective.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(found, value, "{pointer} in {effective:#}");
    }
    assert!(!effective.to_string().contains("hush"));
}

#[test]
fn impossible_settings_are_errors_and_working_ones_give_no_warning() {
    let with = |service: &str, routes: &str| {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:1, protocol: http, service: s }} }}\n\
             services: {{ s: {{ clusters: [a]{service} }} }}\n\
             clusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\nroutes: [{routes}]\n"
        );
        check(&text).problems.iter().map(|problem| problem.render("f")).collect::<Vec<_>>()
    };
    for (service, route, part) in [
        (", data: []", "", "lists no data class"),
        (", per_try_timeout: 0s", "", "must be more than 0"),
        (", hash: { client_ip: false }", "", "needs one of `header`"),
        ("", "{ path_prefix: /%7e, service: s }", "write `/~`"),
        ("", "{ path: /a/../b, service: s }", "write `/b`"),
        ("", "{ path: /a?b, service: s }", "not a path in canonical form"),
        ("", "{ path: /, service: s, timeout: 0s }", "must be more than 0"),
        ("", "{ path: /x, service: s }, { path: /x, service: s }", "never matches"),
    ] {
        let found = with(service, route);
        assert!(found.len() == 1 && found[0].contains(part), "{service} {route}: {found:#?}");
    }
    for route in [
        "{ path: /x, service: s }, { path: /x, service: s, methods: [GET] }",
        "{ path: /%2Fx, service: s }",
    ] {
        assert_eq!(with("", route), Vec::<String>::new());
    }
}

#[test]
fn a_zero_connect_timeout_is_an_error_and_a_zero_queue_timeout_is_not() {
    let with = |timeouts: &str| {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:1, protocol: http, service: s }} }}\n\
             services: {{ s: {{ clusters: [a] }} }}\n\
             clusters: {{ a: {{ endpoints: [127.0.0.1:1], timeouts: {{ {timeouts} }} }} }}\n"
        );
        check(&text).problems.iter().map(|problem| problem.render("f")).collect::<Vec<_>>()
    };
    for key in ["connect", "connect_total"] {
        let found = with(&format!("{key}: 0s"));
        assert!(found.len() == 1 && found[0].contains("must be more than 0"), "{key}: {found:#?}");
    }
    assert_eq!(with("queue: 0s, pool_idle: 0s"), Vec::<String>::new());
}

#[test]
fn a_quoted_backslash_starts_no_comment_and_a_bare_ipv6_address_gets_a_hint() {
    let outcome = check("site: { name: 'a\\' } # ${NOPE}\n");
    assert!(!outcome.problems.iter().any(|problem| problem.message.contains("NOPE")));
    let text = "listeners:\n  web:\n    address: ::1:80\n    protocol: http\n";
    let found: Vec<String> = check(text).problems.iter().map(|p| p.render("f")).collect();
    assert!(found.iter().any(|line| line.contains("\"[::1]:80\"")), "{found:#?}");
}

/// What is said of `discover.kubernetes` with these keys.
fn about_kubernetes(keys: &str) -> String {
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
         services: {{ s: {{ clusters: [a] }} }}\n\
         clusters: {{ a: {{ kind: idc, discover: {{ kubernetes: {{ {keys} }} }} }} }}\n"
    );
    check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
}

#[cfg(not(feature = "k8s"))]
#[test]
fn a_build_without_kubernetes_says_so() {
    let told = about_kubernetes("service: web");
    let place = "t:3:53: error: clusters.a.discover.kubernetes: this build has no Kubernetes";
    assert!(told.starts_with(place), "{told}");
}

#[cfg(feature = "k8s")]
#[test]
fn what_is_wrong_with_kubernetes_is_told_at_its_place() {
    let folder = std::env::temp_dir().join(format!("tidegate-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("kubeconfig");
    std::fs::write(&file, "contexts:\n- { name: near }\n- { name: far }\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = file.display();
    for keys in [
        "service: web".to_owned(),
        "service: web-1, namespace: shop, port: 8080".to_owned(),
        "service: web, port: http".to_owned(),
        format!("service: web, kubeconfig: '{file}'"),
        format!("service: web, kubeconfig: '{file}', context: far"),
    ] {
        assert_eq!(about_kubernetes(&keys), "", "{keys}");
    }
    for (keys, part) in [
        ("namespace: shop", "kubernetes: `service` is missing"),
        ("service: a/b", "kubernetes.service: `a/b` is not a name of a service"),
        ("service: web, namespace: Shop", "namespace: `Shop` is not a name of a namespace"),
        ("service: web, port: 0", "kubernetes.port: `0` is neither a port nor the name of one"),
        ("service: web, port: 65536", "kubernetes.port: `65536` is neither a port"),
        ("service: web, port: a_b", "kubernetes.port: `a_b` is neither a port"),
        ("service: web, context: far", "kubernetes.context: is used only with `kubeconfig`"),
        ("service: web, kubeconfig: nowhere", "kubeconfig: cannot read `nowhere`"),
        ("service: web, kubeconfig: config/minimal.yaml", "`config/minimal.yaml` has no contexts"),
        (
            &format!("service: web, kubeconfig: '{file}', context: east"),
            "has no context `east` (its contexts are near, far)",
        ),
    ] {
        let told = about_kubernetes(keys);
        assert!(told.contains(part), "{keys}: {told}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let text = "listeners: { web: { address: 127.0.0.1:0, protocol: http, service: s } }\n\
        services: { s: { clusters: [a] } }\n\
        clusters: { a: { discover: { dns: 'a:1', kubernetes: { service: web } } } }\n";
    let both = check(text).problems;
    let told = both.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n");
    assert!(told.contains("needs exactly one of `dns`, `srv`, `file` and `kubernetes`"), "{told}");
}

/// What is said of a listener, a service and a route with these further keys.
fn about_http(listener: &str, service: &str, route: &str) -> String {
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s{listener} }} }}\n\
         services: {{ s: {{ clusters: [a]{service} }} }}\n\
         clusters: {{ a: {{ endpoints: [127.0.0.1:1] }} }}\nroutes: [{route}]\n"
    );
    check(&text).problems.iter().map(|p| p.render("t")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_field_that_cannot_be_edited_and_an_unknown_variable_are_told_with_a_hint() {
    for (edits, part) in [
        (
            "set: { Host: a }",
            "`Host` frames or routes the message and cannot be edited (use `host`",
        ),
        ("set: { content-length: 1 }", "cannot be edited (the proxy writes this field itself"),
        ("add: { transfer-encoding: chunked }", "cannot be edited"),
        ("remove: [connection]", "cannot be edited"),
        ("set: { upgrade: x }", "cannot be edited (use `upgrades` of the listener)"),
        ("set: { tidegate-via: x }", "`tidegate-*` fields are the proxy's own"),
        ("set: { 'a b': x }", "`a b` is not a valid header name"),
        ("set: { x: \"a\\r\\nb\" }", "the header's value has a control character"),
        ("set: { x: '{clint_ip}' }", "no variable `{clint_ip}` here (did you mean `{client_ip}`?"),
        ("add: { x: '{unheard}' }", "no variable `{unheard}` here (one of: client_ip, "),
        ("set: { x: '{reason}' }", "there is no variable `{reason}` here"),
    ] {
        for head in ["request_headers", "response_headers"] {
            let written = format!(", {head}: {{ {edits} }}");
            let route = format!("{{ path: /x, service: s{written} }}");
            for (at, told) in [
                ("listeners.web", about_http(&written, "", "")),
                ("services.s", about_http("", &written, "")),
                ("routes[0]", about_http("", "", &route)),
            ] {
                let place = format!("error: {at}.{head}: ");
                assert!(told.contains(&place) && told.contains(part), "{edits}: {told}");
            }
        }
    }
    let fine = ", request_headers: { set: { x: '{{a} {\"b\": 1} {header:X-A}' } }";
    assert_eq!(about_http(fine, fine, ""), "");
    let tcp = "listeners: { web: { address: 127.0.0.1:0, protocol: tcp, service: s, request_headers: { remove: [a] } } }\n\
               services: { s: { clusters: [a] } }\nclusters: { a: { endpoints: [127.0.0.1:1] } }\n";
    let told = check(tcp).problems.iter().map(|p| p.render("t")).collect::<String>();
    assert!(told.contains("request_headers: only an http listener has header fields"), "{told}");
}

#[test]
fn redirects_rewrites_and_conditions_are_checked() {
    for (keys, part) in [
        ("redirect: http", "redirect: is not a redirect (write `redirect: https`"),
        ("redirect: { to: 'x{cluster}' }", "redirect: there is no variable `{cluster}` here"),
        ("redirect: { to: x, status: 304 }", "`status` must be 301"),
        ("redirect: https, rewrite: { strip_prefix: /a }", "there is nothing to rewrite"),
        ("service: s, rewrite: { strip_prefix: a }", "`a` must begin with `/`"),
        (
            "service: s, rewrite: { add_prefix: /a/../b }",
            "add_prefix: `/a/../b` is not a path in canonical form",
        ),
        ("service: s, rewrite: { host: 'a b' }", "host: `a b` is not a host"),
        (
            "service: s, rewrite: { path_regex: { match: '(' , replace: x } }",
            "`(` is not a regular expression",
        ),
        (
            "service: s, rewrite: { path_regex: { match: '(a)', replace: '/$2' } }",
            "has no group `2`",
        ),
        (
            "service: s, rewrite: { path_regex: { match: '(a)', replace: '/$1a' } }",
            "has no group `1a` (`$1a` is the group",
        ),
        (
            "service: s, rewrite: { path_regex: { match: 'a', replace: '/\\1' } }",
            "visible ASCII characters",
        ),
        ("service: s, rewrite: { path_regex: { match: 'a' } }", "`replace` is missing"),
        (
            "service: s, rewrite: { path_regex: { match: '(?:a{1000}){1000}', replace: '/' } }",
            "exceeds size limit",
        ),
        (
            "service: s, match: { headers: { x: { regex: '[' } } }",
            "match.headers.x.regex: `[` is not a regular expression",
        ),
        (
            "service: s, match: { headers: { x: { regex: a, present: true } } }",
            "exactly one of `regex` and `present`",
        ),
        ("service: s, match: { headers: { 'a b': c } }", "`a b` is not a valid header name"),
        ("service: s, match: { headers: { x: { regx: c } } }", "unknown key `regx`"),
        ("service: s, match: { client: [10.0.0.0/40] }", "match.client[0]"),
        ("service: s, match: { no: {} }", "unknown key `no`"),
        ("service: s, name: 'a b'", "name: not a valid name"),
    ] {
        let told = about_http("", "", &format!("{{ path_prefix: /a, {keys} }}"));
        assert!(told.contains(part) && !told.contains('\n'), "{keys}: {told}");
    }
    let twice = "{ path: /a, name: x, service: s }, { path: /b, name: x, service: s }";
    assert!(about_http("", "", twice).contains("routes[1].name: another route has the name `x`"));
    let narrower = "{ path: /a, service: s, match: { query: { a: b } } }, { path: /a, service: s, match: { query: { a: c } } }";
    assert_eq!(about_http("", "", narrower), "");
    let same = narrower.replace("a: c", "a: b");
    assert!(about_http("", "", &same).contains("routes[1]: never matches"));
}

#[test]
fn error_pages_must_be_readable_small_and_of_a_known_kind() {
    let folder = std::env::temp_dir().join(format!("tidegate-pages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let fine =
        write("a.html", b"<style>a{b:c}</style>{request_id} {reason} {status} {client_ip} {{x}");
    for key in ["503", "4xx", "5xx"] {
        assert_eq!(about_http(&format!(", error_pages: {{ '{key}': {fine} }}"), "", ""), "");
    }
    for (key, file, part) in [
        ("503", "nowhere.html".to_owned(), "cannot use `nowhere.html`: No such file"),
        ("503", write("b.html", &[b'x'; 65_537]), "it is larger than 64 KiB"),
        ("503", write("c.html", b"\xff"), "UTF-8"),
        ("503", write("d.css", b"x"), "has no known suffix (the suffix decides"),
        (
            "503",
            write("e.html", b"{reasn}"),
            "no variable `{reasn}` here (did you mean `{reason}`?",
        ),
        ("503", folder.join("x.html").display().to_string(), "No such file"),
        ("5x", fine.clone(), "`5x` is neither a status nor a class"),
        ("200", fine.clone(), "`200` is neither a status nor a class"),
        (
            "418",
            fine.clone(),
            "warning: listeners.web.error_pages.418: the proxy itself never answers 418",
        ),
    ] {
        let told = about_http(&format!(", error_pages: {{ '{key}': {file} }}"), "", "");
        assert!(told.contains(part) && !told.contains('\n'), "{key} {file}: {told}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
