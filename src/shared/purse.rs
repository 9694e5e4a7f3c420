//! The dollars that a service may spend until the next sweep.
//!
//! A budget is decided at each sweep. Between two sweeps all workers pay from one purse, so that a burst of spill ends
//! with the balance and not with the sweep.

use std::sync::atomic::{AtomicI64, Ordering};

/// Picodollars in a dollar: a request may cost less than a millionth of a cent.
const PER_DOLLAR: f64 = 1e12;

/// The purse of a service; without a budget it is never empty.
#[derive(Debug)]
pub struct Purse(AtomicI64);

impl Default for Purse {
    fn default() -> Purse {
        Purse(AtomicI64::new(i64::MAX))
    }
}

impl Purse {
    /// Fills the purse for the next sweep; `None` is no limit.
    pub fn fill(&self, usd: Option<f64>) {
        // The cast saturates.
        let content = usd.map_or(i64::MAX, |usd| (usd * PER_DOLLAR) as i64);
        self.0.store(content, Ordering::Relaxed);
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= 0
    }

    /// Takes the expected cost of an exchange.
    pub fn pay(&self, usd: f64) {
        if usd > 0.0 {
            self.0.fetch_sub((usd * PER_DOLLAR) as i64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purse_is_empty_when_its_content_is_paid_and_without_a_limit_never() {
        let purse = Purse::default();
        purse.pay(1e6);
        assert!(!purse.is_empty());
        purse.fill(Some(3e-6));
        purse.pay(0.0);
        for paid in 1..=3 {
            assert!(!purse.is_empty(), "{paid}");
            purse.pay(1e-6);
        }
        assert!(purse.is_empty());
        purse.fill(Some(-1.0));
        assert!(purse.is_empty());
        purse.fill(None);
        assert!(!purse.is_empty());
    }
}
