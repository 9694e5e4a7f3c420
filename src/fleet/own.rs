//! This proxy's own report: the published view in numbers.

use crate::decision::fleet::{ClusterRow, Report, ServiceRow};
use crate::decision::index::Table;
use crate::decision::plan::ServiceIndex;
use crate::decision::scaling::{self, Need};
use crate::shared::View;
use std::collections::BTreeMap;

/// The report of all clusters and of the services in use, without the identity.
pub(super) fn report(view: &View) -> Report {
    let needs = if view.plan.lead.is_some() { needs(view) } else { BTreeMap::new() };
    Report { clusters: clusters(view), services: services(view), needs, ..Report::default() }
}

fn clusters(view: &View) -> BTreeMap<String, ClusterRow> {
    let known = view.plan.clusters.iter().zip(&view.signals.clusters).zip(view.clusters.iter());
    let rows = known.map(|((cluster, signals), live)| {
        let row = ClusterRow {
            state: signals.state,
            in_flight: f64::from(live.in_flight.get()),
            requests_per_s: signals.requests_per_s,
            queue: signals.queue.unwrap_or(0.0),
            distance: signals.distance.unwrap_or(0.0),
            service: signals.service.unwrap_or(0.0),
            usd_per_hour: signals.usd_per_hour,
        };
        (cluster.name.clone(), row)
    });
    rows.collect()
}

fn services(view: &View) -> BTreeMap<String, ServiceRow> {
    let mut rows: Table<ServiceIndex, ServiceRow> =
        vec![ServiceRow::default(); view.plan.services.len()].into();
    for (class, signals) in view.plan.classes.iter().zip(&view.signals.classes) {
        if let Some(row) = rows.get_mut(class.service) {
            // First the spilled rate; converted to a share after all classes are added.
            row.spill += signals.spill * signals.demand_rps;
            row.demand += signals.demand_rps;
        }
    }
    for (row, left) in rows.iter_mut().zip(&view.signals.budgets) {
        row.spill = if row.demand > 0.0 { (row.spill / row.demand).clamp(0.0, 1.0) } else { 0.0 };
        row.budget_left = left.unwrap_or(0.0).max(0.0);
    }
    let named = view.plan.services.iter().zip(rows);
    let told = named.filter(|(_, row)| row.demand > 0.0 || row.budget_left > 0.0);
    told.map(|(service, row)| (service.name.clone(), row)).collect()
}

/// The needs of this proxy that are not 0.
fn needs(view: &View) -> BTreeMap<String, BTreeMap<String, Need>> {
    let mut named: BTreeMap<String, BTreeMap<String, Need>> = BTreeMap::new();
    for ((service, cluster), need) in scaling::needs(&view.plan, &view.signals) {
        if need.is_active() {
            let of_service = named.entry(view.plan.services[service].name.clone()).or_default();
            of_service.insert(view.plan.clusters[cluster].name.clone(), need);
        }
    }
    named
}

/// The host's name, reduced to the characters that are valid in an instance.
pub(super) fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let valid = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '.';
    let name: String = read.trim().chars().filter(valid).take(64).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
