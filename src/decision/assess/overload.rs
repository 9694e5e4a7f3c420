//! Overload and demand in virtual time, with the production fold: several services in shared clusters.
//!
//! Every cluster is one queue before servers; each service is a class of its own, as in the proxy.

use super::world::plan;
use super::*;
use crate::ledger::Ledger;
use crate::permit::Permitted;
use crate::plan::{Class, ClassIndex, ClusterIndex, Service, ServiceIndex};
use crate::signal::Signals;
use crate::spill::{Credits, pick};
use crate::units::Dice;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const MS: u64 = 1_000_000;

/// A service: its demand and its clusters.
struct Client {
    priority: u8,
    /// Requests a second.
    rate: f64,
    /// Mean service time in seconds.
    service: f64,
    clusters: Vec<usize>,
}

struct Place {
    servers: usize,
    busy: usize,
    queue: VecDeque<usize>,
    rtt: u64,
}

struct Exchange {
    start: u64,
    class: usize,
    slot: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Ask(usize),
    Reach(usize),
    Served(usize),
    Back(usize),
    Sweep,
}

/// The results of one service's requests since the last check.
#[derive(Clone, Debug, Default)]
struct Fate {
    requested: usize,
    shed: usize,
    /// Seconds.
    latencies: Vec<f64>,
}

impl Fate {
    fn shed_share(&self) -> f64 {
        self.shed as f64 / self.requested.max(1) as f64
    }

    fn median(&self) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::INFINITY)
    }
}

struct World {
    now: u64,
    dice: Dice,
    events: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    sequence: u64,
    clients: Vec<Client>,
    places: Vec<Place>,
    exchanges: Vec<Exchange>,
    assessor: Assessor,
    signals: Signals,
    credits: Vec<Credits>,
    ledger: Ledger,
    fates: Vec<Fate>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl World {
    /// Each place has a number of servers, a number of endpoints, and a distance in milliseconds.
    fn new(seed: u64, places: &[(usize, u32, u64)], clients: Vec<Client>) -> World {
        let now = Timestamp::START;
        let mut plan = plan(&NAMES[..places.len()]);
        for cluster in plan.clusters.iter_mut().skip(1) {
            cluster.kind = crate::plan::Kind::Cloud;
        }
        let (service, class) =
            (plan.services[ServiceIndex(0)].clone(), plan.classes[ClassIndex(0)].clone());
        let clusters =
            |client: &Client| client.clusters.iter().copied().map(ClusterIndex).collect();
        let named = clients.iter().enumerate();
        plan.services = named
            .map(|(index, client)| Service {
                name: format!("s{index}"),
                clusters: clusters(client),
                priority: client.priority,
                ..service.clone()
            })
            .collect();
        let classes = clients.iter().enumerate().map(|(index, client)| Class {
            service: ServiceIndex(index),
            id: 100 + index as u64,
            permitted: Permitted { clusters: clusters(client), rejected: Vec::new() },
            ..class.clone()
        });
        plan.classes = classes.collect();
        let mut assessor = Assessor::new(Arc::new(plan), seed, now);
        for (index, (_, endpoints, _)) in places.iter().enumerate() {
            let address = |e: u32| Address::Unix(format!("/{index}/{e}").into());
            let found = (0..*endpoints).map(|e| Found { address: address(e), weight: 1 }).collect();
            assessor.fold(Event::Endpoints { cluster: NAMES[index].to_owned(), found }, now);
        }
        let place = |&(servers, _, rtt): &(usize, u32, u64)| {
            let queue = VecDeque::new();
            Place { servers, busy: 0, queue, rtt: rtt * MS }
        };
        let mut world = World {
            now: 0,
            dice: Dice::seeded(seed),
            events: BinaryHeap::new(),
            sequence: 0,
            places: places.iter().map(place).collect(),
            exchanges: Vec::new(),
            assessor,
            signals: Signals::default(),
            credits: clients.iter().map(|c| Credits::seeded(c.clusters.len(), seed)).collect(),
            ledger: Ledger::new(clients.iter().map(|client| client.clusters.len())),
            fates: vec![Fate::default(); clients.len()],
            clients,
        };
        world.sweep();
        (0..world.clients.len()).for_each(|class| world.at(0, Happening::Ask(class)));
        world
    }

    fn at(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + delay, self.sequence, happening)));
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.dice.unit()).ln() * mean * 1e9) as u64
    }

    fn sweep(&mut self) {
        let now = Timestamp::from_nanos(self.now);
        for order in self.assessor.due_probes(now) {
            let rtt = Duration::from_nanos(self.places[order.cluster.0].rtt);
            let (answer, report) = (None, None);
            let endpoint = order.endpoint;
            self.assessor.fold(Event::ProbeSucceeded { endpoint, rtt, answer, report }, now);
        }
        self.signals = self.assessor.sweep(&mut &mut self.ledger, now);
        self.at(50 * MS, Happening::Sweep);
    }

    /// Continues the run; `look` is called after each sweep.
    fn run(&mut self, seconds: u64, mut look: impl FnMut(&World)) -> Vec<Fate> {
        let end = self.now + seconds * 1_000 * MS;
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            let Some(Reverse((at, _, happening))) = self.events.pop() else { break };
            self.now = at;
            match happening {
                Happening::Ask(class) => self.ask(class),
                Happening::Reach(id) => self.reach(id),
                Happening::Served(id) => self.served(id),
                Happening::Back(id) => self.back(id),
                Happening::Sweep => {
                    self.sweep();
                    look(self);
                }
            }
        }
        self.now = end;
        let fresh = vec![Fate::default(); self.clients.len()];
        std::mem::replace(&mut self.fates, fresh)
    }

    fn ask(&mut self, class: usize) {
        let gap = self.exponential(1.0 / self.clients[class].rate.max(1e-3));
        self.at(gap.min(1_000 * MS), Happening::Ask(class));
        if gap > 1_000 * MS {
            return;
        }
        let priority = self.clients[class].priority;
        self.fates[class].requested += 1;
        self.ledger.ask(ClassIndex(class), priority);
        let beliefs = &self.signals.classes[ClassIndex(class)];
        if self.credits[class].sheds(beliefs.shed, priority) {
            self.fates[class].shed += 1;
            return;
        }
        let ledger = &mut self.ledger;
        let offered = |slot: usize| ledger.at(ClassIndex(class), slot).tally.offered += 1.0;
        let Some(picked) = pick(&beliefs.choices, &mut self.credits[class], |_| true, offered)
        else {
            return;
        };
        let (id, now) = (self.exchanges.len() as u64, self.now as f64 / 1e9);
        self.ledger.at(ClassIndex(class), picked.slot).sent(id, now, 0);
        self.exchanges.push(Exchange { start: self.now, class, slot: picked.slot });
        let half = self.places[picked.cluster.0].rtt / 2;
        self.at(half, Happening::Reach(self.exchanges.len() - 1));
    }

    fn place(&self, id: usize) -> usize {
        let Exchange { class, slot, .. } = self.exchanges[id];
        self.clients[class].clusters[slot]
    }

    fn reach(&mut self, id: usize) {
        let index = self.place(id);
        let place = &mut self.places[index];
        if place.busy < place.servers {
            place.busy += 1;
            self.serve(id);
        } else {
            place.queue.push_back(id);
        }
    }

    fn serve(&mut self, id: usize) {
        let time = self.exponential(self.clients[self.exchanges[id].class].service);
        self.at(time, Happening::Served(id));
    }

    fn served(&mut self, id: usize) {
        let index = self.place(id);
        let half = self.places[index].rtt / 2;
        match self.places[index].queue.pop_front() {
            Some(next) => self.serve(next),
            None => self.places[index].busy -= 1,
        }
        self.at(half, Happening::Back(id));
    }

    fn back(&mut self, id: usize) {
        let Exchange { start, class, slot } = self.exchanges[id];
        let latency = (self.now - start) as f64 / 1e9;
        self.ledger.at(ClassIndex(class), slot).answered(id as u64, self.now as f64 / 1e9);
        self.fates[class].latencies.push(latency);
    }

    /// Whether each inferred service time is between half and twice the true one.
    fn knows_service(&self) -> bool {
        (0..self.clients.len()).all(|class| (10.0..=40.0).contains(&self.service_ms(class)))
    }

    fn service_ms(&self, class: usize) -> f64 {
        self.signals.classes[ClassIndex(class)].scores[0].service.unwrap_or(0.0) * 1e3
    }
}

fn client(priority: u8, rate: f64, clusters: &[usize]) -> Client {
    Client { priority, rate, service: 0.020, clusters: clusters.to_vec() }
}

/// Four servers near, four a little farther: 400 requests/s in all.
const TWO: [(usize, u32, u64); 2] = [(4, 1, 1), (4, 1, 12)];

#[test]
fn of_two_services_in_full_clusters_the_lower_priority_is_shed_alone() {
    for seed in 0..8 {
        let both = vec![client(0, 30.0, &[0, 1]), client(9, 30.0, &[0, 1])];
        let mut world = World::new(seed, &TWO, both);
        world.run(10, |_| {});
        world.clients.iter_mut().for_each(|client| client.rate = 300.0);
        let first = world.run(3, |_| {});
        let then = world.run(20, |_| {});
        assert!((0.3..=0.85).contains(&first[0].shed_share()), "seed {seed}: {first:?}");
        assert!(
            (0.5..=0.85).contains(&then[0].shed_share()),
            "seed {seed}: {}",
            then[0].shed_share()
        );
        assert!(
            first[1].shed_share() < 0.01 && then[1].shed == 0,
            "seed {seed}: the high is shed: {} {} of {}",
            first[1].shed,
            then[1].shed,
            then[1].requested
        );
        for fate in [&first[1], &then[0], &then[1]] {
            assert!(fate.median() < 0.320, "seed {seed}: p50 {}", fate.median());
        }
        assert!(world.knows_service(), "seed {seed}: {}", world.service_ms(0));
        world.clients.iter_mut().for_each(|client| client.rate = 60.0);
        world.run(10, |_| {});
        let after = world.run(10, |_| {});
        assert!(after.iter().all(|fate| fate.shed == 0), "seed {seed}: shed after all is over");
        assert!(world.knows_service(), "seed {seed}: {}", world.service_ms(0));
    }
}

#[test]
fn a_high_priority_that_exceeds_the_capacity_alone_is_shed_as_well() {
    for seed in 0..8 {
        for high in [420.0, 440.0, 480.0] {
            let both = vec![client(0, 60.0, &[0, 1]), client(9, 60.0, &[0, 1])];
            let mut world = World::new(seed, &TWO, both);
            world.run(10, |_| {});
            world.clients[1].rate = high;
            world.run(10, |_| {});
            let then = world.run(20, |_| {});
            assert!(then[0].shed_share() > 0.75, "seed {seed}: {}", then[0].shed_share());
            assert!(
                then[1].shed_share() < 1.2 - 400.0 / high,
                "seed {seed}: {}",
                then[1].shed_share()
            );
            assert!(then[1].median() < 0.6, "seed {seed}, {high}/s: p50 {}", then[1].median());
        }
    }
}

#[test]
fn a_service_overloaded_from_the_first_request_sheds_within_a_second() {
    for seed in 0..8 {
        for (places, clusters) in [(&TWO[..], &[0, 1][..]), (&TWO[..1], &[0][..])] {
            let rate = 150.0 * clusters.len() as f64;
            let both = vec![client(0, rate, clusters), client(9, rate, clusters)];
            let mut world = World::new(seed, places, both);
            let mut shed_at = None;
            let first = world.run(3, |world| {
                if shed_at.is_none() && world.fates[0].shed > 0 {
                    shed_at = Some(world.now / MS);
                }
            });
            let then = world.run(20, |_| {});
            assert!(shed_at.is_some_and(|ms| ms <= 1_000), "seed {seed}: at {shed_at:?}");
            assert!((0.4..=0.8).contains(&first[0].shed_share()), "seed {seed}");
            assert!((0.5..=0.8).contains(&then[0].shed_share()), "seed {seed}");
            let high = [first[1].shed_share(), then[1].shed_share()];
            assert!(high[0] < 0.08 && high[1] < 0.005, "seed {seed}: {high:?}");
            for fate in [&first[1], &then[0], &then[1]] {
                assert!(fate.median() < 0.340, "seed {seed}: p50 {}", fate.median());
            }
            // A class that was never without a queue has a larger error than other classes, but not by the length of
            // the queue.
            assert!(world.service_ms(1) < 130.0, "seed {seed}: {}", world.service_ms(1));
        }
    }
}

/// The desired number of endpoints of all clusters for the first service; `None` until that is known.
fn desired(world: &World) -> Option<f64> {
    let wanted = &world.signals.classes[ClassIndex(0)].wanted_endpoints;
    wanted.iter().copied().sum::<Option<f64>>()
}

#[test]
fn desired_replicas_follow_the_load_and_not_short_peaks() {
    let mut known_runs = 0;
    // Endpoints of one server, and of four; a home cluster that is too small for the step, and one that is large
    // enough.
    for (places, each) in [
        ([(1, 1, 1), (8, 8, 12)], 1.0),
        ([(3, 3, 1), (8, 8, 12)], 1.0),
        ([(4, 1, 1), (16, 4, 12)], 4.0),
        ([(8, 2, 1), (16, 4, 12)], 4.0),
    ] {
        for seed in 0..4 {
            // Steps, and a flash crowd.
            let steps = [(20.0, 120), (100.0, 120), (20.0, 120), (200.0, 10), (20.0, 120)];
            let mut world = World::new(seed, &places, vec![client(5, 20.0, &[0, 1])]);
            let (mut before, mut worst) = (20.0_f64, [0.0_f64; 2]);
            let mut known = false;
            for (rate, seconds) in steps {
                world.clients[0].rate = rate;
                let since = world.now;
                let need = |rate: f64| (rate * 0.020 / (each * 0.7)).max(1.0);
                let mut short = 0.0;
                world.run(seconds, |world| {
                    let Some(desired) = desired(world) else { return };
                    known = true;
                    let age = (world.now - since) as f64 / 1e9;
                    let (bound, phase) = match age < 60.0 {
                        true => (need(rate.max(before)), 0),
                        false => (need(rate), 1),
                    };
                    worst[phase] = worst[phase].max(desired / bound);
                    short = if desired.ceil() < (0.95 * need(rate)).ceil() {
                        short + 0.05
                    } else {
                        0.0
                    };
                    assert!(short < 60.0, "{places:?} {seed}: {desired} at {rate}/s");
                });
                before = rate;
            }
            // At a single server requests wait for each other at any load: this wait is learned as service time.
            let later = if places[0].0 == 1 { 1.4 } else { 1.2 };
            assert!(worst[0] <= 1.5 && worst[1] <= later, "{places:?} {seed}: {worst:?}");
            known_runs += usize::from(known);
        }
    }
    assert!(known_runs >= 12, "desired replicas are published where clusters queue: {known_runs}");
}

#[test]
fn desired_replicas_precede_a_daily_curve() {
    for seed in 0..3 {
        let mut world = World::new(seed, &[(3, 3, 1), (8, 8, 12)], vec![client(5, 20.0, &[0, 1])]);
        let rate = |ten: i32| 60.0 - 40.0 * (f64::from(ten) * std::f64::consts::TAU / 60.0).cos();
        let need = |rate: f64| (rate * 0.020 / 0.7).max(1.0);
        let (mut known, mut short, mut worst) = (false, 0.0, 0.0_f64);
        for ten in 0..120 {
            world.clients[0].rate = rate(ten);
            // The largest rate within the last and the next minute.
            let most = (ten - 6..=ten + 6).map(rate).fold(0.0, f64::max);
            world.run(10, |world| {
                let Some(desired) = desired(world) else { return };
                known = true;
                worst = worst.max(desired / need(most));
                short = if desired.ceil() < (0.95 * need(rate(ten))).ceil() {
                    short + 0.05
                } else {
                    0.0
                };
                assert!(short < 60.0, "seed {seed}: {desired} at {ten}0 s");
            });
        }
        assert!(known && worst <= 1.5, "seed {seed}: {worst}");
    }
}
