//! HTTP/2 to clusters: nginx with prior knowledge and with ALPN, and gRPC by grpcio on both sides.

use super::support::*;
use super::tls::{curl, folder_with};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// An nginx that speaks HTTP/2, over TLS if there is a certificate.
pub fn http2_nginx(folder: &Folder, address: SocketAddr, listen: &str, requests: &str) -> Process {
    folder.write("big", &"0123456789abcdef".repeat(100_000));
    let server = format!(
        "server {{ listen {address} {listen}; keepalive_requests {requests}; root {};\n\
         location / {{ return 200 \"$server_protocol $request_method $http_host $scheme\"; }}\n\
         location = /big {{ }} location = /none {{ return 204; }} }}",
        folder.0.display()
    );
    nginx(folder, address, &server)
}

#[test]
fn prior_knowledge_works_and_goaway_fails_no_request() {
    if !is_installed("nginx") {
        return;
    }
    let (folder, address) = (folder_with(&[("a", &["a.example"])]), free());
    let _nginx = http2_nginx(&folder, address, "http2", "20");
    let text =
        config(&[("idc", "idc", address)]).replace("kind: idc,", "kind: idc, protocol: http2,");
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    let answer = get(web, "/");
    assert_eq!(answer.body, "HTTP/2.0 GET shop.example http", "{answer:?}");
    assert_eq!(get(web, "/none").status, 204);
    assert_eq!(get(web, "/big").body.len(), 1_600_000);
    let url = format!("http://{web}/big");
    let (text, ok) = curl(&folder, web, "a.example", &["--http2-prior-knowledge", &url]);
    assert!(ok && text.len() == 1_600_000, "{}", text.len());
    let (text, ok) = curl(&folder, web, "a.example", &["-I", &url]);
    assert!(ok && text.to_lowercase().contains("content-length: 1600000"), "{text}");
    // nginx sends GOAWAY after twenty requests; clients must not notice.
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Keeping::new(web);
                (0..50).map(|_| client.get("/").status).filter(|status| *status != 200).count()
            })
        })
        .collect();
    let failed: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(failed, 0, "of 400");
}

#[test]
fn the_configured_protocol_overrides_alpn() {
    if !is_installed("nginx") {
        return;
    }
    let (folder, address) = (folder_with(&[("app", &["app.example"])]), free());
    let at = folder.0.display().to_string();
    let listen =
        format!("ssl http2; ssl_certificate {at}/app.pem; ssl_certificate_key {at}/app.key");
    let _nginx = http2_nginx(&folder, address, &listen, "1000");
    let with = |protocol: &str| {
        let tls = format!(
            "kind: idc, protocol: {protocol}, tls: {{ server_name: app.example, ca: {at}/ca.pem }},"
        );
        config(&[("idc", "idc", address)]).replace("kind: idc,", &tls)
    };
    let proxy = Proxy::start(&with("auto").replace("probe: {", "probe: { kind: http,"));
    let web = proxy.at("web");
    // The http probe speaks HTTP/1.1, the traffic speaks the negotiated protocol.
    eventually("it is up", || proxy.cluster("idc")["state"] == "up");
    assert_eq!(get(web, "/").body, "HTTP/2.0 GET shop.example https");
    for protocol in ["http1", "http2"] {
        let generation = proxy.generation();
        proxy.rewrite(&with(protocol));
        eventually("reloaded", || proxy.generation() > generation);
        let expected = if protocol == "http1" { "HTTP/1.1" } else { "HTTP/2.0" };
        eventually(protocol, || get(web, "/").body.starts_with(expected));
    }
}

#[test]
fn many_exchanges_share_few_connections() {
    if !(is_installed("h2load") && is_installed("nginx")) {
        return;
    }
    let (folder, address) = (Folder::new(), free());
    let _nginx = http2_nginx(&folder, address, "http2", "10000");
    let text =
        config(&[("idc", "idc", address)]).replace("kind: idc,", "kind: idc, protocol: http2,");
    let proxy = Proxy::start(&text);
    let output = Command::new("h2load")
        .args(["-n", "2000", "-c", "2", "-m", "50", "-p", "h2c"])
        .arg(format!("http://{}/", proxy.at("web")))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("2000 succeeded, 0 failed, 0 errored"), "{printed}");
    let open = proxy.metric("tidegate_upstream_connections{tidegate_cluster=\"idc\"");
    assert!(open <= 8.0, "{open} connections");
}

fn server(python: &Path) -> (Process, SocketAddr) {
    let mut child = Command::new(python)
        .arg(script("grpc_server.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    (Process(child), SocketAddr::from(([127, 0, 0, 1], port)))
}

fn client(python: &Path, to: SocketAddr, what: &str) -> String {
    let output = Command::new(python)
        .arg(script("grpc_client.py"))
        .args([to.to_string().as_str(), what])
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&printed).trim().to_owned()
}

fn grpc(address: SocketAddr, probe: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc], timeout: 1s }} }}\n\
         clusters: {{ idc: {{ kind: idc, protocol: http2, endpoints: [\"{address}\"],\n\
           probe: {{ kind: grpc, interval: 200ms, timeout: 200ms{probe} }} }} }}\n"
    )
}

#[test]
fn every_kind_of_grpc_call_passes() {
    let Some(python) = python("grpc") else { return };
    let (_server, address) = server(&python);
    let proxy = Proxy::start(&grpc(address, ""));
    let web = proxy.at("web");
    let all = client(&python, web, "all");
    assert_eq!(all, "unary:a:b kept\n1000007\n500\n1000000\n20\n200");
    assert_eq!(client(&python, web, "fail"), "FAILED_PRECONDITION | as asked: 100 %");
    assert!(client(&python, web, "slow").starts_with("DEADLINE_EXCEEDED"));
    assert!(client(&python, web, "nowhere").starts_with("UNIMPLEMENTED"));
    assert_eq!(proxy.metric("tidegate_panics_total"), 0.0);
}

#[test]
fn refusals_are_grpc_statuses_and_probes_are_grpc_health_checks() {
    let Some(python) = python("grpc") else { return };
    let (_server, address) = server(&python);
    let proxy = Proxy::start(&grpc(address, ", service: \"down\""));
    let web = proxy.at("web");
    eventually("it says that it is not serving", || {
        proxy.cluster("idc")["cause"] == "probe_status"
    });
    let printed = client(&python, web, "one");
    assert!(printed.starts_with("UNAVAILABLE | no_healthy_cluster:"), "{printed}");
    proxy.rewrite(&grpc(address, ", service: \"fine\""));
    eventually("it is serving", || proxy.cluster("idc")["state"] == "up");
    assert_eq!(client(&python, web, "one"), "unary:a:");
    eventually("refusals are counted", || {
        proxy.metric("tidegate_refusals_total{listener=\"web\",reason=\"no_healthy_cluster\"}")
            >= 1.0
    });
}

#[test]
fn bytes_over_tls_offer_nothing_and_a_burst_to_http1_dials_at_once() {
    if !is_installed("nginx") {
        return;
    }
    let (folder, address) = (folder_with(&[("app", &["app.example"])]), free());
    let at = folder.0.display().to_string();
    let listen = |more: &str| {
        format!("ssl{more}; ssl_certificate {at}/app.pem; ssl_certificate_key {at}/app.key")
    };
    let tls = format!("kind: idc, tls: {{ server_name: app.example, ca: {at}/ca.pem }},");
    let http = config(&[("idc", "idc", address)]).replace("kind: idc,", &tls);
    {
        let _nginx = http2_nginx(&folder, address, &listen(" http2"), "1000");
        let proxy = Proxy::start(&http.replace("protocol: http", "protocol: tcp"));
        let answer = get(proxy.at("web"), "/");
        assert_eq!(answer.body, "HTTP/1.1 GET shop.example https", "{answer:?}");
    }
    let _nginx = http2_nginx(&folder, address, &listen(""), "1000");
    let proxy = Proxy::start(&http);
    let web = proxy.at("web");
    let clients: Vec<_> =
        (0..60).map(|_| std::thread::spawn(move || get(web, "/").status)).collect();
    let failed = clients.into_iter().map(|client| client.join().unwrap());
    assert_eq!(failed.filter(|status| *status != 200).count(), 0);
    assert_eq!(proxy.cluster("idc")["state"], "up");
}

/// A cluster over HTTP/2 that violates the protocol, by path.
fn hostile() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        misbehave(request.uri().path(), respond);
                    }
                });
            }
        });
    });
    address
}

fn misbehave(path: &str, mut respond: h2::server::SendResponse<bytes::Bytes>) {
    let head = |status: u16| http::Response::builder().status(status);
    let smuggled = bytes::Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray");
    match path {
        "/304" | "/204" => {
            let status = path[1..].parse().unwrap();
            let mut body = respond.send_response(head(status).body(()).unwrap(), false).unwrap();
            body.send_data(smuggled, true).unwrap();
        }
        "/none" => {
            let mut body = respond.send_response(head(204).body(()).unwrap(), false).unwrap();
            body.send_data(bytes::Bytes::new(), true).unwrap();
        }
        "/reset" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        "/refuse" => respond.send_reset(h2::Reason::REFUSED_STREAM),
        "/hint-and-refuse" => {
            let hint = head(103).header("link", "</a>").body(()).unwrap();
            respond.send_informational(hint).unwrap();
            // A reset would overtake the response.
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            });
        }
        // The cluster never answers; dropping the responder would reset the stream.
        "/silent" => std::mem::forget(respond),
        "/call" => {
            let response = head(200).header("content-type", "application/grpc").body(()).unwrap();
            let mut body = respond.send_response(response, false).unwrap();
            body.send_data(bytes::Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            for (name, value) in [("grpc-status", "0"), ("my_key", "kept"), ("authorization", "no")]
            {
                trailers.insert(name, value.parse().unwrap());
            }
            body.send_trailers(trailers).unwrap();
        }
        _ => {
            let mut body = respond.send_response(head(200).body(()).unwrap(), false).unwrap();
            body.send_data(bytes::Bytes::from_static(b"good"), true).unwrap();
        }
    }
}

#[test]
fn a_hostile_http2_cluster_never_corrupts_the_next_response() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let address = hostile();
    let text =
        config(&[("idc", "idc", address)]).replace("kind: idc,", "kind: idc, protocol: http2,");
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    assert_eq!(get(web, "/").body, "good");
    for path in ["/304", "/204"] {
        let mut client = Keeping::new(web);
        client.send(
            format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n")
                .as_bytes(),
        );
        let mut all = Vec::new();
        drop(std::io::Read::read_to_end(&mut client.stream, &mut all));
        let printed = String::from_utf8_lossy(&all).into_owned();
        assert!(!printed.contains("stray"), "{path}: {printed}");
    }
    assert_eq!(get(web, "/none").status, 204);
    let url = format!("http://{web}/call");
    let (printed, ok) =
        curl(&folder, web, "a", &["--http2-prior-knowledge", "-i", "-X", "POST", "-o", "-", &url]);
    assert!(
        ok && printed.contains("my_key: kept") && !printed.contains("authorization"),
        "{printed}"
    );
    // An endpoint that resets every stream is ejected like one that cuts every connection.
    eventually("it is ejected", || {
        assert_ne!(get(web, "/reset").status, 200);
        proxy.cluster("idc")["endpoints"][0]["state"] == "down"
            || proxy.cluster("idc")["state"] != "up"
    });
}

#[test]
fn a_grpc_deadline_ejects_no_endpoint() {
    let address = hostile();
    let text =
        config(&[("idc", "idc", address)]).replace("kind: idc,", "kind: idc, protocol: http2,");
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    for _ in 0..20 {
        let answer = ask_raw(
            web,
            b"POST /silent HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ngrpc-timeout: 0n\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
        assert_eq!(answer.header("grpc-status").as_deref(), Some("4"), "{answer:?}");
    }
    let cluster = proxy.cluster("idc");
    assert_eq!(cluster["state"], "up", "{cluster}");
    // Either nothing was measured, or only successes.
    let ratio = &cluster["success_ratio"];
    assert!(ratio.is_null() || *ratio == 1.0, "{cluster}");
}

#[test]
fn a_refused_stream_is_retried_elsewhere_before_response_bytes_are_sent() {
    let (address, other) = (hostile(), Cluster::named("other"));
    let text = config(&[("idc", "idc", address), ("cloud", "cloud", other.address)])
        .replace("idc: { kind: idc,", "idc: { kind: idc, protocol: http2,");
    // A new proxy for each case: one refusal influences the next decision.
    let post = |path: &str| {
        let proxy = Proxy::start(&text);
        let ask = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
        );
        let mut stream = connect(proxy.at("web"));
        std::io::Write::write_all(&mut stream, ask.as_bytes()).unwrap();
        String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
    };
    assert!(post("/").contains("good"));
    let answer = post("/refuse");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("other"), "{answer}");
    let before = other.seen().matches("POST").count();
    let answer = post("/hint-and-refuse");
    assert!(answer.starts_with("HTTP/1.1 103") && !answer.contains("other"), "{answer}");
    assert_eq!(other.seen().matches("POST").count(), before, "it is not asked");
}

/// Requests of clients that leave, and the number of cancellations that the application received.
#[derive(Clone, Default)]
struct Left {
    asked: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

#[test]
fn clients_that_leave_do_not_end_the_connection_that_others_share() {
    let (release, released) = mpsc::channel::<()>();
    let (left, released) = (Left::default(), Mutex::new(released));
    let seen = left.clone();
    let app = Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/stays") {
                released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                connection.reply("served");
                continue;
            }
            seen.asked.fetch_add(1, Ordering::SeqCst);
            while connection.take(1).is_some() {}
            seen.cancelled.fetch_add(1, Ordering::SeqCst);
            return;
        }
    });
    // Another proxy, which ends connections with more than a hundred resets a second.
    let inner = Proxy::start(&config(&[("app", "idc", app.address)]));
    let text = config(&[("inner", "idc", inner.at("web"))]);
    let text = text.replace("kind: idc,", "kind: idc, protocol: http2,");
    let proxy = Proxy::start(&format!("runtime: {{ workers: 1 }}\n{text}"));
    let mut stays = Keeping::new(proxy.at("web"));
    stays.send(b"POST /stays HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    for wave in 1..=12 {
        let mut clients: Vec<Keeping> = (0..25).map(|_| Keeping::new(proxy.at("web"))).collect();
        for client in &mut clients {
            client.send(b"GET /leaves HTTP/1.1\r\nhost: a\r\n\r\n");
        }
        eventually("all are asked", || left.asked.load(Ordering::SeqCst) == 25 * wave);
        let no_linger = Some(std::time::Duration::ZERO);
        for client in &clients {
            socket2::SockRef::from(&client.stream).set_linger(no_linger).unwrap();
        }
        drop(clients);
        eventually("they are given up", || proxy.cluster("inner")["in_flight"] == 1);
    }
    eventually("all are cancelled", || left.cancelled.load(Ordering::SeqCst) == 300);
    release.send(()).unwrap();
    assert_eq!(stays.answer().body, "served");
    let ended = "tidegate_refusals_total{listener=\"web\",reason=\"rate_limited\"}";
    assert_eq!(inner.metric(ended), 0.0, "no connection was ended for its resets");
}
