//! The inference of one class's load without any report: the response times without a queue, and the part of current
//! response times that is a queue.
//!
//! The parts are `strata` (baselines by kind of request), `excess` (the delay of all kinds alike) and
//! `suspicion` (queue or slower work); here they are updated, once a sweep.

use crate::excess::{Excess, Scratch, Seen, WINDOW_MAX, excess};
use crate::exchange::Exchanges;
use crate::load::{Track, bounded};
use crate::strata::Strata;
use crate::suspicion::{Evidence, Suspicion, Verdict};

/// Results of the last sweep that this sweep uses. Seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// The queue that is tolerated at the nearest cluster while there is none elsewhere.
    pub(super) worth: f64,
    /// The queue tolerated at the nearest cluster now: longer if the other clusters have queues too.
    pub(super) tolerated: f64,
    /// How much farther the next cluster is.
    pub(super) gap: f64,
    /// Whether a queue kept exchanges away from the nearest cluster.
    pub(super) spills: bool,
    /// Whether the limit after a queue (`congestion`) did.
    pub(super) bounded: bool,
    /// Whether exchanges may go to another cluster; false, for example, while the budget is empty.
    pub(super) may_leave: bool,
    /// Whether demand exceeds the capacity of all clusters.
    pub(super) overloaded: bool,
}

/// One class at one sweep; the tracks contain the sweep's exchanges already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep<'a> {
    pub(super) tracks: &'a [Track],
    /// Parallel to the tracks, in seconds.
    pub(super) distances: &'a [f64],
    /// The nearest live cluster, by its index among the tracks.
    pub(super) first: usize,
    pub(super) before: Before,
    /// Seconds since the process began, and since the last sweep.
    pub(super) now: f64,
    pub(super) elapsed: f64,
}

/// One class's inference.
#[derive(Clone, Debug)]
pub(super) struct Inference {
    strata: Strata,
    suspicion: Suspicion,
    /// The nearest cluster at the last sweep.
    first: usize,
    scratch: Scratch,
    /// The exchanges of the last sweep, by slot.
    pub(super) new: Vec<Exchanges>,
    excesses: Vec<Excess>,
    /// When the excess of each slot was last certain.
    certain: Vec<f64>,
    calm: bool,
    /// Whether the nearest cluster reports its queue.
    is_reported: bool,
    /// The highest rate of exchanges that the nearest cluster answered without delay, a second.
    proven: f64,
}

/// For how long a certain shift stays in force, in seconds.
const REMEMBERED: f64 = 3.0;
/// The share of leaving clients from which on all clusters are overloaded.
const LEAVING: f64 = 0.1;
/// The number of samples below which baselines are preliminary: no queue is suspected, and every response is learned.
const SETTLED: f64 = 60.0;
/// The rate that may be learned from, as a multiple of the highest rate answered in time.
const UNPROVEN: f64 = 1.1;
/// Time constant with which such a rate is forgotten, in seconds.
const REMEMBERS_RATE: f64 = 300.0;
/// Standard errors by which another cluster's mean must be lower to be quicker.
const ERRORS_MOST: f64 = 3.0;
/// Standard errors that are subtracted from a control group's mean.
const ERRORS: f64 = 2.5;
/// The number of exchanges below which another cluster is no control group: a few exchanges exceed a bound by chance,
/// and so does a cluster that is farther than its probes show.
const COMPARED: f64 = 20.0;
/// A lower bound of every moment: nothing was sent before the process began.
const EVER: f64 = f64::NEG_INFINITY;

impl Inference {
    pub(super) fn new(clusters: usize) -> Inference {
        Inference {
            strata: Strata::default(),
            suspicion: Suspicion::default(),
            first: 0,
            scratch: Scratch::default(),
            new: vec![Exchanges::default(); clusters],
            excesses: vec![Excess::default(); clusters],
            certain: vec![EVER; clusters],
            calm: false,
            is_reported: false,
            proven: 0.0,
        }
    }

    /// Whether queues are known: by reports, or by baselines that were learned while nothing was suspected.
    pub(super) fn tells_queues(&self) -> bool {
        self.calm || self.is_reported
    }

    /// Response time of a request without a queue, in seconds, for the recent mix; `None` while unknown.
    pub(super) fn service(&self) -> Option<f64> {
        self.strata.service()
    }

    /// The baselines.
    pub(super) fn strata(&self) -> &Strata {
        &self.strata
    }

    /// Forgets everything, because the endpoints were replaced.
    pub(super) fn forget(&mut self) {
        self.strata.forget();
        self.suspicion.reset();
        self.certain.fill(EVER);
        self.calm = false;
    }

    /// Limits the service time to `seconds`: later observations show that the rest was a queue.
    pub(super) fn cap(&mut self, seconds: f64) {
        if let Some(service) = self.service().filter(|service| *service > seconds) {
            self.strata.scale(seconds / service, seconds / service);
        }
    }

    /// The bound of an inferred queue at `slot`: the delay that all kinds of requests share.
    pub(super) fn bound(
        &self,
        slot: usize,
        track: &Track,
        now: f64,
    ) -> impl Fn(f64) -> f64 + use<> {
        let (excess, certain) = (self.excesses[slot], now - self.certain[slot] < REMEMBERED);
        let (growth, service) = (track.growth(), self.service().unwrap_or_default());
        let known = self.strata.is_known();
        move |middle| match known {
            true => bounded(middle, &excess, certain, growth, service),
            false => 0.0,
        }
    }

    /// Folds in the exchanges of a sweep. Returns how the baselines changed.
    pub(super) fn update(&mut self, sweep: Sweep<'_>) -> Verdict {
        let Sweep { tracks, distances, first, now, .. } = sweep;
        if tracks.is_empty() {
            return Verdict::Wait;
        }
        let of_others = tracks.iter().flat_map(Track::new_of_others);
        for one in self.new.iter().flat_map(Exchanges::answered).chain(of_others) {
            self.strata.see(one.stratum);
        }
        if std::mem::replace(&mut self.first, first) != first {
            self.suspicion.nearest_changed();
        }
        self.measure(tracks, distances, now);
        let seen = self.evidence(sweep);
        let verdict = self.suspicion.update(&seen);
        match verdict {
            Verdict::Wait => {}
            Verdict::Shift(more) => self.strata.shift(more),
            Verdict::Scale(factor) => {
                let part = seen.usual / self.service().unwrap_or(seen.usual);
                self.strata.scale(factor, of_mean(factor, tracks[first].ratio(), part));
                self.measure(tracks, distances, now);
            }
        }
        self.learn(sweep);
        verdict
    }

    /// Updates the excess of each cluster that shows any sign of one.
    fn measure(&mut self, tracks: &[Track], distances: &[f64], now: f64) {
        let service = self.service().unwrap_or_default();
        for (slot, track) in tracks.iter().enumerate() {
            let shows = track.queue() > 0.0
                || self.suspicion.since().is_some()
                || track.differs(distances[slot], service);
            self.excesses[slot] = match shows {
                true => {
                    let seen = seen(track, distances[slot]);
                    excess(&seen, &self.strata, EVER, now, &mut self.scratch)
                }
                false => Excess::default(),
            };
            if self.excesses[slot].sure > 0.0 && self.strata.weight() >= SETTLED {
                self.certain[slot] = now;
            }
        }
    }

    fn evidence(&mut self, sweep: Sweep<'_>) -> Evidence {
        let Sweep { tracks, distances, first, before, now, elapsed } = sweep;
        let (mut control_keeps_up, mut control_mean) = (true, 0.0);
        let control = match self.suspicion.since() {
            None => Excess::default(),
            Some(since) => {
                // The best of them: a cluster with a queue of its own is no control group.
                let others = (0..tracks.len()).filter(|slot| *slot != first);
                let mut best: Option<Excess> = None;
                for slot in others {
                    let seen = seen(&tracks[slot], distances[slot]);
                    let one = excess(&seen, &self.strata, since, now, &mut self.scratch);
                    let mean = tracks[slot].beyond_at_least(ERRORS);
                    if one.count >= COMPARED && best.is_none_or(|_| mean < control_mean) {
                        best = Some(one);
                        control_mean = mean;
                        control_keeps_up = tracks[slot].growth() <= 0.0;
                    }
                }
                best.unwrap_or_default()
            }
        };
        let home = &tracks[first];
        Evidence {
            now,
            elapsed,
            home: self.excesses[first],
            control,
            control_mean,
            // A class that was once without a queue knows its response times at the nearest cluster better than other
            // clusters show them.
            elsewhere: if self.calm { 1.0 } else { self.elsewhere(tracks, first) },
            control_keeps_up,
            settled: self.strata.weight() >= SETTLED,
            usual: self.strata.usual(),
            service: self.service().unwrap_or_default(),
            worth: before.worth,
            tolerated: before.tolerated,
            gap: before.gap,
            mean: home.beyond(),
            grows: home.growth() > 0.0,
            sent_rate: home.accepted_rate(),
            answered_rate: home.good_rate(),
            spills: before.spills,
            bounded: before.bounded,
            may_leave: before.may_leave,
            overloaded: before.overloaded || tracks.iter().any(|track| track.leaving() > LEAVING),
        }
    }

    /// Upper bound of response times at the quickest other cluster, relative to the prediction.
    fn elsewhere(&self, tracks: &[Track], first: usize) -> f64 {
        let others = tracks.iter().enumerate().filter(|(slot, _)| *slot != first);
        others.filter_map(|(_, track)| track.ratio_at_most(ERRORS_MOST)).fold(1.0, f64::min)
    }

    /// Learns response times while there is no queue; response times of unknown kinds at once.
    fn learn(&mut self, sweep: Sweep<'_>) {
        let Sweep { tracks, distances, first, before, elapsed, .. } = sweep;
        let overloaded = before.overloaded;
        // A rate above every rate that was answered in time may cause a queue: its response times are not learned.
        let home = &tracks[first];
        let rate = home.accepted_rate();
        // The first answers are the quickest, so all others seem late. Without another sign of a queue for long, they are
        // not late.
        let settled = self.strata.weight() >= SETTLED;
        let untroubled = self.suspicion.is_calm() && !overloaded && home.growth() <= 0.0;
        let in_time = home.answers_in_time() || !settled && untroubled;
        self.proven *= 1.0 - elapsed / REMEMBERS_RATE;
        if in_time || self.proven <= 0.0 {
            self.proven = self.proven.max(rate);
        }
        let unproven = rate > UNPROVEN * self.proven && !in_time;
        self.is_reported = home.report().is_some();
        self.calm |= !overloaded && !self.is_reported && self.suspicion.is_calm();
        let may_learn = !overloaded && !unproven && (self.suspicion.may_learn() || !settled);
        // A class that was overloaded from the first exchange on learns from clusters that are not.
        let by_others = !self.calm && !overloaded;
        for ((slot, new), track) in self.new.iter().enumerate().zip(tracks) {
            let teaches = match slot == first {
                true => may_learn,
                false => by_others && track.answers_in_time(),
            };
            let own = new.answered().map(|one| (one, distances[slot]));
            let of_others = track.new_of_others().iter().map(|one| (one, 0.0));
            for (one, distance) in own.chain(of_others) {
                let took = one.ended - one.sent - distance;
                if !self.strata.knows(one.stratum) {
                    self.strata.learn(one.stratum, took - track.queue(), track.observed_rate());
                } else if teaches {
                    self.strata.learn(one.stratum, took, track.observed_rate());
                }
            }
        }
    }
}

/// The factor by which the mean response time grows when its low quantile grows by `factor`: the
/// `ratio` of the observed response times, bounded by two cases: all requests grow by the same factor, or by the same
/// time. The quantile is `part` of the mean.
fn of_mean(factor: f64, ratio: f64, part: f64) -> f64 {
    let by_time = (1.0 + (factor - 1.0) * part).max(0.0);
    ratio.clamp(by_time.min(factor), by_time.max(factor))
}

/// The exchanges of this proxy, and those of others that count.
fn seen(track: &Track, distance: f64) -> [Seen<'_>; 2] {
    let own = Seen { ended: track.history.ended(), open: track.history.open(), distance };
    [own, Seen { ended: track.others(), open: &[], distance: 0.0 }]
}

/// Exchanges that ended before this moment are forgotten.
pub(super) fn oldest(now: f64) -> f64 {
    now - 1.1 * WINDOW_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{End, Ended, Open};
    use crate::load::{Mix, Tally};
    use crate::units::Dice;

    #[test]
    fn a_mean_grows_between_the_two_bounding_cases_in_either_direction() {
        assert!((of_mean(2.0, 1.3, 0.25) - 1.3).abs() < 1e-12);
        assert!((of_mean(2.0, 9.0, 0.25) - 2.0).abs() < 1e-12);
        assert!((of_mean(2.0, 1.0, 0.25) - 1.25).abs() < 1e-12);
        // Three steps taken back at once.
        assert!((of_mean(0.125, 0.5, 0.25) - 0.5).abs() < 1e-12);
        let mut dice = Dice::seeded(8);
        for _ in 0..2_000 {
            let (factor, ratio, part) = (dice.unit() * 8.0, dice.unit() * 8.0, dice.unit() * 2.0);
            assert!(of_mean(factor, ratio, part) >= 0.0);
        }
    }

    /// Random exchanges, such as clock jumps, caches or misbehaving clients can produce.
    fn anything(dice: &mut Dice, now: f64) -> (Exchanges, Tally) {
        let (mut exchanges, mut tally) = (Exchanges::default(), Tally::default());
        for _ in 0..dice.below(40) {
            let took = match dice.below(5) {
                0 => 0.0,
                1 => dice.unit() * 1e-6,
                2 => dice.unit() * 100.0,
                3 => -dice.unit(),
                _ => dice.unit() * 0.05,
            };
            let stratum = dice.below(256) as u8 % 32;
            let end = if dice.below(4) == 0 { End::Unanswered } else { End::Answered };
            let sent = now - took - dice.unit();
            exchanges.ended.push(Ended { sent, ended: sent + took, stratum, end });
            tally.completed += 1.0;
            tally.latency_sum += took.max(0.0);
            tally.latency_squares += took * took;
        }
        for _ in 0..dice.below(10) {
            let stratum = dice.below(32) as u8;
            exchanges.open.push(Open { sent: now - dice.unit() * 10.0 + 1.0, stratum });
        }
        tally.accepted = dice.unit() * 40.0;
        tally.waiting = dice.unit() * 40.0;
        (exchanges, tally)
    }

    /// The inferred service time of 40 ms work while the nearest cluster has a queue of 15 ms, and another cluster,
    /// which is 30 ms farther than its probes show, answers `elsewhere` of 200 exchanges.
    fn service_beside_a_queue(elsewhere: usize) -> f64 {
        let mut inference = Inference::new(2);
        let mut tracks = vec![Track::default(); 2];
        let elapsed = 0.05;
        for sweep in 0..160 {
            let now = 1.0 + f64::from(sweep) * elapsed;
            let queues = sweep >= 120;
            let others =
                elsewhere * (sweep as usize % 40 + 1) / 40 - elsewhere * (sweep as usize % 40) / 40;
            let counts = if queues { [5, others] } else { [1, 0] };
            let takes = if queues { [0.055, 0.070] } else { [0.040, 0.040] };
            for (slot, track) in tracks.iter_mut().enumerate() {
                let ended = |number: usize| {
                    let at = now - 0.005 * number as f64;
                    Ended { sent: at - takes[slot], ended: at, stratum: 0, end: End::Answered }
                };
                let ended: Vec<Ended> = (0..counts[slot]).rev().map(ended).collect();
                let (count, took) = (counts[slot] as f64, takes[slot]);
                let exchanges = Exchanges { ended, open: Vec::new() };
                let tally = Tally {
                    completed: count,
                    accepted: count,
                    latency_sum: count * took,
                    latency_squares: count * took * took,
                    waiting: 0.0,
                    ..Tally::default()
                };
                let mix = Mix::of(&exchanges.ended, inference.strata(), 0.0, 0.04);
                track.history.take(&exchanges, oldest(now));
                track.fold(&tally, 0.0, 1.0, &mix, elapsed);
                inference.new[slot] = exchanges;
            }
            let before = Before {
                worth: 0.015,
                tolerated: 0.015,
                gap: 0.1,
                spills: queues,
                bounded: false,
                may_leave: true,
                overloaded: false,
            };
            let (tracks, distances) = (tracks.as_slice(), &[0.0, 0.0]);
            inference.update(Sweep { tracks, distances, first: 0, before, now, elapsed });
        }
        inference.service().unwrap()
    }

    #[test]
    fn a_handful_of_exchanges_elsewhere_is_no_control_group() {
        assert!(service_beside_a_queue(10) < 0.042, "{}", service_beside_a_queue(10));
        assert!(service_beside_a_queue(80) > 0.050, "{}", service_beside_a_queue(80));
    }

    #[test]
    fn inferred_values_stay_finite_and_in_range_for_any_input() {
        for seed in 0..60 {
            let mut dice = Dice::seeded(seed);
            let mut inference = Inference::new(2);
            let mut tracks = vec![Track::default(); 2];
            let mut now = 1.0;
            for _ in 0..400 {
                let elapsed = if dice.below(50) == 0 { 5.0 } else { 0.05 };
                now += elapsed;
                for (slot, track) in tracks.iter_mut().enumerate() {
                    let (exchanges, tally) = anything(&mut dice, now);
                    let mix = Mix::of(&exchanges.ended, inference.strata(), 0.001, 0.02);
                    track.history.take(&exchanges, oldest(now));
                    track.fold(&tally, 0.001, 1.0, &mix, elapsed);
                    inference.new[slot] = exchanges;
                }
                let before = Before {
                    worth: dice.unit() * 0.01,
                    tolerated: dice.unit() * 0.01,
                    gap: dice.unit(),
                    spills: dice.below(2) == 0,
                    bounded: false,
                    may_leave: dice.below(8) > 0,
                    overloaded: dice.below(20) == 0,
                };
                let first = dice.below(2);
                let (tracks_now, distances) = (tracks.as_slice(), &[0.001, 0.030]);
                inference.update(Sweep {
                    tracks: tracks_now,
                    distances,
                    first,
                    before,
                    now,
                    elapsed,
                });
                for (slot, track) in tracks.iter_mut().enumerate() {
                    let within = inference.bound(slot, track, now);
                    track.update_queue(0.001, 0.02, within, elapsed);
                    let queue = track.queue();
                    assert!((0.0..=200.0).contains(&queue), "seed {seed}: {queue}");
                }
                let service = inference.service().unwrap_or(0.02);
                assert!(service.is_finite() && service >= 0.0, "seed {seed}: {service}");
                if dice.below(100) == 0 {
                    inference.forget();
                }
            }
        }
    }
}
