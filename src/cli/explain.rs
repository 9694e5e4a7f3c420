//! `tidegate explain`

use super::{FAILED, admin, fail, print, read_config};
use crate::config::load;
use crate::decision::explain::{Explanation, explain as explain_route};
use crate::decision::route::{Asked, Unrouted};
use crate::http::EncodedSlash;
use crate::http::target::{Target, host as authority_of};
use std::path::PathBuf;
use std::process::ExitCode;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The configuration file; `-` reads standard input.
    #[arg(long, short, env = "TIDEGATE_CONFIG")]
    config: PathBuf,
    /// Host of the request.
    #[arg(long)]
    host: String,
    /// Path of the request.
    #[arg(long)]
    path: String,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Listener it comes in by; the first http listener by default.
    #[arg(long)]
    listener: Option<String>,
    /// A running proxy's admin address: with its live scores.
    #[arg(long)]
    admin: Option<String>,
}

/// Explains; fails when the request would be refused.
pub(super) fn explain(question: &Question) -> ExitCode {
    match &question.admin {
        Some(url) => live(url, question),
        None => by_file(question),
    }
}

fn live(url: &str, question: &Question) -> ExitCode {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let mut path = format!(
        "/api/v1/explain?host={}&path={}&method={}",
        escape(&question.host),
        escape(&question.path),
        escape(&question.method)
    );
    if let Some(listener) = &question.listener {
        path.push_str(&format!("&listener={}", escape(listener)));
    }
    match admin::get(url, &path) {
        Ok(answer) => {
            let parsed = serde_json::from_str::<serde_json::Value>(&answer.body);
            let text = parsed.ok().and_then(|value| serde_json::to_string_pretty(&value).ok());
            let refused = answer.body.contains("\"answer\":\"no_");
            print(&(text.unwrap_or(answer.body) + "\n"));
            if answer.status == 200 && !refused { ExitCode::SUCCESS } else { FAILED }
        }
        Err(message) => fail(&message),
    }
}

fn by_file(question: &Question) -> ExitCode {
    let (text, folder) = match read_config(&question.config) {
        Ok(read) => read,
        Err(message) => return fail(&message),
    };
    let outcome = load(&text, &folder, &|name| std::env::var(name).ok());
    let Some(config) = outcome.config else {
        for problem in &outcome.problems {
            eprintln!("{}", problem.render(&question.config.display().to_string()));
        }
        return FAILED;
    };
    let plan = config.plan;
    let is_http =
        |l: &&crate::decision::plan::Listener| l.protocol == crate::decision::plan::Protocol::Http;
    let wanted = question.listener.as_ref();
    let found = match wanted {
        Some(name) => plan.listeners.iter().position(|listener| listener.name == *name),
        None => plan.listeners.iter().position(|listener| is_http(&listener)),
    };
    let Some(listener) = found else { return fail("there is no such listener") };
    let mut target = Target::default();
    if target.read(question.path.as_bytes(), EncodedSlash::Refuse).is_err() {
        return fail("the path would be refused with 400 bad_request");
    }
    let host = question.host.to_ascii_lowercase();
    let Ok(host) = authority_of(&host) else {
        return fail("the host would be refused with 400 bad_request");
    };
    let asked = Asked {
        listener,
        host,
        path: target.path(),
        method: &question.method,
        has_header: &|_, _| false,
    };
    match explain_route(&plan, None, &asked) {
        Ok(explanation) => {
            print(&render(&explanation));
            if explanation.answer.as_deref().is_some_and(|answer| answer.starts_with("no_")) {
                return FAILED;
            }
            ExitCode::SUCCESS
        }
        Err(Unrouted::NoRoute) => fail("no route: 404 no_route"),
        Err(Unrouted::Method) => fail("no route for this method: 405 method_not_allowed"),
    }
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
    text
}
