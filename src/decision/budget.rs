//! The budget for spilling as a token bucket of dollars.
//!
//! While the bucket has a balance, exchanges may spill to clusters with a price. When the balance is spent, this
//! spill stops and the exchanges queue at the own data centre. Fail-over is not spill: the budget does not limit
//! fail-over, unless the operator sets `applies_to: all`. As the balance falls, a dollar counts for more
//! milliseconds, so that spending slows down before it has to stop (dual ascent).
//!
//! Exchanges that are in flight when the balance runs out make a debt, which the refill pays before spill starts
//! again. So spill costs at most the burst and the refill, plus one debt however long the time is.
//!
//! # Units
//! Dollars; seconds.

/// How long a full bucket lasts at its refill rate.
const BURST_SECONDS: f64 = 300.0;
/// The refill that pays the largest debt: beyond this a debt is forgiven. Only a stored balance that is invalid is as low.
const DEBT_SECONDS: f64 = 86_400.0;
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

/// Dollars spent, by whether the budget limits them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Payment {
    /// Spill; with `applies_to: all`, everything.
    pub limited: f64,
    /// Fail-over, which continues without a balance.
    pub unlimited: f64,
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
    /// Dollars spent since the last [`settle`](Budget::settle).
    spent: f64,
}

impl SpendingLimit {
    fn usd_per_second(&self) -> f64 {
        self.usd_per_hour * self.share / 3600.0
    }

    /// The balance of a full bucket, in dollars.
    #[must_use]
    pub fn burst(&self) -> f64 {
        self.usd_per_second() * BURST_SECONDS
    }
}

impl Budget {
    /// A full bucket, or a bucket with the balance from before a restart.
    #[must_use]
    pub fn new(limit: SpendingLimit, left: Option<f64>) -> Budget {
        let (full, debt) = (limit.burst(), limit.usd_per_second() * DEBT_SECONDS);
        let left =
            left.filter(|left| left.is_finite()).map_or(full, |left| left.clamp(-debt, full));
        Budget { limit, left, part: 1.0, weight: 1.0, spent: 0.0 }
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

    /// The part of the limit that this proxy has at present, 0 to 1.
    #[must_use]
    pub fn part(&self) -> f64 {
        self.part
    }

    /// How full the bucket is, 0 to 1.
    #[must_use]
    pub fn level(&self) -> f64 {
        let full = self.full();
        if full > 0.0 { (self.left / full).clamp(0.0, 1.0) } else { 0.0 }
    }

    fn full(&self) -> f64 {
        self.limit.burst() * self.part
    }

    /// Refills the bucket for `elapsed` seconds.
    pub fn refill(&mut self, elapsed: f64) {
        let rate = self.limit.usd_per_second() * self.part;
        self.left = (self.left + rate * elapsed).min(self.full());
    }

    /// Deducts a payment. Spill may leave a debt. Fail-over leaves a debt of one burst at most: after a long outage,
    /// spill must be possible again soon.
    pub fn spend(&mut self, payment: Payment) {
        let limited = payment.limited.max(0.0);
        let unlimited = payment.unlimited.max(0.0);
        self.spent += limited + unlimited;
        let debt = self.limit.usd_per_second() * DEBT_SECONDS;
        self.left = (self.left - limited).max(-debt);
        if self.left > -self.full() {
            self.left = (self.left - unlimited).max(-self.full());
        }
    }

    /// Adjusts the price of a dollar to the payments of the last `elapsed` seconds.
    pub fn settle(&mut self, elapsed: f64) {
        let rate = self.limit.usd_per_second() * self.part;
        let usd = std::mem::take(&mut self.spent);
        // The price rises only after half of the burst is used: the first half of the bucket is spent at
        // the floor price.
        let pressure = match self.left < self.full() / 2.0 && rate > 0.0 {
            true => usd / elapsed.max(1e-9) / rate - 1.0,
            false => -1.0,
        };
        let step = (GAIN * pressure.clamp(-5.0, 5.0) * elapsed).exp();
        self.weight = (self.weight * step).clamp(1.0, WEIGHT_MAX);
    }

    /// Whether the balance covers more than `committed`, the expected cost of exchanges in flight.
    #[must_use]
    pub fn has_money(&self, committed: f64) -> bool {
        self.left > committed.max(0.0)
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

    impl Budget {
        /// Folds in `elapsed` seconds with this spill.
        fn pass(&mut self, limited: f64, elapsed: f64) {
            self.refill(elapsed);
            self.spend(Payment { limited, unlimited: 0.0 });
            self.settle(elapsed);
        }
    }

    #[test]
    fn a_bucket_holds_five_minutes_and_refills_by_the_hour() {
        let mut budget = Budget::new(LIMIT, None);
        assert!((budget.left() - 1.5).abs() < 1e-9);
        budget.pass(1.6, 1.0);
        assert!(!budget.has_money(0.0));
        for _ in 0..21 {
            budget.pass(0.0, 1.0);
        }
        assert!(budget.has_money(0.0) && !budget.has_money(0.1));
        for _ in 0..10_000 {
            budget.pass(0.0, 1.0);
        }
        assert!((budget.left() - 1.5).abs() < 1e-9, "it never overflows");
        assert!((Budget::new(LIMIT, Some(0.25)).left() - 0.25).abs() < 1e-9);
        assert!((Budget::new(LIMIT, Some(f64::NAN)).left() - 1.5).abs() < 1e-9);
        assert!(
            (Budget::new(LIMIT, Some(-2.0)).left() + 2.0).abs() < 1e-9,
            "a restart pays nothing"
        );
        assert!(Budget::new(LIMIT, Some(-1e300)).left() > -1e3, "and an invalid file is no debt");
    }

    #[test]
    fn the_debt_of_spill_is_paid_and_the_debt_of_failover_is_at_most_a_burst() {
        let (mut spilled, mut failed) = (Budget::new(LIMIT, None), Budget::new(LIMIT, None));
        spilled.spend(Payment { limited: 11.5, unlimited: 0.0 });
        failed.spend(Payment { limited: 0.0, unlimited: 11.5 });
        assert!((spilled.left() + 10.0).abs() < 1e-9 && (failed.left() + 1.5).abs() < 1e-9);
        // Fail-over during a debt of spill neither adds to the debt nor forgives it.
        spilled.spend(Payment { limited: 0.0, unlimited: 5.0 });
        assert!((spilled.left() + 10.0).abs() < 1e-9);
        (0..2_001).for_each(|_| spilled.pass(0.0, 1.0));
        assert!(spilled.has_money(0.0) && spilled.left() < 0.01, "{}", spilled.left());
    }

    #[test]
    fn whoever_spends_while_there_is_money_spends_the_burst_and_the_refill() {
        // A sweep sees the spend of exchanges that were sent before the balance ran out: lumps of up to ten sweeps.
        let mut budget = Budget::new(LIMIT, None);
        let (mut total, mut lump) = (0.0, 0.0);
        for step in 0..72_000 {
            lump += if budget.has_money(0.0) { 0.002 } else { 0.0 };
            let paid = if step % 10 == 0 { std::mem::take(&mut lump) } else { 0.0 };
            total += paid;
            budget.pass(paid, 0.05);
        }
        let allowed = 1.5 + 18.0;
        assert!((0.98..1.02).contains(&(total / allowed)), "{total} of {allowed}");
    }

    #[test]
    fn the_price_of_a_dollar_rises_with_overspending_and_falls_to_its_floor() {
        let mut budget = Budget::new(LIMIT, Some(0.5));
        for _ in 0..10 {
            budget.pass(0.05, 1.0);
        }
        assert!(budget.weight() > 10.0, "{}", budget.weight());
        for _ in 0..600 {
            budget.pass(0.0, 1.0);
        }
        assert_eq!(budget.weight(), 1.0);
    }
}
