//! Access control, rate limits and authentication.

use super::support::*;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// One service with a policy, and `folder` for its files.
fn with_policy(cluster: &Cluster, policy: &str) -> String {
    config(&[("a", "idc", cluster.address)])
        .replace("clusters: [a] }", &format!("clusters: [a], {policy} }}"))
        .replace("service: shop }", "service: shop, trusted_proxies: [127.0.0.1] }")
}

fn ask(proxy: &Proxy, path: &str, fields: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{fields}\r\n");
    ask_raw(proxy.at("web"), head.as_bytes())
}

fn status_and_refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.refusal())
}

#[test]
fn clients_of_denied_networks_are_refused_and_only_allowed_ones_come() {
    let cluster = Cluster::named("a");
    let policy = "allow: [10.0.0.0/8, \"2001:db8::/32\"], deny: [10.1.0.0/16]";
    let proxy = Proxy::start(&with_policy(&cluster, policy));
    for (client, status) in
        [("10.0.0.1", 200), ("10.1.2.3", 403), ("192.0.2.1", 403), ("2001:db8::1", 200)]
    {
        let answer = ask(&proxy, "/", &format!("X-Forwarded-For: {client}\r\n"));
        assert_eq!(answer.status, status, "{client}");
    }
    let mapped = ask(&proxy, "/", "X-Forwarded-For: ::ffff:10.1.2.3\r\n");
    assert_eq!(mapped.status, 403, "however it is written");
    let refused = ask(&proxy, "/", "X-Forwarded-For: 10.1.2.3\r\n");
    assert_eq!(status_and_refusal(&refused), (403, "forbidden".to_owned()));
    assert_eq!(cluster.seen().matches("GET /").count(), 2, "the refused reached nobody");
}

#[test]
fn a_client_is_known_however_its_address_is_written() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&with_policy(&cluster, "deny: [198.51.100.0/24, \"2001:db8::/32\"]"));
    for (fields, status) in [
        ("X-Forwarded-For: 198.51.100.5:4444", 403),
        ("X-Forwarded-For: [2001:db8::1]:443", 403),
        ("X-Forwarded-For: \"[2001:db8::1]\"", 403),
        ("Forwarded: for=\"198.51.100.5:4444\";proto=https", 403),
        ("X-Forwarded-For: 192.0.2.1:80", 200),
        ("Forwarded: for=\"[2001:db9::1]:80\"", 200),
        // An unknown client is not the trusted proxy.
        ("X-Forwarded-For: unknown", 403),
        ("Forwarded: for=_hidden", 403),
        ("X-Forwarded-For: 192.0.2.1, 127.0.0.1:x", 403),
    ] {
        assert_eq!(ask(&proxy, "/", &format!("{fields}\r\n")).status, status, "{fields}");
    }
}

#[test]
fn a_path_means_the_same_to_a_policy_and_to_the_cluster() {
    let cluster = Cluster::named("a");
    let guarded = "routes: [{ path_prefix: /internal, service: shop, allow: [192.0.2.0/24] }]\n";
    let text = config(&[("a", "idc", cluster.address)]) + guarded;
    let proxy = Proxy::start(&text);
    for path in
        ["/internal/x", "//internal/x", "/a/..//internal/x", "/.//internal", "/%69nternal//x"]
    {
        assert_eq!(ask(&proxy, path, "").status, 403, "{path}");
    }
    assert_eq!(ask(&proxy, "/x/..;/internal", "").status, 400);
    assert!(!cluster.seen().contains("internal"), "{}", cluster.seen());
    assert_eq!(ask(&proxy, "/a//b?c=//d&e=100%", "").status, 200);
    assert!(cluster.seen().contains("GET /a/b?c=//d&e=100% HTTP/1.1"), "{}", cluster.seen());
    for (slashes, status) in [("refuse", 400), ("keep", 200)] {
        let with = format!("service: shop, limits: {{ slashes: {slashes} }} }}");
        let proxy = Proxy::start(&text.replace("service: shop }", &with));
        assert_eq!(ask(&proxy, "//else", "").status, status, "{slashes}");
    }
    assert!(cluster.seen().contains("GET //else HTTP/1.1"), "{}", cluster.seen());
}

#[test]
fn a_policy_for_some_methods_cannot_be_bypassed_with_other_methods() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)])
        + "routes:\n  - { path_prefix: /admin, methods: [GET, POST], service: shop, allow: [192.0.2.0/24] }\n  \
           - { path: /login, methods: [POST], service: shop, rate_limit: { requests: 1, per: 1h } }\n  \
           - { path: /login, service: shop }\n";
    let proxy = Proxy::start(&text);
    let send = |line: &str| {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        ask_raw(proxy.at("web"), head.as_bytes())
    };
    for (line, status) in [
        ("GET /admin/x", 403),
        ("POST /admin/x", 403),
        ("HEAD /admin/x", 405),
        ("PUT /admin", 405),
        ("get /admin", 405),
        ("GET /admin;x", 403),
        ("PUT /admin;x/y", 405),
        ("GET //admin/x", 403),
        ("POST /login", 200),
        ("POST /login", 429),
        ("GET /login", 200),
        ("HEAD /login", 200),
    ] {
        let answer = send(line);
        assert_eq!(answer.status, status, "{line}");
        let allow = (status == 405).then(|| "GET, POST".to_owned());
        assert_eq!(answer.header("allow"), allow, "{line}");
    }
    assert!(!cluster.seen().contains("admin"), "{}", cluster.seen());
    let connect = ask_raw(proxy.at("web"), b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert_eq!(connect.status, 405);
    assert!(connect.header("allow").unwrap().contains("GET, HEAD"));
}

#[test]
fn a_rate_limited_client_gets_retry_after() {
    let cluster = Cluster::named("a");
    let policy = "rate_limit: { requests: 1, per: 1h, burst: 5 }";
    let text = with_policy(&cluster, policy);
    let proxy = Proxy::start(&text);
    let as_client = |client: &str| ask(&proxy, "/", &format!("X-Forwarded-For: {client}\r\n"));
    for _ in 0..5 {
        assert_eq!(as_client("192.0.2.1").status, 200);
    }
    let refused = as_client("192.0.2.1");
    assert_eq!(status_and_refusal(&refused), (429, "rate_limited".to_owned()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    assert_eq!(as_client("192.0.2.2").status, 200, "another client is another");
    // Counters survive a reload; a changed limit starts anew.
    proxy.rewrite(&format!("{text}# again\n"));
    eventually("the reload", || proxy.generation() == 2);
    assert_eq!(as_client("192.0.2.1").status, 429);
    proxy.rewrite(&text.replace("burst: 5", "burst: 6"));
    eventually("the reload", || proxy.generation() == 3);
    assert_eq!(as_client("192.0.2.1").status, 200);
    assert_eq!(
        proxy.metric("tidegate_refusals_total{listener=\"web\",reason=\"rate_limited\"}"),
        2.0
    );
}

#[test]
fn policies_of_a_route_and_its_service_both_apply_also_to_fixed_answers() {
    let cluster = Cluster::named("a");
    let text = with_policy(&cluster, "deny: [192.0.2.0/24, 10.9.0.0/16]")
        + "routes:\n  - { path_prefix: /narrow, service: shop, allow: [10.0.0.0/8] }\n  \
             - { path_prefix: /fixed, respond: { status: 200, body: hi }, rate_limit: { requests: 1, per: 1h, key: all } }\n";
    let proxy = Proxy::start(&text);
    for (path, client, status) in [
        ("/narrow", "10.0.0.1", 200),
        ("/narrow", "172.16.0.1", 403),
        ("/narrow", "192.0.2.1", 403),
        ("/narrow", "10.9.0.1", 403),
        ("/", "172.16.0.1", 200),
        ("/", "192.0.2.1", 403),
        ("/fixed", "10.0.0.1", 200),
        ("/fixed", "10.0.0.2", 429),
    ] {
        let answer = ask(&proxy, path, &format!("X-Forwarded-For: {client}\r\n"));
        assert_eq!(answer.status, status, "{path} {client}");
    }
}

#[test]
fn the_concurrency_limit_holds() {
    let (sender, release) = std::sync::mpsc::channel::<()>();
    let release = std::sync::Mutex::new(release);
    let cluster = Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/slow") {
                release.lock().unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
            }
            connection.reply("done");
        }
    });
    let proxy = Proxy::start(&with_policy(&cluster, "concurrency: 2"));
    let mut slow: Vec<Keeping> = (0..2).map(|_| Keeping::new(proxy.at("web"))).collect();
    for client in &mut slow {
        client.send(b"GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n");
    }
    eventually("both are under way", || proxy.cluster("a")["in_flight"] == 2);
    assert_eq!(status_and_refusal(&ask(&proxy, "/", "")), (503, "overloaded".to_owned()));
    sender.send(()).unwrap();
    sender.send(()).unwrap();
    assert!(slow.iter_mut().all(|client| client.answer().body == "done"));
    assert_eq!(ask(&proxy, "/", "").status, 200, "there is room again");
}

/// From PHP's manual for `crypt`: the password is "rasmuslerdorf".
const BCRYPT: &str = "$2a$07$usesomesillystringfore2uDLvp1Ii2e./U9C8sBjqp8I90dH6hi";

fn basic(user: &str, password: &str) -> String {
    let mut encode = Command::new("base64");
    encode.arg("-w0").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = encode.spawn().unwrap();
    use std::io::Write;
    write!(child.stdin.take().unwrap(), "{user}:{password}").unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    format!("Authorization: Basic {text}\r\n")
}

#[test]
fn passwords_are_required_and_their_file_is_watched() {
    let (cluster, folder) = (Cluster::named("a"), Folder::new());
    let file = folder.write("users", &format!("# people\nrasmus:{BCRYPT}\n"));
    let policy = format!("auth: {{ basic_file: {} }}", file.display());
    let proxy = Proxy::start(&with_policy(&cluster, &policy));
    let refused = ask(&proxy, "/", "");
    assert_eq!(status_and_refusal(&refused), (401, "unauthorized".to_owned()));
    assert_eq!(refused.header("www-authenticate").as_deref(), Some("Basic realm=\"tidegate\""));
    let right = basic("rasmus", "rasmuslerdorf");
    for _ in 0..3 {
        assert_eq!(ask(&proxy, "/", &right).status, 200);
    }
    for wrong in [
        basic("rasmus", "rasmuslerdorF"),
        basic("rasmus", ""),
        basic("nobody", "rasmuslerdorf"),
        "Authorization: Basic ????\r\n".to_owned(),
        "Authorization: Bearer rasmuslerdorf\r\n".to_owned(),
    ] {
        assert_eq!(ask(&proxy, "/", &wrong).status, 401, "{wrong}");
    }
    let twice = format!("{right}{right}");
    assert_eq!(ask(&proxy, "/", &twice).status, 401, "of two, the cluster may believe the other");
    assert_eq!(cluster.seen().matches("GET /").count(), 3);
    folder.write("users", &format!("another:{BCRYPT}\n"));
    eventually("the file was read anew", || ask(&proxy, "/", &right).status == 401);
    assert_eq!(ask(&proxy, "/", &basic("another", "rasmuslerdorf")).status, 200);
    // An invalid file leaves the last valid one in force.
    folder.write("users", "another:plain\n");
    proxy.says("neither bcrypt nor argon2");
    assert_eq!(ask(&proxy, "/", &basic("another", "rasmuslerdorf")).status, 200);
}

#[test]
fn tokens_of_another_implementation_are_verified() {
    let Some(python) = python("jwt") else { return };
    let (cluster, folder) = (Cluster::named("a"), Folder::new());
    let made = Command::new(python).arg(script("jwt_make.py")).arg(&folder.0).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tokens: serde_json::Map<String, Value> = serde_json::from_slice(&made.stdout).unwrap();
    let policy = format!(
        "auth: {{ jwt: {{ jwks_file: {}/jwks.json, issuer: \"https://issuer.example\", audience: shop }} }}",
        folder.0.display()
    );
    let proxy = Proxy::start(&with_policy(&cluster, &policy));
    for (name, token) in &tokens {
        let field = format!("Authorization: Bearer {}\r\n", token.as_str().unwrap());
        let answer = ask(&proxy, "/", &field);
        let status = if name.starts_with("good") { 200 } else { 401 };
        assert_eq!(answer.status, status, "{name}");
        if status == 401 {
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains("error=\"invalid_token\""), "{name}: {challenge}");
        }
    }
    let bare = ask(&proxy, "/", "");
    let challenge = bare.header("www-authenticate").unwrap();
    assert_eq!((bare.status, challenge.as_str()), (401, "Bearer realm=\"tidegate\""));
    let good = tokens.keys().filter(|name| name.starts_with("good")).count();
    assert_eq!(cluster.seen().matches("GET /").count(), good);
}

#[test]
fn no_request_passes_without_the_authorization_service() {
    let cluster = Cluster::named("a");
    let decider = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let head = head.to_ascii_lowercase();
            let answer: &[u8] = match head.lines().find(|l| l.starts_with("x-forwarded-uri:")) {
                Some(uri) if uri.contains("/yes?x=1") => b"HTTP/1.1 204 Fine\r\n\r\n",
                Some(uri) if uri.contains("/who") => {
                    b"HTTP/1.1 401 Who\r\nWWW-Authenticate: Custom a=b\r\nContent-Length: 0\r\n\r\n"
                }
                Some(uri) if uri.contains("/moved") => {
                    b"HTTP/1.1 302 Elsewhere\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"
                }
                Some(uri) if uri.contains("/broken") => {
                    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
                }
                _ => b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
            };
            connection.send(answer);
        }
    });
    let policy =
        format!("auth: {{ forward: {{ url: \"http://{}/check?a=1\" }} }}", decider.address);
    let proxy = Proxy::start(&with_policy(&cluster, &policy));
    let fields = "Authorization: Bearer t\r\nCookie: c=d\r\nX-Forwarded-For: 192.0.2.7\r\n";
    for (path, status) in
        [("/yes?x=1", 200), ("/who", 401), ("/no", 403), ("/moved", 302), ("/broken", 502)]
    {
        let answer = ask(&proxy, path, fields);
        assert_eq!(answer.status, status, "{path}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate").as_deref(), Some("Custom a=b"));
        }
    }
    let shown = decider.seen().to_ascii_lowercase();
    for part in [
        "get /check?a=1 http/1.1",
        "authorization: bearer t",
        "cookie: c=d",
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-method: get",
        "x-forwarded-host: shop",
        "x-forwarded-uri: /yes?x=1",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    decider.kill();
    assert_eq!(
        status_and_refusal(&ask(&proxy, "/yes?x=1", "")),
        (502, "upstream_connect".to_owned())
    );
    assert_eq!(cluster.seen().matches("GET /").count(), 1);
}

#[test]
fn policies_apply_to_l4_flows() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some(byte) = connection.take(1) {
            connection.send(&byte);
        }
    });
    let text = config(&[("a", "idc", cluster.address)]).replace("protocol: http", "protocol: tcp");
    let deny = text.replace("clusters: [a] }", "clusters: [a], deny: [127.0.0.0/8] }");
    let proxy = Proxy::start(&deny);
    use std::io::{Read, Write};
    let mut stream = connect(proxy.at("web"));
    drop(stream.write_all(b"x"));
    assert!(matches!(stream.read(&mut [0; 1]), Err(_) | Ok(0)), "a denied client is reset");
    proxy.rewrite(&text.replace("clusters: [a] }", "clusters: [a], concurrency: 1 }"));
    eventually("the reload", || proxy.generation() == 2);
    let echo = |mut stream: std::net::TcpStream| {
        stream.write_all(b"x").ok()?;
        stream.read_exact(&mut [0; 1]).ok()?;
        Some(stream)
    };
    let first = echo(connect(proxy.at("web"))).expect("the first is served");
    assert!(echo(connect(proxy.at("web"))).is_none(), "a second is one too many");
    drop(first);
    eventually("there is room again", || echo(connect(proxy.at("web"))).is_some());
    let (code, said) = check(
        &Folder::new(),
        &text.replace(
            "clusters: [a] }",
            "clusters: [a], auth: { forward: { url: \"http://a:1/\" } } }",
        ),
    );
    assert!(code == 1 && said.contains("has `auth`, which needs an http listener"), "{said}");
}

#[test]
fn problems_of_a_policy_are_reported_with_their_line() {
    let folder = Folder::new();
    folder.write("users", "me:plain\n");
    folder.write("jwks.json", "{\"keys\": []}");
    let text = "listeners: { web: { address: \"127.0.0.1:0\", protocol: http, service: a } }\n\
        services:\n  \
          a: { clusters: [c], auth: { basic_file: users } }\n  \
          b: { clusters: [c], auth: { jwt: { jwks_file: jwks.json } } }\n  \
          c: { clusters: [c], auth: { basic_file: none, forward: { url: \"http://x:1/\" } } }\n  \
          d: { clusters: [c], auth: { forward: { url: \"ftp://x\" } } }\n  \
          e: { clusters: [c], rate_limit: { requests: 1, per: 0s, key: cookie } }\n  \
          f: { clusters: [c], auth: { basic_file: missing }, allow: [nowhere] }\n\
        clusters: { c: { kind: idc, endpoints: [\"127.0.0.1:1\"] } }\n";
    let (code, said) = check(&folder, text);
    assert_eq!(code, 1, "{said}");
    for part in [
        "checked.yaml:3:43: error: services.a.auth: `",
        "users` line 1: hash is neither bcrypt nor argon2",
        "services.b.auth: `",
        "none of the 0 keys can verify tokens",
        "services.c.auth: needs exactly one of",
        "services.d.auth.forward.url: `ftp://x` is not a URL such as http://",
        "services.e.rate_limit.per: must be more than 0",
        "services.e.rate_limit.key: `cookie` is not a rate-limit key",
        "services.f.allow",
        "missing`: No such file",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
}
