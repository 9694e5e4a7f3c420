//! Bodies: parsed by the peer's framing, written in the proxy's framing, and never buffered whole.
//!
//! Each piece is written before the next one is read. This provides backpressure, and limits an exchange to one
//! buffer in each direction.

use super::buffer::{self, Buffer};
use super::deadline::{Late, TICK, Watch};
use crate::http::chunked::{self, Decoder, Step};
use crate::http::{Framing, Violation};
use crate::os::pipe::Pipe;
use crate::os::stream::{Reader, Writer};
use crate::telemetry::counter::Count;
use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

/// Why a body could not be read to its end.
#[derive(Debug)]
pub enum Broken {
    /// The peer closed or reset the connection before the end.
    Gone,
    /// The peer was silent for too long, or too slow.
    Late,
    /// The peer's bytes violate the framing.
    Malformed(Violation),
    /// The body is longer than the limit.
    TooLarge,
}

impl From<Late> for io::Error {
    fn from(_: Late) -> io::Error {
        io::ErrorKind::TimedOut.into()
    }
}

impl From<Late> for Broken {
    fn from(_: Late) -> Broken {
        Broken::Late
    }
}

/// The rest of a body.
#[derive(Debug)]
pub enum Rest {
    /// Nothing.
    Done,
    /// This number of bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<Decoder>),
    /// All bytes up to the end of the connection.
    Close,
}

impl Rest {
    /// The whole body, for this framing.
    #[must_use]
    pub fn of(framing: Framing) -> Rest {
        match framing {
            Framing::None | Framing::Length(0) => Rest::Done,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Box::default()),
            Framing::Close => Rest::Close,
        }
    }

    /// The whole body of a response, for this framing.
    #[must_use]
    pub fn of_response(framing: Framing) -> Rest {
        match framing {
            Framing::Chunked => Rest::Chunked(Box::new(Decoder::of_response())),
            known @ (Framing::None | Framing::Length(_) | Framing::Close) => Rest::of(known),
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Rest::Done)
    }
}

/// Reads from a peer, with its buffer and deadlines.
#[derive(Debug)]
pub struct Source<'a> {
    /// The socket's half.
    pub reader: Reader<'a>,
    /// The unread bytes; absent if there are none.
    pub buffer: &'a mut Option<Buffer>,
    /// The deadline of waits.
    pub watch: &'a Watch,
    /// The maximum size of a read, which is small for a slow receiver.
    pub most: usize,
    /// Whether the last read filled its space, so that more bytes are probably at hand.
    is_full: bool,
    /// Counts the received bytes, if the peer is a cluster.
    meter: Option<&'a Count>,
}

impl<'a> Source<'a> {
    /// A source without a limit on a read.
    #[must_use]
    pub fn new(reader: Reader<'a>, buffer: &'a mut Option<Buffer>, watch: &'a Watch) -> Source<'a> {
        Source { reader, buffer, watch, most: buffer::SIZE, is_full: false, meter: None }
    }

    /// Counts the received bytes with `meter`.
    #[must_use]
    pub fn metered(self, meter: Option<&'a Count>) -> Source<'a> {
        Source { meter, ..self }
    }
}

impl Source<'_> {
    /// The unread bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::data)
    }

    /// Marks the first `count` bytes as used; returns an empty buffer to the pool.
    pub fn used(&mut self, count: usize) {
        if let Some(buffer) = self.buffer {
            buffer.used(count);
            if buffer.is_empty() {
                *self.buffer = None;
            }
        }
    }

    /// Moves the unread bytes into a smaller buffer before a wait.
    pub fn fit(&mut self) {
        if let Some(buffer) = self.buffer {
            buffer.fit();
        }
    }

    /// Makes space for the rest of a head of at most `most` bytes.
    pub fn widen(&mut self, most: usize) {
        if let Some(buffer) = self.buffer {
            buffer.widen(most);
        }
    }

    /// Whether the last read filled its space, so that more bytes are probably at hand.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Reads more bytes; 0 is the end. Holds no buffer while it waits without unread bytes.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut` when no byte arrived within `span`.
    pub async fn more(&mut self, span: Duration) -> io::Result<usize> {
        let watch = self.watch;
        let read = std::future::poll_fn(|context| self.poll_more(context));
        watch.within(span, read).await.unwrap_or_else(|late| Err(late.into()))
    }

    /// As [`Source::more`], but only bytes that are at hand; `None` if there are none.
    pub async fn more_at_hand(&mut self) -> Option<io::Result<usize>> {
        std::future::poll_fn(|context| match self.poll_more(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// As [`Source::more`], without a deadline.
    pub fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (reader, buffer) = (&mut self.reader, &mut *self.buffer);
        // A long body is read in large pieces, unless its receiver is slow.
        let grows = self.is_full && self.most == buffer::SIZE;
        let most = if grows { buffer::BULK } else { self.most };
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
            self.is_full = *count == end;
            if let Some(meter) = self.meter {
                meter.add(*count as u64);
            }
        }
        if polled.is_pending() && buffer.as_ref().is_some_and(Buffer::is_empty) {
            *buffer = None;
        }
        polled
    }

    /// Moves bytes into a pipe, at most `most`: at the end the pipe is empty. `None` if there is no pipe.
    ///
    /// # Errors
    /// As [`Source::more`].
    pub async fn fill(&mut self, most: usize, span: Duration) -> io::Result<Option<Pipe>> {
        let fill = std::future::poll_fn(|context| self.reader.poll_fill(context, most));
        let pipe = self.watch.within(span, fill).await.unwrap_or_else(|late| Err(late.into()))?;
        let count = pipe.as_ref().map_or(0, Pipe::len);
        self.is_full = count == most;
        if let Some(meter) = self.meter {
            meter.add(count as u64);
        }
        Ok(pipe)
    }

    /// Waits until the peer has closed the connection. Bytes that arrive are kept, and the wait continues: a client
    /// that pipelines has not left.
    pub async fn gone(&mut self) {
        loop {
            match self.more(Duration::from_secs(86_400)).await {
                Ok(1..) => self.fit(),
                // The buffer is full of pipelined bytes: the end cannot be detected.
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
    /// This number of bytes, at the start of the source's data.
    Data(usize),
    /// The body is complete.
    End,
}

/// The next piece in the unread bytes; `None` if more bytes are needed.
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

/// Reads until there is a piece. The caller uses the bytes and then calls `source.used`.
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
        let read = source.more(idle).await;
        if let Some(piece) = after_read(read, rest)? {
            return Ok(piece);
        }
    }
}

/// As [`next`], but only bytes that are at hand; `None` if there are none.
///
/// # Errors
/// As [`next`].
pub async fn next_at_hand(
    source: &mut Source<'_>,
    rest: &mut Rest,
) -> Result<Option<Piece>, Broken> {
    while let Some(read) = source.more_at_hand().await {
        let piece = after_read(read, rest)?;
        if piece.is_some() {
            return Ok(piece);
        }
        if let Some(piece) = next_buffered(source, rest)? {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}

/// The end of the body, if a read was its end.
fn after_read(read: io::Result<usize>, rest: &mut Rest) -> Result<Option<Piece>, Broken> {
    match read {
        Ok(0) if matches!(rest, Rest::Close) => {
            *rest = Rest::Done;
            Ok(Some(Piece::End))
        }
        Ok(0) => Err(Broken::Gone),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Broken::Late),
        Err(_) => Err(Broken::Gone),
    }
}

/// Writes to a peer, with its pending bytes and deadlines.
#[derive(Debug)]
pub struct Sink<'a> {
    /// The socket's half.
    pub writer: Writer<'a>,
    /// Bytes to send first: a head, or a chunk's frame.
    pub pending: &'a mut Vec<u8>,
    /// The deadline of waits.
    pub watch: &'a Watch,
    /// The timeout without progress.
    pub stall: Duration,
    /// The number of bytes sent, updated during a write: it decides whether a retry is possible.
    pub sent: &'a Cell<u64>,
    /// The peer's backpressure.
    pub backpressure: Backpressure,
}

/// Whether a peer reads more slowly than the proxy sends.
#[derive(Debug, Default)]
pub struct Backpressure {
    /// For how many further pieces the peer counts as slow.
    behind: u8,
}

impl Backpressure {
    /// Records for how long a piece had to wait for the peer. A wait for less than two ticks only shows that the socket
    /// was full.
    pub fn note(&mut self, waited: Duration) {
        let is_slow = waited >= 2 * TICK;
        self.behind = if is_slow { BEHIND } else { self.behind.saturating_sub(1) };
    }

    /// Whether the peer counts as slow.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind > 0
    }
}

/// Pieces up to this size are copied after the head: a plain write is cheaper than a vectored one.
const COPIED: usize = 8 * 1024;
/// Small pieces are collected up to this size.
const PENDING_MAX: usize = 16 * 1024;
/// The number of pieces that must be written without a wait before the peer no longer counts as slow.
const BEHIND: u8 = 8;

impl Sink<'_> {
    /// Writes all pending bytes.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.write_both(&[]).await
    }

    /// How many bytes to read for the peer at once: few if the peer reads slowly.
    #[must_use]
    pub fn capacity(&self) -> usize {
        if self.backpressure.is_behind() { buffer::MODEST } else { buffer::SIZE }
    }

    async fn write_both(&mut self, data: &[u8]) -> io::Result<()> {
        let total = self.pending.len() + data.len();
        let (mut done, begun) = (0, self.watch.now());
        while done < total {
            let (writer, pending) = (&mut self.writer, &*self.pending);
            let head = pending.get(done..).unwrap_or_default();
            let body = &data[done.saturating_sub(pending.len())..];
            let write = std::future::poll_fn(|context| match (head, body) {
                (head, []) => writer.poll_write(context, head),
                ([], body) => writer.poll_write(context, body),
                (head, body) => writer.poll_write_both(context, head, body),
            });
            done += written(self.watch.within(self.stall, write).await, self.sent)?;
        }
        self.pending.clear();
        if self.writer.is_secure() {
            // TLS buffers what the socket does not accept: the flush shows how slow the peer is.
            let flush = std::future::poll_fn(|context| self.writer.poll_flush(context));
            self.watch.within(self.stall, flush).await??;
        }
        self.backpressure.note(self.watch.now().since(begun));
        Ok(())
    }

    /// Writes the pending bytes, and then moves all bytes out of a pipe.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    pub async fn drain(&mut self, mut pipe: Pipe) -> io::Result<()> {
        self.flush().await?;
        let begun = self.watch.now();
        while !pipe.is_empty() {
            let drain = std::future::poll_fn(|context| self.writer.poll_drain(context, &mut pipe));
            written(self.watch.within(self.stall, drain).await, self.sent)?;
        }
        self.backpressure.note(self.watch.now().since(begun));
        Ok(())
    }

    /// Writes a piece of a body, framed. A small piece is only added to the pending bytes: before a wait for more,
    /// the caller calls [`flush`](Sink::flush).
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

/// The bytes of one write, which are added to `sent`.
fn written(result: Result<io::Result<usize>, Late>, sent: &Cell<u64>) -> io::Result<usize> {
    match result?? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => {
            sent.set(sent.get() + count as u64);
            Ok(count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadlines;
    use crate::os::stream::Stream;
    use std::rc::Rc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn reads_are_small_while_the_receiver_is_slow() {
        let (ours, mut peer) = tokio::net::UnixStream::pair().unwrap();
        let deadlines = Rc::new(Deadlines::default());
        let (mut stream, watch) = (Stream::Unix(ours), deadlines.watch());
        let (mut pending, sent) = (Vec::new(), Cell::new(0));
        let (_, writer) = stream.split();
        let stall = Duration::from_secs(5);
        let (pending, watch, sent) = (&mut pending, &watch, &sent);
        let mut sink =
            Sink { writer, pending, watch, stall, sent, backpressure: Backpressure::default() };
        assert_eq!(sink.capacity(), buffer::SIZE);
        // More than the socket accepts at once.
        let much = vec![7; 4_000_000];
        let mut space = vec![0; much.len()];
        for (ticks, capacity) in [(1, buffer::SIZE), (2, buffer::MODEST)] {
            let wait = ticks * TICK;
            let (written, read) = tokio::join!(sink.piece(Framing::Length(1), &much), async {
                deadlines.tick(deadlines.now().plus(wait));
                peer.read_exact(&mut space).await
            });
            assert!(written.is_ok() && read.is_ok() && space == much);
            assert_eq!(sink.capacity(), capacity, "after a wait of {wait:?}");
        }
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

    #[tokio::test]
    async fn a_read_that_was_filled_is_followed_by_a_larger_one() {
        let (ours, mut peer) = tokio::net::UnixStream::pair().unwrap();
        let (mut stream, watch) = (Stream::Unix(ours), Rc::new(Deadlines::default()).watch());
        let (reader, _) = stream.split();
        let mut held = None;
        let mut source = Source::new(reader, &mut held, &watch);
        peer.write_all(&[7; buffer::MODEST + buffer::BULK]).await.unwrap();
        source.most = buffer::MODEST;
        source.more(Duration::from_secs(5)).await.unwrap();
        assert!(source.is_full());
        source.used(buffer::MODEST);
        source.most = buffer::SIZE;
        assert_eq!(source.more_at_hand().await.unwrap().unwrap(), buffer::BULK);
        source.used(buffer::BULK);
        assert!(source.more_at_hand().await.is_none());
        peer.write_all(&[7; 3]).await.unwrap();
        assert_eq!(source.more(Duration::from_secs(5)).await.unwrap(), 3);
        assert!(!source.is_full());
    }
}
