//! Whether a connection or a flow may begin: bounds of the process, of its listener, of its client.

use super::refusal::Refusal;
use super::worker::{Cells, Worker};
use crate::decision::plan::Listener;
use crate::shared::{Held, OfClient};
use crate::telemetry::cells::ListenerCells;
use std::net::IpAddr;
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

/// Counts one in; `client` is whose it is, where its address is somebody's. `None`: there is no room, and
/// that was counted.
#[must_use]
pub fn admit(worker: &Worker, listener: &Listener, client: Option<IpAddr>) -> Option<Admitted> {
    let cells = worker.listener_cells(&listener.name);
    let most = worker.shared.connections_max.load(Ordering::Relaxed);
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let of_listener = u32::try_from(listener.limits.connections).unwrap_or(u32::MAX);
    let of_listener = Held::enter_below(&worker.listener_gauge(&listener.name), of_listener);
    let held = Held::enter_below(&worker.shared.connections, most).zip(of_listener);
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
