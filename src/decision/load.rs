//! The load of one class at one cluster, inferred by the proxy that sends to it: without a report, and without a
//! configured capacity.
//!
//! A response takes distance + service + queue. Distance is probed; service time is learned while there is no
//! queue; the remainder is the queue, less two standard errors, so that noise does not count as a queue. Three
//! estimates of the queue are combined by their maximum: the mean of recent responses; Little's law over the
//! same window, which includes exchanges that have not ended; and the exchanges now in flight beyond those that
//! the completion rate explains.
//!
//! # Units
//! Seconds as `f64`. Windows are exponential; `elapsed` is the time since the last fold.
//!
//! # Not here
//! How a queue changes the decision (`spill`), and whether an endpoint is up (`health`).

mod admission;
mod doubt;
mod flow;
mod means;
mod mix;
mod moments;
mod others;
mod outcomes;
mod queue;
mod rates;

use self::admission::Admission;
use self::doubt::{Comparison, Doubt};
use self::flow::{Flow, LeftEarly, RECENT};
use self::means::{Means, Sample};
pub use self::mix::{Mix, bounded};
use self::moments::Moments;
use self::others::Others;
use self::outcomes::Outcomes;
use self::queue::Queue;
use self::rates::Rates;
use super::exchange::History;
use super::report::Report;
pub use super::tally::Tally;

/// Samples below which a mean is not used.
const ENOUGH: f64 = 15.0;
/// Samples below which the spread of response times is uncertain, and margins are wider.
const FRESH: f64 = 300.0;
/// The least number of samples for comparing a mean with another cluster's mean.
const TELLING: f64 = 45.0;
/// The window of the spread of response times, in seconds.
const SPREAD: f64 = 10.0;
/// The window of the mean size of responses, in seconds: the body of a large one arrives long after its head.
const SIZES: f64 = 60.0;
/// A report older than this, in seconds, is not used; load is then inferred.
const REPORT_MAX_AGE: f64 = 3.0;

/// Recent load of one class at one cluster.
#[derive(Clone, Debug, Default)]
pub struct Track {
    means: Means,
    /// Differences between response times and the predictions by the baselines of their kinds.
    beyond: Moments,
    /// Response times without a prediction.
    took: Moments,
    outcomes: Outcomes,
    rates: Rates,
    flow: Flow,
    admission: Admission,
    queue: Queue,
    doubt: Doubt,
    newest: Option<Received>,
    /// The exchanges of the last seconds, one by one.
    pub(super) history: History,
    others: Others,
    /// Exchanges in flight.
    waiting: f64,
    /// Mean bytes of a response, and the decayed sums of bytes and responses behind the mean.
    bytes: f64,
    received: (f64, f64),
    /// Share of exchanges that found no idle connection.
    dialled: f64,
    /// Seconds without a response.
    silent: f64,
    /// Seconds since the first response after a silence.
    age: f64,
}

/// The newest report, and the state of this proxy when the report arrived.
#[derive(Clone, Copy, Debug)]
struct Received {
    report: Report,
    /// Exchanges of this proxy in flight at that moment.
    waiting: f64,
    /// Seconds since the report.
    age: f64,
}

/// The part that remains after `elapsed` seconds of decay with the time constant `tau`.
pub(super) fn decay(elapsed: f64, tau: f64) -> f64 {
    (-elapsed / tau).exp()
}

impl Track {
    /// Folds one sweep in. `distance` is the cluster's, in seconds; `open` is the share of the offered
    /// exchanges that dial and slow start admit, so that the rest does not count as lack of capacity.
    /// `mix` is the prediction of the baselines for the exchanges that ended.
    pub fn fold(&mut self, tally: &Tally, distance: f64, open: f64, mix: &Mix, elapsed: f64) {
        let (count, seconds) = tally.left_early(self.expected(0.0) + distance);
        let left = LeftEarly { count, seconds };
        let in_flight = (tally.waiting - self.flow.leaving_early()).max(0.0);
        let sample = Sample { tally, distance, left, in_flight, mix };
        self.means.fold(&sample, self.window(), elapsed);
        let (rate, queue) = (self.rates.completed, self.queue.filtered());
        if let Some(newest) = self.means.restart_on_relief(tally, distance, rate, queue) {
            self.history.keep_newest(newest);
        }
        self.fold_spread(tally, mix, elapsed);
        self.outcomes.fold(tally, elapsed);
        self.rates.fold(tally, elapsed);
        self.flow.fold(tally, open, left, elapsed);
        self.admission.fold(tally, open, elapsed);
        self.fold_connections(tally, elapsed);
        self.waiting = tally.waiting;
        self.fold_report(tally, elapsed);
        self.silent = if tally.completed > 0.0 { 0.0 } else { self.silent + elapsed };
        if self.silent > 1.0 && tally.waiting < 1.0 {
            self.start_anew();
        } else if self.age > 0.0 || tally.completed > 0.0 {
            self.age += elapsed;
        }
    }

    fn fold_spread(&mut self, tally: &Tally, mix: &Mix, elapsed: f64) {
        let keep = decay(elapsed, SPREAD);
        let beyond = Moments { count: mix.count, sum: mix.beyond, squares: mix.beyond_squares };
        self.beyond.fold(keep, beyond);
        let (sum, squares) = (tally.latency_sum, tally.latency_squares);
        self.took.fold(keep, Moments { count: tally.completed, sum, squares });
    }

    fn fold_connections(&mut self, tally: &Tally, elapsed: f64) {
        let keep = decay(elapsed, SIZES);
        let (bytes, responses) = self.received;
        self.received = (bytes * keep + tally.bytes, responses * keep + tally.completed);
        if tally.completed > 0.0 {
            self.bytes = self.received.0 / self.received.1;
        }
        // After a time without exchanges, the cluster is assumed to have idle connections again.
        let news = 1.0 - decay(tally.accepted, 50.0);
        self.dialled *= decay(elapsed, 30.0);
        if tally.accepted > 0.0 {
            self.dialled += ((tally.dialled / tally.accepted).min(1.0) - self.dialled) * news;
        }
    }

    fn fold_report(&mut self, tally: &Tally, elapsed: f64) {
        self.doubt.pass(elapsed);
        if let Some(newest) = &mut self.newest {
            newest.age += elapsed;
        }
        if let Some(report) = tally.report {
            self.hear(report, 0.0);
        }
    }

    /// Takes a report that is `age` seconds old, unless a newer report is known.
    pub fn hear(&mut self, report: Report, age: f64) {
        if self.newest.is_none_or(|newest| age <= newest.age) {
            self.newest = Some(Received { report, waiting: self.waiting, age });
        }
    }

    /// The newest report, if it is recent, states a queue, and is not distrusted.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.believed().map(|received| &received.report)
    }

    /// The newest report, if it is recent, even if it is distrusted.
    #[must_use]
    pub fn newest_report(&self) -> Option<&Report> {
        self.recent().map(|received| &received.report)
    }

    fn recent(&self) -> Option<&Received> {
        self.newest.as_ref().filter(|received| received.age < REPORT_MAX_AGE)
    }

    fn believed(&self) -> Option<&Received> {
        let believed = self.recent().filter(|received| received.report.tells_queue());
        believed.filter(|_| !self.doubt.is_distrusted())
    }

    /// Compares the reported queue with the observed one; wrong reports are ignored for a minute. Only reports
    /// with a capacity are compared. `service` is the shortest service time that any cluster reports.
    pub fn doubt(&mut self, service: f64, elapsed: f64) {
        let (Some(received), Some(response)) = (self.recent(), self.response()) else { return };
        let report = received.report;
        if report.capacity.is_none() {
            return;
        }
        let comparison = Comparison {
            reported: report.queue_delay(service),
            observed: (response - service).max(0.0),
            due: report.queue_due(),
            error: self.error_in_all(service),
            window: self.window(),
            service,
        };
        self.doubt.fold(comparison, elapsed);
    }

    /// Follows the reported queue; returns the delay caused by the exchanges sent since the report.
    fn reported_queue(&mut self, service: f64, elapsed: f64) -> Option<f64> {
        let received = *self.believed()?;
        let report = received.report;
        if received.age < elapsed {
            self.queue.follow(report.queue_delay(service), elapsed);
        } else {
            self.queue.fade(elapsed);
        }
        let service = if report.service > 0.0 { report.service } else { service };
        let since = self.waiting - received.waiting;
        let by_count = report.capacity.map_or(0.0, |capacity| {
            (report.in_flight + since - capacity).max(0.0) * service / capacity
        });
        Some(by_count.clamp(0.0, 10.0))
    }

    /// The share of the offered exchanges that the cluster can serve according to its report: its capacity divided by
    /// the arrivals if all offered exchanges were accepted. `None` below 90 % utilisation.
    #[must_use]
    pub fn reported_supply(&self) -> Option<f64> {
        let report = self.report()?;
        let capacity = report.capacity.filter(|_| report.service > 0.0)?;
        let most = capacity / report.service;
        let demand = report.arrivals / self.admission.share();
        (demand > 0.9 * most).then(|| most / demand)
    }

    /// This proxy's part of the capacity that the cluster reports, in exchanges a second.
    #[must_use]
    pub fn reported_capacity(&self) -> Option<f64> {
        let report = self.report()?;
        let capacity = report.capacity.filter(|_| report.service > 0.0)?;
        let part = (self.rates.accepted / report.arrivals.max(1.0)).min(1.0);
        Some(part * capacity / report.service).filter(|rate| *rate > 0.0)
    }

    /// Forgets rates after a silence, so that an idle cluster does not look slow.
    fn start_anew(&mut self) {
        self.age = 0.0;
        self.rates.completed = 0.0;
        self.flow = Flow::default();
        self.means.forget_in_flight();
    }

    /// Mean response time without distance; `None` below 15 samples.
    #[must_use]
    pub fn response(&self) -> Option<f64> {
        self.means.response()
    }

    /// Standard error of the mean response time, given the mix of request kinds; `service` is used until a spread is
    /// known.
    #[must_use]
    pub fn error(&self, service: f64) -> f64 {
        self.standard_error(&self.beyond, service)
    }

    /// Standard error of the mean response time if the mix of request kinds is unknown.
    fn error_in_all(&self, service: f64) -> f64 {
        self.standard_error(&self.took, service)
    }

    fn standard_error(&self, spread: &Moments, service: f64) -> f64 {
        spread.deviation().unwrap_or(service) / (2.0 * self.means.count().max(1.0)).sqrt()
    }

    /// The prediction of the baselines for the mean response time of recent exchanges, without distance, in
    /// seconds; `service` before the first answer.
    #[must_use]
    pub fn expected(&self, service: f64) -> f64 {
        self.means.expected(service)
    }

    /// Whether recent exchanges took at most the predicted time, within one standard error.
    #[must_use]
    pub fn answers_in_time(&self) -> bool {
        self.beyond() <= self.error(0.0)
    }

    /// By how many seconds a second the queue grows, less two standard errors; 0 to 10.
    #[must_use]
    pub fn growth(&self) -> f64 {
        self.flow.growth()
    }

    /// Mean difference between response time and prediction of recent exchanges, in seconds.
    #[must_use]
    pub fn beyond(&self) -> f64 {
        self.means.beyond()
    }

    /// Upper bound of the ratio of response time to prediction: the mean plus `errors` standard errors; `None` below
    /// 45 samples.
    #[must_use]
    pub fn ratio_at_most(&self, errors: f64) -> Option<f64> {
        let expected = self.expected(0.0);
        let most = self.beyond() + errors * self.error(expected);
        (self.means.count() >= TELLING && expected > 0.0).then(|| (1.0 + most / expected).max(0.0))
    }

    /// Lower bound of [`beyond`](Track::beyond), the mean minus `errors` standard errors; 0 below 15 samples.
    #[must_use]
    pub fn beyond_at_least(&self, errors: f64) -> f64 {
        if self.means.count() < ENOUGH {
            return 0.0;
        }
        self.beyond() - errors * self.error(self.expected(0.0))
    }

    /// Ratio of response time to prediction of recent exchanges.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.means.ratio()
    }

    /// Whether response times differ from the prediction by more than one standard error, or show a queue.
    #[must_use]
    pub fn differs(&self, distance: f64, service: f64) -> bool {
        if self.means.count() < 1.0 {
            return self.waiting >= 1.0;
        }
        let mean = self.means.mean() - self.expected(service);
        mean.abs() > self.error(service) || self.queue_sample(distance, service) > 0.0
    }

    /// The share of recent exchanges whose client left before the response head.
    #[must_use]
    pub fn leaving(&self) -> f64 {
        self.rates.leaving()
    }

    /// The queue's delay at the last sweep, unfiltered; 0 to 10 seconds.
    #[must_use]
    pub fn queue_sample(&self, distance: f64, service: f64) -> f64 {
        let service = self.expected(service);
        let count = self.means.count();
        if count < 1.0 || (self.age < RECENT && self.waiting < 16.0) {
            return 0.0;
        }
        let error = self.error(service);
        let margin = if count < 10.0 || self.beyond.count < FRESH { 3.0 } else { 2.0 } * error;
        let by_responses = self.means.mean() - service - margin;
        let unloaded = distance + service;
        // Divided by the exchanges sent if these are more than the answers. Otherwise a rising
        // rate, whose first exchanges are still in flight, would look like a queue. Arrivals are
        // random, so their number has an error too.
        let uneven = 2.0 * unloaded / (2.0 * self.means.sent()).sqrt();
        let by_little = self.means.by_little() - unloaded - margin - uneven;
        let by_number = self.queue_by_number(unloaded);
        let queue = by_responses.max(by_little).max(by_number);
        queue.min(self.queue_bound(unloaded)).clamp(0.0, 10.0)
    }

    /// The queue's delay according to the exchanges in flight beyond those that the completion rate explains.
    fn queue_by_number(&self, unloaded: f64) -> f64 {
        // The window of a new rate is not full: the rate is the content of the window divided by the time since
        // its start.
        let rate = self.rates.completed / (1.0 - decay(self.age, 1.0)).max(0.05);
        let staying = (self.waiting - self.flow.leaving_early()).max(0.0);
        if staying > 4.0 && rate > 1.0 {
            let noise = 3.0 * (rate * unloaded + self.flow.leaving_early()).sqrt();
            (staying - noise) / rate - unloaded
        } else {
            0.0
        }
    }

    /// The longest queue that the exchanges in flight can form at the recent rate. This bound is needed
    /// because the means of a window still contain a queue that has meanwhile drained.
    fn queue_bound(&self, unloaded: f64) -> f64 {
        let rate = self.flow.completed_rate();
        (self.waiting + 2.0 * self.waiting.sqrt() + 1.0) / rate.max(1e-3) - unloaded
    }

    /// Folds the queue of this sweep in, with a filter of 50 ms. Without exchanges the queue decays slowly. `within`
    /// bounds an inferred queue by the delay that all kinds of requests share.
    pub fn update_queue(
        &mut self,
        distance: f64,
        service: f64,
        within: impl FnOnce(f64) -> f64,
        elapsed: f64,
    ) {
        if let Some(since_report) = self.reported_queue(service, elapsed) {
            self.queue.set_since_report(since_report);
            return;
        }
        self.queue.set_since_report(0.0);
        if self.silent > 0.0 && self.waiting < 1.0 {
            self.queue.fade(elapsed);
            return;
        }
        self.queue.follow(within(self.queue_sample(distance, service)), elapsed);
    }

    /// The queue's delay now, in seconds.
    #[must_use]
    pub fn queue(&self) -> f64 {
        self.queue.seconds()
    }

    /// Whether an inferred queue is certain enough to keep exchanges of other clusters away from this one.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.beyond.is_ample()
    }

    /// Whether enough answers came within the last seconds for a success ratio.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.outcomes.is_judged()
    }

    /// Forgets failures: after a return from `down` the success ratio starts again at 1.
    pub fn forgive(&mut self) {
        self.outcomes.clear();
    }

    /// Success ratio that a few failures hardly lower: one failure among two requests does not give a ratio of
    /// 0.5.
    #[must_use]
    pub fn success_at_least(&self) -> f64 {
        self.outcomes.success_at_least()
    }

    /// Success ratio of the last 0.3 s; a few failures do not lower it much.
    #[must_use]
    pub fn success_now(&self) -> f64 {
        self.outcomes.success_now()
    }

    /// Share of exchanges that did not fail; 1 before the first answer.
    #[must_use]
    pub fn success(&self) -> f64 {
        self.outcomes.success()
    }

    /// The share of recently offered exchanges that ended; `None` while few are offered or since the first
    /// answer too little time has passed.
    #[must_use]
    pub fn completed_share(&self) -> Option<f64> {
        self.flow.completed_share().filter(|_| self.age > RECENT)
    }

    /// Whether many exchanges are offered before any response can have arrived.
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        self.flow.is_flood() && self.age <= RECENT
    }

    /// Share of exchanges that found no idle connection.
    #[must_use]
    pub fn dialled(&self) -> f64 {
        self.dialled
    }

    /// Exchanges in flight.
    #[must_use]
    pub fn waiting(&self) -> f64 {
        self.waiting
    }

    /// Mean bytes of a response.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_time::ReportedService;

    fn steady(rate: f64, latency: f64, waiting: f64) -> Tally {
        let completed = rate * 0.05;
        Tally {
            offered: completed,
            accepted: completed,
            completed,
            latency_sum: completed * latency,
            latency_squares: completed * latency * latency,
            waiting,
            ..Tally::default()
        }
    }

    /// The usual response time of all kinds: 20 ms.
    fn usual() -> Mix {
        Mix { expected: 0.020, count: 10.0, beyond: 0.0, beyond_squares: 1e-5 }
    }

    #[test]
    fn an_unloaded_cluster_shows_no_queue_and_a_queue_is_detected_within_half_a_second() {
        let mut tracks = [Track::default()];
        for _ in 0..100 {
            tracks[0].fold(&steady(200.0, 0.022, 4.4), 0.002, 1.0, &usual(), 0.05);
            tracks[0].update_queue(0.002, 0.020, |queue| queue, 0.05);
        }
        assert_eq!(tracks[0].queue(), 0.0);
        for _ in 0..10 {
            tracks[0].fold(&steady(200.0, 0.122, 24.4), 0.002, 1.0, &usual(), 0.05);
            tracks[0].update_queue(0.002, 0.020, |queue| queue, 0.05);
        }
        assert!(tracks[0].queue() > 0.02, "{}", tracks[0].queue());
    }

    #[test]
    fn clients_that_leave_before_the_first_answer_are_no_queue() {
        let mut track = Track::default();
        let few = Tally { latency_squares: 0.3, ..steady(12.0, 0.7, 8.4) };
        let service = Mix { expected: 0.7, count: 1.0, beyond: 0.0, beyond_squares: 1e-5 };
        for sweep in 0..400 {
            // After ten seconds, 250 additional clients a second leave after 100 ms.
            let left = if sweep < 200 { 0.0 } else { 12.5 };
            let tally = Tally {
                accepted: few.accepted + left,
                excused: left * 0.98,
                excused_seconds: left * 0.098,
                abandoned: left * 0.02,
                abandoned_seconds: left * 0.002,
                waiting: few.waiting + left * 2.0,
                ..few
            };
            track.fold(&tally, 0.0, 1.0, &service, 0.05);
            track.update_queue(0.0, 0.7, |queue| queue, 0.05);
            // The first clients are recognised only after they have left.
            if !(200..240).contains(&sweep) {
                assert_eq!((track.queue(), track.growth()), (0.0, 0.0), "{sweep}");
            }
        }
    }

    #[test]
    fn measurements_expire_without_traffic() {
        let mut track = Track::default();
        track.queue.follow(0.1, 1e3);
        for _ in 0..100 {
            track.fold(&Tally::default(), 0.0, 1.0, &usual(), 0.05);
            track.update_queue(0.0, 0.02, |queue| queue, 0.05);
        }
        assert!(track.queue() < 0.001);
    }

    #[test]
    fn values_stay_in_range_for_any_report_and_expire_without_reports() {
        use crate::spill::{Candidate, P_MIN, accept};
        use crate::units::Dice;
        for seed in 0..200 {
            let mut dice = Dice::seeded(seed);
            let mut tracks = [Track::default(), Track::default()];
            let mut reported = ReportedService::new(2);
            let mut extreme = || match dice.below(4) {
                0 => 0.0,
                1 => dice.unit(),
                2 => dice.unit() * 1e3,
                _ => 1e6,
            };
            for _ in 0..40 {
                let said = format!(
                    "q={};s={};n={};c={};u={};l={};g={}",
                    extreme() * 1e4,
                    extreme() * 1e4,
                    extreme(),
                    extreme(),
                    extreme(),
                    extreme(),
                    extreme()
                );
                let report = Report::from_tidegate(&said);
                for track in &mut tracks {
                    let tally = Tally { report, ..steady(200.0, 0.022, 4.4) };
                    track.fold(&tally, 0.002, 1.0, &usual(), 0.05);
                }
                reported.update(&tracks, 0.05);
                for (slot, track) in tracks.iter_mut().enumerate() {
                    let service = reported.seconds(slot).unwrap_or(0.02);
                    track.doubt(service, 0.05);
                    track.update_queue(0.002, service, |queue| queue, 0.05);
                    assert!(service > 0.0 && service.is_finite(), "{said}");
                    assert!((0.0..=10.0).contains(&track.queue()), "{said}: {}", track.queue());
                    let here = Candidate {
                        flooded: track.is_flooded(),
                        base: 0.002 + service,
                        queue: track.queue(),
                        service,
                        distance: 0.002,
                        supply: track.reported_supply(),
                        reported: track.report().is_some(),
                        measured: track.is_measured(),
                        pooled: track.is_pooled(),
                    };
                    let share = accept(&[here, Candidate { base: 0.05, ..here }], 0);
                    assert!((P_MIN..=1.0).contains(&share), "{said}: {share}");
                }
            }
            // Without new reports, load is inferred again: the old report has no effect.
            for _ in 0..200 {
                tracks[0].fold(&steady(200.0, 0.022, 4.4), 0.002, 1.0, &usual(), 0.05);
                tracks[0].update_queue(0.002, 0.02, |queue| queue, 0.05);
            }
            assert!(tracks[0].report().is_none() && tracks[0].queue() < 0.001, "seed {seed}");
        }
    }

    #[test]
    fn without_exchanges_there_is_no_failure() {
        assert_eq!(Track::default().success(), 1.0);
        assert_eq!(Track::default().queue_sample(0.0, 0.02), 0.0);
    }
}
