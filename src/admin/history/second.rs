//! The figures of one second for services and clusters, from the counters and the view.
//!
//! Rates are differences of the workers' counters; everything else is read from the view in force.

use crate::decision::plan::{ClusterIndex, Plan};
use crate::decision::signal::State;
use crate::shared::View;
use crate::telemetry::cells::{ExchangeCells, ExchangeLabels};
use crate::telemetry::latencies::LatencyTotals;
use crate::telemetry::results::StatusClass;
use std::collections::BTreeMap;

/// The figures of one second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// By name.
    pub(crate) services: BTreeMap<String, OfService>,
    /// By name.
    pub(crate) clusters: BTreeMap<String, OfCluster>,
    /// Services whose budget was spent in this second, and those whose budget has a balance again.
    pub(crate) budgets: Vec<(String, bool)>,
}

/// The figures of a service. Exchanges a second; milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfService {
    pub(crate) requests_per_s: f64,
    /// Exchanges that no cluster served and that were refused.
    pub(crate) refused_per_s: f64,
    /// Exchanges of a cluster that ended with a status of 500 or more.
    pub(crate) errors_per_s: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) forecast_rps: Option<f64>,
    pub(crate) usd_per_hour: f64,
    /// Exchanges a second by cluster.
    pub(crate) to: BTreeMap<String, f64>,
}

/// The figures of a cluster. Exchanges a second; milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfCluster {
    pub(crate) requests_per_s: f64,
    pub(crate) in_flight: f64,
    pub(crate) queue_ms: Option<f64>,
    pub(crate) tolerates_ms: Option<f64>,
    pub(crate) distance_ms: Option<f64>,
    pub(crate) service_ms: Option<f64>,
    pub(crate) success: Option<f64>,
    /// 1 up, 2 draining, 3 degraded, 4 down: the greater, the worse.
    pub(crate) state: f64,
}

/// The weight of the newest second in a service's spend per hour.
const SMOOTHING: f64 = 0.3;

/// Turns counters into the figures of seconds.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    before: BTreeMap<ExchangeLabels, ExchangeCells>,
    spent: BTreeMap<String, f64>,
    usd_per_hour: BTreeMap<String, f64>,
    empty: BTreeMap<String, bool>,
}

impl Recorder {
    /// The figures since the last call, which was `elapsed` seconds ago.
    pub(super) fn second(
        &mut self,
        view: &View,
        totals: BTreeMap<ExchangeLabels, ExchangeCells>,
        elapsed: f64,
    ) -> Second {
        let elapsed = elapsed.max(0.001);
        let mut second = Second::default();
        for service in &view.plan.services {
            second.services.insert(service.name.clone(), OfService::default());
        }
        self.rates(&view.plan, &totals, elapsed, &mut second);
        self.before = totals;
        self.money(view, elapsed, &mut second);
        for (index, signals) in view.signals.classes.enumerated() {
            let service = view.plan.service_of(index);
            if let Some(of) = second.services.get_mut(&service.name)
                && let Some(rps) = signals.forecast_rps
            {
                of.forecast_rps = Some(of.forecast_rps.unwrap_or(0.0) + rps);
            }
        }
        for index in view.plan.clusters.indices() {
            if let Some((name, of)) = cluster(view, index) {
                second.clusters.entry(name).or_default().take(of);
            }
        }
        second
    }

    fn rates(
        &self,
        plan: &Plan,
        totals: &BTreeMap<ExchangeLabels, ExchangeCells>,
        elapsed: f64,
        second: &mut Second,
    ) {
        let nothing = ExchangeCells::default();
        let mut latencies: BTreeMap<&str, LatencyTotals> = BTreeMap::new();
        for (labels, now) in totals {
            let before = self.before.get(labels).unwrap_or(&nothing);
            let rate = |class: StatusClass| {
                let since = now.by_class[class].get().saturating_sub(before.by_class[class].get());
                since as f64 / elapsed
            };
            let all: f64 = now.by_class.iter().map(|(class, _)| rate(class)).sum();
            let errors = rate(StatusClass::ServerError);
            if !labels.cluster.is_empty() {
                let cluster = second.clusters.entry(labels.cluster.clone()).or_default();
                cluster.requests_per_s += all;
            }
            let Some(of) = second.services.get_mut(&labels.service) else { continue };
            of.requests_per_s += all;
            if labels.cluster.is_empty() {
                // An L4 connection without a cluster has no status and was reset.
                let refused = errors + rate(StatusClass::ClientError);
                of.refused_per_s += refused + rate(StatusClass::None);
                continue;
            }
            of.errors_per_s += errors;
            *of.to.entry(labels.cluster.clone()).or_default() += all;
            let since = now.latencies.totals().since(&before.latencies.totals());
            latencies.entry(&labels.service).or_default().merge(&since);
        }
        for (service, latencies) in latencies {
            // The duration of an L4 connection depends on its client alone.
            let name = |class: &crate::decision::plan::Class| &plan.services[class.service].name;
            let mut own = plan.classes.iter().filter(|class| name(class) == service);
            if let Some(of) = second.services.get_mut(service)
                && !own.any(|class| class.l4)
            {
                of.p50_ms = latencies.quantile(0.5).map(|seconds| seconds * 1e3);
                of.p99_ms = latencies.quantile(0.99).map(|seconds| seconds * 1e3);
            }
        }
    }

    /// Spend per hour, smoothed over a few seconds, and the changes of budgets.
    fn money(&mut self, view: &View, elapsed: f64, second: &mut Second) {
        let mut spent: BTreeMap<String, f64> = BTreeMap::new();
        for (service, at) in view.plan.services.iter().zip(&view.signals.spent) {
            spent.insert(service.name.clone(), at.iter().map(|spend| spend.usd).sum());
        }
        for (name, usd) in &spent {
            let before = self.spent.get(name).copied().unwrap_or(*usd);
            // A reload may reset the count.
            let rate = (usd - before).max(0.0) / elapsed * 3600.0;
            let smooth = self.usd_per_hour.entry(name.clone()).or_insert(rate);
            *smooth += (rate - *smooth) * SMOOTHING;
            if let Some(of) = second.services.get_mut(name) {
                of.usd_per_hour = *smooth;
            }
        }
        self.usd_per_hour.retain(|name, _| spent.contains_key(name));
        self.spent = spent;
        let mut empty = BTreeMap::new();
        for (service, left) in view.plan.services.iter().zip(&view.signals.budgets) {
            let Some(left) = left else { continue };
            let is_empty = *left <= 0.0;
            if self.empty.get(&service.name).is_some_and(|before| *before != is_empty) {
                second.budgets.push((service.name.clone(), is_empty));
            }
            empty.insert(service.name.clone(), is_empty);
        }
        self.empty = empty;
    }
}

impl OfCluster {
    /// Copies all figures but the rate from `other`.
    fn take(&mut self, other: OfCluster) {
        *self = OfCluster { requests_per_s: self.requests_per_s, ..other };
    }
}

/// The figures of a cluster in the view.
fn cluster(view: &View, index: ClusterIndex) -> Option<(String, OfCluster)> {
    let cluster = view.plan.clusters.get(index)?;
    let (signals, live) = view.signals.clusters.get(index).zip(view.clusters.get(index))?;
    let milliseconds = |seconds: f64| seconds * 1e3;
    let of = OfCluster {
        requests_per_s: 0.0,
        in_flight: f64::from(live.in_flight.get()),
        queue_ms: signals.queue.map(milliseconds),
        tolerates_ms: tolerates(view, index).map(milliseconds),
        distance_ms: signals.distance.map(milliseconds),
        service_ms: signals.service.map(milliseconds),
        success: signals.success,
        state: match signals.state {
            State::Up => 1.0,
            State::Draining => 2.0,
            State::Degraded => 3.0,
            State::Down => 4.0,
        },
    };
    Some((cluster.name.clone(), of))
}

/// The queue in seconds up to which a cluster accepts all exchanges, for the class that sends most to it; `None` for
/// the last cluster of the class, from which no exchange can spill.
pub(crate) fn tolerates(view: &View, index: ClusterIndex) -> Option<f64> {
    let class = view.signals.classes.get(view.signals.clusters.get(index)?.class?)?;
    let at = class.order.iter().position(|known| *known == index)?;
    if at + 1 == class.order.len() {
        return None;
    }
    class.scores.get(at).map(|score| score.tolerates).filter(|seconds| *seconds > 0.0)
}
