//! Data classes, environments and needs under failures: a cluster that may not serve an exchange never sees it, and
//! each exchange that a constraint kept from a live cluster is counted and logged.

use super::support::*;
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

/// An IDC, and a cloud that does not accept sensitive data. `/s` carries sensitive data, other paths do not.
struct Rig {
    proxy: Proxy,
    idc: Cluster,
    cloud: Cluster,
}

/// Starts the proxy; `of_idc` and `of_service` are further keys.
fn rig(idc: Cluster, of_idc: &str, of_service: &str) -> Rig {
    let cloud = Cluster::named("cloud");
    let text = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
        .replace("kind: idc,", &format!("kind: idc, {of_idc}"))
        .replace("clusters: [idc, cloud] }", &format!("clusters: [idc, cloud], {of_service} }}"))
        + "routes: [{ path_prefix: /s, service: shop, data: sensitive }]\n";
    Rig { proxy: Proxy::start(&text), idc, cloud }
}

impl Rig {
    fn get(&self, path: &str) -> Answer {
        get(self.proxy.at("web"), path)
    }

    fn is_down(&self) {
        eventually("the idc is down", || self.proxy.cluster("idc")["state"] == "down");
    }

    /// The cloud saw no sensitive request, and these refusals were counted.
    fn holds(&self, refused: f64) {
        assert!(!self.cloud.seen().contains(" /s"), "a cloud saw sensitive data");
        self.proxy.counts(&refusals("shop", "data_class"), refused);
        self.proxy.counts(&refusals("shop", "environment"), 0.0);
        self.proxy.counts(&refusals("shop", "needs"), 0.0);
    }
}

fn refusals(service: &str, constraint: &str) -> String {
    format!(
        "tidegate_constraint_refusals_total{{service=\"{service}\",constraint=\"{constraint}\"}}"
    )
}

/// A cluster that answers a request for `/s/hold` when it is told to, and others at once.
fn holding() -> (Cluster, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let cluster = Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/s/hold") {
                wait.lock().unwrap().recv_timeout(PATIENCE).ok();
            }
            connection.reply("idc");
        }
    });
    (cluster, go)
}

#[test]
fn while_the_idc_is_down() {
    let rig = rig(Cluster::named("idc"), "", "");
    assert_eq!(rig.get("/s").body, "idc");
    rig.idc.kill();
    rig.is_down();
    for _ in 0..20 {
        let answer = rig.get("/s");
        assert_eq!((answer.status, answer.refusal().as_str()), (503, "no_healthy_cluster"));
        assert_eq!(rig.get("/open").body, "cloud");
    }
    rig.holds(20.0);
    let told = rig.proxy.says("refused by a constraint");
    for part in [
        "service=\"shop\"",
        "clusters=\"cloud:data_class\"",
        "data=\"general,sensitive\"",
        "refusal=\"no_healthy_cluster\"",
        "client=127.0.0.1",
    ] {
        assert!(told.contains(part), "{told} lacks {part}");
    }
    let lines = || rig.proxy.log().iter().filter(|l| l.contains("refused by a constraint")).count();
    assert!(lines() < 10, "a flood of refusals does not flood the log: {}", lines());
}

#[test]
fn while_the_idc_is_saturated() {
    let (idc, go) = holding();
    let rig = rig(idc, "capacity: { concurrent: 1 }, timeouts: { queue: 100ms },", "");
    let mut first = Keeping::new(rig.proxy.at("web"));
    first.send(b"GET /s/hold HTTP/1.1\r\nHost: shop\r\n\r\n");
    eventually("the idc is full", || rig.idc.seen().contains("/s/hold"));
    for _ in 0..5 {
        let answer = rig.get("/s");
        assert_eq!((answer.status, answer.refusal().as_str()), (503, "overloaded"));
        assert_eq!(rig.get("/open").body, "cloud");
    }
    go.send(()).unwrap();
    assert_eq!(first.answer().body, "idc");
    rig.holds(5.0);
}

#[test]
fn in_panic_mode() {
    let rig = rig(Cluster::named("idc"), "outlier: { panic_percent: 50 },", "");
    rig.idc.kill();
    rig.is_down();
    for _ in 0..5 {
        let answer = rig.get("/s");
        assert_eq!((answer.status, answer.refusal().as_str()), (502, "upstream_connect"));
        assert_eq!(rig.get("/open").body, "cloud");
    }
    rig.holds(5.0);
}

#[test]
fn in_retries() {
    let idc = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/reset") {
                return;
            }
            connection.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let rig = rig(idc, "", "retry: { budget: 1, retries: 3 }");
    assert_eq!(rig.get("/open").body, "cloud", "a retry elsewhere");
    assert_eq!(rig.get("/s").status, 503, "the idc's own response");
    assert_eq!(rig.get("/s/reset").status, 502);
    assert!(!rig.cloud.seen().contains(" /s"), "a cloud saw sensitive data");
}

#[test]
fn in_hedges() {
    let (idc, go) = holding();
    let rig = rig(idc, "", "hedge: { after: 30ms }");
    let mut client = Keeping::new(rig.proxy.at("web"));
    client.send(b"GET /open?/s/hold HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(client.answer().body, "cloud", "the hedge answers");
    go.send(()).unwrap();
    client.send(b"GET /s/hold HTTP/1.1\r\nHost: shop\r\n\r\n");
    eventually("it is sent", || rig.idc.seen().contains("GET /s/hold"));
    let since = std::time::Instant::now();
    eventually("a hedge would be due", || since.elapsed().as_millis() > 100);
    go.send(()).unwrap();
    assert_eq!(client.answer().body, "idc");
    rig.holds(0.0);
}

#[test]
fn with_dials() {
    let rig = rig(Cluster::named("idc"), "", "");
    let dial = |percent: u8| {
        let body = format!("{{\"percent\": {percent}}}");
        assert_eq!(rig.proxy.tell("PUT", "/api/v1/clusters/idc/dial", &body).status, 200);
    };
    dial(1);
    let mut client = Keeping::new(rig.proxy.at("web"));
    eventually("the dial holds", || client.get("/open").body == "cloud");
    (0..50).for_each(|_| assert_eq!(client.get("/s").body, "idc"));
    dial(0);
    eventually("it is drained", || rig.get("/s").status == 503);
    assert_eq!(rig.get("/s").refusal(), "no_healthy_cluster");
    assert_eq!(rig.get("/open").body, "cloud");
    assert!(!rig.cloud.seen().contains(" /s"), "a cloud saw sensitive data");
}

#[test]
fn in_splits_and_copies() {
    let (idc, vault) = (Cluster::named("idc"), Cluster::named("vault"));
    let cloud = Cluster::named("cloud");
    let text = config(&[
        ("idc", "idc", idc.address),
        ("cloud", "cloud", cloud.address),
        ("vault", "idc", vault.address),
    ])
    .replace(
        "shop: { clusters: [idc, cloud, vault] }",
        "shop: { clusters: [cloud, idc] }, next: { clusters: [cloud, idc] }, copies: { clusters: [cloud, vault] }",
    ) + "routes: [{ path_prefix: /s, split: { shop: 50, next: 50 }, data: sensitive, mirror: { service: copies } }]\n";
    let proxy = Proxy::start(&text);
    (0..20).for_each(|_| assert_eq!(get(proxy.at("web"), "/s").body, "idc"));
    eventually("the copies", || vault.seen().matches("GET /s ").count() == 20);
    vault.kill();
    eventually("the vault is down", || proxy.cluster("vault")["state"] == "down");
    (0..10).for_each(|_| assert_eq!(get(proxy.at("web"), "/s").body, "idc"));
    idc.kill();
    eventually("the idc is down", || proxy.cluster("idc")["state"] == "down");
    (0..20).for_each(|_| assert_eq!(get(proxy.at("web"), "/s").status, 503));
    assert_eq!(get(proxy.at("web"), "/open").body, "cloud");
    assert!(!cloud.seen().contains(" /s"), "a cloud saw sensitive data");
    // Each worker has its own turns of the split.
    eventually("all are counted", || {
        let of = |service| proxy.metric(&refusals(service, "data_class"));
        of("shop") + of("next") == 20.0 && of("shop") >= 5.0 && of("next") >= 5.0
    });
    proxy.counts(&refusals("copies", "data_class"), 0.0);
}

#[test]
fn of_environment_and_needs() {
    let [idc, cloud, test] = ["idc", "cloud", "test"].map(Cluster::named);
    let text = config(&[
        ("idc", "idc", idc.address),
        ("cloud", "cloud", cloud.address),
        ("test", "cloud", test.address),
    ])
    .replace("idc: { kind: idc,", "idc: { kind: idc, offers: [gpu],")
    .replace("test: { kind: cloud,", "test: { kind: cloud, offers: [gpu], environment: test,")
    .replace("[idc, cloud, test] }", "[idc, cloud, test], needs: [gpu] }");
    let proxy = Proxy::start(&text);
    assert_eq!(get(proxy.at("web"), "/").body, "idc");
    proxy.counts(&refusals("shop", "needs"), 0.0);
    idc.kill();
    eventually("the idc is down", || proxy.cluster("idc")["state"] == "down");
    (0..7).for_each(|_| assert_eq!(get(proxy.at("web"), "/").refusal(), "no_healthy_cluster"));
    assert!(cloud.seen().is_empty() && test.seen().is_empty());
    proxy.counts(&refusals("shop", "needs"), 7.0);
    proxy.counts(&refusals("shop", "environment"), 7.0);
    proxy.counts(&refusals("shop", "data_class"), 0.0);
    // A refusal is no constraint's if the clusters that may not serve are down too.
    for (name, cluster) in [("cloud", &cloud), ("test", &test)] {
        cluster.kill();
        eventually("it is down", || proxy.cluster(name)["state"] == "down");
    }
    assert_eq!(get(proxy.at("web"), "/").status, 503);
    proxy.counts("tidegate_refusals_total{listener=\"web\",reason=\"no_healthy_cluster\"}", 8.0);
    assert_eq!(proxy.metric(&refusals("shop", "needs")), 7.0);
}

#[test]
fn at_l4_whatever_fails() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
        .replace("protocol: http", "protocol: tcp")
        .replace("kind: idc,", "kind: idc, capacity: { concurrent: 1 },");
    let sensitive = text.replace("[idc, cloud] }", "[idc, cloud], data: sensitive }");
    let proxy = Proxy::start(&sensitive);
    let ask = || Keeping::new(proxy.at("web")).get("/").body;
    let is_reset = || {
        let mut stream = connect(proxy.at("web"));
        matches!(stream.read(&mut [0; 8]), Err(_) | Ok(0))
    };
    let mut first = Keeping::new(proxy.at("web"));
    assert_eq!(first.get("/").body, "idc");
    assert!(is_reset(), "the idc is full");
    drop(first);
    eventually("the idc has capacity", || proxy.cluster("idc")["in_flight"] == 0);
    assert_eq!(ask(), "idc");
    proxy.counts(&refusals("shop", "data_class"), 1.0);
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/drain", "").status, 200);
    eventually("the idc is drained", || proxy.cluster("idc")["state"] == "draining");
    assert!(is_reset());
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/undrain", "").status, 200);
    eventually("the idc is back", || proxy.cluster("idc")["state"] == "up");
    assert_eq!(ask(), "idc");
    idc.kill();
    eventually("the idc is down", || proxy.cluster("idc")["state"] == "down");
    (0..5).for_each(|_| assert!(is_reset()));
    assert!(cloud.seen().is_empty(), "a cloud saw sensitive data");
    proxy.counts(&refusals("shop", "data_class"), 7.0);
    proxy.rewrite(&text);
    eventually("the reload", || proxy.generation() == 2);
    assert_eq!(ask(), "cloud", "without the data class");
    proxy.rewrite(&sensitive);
    eventually("the reload", || proxy.generation() == 3);
    assert!(is_reset(), "with the data class again");
}
