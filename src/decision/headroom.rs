//! Whether a service can be served from here, and how much more this site could serve: for load balancers above the
//! proxy (DNS, anycast, VRRP).
//!
//! # Not here
//! The HTTP answer (`admin`), and whether the proxy drains.

use super::plan::{ClusterIndex, Plan, ServiceIndex};
use super::signal::{ClassSignals, Signals};

/// The answer about a service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headroom {
    /// Whether a permitted cluster of the service is live, here or elsewhere.
    pub servable: bool,
    /// What is free of this site's capacity for the service, in percent; 0 if the site's clusters are down or full. A
    /// service without a cluster in this site is measured by all its clusters.
    pub percent: u8,
}

/// The headroom of `service`. `in_flight` has the exchanges in flight at a cluster.
///
/// Routes may add data classes to those of the service: the service is servable while one of its classes is, and the
/// headroom is the least of the classes that are servable.
#[must_use]
pub fn headroom(
    plan: &Plan,
    signals: &Signals,
    service: ServiceIndex,
    in_flight: impl Fn(ClusterIndex) -> u32,
) -> Headroom {
    let classes = plan.classes.iter().zip(&signals.classes);
    let own = classes.filter(|(class, _)| class.service == service);
    let servable = own.filter(|(_, signals)| !signals.choices.is_empty());
    let rooms = servable.map(|(class, signals)| {
        let is_here = |cluster: ClusterIndex| {
            plan.clusters.get(cluster).is_some_and(|known| known.site == plan.site)
        };
        let any_here = class.permitted.clusters.iter().any(|cluster| is_here(*cluster));
        let counted = signals.choices.iter().filter(|choice| !any_here || is_here(choice.cluster));
        let room = counted.map(|choice| {
            let used = used(plan, signals, choice.slot, choice.cluster, in_flight(choice.cluster));
            // What dial, a return and the load admit.
            (1.0 - used).max(0.0) * choice.share.clamp(0.0, 1.0)
        });
        room.fold(0.0, f64::max)
    });
    match rooms.reduce(f64::min) {
        Some(room) => Headroom { servable: true, percent: (room * 100.0).round() as u8 },
        None => Headroom { servable: false, percent: 0 },
    }
}

/// The used part of a cluster's capacity, 0 or more: the greatest of the parts that are known.
fn used(
    plan: &Plan,
    signals: &ClassSignals,
    slot: usize,
    cluster: ClusterIndex,
    in_flight: u32,
) -> f64 {
    let part = |now: f64, most: Option<f64>| most.filter(|most| *most > 0.0).map(|most| now / most);
    let ceiling = plan.clusters.get(cluster).and_then(|cluster| cluster.ceiling).map(f64::from);
    let learned = signals.learned.get(slot).copied().unwrap_or_default();
    let at = signals.order.iter().position(|known| *known == cluster);
    let score = at.and_then(|at| signals.scores.get(at));
    let queue = score.and_then(|score| part(score.queue?, Some(score.tolerates)));
    [part(f64::from(in_flight), ceiling), part(f64::from(in_flight), learned.at_once), queue]
        .into_iter()
        .flatten()
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::Learned;
    use crate::permit::Permitted;
    use crate::plan::{Class, ClassIndex, Cluster};
    use crate::signal::{Choice, Score, Why};
    use std::sync::Arc;

    /// A service with two clusters, of this site and of another one.
    fn world(ceiling: Option<u32>) -> (Plan, Signals) {
        let mut plan = Plan { site: "here".to_owned(), ..Plan::default() };
        let mut signals = Signals::default();
        for site in ["here", "there"] {
            plan.clusters.push(Cluster { site: site.to_owned(), ceiling, ..Cluster::named(site) });
        }
        let clusters = vec![ClusterIndex(0), ClusterIndex(1)];
        let permitted = Permitted { clusters: clusters.clone(), ..Permitted::default() };
        let (service, data) = (ServiceIndex(0), Vec::new());
        plan.classes.push(Class { service, data, permitted, l4: false, id: 1 });
        let choice = |slot: usize| Choice {
            cluster: ClusterIndex(slot),
            slot,
            share: 1.0,
            why: Why::Nearest,
            warm: false,
            usd: 0.0,
        };
        signals.classes.push(Arc::new(ClassSignals {
            choices: vec![choice(0), choice(1)],
            order: clusters,
            scores: vec![Score { tolerates: 0.02, ..Score::default() }; 2],
            learned: vec![Learned::default(); 2],
            ..ClassSignals::default()
        }));
        (plan, signals)
    }

    fn of(plan: &Plan, signals: &Signals, in_flight: u32) -> (bool, u8) {
        let found = headroom(plan, signals, ServiceIndex(0), |_| in_flight);
        (found.servable, found.percent)
    }

    fn change(signals: &mut Signals, change: impl FnOnce(&mut ClassSignals)) {
        change(Arc::make_mut(&mut signals.classes[ClassIndex(0)]));
    }

    #[test]
    fn the_headroom_is_what_is_free_of_this_sites_clusters() {
        let (plan, mut signals) = world(Some(20));
        assert_eq!(of(&plan, &signals, 0), (true, 100));
        assert_eq!(of(&plan, &signals, 5), (true, 75));
        assert_eq!(of(&plan, &signals, 20), (true, 0));
        assert_eq!(of(&plan, &signals, 30), (true, 0), "more than the ceiling");
        change(&mut signals, |class| class.scores[0].queue = Some(0.01));
        assert_eq!(of(&plan, &signals, 5), (true, 50), "the longest queue, the least ceiling");
        change(&mut signals, |class| class.choices[0].share = 0.5);
        assert_eq!(of(&plan, &signals, 5), (true, 25), "half is spilled or dialled away");
        change(&mut signals, |class| class.choices.retain(|choice| choice.slot != 0));
        assert_eq!(of(&plan, &signals, 5), (true, 0), "another site serves: no headroom here");
        change(&mut signals, |class| class.choices.clear());
        assert_eq!(of(&plan, &signals, 5), (false, 0));
    }

    #[test]
    fn without_a_limit_a_learned_capacity_counts_and_without_a_cluster_here_the_others() {
        let (mut plan, mut signals) = world(None);
        assert_eq!(of(&plan, &signals, 1_000), (true, 100), "nothing is known of a limit");
        change(&mut signals, |class| class.learned[0].at_once = Some(10.0));
        assert_eq!(of(&plan, &signals, 4), (true, 60));
        plan.site = "elsewhere".to_owned();
        assert_eq!(of(&plan, &signals, 4), (true, 100), "the best of all clusters");
        change(&mut signals, |class| class.choices.truncate(1));
        assert_eq!(of(&plan, &signals, 4), (true, 60));
    }

    #[test]
    fn of_several_classes_one_suffices_and_the_least_headroom_is_told() {
        let (mut plan, mut signals) = world(Some(10));
        let more = plan.classes[ClassIndex(0)].clone();
        plan.classes.push(more);
        let mut other = signals.classes[ClassIndex(0)].as_ref().clone();
        other.choices[0].share = 0.1;
        signals.classes.push(Arc::new(other));
        assert_eq!(of(&plan, &signals, 0), (true, 10));
        change(&mut signals, |class| class.choices.clear());
        assert_eq!(of(&plan, &signals, 0), (true, 10), "the first class is not servable");
    }
}
