//! The congestion of the nearest cluster of a class: whether it had a queue recently, and its share until that is over.

use super::ClassState;
use crate::assess::place::PermittedCluster;
use crate::congestion::{Congestion, Seen};
use crate::load::Tally;
use crate::shed::Shed;
use crate::spill::{self, Candidate};
use crate::units::Timestamp;

impl ClassState {
    /// The largest share of the offered exchanges that the nearest live cluster may get, from 0 to 1. `listed` has the live
    /// clusters, nearest first. There is no limit if no other cluster is live, while every cluster has a queue, while
    /// the cluster returns (its rate is that of the ramp), or if the cluster reports its queue (reports are not delayed).
    pub(super) fn congested(
        &mut self,
        places: &[PermittedCluster<'_>],
        tallies: &[Tally],
        listed: &[Candidate],
        (now, elapsed): (Timestamp, f64),
    ) -> f64 {
        let overloaded = self.is_overloaded();
        let first = self.first;
        let returns = places.get(first).is_none_or(|place| place.state.return_share(now) < 1.0);
        let [here, _, ..] = listed else { return self.uncongested() };
        if returns || overloaded || here.reported {
            return self.uncongested();
        }
        let track = &self.tracks[first];
        let demand = track.offered_rate();
        let seen = Seen {
            queues: here.queue > spill::tolerable_queue(listed, 0),
            ended: tallies.get(first).map_or(0.0, Tally::ended),
            ended_rate: track.ended_rate(),
            demand,
            fell: track.demand_fell(),
        };
        self.congestion.fold(seen, elapsed);
        self.congestion.share(demand)
    }

    /// Whether every live cluster had a queue at the last sweep.
    pub(in crate::assess) fn is_overloaded(&self) -> bool {
        self.queued > 0.0 || self.shed != Shed::default()
    }

    /// Forgets the congestion: the nearest cluster may get everything.
    fn uncongested(&mut self) -> f64 {
        self.congestion = Congestion::default();
        1.0
    }

    #[cfg(test)]
    pub(in crate::assess) fn bound(&self) -> Option<f64> {
        self.congestion.bound()
    }
}
