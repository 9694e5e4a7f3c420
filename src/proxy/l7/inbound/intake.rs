//! A request body that arrives in pieces, over HTTP/2 and HTTP/3: the current piece, and the limits of the whole
//! body.

use super::body_rate::Rate;
use crate::body::Broken;
use crate::http::{Underscores, Violation, trailers, translate};
use bytes::{Buf, Bytes};

/// The received part of a body, and its limits.
#[derive(Debug)]
pub struct Intake {
    /// The current piece.
    chunk: Bytes,
    trailers: Vec<u8>,
    received: u64,
    /// The value of `content-length`, if the protocol's crate does not check it.
    length: Option<u64>,
    limit: Option<u64>,
    /// The minimum rate of the client.
    pub rate: Rate,
}

impl Intake {
    /// A body of at most `limit` bytes, with a minimum rate of `rate_min` bytes a second; `chunk` arrived with its
    /// head.
    #[must_use]
    pub fn new(chunk: Bytes, length: Option<u64>, limit: Option<u64>, rate_min: u64) -> Intake {
        let rate = Rate::of(rate_min);
        Intake { chunk, trailers: Vec::new(), received: 0, length, limit, rate }
    }

    /// Makes `chunk` the current piece, and counts it.
    ///
    /// # Errors
    /// [`Broken`] when the body is longer than its `content-length` or than the limit.
    pub fn take(&mut self, chunk: Bytes) -> Result<usize, Broken> {
        self.chunk = chunk;
        self.count()
    }

    /// Counts the current piece.
    ///
    /// # Errors
    /// As [`Intake::take`].
    pub fn count(&mut self) -> Result<usize, Broken> {
        let count = self.chunk.len();
        self.received += count as u64;
        self.rate.came(count as u64);
        let over = |bound: Option<u64>| bound.is_some_and(|bound| self.received > bound);
        match (over(self.length), over(self.limit)) {
            (true, _) => Err(wrong_length()),
            (false, true) => Err(Broken::TooLarge),
            (false, false) => Ok(count),
        }
    }

    /// Keeps the trailers that may be forwarded.
    ///
    /// # Errors
    /// [`Broken`] for malformed fields.
    pub fn keep_trailers(&mut self, fields: Option<::http::HeaderMap>) -> Result<(), Broken> {
        let lines = translate::trailer_lines(&fields.unwrap_or_default());
        let found = trailers::read(&lines, Underscores::Refuse).map_err(Broken::Malformed)?;
        trailers::write(&mut self.trailers, &lines, &found);
        Ok(())
    }

    /// Checks the received length against `content-length`.
    ///
    /// # Errors
    /// [`Broken`] when they differ.
    pub fn whole(&self) -> Result<(), Broken> {
        match self.length.is_none_or(|length| length == self.received) {
            true => Ok(()),
            false => Err(wrong_length()),
        }
    }

    /// The unused part of the current piece.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.chunk
    }

    /// Marks `count` bytes of the current piece as used.
    pub fn used(&mut self, count: usize) {
        self.chunk.advance(count.min(self.chunk.len()));
    }

    /// The trailers, as complete lines.
    #[must_use]
    pub fn trailers(&self) -> Vec<u8> {
        self.trailers.clone()
    }

    /// Bytes so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }
}

fn wrong_length() -> Broken {
    Broken::Malformed(Violation::Malformed("the length of the body differs from content-length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_it_says_and_no_longer_than_it_may_be() {
        let take = |length, limit, pieces: &[usize]| {
            let mut intake = Intake::new(Bytes::new(), length, limit, 0);
            for piece in pieces {
                intake.take(Bytes::from(vec![0; *piece]))?;
            }
            intake.whole()
        };
        assert!(matches!(take(None, None, &[9]), Ok(())));
        assert!(matches!(take(Some(9), Some(9), &[4, 5]), Ok(())));
        assert!(matches!(take(None, Some(8), &[4, 5]), Err(Broken::TooLarge)));
        assert!(matches!(take(Some(8), None, &[4, 5]), Err(Broken::Malformed(_))));
        assert!(matches!(take(Some(10), None, &[4, 5]), Err(Broken::Malformed(_))));
    }
}
