//! The shared state of all threads before the first configuration.

use crate::decision::assess::Event;
use crate::decision::plan::Plan;
use crate::os::process;
use crate::shared::decided::DECISIONS_WAITING;
use crate::shared::trace::TRACES_WAITING;
use crate::shared::{Activity, Decision, Shared, Slots, Trace, View};
use crate::telemetry::cells::Registry;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tokio::sync::{broadcast, mpsc};

/// The queue of events for the control thread.
const EVENTS_WAITING: usize = 16_384;

/// The receivers of the workers' queues.
pub(super) struct Channels {
    /// For the control thread.
    pub(super) events: mpsc::Receiver<Event>,
    /// For the admin API.
    pub(super) decisions: mpsc::Receiver<Decision>,
    /// For the exporter.
    pub(super) traces: mpsc::Receiver<Trace>,
}

/// The shared state of all threads before the first configuration.
pub(super) fn shared(workers: usize, registry: Arc<Registry>) -> (Arc<Shared>, Channels) {
    let (events, events_in) = mpsc::channel(EVENTS_WAITING);
    let (decisions, decisions_in) = mpsc::channel(DECISIONS_WAITING);
    let (traces, traces_in) = mpsc::channel(TRACES_WAITING);
    let zeros = || (0..workers).map(|_| AtomicU32::new(0)).collect();
    let shared = Arc::new(Shared {
        view: Arc::new(ArcSwap::from_pointee(view(Plan::default(), workers, 0))),
        events,
        decisions,
        traces,
        news: broadcast::channel(1_024).0,
        draining: AtomicBool::new(false),
        ready: AtomicBool::new(false),
        busy: zeros(),
        demand: Activity::new(workers),
        tasks: zeros(),
        connections: Arc::default(),
        upstreams: Arc::default(),
        flows: Arc::default(),
        by_listener: Default::default(),
        by_client: Default::default(),
        offenders: Default::default(),
        connections_max: AtomicU64::new(process::raise_descriptor_limit() * 45 / 100),
        memory_percent: AtomicU32::new(0),
        challenges: Default::default(),
        registry,
    });
    (shared, Channels { events: events_in, decisions: decisions_in, traces: traces_in })
}

/// A view of a plan without any measurement.
pub(super) fn view(plan: Plan, workers: usize, generation: u64) -> View {
    let clusters = plan.clusters.iter().map(|_| Default::default()).collect();
    View {
        slots: Arc::new(Slots::new(&plan, workers)),
        plan: Arc::new(plan),
        tls: Arc::default(),
        policies: Arc::default(),
        signals: Default::default(),
        clusters: Arc::new(clusters),
        places: Arc::default(),
        generation,
    }
}

/// Counts panics. A panic is a defect of the proxy; it ends only the task of one connection.
pub(super) fn count_panics(registry: Arc<Registry>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        registry.panics.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{Held, LiveCluster, Scarcity};

    #[test]
    fn scarcity_has_levels_for_descriptors_and_memory() {
        let (shared, _channels) = shared(1, Arc::default());
        shared.connections_max.store(100, Ordering::Relaxed);
        let degrees = [
            (84, Scarcity::None),
            (85, Scarcity::NoKeepAlive),
            (92, Scarcity::Refuse),
            (95, Scarcity::NoAccept),
        ];
        for (percent, degree) in degrees {
            for gauge in [&shared.connections, &shared.upstreams] {
                let held: Vec<Held> = (0..percent).map(|_| Held::enter(gauge)).collect();
                assert_eq!(shared.scarcity(), degree, "{percent} connections");
                drop(held);
            }
            shared.memory_percent.store(percent, Ordering::Relaxed);
            assert_eq!(shared.scarcity(), degree, "{percent} % of the memory");
            shared.memory_percent.store(0, Ordering::Relaxed);
        }
        let (cluster, most) = (LiveCluster::default(), 2);
        let held: Vec<_> = (0..3).map(|_| shared.count_upstream(&cluster, most)).collect();
        assert_eq!(held.iter().flatten().count(), 2, "a cluster's own bound holds beside it");
    }
}
