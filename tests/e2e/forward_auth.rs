//! Forward authentication as with oauth2-proxy: redirects, cookies, and identity fields that clusters
//! may trust.

use super::support::*;
use super::tls::folder_with;
use std::sync::atomic::Ordering;

/// An authorization service that accepts a session, renews it, and redirects other clients to its login. Like
/// Authelia it requires the scheme.
fn decider() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let head = head.to_ascii_lowercase();
            let answer = match () {
                () if !head.contains("x-forwarded-proto: http\r\n") => "400 No\r\n",
                () if head.contains("cookie: session=good") => {
                    "200 Fine\r\nRemote-User: alice\r\nRemote-Groups: staff,dev\r\nX-Other: no\r\nSet-Cookie: session=renewed\r\n"
                }
                () if head.contains("cookie: session=banned") => "403 No\r\nX-Why: banned\r\n",
                () => {
                    "302 Found\r\nLocation: https://login.example/?rd=a\r\nSet-Cookie: csrf=1\r\nSet-Cookie: state=2\r\n"
                }
            };
            let body = if answer.starts_with("200") { "" } else { "<a>log in</a>" };
            let length = body.len();
            let text = format!("HTTP/1.1 {answer}Content-Length: {length}\r\n\r\n{body}");
            connection.send(text.as_bytes());
        }
    })
}

/// `/open` is public, all other paths need a session.
fn guarded(cluster: &Cluster, decider: &Cluster, more: &str) -> Proxy {
    let url = format!("http://{}/auth", decider.address);
    let headers = "response_headers: [Remote-User, Remote-Groups, Remote-Name]";
    let routes = format!(
        "routes:\n  - {{ path_prefix: /open, service: shop }}\n  - {{ service: shop, auth: {{ forward: {{ url: \"{url}\", {headers}{more} }} }} }}\n"
    );
    Proxy::start(&(config(&[("a", "idc", cluster.address)]) + &routes))
}

fn ask(proxy: &Proxy, path: &str, fields: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: shop:81\r\nConnection: close\r\n{fields}\r\n");
    ask_raw(proxy.at("web"), head.as_bytes())
}

#[test]
fn clients_without_a_session_are_redirected_and_others_named_to_the_cluster() {
    let (cluster, decider) = (Cluster::named("a"), decider());
    let proxy = guarded(&cluster, &decider, "");
    let login = ask(&proxy, "/in?x=1", "");
    assert_eq!((login.status, login.body.as_str()), (302, "<a>log in</a>"));
    assert_eq!(login.header("location").as_deref(), Some("https://login.example/?rd=a"));
    assert_eq!(login.header("set-cookie").as_deref(), Some("csrf=1"));
    assert!(login.head.contains("state=2"), "both cookies: {}", login.head);
    assert!(!cluster.seen().contains("/in"), "the cluster was not asked");
    let shown = decider.seen().to_ascii_lowercase();
    for part in [
        "x-forwarded-host: shop:81\r\n",
        "x-forwarded-uri: /in?x=1\r\n",
        "x-forwarded-method: get\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let banned = ask(&proxy, "/in", "Cookie: session=banned\r\n");
    assert_eq!((banned.status, banned.header("x-why").as_deref()), (403, Some("banned")));
    assert_eq!(banned.refusal(), "forbidden");

    let forged = "Remote-User: root\r\nremote-groups: admin\r\nREMOTE-NAME: Root\r\n";
    let served = ask(&proxy, "/in", &format!("Cookie: session=good\r\n{forged}"));

    assert_eq!((served.status, served.body.as_str()), (200, "a"));
    assert_eq!(served.header("set-cookie").as_deref(), Some("session=renewed"));
    let request = cluster.seen().to_ascii_lowercase();
    assert!(request.contains("remote-user: alice\r\nremote-groups: staff,dev\r\n"), "{request}");
    assert!(!request.contains("x-other"), "only what is asked for: {request}");
    // On a public path the client's own identity fields are removed as well.
    assert_eq!(ask(&proxy, "/open", forged).status, 200);
    let request = cluster.seen().to_ascii_lowercase();
    assert!(!request.contains("root") && !request.contains("admin"), "{request}");
}

#[test]
fn denials_of_the_service_are_not_passed_on_without_pass_response() {
    let (cluster, decider) = (Cluster::named("a"), decider());
    let proxy = guarded(&cluster, &decider, ", pass_response: false");
    let refused = ask(&proxy, "/in", "");
    assert_eq!((refused.status, refused.header("location")), (403, None));
    assert!(!refused.body.contains("log in"));
}

#[test]
fn authorization_requests_share_few_connections() {
    let (cluster, decider) = (Cluster::named("a"), decider());
    let proxy = guarded(&cluster, &decider, "");
    let asked = b"GET / HTTP/1.1\r\nhost: a\r\ncookie: session=good\r\n\r\n";
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..50 {
        client.send(asked);
        assert_eq!(client.answer().status, 200);
    }
    let made = decider.connections.load(Ordering::SeqCst);
    assert!(made <= 5, "{made} connections for 50 questions");
    // Closes the keep-alive connections: clients must not notice.
    decider.kill_open();
    client.send(asked);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_slow_authorization_service_holds_a_bounded_number_of_connections() {
    let cluster = Cluster::named("a");
    let (sender, release) = std::sync::mpsc::channel::<()>();
    let release = std::sync::Mutex::new(release);
    let decider = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            let _never = release.lock().unwrap().recv_timeout(PATIENCE);
            connection.reply("");
        }
    });
    let proxy = guarded(&cluster, &decider, "");
    let mut clients: Vec<Keeping> = (0..300).map(|_| Keeping::new(proxy.at("web"))).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    let open = "tidegate_connections{listener=\"web\"}";
    eventually("as many are asked as may", || {
        proxy.metric(open) == 300.0 && decider.connections.load(Ordering::SeqCst) >= 128
    });
    assert_eq!(decider.connections.load(Ordering::SeqCst), 128);
    let refusals: Vec<String> = clients.iter_mut().map(|c| c.answer().refusal()).collect();
    assert!(refusals.iter().all(|why| why == "overloaded" || why == "upstream_connect"));
    drop(sender);
}

#[test]
fn the_authorization_service_is_verified_over_tls() {
    if !is_installed("nginx") {
        return;
    }
    let (cluster, address) = (Cluster::named("a"), free());
    let folder = folder_with(&[("auth", &["localhost"]), ("other", &["elsewhere.example"])]);
    let at = folder.0.display();
    let server = |name: &str, port: u16| {
        format!(
            "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {at}/{name}.pem; ssl_certificate_key {at}/{name}.key; add_header Remote-User bob; return 204; }}"
        )
    };
    let wrong = free();
    let servers = server("auth", address.port()) + &server("other", wrong.port());
    let _nginx = nginx(&folder, address, &servers);
    let start = |port: u16| {
        let policy = format!(
            "clusters: [a], auth: {{ forward: {{ url: \"https://localhost:{port}/\", ca: {at}/ca.pem, response_headers: [Remote-User] }} }} }}"
        );
        let text = config(&[("a", "idc", cluster.address)]);
        Proxy::start(&text.replace("clusters: [a] }", &policy))
    };
    assert_eq!(ask(&start(address.port()), "/", "").status, 200);
    assert!(cluster.seen().contains("remote-user: bob"), "{}", cluster.seen());
    assert_eq!(ask(&start(wrong.port()), "/", "").status, 502, "it is somebody else");
}

#[test]
fn invalid_forward_settings_are_reported() {
    let forward = |terms: &str| {
        let text = config(&[("a", "idc", "127.0.0.1:1".parse().unwrap())]);
        let policy = format!("clusters: [a], auth: {{ forward: {{ {terms} }} }} }}");
        check(&Folder::new(), &text.replace("clusters: [a] }", &policy))
    };
    for (terms, part) in [
        (
            "url: \"http://a:1/\", ca: ca.pem",
            "forward.ca: is used only with an https URL: remove it, or write https://",
        ),
        ("url: \"https://a:1/\", ca: missing.pem", "missing.pem"),
        ("url: \"http://a:1/\", response_headers: [\"a b\"]", "`a b` is not a valid header name"),
        ("url: \"http://a:1/\", response_headers: [Host]", "`Host` frames or routes"),
    ] {
        let (code, said) = forward(terms);
        assert!(code == 1 && said.contains(part), "{terms}: {said}");
    }
}
