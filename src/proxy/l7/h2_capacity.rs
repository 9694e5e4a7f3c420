//! Bytes that HTTP/2 flow control allows on a stream, on either side of the proxy.

use crate::body::Backpressure;
use bytes::Bytes;
use h2::SendStream;
use std::io;
use std::task::{Context, Poll};

/// The most bytes that are passed to a stream at once.
pub const PIECE: usize = 16 * 1024;

/// The bytes that are read for a stream with a closed window: the end of the body needs no window.
const LITTLE: usize = 1024;

/// Bytes to read for a stream at once: `most`, or, if the stream is slow, the current capacity of its windows and
/// buffer. The capacity is released again: a stream that waits for bytes must not hold window that other streams
/// could use.
pub fn capacity(backpressure: &Backpressure, stream: &mut SendStream<Bytes>, most: usize) -> usize {
    if !backpressure.is_behind() {
        return most;
    }
    stream.reserve_capacity(PIECE);
    let capacity = stream.capacity();
    stream.reserve_capacity(0);
    capacity.clamp(LITTLE, most)
}

/// Waits for capacity to send on `stream`, in bytes: from 1 to `wanted` (RFC 9113, section 5.2).
///
/// # Errors
/// The stream's error, converted by `explain`, or a broken pipe if the stream is closed for sending.
pub fn poll_capacity(
    stream: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
    wanted: usize,
    explain: impl FnOnce(h2::Error) -> io::Error,
) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(wanted);
    loop {
        match stream.poll_capacity(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(capacity))) => return Poll::Ready(Ok(capacity.min(wanted))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(explain(error))),
            Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}
