//! Compression of a response on its way to the client.
//!
//! [`begin`] decides with `decision::compression` and changes the head, [`Encoded`] is the client's response with an encoder
//! before it.
//!
//! # Invariants
//! * What the cluster has sent reaches the client 40 ms after the cluster became silent, and after 200 ms at the latest.
//! * Only the end of the cluster's body ends the encoded one: the client sees that a body was cut off.

use super::attempt::Attempt;
use crate::decision::compression::{self, Algorithm, Compression};
use crate::decision::units::Timestamp;
use crate::encoder::Encoder;
use crate::http::Framing;
use crate::http::field::Field;
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::l7::client::{Local, Reply, Response, Sent};
use crate::os::clock;
use crate::telemetry::cells::CompressionCells;
use crate::worker::Cells;
use std::io;
use std::time::Duration;

/// The silence of the cluster after which all that was encoded is sent.
const SILENCE: Duration = Duration::from_millis(40);
/// The longest time for which encoded bytes are held back.
const HELD_MAX: Duration = Duration::from_millis(200);
/// Pieces from this size on are followed by a turn of the worker's other exchanges.
const LONG_PIECE: usize = 8 * 1024;

/// The encoding of one response.
pub(super) struct Encoding {
    encoder: Encoder,
    algorithm: Algorithm,
    cells: Cells<CompressionCells>,
}

/// Decides whether a response is compressed, and edits its head: removes fields, and appends others to `lines`. Returns the
/// encoding of the body; `None` if the body stays as it is.
pub(super) fn begin(
    compression: &Compression,
    attempt: &Attempt<'_, '_>,
    request: &RequestHead,
    (head, bytes): (&mut ResponseHead, &[u8]),
    lines: &mut Vec<u8>,
) -> Option<Box<Encoding>> {
    let is_bodiless = head.framing == Framing::None;
    let is_empty = is_bodiless && head.status != 304 && !request.is_head();
    if attempt.is_call || request.upgrade().is_some() || is_empty {
        return None;
    }
    let wishes = compression::Request::of(named(request.fields(), request.bytes()));
    let fields = named(head.fields(), bytes);
    let response = compression::Response::of(head.status, head.stated_length, fields);
    let mut verdict = compression.judge(&wishes, &response);
    let encoding = verdict.coding.filter(|_| !is_bodiless).and_then(|algorithm| {
        let service = &attempt.view.plan.service_of(attempt.class).name;
        let cells = attempt.worker.compression_cells(service);
        let encoder = Encoder::begin(algorithm, head.stated_length, &attempt.worker.encoding);
        match encoder {
            Some(_) => cells.responses[algorithm].add(1),
            None => {
                cells.passed.add(1);
                verdict = verdict.plain();
            }
        }
        encoder.map(|encoder| Box::new(Encoding { encoder, algorithm, cells }))
    });
    lines.extend(verdict.lines(&response, !attempt.response_edits.drops(b"etag")));
    if verdict.coding.is_some() {
        head.stated_length = None;
    }
    if encoding.is_some() {
        head.framing = Framing::Chunked;
    }
    head.hide(bytes, |name| verdict.hides(name));
    encoding
}

/// Names and values of fields.
fn named<'a>(fields: &[Field], bytes: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)))
}

/// A client's response whose body is encoded.
pub(super) struct Encoded<'a, R> {
    client: &'a mut R,
    /// Present until the end of the body: what it holds is free for others while the last bytes are sent.
    encoder: Option<Encoder>,
    algorithm: Algorithm,
    cells: Cells<CompressionCells>,
    /// The time of the first byte that the client may not be able to decode yet.
    held_since: Option<Timestamp>,
}

impl<'a, R: Response> Encoded<'a, R> {
    pub(super) fn new(client: &'a mut R, encoding: Encoding) -> Encoded<'a, R> {
        let Encoding { encoder, algorithm, cells } = encoding;
        Encoded { client, encoder: Some(encoder), algorithm, cells, held_since: None }
    }

    fn encoder(&mut self) -> io::Result<&mut Encoder> {
        self.encoder.as_mut().ok_or(io::ErrorKind::BrokenPipe.into())
    }

    /// Sends what the encoder has written.
    async fn pass(&mut self) -> io::Result<()> {
        let mut encoded = std::mem::take(self.encoder()?.output());
        if encoded.is_empty() {
            return Ok(());
        }
        self.cells.bytes_out[self.algorithm].add(encoded.len() as u64);
        self.client.piece(&encoded).await?;
        encoded.clear();
        *self.encoder()?.output() = encoded;
        Ok(())
    }
}

impl<R: Response> Response for Encoded<'_, R> {
    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> io::Result<()> {
        self.client.interim(head, bytes).await
    }

    fn begin(&mut self, reply: &Reply<'_>) -> Framing {
        self.client.begin(reply)
    }

    async fn piece(&mut self, data: &[u8]) -> io::Result<()> {
        let now = clock::now();
        self.cells.bytes_in[self.algorithm].add(data.len() as u64);
        self.encoder()?.write(data)?;
        self.pass().await?;
        let since = *self.held_since.get_or_insert(now);
        if clock::now().since(since) >= HELD_MAX {
            self.flush_all().await?;
        }
        if data.len() >= LONG_PIECE {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.client.flush().await
    }

    fn flush_due(&self) -> Option<Duration> {
        let held = clock::now().since(self.held_since?);
        Some(HELD_MAX.saturating_sub(held).min(SILENCE))
    }

    async fn flush_all(&mut self) -> io::Result<()> {
        self.encoder()?.flush()?;
        self.held_since = None;
        self.pass().await?;
        self.client.flush().await
    }

    fn capacity(&mut self) -> usize {
        self.client.capacity()
    }

    async fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        self.encoder()?.finish()?;
        self.held_since = None;
        let encoded = std::mem::take(self.encoder()?.output());
        self.encoder = None;
        self.cells.bytes_out[self.algorithm].add(encoded.len() as u64);
        self.client.piece(&encoded).await?;
        self.client.end(trailers).await
    }

    async fn local(&mut self, answer: &Local<'_>) -> io::Result<()> {
        self.client.local(answer).await
    }

    fn sent(&self) -> Sent {
        self.client.sent()
    }

    fn keep_alive(&mut self) {
        self.client.keep_alive();
    }
}
