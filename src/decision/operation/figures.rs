//! The figures of the services that an operation watches.
//!
//! # Units
//! Exchanges a second; seconds.

use std::collections::{BTreeMap, VecDeque};

/// The figures of one second.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By name.
    pub services: BTreeMap<String, OfService>,
    /// The name of a service whose traffic has nowhere to go but where it came from.
    pub nowhere: Option<String>,
}

/// The figures of a service in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OfService {
    /// Exchanges a second, refused ones included.
    pub rate: f64,
    /// Refused exchanges, and those that ended with a status of 500 or more, a second.
    pub failed: f64,
    /// The 99th percentile of response times, in seconds; `None` without responses.
    pub p99: Option<f64>,
    /// Exchanges a second by cluster.
    pub to: BTreeMap<String, f64>,
}

/// Sums over the seconds of a phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    seconds: f64,
    rate: f64,
    failed: f64,
    p99: (f64, f64),
    to: BTreeMap<String, f64>,
}

impl Sums {
    pub(super) fn add(&mut self, one: &OfService) {
        self.seconds += 1.0;
        self.rate += one.rate;
        self.failed += one.failed;
        if let Some(p99) = one.p99 {
            self.p99 = (self.p99.0 + p99, self.p99.1 + 1.0);
        }
        for (cluster, rate) in &one.to {
            *self.to.entry(cluster.clone()).or_default() += rate;
        }
    }

    /// Seconds with figures.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Exchanges a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate / self.seconds.max(1.0)
    }

    /// Failed exchanges in all.
    #[must_use]
    pub fn failed(&self) -> f64 {
        self.failed
    }

    /// The share of failed exchanges.
    #[must_use]
    pub fn failed_share(&self) -> f64 {
        if self.rate > 0.0 { self.failed / self.rate } else { 0.0 }
    }

    /// The mean of the 99th percentiles of all seconds, in seconds.
    #[must_use]
    pub fn p99(&self) -> Option<f64> {
        (self.p99.1 > 0.0).then(|| self.p99.0 / self.p99.1)
    }

    /// Exchanges a second by cluster.
    #[must_use]
    pub fn to(&self) -> BTreeMap<String, f64> {
        let mean = |(cluster, sum): (&String, &f64)| (cluster.clone(), sum / self.seconds.max(1.0));
        self.to.iter().map(mean).collect()
    }
}

/// A service that is watched.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Before anything moved.
    pub before: Sums,
    /// While the traffic moved.
    pub moving: Sums,
    /// While it was at its target.
    pub held: Sums,
    /// After its return.
    pub after: Sums,
    /// The limit of the 99th percentile, in seconds; `None` before the baseline is known, and without one.
    pub p99_limit: Option<f64>,
    /// The last seconds since the traffic moved, the newest last.
    pub(super) recent: VecDeque<OfService>,
}
