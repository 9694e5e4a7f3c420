//! Failures caused by clients do not eject endpoints or divert other clients.

use super::fault::{Fault, Relay};
use super::support::*;
use std::time::{Duration, Instant};

/// Two clusters; the first has two endpoints in round robin.
fn before(endpoints: [&Cluster; 2], cloud: &Cluster, outlier: &str) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ workers: 1 }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [a, cloud], endpoint_policy: round_robin }} }}\n\
         clusters:\n  a: {{ kind: idc, endpoints: [\"{}\", \"{}\"], outlier: {{ {outlier} }} }}\n  \
         cloud: {{ kind: cloud, endpoints: [\"{}\"] }}\n",
        endpoints[0].address, endpoints[1].address, cloud.address
    ))
}

/// Answers GET; resets any other request after 100 ms, whether or not it is complete.
fn impatient() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some(head) = connection.head() {
            if !head.starts_with("GET ") {
                std::thread::park_timeout(Duration::from_millis(100));
                let socket = socket2::SockRef::from(&connection.stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                connection.reset = true;
                return;
            }
            connection.reply("fine");
        }
    })
}

fn ejections(proxy: &Proxy, cause: &str) -> f64 {
    proxy.metric(&format!("tidegate_ejections_total{{tidegate_cluster=\"a\",cause=\"{cause}\"}}"))
}

/// Waits for a sweep that includes all events so far.
fn swept(proxy: &Proxy) {
    let count = || proxy.metric("tidegate_probes_total");
    let before = count();
    eventually("probes go on", || count() >= before + 6.0);
}

const UPLOAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n";

#[test]
fn an_unfinished_upload_is_not_blamed_on_the_endpoint() {
    let (one, two, cloud) = (impatient(), impatient(), Cluster::named("cloud"));
    let proxy = before([&one, &two], &cloud, "");
    let web = proxy.at("web");
    // As many clients as uploads, so that the rule for a single client does not apply.
    let uploads = |body: &[u8]| {
        let mut clients: Vec<Keeping> = (2..42).map(|last| Keeping::from(last, web)).collect();
        for client in &mut clients {
            client.send(UPLOAD);
            client.send(body);
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 502);
        }
    };
    uploads(b"h");
    swept(&proxy);
    assert_eq!(ejections(&proxy, "reset"), 0.0);
    let beliefs = proxy.cluster("a");
    assert_eq!(beliefs["state"], "up");
    // Unmeasured: none of these exchanges counts.
    assert!(beliefs["success_ratio"].as_f64().is_none_or(|ratio| ratio == 1.0), "{beliefs}");
    assert!((0..40).all(|_| get(web, "/").body == "fine"), "nobody is sent elsewhere");

    uploads(b"hi");
    eventually("whole ones are another matter", || ejections(&proxy, "reset") > 0.0);
}

#[test]
fn the_upload_time_is_not_counted_as_service_time() {
    let (one, two, cloud) = (Cluster::named("one"), Cluster::named("two"), Cluster::named("cloud"));
    let proxy = before([&one, &two], &cloud, "");
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..2 {
        client.send(UPLOAD);
        std::thread::park_timeout(Duration::from_millis(300));
        client.send(b"hi");
        assert_eq!(client.answer().status, 200);
    }
    eventually("both were timed", || {
        let endpoints = proxy.cluster("a")["endpoints"].clone();
        let taken = |at: usize| endpoints[at]["service_ms"].as_f64().unwrap_or_default();
        assert!(taken(0) < 100.0 && taken(1) < 100.0, "{endpoints}");
        swept(&proxy);
        true
    });
}

#[test]
fn failures_of_a_single_client_eject_no_endpoint() {
    let bad = || {
        Cluster::scripted(|mut connection| {
            while let Some((head, _)) = connection.request() {
                match head.starts_with("POST ") {
                    true => connection.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
                    false => connection.reply("fine"),
                }
            }
        })
    };
    let (one, two, cloud) = (bad(), bad(), Cluster::named("cloud"));
    let proxy = before([&one, &two], &cloud, "consecutive: 2");
    let web = proxy.at("web");
    let post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let ask = |last: u8| {
        let mut client = Keeping::from(last, web);
        client.send(post);
        client.answer().status
    };
    // On a busy machine one may spill to the cloud.
    let mut failed = 0;
    eventually("twelve requests failed", || {
        failed += usize::from(ask(2) == 503);
        failed == 12
    });
    eventually("it is known", || {
        let endpoints = proxy.cluster("a")["endpoints"].clone();
        endpoints[0]["last_error"] == "gateway_status"
    });
    assert_eq!(ejections(&proxy, "gateway_status"), 0.0);
    eventually("a second client is a witness", || {
        ask(3);
        ejections(&proxy, "gateway_status") > 0.0
    });
}

#[test]
fn configured_statuses_count_as_failures() {
    let broken = || {
        Cluster::scripted(|mut connection| {
            while connection.request().is_some() {
                connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
            }
        })
    };
    for (failures, counts) in [("", false), ("failures: [500-504, reset, connect]", true)] {
        let (one, two, cloud) = (Cluster::named("one"), broken(), Cluster::named("cloud"));
        let proxy = before([&one, &two], &cloud, failures);
        let mut clients: Vec<Keeping> =
            (2..4).map(|last| Keeping::from(last, proxy.at("web"))).collect();
        let mut ask = || clients.iter_mut().map(|client| client.get("/").status).max();
        match counts {
            true => eventually("it goes out of use", || {
                ask();
                ejections(&proxy, "status") > 0.0
            }),
            false => {
                assert!((0..60).all(|_| ask().is_some_and(|worst| worst < 502)));
                swept(&proxy);
                assert_eq!(proxy.metric("tidegate_ejections_total"), 0.0);
                let ratio = proxy.cluster("a")["success_ratio"].as_f64();
                assert!(ratio.is_none_or(|ratio| ratio == 1.0), "{ratio:?}");
            }
        }
    }
    let (folder, cluster) = (Folder::new(), Cluster::named("a"));
    let text = config(&[("a", "idc", cluster.address)]);
    let text = text.replace("kind: idc,", "kind: idc, outlier: { failures: [502, rest, 99] },");
    let (code, printed) = check(&folder, &text);
    assert_eq!(code, 1);
    assert!(
        printed.contains("failures[1]") && printed.contains("did you mean `reset`?"),
        "{printed}"
    );
    assert!(printed.contains("failures[2]"), "{printed}");
}

#[test]
fn an_overflow_of_the_listen_backlog_does_not_eject_the_only_endpoint() {
    let cluster = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            std::thread::park_timeout(Duration::from_millis(20));
            connection.reply("fine");
        }
    });
    let relay = Relay::before(cluster.address);
    let text = config(&[("a", "idc", relay.at)]);
    let text = text.replace("kind: idc,", "kind: idc, timeouts: { connect_total: 8s },");
    let proxy = Proxy::start(&format!("runtime: {{ workers: 1 }}\n{text}"));
    let web = proxy.at("web");
    let mut served = Keeping::new(web);
    assert_eq!(served.get("/").body, "fine");
    relay.set(Fault::NoAccept);
    // Each request needs a connection of its own, and only one is permitted.
    let burst: Vec<_> = (0..8).map(|_| std::thread::spawn(move || get(web, "/").status)).collect();
    let since = Instant::now();
    eventually("connections come to nothing, many times", || {
        assert_eq!(served.get("/").body, "fine", "and exchanges are answered meanwhile");
        let error = proxy.cluster("a")["endpoints"][0]["last_error"].clone();
        error == "connect_timeout" && since.elapsed() > Duration::from_millis(1_200)
    });
    assert_eq!(proxy.metric("tidegate_ejections_total"), 0.0);
    relay.set(Fault::None);
    let statuses: Vec<u16> = burst.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(statuses, [200; 8]);
}
