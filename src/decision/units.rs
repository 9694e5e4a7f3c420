//! Quantities that carry their unit in their type.

use std::time::Duration;

/// A moment, in nanoseconds since an arbitrary start. Only `os::clock` reads the real clock.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The first moment of a clock.
    pub const START: Timestamp = Timestamp(0);

    /// The moment `nanos` after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Timestamp {
        Timestamp(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The span since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn secs_since(self, earlier: Timestamp) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }

    /// This moment plus `span`, or the greatest moment.
    #[must_use]
    pub fn plus(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A small seeded generator (xorshift64*, Vigna 2016): the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator that gives the same numbers for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Dice {
        Dice(mix(seed) | 1)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Two different numbers below `bound`, which is at least 2.
    pub fn two_below(&mut self, bound: usize) -> (usize, usize) {
        let first = self.below(bound);
        let second = self.below(bound.saturating_sub(1));
        (first, if second >= first { second + 1 } else { second })
    }
}

/// Mixes the bits of a number (splitmix64's finaliser).
#[must_use]
pub const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A hash of text that is the same in every process (FNV-1a, then mixed).
#[must_use]
pub fn hash(text: &[u8]) -> u64 {
    let fold = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    mix(text.iter().fold(0xCBF2_9CE4_8422_2325, fold))
}

/// The mean of some numbers; `None` of none.
#[must_use]
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Folds a rate of the last `elapsed` seconds into a mean over about one second.
pub fn smooth(mean: &mut f64, rate: f64, elapsed: f64) {
    *mean += (rate - *mean) * (1.0 - (-elapsed).exp());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_stay_below_their_bound_and_repeat() {
        let (mut dice, mut again) = (Dice::seeded(7), Dice::seeded(7));
        for bound in 2..2_000 {
            let (first, second) = dice.two_below(bound);
            assert!(first < bound && second < bound && first != second);
            assert_eq!((first, second), again.two_below(bound));
            let unit = dice.unit();
            assert!((0.0..1.0).contains(&unit));
            assert_eq!(unit, again.unit());
        }
    }
}
