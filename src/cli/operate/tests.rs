//! The verbs' texts, from answers as the API writes them.

use super::{clusters, status, why};
use serde_json::json;

fn cluster() -> serde_json::Value {
    json!({"name": "shop-idc", "site": "idc-east", "state": "degraded", "why": "nearest; 1 of 2 endpoints is down",
        "dial_percent": 100, "site_dial_percent": 50, "distance_ms": 1.25, "queue_ms": null, "total_ms": 21.5,
        "in_flight": 17, "requests_per_s": 812.4, "share": 0.75, "success_ratio": 0.999, "cost_usd_per_h": 0.0,
        "endpoints": [
            {"address": "10.0.0.11:8080", "state": "up", "in_flight": 9, "requests_per_s": 400.0, "rtt_ms": 0.4,
             "service_ms": 20.0, "last_error": "timeout", "last_error_text": "timeout", "last_error_age_s": 7300.0},
            {"address": "10.0.0.12:8080", "state": "down", "in_flight": 0, "requests_per_s": 0.0, "rtt_ms": null,
             "service_ms": 20.0, "last_error": "refused", "last_error_text": "connection \u{1b}refused",
             "last_error_age_s": 12.0}]})
}

#[test]
fn clusters_are_a_table_whose_unknown_figures_are_dashes() {
    let expected = "\
CLUSTER   SITE      STATE     DIAL  SHARE  REQ/s  IN FLIGHT  DISTANCE ms  QUEUE ms  TOTAL ms  SUCCESS  COST/h  LAST ERROR
shop-idc  idc-east  degraded  50 %   75 %    812         17          1.2         –        22    >99 %   $0.00  10.0.0.12:8080 connection \\u{1b}refused, 12 s ago
";
    assert_eq!(clusters::table_of(&[cluster()]), expected);
}

#[test]
fn one_cluster_is_shown_with_its_reason_and_its_endpoints() {
    let shown = clusters::one(&cluster());
    assert!(shown.contains("\nnearest; 1 of 2 endpoints is down\n"), "{shown}");
    assert!(shown.contains("10.0.0.12:8080  down"), "{shown}");
    assert!(shown.contains("timeout, 2 h 1 min ago"), "{shown}");
}

#[test]
fn the_status_names_a_rejected_file_and_every_cluster_that_is_not_up() {
    let all = json!({
        "status": {"site": "idc-east", "environment": "prod", "version": "0.1.0", "uptime_s": 3725, "draining": false,
            "config": {"generation": 4, "loaded_at": "2026-01-01T00:00:00Z",
                "last_reload": {"ok": false, "at": "2026-01-02T00:00:00Z", "error": "line 3: unknown key"}}},
        "clusters": [cluster(), {"name": "near", "state": "up"}],
        "services": [{"name": "shop", "order": ["shop-idc", "near"], "share": {"shop-idc": 0.75, "near": 0.25},
            "requests_per_s": 1000.0, "errors_per_s": 0.0, "refused_per_s": 0.0, "p50_ms": 20.0, "p99_ms": null,
            "cost_usd_per_h": 1.5, "budget_left_usd": null}]});
    let expected = "\
site           idc-east (environment prod)
version        0.1.0, running for 1 h 2 min
configuration  generation 4, in force since 2026-01-01T00:00:00Z; the file was REJECTED at 2026-01-02T00:00:00Z: line 3: unknown key
clusters       1 up, 1 degraded
  shop-idc is degraded: nearest; 1 of 2 endpoints is down

SERVICE  REQ/s  ERRORS/s  REFUSED/s  p50 ms  p99 ms  COST/h  BUDGET LEFT  SHARES
shop     1,000         0          0      20       –   $1.50            –  shop-idc 75 %, near 25 %
";
    assert_eq!(status::render(&all), expected);
}

#[test]
fn a_refused_request_is_told_with_its_refusal_and_a_served_one_with_its_cluster() {
    let told = |refusal: serde_json::Value| {
        json!({"method": "GET", "host": "shop.example", "path": "/cart", "time": "2026-01-01T00:00:00Z",
            "service": "shop", "cluster": "near", "endpoint": "10.1.0.1:80", "reason": "spill", "refusal": refusal,
            "status": 503, "attempts": 2, "upstream_connect_ms": null, "upstream_first_byte_ms": 12.0,
            "duration_ms": 13.0, "rejected": ["idc:down"], "why": "the nearest cluster is down"})
    };
    let served = why::render(&told(json!(null)));
    assert!(
        served.contains("cluster      near (endpoint 10.1.0.1:80), reason: spill\n"),
        "{served}"
    );
    assert!(served.contains("connect – ms, first byte 12 ms, whole 13 ms"), "{served}");
    assert!(served.contains("rejected     idc:down\n\nthe nearest cluster is down\n"), "{served}");
    let refused = why::render(&told(json!("no_healthy_cluster")));
    assert!(refused.contains("refused      no_healthy_cluster with status 503\n"), "{refused}");
}
