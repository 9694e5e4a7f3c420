//! Cross-origin requests: preflights are answered here, and responses get the fields that let a page read them.

use super::answer::{self, Place};
use super::record::Record;
use crate::decision::cors::Cors;
use crate::http::request::RequestHead;
use crate::l7::client::Client;

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
