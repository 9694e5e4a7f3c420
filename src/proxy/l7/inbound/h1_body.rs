//! The request body of an HTTP/1 client.

use super::body_rate::{RATE_SLICE, Rate};
use crate::body::{self, Broken, Piece, Rest, Source};
use crate::http::trailers;
use crate::l7::client::RequestBody;
use crate::os::clock;
use std::io;
use std::time::Duration;

/// The remaining part of the request body, and its rate so far.
#[derive(Debug)]
pub(super) struct BodyState {
    pub(super) rest: Rest,
    pub(super) received: u64,
    pub(super) limit: Option<u64>,
    pub(super) rate: Rate,
    pub(super) trailers: Vec<u8>,
}

impl BodyState {
    /// The state without a request.
    pub(super) fn none() -> BodyState {
        BodyState {
            rest: Rest::Done,
            received: 0,
            limit: None,
            rate: Rate::default(),
            trailers: Vec::new(),
        }
    }
}

/// The request's direction of an HTTP/1 connection.
#[derive(Debug)]
pub struct H1Body<'a> {
    pub(super) source: Source<'a>,
    pub(super) state: &'a mut BodyState,
    pub(super) idle: Duration,
}

impl H1Body<'_> {
    fn account(&mut self, piece: Piece) -> Result<Option<usize>, Broken> {
        match piece {
            Piece::End => {
                if let Rest::Chunked(decoder) = &self.state.rest {
                    let fields = decoder.trailer_fields();
                    trailers::write(&mut self.state.trailers, decoder.trailer_bytes(), &fields);
                }
                self.state.rest = Rest::Done;
                Ok(None)
            }
            Piece::Data(count) => {
                self.state.received += count as u64;
                self.state.rate.came(count as u64);
                if self.state.limit.is_some_and(|limit| self.state.received > limit) {
                    return Err(Broken::TooLarge);
                }
                Ok(Some(count))
            }
        }
    }
}

impl RequestBody for H1Body<'_> {
    async fn next(&mut self) -> Result<Option<usize>, Broken> {
        if let Some(piece) = body::next_buffered(&mut self.source, &mut self.state.rest)? {
            return self.account(piece);
        }
        let mut silent = Duration::ZERO;
        loop {
            // The wait is divided into slices, and the rate is checked in between: framing bytes alone are not
            // progress.
            self.state.rate.judge()?;
            let slice = self.idle.saturating_sub(silent).min(RATE_SLICE);
            let before = clock::now();
            let read = self.source.more(slice).await;
            self.state.rate.waited(clock::now().since(before));
            match read {
                Ok(0) => return Err(Broken::Gone),
                Ok(_) => silent = Duration::ZERO,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    silent += slice;
                    if silent >= self.idle {
                        return Err(Broken::Late);
                    }
                }
                Err(_) => return Err(Broken::Gone),
            }
            if let Some(piece) = body::next_buffered(&mut self.source, &mut self.state.rest)? {
                return self.account(piece);
            }
        }
    }

    fn ready(&mut self) -> Result<Option<Option<usize>>, Broken> {
        match body::next_buffered(&mut self.source, &mut self.state.rest)? {
            Some(piece) => self.account(piece).map(Some),
            None => Ok(None),
        }
    }

    fn data(&self) -> &[u8] {
        self.source.data()
    }

    fn used(&mut self, count: usize) {
        self.source.used(count);
    }

    fn read_at_most(&mut self, most: usize) {
        self.source.most = most;
    }

    fn trailers(&self) -> Vec<u8> {
        self.state.trailers.clone()
    }

    async fn gone(&mut self) {
        self.source.gone().await;
    }

    async fn broken(&self) {
        self.source.reader.broken().await;
    }
}
