//! One cluster's endpoints in virtual time, each with its own queue and servers: whether the choice among
//! them is fair and fast, and follows changes.
//!
//! The production fold and pick run here as in a proxy: workers with their own turns, a sweep each 50 ms,
//! HTTP probes in the same queues. The baselines have the inputs that a proxy would have.
//!
//! # Units
//! Moments and spans are seconds as `f64`; the heap orders them as nanoseconds.
//!
//! * [`Setup`] describes a world, [`run`] runs it, [`Outcome`] is the result.
//! * [`chooser`] has the policies, [`suite`] the scenarios and their requirements.

pub mod chooser;
pub mod suite;

use self::chooser::Chooser;
use decision::units::{Dice, mix};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The description of a world.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Requests a second.
    pub rate: f64,
    /// Service time of a request.
    pub service: Service,
    /// Workers of the proxy.
    pub workers: usize,
    /// Duration.
    pub seconds: f64,
    /// Events: the time, the endpoint, and the change.
    pub changes: Vec<(f64, usize, Change)>,
}

/// An endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Configured weight.
    pub weight: u16,
    /// Requests served at once.
    pub servers: usize,
    /// Speed relative to other endpoints.
    pub speed: f64,
}

/// Service time of a request, without its queue.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// Exponential, with this mean.
    Exponential(f64),
    /// Even, within a tenth of this mean.
    Even(f64),
    /// A twentieth of the requests take 21 times as long as the others, which take this time.
    Mixed(f64),
}

impl Service {
    /// The mean.
    #[must_use]
    pub fn mean(self) -> f64 {
        match self {
            Service::Exponential(mean) | Service::Even(mean) => mean,
            Service::Mixed(quick) => quick * 2.0,
        }
    }

    fn draw(self, dice: &mut Dice) -> f64 {
        let unit = dice.unit();
        match self {
            Service::Exponential(mean) => -(1.0 - unit).ln() * mean,
            Service::Even(mean) => mean * (0.9 + 0.2 * unit),
            Service::Mixed(quick) if unit < 0.05 => quick * 21.0,
            Service::Mixed(quick) => quick * (0.9 + 0.2 * dice.unit()),
        }
    }
}

/// A change of an endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Factor of the service times that begin from now on.
    Slow(f64),
    /// The endpoint dies: its exchanges are reset, new connections are refused.
    Dies,
    /// The endpoint returns, empty.
    Returns,
}

/// One exchange as observed by its client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// When the exchange was sent to its last endpoint.
    pub sent: f64,
    /// That endpoint.
    pub endpoint: usize,
    /// The time since its arrival.
    pub latency: f64,
    /// Whether the exchange was answered.
    pub good: bool,
}

/// The result of a world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// All exchanges that ended.
    pub records: Vec<Record>,
    /// When each endpoint was ejected and returned, as reported by the proxy; only with the production policy.
    pub changes: Vec<(f64, usize, bool)>,
}

impl Outcome {
    /// Exchanges sent from `from` until `to`.
    pub fn between(&self, from: f64, to: f64) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| (from..to).contains(&record.sent))
    }

    /// The share of exchanges in a span that went to an endpoint.
    #[must_use]
    pub fn share(&self, endpoint: usize, from: f64, to: f64) -> f64 {
        let there = self.between(from, to).filter(|record| record.endpoint == endpoint).count();
        there as f64 / self.between(from, to).count().max(1) as f64
    }

    /// A quantile of the latencies in a span.
    #[must_use]
    pub fn quantile(&self, part: f64, from: f64, to: f64) -> f64 {
        let mut latencies: Vec<f64> = self.between(from, to).map(|record| record.latency).collect();
        latencies.sort_unstable_by(f64::total_cmp);
        let at = (latencies.len() as f64 * part) as usize;
        latencies.get(at.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

/// Interval between two sweeps.
const SWEEP: f64 = 0.050;
/// Half of the round trip.
const HALF: f64 = 0.0005;
/// Service time of a probe, and its timeout.
const PROBE_SERVICE: f64 = 0.001;
const PROBE_TIMEOUT: f64 = 0.4;
/// The most attempts of one exchange.
const ATTEMPTS: usize = 3;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Arrive,
    Reach(usize),
    Served { endpoint: usize, epoch: u32, job: usize },
    Back(usize),
    Late(usize),
    Sweep,
    Change(usize),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With an answer.
    Good,
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
}

#[derive(Clone, Debug)]
struct Job {
    probe: bool,
    born: f64,
    sent: f64,
    worker: usize,
    endpoint: usize,
    tried: Vec<usize>,
    end: End,
    over: bool,
}

/// The true state of an endpoint.
#[derive(Clone, Debug)]
pub struct There {
    spec: Endpoint,
    slow: f64,
    up: bool,
    epoch: u32,
    busy: Vec<usize>,
    queue: VecDeque<usize>,
}

struct World<'a> {
    setup: &'a Setup,
    now: f64,
    sequence: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    dice: Dice,
    jobs: Vec<Job>,
    free: Vec<usize>,
    there: Vec<There>,
    in_flight: Vec<u32>,
    chooser: Box<dyn Chooser>,
    outcome: Outcome,
}

/// Runs a world with a policy, by name: see [`chooser::NAMES`].
#[must_use]
pub fn run(setup: &Setup, policy: &str, seed: u64) -> Outcome {
    let fresh = |spec: &Endpoint| There {
        spec: *spec,
        slow: 1.0,
        up: true,
        epoch: 0,
        busy: Vec::new(),
        queue: VecDeque::new(),
    };
    let mut world = World {
        setup,
        now: 0.0,
        sequence: 0,
        heap: BinaryHeap::new(),
        dice: Dice::seeded(mix(seed)),
        jobs: Vec::new(),
        free: Vec::new(),
        there: setup.endpoints.iter().map(fresh).collect(),
        in_flight: vec![0; setup.endpoints.len()],
        chooser: chooser::named(policy, setup, seed),
        outcome: Outcome::default(),
    };
    for (index, (at, ..)) in setup.changes.iter().enumerate() {
        world.after(*at, Event::Change(index));
    }
    world.after(0.0, Event::Sweep);
    world.after(1.0, Event::Arrive);
    while let Some(Reverse((at, _, event))) = world.heap.pop() {
        world.now = at as f64 / 1e9;
        if world.now > setup.seconds {
            break;
        }
        world.happen(event);
    }
    world.outcome.changes = world.chooser.take_changes();
    world.outcome
}

impl World<'_> {
    fn after(&mut self, span: f64, event: Event) {
        self.sequence += 1;
        let at = ((self.now + span.max(0.0)) * 1e9) as u64;
        self.heap.push(Reverse((at, self.sequence, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Reach(job) => self.reach(job),
            Event::Served { endpoint, epoch, job } => self.served(endpoint, epoch, job),
            Event::Back(job) => self.back(job),
            Event::Late(job) => self.late(job),
            Event::Sweep => self.sweep(),
            Event::Change(index) => self.change(index),
        }
    }

    fn arrive(&mut self) {
        let gap = -(1.0 - self.dice.unit()).ln() / self.setup.rate;
        self.after(gap, Event::Arrive);
        let worker = self.dice.below(self.setup.workers);
        let job = self.add(Job {
            probe: false,
            born: self.now,
            sent: self.now,
            worker,
            endpoint: 0,
            tried: Vec::new(),
            end: End::Good,
            over: false,
        });
        self.send(job);
    }

    fn add(&mut self, job: Job) -> usize {
        match self.free.pop() {
            Some(at) => {
                self.jobs[at] = job;
                at
            }
            None => {
                self.jobs.push(job);
                self.jobs.len() - 1
            }
        }
    }

    fn send(&mut self, job: usize) {
        let Job { worker, tried, .. } = &self.jobs[job];
        let ask = chooser::Ask {
            now: self.now,
            worker: *worker,
            tried,
            in_flight: &self.in_flight,
            truth: &self.there,
            service: self.setup.service.mean(),
        };
        let picked = self.chooser.pick(&ask);
        self.in_flight[picked] += 1;
        let job_there = &mut self.jobs[job];
        (job_there.endpoint, job_there.sent) = (picked, self.now);
        self.after(HALF, Event::Reach(job));
    }

    fn reach(&mut self, job: usize) {
        let endpoint = self.jobs[job].endpoint;
        if !self.there[endpoint].up {
            self.jobs[job].end = End::Refused;
            self.after(HALF, Event::Back(job));
            return;
        }
        self.there[endpoint].queue.push_back(job);
        self.serve(endpoint);
    }

    fn serve(&mut self, endpoint: usize) {
        while self.there[endpoint].busy.len() < self.there[endpoint].spec.servers {
            let Some(job) = self.there[endpoint].queue.pop_front() else { return };
            let work = match self.jobs[job].probe {
                true => PROBE_SERVICE,
                false => self.setup.service.draw(&mut self.dice),
            };
            let there = &mut self.there[endpoint];
            there.busy.push(job);
            let (span, epoch) = (work * there.slow / there.spec.speed, there.epoch);
            self.after(span, Event::Served { endpoint, epoch, job });
        }
    }

    fn served(&mut self, endpoint: usize, epoch: u32, job: usize) {
        let there = &mut self.there[endpoint];
        if there.epoch != epoch {
            return;
        }
        there.busy.retain(|other| *other != job);
        self.after(HALF, Event::Back(job));
        self.serve(endpoint);
    }

    fn back(&mut self, job: usize) {
        let Job { probe, born, sent, endpoint, end, over, .. } = self.jobs[job];
        if probe {
            if !over {
                let took = (end == End::Good).then_some(self.now - sent);
                self.chooser.probed(endpoint, took, self.now);
                // The server becomes free only when the abandoned request would have ended.
                self.jobs[job].over = true;
            }
            return;
        }
        self.in_flight[endpoint] -= 1;
        self.chooser.ended(endpoint, end, self.now - sent, self.now);
        if end != End::Good {
            let again = &mut self.jobs[job];
            again.tried.push(endpoint);
            again.end = End::Good;
            if again.tried.len() < ATTEMPTS {
                self.send(job);
                return;
            }
        }
        let good = end == End::Good;
        let record = Record { sent, endpoint, latency: self.now - born, good };
        self.outcome.records.push(record);
        self.free.push(job);
    }

    fn late(&mut self, job: usize) {
        let Job { endpoint, over, .. } = self.jobs[job];
        if !over {
            self.jobs[job].over = true;
            self.chooser.probed(endpoint, None, self.now);
        }
    }

    fn sweep(&mut self) {
        self.after(SWEEP, Event::Sweep);
        for endpoint in self.chooser.sweep(self.now) {
            let job = self.add(Job {
                probe: true,
                born: self.now,
                sent: self.now,
                worker: 0,
                endpoint,
                tried: Vec::new(),
                end: End::Good,
                over: false,
            });
            self.after(HALF, Event::Reach(job));
            self.after(PROBE_TIMEOUT, Event::Late(job));
        }
    }

    fn change(&mut self, index: usize) {
        let (_, endpoint, change) = self.setup.changes[index];
        let there = &mut self.there[endpoint];
        match change {
            Change::Slow(factor) => there.slow = factor,
            Change::Returns => there.up = true,
            Change::Dies => {
                there.up = false;
                there.epoch += 1;
                let lost: Vec<usize> = there.busy.drain(..).chain(there.queue.drain(..)).collect();
                for job in lost {
                    self.jobs[job].end = End::Reset;
                    self.after(HALF, Event::Back(job));
                }
            }
        }
    }
}
