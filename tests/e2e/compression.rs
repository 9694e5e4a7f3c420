//! Compression of responses, decoded by Python's zlib, brotli and zstandard, and by curl.

use super::support::*;
use super::tls::curl;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// Text of this length that is not too easy.
fn text(length: usize) -> String {
    let line =
        |number: usize| format!("{{\"line\": {number}, \"of\": {}}}\n", number * 7919 % 10_007);
    let mut text: String = (0..)
        .map(line)
        .scan(0, |sum, line| {
            let before = *sum;
            *sum += line.len();
            (before < length).then_some(line)
        })
        .collect();
    text.truncate(length);
    text
}

/// A proxy whose service `shop` has this setting, before a cluster.
fn proxy(setting: &str, cluster: SocketAddr) -> Proxy {
    let plain = config(&[("idc", "idc", cluster)]);
    Proxy::start(&plain.replace("{ clusters: [idc] }", &format!("{{ clusters: [idc]{setting} }}")))
}

/// A cluster that answers each path with what the list says: the path, the head's lines, the body.
fn serving(answers: &[(&str, &str, String)]) -> Cluster {
    let answers: Vec<(String, String, String)> = answers
        .iter()
        .map(|(path, head, body)| ((*path).to_owned(), (*head).to_owned(), body.clone()))
        .collect();
    Cluster::scripted(move |mut connection| {
        while let Some(head) = connection.head() {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let Some((_, lines, body)) = answers.iter().find(|(known, ..)| known == path) else {
                connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                continue;
            };
            let status = match lines.starts_with("HTTP/1.1 ") {
                true => String::new(),
                false => "HTTP/1.1 200 OK\r\n".to_owned(),
            };
            let is_bare = lines.contains(" 304 ") || head.starts_with("HEAD ");
            let body = if is_bare { String::new() } else { framed(lines, body) };
            let length = match lines.contains("chunked") || lines.contains(" 304 ") {
                true => String::new(),
                false => format!("Content-Length: {}\r\n", answers_length(&answers, path)),
            };
            connection.send(format!("{status}{lines}{length}\r\n{body}").as_bytes());
        }
    })
}

fn answers_length(answers: &[(String, String, String)], path: &str) -> usize {
    answers.iter().find(|(known, ..)| known == path).map_or(0, |(.., body)| body.len())
}

fn framed(lines: &str, body: &str) -> String {
    if !lines.contains("chunked") {
        return body.to_owned();
    }
    let chunks = body
        .as_bytes()
        .chunks(3_000)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
    chunks.collect::<String>() + "0\r\nx-checked: yes\r\n\r\n"
}

const TEXT: &str = "Content-Type: text/plain\r\n";
const CHUNKED: &str = "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n";

/// A response whose body is bytes, and how it ended.
#[derive(Debug)]
struct Encoded {
    head: String,
    body: Vec<u8>,
    /// Whether the framing says that the body is whole.
    is_whole: bool,
    trailers: String,
}

impl Encoded {
    fn field(&self, name: &str) -> Option<String> {
        parse(format!("{}\r\n\r\n", self.head).as_bytes()).header(name)
    }

    fn all(&self, name: &str) -> Vec<String> {
        let of = |line: &str| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().filter_map(of).collect()
    }
}

/// Splits a whole connection's bytes; `reset` tells that the connection ended by a reset.
fn split(wire: &[u8], reset: bool) -> Encoded {
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let (head, mut rest) = (String::from_utf8_lossy(&wire[..end - 4]).into_owned(), &wire[end..]);
    let lower = head.to_ascii_lowercase();
    if !lower.contains("transfer-encoding: chunked") {
        let length = parse(&wire[..end]).header("content-length");
        let length: Option<usize> = length.and_then(|length| length.parse().ok());
        let is_whole = length.map_or(!reset, |length| length == rest.len());
        return Encoded { head, body: rest.to_vec(), is_whole, trailers: String::new() };
    }
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = &rest[line + 2..];
        if size == 0 {
            let trailers = String::from_utf8_lossy(rest).into_owned();
            let is_whole = trailers.ends_with("\r\n");
            return Encoded { head, body, is_whole, trailers };
        }
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
    Encoded { head, body, is_whole: false, trailers: String::new() }
}

/// Sends a request with these lines, and reads to the end of the connection.
fn ask(to: SocketAddr, first: &str, lines: &str) -> Encoded {
    let mut stream = connect(to);
    let more = if first.ends_with("1.1") { "Connection: close\r\nTE: trailers\r\n" } else { "" };
    write!(stream, "{first}\r\nHost: shop.example\r\n{more}{lines}\r\n").unwrap();
    let (mut wire, mut space, mut reset) = (Vec::new(), [0; 65536], false);
    loop {
        match stream.read(&mut space) {
            Ok(0) => break,
            Ok(count) => wire.extend_from_slice(&space[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                reset = true;
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    split(&wire, reset)
}

fn get_with(to: SocketAddr, path: &str, lines: &str) -> Encoded {
    ask(to, &format!("GET {path} HTTP/1.1"), lines)
}

/// Python with both packages.
fn decoders() -> Option<PathBuf> {
    python("brotli, zstandard")
}

/// A decoder that runs beside the test.
struct Decoder {
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Decoder {
    fn of(python: &Path, coding: &str) -> Decoder {
        let mut child = Command::new(python)
            .arg(script("decode.py"))
            .arg(coding)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (child.stdout.take().unwrap(), output.clone());
        std::thread::spawn(move || {
            let mut space = [0; 65536];
            while let Ok(count @ 1..) = from.read(&mut space) {
                into.lock().unwrap().extend_from_slice(&space[..count]);
            }
        });
        let input = child.stdin.take();
        Decoder { child, input, output }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.output.lock().unwrap()).contains(text)
    }

    /// The text, and how the decoder ended: 0 for a whole body, 3 for a part.
    fn end(mut self) -> (String, i32) {
        drop(self.input.take());
        let code = self.child.wait().unwrap().code().unwrap();
        let mut before = None;
        eventually("all was read", || {
            let now = Some(self.output.lock().unwrap().len());
            std::thread::sleep(Duration::from_millis(10));
            std::mem::replace(&mut before, now) == now
        });
        let text = String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned();
        (text, code)
    }
}

fn decode(python: &Path, coding: &str, body: &[u8]) -> (String, i32) {
    let mut decoder = Decoder::of(python, coding);
    decoder.write(body);
    decoder.end()
}

#[test]
fn every_coding_is_decoded_over_http_1() {
    let Some(python) = decoders() else { return };
    let long = text(300_000);
    let app = serving(&[("/known", TEXT, long.clone()), ("/unknown", CHUNKED, long.clone())]);
    let proxy = proxy(", compression: {}", app.address);
    let web = proxy.at("web");
    for coding in CODINGS {
        for path in ["/known", "/unknown"] {
            for version in ["1.0", "1.1"] {
                let lines = format!("Accept-Encoding: {coding}\r\n");
                let got = ask(web, &format!("GET {path} HTTP/{version}"), &lines);
                assert_eq!(got.field("content-encoding").as_deref(), Some(coding), "{}", got.head);
                assert_eq!(got.field("content-length"), None, "{}", got.head);
                let chunked = got.field("transfer-encoding");
                assert_eq!(chunked.is_some(), version == "1.1", "{}", got.head);
                assert!(got.is_whole && got.body.len() < long.len() / 3, "{}", got.body.len());
                let wants_trailers = path == "/unknown" && version == "1.1";
                assert_eq!(got.trailers.contains("x-checked: yes"), wants_trailers, "{got:?}");
                let decoded = decode(&python, coding, &got.body);
                assert!(decoded == (long.clone(), 0), "{coding} {path} {version} {}", decoded.1);
            }
        }
    }
    proxy.counts("tidegate_compressed_responses_total{service=\"shop\",algorithm=\"br\"}", 4.0);
    proxy.counts("tidegate_compression_input_bytes_total", 12.0 * 300_000.0);
    let sent = proxy.metric("tidegate_compression_output_bytes_total");
    assert!(sent > 12.0 * 1_000.0 && sent < 12.0 * 100_000.0, "{sent}");
    assert_eq!(proxy.metric("tidegate_compression_passed_total"), 0.0);
    // HTTP/1.1 keeps the connection open: both responses come over the same one.
    let mut client = connect(web);
    let request = "GET /known HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n";
    for _ in 0..2 {
        client.write_all(request.as_bytes()).unwrap();
        let mut wire = Vec::new();
        while !wire.ends_with(b"\r\n0\r\n\r\n") {
            let mut one = [0; 4096];
            let count = client.read(&mut one).unwrap();
            assert!(count > 0, "the connection was closed");
            wire.extend_from_slice(&one[..count]);
        }
        assert_eq!(decode(&python, "br", &split(&wire, false).body), (long.clone(), 0));
    }
}

#[test]
fn every_coding_is_decoded_over_http_2_and_by_curl() {
    let Some(python) = decoders() else { return };
    let long = text(300_000);
    let app = serving(&[("/known", TEXT, long.clone()), ("/unknown", CHUNKED, long.clone())]);
    let proxy = proxy(", compression: {}", app.address);
    let (web, folder) = (proxy.at("web"), Folder::new());
    for coding in CODINGS {
        for path in ["/known", "/unknown"] {
            let url = format!("http://{web}{path}");
            let accepts = format!("accept-encoding: {coding}");
            let words =
                ["--http2-prior-knowledge", "-D", "head", "-o", "body", "-H", &accepts, &url];
            let (said, ok) = curl(&folder, web, "a", &words);
            assert!(ok, "{said}");
            let head = std::fs::read_to_string(folder.0.join("head")).unwrap();
            assert!(head.starts_with("HTTP/2 200"), "{head}");
            assert!(head.contains(&format!("content-encoding: {coding}\r\n")), "{head}");
            assert!(!head.contains("content-length") && head.contains("vary: accept-encoding"));
            let body = std::fs::read(folder.0.join("body")).unwrap();
            assert!(decode(&python, coding, &body) == (long.clone(), 0), "{coding} {path}");
        }
    }
    // curl decodes what it asked for.
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        let url = format!("http://{web}/known");
        let words = [version, "--compressed", "-D", "head", &url];
        let (said, ok) = curl(&folder, web, "a", &words);
        assert!(ok && said == long, "{version}: {} bytes", said.len());
        let head = std::fs::read_to_string(folder.0.join("head")).unwrap();
        assert!(head.to_ascii_lowercase().contains("content-encoding: "), "{head}");
    }
}

#[cfg(feature = "http3")]
#[test]
fn every_coding_is_decoded_over_http_3() {
    use base64::Engine as _;
    let (Some(python), Some(_)) = (decoders(), python("aioquic")) else { return };
    let long = text(300_000);
    let app = serving(&[("/known", TEXT, long.clone()), ("/unknown", CHUNKED, long.clone())]);
    let folder = super::tls::folder_with(&[("a", &["a.example"])]);
    let tls = format!("{{ certificates: [{}], alpn: [h3, h2] }}", super::tls::pair("a"));
    let text = super::tls::config(&folder, &tls, app.address);
    let text = text.replace("{ clusters: [idc] }", "{ clusters: [idc], compression: {} }");
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    for coding in CODINGS {
        for path in ["/known", "/unknown"] {
            let accepts = format!("accept-encoding={coding}");
            let words = ["ca.pem", "a.example", "whole", path, &accepts];
            let said = Command::new(&python)
                .current_dir(&folder.0)
                .arg(script("h3_client.py"))
                .args([&web.ip().to_string(), &web.port().to_string()])
                .args(words)
                .output()
                .unwrap();
            let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
            assert_eq!(said["fields"]["content-encoding"], coding, "{said}");
            assert!(said["fields"]["content-length"].is_null(), "{said}");
            let body = said["base64"].as_str().unwrap();
            let body = base64::prelude::BASE64_STANDARD.decode(body).unwrap();
            assert!(decode(&python, coding, &body) == (long.clone(), 0), "{coding} {path}");
        }
    }
}

#[test]
fn responses_of_an_http2_cluster_are_compressed() {
    let Some(python) = decoders() else { return };
    if !is_installed("nginx") {
        return;
    }
    let (folder, address) = (Folder::new(), free());
    let _nginx = super::upstream2::http2_nginx(&folder, address, "http2", "1000");
    let text = config(&[("idc", "idc", address)])
        .replace("kind: idc,", "kind: idc, protocol: http2,")
        .replace("{ clusters: [idc] }", "{ clusters: [idc], compression: {} }");
    let proxy = Proxy::start(&text);
    let got = get_with(proxy.at("web"), "/big", "Accept-Encoding: gzip\r\n");
    assert_eq!(got.field("content-encoding").as_deref(), Some("gzip"), "{}", got.head);
    assert!(got.field("etag").unwrap().starts_with("W/\""), "{}", got.head);
    assert_eq!(got.field("accept-ranges"), None);
    assert!(decode(&python, "gzip", &got.body) == ("0123456789abcdef".repeat(100_000), 0));
    // Another one stays as it is: too short.
    let short = get_with(proxy.at("web"), "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(short.body, b"HTTP/2.0 GET shop.example http");
}

#[test]
fn the_head_is_that_of_the_encoded_form() {
    let tagged =
        "Content-Type: text/css\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\nVary: Origin\r\n";
    let app = serving(&[("/", tagged, text(5_000))]);
    let proxy = proxy(", compression: {}", app.address);
    let web = proxy.at("web");
    let got = get_with(web, "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(got.all("etag"), ["W/\"v1\""], "{}", got.head);
    assert_eq!(got.all("vary"), ["Origin", "accept-encoding"]);
    assert!(got.all("accept-ranges").is_empty() && got.all("content-length").is_empty());
    // HEAD has the same fields, without a body.
    let head = ask(web, "HEAD / HTTP/1.1", "Accept-Encoding: gzip\r\n");
    let is_of_get = |line: &&str| !line.to_ascii_lowercase().starts_with("transfer-encoding");
    let lines = |got: &Encoded| -> Vec<String> {
        let lines = got.head.lines().filter(|line| !line.starts_with("date:"));
        lines.filter(is_of_get).map(str::to_owned).collect()
    };
    assert_eq!(lines(&head), lines(&got));
    assert!(head.body.is_empty());
    // A client that wants it plain gets the cluster's bytes and tag, and a cache learns that there is another form.
    for accepts in ["", "Accept-Encoding: identity\r\n", "Accept-Encoding: gzip;q=0, deflate\r\n"] {
        let plain = get_with(web, "/", accepts);
        assert_eq!(plain.body, text(5_000).as_bytes());
        assert_eq!(plain.all("etag"), ["\"v1\""], "{}", plain.head);
        assert_eq!(plain.all("vary"), ["Origin", "accept-encoding"]);
        assert_eq!(plain.all("accept-ranges"), ["bytes"]);
        assert_eq!(plain.all("content-length"), ["5000"]);
        assert_eq!(ask(web, "HEAD / HTTP/1.1", accepts).all("content-length"), ["5000"]);
    }
}

#[test]
fn a_304_has_the_tag_of_the_encoded_200() {
    let cluster = Cluster::scripted(|mut connection| {
        let long = text(5_000);
        while let Some(head) = connection.head() {
            // As an origin compares: weakly (RFC 9110 §13.1.2).
            let is_known = head.to_ascii_lowercase().contains("\"v1\"");
            let answer = match is_known {
                true => {
                    "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: max-age=9\r\n\r\n"
                        .to_owned()
                }
                false => format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"v1\"\r\nContent-Length: 5000\r\n\r\n{long}"
                ),
            };
            connection.send(answer.as_bytes());
        }
    });
    let proxy = proxy(", compression: {}", cluster.address);
    let web = proxy.at("web");
    let first = get_with(web, "/", "Accept-Encoding: br\r\n");
    let tag = first.field("etag").unwrap();
    assert_eq!(tag, "W/\"v1\"");
    let again = get_with(web, "/", &format!("Accept-Encoding: br\r\nIf-None-Match: {tag}\r\n"));
    assert!(again.head.starts_with("HTTP/1.1 304 "), "{}", again.head);
    assert!(cluster.seen().contains("W/\"v1\""), "the cluster compares the client's tag");
    assert_eq!(again.all("etag"), ["W/\"v1\""]);
    assert_eq!(again.all("vary"), ["accept-encoding"]);
    assert!(again.body.is_empty() && again.field("content-encoding").is_none());
    // A client with the plain form keeps the strong tag of it.
    let plain = get_with(web, "/", "If-None-Match: \"v1\"\r\n");
    assert_eq!(
        (plain.all("etag"), plain.all("vary")),
        (vec!["\"v1\"".to_owned()], vec!["accept-encoding".to_owned()])
    );
}

#[test]
fn what_must_stay_as_it_is_passes_untouched() {
    let long = text(5_000);
    let typed = |more: &str| format!("Content-Type: {more}\r\n");
    let answers: Vec<(&str, String)> = vec![
        ("/image", typed("image/png")),
        ("/untyped", String::new()),
        ("/encoded", typed("text/html\r\nContent-Encoding: x-other")),
        (
            "/part",
            format!(
                "HTTP/1.1 206 Partial Content\r\n{}",
                typed("text/html\r\nContent-Range: bytes 0-4999/9000")
            ),
        ),
        ("/fixed", typed("text/html\r\nCache-Control: no-transform")),
        ("/digest", typed("text/html\r\nContent-Digest: sha-256=:x:")),
        ("/events", typed("text/event-stream")),
        ("/call", typed("application/grpc")),
        ("/web-call", typed("application/grpc-web+json")),
        ("/secret", typed("text/html")),
        ("/off", typed("text/html")),
        ("/other", typed("text/html")),
    ];
    let answers: Vec<(&str, &str, String)> =
        answers.iter().map(|(path, head)| (*path, head.as_str(), long.clone())).collect();
    let app = serving(&answers);
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services:\n  shop: {{ clusters: [idc], compression: {{ types: [\"text/*\", \"application/*+json\"] }} }}\n\
         \u{20} vault: {{ clusters: [idc], data: sensitive, compression: {{}} }}\n\
         \u{20} plain: {{ clusters: [idc] }}\n\
         clusters: {{ idc: {{ kind: idc, accepts: [general, sensitive], endpoints: [\"{}\"] }} }}\n\
         routes:\n- {{ path: /secret, service: shop, data: sensitive }}\n- {{ path: /vault, service: vault }}\n\
         - {{ path: /off, service: shop, compression: {{ algorithms: [] }} }}\n- {{ path: /other, service: plain }}\n",
        app.address
    );
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    for (path, head, _) in &answers {
        let got = get_with(web, path, "Accept-Encoding: zstd, br, gzip\r\n");
        assert_eq!(got.body, long.as_bytes(), "{path} {}", got.head);
        assert_eq!(got.all("content-length"), ["5000"], "{path}");
        let coding = got.all("content-encoding");
        assert!(coding.is_empty() || *path == "/encoded", "{path} {coding:?}");
        let varies = *path == "/part";
        assert_eq!(!got.all("vary").is_empty(), varies, "{path} {head} {}", got.head);
    }
    // The cluster ignores the range: a part was requested, and nothing is encoded.
    let app = serving(&[("/", TEXT, long.clone()), ("/short", TEXT, "x".repeat(1023))]);
    let proxy = self::proxy(", compression: {}", app.address);
    let web = proxy.at("web");
    let ranged = get_with(web, "/", "Accept-Encoding: gzip\r\nRange: bytes=0-9\r\n");
    assert_eq!(
        (ranged.body.len(), ranged.all("vary")),
        (5_000, vec!["accept-encoding".to_owned()])
    );
    let kept = get_with(web, "/", "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n");
    assert_eq!(kept.body.len(), 5_000);
    let short = get_with(web, "/short", "Accept-Encoding: gzip\r\n");
    assert_eq!((short.body.len(), short.all("vary")), (1_023, Vec::new()));
    let long = get_with(web, "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(long.all("content-encoding"), ["gzip"], "the others are no accident");
}

#[test]
fn calls_of_grpc_services_are_never_encoded() {
    let app = serving(&[("/", TEXT, text(5_000))]);
    let proxy = proxy(", compression: {}, protocol: grpc", app.address);
    let web = proxy.at("web");
    let call = "Content-Type: application/grpc\r\nTE: trailers\r\nAccept-Encoding: gzip\r\n";
    let got = get_with(web, "/", call);
    assert!(got.all("content-encoding").is_empty(), "{}", got.head);
    let got = get_with(web, "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(got.all("content-encoding"), ["gzip"], "{}", got.head);
}

#[test]
fn edits_of_the_operator_hold_for_compressed_responses() {
    let tagged = "Content-Type: text/css\r\nETag: \"v1\"\r\nVary: Origin\r\n";
    let app = serving(&[("/", tagged, text(5_000))]);
    let edits = ", response_headers: { set: { etag: '\"own\"' }, remove: [vary] }";
    let proxy = proxy(&format!(", compression: {{}}{edits}"), app.address);
    let got = get_with(proxy.at("web"), "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(got.all("content-encoding"), ["gzip"]);
    assert_eq!(got.all("etag"), ["\"own\""], "{}", got.head);
    assert_eq!(got.all("vary"), ["accept-encoding"], "the response depends on it all the same");
}

#[test]
fn a_route_has_its_own_setting_and_a_reload_changes_it() {
    let app = serving(&[("/", TEXT, text(5_000)), ("/own", TEXT, text(500))]);
    let text = |setting: &str| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
             services: {{ shop: {{ clusters: [idc]{setting} }} }}\n\
             clusters: {{ idc: {{ kind: idc, endpoints: [\"{}\"] }} }}\n\
             routes:\n- {{ path: /own, service: shop, compression: {{ algorithms: [gzip, br], min_size: 100 }} }}\n",
            app.address
        )
    };
    let proxy = Proxy::start(&text(""));
    let web = proxy.at("web");
    let coding =
        |path: &str| get_with(web, path, "Accept-Encoding: br, gzip\r\n").all("content-encoding");
    assert_eq!(coding("/own"), ["gzip"]);
    assert!(coding("/").is_empty());
    let before = proxy.generation();
    proxy.rewrite(&text(", compression: { algorithms: [br] }"));
    eventually("the reload", || proxy.generation() > before);
    assert_eq!((coding("/own"), coding("/")), (vec!["gzip".to_owned()], vec!["br".to_owned()]));
}

/// A cluster that sends each part that it is told to.
fn told() -> (Cluster, Sender<String>) {
    let (tell, told): (Sender<String>, Receiver<String>) = channel();
    let told = Mutex::new(told);
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.head().is_some() {
            connection.send(format!("HTTP/1.1 200 OK\r\n{CHUNKED}\r\n").as_bytes());
            while let Ok(part) = told.lock().unwrap().recv() {
                connection.send(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes());
                if part.is_empty() {
                    break;
                }
            }
        }
    });
    (cluster, tell)
}

/// The bytes of a chunked body as they arrive.
struct Arriving {
    stream: TcpStream,
    wire: Vec<u8>,
    given: usize,
}

impl Arriving {
    fn ask(to: SocketAddr, lines: &str) -> Arriving {
        let mut stream = connect(to);
        write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut arriving = Arriving { stream, wire: Vec::new(), given: 0 };
        eventually("the head", || {
            arriving.read();
            arriving.wire.windows(4).any(|four| four == b"\r\n\r\n")
        });
        arriving
    }

    fn read(&mut self) {
        let mut space = [0; 65536];
        if let Ok(count) = self.stream.read(&mut space) {
            self.wire.extend_from_slice(&space[..count]);
        }
    }

    /// The bytes of the body that are new.
    fn more(&mut self) -> Vec<u8> {
        self.read();
        let body = split(&self.wire, false).body;
        let more = body[self.given..].to_vec();
        self.given = body.len();
        more
    }
}

#[test]
fn each_part_reaches_the_client_before_the_cluster_sends_the_next() {
    let Some(python) = decoders() else { return };
    for coding in CODINGS {
        let (cluster, tell) = told();
        let proxy = proxy(", compression: {}", cluster.address);
        let mut client = Arriving::ask(proxy.at("web"), &format!("Accept-Encoding: {coding}\r\n"));
        let mut decoder = Decoder::of(&python, coding);
        for part in ["first;", "second;", &text(50_000), "last;"] {
            tell.send(part.to_owned()).unwrap();
            eventually("the client has the part", || {
                decoder.write(&client.more());
                decoder.has(part)
            });
        }
        tell.send(String::new()).unwrap();
        eventually("the end", || {
            decoder.write(&client.more());
            client.wire.ends_with(b"\r\n0\r\n\r\n")
        });
        let (all, code) = decoder.end();
        assert_eq!((all.len(), code), (50_000 + 18, 0), "{coding}");
    }
}

#[test]
fn each_part_reaches_a_client_over_http_2() {
    let (cluster, tell) = told();
    let proxy = proxy(", compression: {}", cluster.address);
    let url = format!("http://{}/", proxy.at("web"));
    let mut client = Command::new("curl")
        .args(["-sN", "--max-time", "10", "--compressed", "--http2-prior-knowledge", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = client.stdout.take().unwrap();
    for part in ["first;", "second;", "last;"] {
        tell.send(part.to_owned()).unwrap();
        let mut got = vec![0; part.len()];
        output.read_exact(&mut got).unwrap();
        assert_eq!(got, part.as_bytes());
    }
    tell.send(String::new()).unwrap();
    assert!(client.wait().unwrap().success());
}

#[test]
fn a_cluster_that_is_never_silent_is_flushed_as_well() {
    let Some(python) = decoders() else { return };
    for coding in CODINGS {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let cluster = Cluster::scripted(move |mut connection| {
            while connection.head().is_some() {
                connection.send(format!("HTTP/1.1 200 OK\r\n{CHUNKED}\r\n").as_bytes());
                // Shorter than the silence that counts, and too little to fill a block.
                while !stopped.load(Ordering::SeqCst) {
                    connection.send(b"5\r\ntick;\r\n");
                    std::thread::sleep(Duration::from_millis(10));
                }
                connection.send(b"0\r\n\r\n");
            }
        });
        let proxy = proxy(", compression: {}", cluster.address);
        let mut client = Arriving::ask(proxy.at("web"), &format!("Accept-Encoding: {coding}\r\n"));
        let mut decoder = Decoder::of(&python, coding);
        eventually("the client has a part", || {
            decoder.write(&client.more());
            decoder.has("tick;tick;")
        });
        stop.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_body_that_was_cut_is_never_ended() {
    let Some(python) = decoders() else { return };
    let long = text(100_000);
    let body = long.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        while let Some(head) = connection.head() {
            let (lines, body) = match head.contains(" /known ") {
                true => (format!("{TEXT}Content-Length: 200000\r\n"), body.clone()),
                false => (CHUNKED.to_owned(), format!("{:x}\r\n{body}\r\n", body.len())),
            };
            connection.send(format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}").as_bytes());
            if !head.contains(" /never ") {
                return;
            }
        }
    });
    let proxy = proxy(", compression: {}", cluster.address);
    let (web, folder) = (proxy.at("web"), Folder::new());
    for coding in CODINGS {
        for path in ["/known", "/unknown"] {
            for version in ["1.0", "1.1"] {
                let lines = format!("Accept-Encoding: {coding}\r\n");
                let got = ask(web, &format!("GET {path} HTTP/{version}"), &lines);
                assert_eq!(got.field("content-encoding").as_deref(), Some(coding));
                assert!(!got.is_whole, "{coding} {path} {version}: {} bytes", got.body.len());
                let (part, code) = decode(&python, coding, &got.body);
                assert_eq!(code, 3, "the encoding has no end either");
                assert!(long.starts_with(&part));
            }
            let url = format!("http://{web}{path}");
            let words = ["--http2-prior-knowledge", "--compressed", "-o", "body", &url];
            let (said, ok) = curl(&folder, web, "a", &words);
            assert!(!ok, "curl took it for whole: {said}");
        }
    }
    proxy.counts("tidegate_aborted_total{listener=\"web\",by=\"cluster\"}", 18.0);
}

#[test]
fn beyond_the_bound_responses_pass_plain_and_are_counted() {
    let Some(python) = decoders() else { return };
    let (going, whole) = (Arc::new(AtomicBool::new(true)), text(20_000));
    let (goes, long) = (going.clone(), whole.clone());
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.head().is_some() {
            let first = &long[..10_000];
            let tagged = format!("ETag: \"v\"\r\n{CHUNKED}");
            connection.send(
                format!("HTTP/1.1 200 OK\r\n{tagged}\r\n{:x}\r\n{first}\r\n", first.len())
                    .as_bytes(),
            );
            while goes.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let second = &long[10_000..];
            connection.send(format!("{:x}\r\n{second}\r\n0\r\n\r\n", second.len()).as_bytes());
        }
    });
    let text = format!(
        "runtime: {{ workers: 1 }}\n{}",
        config(&[("idc", "idc", cluster.address)])
            .replace("{ clusters: [idc] }", "{ clusters: [idc], timeout: 60s, compression: {} }")
    );
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    // Thirty encoders of zstd hold 32 MiB.
    let open: Vec<Arriving> = (0..40)
        .map(|_| Arriving::ask(web, "Accept-Encoding: zstd\r\nConnection: close\r\n"))
        .collect();
    proxy.counts("tidegate_compression_passed_total", 10.0);
    proxy.counts("tidegate_compressed_responses_total", 30.0);
    going.store(false, Ordering::SeqCst);
    let mut encoded = 0;
    for mut client in open {
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = client.wire;
        rest.extend(read_all(&mut client.stream));
        let got = split(&rest, false);
        assert!(got.is_whole, "{}", got.head);
        assert_eq!(got.all("vary"), ["accept-encoding"], "{}", got.head);
        match got.all("content-encoding").is_empty() {
            true => {
                assert!(
                    got.body == whole.as_bytes() && got.all("etag") == ["\"v\""],
                    "{}",
                    got.head
                );
            }
            false => {
                encoded += 1;
                assert_eq!(got.all("etag"), ["W/\"v\""]);
                assert!(decode(&python, "zstd", &got.body) == (whole.clone(), 0));
            }
        }
    }
    assert_eq!(encoded, 30);
    // The bound is free again.
    let got = get_with(web, "/", "Accept-Encoding: zstd\r\n");
    assert_eq!(got.all("content-encoding"), ["zstd"]);
    proxy.counts("tidegate_compression_passed_total", 10.0);
}

#[test]
fn clients_that_leave_free_the_bound() {
    let (cluster, tell) = told();
    tell.send("part".to_owned()).unwrap();
    let text = format!(
        "runtime: {{ workers: 1 }}\n{}",
        config(&[("idc", "idc", cluster.address)])
            .replace("{ clusters: [idc] }", "{ clusters: [idc], compression: {} }")
    );
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    for _ in 0..3 {
        let open: Vec<Arriving> =
            (0..25).map(|_| Arriving::ask(web, "Accept-Encoding: br, zstd\r\n")).collect();
        drop(open);
        eventually("they are gone", || {
            proxy.metric("tidegate_connections{listener=\"web\"}") == 0.0
        });
    }
    proxy.counts("tidegate_compressed_responses_total", 75.0);
    assert_eq!(proxy.metric("tidegate_compression_passed_total"), 0.0);
}
