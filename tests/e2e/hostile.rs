//! Malformed requests and hostile clusters, judged on both sides: the client gets a refusal, and no byte reaches a
//! cluster.

use super::support::*;
use std::io::Write;

/// Complete requests that must be refused, with their status.
fn malformed() -> Vec<(Vec<u8>, u16)> {
    let mut all: Vec<(String, u16)> = Vec::new();
    let mut add = |text: &str, status: u16| all.push((text.to_owned(), status));
    // Request lines.
    for line in [
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET / HTTP/1.",
        "GET / HTTP/1.10",
        "GET /a b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /%00 HTTP/1.1",
        "GET /%2f HTTP/1.1",
        "GET /%5C HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET /% HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /a\\b HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET http://a:99999/ HTTP/1.1",
        "/ GET HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "PRI * HTTP/2.0",
        "GET /x/..;/internal HTTP/1.1",
        "GET /x/%2e%2e;/internal HTTP/1.1",
        "GET /?q#f HTTP/1.1",
    ] {
        add(&format!("{line}\r\nHost: a\r\n\r\n"), 400);
    }
    add("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405);
    // Hosts.
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a:0\r\n",
        "Host: a:65536\r\n",
        "Host: u@a\r\n",
        "Host: a/b\r\n",
        "Host: [::1\r\n",
        "Host: a,b\r\n",
        "Host: a\x0bb\r\n",
        "Host : a\r\n",
    ] {
        add(&format!("GET / HTTP/1.1\r\n{hosts}\r\n"), 400);
    }
    // Framing.
    for (fields, status) in [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1", 400),
        ("Content-Length: +1", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: 0x1", 400),
        ("Content-Length: 1 1", 400),
        ("Content-Length: 1,1", 400),
        ("Content-Length:", 400),
        ("Content-Length: 1\r\nContent-Length: 2", 400),
        ("Content-Length: 1_0", 400),
        ("Content-Length: 18446744073709551616", 400),
        ("Content-Length: a", 400),
        ("Content_Length: 1", 400),
        ("Transfer_Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked, chunked", 400),
        ("Transfer-Encoding: ", 400),
        ("Transfer-Encoding: \"chunked\"", 400),
        ("Transfer-Encoding: chunked;q=1", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: gzip", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: identity", 400),
        ("Transfer-Encoding\t: chunked", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding: chun\x0bked", 400),
    ] {
        add(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n1"), status);
    }
    add("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    // Fields.
    for field in [
        "A : b",
        "A\t: b",
        ": b",
        "A",
        "A b: c",
        " A: b",
        "\tA: b",
        "A: b\r\n c",
        "A: b\r\n\tc",
        "A: \0",
        "A: b\x01",
        "A: b\x7f",
        "A: b\rc",
        "A\r: b",
        "A(: b",
        "A/b: c",
        "A\u{e9}: b",
        "\"A\": b",
        "A_b: c",
        "A: b\r\n \r\nC: d",
        "A[0]: b",
        "A{: b",
        "A;b: c",
    ] {
        add(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"), 400);
    }
    // Line ends.
    for text in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        add(text, 400);
    }
    // Upgrades, expectations, limits.
    add(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n1",
        400,
    );
    add("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417);
    add(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8_300)), 414);
    add(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(17_000)), 431);
    add(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(101)), 431);
    let mut bytes: Vec<(Vec<u8>, u16)> =
        all.into_iter().map(|(text, status)| (text.into_bytes(), status)).collect();
    // Every control byte at every position of a head where parsers may differ.
    for control in (0_u8..0x20).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        for place in [
            "GET /~ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA~: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: ~b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a~\r\n\r\n",
            "G~T / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let text = place.bytes().map(|byte| if byte == b'~' { control } else { byte });
            bytes.push((text.collect(), 400));
        }
    }
    bytes
}

fn rig() -> (Cluster, Proxy) {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    (cluster, proxy)
}

/// Nothing was forwarded: the cluster received only the rig's own requests.
#[track_caller]
fn nothing_forwarded(cluster: &Cluster, about: &[u8]) {
    let seen = cluster.seen();
    assert!(seen.is_empty(), "{:?} was forwarded as {seen:?}", String::from_utf8_lossy(about));
}

#[test]
fn malformed_requests_are_refused_and_nothing_is_forwarded() {
    let (cluster, proxy) = rig();
    let all = malformed();
    assert!(all.len() > 230, "{}", all.len());
    for (request, status) in &all {
        let excerpt = String::from_utf8_lossy(request);
        let mut client = Keeping::new(proxy.at("web"));
        drop(client.stream.write_all(request));
        let answer = client.answer();
        assert_eq!(answer.status, *status, "{excerpt:?}");
        assert_eq!(answer.header("connection").as_deref(), Some("close"), "{excerpt:?}");
        assert!(!answer.refusal().is_empty(), "{excerpt:?}");
    }
    nothing_forwarded(&cluster, b"something");
    let counted = proxy.metric("tidegate_refusals_total");
    assert_eq!(counted as usize, all.len());
}

#[test]
fn the_verdict_does_not_depend_on_segments() {
    let (cluster, proxy) = rig();
    for (request, status) in
        malformed().iter().filter(|(request, _)| request.len() < 120).step_by(7)
    {
        for cut in 1..request.len() {
            let mut stream = connect(proxy.at("web"));
            drop(stream.write_all(&request[..cut]));
            // With no delay each write is a segment of its own.
            drop(stream.write_all(&request[cut..]));
            let answer = parse(&read_all(&mut stream));
            let excerpt = String::from_utf8_lossy(request);
            assert_eq!(answer.status, *status, "{excerpt:?} cut at {cut}");
        }
    }
    nothing_forwarded(&cluster, b"something");
}

#[test]
fn the_verdict_does_not_depend_on_the_place_in_a_connection() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    for (request, status) in malformed().iter().step_by(5) {
        let mut client = Keeping::new(proxy.at("web"));
        for _ in 0..3 {
            assert_eq!(client.get("/fine").status, 200);
        }
        drop(client.stream.write_all(request));
        let excerpt = String::from_utf8_lossy(request);
        assert_eq!(client.answer().status, *status, "{excerpt:?}");
        assert!(client.try_answer().is_none(), "{excerpt:?} must close");
    }
    assert!(!cluster.seen().contains("~"));
    assert_eq!(
        cluster.seen().matches("GET /fine ").count(),
        cluster.seen().matches(" HTTP/1.1").count()
    );
}

#[test]
fn a_bad_chunk_never_completes_a_body() {
    let (sender, receiver) = std::sync::mpsc::channel::<bool>();
    let cluster = Cluster::scripted(move |mut connection| {
        connection.head();
        let mut wire = Vec::new();
        while let Some(byte) = connection.take(1) {
            wire.extend(byte);
        }
        sender.send(wire.ends_with(b"0\r\n\r\n")).unwrap();
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    for bad in
        ["5\r\nhelloX\r\n", "zz\r\n", "5;\x01\r\n", "-1\r\n", "5\nhello\n", "0\r\nx: \x01\r\n\r\n"]
    {
        let before = cluster.seen().len();
        let mut stream = connect(proxy.at("web"));
        let begun = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        stream.write_all(begun.as_bytes()).unwrap();
        eventually("the body is on its way", || cluster.seen()[before..].contains("abc"));
        drop(stream.write_all(bad.as_bytes()));
        let answer = parse(&read_all(&mut stream));
        assert_eq!(answer.status, 400, "{bad:?}");
        let ended = receiver
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{bad:?}: {:?}", cluster.seen()));
        assert!(!ended, "{bad:?} was ended as if it were whole");
    }
}

/// The bytes that a hostile cluster sends, and the result that the client must get.
#[test]
fn hostile_responses_become_502_and_their_connections_are_not_reused() {
    let responses: Vec<Vec<u8>> = [
        "", "\r\n", "hello\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 \r\n\r\n", "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1\t200 OK\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.12 200 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n", "HTTP/1.1 200 O\x01K\r\n\r\n", "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\n\n", "HTTP/1.1 200 OK\r\nA: b\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nA\t: b\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\r\n\r\n", "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "HTTP/1.1 200 OK\r\nA: \x7f\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\"A\": b\r\n\r\n", "HTTP/1.1 200 OK\r\nA(: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: 1 \x0b\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\na",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: \r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n", "HTTP/1.1 100 C\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(66_000)).into_bytes(),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101)).into_bytes(),
        "HTTP/1.1 102 Processing\r\n\r\n".repeat(17).into_bytes(),
        b"HTTP/1.1 200 OK\r\nA\xe9: b\r\n\r\n".to_vec(),
    ])
    .chain((0_u8..0x20).filter(|byte| !b"\t\r\n".contains(byte)).map(|control| {
        [b"HTTP/1.1 200 OK\r\nA: b", &[control][..], b"\r\n\r\n"].concat()
    }))
    .collect();
    assert!(responses.len() >= 80, "{}", responses.len());
    let all = std::sync::Arc::new(responses);
    let script = all.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        let head = connection.head().unwrap_or_default();
        let number: usize =
            head.split("/n").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
        connection.send(&script[number]);
        // A second answer would follow if the proxy reused this connection.
        if connection.head().is_some() {
            connection.reply("REUSED");
        }
    });
    let text = config(&[("a", "idc", cluster.address)])
        .replace("{ clusters: [a] }", "{ clusters: [a], timeout: 2s, retry: { retries: 0 } }");
    let proxy = Proxy::start(&text);
    for (number, response) in all.iter().enumerate() {
        let excerpt = String::from_utf8_lossy(&response[..response.len().min(120)]).into_owned();
        // POST, so that there is no retry.
        let request = format!(
            "POST /n{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let mut stream = connect(proxy.at("web"));
        stream.write_all(request.as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
        let last = text.rfind("HTTP/1.1 ").map_or("", |at| &text[at..]);
        let complete_or_late = last.starts_with("HTTP/1.1 502") || last.starts_with("HTTP/1.1 504");
        assert!(complete_or_late, "{number} {excerpt:?}: {text:?}");
        assert!(!text.contains("REUSED"), "{excerpt:?}");
    }
}

#[test]
fn surplus_bytes_never_become_the_next_response() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            connection.send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", path.len())
                    .as_bytes(),
            );
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    for number in 0..50 {
        assert_eq!(client.get(&format!("/{number}")).body, format!("/{number}"));
    }
}

#[test]
fn a_truncated_response_is_visibly_incomplete() {
    let cluster =
        Cluster::scripted(|mut connection| {
            let (head, _) = connection.request().unwrap();
            match head.split(' ').nth(1).unwrap() {
                "/length" => connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
                "/chunks" => connection
                    .send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
                "/chunk" => connection
                    .send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\npart"),
                "/bad" => connection
                    .send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npartXX"),
                _ => {
                    connection.send(b"HTTP/1.1 200 OK\r\n\r\npart");
                    // A reset, although only an orderly end would complete the body.
                    let socket = socket2::SockRef::from(&connection.stream);
                    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                    connection.reset = true;
                }
            }
        });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    for path in ["/length", "/chunks", "/chunk", "/bad", "/reset"] {
        let mut stream = connect(proxy.at("web"));
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
        let whole = text.ends_with("0\r\n\r\n") || text.ends_with(&"x".repeat(100));
        assert!(!whole, "{path}: {text:?}");
        if path != "/length" && text.starts_with("HTTP/1.1 200") {
            assert!(text.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{text:?}");
        }
    }
}

#[test]
fn slow_clients_get_408_or_are_closed() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)]).replace(
        "service: shop }",
        "service: shop, timeouts: { first_byte: 200ms, head: 300ms, body_idle: 300ms, idle: 200ms } }",
    );
    let proxy = Proxy::start(&text);
    let mut silent = connect(proxy.at("web"));
    assert_eq!(read_all(&mut silent), b"");
    let mut slow = connect(proxy.at("web"));
    slow.write_all(b"GET / HT").unwrap();
    let answer = parse(&read_all(&mut slow));
    assert_eq!((answer.status, answer.refusal().as_str()), (408, "request_timeout"));
    let mut slow = connect(proxy.at("web"));
    slow.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab").unwrap();
    let answer = parse(&read_all(&mut slow));
    assert_eq!((answer.status, answer.refusal().as_str()), (408, "request_timeout"));
    let mut idle = Keeping::new(proxy.at("web"));
    assert_eq!(idle.get("/").status, 200);
    assert!(idle.try_answer().is_none(), "an idle connection is closed in time");
}

#[test]
fn bodies_over_the_limit_are_refused() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)])
        .replace("service: shop }", "service: shop, limits: { body: 10 } }");
    let proxy = Proxy::start(&text);
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n12345678901";
    let answer = ask_raw(proxy.at("web"), request);
    assert_eq!((answer.status, answer.refusal().as_str()), (413, "body_too_large"));
    assert!(cluster.seen().is_empty());
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n";
    assert_eq!(ask_raw(proxy.at("web"), request).status, 413);
    let request =
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n1234567890";
    assert_eq!(ask_raw(proxy.at("web"), request).status, 200);
}
