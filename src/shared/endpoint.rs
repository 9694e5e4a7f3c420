//! Counters of one endpoint: exchanges in flight, latencies, round trips.

use super::gauge::Gauge;
use crate::decision::endpoint::speed;
use crate::telemetry::counter::Count;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of an endpoint; they outlive views.
#[derive(Debug)]
pub struct LiveEndpoint {
    /// Exchanges in flight.
    pub in_flight: Arc<Gauge>,
    /// Completed exchanges and microseconds to their response heads, by worker.
    pub(super) samples: Vec<EndpointSlot>,
    /// The activity of its cluster.
    activity: Arc<Activity>,
}

/// Counts what workers do, such as the samples of all endpoints of a cluster, so that the control thread skips
/// clusters without any.
#[derive(Debug, Default)]
pub struct Activity {
    by_worker: Vec<Samples>,
    /// The count at the last check; for the control thread.
    checked: AtomicU64,
}

/// The number that one worker has counted.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Samples(AtomicU64);

impl Activity {
    /// No activity yet.
    #[must_use]
    pub fn new(workers: usize) -> Activity {
        let by_worker = (0..workers).map(|_| Samples::default()).collect();
        Activity { by_worker, ..Activity::default() }
    }

    /// Counts one more, after its sample was written.
    pub fn add(&self, worker: usize) {
        if let Some(Samples(count)) = self.by_worker.get(worker) {
            // The single writer; the sample is visible to whoever sees the count.
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
    }

    /// Whether there were samples since the last call.
    pub fn was_seen(&self) -> bool {
        let counts = self.by_worker.iter().map(|of| of.0.load(Ordering::Acquire));
        let count = counts.fold(0, u64::wrapping_add);
        self.checked.swap(count, Ordering::Relaxed) != count
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct EndpointSlot {
    pub(super) count: Count,
    pub(super) micros: Count,
    /// Sums of latencies as logarithms, in units of 1 / [`LOG_UNIT`], and of their squares; of completed exchanges
    /// and of those abandoned because a hedge answered first.
    pub(super) timed: Count,
    pub(super) logs: Count,
    pub(super) log_squares: Count,
    pub(super) handshakes: Count,
    pub(super) handshake_micros: Count,
}

/// Units per 1.0 of a logarithm.
pub(super) const LOG_UNIT: f64 = 65_536.0;

impl LiveEndpoint {
    pub(super) fn new(workers: usize, activity: Arc<Activity>) -> LiveEndpoint {
        let samples = (0..workers).map(|_| EndpointSlot::default()).collect();
        LiveEndpoint { in_flight: Arc::default(), samples, activity }
    }

    /// Counts one completed exchange, as worker number `worker`.
    pub fn record(&self, worker: usize, seconds: f64) {
        if let Some(slot) = self.samples.get(worker) {
            slot.count.add(1);
            slot.micros.add((seconds * 1e6) as u64);
            slot.time(seconds);
            self.activity.add(worker);
        }
    }

    /// Counts an exchange that was abandoned after `seconds` because a hedge had answered first.
    pub fn record_overtaken(&self, worker: usize, seconds: f64) {
        if let Some(slot) = self.samples.get(worker) {
            slot.time(seconds);
            self.activity.add(worker);
        }
    }

    /// Counts the round trip of a new connection's handshake, as worker number `worker`.
    pub fn record_rtt(&self, worker: usize, rtt: Duration) {
        if let Some(slot) = self.samples.get(worker) {
            slot.handshakes.add(1);
            slot.handshake_micros.add(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
            self.activity.add(worker);
        }
    }
}

impl EndpointSlot {
    fn time(&self, seconds: f64) {
        let log = speed::log(seconds);
        self.timed.add(1);
        self.logs.add((log * LOG_UNIT) as u64);
        self.log_squares.add((log * log * LOG_UNIT) as u64);
    }
}
