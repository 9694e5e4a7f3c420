//! How long serving takes, without distance and queue.
//!
//! Responses alone cannot tell a slower service from a queue. So it is learned downwards at once, and upwards
//! where spilled traffic shows it, too: a slower mix slows all clusters, a queue only one.
//!
//! # Units
//! Seconds; `elapsed` is the span since the last sweep.

use super::load::{FRESH, Track, decay};
use super::report::Report;

/// What a fresh guess of a service time is, before anything was measured.
pub const SERVICE_UNKNOWN: f64 = 0.020;
/// How many times as slow as usual a mix may become before that is taken for a queue.
const SLOWER_MAX: f64 = 5.0;
/// The shortest queue, in seconds, from which on a service time is not believed to be what it seems.
const OVERLOADED: f64 = 0.25;
/// The share of traffic beyond the nearest cluster that is noise rather than spill.
const SPILL_NOISE: f64 = 0.02;

/// The service time of a class, learned where no queue hides it.
#[derive(Clone, Debug, Default)]
pub struct ServiceTime {
    seconds: Option<f64>,
    /// What it has been for a minute.
    usual: f64,
    unspilled: f64,
    samples: f64,
}

impl ServiceTime {
    /// The estimate, or the guess of a stranger.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(SERVICE_UNKNOWN)
    }

    /// Whether it was ever measured.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.seconds.is_some()
    }

    /// Believes no longer service time than `seconds`: what was seen since says that the rest was a queue.
    pub fn cap(&mut self, seconds: f64) {
        self.seconds = self.seconds.map(|known| known.min(seconds.max(1e-6)));
        self.usual = self.usual.min(seconds.max(1e-6));
    }

    /// Folds in the tracks of a class, of which `first` is nearest. Spilled traffic is the control
    /// group: a slower mix slows all clusters, a queue only one.
    pub fn update(&mut self, tracks: &[Track], first: usize, elapsed: f64) {
        let now = self.seconds();
        let measured = |index: usize| {
            let track = &tracks[index];
            track.response().map(|response| (response, track.error(now)))
        };
        let rate = |index: usize| tracks[index].good_rate();
        let all: f64 = (0..tracks.len()).map(rate).sum();
        let spilled = all - tracks.get(first).map_or(0.0, |track| track.good_rate());
        self.unspilled = if spilled > SPILL_NOISE * all { 0.0 } else { self.unspilled + elapsed };
        self.samples += all * elapsed;
        let Some(least) = (0..tracks.len())
            .filter_map(measured)
            .map(|(mean, error)| mean + error)
            .reduce(f64::min)
        else {
            return;
        };
        let Some(seconds) = self.seconds else {
            self.seconds = Some(least.max(1e-6));
            self.usual = least.max(1e-6);
            return;
        };
        self.get_used(seconds, tracks, elapsed);
        let control = (0..tracks.len())
            .filter(|index| *index != first)
            .filter_map(measured)
            .map(|(mean, error)| mean - error)
            .reduce(f64::min);
        let (target, tau) = match (control, measured(first)) {
            _ if least < seconds => (least, 0.5),
            (Some(control), _) if control > seconds => (control, 0.3),
            (_, Some((mean, error))) if self.samples < FRESH && mean - error > seconds => {
                (mean - error, 1.0)
            }
            (None, Some((mean, error))) if self.unspilled > 2.0 && mean - error > seconds => {
                (mean - error, 10.0)
            }
            _ => return,
        };
        // Where every cluster queues, the control group does, too: a mix that is slower than ever is a queue.
        let target = target.min((SLOWER_MAX * self.usual).max(seconds));
        self.seconds = Some((seconds + (target - seconds) * (1.0 - decay(elapsed, tau))).max(1e-6));
    }

    /// Gets used to what is, but to no queue that nobody should wait in.
    fn get_used(&mut self, seconds: f64, tracks: &[Track], elapsed: f64) {
        let queues = tracks.iter().filter(|track| track.response().is_some()).map(Track::queue);
        let overloaded = queues.reduce(f64::min).is_some_and(|shortest| shortest > OVERLOADED);
        if seconds < self.usual || self.samples < FRESH {
            self.usual = seconds;
        } else if !overloaded {
            self.usual += (seconds - self.usual) * (1.0 - decay(elapsed, 60.0));
        }
    }
}

/// The service time of a class where clusters report theirs: one mean, and how each differs from it. A
/// change of the mix moves all of them together, also those that serve too little to tell.
#[derive(Clone, Debug, Default)]
pub struct ReportedService {
    mean: Option<f64>,
    ratios: Vec<f64>,
    known: Vec<bool>,
}

/// Good answers a second below which a cluster's service time says little.
const TELLING: f64 = 8.0;

impl ReportedService {
    /// Nothing is known yet of so many clusters.
    #[must_use]
    pub fn new(clusters: usize) -> ReportedService {
        ReportedService { mean: None, ratios: vec![1.0; clusters], known: vec![false; clusters] }
    }

    /// Folds the newest reports in.
    pub fn update(&mut self, tracks: &[Track], elapsed: f64) {
        let telling = |track: &Track| {
            track.report().filter(|r| r.service > 0.0 && r.good >= TELLING).copied()
        };
        let reports: Vec<Option<Report>> = tracks.iter().map(telling).collect();
        for (known, track) in self.known.iter_mut().zip(tracks) {
            *known = track.report().is_some();
        }
        let (mut sum, mut weight) = (0.0, 0.0);
        for (report, ratio) in reports.iter().zip(&self.ratios) {
            if let Some(report) = report {
                sum += report.good * report.service / ratio;
                weight += report.good;
            }
        }
        if weight > 0.0 {
            self.mean = Some(sum / weight);
        }
        let Some(mean) = self.mean else { return };
        let several = reports.iter().flatten().count() >= 2;
        for (ratio, report) in self.ratios.iter_mut().zip(&reports) {
            match report {
                Some(report) if several => {
                    let gain = report.good / (report.good + 10.0) * (1.0 - decay(elapsed, 0.5));
                    *ratio += (report.service / mean - *ratio) * gain;
                }
                Some(_) | None => *ratio += (1.0 - *ratio) * (1.0 - decay(elapsed, 60.0)),
            }
            *ratio = ratio.clamp(0.05, 20.0);
        }
    }

    /// The shortest service time that is reported.
    #[must_use]
    pub fn least(tracks: &[Track]) -> Option<f64> {
        let telling = |track: &Track| {
            let report = *track.newest_report()?;
            (report.service > 0.0 && report.good >= TELLING).then_some(report.service)
        };
        tracks.iter().filter_map(telling).reduce(f64::min)
    }

    /// The service time of a cluster that reports; `None` where it does not.
    #[must_use]
    pub fn seconds(&self, slot: usize) -> Option<f64> {
        let known = self.known.get(slot).copied().unwrap_or(false);
        self.mean.filter(|_| known).map(|mean| (mean * self.ratios[slot]).max(1e-6))
    }
}
