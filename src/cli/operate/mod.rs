//! The verbs for the daily work with a running proxy: what its state is, why a request went where it went, and the few
//! changes that need no new configuration.

mod change;
mod clusters;
mod status;
mod table;
mod why;

pub(super) use change::{Dialled, Drained, Reloaded, dial, drain, reload, undrain};
pub(super) use clusters::{Listed, clusters};
pub(super) use status::{Asked, status};
pub(super) use why::{Traced, why};

use super::remote::AdminArguments;
use super::{fail, print};
use crate::admin::client::{Answer, Remote};
use serde_json::Value;
use std::process::ExitCode;

/// The arguments that all these verbs share.
#[derive(Debug, clap::Args)]
struct Reach {
    #[command(flatten)]
    admin: AdminArguments,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Reach {
    /// The body of `GET path`; a sentence for the operator where the proxy does not answer with one.
    fn get(&self, path: &str) -> Result<Value, String> {
        let remote = self.admin.running()?;
        let answer = remote.get(path)?;
        match answer.status {
            200 => parsed(&remote, &answer),
            _ => Err(refusal(&answer)),
        }
    }

    /// Prints an answer of the API: as it came with `--json`, else as text.
    fn tell(
        &self,
        answer: Result<Value, String>,
        render: impl FnOnce(&Value) -> String,
    ) -> ExitCode {
        match answer {
            Ok(value) if self.json => print(&format!("{value:#}\n")),
            Ok(value) => print(&render(&value)),
            Err(message) => fail(&message),
        }
    }
}

fn parsed(remote: &Remote, answer: &Answer) -> Result<Value, String> {
    serde_json::from_str(&answer.body).map_err(|_| {
        format!("{} does not answer as an admin API: its answer is not JSON", remote.url)
    })
}

/// What a refusal of the API says: its field `error` where it has one.
fn refusal(answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match body["error"].as_str() {
        Some(error) => error.to_owned(),
        None => format!("the proxy answers {}: {}", answer.status, answer.body.trim()),
    }
}

/// The items of a list; none where the answer has none.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text of the answer, safe for a terminal.
fn text(value: &Value) -> String {
    super::text::shown(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests;
