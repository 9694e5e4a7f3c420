//! Clusters and services as the API writes them: borrowed from the view and written without a tree in between, since a
//! page reads all of them each second.

use super::history::{OfService, Second, tolerates};
use crate::decision::capacity::Learned;
use crate::decision::capacity_group::GroupIndex;
use crate::decision::health::Cause;
use crate::decision::plan::{Class, ClusterIndex, Kind, Service, ServiceIndex};
use crate::decision::signal::{ClassSignals, EndpointSignals};
use crate::decision::units::Timestamp;
use crate::decision::why::why;
use crate::shared::{LiveEndpoint, View};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A cluster; what was not measured is null.
#[derive(Serialize)]
pub(super) struct ClusterPicture<'a> {
    name: &'a str,
    site: &'a str,
    kind: &'static str,
    environment: &'a str,
    state: &'static str,
    cause: &'static str,
    why: String,
    dial_percent: u8,
    site_dial_percent: u8,
    /// `auto` or `manual`.
    failback: &'static str,
    /// Whether the cluster has returned and waits for an undrain.
    awaits_undrain: bool,
    /// The remaining `failback.hold` in seconds; null where there is none.
    held_for_s: Option<f64>,
    ceiling: Option<u32>,
    capacity_group: Option<GroupPicture<'a>>,
    learned_concurrent: Option<f64>,
    learned_rps: Option<f64>,
    rtt_ms: Option<f64>,
    distance_ms: Option<f64>,
    service_ms: Option<f64>,
    queue_ms: Option<f64>,
    tolerates_ms: Option<f64>,
    total_ms: Option<f64>,
    in_flight: u32,
    requests_per_s: f64,
    success_ratio: Option<f64>,
    share: f64,
    cost_usd_per_h: f64,
    endpoints: Vec<EndpointPicture>,
}

/// The capacity group of a cluster: its use and its limits.
#[derive(Serialize)]
struct GroupPicture<'a> {
    name: &'a str,
    full: bool,
    in_flight: u32,
    mbit_per_s: f64,
    in_flight_limit: Option<u32>,
    mbit_per_s_limit: Option<f64>,
}

/// An endpoint of a cluster.
#[derive(Serialize)]
struct EndpointPicture {
    address: String,
    state: &'static str,
    rtt_ms: Option<f64>,
    service_ms: f64,
    in_flight: u32,
    requests_per_s: f64,
    last_error: Option<&'static str>,
    last_error_text: Option<String>,
    last_error_age_s: Option<f64>,
}

/// A service; rates, latencies and spend are those of the last second.
#[derive(Serialize)]
pub(super) struct ServicePicture<'a> {
    name: &'a str,
    order: Vec<&'a str>,
    spilling: bool,
    share: BTreeMap<&'a str, f64>,
    demand_rps: f64,
    forecast_rps: Option<f64>,
    /// What this proxy may spend, in dollars an hour: its part of the budget at present.
    budget_usd_per_h: Option<f64>,
    budget_left_usd: Option<f64>,
    requests_per_s: f64,
    refused_per_s: f64,
    errors_per_s: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    cost_usd_per_h: f64,
    shift: Option<ShiftPicture<'a>>,
    to: BTreeMap<&'a str, f64>,
}

/// The shift in force for a service.
#[derive(Serialize)]
struct ShiftPicture<'a> {
    from: &'a str,
    to: &'a str,
    percent: u8,
    /// Whether the target is not live, so that the shift has no effect now.
    rests: bool,
}

fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

/// All clusters of a view.
pub(super) fn clusters(view: &View) -> Vec<ClusterPicture<'_>> {
    view.plan.clusters.indices().filter_map(|at| cluster(view, at)).collect()
}

/// One cluster of a view.
pub(super) fn cluster(view: &View, index: ClusterIndex) -> Option<ClusterPicture<'_>> {
    let cluster = view.plan.clusters.get(index)?;
    let (signals, live) = view.signals.clusters.get(index).zip(view.clusters.get(index))?;
    let endpoints = signals.endpoints.iter().zip(live.endpoints.iter());
    let learned = learned(view, index).unwrap_or_default();
    Some(ClusterPicture {
        name: &cluster.name,
        site: &cluster.site,
        kind: match cluster.kind {
            Kind::Idc => "idc",
            Kind::Cloud => "cloud",
        },
        environment: &cluster.environment,
        state: signals.state.label(),
        cause: signals.cause,
        why: why(&view.plan, &view.signals, index),
        dial_percent: signals.dial,
        site_dial_percent: signals.site_dial,
        failback: if cluster.failback.manual { "manual" } else { "auto" },
        awaits_undrain: signals.awaits_undrain,
        held_for_s: signals.held_until.map(|until| rounded(until.secs_since(view.signals.at))),
        ceiling: signals.ceiling,
        capacity_group: cluster.group.and_then(|index| group(view, index)),
        learned_concurrent: learned.at_once.map(rounded),
        learned_rps: learned.rate.map(rounded),
        rtt_ms: signals.rtt.map(milliseconds),
        distance_ms: signals.distance.map(milliseconds),
        service_ms: signals.service.map(milliseconds),
        queue_ms: signals.queue.map(milliseconds),
        tolerates_ms: tolerates(view, index).map(milliseconds),
        total_ms: signals.total.map(milliseconds),
        in_flight: live.in_flight.get(),
        requests_per_s: rounded(signals.requests_per_s),
        success_ratio: signals.success.map(rounded),
        share: rounded(signals.share),
        cost_usd_per_h: rounded(signals.usd_per_hour),
        endpoints: endpoints.map(|(one, live)| endpoint(one, live, view.signals.at)).collect(),
    })
}

fn group(view: &View, index: GroupIndex) -> Option<GroupPicture<'_>> {
    let (group, signals) = view.plan.groups.get(index).zip(view.signals.groups.get(index))?;
    Some(GroupPicture {
        name: &group.name,
        full: signals.full,
        in_flight: signals.in_flight,
        mbit_per_s: rounded(signals.mbit_per_s()),
        in_flight_limit: signals.limits.concurrent,
        mbit_per_s_limit: signals.limits.mbit_per_s().map(rounded),
    })
}

fn endpoint(signals: &EndpointSignals, live: &LiveEndpoint, now: Timestamp) -> EndpointPicture {
    EndpointPicture {
        address: signals.address.to_string(),
        state: if signals.up { "up" } else { "down" },
        rtt_ms: signals.rtt.map(milliseconds),
        service_ms: milliseconds(signals.latency),
        in_flight: live.in_flight.get(),
        requests_per_s: rounded(signals.requests_per_s),
        last_error: signals.last_error.map(|(cause, _)| cause.label()),
        last_error_text: signals.last_error.map(|(cause, _)| in_words(cause)),
        last_error_age_s: signals.last_error.map(|(_, at)| rounded(now.secs_since(at))),
    }
}

/// What the cluster was observed to serve at most, for the class that sends most to it.
fn learned(view: &View, index: ClusterIndex) -> Option<Learned> {
    let class = view.signals.clusters.get(index)?.class?;
    let permitted = &view.plan.classes.get(class)?.permitted.clusters;
    let slot = permitted.iter().position(|known| *known == index)?;
    view.signals.classes.get(class)?.learned.get(slot).copied()
}

fn in_words(cause: Cause) -> String {
    let mut words = cause.in_words().to_owned();
    if let Cause::Tls(failure) = cause {
        words.push_str(": ");
        words.push_str(&failure.label().trim_start_matches("tls_").replace('_', " "));
    }
    words
}

/// All services of a view, with the figures of the last second.
pub(super) fn services<'a>(view: &'a View, second: &'a Second) -> Vec<ServicePicture<'a>> {
    let mut classes: Vec<Vec<(&Class, &ClassSignals)>> = vec![Vec::new(); view.plan.services.len()];
    for (class, signals) in
        view.plan.classes.iter().zip(view.signals.classes.iter().map(Arc::as_ref))
    {
        if let Some(own) = classes.get_mut(class.service.0) {
            own.push((class, signals));
        }
    }
    let services = view.plan.services.enumerated().zip(classes);
    let one = |((index, service), own): ((ServiceIndex, &'a Service), Vec<_>)| {
        self::service(view, (index, service), &own, second.services.get(&service.name))
    };
    services.map(one).collect()
}

fn service<'a>(
    view: &'a View,
    (index, service): (ServiceIndex, &'a Service),
    own: &[(&Class, &'a ClassSignals)],
    second: Option<&'a OfService>,
) -> ServicePicture<'a> {
    let name = |cluster: ClusterIndex| view.plan.clusters[cluster].name.as_str();
    let demand: f64 = own.iter().map(|(_, signals)| signals.demand_rps).sum();
    let spilled: f64 = own.iter().map(|(_, s)| s.spill * s.demand_rps).sum();
    let mut share: BTreeMap<&str, f64> = BTreeMap::new();
    for (_, signals) in own {
        for (cluster, part) in signals.order.iter().zip(&signals.shares) {
            let part = if demand > 0.0 { part * signals.demand_rps / demand } else { 0.0 };
            *share.entry(name(*cluster)).or_default() += rounded(part);
        }
    }
    // The class with the most clusters represents the service: other classes have a part of its order.
    let widest = own.iter().max_by_key(|(class, _)| class.permitted.clusters.len());
    let order = widest.map_or(&service.clusters, |(_, signals)| &signals.order);
    let forecast: Option<f64> = own.iter().map(|(_, signals)| signals.forecast_rps).sum();
    let figure = |of: fn(&OfService) -> f64| second.map_or(0.0, of);
    ServicePicture {
        name: &service.name,
        order: order.iter().map(|cluster| name(*cluster)).collect(),
        spilling: demand > 0.0 && spilled / demand > 0.02,
        share,
        demand_rps: rounded(demand),
        forecast_rps: forecast.map(rounded),
        budget_usd_per_h: service
            .budget
            .zip(view.signals.budget_parts.get(index).copied().flatten())
            .map(|(limit, part)| rounded(limit.usd_per_hour * limit.share * part)),
        budget_left_usd: view.signals.budgets.get(index).copied().flatten().map(rounded),
        requests_per_s: rounded(figure(|of| of.requests_per_s)),
        refused_per_s: rounded(figure(|of| of.refused_per_s)),
        errors_per_s: rounded(figure(|of| of.errors_per_s)),
        p50_ms: second.and_then(|of| of.p50_ms).map(rounded),
        p99_ms: second.and_then(|of| of.p99_ms).map(rounded),
        cost_usd_per_h: rounded(figure(|of| of.usd_per_hour)),
        shift: own.iter().find_map(|(_, signals)| signals.shift).map(|shift| ShiftPicture {
            from: name(shift.from),
            to: name(shift.to),
            percent: shift.percent,
            rests: shift.rests,
        }),
        to: second
            .into_iter()
            .flat_map(|of| &of.to)
            .map(|(n, r)| (n.as_str(), rounded(*r)))
            .collect(),
    }
}
