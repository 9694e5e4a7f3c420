//! Metrics of clusters and endpoints: state, latency, connections, probes.

use super::families::{CLUSTER, Families, counter, gauge, histogram};
use super::scrape::Scrape;
use crate::decision::plan::{Cluster, ClusterIndex, Plan, Source};
use crate::decision::signal::{ClusterSignals, State};
use crate::decision::tls_failure::TlsFailure;
use prometheus::proto::{Metric, MetricType};
use std::collections::BTreeMap;

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
        for endpoint in signals.endpoints.iter() {
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
    groups(families, scrape);
    probes(families, scrape);
}

/// Use and limits of capacity groups.
fn groups(families: &mut Families, scrape: &Scrape<'_>) {
    let all = || scrape.plan.groups.iter().zip(&scrape.signals.groups);
    let in_use = families.family(
        "tidegate_capacity_group_in_use",
        "Exchanges in flight over the line, or Mbit/s of its busier direction.",
        MetricType::GAUGE,
    );
    for (group, signals) in all() {
        let rate = ("mbit_per_s", signals.mbit_per_s());
        for (unit, value) in [("exchanges", f64::from(signals.in_flight)), rate] {
            in_use.push(gauge(&[("capacity_group", &group.name), ("unit", unit)], value));
        }
    }
    let limits = families.family(
        "tidegate_capacity_group_limit",
        "The limits of the capacity group for this proxy.",
        MetricType::GAUGE,
    );
    for (group, signals) in all() {
        let rate = signals.limits.mbit_per_s().map(|rate| ("mbit_per_s", rate));
        let concurrent = signals.limits.concurrent.map(|most| ("exchanges", f64::from(most)));
        for (unit, value) in concurrent.into_iter().chain(rate) {
            limits.push(gauge(&[("capacity_group", &group.name), ("unit", unit)], value));
        }
    }
    let bytes = families.family(
        "tidegate_capacity_group_bytes_total",
        "Bytes on the wire, from and to the clusters of the capacity group.",
        MetricType::COUNTER,
    );
    for (group, signals) in all() {
        for (direction, count) in ["in", "out"].into_iter().zip(signals.bytes) {
            let labels = [("capacity_group", group.name.as_str()), ("direction", direction)];
            bytes.push(counter(&labels, count as f64));
        }
    }
}

fn probes(families: &mut Families, scrape: &Scrape<'_>) {
    let server = &scrape.server;
    let probes = families.family("tidegate_probes_total", "Probes by result.", MetricType::COUNTER);
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    counts.extend(scrape.plan.clusters.iter().map(|cluster| (cluster.name.as_str(), (0, 0))));
    counts.extend(server.probes.iter().map(|(cluster, counts)| (cluster.as_str(), *counts)));
    for (cluster, (ok, failed)) in counts {
        probes.push(counter(&[(CLUSTER, cluster), ("result", "success")], ok as f64));
        probes.push(counter(&[(CLUSTER, cluster), ("result", "failure")], failed as f64));
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
    // Not from the start at 0: that would be a dozen series for each cluster, and a series says that something happened.
    by_cause(ejections, scrape.plan, &server.ejections, |_| Vec::new());
    let failures = families.family(
        "tidegate_upstream_tls_failures_total",
        "TLS handshakes with endpoints that failed, of probes and exchanges, by cause.",
        MetricType::COUNTER,
    );
    by_cause(failures, scrape.plan, &server.tls_failures, |cluster| {
        tls_failures(cluster).collect()
    });
    let ages = families.family(
        "tidegate_dns_age_seconds",
        "Age of the last good DNS answer.",
        MetricType::GAUGE,
    );
    for (cluster, age) in &server.dns_age {
        ages.push(gauge(&[(CLUSTER, cluster)], *age));
    }
    kubernetes(families, scrape);
}

/// The API servers that are followed; no series in a cluster without one.
fn kubernetes(families: &mut Families, scrape: &Scrape<'_>) {
    let is_followed = |name: &&String| {
        let mut clusters = scrape.plan.clusters.iter();
        clusters.any(|cluster| {
            cluster.name == **name && matches!(cluster.source, Source::Kubernetes(_))
        })
    };
    let all = &scrape.server.kubernetes;
    let followed: Vec<_> = all.iter().filter(|(name, _)| is_followed(name)).collect();
    if followed.is_empty() {
        return;
    }
    let ages = families.family(
        "tidegate_kubernetes_age_seconds",
        "Age of the last answer of the Kubernetes API server.",
        MetricType::GAUGE,
    );
    for (cluster, server) in &followed {
        ages.extend(server.age.map(|age| gauge(&[(CLUSTER, cluster)], age)));
    }
    let faults = families.family(
        "tidegate_kubernetes_failures_total",
        "Answers of the Kubernetes API server that were not used, or not in full, by reason.",
        MetricType::COUNTER,
    );
    for (cluster, server) in &followed {
        for (reason, count) in &server.faults {
            faults.push(counter(&[(CLUSTER, cluster), ("reason", reason)], *count as f64));
        }
    }
}

/// The causes of failed TLS handshakes with a cluster; none if the cluster does not use TLS.
fn tls_failures(cluster: &Cluster) -> impl Iterator<Item = &'static str> {
    let all = if cluster.tls.is_some() { TlsFailure::ALL } else { &[] };
    all.iter().map(|failure| failure.label())
}

/// One series for each cluster and each cause that the cluster can have, 0 if the cause never occurred.
fn by_cause(
    family: &mut Vec<Metric>,
    plan: &Plan,
    counted: &BTreeMap<(String, &'static str), u64>,
    causes: impl Fn(&Cluster) -> Vec<&'static str>,
) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for cluster in &plan.clusters {
        counts.extend(causes(cluster).into_iter().map(|cause| ((cluster.name.as_str(), cause), 0)));
    }
    let counted =
        counted.iter().map(|((cluster, cause), count)| ((cluster.as_str(), *cause), *count));
    counts.extend(counted);
    for ((cluster, cause), count) in counts {
        family.push(counter(&[(CLUSTER, cluster), ("cause", cause)], count as f64));
    }
}
