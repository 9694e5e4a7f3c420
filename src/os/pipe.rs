//! Pipes that carry bytes from one TCP socket to another inside the kernel (splice(2)), pooled per thread.
//!
//! For a long body this saves both copies. For a short one it costs two system calls more than it saves.

use super::stream::{Reader, Writer, count_read, counted_write};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The bytes that a pipe can hold. An unprivileged user has 64 MiB in pipes (pipe(7)); beyond, a pipe holds 64 KiB.
pub const CAPACITY: usize = 256 * 1024;
/// Pipes of a thread that are in use at most: each costs two descriptors.
const LENT_MAX: usize = 128;
/// Unused pipes that a thread keeps.
const KEPT: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static LENT: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A borrowed pipe.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    /// The bytes in it.
    held: usize,
}

impl Pipe {
    /// Borrows an empty pipe; `None` if the thread has too many, or the process has no descriptors left.
    #[must_use]
    pub fn lend() -> Option<Pipe> {
        if LENT.get() >= LENT_MAX {
            return None;
        }
        let kept = FREE.with_borrow_mut(Vec::pop);
        let ends = kept.or_else(|| Ends::open().ok())?;
        LENT.set(LENT.get() + 1);
        Some(Pipe { ends: Some(ends), held: 0 })
    }

    /// The bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether it holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    fn fill(&mut self, socket: &TcpStream, most: usize) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let count = splice(socket.as_fd(), None, &ends.write, None, most, FLAGS)?;
        self.held += count;
        Ok(count)
    }

    fn drain(&mut self, socket: &TcpStream) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let count = splice(&ends.read, None, socket.as_fd(), None, self.held, FLAGS)?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

impl Ends {
    fn open() -> io::Result<Ends> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if let Err(error) = fcntl_setpipe_size(&write, CAPACITY) {
            tracing::debug!(%error, "pipe left at its default size");
        }
        Ok(Ends { read, write })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        LENT.set(LENT.get().saturating_sub(1));
        // What a failed exchange left in the pipe must not reach another one.
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else { return };
        let keep = |free: &RefCell<Vec<Ends>>| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(ends);
            }
        };
        if FREE.try_with(keep).is_err() {
            tracing::trace!("pipe closed: the pool of its thread has ended");
        }
    }
}

impl Reader<'_> {
    /// Whether bytes can go from here into a pipe: over plain TCP.
    #[must_use]
    pub fn feeds_pipes(&self) -> bool {
        matches!(self, Reader::Tcp(..))
    }

    /// Moves available bytes into a pipe, at most `most`: at the end the pipe is empty. `None` if there is no pipe. None is
    /// borrowed while nothing is available.
    pub fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<Option<Pipe>>> {
        let Reader::Tcp(half, meter) = self else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let stream: &TcpStream = (*half).as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            let Some(mut pipe) = Pipe::lend() else { return Poll::Ready(Ok(None)) };
            match stream.try_io(Interest::READABLE, || pipe.fill(stream, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    count_read(*meter, count);
                    return Poll::Ready(Ok(Some(pipe)));
                }
            }
        }
    }
}

impl Writer<'_> {
    /// Whether bytes can go from a pipe to here: over plain TCP.
    #[must_use]
    pub fn takes_pipes(&self) -> bool {
        matches!(self, Writer::Tcp(..))
    }

    /// Moves bytes out of a pipe that is not empty, as many as fit.
    pub fn poll_drain(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let Writer::Tcp(half, meter) = self else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let stream: &TcpStream = (*half).as_ref();
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || pipe.drain(stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                drained => return counted_write(*meter, Poll::Ready(drained)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Stream;
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Stream::Tcp(ours.unwrap(), None), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_a_pipe_unchanged_and_the_end_is_seen() {
        let ((mut from, mut sender), (mut to, mut receiver)) = (pair().await, pair().await);
        let (reader, writer) = (&mut from.split().0, &mut to.split().1);
        let sent: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
        let mut received = Vec::new();
        let passing = async {
            loop {
                let filled = poll_fn(|context| reader.poll_fill(context, CAPACITY));
                let mut pipe = filled.await.unwrap().unwrap();
                if pipe.is_empty() {
                    break;
                }
                while !pipe.is_empty() {
                    poll_fn(|context| writer.poll_drain(context, &mut pipe)).await.unwrap();
                }
            }
            poll_fn(|context| writer.poll_shutdown(context)).await.unwrap();
        };
        let sending = async {
            sender.write_all(&sent).await.unwrap();
            sender.shutdown().await.unwrap();
        };
        tokio::join!(passing, sending, async {
            receiver.read_to_end(&mut received).await.unwrap();
        });
        assert!(received == sent);
    }

    #[tokio::test]
    async fn a_pipe_that_holds_bytes_is_not_used_again() {
        FREE.take();
        let (mut from, mut sender) = pair().await;
        sender.write_all(b"left behind").await.unwrap();
        let reader = &mut from.split().0;
        let pipe = poll_fn(|context| reader.poll_fill(context, 4)).await.unwrap().unwrap();
        assert_eq!(pipe.len(), 4);
        drop(pipe);
        assert!(FREE.with_borrow(Vec::is_empty));
        drop(Pipe::lend());
        assert_eq!(FREE.with_borrow(Vec::len), 1, "an empty one is kept");
    }

    #[test]
    fn pipes_are_bounded() {
        let lent: Vec<_> = (0..LENT_MAX).map(|_| Pipe::lend()).collect();
        assert!(lent.iter().all(Option::is_some) && Pipe::lend().is_none());
        drop(lent);
        assert!(Pipe::lend().is_some());
        assert!(FREE.with_borrow(Vec::len) <= KEPT);
    }
}
