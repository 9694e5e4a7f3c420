//! The state of one class: its load at each cluster, its service time, its order of clusters.

use super::choice::choices;
use super::inference::{Before, Inference, Sweep, oldest};
use super::place::{PermittedCluster, distances};
use super::success::{relative_success, working};
use crate::decision::backlog::{Backlog, Flow};
use crate::decision::capacity::{self, Capacity, Seen, Supply};
use crate::decision::demand::Forecast;
use crate::decision::exchange::Exchanges;
use crate::decision::growth::Growth;
use crate::decision::load::{Mix, Tally, Track};
use crate::decision::order::Order;
use crate::decision::plan::{Class, ClusterIndex, Kind, Plan};
use crate::decision::price::Prices;
use crate::decision::report::Report;
use crate::decision::service_time::{ReportedService, SERVICE_UNKNOWN};
use crate::decision::shed::{self, Claim, PRIORITIES, PriorityDemand, Shed};
use crate::decision::signal::{Choice, ClassSignals, Score, Why};
use crate::decision::spill::{self, Candidate};
use crate::decision::units::Timestamp;
use std::sync::Arc;

/// The state of one class, parallel to its permitted clusters.
#[derive(Debug)]
pub(super) struct ClassState {
    pub(super) tracks: Vec<Track>,
    inference: Inference,
    before: Before,
    reported: ReportedService,
    order: Order,
    /// The nearest live cluster of the last sweep, by slot.
    first: usize,
    /// The share that dial and slow start let through since the last sweep.
    open: Vec<f64>,
    /// Reasons of the exchanges sent since the last sweep, by slot.
    whys: Vec<Why>,
    /// Exchanges a second, without retries and hedges: those that spilled, and all.
    spilled_rate: f64,
    sent_rate: f64,
    spilling: bool,
    forecast: Forecast,
    growth: Vec<Growth>,
    capacity: Vec<Capacity>,
    by_priority: PriorityDemand,
    backlog: Backlog,
    /// The shed share since the last sweep.
    shed: Shed,
    /// The time for which every live cluster has had a queue, in seconds.
    queued: f64,
    /// The overload of this sweep; `None` where there is none.
    pub(super) claim: Option<Claim>,
    /// When the last report of a probe came, by slot.
    reported_at: Vec<Timestamp>,
    /// Exchanges a second, retries left out.
    demand: f64,
    /// Dollars since the start, by slot, and the total of the last sweep.
    spent: Vec<f64>,
    pub(super) spent_now: f64,
    /// The signals of the last sweep, and its moment.
    last: Option<(Arc<ClassSignals>, Timestamp)>,
}

/// What the budget allows at this sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Money {
    /// The price of a dollar, relative to its floor.
    pub(super) weight: f64,
    /// Whether spilling to a cluster with a price is allowed.
    pub(super) spill: bool,
    /// Whether failing over to a cluster with a price is allowed.
    pub(super) failover: bool,
}

/// The inputs of a sweep that are the same for all classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// Seconds since the last sweep.
    pub(super) elapsed: f64,
    pub(super) money: Money,
}

/// Exchanges a second below which a class counts as idle.
const AT_REST: f64 = 1e-3;
/// The upper bound of a service time learned during overload, as a multiple of the least mean of a few responses.
const LEAST_TIMES: f64 = 3.0;
const MS: f64 = 0.001;

/// The minimum duration of a queue, as a multiple of the longest acceptable queue.
const QUEUED_BOUNDS: f64 = 2.0;
/// The fraction of the longest acceptable queue that counts as no queue.
const QUEUED_PART: f64 = 0.2;
/// The fraction of the longest acceptable queue that every cluster must have before growth counts as a queue.
const QUEUES_PART: f64 = 0.25;
/// The fraction of a tolerable queue at which a cluster counts as full: the level at which spilling keeps it.
const FULL: f64 = 0.4;

/// The fraction of a mean wait that is used while exchanges are shed: the mean lags behind a queue that shrinks.
const MEAN_PART: f64 = 0.9;

/// How far ahead demand is forecast, in seconds: the time in which a cloud gets ready.
const LEAD: f64 = 60.0;

impl ClassState {
    pub(super) fn new(clusters: usize) -> ClassState {
        ClassState {
            tracks: vec![Track::default(); clusters],
            inference: Inference::new(clusters),
            before: Before::default(),
            reported: ReportedService::new(clusters),
            order: Order::listed(clusters),
            first: 0,
            open: vec![1.0; clusters],
            whys: vec![Why::Nearest; clusters],
            spilled_rate: 0.0,
            sent_rate: 0.0,
            spilling: false,
            forecast: Forecast::default(),
            growth: vec![Growth::default(); clusters],
            capacity: vec![Capacity::default(); clusters],
            by_priority: PriorityDemand::default(),
            backlog: Backlog::default(),
            shed: Shed::default(),
            queued: 0.0,
            claim: None,
            reported_at: vec![Timestamp::START; clusters],
            demand: 0.0,
            spent: vec![0.0; clusters],
            spent_now: 0.0,
            last: None,
        }
    }

    /// The signals of the last sweep, if nothing but traffic can have changed them since.
    pub(super) fn at_rest(&mut self) -> Option<Arc<ClassSignals>> {
        if self.demand > AT_REST || self.shed != Shed::default() {
            return None;
        }
        self.spent_now = 0.0;
        self.last.as_ref().map(|(signals, _)| signals.clone())
    }

    /// Seconds since the class's own last sweep; `None` before the first.
    pub(super) fn elapsed(&self, now: Timestamp) -> Option<f64> {
        let (_, at) = self.last.as_ref()?;
        Some(now.secs_since(*at).clamp(0.001, 5.0))
    }

    /// Stores the signals of this sweep.
    pub(super) fn believes(&mut self, signals: &Arc<ClassSignals>, now: Timestamp) {
        self.last = Some((signals.clone(), now));
    }

    /// Folds a sweep's tallies in and makes the class's signals.
    pub(super) fn sweep(
        &mut self,
        plan: &Plan,
        class: &Class,
        places: &[PermittedCluster<'_>],
        tallies: &[Tally],
        by_priority: &[f64; PRIORITIES],
        moment: Moment,
    ) -> ClassSignals {
        let Moment { now, elapsed, money } = moment;
        self.count(plan, places, tallies, by_priority, elapsed);
        let distances = distances(places);
        let seconds = now.secs_since(Timestamp::START);
        let usual = self.service().unwrap_or(SERVICE_UNKNOWN);
        for (slot, track) in self.tracks.iter_mut().enumerate() {
            let new = &self.inference.new[slot];
            let mix = Mix::of(&new.ended, self.inference.strata(), distances[slot], usual);
            track.history.take(new, oldest(seconds));
            track.fold(&tallies[slot], distances[slot], self.open[slot], &mix, elapsed);
            if places[slot].state.returned {
                track.forgive();
            }
            if let Some((report, at)) = &places[slot].state.report
                && *at > self.reported_at[slot]
            {
                self.reported_at[slot] = *at;
                track.hear(*report, now.secs_since(*at));
            }
        }
        self.open = places.iter().map(|place| place.open(now)).collect();
        if places.get(self.first).is_some_and(|place| place.state.replaced) {
            self.inference.forget();
        }
        if !class.l4 {
            self.infer(&distances, (seconds, elapsed));
            if let Some(least) = ReportedService::least(&self.tracks) {
                self.tracks.iter_mut().for_each(|track| track.doubt(least, elapsed));
            }
            self.reported.update(&self.tracks, elapsed);
        }
        let candidates = self.candidates(plan, class, places, &distances, moment);
        let base: Vec<f64> = candidates.iter().map(|candidate| candidate.base).collect();
        let known: Vec<bool> = places.iter().map(|place| place.state.is_measured()).collect();
        self.order.update(&base, &known, now);
        let order = self.order.current().to_vec();
        let mut live: Vec<usize> =
            order.iter().copied().filter(|slot| places[*slot].is_live(now)).collect();
        let panics = live.is_empty();
        if panics {
            let last_resort = |slot: &usize| {
                let PermittedCluster { cluster, state, dial } = places[*slot];
                state.is_last_resort(&plan.clusters[cluster], dial)
            };
            live = order.iter().copied().filter(last_resort).collect();
        }
        self.first = live.first().copied().unwrap_or(0);
        let may_take = self.may_take(&candidates, &live, elapsed);
        let mut choices = choices(places, &candidates, &order, &live, &may_take, self.demand, now);
        self.before = before(&candidates, &live, &choices);
        if panics {
            choices.iter_mut().for_each(|choice| choice.why = Why::Panic);
        }
        let before = choices.len();
        let first = live.first().copied();
        // Exchanges that a dial or a return keeps from the first cluster are not spilled.
        let held_back = first.is_some_and(|slot| places[slot].open(now) < 1.0);
        choices.retain(|choice| {
            let free = plan.clusters[choice.cluster].prices == Prices::default();
            let failover = Some(choice.slot) == first || held_back;
            free || if failover { money.failover } else { money.spill }
        });
        self.claim =
            (!class.l4).then(|| self.claim(class, tallies, &candidates, &choices, elapsed));
        let (wanted_rps, wanted_endpoints) = match class.l4 {
            true => (Vec::new(), Vec::new()),
            false => self.wanted(plan, places, &candidates, elapsed),
        };
        self.whys.fill(Why::Nearest);
        choices.iter().for_each(|choice| self.whys[choice.slot] = choice.why);
        let idle = idle(&candidates);
        let score = |slot: &usize| {
            let (state, candidate) = (places[*slot].state, &candidates[*slot]);
            let price = self.price(plan, places[*slot].cluster, *slot) * money.weight;
            let known = self.knows_service(class, *slot);
            Score {
                rtt: state.rtt(),
                distance: state.distance(),
                service: known.then_some(candidate.service),
                price,
                penalty: (candidate.base - candidate.distance - candidate.service - price).max(0.0),
                queue: known.then_some(candidate.queue),
                tolerates: spill::tolerable_queue(&idle, *slot),
                accept: choices.iter().find(|c| c.slot == *slot).map_or(0.0, |c| c.share),
                live: live.contains(slot),
            }
        };
        // A cluster that is down or drained has no share any more, whatever it had just before.
        let sent = |slot: usize| match live.contains(&slot) {
            true => self.tracks[slot].accepted_rate(),
            false => 0.0,
        };
        let all: f64 = (0..places.len()).map(sent).sum();
        let share = |slot: usize| if all > 0.0 { sent(slot) / all } else { 0.0 };
        ClassSignals {
            scores: order.iter().map(score).collect(),
            order: order.iter().map(|slot| places[*slot].cluster).collect(),
            shares: order.iter().map(|slot| share(*slot)).collect(),
            spill: if self.sent_rate > 0.0 { self.spilled_rate / self.sent_rate } else { 0.0 },
            demand_rps: self.demand,
            report: self.report(plan, places, &candidates, now),
            forecast_rps: self.forecast.ahead(LEAD),
            spent_usd: self.spent.clone(),
            unfunded: choices.len() < before,
            shed: Shed::default(),
            wanted_rps,
            wanted_endpoints,
            learned: places
                .iter()
                .zip(&self.capacity)
                .map(|(place, capacity)| capacity.learned(place.state.usable_count()))
                .collect(),
            choices,
        }
    }

    /// The part of its share that each cluster may get: by its success ratio, and by how fast its traffic may grow.
    fn may_take(
        &mut self,
        candidates: &[Candidate],
        live: &[usize],
        elapsed: f64,
    ) -> Vec<(f64, Growth)> {
        let working = working(&self.tracks, live);
        let each = self.growth.iter_mut().zip(&self.tracks).zip(candidates).zip(working);
        let part = |(((growth, track), candidate), working): (
            ((&mut Growth, &Track), &Candidate),
            f64,
        )| {
            let latency = candidate.distance + candidate.service;
            growth.fold(track.brief_rate(), self.demand, latency, elapsed);
            (working, *growth)
        };
        each.map(part).collect()
    }

    /// The overload of this class, for the decision over all classes.
    fn claim(
        &mut self,
        class: &Class,
        tallies: &[Tally],
        candidates: &[Candidate],
        choices: &[Choice],
        elapsed: f64,
    ) -> Claim {
        let open: Vec<Candidate> = choices.iter().map(|choice| candidates[choice.slot]).collect();
        let bound = shed::bound(match open.len() {
            0 | 1 => 0.0,
            _ => spill::tolerable_queue(&idle(&open), 0),
        });
        let usual = self.backlog.least().unwrap_or_default();
        self.backlog.fold(flow(tallies, usual), bound, elapsed);
        // Growth shows that some cluster has a queue; a class that was once without a queue knows which one.
        let shortest = open.iter().map(|place| place.queue).fold(f64::INFINITY, f64::min);
        self.queued = if shortest > QUEUED_PART * bound { self.queued + elapsed } else { 0.0 };
        let everywhere = !self.inference.tells_queues() || shortest > QUEUES_PART * bound;
        let grown = self.backlog.queue().filter(|_| everywhere);
        let place = |choice: &Choice| {
            let known = self.knows_service(class, choice.slot);
            // While the class sheds, the mean response time shows the wait. The bounds that prevent a slow page from
            // being taken for a queue apply earlier.
            let waits = match self.shed == Shed::default() {
                true => 0.0,
                false => MEAN_PART * self.tracks[choice.slot].beyond(),
            };
            // No exchange waits longer than there has been a queue: while connections are made for a burst, the completion rate
            // does not predict the rate after it.
            let most = match self.shed == Shed::default() && self.queued < QUEUED_BOUNDS * bound {
                true => bound,
                false => f64::INFINITY,
            };
            let queue = candidates[choice.slot].queue.min(most).max(waits);
            let inferred = Some(queue).filter(|_| known);
            let queue = inferred.into_iter().chain(grown).reduce(f64::max);
            (choice.cluster, queue, self.tracks[choice.slot].accepted_rate())
        };
        Claim {
            places: choices.iter().map(place).collect(),
            by_priority: self.by_priority,
            served: self.backlog.served(),
            work: self.service(),
            bound,
            steady: self.backlog.is_steady(),
            sheds: self.shed != Shed::default(),
        }
    }

    /// Infers service times and queues. During a queue that causes shedding no higher service time is learned.
    fn infer(&mut self, distances: &[f64], (now, elapsed): (f64, f64)) {
        let overloaded = self.shed != Shed::default() || self.backlog.queue().is_some();
        let before = Before { overloaded, ..self.before };
        let (tracks, first) = (self.tracks.as_slice(), self.first);
        self.inference.update(Sweep { tracks, distances, first, before, now, elapsed });
        let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
        if let Some(least) = self.backlog.least().filter(|_| overloaded) {
            self.inference.cap(LEAST_TIMES * (least - nearest).max(MS));
        }
    }

    /// Whether the class sheds something, or may have to.
    pub(super) fn is_pressed(&self) -> bool {
        let Some(claim) = &self.claim else { return false };
        let shortest = claim.places.iter().map(|place| place.1.unwrap_or(0.0)).reduce(f64::min);
        claim.sheds || shortest.is_some_and(|shortest| shortest > claim.bound)
    }

    /// Stores what the class sheds from now on.
    pub(super) fn sheds(&mut self, shed: Shed) {
        self.shed = shed;
    }

    /// The rate that each cluster should be able to serve in a minute, and the endpoints for it, by slot.
    fn wanted(
        &mut self,
        plan: &Plan,
        places: &[PermittedCluster<'_>],
        candidates: &[Candidate],
        elapsed: f64,
    ) -> (Vec<f64>, Vec<Option<f64>>) {
        let (order, idle) = (self.order.current(), idle(candidates));
        let mut supplies = Vec::with_capacity(order.len());
        for &slot in order {
            let (cluster, track) = (&plan.clusters[places[slot].cluster], &self.tracks[slot]);
            let service = candidates[slot].service;
            let endpoints = places[slot].state.usable_count();
            let full = places.len() > 1
                && candidates[slot].queue > FULL * spill::tolerable_queue(&idle, slot);
            let (rate, queue) = (track.good_rate(), candidates[slot].queue);
            let seen = Seen { rate, service, queue, endpoints, full };
            self.capacity[slot].fold(seen, elapsed);
            let at_once = |all: f64| all / endpoints.max(1) as f64;
            let stated = cluster.ceiling.or(cluster.capacity).map(|all| at_once(f64::from(all)));
            let reported = track.report().and_then(|report| report.capacity).map(at_once);
            let known = self.capacity[slot].concurrency();
            let whole = |each: f64| each * endpoints as f64 / service;
            let seen = self.capacity[slot].rate().map(|each| each * endpoints as f64);
            let own = seen.or(track.reported_capacity()).or(stated.map(whole));
            supplies.push(Supply {
                each: reported.or(known).or(stated).map(|each| each / service),
                rate: own.filter(|rate| *rate > 0.0),
                endpoints,
                is_cloud: cluster.kind == Kind::Cloud,
            });
        }
        let level = self.forecast.level();
        let demand = self.forecast.ahead(LEAD).map_or(self.demand, |ahead| ahead.max(level));
        let parts = capacity::pour(demand, &supplies);
        let endpoints = capacity::replicas(&parts, &supplies);
        let (mut rps, mut needed) = (vec![0.0; places.len()], vec![None; places.len()]);
        for (position, &slot) in order.iter().enumerate() {
            (rps[slot], needed[slot]) = (parts[position], endpoints[position]);
        }
        (rps, needed)
    }

    /// Counts demand and dollars.
    fn count(
        &mut self,
        plan: &Plan,
        places: &[PermittedCluster<'_>],
        tallies: &[Tally],
        by_priority: &[f64; PRIORITIES],
        elapsed: f64,
    ) {
        self.by_priority.fold(by_priority, elapsed);
        // Shed exchanges are demand, too.
        let sent: f64 = tallies.iter().map(|tally| tally.accepted - tally.retried).sum();
        let requested = by_priority.iter().sum::<f64>().max(sent);
        self.forecast.observe(requested, elapsed);
        let keep = (-elapsed).exp();
        self.demand = self.demand * keep + requested / elapsed * (1.0 - keep);
        self.count_spilled(tallies, elapsed);
        self.spent_now = 0.0;
        for ((tally, place), spent) in tallies.iter().zip(places).zip(&mut self.spent) {
            let prices = plan.clusters[place.cluster].prices;
            let usd = prices.dollars(0.0) * tally.accepted
                + (prices.dollars(tally.bytes) - prices.dollars(0.0));
            *spent += usd;
            self.spent_now += usd;
        }
    }

    /// Counts spilled exchanges by the reasons that were in force when they were sent: the next reasons would be wrong for
    /// exchanges of the last second.
    fn count_spilled(&mut self, tallies: &[Tally], elapsed: f64) {
        let first = |tally: &Tally| (tally.accepted - tally.retried).max(0.0);
        let sent: f64 = tallies.iter().map(first).sum();
        let spilled = tallies.iter().zip(&self.whys).filter(|(_, why)| **why == Why::Spill);
        let spilled: f64 = spilled.map(|(tally, _)| first(tally)).sum();
        let keep = (-elapsed).exp();
        self.sent_rate = self.sent_rate * keep + sent / elapsed * (1.0 - keep);
        self.spilled_rate = self.spilled_rate * keep + spilled / elapsed * (1.0 - keep);
    }

    /// Whether the service time at a slot is more than an assumption.
    fn knows_service(&self, class: &Class, slot: usize) -> bool {
        class.l4 || self.reported.seconds(slot).is_some() || self.service().is_some()
    }

    /// The load of the live clusters of this proxy's site, all together; `None` where there are none.
    fn report(
        &self,
        plan: &Plan,
        places: &[PermittedCluster<'_>],
        candidates: &[Candidate],
        now: Timestamp,
    ) -> Option<Report> {
        let local = |slot: &usize| {
            plan.clusters[places[*slot].cluster].site == plan.site && places[*slot].is_live(now)
        };
        let slots: Vec<usize> = (0..places.len()).filter(local).collect();
        // Exchanges that other classes send there are not counted here; then the response times say nothing.
        let alone = |cluster: &ClusterIndex| {
            let serves = |class: &&Class| class.permitted.clusters.contains(cluster);
            plan.classes.iter().filter(serves).count() == 1
        };
        let most = |slot: &usize| {
            let index = places[*slot].cluster;
            let cluster = &plan.clusters[index];
            cluster.ceiling.or(cluster.capacity).filter(|_| alone(&index)).map(f64::from)
        };
        let least =
            |value: &dyn Fn(usize) -> f64| slots.iter().map(|slot| value(*slot)).reduce(f64::min);
        let sum = |value: &dyn Fn(&Track) -> f64| {
            slots.iter().map(|slot| value(&self.tracks[*slot])).sum::<f64>()
        };
        Some(Report {
            queue: least(&|slot| candidates[slot].queue)?,
            service: least(&|slot| candidates[slot].service)?,
            in_flight: sum(&Track::waiting),
            capacity: slots.iter().map(most).sum::<Option<f64>>(),
            utilisation: None,
            arrivals: sum(&Track::accepted_rate),
            good: sum(&Track::good_rate),
            age: 0.0,
        })
    }

    /// Whether spilling began or ended with this sweep; with hysteresis.
    pub(super) fn spilling_changed(&mut self, spill: f64) -> Option<bool> {
        let spilling = if self.spilling { spill > 0.005 } else { spill > 0.02 };
        (spilling != std::mem::replace(&mut self.spilling, spilling)).then_some(spilling)
    }

    /// An L4 sample is the time to connect, which contains no service time.
    fn service_seconds(&self, class: &Class, slot: usize) -> f64 {
        match self.reported.seconds(slot) {
            _ if class.l4 => 0.0,
            Some(seconds) => seconds,
            None => self.service().unwrap_or(SERVICE_UNKNOWN),
        }
    }

    /// Response time of a request without a queue, in seconds; `None` while unknown.
    pub(super) fn service(&self) -> Option<f64> {
        self.inference.service()
    }

    /// The candidates of the next sweep, by slot.
    pub(super) fn exchanges(&mut self) -> &mut [Exchanges] {
        &mut self.inference.new
    }

    fn price(&self, plan: &Plan, cluster: ClusterIndex, slot: usize) -> f64 {
        plan.clusters[cluster].prices.seconds(self.tracks[slot].bytes())
    }

    fn candidates(
        &mut self,
        plan: &Plan,
        class: &Class,
        places: &[PermittedCluster<'_>],
        distances: &[f64],
        moment: Moment,
    ) -> Vec<Candidate> {
        let Moment { now, elapsed, money } = moment;
        let relative = relative_success(&self.tracks, places, now);
        let mut candidates = Vec::with_capacity(places.len());
        for (slot, (place, &distance)) in places.iter().zip(distances).enumerate() {
            let service = self.service_seconds(class, slot);
            let reported = self.tracks[slot].report().is_some();
            // Without a service time to compare with, slowness does not show a queue.
            if class.l4 {
                self.tracks[slot].update_queue(distance, service, |queue| queue, elapsed);
            } else if reported || self.service().is_some() {
                let seconds = now.secs_since(Timestamp::START);
                let within = self.inference.bound(slot, &self.tracks[slot], seconds);
                self.tracks[slot].update_queue(distance, service, within, elapsed);
            }
            let track = &self.tracks[slot];
            // A cluster that is down is passed over anyway; its order is kept for its return.
            let success = if place.is_live(now) { relative[slot].max(0.05) } else { 1.0 };
            let penalty = FAILURE_COST * (1.0 / success - 1.0);
            let set_up = track.dialled() * place.state.rtt().unwrap_or_default();
            candidates.push(Candidate {
                base: distance
                    + service
                    + self.price(plan, place.cluster, slot) * money.weight
                    + penalty
                    + if class.l4 { 0.0 } else { set_up },
                queue: track.queue(),
                service,
                distance,
                supply: if reported { track.reported_supply() } else { track.completed_share() },
                reported,
                flooded: track.is_flooded(),
            });
        }
        candidates
    }
}

/// Exchanges sent and ended at all clusters together; `usual` is the least response time, in seconds.
fn flow(tallies: &[Tally], usual: f64) -> Flow {
    let mut flow = Flow::default();
    for tally in tallies {
        flow.sent += tally.accepted;
        flow.ended += tally.completed + tally.failed + tally.abandoned + tally.excused;
        flow.left_early += tally.left_early(usual).0;
        flow.answered += tally.completed;
        flow.seconds += tally.latency_sum;
        flow.waiting += tally.waiting;
    }
    flow
}

/// The cost of a failed exchange, in seconds of distance (L3, Middleware 2024).
const FAILURE_COST: f64 = 0.6;

/// The same clusters without their queues: two long queues would justify each other.
fn idle(candidates: &[Candidate]) -> Vec<Candidate> {
    candidates.iter().map(|candidate| Candidate { queue: 0.0, ..*candidate }).collect()
}

/// The comparison values for the next sweep.
fn before(candidates: &[Candidate], live: &[usize], choices: &[Choice]) -> Before {
    let listed: Vec<Candidate> = live.iter().map(|slot| candidates[*slot]).collect();
    let Some(first) = listed.first() else { return Before::default() };
    let next = listed[1..].iter().map(|other| other.base).reduce(f64::min);
    Before {
        worth: spill::tolerable_queue(&idle(&listed), 0),
        gap: next.map_or(f64::INFINITY, |next| next - first.base),
        spills: choices.first().is_some_and(|choice| choice.share < 0.98) && listed.len() > 1,
        overloaded: false,
    }
}
