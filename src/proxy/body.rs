//! Bodies on the wire: read by their framing, written by ours, never held whole.
//!
//! A piece that was read is written before the next is read: that is all the backpressure there is
//! to have, and it bounds an exchange to one buffer each way.

use super::buffer::{self, Buffer};
use super::deadline::{Late, Watch};
use crate::http::chunked::{self, Decoder, Step};
use crate::http::{Framing, Violation};
use crate::os::stream::{Reader, Writer};
use std::cell::Cell;
use std::io;
use std::task::Poll;
use std::time::Duration;

/// Why a body could not be read to its end.
#[derive(Debug)]
pub enum Broken {
    /// The peer closed or reset before the end.
    Gone,
    /// The peer was silent, or too slow.
    Late,
    /// The peer's bytes are not the framing's grammar.
    Malformed(Violation),
    /// The body is longer than the limit.
    TooLarge,
}

impl From<Late> for Broken {
    fn from(_: Late) -> Broken {
        Broken::Late
    }
}

/// How much of a body is still to come.
#[derive(Debug)]
pub enum Rest {
    /// Nothing.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<Decoder>),
    /// Whatever comes before the end of the connection.
    Close,
}

impl Rest {
    /// All of a body of this framing.
    #[must_use]
    pub fn of(framing: Framing) -> Rest {
        match framing {
            Framing::None | Framing::Length(0) => Rest::Done,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Box::default()),
            Framing::Close => Rest::Close,
        }
    }

    /// All of a response's body of this framing.
    #[must_use]
    pub fn of_response(framing: Framing) -> Rest {
        match framing {
            Framing::Chunked => Rest::Chunked(Box::new(Decoder::of_response())),
            known @ (Framing::None | Framing::Length(_) | Framing::Close) => Rest::of(known),
        }
    }

    /// Whether nothing is to come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Rest::Done)
    }
}

/// Reads from one peer: its buffer, its deadlines.
#[derive(Debug)]
pub struct Source<'a> {
    /// The socket's half.
    pub reader: Reader<'a>,
    /// What was read and not yet used; absent while there is nothing.
    pub buffer: &'a mut Option<Buffer>,
    /// Where waits are bounded.
    pub watch: &'a Watch,
    /// Bytes to read at once, at most: whoever takes them may be slow.
    pub most: usize,
}

impl<'a> Source<'a> {
    /// Reads as much as there is.
    #[must_use]
    pub fn new(reader: Reader<'a>, buffer: &'a mut Option<Buffer>, watch: &'a Watch) -> Source<'a> {
        Source { reader, buffer, watch, most: buffer::SIZE }
    }
}

impl Source<'_> {
    /// What was read and not yet used.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::data)
    }

    /// Notes that the first `count` bytes were used; gives an empty buffer back.
    pub fn used(&mut self, count: usize) {
        if let Some(buffer) = self.buffer {
            buffer.used(count);
            if buffer.is_empty() {
                *self.buffer = None;
            }
        }
    }

    /// Holds what was read in no more memory than it needs, before a wait for the rest.
    pub fn fit(&mut self) {
        if let Some(buffer) = self.buffer {
            buffer.fit();
        }
    }

    /// Makes room for the rest of a head of at most so many bytes.
    pub fn widen(&mut self, most: usize) {
        if let Some(buffer) = self.buffer {
            buffer.widen(most);
        }
    }

    /// Reads more behind what is there; 0 is the end. Holds no buffer while waiting with nothing read.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut` when nothing came within `span`.
    pub async fn more(&mut self, span: Duration) -> io::Result<usize> {
        let (reader, buffer) = (&mut self.reader, &mut *self.buffer);
        let most = self.most;
        let read = std::future::poll_fn(|context| {
            if buffer.is_none() && reader.poll_readable(context)?.is_pending() {
                return Poll::Pending;
            }
            let space = buffer.get_or_insert_with(|| Buffer::lend_for(most)).space();
            if space.is_empty() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::OutOfMemory)));
            }
            let end = most.clamp(1, space.len());
            let polled = reader.poll_read(context, &mut space[..end]);
            if let (Poll::Ready(Ok(count)), Some(buffer)) = (&polled, buffer.as_mut()) {
                buffer.filled(*count);
            }
            if polled.is_pending() && buffer.as_ref().is_some_and(Buffer::is_empty) {
                *buffer = None;
            }
            polled
        });
        match self.watch.within(span, read).await {
            Ok(result) => result,
            Err(Late) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }

    /// Waits until the peer is gone. Bytes that come instead are kept for later, and then this
    /// waits on: a pipelining client is not a leaving one.
    pub async fn gone(&mut self) {
        loop {
            match self.more(Duration::from_secs(86_400)).await {
                Ok(1..) => self.fit(),
                // No room for more of what it pipelines: then its end cannot be seen, either.
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    std::future::pending::<()>().await;
                }
                Ok(0) | Err(_) => return,
            }
        }
    }
}

/// A piece of a body.
#[derive(Debug, Eq, PartialEq)]
pub enum Piece {
    /// So many bytes, at the start of the source's data.
    Data(usize),
    /// The body is complete.
    End,
}

/// Finds the next piece in what was already read; `None` needs more.
///
/// # Errors
/// [`Broken::Malformed`] for bad chunks.
pub fn next_buffered(source: &mut Source<'_>, rest: &mut Rest) -> Result<Option<Piece>, Broken> {
    loop {
        let available = source.data().len();
        match rest {
            Rest::Done => return Ok(Some(Piece::End)),
            _ if available == 0 => return Ok(None),
            Rest::Close => return Ok(Some(Piece::Data(available))),
            Rest::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
                *left -= take as u64;
                if *left == 0 {
                    *rest = Rest::Done;
                }
                return Ok(Some(Piece::Data(take)));
            }
            Rest::Chunked(decoder) => {
                match decoder.step(source.data()).map_err(Broken::Malformed)? {
                    Step::More => source.used(available),
                    Step::Data { start, end } => {
                        source.used(start);
                        return Ok(Some(Piece::Data(end - start)));
                    }
                    Step::End { used } => {
                        source.used(used);
                        return Ok(Some(Piece::End));
                    }
                }
            }
        }
    }
}

/// Reads until there is a piece. The caller uses its bytes and then says `source.used`.
///
/// # Errors
/// [`Broken`] when the body cannot be completed.
pub async fn next(
    source: &mut Source<'_>,
    rest: &mut Rest,
    idle: Duration,
) -> Result<Piece, Broken> {
    loop {
        if let Some(piece) = next_buffered(source, rest)? {
            return Ok(piece);
        }
        match source.more(idle).await {
            Ok(0) if matches!(rest, Rest::Close) => {
                *rest = Rest::Done;
                return Ok(Piece::End);
            }
            Ok(0) => return Err(Broken::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Broken::Late),
            Err(_) => return Err(Broken::Gone),
        }
    }
}

/// Writes to one peer: what is pending, its deadlines.
#[derive(Debug)]
pub struct Sink<'a> {
    /// The socket's half.
    pub writer: Writer<'a>,
    /// Bytes to go out before anything else: a head, or a chunk's frame.
    pub pending: &'a mut Vec<u8>,
    /// Where waits are bounded.
    pub watch: &'a Watch,
    /// Without progress for so long, the peer is gone.
    pub stall: Duration,
    /// Bytes that went out, counted as they go: whether any did decides what may be tried again.
    pub sent: &'a Cell<u64>,
    /// Whether the peer takes what it is given.
    pub backpressure: Backpressure,
}

/// Whether a peer takes less than it is given.
#[derive(Debug, Default)]
pub struct Backpressure {
    /// For how many pieces more it is held to be slow.
    behind: u8,
}

impl Backpressure {
    /// Notes whether a piece had to wait.
    pub fn note(&mut self, waited: bool) {
        self.behind = if waited { BEHIND } else { self.behind.saturating_sub(1) };
    }

    /// Whether it is held to be slow.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind > 0
    }
}

/// Pieces up to this size are copied behind the head: one plain write beats a vectored one.
const COPIED: usize = 8 * 1024;
/// Small pieces are gathered up to this size.
const PENDING_MAX: usize = 16 * 1024;
/// Pieces that a peer has to take at once, until it is no longer held to be slow.
const BEHIND: u8 = 8;

impl Sink<'_> {
    /// Writes all that is pending.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.write_both(&[]).await
    }

    /// How many bytes to read for the peer at once: few, where it takes less than it is given.
    #[must_use]
    pub fn capacity(&self) -> usize {
        if self.backpressure.is_behind() { buffer::MODEST } else { buffer::SIZE }
    }

    async fn write_both(&mut self, data: &[u8]) -> io::Result<()> {
        let total = self.pending.len() + data.len();
        let (mut done, mut waited) = (0, false);
        while done < total {
            let (writer, pending) = (&mut self.writer, &*self.pending);
            let head = pending.get(done..).unwrap_or_default();
            let body = &data[done.saturating_sub(pending.len())..];
            let write = std::future::poll_fn(|context| match (head, body) {
                (head, []) => writer.poll_write(context, head),
                ([], body) => writer.poll_write(context, body),
                (head, body) => writer.poll_write_both(context, head, body),
            });
            let count = match self.watch.within(self.stall, write).await {
                Ok(count) => count?,
                Err(Late) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
            };
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero));
            }
            done += count;
            waited |= done < total;
            self.sent.set(self.sent.get() + count as u64);
        }
        self.pending.clear();
        if self.writer.is_secure() {
            // TLS takes what the socket does not: how far behind the peer is shows here.
            let flush = std::future::poll_fn(|context| {
                let polled = self.writer.poll_flush(context);
                waited |= polled.is_pending();
                polled
            });
            match self.watch.within(self.stall, flush).await {
                Ok(result) => result?,
                Err(Late) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
            }
        }
        self.backpressure.note(waited);
        Ok(())
    }

    /// Writes a piece of a body, framed. A small piece waits behind what is pending: whoever then has
    /// to wait for more says [`flush`](Sink::flush) first.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    pub async fn piece(&mut self, framing: Framing, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let chunked = framing == Framing::Chunked;
        if chunked {
            chunked::write_size(self.pending, data.len());
        }
        if data.len() <= COPIED {
            self.pending.extend_from_slice(data);
        } else {
            self.write_both(data).await?;
        }
        if chunked {
            self.pending.extend_from_slice(b"\r\n");
        }
        if self.pending.len() > PENDING_MAX { self.flush().await } else { Ok(()) }
    }

    /// Ends a body; `trailers` are complete lines.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    pub async fn end(&mut self, framing: Framing, trailers: &[u8]) -> io::Result<()> {
        if framing == Framing::Chunked {
            chunked::write_end(self.pending, trailers);
        }
        self.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::stream::Stream;
    use crate::proxy::deadline::Deadlines;
    use std::rc::Rc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn reads_are_small_while_the_receiver_is_slow() {
        let (ours, mut peer) = tokio::net::UnixStream::pair().unwrap();
        let (mut stream, watch) = (Stream::Unix(ours), Rc::new(Deadlines::default()).watch());
        let (mut pending, sent) = (Vec::new(), Cell::new(0));
        let (_, writer) = stream.split();
        let stall = Duration::from_secs(5);
        let (pending, watch, sent) = (&mut pending, &watch, &sent);
        let mut sink =
            Sink { writer, pending, watch, stall, sent, backpressure: Backpressure::default() };
        assert_eq!(sink.capacity(), buffer::SIZE);
        // More than the socket takes at once.
        let much = vec![7; 4_000_000];
        let mut space = vec![0; much.len()];
        let (written, read) =
            tokio::join!(sink.piece(Framing::Length(1), &much), peer.read_exact(&mut space));
        assert!(written.is_ok() && read.is_ok() && space == much);
        for _ in 0..BEHIND {
            assert_eq!(sink.capacity(), buffer::MODEST);
            sink.piece(Framing::Length(1), &much[..COPIED + 1]).await.unwrap();
            peer.read_exact(&mut space[..COPIED + 1]).await.unwrap();
        }
        assert_eq!(sink.capacity(), buffer::SIZE);
    }

    #[tokio::test]
    async fn a_source_reads_and_buffers_at_most_the_permitted_bytes() {
        let (ours, mut peer) = tokio::net::UnixStream::pair().unwrap();
        let (mut stream, watch) = (Stream::Unix(ours), Rc::new(Deadlines::default()).watch());
        let (reader, _) = stream.split();
        let mut held = None;
        let mut source = Source::new(reader, &mut held, &watch);
        peer.write_all(&[7; 20_000]).await.unwrap();
        for (most, holds) in [(1_000, 2_048), (5_000, buffer::MODEST), (14_000, buffer::SIZE)] {
            source.most = most;
            assert_eq!(source.more(Duration::from_secs(5)).await.unwrap(), most);
            let buffer = source.buffer.as_mut().unwrap();
            assert_eq!(buffer.data().len() + buffer.space().len(), holds);
            source.used(most);
            assert!(source.buffer.is_none());
        }
    }
}
