//! The world: a heap of things to happen, each at its moment, in virtual time.
//!
//! Moments are nanoseconds; ties happen in the order they were planned, so that a seed gives one trace.

use super::outcome::{NOWHERE, Outcome, Record};
use super::place::{Place, State};
use super::policy::{Answer, Ask, Edge, End, Make, Pick, Policy};
use super::spec::{Change, Spec, exponential, normal};
use super::watch::Health;
use crate::decision::plan::Kind as PlaceKind;
use crate::decision::report::Report;
use crate::decision::retry::{self, Budget, Kind};
use crate::decision::units::{Dice, Timestamp, mix};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Between two ticks of an edge.
const TICK: u64 = 50_000_000;
/// Between two draws of a gap while demand is low or changes.
const REDRAW: f64 = 0.020;
/// Between two probes, where the policy does not say.
const PROBE: f64 = 0.5;
/// Attempts of one exchange, at most.
const ATTEMPTS: usize = 4;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Draw(u32),
    Arrive(u32),
    Reach(u32),
    Served { place: u32, endpoint: u32, epoch: u32, request: u32 },
    Return(u32),
    Tick(u32),
    Probed { edge: u32, place: u32, endpoint: u32, rtt_ns: u64 },
    Change(u32),
    Scale(u32),
    Grow { place: u32, servers: u32 },
    GiveUp { request: u32, birth: u64 },
    Second,
    Keep,
}

#[derive(Clone, Debug)]
struct Request {
    born: u64,
    sent: u64,
    edge: u32,
    worker: u32,
    pick: Pick,
    tried: Vec<Pick>,
    sensitive: bool,
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
    /// What places said, where it is heard late.
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
            // Requests begin once the first probes are over, as behind a readiness check.
            world.at(0, Event::Tick(edge));
            world.at(400_000_000, Event::Draw(edge));
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
        if spec.reports.is_some_and(|age| age > 0.0) {
            world.at(0, Event::Keep);
        }
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
            // What was asked in time is served to its end; nothing new begins.
            let begins = matches!(
                event,
                Event::Draw(_)
                    | Event::Arrive(_)
                    | Event::Tick(_)
                    | Event::Second
                    | Event::Keep
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
            Event::Change(index) => self.change(self.spec.changes[index as usize].1),
            Event::Scale(place) => self.scale(place as usize),
            Event::Grow { place, servers } => self.resize(place as usize, servers as usize),
            Event::GiveUp { request, birth } => self.give_up(request, birth),
            Event::Second => self.second(),
            Event::Keep => self.keep_reports(),
        }
    }

    /// Draws when the next request comes. Exponential gaps remember nothing: a long one is drawn anew
    /// after a while, at the rate of then.
    fn draw(&mut self, edge: u32) {
        let rate = self.spec.demand_at(self.seconds()) * self.proxies[edge as usize].share;
        let gap = exponential(&mut self.dice) / rate.max(1e-9);
        match gap > REDRAW {
            true => self.after(REDRAW, Event::Draw(edge)),
            false => self.after(gap, Event::Arrive(edge)),
        }
    }

    fn ask(&mut self, edge: u32, asked_again: u8) {
        let workers = self.spec.edges[edge as usize].workers;
        let sensitive = self.spec.sensitive > 0.0 && self.dice.unit() < self.spec.sensitive;
        let worker = self.dice.below(workers) as u32;
        let request = Request {
            born: self.now,
            sent: self.now,
            edge,
            worker,
            pick: Pick { place: 0, endpoint: 0 },
            tried: Vec::new(),
            sensitive,
            needless: false,
            violation: false,
            end: End::Good,
            report: None,
            asked_again,
            abandoned: false,
            retried: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.requests[id as usize] = request;
                id
            }
            None => {
                self.requests.push(request);
                (self.requests.len() - 1) as u32
            }
        };
        let proxy = &mut self.proxies[edge as usize];
        proxy.budget.request(Timestamp::from_nanos(self.now));
        if let Some(impatience) = self.spec.impatience {
            self.after(impatience.timeout, Event::GiveUp { request: id, birth: self.now });
        }
        self.send(id);
    }

    fn send(&mut self, id: u32) {
        let now = self.seconds();
        let request = &self.requests[id as usize];
        let (edge, sensitive) = (request.edge as usize, request.sensitive);
        let may = |place: &usize| !sensitive || self.spec.places[*place].kind == PlaceKind::Idc;
        let permitted: Vec<usize> = self.order[edge].iter().copied().filter(may).collect();
        let proxy = &mut self.proxies[edge];
        let ask = Ask {
            now,
            worker: request.worker as usize,
            edge: &proxy.edge,
            permitted: &permitted,
            sensitive,
            tried: &request.tried,
            truth: &self.places,
            spec: self.spec,
        };
        let picked = proxy.policy.pick(&ask, &mut self.dice);
        let Some(pick) = picked else {
            return self.over(id, false);
        };
        proxy.edge.in_flight[pick.place][pick.endpoint] += 1;
        self.in_flight += 1;
        self.outcome.attempts += 1;
        let nearest = permitted.iter().copied().find(|place| self.places[*place].is_up());
        let idle = |place: usize| self.places[place].busy() < self.places[place].servers();
        let needless = nearest.is_some_and(|nearest| pick.place != nearest && idle(nearest));
        let request = &mut self.requests[id as usize];
        (request.pick, request.sent, request.needless) = (pick, self.now, needless);
        request.violation |= sensitive && self.spec.places[pick.place].kind != PlaceKind::Idc;
        let half = self.path(edge, pick.place) / 2.0;
        self.after(half, Event::Reach(id));
    }

    /// The time there and back, this time.
    fn path(&mut self, edge: usize, place: usize) -> f64 {
        let ms = self.spec.edges[edge].rtt_ms[place] + self.places[place].wan_ms;
        let sigma = self.spec.jitter;
        ms / 1e3 * (sigma * normal(&mut self.dice) - sigma * sigma / 2.0).exp()
    }

    fn reach(&mut self, id: u32) {
        let now = self.seconds();
        let pick = self.requests[id as usize].pick;
        let place = &mut self.places[pick.place];
        place.account(now);
        match place.endpoints[pick.endpoint].state {
            State::Down => self.turn_back(id, End::Refused, 0.0),
            State::Faulty => self.turn_back(id, End::Status, 0.001),
            State::Up => {
                place.arrived();
                let endpoint = &mut place.endpoints[pick.endpoint];
                if endpoint.busy < endpoint.servers.1 {
                    endpoint.busy += 1;
                    self.serve(id);
                } else {
                    endpoint.queue.push_back(id);
                }
            }
        }
    }

    fn turn_back(&mut self, id: u32, end: End, after: f64) {
        let pick = self.requests[id as usize].pick;
        let edge = self.requests[id as usize].edge as usize;
        self.requests[id as usize].end = end;
        self.requests[id as usize].report = None;
        let half = self.path(edge, pick.place) / 2.0;
        self.after(after + half, Event::Return(id));
    }

    fn serve(&mut self, id: u32) {
        let pick = self.requests[id as usize].pick;
        let place = &self.places[pick.place];
        let epoch = place.endpoints[pick.endpoint].epoch;
        let time = place.service(pick.endpoint, &self.service, &mut self.dice);
        let (place, endpoint) = (pick.place as u32, pick.endpoint as u32);
        self.after(time, Event::Served { place, endpoint, epoch, request: id });
    }

    fn served(&mut self, place: usize, endpoint: usize, epoch: u32, id: u32) {
        if self.places[place].endpoints[endpoint].epoch != epoch {
            return;
        }
        let now = self.seconds();
        self.places[place].account(now);
        self.places[place].completed();
        self.outcome.usd[place] += self.spec.places[place].usd_per_request;
        let there = &mut self.places[place].endpoints[endpoint];
        there.busy -= 1;
        self.fill(place, endpoint);
        let report = self.report(place);
        let request = &mut self.requests[id as usize];
        (request.end, request.report) = (End::Good, report);
        let edge = request.edge as usize;
        let half = self.path(edge, place) / 2.0;
        self.after(half, Event::Return(id));
    }

    fn returned(&mut self, id: u32) {
        let now = self.seconds();
        let request = self.requests[id as usize].clone();
        let Pick { place, endpoint } = request.pick;
        if request.abandoned {
            self.free.push(id);
            return;
        }
        self.in_flight -= 1;
        let proxy = &mut self.proxies[request.edge as usize];
        proxy.edge.in_flight[place][endpoint] -= 1;
        let answer = Answer {
            pick: request.pick,
            worker: request.worker as usize,
            now,
            latency: (self.now - request.sent) as f64 / 1e9,
            end: request.end,
            report: request.report,
            sensitive: request.sensitive,
        };
        proxy.policy.answered(&answer);
        proxy.health.answered(request.pick, request.end, now);
        proxy.health.show(&mut proxy.edge.alive, now);
        let kind = match request.end {
            End::Good | End::Abandoned => return self.over(id, true),
            End::Refused => Kind::Unsent,
            End::Reset => Kind::Died,
            End::Status => Kind::GatewayStatus,
        };
        let asked = retry::Request {
            idempotent: true,
            replayable: true,
            retried: request.retried,
            retries_max: 1,
        };
        let granted = proxy.budget.grant(kind, asked, Timestamp::from_nanos(self.now));
        let request = &mut self.requests[id as usize];
        request.tried.push(request.pick);
        request.retried += u32::from(kind != Kind::Unsent);
        if granted && request.tried.len() < ATTEMPTS { self.send(id) } else { self.over(id, false) }
    }

    /// The exchange is over; its client knows.
    fn over(&mut self, id: u32, ok: bool) {
        let request = &self.requests[id as usize];
        let shed = !ok && request.sent == request.born && request.tried.is_empty();
        let place = if shed { NOWHERE } else { request.pick.place as u8 };
        self.outcome.records.push(Record {
            at: (request.born as f64 / 1e9) as f32,
            latency: ((self.now - request.born) as f64 / 1e9) as f32,
            place,
            edge: request.edge as u16,
            ok,
            needless: request.needless,
            violation: request.violation,
        });
        self.requests[id as usize].born = u64::MAX;
        self.free.push(id);
    }

    fn give_up(&mut self, id: u32, birth: u64) {
        let Some(impatience) = self.spec.impatience else { return };
        let request = &mut self.requests[id as usize];
        if request.born != birth || request.abandoned {
            return;
        }
        let (edge, again) = (request.edge, request.asked_again);
        request.abandoned = true;
        let answer = Answer {
            pick: request.pick,
            worker: request.worker as usize,
            now: self.now as f64 / 1e9,
            latency: (self.now - request.sent) as f64 / 1e9,
            end: End::Abandoned,
            report: None,
            sensitive: request.sensitive,
        };
        // Its proxy knows at once; the place only when its turn comes.
        let proxy = &mut self.proxies[edge as usize];
        proxy.edge.in_flight[answer.pick.place][answer.pick.endpoint] -= 1;
        proxy.policy.answered(&answer);
        self.in_flight -= 1;
        let request = &self.requests[id as usize];
        let record = Record {
            at: (birth as f64 / 1e9) as f32,
            latency: impatience.timeout as f32,
            place: request.pick.place as u8,
            edge: edge as u16,
            ok: false,
            needless: false,
            violation: false,
        };
        if again < impatience.retries {
            self.ask(edge, again + 1);
        } else {
            self.outcome.records.push(record);
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
        for Pick { place, endpoint } in due {
            let rtt = self.path(edge as usize, place);
            let (place, endpoint, rtt_ns) = (place as u32, endpoint as u32, (rtt * 1e9) as u64);
            self.after(rtt, Event::Probed { edge, place, endpoint, rtt_ns });
        }
    }

    fn probed(&mut self, edge: usize, place: usize, endpoint: usize, rtt_ns: u64) {
        let now = self.seconds();
        self.places[place].account(now);
        let state = self.places[place].endpoints[endpoint].state;
        // A tcp probe: an endpoint that answers nothing but errors still accepts.
        let rtt = (state != State::Down).then_some(rtt_ns as f64 / 1e9);
        let report = self.report(place).filter(|_| rtt.is_some());
        let proxy = &mut self.proxies[edge];
        if let Some(rtt) = rtt {
            proxy.edge.rtt[place] += 0.3 * (rtt - proxy.edge.rtt[place]);
        }
        proxy.health.probed(Pick { place, endpoint }, rtt.is_some());
        proxy.policy.probed(Pick { place, endpoint }, now, rtt, report);
    }

    fn change(&mut self, change: Change) {
        let now = self.seconds();
        match change {
            Change::Servers { place, factor } => {
                self.places[place].account(now);
                for endpoint in 0..self.places[place].endpoints.len() {
                    let by_spec = self.places[place].endpoints[endpoint].servers.0;
                    self.places[place].endpoints[endpoint].servers.1 =
                        (by_spec as f64 * factor).round() as usize;
                    self.fill(place, endpoint);
                }
            }
            Change::Slow { place, factor } => self.places[place].slow = factor,
            Change::Down(place) => self.fall(place),
            Change::Up(place) => {
                for endpoint in &mut self.places[place].endpoints {
                    endpoint.state = State::Up;
                }
            }
            Change::Faulty { place, endpoints, on } => {
                for endpoint in self.places[place].endpoints.iter_mut().take(endpoints) {
                    endpoint.state = if on { State::Faulty } else { State::Up };
                }
            }
            Change::Wan { place, ms } => self.places[place].wan_ms = ms,
            Change::Mix(service) => self.service = service,
        }
    }

    /// A place is gone: what it had is lost.
    fn fall(&mut self, place: usize) {
        let now = self.seconds();
        self.places[place].account(now);
        let mut lost = Vec::new();
        for endpoint in &mut self.places[place].endpoints {
            endpoint.state = State::Down;
            endpoint.epoch += 1;
            endpoint.busy = 0;
            lost.extend(endpoint.queue.drain(..));
        }
        // Whoever was being served is found among the events that will not happen.
        let served: Vec<u32> = self
            .events
            .iter()
            .filter_map(|Reverse((_, _, event))| match event {
                Event::Served { place: there, epoch, endpoint, request }
                    if *there as usize == place
                        && *epoch + 1 == self.places[place].endpoints[*endpoint as usize].epoch =>
                {
                    Some(*request)
                }
                _ => None,
            })
            .collect();
        lost.extend(served);
        lost.sort_unstable();
        for id in lost {
            self.turn_back(id, End::Reset, 0.0);
        }
    }

    /// Lets waiting requests in where servers are free.
    fn fill(&mut self, place: usize, endpoint: usize) {
        loop {
            let there = &mut self.places[place].endpoints[endpoint];
            if there.busy >= there.servers.1 {
                return;
            }
            let Some(next) = there.queue.pop_front() else { return };
            if self.requests[next as usize].abandoned {
                // Its connection was closed with its client's: nobody serves it.
                self.turn_back(next, End::Abandoned, 0.0);
                continue;
            }
            there.busy += 1;
            self.serve(next);
        }
    }

    fn scale(&mut self, place: usize) {
        let Some(scaler) = self.spec.places[place].scaler else { return };
        if self.seconds() < self.spec.seconds {
            self.after(scaler.period, Event::Scale(place as u32));
        }
        let rps: f64 = self.proxies.iter().map(|proxy| proxy.policy.wanted(place)).sum();
        if let Some(servers) = scaler.decide(&self.places[place], rps * self.service.mean()) {
            let servers = servers as u32;
            self.after(scaler.delay, Event::Grow { place: place as u32, servers });
        }
    }

    fn resize(&mut self, place: usize, servers: usize) {
        let now = self.seconds();
        self.places[place].account(now);
        let there = &mut self.places[place].endpoints[0];
        there.servers.1 = there.servers.1.max(servers);
        self.fill(place, 0);
    }

    /// What a place says of itself, as old as the world has it.
    fn report(&self, place: usize) -> Option<Report> {
        let age = self.spec.reports?;
        if age <= 0.0 {
            return Some(self.places[place].report());
        }
        let then = self.seconds() - age;
        let said = self.history.iter().rev().find(|(at, _)| *at <= then);
        said.map(|(at, reports)| Report { age: self.seconds() - at, ..reports[place] })
    }

    /// Keeps what places say, for those who hear of it late.
    fn keep_reports(&mut self) {
        let now = self.seconds();
        for place in &mut self.places {
            place.account(now);
        }
        self.history.push((now, self.places.iter().map(Place::report).collect()));
        self.after(0.1, Event::Keep);
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

/// The moment `seconds` after the start, as the decisions know it.
#[must_use]
pub fn moment(seconds: f64) -> Timestamp {
    Timestamp::START.plus(Duration::from_secs_f64(seconds.max(0.0)))
}

/// Seeds of parts of one world, apart from each other.
#[must_use]
pub fn part(seed: u64, number: usize) -> u64 {
    mix(seed ^ mix(number as u64 + 1))
}
