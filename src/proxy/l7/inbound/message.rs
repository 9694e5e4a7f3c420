//! Responses in the types of the `http` crate, for HTTP/2 and HTTP/3.

use crate::http::forward::{self, ResponseContext};
use crate::http::response::ResponseHead;
use crate::http::translate::FieldMap;
use crate::http::{Framing, Version, translate};
use crate::l7::client::{Local, Reply};

/// A response head without its body.
pub type Head = ::http::Response<()>;

/// Converts a cluster's response, with this status.
#[must_use]
pub fn reply(reply: &Reply<'_>, status: u16, date: &str) -> Option<Head> {
    // Streams have their own framing; a known length is still sent.
    let framing = match reply.head.framing {
        Framing::Chunked | Framing::Close => Framing::None,
        known @ (Framing::None | Framing::Length(_)) => known,
    };
    let context = ResponseContext {
        version: Version::Http11,
        keep_alive: true,
        framing,
        date,
        edits: reply.edits,
        extra: reply.extra,
    };
    let mut fields = FieldMap::new(reply.bytes);
    forward::write_response_fields(&mut fields, reply.head, reply.bytes, &context);
    translate::response(status, fields.into_fields()?)
}

/// An interim response of a cluster.
#[must_use]
pub fn interim(head: &ResponseHead, bytes: &[u8]) -> Option<Head> {
    let mut lines = Vec::new();
    forward::write_interim(&mut lines, head, bytes);
    translate::response_head(head.status, after_first(&lines))
}

/// A local answer.
#[must_use]
pub fn local(answer: &Local<'_>, date: &str) -> Option<Head> {
    let mut lines = Vec::with_capacity(256);
    if answer.status != 204 {
        let length = answer.body.len().to_string();
        forward::push_field(&mut lines, b"content-length", length.as_bytes());
    }
    forward::push_field(&mut lines, b"date", date.as_bytes());
    lines.extend_from_slice(answer.lines);
    translate::response_head(answer.status, &lines)
}

/// The size of its fields, in bytes.
#[must_use]
pub fn size(head: &Head) -> u64 {
    head.headers().iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

/// The lines after the status line.
fn after_first(lines: &[u8]) -> &[u8] {
    let at = memchr::memmem::find(lines, b"\r\n").map_or(lines.len(), |at| at + 2);
    &lines[at..]
}
