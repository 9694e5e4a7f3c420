//! The budget for spilling as a token bucket of dollars.
//!
//! While the bucket has a balance, exchanges may spill to clusters with a price. When the balance is spent, this
//! spill stops and the exchanges queue at the own data centre. Fail-over is not spill: the budget does not limit
//! fail-over, unless the operator sets `applies_to: all`. As the balance falls, a dollar counts for more
//! milliseconds, so that spending slows down before it has to stop (dual ascent).
//!
//! # Units
//! Dollars; seconds.

/// How long a full bucket lasts at its refill rate.
const BURST_SECONDS: f64 = 300.0;
/// How much the price of a dollar changes with spending, per second.
const GAIN: f64 = 0.1;
/// The highest price of a dollar, relative to its floor.
const WEIGHT_MAX: f64 = 1e6;

/// The limit of a service's spending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpendingLimit {
    /// Dollars an hour, for all proxies together.
    pub usd_per_hour: f64,
    /// This proxy's part of the budget.
    pub share: f64,
    /// Whether the proxies of the site share the budget.
    pub shared: bool,
    /// Whether fail-over is limited as well.
    pub binds_failover: bool,
}

/// The bucket of one service.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: SpendingLimit,
    left: f64,
    /// The part of the limit that this proxy has at present.
    part: f64,
    /// The price of a dollar, relative to its floor.
    weight: f64,
}

impl SpendingLimit {
    fn usd_per_second(&self) -> f64 {
        self.usd_per_hour * self.share / 3600.0
    }
}

impl Budget {
    /// A full bucket, or a bucket with the balance from before a restart.
    #[must_use]
    pub fn new(limit: SpendingLimit, left: Option<f64>) -> Budget {
        let full = limit.usd_per_second() * BURST_SECONDS;
        let left =
            left.filter(|left| left.is_finite()).map_or(full, |left| left.clamp(-full, full));
        Budget { limit, left, part: 1.0, weight: 1.0 }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> SpendingLimit {
        self.limit
    }

    /// Sets the part of the limit that this proxy has from now on, 0 to 1. The bucket shrinks and grows with it.
    pub fn set_part(&mut self, part: f64) {
        self.part = part.clamp(0.0, 1.0);
    }

    /// How full the bucket is, 0 to 1.
    #[must_use]
    pub fn level(&self) -> f64 {
        let full = self.limit.usd_per_second() * self.part * BURST_SECONDS;
        if full > 0.0 { (self.left / full).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Folds in the spend of `elapsed` seconds.
    pub fn spend(&mut self, usd: f64, elapsed: f64) {
        let rate = self.limit.usd_per_second() * self.part;
        let full = rate * BURST_SECONDS;
        self.left = (self.left + rate * elapsed - usd.max(0.0)).clamp(-full.max(1e-9), full);
        // The price rises only after half of the burst is used: the first half of the bucket is spent at
        // the floor price.
        let pressure = match self.left < full / 2.0 && rate > 0.0 {
            true => usd / elapsed.max(1e-9) / rate - 1.0,
            false => -1.0,
        };
        let step = (GAIN * pressure.clamp(-5.0, 5.0) * elapsed).exp();
        self.weight = (self.weight * step).clamp(1.0, WEIGHT_MAX);
    }

    /// Whether there is a balance.
    #[must_use]
    pub fn has_money(&self) -> bool {
        self.left > 0.0
    }

    /// The balance in dollars; negative if exchanges were in flight when the budget ran out.
    #[must_use]
    pub fn left(&self) -> f64 {
        self.left
    }

    /// The price of a dollar now, relative to its floor.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: SpendingLimit =
        SpendingLimit { usd_per_hour: 36.0, share: 0.5, shared: false, binds_failover: false };

    #[test]
    fn a_bucket_holds_five_minutes_and_refills_by_the_hour() {
        let mut budget = Budget::new(LIMIT, None);
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
        assert!((Budget::new(LIMIT, Some(0.25)).left() - 0.25).abs() < 1e-9);
        assert!((Budget::new(LIMIT, Some(f64::NAN)).left() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn the_price_of_a_dollar_rises_with_overspending_and_falls_to_its_floor() {
        let mut budget = Budget::new(LIMIT, Some(0.5));
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
