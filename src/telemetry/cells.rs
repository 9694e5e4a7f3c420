//! Counters that workers write without sharing a cache line; a scrape sums them.
//!
//! A series is created once for each worker and label set. After that, counting is a load and a store by its only
//! writer. The registry's lock is taken when a series is first used and at a scrape.

use crate::decision::signal::Why;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds of the histograms' buckets, in seconds.
pub const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more` to the counter. Each counter has a single writer thread: the addition is not atomic.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

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
}

/// A histogram summed over its writers.
#[derive(Clone, Debug, Default)]
pub struct SpanTotals {
    /// Count by bucket; the last bucket is above all bounds.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Sum in seconds.
    pub sum: f64,
}

impl SpanTotals {
    fn add(&mut self, spans: &Spans) {
        for (total, bucket) in self.buckets.iter_mut().zip(&spans.buckets) {
            *total += bucket.get();
        }
        self.sum += spans.sum_micros.get() as f64 / 1e6;
    }

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
    /// The service's name; empty when there was none.
    pub service: String,
    /// The cluster's name; empty when there was none.
    pub cluster: String,
}

/// Counters of one worker for one listener, service and cluster.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ExchangeCells {
    /// Exchanges by status class: 1xx to 5xx, then L4 flows without a status.
    pub by_class: [Count; 6],
    /// Decisions by reason, in the order of `Why::ALL`.
    pub by_reason: [Count; Why::ALL.len()],
    /// From the request head to the end of the response.
    pub duration: Spans,
    /// From sending to the response head.
    pub upstream: Spans,
    /// Retries: granted, denied.
    pub retries: [Count; 2],
    /// Hedges: sent, won, denied.
    pub hedges: [Count; 3],
}

/// Counters of one worker for one listener.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ListenerCells {
    /// Connections accepted.
    pub connections: Count,
    /// Connections closed.
    pub closed: Count,
    /// Bytes of bodies, tunnels and flows from clients.
    pub bytes_in: Count,
    /// Bytes of bodies, tunnels and flows to clients.
    pub bytes_out: Count,
    /// Bytes of heads from clients.
    pub head_bytes_in: Count,
    /// Bytes of heads to clients.
    pub head_bytes_out: Count,
    /// Datagrams dropped: no endpoint for them, or no buffer space.
    pub dropped: Count,
    /// Refusals, in the order of `Refusal::ALL`.
    pub refusals: [Count; 32],
    /// Aborted exchanges: by the client, by the cluster, by a timeout.
    pub aborted: [Count; Aborted::ALL.len()],
    /// TLS handshakes: succeeded, then failed by cause, in the order of `Failure::ALL`.
    pub handshakes: [Count; 8],
}

/// Which side aborted an exchange before the client had the complete response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aborted {
    /// The client disconnected, or read nothing within the write timeout.
    Client,
    /// The cluster disconnected, was silent beyond its timeout, or sent an invalid response.
    Cluster,
    /// The total timeout of the exchange passed.
    Timeout,
}

impl Aborted {
    /// All of them, in the order of their counters.
    pub const ALL: [Aborted; 3] = [Aborted::Client, Aborted::Cluster, Aborted::Timeout];

    /// The word in the log and in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Aborted::Client => "client",
            Aborted::Cluster => "cluster",
            Aborted::Timeout => "timeout",
        }
    }
}

/// All series, of all workers.
#[derive(Debug, Default)]
pub struct Registry {
    exchanges: Mutex<BTreeMap<ExchangeLabels, Vec<Arc<ExchangeCells>>>>,
    listeners: Mutex<BTreeMap<String, Vec<Arc<ListenerCells>>>>,
    /// Panics that were caught.
    pub panics: AtomicU64,
    /// Access log lines that were dropped.
    pub log_dropped: AtomicU64,
    /// Copies for mirrors that were shed.
    pub copies_shed: AtomicU64,
    /// Events that were shed.
    pub events_shed: AtomicU64,
}

/// The counters of one label set, summed over workers.
#[derive(Clone, Debug, Default)]
pub struct ExchangeTotals {
    /// See [`ExchangeCells::by_class`].
    pub by_class: [u64; 6],
    /// See [`ExchangeCells::by_reason`].
    pub by_reason: [u64; Why::ALL.len()],
    /// See [`ExchangeCells::duration`].
    pub duration: SpanTotals,
    /// See [`ExchangeCells::upstream`].
    pub upstream: SpanTotals,
    /// See [`ExchangeCells::retries`].
    pub retries: [u64; 2],
    /// See [`ExchangeCells::hedges`].
    pub hedges: [u64; 3],
}

impl ExchangeTotals {
    fn fold(&mut self, cells: &ExchangeCells) {
        for (total, count) in self.by_class.iter_mut().zip(&cells.by_class) {
            *total += count.get();
        }
        for (total, count) in self.by_reason.iter_mut().zip(&cells.by_reason) {
            *total += count.get();
        }
        for (total, count) in self.retries.iter_mut().zip(&cells.retries) {
            *total += count.get();
        }
        for (total, count) in self.hedges.iter_mut().zip(&cells.hedges) {
            *total += count.get();
        }
        self.duration.add(&cells.duration);
        self.upstream.add(&cells.upstream);
    }
}

/// The counters of one listener, summed over workers.
#[derive(Clone, Debug, Default)]
pub struct ListenerTotals {
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed.
    pub closed: u64,
    /// See [`ListenerCells::bytes_in`].
    pub bytes_in: u64,
    /// See [`ListenerCells::bytes_out`].
    pub bytes_out: u64,
    /// See [`ListenerCells::head_bytes_in`].
    pub head_bytes_in: u64,
    /// See [`ListenerCells::head_bytes_out`].
    pub head_bytes_out: u64,
    /// See [`ListenerCells::dropped`].
    pub dropped: u64,
    /// See [`ListenerCells::refusals`].
    pub refusals: [u64; 32],
    /// See [`ListenerCells::aborted`].
    pub aborted: [u64; Aborted::ALL.len()],
    /// See [`ListenerCells::handshakes`].
    pub handshakes: [u64; 8],
}

impl Registry {
    /// A new series of one worker.
    #[must_use]
    pub fn exchange(&self, labels: ExchangeLabels) -> Arc<ExchangeCells> {
        let cells = Arc::new(ExchangeCells::default());
        let mut all = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(labels).or_default().push(cells.clone());
        cells
    }

    /// A new series of one worker.
    #[must_use]
    pub fn listener(&self, name: &str) -> Arc<ListenerCells> {
        let cells = Arc::new(ListenerCells::default());
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_default().push(cells.clone());
        cells
    }

    /// All exchange counters, summed over workers.
    #[must_use]
    pub fn exchanges(&self) -> BTreeMap<ExchangeLabels, ExchangeTotals> {
        let all = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        let total = |cells: &Vec<Arc<ExchangeCells>>| {
            let mut total = ExchangeTotals::default();
            cells.iter().for_each(|cells| total.fold(cells));
            total
        };
        all.iter().map(|(labels, cells)| (labels.clone(), total(cells))).collect()
    }

    /// All listener counters, summed over workers.
    #[must_use]
    pub fn listeners(&self) -> BTreeMap<String, ListenerTotals> {
        let all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let total = |cells: &Vec<Arc<ListenerCells>>| {
            let mut total = ListenerTotals::default();
            for cells in cells {
                total.connections += cells.connections.get();
                total.closed += cells.closed.get();
                total.bytes_in += cells.bytes_in.get();
                total.bytes_out += cells.bytes_out.get();
                total.head_bytes_in += cells.head_bytes_in.get();
                total.head_bytes_out += cells.head_bytes_out.get();
                total.dropped += cells.dropped.get();
                for (total, count) in total.refusals.iter_mut().zip(&cells.refusals) {
                    *total += count.get();
                }
                for (total, count) in total.aborted.iter_mut().zip(&cells.aborted) {
                    *total += count.get();
                }
                for (total, count) in total.handshakes.iter_mut().zip(&cells.handshakes) {
                    *total += count.get();
                }
            }
            total
        };
        all.iter().map(|(name, cells)| (name.clone(), total(cells))).collect()
    }
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
        first.by_class[2].add(3);
        second.by_class[2].add(4);
        second.duration.observe(0.02);
        second.duration.observe(99.0);

        let totals = &registry.exchanges()[&labels()];

        assert_eq!(totals.by_class[2], 7);
        assert_eq!((totals.duration.count(), totals.duration.buckets[BOUNDS.len()]), (2, 1));
    }
}
