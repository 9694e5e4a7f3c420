//! HTTP/1.1 to a cluster: one request and its response on a connection.

use super::head::{limits, read_whole, why};
use super::{HeldUp, Incoming, NoHead, Outgoing, RelayEnd, wait};
use crate::http::forward::Edits;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::scan::{Scan, Scanner};
use crate::http::{Framing, Limits, trailers};
use crate::proxy::body::{self, Piece, Rest, Sink, Source};
use crate::proxy::buffer;
use crate::proxy::l7::client::Response;
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
                    held_up.give(source.watch, response.flush()).await?;
                    source.most = response.capacity();
                    let watch = source.watch;
                    let next = pin!(body::next(source, &mut rest, idle));
                    let waited = wait(next, response, &mut held_up, watch).await?;
                    waited.map_err(|_| held_up.end())?
                }
                Err(_) => return Err(RelayEnd::Cluster),
            };
            match piece {
                Piece::Data(count) => {
                    let data = source.data().get(..count).unwrap_or_default();
                    held_up.give(source.watch, response.piece(data)).await?;
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
