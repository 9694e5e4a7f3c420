//! Whether the nearest cluster of a class had a queue a moment ago, and what it may get meanwhile.

use super::ClassState;
use crate::assess::place::PermittedCluster;
use crate::congestion::{Congestion, Seen};
use crate::load::Tally;
use crate::shed::Shed;
use crate::spill::{self, Candidate};
use crate::units::Timestamp;

impl ClassState {
    /// The share of the exchanges offered to the nearest live cluster that it may get, from 0 to 1. There is no bound without
    /// an alternative, while every cluster has a queue, while the cluster returns (the rate is that of its ramp), and where
    /// its queue is reported (a report is as quick as the queue).
    pub(super) fn congested(
        &mut self,
        places: &[PermittedCluster<'_>],
        tallies: &[Tally],
        candidates: &[Candidate],
        live: &[usize],
        (now, elapsed): (Timestamp, f64),
    ) -> f64 {
        let overloaded = self.queued > 0.0 || self.shed != Shed::default();
        let first = live.first().copied().filter(|first| {
            let returns = places[*first].state.return_share(now) < 1.0;
            live.len() > 1 && !(returns || overloaded || candidates[*first].reported)
        });
        let Some(first) = first else {
            self.congestion = Congestion::default();
            return 1.0;
        };
        let (track, here) = (&self.tracks[first], candidates[first]);
        let listed: Vec<Candidate> = live.iter().map(|slot| candidates[*slot]).collect();
        let demand = track.offered_rate();
        let seen = Seen {
            queues: here.queue > spill::tolerable_queue(&listed, 0),
            ended: tallies.get(first).map_or(0.0, Tally::ended),
            completed: track.ended_rate(),
            demand,
            fell: track.demand_fell(),
        };
        self.congestion.fold(seen, elapsed);
        self.congestion.share(demand)
    }
}
