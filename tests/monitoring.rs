//! The alert rules and the Grafana dashboard of `config/monitoring`: every metric exists, Prometheus accepts every
//! expression, and every alert is described in the documentation.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

#[path = "files/mod.rs"]
mod files;

use files::{read, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

/// The metrics that the code exposes.
fn exposed() -> BTreeSet<String> {
    let files = std::fs::read_dir(root().join("src/telemetry/metrics")).unwrap();
    let code = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let code: String = code.collect();
    let is_metric = |name: &&str| name.starts_with("tidegate_") && *name != "tidegate_cluster";
    code.split('"').skip(1).step_by(2).filter(is_metric).map(str::to_owned).collect()
}

/// The metrics that an expression names; a part of a histogram stands for the histogram.
fn named(expression: &str, exposed: &BTreeSet<String>) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("tidegate_") && *word != "tidegate_cluster");
    let whole = |word: &str| {
        let parts = ["_bucket", "_count", "_sum"].iter().filter_map(|end| word.strip_suffix(end));
        parts
            .map(str::to_owned)
            .find(|name| exposed.contains(name))
            .unwrap_or_else(|| word.to_owned())
    };
    metrics.map(whole).collect()
}

/// The values of a key of the alert rules; a block (`|`) continues on the lines that are indented further.
fn values(rules: &str, key: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    let mut block = None;
    for line in rules.lines() {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim_start().trim_start_matches("- ");
        if let Some(value) = text.strip_prefix(&format!("{key}: ")) {
            block = value.starts_with('|').then_some(indent);
            values.push(value.trim_start_matches('|').to_owned());
        } else if block.is_some_and(|of_key| indent > of_key) {
            let last = values.last_mut().unwrap();
            last.push(' ');
            last.push_str(text);
        } else {
            block = None;
        }
    }
    values
}

/// All strings under a key, at any depth.
fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == key => found.push(text),
                    Some(_) | None => strings(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The expressions and variable queries of the dashboard.
fn dashboard() -> (Vec<String>, Vec<String>) {
    let dashboard: Value = serde_json::from_str(&read("config/monitoring/dashboard.json")).unwrap();
    let (mut expressions, mut queries) = (Vec::new(), Vec::new());
    strings(&dashboard, "expr", &mut expressions);
    strings(&dashboard["templating"], "query", &mut queries);
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    (owned(expressions), owned(queries))
}

/// `promtool WHAT rules` on a file. Without promtool the test fails, unless TIDEGATE_SKIP_MISSING_TOOLS is set.
fn promtool(what: &str, file: &Path) -> Option<Output> {
    promtool_on(&[what, "rules"], file)
}

fn promtool_on(what: &[&str], file: &Path) -> Option<Output> {
    let run = Command::new("promtool").args(what).arg(file).output();
    if run.is_err() && std::env::var_os("TIDEGATE_SKIP_MISSING_TOOLS").is_some() {
        eprintln!("skipped: promtool is not installed");
        return None;
    }
    Some(run.expect("promtool is not installed: `make test` installs it; TIDEGATE_SKIP_MISSING_TOOLS=1 skips what needs it"))
}

fn promtool_accepts(what: &str, file: &Path) {
    let Some(output) = promtool(what, file) else { return };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn every_metric_of_alerts_and_dashboard_exists() {
    let exposed = exposed();
    assert!(exposed.len() >= 40, "the metrics were found: {exposed:?}");
    let alerts = values(&read("config/monitoring/alerts.yaml"), "expr");
    assert!(alerts.len() >= 12, "the alerts were found: {alerts:?}");
    let (expressions, queries) = dashboard();
    assert!(expressions.len() >= 30 && queries.len() >= 4, "{expressions:?} {queries:?}");
    for text in alerts.iter().chain(&expressions).chain(&queries) {
        for metric in named(text, &exposed) {
            assert!(exposed.contains(&metric), "no metric is named {metric}: {text}");
        }
    }
}

#[test]
fn every_alert_is_described_and_links_to_its_description() {
    let rules = read("config/monitoring/alerts.yaml");
    let docs = read("docs/monitoring.md");
    let headings: BTreeSet<&str> =
        docs.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let anchors: BTreeSet<String> =
        headings.iter().map(|heading| heading.to_ascii_lowercase()).collect();
    let runbooks = values(&rules, "runbook");
    assert_eq!(runbooks.len(), values(&rules, "alert").len());
    for runbook in runbooks {
        let anchor = runbook.strip_prefix("docs/monitoring.md#").unwrap();
        assert!(anchors.contains(anchor), "docs/monitoring.md has no section {anchor}");
    }
    for alert in values(&rules, "alert") {
        assert!(docs.contains(&alert), "docs/monitoring.md does not name {alert}");
    }
}

#[test]
fn promtool_accepts_the_alerts() {
    promtool_accepts("check", &root().join("config/monitoring/alerts.yaml"));
}

#[test]
fn each_alert_fires_on_its_condition_and_none_for_a_healthy_proxy() {
    promtool_accepts("test", &root().join("config/monitoring/alerts.test.yaml"));
    let tests = read("config/monitoring/alerts.test.yaml");
    for alert in values(&read("config/monitoring/alerts.yaml"), "alert") {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} has no test");
    }
}

#[test]
fn promtool_accepts_the_expressions_of_the_dashboard() {
    let expressions = dashboard().0.into_iter().enumerate();
    let rules = expressions.map(|(index, expression)| {
        let mut filled = expression.replace("$__rate_interval", "5m");
        for variable in ["$instance", "$service", "$cluster"] {
            filled = filled.replace(variable, ".*");
        }
        assert!(!filled.contains('$'), "an unknown variable: {filled}");
        json!({"record": format!("dashboard:{index}"), "expr": filled})
    });
    // JSON is YAML.
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard-rules.yaml");
    std::fs::write(&file, rules.to_string()).unwrap();
    promtool_accepts("check", &file);
}

#[test]
fn promtool_accepts_the_scrape_configuration_of_the_page() {
    let page = read("docs/monitoring.md");
    let blocks = page.split("```").skip(1).step_by(2);
    let mut texts = blocks.filter_map(|block| block.strip_prefix("text\n"));
    let config = texts.find(|text| text.starts_with("scrape_configs:")).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scrape");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("alerts.yaml"), read("config/monitoring/alerts.yaml")).unwrap();
    let file = folder.join("prometheus.yaml");
    std::fs::write(&file, config).unwrap();
    let Some(output) = promtool_on(&["check", "config"], &file) else { return };
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn promtool_rejects_a_broken_expression() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-rules.yaml");
    let rules = json!({"groups": [{"name": "broken", "rules": [{"record": "a", "expr": "sum("}]}]});
    std::fs::write(&file, rules.to_string()).unwrap();
    let Some(output) = promtool("check", &file) else { return };
    assert!(!output.status.success());
}
