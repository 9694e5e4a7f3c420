//! Whether longer response times are a queue or slower work.
//!
//! A queue delays only the loaded cluster: exchanges sent to other clusters at the same time (the control group) are as
//! fast as before. A slower release is slow at every cluster. And a queue depends on load: the spill keeps it near the
//! length that is tolerated, but slower work stays slow, however much is spilled. If the evidence indicates *slower work*,
//! the baselines are raised, at most by a factor of two at a time, and the excess no longer counts as a queue. If the
//! excess grows again, or requests still spill, raising them was wrong: the baselines are restored, and the next attempt is
//! delayed, each time twice as long.
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
/// The time constant of the averages in `Lasting`, in seconds.
const LASTS: f64 = 4.0;
/// A lasting excess is slower work if its mean is above this multiple of the tolerated queue. A queue would be shorter, because
/// requests spill.
const BEYOND: f64 = 2.2;
/// It must also be above this part of the response time without a queue. With few servers, or a near next cluster, the queue is
/// longer than the tolerated one even while requests spill.
const BEYOND_PART: f64 = 0.4;
/// The mean is averaged as at most this multiple of that bound. Otherwise a long queue that drained quickly would keep the
/// average above the bound.
const BEYOND_MAX: f64 = 1.2;
/// The largest factor by which baselines rise at once.
const STEP_MAX: f64 = 2.0;
/// An excess below this part of the baseline is ignored.
const MATERIAL: f64 = 0.05;
/// The least time for which a step is watched, in seconds and in multiples of the excess.
const WATCHED: f64 = 1.5;
const WATCHED_EXCESSES: f64 = 5.0;
/// The least time for which a step because of a lasting excess is watched, in seconds.
const WATCHED_LASTING: f64 = 6.0;
/// In the last seconds of that time a spill shows that the step was wrong. Earlier, the means still contain responses that were
/// compared with the old baselines.
const REFUTES: f64 = 3.0;
/// The step is reverted if requests spilled for more than this part of these seconds.
const SPILLED_PART: f64 = 0.5;
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
    /// Whether the baselines are final rather than preliminary.
    pub settled: bool,
    /// A low quantile of the response times at the nearest cluster, according to the baselines.
    pub usual: f64,
    /// The response time without a queue; 0 while unknown.
    pub service: f64,
    /// The queue tolerated at the nearest cluster while other clusters have no queue.
    pub worth: f64,
    /// The queue tolerated at the nearest cluster now: longer than `worth` if the other clusters have queues too.
    pub tolerated: f64,
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
    /// Whether exchanges spill from the nearest cluster because of its queue.
    pub spills: bool,
    /// Whether exchanges spill because the nearest cluster had a queue recently (`congestion`).
    pub bounded: bool,
    /// Whether exchanges may go to another cluster; false, for example, while the budget is empty.
    pub may_leave: bool,
    /// Whether demand exceeds the capacity of all clusters: exchanges are shed, or many clients leave.
    pub overloaded: bool,
}

impl Evidence {
    /// Whether the nearest cluster completes as many exchanges as are sent to it.
    fn keeps_up(&self) -> bool {
        self.answered_rate >= KEEPS_UP * self.sent_rate
    }
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
    /// Whether the reason for the step was a lasting excess.
    lasting: bool,
    /// How long exchanges spilled in the last seconds of the watch, in seconds.
    spilled: f64,
    factor: f64,
    /// The whole excess before the step, and the part that the step explained.
    excess: f64,
    explained: f64,
}

impl Step {
    /// This step and one that follows before its watch is over: both are watched, and reverted, as one.
    fn and(self, next: Step) -> Step {
        Step {
            until: next.until.max(self.until),
            lasting: next.lasting || self.lasting,
            spilled: if next.lasting { 0.0 } else { self.spilled },
            factor: next.factor * self.factor,
            excess: (next.excess + self.explained).max(self.excess),
            explained: next.explained + self.explained,
        }
    }
}

/// Moving averages of the excess at the nearest cluster, in seconds. They start at 0.
#[derive(Clone, Copy, Debug, Default)]
struct Lasting {
    /// The average of the mean excess. Values above `BEYOND_MAX` times the bound count as that.
    mean: f64,
    /// The average of the estimate from the shortest window.
    point: f64,
    /// The weight of that average, from 0 at the start to 1.
    weight: f64,
}

impl Lasting {
    /// The mean excess above which a lasting excess is slower work.
    fn bound(seen: &Evidence) -> f64 {
        (BEYOND * seen.tolerated).max(BEYOND_PART * seen.service)
    }

    /// Adds a sweep. Sweeps in which a spill could not have shortened a queue do not count: while more is sent than
    /// completes, and while no exchange may go to another cluster. Overload resets the averages.
    fn fold(&mut self, seen: &Evidence) {
        if seen.overloaded {
            *self = Lasting::default();
            return;
        }
        if seen.grows || !seen.may_leave {
            return;
        }
        let keep = (-seen.elapsed / LASTS).exp();
        let fold =
            |average: &mut f64, value: f64| *average = *average * keep + value * (1.0 - keep);
        fold(&mut self.mean, seen.mean.clamp(0.0, BEYOND_MAX * Lasting::bound(seen)));
        fold(&mut self.point, seen.home.point.unwrap_or(seen.home.low).max(seen.home.low));
        fold(&mut self.weight, 1.0);
    }

    /// The excess if it is slower work. If it is larger than the extra distance of the next cluster, the next cluster is
    /// faster, and its use is right.
    fn verdict(&self, seen: &Evidence) -> Option<f64> {
        let keeps_up = seen.keeps_up() && !seen.grows;
        let lasts = self.mean > Lasting::bound(seen) && seen.spills && seen.mean <= seen.gap;
        let excess = (self.point / self.weight.max(1e-9)).min(seen.mean);
        (lasts && keeps_up && seen.may_leave && excess > MATERIAL * seen.usual).then_some(excess)
    }
}

/// The suspicion of one class.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    /// The moment since which the nearest cluster takes longer than usual.
    since: Option<f64>,
    clean: f64,
    agreed: f64,
    lasting: Lasting,
    step: Option<Step>,
    hold: f64,
    held_until: f64,
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

    /// Resets the averages of the excess, because another cluster is the nearest now.
    pub fn nearest_changed(&mut self) {
        self.lasting = Lasting::default();
    }

    /// Forgets everything, because the endpoints have changed.
    pub fn reset(&mut self) {
        *self = Suspicion::default();
    }

    /// Folds a sweep in.
    pub fn update(&mut self, seen: &Evidence) -> Verdict {
        let Evidence { now, elapsed, home, usual, .. } = *seen;
        let material = MATERIAL * usual;
        let spills = seen.spills || seen.bounded;
        self.unspilled = if spills { 0.0 } else { self.unspilled + elapsed };
        if home.sure > material && seen.settled {
            self.since.get_or_insert(now);
        }
        let calm = home.sure <= material && !spills;
        self.clean = if calm { self.clean + elapsed } else { 0.0 };
        if self.clean >= CALM {
            self.hold = 0.0;
        }
        if self.clean >= CLEAN {
            self.since = None;
        }
        self.lasting.fold(seen);
        if let Some(verdict) = self.watch(seen) {
            return verdict;
        }
        if self.since.is_none() || home.low <= material || now < self.held_until || seen.overloaded
        {
            self.agreed = 0.0;
            return self.down(seen);
        }
        let by_control = self.control(seen);
        match by_control.or_else(|| self.lasting.verdict(seen)) {
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

    /// Watches the last step, and reverts it if the excess was a queue: the excess still grows, or exchanges spill again. After a
    /// right step the spill ends.
    fn watch(&mut self, seen: &Evidence) -> Option<Verdict> {
        let step = self.step.as_mut()?;
        let spills = seen.spills && seen.sent_rate > 0.0;
        if step.lasting && spills && seen.now > step.until - REFUTES {
            step.spilled += seen.elapsed.min(1.0);
        }
        let step = *step;
        let over = seen.now > step.until;
        let grew = seen.home.low + step.explained > 1.5 * step.excess + MATERIAL * seen.usual;
        let unexplained = over && step.spilled > SPILLED_PART * REFUTES;
        if over && !unexplained {
            self.step = None;
            return None;
        }
        if grew && seen.spills || unexplained {
            self.step = None;
            self.own = false;
            self.hold = (2.0 * self.hold).clamp(HOLD, HOLD_MAX);
            self.held_until = seen.now + self.hold;
            self.lasting = Lasting::default();
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
        let keeps_up = seen.keeps_up() && seen.control_keeps_up;
        self.agreed = if slower && alike && keeps_up { self.agreed + seen.elapsed } else { 0.0 };
        let excess = seen.home.point.unwrap_or(seen.home.low).max(seen.home.low);
        (self.agreed >= CONTROL_FOR).then_some(excess * part)
    }

    /// The new usual response time: an excess delay that causes no spill and does not grow.
    fn settled(&self, seen: &Evidence) -> Option<f64> {
        let steady = self.unspilled > 2.0 && seen.keeps_up();
        steady.then_some(seen.home.low * seen.elapsed / SETTLES)
    }

    fn adopt(&mut self, seen: &Evidence, excess: f64, lasting: bool) -> Verdict {
        let factor = (1.0 + excess / seen.usual.max(1e-6)).min(STEP_MAX);
        let explained = (factor - 1.0) * seen.usual;
        let whole = seen.home.point.unwrap_or(seen.home.low).max(excess);
        self.agreed = 0.0;
        self.own |= lasting;
        self.lasting = Lasting::default();
        if self.unspilled <= 2.0 {
            let shortest = if lasting { WATCHED_LASTING } else { WATCHED };
            let step = Step {
                until: seen.now + shortest.max(WATCHED_EXCESSES * whole),
                lasting,
                spilled: 0.0,
                factor,
                excess: whole,
                explained,
            };
            self.step = Some(self.step.map_or(step, |before| before.and(step)));
        }
        Verdict::Scale(factor)
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
            settled: true,
            usual: 0.010,
            service: 0.020,
            worth: 0.005,
            tolerated: 0.005,
            gap: 0.030,
            mean: 0.010,
            grows: false,
            sent_rate: 200.0,
            answered_rate: 200.0,
            spills: true,
            bounded: false,
            may_leave: true,
            overloaded: false,
        }
    }

    /// Exchanges take this many seconds longer at all clusters.
    fn slower_everywhere(seconds: f64) -> impl Fn(&Suspicion, f64) -> Evidence {
        move |_, _| Evidence {
            mean: seconds,
            home: excess(seconds),
            control: excess(seconds),
            control_mean: seconds,
            ..evidence()
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
        let slower = slower_everywhere(0.010);
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
        // An excess during overload does not count afterwards. Neither does one while the budget forbids a spill.
        let mut suspicion = Suspicion::default();
        let shed =
            |suspicion: &Suspicion, now| Evidence { overloaded: true, ..lasting(suspicion, now) };
        assert_eq!(first(&mut suspicion, 0.0, 30.0, shed), None);
        assert_eq!(first(&mut suspicion, 30.0, 5.0, lasting), None);
        let stays =
            |suspicion: &Suspicion, now| Evidence { may_leave: false, ..lasting(suspicion, now) };
        assert_eq!(first(&mut Suspicion::default(), 0.0, 30.0, stays), None);
    }

    /// The mean excess is 16 ms all the time; the tolerated queue is 5 ms.
    fn lasting(_: &Suspicion, _: f64) -> Evidence {
        Evidence { mean: 0.016, home: excess(0.006), ..evidence() }
    }

    #[test]
    fn delay_that_no_spill_removes_is_service_time() {
        let (at, verdict) = first(&mut Suspicion::default(), 0.0, 30.0, lasting).unwrap();
        assert!((5.0..10.0).contains(&at), "{at}");
        assert!(matches!(verdict, Verdict::Scale(factor) if (factor - 1.6).abs() < 0.02));
        // A queue eight times longer than tolerated is gone after three seconds.
        let drains = |_: &Suspicion, now| Evidence {
            mean: if now < 3.0 { 0.040 } else { 0.008 },
            home: excess(if now < 3.0 { 0.040 } else { 0.008 }),
            gap: 0.100,
            ..evidence()
        };
        assert_eq!(first(&mut Suspicion::default(), 0.0, 60.0, drains), None);
        // If the next cluster is nearer than the excess, the next cluster is faster.
        let quicker =
            |suspicion: &Suspicion, now| Evidence { gap: 0.015, ..lasting(suspicion, now) };
        assert_eq!(first(&mut Suspicion::default(), 0.0, 60.0, quicker), None);
        let grows =
            |suspicion: &Suspicion, now| Evidence { grows: true, ..lasting(suspicion, now) };
        assert_eq!(first(&mut Suspicion::default(), 0.0, 60.0, grows), None);
    }

    #[test]
    fn a_step_is_reverted_if_the_queue_grows() {
        let mut suspicion = Suspicion::default();
        let (at, step) = first(&mut suspicion, 0.0, 10.0, lasting).unwrap();
        let Verdict::Scale(up) = step else { panic!("{step:?}") };
        let grows = |_: &Suspicion, _| Evidence { home: excess(0.050), ..evidence() };
        let (back, verdict) = first(&mut suspicion, at, 5.0, grows).unwrap();
        let Verdict::Scale(down) = verdict else { panic!("{verdict:?}") };
        assert!(back - at < 0.2 && (up * down - 1.0).abs() < 1e-9, "{up} and {down}");
        let (again, _) = first(&mut suspicion, back, 10.0, slower_everywhere(0.010)).unwrap();
        assert!((HOLD..HOLD + 0.5).contains(&(again - back)), "{}", again - back);
    }

    #[test]
    fn a_step_by_the_control_group_does_not_end_the_watch_of_one_that_lasted() {
        let mut suspicion = Suspicion::default();
        let (at, one) = first(&mut suspicion, 0.0, 10.0, lasting).unwrap();
        let (then, two) = first(&mut suspicion, at, 2.0, slower_everywhere(0.002)).unwrap();
        let spills = |_: &Suspicion, _| Evidence { mean: 0.004, home: excess(0.0), ..evidence() };
        let (back, verdict) = first(&mut suspicion, then, 10.0, spills).unwrap();
        let [Verdict::Scale(one), Verdict::Scale(two), Verdict::Scale(down)] = [one, two, verdict]
        else {
            panic!("{verdict:?}")
        };
        assert!((5.9..6.2).contains(&(back - at)), "{}", back - at);
        assert!((one * two * down - 1.0).abs() < 1e-9, "{one}, {two} and {down}");
    }

    #[test]
    fn a_step_is_reverted_if_the_spill_goes_on_and_the_next_waits_twice_as_long() {
        let mut suspicion = Suspicion::default();
        let spills = |_: &Suspicion, _| Evidence { mean: 0.004, home: excess(0.0), ..evidence() };
        let mut waits = Vec::new();
        let mut now = 0.0;
        for _ in 0..6 {
            let (at, step) = first(&mut suspicion, now, 60.0, lasting).unwrap();
            let (back, verdict) = first(&mut suspicion, at, 10.0, spills).unwrap();
            assert!((5.9..6.2).contains(&(back - at)), "{}", back - at);
            let (Verdict::Scale(up), Verdict::Scale(down)) = (step, verdict) else { panic!() };
            assert!((up * down - 1.0).abs() < 1e-9, "{up} and {down}");
            waits.push(at - now);
            now = back;
        }
        assert!(waits[5] > 30.0 && waits[4] < 20.0, "{waits:?}");
        let mut ended = Suspicion::default();
        let (at, _) = first(&mut ended, 0.0, 60.0, lasting).unwrap();
        let calm = |_: &Suspicion, _| Evidence {
            mean: 0.0,
            home: excess(0.0),
            spills: false,
            ..evidence()
        };
        assert_eq!(first(&mut ended, at, 20.0, calm), None, "the step was right");
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
        assert!(first(&mut slower, 0.0, 10.0, lasting).is_some());
        assert_eq!(first(&mut slower, 10.0, 5.0, calm), None);
    }
}
