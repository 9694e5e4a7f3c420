//! Variables, redirects, rewrites, conditions and error pages, driven by curl over HTTP/1.1 and HTTP/2, and by aioquic
//! over HTTP/3.

use super::support::*;
#[cfg(feature = "http3")]
use super::tls::{self, folder_with, pair};
use std::net::SocketAddr;
use std::process::Command;

/// A cluster that returns the head that it received.
fn echo() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            connection.reply(&head);
        }
    })
}

/// The versions that a plain listener serves.
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// Sends a request by curl; returns the heads and the body.
fn curl(to: SocketAddr, path: &str, arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "10", "--path-as-is"])
        .args(["-H", "host: shop.example"])
        .args(arguments)
        .arg(format!("http://{to}{path}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The value of a field in a text of heads.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// A proxy with one listener, one service and these routes.
fn proxy(listener: &str, service: &str, routes: &str, folder: Folder, app: &Cluster) -> Proxy {
    folder.write("token", "secret\n");
    let text = format!(
        "site: {{ name: here }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http{listener} }} }}\n\
         services: {{ shop: {{ clusters: [idc]{service} }}, dead: {{ clusters: [none] }} }}\n\
         clusters:\n  idc: {{ kind: idc, endpoints: [\"{}\"] }}\n  \
         none: {{ kind: idc, endpoints: [\"127.0.0.1:1\"], probe: {{ kind: none }} }}\n\
         routes:\n{routes}\n",
        app.address
    );
    folder.write("tidegate.yaml", &whole(&text));
    Proxy::start_in(folder, &[])
}

#[test]
fn fields_with_variables_go_to_clusters_and_to_clients() {
    let app = echo();
    let routes = r#"
  - name: shop-api
    path_prefix: /api
    service: shop
    request_headers:
      set:
        x-who: "{client_ip} {scheme} {host} {path} {query} {uri}"
        x-where: "{listener}/{route}/{service}/{cluster}/{site}"
        x-agent: "<{header:User-Agent}>"
        x-forged: "{header:x-forwarded-for}{client_cert_subject}{sni}"
        x-brace: "{{host}"
        x-level: route
      add: { x-id: "{request_id}" }
    response_headers: { set: { x-id: "{request_id}", x-cluster: "{cluster}", x-level: route } }
  - { path_prefix: /other, service: shop }
  - { path: /teapot, respond: { status: 418 } }"#;
    let listener = ", request_headers: { set: { x-level: listener, x-listener: 'yes {path}' } }, \
                    response_headers: { set: { x-level: listener, x-own: '{path}' } }";
    let service = ", request_headers: { set: { x-level: service, x-service: s } }, \
                   response_headers: { set: { x-level: service } }";
    let proxy = proxy(listener, service, routes, Folder::new(), &app);
    let web = proxy.at("web");
    for version in VERSIONS {
        let forged = ["-H", "x-forwarded-for: 9.9.9.9", "-H", "x-level: mine", "-A", "me/1"];
        let text = curl(web, "/api/a?b=c", &[&[version], &forged[..]].concat());
        let of = |name: &str| field(&text, name).unwrap_or_default();
        assert_eq!(of("x-who"), "127.0.0.1 http shop.example /api/a b=c /api/a?b=c", "{text}");
        assert_eq!(of("x-where"), "web/shop-api/shop/idc/here", "{text}");
        assert_eq!(of("x-agent"), "<me/1>");
        assert_eq!(of("x-brace"), "{host}");
        assert_eq!(of("x-listener"), "yes /api/a");
        assert_eq!(of("x-service"), "s");
        assert_eq!(of("x-cluster"), "idc");
        assert!(field(&text, "x-forged").is_none(), "an empty value, nothing believed: {text}");
        let ids: Vec<&str> = text.lines().filter(|line| line.starts_with("x-id:")).collect();
        assert_eq!(ids.len(), 2, "{text}");
        assert_eq!(ids[0], ids[1], "the cluster and the client get the same id");
        assert_eq!(
            text.matches("x-level: route").count(),
            2,
            "of the cluster and the client: {text}"
        );
        assert_eq!(text.matches("x-level").count(), 2, "{text}");
        // Without a route's own edits those of service and listener apply.
        let other = curl(web, "/other", &[version]);
        assert_eq!(other.matches("x-level: service").count(), 2, "{other}");
        // The proxy's own answers have the listener's fields, with a route and without.
        for (path, status) in [("/teapot", "418"), ("/none", "404")] {
            let own = curl(web, path, &[version]);
            assert!(own.lines().next().unwrap().contains(status), "{own}");
            assert_eq!(field(&own, "x-level").as_deref(), Some("listener"), "{own}");
            assert_eq!(field(&own, "x-own").as_deref(), Some(path));
        }
    }
    // A head that cannot be read, too; its path is not known.
    let refused = ask_raw(web, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((refused.status, refused.header("x-level").as_deref()), (400, Some("listener")));
    assert_eq!(refused.header("x-own"), None);
    // The name is that of the log and of the metrics.
    proxy.says("\"route\":\"shop-api\"");
    eventually("the route is counted", || {
        proxy.metric("tidegate_route_requests_total{route=\"shop-api\"") >= 2.0
    });
}

#[test]
fn no_value_of_a_variable_ends_a_field() {
    let app = echo();
    let routes = r#"
  - { path_prefix: /a, service: shop, request_headers: { set: { x-a: "{header:x-b}{query}" } } }
  - { path_prefix: /r, redirect: { to: "/x{path}?{header:x-b}", status: 307 } }"#;
    let proxy = proxy("", "", routes, Folder::new(), &app);
    let web = proxy.at("web");
    for version in VERSIONS {
        let sent = ["-H", "x-b: a\tb  \"<é>%0d%0ax-evil: 1"];
        let text = curl(web, "/a?%0d%0ax-evil:%201", &[&[version], &sent[..]].concat());
        assert!(field(&text, "x-evil").is_none(), "{text}");
        assert_eq!(
            field(&text, "x-a").as_deref(),
            Some("a b  \"<é>%0d%0ax-evil: 1%0d%0ax-evil:%201"),
            "{text}"
        );
        let text = curl(web, "/r", &[&[version], &sent[..]].concat());
        let location = field(&text, "location").unwrap();
        assert_eq!(location, "/x/r?a%09b%20%20%22%3C%C3%A9%3E%0d%0ax-evil:%201", "{text}");
    }
}

#[test]
fn a_redirect_to_https_leaves_https_alone() {
    let app = echo();
    let listener = ", trusted_proxies: [127.0.0.1]";
    let routes = "  - { path_prefix: /, redirect: https }\n  - { path_prefix: /, service: shop }\n  \
                  - { path: /old, redirect: { to: 'https://{host}/new{uri}?q={query}', status: 301 } }";
    let proxy = proxy(listener, "", routes, Folder::new(), &app);
    let web = proxy.at("web");
    for version in VERSIONS {
        let text = curl(web, "/a?b=c", &[version, "-X", "POST"]);
        assert!(text.lines().next().unwrap().contains("308"), "{text}");
        assert_eq!(field(&text, "location").as_deref(), Some("https://shop.example/a?b=c"));
        // A load balancer has ended TLS.
        let behind = curl(web, "/a?b=c", &[version, "-H", "x-forwarded-proto: https"]);
        assert!(behind.contains("GET /a?b=c HTTP/1.1"), "{behind}");
        let old = curl(web, "/old?x", &[version]);
        assert_eq!(field(&old, "location").as_deref(), Some("https://shop.example/new/old?x?q=x"));
    }
    // Without a host there is nowhere to redirect to.
    let nameless = ask_raw(web, b"GET /a HTTP/1.0\r\n\r\n");
    assert_eq!((nameless.status, nameless.refusal().as_str()), (400, "bad_request"));
}

#[test]
fn clusters_get_the_rewritten_target_and_policies_see_the_original() {
    let app = echo();
    let routes = r#"
  - path_prefix: /shop
    service: shop
    rewrite: { strip_prefix: /shop/, add_prefix: /v2/, host: "inside.example:8080" }
  - path_regex: /item/[0-9]+
    service: shop
    rewrite: { path_regex: { match: "^/item/(?P<id>[0-9]+)$", replace: "/get?id=$id" } }
  - path_regex: /up/.*
    service: shop
    rewrite: { path_regex: { match: "x", replace: ".." }, add_prefix: /tenant }
  - { path_prefix: /v2/admin, service: shop, deny: [127.0.0.1] }
  - { path_prefix: /hidden, service: shop, deny: [127.0.0.1], rewrite: { strip_prefix: /hidden } }"#;
    let proxy = proxy("", "", routes, Folder::new(), &app);
    let web = proxy.at("web");
    for version in VERSIONS {
        for (sent, received) in [
            ("/shop/a?b=c", "/v2/a?b=c"),
            ("/shop", "/v2/"),
            ("/x/../shop//a", "/v2/a"),
            ("/item/7", "/get?id=7"),
            ("/item/7?x=y", "/get?id=7&x=y"),
            ("/up/x/x/etc", "/tenant/x/etc"),
            // The route of the original path decides.
            ("/shop/admin", "/v2/admin"),
        ] {
            let text = curl(web, sent, &[version]);
            assert!(text.contains(&format!("GET {received} HTTP/1.1\r\n")), "{sent}: {text}");
        }
        let text = curl(web, "/shop/a", &[version]);
        assert!(text.contains("\nhost: inside.example:8080\r\n"), "{text}");
        assert!(text.contains("x-forwarded-host: shop.example\r\n"), "{text}");
        assert!(curl(web, "/hidden/a", &[version]).contains("forbidden"));
    }
    proxy.says("\"path\":\"/shop/a?b=c\"");
}

#[test]
fn conditions_select_a_route() {
    let app = echo();
    let served = |name: &str, conditions: &str| {
        format!(
            "  - {{ name: {name}, path_prefix: /, service: shop, match: {{ {conditions} }}, \
             response_headers: {{ set: {{ x-route: \"{{route}}\" }} }} }}\n"
        )
    };
    let routes = [
        served("beta", "headers: { x-beta: '1' }"),
        served("agent", "headers: { user-agent: { regex: 'bot/[0-9]+' }, x-no: { present: false } }"),
        served("asked", "query: { 'a b': 'c d' }"),
        served("named", "query: { debug: { present: true } }, client: [127.0.0.0/8], not: { headers: { x-no: { present: true } } }"),
        served("far", "client: [10.0.0.0/8], headers: { x-far: { present: true } }"),
        served("rest", "not: { query: { none: { present: true } } }"),
    ]
    .concat();
    let proxy = proxy(", trusted_proxies: [127.0.0.1]", "", &routes, Folder::new(), &app);
    let web = proxy.at("web");
    for version in VERSIONS {
        for (path, arguments, route) in [
            ("/", &["-H", "x-beta: 1"][..], "beta"),
            ("/", &["-H", "x-beta: 2"], "rest"),
            ("/", &["-A", "bot/12"], "agent"),
            ("/", &["-A", "robot/12"], "rest"),
            ("/", &["-A", "bot/12", "-H", "x-no: 1"], "rest"),
            ("/?a+b=c%20d", &[], "asked"),
            ("/?a+b=c%2520d", &[], "rest"),
            ("/?debug", &[], "named"),
            ("/?debug", &["-H", "x-no: 1"], "rest"),
            ("/", &["-H", "x-far: 1", "-H", "x-forwarded-for: 10.0.0.7"], "far"),
            ("/", &["-H", "x-far: 1"], "rest"),
        ] {
            let text = curl(web, path, &[&[version], arguments].concat());
            assert_eq!(
                field(&text, "x-route").as_deref(),
                Some(route),
                "{path} {arguments:?}: {text}"
            );
        }
        assert!(curl(web, "/?none", &[version]).contains("no_route"));
    }
}

#[test]
fn refusals_have_the_operators_pages() {
    let app = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            connection.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\ntheir");
        }
    });
    let folder = Folder::new();
    folder.write(
        "any.html",
        "<p>{reason} {status} {header:x-a} {request_id}</p><style>a{margin:0}</style>",
    );
    folder.write(
        "503.json",
        "{\"reason\": \"{reason}\", \"agent\": \"{header:x-a}\", \"id\": \"{request_id}\"}",
    );
    folder.write("own.txt", "own {service}\n");
    let listener = ", error_pages: { '4xx': any.html, '5xx': any.html }";
    let routes = r#"
  - { path_prefix: /dead, service: dead, error_pages: { "5xx": own.txt } }
  - { path_prefix: /denied, service: shop, deny: [127.0.0.1] }
  - { path_prefix: /json, service: shop, deny: [127.0.0.1], error_pages: { "403": 503.json } }
  - { path_prefix: /shop, service: shop }"#;
    let proxy = proxy(listener, ", error_pages: { '403': own.txt }", routes, folder, &app);
    let web = proxy.at("web");
    for version in VERSIONS {
        let evil = ["-H", "x-a: <b>\"&\\"];
        let text = curl(web, "/none", &[&[version], &evil[..]].concat());
        assert_eq!(field(&text, "content-type").as_deref(), Some("text/html; charset=utf-8"));
        assert!(text.contains("<p>no_route 404 &lt;b&gt;&quot;&amp;\\ "), "{text}");
        assert!(text.ends_with("</p><style>a{margin:0}</style>"), "{text}");
        assert_eq!(field(&text, "tidegate-refusal").as_deref(), Some("no_route"), "{text}");
        let json = curl(web, "/json", &[&[version], &evil[..]].concat());
        assert_eq!(field(&json, "content-type").as_deref(), Some("application/json"));
        let body = json.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).expect(body);
        assert_eq!((&body["reason"], &body["agent"]), (&"forbidden".into(), &"<b>\"&\\".into()));
        let id = body["id"].as_str().unwrap();
        assert_eq!(id.len(), 32);
        proxy.says(&format!("\"request_id\":\"{id}\""));
        // The service's page goes before the listener's, the route's before the service's.
        assert!(curl(web, "/denied", &[version]).ends_with("own shop\n"));
        assert!(curl(web, "/dead", &[version]).ends_with("own dead\n"));
        // A cluster's own error passes unchanged.
        assert!(curl(web, "/shop", &[version, "-X", "POST"]).ends_with("their"));
        // A gRPC client gets a gRPC status.
        let call = ["-X", "POST", "-H", "content-type: application/grpc", "-H", "te: trailers"];
        let call = curl(web, "/none", &[&["--http2-prior-knowledge"], &call[..]].concat());
        assert!(field(&call, "grpc-status").is_some() && !call.contains("<p>"), "{call}");
    }
    let malformed = ask_raw(web, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(malformed.body.starts_with("<p>bad_request 400  "), "{malformed:?}");
    let head = ask_raw(web, b"HEAD /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(head.status == 404 && head.body.is_empty(), "{head:?}");
}

#[test]
fn a_grpc_call_gets_a_status_and_never_a_page() {
    let decider = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            connection.send(b"HTTP/1.1 403 No\r\ncontent-length: 12\r\n\r\n<p>login</p>");
        }
    });
    let (app, folder) = (echo(), Folder::new());
    folder.write("page.html", "<p>{reason}</p>");
    let pages = "error_pages: { '4xx': page.html, '5xx': page.html }";
    let routes = format!(
        "  - {{ path_prefix: /denied, service: shop, deny: [127.0.0.1], {pages} }}\n  \
         - {{ path_prefix: /asked, service: shop, auth: {{ forward: {{ url: \"http://{}/\" }} }} }}\n  \
         - {{ path_prefix: /plain, service: dead, deny: [127.0.0.1] }}",
        decider.address
    );
    let proxy = proxy(&format!(", {pages}"), ", protocol: grpc", &routes, folder, &app);
    let web = proxy.at("web");
    let call = |path: &str, more: &[&str]| {
        let fields = ["-X", "POST", "-H", "content-type: application/grpc"];
        curl(web, path, &[&fields[..], more].concat())
    };
    let (h1, h2, te) = ("--http1.1", "--http2-prior-knowledge", ["-H", "te: trailers"]);
    #[rustfmt::skip]
    let table = [
        // The service is gRPC: so is a call to it, whoever refuses it.
        ("/denied",  vec![h1],               "7"),
        ("/denied",  vec![h2],               "7"),
        ("/asked",   vec![h1],               "7"),
        ("/asked",   vec![h2, te[0], te[1]], "7"),
        // No service is known, and HTTP/2 with trailers is enough.
        ("/none",    vec![h2, te[0], te[1]], "12"),
        ("/plain",   vec![h2, te[0], te[1]], "7"),
        ("/a%2fb",   vec![h2, te[0], te[1]], "3"),
    ];
    for (path, more, status) in table {
        let text = call(path, &more);
        assert!(text.lines().next().unwrap().contains(" 200"), "{path} {more:?}: {text}");
        assert_eq!(field(&text, "grpc-status").as_deref(), Some(status), "{path} {more:?}: {text}");
        assert!(!text.contains("<p>"), "{path} {more:?}: {text}");
    }
    // A content type alone makes no call: these clients read pages.
    for (path, more, status) in [
        ("/none", vec![h2], "404"),
        ("/none", vec![h1, te[0], te[1]], "404"),
        ("/plain", vec![h1, te[0], te[1]], "403"),
        ("/a%2fb", vec![h2], "400"),
    ] {
        let text = call(path, &more);
        assert!(text.lines().next().unwrap().contains(status), "{path} {more:?}: {text}");
        assert!(field(&text, "grpc-status").is_none() && text.contains("<p>"), "{more:?}: {text}");
    }
}

#[test]
fn a_page_is_read_at_a_reload_and_a_bad_one_changes_nothing() {
    let app = echo();
    let folder = Folder::new();
    folder.write("page.txt", "first");
    let proxy = proxy(
        ", error_pages: { '404': page.txt }",
        "",
        "  - { path: /a, service: shop }",
        folder,
        &app,
    );
    let web = proxy.at("web");
    assert!(curl(web, "/", &[]).ends_with("first"));
    proxy.folder.write("page.txt", "second");
    assert_eq!(proxy.tell("POST", "/api/v1/reload", "{}").status, 200);
    assert!(curl(web, "/", &[]).ends_with("second"));
    for bad in [None, Some("{unheard_of}".to_owned()), Some("x".repeat(70_000))] {
        match &bad {
            Some(text) => {
                proxy.folder.write("page.txt", text);
            }
            None => std::fs::remove_file(proxy.folder.0.join("page.txt")).unwrap(),
        }
        let answer = proxy.tell("POST", "/api/v1/reload", "{}");
        assert!(answer.status == 422 && answer.body.contains("error_pages.404"), "{answer:?}");
        assert!(curl(web, "/", &[]).ends_with("second"), "the last good page stays");
    }
}

/// A cluster that returns the first line of the request, and the fields that the test looks at.
#[cfg(feature = "http3")]
fn telling() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let first = head.lines().next().unwrap_or_default();
            let fields = ["x-a", "x-s", "x-f"]
                .map(|name| format!("{name}: {}", field(&head, name).unwrap_or_default()));
            connection.reply(&format!("{first}\n{}\n", fields.join("\n")));
        }
    })
}

#[cfg(feature = "http3")]
#[test]
fn clients_certificates_and_http3_have_the_same_variables() {
    let Some(python) = python("aioquic") else { return };
    let folder = folder_with(&[("a", &["a.example"]), ("me", &["me"])]);
    let app = telling();
    let terms = format!("{{ certificates: [{}], alpn: [h3, h2, http/1.1] }}", pair("a"));
    let text = tls::config(&folder, &terms, app.address);
    let edits = "request_headers: { set: { x-a: \"{scheme} {sni} {host} {uri} {header:x-b}\" } }, \
                 response_headers: { set: { x-c: \"{client_ip}\" } }";
    let text = text.replace("service: shop,", &format!("service: shop, {edits},"));
    let routes = "routes:\n- { path: /old, redirect: { to: \"{scheme}://{host}/new\" } }\n\
                  - { path_prefix: /s, service: shop, rewrite: { strip_prefix: /s } }\n\
                  - { path: /no, service: shop, deny: [127.0.0.1] }\n";
    let proxy = Proxy::start(&format!("{text}{routes}"));
    let web = proxy.at("web");
    let ask = |path: &str| {
        let output = Command::new(&python)
            .current_dir(&folder.0)
            .arg(script("h3_client.py"))
            .args(["127.0.0.1", &web.port().to_string(), "ca.pem", "a.example", "get", path, "1"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().next().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
    };
    let answer = ask("/s/t?u").unwrap();
    let body = answer["body"].as_str().unwrap();
    assert!(body.starts_with("GET /t?u HTTP/1.1\n"), "{body}");
    assert_eq!(field(body, "x-a").as_deref(), Some("https a.example a.example /s/t?u"), "{body}");
    assert_eq!(answer["fields"]["x-c"], "127.0.0.1", "{answer}");
    let moved = ask("/old").unwrap();
    assert_eq!(moved["fields"]["location"], "https://a.example/new", "{moved}");
    let refused = ask("/no").unwrap();
    assert_eq!((&refused["status"], &refused["fields"]["x-c"]), (&403.into(), &"127.0.0.1".into()));
    drop(proxy);
    // A client's certificate.
    let terms = format!("{{ certificates: [{}], client_ca: AT/ca.pem }}", pair("a"));
    let text = tls::config(&folder, &terms, app.address);
    let edits = "request_headers: { set: { x-s: \"{client_cert_subject}\", x-f: \"{client_cert_fingerprint}\" } }";
    let proxy = Proxy::start(&text.replace("service: shop,", &format!("service: shop, {edits},")));
    let own = ["--cert", "me.pem", "--key", "me.key", "-H", "x-s: forged", "https://a.example/"];
    let (text, ok) = tls::curl(&folder, proxy.at("web"), "a.example", &own);
    assert!(ok, "{text}");
    assert_eq!(field(&text, "x-s").as_deref(), Some("CN=me"), "{text}");
    let print = tls::openssl(&folder.0, "x509 -in me.pem -noout -fingerprint -sha256");
    let print = String::from_utf8_lossy(&print.stdout).trim().replace(':', "").to_ascii_lowercase();
    assert_eq!(print.rsplit('=').next(), field(&text, "x-f").as_deref());
}
