//! docs/metrics.md against a scrape of a running proxy: each metric with its type and its labels.

use super::support::*;
use std::collections::{BTreeMap, BTreeSet};

/// The type and the labels of a metric.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

/// Metrics that the page names with the key or the event that they need, beyond what this test configures.
const CONDITIONAL: &[&str] = &[
    "tidegate_acme_",
    "tidegate_capacity_group_",
    "tidegate_certificate_expiry_",
    "tidegate_certificates_pending",
    "tidegate_config_source_",
    "tidegate_demand_forecast_",
    "tidegate_desired_replicas",
    "tidegate_dns_age_",
    "tidegate_ejections_",
    "tidegate_fleet_nats_",
    "tidegate_kubernetes_",
    "tidegate_scaler_",
    "tidegate_trace_spans_",
    "tidegate_upstream_tls_",
    "tidegate_webhook_",
];

/// The rows of the page's tables: name, type, labels.
fn page() -> Described {
    let text = include_str!("../../docs/metrics.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `tidegate_")?.split('|');
        let name = format!("tidegate_{}", cells.next()?.trim().trim_end_matches('`'));
        let kind = cells.next()?.trim().to_owned();
        let labels =
            cells.next()?.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let meaning = cells.next()?.trim();
        assert!(!meaning.is_empty(), "{name} has no meaning");
        Some((name, (kind, labels.filter(|label| !label.is_empty()).collect())))
    };
    text.lines().filter_map(row).collect()
}

/// The families of a scrape; `le` belongs to the histogram.
fn scraped(text: &str) -> Described {
    let mut found = Described::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!help.trim().is_empty(), "{line}");
            found.insert(name.to_owned(), (String::new(), BTreeSet::new()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            found.get_mut(name).expect("HELP comes first").0 = kind.to_owned();
        } else if let Some((series, rest)) = line.split_once('{') {
            let family = ["_bucket", "_sum", "_count", ""]
                .iter()
                .filter_map(|end| series.strip_suffix(end))
                .find(|name| found.contains_key(*name))
                .expect(line)
                .to_owned();
            let labels = rest.rsplit_once('}').expect(line).0;
            let names = labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0));
            let names = names.map(|name| name.trim().to_owned()).filter(|name| name != "le");
            found.get_mut(&family).expect(line).1.extend(names);
        }
    }
    found.retain(|name, _| name.starts_with("tidegate_"));
    found
}

#[test]
fn the_page_describes_every_metric_with_its_type_and_labels() {
    let cluster = Cluster::named("a");
    let address = cluster.address;
    let proxy = Proxy::start(&format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: s }} }}\n\
         services: {{ s: {{ clusters: [a], budget: {{ usd_per_hour: 1 }}, compression: {{}} }} }}\n\
         clusters: {{ a: {{ kind: cloud, endpoints: [{address}], cost: {{ per_gib: 1 }} }} }}\n\
         routes:\n- {{ path: /other, service: s }}\n"
    ));
    for path in ["/", "/other"] {
        assert_eq!(get(proxy.at("web"), path).status, 200);
    }
    proxy.counts("tidegate_requests_total", 2.0);
    eventually("a probe was counted", || proxy.metric("tidegate_probes_total") > 0.0);
    let (page, scraped) = (page(), scraped(&proxy.get("/metrics").body));
    assert!(scraped.len() > 40, "{}", scraped.len());
    for (name, of_proxy) in &scraped {
        let on_page = page.get(name).unwrap_or_else(|| panic!("docs/metrics.md lacks {name}"));
        assert_eq!(on_page.0, of_proxy.0, "the type of {name}");
        // A family without a series yet shows no labels.
        assert!(
            of_proxy.1.is_empty() || on_page.1 == of_proxy.1,
            "{name}: {on_page:?} {of_proxy:?}"
        );
    }
    let absent = page.keys().filter(|name| !scraped.contains_key(*name));
    let unknown: Vec<_> =
        absent.filter(|name| !CONDITIONAL.iter().any(|start| name.starts_with(start))).collect();
    assert!(unknown.is_empty(), "docs/metrics.md has metrics that a proxy lacks: {unknown:?}");
}
