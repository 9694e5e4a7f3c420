//! Local answers: refusals, redirects, fixed responses. The edits of response fields apply to them, too.

use super::record::Record;
use super::request_head::fresh_id;
use super::variables::{Values, edits_with};
use crate::decision::edits;
use crate::decision::pages::Page;
use crate::decision::plan::ListenerIndex;
use crate::decision::template::{Escape, Template};
use crate::http::field::Role;
use crate::http::forward;
use crate::http::grpc;
use crate::http::request::RequestHead;
use crate::l7::client::{Client, Local, Response};
use crate::l7::connection_info::ConnectionInfo;
use crate::refusal::Refusal;
use crate::shared::View;
use crate::worker::Worker;

/// Where an answer is made: the worker, the view of the exchange, and the client's connection.
pub type Place<'a> = (&'a Worker, &'a View, &'a ConnectionInfo);

/// Answers with a refusal. The connection is kept if the request was read to its end.
pub async fn refuse<C: Client>(
    place: Place<'_>,
    client: &mut C,
    refusal: Refusal,
    why: &str,
    record: &mut Record,
) {
    let (_, view, _) = place;
    let word = refusal.label();
    let (mut lines, body, status);
    if is_call(view, client, record) {
        // A gRPC client expects a gRPC status and treats any other response as a protocol error.
        let status_lines = grpc::status_lines(refusal.grpc_status(), &sentence(refusal, why));
        lines = format!("tidegate-refusal: {word}\r\n{NO_STORE}{status_lines}").into_bytes();
        body = Vec::new();
        status = 200;
    } else if let Some(denial) = record.denial.take() {
        lines = [format!("tidegate-refusal: {word}\r\n").as_bytes(), &denial.lines].concat();
        body = denial.body;
        status = denial.status;
    } else {
        (lines, body) = presented(place, client.head(), record, (refusal, why));
        status = refusal.status();
    }
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

/// The lines and the body of a refusal: the operator's page, or a line of text.
pub fn presented(
    place: Place<'_>,
    head: &RequestHead,
    record: &mut Record,
    (refusal, why): (Refusal, &str),
) -> (Vec<u8>, Vec<u8>) {
    let (_, view, info) = place;
    let page = page(view, info.terms.index, record, refusal.status());
    let (content_type, body) = match page {
        None => (PLAIN, sentence(refusal, why).into_bytes()),
        Some(page) => {
            identify(place, head, record);
            let values = Values::of(view, info, head, record).refused(refusal);
            (page.content_type, values.text(&page.body, page.escape))
        }
    };
    let lines = refusal_lines(refusal, content_type, &record.refusal_lines);
    (edited(place, head, record, &lines), body)
}

/// The operator's page for a status: of the route, else of the service, else of the listener.
fn page<'v>(
    view: &'v View,
    listener: ListenerIndex,
    record: &Record,
    status: u16,
) -> Option<&'v Page> {
    let of_route = record.route.map(|route| &view.plan.routes.route(route).error_pages);
    let of_service = record.class.map(|class| &view.plan.service_of(class).error_pages);
    let of_listener = view.plan.listeners.get(listener).map(|listener| &listener.error_pages);
    let mut levels = [of_route, of_service, of_listener].into_iter().flatten().flatten();
    levels.find_map(|pages| pages.find(status)).map(|page| &**page)
}

/// The content type of a line of text.
const PLAIN: &str = "text/plain; charset=utf-8";

/// A refusal in one line of text.
#[must_use]
pub fn sentence(refusal: Refusal, why: &str) -> String {
    let word = refusal.label();
    if why.is_empty() { format!("{word}\n") } else { format!("{word}: {why}\n") }
}

/// The lines of a refusal without edits; `further` are additional complete lines.
fn refusal_lines(refusal: Refusal, content_type: &str, further: &str) -> Vec<u8> {
    let word = refusal.label();
    let mut lines =
        format!("tidegate-refusal: {word}\r\n{NO_STORE}content-type: {content_type}\r\n");
    if refusal == Refusal::Overloaded {
        lines.push_str("retry-after: 1\r\n");
    }
    if refusal == Refusal::MethodNotAllowed && further.is_empty() {
        lines.push_str(ALLOW);
    }
    lines.push_str(further);
    lines.into_bytes()
}

/// The lines and the body of a refusal before the configuration of its listener is known.
#[must_use]
pub fn plain_refusal(refusal: Refusal, why: &str) -> (Vec<u8>, Vec<u8>) {
    (refusal_lines(refusal, PLAIN, ""), sentence(refusal, why).into_bytes())
}

/// The edits of the proxy's own answer: those of the destination, else of the route, else of the listener.
fn edits_of<'v>(view: &'v View, listener: ListenerIndex, record: &Record) -> &'v edits::Edits {
    let Some(route) = record.route.map(|route| view.plan.routes.route(route)) else {
        return &view.plan.listeners[listener].response_edits;
    };
    let to = record.class.and_then(|class| route.action.destination(class));
    to.map_or(&route.response_edits, |to| &to.terms.response_edits).at(listener)
}

/// The lines of a local answer after the edits of response fields.
fn edited(place: Place<'_>, head: &RequestHead, record: &mut Record, lines: &[u8]) -> Vec<u8> {
    let (_, view, info) = place;
    let edits = edits_of(view, info.terms.index, record);
    let composed = match edits.composed.as_slice() {
        [] => Vec::new(),
        composed => {
            identify(place, head, record);
            Values::of(view, info, head, record).lines(composed)
        }
    };
    edits_with(edits, &composed).apply(lines)
}

/// Gives the exchange an id if it has none yet, for the answer and for the log.
fn identify((worker, _, info): Place<'_>, head: &RequestHead, record: &mut Record) {
    if record.own_id != [0; 32] {
        return;
    }
    record.own_id = fresh_id(&mut worker.dice.borrow_mut());
    if worker.log.is_on() {
        let id = forward::believed_request_id(head, info.trusted, &record.own_id);
        record.request_id = String::from_utf8_lossy(id).into_owned();
    }
}

/// Sends the proxy's own answer, which is no refusal.
pub async fn local<C: Client>(
    place: Place<'_>,
    client: &mut C,
    (status, lines, body): (u16, &[u8], &[u8]),
    record: &mut Record,
) {
    let lines = [NO_STORE.as_bytes(), lines].concat();
    let mut lines = edited(place, client.head(), record, &lines);
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
pub async fn last_hop<C: Client>(place: Place<'_>, client: &mut C, record: &mut Record) {
    let head = client.head();
    if head.method() != "TRACE" {
        return local(place, client, (200, ALLOW.as_bytes(), b""), record).await;
    }
    let mut echo = format!("TRACE {} HTTP/1.1\r\n", head.target().as_str()).into_bytes();
    let is_way = |role| matches!(role, Role::Host | Role::Via | Role::MaxForwards);
    for field in head.fields().iter().filter(|field| is_way(field.role)) {
        forward::push_field(&mut echo, field.name.of(head.bytes()), field.value.of(head.bytes()));
    }
    echo.extend_from_slice(b"\r\n");
    local(place, client, (200, b"content-type: message/http\r\n", &echo), record).await;
}

/// `Location` of a redirect. A path that begins with two slashes would name another host.
#[must_use]
pub fn location(
    place: Place<'_>,
    head: &RequestHead,
    record: &mut Record,
    to: &Template,
) -> Vec<u8> {
    if let Some(constant) = to.constant() {
        return constant.as_bytes().to_vec();
    }
    let (_, view, info) = place;
    identify(place, head, record);
    let location = Values::of(view, info, head, record).text(to, Escape::Uri);
    match to.begins_with_variable() {
        true => with_one_slash(&location).to_vec(),
        false => location,
    }
}

/// A location that begins with one slash where it begins with several.
fn with_one_slash(location: &[u8]) -> &[u8] {
    match location.iter().take_while(|byte| **byte == b'/').count() {
        0 => location,
        slashes => &location[slashes - 1..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_no_other_host() {
        for (location, expected) in
            [("//evil.example/a", "/evil.example/a"), ("/a//b", "/a//b"), ("///", "/"), ("a", "a")]
        {
            assert_eq!(with_one_slash(location.as_bytes()), expected.as_bytes());
        }
    }
}
