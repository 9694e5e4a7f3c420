//! The mix of request kinds in one sweep, and the bounds of the queue inferred from all kinds together.

use crate::excess::Excess;
use crate::exchange::{End, Ended};
use crate::strata::Strata;

/// The predictions of the baselines of request kinds for the exchanges that ended since the last sweep.
/// Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// The baselines' prediction of the mean response time without distance.
    pub expected: f64,
    /// Number of exchanges, of a sample.
    pub count: f64,
    /// Sum of the differences between the response times and their predictions.
    pub beyond: f64,
    /// Sum of the squares of these differences.
    pub beyond_squares: f64,
}

impl Mix {
    /// The mix of the exchanges `new`; `usual` is the prediction for an exchange of an unknown kind.
    #[must_use]
    pub fn of(new: &[Ended], strata: &Strata, distance: f64, usual: f64) -> Mix {
        let mut mix = Mix::default();
        for ended in new.iter().filter(|ended| ended.end == End::Answered) {
            let took = ended.ended - ended.sent - distance;
            let expected = strata.mean(ended.stratum).unwrap_or(took.max(0.0));
            mix.count += 1.0;
            mix.expected += expected;
            mix.beyond += took - expected;
            mix.beyond_squares += (took - expected) * (took - expected);
        }
        mix.expected = if mix.count > 0.0 { mix.expected / mix.count } else { usual };
        mix
    }
}

/// Bounds an inferred queue, `middle`, by `excess`. If a shift was `significant` lately, the result lies between the
/// lower and the upper bound; if not, the result is the lesser of `middle` and the lower bound. The exchanges that
/// ended show the queue at their arrival; since then the queue may have grown by `growth` seconds a second.
#[must_use]
pub fn bounded(middle: f64, excess: &Excess, significant: bool, growth: f64, service: f64) -> f64 {
    let low = excess.low.max(0.0);
    let high = excess.high.max(low);
    let high = if high.is_finite() { high + growth * (high + service) } else { high };
    if significant { middle.clamp(low, high) } else { middle.min(low) }
}
