//! A client's HTTP/1.1 connection: one request after the other, until one side closes it.

use super::h1::{H1, NoRequest};
use super::h2_connection;
use crate::accept::Accepted;
use crate::boxed::boxed;
use crate::decision::plan::ListenerIndex;
use crate::http::request::RequestHead;
use crate::l7::client::{Client, Local};
use crate::l7::connection_info::{ConnectionInfo, keep_up};
use crate::l7::exchange::answer::{self, plain_refusal, presented};
use crate::l7::exchange::entry;
use crate::l7::exchange::forward::{After, Upgraded};
use crate::l7::exchange::record::Record;
use crate::refusal::Refusal;
use crate::shared::{Scarcity, violation};
use crate::tunnel::{Patience, carry};
use crate::worker::{Viewed, Worker};
use std::rc::Rc;

/// Serves one accepted connection of an http listener. An `async` block, because an `async fn` would store
/// the client twice, as an argument and as a local variable, for as long as the connection lives.
pub fn serve(
    worker: Rc<Worker>,
    accepted: Box<Accepted>,
    view: Viewed,
    index: ListenerIndex,
) -> impl Future<Output = ()> {
    let (mut client, mut info) = opened(&worker, accepted, view, index);
    async move {
        if info.agreed.as_ref().is_some_and(|agreed| agreed.is_http2) {
            return Box::pin(h2_connection::serve(&worker, client.stream, None, info)).await;
        }
        let mut first = true;
        while client.keep {
            let read = client.next_request(&worker, info.limits(), first).await;
            if let Err(NoRequest::Http2) = read {
                // The client uses HTTP/2 with prior knowledge; over TLS, ALPN decides.
                let (stream, buffer) = (client.stream, client.buffer);
                return Box::pin(h2_connection::serve(&worker, stream, buffer, info)).await;
            }
            if let Err(no_request) = read {
                Box::pin(refuse(&worker, &mut client, &info, no_request)).await;
                break;
            }
            first = false;
            let view = worker.view();
            if !keep_up(&worker, &view, &mut info) {
                // The listener was removed: its routes no longer exist.
                let gone = "the listener was removed by a reload";
                Box::pin(refuse_as(&worker, &mut client, &info, Refusal::Draining, gone)).await;
                break;
            }
            let scarcity = worker.shared.scarcity();
            if scarcity >= Scarcity::Refuse {
                let why = "the proxy is short of memory or descriptors";
                Box::pin(refuse_as(&worker, &mut client, &info, Refusal::Overloaded, why)).await;
                break;
            }
            let kept = scarcity == Scarcity::None && !worker.shared.is_draining();
            client.keep = client.keep && kept;
            client.limit_upgrade(&info.terms.upgrades);
            let (body_limit, body_rate) = info.body_bounds();
            client.begin(body_limit, body_rate, worker.date());
            // Boxed: an idle connection holds no memory for an exchange.
            let exchange = boxed(|| one_exchange(&worker, &view, &mut client, &info));
            if let Some(upgraded) = exchange.await {
                return Box::pin(tunnel(&worker, &view, client, &info, upgraded)).await;
            }
            client.finish(&worker);
        }
        let unread = !client.is_drained() || client.buffer.is_some();
        if !client.aborted && (unread || !client.keep) {
            Box::pin(client.linger()).await;
        }
        client.finish(&worker);
    }
}

/// The client and its connection's properties.
#[expect(clippy::boxed_local, reason = "the box ends here instead of with the connection")]
fn opened(
    worker: &Rc<Worker>,
    accepted: Box<Accepted>,
    view: Viewed,
    index: ListenerIndex,
) -> (H1, Rc<ConnectionInfo>) {
    let Accepted { stream, origin, clients, .. } = *accepted;
    let mut info = ConnectionInfo::of(worker, &view, index, origin, stream.agreed());
    // The client authorities at the time when the connection was accepted.
    info.clients = clients;
    (H1::new(stream, worker.deadlines.watch(), info.terms.timeouts.clone()), Rc::new(info))
}

async fn one_exchange(
    worker: &Worker,
    view: &Viewed,
    client: &mut H1,
    info: &ConnectionInfo,
) -> Option<Box<(Upgraded, Record)>> {
    let mut record = Record::begin(worker.now());
    if info.is_too_large(client.head()) {
        answer::refuse((worker, view, info), client, Refusal::BodyTooLarge, "", &mut record).await;
        record.finish(worker, view, client, info, (0, 0));
        return None;
    }
    match entry::serve(worker, view, client, info, &mut record).await {
        After::Next => {}
        After::Tunnel(upgraded) => return Some(Box::new((*upgraded, record))),
    }
    record.finish(worker, view, client, info, (0, 0));
    if client.keep && !client.is_drained() {
        client.keep = client.drain().await;
    }
    None
}

/// Sends the refusal of an invalid request, if a response is possible.
async fn refuse(worker: &Worker, client: &mut H1, info: &ConnectionInfo, no_request: NoRequest) {
    client.keep = false;
    let (refusal, why) = match no_request {
        NoRequest::Over | NoRequest::Http2 => return,
        NoRequest::Late => (Refusal::RequestTimeout, "the request head did not arrive in time"),
        NoRequest::Refused(violation) => (violation::refusal(violation), violation.why()),
    };
    refuse_as(worker, client, info, refusal, why).await;
}

async fn refuse_as(
    worker: &Worker,
    client: &mut H1,
    info: &ConnectionInfo,
    refusal: Refusal,
    why: &str,
) {
    info.terms.cells.refusals[refusal].add(1);
    let view = worker.view();
    // After a reload the listener may have another index, or be gone.
    let (lines, body) = match view.generation == info.generation() {
        true => {
            let (place, mut record) = ((worker, &**view, info), Record::begin(worker.now()));
            presented(place, &RequestHead::EMPTY, &mut record, (refusal, why))
        }
        false => plain_refusal(refusal, why),
    };
    let status = refusal.status();
    let answer = Local { status, lines: &lines, body: &body, keep: false };
    if let Err(error) = client.refuse(&answer, worker.date()).await {
        tracing::debug!(%error, "refusal not sent: the client connection failed");
    }
}

/// Relays an upgraded connection until it ends.
async fn tunnel(
    worker: &Worker,
    view: &Viewed,
    client: H1,
    info: &ConnectionInfo,
    upgraded: Box<(Upgraded, Record)>,
) {
    let mut client = client;
    let (Upgraded { connection, counts, meter }, record) = *upgraded;
    let (mut stream, mut buffer, held) = connection.into_stream();
    let patience = Patience {
        idle: std::time::Duration::from_secs(86_400 * 30),
        half_close: info.terms.timeouts.half_close,
        write: std::time::Duration::from_secs(86_400),
    };
    client.stream.keep_alive();
    stream.keep_alive();
    let ends = ((&mut client.stream, &mut client.buffer), (&mut stream, &mut buffer));
    let carried = carry(worker, ends.0, ends.1, &meter, patience).await;
    drop((held, counts));
    record.finish(worker, view, &client, info, (carried.up, carried.down));
}
