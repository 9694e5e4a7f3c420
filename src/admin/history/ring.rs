//! One figure over time: one point per second for ten minutes, one point per ten seconds for a day.

use std::collections::VecDeque;

/// The number of points of the short ring: the seconds of ten minutes.
pub(super) const SECONDS: usize = 600;
/// The number of points of the long ring: the stretches of ten seconds in a day.
pub(super) const STRETCHES: usize = 8_640;
/// Seconds of a stretch.
pub(super) const STRETCH: u64 = 10;

/// The least value that is distinguished from zero, and the number of steps per factor of e.
const LEAST: f64 = 1e-5;
const STEPS: f64 = 2_000.0;
const ZERO: u16 = 0;
const UNKNOWN: u16 = u16::MAX;

/// A value as two bytes.
fn encode(value: Option<f64>) -> u16 {
    match value {
        Some(value) if value.is_finite() => {
            let steps = ((value.max(0.0) / LEAST).ln() * STEPS).round();
            if steps < 1.0 { ZERO } else { steps.min(f64::from(UNKNOWN - 1)) as u16 }
        }
        Some(_) | None => UNKNOWN,
    }
}

/// The value of two bytes.
fn decode(code: u16) -> Option<f64> {
    match code {
        UNKNOWN => None,
        ZERO => Some(0.0),
        code => Some(LEAST * (f64::from(code) / STEPS).exp()),
    }
}

/// The aggregate of a stretch over its seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keep {
    /// Their mean.
    Mean,
    /// The greatest.
    Greatest,
}

/// A ring of points of equal length, the newest last.
#[derive(Debug)]
struct Ring {
    points: VecDeque<u16>,
    most: usize,
}

impl Ring {
    fn new(most: usize) -> Ring {
        Ring { points: VecDeque::with_capacity(most), most }
    }

    fn push(&mut self, code: u16) {
        if self.points.len() == self.most {
            self.points.pop_front();
        }
        self.points.push_back(code);
    }

    /// The newest `count` points, the newest last; unknown before the first.
    fn last(&self, count: usize) -> Vec<Option<f64>> {
        let missing = count.saturating_sub(self.points.len());
        let known = self.points.iter().skip(self.points.len().saturating_sub(count));
        std::iter::repeat_n(None, missing).chain(known.map(|code| decode(*code))).collect()
    }
}

/// One figure over time.
#[derive(Debug)]
pub(super) struct Series {
    keep: Keep,
    seconds: Ring,
    /// `None` if the limit of series of a day was reached.
    stretches: Option<Ring>,
    /// The second after the newest point; 0 before the first point.
    next: u64,
    sum: f64,
    greatest: f64,
    count: u32,
}

impl Series {
    /// An empty series; `long` is true if it keeps a day.
    pub(super) fn new(keep: Keep, long: bool) -> Series {
        let stretches = long.then(|| Ring::new(STRETCHES));
        let seconds = Ring::new(SECONDS);
        Series { keep, seconds, stretches, next: 0, sum: 0.0, greatest: 0.0, count: 0 }
    }

    /// Whether it keeps a day.
    pub(super) fn is_long(&self) -> bool {
        self.stretches.is_some()
    }

    /// Adds the value of the second `at`. Seconds that were left out are unknown; a second that is not newer than the
    /// newest point is dropped.
    pub(super) fn push(&mut self, at: u64, value: Option<f64>) {
        if self.next == 0 {
            self.next = at;
        }
        if at < self.next {
            return;
        }
        // After a day without a point the series begins anew.
        let missed = (at - self.next).min(STRETCHES as u64 * STRETCH);
        for second in at - missed..at {
            self.second(second, None);
        }
        self.second(at, value);
        self.next = at + 1;
    }

    fn second(&mut self, at: u64, value: Option<f64>) {
        let value = value.filter(|value| value.is_finite());
        self.seconds.push(encode(value));
        if let Some(value) = value {
            self.sum += value;
            self.greatest = self.greatest.max(value);
            self.count += 1;
        }
        if at % STRETCH == STRETCH - 1 {
            let whole = match (self.count, self.keep) {
                (0, _) => None,
                (count, Keep::Mean) => Some(self.sum / f64::from(count)),
                (_, Keep::Greatest) => Some(self.greatest),
            };
            if let Some(stretches) = &mut self.stretches {
                stretches.push(encode(whole));
            }
            (self.sum, self.greatest, self.count) = (0.0, 0.0, 0);
        }
    }

    /// The second after the newest point; 0 before the first point.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The `count` seconds before the second `end`, the newest last.
    pub(super) fn seconds_before(&self, end: u64, count: usize) -> Vec<Option<f64>> {
        aligned(&self.seconds, end.saturating_sub(self.next), count)
    }

    /// The `count` whole stretches before the second `end`, the newest last.
    pub(super) fn stretches_before(&self, end: u64, count: usize) -> Vec<Option<f64>> {
        let late = (end / STRETCH).saturating_sub(self.next / STRETCH);
        match &self.stretches {
            Some(ring) => aligned(ring, late, count),
            None => vec![None; count],
        }
    }
}

/// The newest `count` points, of which the newest `late` are unknown.
fn aligned(ring: &Ring, late: u64, count: usize) -> Vec<Option<f64>> {
    let late = usize::try_from(late).unwrap_or(count).min(count);
    let mut points = ring.last(count - late);
    points.resize(count, None);
    points
}

/// Reduces the number of points: each result is the mean of the known points of one part.
pub(super) fn thin(points: &[Option<f64>], each: usize) -> Vec<Option<f64>> {
    let mean = |part: &[Option<f64>]| {
        let known: Vec<f64> = part.iter().copied().flatten().collect();
        let count = known.len() as f64;
        (count > 0.0).then(|| known.iter().sum::<f64>() / count)
    };
    // The newest point ends a whole part.
    let (first, rest) = points.split_at(points.len() % each.max(1));
    let first = (!first.is_empty()).then(|| mean(first));
    first.into_iter().chain(rest.chunks(each.max(1)).map(mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_two_bytes_and_unknown_is_not_zero() {
        for value in [2e-5, 0.07, 1.0, 23.4, 1_610.0, 98_765.0, 1e9] {
            let again = decode(encode(Some(value))).unwrap();
            assert!((again / value - 1.0).abs() < 3e-4, "{value}: {again}");
        }
        assert_eq!(decode(encode(Some(0.0))), Some(0.0));
        assert_eq!(decode(encode(Some(1e-9))), Some(0.0));
        for unknown in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(decode(encode(unknown)), None);
        }
        assert!(decode(encode(Some(1e300))).unwrap() > 1e9, "a huge value is the greatest");
    }

    #[test]
    fn seconds_come_back_in_order_and_what_was_not_recorded_is_unknown() {
        let mut series = Series::new(Keep::Mean, true);
        series.push(1_000, Some(5.0));
        series.push(1_003, Some(8.0));
        series.push(1_002, Some(99.0));

        let rounded = |all: Vec<Option<f64>>| -> Vec<Option<f64>> {
            all.into_iter().map(|value| value.map(f64::round)).collect()
        };
        let expected = [None, None, Some(5.0), None, None, Some(8.0)];
        assert_eq!(rounded(series.seconds_before(1_004, 6)), expected);
        let later = rounded(series.seconds_before(1_006, 6));
        assert_eq!(later, [Some(5.0), None, None, Some(8.0), None, None]);
    }

    #[test]
    fn a_stretch_is_the_mean_or_the_greatest_of_its_ten_seconds() {
        for (keep, expected) in [(Keep::Mean, 5.5), (Keep::Greatest, 10.0)] {
            let mut series = Series::new(keep, true);
            (0..25).for_each(|at| series.push(500 + at, Some(1.0 + (at % 10) as f64)));

            let last = series.stretches_before(525, 3);

            assert_eq!(last[0], None);
            for value in last.into_iter().skip(1) {
                assert!((value.unwrap() - expected).abs() < 0.01, "{keep:?}: {value:?}");
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_a_long_pause_is_a_new_beginning() {
        let mut series = Series::new(Keep::Mean, true);
        (1..200_000).for_each(|at| series.push(at, Some(1.0)));
        let ring = series.stretches.as_ref().unwrap();
        assert_eq!((series.seconds.points.len(), ring.points.len()), (SECONDS, STRETCHES));
        assert!(series.seconds.points.capacity() * 2 <= 1_200);
        assert!(ring.points.capacity() * 2 <= 17_280);

        series.push(10_000_000, Some(2.0));

        let known = series.stretches_before(10_000_001, STRETCHES).into_iter().flatten().count();
        assert!(known <= 1, "{known}");
        assert_eq!(series.seconds_before(10_000_001, 2)[0], None);
    }

    #[test]
    fn fewer_points_keep_the_newest_whole() {
        let points: Vec<Option<f64>> = (0..7).map(|n| (n != 4).then_some(f64::from(n))).collect();
        assert_eq!(thin(&points, 3), [Some(0.0), Some(2.0), Some(5.5)]);
        assert_eq!(thin(&points, 1), points);
    }
}
