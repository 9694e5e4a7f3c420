//! The control thread: sweeps slots, applies events, publishes views, and starts probes.
//!
//! The control thread is the only writer of the view. No step may take long: a stalled control thread would cause
//! wrong fail-overs. Therefore other threads handle files, DNS and HTTP.

use crate::decision::assess::{Assessor, Event, News};
use crate::decision::change::Dials;
use crate::decision::health::Cause;
use crate::decision::plan::Plan;
use crate::discover;
use crate::os::clock;
use crate::policy;
use crate::probe::{Probed, probe};
use crate::shared::{Interned, LateTraffic, Shared, Slots, Sweep, View, any_waits};
use crate::telemetry::cells::{BOUNDS, SpanTotals};
use crate::tls::store::Store;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The interval between two sweeps.
const SWEEP: Duration = Duration::from_millis(50);
/// Without traffic and events, only every fourth sweep takes place.
const RESTING_EVERY: u32 = 4;
/// The longest time that readiness waits for the first probes.
const FIRST_ROUND: Duration = Duration::from_secs(2);

/// Commands to the control thread.
#[derive(Debug)]
pub enum Command {
    /// Put this plan in force.
    Adopt {
        /// The plan.
        plan: Arc<Plan>,
        /// The plan's TLS settings.
        tls: Arc<Store>,
        /// The state of the plan's policies.
        policies: Arc<policy::Store>,
        /// The plan's generation.
        generation: u64,
        /// Answered when the plan is in force.
        done: oneshot::Sender<()>,
    },
    /// Use these certificates and policies with the plan in force.
    Certify {
        /// The plan's TLS settings.
        tls: Arc<Store>,
        /// The state of the plan's policies.
        policies: Arc<policy::Store>,
    },
    /// Apply this event; answered with the dials and shifts in force.
    Dial {
        /// A dial or a shift.
        event: Event,
        /// Answered with all dials and shifts.
        done: oneshot::Sender<Dials>,
    },
    /// End the thread.
    End,
}

/// The control thread's counters, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    /// Probes by cluster: successes and failures.
    pub probes: BTreeMap<String, (u64, u64)>,
    /// Durations of probes by cluster.
    pub spans: BTreeMap<String, SpanTotals>,
    /// Ejections by cluster and cause.
    pub ejections: BTreeMap<(String, &'static str), u64>,
    /// Failed TLS handshakes with endpoints, by cluster and cause.
    pub tls_failures: BTreeMap<(String, &'static str), u64>,
}

/// The inputs of the control thread.
#[derive(Debug)]
pub struct ControlSetup {
    /// The state that all threads share.
    pub shared: Arc<Shared>,
    /// Events from all threads.
    pub events: mpsc::Receiver<Event>,
    /// Commands from the main thread.
    pub commands: mpsc::Receiver<Command>,
    /// The control thread's counters.
    pub figures: Arc<Mutex<Figures>>,
    /// Events to apply first: the stored dials and budgets from before a restart.
    pub first: Vec<Event>,
}

/// Runs the control thread until a command ends it.
///
/// # Errors
/// When the runtime cannot be created.
pub fn run(setup: ControlSetup) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(setup));
    Ok(())
}

struct Control {
    shared: Arc<Shared>,
    figures: Arc<Mutex<Figures>>,
    assessor: Assessor,
    sweep: Sweep,
    interned: Interned,
    plan: Arc<Plan>,
    tls: Arc<Store>,
    policies: Arc<policy::Store>,
    slots: Arc<Slots>,
    generation: u64,
    graveyard: VecDeque<Arc<View>>,
    started: crate::decision::units::Timestamp,
    adopted: bool,
    /// Counts [`SWEEP`]s.
    ticks: u32,
}

async fn serve(mut setup: ControlSetup) {
    let mut control = Control::new(setup.shared.clone(), setup.figures.clone());
    let (probed, mut probes) = mpsc::channel::<Probed>(4096);
    let mut sweeps = tokio::time::interval(SWEEP);
    sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Commands first: an operator's command does not wait behind samples.
            biased;
            command = setup.commands.recv() => match command {
                None | Some(Command::End) => return,
                Some(Command::Adopt { plan, tls, policies, generation, done }) => {
                    (control.tls, control.policies) = (tls, policies);
                    control.adopt(plan, generation, std::mem::take(&mut setup.first));
                    control.send_probes(&probed);
                    tell(done, ());
                }
                Some(Command::Certify { tls, policies }) => {
                    (control.tls, control.policies) = (tls, policies);
                    control.publish();
                }
                Some(Command::Dial { event, done }) => {
                    control.fold(event);
                    control.publish();
                    tell(done, control.assessor.dials());
                }
            },
            Some(event) = setup.events.recv() => {
                control.fold(event);
                while let Ok(event) = setup.events.try_recv() {
                    control.fold(event);
                }
                control.publish_news();
            }
            Some(probed) = probes.recv() => {
                control.count(&probed);
                control.fold(probed.event);
                control.publish_news();
            }
            _ = sweeps.tick() => {
                control.tick();
                control.send_probes(&probed);
            }
        }
    }
}

fn tell<T>(done: oneshot::Sender<T>, value: T) {
    if done.send(value).is_err() {
        tracing::debug!("answer of the control thread dropped: the requester has gone");
    }
}

impl Control {
    fn new(shared: Arc<Shared>, figures: Arc<Mutex<Figures>>) -> Control {
        let view = shared.view.load_full();
        let now = clock::now();
        Control {
            figures,
            assessor: Assessor::new(view.plan.clone(), clock::entropy(), now),
            sweep: Sweep::default(),
            interned: Interned::new(shared.busy.len()),
            plan: view.plan.clone(),
            tls: view.tls.clone(),
            policies: view.policies.clone(),
            slots: view.slots.clone(),
            generation: view.generation,
            graveyard: VecDeque::new(),
            shared,
            started: now,
            adopted: false,
            ticks: 0,
        }
    }

    fn adopt(&mut self, plan: Arc<Plan>, generation: u64, first: Vec<Event>) {
        let now = clock::now();
        self.assessor.adopt(plan.clone());
        for cluster in &plan.clusters {
            // A plain list of addresses needs no discovery.
            if let Some(found) = discover::listed(cluster) {
                let cluster = cluster.name.clone();
                self.assessor.fold(Event::Endpoints { cluster, found }, now);
            }
        }
        first.into_iter().for_each(|event| self.assessor.fold(event, now));
        self.slots = Arc::new(self.slots.carried(&plan));
        self.sweep.adopt(self.slots.clone(), &self.plan);
        self.plan = plan;
        self.generation = generation;
        self.adopted = true;
        self.publish();
    }

    fn fold(&mut self, event: Event) {
        // Events of an earlier discovery source must not replace a list of addresses.
        if let Event::Endpoints { cluster, .. } = &event
            && self
                .plan
                .clusters
                .iter()
                .any(|known| known.name == *cluster && discover::listed(known).is_some())
        {
            return;
        }
        self.count_tls_failure(&event);
        self.assessor.fold(event, clock::now());
    }

    fn count_tls_failure(&self, event: &Event) {
        let (Event::ProbeFailed { endpoint, cause: Cause::Tls(failure) }
        | Event::ExchangeFailed { endpoint, cause: Cause::Tls(failure), .. }) = event
        else {
            return;
        };
        let view = self.shared.view.load();
        let owner = view.place(*endpoint).and_then(|(cluster, _)| view.plan.clusters.get(cluster));
        if let Some(cluster) = owner {
            let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (cluster.name.clone(), failure.label());
            *figures.tls_failures.entry(key).or_default() += 1;
        }
    }

    /// Sweeps at each tick, or at every fourth one while there is neither traffic nor an event.
    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        // A request that is still being sent is not in the counters yet, but it uses an upstream connection.
        let has_traffic =
            self.shared.demand.was_seen() || self.shared.upstreams.get() > 0 || any_waits();
        if has_traffic || !self.shared.ready.load(Ordering::Relaxed) {
            self.assessor.stir();
        }
        match self.assessor.rests() && !self.ticks.is_multiple_of(RESTING_EVERY) {
            true => self.assessor.skip(clock::now()),
            false => self.publish(),
        }
    }

    fn publish_news(&mut self) {
        if self.assessor.has_news() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let now = clock::now();
        for LateTraffic { service, cluster, exchanges, bytes } in self.sweep.late() {
            self.assessor.fold(Event::LateTraffic { service, cluster, exchanges, bytes }, now);
        }
        let mut signals = self.assessor.sweep(&mut self.sweep, now);
        for (index, allowance) in signals.allowances.enumerated() {
            if let Some(purse) = self.slots.purse(index) {
                purse.fill(*allowance);
            }
        }
        if self.interned.adopt(&self.plan, &signals) {
            self.sweep.watch(self.interned.live(), self.interned.places());
        }
        let (clusters, places) = (self.interned.live(), self.interned.places());
        for (live, signals) in clusters.iter().zip(&signals.clusters) {
            live.ceiling.set(signals.ceiling);
        }
        let elapsed = signals.at.secs_since(self.shared.view.load().signals.at);
        signals.groups = self.interned.sweep_groups(&self.plan, &signals.groups, elapsed);
        let view = View {
            plan: self.plan.clone(),
            tls: self.tls.clone(),
            policies: self.policies.clone(),
            signals,
            clusters,
            places,
            slots: self.slots.clone(),
            generation: self.generation,
        };
        let old = self.shared.view.swap(Arc::new(view));
        // Workers still hold the old view. The control thread keeps it and frees it later, so that no worker has to.
        self.graveyard.push_back(old);
        self.graveyard.retain(|view| Arc::strong_count(view) > 1);
        if self.adopted && !self.shared.ready.load(Ordering::Relaxed) {
            let waited = now.since(self.started) > FIRST_ROUND;
            let ready = waited || self.assessor.first_round_is_over(now);
            self.shared.ready.store(ready, Ordering::Relaxed);
        }
        for news in self.assessor.take_news() {
            self.report(&news);
        }
    }

    fn send_probes(&mut self, probed: &mpsc::Sender<Probed>) {
        for order in self.assessor.due_probes(clock::now()) {
            let (plan, tls, probed) = (self.plan.clone(), self.tls.clone(), probed.clone());
            tokio::task::spawn_local(async move {
                if let Some(result) = probe(&plan, &tls, order).await
                    && probed.send(result).await.is_err()
                {
                    tracing::debug!("probe result dropped: the control thread has ended");
                }
            });
        }
    }

    fn count(&self, probed: &Probed) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = figures.probes.entry(probed.cluster.clone()).or_default();
        match probed.event {
            Event::ProbeSucceeded { .. } => counts.0 += 1,
            Event::ProbeFailed { .. } => counts.1 += 1,
            _ => {}
        }
        let seconds = probed.took.as_secs_f64();
        let spans = figures.spans.entry(probed.cluster.clone()).or_default();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        spans.buckets[bucket] += 1;
        spans.sum += seconds;
    }

    fn report(&self, news: &News) {
        let event = match news {
            News::Cluster { cluster, state, cause } => {
                let state = state.label();
                let why = if cause.is_empty() { String::new() } else { format!(": {cause}") };
                tracing::info!(cluster, state, cause, "cluster {cluster} is now {state}{why}");
                json!({"kind": "cluster", "cluster": cluster, "state": state, "cause": cause})
            }
            News::Ejected { cluster, endpoint, cause } => {
                let (cause, why) = (cause.label(), cause.in_words());
                tracing::warn!(cluster, %endpoint, cause, "endpoint {endpoint} of cluster {cluster} ejected: {why}");
                let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
                *figures.ejections.entry((cluster.clone(), cause)).or_default() += 1;
                let endpoint = endpoint.to_string();
                json!({"kind": "ejected", "cluster": cluster, "endpoint": endpoint, "cause": cause})
            }
            News::Returned { cluster, endpoint } => {
                tracing::info!(cluster, %endpoint, "endpoint {endpoint} of cluster {cluster} returned");
                json!({"kind": "returned", "cluster": cluster, "endpoint": endpoint.to_string()})
            }
            News::Spilling { service, spilling } => {
                let change = if *spilling { "began" } else { "stopped" };
                tracing::info!(service, spilling, "service {service} {change} spilling");
                json!({"kind": "spill", "service": service, "spilling": spilling})
            }
        };
        broadcast(&self.shared, event);
    }
}

/// Sends an event to all event streams.
pub fn broadcast(shared: &Shared, mut event: Value) {
    if shared.news.receiver_count() == 0 {
        return;
    }
    if let Some(object) = event.as_object_mut() {
        object.insert("time".to_owned(), json!(clock::rfc3339(clock::since_epoch())));
    }
    if shared.news.send(event.to_string()).is_err() {
        tracing::trace!("event dropped: the last subscriber has gone");
    }
}

#[cfg(test)]
mod tests {
    use super::super::fresh;
    use super::*;
    use crate::shared::Held;
    use crate::telemetry::cells::Registry;

    /// Whether a tick publishes new signals.
    fn publishes(control: &mut Control) -> bool {
        let before = control.shared.view.load_full();
        control.tick();
        !Arc::ptr_eq(&before, &control.shared.view.load_full())
    }

    #[test]
    fn without_traffic_and_events_a_quarter_of_the_sweeps_takes_place() {
        let (shared, _channels) = fresh::shared(1, Arc::new(Registry::default()));
        let mut control = Control::new(shared.clone(), Arc::default());
        assert!((0..40).all(|_| publishes(&mut control)), "it is not ready");
        shared.ready.store(true, Ordering::Relaxed);
        (0..8).for_each(|_| _ = publishes(&mut control));
        let count = (0..40).filter(|_| publishes(&mut control)).count();
        assert_eq!(count, 10);
        // After an exchange, the next ticks sweep again.
        for pause in 0..4 {
            (0..8 + pause).for_each(|_| _ = publishes(&mut control));
            shared.demand.add(0);
            assert!((0..4).all(|_| publishes(&mut control)), "{pause}");
        }
        (0..8).for_each(|_| _ = publishes(&mut control));
        let connection = Held::enter(&shared.upstreams);
        assert!((0..20).all(|_| publishes(&mut control)), "a connection to an endpoint");
        drop(connection);
        (0..8).for_each(|_| _ = publishes(&mut control));
        control.fold(Event::DialSite { site: "here".to_owned(), percent: Some(50) });
        assert!((0..4).all(|_| publishes(&mut control)), "an operator's change");
    }
}
