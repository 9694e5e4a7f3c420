//! Endpoints that are ejected and return: the reported events, and the traffic at first.

use super::world::plan;
use super::*;
use crate::endpoint::speed::Logs;
use crate::endpoint::{Chance, Turns, pick};
use crate::index::EndpointIndex;
use crate::plan::{ClassIndex, ClusterIndex, EndpointPolicy, ProbeKind};
use crate::signal::Signals;
use crate::units::Dice;

/// Successes since the last sweep, by endpoint id.
#[derive(Default)]
struct Back([Answers; 3]);

impl Samples for Back {
    fn class(&mut self, _: ClassIndex, _: usize) -> Tally {
        Tally::default()
    }

    fn exchanges(&mut self, _: ClassIndex, _: usize, _: &mut Exchanges) {}

    fn endpoint(&mut self, id: u32) -> Answers {
        self.0.get_mut(id as usize).map(std::mem::take).unwrap_or_default()
    }

    fn requested(&mut self, _: ClassIndex) -> [f64; PRIORITIES] {
        [0.0; PRIORITIES]
    }
}

fn answers(count: u32, seconds: f64) -> Answers {
    let mut logs = Logs::default();
    (0..count).for_each(|_| logs.add(seconds));
    let count = f64::from(count);
    Answers { count, seconds: count * seconds, logs, rtt: None }
}

/// A cluster of three endpoints, in virtual time.
struct Three {
    assessor: Assessor,
    back: Back,
    signals: Signals,
    now: Timestamp,
    news: Vec<News>,
}

impl Three {
    fn new(kind: ProbeKind) -> Three {
        let mut plan = plan(&["a"]);
        plan.clusters[ClusterIndex(0)].probe.kind = kind;
        let now = Timestamp::START;
        let mut assessor = Assessor::new(Arc::new(plan), 1, now);
        let found = (0..3)
            .map(|index| Found { address: Address::Unix(format!("/{index}").into()), weight: 1 });
        let found = found.collect();
        assessor.fold(Event::Endpoints { cluster: "a".to_owned(), found }, now);
        let (back, signals) = (Back::default(), Signals::default());
        let mut three = Three { assessor, back, signals, now, news: Vec::new() };
        (0..3).for_each(|endpoint| three.probe(endpoint, true));
        three.sweep();
        three.news.clear();
        three
    }

    fn probe(&mut self, endpoint: u32, good: bool) {
        let event = match good {
            true => Event::ProbeSucceeded {
                endpoint,
                rtt: Duration::from_millis(1),
                answer: Some(Duration::from_millis(1)),
                report: None,
            },
            false => Event::ProbeFailed { endpoint, cause: Cause::ProbeTimeout },
        };
        self.assessor.fold(event, self.now);
        self.news.extend(self.assessor.take_news());
    }

    fn fail(&mut self, cause: Cause, times: usize) {
        for _ in 0..times {
            self.assessor
                .fold(Event::ExchangeFailed { endpoint: 0, cause, client: None }, self.now);
        }
        self.news.extend(self.assessor.take_news());
    }

    /// Advances by fifty milliseconds.
    fn sweep(&mut self) {
        self.now = self.now.plus(Duration::from_millis(50));
        self.signals = self.assessor.sweep(&mut self.back, self.now);
        self.news.extend(self.assessor.take_news());
    }

    /// The number of times that endpoint 0 was reported as ejected, and as returned.
    fn counts(&self) -> (usize, usize) {
        let out = self.news.iter().filter(|news| matches!(news, News::Ejected { .. })).count();
        let back = self.news.iter().filter(|news| matches!(news, News::Returned { .. })).count();
        (out, back)
    }

    fn is_used(&self) -> bool {
        self.signals.clusters[ClusterIndex(0)].usable.contains(&EndpointIndex(0))
    }
}

fn http() -> ProbeKind {
    ProbeKind::Grpc { service: String::new() }
}

#[test]
fn each_ejection_and_each_return_is_reported_once() {
    // (probes, cause, number of failures, whether probes fail meanwhile)
    let ways: [(ProbeKind, Cause, usize, bool); 6] = [
        (http(), Cause::GatewayStatus, 5, false),
        (http(), Cause::GatewayStatus, 5, true),
        (ProbeKind::Tcp, Cause::Reset, 5, false),
        (http(), Cause::Refused, 2, true),
        (ProbeKind::None, Cause::Refused, 2, false),
        (http(), Cause::ProbeTimeout, 0, true),
    ];
    for (kind, cause, times, probes_fail) in ways {
        let way = format!("{kind:?} {cause:?} {times} {probes_fail}");
        let probed = kind != ProbeKind::None;
        let mut three = Three::new(kind);
        for round in 1..=2 {
            three.fail(cause, times);
            (0..4).filter(|_| probes_fail).for_each(|_| three.probe(0, false));
            three.sweep();
            assert_eq!((three.counts(), three.is_used()), ((round, round - 1), false), "{way}");
            (0..60).for_each(|_| three.sweep());
            (0..3).filter(|_| probed).for_each(|_| three.probe(0, true));
            (0..5).for_each(|_| three.sweep());
            assert_eq!((three.counts(), three.is_used()), ((round, round), true), "{way}");
        }
    }
}

#[test]
fn a_returned_endpoint_gets_one_exchange_at_once_and_then_a_slow_start() {
    let mut three = Three::new(http());
    // Up for longer than a slow start takes.
    (0..800).for_each(|_| three.sweep());
    three.fail(Cause::GatewayStatus, 5);
    three.sweep();
    // Probes end the ejection early.
    (0..3).for_each(|_| three.probe(0, true));
    three.sweep();
    let signals = &three.signals.clusters[ClusterIndex(0)];
    assert_eq!(signals.returned, [EndpointIndex(0)]);
    assert!(
        signals.endpoints[EndpointIndex(0)].weight < 0.11,
        "{}",
        signals.endpoints[EndpointIndex(0)].weight
    );
    for worker in 0..4 {
        let (mut turns, mut dice) = (Turns::new(worker, 4), Dice::seeded(worker as u64));
        let mut counts = [0; 3];
        for turn in 0..100 {
            let now = three.now;
            let mut chance = Chance { dice: &mut dice, turns: &mut turns, now, key: 0 };
            let picked = pick(EndpointPolicy::LeastWait, signals, &[], |_| 0, &mut chance).unwrap();
            assert!(turn > 0 || picked == EndpointIndex(0), "its first exchange at once");
            counts[picked.0] += 1;
        }
        // A tenth of a share is 4.8 of 100 exchanges.
        assert!((3..=8).contains(&counts[0]), "{counts:?}");
    }
    three.back.0[0] = answers(1, 0.01);
    three.sweep();
    assert!(three.signals.clusters[ClusterIndex(0)].returned.is_empty());
    (0..300).for_each(|_| three.sweep());
    let half = three.signals.clusters[ClusterIndex(0)].endpoints[EndpointIndex(0)].weight;
    assert!((0.5..0.6).contains(&half), "15 s later: {half}");
}

#[test]
fn measurements_of_an_endpoint_are_reset_at_its_return() {
    let mut three = Three::new(http());
    for _ in 0..40 {
        three.back = Back([answers(2, 0.2), answers(2, 0.01), answers(2, 0.01)]);
        three.sweep();
    }
    assert!(three.signals.clusters[ClusterIndex(0)].endpoints[EndpointIndex(0)].slowness > 3.0);
    (0..2).for_each(|_| three.probe(0, false));
    three.sweep();
    (0..3).for_each(|_| three.probe(0, true));
    three.sweep();
    assert_eq!(three.signals.clusters[ClusterIndex(0)].endpoints[EndpointIndex(0)].slowness, 1.0);
}

#[test]
fn an_endpoint_that_answers_is_not_ejected_because_of_quicker_hedges() {
    let mut three = Three::new(http());
    for _ in 0..1_200 {
        three.fail(Cause::Overtaken, 4);
        three.back.0[0] = answers(1, 0.5);
        three.sweep();
    }
    assert_eq!(three.counts(), (0, 0));
}

#[test]
fn an_endpoint_whose_hedges_always_win_does_not_flap() {
    let mut three = Three::new(http());
    for sweep in 0..2_400 {
        if three.is_used() {
            three.fail(Cause::Overtaken, 1);
        }
        if sweep % 2 == 0 {
            three.probe(0, true);
        }
        three.sweep();
    }
    let (out, back) = three.counts();
    assert!((2..=8).contains(&out) && out - back <= 1, "{out} times out, {back} back in 120 s");
}
