//! Operations in virtual time.

use super::*;

const MINUTE: Kind = Kind::Drill { lasts: Duration::from_secs(60) };
const WHOLE: Span = Span { start: 0, target: 100 };
const LIMITS: Limits = Limits { errors: 0.01, p99: None };

/// An operation, a service, and a clock.
struct World {
    operation: Operation,
    now: Timestamp,
    service: OfService,
    nowhere: Option<String>,
    /// The percentages of all seconds.
    percents: Vec<u8>,
}

impl World {
    fn new(kind: Kind, span: Span) -> World {
        let expected = [("shop".to_owned(), 0.060)].into();
        let now = Timestamp::START;
        let service =
            OfService { rate: 100.0, failed: 0.0, p99: Some(0.040), ..OfService::default() };
        let operation = Operation::new(kind, span, LIMITS, expected, now);
        World { operation, now, service, nowhere: None, percents: Vec::new() }
    }

    fn second(&mut self) {
        self.gap(Duration::from_secs(1));
    }

    fn gap(&mut self, gap: Duration) {
        self.now = self.now.plus(gap);
        let services = [("shop".to_owned(), self.service.clone())].into();
        let seen = Seen { services, nowhere: self.nowhere.clone() };
        self.operation.observe(&seen, self.now);
        self.percents.push(self.operation.percent());
    }

    fn seconds(&mut self, count: usize) {
        (0..count).for_each(|_| self.second());
    }

    /// Runs to the end; returns the seconds.
    fn end(&mut self) -> usize {
        (0..10_000)
            .find(|_| {
                let ended = self.operation.phase() == Phase::Ended;
                if !ended {
                    self.second();
                }
                ended
            })
            .expect("every operation ends")
    }

    fn stopped(&self) -> Option<&Cause> {
        match self.operation.outcome()? {
            Outcome::Stopped(cause) => Some(cause),
            Outcome::Done | Outcome::Aborted => None,
        }
    }
}

#[test]
fn a_drill_moves_all_at_once_and_returns_after_its_time() {
    let mut world = World::new(MINUTE, Span { start: 0, target: 30 });
    assert_eq!(world.end(), 5 + 60 + 5);
    assert_eq!(world.operation.outcome(), Some(&Outcome::Done));
    let away = world.percents.iter().filter(|percent| **percent == 30).count();
    assert_eq!(away, 60, "{:?}", world.percents);
    assert_eq!(world.percents.iter().filter(|percent| **percent == 0).count(), 10);
    let watched = &world.operation.services()["shop"];
    let seconds = [&watched.before, &watched.moving, &watched.held, &watched.after];
    assert_eq!(seconds.map(Sums::seconds), [5.0, 2.0, 58.0, 5.0]);
    assert_eq!(world.operation.seconds_left(), 0.0);
}

#[test]
fn a_shift_moves_step_by_step_and_stays() {
    let mut world = World::new(Kind::Shift { over: Duration::from_secs(200) }, WHOLE);
    world.end();
    assert_eq!(world.operation.outcome(), Some(&Outcome::Done));
    assert!(world.operation.stays());
    assert!(world.percents.is_sorted(), "{:?}", world.percents);
    assert!(world.percents.windows(2).all(|two| two[1] - two[0] <= 1), "{:?}", world.percents);
    assert_eq!(world.percents.last(), Some(&100));
    // The other way round, from where an earlier shift has ended.
    let back = Span { start: 100, target: 0 };
    let mut world = World::new(Kind::Shift { over: Duration::from_secs(20) }, back);
    world.end();
    assert!(world.percents.is_sorted_by(|a, b| a >= b), "{:?}", world.percents);
    assert_eq!(world.percents.last(), Some(&0));
}

#[test]
fn errors_that_rise_stop_it_and_the_traffic_returns_at_once() {
    let mut world = World::new(MINUTE, WHOLE);
    world.seconds(20);
    assert_eq!(world.operation.percent(), 100);
    world.service.failed = 0.9;
    world.seconds(20);
    assert_eq!(world.operation.phase(), Phase::Held, "0.9 % is below the limit");
    world.service.failed = 50.0;
    world.second();
    assert_eq!((world.operation.phase(), world.operation.percent()), (Phase::Returning, 0));
    assert!(matches!(world.stopped(), Some(Cause::Errors { share, .. }) if *share > 0.1));
    world.end();
    assert!(!world.operation.stays());
    assert_eq!(world.operation.percent(), 0);
}

#[test]
fn a_service_with_little_traffic_stops_it_too() {
    let mut world = World::new(MINUTE, WHOLE);
    world.service.rate = 1.0;
    world.seconds(10);
    world.service.failed = 1.0;
    world.seconds(2);
    assert_eq!(world.stopped(), None, "two failures may be chance");
    world.second();
    assert!(world.stopped().is_some());
}

#[test]
fn failures_of_the_baseline_are_not_the_drills() {
    let mut world = World::new(MINUTE, WHOLE);
    world.service.failed = 0.8;
    world.seconds(10);
    world.service.failed = 1.7;
    world.end();
    assert_eq!(world.operation.outcome(), Some(&Outcome::Done), "0.9 % more than usual");
    let mut world = World::new(MINUTE, WHOLE);
    world.service.failed = 3.0;
    world.end();
    assert!(matches!(world.stopped(), Some(Cause::Errors { .. })));
    assert!(world.percents.iter().all(|percent| *percent == 0), "nothing has moved");
}

#[test]
fn latency_that_stays_high_stops_it_and_a_single_slow_second_does_not() {
    let mut world = World::new(MINUTE, WHOLE);
    world.seconds(10);
    // Twice the expected 60 ms, and 50 ms.
    world.service.p99 = Some(0.165);
    world.seconds(10);
    for p99 in [0.500, 0.500, 0.060, 0.500, 0.500] {
        world.service.p99 = Some(p99);
        world.second();
    }
    assert_eq!(world.stopped(), None);
    world.second();
    let Some(Cause::Latency { p99, limit, .. }) = world.stopped() else { panic!("it stops") };
    assert_eq!((*p99, (limit * 1e3).round()), (0.5, 170.0));
    assert_eq!(world.operation.percent(), 0);
}

#[test]
fn a_target_that_is_gone_and_a_gap_without_figures_stop_it() {
    let mut world = World::new(MINUTE, WHOLE);
    world.seconds(10);
    world.nowhere = Some("shop".to_owned());
    world.second();
    assert_eq!(world.stopped(), Some(&Cause::Nowhere("shop".to_owned())));
    let mut world = World::new(MINUTE, WHOLE);
    world.seconds(10);
    world.gap(BLIND);
    assert_eq!(world.stopped(), None);
    world.gap(BLIND + Duration::from_millis(1));
    assert_eq!((world.stopped(), world.operation.percent()), (Some(&Cause::Blind), 0));
    // Nothing moves where there is nowhere to go.
    let mut world = World::new(MINUTE, WHOLE);
    world.nowhere = Some("shop".to_owned());
    world.end();
    assert!(world.percents.iter().all(|percent| *percent == 0));
}

#[test]
fn an_abort_returns_the_traffic_at_once_in_every_phase() {
    for seconds in [0, 3, 6, 30] {
        let mut world = World::new(MINUTE, WHOLE);
        world.seconds(seconds);
        world.operation.abort(world.now);
        assert_eq!(world.operation.percent(), 0, "after {seconds} s");
        world.end();
        assert_eq!(world.operation.outcome(), Some(&Outcome::Aborted));
    }
    let over = Duration::from_secs(100);
    let mut world = World::new(Kind::Shift { over }, Span { start: 20, target: 60 });
    world.seconds(60);
    assert!(world.operation.percent() > 30);
    world.operation.abort(world.now);
    assert_eq!(world.operation.percent(), 20, "to where it was");
    // An abort after the end changes nothing.
    let mut world = World::new(MINUTE, WHOLE);
    world.end();
    world.operation.abort(world.now);
    assert_eq!(world.operation.outcome(), Some(&Outcome::Done));
}

#[test]
fn a_given_limit_of_latency_replaces_the_derived_one() {
    let limits = Limits { p99: Some(0.045), ..LIMITS };
    let mut world = World::new(MINUTE, WHOLE);
    world.operation = Operation::new(MINUTE, WHOLE, limits, BTreeMap::new(), world.now);
    world.seconds(10);
    assert_eq!(world.stopped(), None);
    world.service.p99 = Some(0.050);
    world.seconds(3);
    assert!(matches!(world.stopped(), Some(Cause::Latency { .. })));
}
