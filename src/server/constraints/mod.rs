//! No exchange goes to a cluster that may not serve it, whatever fails: random topologies under random failures.
//!
//! The configuration is compiled from text; compiler, assessor and selection are those of production, and time is
//! virtual. [`Topology`] has the rules a second time. Failures come between exchanges and between the attempts of one
//! exchange: clusters that go down, lose their endpoints or return, saturation, panic mode, dials, spent budgets, news
//! of the fleet, hostile reports, reloads. An exchange that began before a reload keeps the plan of its beginning.
//!
//! A failure prints the seed of its topology; [`play`] with this seed repeats the run.

mod topology;

use self::topology::{Demands, Topology};
use super::fresh::{Channels, shared};
use crate::config;
use crate::decision::assess::{Answers, Assessor, Event, Found, Samples};
use crate::decision::endpoint::identity;
use crate::decision::exchange::{End, Ended, Exchanges, Open};
use crate::decision::explain::explain_exchange;
use crate::decision::fleet::lease::Share;
use crate::decision::health::Cause;
use crate::decision::load::Tally;
use crate::decision::matching::BareRequest;
use crate::decision::plan::{Address, ClassIndex, ClusterIndex, Plan, Protocol};
use crate::decision::report::Report;
use crate::decision::route::{Action, RouteQuery};
use crate::decision::shed::PRIORITIES;
use crate::decision::signal::Why;
use crate::decision::units::{Dice, Timestamp, mix};
use crate::proxy::refusal::Refusal;
use crate::proxy::selection::{Reach, Selection, Stay, Tried, is_shed, select};
use crate::proxy::worker::{Viewed, Worker};
use crate::shared::{Interned, Shared, Slots, View};
use crate::telemetry::access_log::{AccessLog, Format};
use crate::telemetry::cells::Registry;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Failure scenarios of each topology, and topologies.
const SCENARIOS: usize = 20;
const TOPOLOGIES: u64 = 500;
/// Exchanges of each scenario.
const EXCHANGES: usize = 8;
/// The most attempts of an exchange.
const ATTEMPTS: usize = 4;
/// The most exchanges in flight: enough to fill each ceiling.
const HELD_MAX: usize = 12;

/// What was played, to prove that the run includes each kind of failure.
#[derive(Debug, Default)]
struct Played {
    scenarios: usize,
    exchanges: usize,
    attempts: usize,
    /// Attempts while a cluster that may not serve the exchange was live.
    tempted: usize,
    queued: usize,
    shed: usize,
    reloads: usize,
    refused: usize,
    whys: BTreeMap<&'static str, usize>,
    refusals: BTreeMap<&'static str, usize>,
}

/// The destinations of a configuration, each with its demands as written: at L7 destinations of routes and mirrors,
/// at L4 listeners.
type Flows = Vec<(ClassIndex, Demands)>;

fn flows(topology: &Topology, plan: &Plan) -> Flows {
    let mut flows = Flows::new();
    let listener = |name: &str| plan.listeners.find(|listener| listener.name == name).unwrap();
    for (number, (to, mirror)) in topology.of_routes().into_iter().enumerate() {
        let path = format!("/r{number}/x");
        let (host, method) = ("a.example.com", "GET");
        let query = RouteQuery {
            listener: listener("web"),
            host,
            path: &path,
            method,
            announced: None,
            request: &BareRequest::default(),
        };
        let route = plan.routes.route(plan.routes.find(&query).unwrap());
        match &route.action {
            Action::Forward(one) => flows.push((one.class, to[0].clone())),
            Action::Split(parts) => {
                flows.extend(parts.iter().zip(to).map(|((_, part), to)| (part.class, to)));
            }
            Action::Redirect { .. } | Action::Respond { .. } => unreachable!("routes forward"),
        }
        flows.extend(route.mirror.iter().zip(mirror).map(|(copy, of)| (copy.to.class, of)));
    }
    for (name, demands) in ["tcp", "udp", "tls"].into_iter().zip(topology.of_listeners()) {
        let class = match &plan.listeners[listener(name)].protocol {
            Protocol::Tcp { class } | Protocol::Udp { class } => *class,
            Protocol::TlsPassthrough(names) => names.find(Some("a.example.com")).unwrap(),
            Protocol::Http => unreachable!("a listener of L4"),
        };
        flows.push((class, demands));
    }
    flows
}

/// The plan of a topology; `None` if the compiler refuses it, which it does exactly if nothing may serve an exchange.
fn compile(topology: &Topology) -> Option<Plan> {
    let text = topology.text();
    let outcome = config::load(&text, Path::new("/"), &|_| None);
    let told = || format!("{text}\n{:#?}", outcome.problems);
    assert_eq!(outcome.config.is_some(), topology.is_served(), "{}", told());
    outcome.config.map(|config| config.plan)
}

/// One proxy and its world.
struct World {
    seed: u64,
    dice: Dice,
    topology: Topology,
    flows: Rc<Flows>,
    plan: Arc<Plan>,
    slots: Arc<Slots>,
    generation: u64,
    assessor: Assessor,
    interned: Interned,
    shared: Arc<Shared>,
    worker: Rc<Worker>,
    now: Timestamp,
    /// Exchanges in flight.
    held: Vec<Selection>,
    /// Clusters whose probes and exchanges fail, by name.
    down: Vec<String>,
    played: Played,
    _channels: Channels,
}

/// The plan of an exchange's beginning, and the rules of that time.
struct Begun {
    topology: Topology,
    view: Viewed,
    class: ClassIndex,
    demands: Demands,
}

/// Counts of a random load, plausible or not.
struct Noise<'a>(&'a mut Dice);

impl Noise<'_> {
    /// Often nothing, sometimes a load, sometimes nonsense.
    fn count(&mut self) -> f64 {
        match self.0.below(8) {
            0..4 => 0.0,
            4..7 => self.0.below(50) as f64,
            _ => 1e6 * self.0.unit(),
        }
    }

    fn report(&mut self) -> Option<Report> {
        let said = ["0", "1", "20000", "999999999999", "1e308", "-1", "nan", "inf", "0.5"];
        let mut value = || said[self.0.below(said.len())];
        let text =
            ["q", "s", "n", "c", "u", "l", "g", "a"].map(|name| format!("{name}={}", value()));
        Report::from_tidegate(&text.join(";"))
    }
}

impl Samples for Noise<'_> {
    fn class(&mut self, _: ClassIndex, _: usize) -> Tally {
        if self.0.below(2) == 0 {
            return Tally::default();
        }
        let (accepted, failed, latency) = (self.count(), self.count(), self.0.unit() * 2.0);
        let completed = (accepted - failed).max(0.0);
        Tally {
            offered: accepted + self.count(),
            accepted,
            retried: self.count().min(accepted),
            completed,
            failed,
            latency_sum: completed * latency,
            latency_squares: completed * latency * latency,
            dialled: self.count().min(accepted),
            bytes: self.count() * 1e6,
            waiting: self.count(),
            report: (self.0.below(4) == 0).then(|| self.report()).flatten(),
            ..Tally::default()
        }
    }

    fn endpoint(&mut self, _: u32) -> Answers {
        let count = self.count();
        Answers { count, seconds: count * self.0.unit(), ..Answers::default() }
    }

    fn exchanges(&mut self, _: ClassIndex, _: usize, into: &mut Exchanges) {
        for _ in 0..self.0.below(4) {
            let sent = self.0.unit() * 10.0;
            let ended = sent + self.0.unit();
            into.ended.push(Ended { sent, ended, stratum: 0, end: End::Answered });
            into.open.push(Open { sent, stratum: 0 });
        }
    }

    fn requested(&mut self, _: ClassIndex) -> [f64; PRIORITIES] {
        let count = self.count();
        [count; PRIORITIES]
    }
}

impl World {
    fn new(seed: u64, topology: Topology, plan: Plan) -> World {
        let registry = Arc::new(Registry::default());
        let (shared, channels) = shared(1, registry.clone());
        let (log, _) = AccessLog::new(Format::Off, 1, registry);
        let worker = Worker::new(0, shared.clone(), log);
        *worker.dice.borrow_mut() = Dice::seeded(seed);
        // A worker begins at a random turn.
        while !worker.next_turn().is_multiple_of(1_024) {}
        let plan = Arc::new(plan);
        let now = Timestamp::START.plus(Duration::from_secs(1));
        let mut world = World {
            seed,
            dice: Dice::seeded(mix(seed)),
            flows: Rc::new(Flows::new()),
            slots: Arc::new(Slots::new(&plan, 1)),
            generation: 0,
            assessor: Assessor::new(plan.clone(), seed, now),
            interned: Interned::new(1),
            shared,
            worker,
            now,
            held: Vec::new(),
            down: Vec::new(),
            played: Played::default(),
            topology: topology.clone(),
            plan: plan.clone(),
            _channels: channels,
        };
        world.adopt(topology, plan);
        world
    }

    /// Puts a configuration in force, as the control thread does.
    fn adopt(&mut self, topology: Topology, plan: Arc<Plan>) {
        self.assessor.adopt(plan.clone());
        self.flows = Rc::new(flows(&topology, &plan));
        (self.topology, self.plan) = (topology, plan);
        self.slots = Arc::new(Slots::new(&self.plan, 1));
        self.generation += 1;
        for cluster in &self.plan.clone().clusters {
            self.discover(&cluster.name, 2);
        }
        self.publish();
    }

    fn discover(&mut self, cluster: &str, count: u16) {
        let number: u16 = cluster.trim_start_matches('c').parse().unwrap();
        let port = |endpoint| 9_000 + 100 * endpoint + number;
        let address = |endpoint| Address::Ip(SocketAddr::from(([127, 0, 0, 1], port(endpoint))));
        let found = (0..count).map(|at| Found { address: address(at), weight: 1 }).collect();
        self.assessor.fold(Event::Endpoints { cluster: cluster.to_owned(), found }, self.now);
    }

    /// A sweep, and its view in force: each published choice and explanation names permitted clusters only.
    fn publish(&mut self) {
        let mut signals = self.assessor.sweep(&mut Noise(&mut self.dice), self.now);
        self.interned.adopt(&self.plan, &signals);
        let clusters = self.interned.live();
        for (live, signals) in clusters.iter().zip(&signals.clusters) {
            live.ceiling.set(signals.ceiling);
        }
        for (service, allowance) in signals.allowances.enumerated() {
            if let Some(purse) = self.slots.purse(service) {
                purse.fill(*allowance);
            }
        }
        signals.groups = self.interned.sweep_groups(&self.plan, &signals.groups, 0.05);
        let view = View {
            plan: self.plan.clone(),
            tls: Arc::default(),
            policies: Arc::default(),
            signals,
            clusters,
            places: self.interned.places(),
            slots: self.slots.clone(),
            generation: self.generation,
        };
        for (class, demands) in self.flows.iter() {
            let signals = &view.signals.classes[*class];
            let choices = signals.choices.iter().map(|choice| choice.cluster);
            for cluster in choices.chain(signals.order.iter().copied()) {
                self.expect(&self.topology, &view, demands, cluster, "a published choice");
            }
        }
        let (class, demands) = &self.flows[self.dice.below(self.flows.len())];
        let told = explain_exchange(&view.plan, &view.signals, (None, *class), usize::MAX);
        for name in told.permitted.iter().chain(&told.chosen) {
            let may = self.topology.may_serve(name, demands);
            assert!(may, "seed {}: explain permits {name}: {demands:?}", self.seed);
        }
        self.shared.view.store(Arc::new(view));
        self.assessor.take_news();
    }

    fn expect(
        &self,
        topology: &Topology,
        view: &View,
        demands: &Demands,
        cluster: ClusterIndex,
        what: &str,
    ) {
        let name = &view.plan.clusters[cluster].name;
        let seed = self.seed;
        assert!(
            topology.may_serve(name, demands),
            "seed {seed}: {what} is {name}: {demands:?}\n{}",
            topology.text()
        );
    }

    /// Lets time pass: probes, sweeps.
    fn pass(&mut self, sweeps: usize) {
        for _ in 0..sweeps {
            let millis = [50, 50, 50, 250, 1_000][self.dice.below(5)];
            self.now = self.now.plus(Duration::from_millis(millis));
            for order in self.assessor.due_probes(self.now) {
                let name = &self.plan.clusters[order.cluster].name;
                let (endpoint, cause) = (order.endpoint, Cause::Refused);
                let event = match self.down.contains(name) {
                    true => Event::ProbeFailed { endpoint, cause },
                    false => Event::ProbeSucceeded {
                        endpoint,
                        rtt: Duration::from_micros(100 + self.dice.below(50_000) as u64),
                        answer: None,
                        report: Noise(&mut self.dice).report(),
                    },
                };
                self.assessor.fold(event, self.now);
            }
            self.publish();
        }
    }

    fn any_cluster(&mut self) -> String {
        let clusters = &self.plan.clusters;
        clusters[ClusterIndex(self.dice.below(clusters.len()))].name.clone()
    }

    /// Something fails, or returns, or an operator acts.
    fn disturb(&mut self) {
        let name = self.any_cluster();
        let percent = [None, None, Some(0), Some(50), Some(100)][self.dice.below(5)];
        let event = match self.dice.below(11) {
            0 | 1 => return self.down.push(name),
            2 | 3 => return self.down.clear(),
            4 => {
                // Panic mode: everything is down.
                let all = self.plan.clusters.iter().map(|cluster| cluster.name.clone());
                return self.down = all.collect();
            }
            5 => Event::DialCluster { cluster: name, percent },
            6 => Event::DialSite { site: format!("s{}", self.dice.below(2)), percent },
            7 => Event::BudgetLeft {
                service: format!("v{}", self.dice.below(2)),
                usd: -self.dice.unit(),
            },
            8 => {
                let name = if self.dice.below(2) == 0 { name } else { "$v0".to_owned() };
                let own = self.dice.below(3) as u32;
                Event::Shares(vec![Share { name, own, borrowed: 1, until: self.now }])
            }
            9 => {
                let count = self.dice.below(3) as u16;
                return self.discover(&name, count);
            }
            _ => return self.reload(),
        };
        self.assessor.fold(event, self.now);
    }

    fn reload(&mut self) {
        let topology = self.topology.edited(&mut self.dice);
        if let Some(plan) = compile(&topology) {
            self.played.reloads += 1;
            self.adopt(topology, Arc::new(plan));
        }
    }

    fn scenario(&mut self) {
        for _ in 0..1 + self.dice.below(3) {
            self.disturb();
        }
        let sweeps = 1 + self.dice.below(4);
        self.pass(sweeps);
        for _ in 0..EXCHANGES {
            self.exchange();
            if self.held.len() > HELD_MAX {
                self.held.swap_remove(self.dice.below(HELD_MAX));
            }
        }
    }

    /// One exchange: at L7 with affinity, a share of a split, or a copy; at L4 a connection or a flow.
    fn exchange(&mut self) {
        let view = self.worker.view();
        let flows = self.flows.clone();
        let (class, demands) = flows[self.dice.below(flows.len())].clone();
        let begun = Begun { topology: self.topology.clone(), view, class, demands };
        self.played.exchanges += 1;
        if is_shed(&self.worker, &begun.view, class, 5) {
            return self.played.shed += 1;
        }
        let reach = if self.dice.below(8) == 0 { Reach::ThisSite } else { Reach::Anywhere };
        let mut tried = Tried::default();
        tried.stay = self.cookie(&begun.view);
        for _ in 0..ATTEMPTS {
            let key = self.dice.bits();
            let selected = select(&self.worker, &begun.view, class, &tried, key, reach);
            let Some(selection) = self.or_queue(selected, &begun, &mut tried, reach) else {
                return self.played.refused += 1;
            };
            self.judge(&begun, &selection);
            match self.dice.below(4) {
                // It is answered later, or was answered.
                0 => return self.held.push(selection),
                1 => return,
                2 => self.fails(&begun, &mut tried, &selection),
                _ => {
                    // It is late: the next attempt is its hedge.
                    tried.add(selection.cluster, selection.signals(&begun.view).id);
                    tried.waits = true;
                    self.held.push(selection);
                }
            }
            if self.dice.below(10) == 0 {
                self.disturb();
                self.pass(1);
            }
        }
    }

    /// A cookie that names any endpoint, permitted or not.
    fn cookie(&mut self, view: &View) -> Option<Stay> {
        let all: Vec<u64> = view
            .signals
            .clusters
            .iter()
            .flat_map(|cluster| cluster.endpoints.iter().map(identity))
            .collect();
        if all.is_empty() || self.dice.below(3) > 0 {
            return None;
        }
        let identity = mix(all[self.dice.below(all.len())]);
        Some(Stay { identity, across_clusters: self.dice.below(3) > 0 })
    }

    /// An attempt fails.
    fn fails(&mut self, begun: &Begun, tried: &mut Tried, selection: &Selection) {
        let endpoint = selection.signals(&begun.view).id;
        let cause = [Cause::Refused, Cause::Reset, Cause::GatewayStatus][self.dice.below(3)];
        self.assessor.fold(Event::ExchangeFailed { endpoint, cause, client: None }, self.now);
        tried.waits = false;
        tried.add(selection.cluster, endpoint);
        if self.dice.below(2) == 0 {
            tried.pass_over_dead(&self.worker, &begun.view, begun.class);
        }
        if self.dice.below(4) == 0 {
            tried.left = Some(selection.cluster);
        }
    }

    /// The selection, or that of the turn in a full cluster's queue.
    fn or_queue(
        &mut self,
        selected: Result<Selection, Refusal>,
        begun: &Begun,
        tried: &mut Tried,
        reach: Reach,
    ) -> Option<Selection> {
        let (view, class) = (&begun.view, begun.class);
        let refusal = match selected {
            Ok(selection) => return Some(selection),
            Err(refusal) => refusal,
        };
        *self.played.refusals.entry(refusal.label()).or_default() += 1;
        let full = tried.first_full(view, class, reach)?;
        self.expect(&begun.topology, view, &begun.demands, full, "the queue");
        self.held.clear();
        tried.turn = Some(full);
        let selection = select(&self.worker, view, class, tried, 0, reach).ok();
        tried.turn = None;
        self.played.queued += usize::from(selection.is_some());
        selection
    }

    fn judge(&mut self, begun: &Begun, selection: &Selection) {
        let Begun { topology, view, demands, .. } = begun;
        self.expect(topology, view, demands, selection.cluster, selection.why.label());
        let forbidden = |(cluster, signals): (&crate::decision::plan::Cluster, _)| {
            let signals: &Arc<crate::decision::signal::ClusterSignals> = signals;
            signals.down_since.is_none() && !topology.may_serve(&cluster.name, demands)
        };
        let mut clusters = view.plan.clusters.iter().zip(&view.signals.clusters);
        self.played.tempted += usize::from(clusters.any(forbidden));
        self.played.attempts += 1;
        *self.played.whys.entry(selection.why.label()).or_default() += 1;
    }
}

/// Plays the scenarios of one topology.
fn play(seed: u64) -> Played {
    let mut dice = Dice::seeded(seed);
    let (topology, plan) = loop {
        let topology = Topology::random(&mut dice);
        if let Some(plan) = compile(&topology) {
            break (topology, plan);
        }
    };
    let mut world = World::new(seed, topology, plan);
    for _ in 0..SCENARIOS {
        world.scenario();
    }
    world.played
}

#[test]
fn no_exchange_goes_to_a_cluster_that_may_not_serve_it() {
    let mut all = Played::default();
    for seed in 0..TOPOLOGIES {
        let played = play(seed);
        all.scenarios += SCENARIOS;
        all.exchanges += played.exchanges;
        all.attempts += played.attempts;
        all.tempted += played.tempted;
        all.queued += played.queued;
        all.shed += played.shed;
        all.reloads += played.reloads;
        all.refused += played.refused;
        played.whys.into_iter().for_each(|(why, n)| *all.whys.entry(why).or_default() += n);
        played.refusals.into_iter().for_each(|(why, n)| *all.refusals.entry(why).or_default() += n);
    }
    assert!(all.scenarios >= 10_000, "{all:?}");
    // The run proves nothing about a failure that did not occur.
    for why in Why::ALL {
        let count = all.whys.get(why.label()).copied().unwrap_or_default();
        assert!(count >= 200, "{} occurs only {count} times: {all:?}", why.label());
    }
    for refusal in [Refusal::NoHealthyCluster, Refusal::Overloaded, Refusal::Budget] {
        assert!(all.refusals[refusal.label()] >= 200, "{}: {all:?}", refusal.label());
    }
    let least = [all.queued, all.shed, all.reloads].into_iter().min();
    assert!(least >= Some(200) && all.tempted >= all.attempts / 2, "{all:?}");
}
