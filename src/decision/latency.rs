//! The distance of a cluster: the median of recent probes, quick to follow a change of the path.
//!
//! The minimum would hide jitter, which would then count as service time; one lost packet distorts
//! a mean. A median alone follows a rerouted path only after half of its window, so three
//! consecutive samples far from the median restart the window.
//!
//! # Units
//! Seconds as `f64`. Nothing reads a clock: the window is a number of samples, since probes come at
//! even intervals.

/// Samples kept: 10 s at the default interval of 500 ms.
const WINDOW: usize = 21;
/// This many consecutive samples that differ from the median by a quarter (and by 1 ms) indicate a new
/// path.
const SHIFT: usize = 3;

/// With this many samples, one disturbed sample does not decide.
const SETTLED: usize = 3;

/// A window of recent samples.
#[derive(Clone, Debug, Default)]
pub struct Distance {
    samples: Vec<f64>,
    median: Option<f64>,
    lower_quartile: Option<f64>,
}

impl Distance {
    /// Folds one sample in; a sample that is not a finite, non-negative number is dropped.
    pub fn observe(&mut self, seconds: f64) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        if self.samples.len() == WINDOW {
            self.samples.remove(0);
        }
        self.samples.push(seconds);
        self.sum_up();
        self.restart_on_shift();
    }

    /// Whether the last sample is far from the others.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        match (self.samples.last(), self.median()) {
            (Some(last), Some(median)) => (last - median).abs() > margin(median),
            _ => false,
        }
    }

    fn restart_on_shift(&mut self) {
        let count = self.samples.len();
        let Some(median) = self.median().filter(|_| count > 2 * SHIFT) else { return };
        let recent = &self.samples[count - SHIFT..];
        let margin = margin(median);
        let above = recent.iter().all(|sample| *sample > median + margin);
        let below = recent.iter().all(|sample| *sample < median - margin);
        if above || below {
            self.samples.drain(..count - SHIFT);
            self.sum_up();
        }
    }

    /// Whether there are enough samples that one bad sample does not decide.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.samples.len() >= SETTLED
    }

    /// The median, in seconds; `None` before the first sample.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        self.median
    }

    /// The lower quartile, in seconds: it stays correct while the slow half of the probes queues.
    #[must_use]
    pub fn lower_quartile(&self) -> Option<f64> {
        self.lower_quartile
    }

    /// Computes the quantiles, which are read far more often than a sample comes.
    fn sum_up(&mut self) {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        self.median = sorted.get(sorted.len() / 2).copied();
        self.lower_quartile = sorted.get(sorted.len() / 4).copied();
    }
}

/// The distance from the median beyond which a sample indicates another path, in seconds.
fn margin(median: f64) -> f64 {
    (median * 0.25).max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outlier_changes_nothing_and_a_shift_is_followed_in_three_probes() {
        let mut distance = Distance::default();
        for _ in 0..20 {
            distance.observe(0.010);
        }
        distance.observe(3.0);
        assert_eq!(distance.median(), Some(0.010));
        for _ in 0..3 {
            distance.observe(0.090);
        }
        assert_eq!(distance.median(), Some(0.090));
        for _ in 0..20 {
            distance.observe(0.090);
        }
        for _ in 0..3 {
            distance.observe(0.010);
        }
        assert_eq!(distance.median(), Some(0.010));
    }

    #[test]
    fn invalid_samples_are_dropped() {
        let mut distance = Distance::default();
        for sample in [f64::NAN, f64::INFINITY, -1.0] {
            distance.observe(sample);
        }
        assert_eq!(distance.median(), None);
    }
}
