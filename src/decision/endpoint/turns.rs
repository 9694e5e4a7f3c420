//! One worker's state for the endpoints of one cluster: which endpoint has the next turn, and which endpoints
//! were passed over.

use super::wheel::Wheel;
use crate::index::{EndpointIndex, Table};
use crate::signal::ClusterSignals;
use crate::units::{Timestamp, mix};

/// A worker's turns in one cluster.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    turn: u64,
    /// The number of workers that take turns.
    workers: u32,
    /// The set of endpoints that this state belongs to.
    members: u64,
    /// By index in the cluster's signals.
    endpoints: Table<EndpointIndex, Passed>,
}

/// The state of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// The accumulated fraction of an exchange: at 1 the endpoint gets an exchange although a sibling is
    /// faster.
    owed: f32,
    /// The number of consecutive turns of this endpoint that went to siblings.
    over: u32,
    /// Recent turns of siblings that this endpoint took, less its own turns that siblings took.
    won: f32,
    /// The number of the return after which the endpoint has already had its first exchange.
    greeted: u32,
    used: Timestamp,
}

/// After this many consecutive lost turns an endpoint may get an exchange once its pause is over.
const OVER_MAX: u32 = 8;
/// The time constant, counted in own turns, of the turns won from siblings; and how many turns may be won or lost
/// within it if the weights are to be kept.
const TURNS: f32 = 64.0;
const WON_MAX: f32 = 7.0;

impl Turns {
    /// The turns of worker number `worker` of `workers`.
    #[must_use]
    pub fn new(worker: usize, workers: usize) -> Turns {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        Turns { turn: mix(worker as u64) >> 32, workers, ..Turns::default() }
    }

    /// Adapts to the cluster's current endpoints; the state of other endpoints is dropped.
    pub(super) fn fit(&mut self, cluster: &ClusterSignals) {
        let count = cluster.endpoints.len();
        if self.members == cluster.members && self.endpoints.len() == count {
            return;
        }
        self.members = cluster.members;
        // Scattered, so that workers and endpoints do not act at the same moment.
        let owed = |index: EndpointIndex| {
            (mix(self.turn ^ (index.0 as u64) << 32) >> 40) as f32 / 16_777_216.0
        };
        let passed = |index| Passed { owed: owed(index), ..Passed::default() };
        self.endpoints = cluster.endpoints.indices().map(passed).collect();
    }

    /// The endpoint whose turn it is, by index in the cluster's signals. `usable` is not empty.
    pub(super) fn next(&mut self, wheel: &Wheel, usable: &[EndpointIndex]) -> EndpointIndex {
        self.turn = self.turn.wrapping_add(1);
        usable[wheel.at(self.turn, usable.len())]
    }

    /// Whether the endpoint had no exchange yet since its return number `returns`; marks the return as served.
    pub(super) fn greets(&mut self, index: EndpointIndex, returns: u32) -> bool {
        self.endpoints.get_mut(index).is_some_and(|passed| {
            let first = passed.greeted != returns;
            passed.greeted = returns;
            first
        })
    }

    /// Notes this endpoint's turn: the count of turns won or lost decays.
    pub(super) fn has_turn(&mut self, index: EndpointIndex) {
        if let Some(passed) = self.endpoints.get_mut(index) {
            passed.won *= 1.0 - 1.0 / TURNS;
        }
    }

    /// Whether the busy endpoint may lose one more turn to a sibling and still get its share by weight.
    pub(super) fn may_lose(&self, index: EndpointIndex) -> bool {
        self.endpoints.get(index).is_some_and(|passed| passed.won > -WON_MAX)
    }

    /// Whether the endpoint may take one more turn from a busy sibling and still keep to its share by
    /// weight.
    pub(super) fn may_gain(&self, index: EndpointIndex) -> bool {
        self.endpoints.get(index).is_some_and(|passed| passed.won < WON_MAX)
    }

    /// Notes that the turn of one endpoint goes to another endpoint.
    pub(super) fn moved(&mut self, from: EndpointIndex, to: EndpointIndex) {
        if let Some(passed) = self.endpoints.get_mut(from) {
            passed.won = (passed.won - 1.0).max(-TURNS);
        }
        if let Some(passed) = self.endpoints.get_mut(to) {
            passed.won = (passed.won + 1.0).min(TURNS);
        }
    }

    /// Whether an endpoint takes its turn although a sibling would be faster, so that its recovery is
    /// noticed. The endpoint keeps the part `trickle` of its turns, and gets an exchange after `pause`
    /// seconds.
    pub(super) fn insists(
        &mut self,
        index: EndpointIndex,
        trickle: f32,
        pause: f32,
        now: Timestamp,
    ) -> bool {
        let workers = self.workers as f32;
        let Some(passed) = self.endpoints.get_mut(index) else { return false };
        passed.over = passed.over.saturating_add(1);
        passed.owed += trickle;
        let unused = now.since(passed.used).as_secs_f32();
        let forgotten = passed.over >= OVER_MAX && unused >= pause * workers;
        if passed.owed < 1.0 && !forgotten {
            return false;
        }
        passed.owed = (passed.owed - 1.0).max(0.0);
        self.used(index, now);
        true
    }

    /// Notes that an exchange goes to this endpoint.
    pub(super) fn used(&mut self, index: EndpointIndex, now: Timestamp) {
        if let Some(passed) = self.endpoints.get_mut(index) {
            passed.over = 0;
            passed.used = now;
        }
    }
}
