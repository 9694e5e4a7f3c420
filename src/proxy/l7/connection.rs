//! A client's connection: one request after the other, until one side has had enough.

use super::answer::refusal_text;
use super::client::{Client, Local};
use super::connection_info::{Arrival, keep_up};
use super::exchange::{self, After, Upgraded};
use super::h1::{H1, NoRequest};
use super::h2_connection;
use super::record::Record;
use crate::http::Violation;
use crate::proxy::arrive::Arrived;
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::{Patience, carry};
use crate::proxy::worker::{Viewed, Worker};
use crate::shared::Scarcity;
use std::rc::Rc;

/// Serves one accepted connection of an http listener.
pub async fn serve(worker: Rc<Worker>, arrived: Box<Arrived>, view: Viewed, index: usize) {
    let agreed = arrived.stream.agreed();
    let mut arrival = Arrival::of(&worker, &view, index, arrived.origin, agreed);
    // Whom it let in when the connection came, which may be a while ago.
    arrival.clients = arrived.clients;
    let mut arrival = Rc::new(arrival);
    let stream = arrived.stream;
    drop(view);
    if arrival.agreed.as_ref().is_some_and(|agreed| agreed.is_http2) {
        return Box::pin(h2_connection::serve(&worker, stream, None, arrival)).await;
    }
    let watches = (worker.deadlines.watch(), worker.deadlines.watch());
    let mut client = H1::new(stream, watches, arrival.timeouts.clone());
    let mut first = true;
    while client.keep {
        let read = client.next_request(&worker, arrival.limits(), first).await;
        if let Err(NoRequest::Http2) = read {
            // One that knows beforehand: over TLS that is what ALPN is for.
            let (stream, buffer) = (client.stream, client.buffer);
            return Box::pin(h2_connection::serve(&worker, stream, buffer, arrival)).await;
        }
        if let Err(no_request) = read {
            Box::pin(refuse(&worker, &mut client, &arrival, no_request)).await;
            break;
        }
        first = false;
        let view = worker.view();
        if !keep_up(&worker, &view, &mut arrival) {
            // Its listener is gone: by whose routes it came, nobody may be asked any more.
            let gone = "the listener is gone";
            Box::pin(refuse_as(&worker, &mut client, &arrival, Refusal::Draining, gone)).await;
            break;
        }
        let scarcity = worker.shared.scarcity();
        if scarcity >= Scarcity::Refuse {
            let why = "memory or descriptors are scarce";
            Box::pin(refuse_as(&worker, &mut client, &arrival, Refusal::Overloaded, why)).await;
            break;
        }
        let kept = scarcity == Scarcity::None && !worker.shared.is_draining();
        client.keep = client.keep && kept;
        client.limit_upgrade(&arrival.upgrades);
        let (body_limit, body_rate) = arrival.body_bounds();
        client.begin(body_limit, body_rate, worker.date());
        // Boxed: while a connection is idle, the walk of an exchange takes no memory.
        let exchange = Box::pin(one_exchange(&worker, &view, &mut client, &arrival));
        if let Some((upgraded, record)) = exchange.await {
            return Box::pin(tunnel(&worker, &view, client, &arrival, *upgraded, record)).await;
        }
        client.finish(&worker);
    }
    let unread = !client.is_drained() || client.buffer.is_some();
    if !client.aborted && (unread || !client.keep) {
        Box::pin(client.linger()).await;
    }
    client.finish(&worker);
}

async fn one_exchange(
    worker: &Worker,
    view: &Viewed,
    client: &mut H1,
    arrival: &Arrival,
) -> Option<(Box<Upgraded>, Record)> {
    let mut record = Record::begin(worker.now());
    if arrival.is_too_large(client.head()) {
        super::answer::refuse(view, client, Refusal::BodyTooLarge, "", &mut record).await;
        record.finish(worker, view, client, arrival, (0, 0));
        return None;
    }
    match exchange::serve(worker, view, client, arrival, &mut record).await {
        After::Next => {}
        After::Tunnel(upgraded) => return Some((upgraded, record)),
    }
    record.finish(worker, view, client, arrival, (0, 0));
    if client.keep && !client.is_drained() {
        client.keep = client.drain().await;
    }
    None
}

/// Answers what could not be read as a request, if it deserves an answer.
async fn refuse(worker: &Worker, client: &mut H1, arrival: &Arrival, no_request: NoRequest) {
    client.keep = false;
    let (refusal, why) = match no_request {
        NoRequest::Over | NoRequest::Http2 => return,
        NoRequest::Late => (Refusal::RequestTimeout, "the head took too long"),
        NoRequest::Refused(violation) => (Refusal::from(violation), explain(violation)),
    };
    refuse_as(worker, client, arrival, refusal, why).await;
}

async fn refuse_as(
    worker: &Worker,
    client: &mut H1,
    arrival: &Arrival,
    refusal: Refusal,
    why: &str,
) {
    arrival.cells.refusals[refusal.index()].add(1);
    let (lines, body) = refusal_text(refusal, why, "");
    let status = refusal.tell().0;
    let answer = Local { status, lines: &lines, body: body.as_bytes(), keep: false };
    if let Err(error) = client.refuse(&answer, worker.date()).await {
        tracing::debug!(%error, "a client left before its refusal");
    }
}

fn explain(violation: Violation) -> &'static str {
    match violation {
        Violation::Malformed(why) => why,
        Violation::TargetTooLong => "the target is too long",
        Violation::HeadTooLarge => "the head is too long, or has too many fields",
        Violation::UnknownCoding => "an unknown transfer coding",
        Violation::Expectation => "an unknown expectation",
        Violation::Method => "CONNECT is not served",
    }
}

/// Carries an upgraded connection to its end.
async fn tunnel(
    worker: &Worker,
    view: &Viewed,
    client: H1,
    arrival: &Arrival,
    upgraded: Upgraded,
    record: Record,
) {
    let mut client = client;
    let Upgraded { connection, counts } = upgraded;
    let (mut stream, mut buffer, held) = connection.into_stream();
    let patience = Patience {
        idle: std::time::Duration::from_secs(86_400 * 30),
        half_close: arrival.timeouts.half_close,
        write: std::time::Duration::from_secs(86_400),
    };
    client.stream.keep_alive();
    stream.keep_alive();
    let ends = ((&mut client.stream, &mut client.buffer), (&mut stream, &mut buffer));
    let carried = carry(worker, ends.0, ends.1, patience).await;
    drop((held, counts));
    record.finish(worker, view, &client, arrival, (carried.up, carried.down));
}
