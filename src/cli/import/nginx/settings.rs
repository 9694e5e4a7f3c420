//! Timeouts, retries and header fields of proxied requests.

use super::super::document::{Doc, Map};
use super::super::model::seconds;
use super::Translation;
use super::values::Scope;

/// Timeouts, retries and fields of the proxied requests of a scope.
pub(super) fn settings(translation: &mut Translation<'_>, keys: &mut Map, scope: &Scope<'_>) {
    let read = scope.seconds("proxy_read_timeout").or(scope.seconds("grpc_read_timeout"));
    keys.set("timeout", seconds(read.map_or(60.0, |(span, _)| span.max(0.1))));
    if scope.last("proxy_next_upstream").is_some_and(|d| d.word(0) == "off") {
        keys.set("retry.retries", Doc::word(0));
    } else if let Some(tries) = scope.last("proxy_next_upstream_tries") {
        let tries = tries.word(0).parse::<u64>().unwrap_or(0);
        if tries > 0 {
            keys.set("retry.retries", Doc::word((tries - 1).min(10)));
        }
    }
    if let Some(next) = scope.last("proxy_next_upstream")
        && next.words.iter().any(|word| word.starts_with("http_") || word == "non_idempotent")
    {
        let hint = "retries follow connection failures and 502, 503, 504 of idempotent requests, within `retry.budget`";
        translation.model.differs(&next.at, &next.shown(), hint);
    }
    fields(translation, keys, scope);
    super::policy::compression(translation, keys, scope);
    super::policy::error_pages(translation, keys, scope);
}

/// Request fields that Tidegate sets itself.
pub(super) const BUILT_IN: &[&str] = &[
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
    "upgrade",
    "connection",
];

fn fields(translation: &mut Translation<'_>, keys: &mut Map, scope: &Scope<'_>) {
    for directive in [scope.all("proxy_set_header"), scope.all("grpc_set_header")].concat() {
        let name = directive.word(0).to_ascii_lowercase();
        if BUILT_IN.contains(&name.as_str()) {
            if name != "host" {
                let why = "Tidegate sends X-Forwarded-*, X-Request-Id and upgrades by itself";
                translation.model.unneeded(&directive.at, &directive.shown(), why);
            }
            continue;
        }
        match scope.template(directive.word(1)) {
            Ok(value) if value.is_empty() => keys.push("request_headers.remove", name),
            Ok(value) => keys.put("request_headers.set", &name, value),
            Err(variable) => {
                let hint = format!("`request_headers` have no variable for `${variable}`");
                translation.model.left_out(&directive.at, &directive.shown(), &hint);
            }
        }
    }
    for directive in scope.all("add_header") {
        match scope.template(directive.word(1)) {
            // nginx adds no field without a value.
            Ok(value) if value.is_empty() => {}
            Ok(value) => {
                keys.put("response_headers.set", &directive.word(0).to_ascii_lowercase(), value)
            }
            Err(variable) => {
                let hint = format!("`response_headers` have no variable for `${variable}`");
                translation.model.left_out(&directive.at, &directive.shown(), &hint);
            }
        }
    }
    for directive in [scope.all("proxy_hide_header"), scope.all("grpc_hide_header")].concat() {
        keys.push("response_headers.remove", directive.word(0).to_ascii_lowercase());
    }
}
