//! The request body of one stream of HTTP/2 or HTTP/3: it arrives in pieces, with a deadline and a minimum rate.

use super::body_rate::RATE_SLICE;
use super::intake::Intake;
use crate::body::Broken;
use crate::deadline::Watch;
use crate::l7::client::RequestBody;
use crate::os::clock;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The request's direction of one stream.
#[derive(Debug)]
pub struct StreamBody<'a, P> {
    /// The part that depends on the protocol.
    pub pieces: P,
    /// The deadline of waits.
    pub watch: &'a Watch,
    /// The timeout without a byte.
    pub idle: Duration,
}

/// The part of a request body that depends on the protocol.
#[expect(async_fn_in_trait, reason = "workers are single-threaded: no bound on Send is wanted")]
pub trait Pieces {
    /// The next piece, or the end.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<usize>, Broken>>;
    /// The received part of the body.
    fn intake(&self) -> &Intake;
    /// The received part of the body.
    fn intake_mut(&mut self) -> &mut Intake;
    /// Opens the flow-control window for as many bytes as were used.
    fn open_window(&mut self, count: usize);
    /// Waits until the client has reset the stream, or the connection has ended.
    async fn reset(&self);
}

impl<P: Pieces> RequestBody for StreamBody<'_, P> {
    async fn next(&mut self) -> Result<Option<usize>, Broken> {
        let mut silent = Duration::ZERO;
        loop {
            self.pieces.intake_mut().rate.judge()?;
            let slice = self.idle.saturating_sub(silent).min(RATE_SLICE);
            let before = clock::now();
            let piece = poll_fn(|context| self.pieces.poll_next(context));
            let read = self.watch.within(slice, piece).await;
            self.pieces.intake_mut().rate.waited(clock::now().since(before));
            match read {
                Ok(piece) => return piece,
                Err(_) => silent += slice,
            }
            if silent >= self.idle {
                return Err(Broken::Late);
            }
        }
    }

    fn ready(&mut self) -> Result<Option<Option<usize>>, Broken> {
        // The waker is not used: if there is no piece, the caller waits with `next`, which registers a waker.
        match self.pieces.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(piece) => piece.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn data(&self) -> &[u8] {
        self.pieces.intake().data()
    }

    fn used(&mut self, count: usize) {
        self.pieces.intake_mut().used(count);
        self.pieces.open_window(count);
    }

    fn trailers(&self) -> Vec<u8> {
        self.pieces.intake().trailers()
    }

    async fn gone(&mut self) {
        self.pieces.reset().await;
    }

    async fn broken(&self) {
        self.pieces.reset().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadlines;
    use bytes::Bytes;
    use std::rc::Rc;

    /// A body whose pieces have all arrived, and the bytes by which its window was opened.
    struct Ready(Vec<&'static [u8]>, Intake, usize);

    impl Pieces for Ready {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<usize>, Broken>> {
            let piece = self.0.pop().map(|piece| self.1.take(Bytes::from_static(piece)));
            Poll::Ready(piece.transpose())
        }

        fn intake(&self) -> &Intake {
            &self.1
        }

        fn intake_mut(&mut self) -> &mut Intake {
            &mut self.1
        }

        fn open_window(&mut self, count: usize) {
            self.2 += count;
        }

        async fn reset(&self) {}
    }

    fn ready() -> Ready {
        Ready(vec![b"ghi", b"ef", b"d"], Intake::new(Bytes::new(), None, None, 512), 0)
    }

    #[tokio::test]
    async fn a_rate_check_loses_no_data() {
        let watch = Rc::new(Deadlines::default()).watch();
        let mut body = StreamBody { pieces: ready(), watch: &watch, idle: Duration::from_secs(1) };
        assert!(matches!(body.next().await, Ok(Some(1))));
        body.pieces.1.rate.waited(Duration::from_secs(11));
        assert!(matches!(body.next().await, Err(Broken::Late)));
        // After the error, a further read returns the rest of the body.
        assert!(matches!(body.next().await, Ok(Some(2))));
        assert!(matches!(body.next().await, Ok(Some(3))));
        assert!(matches!(body.next().await, Ok(None)));
    }

    #[tokio::test]
    async fn used_bytes_leave_the_piece_and_open_the_window() {
        let watch = Rc::new(Deadlines::default()).watch();
        let mut body = StreamBody { pieces: ready(), watch: &watch, idle: Duration::from_secs(1) };
        assert!(matches!(body.ready(), Ok(Some(Some(1)))));
        assert!(matches!(body.ready(), Ok(Some(Some(2)))));

        body.used(1);

        assert_eq!((body.data(), body.pieces.2), (&b"f"[..], 1));
    }
}
