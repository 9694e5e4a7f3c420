//! Reads the workers' slots periodically: the increase of each counter since the last sweep.

use super::endpoint::{LOG_UNIT, LiveEndpoint};
use super::{OfClass, Slot, Slots, ring};
use crate::decision::assess::{Answers, Samples};
use crate::decision::endpoint::speed::Logs;
use crate::decision::exchange::Exchanges;
use crate::decision::index::Table;
use crate::decision::load::Tally;
use crate::decision::plan::ClassIndex;
use crate::decision::report::Report;
use crate::decision::shed::PRIORITIES;
use crate::decision::units::Timestamp;
use crate::telemetry::counter::Count;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads the increase of all counters since the last sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    slots: Arc<Slots>,
    /// By class.
    classes: Table<ClassIndex, Known>,
    endpoints: BTreeMap<u32, Arc<LiveEndpoint>>,
    endpoints_before: BTreeMap<u32, [u64; 7]>,
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
    /// Switches to other slots; samples not yet swept from the old ones are dropped.
    pub fn adopt(&mut self, slots: Arc<Slots>) {
        let workers = slots.workers.len();
        let place = |_: &Slot| ClusterCounts {
            cursors: std::iter::repeat_with(ring::Cursor::default).take(workers).collect(),
            ..ClusterCounts::default()
        };
        let known = |class: &OfClass| Known {
            places: class.clusters.iter().map(place).collect(),
            ..Known::default()
        };
        self.classes = slots.workers.first().into_iter().flatten().map(known).collect();
        self.slots = slots;
    }

    fn place(&mut self, class: ClassIndex, place: usize) -> Option<&mut ClusterCounts> {
        self.classes.get_mut(class)?.places.get_mut(place)
    }

    /// Switches to these endpoints.
    pub fn watch(&mut self, endpoints: BTreeMap<u32, Arc<LiveEndpoint>>) {
        self.endpoints_before.retain(|id, _| endpoints.contains_key(id));
        self.endpoints = endpoints;
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
        let Some(endpoint) = self.endpoints.get(&id) else { return Answers::default() };
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
    use super::*;

    #[test]
    fn totals_survive_a_wrapping_counter() {
        // 50,000 exchanges of 20 s: 4e14 square microseconds each, and a counter wraps at 1.8e19.
        let (mut sweep, slot) = (Sweep::default(), Slot::default());
        let of_class = OfClass { clusters: vec![slot], ..OfClass::default() };
        let slots = Slots { workers: vec![vec![of_class].into()] };
        let slots = Arc::new(slots);
        sweep.adopt(slots.clone());
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
}
