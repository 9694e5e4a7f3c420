//! The response to an HTTP/1 client.

use crate::body::Sink;
use crate::http::forward::{self, ResponseContext};
use crate::http::response::ResponseHead;
use crate::http::{Framing, Version};
use crate::l7::client::{Local, Reply, Response, Sent};
use crate::os::pipe::Pipe;
use crate::refusal::phrase;
use std::cell::Cell;
use std::io;

/// The response's direction of an HTTP/1 connection.
#[derive(Debug)]
pub struct H1Response<'a> {
    pub(super) sink: Sink<'a>,
    pub(super) body_sent: &'a Cell<u64>,
    pub(super) framing: &'a mut Framing,
    pub(super) keep: &'a mut bool,
    pub(super) version: Version,
    pub(super) head_only: bool,
    /// Whether the client waits for 100 before its body, so that the body may or may not follow.
    pub(super) expectant: bool,
    /// Whether the connection is closed after this response.
    pub(super) is_last: bool,
    pub(super) date: &'a str,
}

impl Response for H1Response<'_> {
    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> io::Result<()> {
        // HTTP/1.0 has no interim responses (RFC 9110 §15.2).
        if self.version == Version::Http10 {
            return Ok(());
        }
        forward::write_interim(self.sink.pending, head, bytes);
        self.sink.flush().await
    }

    fn begin(&mut self, reply: &Reply<'_>) -> Framing {
        let framing = forward::client_framing(reply.head.framing, self.version);
        *self.keep = *self.keep && reply.complete && framing != Framing::Close;
        *self.framing = framing;
        self.is_last = !*self.keep && !reply.head.upgrades;
        let context = ResponseContext {
            version: self.version,
            keep_alive: *self.keep,
            framing,
            date: self.date,
            edits: reply.edits,
            extra: reply.extra,
        };
        forward::write_response(self.sink.pending, reply.head, reply.bytes, &context);
        framing
    }

    async fn piece(&mut self, data: &[u8]) -> io::Result<()> {
        self.body_sent.set(self.body_sent.get() + data.len() as u64);
        self.sink.piece(*self.framing, data).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.sink.flush().await
    }

    fn takes_pipes(&self) -> bool {
        matches!(self.framing, Framing::Length(_)) && self.sink.writer.takes_pipes()
    }

    async fn drain(&mut self, pipe: Pipe) -> io::Result<()> {
        self.body_sent.set(self.body_sent.get() + pipe.len() as u64);
        self.sink.drain(pipe).await
    }

    fn capacity(&mut self) -> usize {
        self.sink.capacity()
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        if self.is_last {
            self.sink.writer.ends();
        }
        self.sink.end(*self.framing, trailers).await
    }

    async fn local(&mut self, answer: &Local<'_>) -> io::Result<()> {
        // A client that waits for 100 may or may not send its body: the connection cannot be kept.
        *self.keep = *self.keep && answer.keep && !self.expectant;
        let out = &mut *self.sink.pending;
        out.extend_from_slice(b"HTTP/1.1 ");
        forward::push_decimal(out, u64::from(answer.status));
        out.push(b' ');
        out.extend_from_slice(phrase(answer.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        if answer.status != 204 {
            out.extend_from_slice(b"content-length: ");
            forward::push_decimal(out, answer.body.len() as u64);
            out.extend_from_slice(b"\r\n");
        }
        forward::push_field(out, b"date", self.date.as_bytes());
        match (*self.keep, self.version) {
            (true, Version::Http11) => {}
            (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        }
        out.extend_from_slice(answer.lines);
        out.extend_from_slice(b"\r\n");
        if !self.head_only && !matches!(answer.status, 204 | 304) {
            out.extend_from_slice(answer.body);
            self.body_sent.set(self.body_sent.get() + answer.body.len() as u64);
        }
        self.sink.flush().await
    }

    fn keep_alive(&mut self) {
        self.sink.writer.keep_alive();
    }

    fn sent(&self) -> Sent {
        // Bytes that the client did not read before it left do not count as sent.
        let body = self.body_sent.get().min(self.sink.sent.get());
        Sent { heads: self.sink.sent.get() - body, body }
    }
}
