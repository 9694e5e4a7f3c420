//! `tidegate clusters`: a table of all clusters, or one with its endpoints.

use super::table::{Column, table};
use super::{Reach, items, text};
use crate::admin::client::escaped;
use crate::cli::text::{DASH, count, ms, percent, rate, span, usd};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Listed {
    /// One cluster, with its endpoints and the reason for its share; all clusters by default.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Shows the clusters.
pub(in crate::cli) fn clusters(listed: &Listed) -> ExitCode {
    match &listed.name {
        None => listed.reach.tell(listed.reach.get("/api/v1/clusters"), |all| table_of(items(all))),
        Some(name) => {
            let path = format!("/api/v1/clusters/{}", escaped(name));
            listed.reach.tell(listed.reach.get(&path), one)
        }
    }
}

pub(super) fn table_of(clusters: &[Value]) -> String {
    use Column::{Figure, Text};
    let columns = [
        Text("CLUSTER"),
        Text("SITE"),
        Text("STATE"),
        Figure("DIAL"),
        Figure("SHARE"),
        Figure("REQ/s"),
        Figure("IN FLIGHT"),
        Figure("DISTANCE ms"),
        Figure("QUEUE ms"),
        Figure("TOTAL ms"),
        Figure("SUCCESS"),
        Figure("COST/h"),
        Text("LAST ERROR"),
    ];
    let row = |cluster: &Value| {
        let figure = |name: &str| cluster[name].as_f64();
        [
            text(&cluster["name"]),
            text(&cluster["site"]),
            text(&cluster["state"]),
            dial(cluster),
            percent(figure("share")),
            rate(figure("requests_per_s")),
            count(figure("in_flight")),
            ms(figure("distance_ms")),
            ms(figure("queue_ms")),
            ms(figure("total_ms")),
            percent(figure("success_ratio")),
            usd(figure("cost_usd_per_h")),
            newest_error(items(&cluster["endpoints"])),
        ]
    };
    table(&columns, &clusters.iter().map(row).collect::<Vec<_>>())
}

/// The lower one of the cluster's dial and its site's.
fn dial(cluster: &Value) -> String {
    let dials = ["dial_percent", "site_dial_percent"].map(|name| cluster[name].as_u64());
    dials.iter().flatten().min().map_or(DASH.to_owned(), |dial| format!("{dial} %"))
}

fn newest_error(endpoints: &[Value]) -> String {
    let age = |endpoint: &&Value| endpoint["last_error_age_s"].as_f64();
    let with_age = endpoints.iter().filter(|endpoint| age(endpoint).is_some());
    let newest = with_age.min_by(|a, b| age(a).unwrap_or(0.0).total_cmp(&age(b).unwrap_or(0.0)));
    newest.map_or(DASH.to_owned(), |endpoint| {
        format!("{} {}", text(&endpoint["address"]), last_error(endpoint))
    })
}

/// `connection refused, 12 s ago`.
fn last_error(endpoint: &Value) -> String {
    match endpoint["last_error_age_s"].as_f64().filter(|age| age.is_finite() && *age >= 0.0) {
        Some(age) => {
            let age = Duration::try_from_secs_f64(age).unwrap_or(Duration::MAX);
            format!("{}, {} ago", text(&endpoint["last_error_text"]), span(age))
        }
        None => DASH.to_owned(),
    }
}

pub(super) fn one(cluster: &Value) -> String {
    use Column::{Figure, Text};
    let columns = [
        Text("ENDPOINT"),
        Text("STATE"),
        Figure("REQ/s"),
        Figure("IN FLIGHT"),
        Figure("RTT ms"),
        Figure("SERVICE ms"),
        Text("LAST ERROR"),
    ];
    let row = |endpoint: &Value| {
        let figure = |name: &str| endpoint[name].as_f64();
        [
            text(&endpoint["address"]),
            text(&endpoint["state"]),
            rate(figure("requests_per_s")),
            count(figure("in_flight")),
            ms(figure("rtt_ms")),
            ms(figure("service_ms")),
            last_error(endpoint),
        ]
    };
    let endpoints: Vec<_> = items(&cluster["endpoints"]).iter().map(row).collect();
    format!(
        "{}\n{}\n\n{}",
        table_of(std::slice::from_ref(cluster)),
        text(&cluster["why"]),
        table(&columns, &endpoints)
    )
}
