//! The production engine as a policy: the same fold, estimators, picks and budgets as in the proxy, with
//! the same slots, sweeps and stale views.

use super::lines::Lines;
use super::policy::{Answer, Ask, Edge, End, Pick, Policy, Probed};
use super::spec::Spec;
use super::world::{moment, part};
use decision::assess::{Answers, Assessor, Event, Found, Samples};
use decision::budget::SpendingLimit;
use decision::change::Shift;
use decision::endpoint::{self, Chance, Turns};
use decision::exchange::Exchanges;
use decision::fleet::samples;
use decision::health::Cause;
use decision::index::{EndpointIndex, Table};
use decision::ledger::Ledger;
use decision::load::Tally;
use decision::permit::{Demands, permit};
use decision::plan::{
    Address, Class, ClassIndex, Cluster, ClusterIndex, EndpointPolicy, Kind, Plan, Probe,
    ProbeKind, Reports, Service, ServiceIndex,
};
use decision::pool::{Texts, Told};
use decision::price::Prices;
use decision::shed::PRIORITIES;
use decision::signal::{ClassSignals, Signals};
use decision::spill::{self, Credits};
use decision::strata;
use decision::units::Dice;
use std::sync::Arc;
use std::time::Duration;

/// One proxy with the production engine.
pub struct Engine {
    plan: Arc<Plan>,
    assessor: Assessor,
    signals: Signals,
    /// By class, then worker.
    credits: Table<ClassIndex, Vec<Credits>>,
    slots: Slots,
    dice: Dice,
    /// By place, then worker.
    turns: Vec<Vec<Turns>>,
    /// The ids of each place's endpoints, and how often the endpoints were replaced.
    ids: Vec<Vec<u32>>,
    generations: Vec<usize>,
    /// Bytes of a response, by place.
    bytes: Vec<f64>,
    /// Dollars that each service may spend until the next sweep; unlimited without a budget.
    purses: Table<ServiceIndex, f64>,
    lines: Lines,
}

/// The counts of the workers of one proxy since the last sweep.
#[derive(Default)]
struct Slots {
    ledger: Ledger,
    /// By endpoint id.
    endpoints: Vec<Answers>,
}

impl Samples for Slots {
    fn class(&mut self, class: ClassIndex, slot: usize) -> Tally {
        self.ledger.class(class, slot)
    }

    fn exchanges(&mut self, class: ClassIndex, slot: usize, into: &mut Exchanges) {
        self.ledger.exchanges(class, slot, into);
    }

    fn endpoint(&mut self, id: u32) -> Answers {
        self.endpoints.get_mut(id as usize).map(std::mem::take).unwrap_or_default()
    }

    fn requested(&mut self, class: ClassIndex) -> [f64; PRIORITIES] {
        self.ledger.requested(class)
    }
}

/// The priority of all requests in a world: the default.
const PRIORITY: u8 = 5;

/// The data classes of a service's two classes: of all requests, and of those that only an IDC may serve.
const CLASSES: [&[&str]; 2] = [&["general"], &["general", "sensitive"]];

/// A plan for a world's places, as the configuration would compile it.
#[must_use]
pub fn plan(spec: &Spec) -> Plan {
    let clusters: Table<_, _> = spec.places.iter().map(|place| cluster(spec, place)).collect();
    let listed: Vec<ClusterIndex> = clusters.indices().collect();
    // First the general class of each service, then the sensitive ones.
    let pairs = CLASSES.iter().flat_map(|data| (0..spec.services).map(move |of| (*data, of)));
    let classes = pairs.enumerate().map(|(index, (data, service))| {
        let data: Vec<String> = data.iter().map(|&class| class.to_owned()).collect();
        let demands = Demands { environment: "production", data: &data, needs: &[] };
        let permitted = permit(demands, &listed, &clusters);
        Class { service: ServiceIndex(service), data, permitted, l4: false, id: index as u64 + 1 }
    });
    let classes = classes.collect();
    let services = (0..spec.services).map(|index| service(spec, &listed, index)).collect();
    Plan { services, classes, clusters, pools: spec.fleet, ..Plan::default() }
}

fn cluster(spec: &Spec, place: &super::spec::PlaceSpec) -> Cluster {
    let accepts: &[&str] = match place.kind {
        Kind::Idc => &["general", "sensitive"],
        Kind::Cloud => &["general"],
    };
    let usual = Cluster::named(&place.name);
    let kind = match spec.probe {
        None => ProbeKind::Tcp,
        Some(_) => ProbeKind::Http {
            path: "/healthz".to_owned(),
            host: None,
            headers: Vec::new(),
            status: Vec::new(),
        },
    };
    Cluster {
        kind: place.kind,
        environment: "production".to_owned(),
        accepts: accepts.iter().map(|&class| class.to_owned()).collect(),
        probe: Probe { kind, ..usual.probe.clone() },
        prices: Prices { per_gib: 0.0, per_million_requests: place.usd_per_request * 1e6 },
        reports: if spec.reports.is_some() { Reports::Tidegate } else { Reports::None },
        ..usual
    }
}

fn service(spec: &Spec, clusters: &[ClusterIndex], index: usize) -> Service {
    Service {
        data: vec!["general".to_owned()],
        environment: "production".to_owned(),
        priority: PRIORITY,
        budget: spec.usd_per_hour.map(|usd_per_hour| SpendingLimit {
            usd_per_hour,
            share: 1.0 / spec.edges.len() as f64,
            shared: false,
            binds_failover: false,
        }),
        ..Service::named(&format!("service-{index}"), clusters.to_vec())
    }
}

impl Engine {
    /// The engine of proxy number `edge`; the seed scatters timers between proxies.
    #[must_use]
    pub fn new(spec: &Spec, edge: usize, seed: u64) -> Engine {
        Engine::with_plan(Arc::new(plan(spec)), spec, edge, seed)
    }

    /// As [`new`](Engine::new), with a plan whose clusters are the world's places, whose first class serves all requests
    /// and whose second class serves the sensitive ones.
    #[must_use]
    pub fn with_plan(plan: Arc<Plan>, spec: &Spec, edge: usize, seed: u64) -> Engine {
        let seed = part(seed, edge);
        let mut assessor = Assessor::new(plan.clone(), seed, moment(0.0));
        let mut ids = Vec::new();
        let mut next = 0;
        for (index, place) in spec.places.iter().enumerate() {
            let found = found(index, 0, place.endpoints.len());
            // The fold numbers endpoints in the order of their first appearance.
            ids.push((next..next + found.len() as u32).collect());
            next += found.len() as u32;
            assessor.fold(Event::Endpoints { cluster: place.name.clone(), found }, moment(0.0));
        }
        let workers = spec.edges[edge].workers;
        let credits = plan.classes.iter().enumerate().map(|(index, class)| {
            let seeded = |worker| {
                Credits::seeded(class.permitted.clusters.len(), part(seed, index * 64 + worker))
            };
            (0..workers).map(seeded).collect()
        });
        Engine {
            credits: credits.collect(),
            slots: Slots {
                ledger: Ledger::new(plan.classes.iter().map(|c| c.permitted.clusters.len())),
                endpoints: vec![Answers::default(); next as usize],
            },
            plan,
            assessor,
            signals: Signals::default(),
            dice: Dice::seeded(part(seed, 9_999)),
            generations: vec![0; ids.len()],
            bytes: spec.places.iter().map(|place| place.response_bytes).collect(),
            purses: Table::default(),
            lines: Lines::default(),
            turns: vec![
                (0..workers).map(|worker| Turns::new(worker, workers)).collect();
                spec.places.len()
            ],
            ids,
        }
    }

    /// Puts the balance of the first service's budget in force, in dollars.
    pub fn restore(&mut self, usd: f64) {
        if let Some(service) = self.plan.services.first() {
            let service = service.name.clone();
            self.assessor.fold(Event::BudgetLeft { service, usd }, moment(0.0));
        }
    }

    /// Puts a shift of the plan's first service in force.
    pub fn shift(&mut self, shift: Shift) {
        if let Some(service) = self.plan.services.first() {
            let event = Event::Shift { service: service.name.clone(), shift: Some(shift) };
            self.assessor.fold(event, moment(0.0));
        }
    }

    /// The class of a request.
    fn class(&self, service: usize, sensitive: bool) -> ClassIndex {
        ClassIndex(service + if sensitive { self.plan.classes.len() / 2 } else { 0 })
    }

    fn slot(&self, class: ClassIndex, place: usize) -> Option<usize> {
        self.plan.classes[class].permitted.clusters.iter().position(|cluster| cluster.0 == place)
    }

    /// An attempt failed: the fold gets the event as from a worker.
    fn failed(&mut self, pick: Pick, cause: Cause, now: f64) {
        let endpoint = self.ids[pick.place][pick.endpoint];
        self.assessor.fold(Event::ExchangeFailed { endpoint, cause, client: None }, moment(now));
        if self.assessor.has_news() {
            self.sweep(now);
        }
    }

    fn sweep(&mut self, now: f64) {
        self.signals = self.assessor.sweep(&mut self.slots, moment(now));
        let allowances = self.signals.allowances.iter();
        self.purses = allowances.map(|usd| usd.unwrap_or(f64::INFINITY)).collect();
        self.lines.sweep(&self.plan, now);
        self.assessor.take_news();
    }
}

impl Policy for Engine {
    fn pick(&mut self, ask: &Ask<'_>, _dice: &mut Dice) -> Option<Pick> {
        let class = self.class(ask.service, ask.sensitive);
        let credits = &mut self.credits[class][ask.worker];
        if ask.tried.is_empty() {
            self.slots.ledger.ask(class, PRIORITY);
            if credits.sheds(self.signals.classes.get(class)?.shed, PRIORITY) {
                return None;
            }
        }
        let ledger = &mut self.slots.ledger;
        let choices = &self.signals.classes.get(class)?.choices;
        let clusters = &self.signals.clusters;
        let service = self.plan.classes[class].service;
        let purse = self.purses.get(service).copied().unwrap_or(f64::INFINITY);
        let usd = |cluster: ClusterIndex| {
            choices.iter().find(|choice| choice.cluster == cluster).map_or(0.0, |choice| choice.usd)
        };
        let untried = |cluster: ClusterIndex| {
            if purse <= 0.0 && usd(cluster) > 0.0 {
                return false;
            }
            let (place, ceiling) = (cluster.0, clusters[cluster].ceiling.unwrap_or(u32::MAX));
            if ask.edge.at(place) >= ceiling || self.lines.is_full(&self.plan, ask.edge, cluster) {
                return false;
            }
            let tried = ask.tried.iter().filter(|pick| pick.place == place).count();
            tried == 0
                || tried < 3
                    && clusters[cluster]
                        .usable
                        .iter()
                        .any(|endpoint| !ask.tried.contains(&Pick { place, endpoint: endpoint.0 }))
        };
        let offered = |slot: usize| ledger.at(class, slot).tally.offered += 1.0;
        let picked = spill::pick(choices, credits, untried, offered)?;
        let price = usd(picked.cluster);
        if let Some(purse) = self.purses.get_mut(service) {
            *purse -= price;
        }
        let place = picked.cluster.0;
        let tried: Vec<u32> =
            ask.tried.iter().map(|pick| self.ids[pick.place][pick.endpoint]).collect();
        let in_flight = |endpoint: EndpointIndex| ask.edge.in_flight[place][endpoint.0];
        let turns = &mut self.turns[place][ask.worker];
        let mut chance = Chance { dice: &mut self.dice, turns, now: moment(ask.now), key: 0 };
        let policy = EndpointPolicy::LeastWait;
        let signals = &clusters[picked.cluster];
        let endpoint = endpoint::pick(policy, signals, &tried, in_flight, &mut chance)?;
        // A request counts from the moment when all of it has been sent; these uploads never end.
        if !ask.uploads {
            let account = self.slots.ledger.at(class, picked.slot);
            account.tally.retried += f64::from(u8::from(!ask.tried.is_empty()));
            account.sent(u64::from(ask.id), ask.now, strata::number(u64::from(ask.path)));
        }
        Some(Pick { place, endpoint: endpoint.0 })
    }

    fn answered(&mut self, answer: &Answer) {
        let class = self.class(answer.service, answer.sensitive);
        let Some(slot) = self.slot(class, answer.pick.place) else { return };
        if answer.end == End::ClientsFault {
            return;
        }
        let account = self.slots.ledger.at(class, slot);
        if let Some(report) = answer.report {
            account.tally.report = Some(report);
        }
        let (id, now) = (u64::from(answer.id), answer.now);
        let cause = match answer.end {
            End::Good => {
                account.answered(id, now);
                let bytes = self.bytes[answer.pick.place];
                account.tally.bytes += bytes;
                self.lines.carry(&self.plan, answer.pick.place, bytes);
                let id = self.ids[answer.pick.place][answer.pick.endpoint] as usize;
                self.slots.endpoints[id].count += 1.0;
                self.slots.endpoints[id].seconds += answer.latency;
                self.slots.endpoints[id].logs.add(answer.latency);
                return;
            }
            End::ClientsFault => return,
            End::Abandoned => return account.abandoned(id, now),
            End::Refused => Cause::Refused,
            End::Reset => Cause::Reset,
            End::Status => Cause::GatewayStatus,
        };
        account.failed(id, now);
        self.failed(answer.pick, cause, now);
    }

    fn tick(&mut self, now: f64, _edge: &Edge) {
        self.sweep(now);
    }

    fn due_probes(&mut self, now: f64) -> Option<Vec<Pick>> {
        let orders = self.assessor.due_probes(moment(now));
        let pick = |order: &decision::assess::ProbeOrder| {
            let place = order.cluster.0;
            let ids = &self.ids[place];
            let endpoint = ids.iter().position(|id| *id == order.endpoint)?;
            Some(Pick { place, endpoint })
        };
        Some(orders.iter().filter_map(pick).collect())
    }

    fn wanted(&self, place: usize) -> f64 {
        let classes = self.plan.classes.iter().zip(&self.signals.classes);
        let of = |(class, signals): (&Class, &Arc<ClassSignals>)| {
            let slot = class.permitted.clusters.iter().position(|cluster| cluster.0 == place)?;
            signals.wanted_rps.get(slot).copied()
        };
        classes.filter_map(of).sum()
    }

    fn probed(&mut self, probed: &Probed) {
        let Probed { pick, now, rtt, answer, report } = *probed;
        let endpoint = self.ids[pick.place][pick.endpoint];
        let event = match rtt {
            Some(rtt) => Event::ProbeSucceeded {
                endpoint,
                rtt: Duration::from_secs_f64(rtt),
                answer: answer.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
                report,
            },
            None => Event::ProbeFailed { endpoint, cause: Cause::Refused },
        };
        self.assessor.fold(event, moment(now));
        if self.assessor.has_news() {
            self.sweep(now);
        }
    }

    fn tells(&self, site: (u32, u64), now: f64) -> Texts {
        samples::texts(&self.plan, &self.signals, site, now)
    }

    fn hears(&mut self, told: &[Told], now: f64) {
        self.assessor.fold(Event::Told(told.to_vec()), moment(now));
    }

    fn replaced(&mut self, place: usize, now: f64) {
        self.generations[place] += 1;
        let generation = self.generations[place];
        let count = self.ids[place].len();
        let found = found(place, generation, count);
        let next = self.slots.endpoints.len() as u32;
        self.ids[place] = (next..next + count as u32).collect();
        self.slots.endpoints.resize(next as usize + count, Answers::default());
        let cluster = self.plan.clusters[ClusterIndex(place)].name.clone();
        self.assessor.fold(Event::Endpoints { cluster, found }, moment(now));
        self.sweep(now);
    }
}

/// The endpoints of a place; each generation has its own addresses.
fn found(place: usize, generation: usize, count: usize) -> Vec<Found> {
    let address = |e: usize| Address::Unix(format!("/{place}/{generation}/{e}").into());
    (0..count).map(|e| Found { address: address(e), weight: 1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use crate::world;
    use decision::capacity_group::{CapacityGroup, GroupIndex};
    use std::cell::Cell;
    use std::rc::Rc;

    /// The most exchanges at once over the line to these places.
    const LINE: (u32, [usize; 2]) = (12, [1, 2]);

    /// The engine, and the greatest number of exchanges over the line.
    struct Watched(Engine, Rc<Cell<u32>>);

    impl Policy for Watched {
        fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
            let pick = self.0.pick(ask, dice)?;
            let over_line = LINE.1.iter().map(|place| ask.edge.at(*place)).sum::<u32>();
            if LINE.1.contains(&pick.place) {
                self.1.set(self.1.get().max(over_line + 1));
            }
            Some(pick)
        }

        fn answered(&mut self, answer: &Answer) {
            self.0.answered(answer);
        }

        fn tick(&mut self, now: f64, edge: &Edge) {
            self.0.tick(now, edge);
        }

        fn due_probes(&mut self, now: f64) -> Option<Vec<Pick>> {
            self.0.due_probes(now)
        }

        fn probed(&mut self, probed: &Probed) {
            self.0.probed(probed);
        }
    }

    /// A world with an IDC, two clouds behind one line, and one without; and a plan with this line.
    fn behind(line: CapacityGroup) -> (Spec, Plan) {
        let all = scenario::all(false);
        let mut spec = all.into_iter().find(|world| world.name == "S1").unwrap().spec;
        // Beside the IDC: two clouds behind one line, and one without.
        let cloud = |name| super::super::spec::PlaceSpec::queue(name, Kind::Cloud, 200);
        let (home, shares) = (spec.places.swap_remove(0), [1.0, 20.0, 25.0, 70.0]);
        spec.places = vec![home, cloud("near"), cloud("beside"), cloud("far")];
        spec.edges.truncate(1);
        spec.edges[0].rtt_ms = shares.to_vec();
        (spec.demand, spec.seconds) = (vec![(0.0, 2_000.0)], 20.0);
        let mut plan = plan(&spec);
        plan.groups.push(line);
        LINE.1.iter().for_each(|at| plan.clusters[ClusterIndex(*at)].group = Some(GroupIndex(0)));
        (spec, plan)
    }

    #[test]
    fn a_line_with_a_rate_carries_its_bytes_and_the_rest_goes_farther() {
        let (name, rate) = ("line".to_owned(), 3_000_000.0);
        let line = CapacityGroup { name, concurrent: None, bytes_per_s: Some(rate), shared: false };
        let (mut spec, plan) = behind(line);
        spec.places.iter_mut().for_each(|place| place.response_bytes = 10_000.0);
        let plan = Arc::new(plan);
        let make = |spec: &Spec, edge: usize| -> Box<dyn Policy> {
            Box::new(Engine::with_plan(plan.clone(), spec, edge, 1))
        };

        let outcome = world::run(&spec, &make, 1);

        let late: Vec<_> = outcome.records.iter().filter(|record| record.at > 5.0).collect();
        let over_line = late.iter().filter(|record| LINE.1.contains(&usize::from(record.place)));
        let carried = over_line.count() as f64 * 10_000.0 / (spec.seconds - 5.0);
        assert!((0.85..1.05).contains(&(carried / rate)), "{carried} bytes/s of {rate}");
        let failed = late.iter().filter(|record| !record.ok).count();
        assert_eq!(failed, 0, "of {}", late.len());
    }

    #[test]
    fn a_full_line_is_passed_over_and_what_it_does_not_take_goes_farther() {
        let (name, concurrent) = ("line".to_owned(), Some(LINE.0));
        let line = CapacityGroup { name, concurrent, bytes_per_s: None, shared: false };
        let (spec, plan) = behind(line);
        let (plan, greatest) = (Arc::new(plan), Rc::new(Cell::new(0)));
        let make = |spec: &Spec, edge: usize| -> Box<dyn Policy> {
            Box::new(Watched(Engine::with_plan(plan.clone(), spec, edge, 1), greatest.clone()))
        };
        let outcome = world::run(&spec, &make, 1);
        assert_eq!(greatest.get(), LINE.0, "the line is used up to its limit");
        let late = outcome.records.iter().filter(|record| record.at > 5.0);
        let (mut count, mut by_place, mut failed) = (0.0, [0.0; 4], 0);
        for record in late {
            count += 1.0;
            failed += usize::from(!record.ok);
            if let Some(place) = by_place.get_mut(usize::from(record.place)) {
                *place += 1.0 / 30_000.0;
            }
        }
        assert!(count > 25_000.0 && failed == 0, "{count} requests, {failed} failed");
        // 12 exchanges of about 40 ms: 300 of 2,000 requests a second.
        let over_line = by_place[1] + by_place[2];
        assert!((0.10..0.20).contains(&over_line), "{by_place:?}");
        assert!(by_place[0] > 0.35 && by_place[3] > 0.25, "{by_place:?}");
    }
}
