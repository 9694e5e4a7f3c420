//! Response times without a queue: a baseline for each kind of request.
//!
//! A class serves fast and slow pages. With one mean for all of them, more requests for a slow page would look like
//! a queue. Therefore each kind of request, a *stratum*, has its own baseline, and only a delay common to all kinds
//! counts as a queue (`excess`).
//!
//! A baseline is learned while no queue is suspected; quantiles move by a step that shrinks (Robbins and Monro
//! 1951), in proportion to the spread of the times.
//!
//! # Units
//! Seconds to the response head, less the distance.

/// Strata of a class; all other kinds of request share one stratum.
pub const STRATA: usize = 32;
/// The least number of samples for a baseline to be used.
const KNOWN: f64 = 15.0;
/// Samples that are kept until then.
const FIRST: usize = KNOWN as usize;
/// The time constant of a baseline in seconds, and the bounds of the time constant in samples.
const FORGETS: f64 = 10.0;
const STEPS: (f64, f64) = (100.0, 2_000.0);
/// A stratum is slow if its requests take this many times the usual time.
const SLOW: f64 = 4.0;
/// The inverse of the density at a low quantile, in mean deviations: a value between those of a normal and an
/// exponential distribution.
const SPREADS: f64 = 2.5;
/// The window of a stratum's share of the traffic, in exchanges of its class.
const RECENT: f64 = 400.0;
/// The weight of a baseline after scaling, in samples.
const SCALED: f64 = 60.0;
/// The shortest baseline.
const LEAST: f64 = 1e-6;

/// The stratum of a request: by its route, its method and the first segments of its path.
#[must_use]
pub fn number(hash: u64) -> u8 {
    (hash % STRATA as u64) as u8
}

/// The excess is measured from the lower quartile and the median.
pub const QUANTILES: [f64; 2] = [0.25, 0.5];

/// The baseline of one stratum.
#[derive(Clone, Debug, Default)]
struct Stratum {
    count: f64,
    first: [f32; FIRST],
    quantiles: [f64; 2],
    mean: f64,
    /// The mean deviation from the median.
    spread: f64,
    /// Recent exchanges.
    recent: f64,
}

/// The baselines of a class.
#[derive(Clone, Debug, Default)]
pub struct Strata {
    /// By number; allocated at first use.
    of: Vec<Stratum>,
    /// The number of samples in total, and the number of known strata.
    count: f64,
}

impl Strata {
    fn get(&self, stratum: u8) -> Option<&Stratum> {
        self.of.get(usize::from(stratum)).filter(|one| one.count >= KNOWN)
    }

    /// Whether any baseline is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.of.iter().any(|one| one.count >= KNOWN)
    }

    /// Whether the baseline of this stratum is known.
    #[must_use]
    pub fn knows(&self, stratum: u8) -> bool {
        self.get(stratum).is_some()
    }

    /// The quantile number `which` of [`QUANTILES`] of a stratum; `None` while it is not known.
    #[must_use]
    pub fn quantile(&self, stratum: u8, which: usize) -> Option<f64> {
        self.get(stratum).map(|one| one.quantiles[which])
    }

    /// The mean of a stratum, known or preliminary; `None` before its first sample.
    #[must_use]
    pub fn mean(&self, stratum: u8) -> Option<f64> {
        let one = self.of.get(usize::from(stratum)).filter(|one| one.count > 0.0)?;
        Some(one.mean)
    }

    /// The mean over recent traffic; `None` before the first sample.
    #[must_use]
    pub fn service(&self) -> Option<f64> {
        let (sum, weight) = self.of.iter().fold((0.0, 0.0), |(sum, weight), one| {
            (sum + one.recent * one.mean, weight + one.recent)
        });
        (weight > 0.0).then(|| sum / weight)
    }

    /// A low quantile of the response times over recent traffic: the reference for an excess.
    #[must_use]
    pub fn usual(&self) -> f64 {
        let known = self.of.iter().filter(|one| one.count >= KNOWN);
        let (sum, weight) = known.fold((0.0, 0.0), |(sum, weight), one| {
            // Fast requests show a delay more clearly than slow ones.
            let weighs = one.recent / one.quantiles[0].max(LEAST);
            (sum + weighs * one.quantiles[0], weight + weighs)
        });
        if weight > 0.0 { sum / weight } else { 0.0 }
    }

    /// The weight of the baselines in samples, when they are compared with others.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.count.clamp(1.0, 900.0)
    }

    /// Counts an answered request of this stratum in its share of the traffic, whatever its response time.
    pub fn see(&mut self, stratum: u8) {
        self.make(stratum);
        let keep = 1.0 - 1.0 / RECENT;
        for one in &mut self.of {
            one.recent *= keep;
        }
        self.of[usize::from(stratum)].recent += 1.0;
    }

    /// Learns from a response that took `seconds`; `per_second` is the rate of responses.
    pub fn learn(&mut self, stratum: u8, seconds: f64, per_second: f64) {
        let seconds = seconds.max(LEAST);
        self.make(stratum);
        self.count += 1.0;
        let step_min = 1.0 / (FORGETS * per_second).clamp(STEPS.0, STEPS.1);
        self.of[usize::from(stratum)].learn(seconds, step_min);
    }

    /// Adapts the baselines to requests that take `factor` times as long, and `of_mean` times on average.
    /// For a slow stratum, only the increase of the usual time in seconds is known.
    pub fn scale(&mut self, factor: f64, of_mean: f64) {
        let usual = self.usual();
        let (more, more_of_mean) = (usual * (factor - 1.0), usual * (of_mean - 1.0));
        for one in &mut self.of {
            if one.quantiles[0] > SLOW * usual {
                one.mean = (one.mean + more_of_mean).max(LEAST);
                one.quantiles = one.quantiles.map(|quantile| (quantile + more).max(LEAST));
                continue;
            }
            one.mean = (one.mean * of_mean).max(LEAST);
            one.spread *= of_mean;
            one.quantiles = one.quantiles.map(|quantile| (quantile * factor).max(LEAST));
            one.first = one.first.map(|sample| sample * factor as f32);
            // The next samples correct the baseline quickly.
            one.count = one.count.min(SCALED);
        }
    }

    /// Adapts the baselines to requests that take `more` seconds longer.
    pub fn shift(&mut self, more: f64) {
        for one in &mut self.of {
            one.mean = (one.mean + more).max(LEAST);
            one.quantiles = one.quantiles.map(|quantile| (quantile + more).max(LEAST));
        }
    }

    /// Reduces the weight of the baselines: the next samples replace them.
    pub fn forget(&mut self) {
        self.count = 0.0;
        for one in &mut self.of {
            one.count = 0.0;
        }
    }

    fn make(&mut self, stratum: u8) {
        let needed = usize::from(stratum) + 1;
        if self.of.len() < needed {
            self.of.resize(needed, Stratum::default());
        }
    }
}

impl Stratum {
    fn learn(&mut self, seconds: f64, step_min: f64) {
        let index = self.count as usize;
        self.count += 1.0;
        let step = (1.0 / self.count).max(step_min);
        self.mean += (seconds - self.mean) * step;
        if index < FIRST {
            self.first[index] = seconds as f32;
            if index + 1 == FIRST {
                self.settle();
            }
            return;
        }
        self.spread += ((seconds - self.quantiles[1]).abs() - self.spread) * step;
        for (quantile, level) in self.quantiles.iter_mut().zip(QUANTILES) {
            let towards = if seconds > *quantile { level } else { level - 1.0 };
            *quantile = (*quantile + SPREADS * step * self.spread * towards).max(LEAST);
        }
    }

    /// Sets the quantiles from the first samples.
    fn settle(&mut self) {
        let mut sorted = self.first;
        sorted.sort_unstable_by(f32::total_cmp);
        for (quantile, level) in self.quantiles.iter_mut().zip(QUANTILES) {
            *quantile = f64::from(sorted[(FIRST as f64 * level) as usize]);
        }
        let off = |sample: &f32| (f64::from(*sample) - self.quantiles[1]).abs();
        self.spread = sorted.iter().map(off).sum::<f64>() / FIRST as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    fn exponential(dice: &mut Dice) -> f64 {
        -(1.0 - dice.unit()).ln() * 0.020
    }

    #[test]
    fn each_kind_of_request_has_its_own_baseline_and_the_mix_their_mean() {
        let (mut strata, mut dice) = (Strata::default(), Dice::seeded(3));
        for turn in 0..20_000 {
            let stratum = u8::from(turn % 20 == 0);
            let seconds = if stratum == 1 { 1.0 } else { exponential(&mut dice) };
            strata.see(stratum);
            strata.learn(stratum, seconds, 1_000.0);
        }
        assert!((strata.mean(0).unwrap() - 0.020).abs() < 0.006, "{:?}", strata.mean(0));
        assert!((strata.mean(1).unwrap() - 1.0).abs() < 0.01);
        let (low, mid) = (strata.quantile(0, 0).unwrap(), strata.quantile(0, 1).unwrap());
        assert!((low / 0.00575 - 1.0).abs() < 0.25, "lower quartile {low}");
        assert!((mid / 0.01386 - 1.0).abs() < 0.2, "median {mid}");
        assert!((strata.service().unwrap() - 0.069).abs() < 0.012, "{:?}", strata.service());
    }

    #[test]
    fn a_few_samples_are_no_baseline_and_scaling_applies_to_all_baselines() {
        let mut strata = Strata::default();
        strata.see(5);
        for sample in 0..14 {
            strata.learn(5, 0.010 + f64::from(sample) * 0.001, 1.0);
        }
        assert!(!strata.is_known() && strata.quantile(5, 0).is_none());
        assert!(strata.mean(5).is_some() && strata.mean(4).is_none());
        strata.learn(5, 0.024, 1.0);
        let before = strata.quantile(5, 0).unwrap();
        strata.scale(2.0, 2.0);
        assert!((strata.quantile(5, 0).unwrap() / before - 2.0).abs() < 1e-9);
        strata.forget();
        assert!(!strata.is_known());
    }
}
