//! HTTP/1.1 to a cluster: one request and its response on a connection.

use super::head::{limits, read_whole, why};
use super::{HeldUp, Incoming, NoHead, Outgoing, RelayEnd, wait};
use crate::body::{self, Piece, Rest, Sink, Source};
use crate::buffer;
use crate::http::forward::Edits;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::scan::{Scan, Scanner};
use crate::http::{Framing, Limits, trailers};
use crate::l7::client::Response;
use crate::os::pipe;
use std::io;
use std::pin::pin;
use std::time::Duration;

impl Outgoing for Sink<'_> {
    async fn flush(&mut self) -> io::Result<()> {
        Sink::flush(self).await
    }

    async fn piece(&mut self, framing: Framing, data: &[u8]) -> io::Result<()> {
        Sink::piece(self, framing, data).await
    }

    fn capacity(&mut self) -> usize {
        Sink::capacity(self)
    }

    async fn end(&mut self, framing: Framing, trailers: &[u8]) -> io::Result<()> {
        Sink::end(self, framing, trailers).await
    }
}

/// A response over HTTP/1.
#[derive(Debug)]
pub struct Http1<'a> {
    source: Source<'a>,
    scanner: Scanner,
    limits: Limits,
}

impl<'a> Http1<'a> {
    /// Reads from `source`, a head of at most `head_bytes` bytes.
    #[must_use]
    pub fn new(mut source: Source<'a>, head_bytes: usize) -> Http1<'a> {
        // A medium buffer, until it is known how fast the client reads.
        source.most = buffer::MODEST;
        let limits = Limits { head_bytes, ..limits() };
        Http1 { source, scanner: Scanner::default(), limits }
    }
}

impl Incoming for Http1<'_> {
    fn head(
        &mut self,
        answer: &mut ResponseHead,
        request_kind: RequestKind<'_>,
    ) -> Result<usize, NoHead> {
        match self.scanner.advance(self.source.data(), &self.limits) {
            Ok(Scan::Complete(end)) => {
                self.scanner = Scanner::default();
                let bytes = self.source.data().get(..end).unwrap_or_default();
                read_whole(answer, bytes, request_kind, &self.limits)
            }
            Ok(Scan::Partial) => {
                self.source.widen(self.limits.head_bytes);
                Err(NoHead::Partial)
            }
            Err(violation) => Err(NoHead::Malformed(why(violation))),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.source.data()
    }

    fn used(&mut self, end: usize) {
        self.source.used(end);
    }

    async fn more(&mut self, span: Duration) -> io::Result<usize> {
        self.source.more(span).await
    }

    async fn relay<R: Response>(
        &mut self,
        framing: Framing,
        response: &mut R,
        idle: Duration,
        edits: Edits<'_>,
    ) -> Result<(), RelayEnd> {
        let (source, mut rest) = (&mut self.source, Rest::of_response(framing));
        let mut held_up = HeldUp::default();
        loop {
            let piece = match body::next_buffered(source, &mut rest) {
                Ok(Some(piece)) => piece,
                Ok(None) => {
                    match next_piece(source, &mut rest, response, idle, &mut held_up).await? {
                        Some(piece) => piece,
                        None => continue,
                    }
                }
                Err(_) => return Err(RelayEnd::Cluster),
            };
            match piece {
                Piece::Data(count) => {
                    let data = source.data().get(..count).unwrap_or_default();
                    held_up.give(source.watch, pin!(response.piece(data))).await?;
                    source.used(count);
                }
                Piece::End => {
                    let mut lines = Vec::new();
                    if let Rest::Chunked(decoder) = &rest {
                        let fields = decoder.trailer_fields();
                        trailers::write(&mut lines, decoder.trailer_bytes(), &fields);
                    }
                    return response.end(&edits.keep(&lines)).await.map_err(|_| RelayEnd::Client);
                }
            }
        }
    }

    fn is_clean(&self) -> bool {
        self.source.data().is_empty()
    }

    fn keep_alive(&self) {
        self.source.reader.keep_alive();
    }
}

/// The rest of a body goes through a pipe if it has at least this number of bytes.
const PIPED_MIN: u64 = 256 * 1024;

/// Reads the next piece; `None` if the rest went through a pipe. Before a wait, the response sends what it has.
async fn next_piece<R: Response>(
    source: &mut Source<'_>,
    rest: &mut Rest,
    response: &mut R,
    idle: Duration,
    held_up: &mut HeldUp,
) -> Result<Option<Piece>, RelayEnd> {
    source.most = response.capacity();
    if source.is_full() {
        if let Rest::Length(PIPED_MIN..) = rest
            && source.reader.feeds_pipes()
            && response.takes_pipes()
        {
            // Boxed: most bodies are short.
            Box::pin(relay_by_pipe(source, rest, response, idle, held_up)).await?;
            if rest.is_done() {
                return Ok(None);
            }
        }
        // The first piece and the next are then sent together.
        let at_hand = body::next_at_hand(source, rest).await.map_err(|_| held_up.end())?;
        if at_hand.is_some() {
            return Ok(at_hand);
        }
    }
    held_up.give(source.watch, pin!(response.flush())).await?;
    let watch = source.watch;
    let next = pin!(body::next(source, rest, idle));
    let waited = wait(next, response, held_up, watch).await?;
    waited.map(Some).map_err(|_| held_up.end())
}

/// Relays the rest of a body of known length inside the kernel, or less of it if there are too few pipes.
async fn relay_by_pipe<R: Response>(
    source: &mut Source<'_>,
    rest: &mut Rest,
    response: &mut R,
    idle: Duration,
    held_up: &mut HeldUp,
) -> Result<(), RelayEnd> {
    held_up.give(source.watch, pin!(response.flush())).await?;
    while let Rest::Length(left) = rest {
        let is_slow = response.capacity() < buffer::SIZE;
        let most = if is_slow { buffer::SIZE } else { pipe::CAPACITY };
        let most = usize::try_from(*left).map_or(most, |left| left.min(most));
        let filled = source.fill(most, idle).await.map_err(|_| held_up.end())?;
        let Some(pipe) = filled else { return Ok(()) };
        if pipe.is_empty() {
            return Err(held_up.end());
        }
        *left = left.saturating_sub(pipe.len() as u64);
        if *left == 0 {
            *rest = Rest::Done;
        }
        held_up.give(source.watch, pin!(response.drain(pipe))).await?;
    }
    Ok(())
}
