//! Mirroring: copies carry the original's data, and do not delay the original.

use super::support::*;
use std::io::Read;
use std::time::{Duration, Instant};

fn mirrored(original: &Cluster, mirror: &Cluster, percent: &str) -> String {
    format!(
        "runtime: {{ workers: 1 }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http }} }}\n\
         services: {{ shop: {{ clusters: [a] }}, next: {{ clusters: [b] }} }}\n\
         clusters:\n  a: {{ kind: idc, endpoints: [\"{}\"] }}\n  b: {{ kind: cloud, endpoints: [\"{}\"] }}\n\
         routes: [{{ service: shop, mirror: {{ service: next{percent} }} }}]\n",
        original.address, mirror.address
    )
}

fn shed(proxy: &Proxy) -> f64 {
    proxy.metric("tidegate_events_shed_total{kind=\"mirror\"}")
}

fn field(head: &str, name: &str) -> String {
    let line = head.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{head}"));
    line.to_owned()
}

#[test]
fn a_copy_equals_the_request_and_its_response_is_discarded() {
    let original = Cluster::named("original");
    let mirror = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            connection.send(b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nwrong");
        }
    });
    let proxy = Proxy::start(&mirrored(&original, &mirror, ""));
    let mut client = Keeping::new(proxy.at("web"));
    assert_eq!(client.get("/one?x=1").body, "original");
    client.send(b"POST /two HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.answer().body, "original");
    client.send(b"POST /three HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    assert_eq!(client.answer().body, "original");
    eventually("all are copied", || {
        let seen = mirror.seen();
        seen.contains("GET /one?x=1 ") && seen.contains("\r\n\r\nhello") && seen.contains("abcdefg")
    });
    let of = |cluster: &Cluster, path: &str| {
        let seen = cluster.seen();
        let from = seen.find(path).unwrap();
        let end = seen[from..].find("\r\n\r\n").unwrap();
        seen[from..from + end].to_owned()
    };
    let (copy, first) = (of(&mirror, "GET /one"), of(&original, "GET /one"));
    assert_eq!(field(&copy, "tidegate-mirror"), "tidegate-mirror: 1");
    assert!(!first.contains("tidegate-mirror"), "{first}");
    for same in ["x-request-id", "traceparent", "x-forwarded-for", "host"] {
        assert_eq!(field(&copy, same), field(&first, same));
    }
    let counted = "tidegate_requests_total{listener=\"web\",service=\"next\",tidegate_cluster=\"b\",code_class=\"5xx\"}";
    proxy.counts(counted, 3.0);
    proxy.counts("tidegate_requests_total{listener=\"web\",service=\"shop\"", 3.0);
    let lines = || proxy.log().iter().filter(|line| line.contains("\"path\"")).count();
    eventually("each is logged", || lines() >= 3);
    assert_eq!(lines(), 3, "nobody was answered by a copy: no line for it");
    assert_eq!(shed(&proxy), 0.0);
}

#[test]
fn a_twentieth_is_every_twentieth() {
    let (original, mirror) = (Cluster::named("original"), Cluster::named("mirror"));
    let proxy = Proxy::start(&mirrored(&original, &mirror, ", percent: 5"));
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..400 {
        assert_eq!(client.get("/").body, "original");
    }
    let copies = || mirror.seen().matches("GET / ").count();
    eventually("they arrive", || copies() >= 16);
    assert!((16..=24).contains(&copies()), "{}", copies());
    assert_eq!(shed(&proxy), 0.0, "whose turn it was not is not shed");
}

#[test]
fn a_hanging_or_dead_mirror_does_not_delay_the_original() {
    let original = Cluster::named("original");
    let mirror = Cluster::scripted(|mut connection| {
        // Reads a request, and never answers.
        drop(connection.request());
        drop(connection.stream.read(&mut [0; 1]));
    });
    let proxy = Proxy::start(&mirrored(&original, &mirror, ""));
    let mut client = Keeping::new(proxy.at("web"));
    let since = Instant::now();
    for _ in 0..300 {
        assert_eq!(client.get("/").body, "original");
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(proxy.cluster("b")["in_flight"].as_u64() <= Some(128));
    // The last copy is counted when its task ends, which may be after the last response.
    eventually("copies beyond the limit are shed", || shed(&proxy) >= 300.0 - 128.0);
    mirror.kill();
    eventually("it is down", || proxy.cluster("b")["state"] == "down");
    for _ in 0..50 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "original"));
    }
}

#[test]
fn a_request_that_is_not_buffered_whole_is_not_copied_but_counted() {
    let (original, mirror) = (Cluster::named("original"), Cluster::named("mirror"));
    let proxy = Proxy::start(&mirrored(&original, &mirror, ""));
    let mut client = Keeping::new(proxy.at("web"));
    client.send(
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n{}",
            "x".repeat(70_000)
        )
        .as_bytes(),
    );
    assert_eq!(client.answer().body, "original");
    eventually("it is counted", || shed(&proxy) == 1.0);
    assert_eq!(client.get("/small").body, "original");
    eventually("others are copied", || mirror.seen().contains("/small"));
    assert!(!mirror.seen().contains("POST"), "{}", mirror.seen());
}

#[test]
fn a_copy_is_subject_to_the_constraints_of_its_original() {
    let folder = Folder::new();
    let (original, mirror) = (Cluster::named("original"), Cluster::named("mirror"));
    let text = mirrored(&original, &mirror, "");
    for (from, to) in [
        ("shop: { clusters: [a] }", "shop: { clusters: [a], data: sensitive }"),
        ("{ service: shop,", "{ service: shop, data: sensitive,"),
    ] {
        let (code, printed) = check(&folder, &text.replace(from, to));
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains("routes[0].mirror.service"), "{printed}");
        assert!(
            printed.contains(
                "no cluster may serve service `next`: cluster b does not accept data class"
            ),
            "{printed}"
        );
    }
}

#[test]
fn invalid_mirrors_are_reported() {
    let folder = Folder::new();
    let (original, mirror) = (Cluster::named("original"), Cluster::named("mirror"));
    let text = mirrored(&original, &mirror, "");
    let respond = text.replace("service: shop, mirror", "respond: { status: 204 }, mirror");
    for (text, said) in [
        (respond, "there is nothing to mirror"),
        (text.replace("service: next", "service: next, percent: 101"), "must be from 0 to 100"),
        (
            text.replace("mirror: { service: next", "mirror: { service: nexx"),
            "did you mean `next`?",
        ),
    ] {
        let (code, printed) = check(&folder, &text);
        assert!(
            code == 1 && printed.contains(said) && printed.contains("routes[0].mirror"),
            "{printed}"
        );
    }
}
