//! The shorter expected wait of two endpoints drawn at random.
//!
//! Two draws, not a full scan: the cost is constant in the cluster's size, and workers that share a
//! stale view do not all stampede to the same momentary best (Mitzenmacher 2001).

use crate::decision::signal::EndpointSignals;
use crate::decision::units::Dice;

/// Picks one of `usable`, which holds at least two.
pub(super) fn pick(
    endpoints: &[EndpointSignals],
    usable: &[usize],
    in_flight: impl Fn(usize) -> u32,
    dice: &mut Dice,
) -> usize {
    let (first, second) = dice.two_below(usable.len());
    let (first, second) = (usable[first], usable[second]);
    let wait = |index: usize| {
        let endpoint = &endpoints[index];
        endpoint.latency * f64::from(in_flight(index) + 1) / endpoint.weight
    };
    if wait(first) <= wait(second) { first } else { second }
}
