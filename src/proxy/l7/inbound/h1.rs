//! An HTTP/1 client: one connection, one request at a time.

use super::body_rate::{RATE_SLICE, Rate};
use crate::decision::plan::ListenerTimeouts;
use crate::http::forward::{self, ResponseContext};
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::http::scan::{Scan, Scanner};
use crate::http::{Framing, Limits, Version, Violation, trailers};
use crate::os::clock;
use crate::os::stream::Stream;
use crate::proxy::body::{self, Backpressure, Broken, Piece, Rest, Sink, Source};
use crate::proxy::buffer::{Buffer, give_back_scratch, lend_scratch};
use crate::proxy::deadline::Watch;
use crate::proxy::l7::client::{Client, Local, Reply, RequestBody, Response, Sent};
use crate::proxy::refusal::phrase;
use crate::proxy::worker::Worker;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// An HTTP/1 connection of a client.
#[derive(Debug)]
pub struct H1 {
    /// The socket.
    pub stream: Stream,
    /// What was read and not yet used.
    pub buffer: Option<Buffer>,
    /// Whether the connection goes on after this exchange.
    pub keep: bool,
    /// Whether it must be broken off.
    pub aborted: bool,
    sent: Cell<u64>,
    /// Of which so many are of bodies, as far as they were sent.
    body_sent: Cell<u64>,
    /// Absent while the connection is idle.
    head: Option<Box<RequestHead>>,
    body: BodyState,
    out: Vec<u8>,
    framing: Framing,
    read_watch: Watch,
    write_watch: Watch,
    timeouts: Rc<ListenerTimeouts>,
    date: Rc<str>,
}

/// What is left of the request's body, and how it has come so far.
#[derive(Debug)]
struct BodyState {
    rest: Rest,
    received: u64,
    limit: Option<u64>,
    rate: Rate,
    trailers: Vec<u8>,
}

/// How a client begins that knows of HTTP/2 beforehand (RFC 9113 §3.4): no method of HTTP/1.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What an idle connection has for a head.
static NOTHING: RequestHead = RequestHead::EMPTY;

/// Why no request was read.
#[derive(Debug)]
pub enum NoRequest {
    /// The client closed, or was silent where it may be.
    Over,
    /// The client was too slow within a head.
    Late,
    /// The head is refused.
    Refused(Violation),
    /// It begins to speak HTTP/2.
    Http2,
}

impl H1 {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(stream: Stream, watches: (Watch, Watch), timeouts: Rc<ListenerTimeouts>) -> H1 {
        H1 {
            stream,
            buffer: None,
            keep: true,
            aborted: false,
            sent: Cell::new(0),
            body_sent: Cell::new(0),
            head: None,
            body: BodyState {
                rest: Rest::Done,
                received: 0,
                limit: None,
                rate: Rate::default(),
                trailers: Vec::new(),
            },
            out: Vec::new(),
            framing: Framing::None,
            read_watch: watches.0,
            write_watch: watches.1,
            timeouts,
            date: Rc::from(""),
        }
    }

    /// Waits for a request and reads its head. `first` is whether it is the connection's first.
    ///
    /// # Errors
    /// [`NoRequest`].
    pub async fn next_request(
        &mut self,
        worker: &Worker,
        limits: &Limits,
        first: bool,
    ) -> Result<(), NoRequest> {
        let patience = if first { self.timeouts.first_byte } else { self.timeouts.idle };
        let head_patience = self.timeouts.head;
        let (reader, _) = self.stream.split();
        let mut source = Source::new(reader, &mut self.buffer, &self.read_watch);
        if source.data().is_empty() {
            // The first request of a connection may be in the kernel already: that wait is not idle.
            self.read_watch.set_idle(!first);
            let read = source.more(patience).await;
            self.read_watch.set_idle(false);
            if !matches!(read, Ok(1..)) {
                return Err(NoRequest::Over);
            }
        }
        let mut scanner = Scanner::default();
        // At most one empty line before a request (RFC 9112 §2.2).
        let mut skipped = false;
        let begun = worker.about_now();
        loop {
            let begun_so = |data: &[u8]| first && HTTP2_PREFACE.starts_with(data);
            if first && source.data().starts_with(HTTP2_PREFACE) {
                return Err(NoRequest::Http2);
            }
            if !skipped && source.data().starts_with(b"\r\n") {
                source.used(2);
                skipped = true;
                scanner = Scanner::default();
            }
            let may_be_blank = !skipped && matches!(source.data(), [] | [b'\r']);
            if !may_be_blank && !begun_so(source.data()) {
                let scan = scanner.advance(source.data(), limits).map_err(NoRequest::Refused)?;
                if let Scan::Complete(end) = scan {
                    let data = source.data().get(..end).unwrap_or_default();
                    let head = self.head.get_or_insert_with(|| worker.lend_head());
                    head.read(data, limits).map_err(NoRequest::Refused)?;
                    source.used(end);
                    break;
                }
            }
            source.fit();
            source.widen(limits.head_bytes);
            // Absolute, from the first byte: a byte now and then does not buy more time.
            let left = head_patience.saturating_sub(worker.about_now().since(begun));
            match source.more(left).await {
                Ok(0) => return Err(NoRequest::Over),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(NoRequest::Late);
                }
                Err(_) => return Err(NoRequest::Over),
            }
        }
        self.keep = self.request().keep_alive;
        Ok(())
    }

    /// Ignores an upgrade that the listener lets nobody have.
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
        self.date = date;
    }

    /// Ends the exchange: what it borrowed goes back.
    pub fn finish(&mut self, worker: &Worker) {
        if let Some(head) = self.head.take() {
            worker.give_back(head);
        }
        give_back_scratch(std::mem::take(&mut self.out));
    }

    /// Whether the request was read to its end.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.body.rest.is_done()
    }

    /// Reads what is left of a request's body, as long as it is little: at most 64 KiB and 1 s.
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

    /// Ends our direction, and reads on for a while: closing on unread bytes would reset the
    /// connection and take the answer with it.
    pub async fn linger(&mut self) {
        let (reader, mut writer) = self.stream.split();
        // Under TLS the end is a record, which a client that takes nothing would hold back for ever.
        let end = std::future::poll_fn(|context| writer.poll_shutdown(context));
        if !matches!(self.write_watch.within(Duration::from_secs(1), end).await, Ok(Ok(()))) {
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

    /// Answers a request that could not be read.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn refuse(&mut self, answer: &Local<'_>, date: Rc<str>) -> io::Result<()> {
        self.date = date;
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
            watch: &self.write_watch,
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
            date: &self.date,
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

/// The request's direction of an HTTP/1 connection.
#[derive(Debug)]
pub struct H1Body<'a> {
    source: Source<'a>,
    state: &'a mut BodyState,
    idle: Duration,
}

impl H1Body<'_> {
    fn account(&mut self, piece: Piece) -> Result<Option<usize>, Broken> {
        match piece {
            Piece::End => {
                if let Rest::Chunked(decoder) = &self.state.rest {
                    let fields = decoder.trailer_fields();
                    trailers::write(&mut self.state.trailers, decoder.trailer_bytes(), &fields);
                }
                self.state.rest = Rest::Done;
                Ok(None)
            }
            Piece::Data(count) => {
                self.state.received += count as u64;
                self.state.rate.came(count as u64);
                if self.state.limit.is_some_and(|limit| self.state.received > limit) {
                    return Err(Broken::TooLarge);
                }
                Ok(Some(count))
            }
        }
    }
}

impl RequestBody for H1Body<'_> {
    async fn next(&mut self) -> Result<Option<usize>, Broken> {
        if let Some(piece) = body::next_buffered(&mut self.source, &mut self.state.rest)? {
            return self.account(piece);
        }
        let mut silent = Duration::ZERO;
        loop {
            // In slices, and judged between them: framing bytes alone are no progress.
            self.state.rate.judge()?;
            let slice = self.idle.saturating_sub(silent).min(RATE_SLICE);
            let before = clock::now();
            let read = self.source.more(slice).await;
            self.state.rate.waited(clock::now().since(before));
            match read {
                Ok(0) => return Err(Broken::Gone),
                Ok(_) => silent = Duration::ZERO,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    silent += slice;
                    if silent >= self.idle {
                        return Err(Broken::Late);
                    }
                }
                Err(_) => return Err(Broken::Gone),
            }
            if let Some(piece) = body::next_buffered(&mut self.source, &mut self.state.rest)? {
                return self.account(piece);
            }
        }
    }

    fn ready(&mut self) -> Result<Option<Option<usize>>, Broken> {
        match body::next_buffered(&mut self.source, &mut self.state.rest)? {
            Some(piece) => self.account(piece).map(Some),
            None => Ok(None),
        }
    }

    fn data(&self) -> &[u8] {
        self.source.data()
    }

    fn used(&mut self, count: usize) {
        self.source.used(count);
    }

    fn read_at_most(&mut self, most: usize) {
        self.source.most = most;
    }

    fn trailers(&self) -> Vec<u8> {
        self.state.trailers.clone()
    }

    async fn gone(&mut self) {
        self.source.gone().await;
    }

    async fn broken(&self) {
        self.source.reader.broken().await;
    }
}

/// The response's direction of an HTTP/1 connection.
#[derive(Debug)]
pub struct H1Response<'a> {
    sink: Sink<'a>,
    body_sent: &'a Cell<u64>,
    framing: &'a mut Framing,
    keep: &'a mut bool,
    version: Version,
    head_only: bool,
    /// Whether a body may or may not follow, since it was expected to wait.
    expectant: bool,
    /// Whether the connection is ended after it.
    is_last: bool,
    date: &'a str,
}

impl Response for H1Response<'_> {
    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> io::Result<()> {
        // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
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
        // Whether the body still comes, only a client that waits for 100 knows.
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
        // What a client that left did not take was not sent.
        let body = self.body_sent.get().min(self.sink.sent.get());
        Sent { heads: self.sink.sent.get() - body, body }
    }
}
