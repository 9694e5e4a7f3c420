//! Limits and failure semantics that no other file covers.

use super::support::*;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One cluster of these endpoints, without probes, in round robin.
fn in_turn(endpoints: &[&Cluster], more: &str) -> String {
    let all: Vec<String> = endpoints.iter().map(|e| format!("\"{}\"", e.address)).collect();
    format!(
        "runtime: {{ workers: 1 }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [a], endpoint_policy: round_robin }} }}\n\
         clusters: {{ a: {{ kind: idc, endpoints: [{}], probe: {{ kind: none }}{more} }} }}\n",
        all.join(", ")
    )
}

fn post(to: std::net::SocketAddr) -> Answer {
    ask_raw(to, b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")
}

#[test]
fn a_dead_endpoint_fails_only_requests_in_flight() {
    let (dead, good, other) = (Cluster::named("x"), Cluster::named("good"), Cluster::named("good"));
    let proxy = Proxy::start(&in_turn(&[&dead, &good, &other], ""));
    dead.kill();
    for number in 0..40 {
        let answer = post(proxy.at("web"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "good"), "request {number}");
    }
    // No request was repeated: a request that could not be sent costs no retry.
    assert_eq!(proxy.metric("tidegate_retries_total"), 0.0);
}

#[test]
fn an_endpoint_that_accepts_no_connection_is_left_within_the_connect_timeout() {
    // The listen backlog is full: connections get no answer.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&full).listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            drop(socket.connect(&address.into()));
            socket
        })
        .collect();
    let good = Cluster::named("good");
    let text =
        in_turn(&[&good, &good], "").replacen(&good.address.to_string(), &address.to_string(), 1);
    let proxy = Proxy::start(&text);
    let since = Instant::now();
    for _ in 0..4 {
        assert_eq!(post(proxy.at("web")).body, "good");
    }
    // One second each without a known round trip, three attempts until the ejection.
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn connections_are_bounded_for_the_process_and_for_each_client() {
    let cluster = Cluster::named("a");
    for bound in ["connections: 2", "connections_per_client: 2"] {
        let text = config(&[("a", "idc", cluster.address)])
            .replace("protocol: http,", &format!("protocol: http, limits: {{ {bound} }},"));
        let proxy = Proxy::start(&format!("runtime: {{ workers: 4 }}\n{text}"));
        let mut kept: Vec<Keeping> = (0..2).map(|_| Keeping::new(proxy.at("web"))).collect();
        for client in &mut kept {
            assert_eq!(client.get("/").status, 200, "{bound}");
        }
        for _ in 0..3 {
            let mut more = connect(proxy.at("web"));
            drop(more.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
            assert!(read_all(&mut more).is_empty(), "{bound}");
        }
        let refused = "tidegate_refusals_total{listener=\"web\",reason=\"overloaded\"}";
        proxy.counts(refused, 3.0);
        drop(kept.pop());
        eventually("there is room again", || get(proxy.at("web"), "/").status == 200);
    }
}

#[test]
fn hops_are_counted_from_the_right() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)])
        .replace("protocol: http,", "protocol: http, trusted_proxies: [127.0.0.0/8, 10.0.0.0/8],");
    let proxy = Proxy::start(&text);
    for (forwarded, client) in [
        ("1.1.1.1, 9.9.9.9, 10.0.0.5", "9.9.9.9"),
        ("1.1.1.1, 10.0.0.4, 10.0.0.5", "1.1.1.1"),
        ("10.0.0.9", "10.0.0.9"),
    ] {
        let ask = format!(
            "GET /{client} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {forwarded}\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(ask_raw(proxy.at("web"), ask.as_bytes()).status, 200);
        let line = proxy.says(&format!("\"path\":\"/{client}\""));
        assert!(line.contains(&format!("\"client\":\"{client}\"")), "{forwarded}: {line}");
    }
}

#[test]
fn a_client_that_leaves_cancels_its_work_at_once() {
    let left = Arc::new(AtomicUsize::new(0));
    let count = left.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        if connection.request().is_some() {
            drop(connection.stream.read(&mut [0; 1]));
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    let mut spans: Vec<Duration> = (1..=9)
        .map(|number| {
            let mut client = connect(proxy.at("web"));
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            eventually("it is asked", || cluster.seen().matches("GET / ").count() == number);
            let since = Instant::now();
            drop(client);
            eventually("the cluster is told", || left.load(Ordering::SeqCst) == number);
            since.elapsed()
        })
        .collect();
    spans.sort();
    // The target is 100 ms; a busy machine may take longer.
    assert!(spans[4] < Duration::from_millis(300), "{spans:?}");
}

#[test]
fn a_full_disk_drops_log_lines_and_no_request() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&format!("access_log: {{ path: /dev/full }}\n{text}"));
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..200 {
        assert_eq!(client.get("/").body, "a");
    }
    eventually("it shows", || proxy.metric("tidegate_access_log_dropped_total") > 0.0);
    proxy.says("access log");
    // State that cannot be stored is logged, and the proxy continues.
    let proxy = Proxy::start(&format!("state_dir: /proc/self\n{text}"));
    assert_eq!(proxy.tell("PUT", "/api/v1/clusters/a/dial", "{\"percent\": 50}").status, 200);
    assert_eq!(get(proxy.at("web"), "/").body, "a");
}

#[test]
fn a_suspended_proxy_ejects_no_endpoint() {
    let (one, two) = (Cluster::named("one"), Cluster::named("two"));
    let proxy =
        Proxy::start(&config(&[("one", "idc", one.address), ("two", "cloud", two.address)]));
    let mut client = Keeping::new(proxy.at("web"));
    assert_eq!(client.get("/").body, "one");
    // Like a suspended machine, or a jump of the clock.
    proxy.signal(libc::SIGSTOP);
    let until = Instant::now() + Duration::from_secs(2);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    proxy.signal(libc::SIGCONT);
    for _ in 0..50 {
        assert_eq!(client.get("/").body, "one");
    }
    assert_eq!(proxy.metric("tidegate_ejections_total"), 0.0);
    assert_eq!(proxy.cluster("one")["state"], "up");
}

#[test]
fn route_lookup_time_does_not_grow_with_the_number_of_routes() {
    const REQUESTS: usize = 6_000;
    let cluster = Cluster::named("a");
    let cost = |routes: usize| {
        let mut text = config(&[("a", "idc", cluster.address)]) + "routes:\n";
        for number in 0..routes {
            let total = if number == routes - 1 { ", total_timeout: 9s" } else { "" };
            text += &format!("  - {{ path_prefix: /r{number}, service: shop{total} }}\n");
        }
        let proxy = Proxy::start(&format!("runtime: {{ workers: 1 }}\n{text}"));
        let mut client = Keeping::new(proxy.at("web"));
        let before = proxy.cpu();
        let last = format!("/r{}/x", routes - 1);
        assert!((0..REQUESTS).all(|_| client.get(&last).body == "a"));
        (proxy.cpu() - before).as_secs_f64()
    };
    let (ten, many) = (cost(10), cost(10_000));
    // A search through all routes would cost several times as much; CPU time varies by half on a busy machine.
    assert!(many <= 2.0 * ten + 0.05, "{many:.2} s of CPU with 10,000 routes, {ten:.2} s with ten");
}
