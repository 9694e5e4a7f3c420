//! Two proxies that are clusters of each other: load reports, and no forwarding loops.

use super::support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// An application that serves one request at a time on each connection, with this service time.
fn slow(name: &'static str, span: Duration, served: Arc<AtomicUsize>) -> Cluster {
    Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            let until = Instant::now() + span;
            while Instant::now() < until {
                std::thread::yield_now();
            }
            served.fetch_add(1, Ordering::SeqCst);
            connection.reply(name);
        }
    })
}

fn edge(
    site: &str,
    other: &str,
    app: &Cluster,
    ceiling: u32,
    port: u16,
    other_port: u16,
) -> String {
    format!(
        "site: {{ name: {site} }}\nruntime: {{ workers: 1 }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:{port}, protocol: http, service: shop, trusted_proxies: [127.0.0.0/8] }} }}\n\
         services: {{ shop: {{ clusters: [app, over-there] }} }}\n\
         sites: {{ {site}: {{ kind: idc }}, {other}: {{ kind: cloud }} }}\n\
         clusters:\n  app: {{ site: {site}, endpoints: [\"{}\"], capacity: {{ concurrent: {ceiling} }} }}\n\
         \x20 over-there: {{ site: {other}, endpoints: [127.0.0.1:{other_port}], reports: tidegate, probe: {{ kind: http, path: /, interval: 100ms, timeout: 100ms }} }}\n",
        app.address
    )
}

fn with_via(to: std::net::SocketAddr, via: &str) -> Answer {
    let text =
        format!("GET / HTTP/1.1\r\nhost: a\r\ntidegate-via: {via}\r\nconnection: close\r\n\r\n");
    ask_raw(to, text.as_bytes())
}

#[test]
fn a_request_crosses_once_at_most_however_full_both_sides_are() {
    let (east_served, west_served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let span = Duration::from_millis(10);
    let (east_app, west_app) =
        (slow("east", span, east_served.clone()), slow("west", span, west_served.clone()));
    let (east_port, west_port) = (free().port(), free().port());
    let east = Proxy::start(&edge("east", "west", &east_app, 2, east_port, west_port));
    let west = Proxy::start(&edge("west", "east", &west_app, 2, west_port, east_port));
    eventually("east sees west", || east.cluster("over-there")["state"] == "up");
    eventually("west sees east", || west.cluster("over-there")["state"] == "up");
    let clients: Vec<_> = (0..24)
        .map(|number| {
            let to = if number % 2 == 0 { east.at("web") } else { west.at("web") };
            std::thread::spawn(move || {
                let mut client = Keeping::new(to);
                let ask = |_| {
                    let status = client.get("/").status;
                    if status == 503 {
                        // A refusal is quick; the clients should not finish before the test does.
                        std::thread::park_timeout(Duration::from_millis(10));
                    }
                    status
                };
                (0..60).map(ask).collect::<Vec<u16>>()
            })
        })
        .collect();
    let statuses: Vec<u16> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert!(count(200) > 100, "both sides serve");
    let other = statuses.iter().find(|status| ![200, 503].contains(status));
    assert_eq!(other, None, "full is 503, and never a loop");
    assert_eq!(count(508), 0);
    // Each request was served by one application: no request crossed three times.
    let served = east_served.load(Ordering::SeqCst) + west_served.load(Ordering::SeqCst);
    let answered: f64 = [&east, &west]
        .map(|proxy| proxy.metric("tidegate_requests_total{listener=\"web\",service=\"shop\",tidegate_cluster=\"app\",code_class=\"2xx\"}"))
        .iter()
        .sum();
    assert!((answered - served as f64).abs() <= 4.0, "{answered} answers of {served} served");
    for proxy in [&east, &west] {
        assert_eq!(proxy.metric("tidegate_refusals_total{listener=\"web\",reason=\"loop\"}"), 0.0);
    }
}

#[test]
fn load_reports_are_sent_to_edges_only() {
    let app = Cluster::named("east");
    let proxy = Proxy::start(&edge("east", "west", &app, 5, 0, free().port()));
    let web = proxy.at("web");
    let answer = with_via(web, "west");
    assert_eq!((answer.status, answer.body.as_str()), (200, "east"));
    let load = answer.header("tidegate-load").unwrap();
    for field in ["q=", "s=", "n=", "c=5", "l=", "g="] {
        assert!(load.contains(field), "{field} in {load}");
    }
    assert_eq!(get(web, "/").header("tidegate-load"), None);
    let looped = with_via(web, "north, east");
    assert_eq!((looped.status, looped.refusal().as_str()), (508, "loop"));
    assert!(!app.seen().to_ascii_lowercase().contains("tidegate-via"), "no application sees it");
    // If this site's cluster is drained, a request from another edge is refused and not forwarded.
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/app/drain", "").status, 200);
    let refused = with_via(web, "west");
    assert_eq!((refused.status, refused.refusal().as_str()), (503, "no_healthy_cluster"));
}

#[test]
fn an_untrusted_client_is_not_treated_as_an_edge() {
    let app = Cluster::named("east");
    let text = edge("east", "west", &app, 5, 0, free().port())
        .replace("trusted_proxies: [127.0.0.0/8]", "trusted_proxies: []");
    let proxy = Proxy::start(&text);
    let answer = with_via(proxy.at("web"), "east");
    assert_eq!((answer.status, answer.header("tidegate-load")), (200, None));
}

#[test]
fn orca_reports_need_configuration_and_invalid_ones_are_ignored() {
    let reporting = |load: &'static str| {
        Cluster::scripted(move |mut connection| {
            while connection.request().is_some() {
                let until = Instant::now() + Duration::from_millis(3);
                while Instant::now() < until {
                    std::thread::yield_now();
                }
                let head = format!("HTTP/1.1 200 OK\r\nendpoint-load-metrics: {load}\r\n");
                connection.send(format!("{head}content-length: 4\r\n\r\nnear").as_bytes());
            }
        })
    };
    let far = Cluster::named("far");
    let share = |near: &Cluster, reports: &str| {
        let text = config(&[("near", "idc", near.address), ("far", "cloud", far.address)])
            .replacen("probe:", &format!("reports: {reports}, probe:"), 1);
        let proxy = Proxy::start(&text);
        let mut client = Keeping::new(proxy.at("web"));
        let until = Instant::now() + Duration::from_millis(700);
        let (mut stayed, mut all) = (0, 0);
        while Instant::now() < until {
            let answer = client.get("/");
            assert_eq!(answer.header("endpoint-load-metrics"), None, "clients do not see it");
            stayed += usize::from(answer.body == "near");
            all += 1;
        }
        f64::from(stayed as u32) / f64::from(all)
    };
    let full = reporting("TEXT application_utilization=0.995, rps_fractional=900");
    assert!(share(&full, "orca") < 0.9, "a full cluster spills");
    // Other processes may take the processor for a while, which makes a queue: one of five attempts must succeed.
    let stays = |near: &Cluster, reports| (0..5).any(|_| share(near, reports) > 0.95);
    assert!(stays(&full, "none"), "reports that are not configured are ignored");
    let nonsense = reporting("JSON {\"cpu_utilization\": NaN, \"rps_fractional\": -1e999}");
    assert!(stays(&nonsense, "orca"), "invalid reports are ignored");
}
