//! The cluster's side: an attempt uses either HTTP/1.1 on its own connection, or a stream of a shared HTTP/2
//! connection.
//!
//! Both have the same interface: an [`Outgoing`] for the request, an [`Incoming`] for the response. HTTP/2 fields are
//! converted to an HTTP/1.1 head and parsed by the same strict parser.

mod h1;
mod h2;
mod head;

pub use h1::Http1;
pub use h2::{Http2In, Http2Out};

use crate::buffer;
use crate::deadline::Watch;
use crate::http::forward::Edits;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::{Framing, Why};
use crate::l7::client::Response;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

/// The request's direction.
#[expect(async_fn_in_trait, reason = "workers are single-threaded: no bound on Send is wanted")]
pub trait Outgoing {
    /// Sends buffered bytes.
    ///
    /// # Errors
    /// When the cluster accepts no more bytes.
    async fn flush(&mut self) -> io::Result<()>;
    /// Sends a piece of the body.
    ///
    /// # Errors
    /// When the cluster accepts no more bytes.
    async fn piece(&mut self, framing: Framing, data: &[u8]) -> io::Result<()>;
    /// Bytes to read for the cluster at once: few if the cluster reads slowly.
    fn capacity(&mut self) -> usize {
        buffer::SIZE
    }
    /// Ends the request; `trailers` are complete lines.
    ///
    /// # Errors
    /// When the cluster accepts no more bytes.
    async fn end(&mut self, framing: Framing, trailers: &[u8]) -> io::Result<()>;
}

/// Why there is no head yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoHead {
    /// The head is incomplete.
    Partial,
    /// The head is invalid, for this reason.
    Malformed(Why),
}

/// Why a body was not sent to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelayEnd {
    /// The client accepts no more bytes.
    Client,
    /// The cluster closed or reset the connection.
    Cluster,
    /// The cluster closed or reset the connection after the client had read nothing for long.
    Untaken,
}

/// For how long the client has delayed the response.
#[derive(Debug, Default)]
struct HeldUp(Duration);

/// The delay by the client after which a reset of the cluster is not the cluster's fault: most applications wait at
/// least this long.
const HELD_UP: Duration = Duration::from_secs(1);

impl HeldUp {
    /// Sends to the client, and measures the time with the clock of `watch`.
    async fn give(
        &mut self,
        watch: &Watch,
        giving: Pin<&mut impl Future<Output = io::Result<()>>>,
    ) -> Result<(), RelayEnd> {
        let begun = watch.now();
        let given = giving.await;
        self.0 += watch.now().since(begun);
        given.map_err(|_| RelayEnd::Client)
    }

    /// The kind of the cluster's end.
    fn end(&self) -> RelayEnd {
        if self.0 >= HELD_UP { RelayEnd::Untaken } else { RelayEnd::Cluster }
    }
}

/// Waits for the cluster. What the response holds back is sent while the cluster is silent.
async fn wait<R: Response, F: Future>(
    mut waiting: Pin<&mut F>,
    response: &mut R,
    held_up: &mut HeldUp,
    watch: &Watch,
) -> Result<F::Output, RelayEnd> {
    while let Some(due) = response.flush_due() {
        // Boxed: most responses hold nothing back.
        match Box::pin(tokio::time::timeout(due, waiting.as_mut())).await {
            Ok(done) => return Ok(done),
            Err(_) => {
                let flushing = Box::pin(response.flush_all());
                Box::pin(held_up.give(watch, pin!(flushing))).await?;
            }
        }
    }
    Ok(waiting.await)
}

/// The response's direction.
#[expect(async_fn_in_trait, reason = "workers are single-threaded: no bound on Send is wanted")]
pub trait Incoming {
    /// Parses a head in the received bytes; returns its end in [`bytes`](Incoming::bytes).
    ///
    /// # Errors
    /// [`NoHead`].
    fn head(
        &mut self,
        answer: &mut ResponseHead,
        request_kind: RequestKind<'_>,
    ) -> Result<usize, NoHead>;
    /// The received bytes.
    fn bytes(&self) -> &[u8];
    /// Marks a head as used.
    fn used(&mut self, end: usize);
    /// Waits for more bytes; 0 is the end. `ConnectionRefused` means that the cluster has not processed the request.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    async fn more(&mut self, span: Duration) -> io::Result<usize>;
    /// Relays the body piece by piece, and the trailers that `edits` permit.
    ///
    /// # Errors
    /// [`RelayEnd`].
    async fn relay<R: Response>(
        &mut self,
        framing: Framing,
        response: &mut R,
        idle: Duration,
        edits: Edits<'_>,
    ) -> Result<(), RelayEnd>;
    /// Whether no surplus bytes follow the response.
    fn is_clean(&self) -> bool;
    /// Enables keep-alive probes: the response may now be silent for long.
    fn keep_alive(&self);
}

/// The upload of a request that was sent before: nothing is left to send.
#[derive(Clone, Copy, Debug)]
pub struct Sent;

impl Outgoing for Sent {
    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn piece(&mut self, _: Framing, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    async fn end(&mut self, _: Framing, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
