//! How many exchanges a second there will be: Holt's linear trend (Holt 1957), a second a step.
//!
//! A cluster in a cloud is ready a minute after it was asked for, so the asking must come a minute before
//! the need. The trend is damped, since what doubles in a second does not go on doubling for a minute.
//!
//! # Units
//! Exchanges a second; seconds.

/// How much a second's news weighs in the level, and in the trend.
const LEVEL: f64 = 0.3;
const TREND: f64 = 0.1;
/// What is left of the trend after each second of looking ahead.
const DAMPING: f64 = 0.98;
/// A forecast is at most so many times the level.
const GROWTH_MAX: f64 = 4.0;

/// A level and its trend.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    level: f64,
    trend: f64,
    seconds: u32,
    /// What came within the second that is not over yet, and how much of it is.
    count: f64,
    span: f64,
}

impl Forecast {
    /// Folds in how many exchanges came within `elapsed` seconds.
    pub fn observe(&mut self, count: f64, elapsed: f64) {
        if !(count.is_finite() && count >= 0.0) {
            return;
        }
        self.count += count;
        self.span += elapsed;
        if self.span < 1.0 {
            return;
        }
        let rate = self.count / self.span;
        (self.count, self.span) = (0.0, 0.0);
        self.seconds = self.seconds.saturating_add(1);
        if self.seconds == 1 {
            self.level = rate;
            return;
        }
        let before = self.level;
        self.level += self.trend;
        self.level = (self.level + LEVEL * (rate - self.level)).max(0.0);
        self.trend += TREND * (self.level - before - self.trend);
    }

    /// The rate `lead` seconds from now; `None` before ten seconds were seen.
    #[must_use]
    pub fn ahead(&self, lead: f64) -> Option<f64> {
        let steps = DAMPING * (1.0 - DAMPING.powf(lead)) / (1.0 - DAMPING);
        let rate = self.level + self.trend * steps;
        (self.seconds >= 10).then(|| rate.clamp(0.0, GROWTH_MAX * self.level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!((480.0..700.0).contains(&rising), "of 395 rising 5 a second: {rising}");
        let falling = after((0..60).map(|n| 400.0 - 6.0 * f64::from(n))).ahead(60.0).unwrap();
        assert!((0.0..46.0).contains(&falling), "{falling}");
    }

    #[test]
    fn a_burst_is_not_taken_for_a_trend_without_end_and_nonsense_is_dropped() {
        let burst = (0..60).map(|n| if n > 55 { 1_000.0 } else { 100.0 });
        let mut forecast = after(burst);
        assert!(forecast.ahead(60.0).unwrap() <= GROWTH_MAX * 1_000.0);
        let before = forecast.ahead(60.0);
        forecast.observe(f64::NAN, 1.0);
        forecast.observe(-5.0, 1.0);
        assert_eq!(forecast.ahead(60.0), before);
    }
}
