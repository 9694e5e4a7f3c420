//! The world: a heap of events in virtual time.
//!
//! Moments are nanoseconds; simultaneous events run in the order in which they were planned, so that a seed gives one trace.

mod change;
mod exchange;
mod reports;

use super::outcome::Outcome;
use super::place::{Place, State};
use super::policy::{Edge, End, Make, Pick, Policy, Probed};
use super::spec::{Client, Spec, exponential};
use super::watch::Health;
use decision::pool::Totals;
use decision::report::Report;
use decision::retry::Budget;
use decision::units::{Dice, Timestamp, mix};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Interval between two ticks of an edge.
const TICK: u64 = 50_000_000;
/// Interval between two draws of a gap while demand is low or changes.
const REDRAW: f64 = 0.020;
/// Interval between two probes, if the policy does not decide.
const PROBE: f64 = 0.5;
/// The most attempts of one exchange.
const ATTEMPTS: usize = 4;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Draw(u32),
    Arrive(u32),
    Reach(u32),
    Served {
        place: u32,
        endpoint: u32,
        epoch: u32,
        request: u32,
    },
    Return(u32),
    Tick(u32),
    Probed {
        edge: u32,
        place: u32,
        endpoint: u32,
        rtt_ns: u64,
    },
    Loop {
        edge: u32,
        kind: u8,
    },
    Change(u32),
    Scale(u32),
    Grow {
        place: u32,
        servers: u32,
    },
    GiveUp {
        request: u32,
        birth: u64,
    },
    Second,
    Keep,
    /// A proxy tells the other proxies of its site what it observed.
    Tell(u32),
}

/// The kind of a probe.
const PROBE_KIND: u8 = u8::MAX;

#[derive(Clone, Debug)]
struct Request {
    born: u64,
    sent: u64,
    edge: u32,
    worker: u32,
    pick: Pick,
    tried: Vec<Pick>,
    sensitive: bool,
    service: u32,
    /// Index in the spec; `PROBE_KIND` for a probe.
    kind: u8,
    /// Whether the client sends the next request after the response.
    looping: bool,
    needless: bool,
    violation: bool,
    end: End,
    report: Option<Report>,
    asked_again: u8,
    abandoned: bool,
    retried: u32,
}

struct Proxy {
    edge: Edge,
    policy: Box<dyn Policy>,
    health: Health,
    budget: Budget,
    next_probe: f64,
    share: f64,
    /// What it has told the other proxies of its site.
    told: Totals,
}

/// Runs a world to its end.
#[must_use]
pub fn run(spec: &Spec, make: Make<'_>, seed: u64) -> Outcome {
    let mut world = World::new(spec, make, seed);
    world.go();
    world.outcome
}

struct World<'a> {
    spec: &'a Spec,
    now: u64,
    sequence: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    dice: Dice,
    places: Vec<Place>,
    proxies: Vec<Proxy>,
    requests: Vec<Request>,
    free: Vec<u32>,
    outcome: Outcome,
    service: super::spec::Service,
    in_flight: i64,
    order: Vec<Vec<usize>>,
    /// Past reports of the places, if edges receive reports late.
    history: Vec<(f64, Vec<Report>)>,
}

impl<'a> World<'a> {
    fn new(spec: &'a Spec, make: Make<'_>, seed: u64) -> World<'a> {
        let places: Vec<Place> = spec.places.iter().map(Place::new).collect();
        let all: f64 = spec.edges.iter().map(|edge| edge.share).sum();
        let proxy = |(index, edge): (usize, &super::spec::EdgeSpec)| Proxy {
            edge: Edge {
                index,
                in_flight: places.iter().map(|place| vec![0; place.endpoints.len()]).collect(),
                alive: places.iter().map(|place| vec![true; place.endpoints.len()]).collect(),
                rtt: edge.rtt_ms.iter().map(|ms| ms / 1e3).collect(),
            },
            policy: make(spec, index),
            health: Health::new(places.iter().map(|place| place.endpoints.len())),
            budget: Budget::new(0.2, 1, Timestamp::START),
            next_probe: 0.0,
            share: edge.share / all,
            told: Totals::default(),
        };
        let proxies: Vec<Proxy> = spec.edges.iter().enumerate().map(proxy).collect();
        let order = spec.edges.iter().map(|edge| nearest_first(&edge.rtt_ms)).collect();
        let mut world = World {
            spec,
            now: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            dice: Dice::seeded(seed),
            places,
            proxies,
            requests: Vec::new(),
            free: Vec::new(),
            outcome: Outcome {
                usd: vec![0.0; spec.places.len()],
                server_seconds: vec![0.0; spec.places.len()],
                ..Outcome::default()
            },
            service: spec.service,
            in_flight: 0,
            history: Vec::new(),
            order,
        };
        for edge in 0..spec.edges.len() as u32 {
            // Requests begin after the first probes, as behind a readiness check.
            world.at(0, Event::Tick(edge));
            world.at(400_000_000, Event::Draw(edge));
        }
        for (number, kind) in spec.kinds.iter().enumerate() {
            for client in 0..kind.closed {
                let edge = (client % spec.edges.len()) as u32;
                // Scattered over the interval.
                let at = kind.from.max(0.4) + 0.05 * client as f64;
                world.at((at * 1e9) as u64, Event::Loop { edge, kind: number as u8 });
            }
        }
        for (index, (at, _)) in spec.changes.iter().enumerate() {
            world.at((at * 1e9) as u64, Event::Change(index as u32));
        }
        for (index, place) in spec.places.iter().enumerate() {
            if let Some(scaler) = place.scaler {
                world.at((scaler.period * 1e9) as u64, Event::Scale(index as u32));
            }
        }
        world.at(1_000_000_000, Event::Second);
        world.plan_reports();
        world
    }

    fn at(&mut self, moment: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((moment, self.sequence, event)));
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.at(self.now + (seconds.max(0.0) * 1e9) as u64, event);
    }

    fn seconds(&self) -> f64 {
        self.now as f64 / 1e9
    }

    fn go(&mut self) {
        let end = (self.spec.seconds * 1e9) as u64;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            // Requests that were sent before the end are still served; no new requests begin.
            let begins = matches!(
                event,
                Event::Draw(_)
                    | Event::Arrive(_)
                    | Event::Loop { .. }
                    | Event::Tick(_)
                    | Event::Second
                    | Event::Keep
                    | Event::Tell(_)
                    | Event::Change(_)
            );
            if at > end && (begins || at > end + 30_000_000_000) {
                continue;
            }
            self.now = at;
            self.happen(event);
        }
        self.outcome.left = self.in_flight;
        for proxy in &self.proxies {
            let all: u32 = proxy.edge.in_flight.iter().flatten().sum();
            debug_assert!(self.in_flight > 0 || all == 0, "an edge kept {all} in flight");
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Draw(edge) => self.draw(edge),
            Event::Arrive(edge) => {
                self.draw(edge);
                self.ask(edge, 0);
            }
            Event::Reach(id) => self.reach(id),
            Event::Served { place, endpoint, epoch, request } => {
                self.served(place as usize, endpoint as usize, epoch, request);
            }
            Event::Return(id) => self.returned(id),
            Event::Tick(edge) => self.tick(edge),
            Event::Probed { edge, place, endpoint, rtt_ns } => {
                self.probed(edge as usize, place as usize, endpoint as usize, rtt_ns);
            }
            Event::Loop { edge, kind } => self.begin(edge, 0, kind, true),
            Event::Change(index) => self.change(self.spec.changes[index as usize].1),
            Event::Scale(place) => self.scale(place as usize),
            Event::Grow { place, servers } => self.resize(place as usize, servers as usize),
            Event::GiveUp { request, birth } => self.give_up(request, birth),
            Event::Second => self.second(),
            Event::Keep => self.keep_reports(),
            Event::Tell(edge) => self.tell(edge as usize),
        }
    }

    /// Draws the time of the next request. Exponential gaps have no memory, so a long gap is drawn anew after a
    /// while, with the rate at that time.
    fn draw(&mut self, edge: u32) {
        let rate = self.spec.demand_at(self.seconds()) * self.proxies[edge as usize].share;
        let gap = exponential(&mut self.dice) / rate.max(1e-9);
        match gap > REDRAW {
            true => self.after(REDRAW, Event::Draw(edge)),
            false => self.after(gap, Event::Arrive(edge)),
        }
    }

    fn ask(&mut self, edge: u32, asked_again: u8) {
        let kind = self.draw_kind();
        self.begin(edge, asked_again, kind, false);
    }

    /// The kind of the next request.
    fn draw_kind(&mut self) -> u8 {
        let now = self.seconds();
        let begun =
            |kind: &super::spec::RequestKind| if kind.from <= now { kind.share } else { 0.0 };
        let all: f64 = self.spec.kinds.iter().map(begun).sum();
        if self.spec.kinds.len() < 2 || all <= 0.0 {
            return 0;
        }
        let mut left = self.dice.unit() * all;
        for (number, kind) in self.spec.kinds.iter().enumerate() {
            left -= begun(kind);
            if left < 0.0 {
                return number as u8;
            }
        }
        0
    }

    /// A client sends a request.
    fn begin(&mut self, edge: u32, asked_again: u8, kind: u8, looping: bool) {
        let workers = self.spec.edges[edge as usize].workers;
        let sensitive = self.spec.sensitive > 0.0 && self.dice.unit() < self.spec.sensitive;
        let worker = self.dice.below(workers) as u32;
        let service =
            if self.spec.services > 1 { self.dice.below(self.spec.services) as u32 } else { 0 };
        let request = Request {
            sensitive,
            service,
            kind,
            looping,
            asked_again,
            ..self.request(edge, worker, Pick { place: 0, endpoint: 0 })
        };
        let id = self.keep(request);
        let proxy = &mut self.proxies[edge as usize];
        proxy.budget.request(Timestamp::from_nanos(self.now));
        let leaves = match self.spec.kinds.get(kind as usize).map(|kind| kind.client) {
            Some(Client::Leaves(after)) => Some(after),
            Some(Client::Polite | Client::Stalls(_)) | None => None,
        };
        if let Some(after) = leaves.or(self.spec.impatience.map(|impatience| impatience.timeout)) {
            self.after(after, Event::GiveUp { request: id, birth: self.now });
        }
        self.send(id);
    }

    /// A new request without a client, at the current time.
    fn request(&self, edge: u32, worker: u32, pick: Pick) -> Request {
        Request {
            born: self.now,
            sent: self.now,
            edge,
            worker,
            pick,
            tried: Vec::new(),
            sensitive: false,
            service: 0,
            kind: 0,
            looping: false,
            needless: false,
            violation: false,
            end: End::Good,
            report: None,
            asked_again: 0,
            abandoned: false,
            retried: 0,
        }
    }

    fn keep(&mut self, request: Request) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.requests[id as usize] = request;
                id
            }
            None => {
                self.requests.push(request);
                (self.requests.len() - 1) as u32
            }
        }
    }

    fn tick(&mut self, edge: u32) {
        self.after(TICK as f64 / 1e9, Event::Tick(edge));
        let now = self.seconds();
        let proxy = &mut self.proxies[edge as usize];
        proxy.health.show(&mut proxy.edge.alive, now);
        proxy.policy.tick(now, &proxy.edge);
        let due = proxy.policy.due_probes(now).unwrap_or_else(|| {
            if now < proxy.next_probe {
                return Vec::new();
            }
            proxy.next_probe = now + PROBE;
            let places = proxy.edge.alive.iter().enumerate();
            places
                .flat_map(|(place, all)| {
                    (0..all.len()).map(move |endpoint| Pick { place, endpoint })
                })
                .collect()
        });
        for pick in due {
            self.probe(edge as usize, pick);
        }
    }

    /// Sends a probe: one that only connects, or one that waits for a server like a request.
    fn probe(&mut self, edge: usize, pick: Pick) {
        let Pick { place, endpoint } = pick;
        if self.spec.probe.is_none() {
            let rtt = self.handshake(edge, place);
            let (place, endpoint, rtt_ns) = (place as u32, endpoint as u32, (rtt * 1e9) as u64);
            let edge = edge as u32;
            return self.after(rtt, Event::Probed { edge, place, endpoint, rtt_ns });
        }
        let request = Request { kind: PROBE_KIND, ..self.request(edge as u32, 0, pick) };
        let id = self.keep(request);
        let half = self.path(edge, place) / 2.0;
        self.after(half, Event::Reach(id));
    }

    /// The time of a handshake: a middlebox answers for the places behind it.
    fn handshake(&mut self, edge: usize, place: usize) -> f64 {
        self.path(edge, place) - self.spec.places[place].beyond_ms / 1e3
    }

    fn probed(&mut self, edge: usize, place: usize, endpoint: usize, rtt_ns: u64) {
        let now = self.seconds();
        self.places[place].account(now);
        let state = self.places[place].endpoints[endpoint].state;
        // A TCP probe: an endpoint that answers with errors only still accepts connections.
        let rtt = (state != State::Down).then_some((rtt_ns as f64 / 1e9, None));
        self.tell_probe(edge, Pick { place, endpoint }, rtt);
    }

    /// Sends a probe's result to a proxy: the round trip, and the response time.
    fn tell_probe(&mut self, edge: usize, pick: Pick, came: Option<(f64, Option<f64>)>) {
        let now = self.seconds();
        let report = self.report(pick.place).filter(|_| came.is_some());
        let proxy = &mut self.proxies[edge];
        if let Some((rtt, _)) = came {
            proxy.edge.rtt[pick.place] += 0.3 * (rtt - proxy.edge.rtt[pick.place]);
        }
        proxy.health.probed(pick, came.is_some());
        let (rtt, answer) = (came.map(|came| came.0), came.and_then(|came| came.1));
        proxy.policy.probed(&Probed { pick, now, rtt, answer, report });
    }

    /// The report of a place, with the age that the world gives it.
    fn report(&self, place: usize) -> Option<Report> {
        let age = self.spec.reports?;
        if age <= 0.0 {
            return Some(self.places[place].report());
        }
        let then = self.seconds() - age;
        let said = self.history.iter().rev().find(|(at, _)| *at <= then);
        said.map(|(at, reports)| Report { age: self.seconds() - at, ..reports[place] })
    }

    fn second(&mut self) {
        self.after(1.0, Event::Second);
        let load = |place: &Place| {
            let servers = place.servers().max(1) as f64;
            ((place.busy() + place.waiting()) as f64 / servers) as f32
        };
        self.outcome.load.push(self.places.iter().map(load).collect());
        for (sum, place) in self.outcome.server_seconds.iter_mut().zip(&self.places) {
            *sum += place.servers() as f64;
        }
    }
}

fn nearest_first(rtt_ms: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rtt_ms.len()).collect();
    order.sort_by(|a, b| rtt_ms[*a].total_cmp(&rtt_ms[*b]));
    order
}

/// The moment `seconds` after the start, as a [`Timestamp`](decision::units::Timestamp).
#[must_use]
pub fn moment(seconds: f64) -> Timestamp {
    Timestamp::START.plus(Duration::from_secs_f64(seconds.max(0.0)))
}

/// Independent seeds for the parts of one world.
#[must_use]
pub fn part(seed: u64, number: usize) -> u64 {
    mix(seed ^ mix(number as u64 + 1))
}
