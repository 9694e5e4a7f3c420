//! The input of a scrape: the workers' cells, the view in force, figures of the process.

use crate::cells::{Registry, SpanTotals};
use crate::decision::index::Table;
use crate::decision::plan::{ClusterIndex, Plan};
use crate::decision::scaling::WebhookFigures;
use crate::decision::signal::Signals;
use std::collections::BTreeMap;

/// Input of a scrape.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// The workers' cells.
    pub registry: &'a Registry,
    /// The plan in force.
    pub plan: &'a Plan,
    /// The signals in force.
    pub signals: &'a Signals,
    /// Exchanges in flight by cluster, parallel to the plan's.
    pub in_flight: Table<ClusterIndex, u32>,
    /// Upstream connections by cluster: active, idle, and exchanges that wait for a connection or for
    /// capacity.
    pub connections: Table<ClusterIndex, (u32, u32, u32)>,
    /// When certificates expire, in seconds since 1970, by listener and name.
    pub certificates: Vec<(String, String, i64)>,
    /// Names that wait for their first certificate, by listener with `tls.acme`.
    pub pending: Vec<(String, usize)>,
    /// Drills and shifts.
    pub operations: OperationFigures,
    /// Figures of the process around the data plane.
    pub server: ServerFigures,
}

/// The figures of drills and shifts.
#[derive(Clone, Debug, Default)]
pub struct OperationFigures {
    /// Operations that ended: kind, result, count.
    pub ended: Vec<(&'static str, &'static str, u64)>,
    /// Whether an operation is running.
    pub running: bool,
}

/// Figures of the process around the data plane.
#[derive(Clone, Debug, Default)]
pub struct ServerFigures {
    /// Generation of the configuration in force.
    pub generation: u64,
    /// Whether the last reload succeeded.
    pub reload_ok: bool,
    /// When the configuration in force was loaded, seconds since 1970.
    pub reload_success_at: f64,
    /// Reloads that succeeded.
    pub reloads_ok: u64,
    /// Reloads that failed.
    pub reloads_failed: u64,
    /// Used shares of descriptors and memory, 0 to 1.
    pub used: (f64, f64),
    /// Tasks of each worker.
    pub tasks: Vec<u32>,
    /// Busy share of each worker.
    pub busy: Vec<f64>,
    /// Age of each cluster's last good DNS answer in seconds.
    pub dns_age: BTreeMap<String, f64>,
    /// The Kubernetes API server of each cluster that follows one.
    pub kubernetes: BTreeMap<String, ApiServerFigures>,
    /// Probes by cluster: succeeded, failed.
    pub probes: BTreeMap<String, (u64, u64)>,
    /// Durations of probes by cluster.
    pub probe_spans: BTreeMap<String, SpanTotals>,
    /// Ejections by cluster and cause.
    pub ejections: BTreeMap<(String, &'static str), u64>,
    /// TLS handshakes with endpoints that failed, by cluster and cause.
    pub tls_failures: BTreeMap<(String, &'static str), u64>,
    /// Age of the view in force, in seconds.
    pub view_age: f64,
    /// When the process started, seconds since 1970.
    pub started_at: f64,
    /// The figures of the fleet.
    pub fleet: FleetFigures,
    /// The figures of the interfaces for autoscalers.
    pub scaling: ScalingFigures,
    /// Orders of certificates that ended, by result, where any is ordered.
    pub acme: Option<Vec<(&'static str, u64)>>,
    /// Of the source of the configuration, where it is a key in NATS.
    pub source: Option<SourceFigures>,
}

/// The figures of the interfaces for autoscalers.
#[derive(Clone, Debug, Default)]
pub struct ScalingFigures {
    /// Calls of the external scaler that ended: method, status, count; empty where there is no scaler.
    pub scaler_calls: Vec<(&'static str, &'static str, u64)>,
    /// Open streams of the external scaler; `None` where there is no scaler.
    pub scaler_streams: Option<usize>,
    /// Of the webhook; `None` where there is no receiver.
    pub webhook: Option<WebhookFigures>,
}

/// The figures of a key in NATS that holds the configuration.
#[derive(Clone, Copy, Debug)]
pub struct SourceFigures {
    /// Whether the key can be read.
    pub connected: bool,
    /// The revision in force.
    pub revision: u64,
    /// Whether the configuration in force is the last good one in `state_dir`.
    pub kept: bool,
}

/// The figures of a Kubernetes API server.
#[derive(Clone, Debug, Default)]
pub struct ApiServerFigures {
    /// Age of the last answer in seconds, if there was one.
    pub age: Option<f64>,
    /// Answers that were not used, or not in full, by reason.
    pub faults: Vec<(&'static str, u64)>,
}

/// The figures of the fleet.
#[derive(Clone, Debug, Default)]
pub struct FleetFigures {
    /// Sites: name, live proxies, and age of the report in seconds.
    pub sites: Vec<(String, u32, f64)>,
    /// Refused reports by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Response times that other proxies of the site told.
    pub samples: u64,
    /// Of NATS, where it is configured: whether there is a connection, and reports that were dropped.
    pub nats: Option<(bool, u64)>,
}
