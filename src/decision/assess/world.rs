//! A small world in virtual time that drives the production fold and pick: workers with slots,
//! sweeps each 50 ms, clusters with servers and first-come queues, Poisson arrivals.

use super::*;
use crate::change::Change;
use crate::ledger::Ledger;
use crate::permit::Permitted;
use crate::plan::*;
use crate::plan::{ClassIndex, ClusterIndex, ServiceIndex};
use crate::signal::Signals;
use crate::signal::Why;
use crate::spill::{Credits, pick};
use crate::units::Dice;
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
    /// Whether the places report their queues.
    reports: bool,
    /// Endpoints that were probed, with their places.
    probed: BTreeMap<u32, usize>,
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
            reports: false,
            probed: BTreeMap::new(),
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
            self.probed.insert(order.endpoint, order.cluster.0);
            self.probe(order.endpoint, order.cluster.0);
        }
        // A report is used for a quarter of a second: those that report are asked at each sweep.
        for (endpoint, place) in if self.reports { self.probed.clone() } else { BTreeMap::new() } {
            self.probe(endpoint, place);
        }
        self.signals = self.assessor.sweep(&mut &mut self.ledger, now);
        self.spill_max = self.spill_max.max(self.signals.classes[ClassIndex(0)].spill);
        self.at(50 * MS, Happening::Sweep);
    }

    fn probe(&mut self, endpoint: u32, place: usize) {
        let place = &self.places[place];
        let event = match place.up {
            true => Event::ProbeSucceeded {
                endpoint,
                rtt: Duration::from_nanos(if place.hidden { MS / 5 } else { place.rtt }),
                answer: place.hidden.then(|| Duration::from_nanos(place.rtt + 3 * MS)),
                report: self.reports.then(|| Report {
                    queue: place.queue.len() as f64 * self.service / place.servers as f64,
                    service: self.service,
                    in_flight: (place.busy + place.queue.len()) as f64,
                    ..Report::default()
                }),
            },
            false => Event::ProbeFailed { endpoint, cause: Cause::Refused },
        };
        self.assessor.fold(event, Timestamp::from_nanos(self.now));
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.seed.unit()).ln() * mean * 1e9) as u64
    }

    fn run(&mut self, seconds: u64) {
        self.served.fill(0);
        self.latencies.clear();
        self.whys.clear();
        self.spill_max = 0.0;
        self.pass(seconds * 1_000);
    }

    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds * MS;
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

mod changes;
mod choices;
mod congestion;
