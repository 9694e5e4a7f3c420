//! One class as the fold remembers it: its load at each cluster, its service time, its order.

use super::cluster::ClusterState;
use crate::decision::load::{ReportedService, ServiceTime, Tally, Track};
use crate::decision::order::Order;
use crate::decision::plan::{Class, ClusterIndex, Plan};
use crate::decision::signal::{Choice, ClassSignals, Score, Why};
use crate::decision::spill::{self, Candidate};
use crate::decision::units::Timestamp;

/// One class as the fold remembers it, parallel to its permitted clusters.
#[derive(Debug)]
pub(super) struct ClassState {
    pub(super) tracks: Vec<Track>,
    pub(super) service: ServiceTime,
    reported: ReportedService,
    order: Order,
    /// The nearest live cluster of the last sweep, by slot.
    first: usize,
    /// The share that dial and slow start let through since the last sweep.
    open: Vec<f64>,
    spilling: bool,
}

/// One permitted cluster at this sweep.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) cluster: ClusterIndex,
    pub(super) state: &'a ClusterState,
    pub(super) dial: u8,
}

/// Distance of a cluster nobody has measured, beyond the farthest measured one, in seconds.
const UNMEASURED: f64 = 0.050;

impl ClassState {
    pub(super) fn new(clusters: usize) -> ClassState {
        ClassState {
            tracks: vec![Track::default(); clusters],
            service: ServiceTime::default(),
            reported: ReportedService::new(clusters),
            order: Order::listed(clusters),
            first: 0,
            open: vec![1.0; clusters],
            spilling: false,
        }
    }

    /// Folds a sweep's tallies in and forms the class's beliefs.
    pub(super) fn sweep(
        &mut self,
        plan: &Plan,
        class: &Class,
        places: &[Place<'_>],
        tallies: &[Tally],
        elapsed: f64,
        now: Timestamp,
    ) -> ClassSignals {
        let distances = distances(places);
        for (slot, track) in self.tracks.iter_mut().enumerate() {
            track.fold(&tallies[slot], distances[slot], self.open[slot], elapsed);
            if let Some((report, at)) = &places[slot].state.report {
                track.hear(*report, now.secs_since(*at));
            }
        }
        self.open = places.iter().map(|place| place.open(now)).collect();
        if !class.l4 {
            self.service.update(&self.tracks, self.first, elapsed);
            self.reported.update(&self.tracks, elapsed);
        }
        let candidates = self.candidates(plan, class, places, &distances, elapsed, now);
        let base: Vec<f64> = candidates.iter().map(|candidate| candidate.base).collect();
        let known: Vec<bool> = places.iter().map(|place| place.state.is_measured()).collect();
        self.order.update(&base, &known, now);
        let order = self.order.current().to_vec();
        let live: Vec<usize> =
            order.iter().copied().filter(|slot| places[*slot].is_live(now)).collect();
        self.first = live.first().copied().unwrap_or(0);
        let choices = choices(places, &candidates, &order, &live, now);
        let score = |slot: &usize| Score {
            rtt: places[*slot].state.rtt().unwrap_or_default(),
            service: candidates[*slot].service,
            price: self.price(plan, places[*slot].cluster, *slot),
            queue: candidates[*slot].queue,
            accept: choices.iter().find(|choice| choice.slot == *slot).map_or(0.0, |c| c.share),
            live: live.contains(slot),
        };
        let demand: f64 = self.tracks.iter().map(Track::accepted_rate).sum();
        let share = |slot: usize| {
            if demand > 0.0 { self.tracks[slot].accepted_rate() / demand } else { 0.0 }
        };
        ClassSignals {
            scores: order.iter().map(score).collect(),
            order: order.iter().map(|slot| places[*slot].cluster).collect(),
            shares: order.iter().map(|slot| share(*slot)).collect(),
            spill: choices.iter().filter(|c| c.why == Why::Spill).map(|c| share(c.slot)).sum(),
            demand_rps: demand,
            choices,
        }
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
            None => self.service.seconds(),
        }
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
        elapsed: f64,
        now: Timestamp,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::with_capacity(places.len());
        for (slot, (place, &distance)) in places.iter().zip(distances).enumerate() {
            let service = self.service_seconds(class, slot);
            let reported = self.tracks[slot].report().is_some();
            // Without a service time to compare with, slowness says nothing of a queue.
            if class.l4 || reported || self.service.is_known() {
                self.tracks[slot].update_queue(distance, service, elapsed);
            }
            let track = &self.tracks[slot];
            // A place that is down is passed over anyway; its order is kept for its return.
            let success = if place.is_live(now) { track.success().max(0.05) } else { 1.0 };
            let penalty = 0.6 * service.max(0.001) * (1.0 / success - 1.0);
            candidates.push(Candidate {
                base: distance + service + self.price(plan, place.cluster, slot) + penalty,
                queue: track.queue(),
                service,
                distance,
                supply: if reported { track.reported_supply() } else { track.completed_share() },
                reported,
            });
        }
        candidates
    }
}

impl Place<'_> {
    fn is_live(&self, now: Timestamp) -> bool {
        self.state.is_live(self.dial, now)
    }

    /// The share that dial and slow start let through.
    fn open(&self, now: Timestamp) -> f64 {
        self.state.return_share(now) * f64::from(self.dial) / 100.0
    }
}

/// How far each place is, in seconds: its round trip, and what its probes' answers take beyond the
/// quickest among these. The quickest answer is the probe itself; the rest is distance behind a
/// middlebox that accepts connections for the cluster.
fn distances(places: &[Place<'_>]) -> Vec<f64> {
    let answers = places.iter().map(|place| place.state.beyond).filter(|beyond| *beyond > 0.0);
    let quickest = answers.fold(f64::INFINITY, f64::min);
    let farthest = places.iter().filter_map(|place| place.state.rtt()).fold(0.0, f64::max);
    let distance = |place: &Place<'_>| {
        place.state.rtt().unwrap_or(farthest + UNMEASURED)
            + (place.state.beyond - quickest).max(0.0)
    };
    places.iter().map(distance).collect()
}

fn choices(
    places: &[Place<'_>],
    candidates: &[Candidate],
    order: &[usize],
    live: &[usize],
    now: Timestamp,
) -> Vec<Choice> {
    let listed: Vec<Candidate> = live.iter().map(|slot| candidates[*slot]).collect();
    let mut choices: Vec<Choice> = Vec::with_capacity(live.len());
    for (position, &slot) in live.iter().enumerate() {
        let place = &places[slot];
        let share = match live.len() {
            1 => 1.0,
            _ => spill::accept(&listed, position) * place.open(now),
        };
        let why = match choices.first() {
            Some(first) => why_beyond(places, first),
            None => why_first(places, order, slot),
        };
        choices.push(Choice { cluster: place.cluster, slot, share, why });
    }
    choices
}

/// Why an exchange goes beyond the nearest live cluster.
fn why_beyond(places: &[Place<'_>], first: &Choice) -> Why {
    // Of what does not go there, which part is the dial's doing?
    let dialled = f64::from(places[first.slot].dial) / 100.0;
    if 1.0 - dialled > dialled - first.share { Why::Dial } else { Why::Spill }
}

/// Why an exchange goes to the nearest live cluster.
fn why_first(places: &[Place<'_>], order: &[usize], slot: usize) -> Why {
    if places.len() == 1 {
        return Why::Only;
    }
    let mut nearer = order.iter().take_while(|other| **other != slot).peekable();
    if nearer.peek().is_none() {
        Why::Nearest
    } else if nearer.all(|other| places[*other].dial == 0) {
        Why::Dial
    } else {
        Why::Failover
    }
}
