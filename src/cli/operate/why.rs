//! `tidegate why`: why one request went where it went.

use super::{Reach, items, parsed, refusal, text};
use crate::admin::client::escaped;
use crate::cli::fail;
use crate::cli::text::{DASH, ms};
use serde_json::Value;
use std::process::ExitCode;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Traced {
    /// The field `request_id` of the access log; clusters receive it in the header `x-request-id`.
    #[arg(value_name = "REQUEST_ID")]
    request_id: String,
    #[command(flatten)]
    reach: Reach,
}

/// Shows the decision about one request.
pub(in crate::cli) fn why(traced: &Traced) -> ExitCode {
    let path = format!("/api/v1/why/{}", escaped(&traced.request_id));
    let ask = || {
        let remote = traced.reach.admin.running()?;
        let answer = remote.get(&path)?;
        match answer.status {
            200 => parsed(&remote, &answer),
            404 => Err(kept(&parsed(&remote, &answer)?)),
            _ => Err(refusal(&answer)),
        }
    };
    match ask() {
        Err(message) => fail(&message),
        answer => traced.reach.tell(answer, render),
    }
}

/// Why a request is not known, and from when on requests are.
fn kept(answer: &Value) -> String {
    let since = &answer["kept_since"];
    let of = |name: &str| since[name].as_str().map_or("none".to_owned(), |_| text(&since[name]));
    format!(
        "{}\nkept: those of the nearest cluster since {}, the others since {}",
        text(&answer["error"]),
        of("nearest"),
        of("others")
    )
}

pub(super) fn render(told: &Value) -> String {
    let mut out = format!(
        "request      {} http://{}{}\nat           {}\nservice      {}\n",
        text(&told["method"]),
        text(&told["host"]),
        text(&told["path"]),
        text(&told["time"]),
        text(&told["service"]),
    );
    match told["refusal"].as_str() {
        Some(_) => out.push_str(&format!(
            "refused      {} with status {}\n",
            text(&told["refusal"]),
            told["status"]
        )),
        None => out.push_str(&format!(
            "cluster      {} (endpoint {}), reason: {}\nanswer       status {} at attempt {}\n",
            text(&told["cluster"]),
            text(&told["endpoint"]),
            text(&told["reason"]),
            told["status"],
            told["attempts"],
        )),
    }
    let figure = |name: &str| ms(told[name].as_f64());
    out.push_str(&format!(
        "time         connect {} ms, first byte {} ms, whole {} ms\n",
        figure("upstream_connect_ms"),
        figure("upstream_first_byte_ms"),
        figure("duration_ms")
    ));
    let rejected: Vec<String> = items(&told["rejected"]).iter().map(text).collect();
    let rejected = if rejected.is_empty() { DASH.to_owned() } else { rejected.join(", ") };
    out.push_str(&format!("rejected     {rejected}\n"));
    let why = text(&told["why"]);
    if !why.is_empty() {
        out.push_str(&format!("\n{why}\n"));
    }
    match serde_json::from_value(told["explanation"].clone()) {
        Ok(explanation) => out + &crate::cli::explain::scores(&explanation),
        Err(_) => out,
    }
}
