//! Encoders of response bodies: zstd, br and gzip by async-compression.
//!
//! An encoder writes into memory, so that nothing of it ever waits; the exchange sends what it has written. Encoding is work
//! of the worker that serves the exchange. Two things bound it: an exchange encodes one piece and then lets others run, and
//! the encoders of a worker may hold [`BYTES_MAX`] together. While a worker has more to encode than time for it, its
//! exchanges take longer and more of them are open at once, until the bound is reached: further responses pass plain, which
//! takes the load off the worker.
//!
//! # Units
//! Sizes are bytes. What an encoder holds is an upper estimate for its parameters, and not measured.

use crate::decision::compression::Algorithm;
use async_compression::Level;
use async_compression::brotli::EncoderParams;
use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use async_compression::zstd::CParameter;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::AsyncWrite;

/// The bytes that the encoders of one worker hold together, at most.
pub const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The levels: those at which encoding costs little more than without a search.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: i32 = 3;
const GZIP_LEVEL: i32 = 4;

/// The window, as a power of two: larger ones would gain little for the usual response, and cost memory.
const WINDOW_LOG_MAX: u32 = 17;
/// The least window of both formats.
const WINDOW_LOG_MIN: u32 = 10;

/// The bytes in flight in the encoders of one worker.
#[derive(Clone, Debug, Default)]
pub struct BytesInFlight(Rc<Cell<u64>>);

impl BytesInFlight {
    /// Adds `bytes` until the share is dropped; `None` beyond `most`.
    fn reserve(&self, bytes: u64, most: u64) -> Option<Share> {
        let all = self.0.get() + bytes;
        (all <= most).then(|| {
            self.0.set(all);
            Share { of: self.clone(), bytes }
        })
    }
}

/// What one encoder holds.
#[derive(Debug)]
struct Share {
    of: BytesInFlight,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.set(self.of.0.get() - self.bytes);
    }
}

/// The window for a body: the whole body, if its length is known and small.
fn window_log(length: Option<u64>) -> u32 {
    let (least, most) = (1 << WINDOW_LOG_MIN, 1 << WINDOW_LOG_MAX);
    length.map_or(most, |length| length.clamp(least, most)).next_power_of_two().ilog2()
}

/// What an encoder holds: tables of a fixed size, and some that grow with its window.
fn held(algorithm: Algorithm, length: Option<u64>) -> u64 {
    let window = 1_u64 << window_log(length);
    match algorithm {
        Algorithm::Zstd => 64 * 1024 + 8 * window,
        Algorithm::Brotli => 384 * 1024 + 4 * window,
        Algorithm::Gzip => 288 * 1024,
    }
}

/// The state of a coding: kilobytes, which the exchanges without an encoder must not make room for.
enum Coder {
    Zstd(Box<ZstdEncoder<Vec<u8>>>),
    Brotli(Box<BrotliEncoder<Vec<u8>>>),
    Gzip(Box<GzipEncoder<Vec<u8>>>),
}

/// The encoder of one body.
pub struct Encoder {
    coder: Coder,
    /// Held as long as the encoder.
    _share: Share,
}

impl Encoder {
    /// An encoder for a body of this length, if it is known. `None` beyond the worker's bound.
    #[must_use]
    pub fn begin(
        algorithm: Algorithm,
        length: Option<u64>,
        in_flight: &BytesInFlight,
    ) -> Option<Encoder> {
        let share = in_flight.reserve(held(algorithm, length), BYTES_MAX)?;
        let window = window_log(length);
        let coder = match algorithm {
            Algorithm::Zstd => {
                // Zstd itself makes the tables smaller where the window is.
                let params = [
                    CParameter::window_log(window),
                    CParameter::hash_log(15),
                    CParameter::chain_log(14),
                ];
                let level = Level::Precise(ZSTD_LEVEL);
                let coder = ZstdEncoder::with_quality_and_params(Vec::new(), level, &params);
                Coder::Zstd(Box::new(coder))
            }
            Algorithm::Brotli => {
                let params = EncoderParams::default().quality(Level::Precise(BROTLI_LEVEL));
                let params = params.window_size(i32::try_from(window).unwrap_or(i32::MAX));
                let hint = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
                let coder = BrotliEncoder::with_params(Vec::new(), params.size_hint(hint));
                Coder::Brotli(Box::new(coder))
            }
            Algorithm::Gzip => {
                let coder = GzipEncoder::with_quality(Vec::new(), Level::Precise(GZIP_LEVEL));
                Coder::Gzip(Box::new(coder))
            }
        };
        Some(Encoder { coder, _share: share })
    }

    /// Encodes a piece of the body.
    ///
    /// # Errors
    /// When the encoder fails, which no input makes it do.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut rest = piece;
        while !rest.is_empty() {
            let count = self.at_once(|coder, context| coder.poll_write(context, rest))?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends a block, so that a client can decode all that was written so far.
    ///
    /// # Errors
    /// As for [`write`](Encoder::write).
    pub fn flush(&mut self) -> io::Result<()> {
        self.at_once(|coder, context| coder.poll_flush(context))
    }

    /// Ends the body.
    ///
    /// # Errors
    /// As for [`write`](Encoder::write).
    pub fn finish(&mut self) -> io::Result<()> {
        self.at_once(|coder, context| coder.poll_shutdown(context))
    }

    /// The encoded bytes that were not taken yet.
    pub fn output(&mut self) -> &mut Vec<u8> {
        match &mut self.coder {
            Coder::Zstd(coder) => coder.get_mut(),
            Coder::Brotli(coder) => coder.get_mut(),
            Coder::Gzip(coder) => coder.get_mut(),
        }
    }

    /// A step of the encoder. Its output is memory: it is never pending.
    fn at_once<T>(
        &mut self,
        step: impl FnOnce(Pin<&mut (dyn AsyncWrite + Unpin)>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        let coder: &mut (dyn AsyncWrite + Unpin) = match &mut self.coder {
            Coder::Zstd(coder) => &mut **coder,
            Coder::Brotli(coder) => &mut **coder,
            Coder::Gzip(coder) => &mut **coder,
        };
        match step(Pin::new(coder), &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::write::{BrotliDecoder, GzipDecoder, ZstdDecoder};
    use tokio::io::AsyncWriteExt;

    /// Decodes what a client has so far; `whole` demands a proper end.
    async fn decoded(algorithm: Algorithm, bytes: &[u8], whole: bool) -> Option<Vec<u8>> {
        macro_rules! decode {
            ($decoder:ident) => {{
                let mut decoder = $decoder::new(Vec::new());
                decoder.write_all(bytes).await.ok()?;
                match whole {
                    true => decoder.shutdown().await.ok()?,
                    false => decoder.flush().await.ok()?,
                }
                decoder.into_inner()
            }};
        }
        Some(match algorithm {
            Algorithm::Zstd => decode!(ZstdDecoder),
            Algorithm::Brotli => decode!(BrotliDecoder),
            Algorithm::Gzip => decode!(GzipDecoder),
        })
    }

    fn text(length: usize) -> Vec<u8> {
        let line =
            |number: usize| format!("line {} of {number}\n", number * 7919 % 1000).into_bytes();
        (0..).flat_map(line).take(length).collect()
    }

    #[tokio::test]
    async fn every_coding_is_decoded_to_what_was_written() {
        for algorithm in Algorithm::ALL {
            for (length, known) in [
                (0, true),
                (1, true),
                (1500, true),
                (1500, false),
                (700_000, true),
                (700_000, false),
            ] {
                let (all, body) = (BytesInFlight::default(), text(length));
                let known = known.then_some(length as u64);
                let mut encoder = Encoder::begin(*algorithm, known, &all).unwrap();
                let mut out = Vec::new();
                for piece in body.chunks(10_000) {
                    encoder.write(piece).unwrap();
                    out.append(encoder.output());
                }
                // Without its end it is no whole body.
                if length > 0 {
                    assert_eq!(decoded(*algorithm, &out, true).await, None, "{algorithm:?}");
                }
                encoder.finish().unwrap();
                out.append(encoder.output());
                assert_eq!(decoded(*algorithm, &out, true).await, Some(body), "{algorithm:?}");
                assert!(length < 1500 || out.len() < length / 2, "{algorithm:?} {}", out.len());
            }
        }
    }

    #[tokio::test]
    async fn what_was_flushed_can_be_decoded() {
        for algorithm in Algorithm::ALL {
            let mut encoder = Encoder::begin(*algorithm, None, &BytesInFlight::default()).unwrap();
            let (mut out, mut written) = (Vec::new(), Vec::new());
            for part in ["first", "second", "", "third"] {
                encoder.write(part.as_bytes()).unwrap();
                written.extend_from_slice(part.as_bytes());
                encoder.flush().unwrap();
                out.append(encoder.output());
                let known = decoded(*algorithm, &out, false).await;
                assert_eq!(known.as_ref(), Some(&written), "{algorithm:?}");
            }
        }
    }

    #[test]
    fn encoders_beyond_the_bound_are_refused_until_others_end() {
        for algorithm in Algorithm::ALL {
            let all = BytesInFlight::default();
            let begin = || Encoder::begin(*algorithm, None, &all);
            let mut open: Vec<Encoder> = std::iter::from_fn(begin).take(1000).collect();
            let most = BYTES_MAX / held(*algorithm, None);
            assert_eq!(open.len() as u64, most, "{algorithm:?}");
            assert!(begin().is_none());
            open.pop();
            open.push(begin().unwrap());
            open.clear();
            assert_eq!(all.0.get(), 0);
        }
    }

    #[test]
    fn short_bodies_hold_less() {
        assert_eq!([None, Some(0), Some(1024), Some(1025)].map(window_log), [17, 10, 10, 11]);
        assert_eq!([Some(1 << 17), Some(u64::MAX)].map(window_log), [17, 17]);
        assert!(held(Algorithm::Zstd, Some(4096)) < held(Algorithm::Zstd, None) / 8);
    }
}
