//! A client's HTTP/2 connection: the h2 crate handles the frames, and each stream is an exchange.
//!
//! Every limit is set, since the defaults of the crate are generous: see the documentation of
//! limits.

use super::h2::{H2, StreamParts};
use super::streams::{self, Account, CONNECTION_WINDOW, STREAM_WINDOW, STREAMS_MAX};
use crate::boxed::boxed;
use crate::buffer::Buffer;
use crate::coalesce::{Coalesced, Outbox, coalesced};
use crate::decision::units::Timestamp;
use crate::http::translate::Tunnel;
use crate::l7::connection_info::{ConnectionInfo, keep_up};
use crate::l7::exchange::forward::After;
use crate::os::stream::Stream;
use crate::ping::unanswered;
use crate::refusal::Refusal;
use crate::shared::Scarcity;
use crate::worker::{Viewed, Worker};
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// The most unsent bytes of a stream.
const SEND_BUFFER: usize = 8 * 1024;
/// The limits of the crate for streams that it has reset itself, in total and at the same time; this file
/// limits their rate.
const OWN_RESETS: usize = 1_000;

/// Serves one connection until one side closes it.
pub async fn serve(
    worker: &Rc<Worker>,
    stream: Stream,
    buffer: Option<Buffer>,
    mut info: Rc<ConnectionInfo>,
) {
    // Calls may be silent for hours: TCP keep-alive detects dead clients.
    stream.keep_alive();
    let watch = worker.deadlines.watch();
    let (stream, outbox) = coalesced(stream, buffer);
    let shaking = outbox.with(builder(&info).handshake(stream));
    let Ok(Ok(mut connection)) = watch.within(info.terms.timeouts.first_byte, shaking).await else {
        return;
    };
    let account = Rc::new(Account::default());
    let mut life = Life::begin(worker.about_now());
    watch.set_idle(true);
    let ping = connection.ping_pong();
    let mut silent = pin!(unanswered(ping, || account.active() > 0));
    loop {
        let next = tokio::select! {
            // Received frames first: they may contain the response to a ping.
            biased;
            next = watch.within(life.look(&info), outbox.with(connection.accept())) => next,
            () = &mut silent => {
                tracing::debug!("HTTP/2 client connection closed: PING not acknowledged");
                return;
            }
        };
        let now = worker.about_now();
        account.forgive(now.since(life.judged));
        life.judged = now;
        match next {
            Ok(None) => return,
            Ok(Some(Err(error))) => return count_failure(worker, &info, &error),
            Ok(Some(Ok((request, respond)))) => {
                life.idle_since = now;
                let view = worker.view();
                if !keep_up(worker, &view, &mut info) {
                    // The request was not processed, so the client may send it elsewhere.
                    turn_away(respond, &mut connection);
                    continue;
                }
                begin(worker, (&view, &info), &account, request, respond);
            }
            Err(_) if account.active() > 0 => life.idle_since = now,
            Err(_) if life.has_left(now, connection.has_streams(), &info) => return,
            Err(_) => {}
        }
        if account.is_abused() {
            // Requests that are cancelled at once cost the proxy more than the client.
            info.blame(worker);
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            drain(connection, &outbox).await;
            return;
        }
        let scarce = worker.shared.scarcity() >= Scarcity::NoKeepAlive;
        account.note_scarce(scarce);
        let idle = account.active() == 0 && now.since(life.idle_since) >= info.terms.timeouts.idle;
        if life.leaving.is_none() && (worker.shared.is_draining() || scarce || idle) {
            // Requests that arrive before the client has received GOAWAY are still served.
            connection.graceful_shutdown();
            watch.set_idle(false);
            life.leaving = Some(now);
        }
    }
}

/// The times that decide when a connection ends.
struct Life {
    /// The last check of the account.
    judged: Timestamp,
    /// The last time at which a request arrived or an exchange was in flight.
    idle_since: Timestamp,
    /// GOAWAY was sent.
    leaving: Option<Timestamp>,
}

impl Life {
    fn begin(now: Timestamp) -> Life {
        Life { judged: now, idle_since: now, leaving: None }
    }

    /// The longest wait for the next frame before the state of the connection is checked again.
    fn look(&self, info: &ConnectionInfo) -> Duration {
        match self.leaving {
            Some(_) => LAST_FRAMES,
            None => LOOK.min(info.terms.timeouts.idle),
        }
    }

    /// Whether a connection without exchanges may close after its GOAWAY: all bytes are sent, or the client has read
    /// nothing within the write timeout.
    fn has_left(&self, now: Timestamp, has_streams: bool, info: &ConnectionInfo) -> bool {
        let stalled =
            |since: Timestamp| now.since(since.max(self.idle_since)) >= info.terms.timeouts.write;
        self.leaving.is_some_and(|since| !has_streams || stalled(since))
    }
}

/// Counts the failure of a connection if the client caused it.
fn count_failure(worker: &Worker, info: &ConnectionInfo, error: &h2::Error) {
    tracing::debug!(%error, "HTTP/2 client connection failed");
    match blame(error) {
        Some(Refusal::RateLimited) => info.blame(worker),
        Some(refusal) => info.terms.cells.refusals[refusal].add(1),
        None => {}
    }
}

/// The refusal for a connection that ended with this error; `None` if the proxy did not end the connection.
fn blame(error: &h2::Error) -> Option<Refusal> {
    match error.reason().filter(|_| error.is_library())? {
        Reason::ENHANCE_YOUR_CALM => Some(Refusal::RateLimited),
        _ => Some(Refusal::BadRequest),
    }
}

fn turn_away(mut respond: SendResponse<Bytes>, connection: &mut Connection<Coalesced, Bytes>) {
    respond.send_reset(Reason::REFUSED_STREAM);
    connection.graceful_shutdown();
}

/// The interval between two checks for changes on a silent connection.
const LOOK: Duration = Duration::from_secs(5);
/// The time to send the last frames.
const LAST_FRAMES: Duration = Duration::from_secs(1);

async fn drain(mut connection: Connection<Coalesced, Bytes>, outbox: &Outbox) {
    let end = outbox.with(std::future::poll_fn(|context| connection.poll_closed(context)));
    if tokio::time::timeout(LAST_FRAMES, end).await.is_err() {
        tracing::trace!("last HTTP/2 frames not sent: the client connection failed or stalled");
    }
}

fn builder(info: &ConnectionInfo) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(info.limits().head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(OWN_RESETS))
        .max_concurrent_reset_streams(OWN_RESETS)
        .enable_connect_protocol()
        .reset_stream_duration(Duration::from_secs(1));
    builder
}

/// Starts the exchange of a stream in its own task.
fn begin(
    worker: &Rc<Worker>,
    (view, info): (&Viewed, &Rc<ConnectionInfo>),
    account: &Rc<Account>,
    request: ::http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (parts, stream) = request.into_parts();
    let mut key = [0; 24];
    let tunnel = parts.extensions.get::<h2::ext::Protocol>().map(|protocol| Tunnel {
        protocol: protocol.as_str(),
        key: websocket_key(worker, &mut key),
    });
    let ends = stream.is_end_stream();
    let Some(parsed) = streams::request(worker, info, account, &parts, ends, tunnel) else {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    };
    // Boxed, because spawning moves the future.
    let client = Box::new(H2::new(StreamParts {
        account: account.clone(),
        head: parsed.head,
        stream,
        respond,
        watches: (worker.deadlines.watch(), worker.deadlines.watch()),
        timeouts: info.terms.timeouts.clone(),
        limit: parsed.limit,
        rate_min: parsed.rate_min,
        date: worker.date(),
        tunnel: tunnel.is_some(),
    }));
    let refusal = parsed.refusal;
    // The view in which this index is the listener: another view may have the listener at another index.
    let (worker, view, info) = (worker.clone(), view.clone(), info.clone());
    let (account, active) = (account.clone(), account.enter());
    tokio::task::spawn_local(async move {
        let _active = active;
        // Boxed, because spawning moves the future.
        let client = boxed(|| one(&worker, &view, &info, client, refusal)).await;
        if client.broken.get() {
            account.broke_off();
        }
        worker.give_back(client.into_head());
    });
}

/// One exchange.
async fn one(
    worker: &Worker,
    view: &Viewed,
    info: &ConnectionInfo,
    mut client: Box<H2>,
    refused: Option<streams::Refused>,
) -> Box<H2> {
    let (after, record) = streams::serve(worker, view, info, &mut *client, refused).await;
    let carried = match after {
        After::Next => (0, 0),
        After::Tunnel(upgraded) => {
            let (mut stream, mut buffer, held) = upgraded.connection.into_stream();
            stream.keep_alive();
            let watch = worker.deadlines.watch();
            let meter = &upgraded.meter;
            let carried = Box::pin(client.carry(&mut stream, &mut buffer, &watch, meter)).await;
            drop((held, upgraded.counts));
            // The bytes to the client are already counted when they are sent.
            carried
        }
    };
    record.finish(worker, view, &*client, info, carried);
    client
}

/// A `Sec-WebSocket-Key` (RFC 6455 §4.1): sixteen random bytes in base 64.
fn websocket_key<'a>(worker: &Worker, out: &'a mut [u8; 24]) -> &'a str {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut dice = worker.dice.borrow_mut();
    let (high, low) = (dice.bits(), dice.bits());
    let bits = u128::from(high) << 64 | u128::from(low);
    for (position, digit) in out[..21].iter_mut().enumerate() {
        *digit = DIGITS[(bits >> (122 - 6 * position) & 63) as usize];
    }
    out[21] = DIGITS[((bits & 3) << 4) as usize];
    out[22..].copy_from_slice(b"==");
    std::str::from_utf8(out).unwrap_or_default()
}
