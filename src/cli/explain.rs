//! `tidegate explain`

use super::remote::AdminArguments;
use super::{FAILED, fail, load_config, print, read_config};
use crate::admin::client::Remote;
use crate::admin::explain::Question;
use crate::decision::explain::Explanation;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The configuration file; `-` reads standard input. With --admin, the configuration of the running proxy is used.
    #[arg(long, short, env = "TIDEGATE_CONFIG", required_unless_present = "admin")]
    config: Option<PathBuf>,
    /// Host of the request.
    #[arg(long)]
    host: String,
    /// Path of the request; a query may follow: /cart?item=1.
    #[arg(long)]
    path: String,
    /// Query of the request, if it does not follow the path: item=1.
    #[arg(long)]
    query: Option<String>,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Header field of the request; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Address that the request comes from. A trusted proxy's address is not the client: `--header 'x-forwarded-for:
    /// CLIENT'` names the client then. Without an address, no `client` condition of a route holds.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
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
pub(super) fn explain(options: Options) -> ExitCode {
    let question = Question {
        host: options.host,
        path: options.path,
        query: options.query,
        method: options.method,
        headers: options.headers,
        client: options.client,
        listener: options.listener,
    };
    match (options.admin.remote(), &options.config) {
        (Ok(Some(remote)), _) => live(&remote, &question, options.json),
        (Ok(None), Some(config)) => by_file(config, &question, options.json),
        (Ok(None), None) => {
            fail("name a configuration file with `--config`, or a running proxy with `--admin`")
        }
        (Err(message), _) => fail(&message),
    }
}

fn live(remote: &Remote, question: &Question, as_json: bool) -> ExitCode {
    match remote.get(&format!("/api/v1/explain?{}", question.parameters())) {
        Ok(answer) if answer.status == 200 => {
            match serde_json::from_str::<Explanation>(&answer.body) {
                Ok(explanation) => tell(&explanation, as_json),
                Err(_) => fail(&format!(
                    "the proxy at {} has another version: its response cannot be parsed",
                    remote.url
                )),
            }
        }
        Ok(answer) => {
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
            match (body["why"].as_str(), body["refusal"].as_str()) {
                (Some(why), Some(refusal)) => fail(&format!("{why}: {} {refusal}", answer.status)),
                (None, Some(refusal)) => fail(&format!("the request would be refused: {refusal}")),
                (_, None) => fail(answer.body.trim()),
            }
        }
        Err(message) => fail(&message),
    }
}

fn by_file(path: &Path, question: &Question, as_json: bool) -> ExitCode {
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
    match question.answer(&config.plan, None) {
        Ok(explanation) => tell(&explanation, as_json),
        Err(why) => fail(&why.to_string()),
    }
}

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
