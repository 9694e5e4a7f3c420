//! `tidegate explain`: the route that it tells, by file and by `--admin`, is the route of the real request.

use super::admin::tidegate;
use super::support::*;
use std::collections::BTreeSet;

/// The body of each response is the name of its route.
const ROUTES: &str = "
listeners:
  web: { address: 127.0.0.1:0, protocol: http }
  behind: { address: 127.0.0.2:0, protocol: http, trusted_proxies: [127.0.0.1] }
services: { shop: { clusters: [idc] } }
clusters: { idc: { endpoints: [127.0.0.1:1], probe: { kind: none } } }
routes:
  - { name: canary, path_prefix: /a, match: { headers: { x-canary: { regex: 'v[0-9]+' } } }, respond: { status: 200, body: canary } }
  - { name: signed, path_prefix: /a, match: { headers: { x-signature: { present: true } } }, respond: { status: 200, body: signed } }
  - { name: item, path_prefix: /a, match: { query: { item: { regex: '[0-9]+' } } }, respond: { status: 200, body: item } }
  - { name: office, path_prefix: /a, match: { client: [127.0.0.9, 192.0.2.0/24] }, respond: { status: 200, body: office } }
  - { name: plain, path_prefix: /a, respond: { status: 200, body: plain } }
  - { name: anonymous, path_prefix: /b, match: { not: { headers: { cookie: { present: true } } } }, respond: { status: 200, body: anonymous } }
  - { name: known, path_prefix: /b, respond: { status: 200, body: known } }
  - { name: secure, hosts: [only.example], path_prefix: /c, match: { headers: { x-a: '1' }, not: { query: { debug: { present: true } } } }, respond: { status: 200, body: secure } }
  - { name: outside, path_prefix: /e, match: { not: { client: [127.0.0.9] } }, respond: { status: 200, body: outside } }
  - { name: posted, path: /d, methods: [POST], respond: { status: 200, body: posted } }
";

/// A request: listener, last byte of the client's address, method, host, path and query, header fields.
type Asked = (&'static str, u8, &'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const ASKED: &[Asked] = &[
    ("web", 1, "GET", "a", "/a", &[]),
    ("web", 1, "GET", "a", "/a", &["X-Canary: v1"]),
    ("web", 1, "GET", "a", "/a", &["x-canary: v"]),
    ("web", 1, "GET", "a", "/a", &["x-other: 1", "x-signature:"]),
    ("web", 1, "GET", "a", "/a?item=12", &[]),
    ("web", 1, "GET", "a", "/a?item=1%32&b", &[]),
    ("web", 1, "GET", "a", "/a?item=x", &[]),
    ("web", 9, "GET", "a", "/a", &[]),
    ("web", 1, "GET", "a", "/a", &["x-forwarded-for: 192.0.2.1"]),
    ("behind", 1, "GET", "a", "/a", &["x-forwarded-for: 192.0.2.1"]),
    ("behind", 1, "GET", "a", "/a", &["forwarded: for=\"192.0.2.1:80\""]),
    ("behind", 2, "GET", "a", "/a", &["x-forwarded-for: 192.0.2.1"]),
    ("web", 1, "GET", "a", "/b", &[]),
    ("web", 1, "GET", "a", "/b", &["cookie: a=1"]),
    ("web", 1, "GET", "Only.Example:80", "/x/../c/y", &["x-a: 1"]),
    ("web", 1, "GET", "only.example", "/c?debug", &["x-a: 1"]),
    ("web", 1, "GET", "only.example", "/c", &["x-a: 1", "x-a: 2"]),
    ("web", 1, "GET", "a", "/e", &[]),
    ("web", 9, "GET", "a", "/e", &[]),
    ("web", 1, "POST", "a", "/d", &[]),
    ("web", 1, "GET", "a", "/d", &[]),
    ("web", 1, "GET", "a", "/a", &["x_canary: v1"]),
    ("web", 1, "GET", "a", "/a%2fb", &[]),
];

#[test]
fn the_explained_route_is_that_of_the_real_request() {
    let proxy = Proxy::start(ROUTES);
    let (file, admin) = (proxy.config_path(), proxy.admin.to_string());
    let sources = [["--config", file.to_str().unwrap()], ["--admin", &admin]];
    let mut seen = BTreeSet::new();
    for asked @ (listener, client, method, host, path, fields) in ASKED {
        let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n");
        let mut real = Keeping::from(*client, proxy.at(listener));
        real.send(request.as_bytes());
        let real = real.answer();
        seen.insert(if real.status == 200 { real.body.clone() } else { real.refusal() });

        let client = format!("127.0.0.{client}");
        let mut arguments = vec!["explain", "--host", host, "--path", path, "--method", method];
        arguments.extend(["--client", &client, "--listener", listener]);
        fields.iter().for_each(|field| arguments.extend(["--header", field]));
        for source in &sources {
            let (code, text) = tidegate(&[&arguments[..], source].concat());
            let (code_of_json, json) = tidegate(&[&arguments[..], source, &["--json"]].concat());
            match real.status {
                200 => {
                    let route = format!("route        {}\n", real.body);
                    assert!(code == 0 && text.starts_with(&route), "{asked:?}: {text}");
                    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
                    assert_eq!((code_of_json, &json["route"]), (0, &real.body.as_str().into()));
                }
                status => {
                    let end = format!(": {status} {}\n", real.refusal());
                    for (code, text) in [(code, text), (code_of_json, json)] {
                        assert!(code == 1 && text.ends_with(&end), "{asked:?}: {text}{end}");
                    }
                }
            }
        }
    }
    let all = "anonymous bad_request canary item known method_not_allowed no_route office outside plain posted secure signed";
    assert_eq!(seen.into_iter().collect::<Vec<_>>().join(" "), all);
}

#[test]
fn a_query_may_be_given_apart_and_a_wrong_question_is_told() {
    let proxy = Proxy::start(ROUTES);
    let (file, admin) = (proxy.config_path(), proxy.admin.to_string());
    for source in [["--config", file.to_str().unwrap()], ["--admin", &admin]] {
        let explain = |more: &[&str]| {
            tidegate(&[&["explain", "--host", "a", "--path", "/a"], &source[..], more].concat())
        };
        let (code, text) = explain(&["--query", "b=+&item=7"]);
        assert!(code == 0 && text.starts_with("route        item\n"), "{text}");
        for (more, code, wrong) in [
            (["--header", "x-canary"], 1, "`x-canary` is no header field: NAME: VALUE"),
            (["--header", "x-canary: v1\r\nx: 1"], 1, "a part of the request has a line end"),
            (["--header", "host: b"], 1, "several Host fields: 400 bad_request"),
            (["--client", "office"], 2, "--client <ADDRESS>"),
            (["--listener", "none"], 1, "no listener `none`"),
        ] {
            let (ended, text) = explain(&more);
            assert!(ended == code && text.contains(wrong), "{more:?}: {ended} {text}");
        }
    }
    let unknown = proxy.get("/api/v1/explain?host=a&headers=x:1");
    assert!(unknown.status == 400 && unknown.body.contains("`headers`"), "{unknown:?}");
    let refused = proxy.get("/api/v1/explain?host=a&path=/d");
    assert_eq!((refused.status, refused.header("allow").as_deref()), (405, Some("POST")));
    let body = r#"{"refusal":"method_not_allowed","why":"no route for this method (allow: POST)"}"#;
    assert_eq!(refused.body, body);
}
