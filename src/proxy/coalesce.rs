//! Write coalescing for the h2 crate, which writes and flushes each frame: all writes of a connection's task in one
//! turn are sent in one call, and under TLS in one record.

use super::buffer::Buffer;
use crate::os::stream::Stream;
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that are collected: the size of a TLS record (RFC 8446 §5.1).
const GATHERED_MAX: usize = 16 * 1024;

/// A stream for the h2 crate. Written bytes wait for its [`Outbox`].
#[derive(Debug)]
pub struct Coalesced(Rc<RefCell<Inner>>);

/// The unsent bytes of a [`Coalesced`] stream.
#[derive(Debug)]
pub struct Outbox(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    stream: Stream,
    /// Bytes that were read before the crate got the stream.
    begun: Option<Buffer>,
    /// Unsent bytes; absent if there are none.
    out: Option<Buffer>,
    /// The write error, which the next read or write returns.
    broken: Option<io::ErrorKind>,
}

/// Wraps `stream`; `begun` has bytes that were already read.
#[must_use]
pub fn coalesced(stream: Stream, begun: Option<Buffer>) -> (Coalesced, Outbox) {
    let inner = Inner { stream, begun, out: None, broken: None };
    let inner = Rc::new(RefCell::new(inner));
    (Coalesced(inner.clone()), Outbox(inner))
}

impl Outbox {
    /// Waits for `work`, which writes to the stream; sends at the end of each turn in which `work` does not end.
    pub async fn with<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            loop {
                let polled = work.as_mut().poll(context);
                if polled.is_ready() || !self.breaks(context) {
                    return polled;
                }
                // The next call returns the error.
            }
        })
        .await
    }

    /// Sends as many bytes as possible; returns whether sending has failed just now.
    fn breaks(&self, context: &mut Context<'_>) -> bool {
        let mut inner = self.0.borrow_mut();
        match inner.poll_all(context) {
            Poll::Ready(Err(error)) if inner.broken.is_none() => {
                inner.broken = Some(error.kind());
                true
            }
            _ => false,
        }
    }
}

impl Inner {
    /// Sends all collected bytes.
    fn poll_gathered(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(out) = self.out.as_mut().filter(|out| !out.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, out.data()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => out.used(count),
            }
        }
        self.out = None;
        Poll::Ready(Ok(()))
    }

    /// Sends all collected bytes, and those that TLS buffers.
    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn gather(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        let out = self.out.get_or_insert_with(Buffer::lend);
        let mut gathered = 0;
        for piece in pieces {
            let space_left = GATHERED_MAX.saturating_sub(out.data().len());
            let space = out.space();
            let count = piece.len().min(space_left).min(space.len());
            space[..count].copy_from_slice(&piece[..count]);
            out.filled(count);
            gathered += count;
        }
        gathered
    }

    fn gathered(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.data().len())
    }

    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl AsyncRead for Coalesced {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        if let Some(buffer) = inner.begun.as_mut().filter(|buffer| !buffer.is_empty()) {
            let count = buffer.data().len().min(space.remaining());
            space.put_slice(&buffer.data()[..count]);
            buffer.used(count);
            return Poll::Ready(Ok(()));
        }
        inner.begun = None;
        Pin::new(&mut inner.stream).poll_read(context, space)
    }
}

impl AsyncWrite for Coalesced {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        if inner.gathered() >= GATHERED_MAX {
            ready!(inner.poll_gathered(context))?;
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if inner.gathered() == 0 && total >= GATHERED_MAX {
            // Large enough for a separate call, so it is not copied.
            return Pin::new(&mut inner.stream).poll_write_vectored(context, pieces);
        }
        Poll::Ready(Ok(inner.gather(pieces)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The outbox sends, once a turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.borrow().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        inner.check()?;
        ready!(inner.poll_all(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    fn pair() -> (Coalesced, Outbox, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (stream, outbox) = coalesced(Stream::Unix(ours), None);
        (stream, outbox, theirs)
    }

    async fn soon<F: Future>(work: F) -> F::Output {
        tokio::time::timeout(Duration::from_secs(5), work).await.expect("in time")
    }

    #[tokio::test]
    async fn writes_of_a_turn_are_sent_together_at_its_end() {
        let (mut stream, outbox, mut peer) = pair();
        let mut space = [0; 64];
        let work = async {
            for piece in [&b"one "[..], b"two ", b"three"] {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
            }
            assert!(peer.try_read(&mut space).is_err(), "nothing was sent yet");
            let count = peer.read(&mut space).await.unwrap();
            assert_eq!(&space[..count], b"one two three");
            stream.write_all(b"last").await.unwrap();
            stream.shutdown().await.unwrap();
            let count = peer.read(&mut space).await.unwrap();
            assert_eq!(&space[..count], b"last");
            assert_eq!(peer.read(&mut space).await.unwrap(), 0);
        };
        soon(outbox.with(work)).await;
        assert!(outbox.0.borrow().out.is_none(), "an idle one holds nothing");
    }

    #[tokio::test]
    async fn few_bytes_are_gathered_for_a_slow_peer_and_none_is_lost() {
        let (mut stream, outbox, mut peer) = pair();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|number| (number % 251) as u8).collect();
        let write = async {
            for (index, piece) in sent.chunks(7_919).enumerate() {
                // Small and large ones.
                let cut = if index % 3 == 0 { piece.len() } else { 100.min(piece.len()) };
                stream.write_all(&piece[..cut]).await.unwrap();
                stream.write_all(&piece[cut..]).await.unwrap();
                assert!(stream.0.borrow().gathered() <= GATHERED_MAX);
            }
            stream.shutdown().await.unwrap();
        };
        let read = async {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.unwrap();
            got
        };
        let ((), got) = soon(async { tokio::join!(outbox.with(write), read) }).await;
        assert!(got == sent);
    }

    #[tokio::test]
    async fn a_reader_gets_the_write_error() {
        let (mut stream, outbox, peer) = pair();
        stream.write_all(b"for nobody").await.unwrap();
        socket2::SockRef::from(&peer).shutdown(std::net::Shutdown::Read).unwrap();
        let read = soon(outbox.with(stream.read_u8())).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(stream.write_all(b"more").await.is_err());
    }
}
