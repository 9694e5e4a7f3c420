//! HTTP/1.1 semantics that clients and clusters expect of a proxy.

use super::support::*;
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn requests_are_written_anew_and_hop_by_hop_fields_stay_behind() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    client.send(
        b"GET /x/../y?q=1 HTTP/1.1\r\nHost: shop.example\r\nConnection: x-gone\r\nX-Gone: 1\r\n\
          X-Forwarded-For: 9.9.9.9\r\nTidegate-Via: z\r\nX-Kept: 1\r\n\r\n",
    );
    assert_eq!(client.answer().body, "a");
    let seen = cluster.seen().to_ascii_lowercase();
    assert!(seen.starts_with("get /y?q=1 http/1.1\r\nhost: shop.example\r\n"), "{seen}");
    assert!(
        seen.contains("x-kept: 1") && seen.contains("x-forwarded-for: 127.0.0.1\r\n"),
        "{seen}"
    );
    for gone in ["x-gone", "tidegate-via", "9.9.9.9"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(seen.contains("x-request-id: ") && seen.contains("traceparent: 00-"), "{seen}");
}

#[test]
fn a_connection_serves_many_requests_over_one_upstream_connection() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    for number in 0..200 {
        assert_eq!(client.get(&format!("/{number}")).status, 200);
    }
    assert_eq!(cluster.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            connection.reply(&path);
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    let all: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all.as_bytes());
    for number in 0..50 {
        assert_eq!(client.answer().body, format!("/{number}"));
    }
}

#[test]
fn bodies_pass_both_ways_whatever_their_framing() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some((head, body)) = connection.request() {
            let chunked = head.contains("/chunked");
            if chunked {
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in body.chunks(7_000) {
                    connection.send(format!("{:x}\r\n", piece.len()).as_bytes());
                    connection.send(piece);
                    connection.send(b"\r\n");
                }
                connection.send(b"0\r\nX-Sum: 7\r\n\r\n");
            } else {
                connection.reply(&String::from_utf8(body).unwrap());
            }
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    for size in [0, 1, 5, 8_191, 8_193, 32_768, 100_000, 1_000_000] {
        let body = "0123456789abcdef".repeat(size / 16 + 1)[..size].to_owned();
        for path in ["/plain", "/chunked"] {
            let counted = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n{body}"
            );
            let answer = ask_raw(proxy.at("web"), counted.as_bytes());
            assert_eq!((answer.status, answer.body == body), (200, true), "{path} {size}");
            let mut chunks = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            for (number, piece) in body.as_bytes().chunks(999).enumerate() {
                let extension = if number < 50 { ";ext=1" } else { "" };
                chunks.push_str(&format!("{:X}{extension}\r\n", piece.len()));
                chunks.push_str(std::str::from_utf8(piece).unwrap());
                chunks.push_str("\r\n");
            }
            chunks.push_str("0\r\n\r\n");
            let answer = ask_raw(proxy.at("web"), chunks.as_bytes());
            assert_eq!((answer.status, answer.body == body), (200, true), "chunked {path} {size}");
        }
    }
    assert!(!cluster.seen().contains("ext=1"), "extensions are never forwarded");
}

#[test]
fn trailers_reach_the_client_and_forbidden_ones_do_not() {
    let cluster = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            connection.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n\
                  0\r\nX-Sum: 7\r\nContent-Length: 9\r\nHost: evil\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut stream = connect(proxy.at("web"));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let text = String::from_utf8(read_all(&mut stream)).unwrap();
    assert!(text.ends_with("2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"), "{text}");
}

#[test]
fn responses_without_bodies_keep_the_connection_in_step() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            match head.split(' ').nth(1).unwrap() {
                "/head" => connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
                "/204" => connection.send(b"HTTP/1.1 204 No Content\r\n\r\n"),
                "/304" => {
                    connection.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
                }
                _ => connection.reply("body"),
            }
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    let read_head = |client: &mut Keeping, request: &str| {
        client.send(request.as_bytes());
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        parse(&text)
    };
    let head = read_head(&mut client, "HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.status, head.header("content-length").as_deref()), (200, Some("5")));
    assert_eq!(read_head(&mut client, "GET /204 HTTP/1.1\r\nHost: a\r\n\r\n").status, 204);
    let head = read_head(&mut client, "GET /304 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.status, head.header("content-length").as_deref()), (304, Some("5")));
    assert_eq!(client.get("/").body, "body");
    assert_eq!(cluster.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn an_http10_client_gets_no_chunks_and_keeps_its_connection_only_by_asking() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/chunked") {
                connection.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                );
            } else {
                connection.reply("ok");
            }
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let answer =
        ask_raw(proxy.at("web"), b"GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.header("transfer-encoding"), None);
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.answer().header("connection").as_deref(), Some("keep-alive"));
    }
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().body, "ok");
    assert!(client.try_answer().is_none(), "the connection is closed");
}

#[test]
fn expect_100_continue_is_relayed_and_a_final_answer_without_it_closes() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some(head) = connection.head() {
            if head.contains("/refused") {
                connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
                return;
            }
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n");
            let body = connection.take(5).unwrap();
            connection.reply(std::str::from_utf8(&body).unwrap());
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let request = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };
    let mut client = Keeping::new(proxy.at("web"));
    client.send(request("/taken").as_bytes());
    assert_eq!(client.answer().status, 100);
    client.send(b"hello");
    assert_eq!(client.answer().body, "hello");
    client.send(request("/refused").as_bytes());
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection").as_deref()), (403, Some("close")));
    assert!(client.try_answer().is_none());
    let other = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 1\r\n\r\n";
    let answer = ask_raw(proxy.at("web"), other);
    assert_eq!((answer.status, answer.refusal().as_str()), (417, "expectation_failed"));
}

#[test]
fn interim_responses_pass() {
    let cluster = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
            connection.reply("ok");
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.answer();
    assert_eq!((hints.status, hints.header("link").as_deref()), (103, Some("</a.css>")));
    assert_eq!(client.answer().body, "ok");
}

#[test]
fn a_response_streams_before_it_is_complete() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let cluster = Cluster::scripted(move |mut connection| {
        connection.request();
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        connection.send(b"6\r\nsecond\r\n0\r\n\r\n");
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut stream = connect(proxy.at("web"));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"first\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    go.send(()).unwrap();
    assert!(read_all(&mut stream).ends_with(b"second\r\n0\r\n\r\n"));
}

#[test]
fn a_request_streams_before_it_is_complete() {
    let (sender, receiver) = std::sync::mpsc::channel::<Vec<u8>>();
    let cluster = Cluster::scripted(move |mut connection| {
        connection.head();
        sender.send(connection.take(5).unwrap()).unwrap();
        sender.send(connection.take(5).unwrap()).unwrap();
        connection.reply("ok");
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst");
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), b"first");
    client.send(b"later");
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), b"later");
    assert_eq!(client.answer().body, "ok");
}

#[test]
fn an_early_response_reaches_a_client_that_is_still_sending() {
    let cluster = Cluster::scripted(|mut connection| {
        connection.head();
        connection
            .send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome");
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (413, "big"));
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
}

#[test]
fn a_websocket_becomes_a_tunnel_both_ways_bytes_read_ahead_included() {
    let cluster = Cluster::scripted(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
        connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        while let Some(byte) = connection.take(1) {
            connection.send(&[byte[0].to_ascii_uppercase()]);
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    client.send(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Key: x\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.status, 101);
    client.send(b"abc");
    let mut echoed = client.rest_of(8);
    echoed.truncate(8);
    assert_eq!(echoed, b"helloABC");
    eventually("the flow is counted", || proxy.cluster("a")["in_flight"] == 1);
    drop(client);
    eventually("the flow is counted out", || proxy.cluster("a")["in_flight"] == 0);
}

#[test]
fn a_client_that_leaves_cancels_its_upstream_work() {
    let (left, leaves) = std::sync::mpsc::channel::<Duration>();
    let cluster = Cluster::scripted(move |mut connection| {
        connection.request();
        let asked = std::time::Instant::now();
        // Returns when the proxy closes the connection.
        assert!(connection.take(1).is_none());
        left.send(asked.elapsed()).unwrap();
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = connect(proxy.at("web"));
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the request is under way", || cluster.seen().contains("GET /"));
    drop(client);
    assert!(leaves.recv_timeout(PATIENCE).unwrap() < Duration::from_secs(2));
    eventually("nothing is in flight", || proxy.cluster("a")["in_flight"] == 0);
}

#[test]
fn routes_split_redirect_respond_rewrite_and_edit() {
    let (a, b) = (Cluster::named("a"), Cluster::named("b"));
    let proxy = Proxy::start(&format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http }} }}\n\
         services: {{ a: {{ clusters: [a] }}, b: {{ clusters: [b] }} }}\n\
         clusters: {{ a: {{ endpoints: [\"{}\"] }}, b: {{ endpoints: [\"{}\"] }} }}\n\
         routes:\n\
         - {{ path: /old, redirect: {{ to: \"https://{{host}}/new?{{query}}\", status: 308 }} }}\n\
         - {{ path: /fixed, respond: {{ status: 418, body: teapot }} }}\n\
         - {{ path_prefix: /strip, service: a, rewrite: {{ strip_prefix: /strip }},\n\
             request_headers: {{ set: {{ x-site: here }}, remove: [x-secret] }},\n\
             response_headers: {{ add: {{ x-by: tidegate }} }} }}\n\
         - {{ path_prefix: /split, split: {{ a: 75, b: 25 }} }}\n\
         - {{ path_prefix: /post, methods: [POST], service: b }}\n\
         - {{ path_prefix: /canary, service: a }}\n\
         - {{ path_prefix: /canary, headers: {{ x-canary: \"1\" }}, service: b }}\n",
        a.address, b.address
    ));
    let web = proxy.at("web");
    let redirect = get(web, "/old?a=1");
    assert_eq!(
        (redirect.status, redirect.header("location").as_deref()),
        (308, Some("https://shop.example/new?a=1"))
    );
    let fixed = get(web, "/fixed");
    assert_eq!((fixed.status, fixed.body.as_str()), (418, "teapot"));
    let request =
        b"GET /strip/deep?x=1 HTTP/1.1\r\nHost: a\r\nX-Secret: s\r\nConnection: close\r\n\r\n";
    assert_eq!(ask_raw(web, request).header("x-by").as_deref(), Some("tidegate"));
    let seen = a.seen();
    assert!(
        seen.contains("GET /deep?x=1 ")
            && seen.contains("x-site: here")
            && !seen.contains("X-Secret")
    );
    let to_b = (0..40).filter(|_| get(web, "/split").body == "b").count();
    assert!((5..=15).contains(&to_b), "{to_b} of 40");
    assert_eq!(get(web, "/post").refusal(), "method_not_allowed");
    assert_eq!(get(web, "/nowhere").refusal(), "no_route");
    let canary = b"GET /canary HTTP/1.1\r\nHost: a\r\nX-Canary: 1\r\nConnection: close\r\n\r\n";
    assert_eq!((ask_raw(web, canary).body.as_str(), get(web, "/canary").body.as_str()), ("b", "a"));
}

#[test]
fn the_access_log_has_each_exchange_once_without_raw_bytes() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let request = b"GET /%0d%0a%1b HTTP/1.1\r\nHost: a\r\nUser-Agent: x\x80\t\"y\r\nConnection: close\r\n\r\n";
    assert_eq!(ask_raw(proxy.at("web"), request).status, 200);
    let line: serde_json::Value = serde_json::from_str(&proxy.says("\"duration_ms\"")).unwrap();
    assert_eq!((line["status"].as_u64(), line["cluster"].as_str()), (Some(200), Some("a")));
    assert_eq!(
        (line["path"].as_str(), line["reason"].as_str()),
        (Some("/%0D%0A%1B"), Some("only"))
    );
}

#[test]
fn a_trusted_client_gets_the_decision() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let clusters = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]);
    let proxy = Proxy::start(
        &clusters.replace("service: shop }", "service: shop, trusted_proxies: [127.0.0.1] }"),
    );
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nTidegate-Explain: 1\r\nConnection: close\r\n\r\n";
    let decision = ask_raw(proxy.at("web"), request).header("tidegate-decision").unwrap();
    let expected = format!("cluster=idc; endpoint={}; reason=nearest; rejected=\"\"", idc.address);
    assert_eq!(decision, expected);
}

#[test]
fn a_cluster_that_ignores_an_expectation_gets_the_body_after_a_while() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some((_, body)) = connection.request() {
            connection.reply(std::str::from_utf8(&body).unwrap());
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let request =
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = Keeping::new(proxy.at("web"));
    client.send(request);
    assert_eq!(client.answer().body, "hello");
}

#[test]
fn an_optional_upgrade_is_ignored_and_costs_no_retry() {
    let (good, dead) = (
        Cluster::named("good"),
        Cluster::scripted(|mut connection| {
            connection.head();
        }),
    );
    let text = config(&[("a", "idc", good.address)]);
    let endpoint = format!("\"{}\"", good.address);
    let both = text.replace(&endpoint, &format!("\"{}\", {endpoint}", dead.address));
    let ask = |proxy: &Proxy, offer: &str, body: &str| {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head = format!(
            "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, close\r\nUpgrade: {offer}\r\n{length}\r\n{body}"
        );
        ask_raw(proxy.at("web"), head.as_bytes()).status
    };
    let proxy = Proxy::start(&text);
    for (offer, body) in
        [("TLS/1.2", ""), ("TLS/1.2, TLS/1.1", ""), ("TLS/1.2", "abc"), ("websocket, x", "")]
    {
        assert_eq!(ask(&proxy, offer, body), 200, "{offer}");
    }
    assert_eq!(ask(&proxy, "websocket", "abc"), 400);
    assert!(!good.seen().to_lowercase().contains("upgrade"), "{}", good.seen());
    let listed = text.replace("service: shop }", "service: shop, upgrades: [SPDY/3.1] }");
    let proxy = Proxy::start(&listed);
    assert_eq!(ask(&proxy, "SPDY/3.1", ""), 200);
    assert!(good.seen().contains("upgrade: SPDY/3.1"), "{}", good.seen());
    let proxy = Proxy::start(&both);
    for _ in 0..6 {
        assert_eq!(ask(&proxy, "TLS/1.2", ""), 200, "what is ignored takes no retry away");
    }
}

#[test]
fn edits_hold_for_trailers_and_for_our_own_answers() {
    let cluster = Cluster::scripted(|mut connection| {
        while connection.head().is_some() {
            connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-secret: a\r\nx-sum: b\r\n\r\n");
        }
    });
    let text = config(&[("a", "idc", cluster.address)])
        + "routes:\n\
           - { path_prefix: /, service: shop, request_headers: { remove: [x-internal], set: { x-site: edge } }, \
               response_headers: { remove: [x-secret], set: { x-frame-options: DENY } } }\n\
           - { path: /moved, redirect: { to: \"https://{host}/new?{query}\", status: 301 }, response_headers: { set: { x-frame-options: DENY } } }\n\
           - { path: /told, respond: { body: hi }, response_headers: { set: { cache-control: max-age=60 } } }\n\
           - { path: /kept, service: shop, allow: [192.0.2.0/24], response_headers: { set: { x-frame-options: DENY } } }\n";
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    let mut client = connect(web);
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-internal: root\r\nx-site: forged\r\nx-user: a\r\n\r\n")
        .unwrap();
    let answer = String::from_utf8_lossy(&read_all(&mut client)).into_owned();
    assert!(answer.contains("x-frame-options: DENY\r\n"), "{answer}");
    assert!(answer.ends_with("0\r\nx-sum: b\r\n\r\n"), "{answer}");
    eventually("the request's end", || cluster.seen().contains("x-user: a"));
    let seen = cluster.seen();
    assert!(!seen.contains("root") && !seen.contains("forged"), "{seen}");
    let moved = get(web, "/moved");
    assert_eq!(moved.header("location").as_deref(), Some("https://shop.example/new"));
    for (path, status, caches) in
        [("/moved", 301, "no-store"), ("/told", 200, "max-age=60"), ("/kept", 403, "no-store")]
    {
        let answer = get(web, path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("cache-control").as_deref(), Some(caches), "{path}");
        let framed = answer.header("x-frame-options").is_some();
        assert_eq!(framed, path != "/told", "{path}");
    }
}

#[test]
fn max_forwards_is_decremented_and_the_last_hop_answers() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&text);
    let ask = |proxy: &Proxy, method: &str, hops: &str| {
        let head = format!(
            "{method} /p HTTP/1.1\r\nHost: shop\r\nVia: 1.0 front\r\nCookie: secret\r\nMax-Forwards: {hops}\r\nConnection: close\r\n\r\n"
        );
        ask_raw(proxy.at("web"), head.as_bytes())
    };
    let options = ask(&proxy, "OPTIONS", "0");
    assert_eq!((options.status, options.header("allow").is_some()), (200, true));
    let trace = ask(&proxy, "TRACE", "0");
    assert_eq!(trace.header("content-type").as_deref(), Some("message/http"));
    let received = trace.body;
    assert!(
        received.starts_with("TRACE /p HTTP/1.1\r\n") && received.contains("Via: 1.0 front"),
        "{received}"
    );
    assert!(!received.contains("secret"), "{received}");
    assert!(!cluster.seen().contains("/p"), "the last hop forwards nothing");
    assert_eq!(ask(&proxy, "OPTIONS", "5").status, 200);
    assert_eq!(ask(&proxy, "GET", "0").status, 200);
    let seen = cluster.seen();
    assert!(seen.contains("max-forwards: 4\r\n") && seen.contains("Max-Forwards: 0\r\n"), "{seen}");
    assert!(
        seen.contains("Via: 1.0 front\r\n") && seen.contains("via: 1.1 tidegate\r\n"),
        "{seen}"
    );
    let quiet = Proxy::start(&text.replace("service: shop }", "service: shop, via: off }"));
    assert_eq!(ask(&quiet, "GET", "0").status, 200);
    assert_eq!(cluster.seen().matches("tidegate\r\n").count(), 2);
}

#[test]
fn a_client_that_expects_100_does_not_wait_for_a_silent_cluster() {
    // Reads head and body, and only then answers.
    let cluster = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            connection.reply("done");
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
    // Half a second: more than the proxy waits, less than a client does.
    let soon = Duration::from_millis(500);
    for body_at_once in [false, true] {
        let since = std::time::Instant::now();
        let mut client = connect(proxy.at("web"));
        client.write_all(head.as_bytes()).unwrap();
        if !body_at_once {
            let mut received = [0; 25];
            client.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        client.write_all(b"hello").unwrap();
        let answer = String::from_utf8_lossy(&read_all(&mut client)).into_owned();
        assert!(answer.contains("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        assert!(since.elapsed() < soon, "at once: {body_at_once}: {:?}", since.elapsed());
    }
}

#[test]
fn a_malformed_response_is_reported_as_such() {
    let cluster = Cluster::scripted(|mut connection| {
        while connection.head().is_some() {
            connection.send(b"HTTP/1.1 200 OK\r\nX-Bad : b\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let text = config(&[("a", "idc", cluster.address)]).replace("interval: 100ms", "interval: 60s");
    let proxy = Proxy::start(&text);
    let answer = get(proxy.at("web"), "/");
    assert_eq!((answer.status, answer.refusal().as_str()), (502, "upstream_malformed"));
    let said = proxy.says(&format!("response of endpoint {} rejected", cluster.address));
    let endpoint = cluster.address.to_string();
    for part in ["space before a colon", "X-Bad", endpoint.as_str()] {
        assert!(said.contains(part), "{part} in {said}");
    }
    eventually("its cause is known", || {
        proxy.cluster("a")["endpoints"][0]["last_error"].to_string().contains("protocol")
    });
}

#[test]
fn long_heads_pass_up_to_their_limits() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some(head) = connection.head() {
            let size: usize =
                head.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap_or(1);
            let long = "b".repeat(size);
            connection.send(
                format!("HTTP/1.1 200 OK\r\nX-Long: {long}\r\ncontent-length: 2\r\n\r\nhi")
                    .as_bytes(),
            );
        }
    });
    let text = config(&[("a", "idc", cluster.address)]);
    let wide = "service: shop, limits: { head: 256KiB, response_head: 200KiB } }";
    let (usual, wide) = (Proxy::start(&text), Proxy::start(&text.replace("service: shop }", wide)));
    for (proxy, size, status) in [
        (&usual, 20_000, 200),
        (&usual, 60_000, 200),
        (&usual, 66_000, 502),
        (&wide, 66_000, 200),
        (&wide, 190_000, 200),
        (&wide, 210_000, 502),
    ] {
        let answer = get(proxy.at("web"), &format!("/{size}"));
        assert_eq!(answer.status, status, "{size}");
        if status == 200 {
            assert_eq!(
                (answer.header("x-long").unwrap().len(), answer.body.as_str()),
                (size, "hi")
            );
        }
    }
    for (proxy, size, status) in
        [(&usual, 20_000, 431), (&wide, 20_000, 200), (&wide, 250_000, 200), (&wide, 270_000, 431)]
    {
        let head = format!(
            "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Own: {}\r\n\r\n",
            "c".repeat(size)
        );
        assert_eq!(ask_raw(proxy.at("web"), head.as_bytes()).status, status, "{size}");
    }
}
