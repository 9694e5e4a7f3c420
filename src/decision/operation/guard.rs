//! When an operation stops: errors or latency rise above the baseline.
//!
//! Each service is judged by itself, so that a small service that fails is not hidden by a large one.

use super::Phase;
use super::figures::{OfService, Seen, Watched};
use std::collections::BTreeMap;

/// The limits of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The share of failed exchanges beyond that of the baseline.
    pub errors: f64,
    /// The 99th percentile in seconds; `None` derives the limit of each service from its baseline and its expectation.
    pub p99: Option<f64>,
}

/// Why an operation stopped by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// More exchanges of a service fail.
    Errors {
        /// The service.
        service: String,
        /// The share of failed exchanges.
        share: f64,
        /// The limit: the share of the baseline, and the permitted rise.
        limit: f64,
    },
    /// The 99th percentile of a service is too high.
    Latency {
        /// The service.
        service: String,
        /// In seconds.
        p99: f64,
        /// In seconds.
        limit: f64,
    },
    /// No other cluster is up for this service.
    Nowhere(String),
    /// There were no figures for too long.
    Blind,
}

impl Cause {
    /// The cause as a sentence without its full stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Cause::Errors { service, share, limit } => format!(
                "{service}: {:.1} % of the requests failed (limit {:.1} %)",
                share * 100.0,
                limit * 100.0
            ),
            Cause::Latency { service, p99, limit } => {
                format!("{service}: p99 was {:.0} ms (limit {:.0} ms)", p99 * 1e3, limit * 1e3)
            }
            Cause::Nowhere(service) => format!("{service}: no other cluster is up"),
            Cause::Blind => "there were no figures for several seconds".to_owned(),
        }
    }
}

/// Seconds and failures of the short window, and of the long one for services with little traffic.
const SHORT: (usize, f64) = (3, 5.0);
const LONG: (usize, f64) = (30, 3.0);
/// Late seconds in a row, with much and with little traffic.
const LATE: usize = 3;
const LATE_FEW: usize = 5;
/// Exchanges a second from which on the 99th percentile of one second is more than its slowest exchange.
const MUCH: f64 = 50.0;
/// The derived limit of the 99th percentile: this multiple of the greater of baseline and expectation, and more.
const P99_FACTOR: f64 = 2.0;
const P99_MORE: f64 = 0.050;

/// The figures of all services, and their judgement.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    limits: Limits,
    expected: BTreeMap<String, f64>,
    services: BTreeMap<String, Watched>,
}

impl Guard {
    pub(super) fn new(limits: Limits, expected: BTreeMap<String, f64>) -> Guard {
        Guard { limits, expected, services: BTreeMap::new() }
    }

    pub(super) fn services(&self) -> &BTreeMap<String, Watched> {
        &self.services
    }

    /// Adds the figures of a second to those of its phase.
    pub(super) fn add(&mut self, phase: Phase, seen: &Seen) {
        for (name, one) in &seen.services {
            let watched = self.services.entry(name.clone()).or_default();
            match phase {
                Phase::Baseline => watched.before.add(one),
                Phase::Moving => watched.moving.add(one),
                Phase::Held => watched.held.add(one),
                Phase::Returning => watched.after.add(one),
                Phase::Ended => continue,
            }
            if matches!(phase, Phase::Moving | Phase::Held) {
                if watched.recent.len() == LONG.0 {
                    watched.recent.pop_front();
                }
                watched.recent.push_back(one.clone());
            }
        }
    }

    /// Sets the limits from the baseline; a service that fails already is a reason to move nothing.
    pub(super) fn begin(&mut self) -> Option<Cause> {
        let Limits { errors, p99 } = self.limits;
        for (name, watched) in &mut self.services {
            let known = watched.before.p99().into_iter().chain(self.expected.get(name).copied());
            let known = known.reduce(f64::max);
            watched.p99_limit = p99.or(known.map(|known| P99_FACTOR * known + P99_MORE));
            let share = watched.before.failed_share();
            if share > errors && watched.before.failed() >= LONG.1 {
                return Some(Cause::Errors { service: name.clone(), share, limit: errors });
            }
        }
        None
    }

    /// The reason to stop now, if there is one.
    pub(super) fn judge(&self) -> Option<Cause> {
        self.services.iter().find_map(|(name, watched)| {
            let errors = [SHORT, LONG].into_iter().find_map(|window| {
                let (share, limit) = failing(watched, window, self.limits.errors)?;
                Some(Cause::Errors { service: name.clone(), share, limit })
            });
            let late = || {
                let (p99, limit) = late(watched)?;
                Some(Cause::Latency { service: name.clone(), p99, limit })
            };
            errors.or_else(late)
        })
    }
}

/// The share of failed exchanges in a window and its limit, if the share is too high.
fn failing(watched: &Watched, (seconds, least): (usize, f64), rise: f64) -> Option<(f64, f64)> {
    let window = || watched.recent.iter().rev().take(seconds);
    let (rate, failed): (f64, f64) =
        (window().map(|one| one.rate).sum(), window().map(|one| one.failed).sum());
    let usual = watched.before.failed_share();
    let share = if rate > 0.0 { failed / rate } else { 0.0 };
    (failed - usual * rate >= least && share - usual > rise).then_some((share, usual + rise))
}

/// The lowest 99th percentile of the last seconds and its limit, if all of them were late.
fn late(watched: &Watched) -> Option<(f64, f64)> {
    let limit = watched.p99_limit?;
    let newest = watched.recent.back()?;
    let count = if newest.rate >= MUCH { LATE } else { LATE_FEW };
    let window: Vec<&OfService> = watched.recent.iter().rev().take(count).collect();
    let least = window.iter().map(|one| one.p99).reduce(|a, b| Some(a?.min(b?)))??;
    (window.len() == count && least > limit).then_some((least, limit))
}
