//! `/api/v1/cost`: what the traffic of each service at each cluster has cost, and what is left of the budgets.

use super::Backend;
use super::history::Second;
use crate::decision::plan::{ClusterIndex, Service, ServiceIndex};
use crate::decision::price::Spend;
use crate::shared::View;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The limits of the figures, for people who compare them with a bill.
const NOT_INCLUDED: [&str; 4] = [
    "bytes to clusters, and bytes of TLS, TCP and IP: about 4 % of large responses",
    "probes",
    "fixed costs such as machines, pods and lines",
    "traffic of other proxies, and of this one before its start",
];

/// The report.
#[derive(Debug, Deserialize, Serialize)]
pub struct CostReport {
    /// Since when the figures count, as in RFC 3339.
    pub since: String,
    /// The same, in seconds.
    pub seconds: u64,
    /// Dollars since then.
    pub usd: f64,
    /// Dollars an hour, of the last seconds.
    pub usd_per_hour: f64,
    /// The services, in the order of the configuration.
    pub services: Vec<ServiceCost>,
    /// What the figures do not include.
    pub not_included: Vec<String>,
}

/// The cost of a service.
#[derive(Debug, Deserialize, Serialize)]
pub struct ServiceCost {
    /// Its name.
    pub name: String,
    /// Dollars since the start.
    pub usd: f64,
    /// Dollars an hour, of the last seconds.
    pub usd_per_hour: f64,
    /// Dollars of the last hour and of the last day, as far as they were recorded.
    pub usd_1h: Option<f64>,
    /// As `usd_1h`.
    pub usd_24h: Option<f64>,
    /// The budget, if the service has one.
    pub budget: Option<BudgetState>,
    /// The clusters, in the order of the configuration.
    pub clusters: Vec<ClusterCost>,
}

/// The state of a budget. Dollars.
#[derive(Debug, Deserialize, Serialize)]
pub struct BudgetState {
    /// The limit.
    pub usd_per_hour: f64,
    /// This proxy's part of the limit at present, 0 to 1.
    pub share: f64,
    /// `process` or `fleet`.
    pub shared_by: String,
    /// `spill` or `all`.
    pub applies_to: String,
    /// The balance of this proxy's full bucket.
    pub burst_usd: f64,
    /// The balance; a debt is negative.
    pub left_usd: f64,
    /// Whether the budget stops traffic to clusters with a price now.
    pub stops: bool,
}

/// The cost of a service at a cluster.
#[derive(Debug, Deserialize, Serialize)]
pub struct ClusterCost {
    /// The cluster's name.
    pub name: String,
    /// Dollars for a GiB from the cluster.
    pub per_gib: f64,
    /// Dollars for a million requests.
    pub per_million_requests: f64,
    /// Requests sent, retries and hedges included; at L4, connections.
    pub requests: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Mean bytes of a request's response; `None` before the first request.
    pub bytes_per_request: Option<f64>,
    /// Dollars.
    pub usd: f64,
}

pub(super) async fn cost(State(backend): State<Arc<Backend>>) -> Json<CostReport> {
    let view = backend.shared.view.load();
    let seconds = (backend.uptime)();
    let since = (backend.now)().saturating_sub(std::time::Duration::from_secs(seconds));
    let last = backend.memory.history.last();
    let services: Vec<ServiceCost> = view
        .plan
        .services
        .enumerated()
        .map(|(index, service)| {
            let (usd_1h, usd_24h) = backend.memory.history.usd(&service.name);
            ServiceCost { usd_1h, usd_24h, ..of_service(&view, &last, index, service) }
        })
        .collect();
    Json(CostReport {
        since: (backend.rfc3339)(since),
        seconds,
        usd: services.iter().map(|service| service.usd).sum(),
        usd_per_hour: services.iter().map(|service| service.usd_per_hour).sum(),
        services,
        not_included: NOT_INCLUDED.map(str::to_owned).to_vec(),
    })
}

fn of_service(view: &View, last: &Second, index: ServiceIndex, service: &Service) -> ServiceCost {
    let spent = view.signals.spent.get(index);
    let spend = |at: usize| spent.and_then(|spent| spent.get(at)).copied().unwrap_or_default();
    let clusters: Vec<ClusterCost> = service
        .clusters
        .iter()
        .enumerate()
        .map(|(at, cluster)| of_cluster(view, *cluster, spend(at)))
        .collect();
    let left = view.signals.budgets.get(index).copied().flatten();
    let part = view.signals.budget_parts.get(index).copied().flatten().unwrap_or(1.0);
    let budget = service.budget.zip(left).map(|(limit, left)| BudgetState {
        usd_per_hour: limit.usd_per_hour,
        share: limit.share * part,
        shared_by: if limit.shared { "fleet" } else { "process" }.to_owned(),
        applies_to: if limit.binds_failover { "all" } else { "spill" }.to_owned(),
        burst_usd: limit.burst() * part,
        left_usd: left,
        stops: left <= 0.0,
    });
    ServiceCost {
        name: service.name.clone(),
        usd: clusters.iter().map(|cluster| cluster.usd).sum(),
        usd_per_hour: last.services.get(&service.name).map_or(0.0, |of| of.usd_per_hour),
        usd_1h: None,
        usd_24h: None,
        budget,
        clusters,
    }
}

fn of_cluster(view: &View, index: ClusterIndex, spend: Spend) -> ClusterCost {
    let cluster = &view.plan.clusters[index];
    ClusterCost {
        name: cluster.name.clone(),
        per_gib: cluster.prices.per_gib,
        per_million_requests: cluster.prices.per_million_requests,
        requests: spend.exchanges as u64,
        bytes: spend.bytes as u64,
        bytes_per_request: (spend.exchanges > 0.0).then(|| spend.bytes / spend.exchanges),
        usd: spend.usd,
    }
}
