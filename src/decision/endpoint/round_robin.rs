//! Each endpoint in turn, by weight: turns are spread by the golden ratio, so that heavy endpoints
//! do not get their turns in a row.

use crate::decision::signal::EndpointSignals;

/// The part of one that spreads successive turns most evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Picks one of `usable`, which is not empty.
pub(super) fn pick(endpoints: &[EndpointSignals], usable: &[usize], turn: u64) -> usize {
    let first = endpoints[usable[0]].weight;
    if usable.iter().all(|index| endpoints[*index].weight == first) {
        return usable[(turn % usable.len() as u64) as usize];
    }
    let total: f64 = usable.iter().map(|index| endpoints[*index].weight).sum();
    let mut left = (turn as f64 * GOLDEN).fract() * total;
    for index in usable {
        left -= endpoints[*index].weight;
        if left < 0.0 {
            return *index;
        }
    }
    usable[usable.len() - 1]
}
