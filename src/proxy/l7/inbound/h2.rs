//! A request over HTTP/2, as a [`Client`] for the exchange.
//!
//! The h2 crate handles the connection; this file handles one of its streams. Both directions run in one task
//! and share the sending half through a RefCell that is never borrowed across an await.

use super::body_rate::Rate;
use super::h2_response::{H2Response, Sender, gone};
use super::intake::Intake;
use super::message;
use super::stream_body::{Pieces, StreamBody};
use super::streams::{Account, Patience};
use crate::body::{Backpressure, Broken, Source};
use crate::buffer::Buffer;
use crate::deadline::{ENDLESS, Watch};
use crate::decision::plan::ListenerTimeouts;
use crate::http::request::RequestHead;
use crate::l7::client::{Client, Response, Sent};
use crate::os::stream::{Stream, Writer};
use crate::shared::Meter;
use crate::tunnel::both;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
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
    /// The response head, held back until it is known whether a body follows.
    begun: Option<message::Head>,
    sent: Cell<Sent>,
    timeouts: Rc<ListenerTimeouts>,
    account: Rc<Account>,
    date: Rc<str>,
    watches: (Watch, Watch),
    /// Whether the client or the proxy has reset the stream.
    pub broken: Cell<bool>,
}

#[derive(Debug)]
struct Body {
    stream: RecvStream,
    ended: bool,
    intake: Intake,
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
    /// Whether a tunnel follows the head instead of a body.
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
                ended,
                // The h2 crate checks a body against its `content-length`.
                intake: Intake::new(Bytes::new(), None, parts.limit, parts.rate_min),
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

    /// Relays a tunnel between the client and a cluster's stream, until both directions have ended or one
    /// has failed; returns the bytes in each direction.
    pub async fn carry(
        &mut self,
        cluster: &mut Stream,
        buffer: &mut Option<Buffer>,
        watch: &Watch,
        meter: &Meter,
    ) -> (u64, u64) {
        let (up, before) = (Cell::new(0), self.sent.get().body);
        let result = {
            let (reader, writer) = cluster.split();
            let mut source = Source::new(reader, buffer, watch).metered(meter.count());
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
                // The cluster has ended: the client has the half-close timeout to end too.
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

    /// The head, for reuse.
    #[must_use]
    pub fn into_head(self) -> Box<RequestHead> {
        self.head
    }
}

impl Client for H2 {
    type Body<'a> = StreamBody<'a, H2Body<'a>>;
    type Response<'a> = H2Response<'a>;

    fn head(&self) -> &RequestHead {
        &self.head
    }

    fn protocol(&self) -> &'static str {
        "HTTP/2.0"
    }

    fn split(&mut self) -> (&RequestHead, StreamBody<'_, H2Body<'_>>, H2Response<'_>) {
        let idle = self.timeouts.body_idle;
        let (watch, sender) = (&self.watches.0, &self.sender);
        let pieces = H2Body { body: &mut self.body, sender, broken: &self.broken };
        let body = StreamBody { pieces, watch, idle };
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
        self.body.intake.rate = Rate::of(0);
        Rc::make_mut(&mut self.timeouts).body_idle = ENDLESS;
    }

    fn abort(&mut self) {
        match &mut *self.sender.borrow_mut() {
            Sender::Head(sender) => sender.send_reset(Reason::INTERNAL_ERROR),
            Sender::Body(sender) => sender.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    fn received(&self) -> u64 {
        self.body.intake.received()
    }

    fn sent(&self) -> u64 {
        self.sent.get().total()
    }
}

/// A tunnel may be silent without limit.
const TUNNEL: Duration = Duration::from_secs(86_400 * 30);

/// Relays a client's bytes to the cluster, and then the end.
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

/// The pieces of a request body over HTTP/2.
#[derive(Debug)]
pub struct H2Body<'a> {
    body: &'a mut Body,
    sender: &'a RefCell<Sender>,
    broken: &'a Cell<bool>,
}

impl H2Body<'_> {
    fn gone_now(&self) -> Broken {
        self.broken.set(true);
        Broken::Gone
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
                Poll::Ready(Some(Ok(chunk))) => {
                    return Poll::Ready(self.body.intake.take(chunk).map(Some));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(self.gone_now())),
                Poll::Ready(None) => match self.body.stream.poll_trailers(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(self.gone_now())),
                    Poll::Ready(Ok(fields)) => {
                        self.body.ended = true;
                        if let Err(broken) = self.body.intake.keep_trailers(fields) {
                            return Poll::Ready(Err(broken));
                        }
                    }
                },
            }
        }
    }

    fn intake(&self) -> &Intake {
        &self.body.intake
    }

    fn intake_mut(&mut self) -> &mut Intake {
        &mut self.body.intake
    }

    fn open_window(&mut self, count: usize) {
        // The window opens as bytes are forwarded, which provides the backpressure. An error means that the stream
        // has ended; the next read reports the same.
        if let Err(error) = self.body.stream.flow_control().release_capacity(count) {
            tracing::trace!(%error, "HTTP/2 window not enlarged: the stream has ended");
        }
    }

    async fn reset(&self) {
        std::future::poll_fn(|context| self.sender.borrow_mut().poll_reset(context)).await;
        self.broken.set(true);
    }
}
