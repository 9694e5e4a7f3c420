//! Reads the workers' slots periodically: the increase of each counter since the last sweep.

use super::endpoint::LOG_UNIT;
use super::interned::live_endpoint;
use super::{LiveClusters, OfClass, Places, Slot, Slots, ring};
use crate::decision::assess::{Answers, Samples};
use crate::decision::endpoint::speed::Logs;
use crate::decision::exchange::Exchanges;
use crate::decision::index::{EndpointIndex, Table};
use crate::decision::load::Tally;
use crate::decision::plan::{Class, ClassIndex, ClusterIndex, Plan};
use crate::decision::report::Report;
use crate::decision::shed::PRIORITIES;
use crate::decision::units::Timestamp;
use crate::telemetry::counter::Count;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads the increase of all counters since the last sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    slots: Arc<Slots>,
    /// By class.
    classes: Table<ClassIndex, Known>,
    clusters: LiveClusters,
    places: Arc<Places>,
    /// The id of the first endpoint of each cluster.
    firsts: Table<ClusterIndex, Option<u32>>,
    /// Counters of each endpoint at the last sweep, by its id.
    endpoints_before: FxHashMap<u32, [u64; 7]>,
    leaving: Vec<Leaving>,
}

/// A class that is no longer in the plan, while exchanges and flows of it are in flight.
#[derive(Debug)]
struct Leaving {
    service: String,
    /// By permitted cluster: its name, and the exchanges and bytes at the last sweep.
    clusters: Vec<(String, [u64; 2])>,
    /// By worker.
    workers: Vec<Arc<OfClass>>,
}

/// Traffic of a class that is no longer in the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct LateTraffic {
    /// The service's name.
    pub service: String,
    /// The cluster's name.
    pub cluster: String,
    /// Exchanges sent.
    pub exchanges: f64,
    /// Bytes received.
    pub bytes: f64,
}

/// Counters of one class at the last sweep.
#[derive(Debug, Default)]
struct Known {
    requested: [u64; PRIORITIES],
    /// By permitted cluster.
    places: Vec<ClusterCounts>,
}

/// Counters of one class at one of its clusters at the last sweep.
#[derive(Debug, Default)]
struct ClusterCounts {
    counts: [u64; COUNTS],
    /// When the newest report arrived.
    reported: Timestamp,
    /// By worker.
    cursors: Vec<ring::Cursor>,
}

impl Sweep {
    /// Switches from the slots of the plan `old` to other slots. The counts of classes that are in both plans continue. Of a
    /// class that was removed, only the traffic still in flight is counted, because it is billed: see [`late`](Sweep::late).
    pub fn adopt(&mut self, slots: Arc<Slots>, old: &Plan) {
        let workers = slots.workers.len();
        let place = |_: &Slot| ClusterCounts {
            cursors: std::iter::repeat_with(ring::Cursor::default).take(workers).collect(),
            ..ClusterCounts::default()
        };
        let ids = self.slots.workers.first().into_iter().flatten().map(|class| class.id);
        let mut before: BTreeMap<u64, Known> = ids.zip(std::mem::take(&mut self.classes)).collect();
        let known = |class: &Arc<OfClass>| match before.remove(&class.id) {
            Some(known) => known,
            None => {
                Known { places: class.clusters.iter().map(place).collect(), ..Known::default() }
            }
        };
        self.classes = slots.workers.first().into_iter().flatten().map(known).collect();
        let left = old.classes.iter().filter_map(|class| Some((class, before.remove(&class.id)?)));
        let left: Vec<Leaving> =
            left.map(|(class, known)| self.leaving(old, class, &known)).collect();
        self.leaving.extend(left);
        self.slots = slots;
    }

    fn leaving(&self, old: &Plan, class: &Class, known: &Known) -> Leaving {
        let places = class.permitted.clusters.iter().zip(&known.places);
        let cluster = |(cluster, place): (&ClusterIndex, &ClusterCounts)| {
            let [_, accepted, _, _, _, _, _, _, bytes, ..] = place.counts;
            (old.clusters[*cluster].name.clone(), [accepted, bytes])
        };
        let of = |classes: &Table<ClassIndex, Arc<OfClass>>| {
            classes.iter().find(|known| known.id == class.id).cloned()
        };
        Leaving {
            service: old.services[class.service].name.clone(),
            clusters: places.map(cluster).collect(),
            workers: self.slots.workers.iter().filter_map(of).collect(),
        }
    }

    /// The traffic since the last call of exchanges and flows whose class is no longer in the plan.
    pub fn late(&mut self) -> Vec<LateTraffic> {
        let mut all = Vec::new();
        self.leaving.retain_mut(|leaving| {
            // Read before the counters: whoever counts after that still holds them at the next call.
            let is_used = leaving.workers.iter().any(|of| Arc::strong_count(of) > 1);
            for (place, (cluster, before)) in leaving.clusters.iter_mut().enumerate() {
                let slots = leaving.workers.iter().filter_map(|of| of.clusters.get(place));
                let now = slots.fold([0, 0_u64], |[exchanges, bytes], slot| {
                    let (sent, received) = (slot.accepted.get(), slot.bytes.get());
                    [sent.wrapping_add(exchanges), received.wrapping_add(bytes)]
                });
                let before = std::mem::replace(before, now);
                let [exchanges, bytes] =
                    std::array::from_fn(|at| now[at].wrapping_sub(before[at]) as f64);
                if exchanges > 0.0 || bytes > 0.0 {
                    let (service, cluster) = (leaving.service.clone(), cluster.clone());
                    all.push(LateTraffic { service, cluster, exchanges, bytes });
                }
            }
            is_used
        });
        all
    }

    fn place(&mut self, class: ClassIndex, place: usize) -> Option<&mut ClusterCounts> {
        self.classes.get_mut(class)?.places.get_mut(place)
    }

    /// Switches to these endpoints.
    pub fn watch(&mut self, clusters: LiveClusters, places: Arc<Places>) {
        self.endpoints_before.retain(|id, _| places.contains_key(id));
        self.firsts = clusters.iter().map(|_| None).collect();
        for (id, (cluster, endpoint)) in places.iter() {
            if *endpoint == EndpointIndex(0)
                && let Some(first) = self.firsts.get_mut(*cluster)
            {
                *first = Some(*id);
            }
        }
        (self.clusters, self.places) = (clusters, places);
    }
}

/// Numbers of a slot.
const COUNTS: usize = 13;

impl Slot {
    fn counts(&self) -> [&Count; COUNTS] {
        [
            &self.offered,
            &self.accepted,
            &self.retried,
            &self.dialled,
            &self.completed,
            &self.failed,
            &self.micros,
            &self.micros_squared,
            &self.bytes,
            &self.abandoned,
            &self.abandoned_micros,
            &self.excused,
            &self.excused_micros,
        ]
    }
}

/// Increase of a counter between two sweeps. Counters wrap (squares of microseconds within hours), so only
/// differences are meaningful.
fn tally(total: &[u64; COUNTS], before: &[u64; COUNTS], report: Option<Report>) -> Tally {
    let [_, accepted, _, _, completed, failed, _, _, _, abandoned, _, excused, _] = *total;
    let over = [completed, failed, abandoned, excused].into_iter().fold(0, u64::wrapping_add);
    let waiting = accepted.wrapping_sub(over).cast_signed();
    let more = |at: usize| total[at].wrapping_sub(before[at]) as f64;
    let [offered, accepted, retried, dialled, completed, failed] = std::array::from_fn(more);
    Tally {
        offered,
        accepted,
        retried,
        dialled,
        completed,
        failed,
        latency_sum: more(6) / 1e6,
        latency_squares: more(7) / 1e12,
        bytes: more(8),
        abandoned: more(9),
        abandoned_seconds: more(10) / 1e6,
        excused: more(11),
        excused_seconds: more(12) / 1e6,
        waiting: waiting.max(0) as f64,
        report,
    }
}

impl Samples for Sweep {
    fn class(&mut self, class: ClassIndex, place: usize) -> Tally {
        let mut total = [0_u64; COUNTS];
        let mut newest: Option<(Report, Timestamp)> = None;
        for worker in 0..self.slots.workers.len() {
            let Some(slot) = self.slots.slot(worker, class, place) else { continue };
            for (sum, count) in total.iter_mut().zip(slot.counts()) {
                *sum = sum.wrapping_add(count.get());
            }
            if let Some(received) = slot.report.read()
                && newest.is_none_or(|(_, at)| received.1 > at)
            {
                newest = Some(received);
            }
        }
        let Some(known) = self.place(class, place) else { return Tally::default() };
        let news = newest.filter(|(_, at)| *at > known.reported);
        if let Some((_, at)) = news {
            known.reported = at;
        }
        let before = std::mem::replace(&mut known.counts, total);
        tally(&total, &before, news.map(|(report, _)| report))
    }

    fn exchanges(&mut self, class: ClassIndex, place: usize, into: &mut Exchanges) {
        let slots = self.slots.clone();
        let Some(known) = self.place(class, place) else { return };
        for (worker, cursor) in known.cursors.iter_mut().enumerate() {
            let slot = slots.slot(worker, class, place);
            if let Some(ring) = slot.and_then(|slot| slot.ring.get()) {
                cursor.read(ring, into);
            }
        }
    }

    fn endpoint(&mut self, id: u32) -> Answers {
        let Some(endpoint) = live_endpoint(&self.clusters, &self.places, id) else {
            return Answers::default();
        };
        let mut total = [0_u64; 7];
        for slot in &endpoint.samples {
            let answers = [&slot.count, &slot.micros, &slot.handshakes, &slot.handshake_micros];
            let logs = [&slot.timed, &slot.logs, &slot.log_squares];
            let counts = answers.into_iter().chain(logs);
            total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.get());
        }
        let before = self.endpoints_before.insert(id, total).unwrap_or_default();
        let [count, micros, handshakes, handshake_micros, timed, sum, squares] =
            std::array::from_fn(|at| total[at].wrapping_sub(before[at]) as f64);
        let rtt = (handshakes > 0.0).then(|| handshake_micros / handshakes / 1e6);
        let logs = Logs { count: timed, sum: sum / LOG_UNIT, squares: squares / LOG_UNIT };
        Answers { count, seconds: micros / 1e6, logs, rtt }
    }

    fn is_quiet(&mut self, cluster: ClusterIndex, first: u32) -> bool {
        // In the first sweep after a reload, the table is still that of the previous plan: then the ids differ.
        self.firsts.get(cluster) == Some(&Some(first))
            && self.clusters.get(cluster).is_some_and(|live| !live.activity.was_seen())
    }

    fn requested(&mut self, class: ClassIndex) -> [f64; PRIORITIES] {
        let workers = self.slots.workers.iter().filter_map(|classes| classes.get(class));
        let mut total = [0_u64; PRIORITIES];
        for of_class in workers {
            let counts = of_class.requested.0.iter();
            total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.get());
        }
        let Some(known) = self.classes.get_mut(class) else { return Default::default() };
        let before = std::mem::replace(&mut known.requested, total);
        std::array::from_fn(|at| total[at].wrapping_sub(before[at]) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Meter;
    use super::*;
    use crate::decision::permit::Permitted;
    use crate::decision::plan::{Cluster, Service};

    #[test]
    fn totals_survive_a_wrapping_counter() {
        // 50,000 exchanges of 20 s: 4e14 square microseconds each, and a counter wraps at 1.8e19.
        let (mut sweep, slot) = (Sweep::default(), Slot::default());
        let of_class = OfClass { clusters: vec![slot], ..OfClass::default() };
        let workers = vec![vec![Arc::new(of_class)].into()];
        let slots = Slots { workers, ..Slots::default() };
        let slots = Arc::new(slots);
        sweep.adopt(slots.clone(), &Plan::default());
        let micros = 20_000_000;
        for exchange in 0..50_000_u32 {
            let slot = slots.slot(0, ClassIndex(0), 0).unwrap();
            slot.accepted.add(2);
            slot.completed.add(1);
            slot.excused.add(1);
            slot.micros.add(micros);
            slot.micros_squared.add(micros * micros);
            let tally = sweep.class(ClassIndex(0), 0);
            let counted =
                (tally.completed, tally.latency_sum, tally.latency_squares, tally.waiting);
            assert_eq!(counted, (1.0, 20.0, 400.0, 0.0), "exchange {exchange}");
        }
    }

    /// One class of two clusters, and the meter of a flow to the second.
    fn world() -> (Plan, Sweep, Meter) {
        let mut plan = Plan::default();
        let clusters = ["a", "b"].map(|name| plan.clusters.push(Cluster::named(name)));
        let service = plan.services.push(Service::named("shop", clusters.to_vec()));
        let permitted = Permitted { clusters: clusters.to_vec(), rejected: Vec::new() };
        plan.classes.push(Class { service, data: Vec::new(), permitted, l4: true, id: 7 });
        let (mut sweep, slots) = (Sweep::default(), Arc::new(Slots::new(&plan, 2)));
        sweep.adopt(slots.clone(), &Plan::default());
        let meter = slots.meter(1, ClassIndex(0), 1);
        (plan, sweep, meter)
    }

    #[test]
    fn a_class_that_two_plans_share_keeps_its_counts() {
        let (plan, mut sweep, meter) = world();
        meter.count().unwrap().add(5);
        assert_eq!(sweep.class(ClassIndex(0), 1).bytes, 5.0);
        meter.count().unwrap().add(3);
        let next = Arc::new(sweep.slots.carried(&plan));
        sweep.adopt(next, &plan);
        meter.count().unwrap().add(4);
        assert_eq!(sweep.class(ClassIndex(0), 1).bytes, 7.0, "before and after the reload");
        assert!(sweep.late().is_empty());
    }

    #[test]
    fn a_flow_of_a_class_that_has_left_is_paid_until_its_end() {
        let (plan, mut sweep, meter) = world();
        meter.count().unwrap().add(5);
        assert_eq!(sweep.class(ClassIndex(0), 1).bytes, 5.0);
        meter.count().unwrap().add(3);
        let next = Arc::new(sweep.slots.carried(&Plan::default()));
        sweep.adopt(next, &plan);
        let late = |bytes| LateTraffic {
            service: "shop".to_owned(),
            cluster: "b".to_owned(),
            exchanges: 0.0,
            bytes,
        };
        assert_eq!(sweep.late(), [late(3.0)]);
        assert_eq!((sweep.late(), sweep.leaving.len()), (vec![], 1));
        meter.count().unwrap().add(1);
        drop(meter);
        assert_eq!((sweep.late(), sweep.leaving.len()), (vec![late(1.0)], 0));
    }
}
