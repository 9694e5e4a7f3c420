//! Mean response time and mean number in flight over the newest 60 or so exchanges.

use super::flow::LeftEarly;
use super::mix::Mix;
use super::{ENOUGH, decay};
use crate::tally::Tally;

/// The weight that the mean of the newest answers keeps at each further answer.
const NEWEST_KEEP: f64 = 0.75;
/// Number of answers that the mean of the newest answers covers.
const NEWEST_COUNT: f64 = 7.0;
/// Answers a second at which the window reaches its greatest length.
const SELDOM: f64 = 20.0;

/// Decaying sums over the window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Means {
    count: f64,
    response_sum: f64,
    /// Predicted response times of the same exchanges.
    expected_sum: f64,
    /// Exchanges in flight, integrated over time.
    in_flight_area: f64,
    accepted: f64,
    /// Mean response time, without distance, of the newest answers.
    newest: f64,
    /// The number of answers in `newest`, at most seven.
    newest_count: f64,
    /// Answers that other proxies got.
    others: Answers,
}

/// Decaying sums over answers of other proxies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    pub(super) count: f64,
    /// Response times without distance.
    pub(super) response_sum: f64,
    /// Predicted response times of the same answers.
    pub(super) expected_sum: f64,
}

/// One sweep's contribution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// The workers' counts.
    pub(super) tally: &'a Tally,
    /// The cluster's distance, in seconds.
    pub(super) distance: f64,
    /// Exchanges whose clients left early.
    pub(super) left: LeftEarly,
    /// Exchanges in flight whose client will not leave early.
    pub(super) in_flight: f64,
    /// The predictions of the baselines.
    pub(super) mix: &'a Mix,
}

/// The length of the window, in seconds: the time of 60 answers, between half a second and three seconds.
pub(super) fn window(completion_rate: f64) -> f64 {
    (60.0 / completion_rate.max(1.0)).clamp(0.5, 3.0)
}

impl Means {
    /// Folds one sweep in; `window` is the length of the window, in seconds.
    pub(super) fn fold(&mut self, sample: &Sample<'_>, window: f64, elapsed: f64) {
        let (count, seconds) = self.answered(sample.tally, sample.distance);
        let keep = decay(elapsed, window);
        self.count = self.count * keep + count;
        self.response_sum = self.response_sum * keep + seconds;
        self.expected_sum = self.expected_sum * keep + count * sample.mix.expected;
        self.in_flight_area = self.in_flight_area * keep + sample.in_flight * elapsed;
        let accepted = self.accepted * keep + sample.tally.accepted - sample.left.count;
        self.accepted = accepted.max(0.0);
    }

    /// Folds answers of other proxies in.
    pub(super) fn fold_others(&mut self, new: Answers, window: f64, elapsed: f64) {
        let keep = decay(elapsed, window);
        self.others.count = self.others.count * keep + new.count;
        self.others.response_sum = self.others.response_sum * keep + new.response_sum;
        self.others.expected_sum = self.others.expected_sum * keep + new.expected_sum;
    }

    /// Forgets the answers of other proxies.
    pub(super) fn forget_others(&mut self) {
        self.others = Answers::default();
    }

    /// The number of answers in a sweep, and the sum of their times without distance. An exchange whose client
    /// left would have taken even longer. Such exchanges count if they waited longer than the answered ones;
    /// otherwise a cluster that answers no request in time would look idle.
    fn answered(&self, tally: &Tally, distance: f64) -> (f64, f64) {
        let seconds = tally.latency_sum - tally.completed * distance;
        let left = tally.abandoned_seconds - tally.abandoned * distance;
        let usual = self.response_sum.max(0.0) / self.count.max(1.0);
        match left > tally.abandoned * usual {
            true => (tally.completed + tally.abandoned, seconds + left),
            false => (tally.completed, seconds),
        }
    }

    /// Restarts the window when the newest seven answers are far below its mean; returns the number of
    /// answers that remain, or `None`. A drained queue then leaves the mean at once, even if the rate is so
    /// low that the window would contain the queue for seconds.
    pub(super) fn restart_on_relief(
        &mut self,
        tally: &Tally,
        distance: f64,
        completion_rate: f64,
        queue: f64,
    ) -> Option<usize> {
        if tally.completed <= 0.0 {
            return None;
        }
        let keep = NEWEST_KEEP.powf(tally.completed);
        let mean = (tally.latency_sum / tally.completed - distance).max(0.0);
        self.newest += (mean - self.newest) * (1.0 - keep);
        self.newest_count = (self.newest_count + tally.completed).min(NEWEST_COUNT);
        let settled = self.newest_count >= NEWEST_COUNT
            && self.count > NEWEST_COUNT
            && completion_rate < SELDOM
            && queue > self.newest;
        let spread = (1.0 / NEWEST_COUNT + 1.0 / self.count.max(1.0)).sqrt();
        if !settled || self.response_sum / self.count <= self.newest * (1.0 + 4.0 * spread) {
            return None;
        }
        self.expected_sum *= NEWEST_COUNT / self.count;
        self.count = NEWEST_COUNT;
        self.response_sum = NEWEST_COUNT * self.newest;
        self.accepted = NEWEST_COUNT;
        self.in_flight_area = NEWEST_COUNT * (self.newest + distance);
        self.newest_count = 0.0;
        self.forget_others();
        Some(NEWEST_COUNT as usize)
    }

    /// Forgets the exchanges sent and in flight.
    pub(super) fn forget_in_flight(&mut self) {
        self.in_flight_area = 0.0;
        self.accepted = 0.0;
    }

    /// Answers within the window, those of other proxies included.
    pub(super) fn count(&self) -> f64 {
        self.count + self.others.count
    }

    fn response_sum(&self) -> f64 {
        self.response_sum + self.others.response_sum
    }

    fn expected_sum(&self) -> f64 {
        self.expected_sum + self.others.expected_sum
    }

    /// Mean response time without distance; not finite without an answer.
    pub(super) fn mean(&self) -> f64 {
        self.response_sum() / self.count()
    }

    /// Mean response time without distance; `None` below 15 answers.
    pub(super) fn response(&self) -> Option<f64> {
        (self.count() >= ENOUGH).then(|| self.mean().max(0.0))
    }

    /// The baselines' prediction of the mean response time; `service` before the first answer.
    pub(super) fn expected(&self, service: f64) -> f64 {
        if self.count() > 0.5 { self.expected_sum() / self.count() } else { service }
    }

    /// Mean difference between response time and prediction, in seconds.
    pub(super) fn beyond(&self) -> f64 {
        (self.response_sum() - self.expected_sum()) / self.count().max(1.0)
    }

    /// Mean response time as a multiple of the prediction; 1 before the first answer.
    pub(super) fn ratio(&self) -> f64 {
        let expected = self.expected_sum();
        if expected > 0.0 { (self.response_sum() / expected).max(0.0) } else { 1.0 }
    }

    /// Exchanges sent, or answered if these are more.
    pub(super) fn sent(&self) -> f64 {
        self.count.max(self.accepted)
    }

    /// Mean time in the cluster by Little's law, distance included: seconds in flight per exchange sent.
    pub(super) fn by_little(&self) -> f64 {
        self.in_flight_area / self.sent()
    }
}
