//! A small world in virtual time that drives the production fold and pick: workers with slots,
//! sweeps each 50 ms, clusters with servers and first-come queues, Poisson arrivals.

use super::*;
use crate::decision::change::Change;
use crate::decision::ledger::Ledger;
use crate::decision::permit::Permitted;
use crate::decision::plan::*;
use crate::decision::plan::{ClassIndex, ClusterIndex, ServiceIndex};
use crate::decision::signal::Signals;
use crate::decision::signal::Why;
use crate::decision::spill::{Credits, pick};
use crate::decision::units::Dice;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const MS: u64 = 1_000_000;

pub(super) fn plan(names: &[&str]) -> Plan {
    let service = Service::named("shop", (0..names.len()).map(ClusterIndex).collect());
    let class = Class {
        service: ServiceIndex(0),
        data: Vec::new(),
        permitted: Permitted {
            clusters: (0..names.len()).map(ClusterIndex).collect(),
            rejected: Vec::new(),
        },
        l4: false,
        id: names.len() as u64,
    };
    Plan {
        clusters: names.iter().map(|name| Cluster::named(name)).collect(),
        services: vec![service].into(),
        classes: vec![class].into(),
        ..Plan::default()
    }
}

/// A place with servers, a queue and a distance.
struct Place {
    servers: usize,
    busy: usize,
    queue: std::collections::VecDeque<usize>,
    rtt: u64,
    up: bool,
    /// Whether a middlebox near the proxy accepts connections for the place.
    hidden: bool,
}

struct Exchange {
    start: u64,
    slot: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrive,
    Reach(usize),
    Serve(usize),
    Return(usize),
    Sweep,
}

struct World {
    now: u64,
    seed: Dice,
    events: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    sequence: u64,
    places: Vec<Place>,
    exchanges: Vec<Exchange>,
    assessor: Assessor,
    signals: Signals,
    credits: Credits,
    ledger: Ledger,
    rate: f64,
    service: f64,
    /// Service times are exponential; else even within a tenth of their mean.
    exponential: bool,
    served: Vec<usize>,
    latencies: Vec<f64>,
    whys: BTreeMap<Why, usize>,
    spill_max: f64,
    lost: usize,
    dials: bool,
}

impl Samples for &mut Ledger {
    fn class(&mut self, class: ClassIndex, slot: usize) -> Tally {
        (**self).class(class, slot)
    }

    fn exchanges(&mut self, class: ClassIndex, slot: usize, into: &mut Exchanges) {
        (**self).exchanges(class, slot, into);
    }

    fn endpoint(&mut self, _: u32) -> Answers {
        Answers::default()
    }

    fn requested(&mut self, class: ClassIndex) -> [f64; PRIORITIES] {
        (**self).requested(class)
    }
}

impl World {
    fn new(seed: u64, places: &[(usize, u64)]) -> World {
        let names = ["a", "b", "c"];
        let now = Timestamp::START;
        let mut assessor = Assessor::new(Arc::new(plan(&names[..places.len()])), seed, now);
        for (index, name) in names[..places.len()].iter().enumerate() {
            let address = Address::Unix(format!("/{index}").into());
            let found = vec![Found { address, weight: 1 }];
            assessor.fold(Event::Endpoints { cluster: (*name).to_owned(), found }, now);
        }
        let mut world = World {
            now: 0,
            seed: Dice::seeded(seed),
            events: BinaryHeap::new(),
            sequence: 0,
            places: places
                .iter()
                .map(|(servers, rtt)| Place {
                    servers: *servers,
                    busy: 0,
                    queue: Default::default(),
                    rtt: rtt * MS,
                    up: true,
                    hidden: false,
                })
                .collect(),
            exchanges: Vec::new(),
            assessor,
            signals: Signals::default(),
            credits: Credits::seeded(places.len(), seed),
            ledger: Ledger::new([places.len()].into_iter()),
            rate: 1.0,
            service: 0.020,
            exponential: false,
            served: vec![0; places.len()],
            latencies: Vec::new(),
            whys: BTreeMap::new(),
            spill_max: 0.0,
            lost: 0,
            dials: false,
        };
        world.sweep();
        world.at(0, Happening::Arrive);
        world
    }

    fn at(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + delay, self.sequence, happening)));
    }

    fn sweep(&mut self) {
        let now = Timestamp::from_nanos(self.now);
        for order in self.assessor.due_probes(now) {
            let place = &self.places[order.cluster.0];
            let event = match place.up {
                true => Event::ProbeSucceeded {
                    endpoint: order.endpoint,
                    rtt: Duration::from_nanos(if place.hidden { MS / 5 } else { place.rtt }),
                    answer: place.hidden.then(|| Duration::from_nanos(place.rtt + 3 * MS)),
                    report: None,
                },
                false => Event::ProbeFailed { endpoint: order.endpoint, cause: Cause::Refused },
            };
            self.assessor.fold(event, now);
        }
        self.signals = self.assessor.sweep(&mut &mut self.ledger, now);
        self.spill_max = self.spill_max.max(self.signals.classes[ClassIndex(0)].spill);
        self.at(50 * MS, Happening::Sweep);
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.seed.unit()).ln() * mean * 1e9) as u64
    }

    fn run(&mut self, seconds: u64) {
        self.served.fill(0);
        self.latencies.clear();
        self.whys.clear();
        self.spill_max = 0.0;
        let end = self.now + seconds * 1_000 * MS;
        while let Some(Reverse((at, _, _))) = self.events.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, _, happening))) = self.events.pop() else { break };
            self.now = at;
            match happening {
                Happening::Arrive => self.arrive(),
                Happening::Reach(id) => self.reach(id),
                Happening::Serve(id) => self.finish_service(id),
                Happening::Return(id) => self.come_back(id),
                Happening::Sweep => self.sweep(),
            }
        }
        self.now = end;
    }

    fn arrive(&mut self) {
        let gap = self.exponential(1.0 / self.rate);
        self.at(gap, Happening::Arrive);
        let ledger = &mut self.ledger;
        let offered = |slot: usize| ledger.at(ClassIndex(0), slot).tally.offered += 1.0;
        let choices = &self.signals.classes[ClassIndex(0)].choices;
        let Some(picked) = pick(choices, &mut self.credits, |_| true, offered) else {
            self.lost += 1;
            return;
        };
        *self.whys.entry(picked.why).or_default() += 1;
        let account = self.ledger.at(ClassIndex(0), picked.slot);
        account.sent(self.exchanges.len() as u64, self.now as f64 / 1e9, 0);
        // Place a, if its server closes each connection.
        account.tally.dialled += f64::from(u8::from(self.dials && picked.slot == 0));
        self.exchanges.push(Exchange { start: self.now, slot: picked.slot });
        let half = self.places[picked.slot].rtt / 2;
        self.at(half, Happening::Reach(self.exchanges.len() - 1));
    }

    fn reach(&mut self, id: usize) {
        let place = &mut self.places[self.exchanges[id].slot];
        if place.busy < place.servers {
            place.busy += 1;
            self.start_service(id);
        } else {
            place.queue.push_back(id);
        }
    }

    fn start_service(&mut self, id: usize) {
        let time = match self.exponential {
            true => self.exponential(self.service),
            false => (self.service * (0.9 + 0.2 * self.seed.unit()) * 1e9) as u64,
        };
        self.at(time, Happening::Serve(id));
    }

    fn finish_service(&mut self, id: usize) {
        let slot = self.exchanges[id].slot;
        let place = &mut self.places[slot];
        let half = place.rtt / 2;
        match place.queue.pop_front() {
            Some(next) => self.start_service(next),
            None => place.busy -= 1,
        }
        self.at(half, Happening::Return(id));
    }

    fn come_back(&mut self, id: usize) {
        let Exchange { start, slot } = self.exchanges[id];
        let latency = (self.now - start) as f64 / 1e9;
        self.ledger.at(ClassIndex(0), slot).answered(id as u64, self.now as f64 / 1e9);
        self.served[slot] += 1;
        self.latencies.push(latency);
    }

    fn share(&self, slot: usize) -> f64 {
        self.served[slot] as f64 / self.served.iter().sum::<usize>() as f64
    }

    fn p99(&mut self) -> f64 {
        self.latencies.sort_by(f64::total_cmp);
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

/// Ten servers of 20 ms at 1 ms; a cloud with spare capacity at 30 ms.
fn home_and_cloud(seed: u64) -> World {
    World::new(seed, &[(10, 1), (100, 30)])
}

#[test]
fn at_half_load_nearly_all_stays_home() {
    for seed in 0..16 {
        for (exponential, least) in [(false, 0.99), (true, 0.95)] {
            let mut world = home_and_cloud(seed);
            world.exponential = exponential;
            world.rate = 250.0;
            world.run(30);
            assert!(world.share(0) >= least, "seed {seed}: {:?}", world.served);
        }
    }
}

#[test]
fn past_saturation_the_excess_spills_and_nobody_waits_long() {
    for seed in 0..16 {
        let mut world = home_and_cloud(seed);
        world.exponential = seed % 2 == 0;
        world.rate = 350.0;
        world.run(10);
        world.rate = 650.0;
        world.run(30);
        let (cloud, p99) = (world.share(1), world.p99());
        assert!((0.15..=0.45).contains(&cloud), "seed {seed}: cloud {cloud}");
        assert!(p99 < 0.200, "seed {seed}: p99 {p99}");
        world.rate = 250.0;
        world.run(3);
        world.run(10);
        assert!(world.share(0) >= 0.95, "seed {seed}: after the tide {:?}", world.served);
    }
}

#[test]
fn a_dead_cluster_loses_its_traffic_and_gets_it_back_within_five_seconds() {
    for seed in 0..16 {
        let mut world = home_and_cloud(seed);
        world.rate = 250.0;
        world.run(5);
        world.places[0].up = false;
        world.run(1);
        // The rate of the last second decays; the share of sent exchanges drops to zero at once.
        assert_eq!(world.signals.clusters[ClusterIndex(0)].share, 0.0, "seed {seed}");
        assert_eq!(world.signals.classes[ClassIndex(0)].shares, [0.0, 1.0], "seed {seed}");
        world.run(5);
        assert_eq!(world.served[0], 0, "seed {seed}");
        assert!(world.whys.keys().all(|why| *why == Why::Failover), "{:?}", world.whys);
        assert_eq!(world.signals.clusters[ClusterIndex(0)].share, 0.0);
        assert!(world.signals.classes[ClassIndex(0)].spill < 0.001, "seed {seed}");
        world.places[0].up = true;
        world.run(5);
        assert!(world.whys[&Why::Returning] > 50, "seed {seed}: {:?}", world.whys);
        // A wrong inference of a queue may last for a moment; traffic that the ramp holds back is no spill.
        let spilled = *world.whys.get(&Why::Spill).unwrap_or(&0);
        assert!(spilled <= 100 && world.spill_max < 0.3, "seed {seed}: {spilled}");
        world.run(5);
        assert!(world.share(0) > 0.95, "seed {seed}: {:?}", world.served);
    }
}

#[test]
fn the_order_follows_a_path_that_lengthens() {
    let mut world = home_and_cloud(1);
    world.rate = 100.0;
    world.run(5);
    world.places[0].rtt = 81 * MS;
    world.run(4);
    world.run(2);
    assert!(world.share(1) > 0.95, "{:?}", world.served);
}

#[test]
fn behind_middleboxes_the_loss_of_the_nearest_keeps_the_order_of_the_others() {
    let mut world = World::new(1, &[(10, 1), (100, 30), (100, 70)]);
    world.places.iter_mut().for_each(|place| place.hidden = true);
    let distances = |world: &World| -> Vec<u64> {
        let known = world.signals.clusters.iter().map(|cluster| cluster.distance.unwrap());
        known.map(|seconds| (seconds * 1e3).round() as u64).collect()
    };
    world.rate = 100.0;
    world.run(60);
    assert_eq!(distances(&world), [0, 29, 69], "known up to the nearest's own millisecond");
    for up in [false, true, false] {
        world.places[0].up = up;
        world.run(1);
        for _ in 0..10 {
            world.run(1);
            assert_eq!(distances(&world), [0, 29, 69]);
            assert_eq!(world.signals.classes[ClassIndex(0)].order, [0, 1, 2].map(ClusterIndex));
        }
    }
}

#[test]
fn the_work_of_a_slow_probe_is_not_counted_as_distance() {
    let mut world = World::new(1, &[(10, 1), (100, 30)]);
    let now = Timestamp::from_nanos(world.now);
    for (endpoint, rtt) in [(0, 1), (1, 30)] {
        let (rtt, answer) = (Duration::from_millis(rtt), Some(Duration::from_millis(rtt + 40)));
        for _ in 0..3 {
            world.assessor.fold(Event::ProbeSucceeded { endpoint, rtt, answer, report: None }, now);
        }
    }
    world.sweep();
    let distances: Vec<_> = world.signals.clusters.iter().map(|c| c.distance.unwrap()).collect();
    assert!((distances[0] - 0.001).abs() < 1e-9 && (distances[1] - 0.030).abs() < 1e-9);
}

#[test]
fn removing_a_cluster_never_changes_the_distance_of_another() {
    for seed in 0..300 {
        let mut dice = Dice::seeded(seed);
        let millis: Vec<(u64, u64)> =
            (0..3).map(|_| (1 + dice.below(40) as u64, 1 + dice.below(120) as u64)).collect();
        let mut assessor = Assessor::new(Arc::new(plan(&["a", "b", "c"])), seed, Timestamp::START);
        for (index, name) in ["a", "b", "c"].iter().enumerate() {
            let address = Address::Unix(format!("/{index}").into());
            let found = vec![Found { address, weight: 1 }];
            let event = Event::Endpoints { cluster: (*name).to_owned(), found };
            assessor.fold(event, Timestamp::START);
        }
        let gone = dice.below(3) as u32;
        let distances = |assessor: &mut Assessor, tick: u64, is_gone: bool| -> Vec<f64> {
            let now = Timestamp::START.plus(Duration::from_millis(50 * tick));
            for (endpoint, (rtt, answer)) in (0..).zip(&millis) {
                assessor.fold(
                    match endpoint == gone && is_gone {
                        true => Event::ProbeFailed { endpoint, cause: Cause::Refused },
                        false => Event::ProbeSucceeded {
                            endpoint,
                            rtt: Duration::from_millis(*rtt),
                            answer: Some(Duration::from_millis(rtt + answer)),
                            report: None,
                        },
                    },
                    now,
                );
            }
            let clusters = assessor.sweep(&mut Answered(0.0), now).clusters;
            clusters.iter().map(|cluster| cluster.distance.unwrap()).collect()
        };
        let before = (0..10).map(|tick| distances(&mut assessor, tick, false)).last().unwrap();
        for tick in 10..200 {
            assert_eq!(distances(&mut assessor, tick, true), before, "seed {seed}, dead");
        }
        let left: Vec<&str> =
            ["a", "b", "c"].into_iter().zip(0..).filter(|(_, i)| *i != gone).map(|x| x.0).collect();
        assessor.adopt(Arc::new(plan(&left)));
        let then: Vec<f64> =
            before.iter().zip(0..).filter(|(_, i)| *i != gone).map(|x| *x.0).collect();
        for tick in 200..400 {
            assert_eq!(distances(&mut assessor, tick, true), then, "seed {seed}, out of the plan");
        }
    }
}

#[test]
fn a_dial_removes_its_share_and_zero_removes_all() {
    let mut world = home_and_cloud(1);
    world.rate = 200.0;
    let dial = |percent| Event::DialCluster { cluster: "a".to_owned(), percent };
    world.run(3);
    world.assessor.fold(dial(Some(50)), Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(10);
    assert!((0.47..=0.53).contains(&world.share(0)), "{:?}", world.served);
    world.assessor.fold(dial(Some(0)), Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(5);
    assert_eq!(world.served[0], 0);
    assert!(world.whys.keys().all(|why| *why == Why::Dial), "{:?}", world.whys);
    world.assessor.fold(dial(None), Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(5);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
}

fn shift(percent: u8) -> Shift {
    Shift { from: "a".to_owned(), to: "c".to_owned(), percent }
}

#[test]
fn a_shift_moves_its_part_to_its_target_and_all_of_it_at_last() {
    let mut world = World::new(1, &[(50, 1), (50, 20), (50, 40)]);
    world.rate = 200.0;
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    for (percent, shares) in [(40, [0.6, 0.0, 0.4]), (100, [0.0, 0.0, 1.0])] {
        let event = Event::Shift { service: "shop".to_owned(), shift: Some(shift(percent)) };
        world.assessor.fold(event, Timestamp::from_nanos(world.now));
        world.run(2);
        world.run(5);
        let served: [f64; 3] = std::array::from_fn(|slot| world.share(slot));
        for (share, expected) in served.iter().zip(shares) {
            assert!((share - expected).abs() < 0.03, "{percent}: {served:?}");
        }
        let class = &world.signals.classes[ClassIndex(0)];
        assert_eq!(class.order, [0, 1, 2].map(ClusterIndex), "distances are what they were");
        assert_eq!(class.shift.map(|shift| (shift.percent, shift.rests)), Some((percent, false)));
    }
    assert!(world.whys.keys().all(|why| *why == Why::Dial), "{:?}", world.whys);
    // The target is down: the shift rests, and the source serves as before.
    world.places[2].up = false;
    world.run(3);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    assert!(world.signals.classes[ClassIndex(0)].shift.unwrap().rests);
    world.places[2].up = true;
    world.run(5);
    let none = Event::Shift { service: "shop".to_owned(), shift: None };
    world.assessor.fold(none, Timestamp::from_nanos(world.now));
    world.run(2);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    assert_eq!(world.signals.classes[ClassIndex(0)].shift, None);
}

/// A world whose clusters are sites of their own.
fn sites() -> World {
    let mut world = home_and_cloud(1);
    let mut plan = plan(&["a", "b"]);
    for cluster in &mut plan.clusters {
        cluster.site = format!("site-{}", cluster.name);
    }
    world.assessor.adopt(Arc::new(plan));
    world.rate = 200.0;
    world.run(3);
    world
}

#[test]
fn a_temporary_change_ends_by_itself() {
    let mut world = sites();
    let hold = |world: &mut World, change| {
        let until = Timestamp::from_nanos(world.now).plus(Duration::from_secs(5));
        let event = Event::Temporary(Some(Temporary { change, until }));
        world.assessor.fold(event, Timestamp::from_nanos(world.now));
    };
    hold(&mut world, Change::Site { site: "site-a".to_owned(), percent: 0 });
    world.run(1);
    world.run(3);
    assert_eq!(world.served[0], 0);
    assert_eq!(world.signals.clusters[ClusterIndex(0)].site_dial, 0);
    assert_eq!(world.assessor.dials(), Dials::default(), "a temporary change is not stored");
    // Nobody extends it.
    world.run(2);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    let shift = Shift { from: "a".to_owned(), to: "b".to_owned(), percent: 100 };
    let change = Change::Shift { service: "shop".to_owned(), shift: Some(shift) };
    hold(&mut world, change);
    world.run(1);
    world.run(3);
    assert!(world.share(1) > 0.98, "{:?}", world.served);
    world.run(2);
    world.run(3);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
}

#[test]
fn a_drilled_site_serves_what_no_other_can() {
    let mut world = sites();
    let until = Timestamp::from_nanos(world.now).plus(Duration::from_secs(60));
    let change = Change::Site { site: "site-a".to_owned(), percent: 0 };
    let event = Event::Temporary(Some(Temporary { change, until }));
    world.assessor.fold(event, Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(1);
    assert_eq!(world.served[0], 0);
    world.places[1].up = false;
    world.run(2);
    world.run(2);
    assert!(world.share(0) > 0.98, "{:?}", world.served);
    // A dial of an operator is not a drill: nothing overrides it.
    let drain = Event::DialSite { site: "site-a".to_owned(), percent: Some(0) };
    world.assessor.fold(drain, Timestamp::from_nanos(world.now));
    world.run(1);
    world.run(1);
    assert_eq!(world.served[0], 0);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = || {
        let mut world = home_and_cloud(7);
        world.rate = 600.0;
        world.run(5);
        (world.served.clone(), world.latencies.clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_few_slow_requests_of_a_new_client_are_no_queue() {
    for seed in 0..16 {
        let mut world = home_and_cloud(seed);
        world.service = 0.200;
        world.rate = 5.0;
        world.run(20);
        assert!(world.served[1] <= 2, "seed {seed}: {:?}", world.served);
    }
}

#[test]
fn a_cluster_without_keep_alive_is_farther_by_its_handshake() {
    let mut world = home_and_cloud(1);
    world.places[0].rtt = 20 * MS;
    world.places[1].rtt = 26 * MS;
    world.rate = 100.0;
    world.run(3);
    assert_eq!(world.signals.classes[ClassIndex(0)].order, [0, 1].map(ClusterIndex));
    world.dials = true;
    world.run(6);
    // 20 ms of round trip and 20 ms of handshake, against 26 ms for a connection that exists.
    let first = &world.signals.classes[ClassIndex(0)];
    assert_eq!(first.order, [1, 0].map(ClusterIndex), "{:?}", first.scores);
}

/// Answers of every endpoint since the last sweep.
struct Answered(f64);

impl Samples for Answered {
    fn class(&mut self, _: ClassIndex, _: usize) -> Tally {
        Tally::default()
    }

    fn exchanges(&mut self, _: ClassIndex, _: usize, _: &mut Exchanges) {}

    fn endpoint(&mut self, _: u32) -> Answers {
        Answers { count: self.0, seconds: self.0 * 0.01, ..Answers::default() }
    }

    fn requested(&mut self, _: ClassIndex) -> [f64; PRIORITIES] {
        [0.0; PRIORITIES]
    }
}

#[test]
fn a_success_ends_a_series_of_failures() {
    let start = Timestamp::START;
    let at = |ms: u64| Timestamp::START.plus(Duration::from_millis(ms));
    let fresh = || {
        let mut assessor = Assessor::new(Arc::new(plan(&["a"])), 1, start);
        let found = (0..2)
            .map(|index| Found { address: Address::Unix(format!("/{index}").into()), weight: 1 });
        let found = found.collect();
        assessor.fold(Event::Endpoints { cluster: "a".to_owned(), found }, start);
        for endpoint in 0..2 {
            let (rtt, answer, report) = (Duration::from_millis(1), None, None);
            assessor.fold(Event::ProbeSucceeded { endpoint, rtt, answer, report }, start);
        }
        assessor
    };
    let fail = |assessor: &mut Assessor, times: usize, ms: u64| {
        for _ in 0..times {
            let cause = Cause::GatewayStatus;
            let event = Event::ExchangeFailed { endpoint: 0, cause, client: None };
            assessor.fold(event, at(ms));
        }
    };
    let usable = |assessor: &mut Assessor, answered: f64, ms: u64| {
        assessor.sweep(&mut Answered(answered), at(ms)).clusters[ClusterIndex(0)].usable.len()
    };
    // One percent of ten thousand exchanges a second fail: at least five between two sweeps.
    let mut assessor = fresh();
    for sweep in 1..40 {
        fail(&mut assessor, 6, sweep * 50);
        assert_eq!(usable(&mut assessor, 594.0, sweep * 50), 2, "sweep {sweep}");
    }
    // All failures are of one client, which counts once: successes end the series.
    let mut assessor = fresh();
    for sweep in 1..80 {
        for _ in 0..20 {
            let client = Some(IpAddr::from([10, 0, 0, 1]));
            let event = Event::ExchangeFailed { endpoint: 0, cause: Cause::Reset, client };
            assessor.fold(event, at(sweep * 50));
        }
        assert_eq!(usable(&mut assessor, 1.0, sweep * 50), 2, "sweep {sweep}");
    }
    // Nothing succeeds: four failures are not sufficient, the fifth is, in any sweep.
    let mut assessor = fresh();
    fail(&mut assessor, 4, 10);
    assert_eq!(usable(&mut assessor, 0.0, 50), 2);
    fail(&mut assessor, 1, 60);
    assert_eq!(usable(&mut assessor, 0.0, 100), 1);
}
