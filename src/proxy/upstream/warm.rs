//! Connections opened in advance: while the nearest cluster begins to queue, connections to the next cluster are
//! opened, so that the first spilled exchanges need no handshake.

use super::connect::{Wanted, open};
use super::multiplexed;
use super::pool::secured;
use crate::decision::index::EndpointIndex;
use crate::decision::plan::{ClusterIndex, SendProxy};
use crate::tls::client::Speaks;
use crate::worker::{Viewed, Worker};
use std::rc::Rc;
use std::time::Duration;

/// The timeout of beginning HTTP/2 on a new connection.
const BEGINNING: Duration = Duration::from_secs(1);
/// The number of idle connections per worker that suffice at first; later, spilled exchanges leave their
/// connections idle.
const ENOUGH: usize = 4;

/// Opens a connection to a cluster that will receive spilled exchanges soon, unless one is being opened.
pub fn warm(worker: &Rc<Worker>) {
    let view = worker.view();
    let shared =
        |cluster: &ClusterIndex| view.plan.clusters[*cluster].send_proxy == SendProxy::None;
    let Some(cluster) = view.signals.warm.iter().copied().find(shared) else { return };
    let Some(endpoint) = coldest(worker, &view, cluster) else { return };
    if worker.warming.replace(true) {
        return;
    }
    let (worker, view) = (worker.clone(), view.clone());
    tokio::task::spawn_local(async move {
        dial_ahead(&worker, &view, cluster, endpoint).await;
        worker.warming.set(false);
    });
}

/// The usable endpoint with the fewest idle connections; `None` when there are enough.
fn coldest(worker: &Worker, view: &Viewed, cluster: ClusterIndex) -> Option<EndpointIndex> {
    let beliefs = &view.signals.clusters[cluster];
    let pool = worker.pool.borrow();
    let tls = secured(view, cluster);
    let h2_pool = worker.h2_pool.borrow();
    let idle = |index: &EndpointIndex| {
        let key = (beliefs.endpoints[*index].id, tls);
        // One shared connection serves many exchanges.
        pool.idle_at(key) + if h2_pool.has(key) { ENOUGH } else { 0 }
    };
    let all: usize = beliefs.usable.iter().map(idle).sum();
    (all < ENOUGH).then(|| beliefs.usable.iter().copied().min_by_key(idle)).flatten()
}

/// The connect timeout if no exchange waits.
const AHEAD: Duration = Duration::from_secs(10);

async fn dial_ahead(worker: &Worker, view: &Viewed, index: ClusterIndex, endpoint: EndpointIndex) {
    let (cluster, live) = (&view.plan.clusters[index], &view.clusters[index]);
    let endpoint = &view.signals.clusters[index].endpoints[endpoint];
    let upstream = view.tls.cluster(index);
    let wanted = Wanted {
        cluster,
        live,
        endpoint,
        upstream,
        fresh: true,
        origin: None,
        speaks: Speaks::Traffic,
    };
    let most = cluster.connections_max;
    let Some(held) = worker.shared.count_upstream(live, most) else { return };
    // A failure is reported by the exchange or probe that needs the endpoint.
    let Ok(connection) = open(worker, &wanted, AHEAD, held).await else { return };
    let (latest, now) = (worker.view(), worker.about_now());
    if cluster.http2 || connection.stream.agreed().is_some_and(|agreed| agreed.is_http2) {
        let key = (endpoint.id, connection.secured);
        let (stream, _, held) = connection.into_stream();
        let begun = multiplexed::begin(&worker.h2_pool, key, stream, held, now);
        if let Ok(Err(error)) = tokio::time::timeout(BEGINNING, Box::pin(begun)).await {
            tracing::debug!(%error, "HTTP/2 connection to an endpoint not opened in advance");
        }
        return;
    }
    let key = (endpoint.id, connection.secured);
    worker.pool.borrow_mut().put(connection, key, index, &latest, ENOUGH, now);
}
