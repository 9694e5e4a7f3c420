//! A request over HTTP/3, as a [`Client`] for the exchange.
//!
//! The h3 crate handles the frames. It does not check a body against its `content-length`, so this file
//! does (RFC 9114 §4.1.2). Nor does the crate report a client that has cancelled the response: the next
//! send fails instead.

use super::body_rate::Rate;
use super::intake::Intake;
use super::message;
use super::stream_body::{Pieces, StreamBody};
use super::streams::{Account, Patience};
use crate::body::Broken;
use crate::deadline::{ENDLESS, Watch};
use crate::decision::plan::ListenerTimeouts;
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::http::{Framing, translate};
use crate::l7::client::{Client, Local, Reply, Response, Sent};
use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::server::RequestStream;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The response's half of a stream.
pub type Sender = RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;
/// The request's half.
pub type Receiver = RequestStream<h3_quinn::RecvStream, Bytes>;

/// The beginning of a body.
#[derive(Debug)]
pub enum First {
    /// Nothing has arrived yet.
    Unknown,
    /// Bytes.
    Piece(Bytes),
    /// There is no body.
    End,
    /// The client reset the stream.
    Broken,
}

/// The first piece of a body, if it arrives within `span`.
pub async fn first(receiver: &mut Receiver, span: Duration) -> First {
    let piece = std::future::poll_fn(|context| poll_piece(receiver, context));
    let read = match span.is_zero() {
        // The piece may have arrived already.
        true => futures_now(piece).await,
        false => tokio::time::timeout(span, piece).await.ok(),
    };
    match read {
        None => First::Unknown,
        Some(Ok(Some(piece))) => First::Piece(piece),
        Some(Ok(None)) => First::End,
        Some(Err(())) => First::Broken,
    }
}

/// The result of a future, if it is ready.
async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The h3 crate treats the end of a stream within a DATA frame as the end of the body, and panics when the
/// trailers are read: the body was then truncated.
fn poll_trailers(
    receiver: &mut Receiver,
    context: &mut Context<'_>,
) -> Poll<Result<Option<http::HeaderMap>, ()>> {
    let asking = AssertUnwindSafe(|| receiver.poll_recv_trailers(context));
    match catch_unwind(asking) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(read)) => Poll::Ready(read.map_err(drop)),
        Err(_) => Poll::Ready(Err(())),
    }
}

fn poll_piece(
    receiver: &mut Receiver,
    context: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, ()>> {
    loop {
        match receiver.poll_recv_data(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
            Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
            Poll::Ready(Ok(Some(mut piece))) => {
                let piece = piece.copy_to_bytes(piece.remaining());
                if !piece.is_empty() {
                    return Poll::Ready(Ok(Some(piece)));
                }
            }
        }
    }
}

/// One request of a client's HTTP/3 connection.
pub struct H3 {
    head: Box<RequestHead>,
    body: Body,
    sender: Sender,
    quic: quinn::Connection,
    /// The response head, held back until it is known whether a body follows.
    begun: Option<message::Head>,
    sent: Sent,
    /// Whether the response was sent to its end. A stream that is only dropped would look complete to
    /// the client.
    ended: bool,
    timeouts: Rc<ListenerTimeouts>,
    account: Rc<Account>,
    date: Rc<str>,
    watches: (Watch, Watch),
    broken: Cell<bool>,
}

struct Body {
    receiver: Receiver,
    intake: Intake,
    /// Whether the current piece arrived with the head and was not returned yet.
    untold: bool,
    /// Whether the whole body was received.
    complete: bool,
    ended: bool,
    account: Rc<Account>,
}

/// The parts of a new request.
pub struct StreamParts {
    /// The connection's account.
    pub account: Rc<Account>,
    /// The request's head, translated and read.
    pub head: Box<RequestHead>,
    /// Its body.
    pub receiver: Receiver,
    /// The beginning of the body.
    pub first: First,
    /// The sender of the response.
    pub sender: Sender,
    /// The connection.
    pub quic: quinn::Connection,
    /// The deadlines of the waits: for the client's bytes, and for capacity to send.
    pub watches: (Watch, Watch),
    /// The listener's deadlines.
    pub timeouts: Rc<ListenerTimeouts>,
    /// Bytes of a body, at most.
    pub limit: Option<u64>,
    /// The minimum rate of a body, in bytes a second.
    pub rate_min: u64,
    /// The `Date` for a response without one.
    pub date: Rc<str>,
}

impl H3 {
    /// A client of one request.
    #[must_use]
    pub fn new(parts: StreamParts) -> H3 {
        let length = match parts.head.framing {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked | Framing::Close => None,
        };
        let (complete, broken) =
            (matches!(parts.first, First::End), matches!(parts.first, First::Broken));
        let chunk = match parts.first {
            First::Piece(piece) => piece,
            First::Unknown | First::End | First::Broken => Bytes::new(),
        };
        H3 {
            head: parts.head,
            body: Body {
                receiver: parts.receiver,
                untold: !chunk.is_empty(),
                intake: Intake::new(chunk, length, parts.limit, parts.rate_min),
                complete,
                ended: false,
                account: parts.account.clone(),
            },
            sender: parts.sender,
            quic: parts.quic,
            begun: None,
            sent: Sent::default(),
            ended: false,
            timeouts: parts.timeouts,
            account: parts.account,
            date: parts.date,
            watches: parts.watches,
            broken: Cell::new(broken),
        }
    }

    /// Whether the client or the proxy has reset the stream.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// The head, for reuse.
    #[must_use]
    pub fn into_head(mut self) -> Box<RequestHead> {
        std::mem::take(&mut self.head)
    }
}

impl Drop for H3 {
    fn drop(&mut self) {
        if !self.ended {
            self.sender.stop_stream(Code::H3_INTERNAL_ERROR);
        }
    }
}

impl Client for H3 {
    type Body<'a> = StreamBody<'a, H3Body<'a>>;
    type Response<'a> = H3Response<'a>;

    fn head(&self) -> &RequestHead {
        &self.head
    }

    fn protocol(&self) -> &'static str {
        "HTTP/3.0"
    }

    fn split(&mut self) -> (&RequestHead, StreamBody<'_, H3Body<'_>>, H3Response<'_>) {
        let pieces = H3Body { body: &mut self.body, quic: &self.quic, broken: &self.broken };
        let (watch, idle) = (&self.watches.0, self.timeouts.body_idle);
        let body = StreamBody { pieces, watch, idle };
        let response = H3Response {
            sender: &mut self.sender,
            begun: &mut self.begun,
            sent: &mut self.sent,
            ended: &mut self.ended,
            watch: &self.watches.1,
            patience: Patience::of(&self.account, &self.timeouts),
            head_only: self.head.is_head(),
            date: &self.date,
        };
        (&self.head, body, response)
    }

    fn endure(&mut self) {
        self.body.intake.rate = Rate::of(0);
        Rc::make_mut(&mut self.timeouts).body_idle = ENDLESS;
    }

    fn abort(&mut self) {
        self.sender.stop_stream(Code::H3_INTERNAL_ERROR);
        self.ended = true;
    }

    fn received(&self) -> u64 {
        self.body.intake.received()
    }

    fn sent(&self) -> u64 {
        self.sent.total()
    }
}

/// The pieces of a request body over HTTP/3.
pub struct H3Body<'a> {
    body: &'a mut Body,
    quic: &'a quinn::Connection,
    broken: &'a Cell<bool>,
}

impl H3Body<'_> {
    fn gone_now(&self) -> Broken {
        self.broken.set(true);
        Broken::Gone
    }

    /// Counts the current piece.
    fn account(&mut self) -> Result<usize, Broken> {
        self.body.account.explain(self.body.intake.data().len() as u64);
        self.body.intake.count()
    }
}

impl Pieces for H3Body<'_> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<usize>, Broken>> {
        if std::mem::take(&mut self.body.untold) {
            return Poll::Ready(self.account().map(Some));
        }
        if self.broken.get() {
            return Poll::Ready(Err(Broken::Gone));
        }
        while !self.body.complete {
            match poll_piece(&mut self.body.receiver, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(())) => return Poll::Ready(Err(self.gone_now())),
                Poll::Ready(Ok(None)) => self.body.complete = true,
                Poll::Ready(Ok(Some(piece))) => {
                    self.body.account.explain(piece.len() as u64);
                    return Poll::Ready(self.body.intake.take(piece).map(Some));
                }
            }
        }
        if !self.body.ended {
            match poll_trailers(&mut self.body.receiver, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(())) => return Poll::Ready(Err(self.gone_now())),
                Poll::Ready(Ok(fields)) => {
                    self.body.ended = true;
                    let read = self.body.intake.keep_trailers(fields);
                    return Poll::Ready(
                        read.and_then(|()| self.body.intake.whole()).map(|()| None),
                    );
                }
            }
        }
        Poll::Ready(self.body.intake.whole().map(|()| None))
    }

    fn intake(&self) -> &Intake {
        &self.body.intake
    }

    fn intake_mut(&mut self) -> &mut Intake {
        &mut self.body.intake
    }

    fn open_window(&mut self, _count: usize) {
        // The window opens as pieces are read: a piece is read only after the previous one was forwarded.
    }

    async fn reset(&self) {
        self.quic.closed().await;
        self.broken.set(true);
    }
}

/// The response's direction.
pub struct H3Response<'a> {
    sender: &'a mut Sender,
    begun: &'a mut Option<message::Head>,
    sent: &'a mut Sent,
    ended: &'a mut bool,
    watch: &'a Watch,
    patience: Patience<'a>,
    head_only: bool,
    date: &'a str,
}

impl H3Response<'_> {
    async fn in_time<E: std::error::Error + Send + Sync + 'static>(
        watch: &Watch,
        patience: Patience<'_>,
        sending: impl Future<Output = Result<(), E>>,
    ) -> io::Result<()> {
        let gone = |error| io::Error::new(io::ErrorKind::BrokenPipe, error);
        patience.wait(watch, sending).await?.map_err(gone)
    }

    /// Sends the head, if it was not sent yet.
    async fn send_head(&mut self) -> io::Result<()> {
        let Some(head) = self.begun.take() else { return Ok(()) };
        self.sent.heads += message::size(&head);
        Self::in_time(self.watch, self.patience, self.sender.send_response(head)).await
    }

    async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.sent.body += data.len() as u64;
        let data = Bytes::copy_from_slice(data);
        Self::in_time(self.watch, self.patience, self.sender.send_data(data)).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        Self::in_time(self.watch, self.patience, self.sender.finish()).await?;
        *self.ended = true;
        Ok(())
    }
}

impl Response for H3Response<'_> {
    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> io::Result<()> {
        let interim = message::interim(head, bytes).ok_or(io::ErrorKind::InvalidData)?;
        Self::in_time(self.watch, self.patience, self.sender.send_response(interim)).await
    }

    fn begin(&mut self, reply: &Reply<'_>) -> Framing {
        *self.begun = message::reply(reply, reply.head.status, self.date);
        reply.head.framing
    }

    async fn piece(&mut self, data: &[u8]) -> io::Result<()> {
        self.send_head().await?;
        self.send(data).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.send_head().await
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        self.send_head().await?;
        let fields = translate::fields(trailers).unwrap_or_default();
        if !fields.is_empty() && !self.head_only {
            Self::in_time(self.watch, self.patience, self.sender.send_trailers(fields)).await?;
        }
        self.finish().await
    }

    async fn local(&mut self, answer: &Local<'_>) -> io::Result<()> {
        *self.begun = message::local(answer, self.date);
        self.send_head().await?;
        if !self.head_only && !answer.body.is_empty() && !matches!(answer.status, 204 | 304) {
            self.send(answer.body).await?;
        }
        self.finish().await
    }

    /// Keep-alive of the connection has been enabled since its start.
    fn keep_alive(&mut self) {
        self.patience.lengthen();
    }

    fn sent(&self) -> Sent {
        *self.sent
    }
}
