//! `tidegate drain`, `undrain`, `dial` and `reload`: changes of a running proxy.

use super::{Reach, items, parsed, refusal, text};
use crate::admin::client::{Call, escaped};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// How long the proxy may take for a change: a reload reads files and certificates.
const CHANGES: Duration = Duration::from_secs(20);

/// The arguments of `drain` and `undrain`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Drained {
    /// The cluster; with `--site`, the site.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    change: Changed,
}

/// The arguments of `dial`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Dialled {
    /// The cluster; with `--site`, the site.
    #[arg(value_name = "NAME")]
    name: String,
    /// At most so many percent of the exchanges that would choose this cluster; `reset` for the file's dial.
    #[arg(value_name = "PERCENT", value_parser = percent)]
    percent: Percent,
    #[command(flatten)]
    change: Changed,
}

/// The arguments of `reload`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Reloaded {
    /// Your name, for the audit trail of the proxy; $USER by default.
    #[arg(long = "as", value_name = "NAME")]
    operator: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Args)]
struct Changed {
    /// NAME is a site: the change is for all its clusters.
    #[arg(long)]
    site: bool,
    /// Your name, for the audit trail of the proxy; $USER by default.
    #[arg(long = "as", value_name = "NAME")]
    operator: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// A dial, or `None` for the file's.
#[derive(Clone, Copy, Debug)]
struct Percent(Option<u8>);

fn percent(text: &str) -> Result<Percent, String> {
    match text.trim_end_matches('%').parse::<u8>() {
        _ if text == "reset" => Ok(Percent(None)),
        Ok(percent @ 0..=100) => Ok(Percent(Some(percent))),
        _ => Err("must be from 0 to 100, or `reset`".to_owned()),
    }
}

/// Sends no new exchanges to a cluster or site; open ones end by themselves.
pub(in crate::cli) fn drain(drained: &Drained) -> ExitCode {
    drained.change.make("POST", &drained.name, "drain", None, "drained: no new exchanges")
}

/// Ends a drain: the file's dial is in force again.
pub(in crate::cli) fn undrain(drained: &Drained) -> ExitCode {
    drained.change.make("POST", &drained.name, "undrain", None, "the file's dial is in force")
}

/// Sets or resets a dial.
pub(in crate::cli) fn dial(dialled: &Dialled) -> ExitCode {
    let Dialled { name, percent: Percent(percent), change } = dialled;
    match percent {
        None => change.make("DELETE", name, "dial", None, "the file's dial is in force"),
        Some(percent) => {
            let body = format!("{{\"percent\": {percent}}}");
            change.make("PUT", name, "dial", Some(&body), &format!("dial {percent} %"))
        }
    }
}

impl Changed {
    fn make(
        &self,
        method: &str,
        name: &str,
        verb: &str,
        body: Option<&str>,
        done: &str,
    ) -> ExitCode {
        let kind = if self.site { "sites" } else { "clusters" };
        let path = format!("/api/v1/{kind}/{}/{verb}", escaped(name));
        let answer = self.reach.change(&self.operator, method, &path, body);
        self.reach.tell(answer, |answer| {
            let mut line = format!("{} {name}: {done}\n", kind.trim_end_matches('s'));
            if let Some(warning) = answer["warning"].as_str() {
                line.push_str(&format!("warning: {}\n", crate::cli::text::shown(warning)));
            }
            line
        })
    }
}

/// Reads the configuration file again; fails with all problems if it is rejected.
pub(in crate::cli) fn reload(reloaded: &Reloaded) -> ExitCode {
    let answer = reloaded.reach.change(&reloaded.operator, "POST", "/api/v1/reload", None);
    reloaded.reach.tell(answer, |answer| {
        format!("configuration reloaded: generation {}\n", answer["generation"])
    })
}

impl Reach {
    /// Makes a change.
    fn change(
        &self,
        operator: &Option<String>,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<Value, String> {
        let mut remote = self.admin.running()?;
        remote.operator = crate::cli::remote::operator(operator.clone());
        let answer =
            remote.send(&Call { method, path, body, timeout: CHANGES }).map_err(|error| {
                format!(
                    "{error}. It is not known whether the change is in force: see `tidegate status`"
                )
            })?;
        match answer.status {
            200 => parsed(&remote, &answer),
            422 => Err(problems(&parsed(&remote, &answer)?)),
            _ => Err(refusal(&answer)),
        }
    }
}

/// The problems as `check` prints them, each in one line.
fn problems(answer: &Value) -> String {
    let line = |problem: &Value| {
        let place = format!("{}:{}:{}", text(&problem["file"]), problem["line"], problem["column"]);
        format!("\n  {place}: {}: {}", text(&problem["path"]), text(&problem["message"]))
    };
    let errors = items(&answer["problems"]).iter().filter(|problem| problem["severity"] == "error");
    let lines: Vec<String> = errors.map(line).collect();
    format!("the configuration is rejected; the old one stays in force:{}", lines.concat())
}
