//! `tidegate cost`: what the traffic through a running proxy has cost.

use super::remote::AdminArguments;
use super::text::{count, shown, span, usd};
use super::{fail, print};
use crate::admin::cost::{BudgetState, CostReport};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    #[command(flatten)]
    admin: AdminArguments,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Prints the report; fails if the proxy does not answer.
pub(super) fn cost(question: &Question) -> ExitCode {
    match report(question) {
        Ok(text) => print(&text),
        Err(message) => fail(&message),
    }
}

fn report(question: &Question) -> Result<String, String> {
    let remote = question.admin.running()?;
    let (answer, url) = (remote.get("/api/v1/cost")?, &remote.url);
    if answer.status != 200 {
        return Err(format!("{url} answers {}: {}", answer.status, answer.body.trim()));
    }
    if question.json {
        return Ok(answer.body + "\n");
    }
    let parsed = serde_json::from_str::<CostReport>(&answer.body);
    let report = parsed.map_err(|_| {
        format!("the proxy at {url} has another version: its response cannot be parsed")
    })?;
    Ok(text(&report))
}

/// The report as a table.
fn text(report: &CostReport) -> String {
    let mut out = format!(
        "{} in {} (since {}); now {}/h\n\n",
        usd(Some(report.usd)),
        span(Duration::from_secs(report.seconds)),
        shown(&report.since),
        usd(Some(report.usd_per_hour))
    );
    let names = |pick: &dyn Fn(&crate::admin::cost::ServiceCost) -> usize, least: usize| {
        report.services.iter().map(pick).chain([least]).max().unwrap_or(least)
    };
    let wide = names(&|service| shown(&service.name).chars().count(), 7);
    let broad = names(
        &|service| {
            let lengths = service.clusters.iter().map(|of| shown(&of.name).chars().count());
            lengths.max().unwrap_or(0)
        },
        7,
    );
    let head = ["requests", "bytes", "a request", "$/GiB", "$/million", "cost"];
    put(&mut out, format_args!("{:wide$}  {:broad$}", "service", "cluster"));
    head.iter().for_each(|name| put(&mut out, format_args!(" {name:>10}")));
    out.push('\n');
    for service in &report.services {
        for cluster in &service.clusters {
            let (name, at) = (shown(&service.name), shown(&cluster.name));
            put(&mut out, format_args!("{name:wide$}  {at:broad$}"));
            let figures = [
                count(Some(cluster.requests as f64)),
                size(cluster.bytes as f64),
                cluster.bytes_per_request.map_or("–".to_owned(), size),
                format!("{:.3}", cluster.per_gib),
                format!("{:.2}", cluster.per_million_requests),
                usd(Some(cluster.usd)),
            ];
            figures.iter().for_each(|figure| put(&mut out, format_args!(" {figure:>10}")));
            out.push('\n');
        }
    }
    out.push('\n');
    for service in &report.services {
        let name = shown(&service.name);
        let hour = format!("last hour {}, last day {}", usd(service.usd_1h), usd(service.usd_24h));
        put(&mut out, format_args!("{name:wide$}  {}/h; {hour}", usd(Some(service.usd_per_hour))));
        if let Some(budget) = &service.budget {
            put(&mut out, format_args!("; {}", balance(budget)));
        }
        out.push('\n');
    }
    out.push_str("\nnot included:\n");
    report.not_included.iter().for_each(|line| put(&mut out, format_args!("  {}\n", shown(line))));
    out
}

/// A budget in words.
fn balance(budget: &BudgetState) -> String {
    let state = match (budget.stops, budget.applies_to.as_str()) {
        (true, "all") => ", spent: no traffic to clusters with a price",
        (true, _) => ", spent: no spill to clusters with a price",
        (false, _) => "",
    };
    let (limit, full) = (budget.usd_per_hour * budget.share, budget.burst_usd);
    let (left, debt) = (budget.left_usd.max(0.0), (-budget.left_usd).max(0.0));
    let left = match debt > 0.0 {
        true => format!("a debt of {}", usd(Some(debt))),
        false => format!("{} left of {}", usd(Some(left)), usd(Some(full))),
    };
    format!("budget {}/h, {left}{state}", usd(Some(limit)))
}

/// Bytes in their largest unit.
fn size(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{value:.0} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    out.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::cost::{ClusterCost, ServiceCost};

    #[test]
    fn the_report_has_each_cluster_the_budget_and_what_is_not_included() {
        let budget = BudgetState {
            usd_per_hour: 8.0,
            share: 0.5,
            shared_by: "process".to_owned(),
            applies_to: "spill".to_owned(),
            burst_usd: 1.0 / 3.0,
            left_usd: -0.25,
            stops: true,
        };
        let cluster = ClusterCost {
            name: "near".to_owned(),
            per_gib: 0.09,
            per_million_requests: 0.4,
            requests: 1_234,
            bytes: 5 << 30,
            bytes_per_request: Some(4_350_000.0),
            usd: 0.45,
        };
        let service = ServiceCost {
            name: "shop\u{1b}[2J".to_owned(),
            usd: 0.45,
            usd_per_hour: 3.0,
            usd_1h: Some(0.45),
            usd_24h: None,
            budget: Some(budget),
            clusters: vec![cluster],
        };
        let text = text(&CostReport {
            since: "2026-01-01T00:00:00.000Z".to_owned(),
            seconds: 3_700,
            usd: 0.45,
            usd_per_hour: 3.0,
            services: vec![service],
            not_included: vec!["probes".to_owned()],
        });
        for part in [
            "$0.45 in 1 h 1 min (since 2026-01-01T00:00:00.000Z); now $3.00/h",
            "5.0 GiB    4.1 MiB      0.090       0.40      $0.45",
            "$3.00/h; last hour $0.45, last day –; budget $4.00/h, a debt of $0.25, spent: no spill",
            "not included:\n  probes\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "a name cannot clear the screen");
    }
}
