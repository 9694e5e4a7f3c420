//! Metrics of clusters and endpoints: state, latency, connections, probes.

use super::families::{CLUSTER, Families, counter, gauge, histogram};
use super::scrape::Scrape;
use crate::decision::plan::ClusterIndex;
use crate::decision::signal::{ClusterSignals, State};
use prometheus::proto::MetricType;

pub(super) fn clusters(families: &mut Families, scrape: &Scrape<'_>) {
    let beliefs = || scrape.plan.clusters.enumerated().zip(&scrape.signals.clusters);
    // NaN for an unmeasured value: 0 would look like a measurement.
    type Figure<'a> = &'a dyn Fn(ClusterIndex, &ClusterSignals) -> Option<f64>;
    let mut each = |name: &str, help: &str, figure: Figure<'_>| {
        let metrics = families.family(name, help, MetricType::GAUGE);
        for ((index, cluster), signals) in beliefs() {
            let figure = figure(index, signals).unwrap_or(f64::NAN);
            metrics.push(gauge(&[(CLUSTER, &cluster.name)], figure));
        }
    };
    each("tidegate_cluster_up", "1 if the cluster can serve.", &|_, signals| {
        Some(f64::from(u8::from(matches!(signals.state, State::Up | State::Degraded))))
    });
    each("tidegate_cluster_rtt_seconds", "Round trip to the cluster.", &|_, s| s.rtt);
    let help = "Distance of the cluster: its round trip, and the path behind a middlebox.";
    each("tidegate_cluster_distance_seconds", help, &|_, signals| signals.distance);
    each("tidegate_cluster_service_seconds", "Service time without queue.", &|_, s| s.service);
    each("tidegate_cluster_queue_seconds", "Queue delay now.", &|_, signals| signals.queue);
    each("tidegate_cluster_in_flight", "Exchanges in flight.", &|index, _| {
        scrape.in_flight.get(index).copied().map(f64::from)
    });
    let up = families.family(
        "tidegate_endpoint_up",
        "1 if the endpoint may be used.",
        MetricType::GAUGE,
    );
    for ((_, cluster), signals) in beliefs() {
        for endpoint in &signals.endpoints {
            let address = endpoint.address.to_string();
            let labels = [(CLUSTER, cluster.name.as_str()), ("endpoint", address.as_str())];
            up.push(gauge(&labels, f64::from(u8::from(endpoint.up))));
        }
    }
    let connections = families.family(
        "tidegate_upstream_connections",
        "Connections to the cluster.",
        MetricType::GAUGE,
    );
    for ((index, cluster), _) in beliefs() {
        let (active, idle, _) = scrape.connections.get(index).copied().unwrap_or_default();
        for (state, count) in [("active", active), ("idle", idle)] {
            let labels = [(CLUSTER, cluster.name.as_str()), ("state", state)];
            connections.push(gauge(&labels, f64::from(count)));
        }
    }
    let pending = families.family(
        "tidegate_cluster_pending",
        "Exchanges that wait for a connection to the cluster or for capacity.",
        MetricType::GAUGE,
    );
    for ((index, cluster), _) in beliefs() {
        let (.., waiting) = scrape.connections.get(index).copied().unwrap_or_default();
        pending.push(gauge(&[(CLUSTER, cluster.name.as_str())], f64::from(waiting)));
    }
    probes(families, scrape);
}

fn probes(families: &mut Families, scrape: &Scrape<'_>) {
    let server = &scrape.server;
    let probes = families.family("tidegate_probes_total", "Probes by result.", MetricType::COUNTER);
    for (cluster, (ok, failed)) in &server.probes {
        probes.push(counter(&[(CLUSTER, cluster), ("result", "success")], *ok as f64));
        probes.push(counter(&[(CLUSTER, cluster), ("result", "failure")], *failed as f64));
    }
    let spans = families.family(
        "tidegate_probe_duration_seconds",
        "Duration of probes.",
        MetricType::HISTOGRAM,
    );
    for (cluster, totals) in &server.probe_spans {
        spans.push(histogram(&[(CLUSTER, cluster)], totals));
    }
    let ejections = families.family(
        "tidegate_ejections_total",
        "Ejections of endpoints, by cause.",
        MetricType::COUNTER,
    );
    for ((cluster, cause), count) in &server.ejections {
        ejections.push(counter(&[(CLUSTER, cluster), ("cause", cause)], *count as f64));
    }
    let failures = families.family(
        "tidegate_upstream_tls_failures_total",
        "TLS handshakes with endpoints that failed, of probes and exchanges, by cause.",
        MetricType::COUNTER,
    );
    for ((cluster, cause), count) in &server.tls_failures {
        failures.push(counter(&[(CLUSTER, cluster), ("cause", cause)], *count as f64));
    }
    let ages = families.family(
        "tidegate_dns_age_seconds",
        "Age of the last good DNS answer.",
        MetricType::GAUGE,
    );
    for (cluster, age) in &server.dns_age {
        ages.push(gauge(&[(CLUSTER, cluster)], *age));
    }
}
