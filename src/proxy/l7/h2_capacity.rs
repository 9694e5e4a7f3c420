//! Room that HTTP/2's flow control leaves on a stream, to either side of the proxy.

use crate::proxy::body::Backpressure;
use bytes::Bytes;
use h2::SendStream;
use std::io;
use std::task::{Context, Poll};

/// Bytes of a piece that are handed over at once.
pub const PIECE: usize = 16 * 1024;

/// Bytes that are read for a stream which takes nothing: its end needs no room.
const LITTLE: usize = 1024;

/// How many bytes to read for a stream at once: `most`, or what its windows and its buffer take now where it is
/// slow. Nothing is kept for it then: whoever waits for bytes must not hold a window that others could use.
pub fn room(backpressure: &Backpressure, stream: &mut SendStream<Bytes>, most: usize) -> usize {
    if !backpressure.is_behind() {
        return most;
    }
    stream.reserve_capacity(PIECE);
    let room = stream.capacity();
    stream.reserve_capacity(0);
    room.clamp(LITTLE, most)
}

/// Room to send on `stream`, in bytes: at least one and at most what is wanted (RFC 9113, section 5.2).
///
/// # Errors
/// The stream's, as `explain` has it, or a broken pipe where the stream sends no more.
pub fn poll_room(
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
            Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room.min(wanted))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(explain(error))),
            Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}
