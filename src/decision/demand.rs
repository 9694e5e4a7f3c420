//! How many exchanges a second there will be: the level of late, and a trend where there is one.
//!
//! A cluster in a cloud is ready a minute after it was asked for, so the asking must come a minute before
//! the need. But a step is no trend: what doubles in a second does not go on doubling. So there is a trend only
//! where a line tells the last seconds better than one step, or none, does; while demand climbs to a new height
//! each second a little better is enough. The trend is damped, and no forecast exceeds 1.5 times the highest
//! demand of the last minute.
//!
//! The level is a mean over as many seconds as nothing has changed: arrivals are as uneven as chance, and an
//! autoscaler must not follow that.
//!
//! # Units
//! Exchanges a second; seconds.

use std::collections::VecDeque;

/// What is left of the trend after each second of looking ahead.
const DAMPING: f64 = 0.98;
/// A forecast is at most so many times the highest demand seen in the last lead time.
const GROWTH_MAX: f64 = 1.5;
/// How many seconds are remembered: the usual lead time.
const REMEMBERED: usize = 60;
/// The seconds whose mean is compared with the level, and that make up the highest demand.
const BRIEF: usize = 5;
/// Windows in which a trend is looked for, in seconds, the longest first.
const WINDOWS: [usize; 4] = [60, 40, 25, 15];
/// By how many variances of a second's count a line must be better than a step, and than no change at all; and how
/// much may be left beside it, by second.
const BETTER: f64 = 3.0;
const CERTAIN: f64 = 10.0;
const STRAIGHT: f64 = 1.8;
/// The part of both that is enough while demand climbs.
const CLIMBING: f64 = 0.3;
/// What demand deviates from a line by itself, as a part of it.
const UNEVEN: f64 = 0.05;
/// Seconds before anything is foretold.
const YOUNG: usize = 10;

/// The demand of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Exchanges a second, newest last.
    rates: VecDeque<f64>,
    /// For how many seconds the level has been what it is.
    settled: usize,
    /// What the seconds so far say: the level, its change a second, and the highest demand.
    level: f64,
    trend: f64,
    highest: f64,
    /// For how many seconds in a row demand has been higher than ever within the last minute.
    climbs: usize,
    /// What came within the second that is not over yet, and how much of it is.
    count: f64,
    span: f64,
}

impl Forecast {
    /// Folds in how many exchanges came within `elapsed` seconds.
    pub fn observe(&mut self, count: f64, elapsed: f64) {
        if !(count.is_finite() && count >= 0.0 && elapsed.is_finite()) {
            return;
        }
        self.count += count;
        self.span += elapsed;
        if self.span < 1.0 {
            return;
        }
        let rate = self.count / self.span;
        (self.count, self.span) = (0.0, 0.0);
        if self.rates.len() == REMEMBERED {
            self.rates.pop_front();
        }
        self.rates.push_back(rate);
        self.settled = (self.settled + 1).min(self.rates.len());
        self.notice_change();
        let (level, trend) = self.find_trend().unwrap_or((self.mean(0, self.settled), 0.0));
        (self.level, self.trend) = (level.max(0.0), trend);
        let spans = 0..=self.rates.len().saturating_sub(BRIEF);
        let highest = spans.map(|ago| self.mean(ago, BRIEF)).fold(0.0, f64::max);
        let now = self.mean(0, BRIEF);
        let before = (1..=self.rates.len().saturating_sub(BRIEF)).map(|ago| self.mean(ago, BRIEF));
        let is_higher = now > before.fold(0.0, f64::max);
        self.climbs = if is_higher { self.climbs + 1 } else { 0 };
        self.highest = highest.max(self.level);
    }

    /// Starts the level anew where the last seconds are not what chance makes of it.
    fn notice_change(&mut self) {
        for (brief, deviations) in [(2, 5.0), (BRIEF, 4.0)] {
            if self.settled <= brief {
                return;
            }
            let (now, level) = (self.mean(0, brief), self.mean(0, self.settled));
            let chance = (level.max(1.0) / brief as f64).sqrt();
            if (now - level).abs() > deviations * chance {
                self.settled = brief;
            }
        }
    }

    /// The mean of `span` seconds, the newest of which is `ago` seconds old.
    fn mean(&self, ago: usize, span: usize) -> f64 {
        let seconds = self.rates.iter().rev().skip(ago).take(span);
        let (sum, count) = seconds.fold((0.0, 0.0), |(sum, count), rate| (sum + rate, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// The demand of late, in exchanges a second, without the unevenness of arrivals.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.level
    }

    /// The line through the seconds of late, in the longest window where it is one: its value now, and its change
    /// a second. A window in which one step, or none, tells it as well holds no trend.
    fn find_trend(&self) -> Option<(f64, f64)> {
        let newest: Vec<f64> = self.rates.iter().rev().copied().collect();
        let windows = WINDOWS.iter().filter(|window| **window <= newest.len());
        let sure = windows.clone().filter_map(|window| trend(&newest[..*window], 1.0)).next();
        // Who climbs to a new height each second is on a slope, where a step would be over.
        let climbs = newest.len() > YOUNG && self.climbs > BRIEF;
        let young = newest.get(..YOUNG).filter(|_| climbs);
        sure.or_else(|| trend(young?, CLIMBING))
    }

    /// The rate `lead` seconds from now; `None` before ten seconds were seen.
    #[must_use]
    pub fn ahead(&self, lead: f64) -> Option<f64> {
        if self.rates.len() < YOUNG {
            return None;
        }
        let steps = DAMPING * (1.0 - DAMPING.powf(lead)) / (1.0 - DAMPING);
        let rate = self.level + self.trend * steps;
        Some(rate.clamp(0.0, GROWTH_MAX * self.highest))
    }
}

/// The line through `rates`, newest first: its value now and its change a second, where a line tells them better
/// than one step does, and as well as chance lets it. `doubt` is how much better, as a part of the usual.
fn trend(rates: &[f64], doubt: f64) -> Option<(f64, f64)> {
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let (mut all, mut along) = (0.0, 0.0);
    for (age, rate) in rates.iter().enumerate() {
        all += (rate - mean).powi(2);
        along += (middle - age as f64) * (rate - mean);
    }
    let slope = along / (count * (count * count - 1.0) / 12.0);
    let beyond_line = all - along * slope;
    // The best single step explains `left² · (1 / n + 1 / m)` of it.
    let (mut left, mut explained) = (0.0, 0.0_f64);
    for (index, rate) in rates.iter().enumerate().take(rates.len() - 1) {
        left += rate - mean;
        let before = index as f64 + 1.0;
        explained = explained.max(left * left * (1.0 / before + 1.0 / (count - before)));
    }
    let beyond_step = all - explained;
    // Arrivals are as uneven as chance; what they follow is seldom a line to the last part.
    let chance = mean.max(1.0) + (UNEVEN * mean).powi(2);
    let is_line = beyond_line < STRAIGHT * count * chance;
    let is_better = beyond_step - beyond_line > doubt * BETTER * chance;
    let is_trend = all - beyond_line > doubt * CERTAIN * chance;
    (is_line && is_better && is_trend).then_some((mean + slope * middle, slope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::units::Dice;

    fn after(rates: impl Iterator<Item = f64>) -> Forecast {
        let mut forecast = Forecast::default();
        rates.for_each(|rate| (0..20).for_each(|_| forecast.observe(rate / 20.0, 0.05)));
        forecast
    }

    #[test]
    fn an_even_rate_goes_on_and_a_rising_one_rises() {
        assert!(after(std::iter::repeat_n(100.0, 5)).ahead(60.0).is_none());
        let even = after(std::iter::repeat_n(100.0, 60)).ahead(60.0).unwrap();
        assert!((even - 100.0).abs() < 0.5, "{even}");
        let rising = after((0..60).map(|n| 100.0 + 5.0 * f64::from(n))).ahead(60.0).unwrap();
        assert!((460.0..590.0).contains(&rising), "of 395 rising 5 a second: {rising}");
        let falling = after((0..60).map(|n| 400.0 - 6.0 * f64::from(n))).ahead(60.0).unwrap();
        assert!((0.0..46.0).contains(&falling), "{falling}");
    }

    #[test]
    fn a_step_is_no_trend_wherever_it_falls() {
        for at in 10..60 {
            for seconds in at + 1..at + 50 {
                let step = |n| if n < at { 20.0 } else { 100.0 };
                let ahead = after((0..seconds).map(step)).ahead(60.0).unwrap();
                assert!(ahead <= 105.0, "{seconds} s, step at {at}: {ahead}");
                let back = |n| if n < at { 100.0 } else { 20.0 };
                let ahead = after((0..seconds).map(back)).ahead(60.0).unwrap();
                assert!(ahead >= 19.0, "{seconds} s, step down at {at}: {ahead}");
            }
        }
    }

    #[test]
    fn chance_is_neither_a_trend_nor_another_level() {
        for seed in 0..20 {
            let mut dice = Dice::seeded(seed);
            let mut forecast = Forecast::default();
            let mut next = 0.0;
            for sweep in 0..20 * 300 {
                let now = f64::from(sweep) * 0.05;
                let mut count = 0.0;
                while next < now {
                    count += 1.0;
                    next -= (1.0 - dice.unit()).ln() / 20.0;
                }
                forecast.observe(count, 0.05);
                if sweep > 20 * 30 {
                    let ahead = forecast.ahead(60.0).unwrap();
                    assert!((12.0..=30.0).contains(&ahead), "seed {seed}, {now} s: {ahead}");
                }
            }
        }
    }

    #[test]
    fn no_forecast_exceeds_half_as_much_again_as_was_seen_and_nonsense_is_dropped() {
        let mut forecast = after((0..30).map(|n| f64::from(n * n)));
        assert!(forecast.ahead(60.0).unwrap() <= 1.5 * 29.0 * 29.0);
        let before = forecast.ahead(60.0);
        forecast.observe(f64::NAN, 1.0);
        forecast.observe(-5.0, 1.0);
        forecast.observe(5.0, f64::INFINITY);
        assert_eq!(forecast.ahead(60.0), before);
    }
}
