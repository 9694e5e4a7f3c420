//! Admission of connections and flows: limits of the process, the listener, and the client.

use super::refusal::Refusal;
use super::worker::{Cells, Worker};
use crate::decision::plan::{Listener, Protocol};
use crate::os::clock;
use crate::shared::{Gauge, Held, OfClient};
use crate::telemetry::cells::ListenerCells;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Counts a connection or flow until dropped, even if its task panics.
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

/// Whether connections of a client's address are refused for a while because earlier connections were
/// closed for abuse; a refusal is counted.
#[must_use]
pub fn must_wait(worker: &Worker, listener: &Listener, client: Option<IpAddr>) -> bool {
    // An exact clock: the coarse clock of the worker that recorded the offence may be ahead.
    let now = clock::now();
    let is_http = matches!(listener.protocol, Protocol::Http);
    let waits = is_http && client.is_some_and(|at| worker.shared.offenders.must_wait(at, now));
    if waits {
        let cells = worker.listener_cells(&listener.name);
        cells.refusals[Refusal::RateLimited].add(1);
    }
    waits
}

/// The limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// The limit of the process or the listener.
    Total,
    /// The limit of the client's address.
    Client,
}

/// Counts a connection; `client` is the client's address, if known. `None`: a limit is reached; the refusal was
/// counted.
#[must_use]
pub fn admit(worker: &Worker, listener: &Listener, client: Option<IpAddr>) -> Option<Admitted> {
    let most = worker.shared.connections_max.load(Ordering::Relaxed);
    let of_all = (&worker.shared.connections, u32::try_from(most).unwrap_or(u32::MAX));
    enter(worker, listener, client, of_all).map_err(|_| count_refusal(worker, listener)).ok()
}

/// Counts a flow of datagrams; flows have a limit of their own. While the process or the listener is at its limit,
/// `evict` ends a flow of this worker and returns whether a flow was ended. Several evictions may be necessary,
/// because another worker may use the freed place first.
#[must_use]
pub fn admit_flow(
    worker: &Worker,
    listener: &Listener,
    client: IpAddr,
    evict: impl Fn() -> bool,
) -> Option<Admitted> {
    loop {
        let of_all = (&worker.shared.flows, worker.shared.flows_max());
        match enter(worker, listener, Some(client), of_all) {
            Ok(admitted) => return Some(admitted),
            Err(Limit::Total) if evict() => {}
            Err(Limit::Total | Limit::Client) => {
                count_refusal(worker, listener);
                return None;
            }
        }
    }
}

fn count_refusal(worker: &Worker, listener: &Listener) {
    let cells = worker.listener_cells(&listener.name);
    cells.refusals[Refusal::Overloaded].add(1);
}

fn enter(
    worker: &Worker,
    listener: &Listener,
    client: Option<IpAddr>,
    (all, most): (&Arc<Gauge>, u32),
) -> Result<Admitted, Limit> {
    let of_listener = u32::try_from(listener.limits.connections).unwrap_or(u32::MAX);
    let gauge = worker.listener_gauge(&listener.name);
    let held = Held::enter_below(all, most).ok_or(Limit::Total)?;
    let of_listener = Held::enter_below(&gauge, of_listener).ok_or(Limit::Total)?;
    let of_client = match (listener.limits.connections_per_client, client) {
        (Some(most), Some(client)) => {
            let entered = worker.shared.by_client.enter(client.to_canonical(), most);
            Some(entered.ok_or(Limit::Client)?)
        }
        (None, _) | (_, None) => None,
    };
    let cells = worker.listener_cells(&listener.name);
    cells.connections.add(1);
    Ok(Admitted { cells, _held: (held, of_listener, of_client) })
}
