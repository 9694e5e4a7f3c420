//! `tidegate explain`

use super::remote::AdminArguments;
use super::{FAILED, fail, load_config, print, read_config};
use crate::admin::client::{Remote, escaped};
use crate::decision::explain::{Explanation, explain as explain_route};
use crate::decision::matching::BareRequest;
use crate::decision::route::{RouteQuery, Unrouted};
use crate::http::target::{Target, host as authority_of};
use crate::http::{EncodedSlash, Slashes};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The configuration file; `-` reads standard input. With --admin, the configuration of the running proxy is used.
    #[arg(long, short, env = "TIDEGATE_CONFIG", required_unless_present = "admin")]
    config: Option<PathBuf>,
    /// Host of the request.
    #[arg(long)]
    host: String,
    /// Path of the request.
    #[arg(long)]
    path: String,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Listener that receives the request; the first http listener by default.
    #[arg(long)]
    listener: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Explains a request; fails if the request would be refused.
pub(super) fn explain(question: &Question) -> ExitCode {
    match (question.admin.remote(), &question.config) {
        (Ok(Some(remote)), _) => live(&remote, question),
        (Ok(None), Some(config)) => by_file(config, question),
        (Ok(None), None) => {
            fail("name a configuration file with `--config`, or a running proxy with `--admin`")
        }
        (Err(message), _) => fail(&message),
    }
}

fn live(remote: &Remote, question: &Question) -> ExitCode {
    let mut path = format!(
        "/api/v1/explain?host={}&path={}&method={}",
        escaped(&question.host),
        escaped(&question.path),
        escaped(&question.method)
    );
    if let Some(listener) = &question.listener {
        path.push_str(&format!("&listener={}", escaped(listener)));
    }
    match remote.get(&path) {
        Ok(answer) if answer.status == 200 => {
            match serde_json::from_str::<Explanation>(&answer.body) {
                Ok(explanation) => tell(&explanation, question.json),
                Err(_) => fail(&format!(
                    "the proxy at {} has another version: its response cannot be parsed",
                    remote.url
                )),
            }
        }
        Ok(answer) => {
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
            match body["refusal"].as_str() {
                Some("no_route") => fail(NO_ROUTE),
                Some("method_not_allowed") => fail(NO_METHOD),
                Some(refusal) => fail(&format!("the request would be refused: {refusal}")),
                None => fail(answer.body.trim()),
            }
        }
        Err(message) => fail(&message),
    }
}

fn by_file(path: &Path, question: &Question) -> ExitCode {
    let (text, folder) = match read_config(path) {
        Ok(read) => read,
        Err(message) => return fail(&message),
    };
    let outcome = load_config(&text, &folder);
    let Some(config) = outcome.config else {
        for problem in &outcome.problems {
            eprintln!("{}", problem.render(&path.display().to_string()));
        }
        return FAILED;
    };
    let plan = config.plan;
    let is_http =
        |l: &crate::decision::plan::Listener| l.protocol == crate::decision::plan::Protocol::Http;
    let wanted = question.listener.as_ref();
    let found = match wanted {
        Some(name) => plan.listeners.find(|listener| listener.name == *name),
        None => plan.listeners.find(is_http),
    };
    let Some(listener) = found else {
        return fail(&match wanted {
            Some(name) => format!("the configuration has no listener `{name}`"),
            None => "the configuration has no http listener".to_owned(),
        });
    };
    let mut target = Target::default();
    if target.read(question.path.as_bytes(), EncodedSlash::Refuse, Slashes::Merge).is_err() {
        return fail("the path would be refused with 400 bad_request");
    }
    let host = question.host.to_ascii_lowercase();
    let Ok(host) = authority_of(&host) else {
        return fail("the host would be refused with 400 bad_request");
    };
    let is_https = plan.listeners.get(listener).is_some_and(|own| own.tls.is_some());
    let query = RouteQuery {
        listener,
        host,
        path: target.path(),
        method: &question.method,
        request: &BareRequest { is_https },
    };
    match explain_route(&plan, None, &query) {
        Ok(explanation) => tell(&explanation, question.json),
        Err(Unrouted::NoRoute) => fail(NO_ROUTE),
        Err(Unrouted::Method(methods)) => {
            fail(&format!("{NO_METHOD} (allow: {})", methods.join(", ")))
        }
        Err(Unrouted::Ambiguous) => {
            fail("a parameter in the path would reach a route with another policy: 400 bad_request")
        }
    }
}

const NO_ROUTE: &str = "no route: 404 no_route";
const NO_METHOD: &str = "no route for this method: 405 method_not_allowed";

/// Prints an explanation; fails if the request would be refused.
fn tell(explanation: &Explanation, as_json: bool) -> ExitCode {
    let text = match as_json {
        true => serde_json::to_string_pretty(explanation).map(|text| text + "\n"),
        false => Ok(render(explanation)),
    };
    match text {
        Ok(text) => print(&text),
        Err(error) => return fail(&error.to_string()),
    };
    let refused = explanation.answer.as_deref().is_some_and(|answer| answer.starts_with("no_"));
    if refused { FAILED } else { ExitCode::SUCCESS }
}

fn render(explanation: &Explanation) -> String {
    let mut text = format!("route        {}\n", explanation.route);
    if let Some(service) = &explanation.service {
        text.push_str(&format!("service      {service}\n"));
        text.push_str(&format!("data         {}\n", explanation.data.join(", ")));
        text.push_str(&format!("environment  {}\n", explanation.environment));
        text.push_str(&format!("permitted    {}\n", explanation.permitted.join(", ")));
    }
    for rejection in &explanation.rejected {
        text.push_str(&format!("rejected     {}: {}\n", rejection.cluster, rejection.reason));
    }
    if let Some(answer) = &explanation.answer {
        text.push_str(&format!("answer       {answer}\n"));
    }
    if let Some(chosen) = &explanation.chosen {
        text.push_str(&format!("chosen       {chosen}\n"));
    }
    text.push_str(&scores(explanation));
    text
}

/// For each cluster one line of figures and one of text. Times are in milliseconds; an unmeasured value is a dash.
pub(super) fn scores(explanation: &Explanation) -> String {
    let Some(widest) = explanation.scores.iter().map(|score| score.cluster.len()).max() else {
        return String::new();
    };
    let width = widest.max("cluster".len());
    let heads =
        ["distance", "service", "price", "penalty", "queue", "tolerates", "total", "accepts"];
    let mut text = format!("\n{:width$}", "cluster");
    heads.iter().for_each(|head| text.push_str(&format!("  {head:>9}")));
    let figure = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    for score in &explanation.scores {
        text.push_str(&format!("\n{:width$}", score.cluster));
        let figures = [
            score.distance_ms,
            score.service_ms,
            Some(score.price_ms),
            Some(score.penalty_ms),
            score.queue_ms,
            Some(score.tolerates_ms),
            score.total_ms,
        ];
        figures.iter().for_each(|ms| text.push_str(&format!("  {:>9}", figure(*ms))));
        text.push_str(&format!("  {:>7.0} %", score.accept_ratio * 100.0));
    }
    text.push_str("\n\n");
    for score in &explanation.scores {
        text.push_str(&format!("{:width$}  {}\n", score.cluster, score.why));
    }
    text
}
