//! Service time, without distance and queue, for clusters that report it; otherwise see `strata`.
//!
//! # Units
//! Seconds; `elapsed` is the span since the last sweep.

use super::load::{Track, decay};
use super::report::Report;

/// The service time that is assumed before the first measurement, in seconds.
pub const SERVICE_UNKNOWN: f64 = 0.020;
/// The service time of a class whose clusters report it: one mean, and the ratio of each cluster to the
/// mean. A change of the mix of requests then moves all clusters together, including clusters with too
/// little traffic to report.
#[derive(Clone, Debug, Default)]
pub struct ReportedService {
    mean: Option<f64>,
    ratios: Vec<f64>,
    known: Vec<bool>,
}

/// Good answers a second below which a cluster's reported service time is not used.
const TELLING: f64 = 8.0;

impl ReportedService {
    /// The state before the first report, for `clusters` clusters.
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

    /// The shortest service time that any cluster reports.
    #[must_use]
    pub fn least(tracks: &[Track]) -> Option<f64> {
        let telling = |track: &Track| {
            let report = *track.newest_report()?;
            (report.service > 0.0 && report.good >= TELLING).then_some(report.service)
        };
        tracks.iter().filter_map(telling).reduce(f64::min)
    }

    /// The service time of a cluster that reports; `None` if the cluster does not report.
    #[must_use]
    pub fn seconds(&self, slot: usize) -> Option<f64> {
        let known = self.known.get(slot).copied().unwrap_or(false);
        self.mean.filter(|_| known).map(|mean| (mean * self.ratios[slot]).max(1e-6))
    }
}
