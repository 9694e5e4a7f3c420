//! Local answers: refusals, redirects, fixed responses.

use super::record::Record;
use crate::decision::route::{self, Route};
use crate::http::field::Role;
use crate::http::forward::{self, Edits};
use crate::http::grpc;
use crate::http::request::RequestHead;
use crate::proxy::l7::client::{Client, Local, Response};
use crate::proxy::refusal::Refusal;
use crate::shared::View;

/// Answers with a refusal. The connection is kept if the request was read to its end.
pub async fn refuse<C: Client>(
    view: &View,
    client: &mut C,
    refusal: Refusal,
    why: &str,
    record: &mut Record,
) {
    let (status, word) = (refusal.status(), refusal.label());
    let edits = record.route.map(|route| &view.plan.routes.route(route).response_edits);
    let (mut lines, mut body) = refusal_text(refusal, why, &record.refusal_lines);
    if let Some(edits) = edits {
        lines = edited(edits, &lines);
    }
    let is_call = is_call(view, client, record);
    let status = match is_call {
        // A gRPC client expects a gRPC status and treats any other response as a protocol error.
        true => {
            let status_lines = grpc::status_lines(refusal.grpc_status(), &body);
            lines = format!("tidegate-refusal: {word}\r\n{NO_STORE}{status_lines}").into_bytes();
            body.clear();
            200
        }
        false => status,
    };
    let mut body = body.into_bytes();
    let denial = record.denial.take().filter(|_| !is_call);
    let status = denial.map_or(status, |denial| {
        lines = [format!("tidegate-refusal: {word}\r\n").as_bytes(), &denial.lines].concat();
        body = denial.body;
        denial.status
    });
    // A page of another origin may read a refusal as it may read a response.
    lines.extend_from_slice(&record.cors_lines);
    let (_, _, mut response) = client.split();
    let keep = refusal.keeps_connection();
    let answer = Local { status, lines: &lines, body: &body, keep };
    record.status = status;
    record.refusal = Some(refusal);
    if let Err(error) = response.local(&answer).await {
        tracing::debug!(%error, refusal = word, "refusal not sent: the client connection failed");
    }
    record.sent = response.sent();
}

/// Whether a refusal is sent as a gRPC status: the client sends a gRPC request, and the service or a cluster's
/// protocol is gRPC, or the request itself has HTTP/2 and `TE: trailers`. The latter suffices only here: such a
/// client expects the gRPC form, and no cache stores the answer.
fn is_call<C: Client>(view: &View, client: &C, record: &Record) -> bool {
    let head = client.head();
    if !grpc::is_grpc(head.value(Role::ContentType)) {
        return record.says_grpc;
    }
    let takes_trailers =
        head.value(Role::Te).is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
    record.class.is_some_and(|class| view.plan.may_serve_grpc(class))
        || takes_trailers && !client.protocol().starts_with("HTTP/1")
}

/// A local answer is valid only now: no cache may store it.
const NO_STORE: &str = "cache-control: no-store\r\n";

/// `Allow` without a route (RFC 9110 §15.5.6): the methods that a reverse proxy supports.
const ALLOW: &str = "allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n";

/// The lines and the body of a refusal; `further` are additional complete lines.
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

/// The lines of a local answer after the route's edits, which apply to all responses.
fn edited(edits: &route::Edits, lines: &[u8]) -> Vec<u8> {
    Edits { remove: &edits.remove, set: &edits.set, add: &edits.add }.apply(lines)
}

/// Sends a route's own answer.
pub async fn local<C: Client>(
    client: &mut C,
    (route, status): (&Route, u16),
    lines: &[u8],
    body: &[u8],
    record: &mut Record,
) {
    let mut lines = edited(&route.response_edits, &[NO_STORE.as_bytes(), lines].concat());
    lines.extend_from_slice(&record.cors_lines);
    let (_, _, mut response) = client.split();
    record.status = status;
    if let Err(error) = response.local(&Local { status, lines: &lines, body, keep: true }).await {
        tracing::debug!(%error, "response not sent: the client connection failed");
    }
    record.sent = response.sent();
}

/// Answers an HTTP-01 challenge (RFC 8555 §8.3).
pub async fn challenge<C: Client>(client: &mut C, text: &str, record: &mut Record) {
    let lines = format!("{NO_STORE}content-type: application/octet-stream\r\n");
    let (_, _, mut response) = client.split();
    record.status = 200;
    let answer = Local { status: 200, lines: lines.as_bytes(), body: text.as_bytes(), keep: true };
    if let Err(error) = response.local(&answer).await {
        tracing::debug!(%error, "answer to a challenge not sent: the client connection failed");
    }
    record.sent = response.sent();
}

/// Answers as the last hop of OPTIONS and TRACE (RFC 9110 §7.6.2, §9.3.7, §9.3.8). The answer to TRACE contains the
/// fields that describe the path, and no secrets.
pub async fn last_hop<C: Client>(client: &mut C, route: &Route, record: &mut Record) {
    let head = client.head();
    if head.method() != "TRACE" {
        return local(client, (route, 200), ALLOW.as_bytes(), b"", record).await;
    }
    let mut echo = format!("TRACE {} HTTP/1.1\r\n", head.target().as_str()).into_bytes();
    let is_way = |role| matches!(role, Role::Host | Role::Via | Role::MaxForwards);
    for field in head.fields().iter().filter(|field| is_way(field.role)) {
        forward::push_field(&mut echo, field.name.of(head.bytes()), field.value.of(head.bytes()));
    }
    echo.extend_from_slice(b"\r\n");
    local(client, (route, 200), b"content-type: message/http\r\n", &echo, record).await;
}

/// `Location` with the request's host, path and query in place of the placeholders. All three are canonical, so
/// none can contain a line end.
#[must_use]
pub fn location(template: &str, head: &RequestHead) -> String {
    let query = head.target().query().trim_start_matches('?');
    // With an empty query the question mark is removed.
    let bare = template.replace("?{query}", "").replace("&{query}", "");
    let template = if query.is_empty() { bare.as_str() } else { template };
    template
        .replace("{host}", head.host())
        .replace("{path}", head.target().path())
        .replace("{query}", query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Limits;

    #[test]
    fn a_location_has_no_bare_question_mark() {
        let template = "https://{host}/new{path}?{query}";
        for (target, template, expected) in [
            ("/a?b=c", template, "https://shop/new/a?b=c"),
            ("/a", template, "https://shop/new/a"),
            ("/a?", template, "https://shop/new/a"),
            ("/a", "/x?y=1&{query}", "/x?y=1"),
            ("/a?b", "/x?y=1&{query}", "/x?y=1&b"),
        ] {
            let mut head = RequestHead::default();
            let text = format!("GET {target} HTTP/1.1\r\nHost: shop:80\r\n\r\n");
            head.read(text.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(location(template, &head), expected, "{target}");
        }
    }
}
