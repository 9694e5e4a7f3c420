//! Outlier detection: which endpoints are ejected, and when all endpoints are used regardless of their health.

use super::support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One cluster of these endpoints, in round robin, with an `outlier` section.
fn alike(endpoints: &[&Cluster], outlier: &str) -> String {
    let addresses: Vec<String> =
        endpoints.iter().map(|endpoint| format!("\"{}\"", endpoint.address)).collect();
    format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [a], endpoint_policy: round_robin, retry: {{ budget: 0 }} }} }}\n\
         clusters: {{ a: {{ kind: idc, endpoints: [{}], outlier: {{ {outlier} }} }} }}\n",
        addresses.join(", ")
    )
}

/// An endpoint that fails every third request, never twice in a row.
fn flaky() -> Cluster {
    let count = Arc::new(AtomicUsize::new(0));
    Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            match count.fetch_add(1, Ordering::SeqCst) % 3 {
                0 => connection.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
                _ => connection.reply("flaky"),
            }
        }
    })
}

const FAILED: &str = "tidegate_requests_total{listener=\"web\",service=\"shop\",tidegate_cluster=\"a\",code_class=\"5xx\"}";

fn ejections(proxy: &Proxy, cause: &str) -> f64 {
    proxy.metric(&format!("tidegate_ejections_total{{tidegate_cluster=\"a\",cause=\"{cause}\"}}"))
}

#[test]
fn an_endpoint_that_fails_more_than_its_siblings_is_ejected() {
    let (one, two, flaky) = (Cluster::named("one"), Cluster::named("two"), flaky());
    let proxy = Proxy::start(&alike(&[&one, &two, &flaky], "success: 0.9"));
    let mut client = Keeping::new(proxy.at("web"));
    eventually("it is ejected", || {
        client.get("/");
        ejections(&proxy, "success_rate") > 0.0
    });
    eventually("workers know", || proxy.cluster("a")["state"] == "degraded");
    for _ in 0..30 {
        assert_ne!(client.get("/").body, "flaky");
    }
    let endpoints = proxy.cluster("a")["endpoints"].clone();
    assert_eq!(endpoints[2]["last_error"], "success_rate", "{endpoints}");
}

#[test]
fn without_the_key_or_beyond_the_cap_no_endpoint_is_ejected() {
    for outlier in ["", "success: 0.9, max_percent: 30"] {
        let (one, two, flaky) = (Cluster::named("one"), Cluster::named("two"), flaky());
        let proxy = Proxy::start(&alike(&[&one, &two, &flaky], outlier));
        let mut client = Keeping::new(proxy.at("web"));
        // Far more failures than the first ejection needed.
        eventually("it has failed often", || {
            (0..20).for_each(|_| drop(client.get("/")));
            proxy.metric(FAILED) >= 60.0
        });
        assert_eq!(ejections(&proxy, "success_rate"), 0.0, "{outlier}");
    }
}

#[test]
fn an_endpoint_much_slower_than_its_siblings_is_ejected() {
    let (one, two) = (Cluster::named("one"), Cluster::named("two"));
    let slow = Cluster::scripted(|mut connection| {
        while connection.request().is_some() {
            std::thread::park_timeout(Duration::from_millis(40));
            connection.reply("slow");
        }
    });
    let proxy = Proxy::start(&alike(&[&one, &two, &slow], "latency: 5"));
    let mut client = Keeping::new(proxy.at("web"));
    eventually("it is ejected", || {
        client.get("/");
        ejections(&proxy, "latency") > 0.0
    });
    eventually("workers know", || proxy.cluster("a")["state"] == "degraded");
    for _ in 0..30 {
        assert_ne!(client.get("/").body, "slow");
    }
}

#[test]
fn the_configured_number_of_consecutive_failures_ejects() {
    let bad = || {
        Cluster::scripted(|mut connection| {
            while connection.request().is_some() {
                connection.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
            }
        })
    };
    for (consecutive, failures, ejected) in [(2, 2.0, true), (1000, 40.0, false)] {
        let (good, bad) = (Cluster::named("good"), bad());
        let proxy = Proxy::start(&alike(&[&good, &bad], &format!("consecutive: {consecutive}")));
        let mut client = Keeping::new(proxy.at("web"));
        eventually("it has failed so often", || {
            client.get("/");
            proxy.metric(FAILED) >= failures
        });
        eventually("the sweep has come to it", || {
            (ejections(&proxy, "gateway_status") > 0.0) == ejected
        });
    }
}

/// An endpoint whose probes fail while it answers all other requests.
fn slandered(name: &'static str) -> Cluster {
    Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            match head.starts_with("GET /healthz ") {
                true => connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
                false => connection.reply(name),
            }
        }
    })
}

#[test]
fn in_panic_all_endpoints_are_used_but_no_cluster_that_may_not_serve() {
    let (down, cloud) = (slandered("a"), Cluster::named("cloud"));
    let text = |panic: u8| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop, trusted_proxies: [127.0.0.0/8] }} }}\n\
             services: {{ shop: {{ clusters: [a, cloud], data: sensitive }} }}\n\
             clusters:\n  a: {{ kind: idc, endpoints: [\"{}\"], outlier: {{ panic_percent: {panic} }}, \
             probe: {{ kind: http, path: /healthz, interval: 50ms, timeout: 50ms }} }}\n  \
             cloud: {{ kind: cloud, endpoints: [\"{}\"] }}\n",
            down.address, cloud.address
        )
    };
    let proxy = Proxy::start(&text(0));
    eventually("it is down", || proxy.cluster("a")["state"] == "down");
    let refused = get(proxy.at("web"), "/");
    assert_eq!((refused.status, refused.refusal().as_str()), (503, "no_healthy_cluster"));

    proxy.rewrite(&text(50));
    eventually("the new configuration is in force", || proxy.generation() == 2);
    let web = proxy.at("web");
    let request = b"GET / HTTP/1.1\r\nhost: a\r\ntidegate-explain: 1\r\nconnection: close\r\n\r\n";
    eventually("it is used all the same", || ask_raw(web, request).body == "a");
    let decision = ask_raw(web, request).header("tidegate-decision").unwrap();
    assert!(decision.contains("cluster=a") && decision.contains("reason=panic"), "{decision}");
    assert!(!cloud.seen().contains("GET / "), "{}", cloud.seen());
    let counted =
        "tidegate_decisions_total{service=\"shop\",tidegate_cluster=\"a\",reason=\"panic\"}";
    eventually("it is counted", || proxy.metric(counted) >= 2.0);
}

#[test]
fn a_cluster_in_panic_is_no_reason_to_leave_a_healthy_one() {
    let (down, cloud) = (slandered("a"), Cluster::named("cloud"));
    let text = config(&[("a", "idc", down.address), ("cloud", "cloud", cloud.address)]);
    let probe = "a: { kind: idc, outlier: { panic_percent: 50 }, ";
    let text = text.replace("a: { kind: idc, ", probe).replacen(
        "probe: { interval",
        "probe: { kind: http, path: /healthz, interval",
        1,
    );
    let proxy = Proxy::start(&text);
    eventually("it is down", || proxy.cluster("a")["state"] == "down");
    for _ in 0..20 {
        assert_eq!(get(proxy.at("web"), "/").body, "cloud");
    }
}

#[test]
fn outlier_settings_out_of_bounds_are_reported() {
    let (folder, cluster) = (Folder::new(), Cluster::named("a"));
    let text = alike(&[&cluster], "success: 1.5, latency: 0.5, max_percent: 101, consecutive: 0");
    let (code, printed) = check(&folder, &text);
    assert_eq!(code, 1);
    for key in ["success", "latency", "max_percent", "consecutive"] {
        assert!(printed.contains(&format!("clusters.a.outlier.{key}")), "{key}: {printed}");
    }
}
