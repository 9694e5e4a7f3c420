//! Money as a bucket: what spilling may cost, refilled by the hour.
//!
//! While there is money a queue at home may be bought off; when there is none, spill to priced clusters
//! stops and the traffic waits at home. Failing over is not spilling: an outage is paid for, unless the
//! operator said `applies_to: all`. As the bucket empties, a dollar counts for more milliseconds, so
//! that spending slows down before it has to stop (dual ascent).
//!
//! # Units
//! Dollars; seconds.

/// How long a full bucket lasts at the rate of its refill.
const BURST_SECONDS: f64 = 300.0;
/// How quickly the price of a dollar follows spending, a second.
const GAIN: f64 = 0.1;
/// The most a dollar may count for, relative to its floor.
const WEIGHT_MAX: f64 = 1e6;

/// What an operator allows a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Dollars an hour of all proxies.
    pub usd_per_hour: f64,
    /// This proxy's part of them.
    pub share: f64,
    /// Whether failing over is bound by it, too.
    pub binds_failover: bool,
}

/// The bucket of one service.
#[derive(Clone, Debug)]
pub struct Budget {
    terms: Terms,
    left: f64,
    /// How many times its floor a dollar counts for.
    weight: f64,
}

impl Terms {
    fn usd_per_second(&self) -> f64 {
        self.usd_per_hour * self.share / 3600.0
    }
}

impl Budget {
    /// A full bucket, or one with what was left before a restart.
    #[must_use]
    pub fn new(terms: Terms, left: Option<f64>) -> Budget {
        let full = terms.usd_per_second() * BURST_SECONDS;
        let left =
            left.filter(|left| left.is_finite()).map_or(full, |left| left.clamp(-full, full));
        Budget { terms, left, weight: 1.0 }
    }

    /// The terms.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Folds in what was spent within `elapsed` seconds.
    pub fn spend(&mut self, usd: f64, elapsed: f64) {
        let rate = self.terms.usd_per_second();
        let full = rate * BURST_SECONDS;
        self.left = (self.left + rate * elapsed - usd.max(0.0)).clamp(-full.max(1e-9), full);
        // Only once the burst is half used: what is saved up may be spent at the plain price.
        let pressure = match self.left < full / 2.0 && rate > 0.0 {
            true => usd / elapsed.max(1e-9) / rate - 1.0,
            false => -1.0,
        };
        let step = (GAIN * pressure.clamp(-5.0, 5.0) * elapsed).exp();
        self.weight = (self.weight * step).clamp(1.0, WEIGHT_MAX);
    }

    /// Whether there is money left.
    #[must_use]
    pub fn has_money(&self) -> bool {
        self.left > 0.0
    }

    /// Dollars left; below zero by what was under way when they ran out.
    #[must_use]
    pub fn left(&self) -> f64 {
        self.left
    }

    /// How many times its floor a dollar counts for now.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { usd_per_hour: 36.0, share: 0.5, binds_failover: false };

    #[test]
    fn a_bucket_holds_five_minutes_and_refills_by_the_hour() {
        let mut budget = Budget::new(TERMS, None);
        assert!((budget.left() - 1.5).abs() < 1e-9);
        budget.spend(1.6, 1.0);
        assert!(!budget.has_money());
        for _ in 0..20 {
            budget.spend(0.0, 1.0);
        }
        assert!(budget.has_money());
        for _ in 0..10_000 {
            budget.spend(0.0, 1.0);
        }
        assert!((budget.left() - 1.5).abs() < 1e-9, "it never overflows");
        assert!((Budget::new(TERMS, Some(0.25)).left() - 0.25).abs() < 1e-9);
        assert!((Budget::new(TERMS, Some(f64::NAN)).left() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn a_dollar_counts_for_more_while_too_many_are_spent_and_for_its_floor_again_later() {
        let mut budget = Budget::new(TERMS, Some(0.5));
        for _ in 0..10 {
            budget.spend(0.05, 1.0);
        }
        assert!(budget.weight() > 10.0, "{}", budget.weight());
        for _ in 0..600 {
            budget.spend(0.0, 1.0);
        }
        assert_eq!(budget.weight(), 1.0);
    }
}
