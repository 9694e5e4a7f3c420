//! Answers of our own: refusals, redirects, fixed responses.

use super::client::{Client, Local, Response};
use super::record::Record;
use crate::http::field::Role;
use crate::http::grpc;
use crate::http::request::RequestHead;
use crate::proxy::refusal::Refusal;
use crate::shared::View;

/// Answers with a refusal. `keep` is whether the request was read so far that the connection may go on.
pub async fn refuse<C: Client>(
    view: &View,
    client: &mut C,
    refusal: Refusal,
    why: &str,
    record: &mut Record,
) {
    let (status, word) = refusal.tell();
    let (mut lines, mut body) = refusal_text(refusal, why, &record.refusal_lines);
    let is_call = is_call(view, client, record);
    let status = match is_call {
        // Its client looks for a status of its own, and takes any other answer for a broken proxy.
        true => {
            let told = grpc::status_lines(refusal.grpc_status(), &body);
            lines = format!("tidegate-refusal: {word}\r\n{NO_STORE}{told}").into_bytes();
            body.clear();
            200
        }
        false => status,
    };
    let mut body = body.into_bytes();
    let told = record.refusal_told.take().filter(|_| !is_call);
    let status = told.map_or(status, |told| {
        lines = [format!("tidegate-refusal: {word}\r\n").as_bytes(), &told.lines].concat();
        body = told.body;
        told.status
    });
    let (_, _, mut response) = client.split();
    let keep = refusal.keeps_connection();
    let answer = Local { status, lines: &lines, body: &body, keep };
    record.status = status;
    record.refusal = Some(refusal);
    if let Err(error) = response.local(&answer).await {
        tracing::debug!(%error, refusal = word, "a client left before its refusal");
    }
    record.bytes_out = response.sent();
}

/// Whether a refusal is told as gRPC tells it: the client says that it calls, and the service, a cluster's
/// protocol, or, where no service was found, the client's own protocol and some service's say so, too.
fn is_call<C: Client>(view: &View, client: &C, record: &Record) -> bool {
    let says_grpc = || grpc::is_grpc(client.head().value(Role::ContentType));
    if !(record.says_grpc || says_grpc()) {
        return false;
    }
    match record.class {
        Some(class) => view.plan.may_serve_grpc(class),
        None => {
            let classes = 0..view.plan.classes.len();
            let framed = !client.protocol().starts_with("HTTP/1");
            framed && classes.into_iter().any(|class| view.plan.may_serve_grpc(class))
        }
    }
}

/// What we say ourselves holds for this moment: no cache may keep it.
const NO_STORE: &str = "cache-control: no-store\r\n";

/// `Allow` where no route was looked for (RFC 9110 §15.5.6): what a reverse proxy takes.
const ALLOW: &str = "allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n";

/// The lines and the body of a refusal; `further` are complete lines that only this one has.
#[must_use]
pub fn refusal_text(refusal: Refusal, why: &str, further: &str) -> (Vec<u8>, String) {
    let word = refusal.label();
    let mut lines = format!(
        "tidegate-refusal: {word}\r\n{NO_STORE}content-type: text/plain; charset=utf-8\r\n"
    );
    if refusal == Refusal::Overloaded {
        lines.push_str("retry-after: 1\r\n");
    }
    if refusal == Refusal::MethodNotAllowed && further.is_empty() {
        lines.push_str(ALLOW);
    }
    lines.push_str(further);
    let body = if why.is_empty() { format!("{word}\n") } else { format!("{word}: {why}\n") };
    (lines.into_bytes(), body)
}

/// Sends a route's own answer.
pub async fn local<C: Client>(
    client: &mut C,
    status: u16,
    lines: &[u8],
    body: &[u8],
    record: &mut Record,
) {
    let (_, _, mut response) = client.split();
    record.status = status;
    if let Err(error) = response.local(&Local { status, lines, body, keep: true }).await {
        tracing::debug!(%error, "a client left before its answer");
    }
    record.bytes_out = response.sent();
}

/// `Location` with the request's host, path and query in place of their names. All three are in
/// canonical form, so none can end the line.
#[must_use]
pub fn location(template: &str, head: &RequestHead) -> String {
    let query = head.target().query().trim_start_matches('?');
    template
        .replace("{host}", head.host())
        .replace("{path}", head.target().path())
        .replace("{query}", query)
}
