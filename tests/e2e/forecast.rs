//! The forecast of an outage by `tidegate simulate`, compared with the outage.

use super::admin::tidegate;
use super::spill::{Seen, load, place};
use super::support::*;
use std::time::{Duration, Instant};

/// Requests a second.
const RATE: usize = 150;
/// The permitted difference.
const ERROR: f64 = 0.15;

fn mean_ms(seen: &Seen) -> f64 {
    let sum: Duration = seen.latencies.iter().sum();
    sum.as_secs_f64() * 1e3 / seen.latencies.len() as f64
}

/// The forecast and the measured value of three figures: the mean response time before and during the outage, and its cost.
/// `None` if requests went to the second cluster before the outage, because the machine was too slow.
fn differences() -> Option<[(&'static str, f64, f64); 3]> {
    let (idc, near) = (place("idc", 10, 0), place("near", 20, 40));
    let probe = "probe: { kind: http, path: /healthz, interval: 100ms }";
    let proxy = Proxy::start(&format!(
        "access_log: {{ format: off }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc, near] }} }}\n\
         clusters:\n  \
           idc: {{ kind: idc, capacity: {{ concurrent: 10 }}, endpoints: [\"{}\"], {probe} }}\n  \
           near: {{ kind: cloud, capacity: {{ concurrent: 20 }}, cost: {{ per_gib: 10, per_million_requests: 10 }}, endpoints: [\"{}\"], {probe} }}\n",
        idc.address, near.address
    ));
    let web = proxy.at("web");
    let calm = std::thread::spawn(move || load(web, RATE, 7));
    // The proxy has measured the service when it knows the demand and a few seconds of responses.
    eventually("the service is measured", || {
        let service = &proxy.json("/api/v1/services")[0];
        let measured = proxy.cluster("idc")["service_ms"].is_f64() && service["p99_ms"].is_f64();
        measured
            && (service["demand_rps"].as_f64().unwrap() / RATE as f64 - 1.0).abs() < 0.1
            && proxy.json("/api/v1/cost")["services"][0]["clusters"][0]["requests"].as_u64()
                > Some(500)
    });
    let scenario = "duration: 14s\nsteps: [{ from: 6s, event: \"outage:idc\" }]\n";
    let scenario = proxy.folder.write("outage.yaml", scenario);
    let (config, url) = (proxy.config_path(), format!("http://{}", proxy.admin));
    let (code, text) = tidegate(&[
        "simulate",
        "--json",
        "--config",
        config.to_str().unwrap(),
        "--scenario",
        scenario.to_str().unwrap(),
        "--admin",
        &url,
    ]);
    assert_eq!(code, 0, "{text}");
    let forecast: serde_json::Value = serde_json::from_str(&text).unwrap();
    let headline = forecast["headlines"][0].as_str().unwrap();
    assert!(headline.starts_with("an outage of idc: 100 % to near, p99 "), "{headline}");
    let calm = calm.join().unwrap();
    if calm.share("near") > 0.0 {
        return None;
    }
    measured_inputs(&forecast);
    let spent = || proxy.json("/api/v1/cost")["usd"].as_f64().unwrap();
    let (before, begun) = (spent(), Instant::now());
    idc.kill();
    let outage = load(web, RATE, 5);
    let usd_per_hour = (spent() - before) / begun.elapsed().as_secs_f64() * 3600.0;
    assert!(outage.share("near") > 0.99 && calm.errors.is_empty(), "{:?}", calm.errors.first());
    let told = |phase: usize, figure: &str| forecast["phases"][phase][figure].as_f64().unwrap();
    Some([
        ("mean before", told(0, "mean_ms"), mean_ms(&calm)),
        ("mean of the outage", told(1, "mean_ms"), mean_ms(&outage)),
        ("dollars an hour", told(1, "usd_per_hour"), usd_per_hour),
    ])
}

/// Checks that the proxy has supplied the inputs behind the forecast.
fn measured_inputs(forecast: &serde_json::Value) {
    let inputs = forecast["inputs"].as_array().unwrap();
    let source = |name: &str, cluster: Option<&str>| {
        let one =
            inputs.iter().find(|one| one["name"] == name && one["cluster"].as_str() == cluster);
        one.unwrap_or_else(|| panic!("{name} in {inputs:#?}"))["source"].as_str().unwrap()
    };
    for (name, cluster, expected) in [
        ("requests_per_s", None, "measured"),
        ("service_ms", None, "measured"),
        ("service_spread", None, "measured"),
        ("distance_ms", Some("idc"), "measured"),
        ("distance_ms", Some("near"), "measured"),
        ("concurrent", Some("near"), "configured"),
        ("usd_per_request", Some("near"), "configured"),
        // No response has come from there yet: the size is that of the other cluster's responses.
        ("response_bytes", Some("near"), "assumed"),
        ("usd", None, "assumed"),
    ] {
        assert_eq!(source(name, cluster), expected, "{name} of {cluster:?}");
    }
}

#[test]
fn the_forecast_of_an_outage_is_within_15_percent_of_the_outage() {
    // Other processes may take the processor for a while: one of three attempts must meet the bound.
    let mut all = Vec::new();
    for _ in 0..3 {
        let found = differences();
        println!("figure, forecast, real: {found:.2?}");
        let is_near = |(_, forecast, real): &(_, f64, f64)| (forecast / real - 1.0).abs() <= ERROR;
        if found.is_some_and(|figures| figures.iter().all(is_near)) {
            return;
        }
        all.push(found);
    }
    panic!("figure, forecast, real: {all:#?}");
}
