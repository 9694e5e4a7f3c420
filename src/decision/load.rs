//! How long a queue is, inferred at the client's side: no report, no stated capacity.
//!
//! A response takes distance + service + queue. Distance is probed; service is learned while there
//! is no queue; what remains is queue, less two standard errors so that noise is not taken for
//! one. Three views of the same queue are combined by their maximum: the mean of recent responses,
//! Little's law over the same span (it sees exchanges that have not come back), and the number in
//! flight right now against what the completion rate explains.
//!
//! # Units
//! Seconds as `f64`. Windows are exponential; `elapsed` is the span since the last fold.
//!
//! # Not here
//! What to do about a queue (`spill`), and whether an endpoint is up (`health`).

use super::excess::Excess;
use super::exchange::{End, Ended, History};
use super::report::Report;
use super::strata::Strata;
pub use super::tally::Tally;

/// Samples below which a mean is not believed.
pub(super) const ENOUGH: f64 = 15.0;
/// Samples below which a service time is still a first impression, and corrected quickly.
pub(super) const FRESH: f64 = 300.0;

/// Samples from which on a mean is held against another's.
const TELLING: f64 = 45.0;
/// Exchanges within the recent past that are much.
const FLOOD: f64 = 50.0;
/// What is left of the last handful's weight after each answer, and how many answers that makes.
const HANDFUL: f64 = 0.75;
const HANDFUL_COUNT: f64 = 7.0;
/// Answers a second below which the window is as long as it gets.
const SELDOM: f64 = 20.0;

/// The window of what is recent, in seconds.
const RECENT: f64 = 0.3;

/// Recent load of one class at one cluster.
#[derive(Clone, Debug, Default)]
pub struct Track {
    count: f64,
    response_sum: f64,
    /// What the same exchanges take by their kinds' baselines.
    expected_sum: f64,
    /// The exchanges of the last seconds one by one.
    pub(super) history: History,
    /// The mean of the last handful of answers, without distance, and how many those are.
    newest: f64,
    newest_count: f64,
    waiting_area: f64,
    accepted: f64,
    long_count: f64,
    long_sum: f64,
    long_squares: f64,
    /// Likewise of what they took in all: their number, sum and squares.
    took: [f64; 3],
    good: f64,
    judged: f64,
    offered_recent: f64,
    completed_recent: f64,
    accepted_recent: f64,
    /// Exchanges of the last moments whose clients left early, and of all whose clients left.
    left_recent: f64,
    gone_recent: f64,
    /// How many such exchanges are in flight at a time, on average.
    leaving_early: f64,
    accepted_rate: f64,
    abandoned_rate: f64,
    completion_rate: f64,
    waiting: f64,
    bytes: f64,
    /// Share of exchanges that found no idle connection.
    dialled: f64,
    queue: f64,
    silent: f64,
    /// Seconds since the first completed exchange after a silence.
    age: f64,
    heard: Option<Heard>,
    /// The queue as it must be by what was sent since the report.
    latched: f64,
    offered_brief: f64,
    accepted_brief: f64,
    /// By how much reports have lately told more queue than there was, in seconds, and the square of
    /// that; for how long without a break that has been too much; and for how long they are not believed.
    doubted: f64,
    scattered: f64,
    /// What queue there has lately been, and what there should have been by the load that is reported.
    own: f64,
    due: f64,
    /// For how long the former has been next to nothing of the latter, on balance.
    idle: f64,
    wrong: f64,
    stale: f64,
    distrusted: f64,
    /// Good and all answers of the last moments.
    good_recent: f64,
    judged_recent: f64,
}

/// The newest report, and what was known of ourselves when it came.
#[derive(Clone, Copy, Debug)]
struct Heard {
    report: Report,
    /// Exchanges of ours under way then.
    waiting: f64,
    /// Seconds since.
    age: f64,
}

/// A report older than this, in seconds, is no longer news; load is inferred again.
const REPORT_MAX_AGE: f64 = 3.0;
/// Answers within a second or so that would outweigh what is believed of a place by habit.
const CERTAIN: f64 = 10.0;
/// Over how many seconds what is reported is compared with what comes back.
const DOUBT: f64 = 5.0;
/// For how long reports of a wrong capacity are not believed, in seconds.
const DISTRUST: f64 = 60.0;
/// The window of the share of offered exchanges that were accepted.
const BRIEF: f64 = 0.2;

/// The standard deviation by a number, its sum and its squares; `None` of a few.
fn deviation([count, sum, squares]: [f64; 3]) -> Option<f64> {
    let mean = sum / count.max(1.0);
    (count >= 2.0 * ENOUGH).then(|| (squares / count - mean * mean).max(0.0).sqrt())
}

/// What the baselines say of the exchanges that a sweep brought back. Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// What one of them takes by its kind, on average.
    pub expected: f64,
    /// How many there were, of a sample.
    pub count: f64,
    /// The sum of what they took beyond that, and of its squares.
    pub beyond: f64,
    /// Likewise.
    pub beyond_squares: f64,
}

impl Mix {
    /// The mix of what is `new`; `usual` is what a request takes of which nothing is known.
    #[must_use]
    pub fn of(new: &[Ended], strata: &Strata, distance: f64, usual: f64) -> Mix {
        let mut mix = Mix::default();
        for one in new.iter().filter(|one| one.end == End::Answered) {
            let took = one.ended - one.sent - distance;
            let expected = strata.mean(one.stratum).unwrap_or(took.max(0.0));
            mix.count += 1.0;
            mix.expected += expected;
            mix.beyond += took - expected;
            mix.beyond_squares += (took - expected) * (took - expected);
        }
        mix.expected = if mix.count > 0.0 { mix.expected / mix.count } else { usual };
        mix
    }
}

/// What is inferred, `middle`, between what is certain and what is possible by `excess`; only what both
/// say where no shift was `significant` of late. Exchanges that came back speak of the queue they met; by now it
/// may have grown, by `growth` seconds a second since.
#[must_use]
pub fn bounded(middle: f64, excess: &Excess, significant: bool, growth: f64, service: f64) -> f64 {
    let low = excess.low.max(0.0);
    let high = excess.high.max(low);
    let high = if high.is_finite() { high + growth * (high + service) } else { high };
    if significant { middle.clamp(low, high) } else { middle.min(low) }
}

pub(super) fn decay(elapsed: f64, tau: f64) -> f64 {
    (-elapsed / tau).exp()
}

impl Track {
    /// Folds one sweep in. `distance` is the cluster's, in seconds; `open` is the share of what was
    /// offered that dial and slow start let through, so that they are not taken for a lack of room;
    /// `mix` is what the baselines say of those that came back.
    pub fn fold(&mut self, tally: &Tally, distance: f64, open: f64, mix: &Mix, elapsed: f64) {
        let tau = self.window();
        let (left, left_seconds) = tally.left_early(self.expected(0.0) + distance);
        let (count, seconds) = self.answered(tally, distance);
        let keep = decay(elapsed, tau);
        self.count = self.count * keep + count;
        self.response_sum = self.response_sum * keep + seconds;
        self.expected_sum = self.expected_sum * keep + count * mix.expected;
        let waiting = (tally.waiting - self.leaving_early).max(0.0);
        self.waiting_area = self.waiting_area * keep + waiting * elapsed;
        self.accepted = (self.accepted * keep + tally.accepted - left).max(0.0);
        self.restart_on_relief(tally, distance);
        let keep = decay(elapsed, 10.0);
        self.long_count = self.long_count * keep + mix.count;
        self.long_sum = self.long_sum * keep + mix.beyond;
        self.long_squares = self.long_squares * keep + mix.beyond_squares;
        let took = [tally.completed, tally.latency_sum, tally.latency_squares];
        self.took.iter_mut().zip(took).for_each(|(sum, new)| *sum = *sum * keep + new);
        let keep = decay(elapsed, 1.0);
        self.good = self.good * keep + tally.completed;
        self.judged = self.judged * keep + tally.completed + tally.failed;
        let brief = decay(elapsed, RECENT);
        self.good_recent = self.good_recent * brief + tally.completed;
        self.judged_recent = self.judged_recent * brief + tally.completed + tally.failed;
        let news = (1.0 - keep) / elapsed.max(1e-9);
        self.accepted_rate = self.accepted_rate * keep + tally.accepted * news;
        self.abandoned_rate = self.abandoned_rate * keep + tally.abandoned * news;
        self.completion_rate = self.completion_rate * keep + tally.completed * news;
        let keep = decay(elapsed, RECENT);
        self.offered_recent = self.offered_recent * keep + tally.offered * open;
        self.completed_recent = self.completed_recent * keep + tally.completed;
        self.accepted_recent = self.accepted_recent * keep + tally.accepted;
        self.left_recent = self.left_recent * keep + left;
        self.gone_recent = self.gone_recent * keep + tally.abandoned + tally.excused;
        let news = (1.0 - keep) / elapsed.max(1e-9);
        self.leaving_early = self.leaving_early * keep + left_seconds * news;
        if tally.completed > 0.0 {
            self.bytes +=
                (tally.bytes / tally.completed - self.bytes) * (1.0 - decay(elapsed, 5.0));
        }
        // A cluster nobody has sent anything for a while is taken for one that is ready again.
        let news = 1.0 - decay(tally.accepted, 50.0);
        self.dialled *= decay(elapsed, 30.0);
        if tally.accepted > 0.0 {
            self.dialled += ((tally.dialled / tally.accepted).min(1.0) - self.dialled) * news;
        }
        let keep = decay(elapsed, BRIEF);
        self.offered_brief = self.offered_brief * keep + tally.offered * open;
        self.distrusted = (self.distrusted - elapsed).max(0.0);
        self.accepted_brief = self.accepted_brief * keep + tally.accepted;
        self.waiting = tally.waiting;
        if let Some(heard) = &mut self.heard {
            heard.age += elapsed;
        }
        if let Some(report) = tally.report {
            self.hear(report, 0.0);
        }
        self.silent = if tally.completed > 0.0 { 0.0 } else { self.silent + elapsed };
        if self.silent > 1.0 && tally.waiting < 1.0 {
            self.start_anew();
        } else if self.age > 0.0 || tally.completed > 0.0 {
            self.age += elapsed;
        }
    }

    /// Answers of a sweep, and the sum of their times without distance. Who left without one would have
    /// waited longer still: where that is more than others wait it counts, or a cluster that answers
    /// nobody in time would seem to have nothing to do.
    fn answered(&self, tally: &Tally, distance: f64) -> (f64, f64) {
        let seconds = tally.latency_sum - tally.completed * distance;
        let left = tally.abandoned_seconds - tally.abandoned * distance;
        let usual = self.response_sum.max(0.0) / self.count.max(1.0);
        match left > tally.abandoned * usual {
            true => (tally.completed + tally.abandoned, seconds + left),
            false => (tally.completed, seconds),
        }
    }

    /// A queue that is gone is gone at once, also where so little is sent that the window is full of it
    /// for seconds: when the last handful of answers is far below the window's mean, it starts anew.
    fn restart_on_relief(&mut self, tally: &Tally, distance: f64) {
        if tally.completed <= 0.0 {
            return;
        }
        let forgets = HANDFUL.powf(tally.completed);
        let mean = (tally.latency_sum / tally.completed - distance).max(0.0);
        self.newest += (mean - self.newest) * (1.0 - forgets);
        self.newest_count = (self.newest_count + tally.completed).min(HANDFUL_COUNT);
        let settled = self.newest_count >= HANDFUL_COUNT
            && self.count > HANDFUL_COUNT
            && self.completion_rate < SELDOM
            && self.queue > self.newest;
        let spread = (1.0 / HANDFUL_COUNT + 1.0 / self.count.max(1.0)).sqrt();
        if settled && self.response_sum / self.count > self.newest * (1.0 + 4.0 * spread) {
            self.expected_sum *= HANDFUL_COUNT / self.count;
            self.count = HANDFUL_COUNT;
            self.response_sum = HANDFUL_COUNT * self.newest;
            self.accepted = HANDFUL_COUNT;
            self.waiting_area = HANDFUL_COUNT * (self.newest + distance);
            self.newest_count = 0.0;
            self.history.keep_newest(HANDFUL_COUNT as usize);
        }
    }

    /// Takes a report that is `age` seconds old; an older one than the newest is old news.
    pub fn hear(&mut self, report: Report, age: f64) {
        if self.heard.is_none_or(|heard| age <= heard.age) {
            self.heard = Some(Heard { report, waiting: self.waiting, age });
        }
    }

    /// The newest report, while it is news.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.believed().map(|heard| &heard.report)
    }

    /// Likewise, believed or not.
    #[must_use]
    pub fn newest_report(&self) -> Option<&Report> {
        self.heard.as_ref().filter(|heard| heard.age < REPORT_MAX_AGE).map(|heard| &heard.report)
    }

    fn believed(&self) -> Option<&Heard> {
        let news = |heard: &&Heard| heard.age < REPORT_MAX_AGE && heard.report.tells_queue();
        self.heard.as_ref().filter(news).filter(|_| self.distrusted <= 0.0)
    }

    /// Compares what is reported with what comes back: a stated capacity that is wrong shows as a queue
    /// where nobody waits, or the other way round. `service` is the shortest that any cluster reports.
    pub fn doubt(&mut self, service: f64, elapsed: f64) {
        let heard = self.heard.filter(|heard| heard.age < REPORT_MAX_AGE);
        let (Some(heard), Some(response)) = (heard, self.response()) else { return };
        if heard.report.capacity.is_none() {
            return;
        }
        let own = (response - service).max(0.0);
        let said = heard.report.queue_delay(service);
        let news = 1.0 - decay(elapsed, DOUBT);
        self.doubted += (said - own - self.doubted) * news;
        self.scattered += ((said - own).powi(2) - self.scattered) * news;
        // Noise of the window, over as many windows as are averaged.
        let noise = self.error_in_all(service) * (self.window() / DOUBT).sqrt();
        let tolerance = (0.1 * service).max(0.001) + 2.0 * noise;
        // One said to be all but full has a queue by the nature of arrivals.
        self.own += (own - self.own) * news;
        self.due += (heard.report.queue_due() - self.due) * news;
        let idle = self.own + noise < 0.1 * self.due;
        self.idle = (self.idle + if idle { elapsed } else { -elapsed }).max(0.0);
        let counted = |for_now: bool, seconds: f64| if for_now { seconds + elapsed } else { 0.0 };
        self.wrong = counted(self.doubted.abs() > tolerance, self.wrong);
        // News of a second ago herds: it is right on average, and never now.
        self.stale = counted(self.scattered.sqrt() > 5.0 * tolerance, self.stale);
        if self.wrong > 10.0 || self.idle > 10.0 || self.stale > 3.0 {
            self.idle = 0.0;
            self.distrusted = DISTRUST;
        }
    }

    /// The queue's delay as reported, and as it must be by what was sent since.
    fn reported_queue(&mut self, service: f64, elapsed: f64) -> Option<f64> {
        let heard = *self.believed()?;
        if heard.age < elapsed {
            let sample = heard.report.queue_delay(service);
            self.queue += (sample - self.queue) * (1.0 - decay(elapsed, 0.05));
        } else {
            self.queue *= decay(elapsed, (3.0 * self.queue).max(0.5));
        }
        let service = if heard.report.service > 0.0 { heard.report.service } else { service };
        let since = self.waiting - heard.waiting;
        let by_count = heard.report.capacity.map_or(0.0, |capacity| {
            (heard.report.in_flight + since - capacity).max(0.0) * service / capacity
        });
        Some(by_count.clamp(0.0, 10.0))
    }

    /// The share of what is offered that it can serve, by its report: what it serves at most over what
    /// would come if all were accepted. `None` while it has plenty.
    #[must_use]
    pub fn reported_supply(&self) -> Option<f64> {
        let report = self.report()?;
        let capacity = report.capacity.filter(|_| report.service > 0.0)?;
        let most = capacity / report.service;
        let accepted = match self.offered_brief > 1.0 {
            true => (self.accepted_brief / self.offered_brief).clamp(0.02, 1.0),
            false => 1.0,
        };
        let demand = report.arrivals / accepted;
        (demand > 0.9 * most).then(|| most / demand)
    }

    /// What it can serve of this traffic by its report, in exchanges a second: this proxy's part of it.
    #[must_use]
    pub fn reported_capacity(&self) -> Option<f64> {
        let report = self.report()?;
        let capacity = report.capacity.filter(|_| report.service > 0.0)?;
        let part = (self.accepted_rate / report.arrivals.max(1.0)).min(1.0);
        Some(part * capacity / report.service).filter(|rate| *rate > 0.0)
    }

    /// Forgets rates after a silence, so that its emptiness is not taken for slowness.
    fn start_anew(&mut self) {
        self.age = 0.0;
        self.completion_rate = 0.0;
        self.offered_recent = 0.0;
        self.completed_recent = 0.0;
        self.accepted_recent = 0.0;
        self.left_recent = 0.0;
        self.gone_recent = 0.0;
        self.leaving_early = 0.0;
        self.waiting_area = 0.0;
        self.accepted = 0.0;
    }

    /// The window of means: 60 samples, within half a second and three.
    fn window(&self) -> f64 {
        (60.0 / self.completion_rate.max(1.0)).clamp(0.5, 3.0)
    }

    /// Mean response time without distance; `None` below 15 samples.
    #[must_use]
    pub fn response(&self) -> Option<f64> {
        (self.count >= ENOUGH).then(|| (self.response_sum / self.count).max(0.0))
    }

    /// Standard error of that mean, when a service takes `service`.
    #[must_use]
    pub fn error(&self, service: f64) -> f64 {
        let sums = [self.long_count, self.long_sum, self.long_squares];
        deviation(sums).unwrap_or(service) / (2.0 * self.count.max(1.0)).sqrt()
    }

    /// Likewise where nothing is known of the mix.
    fn error_in_all(&self, service: f64) -> f64 {
        deviation(self.took).unwrap_or(service) / (2.0 * self.count.max(1.0)).sqrt()
    }

    /// What its exchanges of late take by their kinds, in seconds; `service` before any came back.
    #[must_use]
    pub fn expected(&self, service: f64) -> f64 {
        if self.count > 0.5 { self.expected_sum / self.count } else { service }
    }

    /// Whether exchanges have been taking no longer than expected, but for the noise of a mean.
    #[must_use]
    pub fn answers_in_time(&self) -> bool {
        self.beyond() <= self.error(0.0)
    }

    /// By how many seconds a second its queue grows, as far as that is certain.
    #[must_use]
    pub fn growth(&self) -> f64 {
        let more = self.accepted_recent - self.completed_recent - self.left_recent;
        let noise = 2.0 * (self.accepted_recent + self.completed_recent).sqrt();
        ((more - noise) / self.completed_recent.max(1.0)).clamp(0.0, 10.0)
    }

    /// What exchanges took of late beyond what is expected, on average, in seconds.
    #[must_use]
    pub fn beyond(&self) -> f64 {
        (self.response_sum - self.expected_sum) / self.count.max(1.0)
    }

    /// How many times as long as expected exchanges take at most, by so many standard errors; `None` of a few.
    #[must_use]
    pub fn ratio_at_most(&self, errors: f64) -> Option<f64> {
        let expected = self.expected(0.0);
        let most = self.beyond() + errors * self.error(expected);
        (self.count >= TELLING && expected > 0.0).then(|| (1.0 + most / expected).max(0.0))
    }

    /// Likewise, less so many standard errors; nothing of a few.
    #[must_use]
    pub fn beyond_at_least(&self, errors: f64) -> f64 {
        if self.count < ENOUGH {
            return 0.0;
        }
        self.beyond() - errors * self.error(self.expected(0.0))
    }

    /// How many times as long as expected exchanges have been taking of late.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.expected_sum > 0.0 { (self.response_sum / self.expected_sum).max(0.0) } else { 1.0 }
    }

    /// Whether exchanges take anything else than expected, as far as a mean can tell.
    #[must_use]
    pub fn differs(&self, distance: f64, service: f64) -> bool {
        if self.count < 1.0 {
            return self.waiting >= 1.0;
        }
        let mean = self.response_sum / self.count - self.expected(service);
        mean.abs() > self.error(service) || self.queue_sample(distance, service) > 0.0
    }

    /// The share of exchanges of late whose client left before the answer.
    #[must_use]
    pub fn leaving(&self) -> f64 {
        self.abandoned_rate / self.accepted_rate.max(1.0)
    }

    /// The queue's delay as the last sweep shows it, unfiltered.
    #[must_use]
    pub fn queue_sample(&self, distance: f64, service: f64) -> f64 {
        let service = self.expected(service);
        if self.count < 1.0 || (self.age < RECENT && self.waiting < 16.0) {
            return 0.0;
        }
        let error = self.error(service);
        let margin = if self.count < 10.0 || self.long_count < FRESH { 3.0 } else { 2.0 } * error;
        let by_responses = self.response_sum / self.count - service - margin;
        let unloaded = distance + service;
        // Over what was sent where that is more than what came back: else a rising rate, whose
        // first exchanges are still on their way, would read as a queue.
        // Arrivals are as uneven as chance: their number has an error of its own.
        let sent = self.count.max(self.accepted);
        let uneven = 2.0 * unloaded / (2.0 * sent).sqrt();
        let by_little = self.waiting_area / sent - unloaded - margin - uneven;
        // A young window has not filled yet: its rate is what it holds, over what it spans.
        let rate = self.completion_rate / (1.0 - decay(self.age, 1.0)).max(0.05);
        let staying = (self.waiting - self.leaving_early).max(0.0);
        let now = if staying > 4.0 && rate > 1.0 {
            (staying - 3.0 * (rate * unloaded + self.leaving_early).sqrt()) / rate - unloaded
        } else {
            0.0
        };
        by_responses.max(by_little).max(now).min(self.queue_bound(unloaded)).clamp(0.0, 10.0)
    }

    /// The longest queue that what waits now can be, at the rate of late: means of a window still
    /// speak of a queue that has drained meanwhile.
    fn queue_bound(&self, unloaded: f64) -> f64 {
        let recent_rate = self.completed_recent / RECENT;
        (self.waiting + 2.0 * self.waiting.sqrt() + 1.0) / recent_rate.max(1e-3) - unloaded
    }

    /// Folds the queue of this sweep in: a 50 ms filter; silence is forgiven slowly.
    /// `within` bounds what is inferred: by what delays all kinds of requests alike.
    pub fn update_queue(
        &mut self,
        distance: f64,
        service: f64,
        within: impl FnOnce(f64) -> f64,
        elapsed: f64,
    ) {
        if let Some(now) = self.reported_queue(service, elapsed) {
            self.latched = now;
            return;
        }
        self.latched = 0.0;
        if self.silent > 0.0 && self.waiting < 1.0 {
            self.queue *= decay(elapsed, (3.0 * self.queue).max(0.5));
            return;
        }
        let sample = within(self.queue_sample(distance, service));
        self.queue += (sample - self.queue) * (1.0 - decay(elapsed, 0.05));
    }

    /// The queue's delay now.
    #[must_use]
    pub fn queue(&self) -> f64 {
        let queue = self.queue.max(self.latched);
        if queue < 1e-6 { 0.0 } else { queue }
    }

    /// Whether enough came back within the last seconds to say how often it fails.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.judged >= 0.5
    }

    /// Forgets failures: whoever comes back from the dead has answered for them.
    pub fn forgive(&mut self) {
        self.good = 0.0;
        self.judged = 0.0;
        self.good_recent = 0.0;
        self.judged_recent = 0.0;
    }

    /// Likewise, as far as it is certain: a quiet service's one failure in two is no half.
    #[must_use]
    pub fn success_at_least(&self) -> f64 {
        (self.good + CERTAIN) / (self.judged + CERTAIN)
    }

    /// Likewise of the last moments, where a handful of failures is no news.
    #[must_use]
    pub fn success_now(&self) -> f64 {
        (self.good_recent + 3.0) / (self.judged_recent + 3.0)
    }

    /// Share of exchanges that did not fail; 1 before any.
    #[must_use]
    pub fn success(&self) -> f64 {
        if self.judged < 1.0 { 1.0 } else { (self.good / self.judged).clamp(0.0, 1.0) }
    }

    /// The share of what is offered that it has been completing.
    #[must_use]
    pub fn completed_share(&self) -> Option<f64> {
        (self.offered_recent > 5.0 && self.age > RECENT)
            .then(|| (self.completed_recent + self.gone_recent + 0.5) / self.offered_recent)
    }

    /// Whether much is offered to it, and nothing could come back yet.
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        self.offered_recent > FLOOD && self.age <= RECENT
    }

    /// Exchanges sent to it, a second.
    #[must_use]
    pub fn accepted_rate(&self) -> f64 {
        self.accepted_rate
    }

    /// Likewise of the last fifth of a second.
    #[must_use]
    pub fn brief_rate(&self) -> f64 {
        self.accepted_brief / BRIEF
    }

    /// Share of exchanges that had to wait for a new connection.
    #[must_use]
    pub fn dialled(&self) -> f64 {
        self.dialled
    }

    /// Exchanges under way.
    #[must_use]
    pub fn waiting(&self) -> f64 {
        self.waiting
    }

    /// Good answers a second.
    #[must_use]
    pub fn good_rate(&self) -> f64 {
        self.completion_rate
    }

    /// Mean bytes of a response.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::service_time::ReportedService;
    use super::*;

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

    /// What requests take by their kinds: 20 ms.
    fn usual() -> Mix {
        Mix { expected: 0.020, count: 10.0, beyond: 0.0, beyond_squares: 1e-5 }
    }

    #[test]
    fn an_unloaded_place_shows_no_queue_and_a_queue_is_seen_within_half_a_second() {
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
    fn who_leaves_before_anybody_is_answered_is_no_queue() {
        let mut track = Track::default();
        let few = Tally { latency_squares: 0.3, ..steady(12.0, 0.7, 8.4) };
        let service = Mix { expected: 0.7, count: 1.0, beyond: 0.0, beyond_squares: 1e-5 };
        for sweep in 0..400 {
            // After ten seconds 250 a second beside them leave after 100 ms: most of them heard once alone.
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
            // The first ones are not known to leave before they have left.
            if !(200..240).contains(&sweep) {
                assert_eq!((track.queue(), track.growth()), (0.0, 0.0), "{sweep}");
            }
        }
    }

    #[test]
    fn silence_is_forgiven() {
        let mut track = Track { queue: 0.1, ..Track::default() };
        for _ in 0..100 {
            track.fold(&Tally::default(), 0.0, 1.0, &usual(), 0.05);
            track.update_queue(0.0, 0.02, |queue| queue, 0.05);
        }
        assert!(track.queue() < 0.001);
    }

    #[test]
    fn whatever_is_reported_beliefs_stay_in_range_and_silence_ends_them() {
        use crate::decision::spill::{Candidate, P_MIN, accept};
        use crate::decision::units::Dice;
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
                    };
                    let share = accept(&[here, Candidate { base: 0.05, ..here }], 0);
                    assert!((P_MIN..=1.0).contains(&share), "{said}: {share}");
                }
            }
            // Without news of them, load is inferred again: nothing of theirs is left.
            for _ in 0..200 {
                tracks[0].fold(&steady(200.0, 0.022, 4.4), 0.002, 1.0, &usual(), 0.05);
                tracks[0].update_queue(0.002, 0.02, |queue| queue, 0.05);
            }
            assert!(tracks[0].report().is_none() && tracks[0].queue() < 0.001, "seed {seed}");
        }
    }

    #[test]
    fn nothing_seen_is_no_failure() {
        assert_eq!(Track::default().success(), 1.0);
        assert_eq!(Track::default().queue_sample(0.0, 0.02), 0.0);
    }
}
