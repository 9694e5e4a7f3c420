//! Hedging: a second attempt while a slow first one continues. The first response is used, and the other attempt
//! has no effect.

use super::support::*;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The behaviour of a scripted endpoint.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// Answers after this time.
    Answer(Duration),
    /// Never answers.
    Nothing,
    /// Answers 503.
    Fails,
    /// Closes the connection after this time.
    Breaks(Duration),
}

/// An endpoint, the number of its requests, and the number of its connections that were closed unanswered.
struct Endpoint {
    cluster: Cluster,
    asked: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

fn wait(span: Duration) {
    let until = Instant::now() + span;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

fn endpoint(name: &'static str, does: Does) -> Endpoint {
    let (asked, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, gone) = (asked.clone(), left.clone());
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            match does {
                Does::Answer(span) => {
                    wait(span);
                    connection.reply(name);
                }
                Does::Nothing => {
                    let mut space = [0; 1];
                    drop(connection.stream.read(&mut space));
                    gone.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Does::Fails => connection.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
                Does::Breaks(span) => {
                    wait(span);
                    return;
                }
            }
        }
    });
    Endpoint { cluster, asked, left }
}

/// Two clusters of one endpoint; the first is always tried first.
fn hedged(first: &Endpoint, second: &Endpoint, more: &str) -> Proxy {
    let text =
        config(&[("one", "idc", first.cluster.address), ("two", "cloud", second.cluster.address)])
            .replace(
                "clusters: [one, two]",
                &format!("clusters: [one, two], hedge: {{ after: 60ms }}{more}"),
            );
    Proxy::start(&format!("runtime: {{ workers: 1 }}\n{text}"))
}

fn hedges(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric(&format!("tidegate_hedges_total{{service=\"shop\",result=\"{result}\"}}"))
}

const SOON: Does = Does::Answer(Duration::ZERO);

#[test]
fn a_hedge_answers_and_the_primary_is_cancelled() {
    let (one, two) = (endpoint("one", Does::Nothing), endpoint("two", SOON));
    let proxy = hedged(&one, &two, "");
    let mut client = Keeping::new(proxy.at("web"));
    let since = Instant::now();
    let answer = client.get("/");
    assert_eq!((answer.status, answer.body.as_str()), (200, "two"));
    assert!(since.elapsed() >= Duration::from_millis(60), "not before its time");
    eventually("the first is told", || one.left.load(Ordering::SeqCst) == 1);
    eventually("it is counted", || hedges(&proxy, "sent") == 1.0 && hedges(&proxy, "won") == 1.0);
    eventually("nothing is in flight", || proxy.cluster("one")["in_flight"] == 0);
    let log = proxy.says("\"attempts\":2");
    assert!(log.contains("\"cluster\":\"two\",") && log.contains("\"reason\":\"hedge\""), "{log}");
    eventually("it is a hedge, no fail-over", || {
        proxy.json("/api/v1/decisions")[0]["reason"] == "hedge"
    });
    let decision = proxy.json("/api/v1/decisions")[0].clone();
    assert_eq!(decision["rejected"], serde_json::json!(["one:late"]));
    let id = decision["request_id"].as_str().unwrap();
    assert!(id.len() > 8 && log.contains(id), "{decision} {log}");
}

#[test]
fn a_quicker_primary_answers_and_keeps_its_connection() {
    let one = endpoint("one", Does::Answer(Duration::from_millis(200)));
    let two = endpoint("two", Does::Nothing);
    let proxy = hedged(&one, &two, "");
    let mut client = Keeping::new(proxy.at("web"));
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "one"));
    }
    assert_eq!(one.cluster.connections.load(Ordering::SeqCst), 1, "its connection is kept");
    eventually("each second was broken off", || {
        let asked = two.asked.load(Ordering::SeqCst);
        asked >= 1 && two.left.load(Ordering::SeqCst) == asked
    });
    assert!(hedges(&proxy, "sent") >= 1.0 && hedges(&proxy, "won") == 0.0);
}

#[test]
fn a_failed_hedge_leaves_the_primary_to_answer() {
    let slow = Does::Answer(Duration::from_millis(250));
    for second in
        [Does::Fails, Does::Breaks(Duration::ZERO), Does::Breaks(Duration::from_millis(60))]
    {
        let (one, two) = (endpoint("one", slow), endpoint("two", second));
        let proxy = hedged(&one, &two, "");
        let answer = get(proxy.at("web"), "/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "one"));
        assert_eq!(two.asked.load(Ordering::SeqCst), 1, "it was asked");
    }
    // Also if the first endpoint accepts no connection.
    let (one, two) = (endpoint("one", slow), endpoint("two", SOON));
    let text =
        config(&[("one", "idc", one.cluster.address), ("two", "cloud", two.cluster.address)])
            .replace("clusters: [one, two]", "clusters: [one, two], hedge: { after: 60ms }")
            .replace("probe: { interval: 100ms, timeout: 100ms }", "probe: { kind: none }");
    let proxy = Proxy::start(&text);
    two.cluster.kill();
    assert_eq!(get(proxy.at("web"), "/").body, "one");
}

#[test]
fn a_failed_primary_does_not_delay_the_hedge() {
    let one = endpoint("one", Does::Breaks(Duration::from_millis(100)));
    let two = endpoint("two", Does::Answer(Duration::from_millis(200)));
    let proxy = hedged(&one, &two, "");
    let answer = get(proxy.at("web"), "/");
    assert_eq!((answer.status, answer.body.as_str()), (200, "two"));
    assert_eq!(two.asked.load(Ordering::SeqCst), 1, "once is enough");
}

#[test]
fn when_both_attempts_fail_the_client_gets_502() {
    let one = endpoint("one", Does::Breaks(Duration::from_millis(100)));
    let two = endpoint("two", Does::Breaks(Duration::from_millis(100)));
    let proxy = hedged(&one, &two, ", retry: { retries: 0 }");
    let answer = get(proxy.at("web"), "/");
    assert_eq!((answer.status, answer.refusal().as_str()), (502, "upstream_reset"));
}

#[test]
fn non_idempotent_requests_are_not_hedged() {
    let one = endpoint("one", Does::Answer(Duration::from_millis(200)));
    let two = endpoint("two", SOON);
    let proxy = hedged(&one, &two, "");
    let post = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(ask_raw(proxy.at("web"), post).body, "one");
    assert_eq!(two.asked.load(Ordering::SeqCst), 0);
    // An idempotent request with a body is hedged with its body.
    let put = b"PUT / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nho";
    assert_eq!(ask_raw(proxy.at("web"), put).body, "two");
    assert!(two.cluster.seen().ends_with("\r\n\r\nho"), "{}", two.cluster.seen());
}

#[test]
fn hedges_use_the_retry_budget_and_a_route_may_disable_them() {
    let one = endpoint("one", Does::Answer(Duration::from_millis(120)));
    let two = endpoint("two", SOON);
    let proxy = hedged(&one, &two, ", retry: { budget: 0 }");
    assert_eq!(get(proxy.at("web"), "/").body, "one");
    eventually("it was denied", || hedges(&proxy, "denied") == 1.0);
    drop(proxy);
    let text =
        config(&[("one", "idc", one.cluster.address), ("two", "cloud", two.cluster.address)])
            .replace("clusters: [one, two]", "clusters: [one, two], hedge: { after: 60ms }");
    let route = "routes: [{ path: /patient, service: shop, hedge: { after: none } }]\n";
    let proxy = Proxy::start(&format!("{text}{route}"));
    assert_eq!(get(proxy.at("web"), "/patient").body, "one");
    assert_eq!(get(proxy.at("web"), "/").body, "two");
}

#[test]
fn a_leaving_client_cancels_both_attempts() {
    let (one, two) = (endpoint("one", Does::Nothing), endpoint("two", Does::Nothing));
    let proxy = hedged(&one, &two, "");
    let mut client = Keeping::new(proxy.at("web"));
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("both are asked", || two.asked.load(Ordering::SeqCst) == 1);
    drop(client);
    eventually("both are told", || {
        one.left.load(Ordering::SeqCst) == 1 && two.left.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn hedging_works_over_http2() {
    if !is_installed("nginx") {
        return;
    }
    let hung = Arc::new(AtomicBool::new(true));
    let hangs = hung.clone();
    let left = Arc::new(AtomicUsize::new(0));
    let gone = left.clone();
    let origin = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            if hangs.load(Ordering::SeqCst) {
                let mut space = [0; 1];
                drop(connection.stream.read(&mut space));
                gone.fetch_add(1, Ordering::SeqCst);
                return;
            }
            wait(Duration::from_millis(200));
            connection.reply("slow");
        }
    });
    let quick = Cluster::named("quick");
    let (folder, address) = (Folder::new(), free());
    let server = format!(
        "server {{ listen {address} http2; location / {{ proxy_pass http://{}; proxy_http_version 1.1; }} }}",
        origin.address
    );
    let _nginx = nginx(&folder, address, &server);
    let text = config(&[("one", "idc", address), ("two", "cloud", quick.address)])
        .replace("one: { kind: idc,", "one: { kind: idc, protocol: http2,")
        .replace("clusters: [one, two]", "clusters: [one, two], hedge: { after: 60ms }");
    let proxy = Proxy::start(&text);
    assert_eq!(get(proxy.at("web"), "/").body, "quick");
    eventually("the stream is reset", || left.load(Ordering::SeqCst) == 1);
    // If the first attempt is quicker, its answer is used.
    hung.store(false, Ordering::SeqCst);
    quick.kill();
    let answer = get(proxy.at("web"), "/");
    assert_eq!((answer.status, answer.body.as_str()), (200, "slow"));
    let silent = endpoint("two", Does::Nothing);
    proxy.rewrite(&text.replace(&quick.address.to_string(), &silent.cluster.address.to_string()));
    eventually("the reload", || proxy.generation() == 2);
    eventually("it is up", || proxy.cluster("two")["state"] == "up");
    // The retry budget has to refill.
    eventually("it is asked as well", || {
        let answer = get(proxy.at("web"), "/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "slow"));
        silent.asked.load(Ordering::SeqCst) > 0
    });
}

/// Two endpoints of one cluster, in round robin.
fn siblings(first: &Endpoint, second: &Endpoint, service: &str, cluster: &str) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ workers: 1 }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [a], endpoint_policy: round_robin, hedge: {{ after: 30ms }}{service} }} }}\n\
         clusters: {{ a: {{ kind: idc, endpoints: [\"{}\", \"{}\"]{cluster} }} }}\n",
        first.cluster.address, second.cluster.address
    ))
}

#[test]
fn an_endpoint_whose_hedges_always_win_is_ejected() {
    let (hung, good) = (endpoint("hung", Does::Nothing), endpoint("good", SOON));
    let proxy = siblings(&hung, &good, ", retry: { budget: 1 }", "");
    let mut clients: Vec<Keeping> = (2..5).map(|n| Keeping::from(n, proxy.at("web"))).collect();
    let ejected = "tidegate_ejections_total{tidegate_cluster=\"a\",cause=\"overtaken\"}";
    eventually("it is found out", || {
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").body, "good"));
        proxy.metric(ejected) > 0.0
    });
    let asked = hung.asked.load(Ordering::SeqCst);
    assert!(asked < 40, "found out after {asked}");
}

#[test]
fn requests_with_affinity_are_not_hedged() {
    let one = endpoint("one", Does::Answer(Duration::from_millis(120)));
    let two = endpoint("two", Does::Answer(Duration::from_millis(120)));
    let proxy = siblings(&one, &two, ", affinity: { cookie: at }, retry: { budget: 1 }", "");
    let first = get(proxy.at("web"), "/");
    let cookie = first.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let before = hedges(&proxy, "sent");
    let asked =
        format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(ask_raw(proxy.at("web"), asked.as_bytes()).body, first.body);
    }
    assert_eq!(hedges(&proxy, "sent"), before);
}
