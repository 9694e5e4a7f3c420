//! The response on a stream of a client's HTTP/2 connection.

use super::message;
use super::streams::Patience;
use crate::body::Backpressure;
use crate::buffer;
use crate::deadline::Watch;
use crate::http::response::ResponseHead;
use crate::http::{Framing, translate};
use crate::l7::client::{Local, Reply, Response, Sent};
use crate::l7::h2_capacity::{PIECE, capacity, poll_capacity};
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll};

/// The sending half, by the state of the response.
#[derive(Debug)]
pub(super) enum Sender {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

impl Sender {
    pub(super) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let polled = match self {
            Sender::Head(sender) => sender.poll_reset(context),
            Sender::Body(sender) => sender.poll_reset(context),
        };
        polled.map(drop)
    }
}

/// The response's direction.
#[derive(Debug)]
pub struct H2Response<'a> {
    pub(super) sender: &'a RefCell<Sender>,
    pub(super) begun: &'a mut Option<message::Head>,
    pub(super) sent: &'a Cell<Sent>,
    pub(super) watch: &'a Watch,
    pub(super) patience: Patience<'a>,
    pub(super) head_only: bool,
    /// Whether the proxy waits for a 101 of the cluster.
    pub(super) tunnel: bool,
    pub(super) date: &'a str,
    pub(super) backpressure: Backpressure,
}

/// What follows a frame on its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    /// More frames.
    More,
    /// Nothing: the frame ends the stream.
    End,
}

impl H2Response<'_> {
    /// Sends the head, if it was not sent yet.
    fn send_head(&mut self, then: Then) -> io::Result<()> {
        let Some(response) = self.begun.take() else { return Ok(()) };
        let mut sender = self.sender.borrow_mut();
        if let Sender::Head(respond) = &mut *sender {
            let bytes = message::size(&response);
            let body = respond.send_response(response, then == Then::End).map_err(gone)?;
            let sent = self.sent.get();
            self.sent.set(Sent { heads: sent.heads + bytes, ..sent });
            *sender = Sender::Body(body);
        }
        Ok(())
    }

    /// Waits for capacity to send, at most `wanted` bytes.
    fn poll_capacity(&self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let Sender::Body(body) = &mut *self.sender.borrow_mut() else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        poll_capacity(body, context, wanted, gone)
    }

    fn send(&self, data: Bytes, then: Then) -> io::Result<()> {
        let sent = self.sent.get();
        self.sent.set(Sent { body: sent.body + data.len() as u64, ..sent });
        match &mut *self.sender.borrow_mut() {
            Sender::Body(body) => body.send_data(data, then == Then::End).map_err(gone),
            Sender::Head(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

pub(super) fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl Response for H2Response<'_> {
    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> io::Result<()> {
        let interim = message::interim(head, bytes);
        match (&mut *self.sender.borrow_mut(), interim) {
            (Sender::Head(respond), Some(interim)) => {
                respond.send_informational(interim).map_err(gone)
            }
            (Sender::Body(_), _) | (_, None) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn begin(&mut self, reply: &Reply<'_>) -> Framing {
        // The 101 of HTTP/1 is a 200 in HTTP/2 (RFC 8441 §5).
        let upgraded = reply.head.upgrades && self.tunnel;
        let status = match reply.head.status {
            _ if upgraded => 200,
            // A status of success would mean that the tunnel is open.
            200..300 if self.tunnel => 502,
            status => status,
        };
        self.tunnel = upgraded;
        *self.begun = message::reply(reply, status, self.date);
        reply.head.framing
    }

    async fn piece(&mut self, data: &[u8]) -> io::Result<()> {
        self.send_head(Then::More)?;
        let mut rest = data;
        while !rest.is_empty() {
            let wanted = rest.len().min(PIECE);
            let capacity = std::future::poll_fn(|context| self.poll_capacity(context, wanted));
            let begun = self.watch.now();
            let capacity = self.patience.wait(self.watch, capacity).await??;
            self.backpressure.note(self.watch.now().since(begun));
            let (now, later) = rest.split_at(capacity.min(rest.len()));
            self.send(Bytes::copy_from_slice(now), Then::More)?;
            rest = later;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.send_head(Then::More)
    }

    fn capacity(&mut self) -> usize {
        let most = if self.patience.is_crowded() { buffer::MODEST } else { buffer::SIZE };
        match &mut *self.sender.borrow_mut() {
            Sender::Body(body) => capacity(&self.backpressure, body, most),
            Sender::Head(_) => buffer::MODEST,
        }
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        if self.tunnel && self.begun.is_some() {
            return self.send_head(Then::More);
        }
        let fields = translate::fields(trailers).unwrap_or_default();
        if !fields.is_empty() && !self.head_only {
            self.send_head(Then::More)?;
            return match &mut *self.sender.borrow_mut() {
                Sender::Body(body) => body.send_trailers(fields).map_err(gone),
                Sender::Head(_) => Err(io::ErrorKind::InvalidInput.into()),
            };
        }
        if self.begun.is_some() {
            return self.send_head(Then::End);
        }
        self.send(Bytes::new(), Then::End)
    }

    async fn local(&mut self, answer: &Local<'_>) -> io::Result<()> {
        *self.begun = message::local(answer, self.date);
        let bare = self.head_only || answer.body.is_empty() || matches!(answer.status, 204 | 304);
        self.send_head(if bare { Then::End } else { Then::More })?;
        if !bare {
            // The proxy's own responses are short: they need no wait for capacity.
            self.send(Bytes::copy_from_slice(answer.body), Then::End)?;
        }
        Ok(())
    }

    /// Keep-alive of the connection has been enabled since its start.
    fn keep_alive(&mut self) {
        self.patience.lengthen();
    }

    fn sent(&self) -> Sent {
        self.sent.get()
    }
}
