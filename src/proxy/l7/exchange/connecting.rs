//! Obtains an endpoint and a connection for an exchange: at once if both are available, else after a wait in a queue.
//!
//! The client is watched during the wait: a client that leaves gives up its turn. The wait does not count towards the
//! connect timeout.

use super::context::{Bound, Exchange, Walk};
use super::failure::Failure;
use super::record::Record;
use super::upload::LEAVING;
use crate::decision::assess::Event;
use crate::decision::health::Cause;
use crate::decision::plan::{ClassIndex, ClusterIndex, QUEUE_MAX, SendProxy};
use crate::decision::retry::Kind;
use crate::l7::client::{Client, RequestBody};
use crate::os::proxy_header::Origin;
use crate::refusal::Refusal;
use crate::selection::{Selection, select};
use crate::shared::{Held, View};
use crate::tls::client::Speaks;
use crate::upstream::connect::{
    Available, NoConnection, UpstreamConnection, Wanted, connection, idle_connection, patience,
    wait_for_connection,
};
use crate::worker::Worker;
use std::future::Future;
use std::time::Duration;

impl Exchange<'_, '_> {
    /// An idle connection: most exchanges use one, and need no future to connect.
    pub(super) fn idle_connection(
        &self,
        way: (Option<Origin>, bool),
        walk: &mut Walk,
        record: &mut Record,
        selection: &Selection,
    ) -> Option<UpstreamConnection> {
        let wanted = wanted(self.view, selection, walk, way);
        let connection = idle_connection(self.worker, &wanted)?;
        record.connected = None;
        walk.shared = false;
        Some(connection)
    }

    /// Connects, several times within the timeout if no other endpoint can be tried: a full listen backlog drops
    /// connection attempts, and a new attempt succeeds sooner than the kernel's retransmission. Waits for a turn in
    /// the queue if there is a `client` to watch meanwhile.
    pub(super) async fn connect<C: Client>(
        &self,
        mut client: Option<&mut C>,
        way: (Option<Origin>, bool),
        walk: &mut Walk,
        record: &mut Record,
        selection: &Selection,
    ) -> Result<UpstreamConnection, Failure> {
        let (worker, view, Bound { class, reach, .. }) = (self.worker, self.view, *self.bound);
        loop {
            let connected = connect(worker, view, selection, way, walk, record).await;
            if std::mem::take(&mut walk.busy)
                && let Some(client) = client.as_deref_mut()
            {
                // Boxed: seldom used, and the future of every exchange should stay small.
                walk.granted = Some(Box::pin(self.wait_for_turn(client, walk, selection)).await?);
                continue;
            }
            let again = std::mem::take(&mut walk.late)
                && !walk.tried.leaves_others(view, class, selection, reach)
                && worker.uses(selection.signals(view).id);
            if !again {
                return connected;
            }
        }
    }

    /// The remaining time that the exchange may wait in a cluster's queue.
    fn patience(&self, walk: &mut Walk, cluster: ClusterIndex) -> Duration {
        let now = self.worker.now();
        let by_itself = || self.bound.terms.timeout.min(QUEUE_MAX);
        let span = self.view.plan.clusters[cluster].queue.unwrap_or_else(by_itself);
        walk.queue_until.get_or_insert(now.plus(span)).since(now)
    }

    /// Waits for an idle connection or for permission to make one; only briefly if another cluster can be tried.
    async fn wait_for_turn<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        selection: &Selection,
    ) -> Result<Available, Failure> {
        let (worker, view, Bound { class, reach, .. }) = (self.worker, self.view, *self.bound);
        let wanted = wanted(view, selection, walk, (self.info.origin, false));
        let others = walk.tried.leaves_other_clusters(view, class, selection, reach);
        let brief = patience(wanted.cluster, wanted.endpoint.rtt);
        let most = if others { brief } else { Duration::MAX };
        let span = self.patience(walk, selection.cluster).min(most);
        let waiting = wait_for_connection(worker, &wanted, span);
        let full = |_| Failure::retry(Kind::Unsent, Refusal::Overloaded);
        unless_left(client, waiting).await?.map_err(full)
    }

    /// If every cluster is full: waits in the queue of the first cluster or of its group, then selects an endpoint there.
    pub(super) async fn wait_for_capacity<C: Client>(
        &self,
        client: &mut C,
        walk: &mut Walk,
        refusal: Refusal,
    ) -> Result<Selection, Failure> {
        let (worker, view, Bound { class, reach, is_copy, .. }) =
            (self.worker, self.view, *self.bound);
        let refused = |refusal| Failure::refuse(walk.last.unwrap_or(refusal));
        let waits = refusal == Refusal::Overloaded && !is_copy && !walk.hedging;
        let full = walk.tried.first_full(view, class, reach).filter(|_| waits);
        let Some(cluster) = full else { return Err(refused(refusal)) };
        let (plan, live) = (&view.plan.clusters[cluster], &view.clusters[cluster]);
        let pending = Held::enter_below(&live.pending, plan.pending_max);
        let Some(_pending) = pending else { return Err(refused(refusal)) };
        let turn = live.queue_of_full().unwrap_or(&live.queue).join(worker.id);
        let last = walk.last;
        let span = self.patience(walk, cluster);
        walk.tried.turn = Some(cluster);
        let tried = &walk.tried;
        let look = || {
            let select = || select(worker, view, class, tried, self.key, reach).ok();
            live.has_capacity().then(select).flatten()
        };
        let waiting = std::future::poll_fn(|context| turn.poll(context, look));
        let found = unless_left(client, tokio::time::timeout(span, waiting)).await;
        walk.tried.turn = None;
        found?.map_err(|_| Failure::refuse(last.unwrap_or(refusal)))
    }
}

async fn connect(
    worker: &Worker,
    view: &View,
    selection: &Selection,
    (origin, upgrades): (Option<Origin>, bool),
    walk: &mut Walk,
    record: &mut Record,
) -> Result<UpstreamConnection, Failure> {
    let cluster = &view.plan.clusters[selection.cluster];
    if upgrades && cluster.http2 {
        // HTTP/2 has no Upgrade, and the proxy supports tunnels over HTTP/2 on the client's side only.
        return Err(Failure::refuse(Refusal::NotImplemented));
    }
    let endpoint = selection.signals(view);
    let left = cluster.connect_total.saturating_sub(walk.connecting);
    if left.is_zero() {
        return Err(Failure::refuse(walk.last.unwrap_or(Refusal::UpstreamConnect)));
    }
    let begun = worker.about_now();
    let wanted = wanted(view, selection, walk, (origin, upgrades));
    let connected = connection(worker, &wanted, left, walk.granted.take()).await;
    walk.connecting += worker.about_now().since(begun);
    match connected {
        Ok((connection, took)) => {
            record.connected = took;
            walk.shared = matches!(connection, UpstreamConnection::Http2(_));
            if took.is_some() {
                note_dialled(worker, view, selection, record.class, &connection);
            }
            Ok(connection)
        }
        Err(NoConnection::Endpoint(cause)) => {
            walk.late = cause == Cause::ConnectTimeout;
            let slot =
                record.class.and_then(|class| view.slots.slot(worker.id, class, selection.slot));
            if cluster.outlier.failures.has(cause) {
                if let Some(slot) = slot {
                    slot.accepted.add(1);
                    slot.failed.add(1);
                }
                let (endpoint, client) = (endpoint.id, None);
                worker.shared.tell(Event::ExchangeFailed { endpoint, cause, client });
            }
            Err(Failure::retry(Kind::Unsent, Refusal::UpstreamConnect))
        }
        Err(NoConnection::Late) => Err(Failure::retry(Kind::Unsent, Refusal::UpstreamConnect)),
        Err(why @ (NoConnection::Full | NoConnection::Busy)) => {
            walk.busy = why == NoConnection::Busy;
            Err(Failure::retry(Kind::Unsent, Refusal::Overloaded))
        }
        Err(NoConnection::Exhausted) => Err(Failure::refuse(Refusal::Overloaded)),
    }
}

/// The connection that an exchange needs.
fn wanted<'a>(
    view: &'a View,
    selection: &'a Selection,
    walk: &Walk,
    (origin, upgrades): (Option<Origin>, bool),
) -> Wanted<'a> {
    let (cluster, live) =
        (&view.plan.clusters[selection.cluster], &view.clusters[selection.cluster]);
    let upstream = view.tls.cluster(selection.cluster);
    // A connection with a PROXY header belongs to one client.
    let fresh = walk.fresh || cluster.send_proxy != SendProxy::None;
    let speaks = if upgrades { Speaks::Http1 } else { Speaks::Traffic };
    let endpoint = selection.signals(view);
    Wanted { cluster, live, endpoint, upstream, fresh, origin, speaks }
}

/// Waits, unless the client leaves meanwhile.
async fn unless_left<C: Client, F: Future>(
    client: &mut C,
    waiting: F,
) -> Result<F::Output, Failure> {
    let (_, mut body, _) = client.split();
    let left = async {
        body.gone().await;
        tokio::time::sleep(LEAVING).await;
    };
    tokio::select! {
        // An available result is used first.
        biased;
        output = waiting => Ok(output),
        () = left => Err(Failure::OVER),
    }
}

/// Records that a new connection was made, and its round trip.
fn note_dialled(
    worker: &Worker,
    view: &View,
    selection: &Selection,
    class: Option<ClassIndex>,
    carrier: &UpstreamConnection,
) {
    let slot = class.and_then(|class| view.slots.slot(worker.id, class, selection.slot));
    if let Some(slot) = slot {
        slot.dialled.add(1);
    }
    if let Some(rtt) = carrier.handshake_rtt() {
        selection.live.record_rtt(worker.id, rtt);
    }
}
