//! Counts of durations by logarithmic bucket: quantiles of any duration, with an error of at most 5 %.
//!
//! The buckets of the Prometheus histograms are too wide for accurate quantiles. Eight buckets per octave are
//! narrow enough, and counting is still one load and one store by a single writer.
//!
//! # Units
//! Seconds in the interface, microseconds internally.

use super::counter::Count;

/// Buckets an octave.
const PER_OCTAVE: u32 = 8;
/// The first octave begins at 2^6 µs, the last ends at 2^26 µs (67 s).
const FIRST_OCTAVE: u32 = 6;
const OCTAVES: u32 = 20;
/// Number of buckets; shorter durations are in the first, longer ones in the last.
pub const BUCKETS: usize = (OCTAVES * PER_OCTAVE) as usize;

/// Durations counted by one writer.
#[derive(Debug)]
pub struct Latencies([Count; BUCKETS]);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(std::array::from_fn(|_| Count::default()))
    }
}

impl Latencies {
    /// Counts one duration.
    pub fn observe(&self, seconds: f64) {
        self.0[bucket((seconds * 1e6) as u64)].add(1);
    }

    /// The counts as they are now.
    #[must_use]
    pub fn totals(&self) -> LatencyTotals {
        LatencyTotals(self.0.each_ref().map(Count::get))
    }

    pub(super) fn fold(&self, more: &Latencies) {
        for (count, more) in self.0.iter().zip(&more.0) {
            count.fold(more);
        }
    }
}

/// The bucket of a duration in microseconds.
fn bucket(micros: u64) -> usize {
    let micros = micros.max(1 << FIRST_OCTAVE);
    let octave = micros.ilog2();
    // The three bits below the highest one.
    let within = (micros >> (octave - PER_OCTAVE.ilog2())) as u32 & (PER_OCTAVE - 1);
    let index = (octave - FIRST_OCTAVE) * PER_OCTAVE + within;
    (index as usize).min(BUCKETS - 1)
}

/// The lower bound of a bucket, in seconds.
fn lower(bucket: usize) -> f64 {
    let (octave, within) = (bucket as u32 / PER_OCTAVE, bucket as u32 % PER_OCTAVE);
    let micros = f64::from(2_u32.pow(octave + FIRST_OCTAVE));
    micros * (1.0 + f64::from(within) / f64::from(PER_OCTAVE)) / 1e6
}

/// Counts of one moment.
#[derive(Clone, Debug)]
pub struct LatencyTotals([u64; BUCKETS]);

impl Default for LatencyTotals {
    fn default() -> LatencyTotals {
        LatencyTotals([0; BUCKETS])
    }
}

impl LatencyTotals {
    /// Adds other totals.
    pub fn merge(&mut self, other: &LatencyTotals) {
        for (total, count) in self.0.iter_mut().zip(other.0) {
            *total += count;
        }
    }

    /// The counts since `before`.
    #[must_use]
    pub fn since(&self, before: &LatencyTotals) -> LatencyTotals {
        let mut counts = self.0;
        for (count, before) in counts.iter_mut().zip(before.0) {
            *count = count.saturating_sub(before);
        }
        LatencyTotals(counts)
    }

    /// The quantile `share` of all durations, in seconds; `None` without durations.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        if all == 0 {
            return None;
        }
        let rank = share * all as f64;
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= rank {
                let within = ((rank - below) / count).clamp(0.0, 1.0);
                return Some(lower(bucket) + (lower(bucket + 1) - lower(bucket)) * within);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_lower_bound_and_not_the_next() {
        for index in 0..BUCKETS - 1 {
            let micros = |bucket| (lower(bucket) * 1e6).ceil() as u64;
            assert_eq!(bucket(micros(index)), index);
            assert_eq!(bucket(micros(index + 1)), index + 1);
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let latencies = Latencies::default();
        assert_eq!(latencies.totals().quantile(0.5), None);
        (1..=1_000).for_each(|ms| latencies.observe(f64::from(ms) / 1e3));
        let totals = latencies.totals();
        for (share, truth) in [(0.5, 0.5), (0.99, 0.99), (0.01, 0.01)] {
            let found = totals.quantile(share).unwrap();
            assert!((found / truth - 1.0).abs() < 0.05, "{share}: {found}");
        }
    }

    #[test]
    fn only_what_came_since_counts() {
        let latencies = Latencies::default();
        (0..100).for_each(|_| latencies.observe(0.2));
        let before = latencies.totals();
        (0..100).for_each(|_| latencies.observe(0.01));

        let found = latencies.totals().since(&before).quantile(0.99).unwrap();

        assert!((found / 0.01 - 1.0).abs() < 0.07, "{found}");
    }
}
