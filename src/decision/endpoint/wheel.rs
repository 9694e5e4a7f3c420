//! Weighted turns: selects the endpoint of the next turn in constant time.
//!
//! Endpoints of equal weight take turns one after the other. Other weights divide a wheel in proportion; turns
//! move by the golden ratio, which spreads the turns of a heavy endpoint evenly.

/// The golden ratio's fraction: multiples of it spread successive turns most evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Entries of the lookup table per endpoint. With several entries per endpoint, most entries lie within the range of
/// one endpoint.
const FINER: usize = 4;

/// The shares of a cluster's usable endpoints, by position among them. Empty while all weights are equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wheel {
    /// The end of each endpoint's part of the wheel, from 0 to 1.
    ends: Vec<f32>,
    /// The lookup table: [`FINER`] equal parts of the wheel for each endpoint; each entry is the endpoint at the
    /// beginning of the part.
    guide: Vec<u32>,
}

impl Wheel {
    /// A wheel for these weights, which are above 0.
    #[must_use]
    pub fn new(weights: impl Iterator<Item = f64> + Clone) -> Wheel {
        let first = weights.clone().next().unwrap_or(1.0);
        if weights.clone().all(|weight| weight == first) {
            return Wheel::default();
        }
        let total: f64 = weights.clone().sum();
        let mut sum = 0.0;
        let ends: Vec<f32> = weights
            .map(|weight| {
                sum += weight / total;
                sum as f32
            })
            .collect();
        let count = ends.len();
        let mut at = 0;
        let parts = count * FINER;
        let guide = (0..parts).map(|part| {
            let beginning = part as f32 / parts as f32;
            while at + 1 < count && ends[at] <= beginning {
                at += 1;
            }
            u32::try_from(at).unwrap_or(u32::MAX)
        });
        let guide = guide.collect();
        Wheel { ends, guide }
    }

    /// Whether all weights are equal.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.ends.is_empty()
    }

    /// The endpoint of turn number `turn`, among `count` usable endpoints. `count` is at least 1.
    #[must_use]
    pub fn at(&self, turn: u64, count: usize) -> usize {
        if self.ends.len() != count {
            return (turn % count as u64) as usize;
        }
        // An integer product keeps the fraction exact for every turn; a product of floats does not.
        let angle = turn.wrapping_mul((GOLDEN * 18_446_744_073_709_551_616.0) as u64);
        let angle = (angle >> 40) as f32 / (1_u32 << 24) as f32;
        let part = (angle * self.guide.len() as f32) as usize;
        let mut at = self.guide.get(part).map_or(count - 1, |at| *at as usize);
        while at + 1 < count && self.ends[at] <= angle {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_in_proportion_to_weights_in_every_short_span() {
        for weights in [&[1.0, 3.0][..], &[1.0, 1.0, 0.1], &[100.0, 1.0, 1.0, 1.0, 50.0]] {
            let wheel = Wheel::new(weights.iter().copied());
            let total: f64 = weights.iter().sum();
            for start in [0_u64, 977, 1 << 60, u64::MAX - 3_000] {
                let mut counts = vec![0; weights.len()];
                for turn in start..start + 2_000 {
                    counts[wheel.at(turn, weights.len())] += 1;
                }
                for (count, weight) in counts.iter().zip(weights) {
                    let due = 2_000.0 * weight / total;
                    assert!((f64::from(*count) - due).abs() <= 5.0, "{weights:?}: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn equal_weights_take_turns_one_after_the_other() {
        let wheel = Wheel::new([0.1; 4].into_iter());
        let turns: Vec<usize> = (6..14).map(|turn| wheel.at(turn, 4)).collect();
        assert_eq!(turns, [2, 3, 0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn a_heavy_endpoint_does_not_get_its_turns_in_a_row() {
        let wheel = Wheel::new([1.0, 1.0, 2.0].into_iter());
        let turns: Vec<usize> = (0..400).map(|turn| wheel.at(turn, 3)).collect();
        assert!(turns.windows(4).all(|four| four.iter().any(|turn| *turn != 2)));
    }
}
