//! Whether a connection or a flow may begin: bounds of the process, of its listener, of its client.

use super::refusal::Refusal;
use super::worker::{Cells, Worker};
use crate::decision::plan::{Listener, Protocol};
use crate::os::clock;
use crate::shared::{Gauge, Held, OfClient};
use crate::telemetry::cells::ListenerCells;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Counted in; counted out when dropped, also when its task panics.
#[derive(Debug)]
pub struct Admitted {
    cells: Cells<ListenerCells>,
    _held: (Held, Held, Option<OfClient>),
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.cells.closed.add(1);
    }
}

/// Whether a client's address has to wait since connections of it were ended for abuse; counted if so.
#[must_use]
pub fn must_wait(worker: &Worker, listener: &Listener, client: Option<IpAddr>) -> bool {
    // Not the worker's coarse clock: another worker's, which noted the offence, may be ahead of it.
    let now = clock::now();
    let is_http = matches!(listener.protocol, Protocol::Http);
    let waits = is_http && client.is_some_and(|at| worker.shared.offenders.must_wait(at, now));
    if waits {
        let cells = worker.listener_cells(&listener.name);
        cells.refusals[Refusal::RateLimited.index()].add(1);
    }
    waits
}

/// Counts a connection in; `client` is whose it is, where its address is somebody's. `None`: there is no room,
/// and that was counted.
#[must_use]
pub fn admit(worker: &Worker, listener: &Listener, client: Option<IpAddr>) -> Option<Admitted> {
    let most = worker.shared.connections_max.load(Ordering::Relaxed);
    let of_all = (&worker.shared.connections, u32::try_from(most).unwrap_or(u32::MAX));
    enter(worker, listener, client, of_all)
}

/// Counts a flow of datagrams in, likewise: flows have a share of their own.
#[must_use]
pub fn admit_flow(worker: &Worker, listener: &Listener, client: IpAddr) -> Option<Admitted> {
    let of_all = (&worker.shared.flows, worker.shared.flows_max());
    enter(worker, listener, Some(client), of_all)
}

/// Whether as many flows have begun as may, so that another needs the place of one.
#[must_use]
pub fn flows_are_full(worker: &Worker, listener: &Listener) -> bool {
    let of_listener = u32::try_from(listener.limits.connections).unwrap_or(u32::MAX);
    worker.shared.flows.get() >= worker.shared.flows_max()
        || worker.listener_gauge(&listener.name).get() >= of_listener
}

fn enter(
    worker: &Worker,
    listener: &Listener,
    client: Option<IpAddr>,
    (all, most): (&Arc<Gauge>, u32),
) -> Option<Admitted> {
    let cells = worker.listener_cells(&listener.name);
    let of_listener = u32::try_from(listener.limits.connections).unwrap_or(u32::MAX);
    let of_listener = Held::enter_below(&worker.listener_gauge(&listener.name), of_listener);
    let held = Held::enter_below(all, most).zip(of_listener);
    let of_client = match (listener.limits.connections_per_client, client) {
        (Some(most), Some(client)) => {
            Some(worker.shared.by_client.enter(client.to_canonical(), most))
        }
        (None, _) | (_, None) => None,
    };
    let (Some((held, of_listener)), false) = (held, matches!(of_client, Some(None))) else {
        cells.refusals[Refusal::Overloaded.index()].add(1);
        return None;
    };
    cells.connections.add(1);
    Some(Admitted { cells, _held: (held, of_listener, of_client.flatten()) })
}
