//! Whether longer response times are a queue or slower work.
//!
//! A queue depends on load: when fewer exchanges are sent, a queue drains, but slower work stays slow. A queue delays
//! only the loaded cluster: exchanges sent to other clusters at the same time (the control group) are as fast as
//! before. A slower release is slow at every cluster. If the evidence indicates *slower work*, the baselines are
//! raised by the certain part of the excess, at most by a factor of two at a time, and the excess no longer counts as
//! a queue. If the excess grows again soon after, the step was wrong: the baselines are restored, and the next such
//! step waits twice as long.
//!
//! # Units
//! Seconds; rates in exchanges a second.
//!
//! # Not here
//! How large the excess is (`excess`), and how a queue changes the decision (`spill`).

use super::excess::Excess;

/// For how long the control group must agree.
const CONTROL_FOR: f64 = 0.2;
/// The control group must have at least this part of the nearest cluster's excess.
const ALIKE: f64 = 0.5;
/// The least excess of the control group, as a multiple of the queue tolerated at the nearest cluster.
const CONTROL_PART: f64 = 0.3;
/// The drain test begins after this part of a queue must have drained.
const DRAINED_PART: f64 = 0.6;
/// Exchanges over which rates are averaged.
const SPAN: f64 = 60.0;
/// The difference between sent and completed exchanges up to which both count as equal.
const EVEN: f64 = 0.15;
/// By how much the sent rate must be below the capacity, beyond the noise of arrivals, for a queue to drain.
const NOISE: f64 = 0.03;
/// Over how many seconds the excess that has to drain is averaged.
const AVERAGED: f64 = 0.5;
/// If at least this part of the excess remains after draining, the work is slower.
const LEFT_PART: f64 = 0.5;
/// The least number of exchanges sent since the drain for the test.
const LOOKED_AT: f64 = 8.0;
/// The largest factor by which baselines rise at once.
const STEP_MAX: f64 = 2.0;
/// An excess below this part of the baseline is ignored.
const MATERIAL: f64 = 0.05;
/// The least time for which a step is watched, in seconds and in multiples of the excess.
const WATCHED: f64 = 1.5;
const WATCHED_EXCESSES: f64 = 5.0;
/// The wait after a wrong step in seconds: first and longest.
const HOLD: f64 = 2.0;
const HOLD_MAX: f64 = 60.0;
/// How long there must be no suspicion before baselines are learned again, in seconds.
const CLEAN: f64 = 1.0;
/// How long there must be no suspicion before baselines are known to contain no queue, in seconds.
const CALM: f64 = 3.0;
/// Completion keeps up with sending if at least this part of the sent exchanges completes.
const KEEPS_UP: f64 = 0.95;
/// The time constant, in seconds, with which an excess without spill becomes part of the baselines.
const SETTLES: f64 = 10.0;
/// The time constant, in seconds, with which the highest completion rate falls to the present one.
const PEAK_FADES: f64 = 10.0;

/// The evidence of one sweep: the nearest cluster and the others.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// The current time, and the time since the last sweep.
    pub now: f64,
    /// The time since the last sweep.
    pub elapsed: f64,
    /// The excess at the nearest cluster.
    pub home: Excess,
    /// The excess of exchanges sent to other clusters since the suspicion began.
    pub control: Excess,
    /// Lower bound of the difference between the response times of the control group and the means of their kinds.
    pub control_mean: f64,
    /// Upper bound of response times at other clusters, relative to the prediction; 1 if unknown.
    pub elsewhere: f64,
    /// Whether the control group completes as many exchanges as are sent to it.
    pub control_keeps_up: bool,
    /// The excess of exchanges sent to the nearest cluster after its queue must have drained.
    pub since_drained: Excess,
    /// Whether the baselines are final rather than preliminary.
    pub settled: bool,
    /// A low quantile of the response times at the nearest cluster, according to the baselines.
    pub usual: f64,
    /// The queue tolerated at the nearest cluster while other clusters have no queue.
    pub worth: f64,
    /// How much farther the next cluster is.
    pub gap: f64,
    /// The mean difference between response times at the nearest cluster and the means of their kinds.
    pub mean: f64,
    /// Whether more exchanges are sent to the nearest cluster than complete, beyond doubt.
    pub grows: bool,
    /// Exchanges a second sent to the nearest cluster.
    pub sent_rate: f64,
    /// Exchanges a second completed by the nearest cluster.
    pub answered_rate: f64,
    /// Whether exchanges spill from the nearest cluster.
    pub spills: bool,
    /// Whether demand exceeds the capacity of all clusters: exchanges are shed, or many clients leave.
    pub overloaded: bool,
}

/// How to change the baselines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// No change.
    Wait,
    /// All requests take longer by this factor, without a queue.
    Scale(f64),
    /// All requests take this many seconds longer, without a queue.
    Shift(f64),
}

/// The last step, while it is watched.
#[derive(Clone, Copy, Debug)]
struct Step {
    until: f64,
    /// Whether the step was made because the excess remained after a queue must have drained.
    drained: bool,
    factor: f64,
    /// The whole excess before the step, and the part that the step explained.
    excess: f64,
    explained: f64,
}

/// The suspicion of one class.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    /// The moment since which the nearest cluster takes longer than usual.
    since: Option<f64>,
    /// The last moment at which the longer time was certain.
    certain: Option<f64>,
    clean: f64,
    agreed: f64,
    drained: f64,
    /// Rates at the nearest cluster since the suspicion began, and the highest completion rate.
    sent: f64,
    answered: f64,
    peak: f64,
    /// The excess that has to drain.
    reference: f64,
    drained_at: Option<f64>,
    step: Option<Step>,
    hold: f64,
    held_until: f64,
    /// How long the drain test is paused after it raised the baselines, and until when.
    pause: f64,
    drains_until: f64,
    unspilled: f64,
    /// Whether the nearest cluster was found to be slower than the others.
    own: bool,
}

impl Suspicion {
    /// The moment since which the nearest cluster has been taking longer than usual.
    #[must_use]
    pub fn since(&self) -> Option<f64> {
        self.since
    }

    /// The moment at which any queue must have drained.
    #[must_use]
    pub fn drained_at(&self) -> Option<f64> {
        self.drained_at
    }

    /// Whether the baselines may learn from the exchanges that complete now.
    #[must_use]
    pub fn may_learn(&self) -> bool {
        self.clean >= CLEAN
    }

    /// Whether there has been no suspicion for so long that the baselines contain no queue.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.clean >= CALM
    }

    /// Forgets everything, because the endpoints have changed.
    pub fn reset(&mut self) {
        *self = Suspicion::default();
    }

    /// Folds a sweep in.
    pub fn update(&mut self, seen: &Evidence) -> Verdict {
        let Evidence { now, elapsed, home, usual, .. } = *seen;
        let material = MATERIAL * usual;
        self.unspilled = if seen.spills { 0.0 } else { self.unspilled + elapsed };
        if home.sure > material && seen.settled {
            self.certain = Some(now);
            self.since.get_or_insert(now);
        }
        let calm = home.sure <= material && !seen.spills;
        self.clean = if calm { self.clean + elapsed } else { 0.0 };
        if self.clean >= CALM {
            (self.hold, self.pause) = (0.0, 0.0);
        }
        if self.clean >= CLEAN {
            self.since = None;
            self.forget_drain();
        }
        if let Some(verdict) = self.watch(seen) {
            return verdict;
        }
        if self.since.is_none() || home.low <= material || now < self.held_until || seen.overloaded
        {
            self.agreed = 0.0;
            return self.down(seen);
        }
        self.drain(seen);
        let by_control = self.control(seen);
        let may_drain = now >= self.drains_until;
        match by_control.or_else(|| self.after_drain(seen).filter(|_| may_drain)) {
            Some(excess) => self.adopt(seen, excess, by_control.is_none()),
            None => self.settled(seen).map_or(Verdict::Wait, Verdict::Shift),
        }
    }

    /// Lowers the baselines when the work has become faster: a queue cannot be negative.
    fn down(&mut self, seen: &Evidence) -> Verdict {
        if self.step.is_some() {
            return Verdict::Wait;
        }
        let here = 1.0 + seen.home.most / seen.usual.max(1e-6);
        // Baselines learned from a queue, or from a cluster that slows down under load, are corrected by other clusters.
        let elsewhere = if self.own { 1.0 } else { seen.elsewhere };
        let factor = here.min(elsewhere).max(1.0 / STEP_MAX);
        if factor < 1.0 - MATERIAL { Verdict::Scale(factor) } else { Verdict::Wait }
    }

    /// Watches the last step: if the excess continues to grow, it was a queue.
    fn watch(&mut self, seen: &Evidence) -> Option<Verdict> {
        let step = self.step?;
        let over = seen.now > step.until;
        let grew = seen.home.low + step.explained > 1.5 * step.excess + MATERIAL * seen.usual;
        // A step that explains slower work ends the spill; a step that hides a queue lets the queue grow.
        let lately = self.certain.is_some_and(|at| seen.now - at < CLEAN);
        let unexplained = over && step.drained && lately && seen.spills;
        if over && !unexplained {
            self.step = None;
            return None;
        }
        if (grew || unexplained) && seen.spills {
            self.step = None;
            self.own = false;
            self.hold = (2.0 * self.hold).clamp(HOLD, HOLD_MAX);
            self.held_until = seen.now + self.hold;
            self.forget_drain();
            return Some(Verdict::Scale(1.0 / step.factor));
        }
        None
    }

    /// The control group: if the other clusters are slower as well, the work is slower. Returns the part of the excess that
    /// the control group explains.
    fn control(&mut self, seen: &Evidence) -> Option<f64> {
        let theirs = seen.control_mean.max(seen.control.low);
        let slower = theirs > (CONTROL_PART * seen.worth).max(MATERIAL * seen.usual);
        let part = (theirs / seen.mean.max(seen.home.low)).min(1.0);
        let alike = part > ALIKE || seen.home.low < seen.control.high;
        let keeps_up = seen.answered_rate >= KEEPS_UP * seen.sent_rate && seen.control_keeps_up;
        self.agreed = if slower && alike && keeps_up { self.agreed + seen.elapsed } else { 0.0 };
        let excess = seen.home.point.unwrap_or(seen.home.low).max(seen.home.low);
        (self.agreed >= CONTROL_FOR).then_some(excess * part)
    }

    /// Computes how much of a queue must have drained. A queue drains while clearly fewer exchanges are sent
    /// than the cluster completed during the suspicion.
    fn drain(&mut self, seen: &Evidence) {
        let began = self.since.unwrap_or(seen.now);
        let span = (SPAN / seen.answered_rate.max(1.0)).clamp(1.0, 3.0);
        let news = 1.0 - (-seen.elapsed / span).exp();
        self.sent += (seen.sent_rate - self.sent) * news;
        self.answered += (seen.answered_rate - self.answered) * news;
        if self.peak <= 0.0 {
            // The first completion rate is the capacity, unless the queue is growing at that moment.
            (self.sent, self.answered) = (seen.sent_rate, seen.answered_rate);
            self.peak = if seen.grows { 1e-9 } else { seen.answered_rate };
        }
        let even = (self.sent - self.answered).abs() < EVEN * self.answered;
        if self.peak > self.answered {
            self.peak =
                self.answered + (self.peak - self.answered) * (-seen.elapsed / PEAK_FADES).exp();
        }
        if seen.now - began > span && even {
            self.peak = self.peak.max(self.answered);
        }
        if self.drained_at.is_some() {
            return;
        }
        let excess = seen.home.point.unwrap_or(seen.home.low);
        let news = if self.reference > 0.0 { (seen.elapsed / AVERAGED).min(1.0) } else { 1.0 };
        self.reference += (excess - self.reference) * news;
        let noise = NOISE + 2.0 / (2.0 * span * self.peak.max(1.0)).sqrt();
        let gain = (1.0 - noise - self.sent / self.peak) * seen.elapsed;
        self.drained = (self.drained + gain).max(0.0);
        if self.drained >= DRAINED_PART * self.reference {
            self.drained_at = Some(seen.now);
        }
    }

    /// The verdict on the excess that remains after a queue must have drained.
    fn after_drain(&mut self, seen: &Evidence) -> Option<f64> {
        self.drained_at?;
        let left = seen.since_drained;
        if left.count < LOOKED_AT {
            return None;
        }
        // The excess is larger than the extra distance of the next cluster: the next cluster is faster, and its use
        // is right.
        let elsewhere_quicker = seen.control.count >= LOOKED_AT
            && seen.control.high < LEFT_PART * self.reference
            && seen.mean > seen.gap;
        if elsewhere_quicker || left.point.is_some_and(|point| point < LEFT_PART * self.reference) {
            self.forget_drain();
            return None;
        }
        let certain = left.low > LEFT_PART * self.reference;
        certain.then_some(left.point.unwrap_or(left.low).max(left.low))
    }

    /// The new usual response time: an excess delay that causes no spill and does not grow.
    fn settled(&self, seen: &Evidence) -> Option<f64> {
        let steady = self.unspilled > 2.0 && seen.answered_rate >= KEEPS_UP * seen.sent_rate;
        steady.then_some(seen.home.low * seen.elapsed / SETTLES)
    }

    fn adopt(&mut self, seen: &Evidence, excess: f64, drained: bool) -> Verdict {
        let factor = (1.0 + excess / seen.usual.max(1e-6)).min(STEP_MAX);
        let explained = (factor - 1.0) * seen.usual;
        let whole = seen.home.point.unwrap_or(seen.home.low).max(excess);
        self.agreed = 0.0;
        if drained {
            // During a long spill the test would pass by chance sooner or later.
            self.own = true;
            self.pause = (2.0 * self.pause).clamp(HOLD, HOLD_MAX);
            self.drains_until = seen.now + self.pause;
        }
        self.forget_drain();
        if self.unspilled <= 2.0 {
            let until = seen.now + WATCHED.max(WATCHED_EXCESSES * whole);
            let before = self.step.map_or((0.0, 1.0, 0.0), |s| (s.explained, s.factor, s.excess));
            self.step = Some(Step {
                until,
                drained,
                factor: factor * before.1,
                excess: (whole + before.0).max(before.2),
                explained: explained + before.0,
            });
        }
        Verdict::Scale(factor)
    }

    fn forget_drain(&mut self) {
        self.drained = 0.0;
        self.peak = 0.0;
        self.reference = 0.0;
        self.drained_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(seconds: f64) -> Excess {
        Excess {
            low: seconds * 0.9,
            high: seconds * 1.1,
            point: Some(seconds),
            sure: seconds * 0.8,
            most: seconds * 1.2,
            count: 60.0,
        }
    }

    /// The nearest cluster takes 20 ms instead of 10 ms, the other clusters do not, and the sent rate is unchanged.
    fn evidence() -> Evidence {
        Evidence {
            now: 0.0,
            elapsed: 0.05,
            home: excess(0.010),
            control: excess(0.0),
            control_mean: 0.0,
            elsewhere: 1.0,
            control_keeps_up: true,
            since_drained: Excess::default(),
            settled: true,
            usual: 0.010,
            worth: 0.004,
            gap: 0.030,
            mean: 0.010,
            grows: false,
            sent_rate: 200.0,
            answered_rate: 200.0,
            spills: true,
            overloaded: false,
        }
    }

    /// Runs for this many seconds; returns the first verdict and its time.
    fn first(
        suspicion: &mut Suspicion,
        from: f64,
        seconds: f64,
        seen: impl Fn(&Suspicion, f64) -> Evidence,
    ) -> Option<(f64, Verdict)> {
        let mut now = from;
        while now < from + seconds {
            now += 0.05;
            let verdict = suspicion.update(&Evidence { now, ..seen(suspicion, now) });
            if verdict != Verdict::Wait {
                return Some((now, verdict));
            }
        }
        None
    }

    #[test]
    fn slowness_everywhere_is_service_time_and_at_one_cluster_may_be_a_queue() {
        let slower = |_: &Suspicion, _| Evidence {
            control: excess(0.010),
            control_mean: 0.010,
            ..evidence()
        };
        let (at, verdict) = first(&mut Suspicion::default(), 0.0, 5.0, slower).unwrap();
        assert!(at < 0.5, "{at}");
        assert!(matches!(verdict, Verdict::Scale(factor) if (1.8..=2.0).contains(&factor)));
        assert_eq!(first(&mut Suspicion::default(), 0.0, 20.0, |_, _| evidence()), None);
    }

    #[test]
    fn during_overload_no_delay_is_learned_as_service_time() {
        let all_queue = |overloaded, control_keeps_up| {
            move |_: &Suspicion, _: f64| Evidence {
                control: excess(0.010),
                control_mean: 0.010,
                overloaded,
                control_keeps_up,
                ..evidence()
            }
        };
        assert_eq!(first(&mut Suspicion::default(), 0.0, 20.0, all_queue(true, true)), None);
        assert_eq!(first(&mut Suspicion::default(), 0.0, 20.0, all_queue(false, false)), None);
    }

    /// The sent rate is halved after one second; `left` is the excess of exchanges sent since.
    fn less(left: f64) -> impl Fn(&Suspicion, f64) -> Evidence {
        move |suspicion, now| {
            let rate = if now > 1.2 { 100.0 } else { 200.0 };
            let since_drained =
                if suspicion.drained_at().is_some() { excess(left) } else { Excess::default() };
            Evidence { sent_rate: rate, answered_rate: rate, since_drained, ..evidence() }
        }
    }

    #[test]
    fn delay_that_remains_with_less_traffic_is_service_time() {
        let stays = first(&mut Suspicion::default(), 0.0, 10.0, less(0.010));
        assert!(matches!(stays, Some((at, Verdict::Scale(_))) if at < 4.0), "{stays:?}");
        assert_eq!(first(&mut Suspicion::default(), 0.0, 10.0, less(0.001)), None);
        // If the next cluster is nearer than the excess, the next cluster is faster.
        let quicker =
            |suspicion: &Suspicion, now| Evidence { gap: 0.005, ..less(0.010)(suspicion, now) };
        assert_eq!(first(&mut Suspicion::default(), 0.0, 10.0, quicker), None);
    }

    #[test]
    fn a_trial_step_is_reverted_if_the_queue_grows() {
        let mut suspicion = Suspicion::default();
        let (at, step) = first(&mut suspicion, 0.0, 10.0, less(0.010)).unwrap();
        let Verdict::Scale(up) = step else { panic!("{step:?}") };
        let grows = |_: &Suspicion, _| Evidence { home: excess(0.050), ..evidence() };
        let (back, verdict) = first(&mut suspicion, at, 5.0, grows).unwrap();
        let Verdict::Scale(down) = verdict else { panic!("{verdict:?}") };
        assert!(back - at < 0.2 && (up * down - 1.0).abs() < 1e-9, "{up} and {down}");
        let again = first(&mut suspicion, back, 3.0, less(0.010));
        assert_eq!(again, None, "it is held for a while");
    }

    #[test]
    fn a_harmless_delay_is_learned_slowly_and_quicker_work_at_once() {
        let steady = |_: &Suspicion, _| Evidence { spills: false, ..evidence() };
        let (at, verdict) = first(&mut Suspicion::default(), 0.0, 10.0, steady).unwrap();
        assert!(
            at > 2.0 && matches!(verdict, Verdict::Shift(more) if more < 0.0001),
            "{verdict:?}"
        );
        let quicker = |_: &Suspicion, _| Evidence {
            home: Excess { low: 0.0, sure: 0.0, most: -0.004, ..excess(-0.005) },
            spills: false,
            ..evidence()
        };
        let quick = first(&mut Suspicion::default(), 0.0, 1.0, quicker).unwrap();
        assert!(
            matches!(quick.1, Verdict::Scale(factor) if (factor - 0.6).abs() < 1e-9),
            "{quick:?}"
        );
    }

    #[test]
    fn a_baseline_learned_from_a_queue_is_corrected_by_other_clusters() {
        let calm = |_: &Suspicion, _| Evidence {
            home: Excess::default(),
            spills: false,
            elsewhere: 0.7,
            ..evidence()
        };
        let verdict = first(&mut Suspicion::default(), 0.0, 1.0, calm);
        assert!(
            matches!(verdict, Some((_, Verdict::Scale(factor))) if (factor - 0.7).abs() < 1e-9)
        );
        let mut slower = Suspicion::default();
        assert!(first(&mut slower, 0.0, 10.0, less(0.010)).is_some());
        assert_eq!(first(&mut slower, 10.0, 5.0, calm), None);
    }
}
