//! Cross-origin requests: preflights are answered here, and responses get the fields that let a page read them.

use super::answer::{self, Place};
use super::record::Record;
use crate::decision::cors::Cors;
use crate::decision::route::{RouteIndex, RouteQuery, RouteTable};
use crate::http::request::RequestHead;
use crate::proxy::l7::client::Client;

/// The method that a preflight asks for; `None` for any other request.
fn requested_method(head: &RequestHead) -> Option<&str> {
    if head.method() != "OPTIONS" {
        return None;
    }
    head.field("origin")?;
    std::str::from_utf8(head.field("access-control-request-method")?).ok()
}

/// The route of the request that a preflight announces, if this route has cross-origin rules. A route that takes only
/// `POST` is found, too.
pub(super) fn route_of_preflight(
    routes: &RouteTable,
    head: &RequestHead,
    query: &RouteQuery<'_>,
) -> Option<RouteIndex> {
    let method = requested_method(head)?;
    let index = routes.find(&RouteQuery { method, ..*query }).ok()?;
    routes.route(index).cors.is_some().then_some(index)
}

/// Whether the request is a preflight.
pub(super) fn is_preflight(head: &RequestHead) -> bool {
    requested_method(head).is_some()
}

/// The lines that the response to this request gets.
pub(super) fn lines(cors: &Cors, head: &RequestHead) -> Vec<u8> {
    cors.lines(head.field("origin"))
}

/// Answers a preflight, before any policy: a browser sends no credentials with it.
pub(super) async fn answer_preflight<C: Client>(
    place: Place<'_>,
    client: &mut C,
    cors: &Cors,
    record: &mut Record,
) {
    let head = client.head();
    let origin = head.field("origin").unwrap_or_default();
    record.cors_lines = cors.preflight_lines(origin, head.field("access-control-request-headers"));
    answer::local(place, client, (204, b"", b""), record).await;
}
