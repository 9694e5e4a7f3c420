//! An HTTP/1 client: one connection, one request at a time.

use super::body_rate::Rate;
use super::h1_body::{BodyState, H1Body};
use super::h1_response::H1Response;
use crate::body::{self, Backpressure, Piece, Rest, Sink, Source};
use crate::boxed::boxed;
use crate::buffer::{Buffer, give_back_scratch, lend_scratch};
use crate::deadline::{Late, Watch};
use crate::decision::plan::ListenerTimeouts;
use crate::decision::units::Timestamp;
use crate::http::request::RequestHead;
use crate::http::scan::{Scan, Scanner};
use crate::http::{Framing, Limits, Version, Violation};
use crate::l7::client::{Client, Local, Response};
use crate::os::clock;
use crate::os::stream::Stream;
use crate::worker::Worker;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// An HTTP/1 connection of a client.
#[derive(Debug)]
pub struct H1 {
    /// The socket.
    pub stream: Stream,
    /// Bytes that were read and not yet used.
    pub buffer: Option<Buffer>,
    /// Whether the connection is kept after this exchange.
    pub keep: bool,
    /// Whether the connection must be reset.
    pub aborted: bool,
    sent: Cell<u64>,
    /// The body bytes among the bytes sent.
    body_sent: Cell<u64>,
    /// `None` while the connection is idle.
    head: Option<Box<RequestHead>>,
    body: BodyState,
    out: Vec<u8>,
    framing: Framing,
    read_watch: Watch,
    /// `None` while the connection is idle.
    write_watch: Option<Watch>,
    timeouts: Rc<ListenerTimeouts>,
    /// `None` while the connection is idle.
    date: Option<Rc<str>>,
}

/// The start of the connection preface of HTTP/2 with prior knowledge (RFC 9113 §3.4); it is not an HTTP/1 method.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The empty head of an idle connection.
static NOTHING: RequestHead = RequestHead::EMPTY;

/// Why no request was read.
#[derive(Debug)]
pub enum NoRequest {
    /// The client closed the connection, or the idle timeout passed.
    Over,
    /// The client was too slow within a request head.
    Late,
    /// The head is refused.
    Refused(Violation),
    /// The client uses HTTP/2.
    Http2,
}

/// The reading of one head.
#[derive(Debug)]
struct Reading {
    scanner: Scanner,
    /// Whether an empty line before the request was skipped.
    skipped: bool,
    /// The time of the first byte.
    begun: Timestamp,
    /// Whether it is the connection's first request.
    first: bool,
}

impl Reading {
    fn begin(now: Timestamp, first: bool) -> Reading {
        Reading { scanner: Scanner::default(), skipped: false, begun: now, first }
    }
}

impl H1 {
    /// A client on a newly accepted connection.
    #[must_use]
    pub fn new(stream: Stream, read_watch: Watch, timeouts: Rc<ListenerTimeouts>) -> H1 {
        H1 {
            stream,
            buffer: None,
            keep: true,
            aborted: false,
            sent: Cell::new(0),
            body_sent: Cell::new(0),
            head: None,
            body: BodyState::none(),
            out: Vec::new(),
            framing: Framing::None,
            read_watch,
            write_watch: None,
            timeouts,
            date: None,
        }
    }

    /// Waits for a request and reads its head. `first` is true for the first request of the connection.
    ///
    /// # Errors
    /// [`NoRequest`].
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would keep each argument twice while the connection is idle"
    )]
    pub fn next_request<'a>(
        &'a mut self,
        worker: &'a Worker,
        limits: &'a Limits,
        first: bool,
    ) -> impl Future<Output = Result<(), NoRequest>> + 'a {
        async move {
            if self.buffer.is_none() {
                let patience = if first { self.timeouts.first_byte } else { self.timeouts.idle };
                // The first request of a connection may already be in the kernel: this wait does not count as idle.
                self.read_watch.set_idle(!first);
                let received = self.received_some(patience).await;
                self.read_watch.set_idle(false);
                if !matches!(received, Ok(Ok(1..))) {
                    return Err(NoRequest::Over);
                }
            }
            let mut reading = Reading::begin(worker.about_now(), first);
            // Most heads arrive in one piece; an idle connection holds no memory for the others.
            if !self.scan(&mut reading, worker, limits)? {
                boxed(|| self.read_on(reading, worker, limits)).await?;
            }
            self.keep = self.request().keep_alive;
            Ok(())
        }
    }

    /// Waits for bytes of a request.
    fn received_some(
        &mut self,
        patience: Duration,
    ) -> impl Future<Output = Result<io::Result<usize>, Late>> {
        let (reader, _) = self.stream.split();
        let mut source = Source::new(reader, &mut self.buffer, &self.read_watch);
        self.read_watch.within(patience, poll_fn(move |context| source.poll_more(context)))
    }

    /// Reads a head from the bytes received so far; returns whether it is complete.
    fn scan(
        &mut self,
        reading: &mut Reading,
        worker: &Worker,
        limits: &Limits,
    ) -> Result<bool, NoRequest> {
        let first = reading.first;
        let (reader, _) = self.stream.split();
        let mut source = Source::new(reader, &mut self.buffer, &self.read_watch);
        if first && source.data().starts_with(HTTP2_PREFACE) {
            return Err(NoRequest::Http2);
        }
        // At most one empty line before a request (RFC 9112 §2.2).
        if !reading.skipped && source.data().starts_with(b"\r\n") {
            source.used(2);
            reading.skipped = true;
            reading.scanner = Scanner::default();
        }
        let may_be_blank = !reading.skipped && matches!(source.data(), [] | [b'\r']);
        let may_be_http2 = first && HTTP2_PREFACE.starts_with(source.data());
        if may_be_blank || may_be_http2 {
            return Ok(false);
        }
        let scan = reading.scanner.advance(source.data(), limits).map_err(NoRequest::Refused)?;
        let Scan::Complete(end) = scan else { return Ok(false) };
        let data = source.data().get(..end).unwrap_or_default();
        let head = self.head.get_or_insert_with(|| worker.lend_head());
        head.read(data, limits).map_err(NoRequest::Refused)?;
        source.used(end);
        Ok(true)
    }

    /// Receives the rest of a head.
    async fn read_on(
        &mut self,
        mut reading: Reading,
        worker: &Worker,
        limits: &Limits,
    ) -> Result<(), NoRequest> {
        loop {
            let (reader, _) = self.stream.split();
            let mut source = Source::new(reader, &mut self.buffer, &self.read_watch);
            source.fit();
            source.widen(limits.head_bytes);
            // The deadline counts from the first byte and is absolute: further bytes do not extend it.
            let left = self.timeouts.head.saturating_sub(worker.about_now().since(reading.begun));
            match source.more(left).await {
                Ok(0) => return Err(NoRequest::Over),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(NoRequest::Late);
                }
                Err(_) => return Err(NoRequest::Over),
            }
            if self.scan(&mut reading, worker, limits)? {
                return Ok(());
            }
        }
    }

    /// Ignores an upgrade that the listener does not permit.
    pub fn limit_upgrade(&mut self, allowed: &[String]) {
        if let Some(head) = &mut self.head {
            head.limit_upgrade(allowed);
        }
    }

    /// Prepares for the exchange of the request that was read.
    pub fn begin(&mut self, body_limit: Option<u64>, rate_min: u64, date: Rc<str>) {
        self.out = lend_scratch();
        self.body.rest = Rest::of(self.request().framing);
        self.body.received = 0;
        self.sent.set(0);
        self.body_sent.set(0);
        self.body.limit = body_limit;
        self.body.rate = Rate::of(rate_min);
        self.body.trailers.clear();
        self.date = Some(date);
    }

    /// Ends the exchange and returns its borrowed buffers.
    pub fn finish(&mut self, worker: &Worker) {
        if let Some(head) = self.head.take() {
            worker.give_back(head);
        }
        give_back_scratch(std::mem::take(&mut self.out));
        self.date = None;
        self.write_watch = None;
    }

    /// Whether the request was read to its end.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.body.rest.is_done()
    }

    /// Reads and discards the rest of a request body: at most 64 KiB, for at most 1 s.
    pub async fn drain(&mut self) -> bool {
        let begun = clock::now();
        let mut left = 64 * 1024;
        let (reader, _) = self.stream.split();
        let mut source = Source::new(reader, &mut self.buffer, &self.read_watch);
        loop {
            let time = Duration::from_secs(1).saturating_sub(clock::now().since(begun));
            let next = body::next(&mut source, &mut self.body.rest, time).await;
            let Ok(piece) = next else { return false };
            if time.is_zero() {
                return false;
            }
            match piece {
                Piece::End => {
                    self.body.rest = Rest::Done;
                    return true;
                }
                Piece::Data(count) if count <= left => {
                    left -= count;
                    source.used(count);
                }
                Piece::Data(_) => return false,
            }
        }
    }

    /// Closes the sending direction, and reads on for a while: closing with unread bytes would reset the connection,
    /// and the client might lose the response.
    pub async fn linger(&mut self) {
        let (reader, mut writer) = self.stream.split();
        // Under TLS the end is a record, which a client that does not read could delay forever.
        let end = poll_fn(|context| writer.poll_shutdown(context));
        let watch = self.write_watch.get_or_insert_with(|| self.read_watch.another());
        if !matches!(watch.within(Duration::from_secs(1), end).await, Ok(Ok(()))) {
            return;
        }
        let mut source = Source::new(reader, &mut self.buffer, &self.read_watch);
        let begun = clock::now();
        let mut left: usize = 64 * 1024;
        loop {
            let count = source.data().len();
            left = left.saturating_sub(count);
            source.used(count);
            let time = Duration::from_secs(1).saturating_sub(clock::now().since(begun));
            if left == 0 || time.is_zero() || !matches!(source.more(time).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Sends the refusal of a request that could not be read.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn refuse(&mut self, answer: &Local<'_>, date: Rc<str>) -> io::Result<()> {
        self.date = Some(date);
        self.out = lend_scratch();
        let head_only = self.request().is_head();
        self.head = None;
        self.keep = false;
        self.sent.set(0);
        self.body_sent.set(0);
        let (_, _, mut response) = self.split();
        response.head_only = head_only;
        response.local(answer).await
    }

    fn request(&self) -> &RequestHead {
        self.head.as_deref().unwrap_or(&NOTHING)
    }
}

impl Client for H1 {
    type Body<'a> = H1Body<'a>;
    type Response<'a> = H1Response<'a>;

    fn head(&self) -> &RequestHead {
        self.request()
    }

    fn protocol(&self) -> &'static str {
        match self.request().version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }

    fn split(&mut self) -> (&RequestHead, H1Body<'_>, H1Response<'_>) {
        let head = self.head.as_deref().unwrap_or(&NOTHING);
        let expectant = head.expects_continue && !self.body.rest.is_done();
        let (reader, writer) = self.stream.split();
        let source = Source::new(reader, &mut self.buffer, &self.read_watch);
        let body = H1Body { source, state: &mut self.body, idle: self.timeouts.body_idle };
        let sink = Sink {
            writer,
            pending: &mut self.out,
            watch: self.write_watch.get_or_insert_with(|| self.read_watch.another()),
            stall: self.timeouts.write,
            sent: &self.sent,
            backpressure: Backpressure::default(),
        };
        let head_only = head.is_head();
        let response = H1Response {
            sink,
            body_sent: &self.body_sent,
            framing: &mut self.framing,
            keep: &mut self.keep,
            version: head.version,
            head_only,
            expectant,
            is_last: false,
            date: self.date.as_deref().unwrap_or_default(),
        };
        (head, body, response)
    }

    fn abort(&mut self) {
        self.keep = false;
        self.aborted = true;
        self.stream.reset_on_close();
    }

    fn received(&self) -> u64 {
        self.body.received
    }

    fn sent(&self) -> u64 {
        self.sent.get()
    }
}
