//! A request over HTTP/2 as the walk sees it: a client like any other.
//!
//! The h2 crate has the connection; here is one stream of it. Both directions are used from one task, so they
//! share the sending half through a RefCell that is never held across a wait.

use super::body_rate::Rate;
use super::message;
use super::streams::{self, Account, Patience, Pieces};
use crate::decision::plan::ListenerTimeouts;
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::http::{Framing, translate};
use crate::os::stream::{Stream, Writer};
use crate::proxy::body::{Backpressure, Broken, Source};
use crate::proxy::buffer::{self, Buffer};
use crate::proxy::deadline::{ENDLESS, Watch};
use crate::proxy::l7::client::{Client, Local, Reply, RequestBody, Response, Sent};
use crate::proxy::l7::h2_capacity::{PIECE, capacity, poll_capacity};
use crate::proxy::tunnel::both;
use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// One stream of a client's HTTP/2 connection.
#[derive(Debug)]
pub struct H2 {
    head: Box<RequestHead>,
    body: Body,
    sender: RefCell<Sender>,
    /// The response's head until it is known whether a body follows.
    begun: Option<message::Head>,
    sent: Cell<Sent>,
    timeouts: Rc<ListenerTimeouts>,
    account: Rc<Account>,
    date: Rc<str>,
    watches: (Watch, Watch),
    /// Whether the client or we have broken it off.
    pub broken: Cell<bool>,
}

#[derive(Debug)]
struct Body {
    stream: RecvStream,
    chunk: Bytes,
    ended: bool,
    trailers: Vec<u8>,
    received: u64,
    limit: Option<u64>,
    rate: Rate,
}

/// The sending half, by how far it is.
#[derive(Debug)]
enum Sender {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

impl Sender {
    fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let polled = match self {
            Sender::Head(sender) => sender.poll_reset(context),
            Sender::Body(sender) => sender.poll_reset(context),
        };
        polled.map(drop)
    }
}

/// The parts of a new stream.
#[derive(Debug)]
pub struct StreamParts {
    /// The connection's account.
    pub account: Rc<Account>,
    /// The request's head, translated and read.
    pub head: Box<RequestHead>,
    /// Its body.
    pub stream: RecvStream,
    /// The sender of the response.
    pub respond: SendResponse<Bytes>,
    /// Where waits are bounded: for the client's bytes, and for room to send.
    pub watches: (Watch, Watch),
    /// The listener's deadlines.
    pub timeouts: Rc<ListenerTimeouts>,
    /// Bytes of a body, at most.
    pub limit: Option<u64>,
    /// Bytes a second of a body, at least.
    pub rate_min: u64,
    /// `Date` of a response that has none.
    pub date: Rc<str>,
    /// Whether what follows the head is a tunnel's and no body.
    pub tunnel: bool,
}

impl H2 {
    /// A client of one request.
    #[must_use]
    pub fn new(parts: StreamParts) -> H2 {
        let ended = parts.tunnel || parts.stream.is_end_stream();
        H2 {
            head: parts.head,
            body: Body {
                stream: parts.stream,
                chunk: Bytes::new(),
                ended,
                trailers: Vec::new(),
                received: 0,
                limit: parts.limit,
                rate: Rate::of(parts.rate_min),
            },
            sender: RefCell::new(Sender::Head(parts.respond)),
            begun: None,
            sent: Cell::default(),
            timeouts: parts.timeouts,
            account: parts.account,
            date: parts.date,
            watches: parts.watches,
            broken: Cell::new(false),
        }
    }

    /// Carries a tunnel between the client and a cluster's stream, until both directions have ended or one
    /// has failed; gives the bytes up and down.
    pub async fn carry(
        &mut self,
        cluster: &mut Stream,
        buffer: &mut Option<Buffer>,
        watch: &Watch,
    ) -> (u64, u64) {
        let (up, before) = (Cell::new(0), self.sent.get().body);
        let result = {
            let (reader, writer) = cluster.split();
            let mut source = Source::new(reader, buffer, watch);
            let body = &mut self.body.stream;
            let mut response = H2Response {
                sender: &self.sender,
                begun: &mut self.begun,
                sent: &self.sent,
                watch: &self.watches.1,
                patience: Patience::fixed(TUNNEL),
                head_only: false,
                tunnel: false,
                date: &self.date,
                backpressure: Backpressure::default(),
            };
            let closed = Notify::new();
            let half_close = self.timeouts.half_close;
            let upward = async {
                let mut upward = pin!(upward(body, writer, &up));
                tokio::select! {
                    biased;
                    result = &mut upward => return result,
                    () = closed.notified() => {}
                }
                // The cluster has ended: the client has its time to do so, too.
                let late = |_| io::Error::from(io::ErrorKind::TimedOut);
                tokio::time::timeout(half_close, upward).await.map_err(late)?
            };
            let downward = async {
                loop {
                    if source.data().is_empty() && source.more(TUNNEL).await? == 0 {
                        closed.notify_one();
                        return response.end(&[]).await;
                    }
                    let count = source.data().len();
                    response.piece(source.data()).await?;
                    source.used(count);
                }
            };
            both(upward, downward).await
        };
        if result.is_err() {
            self.abort();
            cluster.reset_on_close();
        }
        (up.get(), self.sent.get().body - before)
    }

    /// The head, to be used again.
    #[must_use]
    pub fn into_head(self) -> Box<RequestHead> {
        self.head
    }
}

impl Client for H2 {
    type Body<'a> = H2Body<'a>;
    type Response<'a> = H2Response<'a>;

    fn head(&self) -> &RequestHead {
        &self.head
    }

    fn protocol(&self) -> &'static str {
        "HTTP/2.0"
    }

    fn split(&mut self) -> (&RequestHead, H2Body<'_>, H2Response<'_>) {
        let idle = self.timeouts.body_idle;
        let (watch, sender) = (&self.watches.0, &self.sender);
        let body = H2Body { body: &mut self.body, sender, watch, idle, broken: &self.broken };
        let response = H2Response {
            sender,
            begun: &mut self.begun,
            sent: &self.sent,
            watch: &self.watches.1,
            patience: Patience::of(&self.account, &self.timeouts),
            head_only: self.head.is_head(),
            tunnel: self.head.upgrade().is_some(),
            date: &self.date,
            backpressure: Backpressure::default(),
        };
        (&self.head, body, response)
    }

    fn endure(&mut self) {
        self.body.rate = Rate::of(0);
        Rc::make_mut(&mut self.timeouts).body_idle = ENDLESS;
    }

    fn abort(&mut self) {
        match &mut *self.sender.borrow_mut() {
            Sender::Head(sender) => sender.send_reset(Reason::INTERNAL_ERROR),
            Sender::Body(sender) => sender.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    fn received(&self) -> u64 {
        self.body.received
    }

    fn sent(&self) -> u64 {
        self.sent.get().total()
    }
}

/// A tunnel may be silent for as long as it likes.
const TUNNEL: Duration = Duration::from_secs(86_400 * 30);

/// A client's bytes to its cluster; its end is passed on.
async fn upward(
    body: &mut RecvStream,
    mut writer: Writer<'_>,
    carried: &Cell<u64>,
) -> io::Result<()> {
    while let Some(data) = std::future::poll_fn(|context| body.poll_data(context)).await {
        let data = data.map_err(gone)?;
        let mut rest = &data[..];
        while !rest.is_empty() {
            let count = std::future::poll_fn(|context| writer.poll_write(context, rest)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[count..];
        }
        std::future::poll_fn(|context| writer.poll_flush(context)).await?;
        carried.set(carried.get() + data.len() as u64);
        body.flow_control().release_capacity(data.len()).map_err(gone)?;
    }
    std::future::poll_fn(|context| writer.poll_shutdown(context)).await
}

/// The request's direction.
#[derive(Debug)]
pub struct H2Body<'a> {
    body: &'a mut Body,
    sender: &'a RefCell<Sender>,
    watch: &'a Watch,
    idle: Duration,
    broken: &'a Cell<bool>,
}

impl H2Body<'_> {
    fn gone_now(&self) -> Broken {
        self.broken.set(true);
        Broken::Gone
    }

    fn account(&mut self, chunk: Bytes) -> Result<usize, Broken> {
        let count = chunk.len();
        self.body.received += count as u64;
        self.body.rate.came(count as u64);
        self.body.chunk = chunk;
        match self.body.limit.is_some_and(|limit| self.body.received > limit) {
            true => Err(Broken::TooLarge),
            false => Ok(count),
        }
    }
}

impl Pieces for H2Body<'_> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<usize>, Broken>> {
        loop {
            if self.body.ended {
                return Poll::Ready(Ok(None));
            }
            match self.body.stream.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                Poll::Ready(Some(Ok(chunk))) => return Poll::Ready(self.account(chunk).map(Some)),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(self.gone_now())),
                Poll::Ready(None) => match self.body.stream.poll_trailers(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(self.gone_now())),
                    Poll::Ready(Ok(fields)) => {
                        self.body.ended = true;
                        if let Err(broken) = streams::keep_trailers(
                            &mut self.body.trailers,
                            fields.unwrap_or_default(),
                        ) {
                            return Poll::Ready(Err(broken));
                        }
                    }
                },
            }
        }
    }

    fn rate(&mut self) -> &mut Rate {
        &mut self.body.rate
    }
}

impl RequestBody for H2Body<'_> {
    async fn next(&mut self) -> Result<Option<usize>, Broken> {
        let (watch, idle) = (self.watch, self.idle);
        streams::next(self, watch, idle).await
    }

    fn ready(&mut self) -> Result<Option<Option<usize>>, Broken> {
        streams::ready(self)
    }

    fn data(&self) -> &[u8] {
        &self.body.chunk
    }

    fn used(&mut self, count: usize) {
        self.body.chunk.advance(count.min(self.body.chunk.len()));
        // The window opens as bytes are passed on: that is all the backpressure there is to have. An
        // error says that the stream is over, which the next read says, too.
        if let Err(error) = self.body.stream.flow_control().release_capacity(count) {
            tracing::trace!(%error, "HTTP/2 window not enlarged: the stream has ended");
        }
    }

    fn trailers(&self) -> Vec<u8> {
        self.body.trailers.clone()
    }

    async fn gone(&mut self) {
        self.broken().await;
    }

    async fn broken(&self) {
        std::future::poll_fn(|context| self.sender.borrow_mut().poll_reset(context)).await;
        self.broken.set(true);
    }
}

/// The response's direction.
#[derive(Debug)]
pub struct H2Response<'a> {
    sender: &'a RefCell<Sender>,
    begun: &'a mut Option<message::Head>,
    sent: &'a Cell<Sent>,
    watch: &'a Watch,
    patience: Patience<'a>,
    head_only: bool,
    /// Whether a 101 of the cluster is awaited.
    tunnel: bool,
    date: &'a str,
    backpressure: Backpressure,
}

impl H2Response<'_> {
    /// Sends the head, if it was not; `ends` is whether nothing follows.
    fn send_head(&mut self, ends: bool) -> io::Result<()> {
        let Some(response) = self.begun.take() else { return Ok(()) };
        let mut sender = self.sender.borrow_mut();
        if let Sender::Head(respond) = &mut *sender {
            let bytes = message::size(&response);
            let body = respond.send_response(response, ends).map_err(gone)?;
            let sent = self.sent.get();
            self.sent.set(Sent { heads: sent.heads + bytes, ..sent });
            *sender = Sender::Body(body);
        }
        Ok(())
    }

    /// Room to send, up to what is wanted.
    fn poll_capacity(&self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let Sender::Body(body) = &mut *self.sender.borrow_mut() else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        poll_capacity(body, context, wanted, gone)
    }

    fn send(&self, data: Bytes, ends: bool) -> io::Result<()> {
        let sent = self.sent.get();
        self.sent.set(Sent { body: sent.body + data.len() as u64, ..sent });
        match &mut *self.sender.borrow_mut() {
            Sender::Body(body) => body.send_data(data, ends).map_err(gone),
            Sender::Head(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

fn gone(error: h2::Error) -> io::Error {
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
        // What HTTP/1 switches to, HTTP/2 simply is (RFC 8441 §5).
        let upgraded = reply.head.upgrades && self.tunnel;
        let status = match reply.head.status {
            _ if upgraded => 200,
            // A success would say that the tunnel is open.
            200..300 if self.tunnel => 502,
            status => status,
        };
        self.tunnel = upgraded;
        *self.begun = message::reply(reply, status, self.date);
        reply.head.framing
    }

    async fn piece(&mut self, data: &[u8]) -> io::Result<()> {
        self.send_head(false)?;
        let mut rest = data;
        while !rest.is_empty() {
            let wanted = rest.len().min(PIECE);
            let capacity = std::future::poll_fn(|context| self.poll_capacity(context, wanted));
            let begun = self.watch.now();
            let capacity = self.patience.wait(self.watch, capacity).await??;
            self.backpressure.note(self.watch.now() > begun);
            let (now, later) = rest.split_at(capacity.min(rest.len()));
            self.send(Bytes::copy_from_slice(now), false)?;
            rest = later;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.send_head(false)
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
            return self.send_head(false);
        }
        let fields = translate::fields(trailers).unwrap_or_default();
        if !fields.is_empty() && !self.head_only {
            self.send_head(false)?;
            return match &mut *self.sender.borrow_mut() {
                Sender::Body(body) => body.send_trailers(fields).map_err(gone),
                Sender::Head(_) => Err(io::ErrorKind::InvalidInput.into()),
            };
        }
        if self.begun.is_some() {
            return self.send_head(true);
        }
        self.send(Bytes::new(), true)
    }

    async fn local(&mut self, answer: &Local<'_>) -> io::Result<()> {
        *self.begun = message::local(answer, self.date);
        let bare = self.head_only || answer.body.is_empty() || matches!(answer.status, 204 | 304);
        self.send_head(bare)?;
        if !bare {
            // Our own answers are lines: they fit without waiting for room.
            self.send(Bytes::copy_from_slice(answer.body), true)?;
        }
        Ok(())
    }

    /// Its connection is, since it began.
    fn keep_alive(&mut self) {
        self.patience.lengthen();
    }

    fn sent(&self) -> Sent {
        self.sent.get()
    }
}
