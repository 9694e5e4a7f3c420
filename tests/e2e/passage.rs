//! PROXY headers in both directions, and TLS passthrough, with curl, haproxy and nginx.

use super::support::*;
use super::tls::{curl, folder_with, openssl, secure_nginx};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

fn with_proxy(cluster: std::net::SocketAddr, from: &str) -> String {
    config(&[("idc", "idc", cluster)]).replace(
        "protocol: http, service: shop",
        &format!("protocol: http, service: shop, proxy_protocol: {{ from: [{from}] }}, timeouts: {{ proxy_header: 300ms }}"),
    )
}

fn whose() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            connection.reply(&head);
        }
    })
}

#[test]
fn a_proxy_header_names_the_client_and_is_required_of_configured_peers() {
    let app = whose();
    let proxy = Proxy::start(&with_proxy(app.address, "127.0.0.0/8"));
    let web = proxy.at("web");
    let say = |header: &[u8]| {
        let mut stream = connect(web);
        // In fragments, so that the header is read exactly to its end. A refused connection is reset, perhaps while
        // the client writes.
        for part in header.chunks(5) {
            drop(stream.write_all(part));
        }
        drop(stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
        String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
    };
    let v1 = say(b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\n");
    assert!(v1.contains("x-forwarded-for: 203.0.113.7"), "{v1}");
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f".to_vec();
    v2.extend([203, 0, 113, 8, 10, 0, 0, 1, 0x13, 0x88, 1, 0xbb]);
    v2.extend([4, 0, 0]);
    assert!(say(&v2).contains("x-forwarded-for: 203.0.113.8"), "with a note behind the addresses");
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    assert!(say(local).contains("x-forwarded-for: 127.0.0.1"), "LOCAL speaks for itself");
    assert!(say(b"PROXY UNKNOWN\r\n").contains("x-forwarded-for: 127.0.0.1"));
    let before = app.seen();
    for bad in [
        &b""[..],
        b"PROXY TCP4 203.0.113.7 10.0.0.1 5000\r\n",
        b"PROXY TCP4 nobody 10.0.0.1 5000 443\r\n",
        &[b"PROXY TCP4 ", &[b'1'; 120][..], b"\r\n"].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x91\x11\x00\x0c123456789012",
    ] {
        let text = say(bad);
        assert!(!text.starts_with("HTTP/1.1 2"), "{bad:?}: {text}");
    }
    assert_eq!(app.seen(), before, "no cluster has seen them");
    eventually("they are counted", || {
        proxy.metric("tidegate_refusals_total{listener=\"web\",reason=\"bad_request\"}") >= 5.0
    });
    let silent = connect(web);
    eventually("silence is counted", || {
        proxy.metric("tidegate_refusals_total{listener=\"web\",reason=\"request_timeout\"}") >= 1.0
    });
    drop(silent);
    // From any other peer the header is a bad request.
    let proxy = Proxy::start(&with_proxy(app.address, "192.0.2.0/24"));
    let mut stream = connect(proxy.at("web"));
    stream
        .write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 443\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    assert!(read_all(&mut stream).starts_with(b"HTTP/1.1 400"));
}

#[test]
fn curl_and_haproxy_send_headers_that_are_understood() {
    let app = whose();
    let proxy = Proxy::start(&with_proxy(app.address, "127.0.0.0/8"));
    let web = proxy.at("web");
    let folder = folder_with(&[("a", &["a.example"])]);
    let url = format!("http://{web}/");
    let (text, ok) = curl(&folder, web, "a.example", &["--haproxy-protocol", &url]);
    assert!(ok && text.contains("x-forwarded-for: 127.0.0.1"), "{text}");
    if !is_installed("haproxy") {
        return;
    }
    for version in ["send-proxy", "send-proxy-v2"] {
        let front = free();
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
             listen in\n bind {front}\n server tidegate {web} {version}\n"
        );
        let _haproxy = haproxy(&folder, &text, front);
        let answer = get(front, "/");
        assert_eq!(answer.status, 200, "{version}: {answer:?}");
        assert!(answer.body.contains("x-forwarded-for: 127.0.0.1"), "{version}: {answer:?}");
    }
}

fn haproxy(folder: &Folder, text: &str, address: std::net::SocketAddr) -> Process {
    let config = folder.write("haproxy.cfg", text);
    let child = Command::new("haproxy")
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .args(["-db", "-f"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("haproxy listens", || std::net::TcpStream::connect(address).is_ok());
    Process(child)
}

#[test]
fn a_cluster_with_a_proxy_header_gets_the_right_client_on_each_connection() {
    if !is_installed("nginx") {
        return;
    }
    let folder = Folder::new();
    for version in ["v1", "v2"] {
        let address = free();
        let server = format!(
            "server {{ listen {address} proxy_protocol;\n\
             location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port\"; }} }}"
        );
        let _nginx = nginx(&folder, address, &server);
        let text = config(&[("idc", "idc", address)])
            .replace("kind: idc,", &format!("kind: idc, send_proxy_protocol: {version},"));
        let proxy = Proxy::start(&text);
        let web = proxy.at("web");
        let identity = |client: &mut Keeping| {
            let answer = client.get("/");
            assert_eq!(answer.status, 200, "{version}: {answer:?}");
            answer.body
        };
        let (mut first, mut second) = (Keeping::new(web), Keeping::new(web));
        let (one, two) = (identity(&mut first), identity(&mut second));
        assert!(one.starts_with("127.0.0.1 ") && two.starts_with("127.0.0.1 "), "{one} {two}");
        assert_ne!(one, two, "each client has its own port");
        assert_eq!(identity(&mut first), one, "and keeps it");
    }
}

fn passthrough(a: std::net::SocketAddr, b: std::net::SocketAddr, fallback: &str) -> String {
    format!(
        "listeners: {{ tls: {{ address: 127.0.0.1:0, protocol: tls-passthrough, {fallback}\n\
           sni: {{ a.example: a, \"*.b.example\": b }}, timeouts: {{ handshake: 500ms }} }} }}\n\
         services: {{ a: {{ clusters: [a] }}, b: {{ clusters: [b] }} }}\n\
         clusters: {{ a: {{ kind: idc, endpoints: [\"{a}\"] }}, b: {{ kind: idc, endpoints: [\"{b}\"] }} }}\n"
    )
}

#[test]
fn tls_passthrough_routes_by_sni() {
    if !is_installed("nginx") {
        return;
    }
    let (left, right) =
        (folder_with(&[("app", &["a.example"])]), folder_with(&[("app", &["x.b.example"])]));
    let (a, b) = (free(), free());
    let (_a, _b) = (secure_nginx(&left, a, false), secure_nginx(&right, b, false));
    let proxy = Proxy::start(&passthrough(a, b, ""));
    let tls = proxy.at("tls");
    let (text, ok) = curl(&left, tls, "a.example", &["https://a.example/"]);
    assert!(ok && text.starts_with("TLSv1.3"), "{text}");
    let (text, ok) = curl(&right, tls, "x.b.example", &["https://x.b.example/"]);
    assert!(ok && text.starts_with("TLSv1.3"), "{text}");
    eventually("the log has the names that were asked for", || {
        let log = proxy.log();
        ["a.example", "x.b.example"]
            .iter()
            .all(|name| log.iter().any(|line| line.contains(&format!("\"host\":\"{name}\""))))
    });
    for name in ["b.example", "c.example"] {
        let (_, ok) = curl(&left, tls, name, &["--insecure", &format!("https://{name}/")]);
        assert!(!ok, "{name} is nobody's");
    }
    eventually("both are counted", || {
        proxy.metric("tidegate_refusals_total{listener=\"tls\",reason=\"no_route\"}") == 2.0
    });
    eventually("the log has their names, and why", || {
        let is_told = |name: &str, line: &&String| {
            line.contains(&format!("\"host\":\"{name}\"")) && line.contains("\"no_route\"")
        };
        let log = proxy.log();
        ["b.example", "c.example"].iter().all(|name| log.iter().any(|line| is_told(name, &line)))
    });
    let mut plain = connect(tls);
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    assert!(!matches!(plain.read(&mut byte), Ok(1..)), "what is no TLS gets no answer");
    let slow = connect(tls);
    eventually("a silent one is counted", || {
        proxy.metric("tidegate_refusals_total{listener=\"tls\",reason=\"request_timeout\"}") == 1.0
    });
    drop(slow);
    let proxy = Proxy::start(&passthrough(a, b, "service: a,"));
    let (_, ok) = curl(&left, proxy.at("tls"), "c.example", &["--insecure", "https://c.example/"]);
    assert!(ok, "a fallback takes the rest");
    openssl(&left.0, "version");
}

#[test]
fn a_hello_of_post_quantum_size_may_come_byte_by_byte() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let app = Cluster::scripted(move |mut connection| {
        let mut bytes = vec![0; 4096];
        let mut all = Vec::new();
        while let Ok(count @ 1..) = connection.stream.read(&mut bytes) {
            all.extend_from_slice(&bytes[..count]);
            sender.lock().unwrap().send(all.clone()).unwrap();
        }
    });
    let proxy = Proxy::start(&passthrough(app.address, app.address, ""));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "a.example".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    assert!(hello.len() > 1_300, "post-quantum: {}", hello.len());
    let mut stream = connect(proxy.at("tls"));
    for byte in &hello {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < hello.len() {
        seen = receiver.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(seen, hello, "all of it is passed on, as it came");
}
