//! Whether the nearest cluster of a class had a queue a moment ago, and what it may get meanwhile.

use super::ClassState;
use crate::congestion::Seen;
use crate::spill::{self, Candidate};

impl ClassState {
    /// The share of the demand that the nearest live cluster may get, from 0 to 1. A reported queue needs no bound: reports
    /// are as quick as the queue.
    pub(super) fn congested(
        &mut self,
        candidates: &[Candidate],
        live: &[usize],
        elapsed: f64,
    ) -> f64 {
        let &[first, _, ..] = live else { return 1.0 };
        let (track, here) = (&self.tracks[first], candidates[first]);
        let listed: Vec<Candidate> = live.iter().map(|slot| candidates[*slot]).collect();
        let seen = Seen {
            queues: !here.reported && here.queue > spill::tolerable_queue(&listed, 0),
            completed: track.good_rate(),
            demand: self.demand,
            fell: track.demand_fell(),
        };
        self.congestion.fold(seen, elapsed);
        self.congestion.share(self.demand)
    }
}
