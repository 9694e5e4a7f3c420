//! Counters that workers write without sharing a cache line; a scrape sums them.
//!
//! A series is created once for each worker and label set. After that, counting is a load and a store by its only
//! writer. The registry's lock is taken when a series is first used and at a scrape.
//!
//! A counter is declared once, as a field of [`cells!`]; the sum over workers follows from the declaration.

use super::counter::{Count, PerVariant, Variants};
use super::latencies::Latencies;
use super::results::{Aborted, AdminRefusal, HedgeResult, RetryResult, StatusClass};
use crate::decision::compression::Algorithm;
use crate::decision::permit::Reason;
use crate::decision::refusal::Refusal;
use crate::decision::signal::Why;
use crate::tls::handshake::Failure;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds of the histograms' buckets, in seconds.
pub const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A histogram of durations with one writer.
#[derive(Debug, Default)]
pub struct Spans {
    buckets: [Count; BOUNDS.len() + 1],
    sum_micros: Count,
}

impl Spans {
    /// Counts one duration.
    pub fn observe(&self, seconds: f64) {
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.sum_micros.add((seconds * 1e6) as u64);
    }

    /// Counts and sum as they are now.
    #[must_use]
    pub fn totals(&self) -> SpanTotals {
        SpanTotals {
            buckets: self.buckets.each_ref().map(Count::get),
            sum: self.sum_micros.get() as f64 / 1e6,
        }
    }

    pub(super) fn fold(&self, more: &Spans) {
        for (count, more) in self.buckets.iter().zip(&more.buckets) {
            count.fold(more);
        }
        self.sum_micros.fold(&more.sum_micros);
    }
}

/// A histogram as it is exposed.
#[derive(Clone, Debug, Default)]
pub struct SpanTotals {
    /// Count by bucket; the last bucket is above all bounds.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Sum in seconds.
    pub sum: f64,
}

impl SpanTotals {
    /// Number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The labels of a request's series.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ExchangeLabels {
    /// The listener's name.
    pub listener: String,
    /// The service's name; empty if there was none.
    pub service: String,
    /// The cluster's name; empty if there was none.
    pub cluster: String,
}

/// Declares the counters of a label set, and their sum.
macro_rules! cells {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct $name {
            $($(#[$about])* pub $field: $kind,)*
        }

        impl $name {
            /// Adds the counts of `more`.
            pub(super) fn fold(&self, more: &$name) {
                $(self.$field.fold(&more.$field);)*
            }
        }
    )*};
}

cells! {
    /// Counters of one worker for one listener, service and cluster; in a scrape, their sum over workers.
    ExchangeCells {
        /// Exchanges by the status that the client received.
        by_class: PerVariant<StatusClass>,
        /// Decisions by reason.
        by_reason: PerVariant<Why>,
        /// From the request head to the end of the response.
        duration: Spans,
        /// The same durations by narrow buckets, for quantiles.
        latencies: Latencies,
        /// From sending to the response head.
        upstream: Spans,
        /// Retries.
        retries: PerVariant<RetryResult>,
        /// Hedges.
        hedges: PerVariant<HedgeResult>,
        /// Refused exchanges that a constraint kept from a live cluster.
        withheld: PerVariant<Reason>,
    }
    /// Counters of one worker for one route; in a scrape, their sum over workers.
    RouteCells {
        /// Exchanges by the status that the client received.
        by_class: PerVariant<StatusClass>,
        /// From the request head to the end of the response.
        duration: Spans,
    }
    /// Counters of one worker for the compressed responses of one service; in a scrape, their sum over workers.
    CompressionCells {
        /// Compressed responses.
        responses: PerVariant<Algorithm>,
        /// Bytes of their bodies as received from clusters.
        bytes_in: PerVariant<Algorithm>,
        /// Bytes of their bodies as sent to clients.
        bytes_out: PerVariant<Algorithm>,
        /// Responses that passed plain because of the bound.
        passed: Count,
    }
    /// Counters of one worker for one listener; in a scrape, their sum over workers.
    ListenerCells {
        /// Connections accepted.
        connections: Count,
        /// Connections closed.
        closed: Count,
        /// Bytes of bodies, tunnels and flows from clients.
        bytes_in: Count,
        /// Bytes of bodies, tunnels and flows to clients.
        bytes_out: Count,
        /// Bytes of heads from clients.
        head_bytes_in: Count,
        /// Bytes of heads to clients.
        head_bytes_out: Count,
        /// Datagrams dropped: no endpoint, or no buffer space.
        dropped: Count,
        /// Exchanges that were not served.
        refusals: PerVariant<Refusal>,
        /// Exchanges aborted before their end.
        aborted: PerVariant<Aborted>,
        /// TLS and QUIC handshakes that succeeded.
        handshakes_ok: Count,
        /// TLS and QUIC handshakes that failed.
        handshakes_failed: PerVariant<Failure>,
    }
}

/// All series, of all workers.
#[derive(Debug, Default)]
pub struct Registry {
    exchanges: Mutex<BTreeMap<ExchangeLabels, Vec<Arc<ExchangeCells>>>>,
    listeners: Mutex<BTreeMap<String, Vec<Arc<ListenerCells>>>>,
    routes: Mutex<BTreeMap<String, Vec<Arc<RouteCells>>>>,
    compression: Mutex<BTreeMap<String, Vec<Arc<CompressionCells>>>>,
    /// Panics that were caught.
    pub panics: AtomicU64,
    /// Access log lines that were dropped.
    pub log_dropped: AtomicU64,
    /// Mirrored requests that were shed.
    pub copies_shed: AtomicU64,
    /// Events that were shed.
    pub events_shed: AtomicU64,
    /// Files of `state_dir` that could not be read at the start.
    pub state_unread: AtomicU64,
    /// Writes to `state_dir` that failed.
    pub state_unwritten: AtomicU64,
    /// Spans of traced exchanges.
    pub spans: SpanCounts,
    /// What the admin API refused, closed or delayed.
    pub admin_refused: Arc<AdminRefusals>,
}

/// What the admin API refused, closed or delayed, by reason.
#[derive(Debug, Default)]
pub struct AdminRefusals([AtomicU64; AdminRefusal::ALL.len()]);

impl AdminRefusals {
    /// Counts one.
    pub fn count(&self, reason: AdminRefusal) {
        self.0[reason.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        AdminRefusal::ALL.iter().map(|reason| reason.label()).zip(counts)
    }
}

/// Spans of traced exchanges, by result.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// Accepted by the collector.
    pub exported: AtomicU64,
    /// Dropped because the queue to the exporter was full.
    pub queue_full: AtomicU64,
    /// Dropped because the collector did not accept the request.
    pub failed: AtomicU64,
    /// Refused by the collector within a request that it accepted.
    pub rejected: AtomicU64,
}

impl Registry {
    /// A new series of one worker.
    #[must_use]
    pub fn exchange(&self, labels: ExchangeLabels) -> Arc<ExchangeCells> {
        new_series(&self.exchanges, labels)
    }

    /// A new series of one worker.
    #[must_use]
    pub fn listener(&self, name: &str) -> Arc<ListenerCells> {
        new_series(&self.listeners, name.to_owned())
    }

    /// A new series of one worker.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteCells> {
        new_series(&self.routes, name.to_owned())
    }

    /// A new series of one worker.
    #[must_use]
    pub fn compression(&self, service: &str) -> Arc<CompressionCells> {
        new_series(&self.compression, service.to_owned())
    }

    /// All exchange counters, summed over workers.
    #[must_use]
    pub fn exchanges(&self) -> BTreeMap<ExchangeLabels, ExchangeCells> {
        summed(&self.exchanges, ExchangeCells::fold)
    }

    /// All listener counters, summed over workers.
    #[must_use]
    pub fn listeners(&self) -> BTreeMap<String, ListenerCells> {
        summed(&self.listeners, ListenerCells::fold)
    }

    /// All route counters, summed over workers.
    #[must_use]
    pub fn routes(&self) -> BTreeMap<String, RouteCells> {
        summed(&self.routes, RouteCells::fold)
    }

    /// All counters of compressed responses by service, summed over workers.
    #[must_use]
    pub fn compressions(&self) -> BTreeMap<String, CompressionCells> {
        summed(&self.compression, CompressionCells::fold)
    }
}

/// Adds the cells of one worker to a series.
fn new_series<K: Ord, C: Default>(all: &Mutex<BTreeMap<K, Vec<Arc<C>>>>, key: K) -> Arc<C> {
    let cells = Arc::<C>::default();
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(key).or_default().push(cells.clone());
    cells
}

/// The cells of each key, summed over workers by `fold`.
fn summed<K: Clone + Ord, C: Default>(
    cells: &Mutex<BTreeMap<K, Vec<Arc<C>>>>,
    fold: impl Fn(&C, &C),
) -> BTreeMap<K, C> {
    let all = cells.lock().unwrap_or_else(PoisonError::into_inner);
    let total = |cells: &Vec<Arc<C>>| {
        let total = C::default();
        cells.iter().for_each(|cells| fold(&total, cells));
        total
    };
    all.iter().map(|(key, cells)| (key.clone(), total(cells))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_sums_over_workers() {
        let registry = Registry::default();
        let labels =
            || ExchangeLabels { listener: "a".into(), service: "b".into(), cluster: "c".into() };
        let (first, second) = (registry.exchange(labels()), registry.exchange(labels()));
        first.by_class[StatusClass::Redirect].add(3);
        second.by_class[StatusClass::Redirect].add(4);
        second.by_class[StatusClass::None].add(5);
        second.duration.observe(0.02);
        second.duration.observe(99.0);

        let totals = &registry.exchanges()[&labels()];

        let classes: Vec<u64> = totals.by_class.iter().map(|(_, count)| count).collect();
        assert_eq!(classes, [0, 0, 7, 0, 0, 5]);
        let duration = totals.duration.totals();
        assert_eq!((duration.count(), duration.buckets[BOUNDS.len()]), (2, 1));
    }
}
