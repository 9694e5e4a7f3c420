//! A client's HTTP/3 connection: the h3 crate handles the frames, and each request is an exchange.

use super::h3::{First, H3, Receiver, StreamParts, first};
use super::streams::{self, Account, Active, StreamRequest};
use crate::l7::connection_info::{ConnectionInfo, keep_up};
use crate::refusal::Refusal;
use crate::shared::Scarcity;
use crate::worker::{Viewed, Worker};
use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{Connection, RequestResolver};
use std::rc::Rc;
use std::time::Duration;

type H3Connection = Connection<h3_quinn::Connection, Bytes>;
type Resolver = RequestResolver<h3_quinn::Connection, Bytes>;

/// The interval between two checks for changes on a silent connection.
const LOOK: Duration = Duration::from_millis(500);
/// The limit on bytes that a client may send without effect. The h3 crate buffers every frame except DATA until it is
/// complete, whatever its length.
const HOARD_MAX: u64 = 8 * 1024 * 1024;
/// The time for sent bytes to arrive before the connection is closed.
const DELIVERY: Duration = Duration::from_secs(3);
/// The time to send the last frames.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// Serves a connection until one side closes it.
pub async fn serve(worker: &Rc<Worker>, quic: &quinn::Connection, mut info: Rc<ConnectionInfo>) {
    let watch = worker.deadlines.watch();
    let limit = info.limits().head_bytes as u64;
    let mut builder = h3::server::builder();
    builder.max_field_section_size(limit).send_grease(false);
    let building = builder.build(h3_quinn::Connection::new(quic.clone()));
    let Ok(Ok(mut connection)) = watch.within(info.terms.timeouts.first_byte, building).await
    else {
        return;
    };
    let account = Rc::new(Account::default());
    let (mut judged, mut idle_since) = (worker.about_now(), worker.about_now());
    let mut leaving = false;
    watch.set_idle(true);
    loop {
        let look = if leaving { LAST_FRAMES } else { LOOK.min(info.terms.timeouts.idle) };
        let next = watch.within(look, connection.accept()).await;
        let now = worker.about_now();
        account.forgive(now.since(judged));
        judged = now;
        match next {
            // GOAWAY excluded this request: the client may send it elsewhere.
            Ok(Ok(Some(resolver))) if leaving => drop(resolver),
            Ok(Ok(Some(resolver))) => {
                idle_since = now;
                let view = worker.view();
                if !keep_up(worker, &view, &mut info) {
                    // The request was not processed: the client may send it elsewhere.
                    drop(resolver);
                    return end(connection, &account, quic).await;
                }
                begin(worker, (&view, &info), &account, quic, resolver);
            }
            Ok(Ok(None)) => return end(connection, &account, quic).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, "HTTP/3 client connection failed");
                return;
            }
            Err(_) if leaving && account.active() == 0 => {
                if now.since(idle_since) < DELIVERY.min(info.terms.timeouts.idle) {
                    delivered(quic).await;
                }
                return;
            }
            Err(_) if account.active() > 0 => idle_since = now,
            Err(_) => {}
        }
        let hoarded = quic.stats().udp_rx.bytes.saturating_sub(account.explained());
        if account.is_abused() || hoarded > HOARD_MAX {
            // Requests that are cancelled at once cost the proxy more than the client.
            info.blame(worker);
            quic.close(EXCESSIVE_LOAD, b"");
            return;
        }
        let scarce = worker.shared.scarcity() >= Scarcity::NoKeepAlive;
        account.note_scarce(scarce);
        let idle = account.active() == 0 && now.since(idle_since) >= info.terms.timeouts.idle;
        if !leaving && (worker.shared.is_draining() || scarce || idle) {
            say_goodbye(&mut connection).await;
            watch.set_idle(false);
            leaving = true;
        }
    }
}

/// H3_EXCESSIVE_LOAD (RFC 9114 §8.1).
const EXCESSIVE_LOAD: quinn::VarInt = quinn::VarInt::from_u32(0x107);

/// Sends GOAWAY. Requests that arrive before the client has received GOAWAY are refused as not processed.
async fn say_goodbye(connection: &mut H3Connection) {
    let sent = tokio::time::timeout(LAST_FRAMES, connection.shutdown(1)).await;
    if !matches!(sent, Ok(Ok(()))) {
        tracing::debug!("HTTP/3 GOAWAY not sent");
    }
}

/// Waits for the exchanges in flight: dropping the connection would end them.
async fn end(mut connection: H3Connection, account: &Account, quic: &quinn::Connection) {
    say_goodbye(&mut connection).await;
    while account.active() > 0 && quic.close_reason().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    delivered(quic).await;
}

/// Gives sent bytes time to arrive, because closing discards them; a client that has received all closes first.
async fn delivered(quic: &quinn::Connection) {
    if tokio::time::timeout(DELIVERY, quic.closed()).await.is_err() {
        tracing::trace!("HTTP/3 connection closed: the client did not close in time");
    }
}

/// Starts the exchange of a request in its own task.
fn begin(
    worker: &Rc<Worker>,
    (view, info): (&Viewed, &Rc<ConnectionInfo>),
    account: &Rc<Account>,
    quic: &quinn::Connection,
    resolver: Resolver,
) {
    let (worker, view, info) = (worker.clone(), view.clone(), info.clone());
    let (account, active, quic) = (account.clone(), account.enter(), quic.clone());
    tokio::task::spawn_local(async move {
        let reading = Box::pin(read(&worker, &info, &account, &quic, resolver));
        match reading.await {
            Ok((client, refusal)) => {
                one(&worker, &view, &info, (client, refusal), (account, active)).await;
            }
            Err(Some(refusal)) => {
                info.terms.cells.refusals[refusal].add(1);
                account.broke_off();
            }
            Err(None) => {}
        }
    });
}

async fn one(
    worker: &Worker,
    view: &Viewed,
    info: &ConnectionInfo,
    (mut client, refusal): (H3, Option<streams::Refused>),
    (account, _active): (Rc<Account>, Active),
) {
    let (_, record) = streams::serve(worker, view, info, &mut client, refusal).await;
    record.finish(worker, view, &client, info, (0, 0));
    if client.is_broken() {
        account.broke_off();
    }
    worker.give_back(client.into_head());
}

/// Reads a request head within its timeout. `Err(None)`: the refusal was counted already.
async fn read(
    worker: &Worker,
    info: &ConnectionInfo,
    account: &Rc<Account>,
    quic: &quinn::Connection,
    resolver: Resolver,
) -> Result<(H3, Option<streams::Refused>), Option<Refusal>> {
    let resolving = tokio::time::timeout(info.terms.timeouts.head, resolver.resolve_request());
    let (request, stream) = match resolving.await {
        Ok(Ok(resolved)) => resolved,
        // The crate has answered it, and has no details.
        Ok(Err(StreamError::HeaderTooBig { .. })) => return Err(Some(Refusal::HeadersTooLarge)),
        Ok(Err(_)) => return Err(Some(Refusal::BadRequest)),
        Err(_) => return Err(Some(Refusal::RequestTimeout)),
    };
    let (parts, ()) = request.into_parts();
    let (mut sender, mut receiver): (_, Receiver) = stream.split();
    // The first piece, or the end, shows whether a body follows.
    let waits =
        [http::Method::GET, http::Method::HEAD, http::Method::DELETE, http::Method::OPTIONS];
    let span =
        if waits.contains(&parts.method) { info.terms.timeouts.head } else { Duration::ZERO };
    let first = first(&mut receiver, span).await;
    let ends = matches!(first, First::End);
    let parsed = streams::request(worker, info, account, &parts, ends, None);
    let Some(StreamRequest { head, refusal, limit, rate_min }) = parsed else {
        sender.stop_stream(Code::H3_MESSAGE_ERROR);
        // Dropping the receiver asks the client to stop; the crate's own method panics during a read.
        return Err(None);
    };
    account.explain(info.limits().head_bytes as u64);
    let client = H3::new(StreamParts {
        account: account.clone(),
        head,
        receiver,
        first,
        sender,
        quic: quic.clone(),
        watches: (worker.deadlines.watch(), worker.deadlines.watch()),
        timeouts: info.terms.timeouts.clone(),
        limit,
        rate_min,
        date: worker.date(),
    });
    Ok((client, refusal))
}
