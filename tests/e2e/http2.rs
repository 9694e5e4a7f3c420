//! HTTP/2 from clients: curl, h2load, and raw frames that no validating client sends.

use super::support::*;
use super::tls::{curl, folder_with, pair};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

fn plain(cluster: SocketAddr) -> String {
    config(&[("idc", "idc", cluster)])
}

fn secure(folder: &Folder, cluster: SocketAddr) -> String {
    let tls = format!("{{ certificates: [{}] }}", pair("a"));
    super::tls::config(folder, &tls, cluster)
}

/// A cluster that echoes the body, and returns the request's head.
fn echo() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some((head, body)) = connection.request() {
            if head.contains("/trailers") {
                connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\nset-cookie: no\r\n\r\n");
            } else if head.starts_with("HEAD") {
                connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
            } else if head.contains("/short") {
                connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nshort");
                return;
            } else if body.is_empty() {
                connection.reply(&head);
            } else {
                connection.reply(&String::from_utf8_lossy(&body));
            }
        }
    })
}

#[test]
fn curl_speaks_http2_by_alpn_and_by_prior_knowledge() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = echo();
    let proxy = Proxy::start(&secure(&folder, app.address));
    let web = proxy.at("web");
    let version = ["-w", "|%{http_version} %{http_code}"];
    let url = ["https://a.example/path?q", "-H", "x-custom: 1", "-b", "a=1; b=2"];
    let (text, ok) = curl(&folder, web, "a.example", &[&["--http2"], &url[..], &version].concat());
    assert!(ok && text.ends_with("|2 200"), "{text}");
    assert!(text.starts_with("GET /path?q HTTP/1.1"), "{text}");
    for line in ["host: a.example", "x-forwarded-proto: https", "x-custom: 1", "cookie: a=1; b=2"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let (text, _) =
        curl(&folder, web, "a.example", &[&["--http1.1"], &url[..1], &version].concat());
    assert!(text.ends_with("|1.1 200"), "{text}");
    let proxy = Proxy::start(&plain(app.address));
    let url = format!("http://{}/", proxy.at("web"));
    let prior = [&["--http2-prior-knowledge", url.as_str()], &version[..]].concat();
    let (text, ok) = curl(&folder, proxy.at("web"), "a.example", &prior);
    assert!(ok && text.ends_with("|2 200"), "{text}");
    eventually("the log knows", || {
        proxy.log().iter().any(|line| line.contains("\"protocol\":\"HTTP/2.0\""))
    });
}

#[test]
fn bodies_trailers_heads_and_refusals_are_exact_over_http2() {
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = echo();
    let proxy = Proxy::start(&secure(&folder, app.address));
    let web = proxy.at("web");
    let ask =
        |arguments: &[&str]| curl(&folder, web, "a.example", &[&["--http2"], arguments].concat());
    let body = "0123456789abcdef".repeat(100_000);
    folder.write("body", &body);
    let (text, ok) = ask(&["https://a.example/", "--data-binary", "@body"]);
    assert!(ok && text == body, "{} bytes", text.len());
    let (text, ok) = ask(&["https://a.example/", "-T", "body", "-H", "content-length:"]);
    assert!(ok && text == body, "without a length: {} bytes: {:.200}", text.len(), text);
    assert!(app.seen().contains("transfer-encoding: chunked"));
    let (text, ok) = ask(&["https://a.example/trailers", "-i"]);
    assert!(ok && text.contains("hi") && text.contains("grpc-status: 0"), "{text}");
    assert!(!text.contains("set-cookie"), "{text}");
    let (text, ok) = ask(&["https://a.example/", "-I"]);
    assert!(ok && text.contains("content-length: 5"), "{text}");
    // A truncated body must not appear complete.
    let (text, ok) = ask(&["https://a.example/short"]);
    assert!(!ok, "{text}");
    let (text, _) = ask(&["https://a.example/%2f", "-i"]);
    assert!(
        text.contains("HTTP/2 400") && text.contains("tidegate-refusal: bad_request"),
        "{text}"
    );
    let (text, ok) = ask(&["https://a.example/", "-w", "%{http_code}", "-o", "/dev/null"]);
    assert!(ok && text == "200", "the connection goes on: {text}");
}

#[test]
fn h2load_multiplexes_thousands_without_a_failure() {
    if !is_installed("h2load") {
        return;
    }
    let app = Cluster::named("app");
    let proxy = Proxy::start(&plain(app.address));
    let output = Command::new("h2load")
        .args(["-n", "3000", "-c", "4", "-m", "50", "-p", "h2c"])
        .arg(format!("http://{}/", proxy.at("web")))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("3000 succeeded, 0 failed, 0 errored"), "{text}");
    assert_eq!(proxy.metric("tidegate_panics_total"), 0.0);
}

/// Frames as bytes.
pub struct Raw(pub TcpStream);

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

impl Raw {
    pub fn new(to: SocketAddr) -> Raw {
        let mut stream = connect(to);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut raw = Raw(stream);
        raw.frame(4, 0, 0, &[]);
        raw
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        // The peer may have closed the connection.
        drop(self.0.write_all(&bytes));
    }

    pub fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                // Seven bits of length, then more by continuation (RFC 7541 §5.1).
                if text.len() < 127 {
                    block.push(text.len() as u8);
                } else {
                    block.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
                block.extend(text.as_bytes());
            }
        }
        self.frame(HEADERS, END_HEADERS | flags, stream, &block);
    }

    /// The next frame of these kinds: its kind, flags, stream and payload; `None` at the end.
    pub fn next(&mut self, kinds: &[u8]) -> Option<(u8, u8, u32, Vec<u8>)> {
        self.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if head[3] == 4 && head[4] == 0 {
                self.frame(4, 1, 0, &[]);
            }
            if kinds.contains(&head[3]) {
                return Some((head[3], head[4], stream, payload));
            }
        }
    }
}

pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&GET[..], more].concat()
}

#[test]
fn malformed_requests_are_reset_or_refused_before_any_cluster() {
    let app = Cluster::named("app");
    let proxy = Proxy::start(&plain(app.address));
    let web = proxy.at("web");
    let long = "x".repeat(20_000);
    let fields: Vec<(String, String)> = (0..120).map(|n| (format!("x-{n}"), "1".into())).collect();
    let many: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let crumbs = vec![("cookie", "a=1"); 120];
    let without = |name: &str| -> Vec<(&str, &str)> {
        GET.iter().copied().filter(|(known, _)| *known != name).collect()
    };
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("a field of a connection", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("TE", with(&[("te", "gzip")])),
        ("an upper-case name", with(&[("X-Upper", "1")])),
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no authority", without(":authority")),
        ("two paths", with(&[(":path", "/b")])),
        ("an unknown pseudo-field", with(&[(":host", "a")])),
        ("a pseudo-field after others", [&[("x-a", "1")], &GET[..]].concat()),
        ("another host", with(&[("host", "b.example")])),
        ("CR in a value", with(&[("x-a", "1\r\nx-b: 2")])),
        ("NUL in a value", with(&[("x-a", "\0")])),
        ("space around a value", with(&[("x-a", " 1")])),
        ("a name with a space", with(&[("x a", "1")])),
        ("a bad length", with(&[("content-length", "1x")])),
        ("a length without a body", with(&[("content-length", "5")])),
        ("a long list", with(&[("x-a", long.as_str())])),
        ("too many fields", with(&many)),
        ("too many crumbs", with(&crumbs)),
        ("an underscore", with(&[("x_a", "1")])),
        (
            "a relative path",
            vec![(":method", "GET"), (":scheme", "http"), (":path", "a"), (":authority", "a")],
        ),
        (
            "an encoded slash",
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/a%2fb"), (":authority", "a")],
        ),
        (
            "user information",
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "u@a")],
        ),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "a:1")]),
    ];
    let refused = || proxy.metric("tidegate_refusals_total{listener=\"web\"");
    for (what, fields) in cases {
        let before = refused();
        let mut raw = Raw::new(web);
        raw.headers(1, END_STREAM, &fields);
        let answer = raw.next(&[HEADERS, RST_STREAM, GOAWAY]);
        // Reset, or answered with a counted refusal.
        if matches!(answer, Some((HEADERS, ..))) {
            eventually(&format!("it is refused: {what}"), || refused() > before);
        }
    }
    assert_eq!(app.seen(), "", "no cluster has seen any of it");
    let mut raw = Raw::new(web);
    raw.headers(1, END_STREAM, &GET);
    assert!(matches!(raw.next(&[HEADERS]), Some((HEADERS, _, 1, _))), "a good one is served");
}

/// The h2 crate removes both before the proxy sees them. The remaining fields are routed and forwarded.
#[test]
fn a_fragment_and_pseudo_fields_in_trailers_reach_no_cluster_and_no_decision() {
    let app = Cluster::scripted(|mut connection| {
        while let Some(head) = connection.head() {
            // A POST has chunks after its head, and trailers up to an empty line.
            let whole = !head.starts_with("POST") || connection.head().is_some();
            assert!(whole);
            connection.reply("app");
        }
    });
    let routes = "routes: [{ path_prefix: /internal, respond: { status: 403 } }]\n";
    let proxy = Proxy::start(&format!("{}{routes}", plain(app.address)));
    for path in ["/a#frag", "/a#/../internal", "/a?b#c"] {
        let mut raw = Raw::new(proxy.at("web"));
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")];
        raw.headers(1, END_STREAM, &fields);
        let (_, _, _, block) = raw.next(&[HEADERS]).unwrap();
        assert!(is_ok(&block), "{path}");
    }
    let mut raw = Raw::new(proxy.at("web"));
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/b"), (":authority", "a")];
    raw.headers(1, 0, &post);
    raw.frame(0, 0, 1, b"body");
    let trailers = [(":path", "/internal"), (":status", "500"), ("x-checksum", "1")];
    raw.headers(1, END_STREAM, &trailers);
    assert!(raw.next(&[HEADERS, RST_STREAM, GOAWAY]).is_some());
    let seen = app.seen();
    let targets: Vec<&str> = seen.lines().filter(|line| line.contains(" HTTP/1.1")).collect();
    assert_eq!(targets[..3], ["GET /a HTTP/1.1", "GET /a HTTP/1.1", "GET /a?b HTTP/1.1"], "{seen}");
    assert!(seen.contains("0\r\nx-checksum: 1\r\n\r\n"), "{seen}");
    for trace in ["frag", "internal", ":path", ":status", "#"] {
        assert!(!seen.contains(trace), "{trace}: {seen}");
    }
}

#[test]
fn a_body_of_another_length_than_stated_is_never_complete() {
    let app = Cluster::scripted(|mut connection| {
        let mut byte = [0; 1024];
        while matches!(connection.stream.read(&mut byte), Ok(1..)) {}
    });
    let proxy = Proxy::start(&plain(app.address));
    for (stated, sent) in [("3", 5), ("5", 3)] {
        let mut raw = Raw::new(proxy.at("web"));
        let post = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        raw.headers(1, 0, &[&post[..], &[("content-length", stated)]].concat());
        raw.frame(0, END_STREAM, 1, &vec![b'x'; sent]);
        let ended = raw.next(&[RST_STREAM, GOAWAY]);
        assert!(ended.is_some(), "{stated} stated, {sent} sent");
    }
}

/// Identity fields that a client may forge, one of them with an underscore.
const LABEL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a.example"),
    ("content-type", "application/grpc"),
    ("my_key", "v"),
];

/// Whether a block of fields begins with `:status: 200` (0x88 in the static table), as gRPC's answers do.
fn is_ok(block: &[u8]) -> bool {
    block.first() == Some(&0x88)
}

#[test]
fn a_content_type_alone_makes_no_grpc() {
    let app = Cluster::scripted(|mut connection| while connection.head().is_some() {});
    let text = plain(app.address)
        .replace("service: shop }", "service: shop, timeouts: { body_idle: 300ms } }");
    assert!(text.contains("body_idle"), "{text}");
    for (protocol, is_grpc) in [("", false), (", protocol: grpc", true)] {
        let text =
            text.replace("clusters: [idc]", &format!("clusters: [idc]{protocol}, timeout: 1s"));
        let proxy = Proxy::start(&text);
        // A field name with an underscore: valid metadata for gRPC, refused for other requests.
        let mut raw = Raw::new(proxy.at("web"));
        raw.headers(1, END_STREAM, &[&LABEL[..], &[("grpc-timeout", "300m")]].concat());
        let metadata = raw.next(&[HEADERS, RST_STREAM]).expect("an answer");
        assert_eq!(metadata.0 == HEADERS && is_ok(&metadata.3), is_grpc, "{metadata:?}");
        // The client determines the form of a refusal, if the service's protocol permits gRPC.
        let mut raw = Raw::new(proxy.at("web"));
        let refused = [("te", "trailers"), ("grpc-timeout", "300m")];
        raw.headers(1, END_STREAM, &[&LABEL[..], &refused].concat());
        let answer = raw.next(&[HEADERS, RST_STREAM]).expect("an answer");
        assert!(is_ok(&answer.3), "{answer:?}");
        // A silent upload: late after 300 ms, unless it is a gRPC call, which may be silent until its own deadline.
        let mut raw = Raw::new(proxy.at("web"));
        let since = Instant::now();
        raw.headers(1, 0, &[&LABEL[..5], &[("grpc-timeout", "1500m")]].concat());
        let late = raw.next(&[HEADERS, RST_STREAM]).expect("an answer");
        assert_eq!(is_ok(&late.3), is_grpc, "{late:?}");
        let waited = since.elapsed();
        assert_eq!(waited >= Duration::from_millis(1_400), is_grpc, "{waited:?}");
    }
}

#[test]
fn rapid_resets_end_the_connection_and_others_go_on() {
    let app = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            std::thread::park_timeout(Duration::from_millis(200));
            connection.reply("late");
        }
    });
    let proxy = Proxy::start(&plain(app.address));
    let web = proxy.at("web");
    let mut raw = Raw::new(web);
    for number in 0..2_000_u32 {
        let stream = 1 + 2 * number;
        raw.headers(stream, END_STREAM, &GET);
        raw.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    let ended = raw.next(&[GOAWAY]);
    let reason = ended.as_ref().map(|(_, _, _, payload)| payload[7]);
    // ENHANCE_YOUR_CALM; or the connection was closed while the client wrote.
    assert!(matches!(reason, Some(11) | None), "{ended:?}");
    let mut raw = Raw::new(web);
    raw.headers(1, END_STREAM, &GET);
    assert!(matches!(raw.next(&[HEADERS]), Some((HEADERS, _, 1, _))), "others are served");
}

#[test]
fn a_client_that_resets_cancels_the_work_for_it() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let app = Cluster::scripted(move |mut connection| {
        if connection.request().is_some() {
            let mut byte = [0; 1];
            let read = connection.stream.read(&mut byte);
            sender.lock().unwrap().send(matches!(read, Ok(0) | Err(_))).unwrap();
        }
    });
    let proxy = Proxy::start(&plain(app.address));
    let mut raw = Raw::new(proxy.at("web"));
    raw.headers(1, END_STREAM, &GET);
    eventually("the cluster has it", || app.seen().contains("GET"));
    raw.frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert!(receiver.recv_timeout(Duration::from_secs(2)).unwrap(), "its connection is broken off");
}

#[test]
fn draining_sends_goaway_and_lets_streams_end() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let app = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            assert!(wait.lock().unwrap().recv_timeout(Duration::from_secs(5)).is_ok());
            connection.reply("done");
        }
    });
    let mut proxy = Proxy::start(&plain(app.address));
    let mut raw = Raw::new(proxy.at("web"));
    raw.headers(1, END_STREAM, &GET);
    eventually("the cluster has it", || app.seen().contains("GET"));
    proxy.signal(libc::SIGTERM);
    assert!(raw.next(&[GOAWAY]).is_some(), "it is told to go away");
    go.send(()).unwrap();
    assert!(matches!(raw.next(&[HEADERS]), Some((HEADERS, _, 1, _))), "and gets its answer");
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn a_websocket_over_http2_is_a_tunnel_both_ways() {
    let app = Cluster::scripted(|mut connection| {
        let Some((head, _)) = connection.request() else { return };
        let head = head.to_ascii_lowercase();
        for line in [
            "get /chat http/1.1",
            "upgrade: websocket",
            "sec-websocket-key: ",
            "sec-websocket-version: 13",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\nsec-websocket-protocol: chat\r\n\r\nhello");
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = connection.stream.read(&mut bytes) {
            connection.send(&bytes[..count]);
        }
    });
    let proxy = Proxy::start(&plain(app.address));
    let mut raw = Raw::new(proxy.at("web"));
    let ask = |protocol: &'static str| {
        [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":path", "/chat"),
            (":authority", "a.example"),
            ("sec-websocket-version", "13"),
        ]
    };
    raw.headers(1, 0, &ask("websocket"));
    let (_, flags, stream, _) = raw.next(&[HEADERS]).unwrap();
    assert_eq!((stream, flags & END_STREAM), (1, 0), "the stream stays open");
    assert_eq!(raw.next(&[0]).unwrap().3, b"hello");
    for text in [&b"ping"[..], &[b'x'; 9_000]] {
        raw.frame(0, 0, 1, text);
        let mut back = Vec::new();
        while back.len() < text.len() {
            back.extend(raw.next(&[0]).unwrap().3);
        }
        assert_eq!(back, text);
    }
    let open = proxy.cluster("idc")["in_flight"].as_u64();
    assert_eq!(open, Some(1), "it counts as a flow");
    raw.frame(0, END_STREAM, 1, b"");
    loop {
        let (_, flags, ..) = raw.next(&[0]).expect("the end comes back");
        if flags & END_STREAM != 0 {
            break;
        }
    }
    // Another protocol is not supported.
    raw.headers(3, 0, &ask("telnet"));
    assert!(matches!(raw.next(&[HEADERS, RST_STREAM]), Some((_, _, 3, _))));
    eventually("it is over", || proxy.cluster("idc")["in_flight"].as_u64() == Some(0));
    assert_eq!(app.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    eventually("the log has the status that the client saw", || {
        let log = proxy.log();
        log.iter().any(|line| line.contains("\"protocol\":\"HTTP/2.0\",\"status\":200,"))
    });
}
