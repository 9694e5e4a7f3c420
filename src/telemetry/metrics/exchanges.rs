//! Metrics of exchanges: statuses, durations, decisions, retries, hedges.

use super::families::{CLUSTER, Families, counter, histogram};
use crate::cells::{ExchangeCells, ExchangeLabels, Spans};
use crate::counter::{PerVariant, Variants};
use crate::decision::permit::Reason;
use crate::decision::plan::Plan;
use prometheus::proto::{Metric, MetricType};
use std::collections::BTreeMap;

pub(super) fn exchanges(
    families: &mut Families,
    plan: &Plan,
    all: &BTreeMap<ExchangeLabels, ExchangeCells>,
) {
    let requests = families.family(
        "tidegate_requests_total",
        "Exchanges by the status sent.",
        MetricType::COUNTER,
    );
    for (labels, totals) in all {
        for (class, count) in totals.by_class.iter() {
            let labels = [
                ("listener", labels.listener.as_str()),
                ("service", labels.service.as_str()),
                (CLUSTER, labels.cluster.as_str()),
                ("code_class", class.label()),
            ];
            requests.push(counter(&labels, count as f64));
        }
    }
    withheld(families, plan, all);
    let mut by_pair: BTreeMap<(&str, &str), ExchangeCells> = BTreeMap::new();
    let mut by_cluster: BTreeMap<&str, Spans> = BTreeMap::new();
    for (labels, totals) in all.iter().filter(|(labels, _)| !labels.cluster.is_empty()) {
        by_pair.entry((&labels.service, &labels.cluster)).or_default().fold(totals);
        by_cluster.entry(&labels.cluster).or_default().fold(&totals.upstream);
    }
    let durations = families.family(
        "tidegate_request_duration_seconds",
        "From a request's head to the end of its response.",
        MetricType::HISTOGRAM,
    );
    for ((service, cluster), totals) in &by_pair {
        let labels = [("service", *service), (CLUSTER, *cluster)];
        durations.push(histogram(&labels, &totals.duration.totals()));
    }
    let upstream = families.family(
        "tidegate_upstream_duration_seconds",
        "From sending a request to the head of its response.",
        MetricType::HISTOGRAM,
    );
    for (cluster, totals) in &by_cluster {
        upstream.push(histogram(&[(CLUSTER, cluster)], &totals.totals()));
    }
    // Counters exist from the start, at 0: `rate()` does not see the first increment of a series that appears with it.
    for class in &plan.classes {
        let service = plan.services[class.service].name.as_str();
        for cluster in &class.permitted.clusters {
            by_pair.entry((service, plan.clusters[*cluster].name.as_str())).or_default();
        }
    }
    results(families, &by_pair);
}

/// Refused exchanges that a constraint kept from a live cluster.
fn withheld(families: &mut Families, plan: &Plan, all: &BTreeMap<ExchangeLabels, ExchangeCells>) {
    let mut sums: BTreeMap<&str, PerVariant<Reason>> = BTreeMap::new();
    for service in &plan.services {
        sums.entry(&service.name).or_default();
    }
    for (labels, totals) in all.iter().filter(|(labels, _)| !labels.service.is_empty()) {
        sums.entry(&labels.service).or_default().fold(&totals.withheld);
    }
    let family = families.family(
        "tidegate_constraint_refusals_total",
        "Refused exchanges that a live cluster could have taken but for this constraint.",
        MetricType::COUNTER,
    );
    for (service, counts) in &sums {
        for (constraint, count) in counts.iter() {
            let labels = [("service", *service), ("constraint", constraint.label())];
            family.push(counter(&labels, count as f64));
        }
    }
}

/// Decisions, retries and hedges.
fn results(families: &mut Families, by_pair: &BTreeMap<(&str, &str), ExchangeCells>) {
    let decisions = families.family(
        "tidegate_decisions_total",
        "Exchanges by the reason for their cluster.",
        MetricType::COUNTER,
    );
    for ((service, cluster), totals) in by_pair {
        for (why, count) in totals.by_reason.iter() {
            let labels = [("service", *service), (CLUSTER, *cluster), ("reason", why.label())];
            decisions.push(counter(&labels, count as f64));
        }
    }
    let (name, about) = ("tidegate_retries_total", "Retries by result.");
    let retries = families.family(name, about, MetricType::COUNTER);
    by_service(retries, by_pair, |totals| &totals.retries);
    let (name, about) = ("tidegate_hedges_total", "Hedges by result.");
    let hedges = families.family(name, about, MetricType::COUNTER);
    by_service(hedges, by_pair, |totals| &totals.hedges);
}

/// One series for each service and result.
fn by_service<E: Variants>(
    family: &mut Vec<Metric>,
    by_pair: &BTreeMap<(&str, &str), ExchangeCells>,
    counts: impl Fn(&ExchangeCells) -> &PerVariant<E>,
) {
    let mut sums: BTreeMap<&str, PerVariant<E>> = BTreeMap::new();
    for ((service, _), totals) in by_pair {
        sums.entry(service).or_default().fold(counts(totals));
    }
    for (service, counts) in &sums {
        for (result, count) in counts.iter() {
            let labels = [("service", *service), ("result", result.label())];
            family.push(counter(&labels, count as f64));
        }
    }
}
