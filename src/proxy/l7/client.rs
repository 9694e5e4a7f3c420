//! The client's side of an exchange, for every protocol.
//!
//! The request is read and the response is written at the same time, so a client can be split into its two
//! directions, which are independent of the protocol.

use crate::body::Broken;
use crate::buffer;
use crate::http::Framing;
use crate::http::forward::Edits;
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::os::pipe::Pipe;
use std::io;
use std::time::Duration;

/// A response head for a client.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The cluster's head.
    pub head: &'a ResponseHead,
    /// The bytes that the head refers to.
    pub bytes: &'a [u8],
    /// The operator's edits.
    pub edits: Edits<'a>,
    /// Whether the request was read to its end, so that the connection may be kept.
    pub complete: bool,
    /// Complete lines to add.
    pub extra: &'a [u8],
}

/// A local answer.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// Its status.
    pub status: u16,
    /// Further complete lines.
    pub lines: &'a [u8],
    /// Its body, as text.
    pub body: &'a [u8],
    /// Whether the connection may be kept.
    pub keep: bool,
}

/// Bytes that were sent to a client for an exchange.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Bytes of heads, and of chunked framing.
    pub heads: u64,
    /// Bytes of the body.
    pub body: u64,
}

impl Sent {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.heads + self.body
    }
}

/// The request's direction.
#[expect(async_fn_in_trait, reason = "workers are single-threaded: no bound on Send is wanted")]
pub trait RequestBody {
    /// Reads the next piece, which is then at the start of [`data`](RequestBody::data); `None` is the end.
    ///
    /// # Errors
    /// [`Broken`] when the body cannot be completed.
    async fn next(&mut self) -> Result<Option<usize>, Broken>;
    /// The next piece if it is buffered: `Ok(None)` means that a wait is necessary.
    ///
    /// # Errors
    /// [`Broken`] for a malformed body.
    fn ready(&mut self) -> Result<Option<Option<usize>>, Broken>;
    /// The buffered bytes; a piece is at their start.
    fn data(&self) -> &[u8];
    /// Marks this number of bytes as used.
    fn used(&mut self, count: usize);
    /// Limits the bytes of one read: the receiver may be slow.
    fn read_at_most(&mut self, _most: usize) {}
    /// Trailers that may be forwarded, as complete lines; only after the end.
    fn trailers(&self) -> Vec<u8>;
    /// Waits until the client is gone.
    async fn gone(&mut self);
    /// Waits until the client has reset the connection, without reading.
    async fn broken(&self);
}

/// The response's direction.
#[expect(async_fn_in_trait, reason = "workers are single-threaded: no bound on Send is wanted")]
pub trait Response {
    /// Sends an interim response.
    ///
    /// # Errors
    /// When the client is gone.
    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> io::Result<()>;
    /// Begins the final response. Its head may be sent with the first piece.
    fn begin(&mut self, reply: &Reply<'_>) -> Framing;
    /// Sends a piece of the body.
    ///
    /// # Errors
    /// When the client is gone.
    async fn piece(&mut self, data: &[u8]) -> io::Result<()>;
    /// Sends buffered bytes.
    ///
    /// # Errors
    /// When the client is gone.
    async fn flush(&mut self) -> io::Result<()>;
    /// How long to wait for more data from the cluster before the encoder's buffered output must be flushed to the client;
    /// `None` if nothing is buffered.
    fn flush_due(&self) -> Option<Duration> {
        None
    }
    /// Sends buffered bytes, and all that is held back.
    ///
    /// # Errors
    /// When the client is gone.
    async fn flush_all(&mut self) -> io::Result<()> {
        self.flush().await
    }
    /// Whether the rest of the body can be spliced, because it goes to a plain TCP socket unchanged.
    fn takes_pipes(&self) -> bool {
        false
    }
    /// Sends buffered bytes, and then the part of the body that a pipe holds.
    ///
    /// # Errors
    /// When the client is gone, or takes no pipes.
    async fn drain(&mut self, _pipe: Pipe) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Bytes to read for the client at once: few if the client reads more slowly than the cluster sends.
    fn capacity(&mut self) -> usize {
        buffer::SIZE
    }
    /// Ends the response; `trailers` are complete lines.
    ///
    /// # Errors
    /// When the client is gone.
    async fn end(&mut self, trailers: &[u8]) -> io::Result<()>;
    /// Sends a local answer.
    ///
    /// # Errors
    /// When the client is gone.
    async fn local(&mut self, answer: &Local<'_>) -> io::Result<()>;
    /// Bytes that were sent for this exchange.
    fn sent(&self) -> Sent;
    /// Enables keep-alive probes: the exchange may now be silent for long.
    fn keep_alive(&mut self);
}

/// A client with one request.
pub trait Client {
    /// Its request's direction.
    type Body<'a>: RequestBody
    where
        Self: 'a;
    /// Its response's direction.
    type Response<'a>: Response
    where
        Self: 'a;
    /// The request's head.
    fn head(&self) -> &RequestHead;
    /// The name of the protocol, for the log.
    fn protocol(&self) -> &'static str;
    /// The head and both directions.
    fn split(&mut self) -> (&RequestHead, Self::Body<'_>, Self::Response<'_>);
    /// Removes the deadlines of the body: a gRPC call may be silent without limit, if the protocol detects dead
    /// clients.
    fn endure(&mut self) {}
    /// Aborts the connection, so that a partial response does not appear complete.
    fn abort(&mut self);
    /// Bytes of the request's body so far.
    fn received(&self) -> u64;
    /// Bytes sent for this exchange so far.
    fn sent(&self) -> u64;
}
