//! Disaster recovery: clusters that return, drills and shifts under load.

use super::support::*;
use std::net::SocketAddr;

/// Two clusters; the nearer one has this `failback`.
fn returning(failback: &str) -> (Cluster, Cluster, Proxy) {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]);
    let text =
        text.replace("idc: { kind: idc,", &format!("idc: {{ kind: idc, failback: {failback},"));
    let proxy = Proxy::start(&text);
    (idc, cloud, proxy)
}

/// Kills a cluster, waits until it is down, and starts it again at its address.
fn outage(proxy: &Proxy, cluster: Cluster) -> Cluster {
    let address: SocketAddr = cluster.address;
    drop(cluster);
    eventually("it is down", || proxy.cluster("idc")["state"] == "down");
    eventually("the other serves", || get(proxy.at("web"), "/").body == "cloud");
    Cluster::at(address, |mut connection| {
        while connection.request().is_some() {
            connection.reply("idc");
        }
    })
}

/// Why the last exchange did not go to the nearest cluster.
fn rejected(proxy: &Proxy, reason: &str) -> bool {
    get(proxy.at("web"), "/");
    let all = proxy.json("/api/v1/decisions");
    all.as_array().unwrap().iter().any(|one| one["rejected"][0] == reason)
}

#[test]
fn a_manual_failback_waits_for_an_undrain_and_says_so() {
    let (idc, _cloud, proxy) = returning("{ mode: manual }");
    assert_eq!(proxy.cluster("idc")["failback"], "manual");
    assert_eq!(proxy.cluster("cloud")["failback"], "auto");
    let _idc = outage(&proxy, idc);

    eventually("it has returned", || proxy.cluster("idc")["cause"] == "failback_manual");
    let cluster = proxy.cluster("idc");
    assert_eq!((&cluster["state"], &cluster["awaits_undrain"]), (&"draining".into(), &true.into()));
    assert!(
        cluster["why"].as_str().unwrap().contains("until an operator undrains it"),
        "{cluster}"
    );
    assert_eq!(get(proxy.at("web"), "/").body, "cloud", "nothing returns by itself");
    let explained = proxy.json("/api/v1/explain?host=a&path=/");
    assert_eq!(explained["rejected"][0]["reason"], "failback_manual");
    eventually("a decision says it", || rejected(&proxy, "idc:failback_manual"));

    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/undrain", "").status, 200);

    eventually("it serves again", || get(proxy.at("web"), "/").body == "idc");
    assert_eq!(proxy.cluster("idc")["awaits_undrain"], false);
}

#[test]
fn a_held_failback_says_for_how_long_and_then_returns() {
    let (idc, _cloud, proxy) = returning("{ hold: 3s }");
    assert!(proxy.cluster("idc")["held_for_s"].is_null());
    let _idc = outage(&proxy, idc);

    eventually("it is held", || proxy.cluster("idc")["cause"] == "failback_hold");
    let cluster = proxy.cluster("idc");
    let left = cluster["held_for_s"].as_f64().unwrap();
    assert!(left > 0.0 && left <= 3.0, "{cluster}");
    assert!(cluster["why"].as_str().unwrap().contains("keeps it out for another"), "{cluster}");
    eventually("a decision says it", || rejected(&proxy, "idc:failback_hold"));

    eventually("it serves again", || get(proxy.at("web"), "/").body == "idc");
    assert!(proxy.cluster("idc")["held_for_s"].is_null());
}
