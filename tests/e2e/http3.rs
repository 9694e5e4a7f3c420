//! HTTP/3 from clients, by aioquic: only with the feature `http3`.

use super::support::*;
use super::tls::{config, curl, folder_with, pair};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// The client's report of its exchanges.
fn asked(python: &Path, folder: &Folder, to: SocketAddr, words: &[&str]) -> Vec<Value> {
    let output = Command::new(python)
        .current_dir(&folder.0)
        .arg(script("h3_client.py"))
        .args([&to.ip().to_string(), &to.port().to_string(), "ca.pem", "a.example"])
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn terms(more: &str) -> String {
    format!("{{ certificates: [{}], alpn: [h3, h2, http/1.1]{more} }}", pair("a"))
}

/// A cluster that returns the request that it received.
fn telling() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some((head, body)) = connection.request() {
            let first = head.lines().next().unwrap_or_default().to_owned();
            connection.reply(&format!("{first} with {} bytes", body.len()));
        }
    })
}

#[test]
fn http3_requests_are_served_alike_and_advertised() {
    let Some(python) = python("aioquic") else { return };
    let (folder, app) = (folder_with(&[("a", &["a.example"])]), telling());
    let proxy = Proxy::start(&config(&folder, &terms(""), app.address));
    let web = proxy.at("web");
    let answers = asked(&python, &folder, web, &["get", "/x?y=1", "3"]);
    assert_eq!(answers.len(), 3);
    for answer in &answers {
        assert_eq!(answer["status"], 200, "{answer}");
        assert_eq!(answer["body"], "GET /x?y=1 HTTP/1.1 with 0 bytes", "a GET has no body");
    }
    let side_by_side = asked(&python, &folder, web, &["many", "/", "60"]);
    assert!(side_by_side.iter().all(|answer| answer["status"] == 200));
    let line: Value = serde_json::from_str(&proxy.says("\"protocol\":\"HTTP/3.0\"")).unwrap();
    assert_eq!(
        (line["tls"].as_str(), line["client"].as_str()),
        (Some("TLSv1.3"), Some("127.0.0.1"))
    );
    // HTTP/2 and HTTP/1.1 responses advertise HTTP/3.
    for version in ["--http2", "--http1.1"] {
        let url = "https://a.example/";
        let (text, ok) = curl(&folder, web, "a.example", &["-D-", version, url]);
        let wanted = format!("alt-svc: h3=\":{}\"; ma=86400", web.port());
        assert!(ok && text.to_ascii_lowercase().contains(&wanted), "{text}");
    }
}

#[test]
fn bodies_pass_and_must_have_their_stated_length() {
    let Some(python) = python("aioquic") else { return };
    let (folder, app) = (folder_with(&[("a", &["a.example"])]), telling());
    let text = config(&folder, &terms(""), app.address)
        .replace("service: shop, tls", "service: shop, limits: { body: 300000 }, tls");
    let proxy = Proxy::start(&text);
    let post = |size: &str, length: &str| {
        asked(&python, &folder, proxy.at("web"), &["post", "/", size, length]).remove(0)
    };
    for length in ["200000", "-"] {
        let answer = post("200000", length);
        assert_eq!(answer["body"], "POST / HTTP/1.1 with 200000 bytes", "{length}: {answer}");
    }
    assert_eq!(post("5", "-")["body"], "POST / HTTP/1.1 with 5 bytes");
    assert_eq!(post("0", "-")["status"], 200);
    let before = app.seen().len();
    // A body with too few or too many bytes is not accepted.
    for (size, length) in [("3", "5"), ("9", "5")] {
        let answer = post(size, length);
        assert_eq!(answer["status"], 400, "{size} of {length}: {answer}");
    }
    assert!(!app.seen()[before..].contains("xxxxxxxxx"), "surplus bytes reached the cluster");
    // Last: the cluster may still read the bytes of a body that was cut off.
    for length in ["400000", "-"] {
        let answer = post("400000", length);
        assert_eq!(answer["status"], 413, "{length}: {answer}");
    }
}

#[test]
fn a_request_that_is_cut_is_not_taken_for_a_whole_one() {
    let Some(python) = python("aioquic") else { return };
    let (folder, app) = (folder_with(&[("a", &["a.example"])]), telling());
    let proxy = Proxy::start(&config(&folder, &terms(""), app.address));
    let cut = asked(&python, &folder, proxy.at("web"), &["cut", "/"]).remove(0);
    assert_ne!(cut["status"], 200, "{cut}");
    assert!(!app.seen().contains("0\r\n\r\n"), "the cluster saw no end: {}", app.seen());
    let said = asked(&python, &folder, proxy.at("web"), &["waiting", "/", "te=gzip"]);
    assert_eq!(said[0]["reset"], 0x10e, "{said:?}");
    assert_eq!(said[1]["status"], 200, "the connection goes on: {said:?}");
    assert!(!proxy.log().iter().any(|line| line.contains("lib.rs:391")), "{:?}", proxy.log());
}

#[test]
fn malformed_and_oversized_heads_are_refused_before_a_cluster_is_asked() {
    let Some(python) = python("aioquic") else { return };
    let (folder, app) = (folder_with(&[("a", &["a.example"])]), Cluster::named("app"));
    let proxy = Proxy::start(&config(&folder, &terms(""), app.address));
    let ask = |words: &[&str]| asked(&python, &folder, proxy.at("web"), words).remove(0);
    assert_eq!(ask(&["fields", "/", "120", "10"])["status"], 431);
    assert_eq!(ask(&["fields", "/", "90", "400"])["status"], 431);
    for field in ["transfer-encoding=chunked", "connection=close", "te=gzip", "host=b.example"] {
        let answer = ask(&["head", "/", field]);
        assert_eq!((&answer["status"], &answer["reset"]), (&0.into(), &0x10e.into()), "{answer}");
    }
    for (path, status) in [("/a%2fb", 400), ("/%00", 400)] {
        assert_eq!(ask(&["get", path, "1"])["status"], status, "{path}");
    }
    assert!(app.seen().is_empty(), "{}", app.seen());
    assert_eq!(ask(&["head", "/", "te=trailers"])["status"], 200);
}

#[test]
fn endless_cancelled_requests_end_the_connection() {
    let Some(python) = python("aioquic") else { return };
    let (folder, app) = (folder_with(&[("a", &["a.example"])]), Cluster::named("app"));
    let proxy = Proxy::start(&config(&folder, &terms(""), app.address));
    let said = asked(&python, &folder, proxy.at("web"), &["resets", "/", "600"]);
    assert_eq!(said[0]["closed"], 0x107, "excessive load: {said:?}");
    let after = asked(&python, &folder, proxy.at("web"), &["get", "/", "1"]);
    assert_eq!(after[0]["status"], 200, "others are served");
}

#[test]
fn a_truncated_response_is_reset() {
    let Some(python) = python("aioquic") else { return };
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            match head.contains("/cut") {
                true => {
                    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
                    return;
                }
                false => connection.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n",
                ),
            }
        }
    });
    let proxy = Proxy::start(&config(&folder, &terms(""), app.address));
    let ask = |path: &str| asked(&python, &folder, proxy.at("web"), &["get", path, "1"]).remove(0);
    let cut = ask("/cut");
    // The reset may overtake the head.
    assert_eq!(cut["reset"], 0x102, "{cut}");
    let whole = ask("/");
    assert_eq!((&whole["body"], &whole["reset"]), (&"hello".into(), &Value::Null), "{whole}");
    assert_eq!(whole["trailers"]["x-sum"], "5", "{whole}");
}

#[test]
fn client_certificates_are_required_where_configured() {
    let Some(python) = python("aioquic") else { return };
    let folder = folder_with(&[("a", &["a.example"]), ("me", &["me"])]);
    let app = Cluster::named("app");
    let proxy = Proxy::start(&config(&folder, &terms(", client_ca: AT/ca.pem"), app.address));
    let ask = |words: &[&str]| asked(&python, &folder, proxy.at("web"), words).remove(0);
    let refused = ask(&["get", "/", "1"]);
    assert_ne!(refused["status"], 200, "{refused}");
    assert_eq!(ask(&["get", "/", "1", "--cert", "me"])["status"], 200);
    let failures = "tidegate_tls_handshakes_total{listener=\"web\",result=\"client_certificate\"}";
    proxy.counts(failures, 1.0);
}

#[test]
fn an_idle_connection_is_closed_and_one_outlives_a_reload() {
    let Some(python) = python("aioquic") else { return };
    let (folder, app) = (folder_with(&[("a", &["a.example"])]), telling());
    let text = config(&folder, &terms(""), app.address)
        .replace("127.0.0.1:0", &free().to_string())
        .replace("service: shop, tls", "service: shop, timeouts: { idle: 300ms }, tls");
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    let said = asked(&python, &folder, web, &["wait", "/"]);
    assert_eq!(said[1]["closed"], 0x100, "without a fault: {said:?}");
    proxy.rewrite(&format!("{text}# 2\n"));
    eventually("the reload", || proxy.generation() == 2);
    assert_eq!(asked(&python, &folder, web, &["get", "/", "2"])[1]["status"], 200);
    // A reload turns HTTP/3 off; the listener stays.
    proxy.rewrite(&text.replace("h3, h2", "h2"));
    eventually("the reload", || proxy.generation() == 3);
    assert!(asked(&python, &folder, web, &["get", "/", "1"])[0].get("status").is_none());
    assert!(curl(&folder, web, "a.example", &["https://a.example/"]).1);
}

#[test]
fn a_leaving_client_cancels_its_exchange() {
    let Some(python) = python("aioquic") else { return };
    let folder = folder_with(&[("a", &["a.example"])]);
    let app = Cluster::scripted(|mut connection| {
        connection.request();
        connection.take(1);
    });
    let proxy = Proxy::start(&config(&folder, &terms(""), app.address));
    asked(&python, &folder, proxy.at("web"), &["leave", "/slow"]);
    eventually("nothing is in flight", || proxy.cluster("idc")["in_flight"] == 0);
    eventually("it is closed", || proxy.metric("tidegate_connections{listener=\"web\"}") == 0.0);
}
