//! The cost of one sweep: the fold of 1,000 classes at two clusters each, some of them in use.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::decision::assess::{Answers, Assessor, Event, Found, Samples};
use tidegate::decision::exchange::Exchanges;
use tidegate::decision::ledger::Ledger;
use tidegate::decision::load::Tally;
use tidegate::decision::plan::{Address, ClassIndex};
use tidegate::decision::shed::PRIORITIES;
use tidegate::decision::units::Timestamp;
use tidegate::sim::{engine, scenario, world};

/// The number of classes.
pub(crate) const CLASSES: usize = 1_000;
/// Exchanges of an active class at each of its clusters between two sweeps: 100 a second.
const EXCHANGES: u64 = 5;

/// Samples in which only the first `active` classes have exchanges, of 20 ms each.
struct Traffic {
    ledger: Ledger,
    active: usize,
    exchanges: u64,
    now: f64,
}

impl Samples for Traffic {
    fn class(&mut self, class: ClassIndex, slot: usize) -> Tally {
        let count = if class.0 < self.active { EXCHANGES } else { 0 };
        for _ in 0..count {
            self.exchanges += 1;
            let sent = self.now - 0.030;
            let account = self.ledger.at(class, slot);
            account.sent(self.exchanges, sent, (self.exchanges % 3) as u8);
            account.answered(self.exchanges, sent + 0.020);
        }
        self.ledger.class(class, slot)
    }

    fn exchanges(&mut self, class: ClassIndex, slot: usize, into: &mut Exchanges) {
        self.ledger.exchanges(class, slot, into);
    }

    fn endpoint(&mut self, _id: u32) -> Answers {
        Answers::default()
    }

    fn requested(&mut self, class: ClassIndex) -> [f64; PRIORITIES] {
        self.ledger.requested(class)
    }
}

/// Milliseconds of one sweep with this many active classes, on average over five seconds of virtual time.
pub(crate) fn measure(active: usize) -> Option<f64> {
    let mut spec = scenario::named("S1")?.spec;
    spec.places.truncate(2);
    spec.services = CLASSES;
    let mut plan = engine::plan(&spec);
    plan.classes = plan.classes.into_iter().take(CLASSES).collect();
    let plan = Arc::new(plan);
    let mut assessor = Assessor::new(plan.clone(), 1, Timestamp::START);
    for (number, cluster) in plan.clusters.iter().enumerate() {
        let address = Address::Unix(format!("/{number}").into());
        let found = vec![Found { address, weight: 1 }];
        let event = Event::Endpoints { cluster: cluster.name.clone(), found };
        assessor.fold(event, Timestamp::START);
    }
    let shape = plan.classes.iter().map(|class| class.permitted.clusters.len());
    let ledger = Ledger::new(shape);
    let mut traffic = Traffic { ledger, active, exchanges: 0, now: 1.0 };
    let mut took = Duration::ZERO;
    for turn in 0..200 {
        traffic.now += 0.05;
        let now = world::moment(traffic.now);
        for order in assessor.due_probes(now) {
            let (endpoint, rtt) = (order.endpoint, Duration::from_millis(1));
            let event = Event::ProbeSucceeded { endpoint, rtt, answer: None, report: None };
            assessor.fold(event, now);
        }
        let started = Instant::now();
        black_box(assessor.sweep(&mut traffic, now));
        if turn >= 100 {
            took += started.elapsed();
        }
    }
    Some(took.as_secs_f64() * 1e3 / 100.0)
}
