//! Forecast of demand: the current level, and a trend if the demand has one.
//!
//! A cluster in a cloud is ready a minute after it was requested, so the request must come a minute before the need.
//! A step is not a trend: demand that doubles in a second does not go on doubling. A trend is assumed only if a line
//! fits the last seconds better than one step and better than a constant. While demand reaches a new maximum every
//! second, a slightly better fit is enough. The trend is damped, and no forecast exceeds 1.5 times the highest demand
//! of the last minute.
//!
//! The level is the mean demand since the last change: arrivals are random, and an autoscaler must not follow their
//! randomness.
//!
//! # Units
//! Exchanges a second; seconds.

use std::collections::VecDeque;

/// The part of the trend that remains after each second of looking ahead.
const DAMPING: f64 = 0.98;
/// The highest forecast, as a multiple of the highest demand in the last lead time.
const GROWTH_MAX: f64 = 1.5;
/// Seconds of demand that are kept: the usual lead time.
const REMEMBERED: usize = 60;
/// The seconds whose mean is compared with the level. The highest demand is the highest mean over the
/// same number of seconds.
const BRIEF: usize = 5;
/// Windows in which a trend is searched, in seconds, the longest first.
const WINDOWS: [usize; 4] = [60, 40, 25, 15];
/// By how many variances of a second's count a line must be better than a step and than a constant; and how
/// large the residual may be, per second.
const BETTER: f64 = 3.0;
const CERTAIN: f64 = 10.0;
const STRAIGHT: f64 = 1.8;
/// The part of both thresholds that is sufficient while demand reaches new maxima.
const CLIMBING: f64 = 0.3;
/// The usual deviation of demand from a line, as a part of the demand.
const UNEVEN: f64 = 0.05;
/// Seconds before the first forecast.
const YOUNG: usize = 10;

/// The demand of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Exchanges a second, newest last.
    rates: VecDeque<f64>,
    /// For how many seconds the level has not changed.
    settled: usize,
    /// Results up to the last complete second: the level, its change a second, and the highest demand.
    level: f64,
    trend: f64,
    highest: f64,
    /// The number of consecutive seconds in which demand exceeded every earlier second of the last minute.
    climbs: usize,
    /// Exchanges within the current second, and the part of the second that has passed.
    count: f64,
    span: f64,
}

impl Forecast {
    /// Folds in the number of exchanges that arrived within `elapsed` seconds.
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

    /// Starts the level anew if the last seconds differ from the level by more than chance.
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

    /// The recent demand, in exchanges a second, without the randomness of arrivals.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.level
    }

    /// The trend of the recent seconds, in the longest window that has a trend: the current value, and the change
    /// a second. A window in which a step or a constant fits as well as a line has no trend.
    fn find_trend(&self) -> Option<(f64, f64)> {
        let newest: Vec<f64> = self.rates.iter().rev().copied().collect();
        let windows = WINDOWS.iter().filter(|window| **window <= newest.len());
        let sure = windows.clone().filter_map(|window| trend(&newest[..*window], 1.0)).next();
        // Demand that reaches a new maximum each second has a trend; a step would have ended.
        let climbs = newest.len() > YOUNG && self.climbs > BRIEF;
        let young = newest.get(..YOUNG).filter(|_| climbs);
        sure.or_else(|| trend(young?, CLIMBING))
    }

    /// The rate `lead` seconds from now; `None` in the first ten seconds.
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

/// The line through `rates`, newest first: the current value and the change a second, if a line fits the rates better
/// than one step, with a residual that chance explains. `doubt` is the part of the usual threshold by which the line
/// must be better.
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
    // The best single step explains `left² · (1 / n + 1 / m)` of the residual.
    let (mut left, mut explained) = (0.0, 0.0_f64);
    for (index, rate) in rates.iter().enumerate().take(rates.len() - 1) {
        left += rate - mean;
        let before = index as f64 + 1.0;
        explained = explained.max(left * left * (1.0 / before + 1.0 / (count - before)));
    }
    let beyond_step = all - explained;
    // Arrivals are random, and demand itself is seldom exactly on a line.
    let chance = mean.max(1.0) + (UNEVEN * mean).powi(2);
    let is_line = beyond_line < STRAIGHT * count * chance;
    let is_better = beyond_step - beyond_line > doubt * BETTER * chance;
    let is_trend = all - beyond_line > doubt * CERTAIN * chance;
    (is_line && is_better && is_trend).then_some((mean + slope * middle, slope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    fn after(rates: impl Iterator<Item = f64>) -> Forecast {
        let mut forecast = Forecast::default();
        rates.for_each(|rate| (0..20).for_each(|_| forecast.observe(rate / 20.0, 0.05)));
        forecast
    }

    #[test]
    fn a_constant_rate_stays_and_a_trend_continues() {
        assert!(after(std::iter::repeat_n(100.0, 5)).ahead(60.0).is_none());
        let even = after(std::iter::repeat_n(100.0, 60)).ahead(60.0).unwrap();
        assert!((even - 100.0).abs() < 0.5, "{even}");
        let rising = after((0..60).map(|n| 100.0 + 5.0 * f64::from(n))).ahead(60.0).unwrap();
        assert!((460.0..590.0).contains(&rising), "of 395 rising 5 a second: {rising}");
        let falling = after((0..60).map(|n| 400.0 - 6.0 * f64::from(n))).ahead(60.0).unwrap();
        assert!((0.0..46.0).contains(&falling), "{falling}");
    }

    #[test]
    fn a_step_is_no_trend_at_any_offset() {
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
    fn noise_is_neither_a_trend_nor_a_new_level() {
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
    fn a_forecast_is_at_most_1_5_times_the_observed_rate_and_invalid_input_is_dropped() {
        let mut forecast = after((0..30).map(|n| f64::from(n * n)));
        assert!(forecast.ahead(60.0).unwrap() <= 1.5 * 29.0 * 29.0);
        let before = forecast.ahead(60.0);
        forecast.observe(f64::NAN, 1.0);
        forecast.observe(-5.0, 1.0);
        forecast.observe(5.0, f64::INFINITY);
        assert_eq!(forecast.ahead(60.0), before);
    }
}
