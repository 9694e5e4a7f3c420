//! The overload of a class: its claim on the shared clusters when all of them have queues.

use super::{ClassState, idle};
use crate::backlog::Flow;
use crate::load::Tally;
use crate::plan::Class;
use crate::shed::{self, Claim, Shed};
use crate::signal::Choice;
use crate::spill::{self, Candidate};

/// The minimum duration of a queue, as a multiple of the longest acceptable queue.
const QUEUED_BOUNDS: f64 = 2.0;
/// The fraction of the longest acceptable queue that counts as no queue.
const QUEUED_PART: f64 = 0.2;
/// The fraction of the longest acceptable queue that every cluster must have before growth counts as a queue.
const QUEUES_PART: f64 = 0.25;
/// The fraction of a mean wait that is used while exchanges are shed: the mean lags behind a queue that shrinks.
const MEAN_PART: f64 = 0.9;

impl ClassState {
    /// The overload of this class, for the decision over all classes.
    pub(super) fn claim(
        &mut self,
        class: &Class,
        tallies: &[Tally],
        candidates: &[Candidate],
        choices: &[Choice],
        elapsed: f64,
    ) -> Claim {
        let open: Vec<Candidate> = choices.iter().map(|choice| candidates[choice.slot]).collect();
        let bound = shed::bound(match open.len() {
            0 | 1 => 0.0,
            _ => spill::tolerable_queue(&idle(&open), 0),
        });
        let usual = self.backlog.least().unwrap_or_default();
        self.backlog.fold(flow(tallies, usual), bound, elapsed);
        // Growth shows that some cluster has a queue. A class that was once without a queue can tell which one.
        let shortest = open.iter().map(|place| place.queue).fold(f64::INFINITY, f64::min);
        self.queued = if shortest > QUEUED_PART * bound { self.queued + elapsed } else { 0.0 };
        let everywhere = !self.inference.tells_queues() || shortest > QUEUES_PART * bound;
        let grown = self.backlog.queue().filter(|_| everywhere);
        let place = |choice: &Choice| {
            let known = self.knows_service(class, choice.slot);
            // While the class sheds, the mean response time shows the wait. The bounds that prevent a slow page from
            // being taken for a queue apply earlier.
            let waits = match self.shed == Shed::default() {
                true => 0.0,
                false => MEAN_PART * self.tracks[choice.slot].beyond(),
            };
            // No exchange has waited for longer than the queue has existed. While connections are made for a burst, the
            // completion rate does not predict the rate after the burst.
            let most = match self.shed == Shed::default() && self.queued < QUEUED_BOUNDS * bound {
                true => bound,
                false => f64::INFINITY,
            };
            let queue = candidates[choice.slot].queue.min(most).max(waits);
            let inferred = Some(queue).filter(|_| known);
            let queue = inferred.into_iter().chain(grown).reduce(f64::max);
            (choice.cluster, queue, self.tracks[choice.slot].accepted_rate())
        };
        Claim {
            places: choices.iter().map(place).collect(),
            by_priority: self.by_priority,
            served: self.backlog.served(),
            work: self.service(),
            bound,
            steady: self.backlog.is_steady(),
            sheds: self.shed != Shed::default(),
        }
    }

    /// Whether the class sheds something, or may have to.
    pub(in crate::assess) fn is_pressed(&self) -> bool {
        let Some(claim) = &self.claim else { return false };
        let shortest = claim.places.iter().map(|place| place.1.unwrap_or(0.0)).reduce(f64::min);
        claim.sheds || shortest.is_some_and(|shortest| shortest > claim.bound)
    }

    /// Stores the share that the class sheds from now on.
    pub(in crate::assess) fn sheds(&mut self, shed: Shed) {
        self.shed = shed;
    }
}

/// Exchanges sent and ended at all clusters together; `usual` is the least response time, in seconds.
fn flow(tallies: &[Tally], usual: f64) -> Flow {
    let mut flow = Flow::default();
    for tally in tallies {
        flow.sent += tally.accepted;
        flow.ended += tally.completed + tally.failed + tally.abandoned + tally.excused;
        flow.left_early += tally.left_early(usual).0;
        flow.answered += tally.completed;
        flow.seconds += tally.latency_sum;
        flow.waiting += tally.waiting;
    }
    flow
}
