//! `tidegate status`: the proxy, its configuration, its services and what is wrong.

use super::table::{Column, table};
use super::{Reach, items, text};
use crate::cli::text::{DASH, ms, rate, span, usd};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Asked {
    #[command(flatten)]
    reach: Reach,
}

/// Shows the proxy's state.
pub(in crate::cli) fn status(asked: &Asked) -> ExitCode {
    let all = || {
        Ok(json!({
            "status": asked.reach.get("/api/v1/status")?,
            "services": asked.reach.get("/api/v1/services")?,
            "clusters": asked.reach.get("/api/v1/clusters")?,
        }))
    };
    asked.reach.tell(all(), render)
}

pub(super) fn render(all: &Value) -> String {
    let (status, clusters) = (&all["status"], items(&all["clusters"]));
    let up = Duration::from_secs(status["uptime_s"].as_u64().unwrap_or(0));
    let mut out = format!(
        "site           {} (environment {})\nversion        {}, running for {}{}\nconfiguration  {}\nclusters       {}\n",
        text(&status["site"]),
        text(&status["environment"]),
        text(&status["version"]),
        span(up),
        if status["draining"] == true { ", draining" } else { "" },
        configuration(&status["config"]),
        count_of_clusters(clusters),
    );
    let bad = clusters.iter().filter(|cluster| cluster["state"] != "up");
    for cluster in bad {
        out.push_str(&format!(
            "  {} is {}: {}\n",
            text(&cluster["name"]),
            text(&cluster["state"]),
            text(&cluster["why"])
        ));
    }
    for certificate in items(&status["certificates"]).iter().filter(|one| one["expires"].is_null())
    {
        let (name, listener) = (text(&certificate["name"]), text(&certificate["listener"]));
        out.push_str(&format!("  listener {listener} has no certificate for {name} yet\n"));
    }
    out + "\n" + &services(items(&all["services"]))
}

fn configuration(config: &Value) -> String {
    let last = &config["last_reload"];
    let in_force = format!(
        "generation {}, in force since {}",
        config["generation"],
        text(&config["loaded_at"])
    );
    match last["ok"] == false {
        true => format!(
            "{in_force}; the file was REJECTED at {}: {}",
            text(&last["at"]),
            text(&last["error"])
        ),
        false => in_force,
    }
}

fn count_of_clusters(clusters: &[Value]) -> String {
    let states = ["up", "degraded", "down", "draining"];
    let of = |state: &&str| {
        let count = clusters.iter().filter(|cluster| cluster["state"] == **state).count();
        (count > 0).then(|| format!("{count} {state}"))
    };
    states.iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

fn services(services: &[Value]) -> String {
    use Column::{Figure, Text};
    let columns = [
        Text("SERVICE"),
        Figure("REQ/s"),
        Figure("ERRORS/s"),
        Figure("REFUSED/s"),
        Figure("p50 ms"),
        Figure("p99 ms"),
        Figure("COST/h"),
        Figure("BUDGET LEFT"),
        Text("SHARES"),
    ];
    let row = |service: &Value| {
        let figure = |name: &str| service[name].as_f64();
        [
            text(&service["name"]),
            rate(figure("requests_per_s")),
            rate(figure("errors_per_s")),
            rate(figure("refused_per_s")),
            ms(figure("p50_ms")),
            ms(figure("p99_ms")),
            usd(figure("cost_usd_per_h")),
            usd(figure("budget_left_usd")),
            shares(service),
        ]
    };
    table(&columns, &services.iter().map(row).collect::<Vec<_>>())
}

/// The clusters that serve, in the order of the service: `shop-idc 80 %, shop-near 20 %`.
fn shares(service: &Value) -> String {
    let part = |name: &Value| {
        let share = service["share"][name.as_str()?].as_f64().filter(|share| *share > 0.0)?;
        Some(format!("{} {}", text(name), crate::cli::text::percent(Some(share))))
    };
    let parts: Vec<String> = items(&service["order"]).iter().filter_map(part).collect();
    match parts.is_empty() {
        true => DASH.to_owned(),
        false => parts.join(", "),
    }
}
