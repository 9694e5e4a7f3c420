//! Responses that the other proxies of the site received from the same cluster. They count like this proxy's own while this
//! proxy receives few.

use super::means::{Answers, window};
use super::moments::Moments;
use super::{Mix, Track, decay};
use crate::exchange::{End, Ended, Exchanges, History};
use crate::pool::{FEW, MOST, Observed};
use crate::strata::Strata;

/// The most responses of other proxies that are kept for the next sweep.
const WAITING_MAX: usize = 256;
/// After this time without a report of a response, in seconds, the responses of other proxies no longer count.
const SILENT: f64 = 3.0;

/// The answers of other proxies. Their times contain no distance.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    /// Answers since the last sweep.
    heard: Vec<Ended>,
    /// Answers that the last sweep took.
    new: Exchanges,
    history: History,
    /// Answers a second, over one second.
    rate: f64,
    /// Seconds since the last answer.
    silent: f64,
    /// Exchanges sent before this time, in seconds, are not reported: they went to endpoints that were replaced.
    told_from: f64,
}

impl Track {
    /// Adds response times of other proxies; those beyond 256 in one sweep are dropped.
    pub fn hear_others(&mut self, observed: &[Observed]) {
        let free = WAITING_MAX.saturating_sub(self.others.heard.len());
        let ended = |one: &Observed| Ended {
            sent: one.ended - one.seconds,
            ended: one.ended,
            stratum: one.stratum,
            end: End::Answered,
        };
        self.others.heard.extend(observed.iter().take(free).map(ended));
    }

    /// Updates the means with the responses of other proxies, or discards these if this proxy receives enough itself. `usual` is
    /// the expected response time of an unknown kind of request; responses older than `oldest` are discarded. Seconds.
    pub fn fold_others(&mut self, strata: &Strata, usual: f64, oldest: f64, elapsed: f64) {
        let others = &mut self.others;
        others.silent = if others.heard.is_empty() { others.silent + elapsed } else { 0.0 };
        if self.rates.completed >= FEW || others.silent > SILENT {
            if others.rate > 0.0 {
                self.forget_others();
            }
            self.others.heard.clear();
            return;
        }
        others.new.ended.clear();
        others.new.ended.append(&mut others.heard);
        let mix = Mix::of(&others.new.ended, strata, 0.0, usual);
        let keep = decay(elapsed, 1.0);
        others.rate = others.rate * keep + mix.count / elapsed.max(1e-9) * (1.0 - keep);
        others.history.take(&others.new, oldest);
        let seconds = others.new.ended.iter().map(|one| one.ended - one.sent).sum();
        let expected_sum = mix.count * mix.expected;
        let answers = Answers { count: mix.count, response_sum: seconds, expected_sum };
        let window = self.window();
        self.means.fold_others(answers, window, elapsed);
        // The sweep of this proxy's own answers has let the older ones decay.
        let (sum, squares) = (mix.beyond, mix.beyond_squares);
        self.beyond.fold(1.0, Moments { count: mix.count, sum, squares });
    }

    /// Discards the responses of other proxies, and reports no exchange sent before `now`, because the endpoints were replaced.
    pub fn leave_others(&mut self, now: f64) {
        self.forget_others();
        self.others.told_from = now;
    }

    fn forget_others(&mut self) {
        let Others { silent, told_from, .. } = self.others;
        self.others = Others { silent, told_from, ..Others::default() };
        self.means.forget_others();
    }

    /// The newest response times, less the distance, for reports to other proxies; none if this proxy receives enough responses.
    #[must_use]
    pub fn newest_answers(&self, distance: f64) -> Vec<Observed> {
        if self.rates.completed >= FEW {
            return Vec::new();
        }
        let since = self.others.told_from;
        let answered = self.history.ended().iter().rev();
        let answered = answered.filter(|one| one.end == End::Answered && one.sent >= since);
        let observed = answered.take(MOST).map(|one| Observed {
            ended: one.ended,
            seconds: (one.ended - one.sent - distance).max(0.0),
            stratum: one.stratum,
        });
        let mut newest: Vec<Observed> = observed.collect();
        newest.reverse();
        newest
    }

    /// The responses of other proxies that were added in the last sweep.
    #[must_use]
    pub fn new_of_others(&self) -> &[Ended] {
        &self.others.new.ended
    }

    /// The responses of other proxies in the last seconds.
    #[must_use]
    pub fn others(&self) -> &[Ended] {
        self.others.history.ended()
    }

    /// Responses a second: this proxy's own, and those of other proxies that count.
    #[must_use]
    pub fn observed_rate(&self) -> f64 {
        self.rates.completed + self.others.rate
    }

    /// Whether most of the responses that count are of other proxies, and there are at least 20 a second in all.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.others.rate > self.rates.completed && self.observed_rate() >= FEW
    }

    /// The length of the window of the means, in seconds.
    pub(super) fn window(&self) -> f64 {
        window(self.observed_rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Tally;
    use crate::units::Dice;

    /// Sweeps of 50 ms with `own` answers a second of 20 ms by this proxy, and `others` a second that take `seconds`.
    struct World {
        track: Track,
        strata: Strata,
        now: f64,
    }

    impl World {
        fn new() -> World {
            let mut strata = Strata::default();
            (0..200).for_each(|_| strata.learn(0, 0.020, 100.0));
            World { track: Track::default(), strata, now: 1.0 }
        }

        fn run(&mut self, seconds: f64, own: f64, others: f64, takes: f64) {
            let sweeps = (seconds / 0.05).round() as u32;
            let (mut own_credit, mut credit) = (0.0, 0.0);
            for _ in 0..sweeps {
                self.now += 0.05;
                (own_credit, credit) = (own_credit + own * 0.05, credit + others * 0.05);
                let count = f64::floor(own_credit);
                own_credit -= count;
                let tally = Tally {
                    accepted: count,
                    completed: count,
                    latency_sum: count * 0.020,
                    latency_squares: count * 0.020 * 0.020,
                    ..Tally::default()
                };
                let mix = Mix { expected: 0.020, count, ..Mix::default() };
                self.track.fold(&tally, 0.0, 1.0, &mix, 0.05);
                while credit >= 1.0 {
                    credit -= 1.0;
                    let one = Observed { ended: self.now - 0.5, seconds: takes, stratum: 0 };
                    self.track.hear_others(&[one]);
                }
                self.track.fold_others(&self.strata, 0.020, self.now - 3.5, 0.05);
                self.track.update_queue(0.0, 0.020, |queue| queue, 0.05);
            }
        }
    }

    #[test]
    fn a_queue_that_others_see_is_seen_with_few_answers_of_ones_own() {
        let mut world = World::new();
        world.run(4.0, 5.0, 100.0, 0.020);
        assert_eq!(world.track.queue(), 0.0);
        assert!(world.track.is_pooled() && world.track.observed_rate() > 80.0);
        world.run(1.5, 5.0, 100.0, 0.060);
        assert!((0.018..0.042).contains(&world.track.queue()), "{}", world.track.queue());
        world.run(2.0, 5.0, 100.0, 0.020);
        assert!(world.track.queue() < 0.001, "{}", world.track.queue());
    }

    #[test]
    fn others_do_not_count_when_ones_own_suffice_or_when_they_fall_silent() {
        let mut world = World::new();
        world.run(4.0, 40.0, 100.0, 0.060);
        assert!(!world.track.is_pooled() && world.track.others().is_empty());
        assert_eq!(world.track.queue(), 0.0, "this proxy's own answers came in time");
        let mut world = World::new();
        world.run(3.0, 5.0, 10.0, 0.060);
        assert!(!world.track.is_pooled(), "15 a second are still few");
        world.run(3.0, 5.0, 100.0, 0.060);
        assert!(world.track.queue() > 0.025 && !world.track.others().is_empty());
        let mut replaced = world.track.clone();
        replaced.leave_others(world.now);
        assert!(replaced.others().is_empty() && !replaced.is_pooled());
        assert!(replaced.means.count() < 20.0, "its own only");
        world.run(3.2, 5.0, 0.0, 0.0);
        assert!(world.track.others().is_empty() && world.track.new_of_others().is_empty());
        assert!((world.track.observed_rate() - 5.0).abs() < 2.0);
        world.run(4.0, 5.0, 0.0, 0.0);
        assert_eq!(world.track.queue(), 0.0);
    }

    #[test]
    fn hostile_times_and_floods_stay_bounded() {
        let mut dice = Dice::seeded(3);
        let mut world = World::new();
        world.run(1.0, 5.0, 0.0, 0.0);
        for _ in 0..400 {
            let told: Vec<Observed> = (0..dice.below(2_000))
                .map(|_| Observed {
                    ended: world.now - dice.unit() * 2.0,
                    seconds: (dice.unit() * 21.0).exp() * 1e-5,
                    stratum: dice.below(32) as u8,
                })
                .collect();
            world.track.hear_others(&told);
            world.run(0.05, 5.0, 0.0, 0.0);
            assert!(world.track.others().len() <= 640);
            assert!((0.0..=10.0).contains(&world.track.queue()), "{}", world.track.queue());
        }
    }

    #[test]
    fn what_is_told_has_no_distance_and_only_answers() {
        let mut world = World::new();
        let ended = |n: u32, end| {
            let at = f64::from(n) * 0.01;
            Ended { sent: at - 0.030, ended: at, stratum: 7, end }
        };
        let mut new = Exchanges::default();
        new.ended.extend((0..20).map(|n| ended(n, End::Answered)));
        new.ended.push(ended(20, End::Unanswered));
        world.track.history.take(&new, -1.0);
        world.run(1.0, 5.0, 0.0, 0.0);
        let told = world.track.newest_answers(0.010);
        assert_eq!((told.len(), told[15].ended, told[15].stratum), (16, 0.19, 7));
        assert!(told.iter().all(|one| (one.seconds - 0.020).abs() < 1e-9));
        world.track.leave_others(0.105);
        assert_eq!(world.track.newest_answers(0.010).len(), 6, "those of the new endpoints");
        world.run(3.0, 40.0, 0.0, 0.0);
        assert!(world.track.newest_answers(0.010).is_empty(), "enough answers for itself");
    }
}
