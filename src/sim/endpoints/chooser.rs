//! Policies that choose among the endpoints of one cluster: the production policy, and baselines.

use super::{End, Setup, There};
use decision::assess::{Answers, Assessor, Event, Found, News, Samples};
use decision::endpoint::{self, Chance, Turns, Wheel};
use decision::exchange::Exchanges;
use decision::health::Cause;
use decision::index::EndpointIndex;
use decision::load::Tally;
use decision::plan::{
    Address, ClassIndex, Cluster, ClusterIndex, EndpointPolicy, Kind, Plan, Probe, ProbeKind,
};
use decision::shed::PRIORITIES;
use decision::signal::Signals;
use decision::units::{Dice, Timestamp, mix};
use std::sync::Arc;
use std::time::Duration;

/// The names of the policies.
pub const NAMES: [&str; 5] = ["tidegate", "round_robin", "least_request", "peak_ewma", "prequal"];

/// The inputs of a choice.
pub struct Ask<'a> {
    /// This moment.
    pub now: f64,
    /// The worker.
    pub worker: usize,
    /// Endpoints that failed for this exchange.
    pub tried: &'a [usize],
    /// The proxy's exchanges in flight at each endpoint.
    pub in_flight: &'a [u32],
    /// The true state of the endpoints: for policies that probe endpoints, and for their health.
    pub truth: &'a [There],
    /// Mean service time, for policies that probe the endpoints.
    pub service: f64,
}

impl Ask<'_> {
    /// Endpoints that a baseline may use: baselines know immediately which endpoints are up.
    fn open(&self) -> Vec<usize> {
        let all = 0..self.truth.len();
        let open: Vec<usize> = all
            .clone()
            .filter(|index| self.truth[*index].up && !self.tried.contains(index))
            .collect();
        if open.is_empty() { all.collect() } else { open }
    }
}

/// A policy.
pub trait Chooser {
    /// The endpoint for an exchange.
    fn pick(&mut self, ask: &Ask<'_>) -> usize;
    /// An attempt ended after `took` seconds.
    fn ended(&mut self, _endpoint: usize, _end: End, _took: f64, _now: f64) {}
    /// A probe was answered after so many seconds, or failed.
    fn probed(&mut self, _endpoint: usize, _took: Option<f64>, _now: f64) {}
    /// The regular sweep; returns the endpoints to be probed.
    fn sweep(&mut self, _now: f64) -> Vec<usize> {
        Vec::new()
    }
    /// When endpoints were ejected and returned, as reported by the policy.
    fn take_changes(&mut self) -> Vec<(f64, usize, bool)> {
        Vec::new()
    }
}

/// The policy of this name, which is one of [`NAMES`]; the production policy for any other name.
#[must_use]
pub fn named(name: &str, setup: &Setup, seed: u64) -> Box<dyn Chooser> {
    let dice = Dice::seeded(mix(seed ^ 0x5eed));
    let weights: Vec<f64> = setup.endpoints.iter().map(|one| f64::from(one.weight)).collect();
    match name {
        "round_robin" => {
            let turns = (0..setup.workers as u64).map(|worker| mix(seed ^ worker) >> 32).collect();
            Box::new(RoundRobin { wheel: Wheel::new(weights.iter().copied()), turns })
        }
        "least_request" => Box::new(LeastRequest { dice, weights }),
        "peak_ewma" => Box::new(PeakEwma {
            dice,
            latency: vec![0.0; weights.len()],
            since: vec![(0.0, 0.0); weights.len()],
            weights,
        }),
        "prequal" => Box::new(Prequal { dice, pool: Vec::new(), history: Vec::new() }),
        _ => Box::new(Engine::new(setup, seed)),
    }
}

struct RoundRobin {
    wheel: Wheel,
    turns: Vec<u64>,
}

impl Chooser for RoundRobin {
    fn pick(&mut self, ask: &Ask<'_>) -> usize {
        let open = ask.open();
        self.turns[ask.worker] = self.turns[ask.worker].wrapping_add(1);
        open[self.wheel.at(self.turns[ask.worker], open.len())]
    }
}

/// Of two endpoints drawn at random, the one with fewer exchanges in flight for its weight.
struct LeastRequest {
    dice: Dice,
    weights: Vec<f64>,
}

impl Chooser for LeastRequest {
    fn pick(&mut self, ask: &Ask<'_>) -> usize {
        let load = |at: usize| f64::from(ask.in_flight[at] + 1) / self.weights[at];
        lesser_of_two(&ask.open(), &mut self.dice, load)
    }
}

fn lesser_of_two(open: &[usize], dice: &mut Dice, cost: impl Fn(usize) -> f64) -> usize {
    if open.len() < 2 {
        return open[0];
    }
    let (first, second) = dice.two_below(open.len());
    let (first, second) = (open[first], open[second]);
    if cost(first) <= cost(second) { first } else { second }
}

/// Peak-EWMA latency times exchanges in flight, the lesser of two drawn.
struct PeakEwma {
    dice: Dice,
    weights: Vec<f64>,
    latency: Vec<f64>,
    since: Vec<(f64, f64)>,
}

impl Chooser for PeakEwma {
    fn pick(&mut self, ask: &Ask<'_>) -> usize {
        let cost = |at: usize| {
            self.latency[at].max(0.001) * f64::from(ask.in_flight[at] + 1) / self.weights[at]
        };
        lesser_of_two(&ask.open(), &mut self.dice, cost)
    }

    fn ended(&mut self, endpoint: usize, end: End, took: f64, _now: f64) {
        if end == End::Good {
            let (count, sum) = self.since[endpoint];
            self.since[endpoint] = (count + 1.0, sum + took);
        }
    }

    fn sweep(&mut self, _now: f64) -> Vec<usize> {
        for (latency, since) in self.latency.iter_mut().zip(&mut self.since) {
            let (count, sum) = std::mem::take(since);
            if count > 0.0 {
                let (mean, faded) = (sum / count, *latency * (-super::SWEEP / 10.0).exp());
                *latency = mean.max(faded + (mean - faded) * (1.0 - (-super::SWEEP).exp()));
            }
        }
        Vec::new()
    }
}

/// Prequal (NSDI 2024) for one cluster: a pool of 16 answers, three probes a request, hot above the 0.6
/// quantile of the load; picks the fastest of the cold endpoints.
struct Prequal {
    dice: Dice,
    pool: Vec<PooledProbe>,
    history: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct PooledProbe {
    endpoint: usize,
    load: f64,
    latency: f64,
    back: f64,
}

impl Chooser for Prequal {
    fn pick(&mut self, ask: &Ask<'_>) -> usize {
        let open = ask.open();
        for _ in 0..3 {
            let endpoint = open[self.dice.below(open.len())];
            let there = &ask.truth[endpoint];
            let servers = there.spec.servers as f64;
            let (busy, waiting) = (there.busy.len() as f64, there.queue.len() as f64);
            let latency = ask.service * there.slow / there.spec.speed * (1.0 + waiting / servers);
            let back = ask.now + 2.0 * super::HALF;
            self.pool.push(PooledProbe {
                endpoint,
                load: (busy + waiting) / servers,
                latency,
                back,
            });
        }
        self.pool.retain(|one| ask.now - one.back < 1.0 && open.contains(&one.endpoint));
        let excess = self.pool.len().saturating_sub(16 + 3);
        self.pool.drain(..excess);
        let here = |one: &&PooledProbe| one.back <= ask.now;
        let here: Vec<PooledProbe> = self.pool.iter().filter(here).copied().collect();
        if here.len() < 2 {
            return open[self.dice.below(open.len())];
        }
        self.history.extend(here.iter().take(2).map(|one| one.load));
        let excess = self.history.len().saturating_sub(64);
        self.history.drain(..excess);
        let mut loads = self.history.clone();
        loads.sort_by(f64::total_cmp);
        let hot = loads[((loads.len() - 1) as f64 * 0.6) as usize];
        let cold = here.iter().filter(|one| one.load <= hot);
        let best = cold
            .min_by(|a, b| a.latency.total_cmp(&b.latency))
            .or_else(|| here.iter().min_by(|a, b| a.load.total_cmp(&b.load)));
        let Some(best) = best.copied() else { return open[0] };
        let servers = ask.truth[best.endpoint].spec.servers as f64;
        let used = |one: &&mut PooledProbe| one.endpoint == best.endpoint && one.back == best.back;
        if let Some(used) = self.pool.iter_mut().find(used) {
            used.load += 1.0 / servers;
        }
        best.endpoint
    }
}

/// The production fold and pick.
struct Engine {
    assessor: Assessor,
    signals: Signals,
    answers: Answered,
    turns: Vec<Turns>,
    dice: Dice,
    changes: Vec<(f64, usize, bool)>,
}

/// Answers of each endpoint since the last sweep.
struct Answered(Vec<Answers>);

impl Samples for Answered {
    fn class(&mut self, _class: ClassIndex, _slot: usize) -> Tally {
        Tally::default()
    }

    fn exchanges(&mut self, _: ClassIndex, _: usize, _: &mut Exchanges) {}

    fn endpoint(&mut self, id: u32) -> Answers {
        self.0.get_mut(id as usize).map(std::mem::take).unwrap_or_default()
    }

    fn requested(&mut self, _class: ClassIndex) -> [f64; PRIORITIES] {
        [0.0; PRIORITIES]
    }
}

impl Engine {
    fn new(setup: &Setup, seed: u64) -> Engine {
        let plan = Plan { clusters: vec![cluster()].into(), ..Plan::default() };
        let mut assessor = Assessor::new(Arc::new(plan), mix(seed), Timestamp::START);
        let found = setup.endpoints.iter().enumerate().map(|(index, endpoint)| Found {
            address: Address::Unix(format!("/{index}").into()),
            weight: endpoint.weight,
        });
        let found = found.collect();
        assessor.fold(Event::Endpoints { cluster: NAME.to_owned(), found }, Timestamp::START);
        Engine {
            assessor,
            signals: Signals::default(),
            answers: Answered(vec![Answers::default(); setup.endpoints.len()]),
            turns: (0..setup.workers).map(|worker| Turns::new(worker, setup.workers)).collect(),
            dice: Dice::seeded(mix(seed ^ 0xd1ce)),
            changes: Vec::new(),
        }
    }

    fn fold(&mut self, event: Event, now: f64) {
        self.assessor.fold(event, moment(now));
        if self.assessor.has_news() {
            self.believe(now);
        }
    }

    fn believe(&mut self, now: f64) {
        self.signals = self.assessor.sweep(&mut self.answers, moment(now));
        for news in self.assessor.take_news() {
            let (endpoint, up) = match news {
                News::Ejected { endpoint, .. } => (endpoint, false),
                News::Returned { endpoint, .. } => (endpoint, true),
                News::Cluster { .. } | News::Spilling { .. } => continue,
            };
            let all = &self.signals.clusters[ClusterIndex(0)].endpoints;
            if let Some(index) = all.iter().position(|known| known.address == endpoint) {
                self.changes.push((now, index, up));
            }
        }
    }
}

impl Chooser for Engine {
    fn pick(&mut self, ask: &Ask<'_>) -> usize {
        let tried: Vec<u32> = ask.tried.iter().map(|index| *index as u32).collect();
        let mut chance = Chance {
            dice: &mut self.dice,
            turns: &mut self.turns[ask.worker],
            now: moment(ask.now),
            key: 0,
        };
        let in_flight = |index: EndpointIndex| ask.in_flight[index.0];
        let signals = &self.signals.clusters[ClusterIndex(0)];
        let policy = EndpointPolicy::LeastWait;
        endpoint::pick(policy, signals, &tried, in_flight, &mut chance).map_or(0, |picked| picked.0)
    }

    fn ended(&mut self, endpoint: usize, end: End, took: f64, now: f64) {
        let cause = match end {
            End::Good => {
                let answers = &mut self.answers.0[endpoint];
                answers.count += 1.0;
                answers.seconds += took;
                answers.logs.add(took);
                return;
            }
            End::Refused => Cause::Refused,
            End::Reset => Cause::Reset,
        };
        self.fold(Event::ExchangeFailed { endpoint: endpoint as u32, cause, client: None }, now);
    }

    fn probed(&mut self, endpoint: usize, took: Option<f64>, now: f64) {
        let endpoint = endpoint as u32;
        let event = match took {
            Some(took) => Event::ProbeSucceeded {
                endpoint,
                rtt: Duration::from_secs_f64(2.0 * super::HALF),
                answer: Some(Duration::from_secs_f64(took)),
                report: None,
            },
            None => Event::ProbeFailed { endpoint, cause: Cause::ProbeTimeout },
        };
        self.fold(event, now);
    }

    fn sweep(&mut self, now: f64) -> Vec<usize> {
        self.believe(now);
        let orders = self.assessor.due_probes(moment(now));
        orders.iter().map(|order| order.endpoint as usize).collect()
    }

    fn take_changes(&mut self) -> Vec<(f64, usize, bool)> {
        std::mem::take(&mut self.changes)
    }
}

fn moment(seconds: f64) -> Timestamp {
    Timestamp::START.plus(Duration::from_secs_f64(seconds.max(0.0)))
}

const NAME: &str = "cluster";

fn cluster() -> Cluster {
    let usual = Cluster::named(NAME);
    let kind = ProbeKind::Grpc { service: String::new() };
    let timeout = Duration::from_secs_f64(super::PROBE_TIMEOUT);
    Cluster { kind: Kind::Idc, probe: Probe { kind, timeout, ..usual.probe.clone() }, ..usual }
}
