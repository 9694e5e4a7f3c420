//! The cluster's side: how an attempt speaks to its cluster, HTTP/1 on a connection of its own, or a stream of an HTTP/2 one.
//!
//! Both look the same to the attempt: an [`Outgoing`] for the request, an [`Incoming`] for the response. What
//! HTTP/2 says is written down as HTTP/1 has it and read by the one strict reader.

mod h1;
mod h2;
mod head;

pub use h1::Http1;
pub use h2::{Http2In, Http2Out};

use crate::http::forward::Edits;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::{Framing, Why};
use crate::proxy::buffer;
use crate::proxy::deadline::Watch;
use crate::proxy::l7::client::Response;
use std::future::Future;
use std::io;
use std::time::Duration;

/// The request's direction.
#[expect(async_fn_in_trait, reason = "workers are single-threaded: no bound on Send is wanted")]
pub trait Outgoing {
    /// Sends what is begun, before more is there.
    ///
    /// # Errors
    /// When the cluster takes no more.
    async fn flush(&mut self) -> io::Result<()>;
    /// Sends a piece of the body.
    ///
    /// # Errors
    /// Likewise.
    async fn piece(&mut self, framing: Framing, data: &[u8]) -> io::Result<()>;
    /// How many bytes to read for it at once: few, where it takes less than it is given.
    fn capacity(&mut self) -> usize {
        buffer::SIZE
    }
    /// Ends the request; `trailers` are complete lines.
    ///
    /// # Errors
    /// Likewise.
    async fn end(&mut self, framing: Framing, trailers: &[u8]) -> io::Result<()>;
}

/// Why there is no head yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoHead {
    /// More is to come.
    Partial,
    /// It is not what a response looks like, for this reason.
    Malformed(Why),
}

/// Why a body did not come to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelayEnd {
    /// The client takes no more.
    Client,
    /// The cluster broke off.
    Cluster,
    /// The cluster broke off, after the client had not taken what came for long.
    Untaken,
}

/// For how long the client has kept a response waiting.
#[derive(Debug, Default)]
struct HeldUp(Duration);

/// From when on a cluster that breaks off has waited long enough: applications are seldom less patient.
const HELD_UP: Duration = Duration::from_secs(1);

impl HeldUp {
    /// Gives the client something, by `watch`'s clock.
    async fn give(
        &mut self,
        watch: &Watch,
        giving: impl Future<Output = io::Result<()>>,
    ) -> Result<(), RelayEnd> {
        let begun = watch.now();
        let given = giving.await;
        self.0 += watch.now().since(begun);
        given.map_err(|_| RelayEnd::Client)
    }

    /// How the cluster's end is to be taken.
    fn end(&self) -> RelayEnd {
        if self.0 >= HELD_UP { RelayEnd::Untaken } else { RelayEnd::Cluster }
    }
}

/// The response's direction.
#[expect(async_fn_in_trait, reason = "workers are single-threaded: no bound on Send is wanted")]
pub trait Incoming {
    /// Reads a head from what has come; gives where it ends in [`bytes`](Incoming::bytes).
    ///
    /// # Errors
    /// [`NoHead`].
    fn head(
        &mut self,
        answer: &mut ResponseHead,
        request_kind: RequestKind<'_>,
    ) -> Result<usize, NoHead>;
    /// What has come of a head.
    fn bytes(&self) -> &[u8];
    /// Notes that a head was used.
    fn used(&mut self, end: usize);
    /// Waits for more; 0 is the end. A `ConnectionRefused` says that the cluster has not begun with it.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    async fn more(&mut self, span: Duration) -> io::Result<usize>;
    /// Sends the body on, piece by piece, and of the trailers what `edits` leave.
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
    /// Whether nothing has come beyond the response.
    fn is_clean(&self) -> bool;
    /// From now on it may be silent for long: whether the cluster is alive is found out otherwise.
    fn keep_alive(&self);
}

/// Of a request that was sent before: there is nothing more to send.
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
