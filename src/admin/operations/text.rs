//! The report of an operation as Markdown, from its JSON.

use serde_json::Value;
use std::fmt::Write as _;

/// The most rows of the course.
const ROWS_MAX: usize = 24;

/// The report as Markdown. Writing to a string cannot fail.
pub(super) fn markdown(report: &Value) -> String {
    let mut out = String::new();
    let text = |key: &str| plain(report[key].as_str().unwrap_or_default());
    let (kind, name) = (text("kind"), text("name"));
    let what = match kind.as_str() {
        "shift" => format!("Shift of {name} from {} to {}", text("from"), text("to")),
        _ => format!("Drill of {name}"),
    };
    let outcome = match (report["outcome"].as_str(), report["cause"].as_str()) {
        (Some(outcome), Some(cause)) => format!("{outcome}: {}", plain(cause)),
        (Some(outcome), None) => outcome.to_owned(),
        (None, _) => format!("running ({})", text("phase")),
    };
    let mut line = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    line(format!("# {what}\n"));
    line(format!("**{outcome}**\n"));
    line(format!(
        "* {} to {} % of the traffic, for {} s; begun {} by {}, ended {}",
        report["start_percent"],
        report["target_percent"],
        report["duration_s"],
        text("started_at"),
        text("by"),
        report["ended_at"].as_str().unwrap_or("not yet"),
    ));
    line(format!(
        "* stops at {} % more failed requests than before, or at the p99 below\n",
        report["max_errors_percent"]
    ));
    for service in report["services"].as_array().into_iter().flatten() {
        line(table(service));
    }
    for warning in report["expected"]["warnings"].as_array().into_iter().flatten() {
        line(format!("* {}", plain(warning.as_str().unwrap_or_default())));
    }
    let assumed = report["expected"]["assumed"].as_array().into_iter().flatten();
    let assumed: Vec<String> =
        assumed.filter_map(Value::as_str).map(|line| format!("* {}\n", plain(line))).collect();
    if !assumed.is_empty() {
        line(format!("## The simulation assumed\n\n{}", assumed.concat()));
    }
    line(course(report));
    out
}

fn table(service: &Value) -> String {
    let mut out = format!("## {}\n\n", plain(service["name"].as_str().unwrap_or_default()));
    out.push_str(
        "| | before | while moving | expected | held | held, off by | after the return |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|\n");
    let phases = ["before", "moving", "held", "after"];
    let cell = |phase: &str, key: &str| match service[phase]["seconds"].as_f64() {
        Some(seconds) if seconds > 0.0 => shown(&service[phase][key], ""),
        _ => "–".to_owned(),
    };
    let mut row = |name: &str, expected: String, off: String, key: &str| {
        let [before, moving, held, after] = phases.map(|phase| cell(phase, key));
        let written = writeln!(
            out,
            "| {name} | {before} | {moving} | {expected} | {held} | {off} | {after} |"
        );
        written.unwrap_or_default();
    };
    let (expected, off) = (&service["expected"], &service["off"]);
    let none = || "–".to_owned();
    row("requests/s", none(), none(), "requests_per_s");
    row("failed", none(), none(), "failed");
    row("failed, %", none(), none(), "failed_percent");
    row("p99, ms", shown(&expected["p99_ms"], ""), shown(&off["p99_percent"], " %"), "p99_ms");
    let mut clusters: Vec<&String> = phases
        .iter()
        .flat_map(|phase| service[phase]["to"].as_object())
        .chain(expected["to"].as_object())
        .flat_map(|map| map.keys())
        .collect();
    clusters.sort();
    clusters.dedup();
    for cluster in clusters {
        let cell = |phase: &str| match service[phase]["seconds"].as_f64() {
            Some(seconds) if seconds > 0.0 => match service[phase]["to"][cluster].as_f64() {
                Some(rate) => format!("{rate}"),
                None => "0".to_owned(),
            },
            _ => none(),
        };
        let [before, moving, held, after] = phases.map(cell);
        let (wanted, off) = (shown(&expected["to"][cluster], ""), shown(&off["to"][cluster], ""));
        let name = plain(cluster);
        let written = writeln!(
            out,
            "| requests/s to {name} | {before} | {moving} | {wanted} | {held} | {off} | {after} |"
        );
        written.unwrap_or_default();
    }
    let limit = shown(&service["p99_limit_ms"], " ms");
    let written = writeln!(out, "\nLimit of the p99: {limit}.");
    written.unwrap_or_default();
    out
}

fn course(report: &Value) -> String {
    let all = report["course"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = "## Course\n\n| second | moved, % | requests/s | failed/s | p99, ms |\n|---|---|---|---|---|\n".to_owned();
    let each = all.len().div_ceil(ROWS_MAX).max(1);
    for point in all.iter().step_by(each) {
        let cell = |key: &str| shown(&point[key], "");
        let [at, percent, rate, failed, p99] =
            ["at_s", "percent", "requests_per_s", "failed_per_s", "p99_ms"].map(cell);
        let written = writeln!(out, "| {at} | {percent} | {rate} | {failed} | {p99} |");
        written.unwrap_or_default();
    }
    out
}

/// A figure with its unit; a dash for an unknown one.
fn shown(value: &Value, unit: &str) -> String {
    if value.is_null() { "–".to_owned() } else { format!("{value}{unit}") }
}

/// Text that cannot end a cell or begin a tag.
fn plain(text: &str) -> String {
    let safe = text.chars().filter(|c| !c.is_control()).map(|c| match c {
        '|' => "\\|".to_owned(),
        '<' => "&lt;".to_owned(),
        '*' | '_' | '`' | '[' | ']' => format!("\\{c}"),
        other => other.to_string(),
    });
    safe.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_has_its_outcome_its_comparison_and_safe_names() {
        let report = json!({
            "kind": "drill", "name": "east|<b>", "outcome": "stopped", "cause": "shop: p99 was 500 ms (limit 170 ms)",
            "start_percent": 0, "target_percent": 100, "duration_s": 60, "started_at": "2026-01-01T00:00:00Z",
            "ended_at": "2026-01-01T00:01:10Z", "by": "Ada", "max_errors_percent": 1.0, "phase": "ended",
            "expected": {"warnings": [], "assumed": ["idc works on 4 exchanges at once"]},
            "services": [{
                "name": "shop", "p99_limit_ms": 170.0,
                "before": {"seconds": 5.0, "requests_per_s": 100.0, "failed": 0.0, "failed_percent": 0.0, "p99_ms": 40.0, "to": {"idc": 100.0}},
                "moving": {"seconds": 0.0, "to": {}},
                "held": {"seconds": 8.0, "requests_per_s": 99.0, "failed": 2.0, "failed_percent": 0.3, "p99_ms": 66.0, "to": {"near": 99.0}},
                "after": {"seconds": 0.0, "to": {}},
                "expected": {"p99_ms": 60.0, "to": {"idc": 0.0, "near": 100.0}},
                "off": {"p99_percent": 10.0, "to": {"idc": 0.0, "near": -1.0}},
            }],
            "course": [{"at_s": 1.0, "percent": 0, "requests_per_s": 100.0, "failed_per_s": 0.0, "p99_ms": null}],
        });

        let text = markdown(&report);

        for part in [
            "# Drill of east\\|&lt;b>",
            "**stopped: shop: p99 was 500 ms (limit 170 ms)**",
            "| p99, ms | 40.0 | – | 60.0 | 66.0 | 10.0 % | – |",
            "| requests/s to near | 0 | – | 100.0 | 99 | -1.0 | – |",
            "| 1.0 | 0 | 100.0 | 0.0 | – |",
            "idc works on 4 exchanges at once",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
