//! HTTP/2 to a cluster: one request and its response on a stream of a shared connection.
//!
//! HTTP/2 fields are converted to an HTTP/1.1 head and parsed by the same strict parser.

use super::head::{limits, read_whole};
use super::{HeldUp, Incoming, NoHead, Outgoing, RelayEnd, wait};
use crate::body::Backpressure;
use crate::buffer;
use crate::deadline::{Late, Watch};
use crate::http::forward::Edits;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::{Framing, Limits, grpc, trailers, translate};
use crate::l7::client::Response;
use crate::l7::h2_capacity::{PIECE, capacity, poll_capacity};
use crate::telemetry::counter::Count;
use crate::upstream::multiplexed::Lease;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// A request over HTTP/2 whose head is being sent.
#[derive(Debug)]
pub struct Http2Out<'a> {
    stream: SendStream<Bytes>,
    /// Whether the request has no body.
    ended: bool,
    watch: &'a Watch,
    stall: Duration,
    sent: &'a Cell<u64>,
    backpressure: Backpressure,
}

impl<'a> Http2Out<'a> {
    /// Sends on `stream`, with waits for flow-control capacity of at most `stall`; counts bytes in `sent`.
    #[must_use]
    pub fn new(
        stream: SendStream<Bytes>,
        ended: bool,
        watch: &'a Watch,
        stall: Duration,
        sent: &'a Cell<u64>,
    ) -> Http2Out<'a> {
        Http2Out { stream, ended, watch, stall, sent, backpressure: Backpressure::default() }
    }
}

impl Outgoing for Http2Out<'_> {
    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn piece(&mut self, _: Framing, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let (watch, stall, wanted) = (self.watch, self.stall, rest.len().min(PIECE));
            let stream = &mut self.stream;
            let explain = |error| broken(&error);
            let capacity =
                std::future::poll_fn(|context| poll_capacity(stream, context, wanted, explain));
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            let begun = watch.now();
            let capacity = watch.within(stall, capacity).await.map_err(late)??;
            self.backpressure.note(watch.now().since(begun));
            let (now, later) = rest.split_at(capacity.min(rest.len()));
            let sent = self.stream.send_data(Bytes::copy_from_slice(now), false);
            sent.map_err(|error| broken(&error))?;
            self.sent.set(self.sent.get() + now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn capacity(&mut self) -> usize {
        capacity(&self.backpressure, &mut self.stream, buffer::SIZE)
    }

    async fn end(&mut self, _: Framing, lines: &[u8]) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let fields = translate::fields(lines).unwrap_or_default();
        let ended = match fields.is_empty() {
            true => self.stream.send_data(Bytes::new(), true),
            false => self.stream.send_trailers(fields),
        };
        ended.map_err(|error| broken(&error))
    }
}

/// A stream's error as an I/O error: `ConnectionRefused` if the cluster has not processed the request.
fn broken(error: &h2::Error) -> io::Error {
    // A stream that fails by GOAWAY is above its last stream id, whatever the reason.
    let refused =
        error.reason() == Some(Reason::REFUSED_STREAM) || error.is_go_away() && error.is_remote();
    let kind =
        if refused { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::ConnectionReset };
    io::Error::new(kind, error.to_string())
}

/// A response over HTTP/2. Dropping it before the end of its stream cancels the stream.
#[derive(Debug)]
pub struct Http2In<'a> {
    watch: Watch,
    /// Present until dropped.
    stream: Option<(Lease, Reading)>,
    /// Counts the received bytes.
    meter: Option<&'a Count>,
}

/// The received part of a response.
#[derive(Debug)]
struct Reading {
    future: ResponseFuture,
    /// The head in HTTP/1.1 form, once received.
    bytes: Vec<u8>,
    body: Option<RecvStream>,
    /// Whether the response ended with its head.
    bare: bool,
    /// Whether the method is HEAD, and whether the request is a gRPC call.
    is_head: bool,
    is_call: bool,
    /// Whether the whole request was sent.
    is_sent: bool,
    /// Whether the cluster has ended the stream, successfully or not.
    is_over: bool,
}

impl<'a> Http2In<'a> {
    /// Waits with the deadlines of `watch` for the response on a stream of `lease`; `is_head` is true if
    /// the method is HEAD. `meter` counts the bytes of data and of uncompressed fields.
    #[must_use]
    pub fn new(
        future: ResponseFuture,
        lease: Lease,
        watch: Watch,
        is_head: bool,
        meter: Option<&'a Count>,
    ) -> Http2In<'a> {
        let (bytes, body) = (Vec::new(), None);
        let (bare, is_call, is_sent, is_over) = (false, false, false, false);
        let reading = Reading { future, bytes, body, bare, is_head, is_call, is_sent, is_over };
        Http2In { watch, stream: Some((lease, reading)), meter }
    }

    fn reading(&mut self) -> io::Result<&mut Reading> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(&mut stream.1)
    }

    /// Records that the whole request was sent.
    pub fn note_sent(&mut self) {
        if let Some((_, reading)) = &mut self.stream {
            reading.is_sent = true;
        }
    }

    /// Whether the connection has served an exchange before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.stream.as_ref().is_some_and(|(lease, _)| lease.reused)
    }

    /// Opens no further streams on its connection.
    pub fn retire(&self) {
        if let Some((lease, _)) = &self.stream {
            lease.retire();
        }
    }
}

impl Drop for Http2In<'_> {
    fn drop(&mut self) {
        let Some((lease, reading)) = self.stream.take() else { return };
        if !reading.is_closed() {
            lease.give_up(Box::pin(reading.run_out()), self.watch.now());
        }
    }
}

fn meter(count: Option<&Count>, bytes: usize) {
    if let Some(count) = count {
        count.add(bytes as u64);
    }
}

/// The most bytes that are read of an abandoned response.
const RUN_OUT_MAX: usize = 64 * 1024;

impl Reading {
    /// Whether the stream is over in both directions, so that no cancellation is needed.
    fn is_closed(&self) -> bool {
        let is_whole = self.body.as_ref().is_some_and(RecvStream::is_end_stream);
        self.is_over || self.is_sent && is_whole
    }

    /// Reads and discards the rest of a response. Ends with the stream; never returns if the stream needs a reset.
    async fn run_out(mut self) {
        let mut taken = 0;
        while !self.is_closed() {
            let Some(body) = &mut self.body else {
                self.bytes.clear();
                let head = std::future::poll_fn(|context| self.poll_head(context)).await;
                drop(head);
                continue;
            };
            match std::future::poll_fn(|context| body.poll_data(context)).await {
                Some(Ok(data)) if taken + data.len() <= RUN_OUT_MAX => {
                    taken += data.len();
                    self.is_over |= body.flow_control().release_capacity(data.len()).is_err();
                }
                Some(Ok(_)) | None => return std::future::pending().await,
                Some(Err(_)) => self.is_over = true,
            }
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.future.poll_informational(context) {
            Poll::Ready(Some(Ok(interim))) => {
                let (parts, ()) = interim.into_parts();
                translate::status_lines(parts.status, &parts.headers, None, &mut self.bytes);
                return Poll::Ready(Ok(self.bytes.len()));
            }
            Poll::Ready(Some(Err(error))) => {
                self.is_over = true;
                return Poll::Ready(Err(broken(&error)));
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        match Pin::new(&mut self.future).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                self.is_over = true;
                Poll::Ready(Err(broken(&error)))
            }
            Poll::Ready(Ok(response)) => {
                let (parts, body) = response.into_parts();
                self.bare = body.is_end_stream();
                let (status, fields) = (parts.status, &parts.headers);
                let kind = fields.get(::http::header::CONTENT_TYPE);
                self.is_call = grpc::is_grpc(kind.map(::http::HeaderValue::as_bytes));
                let bare = Some(self.bare).filter(|_| !self.is_head);
                translate::status_lines(status, fields, bare, &mut self.bytes);
                self.body = Some(body);
                Poll::Ready(Ok(self.bytes.len()))
            }
        }
    }
}

impl Incoming for Http2In<'_> {
    fn head(
        &mut self,
        answer: &mut ResponseHead,
        request_kind: RequestKind<'_>,
    ) -> Result<usize, NoHead> {
        match self.bytes() {
            [] => Err(NoHead::Partial),
            // Up to the limit of its field list.
            bytes => {
                let limits = Limits { head_bytes: usize::MAX, ..limits() };
                read_whole(answer, bytes, request_kind, &limits)
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        self.stream.as_ref().map_or(&[], |(_, reading)| &reading.bytes)
    }

    fn used(&mut self, _: usize) {
        if let Ok(reading) = self.reading() {
            reading.bytes.clear();
        }
    }

    async fn more(&mut self, span: Duration) -> io::Result<usize> {
        let Some((_, reading)) = &mut self.stream else { return Ok(0) };
        let head = std::future::poll_fn(|context| reading.poll_head(context));
        match self.watch.within(span, head).await {
            Ok(Ok(count)) => {
                meter(self.meter, count);
                Ok(count)
            }
            Ok(Err(error)) => Err(error),
            Err(Late) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn relay<R: Response>(
        &mut self,
        framing: Framing,
        response: &mut R,
        idle: Duration,
        edits: Edits<'_>,
    ) -> Result<(), RelayEnd> {
        let Some((_, reading)) = &mut self.stream else { return Err(RelayEnd::Cluster) };
        let Some(body) = reading.body.as_mut().filter(|_| !reading.bare) else {
            return match framing {
                // The response stated a length but has no body.
                Framing::Length(1..) => Err(RelayEnd::Cluster),
                _ => response.end(&[]).await.map_err(|_| RelayEnd::Client),
            };
        };
        let mut held_up = HeldUp::default();
        loop {
            let at_once = std::future::poll_fn(|context| Poll::Ready(body.poll_data(context)));
            let data = match at_once.await {
                Poll::Ready(data) => data,
                Poll::Pending => {
                    held_up.give(&self.watch, pin!(response.flush())).await?;
                    let data = std::future::poll_fn(|context| body.poll_data(context));
                    let next = pin!(self.watch.within(idle, data));
                    let waited = wait(next, response, &mut held_up, &self.watch).await?;
                    waited.map_err(|_| held_up.end())?
                }
            };
            match data {
                // Body bytes of a 204, a 304 or a response to HEAD would become the start of the next
                // response.
                Some(Ok(data)) if framing == Framing::None && !data.is_empty() => {
                    return Err(RelayEnd::Cluster);
                }
                Some(Ok(data)) => {
                    meter(self.meter, data.len());
                    held_up.give(&self.watch, pin!(response.piece(&data))).await?;
                    let released = body.flow_control().release_capacity(data.len());
                    released.map_err(|_| held_up.end())?;
                }
                Some(Err(_)) => {
                    reading.is_over = true;
                    return Err(held_up.end());
                }
                None => break,
            }
        }
        let fields = std::future::poll_fn(|context| body.poll_trailers(context));
        let arriving = pin!(self.watch.within(idle, fields));
        let fields = match wait(arriving, response, &mut held_up, &self.watch).await? {
            Ok(Ok(fields)) => fields.unwrap_or_default(),
            Ok(Err(_)) | Err(Late) => return Err(RelayEnd::Cluster),
        };
        let received = translate::trailer_lines(&fields);
        meter(self.meter, received.len());
        let mut lines = Vec::new();
        if framing != Framing::None {
            // The call has ended: invalid metadata is dropped and does not cancel it.
            let kept = trailers::read_call(&received, reading.is_call).unwrap_or_default();
            trailers::write(&mut lines, &received, &kept);
        }
        response.end(&edits.keep(&lines)).await.map_err(|_| RelayEnd::Client)
    }

    fn is_clean(&self) -> bool {
        true
    }

    /// The connection has had its own keep-alive since it was made.
    fn keep_alive(&self) {}
}
