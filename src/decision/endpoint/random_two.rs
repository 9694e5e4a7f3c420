//! Of two endpoints drawn at random, the one with fewer exchanges in flight.

use crate::index::EndpointIndex;
use crate::units::Dice;

/// Picks one of `usable`, which holds at least two.
pub(super) fn pick(
    usable: &[EndpointIndex],
    in_flight: impl Fn(EndpointIndex) -> u32,
    dice: &mut Dice,
) -> EndpointIndex {
    let (first, second) = dice.two_below(usable.len());
    let (first, second) = (usable[first], usable[second]);
    if in_flight(first) <= in_flight(second) { first } else { second }
}
