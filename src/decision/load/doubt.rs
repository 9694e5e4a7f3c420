//! Whether a cluster's reports are wrong: compares the reported queue with the queue that this proxy
//! observes.
//!
//! A wrong capacity shows as a reported queue while responses are fast, or as no reported queue while
//! responses are slow. Reports that are a second old make all proxies act alike: such reports are right on
//! average but wrong at each moment, so they scatter.

use super::decay;

/// The window of the comparison, in seconds.
const WINDOW: f64 = 5.0;
/// For how long reports are ignored after they were found wrong, in seconds.
const DISTRUST: f64 = 60.0;
/// For how long reports may be wrong, or may lack the queue that their load implies, in seconds.
const WRONG_MAX: f64 = 10.0;
/// For how long reports may scatter, in seconds.
const STALE_MAX: f64 = 3.0;

/// Running comparison of reports with observations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    /// Mean of reported queue less observed queue, in seconds.
    difference: f64,
    /// Mean square of that difference.
    scatter: f64,
    /// Mean observed queue, in seconds.
    observed: f64,
    /// Mean queue that the reported load implies, in seconds.
    due: f64,
    /// Seconds for which the observed queue was far shorter than the expected queue, less the seconds for
    /// which it was not.
    idle: f64,
    /// Consecutive seconds for which the difference was too large.
    wrong: f64,
    /// Consecutive seconds for which the scatter was too large.
    stale: f64,
    /// Seconds for which reports are still ignored.
    distrusted: f64,
}

/// One sweep's comparison, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    /// The queue by the report.
    pub(super) reported: f64,
    /// The queue by the response times.
    pub(super) observed: f64,
    /// The queue that the reported load implies.
    pub(super) due: f64,
    /// Standard error of the mean response time.
    pub(super) error: f64,
    /// The window of that mean.
    pub(super) window: f64,
    /// The service time.
    pub(super) service: f64,
}

impl Doubt {
    /// Reduces the remaining time of distrust by `elapsed` seconds.
    pub(super) fn pass(&mut self, elapsed: f64) {
        self.distrusted = (self.distrusted - elapsed).max(0.0);
    }

    /// Whether reports are ignored now.
    pub(super) fn is_distrusted(&self) -> bool {
        self.distrusted > 0.0
    }

    /// Folds one comparison in.
    pub(super) fn fold(&mut self, now: Comparison, elapsed: f64) {
        let news = 1.0 - decay(elapsed, WINDOW);
        let difference = now.reported - now.observed;
        self.difference += (difference - self.difference) * news;
        self.scatter += (difference.powi(2) - self.scatter) * news;
        // The noise of one window, averaged over the number of windows in the comparison.
        let noise = now.error * (now.window / WINDOW).sqrt();
        let tolerance = (0.1 * now.service).max(0.001) + 2.0 * noise;
        // A cluster that reports almost full utilisation must have a queue, since arrivals are random.
        self.observed += (now.observed - self.observed) * news;
        self.due += (now.due - self.due) * news;
        let idle = self.observed + noise < 0.1 * self.due;
        self.idle = (self.idle + if idle { elapsed } else { -elapsed }).max(0.0);
        self.wrong = lasting(self.difference.abs() > tolerance, self.wrong, elapsed);
        self.stale = lasting(self.scatter.sqrt() > 5.0 * tolerance, self.stale, elapsed);
        if self.wrong > WRONG_MAX || self.idle > WRONG_MAX || self.stale > STALE_MAX {
            self.idle = 0.0;
            self.distrusted = DISTRUST;
        }
    }
}

/// For how long a condition has held continuously, in seconds.
fn lasting(holds: bool, seconds: f64, elapsed: f64) -> f64 {
    if holds { seconds + elapsed } else { 0.0 }
}
