//! The client's side of an exchange, whatever protocol it speaks.
//!
//! Reading the request and writing the response go on at the same time, so a client can be split into
//! its two directions; both borrow it, and neither needs to know the wire.

use crate::http::Framing;
use crate::http::forward::Edits;
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::proxy::body::Broken;
use crate::proxy::buffer;
use std::io;

/// What a client is told of a response's head.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The cluster's head.
    pub head: &'a ResponseHead,
    /// The bytes it refers to.
    pub bytes: &'a [u8],
    /// The operator's edits.
    pub edits: Edits<'a>,
    /// Whether the request was read to its end, so that the connection may go on.
    pub complete: bool,
    /// Complete lines to add.
    pub extra: &'a [u8],
}

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// Its status.
    pub status: u16,
    /// Further complete lines.
    pub lines: &'a [u8],
    /// Its body, as text.
    pub body: &'a [u8],
    /// Whether the connection may go on.
    pub keep: bool,
}

/// Bytes that were sent to a client for an exchange.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Of heads, and of what frames a body.
    pub heads: u64,
    /// Of the body.
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
    /// Makes the next piece the start of [`data`](RequestBody::data); `None` is the end.
    ///
    /// # Errors
    /// [`Broken`] when the body cannot be completed.
    async fn next(&mut self) -> Result<Option<usize>, Broken>;
    /// The next piece when it was read already: `Ok(None)` says that waiting would be needed.
    ///
    /// # Errors
    /// [`Broken`] for a malformed body.
    fn ready(&mut self) -> Result<Option<Option<usize>>, Broken>;
    /// What was read; a piece is at its start.
    fn data(&self) -> &[u8];
    /// Notes that so many bytes were used.
    fn used(&mut self, count: usize);
    /// How many bytes to read at once, where nothing else bounds it: whoever takes them may be slow.
    fn read_at_most(&mut self, _most: usize) {}
    /// Trailers that may be forwarded, as complete lines; only after the end.
    fn trailers(&self) -> Vec<u8>;
    /// Waits until the client is gone.
    async fn gone(&mut self);
    /// Waits until the client has broken off, reading nothing.
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
    /// Begins the final response. Nothing need be sent before the first piece.
    fn begin(&mut self, reply: &Reply<'_>) -> Framing;
    /// Sends a piece of the body.
    ///
    /// # Errors
    /// When the client is gone.
    async fn piece(&mut self, data: &[u8]) -> io::Result<()>;
    /// Sends what is begun, before more is there.
    ///
    /// # Errors
    /// When the client is gone.
    async fn flush(&mut self) -> io::Result<()>;
    /// Bytes to read for the client at once: few, where the client reads more slowly than the cluster sends.
    fn capacity(&mut self) -> usize {
        buffer::SIZE
    }
    /// Ends the response; `trailers` are complete lines.
    ///
    /// # Errors
    /// When the client is gone.
    async fn end(&mut self, trailers: &[u8]) -> io::Result<()>;
    /// Answers by ourselves.
    ///
    /// # Errors
    /// When the client is gone.
    async fn local(&mut self, answer: &Local<'_>) -> io::Result<()>;
    /// Bytes that were sent for this exchange.
    fn sent(&self) -> Sent;
    /// From now on it may be silent for long: whether the client is alive is found out otherwise.
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
    /// Has no more deadlines for its body: a call of gRPC may be silent for as long as it likes, where the
    /// protocol finds the dead.
    fn endure(&mut self) {}
    /// Breaks the connection off, so that what was sent cannot pass for whole.
    fn abort(&mut self);
    /// Bytes of the request's body so far.
    fn received(&self) -> u64;
    /// Bytes sent for this exchange so far.
    fn sent(&self) -> u64;
}
