//! Cross-origin requests as a browser sends them.

use super::support::*;
use std::net::SocketAddr;

const CORS: &str = "cors: { origins: [\"https://shop.example\"], methods: [GET, PUT], headers: [x-a], expose: [x-total], \
                    max_age: 60s, credentials: true }";

/// A proxy before a cluster that writes cross-origin fields of its own.
fn proxy(routes: &str) -> (Proxy, Cluster) {
    let cluster = Cluster::scripted(|mut connection| {
        while connection.head().is_some() {
            connection.send(
                b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nvary: accept\r\ncontent-length: 2\r\n\r\nok",
            );
        }
    });
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http }} }}\n\
         services: {{ shop: {{ clusters: [idc], {CORS} }}, plain: {{ clusters: [idc] }} }}\n\
         clusters: {{ idc: {{ kind: idc, endpoints: [\"{}\"] }} }}\nroutes:\n{routes}\n",
        cluster.address
    );
    (Proxy::start(&text), cluster)
}

fn ask(to: SocketAddr, method: &str, path: &str, more: &str) -> Answer {
    let text = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n");
    ask_raw(to, text.as_bytes())
}

/// The values of all fields with this name.
fn all(answer: &Answer, name: &str) -> Vec<String> {
    let of = |line: &str| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    answer.head.lines().filter_map(of).collect()
}

const ORIGIN: &str = "Origin: https://shop.example\r\n";

#[test]
fn a_preflight_is_answered_before_authentication_and_never_reaches_a_cluster() {
    let folder = Folder::new();
    let users =
        folder.write("users", "ann:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n");
    let (proxy, cluster) = proxy(&format!(
        "  - {{ path_prefix: /cart, methods: [PUT], service: shop, auth: {{ basic_file: \"{}\" }} }}",
        users.display()
    ));
    let web = proxy.at("web");
    let seen = cluster.seen();
    let asked = format!(
        "{ORIGIN}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n"
    );
    let answer = ask(web, "OPTIONS", "/cart", &asked);
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(all(&answer, "access-control-allow-origin"), ["https://shop.example"]);
    assert_eq!(all(&answer, "access-control-allow-methods"), ["GET, PUT"]);
    assert_eq!(all(&answer, "access-control-allow-headers"), ["x-a"]);
    assert_eq!(all(&answer, "access-control-max-age"), ["60"]);
    assert_eq!(all(&answer, "access-control-allow-credentials"), ["true"]);
    assert_eq!(all(&answer, "vary"), ["Origin"]);
    assert_eq!(cluster.seen(), seen, "the cluster saw the preflight");
    // A stranger's preflight gets no permission, one for another method no route.
    let stranger = ask(web, "OPTIONS", "/cart", &asked.replace("shop.example", "evil.example"));
    assert_eq!(stranger.status, 204);
    assert!(all(&stranger, "access-control-allow-origin").is_empty());
    assert_eq!(ask(web, "OPTIONS", "/cart", &asked.replace("PUT", "DELETE")).status, 405);
    assert_eq!(ask(web, "OPTIONS", "/cart", ORIGIN).status, 405, "not a preflight");
    // The page can read why it is refused.
    let refused = ask(web, "PUT", "/cart", ORIGIN);
    assert_eq!((refused.status, refused.refusal().as_str()), (401, "unauthorized"));
    assert_eq!(all(&refused, "access-control-allow-origin"), ["https://shop.example"]);
}

#[test]
fn responses_name_the_origin_once_and_vary_for_caches() {
    let (proxy, _cluster) = proxy(
        "  - { path_prefix: /own, service: plain }\n  - { path_prefix: /moved, redirect: { to: /cart }, cors: { origins: [\"*\"] } }\n  - { service: shop }",
    );
    let web = proxy.at("web");
    let answer = ask(web, "GET", "/cart", ORIGIN);
    assert_eq!(all(&answer, "access-control-allow-origin"), ["https://shop.example"]);
    assert_eq!(all(&answer, "access-control-expose-headers"), ["x-total"]);
    assert_eq!(all(&answer, "vary"), ["accept", "Origin"]);
    let stranger = ask(web, "GET", "/cart", "Origin: https://evil.example\r\n");
    assert_eq!(stranger.status, 200);
    assert!(all(&stranger, "access-control-allow-origin").is_empty(), "{stranger:?}");
    assert_eq!(all(&stranger, "vary"), ["accept", "Origin"]);
    let same = ask(web, "GET", "/cart", "");
    assert_eq!(all(&same, "vary"), ["accept", "Origin"]);
    // Without rules the application's fields pass, and its preflight too.
    let own = ask(web, "GET", "/own", ORIGIN);
    assert_eq!(
        (all(&own, "access-control-allow-origin"), all(&own, "vary")),
        (vec!["*".to_owned()], vec!["accept".to_owned()])
    );
    let asked = format!("{ORIGIN}Access-Control-Request-Method: PUT\r\n");
    assert_eq!(ask(web, "OPTIONS", "/own", &asked).status, 200);
    // The proxy's own answers have them as well.
    let moved = ask(web, "GET", "/moved", ORIGIN);
    assert_eq!(
        (moved.status, all(&moved, "access-control-allow-origin")),
        (302, vec!["*".to_owned()])
    );
}

#[test]
fn what_is_wrong_with_cors_is_told_at_its_place() {
    let folder = Folder::new();
    let text = |cors: &str, route: &str| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http }} }}\n\
             services:\n  shop: {{ clusters: [idc], {cors} }}\n  plain: {{ clusters: [idc] }}\n\
             clusters: {{ idc: {{ kind: idc, endpoints: [127.0.0.1:1] }} }}\nroutes:\n  - {{ {route} }}\n"
        )
    };
    for (cors, route, expected) in [
        (
            "cors: { origins: [\"*\"], credentials: true }",
            "service: shop",
            "services.shop.cors.credentials",
        ),
        (
            "cors: { origins: [\"https://shop.example\", \"*\"], credentials: true }",
            "service: plain",
            "services.shop.cors.credentials",
        ),
        (
            "priority: 5",
            "service: shop, cors: { origins: [\"*\"], credentials: true }",
            "routes[0].cors.credentials",
        ),
        (
            "cors: { origins: [\"https://shop.example/\"] }",
            "service: shop",
            "`https://shop.example/` is not an origin",
        ),
        ("cors: { origins: [] }", "service: shop", "lists no origin"),
        (
            "cors: { origins: [\"null\"], methods: [\"a b\"] }",
            "service: shop",
            "`a b` is not a valid name",
        ),
        ("cors: { origins: [\"null\"] }", "split: { shop: 1, plain: 1 }", "have different `cors`"),
    ] {
        let (code, printed) = check(&folder, &text(cors, route));
        assert!(code == 1 && printed.contains(expected), "{cors}: {printed}");
    }
}
