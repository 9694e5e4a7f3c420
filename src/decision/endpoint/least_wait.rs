//! Endpoints take turns, unless another endpoint has a shorter expected wait.
//!
//! Turns are fair and spread arrivals more evenly than random choice. An exchange goes to another endpoint than the
//! one whose turn it is only if the other endpoint is cheaper by a margin. In a small cluster all endpoints are
//! considered, in a large cluster a random few: the cost of a pick stays constant, and workers that share stale
//! signals do not all choose the same momentary best (Mitzenmacher 2001).

use super::Chance;
use crate::index::{EndpointIndex, Table};
use crate::signal::{ClusterSignals, EndpointSignals};

/// The number of endpoints up to which all are considered.
const ALL_MAX: usize = 8;
/// The number of endpoints that are drawn from a larger cluster.
const DRAWN: u32 = 6;
/// The factor by which another endpoint must be cheaper.
const MARGIN: f32 = 1.1;
/// Exchanges in flight that double the wait: an endpoint serves some of them in parallel.
const ALONGSIDE: f64 = 2.0;
/// Endpoints of unequal weight take turns by weight alone while the endpoint of the least weight has at most this
/// many exchanges in flight.
const FEW: f64 = 2.0;

/// The expected wait of one more exchange at an endpoint, relative to its siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// When idle, with the turn.
    own: f32,
    /// The cost when idle and not its turn: higher during slow start.
    other: f32,
    /// For each exchange in flight.
    each: f32,
    /// The share of its turns that the endpoint keeps even when a sibling is cheaper.
    trickle: f32,
    /// Seconds after which the endpoint gets an exchange even when a sibling is cheaper.
    pause: f32,
    /// Exchanges in flight that are few for its weight.
    few: f32,
}

impl Cost {
    /// The cost of an endpoint that is `slowness` times as slow as its siblings and whose slow start has reached
    /// the part `ramp` of its weight. The weight is given relative to the mean weight and to the least weight of
    /// the siblings. All arguments are above 0.
    #[must_use]
    pub fn new(
        slowness: f64,
        ramp: f64,
        (weight, of_least): (f64, f64),
        (trickle, pause): (f64, f64),
    ) -> Cost {
        Cost {
            own: slowness as f32,
            other: (slowness / ramp) as f32,
            each: (slowness / (ramp * weight * ALONGSIDE)) as f32,
            trickle: trickle as f32,
            pause: pause as f32,
            few: (FEW * of_least) as f32,
        }
    }

    /// Whether the endpoint neither differs from its siblings nor is in its slow start.
    fn is_plain(self) -> bool {
        self.own == 1.0 && self.other == 1.0
    }
}

/// Picks one of `usable`, which holds at least two.
pub(super) fn pick(
    cluster: &ClusterSignals,
    usable: &[EndpointIndex],
    in_flight: impl Fn(EndpointIndex) -> u32,
    chance: &mut Chance<'_>,
) -> EndpointIndex {
    let endpoints = &cluster.endpoints;
    let (now, turns) = (chance.now, &mut *chance.turns);
    turns.fit(cluster);
    for &index in &cluster.returned {
        let idle = usable.contains(&index) && in_flight(index) == 0;
        if idle && turns.greets(index, endpoints[index].returns) {
            turns.used(index, now);
            return index;
        }
    }
    let own = turns.next(&cluster.wheel, usable);
    let (cost, busy) = (endpoints[own].cost, in_flight(own));
    // With unequal weights, a few exchanges in flight say little: one exchange is a high load for an
    // endpoint of small weight.
    let weighed = !cluster.wheel.is_even() && cost.is_plain() && busy as f32 <= cost.few;
    turns.has_turn(own);
    let best = match weighed && !turns.may_lose(own) {
        true => own,
        false => {
            let bound = (cost.own + cost.each * busy as f32) / MARGIN;
            cheaper(endpoints, usable, (own, bound, weighed), in_flight, chance)
        }
    };
    let turns = &mut *chance.turns;
    if best != own {
        if busy == 0 && turns.insists(own, cost.trickle, cost.pause, now) {
            return own;
        }
        turns.moved(own, best);
    }
    turns.used(best, now);
    best
}

/// The cheapest of the endpoints considered, if it costs less than `bound`, else `own`.
fn cheaper(
    endpoints: &Table<EndpointIndex, EndpointSignals>,
    usable: &[EndpointIndex],
    (own, bound, weighed): (EndpointIndex, f32, bool),
    in_flight: impl Fn(EndpointIndex) -> u32,
    chance: &mut Chance<'_>,
) -> EndpointIndex {
    let (turns, mut best, mut least) = (&*chance.turns, own, bound);
    let mut consider = |index: EndpointIndex| {
        let cost = endpoints[index].cost;
        // The endpoint would not be cheaper even if it were idle.
        if cost.other < least && index != own {
            let wait = cost.other + cost.each * in_flight(index) as f32;
            let may_gain = || !(weighed && cost.is_plain()) || turns.may_gain(index);
            if wait < least && may_gain() {
                (best, least) = (index, wait);
            }
        }
    };
    let count = usable.len();
    let bits = chance.dice.bits();
    if count <= ALL_MAX {
        // The scan starts at random; otherwise the first of equal endpoints would be preferred.
        let start = (((bits >> 32) * count as u64) >> 32) as usize;
        usable[start..].iter().chain(&usable[..start]).for_each(|index| consider(*index));
    } else {
        let (start, step) = (bits as u32, (bits >> 32) as u32 | 1);
        for number in 0..DRAWN {
            let drawn = start.wrapping_add(step.wrapping_mul(number));
            consider(usable[((u64::from(drawn) * count as u64) >> 32) as usize]);
        }
    }
    best
}
