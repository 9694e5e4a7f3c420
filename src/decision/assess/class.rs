//! One class as the fold remembers it: its load at each cluster, its service time, its order.

use super::choice::choices;
use super::inference::{Before, Inference, Sweep, oldest};
use super::place::{Place, distances};
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
use crate::decision::shed::{self, Asked, Claim, PRIORITIES, Shed};
use crate::decision::signal::{Choice, ClassSignals, Score, Why};
use crate::decision::spill::{self, Candidate};
use crate::decision::units::Timestamp;
use std::sync::Arc;

/// One class as the fold remembers it, parallel to its permitted clusters.
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
    /// Why exchanges that were sent since the last sweep went where they did, by slot.
    whys: Vec<Why>,
    /// Exchanges a second, retries and hedges left out: those that spilled, and all.
    spilled_rate: f64,
    sent_rate: f64,
    spilling: bool,
    forecast: Forecast,
    growth: Vec<Growth>,
    capacity: Vec<Capacity>,
    asked: Asked,
    backlog: Backlog,
    /// What it drops on purpose since the last sweep.
    shed: Shed,
    /// For how many seconds every live cluster has had a queue.
    queued: f64,
    /// What it says of its overload at this sweep; nothing where there is none.
    pub(super) claim: Option<Claim>,
    /// When the last report of a probe came, by slot.
    heard: Vec<Timestamp>,
    /// Exchanges a second, retries left out.
    demand: f64,
    /// Dollars since the start, by slot, and with the last sweep in all.
    spent: Vec<f64>,
    pub(super) spent_now: f64,
    /// What the last sweep said, and when that was.
    last: Option<(Arc<ClassSignals>, Timestamp)>,
}

/// What money says at this sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Money {
    /// How many times its floor a dollar counts for.
    pub(super) weight: f64,
    /// Whether spilling to a priced cluster is paid for.
    pub(super) spill: bool,
    /// Whether failing over to one is.
    pub(super) failover: bool,
}

/// What holds for all of a sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// Seconds since the last one.
    pub(super) elapsed: f64,
    pub(super) money: Money,
}

/// Exchanges a second below which a class is at rest.
const AT_REST: f64 = 1e-3;
/// How many times the least mean of a few responses a service time may be while there is too long a queue.
const LEAST_TIMES: f64 = 3.0;
const MS: f64 = 0.001;

/// For how many times the longest acceptable queue there must have been one.
const QUEUED_BOUNDS: f64 = 2.0;
/// Which part of the longest acceptable queue is none.
const QUEUED_PART: f64 = 0.2;
/// Which part of the longest acceptable queue every cluster must have before growth is taken for one.
const QUEUES_PART: f64 = 0.25;
/// From which part of a tolerable queue on a cluster is full: where the spill holds it.
const FULL: f64 = 0.4;

/// Which part of a mean wait is believed while exchanges are shed: of a queue that shrinks it is old news.
const MEAN_PART: f64 = 0.9;

/// How far ahead demand is forecast, in seconds: what a cloud takes to be ready.
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
            asked: Asked::default(),
            backlog: Backlog::default(),
            shed: Shed::default(),
            queued: 0.0,
            claim: None,
            heard: vec![Timestamp::START; clusters],
            demand: 0.0,
            spent: vec![0.0; clusters],
            spent_now: 0.0,
            last: None,
        }
    }

    /// What was believed at the last sweep, where nothing that matters can have changed since but by traffic.
    pub(super) fn at_rest(&mut self) -> Option<Arc<ClassSignals>> {
        if self.demand > AT_REST || self.shed != Shed::default() {
            return None;
        }
        self.spent_now = 0.0;
        self.last.as_ref().map(|(signals, _)| signals.clone())
    }

    /// Seconds since its own last sweep; `None` before the first.
    pub(super) fn elapsed(&self, now: Timestamp) -> Option<f64> {
        let (_, at) = self.last.as_ref()?;
        Some(now.secs_since(*at).clamp(0.001, 5.0))
    }

    /// Notes what this sweep said.
    pub(super) fn believes(&mut self, signals: &Arc<ClassSignals>, now: Timestamp) {
        self.last = Some((signals.clone(), now));
    }

    /// Folds a sweep's tallies in and forms the class's beliefs.
    pub(super) fn sweep(
        &mut self,
        plan: &Plan,
        class: &Class,
        places: &[Place<'_>],
        tallies: &[Tally],
        asked: &[f64; PRIORITIES],
        moment: Moment,
    ) -> ClassSignals {
        let Moment { now, elapsed, money } = moment;
        self.count(plan, places, tallies, asked, elapsed);
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
                && *at > self.heard[slot]
            {
                self.heard[slot] = *at;
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
                let Place { cluster, state, dial } = places[*slot];
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
        // What a dial or a return keeps from the first place is no spill.
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
        // Who is down or drained has no part any more, whatever it had a moment ago.
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
            choices,
        }
    }

    /// The part of what each place would get that it may get: by how well it works, and how fast it may grow.
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

    /// What this class says of its overload, for all classes to be judged together.
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
        // Growth tells that there is a queue somewhere; who has seen calm can tell where there is none.
        let shortest = open.iter().map(|place| place.queue).fold(f64::INFINITY, f64::min);
        self.queued = if shortest > QUEUED_PART * bound { self.queued + elapsed } else { 0.0 };
        let everywhere = !self.inference.tells_queues() || shortest > QUEUES_PART * bound;
        let grown = self.backlog.queue().filter(|_| everywhere);
        let place = |choice: &Choice| {
            let known = self.knows_service(class, choice.slot);
            // While it sheds, the mean says how long they wait: the bounds that keep a slow page from being taken for
            // a queue are for the time before.
            let waits = match self.shed == Shed::default() {
                true => 0.0,
                false => MEAN_PART * self.tracks[choice.slot].beyond(),
            };
            // Nobody waits longer than there has been a queue: while connections are made for a burst, the rate at
            // which exchanges end says nothing of how quickly the rest will.
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
            asked: self.asked,
            served: self.backlog.served(),
            work: self.service(),
            bound,
            steady: self.backlog.is_steady(),
            sheds: self.shed != Shed::default(),
        }
    }

    /// Infers what requests take and what is a queue; from one that makes it drop exchanges, nothing is learned
    /// that is longer.
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

    /// Whether it may have to drop something, or does.
    pub(super) fn is_pressed(&self) -> bool {
        let Some(claim) = &self.claim else { return false };
        let shortest = claim.places.iter().map(|place| place.1.unwrap_or(0.0)).reduce(f64::min);
        claim.sheds || shortest.is_some_and(|shortest| shortest > claim.bound)
    }

    /// Notes what it drops from now on.
    pub(super) fn sheds(&mut self, shed: Shed) {
        self.shed = shed;
    }

    /// What each place should be able to serve a minute from now, and the endpoints that takes, by slot.
    fn wanted(
        &mut self,
        plan: &Plan,
        places: &[Place<'_>],
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
        places: &[Place<'_>],
        tallies: &[Tally],
        asked: &[f64; PRIORITIES],
        elapsed: f64,
    ) {
        self.asked.fold(asked, elapsed);
        // What was shed was asked for, too.
        let sent: f64 = tallies.iter().map(|tally| tally.accepted - tally.retried).sum();
        let asked = asked.iter().sum::<f64>().max(sent);
        self.forecast.observe(asked, elapsed);
        let keep = (-elapsed).exp();
        self.demand = self.demand * keep + asked / elapsed * (1.0 - keep);
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

    /// Counts what was spilled by the reasons that were in force as it was sent: what the next reasons say of
    /// exchanges of the last second would be wrong.
    fn count_spilled(&mut self, tallies: &[Tally], elapsed: f64) {
        let first = |tally: &Tally| (tally.accepted - tally.retried).max(0.0);
        let sent: f64 = tallies.iter().map(first).sum();
        let spilled = tallies.iter().zip(&self.whys).filter(|(_, why)| **why == Why::Spill);
        let spilled: f64 = spilled.map(|(tally, _)| first(tally)).sum();
        let keep = (-elapsed).exp();
        self.sent_rate = self.sent_rate * keep + sent / elapsed * (1.0 - keep);
        self.spilled_rate = self.spilled_rate * keep + spilled / elapsed * (1.0 - keep);
    }

    /// Whether the service time at a slot is more than a guess.
    fn knows_service(&self, class: &Class, slot: usize) -> bool {
        class.l4 || self.reported.seconds(slot).is_some() || self.service().is_some()
    }

    /// What the live clusters of this proxy's site have to do, all together; nothing where there is none.
    fn report(
        &self,
        plan: &Plan,
        places: &[Place<'_>],
        candidates: &[Candidate],
        now: Timestamp,
    ) -> Option<Report> {
        let local = |slot: &usize| {
            plan.clusters[places[*slot].cluster].site == plan.site && places[*slot].is_live(now)
        };
        let slots: Vec<usize> = (0..places.len()).filter(local).collect();
        // What other classes send there is not counted here; then what it takes says nothing.
        let alone = |cluster: &usize| {
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

    /// Whether spilling began or ended with this sweep; a band keeps it from chattering.
    pub(super) fn spilling_changed(&mut self, spill: f64) -> Option<bool> {
        let spilling = if self.spilling { spill > 0.005 } else { spill > 0.02 };
        (spilling != std::mem::replace(&mut self.spilling, spilling)).then_some(spilling)
    }

    /// An L4 sample is the time to connect, in which nothing is served.
    fn service_seconds(&self, class: &Class, slot: usize) -> f64 {
        match self.reported.seconds(slot) {
            _ if class.l4 => 0.0,
            Some(seconds) => seconds,
            None => self.service().unwrap_or(SERVICE_UNKNOWN),
        }
    }

    /// What one request takes without a queue, in seconds; `None` while unknown.
    pub(super) fn service(&self) -> Option<f64> {
        self.inference.service()
    }

    /// Where the exchanges of the next sweep are put, by slot.
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
        places: &[Place<'_>],
        distances: &[f64],
        moment: Moment,
    ) -> Vec<Candidate> {
        let Moment { now, elapsed, money } = moment;
        let relative = relative_success(&self.tracks, places, now);
        let mut candidates = Vec::with_capacity(places.len());
        for (slot, (place, &distance)) in places.iter().zip(distances).enumerate() {
            let service = self.service_seconds(class, slot);
            let reported = self.tracks[slot].report().is_some();
            // Without a service time to compare with, slowness says nothing of a queue.
            if class.l4 {
                self.tracks[slot].update_queue(distance, service, |queue| queue, elapsed);
            } else if reported || self.service().is_some() {
                let seconds = now.secs_since(Timestamp::START);
                let within = self.inference.bound(slot, &self.tracks[slot], seconds);
                self.tracks[slot].update_queue(distance, service, within, elapsed);
            }
            let track = &self.tracks[slot];
            // A place that is down is passed over anyway; its order is kept for its return.
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

/// What all places together have sent and got back; `usual` is what a response takes at least, in seconds.
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

/// What a failed exchange is worth, in seconds of distance (L3, Middleware 2024).
const FAILURE_COST: f64 = 0.6;

/// The same places without their queues: two long ones would excuse each other.
fn idle(candidates: &[Candidate]) -> Vec<Candidate> {
    candidates.iter().map(|candidate| Candidate { queue: 0.0, ..*candidate }).collect()
}

/// The part of a failing place's traffic that tries others, while nobody knows whether they do better.
const TRIAL: f64 = 0.3;

/// The part of what each place would get that it gets, by how much more often it fails than the best: one
/// that fails twice as often gets nothing but what shows its return. What fails everywhere is the
/// requests' fault, and moves nobody but those that try.
fn working(tracks: &[Track], live: &[usize]) -> Vec<f64> {
    let part = |slot: usize| {
        let track = &tracks[slot];
        let others = live.iter().filter(|other| **other != slot && tracks[**other].is_judged());
        let best = others.map(|other| tracks[*other].success_at_least()).reduce(f64::max);
        match best {
            Some(best) => ((track.success_now() / best.max(1e-3) - 0.5) / 0.4).clamp(0.0, 1.0),
            None if track.success_now() < 0.9 => 1.0 - TRIAL,
            None => 1.0,
        }
    };
    (0..tracks.len()).map(part).collect()
}

/// How often each place succeeds relative to the best of which that is known.
fn relative_success(tracks: &[Track], places: &[Place<'_>], now: Timestamp) -> Vec<f64> {
    let known = |slot: &usize| places[*slot].is_live(now) && tracks[*slot].is_judged();
    let all = (0..tracks.len()).filter(known).map(|slot| tracks[slot].success_at_least());
    let best = all.reduce(f64::max).unwrap_or(1.0);
    let relative = |track: &Track| (track.success_at_least() / best).min(1.0);
    tracks.iter().map(relative).collect()
}

/// What the next sweep is judged by.
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
