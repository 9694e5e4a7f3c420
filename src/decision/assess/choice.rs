//! The live clusters of a class, nearest first: each one's share of the exchanges that reach it, and the reason.

use super::place::PermittedCluster;
use super::shifted::Shifted;
use crate::growth::Growth;
use crate::signal::{Choice, Why};
use crate::spill::{self, Candidate};
use crate::units::Timestamp;

/// The fraction of a tolerable queue from which connections to the next cluster are opened in advance.
const DIALS_AHEAD: f64 = 0.1;

/// The factors of the share that a cluster accepts of the exchanges that reach it, each from 0 to 1.
#[derive(Clone, Copy, Debug)]
struct Keeps {
    dial: f64,
    returning: f64,
    /// The factor for its queue.
    load: f64,
    /// The factor for its success ratio.
    working: f64,
    /// The factor for the permitted growth of its traffic.
    growing: f64,
}

/// The clusters of a class by slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked<'a> {
    /// All clusters, nearest first.
    pub(super) order: &'a [usize],
    /// The clusters that may be used, in the order in which they are tried.
    pub(super) live: &'a [usize],
    /// The candidates of `live`, in the same order.
    pub(super) listed: &'a [Candidate],
    /// The shift in effect.
    pub(super) shift: Option<Shifted>,
}

/// Limits on a cluster's share that do not come from its current queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayTake<'a> {
    /// The factors of success and of growth, by slot.
    pub(super) each: &'a [(f64, Growth)],
    /// The largest share of the offered exchanges that the nearest live cluster may get, because it had a queue recently.
    pub(super) first: f64,
}

/// With a success factor above this, failures are not the main reason why exchanges go elsewhere.
const WORKS: f64 = 0.9;

/// The choices among the live slots, and whether the limit after a queue (`congestion`) determines the share of the first.
pub(super) fn choices(
    places: &[PermittedCluster<'_>],
    candidates: &[Candidate],
    ranked: Ranked<'_>,
    may_take: MayTake<'_>,
    demand: f64,
    now: Timestamp,
) -> (Vec<Choice>, bool) {
    let Ranked { live, listed, shift, .. } = ranked;
    let queueing =
        !listed.is_empty() && listed[0].queue > DIALS_AHEAD * spill::tolerable_queue(listed, 0);
    let mut choices: Vec<Choice> = Vec::with_capacity(live.len());
    let (mut why_beyond, mut bounded) = (Why::Spill, false);
    // The demand minus the exchanges that nearer clusters have accepted.
    let mut reaches = demand;
    for (position, &slot) in live.iter().enumerate() {
        let place = &places[slot];
        let why = if position == 0 { why_first(places, ranked, slot, now) } else { why_beyond };
        let (working, growing) = may_take.each[slot];
        // Whether the nearest cluster has accepted all exchanges, or would have.
        let at_home = position == 0 && matches!(why, Why::Nearest | Why::Returning);
        let mut keeps = Keeps {
            dial: f64::from(place.dial) / 100.0,
            returning: place.state.return_share(now),
            load: match shift {
                Some(shift) => shift.accept(candidates, live, slot),
                None => spill::accept(listed, position),
            },
            working,
            growing: if at_home { 1.0 } else { growing.share(reaches) },
        };
        if position == 0 && shift.is_none() {
            let most = may_take.first / keeps.open().max(spill::P_MIN);
            bounded = most < keeps.load && working > WORKS;
            keeps.load = keeps.load.min(most);
        }
        let share = if live.len() == 1 { 1.0 } else { keeps.share() };
        if position == 0 {
            why_beyond = keeps.why_not_all();
        }
        reaches *= 1.0 - share;
        let warm = position == 1 && queueing;
        choices.push(Choice { cluster: place.cluster, slot, share, why, warm, usd: 0.0 });
    }
    (choices, bounded)
}

impl Keeps {
    fn share(self) -> f64 {
        let takes = (self.load * self.working).min(self.growing).max(spill::P_MIN);
        takes * self.open()
    }

    /// The share that dial and slow start let through.
    fn open(self) -> f64 {
        self.dial * self.returning
    }

    /// Why exchanges go beyond the first cluster: the factor that keeps most of them away.
    fn why_not_all(self) -> Why {
        let open = self.open();
        let takes = self.load * self.working;
        let lost = [
            (Why::Spill, open * (1.0 - self.load)),
            (Why::Failover, open * (self.load - takes)),
            (Why::Failover, open * (takes - self.growing).max(0.0)),
            (Why::Returning, self.dial * (1.0 - self.returning)),
            (Why::Dial, 1.0 - self.dial),
        ];
        let most = |most: (Why, f64), one: (Why, f64)| if one.1 > most.1 { one } else { most };
        lost.into_iter().fold((Why::Spill, 0.0), most).0
    }
}

/// Why an exchange goes to the nearest live cluster.
fn why_first(
    places: &[PermittedCluster<'_>],
    Ranked { order, shift, .. }: Ranked<'_>,
    slot: usize,
    now: Timestamp,
) -> Why {
    if places.len() == 1 {
        return Why::Only;
    }
    let mut nearer = order.iter().take_while(|other| **other != slot).peekable();
    if nearer.peek().is_some() {
        let dialled_down = shift.is_some_and(|shift| shift.leads_to(slot))
            || nearer.all(|other| places[*other].dial == 0);
        return if dialled_down { Why::Dial } else { Why::Failover };
    }
    match places[slot].state.return_share(now) < 1.0 {
        true => Why::Returning,
        false => Why::Nearest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_beyond_the_first_cluster_is_the_strongest_factor() {
        let all = Keeps { dial: 1.0, returning: 1.0, load: 1.0, working: 1.0, growing: 1.0 };
        #[rustfmt::skip]
        let table = [
            (all,                                               Why::Spill, "at its ceiling"),
            (Keeps { load: 0.4, ..all },                        Why::Spill, "queues"),
            (Keeps { working: 0.4, ..all },                     Why::Failover, "fails"),
            (Keeps { growing: 0.4, ..all },                     Why::Failover, "may not grow faster"),
            (Keeps { returning: 0.4, ..all },                   Why::Returning, "is coming back"),
            (Keeps { dial: 0.4, ..all },                        Why::Dial, "is dialled down"),
            (Keeps { returning: 0.1, load: 0.9, ..all },        Why::Returning, "mostly returning"),
            (Keeps { returning: 0.9, load: 0.1, ..all },        Why::Spill, "mostly queueing"),
            (Keeps { dial: 0.5, load: 0.1, ..all },             Why::Dial, "half by the dial"),
        ];
        for (keeps, why, what) in table {
            assert_eq!(keeps.why_not_all(), why, "{what}");
        }
    }
}
