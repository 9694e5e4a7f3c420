//! The published view of a class after a sweep: its signals, and its load for the proxies of other sites.

use super::wanted::{Wanted, lead};
use super::{ClassState, Moment, Money, Ranking, idle};
use crate::assess::place::PermittedCluster;
use crate::capacity::Capacity;
use crate::load::Track;
use crate::plan::{Class, ClusterIndex, Plan};
use crate::pool::Recent;
use crate::report::Report;
use crate::shed::Shed;
use crate::signal::{Choice, ClassSignals, Score};
use crate::spill::{self, Candidate};
use crate::units::Timestamp;

/// The inputs and results of one sweep besides the class's own state.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) plan: &'a Plan,
    pub(super) class: &'a Class,
    pub(super) places: &'a [PermittedCluster<'a>],
    pub(super) candidates: &'a [Candidate],
    pub(super) ranking: &'a Ranking,
}

impl ClassState {
    /// The class's signals, from its state after a sweep.
    pub(super) fn publish(
        &self,
        known: &Known<'_>,
        choices: Vec<Choice>,
        wanted: Wanted,
        Moment { now, money, .. }: Moment,
    ) -> ClassSignals {
        let Known { plan, places, candidates, ranking, .. } = *known;
        let Ranking { order, live, .. } = ranking;
        let idle = idle(candidates);
        let score = |slot: &usize| {
            let accept = choices.iter().find(|c| c.slot == *slot).map_or(0.0, |c| c.share);
            let tolerates = spill::tolerable_queue(&idle, *slot);
            Score { accept, tolerates, ..self.score(known, *slot, money) }
        };
        // A cluster that is down or drained has no share, whatever its share was just before.
        let sent = |slot: usize| match live.contains(&slot) {
            true => self.tracks[slot].accepted_rate(),
            false => 0.0,
        };
        let learned = |(place, capacity): (&PermittedCluster<'_>, &Capacity)| {
            capacity.learned(place.state.usable_count())
        };
        let all: f64 = (0..places.len()).map(sent).sum();
        let share = |slot: usize| if all > 0.0 { sent(slot) / all } else { 0.0 };
        ClassSignals {
            scores: order.iter().map(score).collect(),
            order: order.iter().map(|slot| places[*slot].cluster).collect(),
            shares: order.iter().map(|slot| share(*slot)).collect(),
            spill: if self.sent_rate > 0.0 { self.spilled_rate / self.sent_rate } else { 0.0 },
            demand_rps: self.demand,
            report: self.report(plan, places, candidates, now),
            forecast_rps: self.forecast.ahead(lead(plan)),
            bound_rps: self.congestion.bound().filter(|_| self.before.bounded),
            unfunded: false,
            shift: None,
            shed: Shed::default(),
            wanted_rps: wanted.rps,
            wanted_endpoints: wanted.endpoints,
            learned: places.iter().zip(&self.capacity).map(learned).collect(),
            recent: self.recent(known),
            choices,
        }
    }

    /// The newest response times of each slot at which this proxy gets few answers.
    fn recent(&self, Known { plan, class, places, .. }: &Known<'_>) -> Vec<Recent> {
        if !plan.pools || class.l4 {
            return Vec::new();
        }
        let slots = self.tracks.iter().zip(&self.answered).zip(places.iter());
        let recent = slots.map(|((track, total), place)| {
            let newest = place.state.distance().map(|distance| track.newest_answers(distance));
            let endpoints = place.state.fingerprint(&plan.host);
            Recent { total: *total, endpoints, newest: newest.unwrap_or_default() }
        });
        recent.collect()
    }

    /// The parts of a cluster's score that need no comparison with other clusters.
    fn score(&self, known: &Known<'_>, slot: usize, money: Money) -> Score {
        let Known { plan, class, places, candidates, ranking } = *known;
        let (state, candidate) = (places[slot].state, &candidates[slot]);
        let price = self.price(plan, places[slot].cluster, slot) * money.weight;
        let known = self.knows_service(class, slot);
        Score {
            rtt: state.rtt(),
            distance: state.distance(),
            service: known.then_some(candidate.service),
            price,
            penalty: (candidate.base - candidate.distance - candidate.service - price).max(0.0),
            queue: known.then_some(candidate.queue),
            tolerates: 0.0,
            accept: 0.0,
            live: ranking.live.contains(&slot),
        }
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
        // Exchanges that other classes send to the cluster are not counted here, so its response times show nothing.
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
}
