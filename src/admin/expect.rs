//! `/api/v1/expect`: the expected effect of a drain, a dial or a shift, simulated with the current load.

use super::Backend;
use super::history::Second;
use crate::decision::change::Shift;
use crate::decision::plan::{Class, ClusterIndex, Plan, ServiceIndex};
use crate::decision::signal::{ClassSignals, ClusterSignals, State as ClusterState};
use crate::shared::View;
use crate::sim::expect::{Demand, Figures, Known, SECONDS, expect as simulate};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The limit of concurrent simulations: each uses one core while it runs.
static RUNNING: Semaphore = Semaphore::const_new(1);
/// The number of classes that are simulated for one response: those with the greatest demand.
const CLASSES_MAX: usize = 4;
/// A class with fewer exchanges a second is not simulated.
const DEMAND_MIN: f64 = 0.5;
/// The distance that is assumed for an unmeasured cluster, in seconds.
const FAR: f64 = 0.050;
/// The response size that is assumed before any response was counted, in bytes.
const BYTES: f64 = 20_000.0;

/// Mean bytes of a response of a service at a cluster, as measured; before the first response there, those of the
/// service's other clusters.
fn bytes(view: &View, class: &Class, cluster: ClusterIndex) -> Option<f64> {
    let service = &view.plan.services[class.service];
    let spent = view.signals.spent.get(class.service)?;
    let at = service.clusters.iter().position(|known| *known == cluster);
    let own = at.and_then(|at| spent.get(at)).filter(|spend| spend.exchanges > 0.0);
    let all = || spent.iter().fold((0.0, 0.0), |sum, of| (sum.0 + of.exchanges, sum.1 + of.bytes));
    let (exchanges, bytes) = own.map_or_else(all, |own| (own.exchanges, own.bytes));
    (exchanges > 0.0).then(|| bytes / exchanges)
}

#[derive(Debug, Deserialize)]
pub(super) struct Question {
    /// `clusters`, `sites` or `services`.
    kind: String,
    name: String,
    /// The dial, the one of the file if absent; or the part of a service's traffic that moves.
    percent: Option<u8>,
    /// For a service: the cluster that gives traffic away, and the one that gets it; without both, the end of a shift.
    from: Option<String>,
    to: Option<String>,
}

pub(super) async fn expect(
    State(backend): State<Arc<Backend>>,
    Query(question): Query<Question>,
) -> Response {
    let view = backend.shared.view.load_full();
    match asked(&view.plan, question) {
        Ok(asked) => match simulated(&backend, asked).await {
            Ok(told) => Json(told).into_response(),
            Err(answer) => answer,
        },
        Err(refusal) => refusal.into_response(),
    }
}

fn asked(plan: &Plan, question: Question) -> Result<Asked, (StatusCode, String)> {
    let Question { kind, name, percent, from, to } = question;
    if percent.is_some_and(|percent| percent > 100) {
        return Err((StatusCode::BAD_REQUEST, "percent must be from 0 to 100\n".to_owned()));
    }
    let unknown = || (StatusCode::NOT_FOUND, format!("unknown name in {kind}: {name}\n"));
    if kind == "services" {
        let service = plan.services.find(|service| service.name == name).ok_or_else(unknown)?;
        let shift = match (from, to) {
            (Some(from), Some(to)) => Some(Shift { from, to, percent: percent.unwrap_or(100) }),
            (None, None) => None,
            _ => {
                let message = "a shift needs `from` and `to`; its end neither\n".to_owned();
                return Err((StatusCode::BAD_REQUEST, message));
            }
        };
        return Ok(Asked::Shift { service, shift });
    }
    let is_asked = |index: &ClusterIndex| match kind.as_str() {
        "clusters" => plan.clusters[*index].name == name,
        "sites" => plan.clusters[*index].site == name,
        _ => false,
    };
    let clusters: Vec<ClusterIndex> = plan.clusters.indices().filter(is_asked).collect();
    match clusters.is_empty() {
        true => Err(unknown()),
        false => Ok(Asked::Dial { clusters, dial: Dial { of_site: kind == "sites", percent } }),
    }
}

/// The expected effect of a change under the current load.
///
/// # Errors
/// The answer to the client: another simulation runs, or this one failed.
pub(super) async fn simulated(backend: &Backend, asked: Asked) -> Result<Value, Response> {
    let Ok(_running) = RUNNING.try_acquire() else {
        let message = "another simulation is running: try again\n";
        let answer = (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], message);
        return Err(answer.into_response());
    };
    let (view, second) = (backend.shared.view.load_full(), backend.memory.history.last());
    let told = tokio::task::spawn_blocking(move || told(&view, &second, &asked)).await;
    told.map_err(|error| {
        tracing::error!(%error, "simulation failed");
        (StatusCode::INTERNAL_SERVER_ERROR, "the simulation failed\n").into_response()
    })
}

/// The change that is asked about.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// A dial of these clusters.
    Dial { clusters: Vec<ClusterIndex>, dial: Dial },
    /// A shift of a service; `None` for its end.
    Shift { service: ServiceIndex, shift: Option<Shift> },
}

impl Asked {
    /// The dial of a whole site, in percent.
    pub(super) fn site(plan: &Plan, site: &str, percent: u8) -> Asked {
        let of_site = |index: &ClusterIndex| plan.clusters[*index].site == site;
        let clusters = plan.clusters.indices().filter(of_site).collect();
        Asked::Dial { clusters, dial: Dial { of_site: true, percent: Some(percent) } }
    }

    fn concerns(&self, class: &Class) -> bool {
        match self {
            Asked::Dial { clusters, .. } => {
                class.permitted.clusters.iter().any(|cluster| clusters.contains(cluster))
            }
            Asked::Shift { service, .. } => class.service == *service,
        }
    }

    /// The dial of a cluster after the change.
    fn dial(&self, view: &View, index: ClusterIndex) -> u8 {
        let signals = &view.signals.clusters[index];
        match self {
            Asked::Dial { clusters, dial } if clusters.contains(&index) => {
                dial.effective(view.plan.clusters[index].dial, signals)
            }
            Asked::Dial { .. } | Asked::Shift { .. } => signals.dial,
        }
    }

    /// The shift of a class after the change, if its shift is `now`.
    fn shift<'a>(&'a self, now: Option<&'a Shift>) -> Option<&'a Shift> {
        match self {
            Asked::Dial { .. } => now,
            Asked::Shift { shift, .. } => shift.as_ref(),
        }
    }
}

/// The dial that is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    of_site: bool,
    percent: Option<u8>,
}

impl Dial {
    /// The effective dial of a cluster that the question concerns: the cluster's, but never above the site's.
    fn effective(self, file: u8, now: &ClusterSignals) -> u8 {
        // Where the site's dial is in force, the cluster's own cannot be told: the file's is assumed.
        let own = if now.dial < now.site_dial { now.dial } else { file };
        match self.of_site {
            true => own.min(self.percent.unwrap_or(100)),
            false => self.percent.unwrap_or(file).min(now.site_dial),
        }
    }
}

fn told(view: &View, second: &Second, asked: &Asked) -> Value {
    let (plan, signals) = (&view.plan, &view.signals);
    let mut classes: Vec<(&Class, &ClassSignals)> = plan
        .classes
        .iter()
        .zip(signals.classes.iter().map(Arc::as_ref))
        .filter(|(class, signals)| signals.demand_rps >= DEMAND_MIN && asked.concerns(class))
        .collect();
    classes.sort_by(|a, b| b.1.demand_rps.total_cmp(&a.1.demand_rps));
    let (mut services, mut warnings, mut assumed) = (Vec::new(), Vec::new(), Vec::new());
    for (class, signals) in classes.iter().take(CLASSES_MAX) {
        let name = &plan.services[class.service].name;
        let dial = |index: ClusterIndex| asked.dial(view, index);
        let live = |index: &ClusterIndex| view.signals.clusters[*index].state != ClusterState::Down;
        let clusters: Vec<ClusterIndex> = signals.order.iter().copied().filter(live).collect();
        if clusters.iter().all(|index| dial(*index) == 0) {
            let data = class.data.join(", ");
            warnings.push(format!(
                "{name}: all {:.0} requests/s are refused: no other permitted cluster (data: {data}) is up.",
                signals.demand_rps
            ));
            services.push(all_refused(plan, class, signals, &clusters));
            continue;
        }
        if class.l4 {
            warnings.push(format!("{name} is an L4 service and is not simulated."));
            continue;
        }
        let is_sized = |index: &ClusterIndex| {
            plan.clusters[*index].prices.per_gib <= 0.0 || bytes(view, class, *index).is_some()
        };
        if !clusters.iter().all(is_sized) {
            assumed.push(format!("{name} answers with {BYTES:.0} bytes"));
        }
        let known: Vec<(ClusterIndex, Known)> = clusters
            .iter()
            .map(|index| (*index, known(view, (class, signals), *index, dial)))
            .collect();
        let now = shift_of(plan, signals);
        let shifts = (now.as_ref(), asked.shift(now.as_ref()));
        let told = simulate(plan, class, &known, demand(second, name, signals), shifts, 1);
        for line in told.assumed {
            if !assumed.contains(&line) {
                assumed.push(line);
            }
        }
        services.push(one(plan, class, signals, &clusters, (&told.now, &told.after)));
    }
    if classes.len() > CLASSES_MAX {
        let more = classes.len() - CLASSES_MAX;
        warnings.push(format!("{more} services with less traffic are not simulated."));
    }
    json!({"seconds": SECONDS, "services": services, "warnings": warnings, "assumed": assumed})
}

/// The shift in force for a class, by names.
pub(super) fn shift_of(plan: &Plan, class: &ClassSignals) -> Option<Shift> {
    let shift = class.shift?;
    let name = |index: ClusterIndex| plan.clusters[index].name.clone();
    Some(Shift { from: name(shift.from), to: name(shift.to), percent: shift.percent })
}

/// The demand of a class, and the spread of its response times, derived from the median and the 99th percentile of
/// its service.
fn demand(second: &Second, service: &str, class: &ClassSignals) -> Demand {
    /// The 99th percentile of a normal distribution, in standard deviations above the median.
    const TO_P99: f64 = 2.326;
    let of = second.services.get(service);
    let ends = of.and_then(|of| of.p50_ms.zip(of.p99_ms)).filter(|(p50, _)| *p50 > 0.0);
    let spread = ends.map(|(p50, p99)| (p99 / p50).max(1.0).ln() / TO_P99);
    Demand { rate: class.demand_rps, spread }
}

/// The input of the simulation for one cluster of a class.
fn known(
    view: &View,
    (of, class): (&Class, &ClassSignals),
    index: ClusterIndex,
    dial: impl Fn(ClusterIndex) -> u8,
) -> Known {
    let signals = &view.signals.clusters[index];
    let at = class.order.iter().position(|known| *known == index);
    let share = at.and_then(|at| class.shares.get(at)).copied().unwrap_or(0.0);
    let accept = at.and_then(|at| class.scores.get(at)).map_or(1.0, |score| score.accept);
    let is_last = at.is_some_and(|at| at + 1 == class.order.len());
    Known {
        distance: signals.distance.unwrap_or(FAR),
        service: signals.service.filter(|seconds| *seconds > 0.0),
        rate: share * class.demand_rps,
        full: !is_last && signals.dial == 100 && accept < 0.97 && share > 0.05,
        dials: (signals.dial, dial(index)),
        bytes: bytes(view, of, index).unwrap_or(BYTES),
    }
}

fn one(
    plan: &Plan,
    class: &Class,
    signals: &ClassSignals,
    clusters: &[ClusterIndex],
    (now, after): (&Figures, &Figures),
) -> Value {
    let rates = |(at, index): (usize, &ClusterIndex)| {
        let rate = |figures: &Figures| tenth(figures.rates.get(at).copied().unwrap_or(0.0));
        json!({"name": plan.clusters[*index].name, "now_rps": rate(now), "after_rps": rate(after)})
    };
    let figures = |figures: &Figures| {
        json!({
            "refused_rps": tenth(figures.refused),
            "p99_ms": figures.p99_ms.map(tenth),
            "usd_per_hour": (figures.usd_per_hour * 1e3).round() / 1e3,
        })
    };
    json!({
        "name": plan.services[class.service].name,
        "data": class.data,
        "demand_rps": tenth(signals.demand_rps),
        "clusters": clusters.iter().enumerate().map(rates).collect::<Vec<_>>(),
        "now": figures(now),
        "after": figures(after),
    })
}

/// The result for a class that no cluster may serve after the change.
fn all_refused(
    plan: &Plan,
    class: &Class,
    signals: &ClassSignals,
    clusters: &[ClusterIndex],
) -> Value {
    let share = |index: ClusterIndex| {
        let at = signals.order.iter().position(|known| *known == index);
        at.and_then(|at| signals.shares.get(at)).copied().unwrap_or(0.0)
    };
    let rates = clusters.iter().map(|index| share(*index) * signals.demand_rps).collect();
    let now = Figures { rates, ..Figures::default() };
    let none = vec![0.0; clusters.len()];
    let after = Figures { rates: none, refused: signals.demand_rps, ..Figures::default() };
    one(plan, class, signals, clusters, (&now, &after))
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_never_more_than_its_site() {
        let now = |dial, site_dial| ClusterSignals { dial, site_dial, ..Default::default() };
        let of_cluster = |percent| Dial { of_site: false, percent };
        let of_site = |percent| Dial { of_site: true, percent };
        #[rustfmt::skip]
        let table = [
            // asked                file  now            after
            (of_cluster(Some(0)),   100,  now(100, 100),   0),
            (of_cluster(None),      100,  now(0, 100),   100),
            (of_cluster(None),      100,  now(0, 0),       0),
            (of_cluster(Some(80)),  100,  now(50, 50),    50),
            (of_site(Some(0)),      100,  now(100, 100),   0),
            (of_site(None),         100,  now(0, 0),     100),
            (of_site(None),          70,  now(0, 0),      70),
            (of_site(Some(50)),     100,  now(0, 100),     0),
            (of_site(Some(50)),     100,  now(30, 100),   30),
        ];
        for (asked, file, now, after) in table {
            assert_eq!(asked.effective(file, &now), after, "{asked:?} {}", now.dial);
        }
    }
}
