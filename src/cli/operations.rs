//! `tidegate drill` and `tidegate shift`: begin an operation in a running proxy, follow it, and write its report.
//!
//! The operation runs in the proxy, and ends there: this program may be cut off at any time. An interrupt aborts the
//! operation; a second one only ends this program.

use super::remote::{AdminArguments, operator};
use super::{FAILED, fail, print};
use crate::admin::client::{Answer, Call, Remote};
use crate::config::scalar::duration;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// The arguments of `drill`.
#[derive(Debug, clap::Args)]
pub(super) struct Drill {
    /// The site whose traffic goes elsewhere.
    #[arg(long)]
    site: String,
    /// For how long: from 5 s to 1 h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Duration,
    #[command(flatten)]
    terms: Terms,
}

/// The arguments of `shift`.
#[derive(Debug, clap::Args)]
pub(super) struct Shift {
    /// The service whose traffic moves.
    #[arg(long)]
    service: String,
    /// The cluster that gives traffic away.
    #[arg(long)]
    from: String,
    /// The cluster that gets the traffic. Against an earlier shift, the traffic returns.
    #[arg(long)]
    to: String,
    /// How long the shift takes, from 10 s to 24 h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    over: Duration,
    #[command(flatten)]
    terms: Terms,
}

/// The arguments of both.
#[derive(Debug, clap::Args)]
struct Terms {
    /// The part of the traffic that moves.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
    /// Stops when this much more of a service's requests fail than before, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    max_errors: f64,
    /// Stops when the 99th percentile of a service stays above this; by default, twice the greater of the one before and
    /// the expected one, and 50 ms.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_p99: Option<Duration>,
    /// Begins although the other clusters are not expected to carry the traffic.
    #[arg(long)]
    force: bool,
    /// The folder for the report, as Markdown and as JSON.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    admin: AdminArguments,
    /// The name for the audit trail; $USER by default.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Prints the report as JSON at the end, and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

/// For how long the proxy may simulate before it answers, and for how long another simulation is waited for.
const SIMULATES: Duration = Duration::from_secs(30);
/// Between two looks at the operation.
const LOOK: Duration = Duration::from_millis(500);
/// For how long an operation is looked for after its planned end.
const OVERDUE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Dials a site away and back; fails unless the drill is done as planned.
pub(super) fn drill(drill: &Drill) -> ExitCode {
    let body = json!({"kind": "drill", "site": drill.site, "for_s": drill.lasts.as_secs()});
    operate(&drill.terms, body)
}

/// Moves a service gradually; fails unless the shift is done as planned.
pub(super) fn shift(shift: &Shift) -> ExitCode {
    let (service, from, to) = (&shift.service, &shift.from, &shift.to);
    let over_s = shift.over.as_secs();
    let body =
        json!({"kind": "shift", "service": service, "from": from, "to": to, "over_s": over_s});
    operate(&shift.terms, body)
}

fn operate(terms: &Terms, mut body: Value) -> ExitCode {
    body["percent"] = json!(terms.percent);
    body["force"] = json!(terms.force);
    body["max_errors_percent"] = json!(terms.max_errors);
    body["max_p99_ms"] = json!(terms.max_p99.map(|span| span.as_secs_f64() * 1e3));
    let outcome = remote(terms).and_then(|remote| {
        let interrupts = interrupts();
        let begun = begin(&remote, &body.to_string())?;
        if !terms.json {
            print(&format!("{}\n", expectation(&begun["expected"])));
        }
        let ended = follow(&remote, &begun, &interrupts, terms.json)?;
        finish(&remote, &ended, terms)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED,
        Err(message) => fail(&message),
    }
}

fn remote(terms: &Terms) -> Result<Remote, String> {
    Ok(Remote { operator: operator(terms.name.clone()), ..terms.admin.running()? })
}

fn begin(remote: &Remote, body: &str) -> Result<Value, String> {
    let path = "/api/v1/operations";
    let call = Call { method: "POST", path, body: Some(body), timeout: SIMULATES };
    let started = Instant::now();
    loop {
        let answer = remote.send(&call)?;
        let json = || serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
        match answer.status {
            202 => return Ok(json()),
            // Another simulation runs.
            503 if started.elapsed() < SIMULATES => thread::park_timeout(LOOK),
            422 => {
                let told = json();
                let refusal = told["refusal"].as_str().unwrap_or_default();
                let expected = expectation(&told["expected"]);
                return Err(format!(
                    "{refusal}; nothing was moved (--force begins anyway)\n{expected}"
                ));
            }
            _ => return Err(refused(&answer)),
        }
    }
}

fn refused(answer: &Answer) -> String {
    format!("the proxy answers {}: {}", answer.status, answer.body.trim())
}

/// Counts SIGINT and SIGTERM.
fn interrupts() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let (seen, waiting) = (count.clone(), thread::current());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let waited = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                    waiting.unpark();
                }
            })
        });
        let waited: io::Result<()> = waited;
        if let Err(error) = waited {
            tracing::debug!(%error, "signals are not handled");
        }
    });
    count
}

/// Follows an operation to its end; an interrupt aborts it.
fn follow(
    remote: &Remote,
    begun: &Value,
    interrupts: &AtomicUsize,
    quiet: bool,
) -> Result<Value, String> {
    let path = format!("/api/v1/operations/{}", begun["id"]);
    let (mut now, mut shown, mut aborted) = (begun.clone(), String::new(), false);
    let mut lost: Option<Instant> = None;
    loop {
        match interrupts.load(Ordering::Relaxed) {
            0 => {}
            1 => {
                if !aborted {
                    eprintln!("aborting: the traffic returns at once");
                    let call = Call { method: "DELETE", path: &path, body: None, timeout: TIMEOUT };
                    aborted = remote.send(&call).is_ok_and(|answer| answer.status == 200);
                }
            }
            _ => return Err("interrupted: the operation ends in the proxy".to_owned()),
        }
        match remote.get(&path) {
            Ok(answer) if answer.status == 200 => {
                now = serde_json::from_str(&answer.body)
                    .map_err(|error| format!("cannot read the operation: {error}"))?;
                lost = None;
            }
            Ok(answer) if answer.status == 404 => {
                return Err(
                    "the proxy has restarted: the operation is over, and its traffic is back"
                        .to_owned(),
                );
            }
            Ok(answer) => return Err(refused(&answer)),
            Err(message) => {
                let since = *lost.get_or_insert_with(|| {
                    eprintln!("{message}; the operation ends in the proxy by itself");
                    Instant::now()
                });
                let left = Duration::from_secs_f64(now["seconds_left"].as_f64().unwrap_or(0.0));
                if since.elapsed() > left + OVERDUE {
                    return Err(message);
                }
            }
        }
        let line = progress(&now);
        if !quiet && lost.is_none() && line != shown {
            print(&format!("{line}\n"));
            shown = line;
        }
        if now["phase"] == "ended" {
            return Ok(now);
        }
        thread::park_timeout(LOOK);
    }
}

/// The newest point of the course as a line.
fn progress(now: &Value) -> String {
    let point = now["course"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    let figure = |key: &str| point[key].as_f64().unwrap_or(0.0);
    let p99 = point["p99_ms"].as_f64().map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
    format!(
        "{:>5.0} s  {:<9} {:>3} % moved  {:>8.1} requests/s  {:>6.1} failed/s  p99 {p99}",
        now["seconds"].as_f64().unwrap_or(0.0),
        now["phase"].as_str().unwrap_or_default(),
        now["percent"].as_u64().unwrap_or(0),
        figure("requests_per_s"),
        figure("failed_per_s"),
    )
}

/// What the proxy expects, as lines.
fn expectation(expected: &Value) -> String {
    let mut out = "expected, simulated with the current load:".to_owned();
    let mut line = |text: String| write!(out, "\n  {text}").unwrap_or_default();
    for service in expected["services"].as_array().into_iter().flatten() {
        let name = service["name"].as_str().unwrap_or_default();
        for cluster in service["clusters"].as_array().into_iter().flatten() {
            let rate = |key: &str| cluster[key].as_f64().unwrap_or(0.0);
            let (now, after) = (rate("now_rps"), rate("after_rps"));
            if (now - after).abs() > 0.5 {
                let cluster = cluster["name"].as_str().unwrap_or_default();
                line(format!("{name}: {cluster} {now:.1} -> {after:.1} requests/s"));
            }
        }
        let figure = |when: &str, key: &str| service[when][key].as_f64();
        if let Some((now, after)) = figure("now", "p99_ms").zip(figure("after", "p99_ms")) {
            line(format!("{name}: p99 {now:.0} -> {after:.0} ms"));
        }
        let refused = figure("after", "refused_rps").unwrap_or(0.0);
        line(format!("{name}: {refused:.1} requests/s refused"));
    }
    for list in ["warnings", "assumed"] {
        for text in expected[list].as_array().into_iter().flatten().filter_map(Value::as_str) {
            line(format!("{}: {text}", if list == "assumed" { "assumed" } else { "warning" }));
        }
    }
    out
}

/// Writes the report; whether the operation was done as planned.
fn finish(remote: &Remote, ended: &Value, terms: &Terms) -> Result<bool, String> {
    let json = serde_json::to_string_pretty(ended).unwrap_or_default() + "\n";
    let text = remote.get(&format!("/api/v1/operations/{}/report", ended["id"]))?;
    if text.status != 200 {
        return Err(refused(&text));
    }
    let word = |key: &str| ended[key].as_str().unwrap_or_default();
    let at: String = word("started_at").chars().filter(char::is_ascii_alphanumeric).collect();
    let name: String =
        word("name").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let stem = terms.out.join(format!("tidegate-{}-{name}-{at}", word("kind")));
    for (extension, content) in [("md", &text.body), ("json", &json)] {
        store(&stem.with_extension(extension), content)?;
    }
    let done = ended["outcome"] == "done";
    let stem = stem.display();
    if terms.json {
        print(&json);
    } else {
        let cause = ended["cause"].as_str().map_or(String::new(), |cause| format!(": {cause}"));
        print(&format!("{}{cause}\nreport: {stem}.md, {stem}.json\n", word("outcome")));
    }
    Ok(done)
}

fn store(path: &Path, content: &str) -> Result<(), String> {
    std::fs::write(path, content)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
