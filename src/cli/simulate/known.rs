//! The inputs that a running proxy supplies: its measurements of clusters, demand, sizes and the balance of the budget.

use crate::admin::client::Remote;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a running proxy knows of a service and of its clusters.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Requests a second.
    pub(super) rate: Option<f64>,
    /// Median and 99th percentile of the response time of the last second, in milliseconds.
    pub(super) quantiles: Option<(f64, f64)>,
    /// The balance of the budget, in dollars.
    pub(super) balance: Option<f64>,
    /// By name.
    pub(super) clusters: BTreeMap<String, KnownCluster>,
}

/// What a running proxy knows of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownCluster {
    /// The distance that the decisions use, in milliseconds.
    pub(super) distance_ms: Option<f64>,
    /// The service time that the decisions use, in milliseconds.
    pub(super) service_ms: Option<f64>,
    /// The exchanges that the cluster served at once when it was full.
    pub(super) concurrent: Option<f64>,
    /// Endpoints.
    pub(super) endpoints: Option<usize>,
    /// The dial in force, in percent; the site's included.
    pub(super) dial: Option<u8>,
    /// Whether the cluster is down.
    pub(super) is_down: bool,
    /// Mean bytes of a response to the service.
    pub(super) bytes: Option<f64>,
}

/// Asks a running proxy.
///
/// # Errors
/// Why the answers cannot be used, as text for an operator.
pub(super) fn ask(remote: &Remote, service: &str) -> Result<Known, String> {
    Ok(read(
        &get(remote, "/api/v1/clusters")?,
        &get(remote, "/api/v1/services")?,
        &get(remote, "/api/v1/cost")?,
        service,
    ))
}

/// The answer of a running proxy as JSON.
///
/// # Errors
/// Why there is none, as text for an operator.
pub(super) fn get(remote: &Remote, path: &str) -> Result<Value, String> {
    let (answer, url) = (remote.get(path)?, &remote.url);
    match answer.status {
        200 => serde_json::from_str(&answer.body)
            .map_err(|_| format!("the response of {url} to {path} is not JSON")),
        status => Err(format!("{url} answers {status} for {path}: {}", answer.body.trim())),
    }
}

/// Reads the answers; a figure that is absent or not above zero is unknown.
fn read(clusters: &Value, services: &Value, cost: &Value, service: &str) -> Known {
    let named = |all: &Value| {
        let mut all = all.as_array().into_iter().flatten();
        all.find(|one| one["name"] == service).cloned().unwrap_or_default()
    };
    let (own, spent) = (named(services), named(&cost["services"]));
    let mut known = Known {
        rate: positive(&own["demand_rps"]).filter(|rate| *rate >= 1.0),
        quantiles: positive(&own["p50_ms"]).zip(positive(&own["p99_ms"])),
        balance: spent["budget"]["left_usd"].as_f64(),
        clusters: BTreeMap::new(),
    };
    let percent = |value: &Value| value.as_u64().and_then(|dial| u8::try_from(dial.min(100)).ok());
    for cluster in clusters.as_array().into_iter().flatten() {
        let dial = percent(&cluster["dial_percent"]);
        let of_site = percent(&cluster["site_dial_percent"]);
        let one = KnownCluster {
            distance_ms: positive(&cluster["distance_ms"]),
            service_ms: positive(&cluster["service_ms"]),
            concurrent: positive(&cluster["learned_concurrent"]),
            endpoints: cluster["endpoints"].as_array().map(Vec::len).filter(|count| *count > 0),
            dial: dial.map(|dial| dial.min(of_site.unwrap_or(100))),
            is_down: cluster["state"] == "down",
            bytes: None,
        };
        known.clusters.insert(cluster["name"].as_str().unwrap_or_default().to_owned(), one);
    }
    for cluster in spent["clusters"].as_array().into_iter().flatten() {
        let name = cluster["name"].as_str().unwrap_or_default();
        if let Some(of) = known.clusters.get_mut(name) {
            of.bytes = positive(&cluster["bytes_per_request"]);
        }
    }
    known
}

fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|figure| figure.is_finite() && *figure > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_measured_is_unknown_and_the_site_limits_a_dial() {
        let clusters = json!([
            {"name": "idc", "distance_ms": 1.5, "service_ms": 20.0, "dial_percent": 100, "site_dial_percent": 30,
             "state": "up", "endpoints": [{}, {}], "learned_concurrent": 12.0},
            {"name": "near", "distance_ms": null, "service_ms": 0.0, "state": "down", "endpoints": []},
        ]);
        let services = json!([{"name": "a"}, {"name": "shop", "demand_rps": 250.0, "p50_ms": 21.0, "p99_ms": 25.0}]);
        let cost = json!({"services": [{"name": "shop", "budget": {"left_usd": -0.5},
            "clusters": [{"name": "idc", "bytes_per_request": 4096.0}, {"name": "near", "bytes_per_request": null}]}]});
        let known = read(&clusters, &services, &cost, "shop");
        assert_eq!(
            (known.rate, known.quantiles, known.balance),
            (Some(250.0), Some((21.0, 25.0)), Some(-0.5))
        );
        let (idc, near) = (&known.clusters["idc"], &known.clusters["near"]);
        assert_eq!((idc.distance_ms, idc.endpoints, idc.dial), (Some(1.5), Some(2), Some(30)));
        assert_eq!((idc.concurrent, idc.bytes, idc.is_down), (Some(12.0), Some(4096.0), false));
        assert_eq!((near.distance_ms, near.service_ms, near.endpoints), (None, None, None));
        assert_eq!((near.bytes, near.dial, near.is_down), (None, None, true));
    }
}
