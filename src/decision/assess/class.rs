//! The state of one class: its load at each cluster, its service time, its order of clusters.

mod claim;
mod congested;
mod count;
mod publish;
mod wanted;

use self::publish::Known;
use self::wanted::Wanted;
use super::choice::{MayTake, Ranked, choices};
use super::inference::{Before, Inference, Sweep, oldest};
use super::place::{PermittedCluster, distances};
use super::rest::ELAPSED_MAX;
use super::shifted::Shifted;
use super::success::{relative_success, working};
use crate::backlog::Backlog;
use crate::capacity::Capacity;
use crate::congestion::Congestion;
use crate::demand::Forecast;
use crate::exchange::Exchanges;
use crate::growth::Growth;
use crate::load::{Mix, Tally, Track};
use crate::order::Order;
use crate::plan::{Class, ClusterIndex, Plan};
use crate::pool::{FEW, Observed};
use crate::price::Prices;
use crate::service_time::{ReportedService, SERVICE_UNKNOWN};
use crate::shed::{Claim, PRIORITIES, PriorityDemand, Shed};
use crate::signal::{ClassSignals, Why};
use crate::spill::{self, Candidate};
use crate::suspicion::Verdict;
use crate::units::Timestamp;
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
    /// The congestion of the nearest live cluster.
    congestion: Congestion,
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
    /// Whether the traffic of each slot since the last sweep is fail-over, which a budget does not limit.
    pub(super) unlimited: Vec<bool>,
    /// The signals of the last sweep, and its moment.
    last: Option<(Arc<ClassSignals>, Timestamp)>,
    /// Answers so far while they were few, by slot; wraps.
    answered: Vec<u16>,
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
    /// Whether a budget limits spill, and whether it limits fail-over.
    pub(super) limits: (bool, bool),
}

/// The inputs of a sweep that are the same for all classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// Seconds since the last sweep.
    pub(super) elapsed: f64,
    pub(super) money: Money,
    /// The shift of the class that is swept.
    pub(super) shift: Option<Shifted>,
}

/// Exchanges a second below which a class counts as idle.
const AT_REST: f64 = 1e-3;
/// The upper bound of a service time learned during overload, as a multiple of the least mean of a few responses.
const LEAST_TIMES: f64 = 3.0;
const MS: f64 = 0.001;

/// The clusters of a class by slot: all of them nearest first, and those that may be used.
#[derive(Debug)]
struct Ranking {
    order: Vec<usize>,
    live: Vec<usize>,
    /// Whether no cluster is live, so that the live ones are those of last resort.
    panics: bool,
}

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
            congestion: Congestion::default(),
            capacity: vec![Capacity::default(); clusters],
            by_priority: PriorityDemand::default(),
            backlog: Backlog::default(),
            shed: Shed::default(),
            queued: 0.0,
            claim: None,
            reported_at: vec![Timestamp::START; clusters],
            demand: 0.0,
            unlimited: vec![false; clusters],
            last: None,
            answered: vec![0; clusters],
        }
    }

    /// Takes response times that another proxy of the site told; a class without traffic needs none.
    pub(super) fn hear(&mut self, slot: usize, observed: &[Observed]) {
        if self.demand > AT_REST
            && let Some(track) = self.tracks.get_mut(slot)
        {
            track.hear_others(observed);
        }
    }

    /// The signals of the last sweep, if nothing but traffic can have changed them since.
    pub(super) fn at_rest(&self) -> Option<Arc<ClassSignals>> {
        if self.demand > AT_REST || self.shed != Shed::default() {
            return None;
        }
        self.last.as_ref().map(|(signals, _)| signals.clone())
    }

    /// Whether another sweep without traffic would find what the last one found: its clusters rest, and let through what
    /// they let through then.
    pub(super) fn is_asleep<'a>(
        &self,
        places: impl Iterator<Item = PermittedCluster<'a>>,
        now: Timestamp,
    ) -> bool {
        let Some((_, at)) = self.last.as_ref() else { return false };
        places
            .zip(&self.open)
            .all(|(place, before)| place.state.rest.lasts_since(*at) && place.open(now) == *before)
    }

    /// Seconds since the class's own last sweep; `None` before the first.
    pub(super) fn elapsed(&self, now: Timestamp) -> Option<f64> {
        let (_, at) = self.last.as_ref()?;
        Some(now.secs_since(*at).clamp(0.001, ELAPSED_MAX))
    }

    /// Stores the signals of this sweep.
    pub(super) fn believes(&mut self, signals: &Arc<ClassSignals>, now: Timestamp) {
        self.last = Some((signals.clone(), now));
    }

    /// Sweeps the rest of the class by itself: the requests that ended it came within the `latest` seconds, since the last
    /// sweep of all classes. Spread over the whole rest, a burst would look like a low rate with a long queue. Returns
    /// the seconds that are left for the next sweep.
    pub(super) fn pass_silence(
        &mut self,
        plan: &Plan,
        class: &Class,
        places: &[PermittedCluster<'_>],
        moment: Moment,
        latest: f64,
    ) -> f64 {
        let silence = moment.elapsed - latest;
        if silence < 0.5 * latest {
            return moment.elapsed;
        }
        let nothing = vec![Tally::default(); places.len()];
        let moment = Moment { elapsed: silence, ..moment };
        drop(self.sweep(plan, class, places, &nothing, &[0.0; PRIORITIES], moment));
        latest
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
        let Moment { now, elapsed, money, shift } = moment;
        self.count(tallies, by_priority, elapsed);
        let distances = distances(places);
        self.learn(class, places, tallies, &distances, moment);
        let candidates = self.candidates(plan, class, places, &distances, moment);
        let ranking = self.rank(plan, places, &candidates, moment);
        let may_take = self.may_take(&candidates, &ranking.live, elapsed);
        let Ranking { order, live, panics } = &ranking;
        let listed: Vec<Candidate> = live.iter().map(|slot| candidates[*slot]).collect();
        let first = self.congested(places, tallies, &listed, (now, elapsed));
        let may_take = MayTake { each: &may_take, first };
        let shifted = shift.filter(|shift| shift.applies());
        let ranked = Ranked { order, live, listed: &listed, shift: shifted };
        let (mut choices, bounded) =
            choices(places, &candidates, ranked, may_take, self.demand, now);
        self.before = Before { bounded, ..before(&listed) };
        if *panics {
            choices.iter_mut().for_each(|choice| choice.why = Why::Panic);
        }
        let all = choices.len();
        let first = live.first().copied();
        // Exchanges that a dial or a return keeps from the first cluster are not spilled.
        let held_back = first.is_some_and(|slot| places[slot].open(now) < 1.0);
        let unlimited = self.unlimited.iter_mut().enumerate();
        unlimited.for_each(|(slot, failover)| *failover = Some(slot) == first || held_back);
        choices.retain(|choice| {
            let free = plan.clusters[choice.cluster].prices == Prices::default();
            free || if self.unlimited[choice.slot] { money.failover } else { money.spill }
        });
        self.before.may_leave = choices.len() > 1;
        for choice in &mut choices {
            let (spill, failover) = money.limits;
            if if self.unlimited[choice.slot] { failover } else { spill } {
                let bytes = self.tracks[choice.slot].bytes();
                choice.usd = plan.clusters[choice.cluster].prices.dollars(bytes);
            }
        }
        self.claim =
            (!class.l4).then(|| self.claim(class, tallies, &candidates, &choices, elapsed));
        let wanted = match class.l4 {
            true => Wanted::default(),
            false => self.wanted(plan, places, &candidates, elapsed),
        };
        self.whys.fill(Why::Nearest);
        choices.iter().for_each(|choice| self.whys[choice.slot] = choice.why);
        let known = Known { plan, class, places, candidates: &candidates, ranking: &ranking };
        ClassSignals {
            unfunded: choices.len() < all,
            shift: shift.map(|shift| shift.signals(places)),
            ..self.publish(&known, choices, wanted, moment)
        }
    }

    /// Folds the samples of a sweep into the tracks, the service time and the queues.
    fn learn(
        &mut self,
        class: &Class,
        places: &[PermittedCluster<'_>],
        tallies: &[Tally],
        distances: &[f64],
        Moment { now, elapsed, .. }: Moment,
    ) {
        let seconds = now.secs_since(Timestamp::START);
        let usual = self.service().unwrap_or(SERVICE_UNKNOWN);
        for (slot, track) in self.tracks.iter_mut().enumerate() {
            let new = &self.inference.new[slot];
            let mix = Mix::of(&new.ended, self.inference.strata(), distances[slot], usual);
            track.history.take(new, oldest(seconds));
            let answers = new.answered().count();
            track.fold(&tallies[slot], distances[slot], self.open[slot], &mix, elapsed);
            if places[slot].state.replaced {
                track.leave_others(seconds);
            }
            if track.good_rate() < FEW {
                self.answered[slot] = self.answered[slot].wrapping_add(answers as u16);
            }
            track.fold_others(self.inference.strata(), usual, oldest(seconds), elapsed);
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
            self.congestion = Congestion::default();
        }
        if class.l4 {
            return;
        }
        self.infer(distances, (seconds, elapsed));
        if let Some(least) = ReportedService::least(&self.tracks) {
            self.tracks.iter_mut().for_each(|track| track.doubt(least, elapsed));
        }
        self.reported.update(&self.tracks, elapsed);
    }

    /// Infers service times and queues. While a queue causes shedding, the learned service time does not rise.
    fn infer(&mut self, distances: &[f64], (now, elapsed): (f64, f64)) {
        let overloaded = self.shed != Shed::default() || self.backlog.queue().is_some();
        let before = Before { overloaded, ..self.before };
        let (tracks, first) = (self.tracks.as_slice(), self.first);
        let sweep = Sweep { tracks, distances, first, before, now, elapsed };
        if matches!(self.inference.update(sweep), Verdict::Scale(_)) {
            // The queue was slower work, or the other way round: the limit no longer applies.
            self.congestion = Congestion::default();
        }
        let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
        if let Some(least) = self.backlog.least().filter(|_| overloaded) {
            self.inference.cap(LEAST_TIMES * (least - nearest).max(MS));
        }
    }

    /// The order of the clusters, and those that are live; without a live one, those of last resort.
    fn rank(
        &mut self,
        plan: &Plan,
        places: &[PermittedCluster<'_>],
        candidates: &[Candidate],
        Moment { now, shift, .. }: Moment,
    ) -> Ranking {
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
        if let Some(shift) = shift {
            shift.reorder(&order, &mut live);
        }
        let first = live.first().copied().unwrap_or(0);
        if std::mem::replace(&mut self.first, first) != first {
            self.congestion = Congestion::default();
        }
        Ranking { order, live, panics }
    }

    /// The part of its share that each cluster may get, by its success ratio and the permitted growth of its traffic.
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

    /// Whether the service time at a slot was measured, not assumed.
    fn knows_service(&self, class: &Class, slot: usize) -> bool {
        class.l4 || self.reported.seconds(slot).is_some() || self.service().is_some()
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
        let Moment { now, elapsed, money, .. } = moment;
        let relative = relative_success(&self.tracks, places, now);
        let mut candidates = Vec::with_capacity(places.len());
        for (slot, (place, &distance)) in places.iter().zip(distances).enumerate() {
            let service = self.service_seconds(class, slot);
            let reported = self.tracks[slot].report().is_some();
            // Without a known service time, a slow response does not show a queue.
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
                measured: reported || track.is_measured(),
                pooled: track.is_pooled(),
                flooded: track.is_flooded(),
            });
        }
        candidates
    }
}

/// The cost of a failed exchange, in seconds of distance (L3, Middleware 2024).
const FAILURE_COST: f64 = 0.6;

/// The same clusters without their queues. With queues, two long queues would justify each other.
fn idle(candidates: &[Candidate]) -> Vec<Candidate> {
    candidates.iter().map(|candidate| Candidate { queue: 0.0, ..*candidate }).collect()
}

/// The comparison values for the next sweep.
fn before(listed: &[Candidate]) -> Before {
    let Some(first) = listed.first() else { return Before::default() };
    let next = listed[1..].iter().map(|other| other.base).reduce(f64::min);
    Before {
        worth: spill::tolerable_queue(&idle(listed), 0),
        tolerated: spill::tolerable_queue(listed, 0),
        gap: next.map_or(f64::INFINITY, |next| next - first.base),
        spills: spill::accept(listed, 0) < 0.98,
        ..Before::default()
    }
}
