//! A shift within one class: the order of its clusters, and the share that each accepts.

use super::place::PermittedCluster;
use crate::change::Shift;
use crate::plan::{Class, Plan};
use crate::signal::ShiftSignals;
use crate::spill::{self, Candidate};
use crate::units::Timestamp;

/// A shift between two slots of a class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shifted {
    from: usize,
    to: usize,
    percent: u8,
    /// Whether the target is not live, so that the shift has no effect now.
    rests: bool,
}

impl Shifted {
    /// The shift of a class; `None` unless the class may use both clusters.
    pub(super) fn of(
        shift: &Shift,
        plan: &Plan,
        class: &Class,
        places: &[PermittedCluster<'_>],
        now: Timestamp,
    ) -> Option<Shifted> {
        let slot = |name: &str| {
            let named = |place: &PermittedCluster<'_>| plan.clusters[place.cluster].name == name;
            class.permitted.clusters.iter().zip(places).position(|(_, place)| named(place))
        };
        let (from, to) = (slot(&shift.from)?, slot(&shift.to)?);
        let rests = from == to || !places[to].is_live(now);
        Some(Shifted { from, to, percent: shift.percent.min(100), rests })
    }

    /// The part of its dial that a slot keeps. A whole shift takes nothing off the dial: the order does it, and `from`
    /// remains the last resort.
    pub(super) fn dial(self, slot: usize, dial: u8) -> u8 {
        if slot != self.from || self.rests || self.percent == 100 || dial == 0 {
            return dial;
        }
        let kept = u16::from(dial) * u16::from(100 - self.percent) / 100;
        u8::try_from(kept).unwrap_or(dial).max(1)
    }

    /// Whether the shift sends exchanges to this slot.
    pub(super) fn leads_to(self, slot: usize) -> bool {
        slot == self.to && !self.rests
    }

    /// Moves the target behind the source, or for a whole shift to its place, and the source to the end.
    pub(super) fn reorder(self, order: &[usize], live: &mut Vec<usize>) {
        if self.rests {
            return;
        }
        let rank = |slot: usize| order.iter().position(|known| *known == slot);
        let is_ahead = rank(self.to) < rank(self.from);
        if !is_ahead {
            live.retain(|slot| *slot != self.to);
            let nearer = live.iter().take_while(|slot| rank(**slot) < rank(self.from)).count();
            let partial = self.percent < 100 && live.get(nearer) == Some(&self.from);
            live.insert(nearer + usize::from(partial), self.to);
        }
        if self.percent == 100 && live.contains(&self.from) {
            live.retain(|slot| *slot != self.from);
            live.push(self.from);
        }
    }

    /// The share that the cluster at a slot accepts. The source is no alternative for the others: nothing flows back to
    /// it because it is nearer.
    pub(super) fn accept(self, candidates: &[Candidate], live: &[usize], slot: usize) -> f64 {
        if self.percent == 100 && slot == self.from {
            return 1.0;
        }
        let others = live.iter().filter(|known| slot == self.from || **known != self.from);
        let others: Vec<usize> = others.copied().collect();
        let listed: Vec<Candidate> = others.iter().map(|slot| candidates[*slot]).collect();
        let at = others.iter().position(|known| *known == slot);
        at.map_or(1.0, |at| spill::accept(&listed, at))
    }

    /// Whether the shift changes the decisions now.
    pub(super) fn applies(self) -> bool {
        !self.rests
    }

    /// The shift as it is published.
    pub(super) fn signals(self, places: &[PermittedCluster<'_>]) -> ShiftSignals {
        let Shifted { from, to, percent, rests } = self;
        ShiftSignals { from: places[from].cluster, to: places[to].cluster, percent, rests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_comes_after_the_source_and_at_last_in_its_place() {
        let shifted = |from, to, percent, rests| Shifted { from, to, percent, rests };
        #[rustfmt::skip]
        let table = [
            // shift                      live before   live after
            (shifted(0, 2, 40, false),    vec![0, 1, 2], vec![0, 2, 1]),
            (shifted(0, 2, 100, false),   vec![0, 1, 2], vec![2, 1, 0]),
            (shifted(0, 2, 100, true),    vec![0, 1, 2], vec![0, 1, 2]),
            (shifted(1, 2, 40, false),    vec![0, 1, 2], vec![0, 1, 2]),
            (shifted(1, 2, 100, false),   vec![0, 1, 2], vec![0, 2, 1]),
            (shifted(2, 0, 40, false),    vec![0, 1, 2], vec![0, 1, 2]),
            (shifted(1, 0, 100, false),   vec![0, 1, 2], vec![0, 2, 1]),
            (shifted(0, 2, 40, false),    vec![1, 2],    vec![2, 1]),
            (shifted(0, 2, 100, false),   vec![1, 2],    vec![2, 1]),
        ];
        for (shift, before, after) in table {
            let mut live = before;
            shift.reorder(&[0, 1, 2], &mut live);
            assert_eq!(live, after, "{shift:?}");
        }
    }

    #[test]
    fn a_partial_shift_multiplies_the_dial_and_a_whole_one_leaves_it() {
        let dial = |percent, slot, dial| {
            Shifted { from: 0, to: 1, percent, rests: false }.dial(slot, dial)
        };
        assert_eq!([dial(40, 0, 100), dial(40, 0, 50), dial(99, 0, 50)], [60, 30, 1]);
        assert_eq!([dial(100, 0, 100), dial(40, 1, 100), dial(40, 0, 0)], [100, 100, 0]);
        let rests = Shifted { from: 0, to: 1, percent: 40, rests: true };
        assert_eq!(rests.dial(0, 100), 100);
    }

    #[test]
    fn the_source_is_no_alternative_to_the_target() {
        let candidate =
            |base, queue| Candidate { base, queue, service: 0.02, ..Default::default() };
        // The source is nearer than the target, which has a queue of 5 ms.
        let all = [candidate(0.021, 0.0), candidate(0.050, 0.005)];
        let shift = |percent| Shifted { from: 0, to: 1, percent, rests: false };
        assert_eq!(shift(100).accept(&all, &[1, 0], 1), 1.0);
        assert_eq!(shift(50).accept(&all, &[0, 1], 1), 1.0);
        assert_eq!(shift(100).accept(&all, &[1, 0], 0), 1.0);
        assert!(spill::accept(&all, 1) < 0.9, "without the shift it would send them back");
    }
}
