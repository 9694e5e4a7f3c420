//! One sweep: folds in the samples of all clusters and classes, and creates the signals.
//!
//! A class without traffic changes little: its signals are updated at every fourth sweep, at each sweep for a quarter
//! of all such classes, unless all its clusters rest. A change that affects all classes (a cluster that goes down, a
//! dial) takes effect at once. While there is neither traffic nor an event, the caller may skip sweeps ([`Assessor::rests`]).

use super::class::{ClassState, Moment};
use super::place::PermittedCluster;
use super::published::{Given, Traffic};
use super::shifted::Shifted;
use super::{Assessor, News, Samples, distance};
use crate::change::{Change, Shift};
use crate::index::Table;
use crate::load::Tally;
use crate::plan::{Class, ClassIndex, Cluster, ClusterIndex, Plan};
use crate::shed::{self, Claim};
use crate::signal::{ClassSignals, Signals};
use crate::units::Timestamp;
use std::sync::Arc;

/// The signals of a class without traffic are updated at one of this many sweeps.
const IDLE_EVERY: usize = 4;

impl Assessor {
    /// Whether the proxy is idle and sweeps may be skipped: recent sweeps found neither traffic nor a
    /// change, and all clusters rest. The next exchange or event ends this.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.quiet >= IDLE_EVERY
    }

    /// Ends the rest, because an exchange may have begun: the next sweeps must not be skipped.
    pub fn stir(&mut self) {
        self.quiet = 0;
    }

    /// Skips a sweep, as no exchange has begun; the classes whose turn it was have it at the next sweep.
    pub fn skip(&mut self, now: Timestamp) {
        self.looked = now;
        self.turn = self.turn.wrapping_add(1);
        self.skipped += 1;
    }

    /// Folds in the samples of a sweep and creates the current signals.
    pub fn sweep(&mut self, samples: &mut impl Samples, now: Timestamp) -> Signals {
        let elapsed = now.secs_since(self.swept).clamp(0.001, 5.0);
        let latest = now.secs_since(self.looked).clamp(0.001, 5.0);
        (self.swept, self.looked) = (now, now);
        let plan = self.plan.clone();
        self.end_temporary(now);
        let mut settled = true;
        for (cluster, state) in plan.clusters.enumerated().zip(&mut self.clusters) {
            state.sweep(cluster, samples, elapsed, &mut self.news, now);
            settled &= state.rest.is_resting();
        }
        distance::compare(&plan, &self.same_application, &mut self.clusters, elapsed);
        self.accounts.refill(&plan, elapsed, now);
        let mut classes = self.sweep_classes(&plan, samples, latest, now);
        if !settled {
            self.stir();
        }
        self.accounts.settle(elapsed);
        self.shed(&mut classes);
        let mut clusters = Table::with_capacity(plan.clusters.len());
        let traffic = self.traffic(&plan, &classes);
        for ((index, cluster), traffic) in plan.clusters.enumerated().zip(traffic) {
            let site_dial = self.site_dial(cluster);
            let dial = self.dial_within(index, cluster, Some(&site_dial));
            let given = Given { traffic, dial, site_dial, members: plan.members };
            let state = &mut self.clusters[index];
            state.replaced = false;
            // A cluster with a queue answers its probes late; that is not distance, so it is not learned.
            state.loaded = traffic.queue.is_some_and(|queue| queue > 0.001);
            clusters.push(state.believe(cluster, given, &mut self.news, now));
        }
        let balances = self.accounts.balances(&plan);
        let choices = classes.iter().flat_map(|class| &class.choices);
        let warm = choices.filter(|choice| choice.warm).map(|choice| choice.cluster).collect();
        Signals {
            at: now,
            clusters,
            groups: self.lines.signals(&plan, now),
            classes,
            budgets: balances.iter().map(|of| of.map(|balance| balance.left)).collect(),
            budget_levels: balances.iter().map(|of| of.map(|balance| balance.level)).collect(),
            budget_parts: balances.iter().map(|of| of.map(|balance| balance.part)).collect(),
            allowances: balances.iter().map(|of| of.map(|balance| balance.allowance)).collect(),
            spent: self.accounts.spent(),
            warm,
        }
    }

    /// Creates the signals of all classes; classes without traffic take turns. `latest`: seconds since
    /// the last sweep or skipped sweep; the traffic of a class that was idle came within them.
    fn sweep_classes(
        &mut self,
        plan: &Plan,
        samples: &mut impl Samples,
        latest: f64,
        now: Timestamp,
    ) -> Table<ClassIndex, Arc<ClassSignals>> {
        let mut classes = std::mem::take(&mut self.classes);
        let mut accounts = std::mem::take(&mut self.accounts);
        let mut news = Vec::new();
        let places = self.places(plan);
        let usable: Vec<(bool, u8)> =
            places.iter().map(|place| (place.is_live(now), place.dial)).collect();
        let changed = usable != self.usable
            || self.shifts_changed
            || places.iter().any(|place| place.state.replaced);
        let (mut tallies, mut is_idle) = (Vec::new(), !changed);
        let mut sweep_class = |(index, class): (ClassIndex, &Class)| {
            let state = &mut classes[index];
            let permitted = &class.permitted.clusters;
            tallies.clear();
            tallies.extend((0..permitted.len()).map(|slot| samples.class(index, slot)));
            let requested = samples.requested(index);
            let idle =
                tallies.iter().all(Tally::is_idle) && requested.iter().all(|count| *count == 0.0);
            let has_turn = (index.0 + self.turn) % IDLE_EVERY <= self.skipped;
            is_idle &= idle;
            // A budget changes by time alone.
            let is_asleep = || {
                plan.services[class.service].budget.is_none()
                    && state.is_asleep(permitted.iter().map(|cluster| places[*cluster]), now)
            };
            if idle
                && !changed
                && (!has_turn || is_asleep())
                && let Some(signals) = state.at_rest()
            {
                return signals;
            }
            let mut places: Vec<PermittedCluster<'_>> =
                permitted.iter().map(|cluster| places[*cluster]).collect();
            let shift = self.redirect(plan, class, &mut places, now);
            let money = accounts.money(plan, class.service);
            let since = state.elapsed(now).unwrap_or(latest);
            let latest = if idle { since } else { latest };
            let moment = Moment { now, elapsed: since, money, shift };
            let elapsed = state.pass_silence(plan, class, &places, moment, latest);
            read_exchanges(samples, index, state);
            // Paid first, so that the choices of this sweep know the balance.
            let bytes = |slot: usize| state.tracks[slot].bytes();
            accounts.pay(plan, class, &tallies, &state.unlimited, bytes);
            let money = accounts.money(plan, class.service);
            let moment = Moment { now, elapsed, money, shift };
            let signals = Arc::new(state.sweep(plan, class, &places, &tallies, &requested, moment));
            if let Some(spilling) = state.spilling_changed(signals.spill) {
                let service = plan.services[class.service].name.clone();
                news.push(News::Spilling { service, spilling });
            }
            state.believes(&signals, now);
            signals
        };
        let signals = plan.classes.enumerated().map(&mut sweep_class).collect();
        self.classes = classes;
        self.accounts = accounts;
        self.news.extend(news);
        self.usable = usable;
        self.shifts_changed = false;
        self.end_turn(is_idle);
        signals
    }

    fn end_turn(&mut self, is_idle: bool) {
        self.turn = self.turn.wrapping_add(1);
        self.skipped = 0;
        self.quiet = if is_idle { self.quiet.saturating_add(1) } else { 0 };
    }

    /// The state and the dial of each cluster.
    fn places(&self, plan: &Plan) -> Table<ClusterIndex, PermittedCluster<'_>> {
        let place = |(cluster, of): (ClusterIndex, &Cluster)| PermittedCluster {
            cluster,
            state: &self.clusters[cluster],
            dial: self.dial(cluster, of),
        };
        plan.clusters.enumerated().map(place).collect()
    }

    /// Decides what is shed, for all classes together, since they share clusters.
    fn shed(&mut self, classes: &mut [Arc<ClassSignals>]) {
        if !self.classes.iter().any(ClassState::is_pressed) {
            return;
        }
        let claims = self.classes.iter().map(|state| state.claim.clone());
        let nothing = Claim::default();
        let claims: Vec<Claim> = claims.map(|claim| claim.unwrap_or(nothing.clone())).collect();
        for ((state, signals), shed) in
            self.classes.iter_mut().zip(classes).zip(shed::decide(&claims))
        {
            if signals.shed != shed {
                Arc::make_mut(signals).shed = shed;
            }
            state.sheds(shed);
        }
    }

    /// The effective dial: the operator's or else the file's, limited by the site's.
    fn dial(&self, index: ClusterIndex, cluster: &Cluster) -> u8 {
        self.dial_within(index, cluster, Some(&self.site_dial(cluster)))
    }

    fn dial_within(&self, index: ClusterIndex, cluster: &Cluster, site: Option<&u8>) -> u8 {
        let state = &self.clusters[index];
        if state.awaits_undrain() {
            return 0;
        }
        state.dial.unwrap_or(cluster.dial).min(site.copied().unwrap_or(100))
    }

    fn site_dial(&self, cluster: &Cluster) -> u8 {
        let set = self.site_dials.get(&cluster.site).copied().unwrap_or(100);
        set.min(self.drill_dial(cluster).unwrap_or(100))
    }

    /// The dial of a drill of the cluster's site.
    fn drill_dial(&self, cluster: &Cluster) -> Option<u8> {
        match &self.temporary.as_ref()?.change {
            Change::Site { site, percent } if *site == cluster.site => Some(*percent),
            Change::Site { .. } | Change::Shift { .. } => None,
        }
    }

    /// Ends the change of an operation that was not extended.
    fn end_temporary(&mut self, now: Timestamp) {
        if self.temporary.take_if(|temporary| temporary.until <= now).is_some() {
            self.shifts_changed = true;
        }
    }

    /// Applies the shift of a class, and returns it. A drill is undone for a class that has no other live cluster.
    fn redirect(
        &self,
        plan: &Plan,
        class: &Class,
        places: &mut [PermittedCluster<'_>],
        now: Timestamp,
    ) -> Option<Shifted> {
        if self.shifts.is_empty() && self.temporary.is_none() {
            return None;
        }
        if !places.iter().any(|place| place.is_live(now)) {
            for place in places.iter_mut() {
                let cluster = &plan.clusters[place.cluster];
                if self.drill_dial(cluster).is_some() {
                    let site = self.site_dials.get(&cluster.site);
                    place.dial = self.dial_within(place.cluster, cluster, site);
                }
            }
        }
        let shift = self.shift_of(&plan.services[class.service].name)?;
        let shifted = Shifted::of(shift, plan, class, places, now)?;
        for (slot, place) in places.iter_mut().enumerate() {
            place.dial = shifted.dial(slot, place.dial);
        }
        Some(shifted)
    }

    /// The shift in force for a service: that of the running operation, or else the operator's.
    fn shift_of(&self, name: &str) -> Option<&Shift> {
        match self.temporary.as_ref().map(|temporary| &temporary.change) {
            Some(Change::Shift { service, shift }) if service == name => shift.as_ref(),
            Some(_) | None => self.shifts.get(name),
        }
    }

    /// The totals of each cluster's traffic.
    fn traffic(&self, plan: &Plan, classes: &[Arc<ClassSignals>]) -> Table<ClusterIndex, Traffic> {
        let mut all: Table<_, _> = plan.clusters.iter().map(|_| Traffic::default()).collect();
        // The rate of the class that has sent most so far.
        let mut most: Table<_, _> = plan.clusters.iter().map(|_| 0.0).collect();
        for ((class_index, class), signals) in plan.classes.enumerated().zip(classes) {
            let state = &self.classes[class_index];
            for (&index, track) in class.permitted.clusters.iter().zip(&state.tracks) {
                let traffic = &mut all[index];
                let rate = track.accepted_rate();
                let dollars = plan.clusters[index].prices.dollars(track.bytes());
                traffic.rate += rate;
                traffic.failed_rate += rate * (1.0 - track.success());
                traffic.usd_per_hour += rate * dollars * 3600.0;
                let position = signals.order.iter().position(|cluster| *cluster == index);
                let Some(score) = position.and_then(|at| signals.scores.get(at)) else { continue };
                traffic.queue = traffic.queue.into_iter().chain(score.queue).reduce(f64::max);
                traffic.share += if score.live { rate } else { 0.0 };
                let knows_more = traffic.service.is_none() && score.service.is_some();
                if traffic.class.is_none()
                    || rate > most[index]
                    || rate >= most[index] && knows_more
                {
                    most[index] = rate;
                    traffic.class = Some(class_index);
                    // An L4 class has none.
                    traffic.service = score.service.filter(|_| !class.l4);
                    traffic.total = score.total();
                }
            }
        }
        let total: f64 = all.iter().map(|traffic| traffic.share).sum();
        if total > 0.0 {
            all.iter_mut().for_each(|traffic| traffic.share /= total);
        }
        all
    }
}

/// Reads the exchanges that ended or are in flight, for each cluster of a class.
fn read_exchanges(samples: &mut impl Samples, index: ClassIndex, state: &mut ClassState) {
    for (slot, into) in state.exchanges().iter_mut().enumerate() {
        into.clear();
        samples.exchanges(index, slot, into);
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::plan;
    use super::*;
    use crate::assess::{ClusterState, Event, Found};
    use crate::budget::SpendingLimit;
    use crate::health::Cause;
    use crate::ledger::Ledger;
    use crate::plan::{Address, ServiceIndex};
    use crate::pool::{Observed, Told};
    use std::time::Duration;

    /// Eight classes at two clusters, swept 20 times a second.
    struct World {
        assessor: Assessor,
        ledger: Ledger,
        now: Timestamp,
        sent: u64,
    }

    impl World {
        fn new() -> World {
            let (mut plan, now) = (plan(&["a", "b"]), Timestamp::START);
            let class = plan.classes[ClassIndex(0)].clone();
            plan.classes = (0..8).map(|id| Class { id, ..class.clone() }).collect();
            let ledger = Ledger::new(plan.classes.iter().map(|c| c.permitted.clusters.len()));
            let mut assessor = Assessor::new(Arc::new(plan), 1, now);
            for cluster in ["a", "b"] {
                let found = vec![Found { address: Address::Unix(cluster.into()), weight: 1 }];
                assessor.fold(Event::Endpoints { cluster: cluster.to_owned(), found }, now);
            }
            World { assessor, ledger, now, sent: 0 }
        }

        fn send(&mut self, class: ClassIndex) {
            self.sent += 1;
            let (id, now) = (self.sent, self.now.secs_since(Timestamp::START));
            let account = self.ledger.at(class, 0);
            account.sent(id, now, 0);
            account.answered(id, now + 0.020);
        }

        fn skip(&mut self) {
            self.now = self.now.plus(Duration::from_millis(50));
            self.assessor.skip(self.now);
        }

        fn sweep(&mut self) -> Table<ClassIndex, Arc<ClassSignals>> {
            self.now = self.now.plus(Duration::from_millis(50));
            for order in self.assessor.due_probes(self.now) {
                let (endpoint, rtt) = (order.endpoint, Duration::from_millis(1));
                let event = Event::ProbeSucceeded { endpoint, rtt, answer: None, report: None };
                self.assessor.fold(event, self.now);
            }
            self.assessor.sweep(&mut &mut self.ledger, self.now).classes
        }
    }

    #[test]
    fn the_same_endpoints_again_do_not_end_the_rest_of_a_cluster() {
        let (plan, now) = (plan(&["a"]), Timestamp::START);
        let cluster = plan.clusters.iter().next().unwrap();
        let mut state = ClusterState::default();
        let mut wakes = |address: &str, weight: u16| {
            let found = [Found { address: Address::Unix(address.into()), weight }];
            state.set_endpoints(cluster, &found, |_| 0, 1, now);
            let wakes = state.rest.is_awake();
            state.rest.begin(true, now);
            wakes
        };
        assert!(wakes("a", 1));
        assert!(!wakes("a", 1));
        assert!(wakes("a", 2), "another weight");
        assert!(wakes("b", 2), "another endpoint");
    }

    /// Which classes have new signals.
    fn formed(before: &[Arc<ClassSignals>], after: &[Arc<ClassSignals>]) -> Vec<usize> {
        let pairs = before.iter().zip(after).enumerate();
        pairs.filter(|(_, (a, b))| !Arc::ptr_eq(a, b)).map(|(class, _)| class).collect()
    }

    #[test]
    fn idle_classes_are_updated_every_fourth_sweep_and_active_ones_at_each() {
        let mut world = World::new();
        let mut before = world.sweep();
        (0..20).for_each(|_| before = world.sweep());
        let mut times = [0; 8];
        for _ in 0..16 {
            world.send(ClassIndex(3));
            let after = world.sweep();
            formed(&before, &after).into_iter().for_each(|class| times[class] += 1);
            before = after;
        }
        assert_eq!(times, [4, 4, 4, 16, 4, 4, 4, 4]);
        // The rates decay before the class counts as idle: one second without traffic is not sufficient.
        (0..20).for_each(|_| before = world.sweep());
        let after = world.sweep();
        assert!(formed(&before, &after).contains(&3));
    }

    #[test]
    fn classes_whose_sweep_was_skipped_have_their_turn_in_the_next_one() {
        let mut world = World::new();
        let mut before = world.sweep();
        (0..20).for_each(|_| before = world.sweep());
        for skipped in 0..4 {
            (0..skipped).for_each(|_| world.skip());
            let after = world.sweep();
            assert_eq!(formed(&before, &after).len(), 2 * (skipped + 1));
            before = after;
        }
    }

    #[test]
    fn traffic_after_skipped_sweeps_came_since_the_last_of_them() {
        let rate = |skipped: usize| {
            let mut world = World::new();
            (0..20).for_each(|_| _ = world.sweep());
            for tick in 0..3 {
                match tick < skipped {
                    true => world.skip(),
                    false => _ = world.sweep(),
                }
            }
            (0..20).for_each(|_| world.send(ClassIndex(3)));
            world.sweep();
            world.assessor.classes[ClassIndex(3)].tracks[0].accepted_rate()
        };
        let (none, three) = (rate(0), rate(3));
        assert!(none > 1.0 && (three / none - 1.0).abs() < 0.05, "{none} {three}");
    }

    #[test]
    fn an_assessor_rests_until_something_happens_that_cannot_wait() {
        let mut world = World::new();
        let rest = |world: &mut World| {
            (0..4_000).for_each(|_| _ = world.sweep());
            assert!(world.assessor.rests());
        };
        rest(&mut world);
        let endpoint = world.assessor.clusters[ClusterIndex(0)].endpoints.first().unwrap().id;
        let rtt = Duration::from_millis(1);
        let success = Event::ProbeSucceeded { endpoint, rtt, answer: None, report: None };
        world.assessor.fold(success, world.now);
        assert!(world.assessor.rests(), "a probe found nothing new");
        let observed = vec![Observed { ended: 1.0, seconds: 0.02, stratum: 0 }];
        let told = |service: &str, cluster: &str| Told {
            service: service.to_owned(),
            cluster: cluster.to_owned(),
            endpoints: world.assessor.clusters[ClusterIndex(0)].fingerprint(""),
            observed: observed.clone(),
        };
        let told = vec![told("shop", "a"), told("shop", "unknown"), told("unknown", "a")];
        world.assessor.fold(Event::Told(told), world.now);
        assert!(world.assessor.rests(), "what other proxies observe");
        for _ in 0..10 {
            let failure = Event::ProbeFailed { endpoint, cause: Cause::Refused };
            world.assessor.fold(failure, world.now);
        }
        assert!(world.assessor.has_news() && !world.assessor.rests(), "an endpoint was ejected");
        rest(&mut world);
        world.send(ClassIndex(3));
        world.sweep();
        assert!(!world.assessor.rests(), "there was an exchange");
        rest(&mut world);
        let dial = Event::DialCluster { cluster: "a".to_owned(), percent: Some(0) };
        world.assessor.fold(dial, world.now);
        assert!(!world.assessor.rests(), "an operator's change");
    }

    #[test]
    fn response_times_of_others_count_for_the_same_service_cluster_and_endpoints() {
        let mut world = World::new();
        let right = world.assessor.clusters[ClusterIndex(0)].fingerprint("");
        for (service, cluster, endpoints, count) in [
            ("shop", "a", right, 1),
            ("shop", "a", right ^ 1, 0),
            ("shop", "b", right, 0),
            ("other", "a", right, 0),
        ] {
            world.send(ClassIndex(3));
            world.sweep();
            let observed = vec![Observed { ended: 1.0, seconds: 0.02, stratum: 0 }];
            let (service, cluster) = (service.to_owned(), cluster.to_owned());
            let told = Told { service, cluster, endpoints, observed };
            world.assessor.fold(Event::Told(vec![told]), world.now);
            world.sweep();
            let heard = |class: usize| {
                world.assessor.classes[ClassIndex(class)].tracks[0].new_of_others().len()
            };
            assert_eq!(heard(3), count);
            assert_eq!(heard(4), 0, "a class without traffic");
        }
    }

    #[test]
    fn proxies_with_the_same_endpoints_have_the_same_fingerprint() {
        let fingerprint = |addresses: &[&str], host: &str| {
            let mut world = World::new();
            let found = addresses.iter().map(|text| Found {
                address: match text.strip_prefix("unix:") {
                    Some(path) => Address::Unix(path.into()),
                    None => Address::Ip(text.parse().unwrap()),
                },
                weight: 1,
            });
            let found = found.collect();
            let cluster = "a".to_owned();
            world.assessor.fold(Event::Endpoints { cluster, found }, world.now);
            world.assessor.clusters[ClusterIndex(0)].fingerprint(host)
        };
        let (one, two) = ("10.0.0.1:80", "10.0.0.2:80");
        assert_eq!(fingerprint(&[one, two], "x"), fingerprint(&[two, one], "y"));
        assert_ne!(fingerprint(&[one, two], "x"), fingerprint(&[one], "x"));
        let locals = ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "169.254.1.1:80"];
        for local in locals.into_iter().chain(["[fe80::1]:80", "unix:/run/app.sock"]) {
            assert_eq!(fingerprint(&[local], "x"), fingerprint(&[local], "x"));
            assert_ne!(fingerprint(&[local], "x"), fingerprint(&[local], "y"), "{local}");
        }
    }

    #[test]
    fn a_jump_of_the_clock_refills_a_budget_for_five_seconds_at_most() {
        let mut plan = plan(&["a", "b"]);
        let limit = SpendingLimit {
            usd_per_hour: 3_600.0,
            share: 1.0,
            shared: false,
            binds_failover: false,
        };
        plan.services[ServiceIndex(0)].budget = Some(limit);
        let day = Duration::from_secs(86_400);
        let now = Timestamp::START.plus(day);
        let mut ledger = Ledger::new(std::iter::once(2));
        let mut assessor = Assessor::new(Arc::new(plan), 1, now);
        let service = "shop".to_owned();
        assessor.fold(Event::BudgetLeft { service, usd: 0.0 }, now);
        let mut left = |now| {
            assessor.sweep(&mut &mut ledger, now).budgets[ServiceIndex(0)].unwrap_or_default()
        };
        assert!((left(now.plus(Duration::from_secs(1))) - 1.0).abs() < 1e-9, "a dollar a second");
        assert!((left(now.plus(day)) - 6.0).abs() < 1e-9, "forward");
        assert!((left(Timestamp::START) - 6.0).abs() < 0.01, "backward");
    }

    #[test]
    fn a_change_for_all_classes_takes_effect_at_once() {
        let mut world = World::new();
        let mut before = world.sweep();
        (0..20).for_each(|_| before = world.sweep());
        let dial = Event::DialCluster { cluster: "a".to_owned(), percent: Some(0) };
        world.assessor.fold(dial, world.now);
        let after = world.sweep();
        assert_eq!(formed(&before, &after), [0, 1, 2, 3, 4, 5, 6, 7]);
        let mut choices = after.iter().flat_map(|class| &class.choices);
        assert!(choices.all(|choice| choice.cluster == ClusterIndex(1)));
    }
}
