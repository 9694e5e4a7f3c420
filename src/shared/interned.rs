//! The counters of clusters and endpoints, and where each endpoint is.
//!
//! Counters are interned: they outlive views and reloads, as long as the plan has the name of the cluster and the
//! cluster has the endpoint. What depends on the set of endpoints is made anew only for clusters whose set has changed.

use super::LiveCluster;
use super::endpoint::{Activity, LiveEndpoint};
use super::group::{Groups, LiveGroup};
use crate::decision::capacity_group::{GroupIndex, GroupSignals};
use crate::decision::index::{EndpointIndex, Table};
use crate::decision::plan::{Cluster, ClusterIndex, Plan};
use crate::decision::signal::{ClusterSignals, Signals};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The counters of all clusters of a plan.
pub type LiveClusters = Arc<Table<ClusterIndex, LiveCluster>>;

/// Where each endpoint is, by its id. Valid with the view that it comes with.
pub type Places = FxHashMap<u32, (ClusterIndex, EndpointIndex)>;

/// The counters of the endpoint with this id; `None` if there is none.
pub(super) fn live_endpoint<'a>(
    clusters: &'a Table<ClusterIndex, LiveCluster>,
    places: &Places,
    id: u32,
) -> Option<&'a Arc<LiveEndpoint>> {
    let (cluster, endpoint) = *places.get(&id)?;
    clusters.get(cluster)?.endpoints.get(endpoint)
}

/// The counters of clusters and endpoints; for the control thread.
#[derive(Debug, Default)]
pub struct Interned {
    groups: Groups,
    workers: usize,
    /// The plan of the last call.
    plan: Arc<Plan>,
    live: LiveClusters,
    places: Arc<Places>,
    /// The set of endpoints of each cluster at the last call.
    members: Table<ClusterIndex, u64>,
}

impl Interned {
    /// An empty set for this number of workers.
    #[must_use]
    pub fn new(workers: usize) -> Interned {
        Interned { workers, ..Interned::default() }
    }

    /// Adopts a plan and the sets of endpoints in its signals. Counters that neither names are dropped. Returns whether
    /// anything has changed since the last call.
    pub fn adopt(&mut self, plan: &Arc<Plan>, signals: &Signals) -> bool {
        let same_plan = Arc::ptr_eq(plan, &self.plan);
        let members: Table<ClusterIndex, u64> =
            signals.clusters.iter().map(|beliefs| beliefs.members).collect();
        if same_plan && members == self.members {
            return false;
        }
        let (mut live, mut places) = match same_plan {
            true => ((*self.live).clone(), (*self.places).clone()),
            false => (self.carried(plan), Places::default()),
        };
        let stays =
            |index: ClusterIndex| same_plan && members.get(index) == self.members.get(index);
        places.retain(|_, (cluster, _)| stays(*cluster));
        for (index, beliefs) in signals.clusters.enumerated().filter(|(index, _)| !stays(*index)) {
            if let Some(counters) = live.get_mut(index) {
                counters.endpoints = Arc::new(self.endpoints_of(beliefs, &counters.activity));
            }
            let known = beliefs.endpoints.enumerated();
            places.extend(known.map(|(endpoint, known)| (known.id, (index, endpoint))));
        }
        (self.plan, self.members) = (plan.clone(), members);
        (self.live, self.places) = (Arc::new(live), Arc::new(places));
        true
    }

    /// The counters of the clusters of another plan, by their names.
    fn carried(&mut self, plan: &Plan) -> Table<ClusterIndex, LiveCluster> {
        let groups: Table<GroupIndex, Arc<LiveGroup>> = self.groups.live(plan);
        let names = self.plan.clusters.iter().map(|cluster| cluster.name.as_str());
        let known: BTreeMap<&str, &LiveCluster> = names.zip(self.live.iter()).collect();
        let carried = |cluster: &Cluster| {
            let known = known.get(cluster.name.as_str());
            let fresh = || LiveCluster {
                activity: Arc::new(Activity::new(self.workers)),
                ..LiveCluster::default()
            };
            let counters = known.map_or_else(fresh, |known| (*known).clone());
            let group = cluster.group.and_then(|index| groups.get(index)).cloned();
            LiveCluster { group, ..counters }
        };
        plan.clusters.iter().map(carried).collect()
    }

    /// The counters of a cluster's endpoints.
    fn endpoints_of(
        &self,
        beliefs: &ClusterSignals,
        activity: &Arc<Activity>,
    ) -> Table<EndpointIndex, Arc<LiveEndpoint>> {
        let known = |id: u32| live_endpoint(&self.live, &self.places, id).cloned();
        let fresh = || Arc::new(LiveEndpoint::new(self.workers, activity.clone()));
        beliefs.endpoints.iter().map(|one| known(one.id).unwrap_or_else(fresh)).collect()
    }

    /// The counters of the clusters of the last call.
    #[must_use]
    pub fn live(&self) -> LiveClusters {
        self.live.clone()
    }

    /// Where the endpoints of the last call are.
    #[must_use]
    pub fn places(&self) -> Arc<Places> {
        self.places.clone()
    }

    /// Sets the limits of the plan's capacity groups, `elapsed` seconds after the last call; returns their use. `assessed`
    /// has the limits.
    pub fn sweep_groups(
        &mut self,
        plan: &Plan,
        assessed: &Table<GroupIndex, GroupSignals>,
        elapsed: f64,
    ) -> Table<GroupIndex, GroupSignals> {
        self.groups.sweep(plan, assessed, elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::assess::{Answers, Assessor, Event, Found, Samples};
    use crate::decision::exchange::Exchanges;
    use crate::decision::load::Tally;
    use crate::decision::plan::{Address, ClassIndex};
    use crate::decision::shed::PRIORITIES;
    use crate::decision::units::Timestamp;

    struct Nothing;

    impl Samples for Nothing {
        fn class(&mut self, _: ClassIndex, _: usize) -> Tally {
            Tally::default()
        }

        fn endpoint(&mut self, _: u32) -> Answers {
            Answers::default()
        }

        fn exchanges(&mut self, _: ClassIndex, _: usize, _: &mut Exchanges) {}

        fn requested(&mut self, _: ClassIndex) -> [f64; PRIORITIES] {
            Default::default()
        }
    }

    struct World {
        plan: Arc<Plan>,
        assessor: Assessor,
        interned: Interned,
    }

    impl World {
        fn new(clusters: &[&str]) -> World {
            let plan = plan(clusters);
            let assessor = Assessor::new(plan.clone(), 1, Timestamp::START);
            World { plan, assessor, interned: Interned::new(1) }
        }

        fn find(&mut self, cluster: &str, endpoints: &[&str]) {
            let found = endpoints.iter().map(|name| Address::Unix(name.into()));
            let found = found.map(|address| Found { address, weight: 1 }).collect();
            let event = Event::Endpoints { cluster: cluster.to_owned(), found };
            self.assessor.fold(event, Timestamp::START);
        }

        /// Whether the counters changed; each endpoint is where the signals have it, and nowhere else.
        fn adopt(&mut self) -> bool {
            let signals = self.assessor.sweep(&mut Nothing, Timestamp::START);
            let changed = self.interned.adopt(&self.plan, &signals);
            let (live, places) = (self.interned.live(), self.interned.places());
            assert_eq!(live.len(), signals.clusters.len());
            for (cluster, beliefs) in signals.clusters.enumerated() {
                assert_eq!(live[cluster].endpoints.len(), beliefs.endpoints.len());
                for (index, endpoint) in beliefs.endpoints.enumerated() {
                    assert_eq!(places.get(&endpoint.id), Some(&(cluster, index)));
                }
            }
            let all: usize = signals.clusters.iter().map(|of| of.endpoints.len()).sum();
            assert_eq!(places.len(), all);
            changed
        }

        fn counters(&self, cluster: usize, endpoint: usize) -> Arc<LiveEndpoint> {
            let live = self.interned.live();
            live[ClusterIndex(cluster)].endpoints[EndpointIndex(endpoint)].clone()
        }
    }

    fn plan(clusters: &[&str]) -> Arc<Plan> {
        let clusters = clusters.iter().map(|name| Cluster::named(name)).collect();
        Arc::new(Plan { clusters, ..Plan::default() })
    }

    #[test]
    fn endpoints_that_come_one_after_the_other_are_all_found() {
        let mut world = World::new(&["a", "b"]);
        assert!(world.adopt() && !world.adopt());
        for found in [&["1"][..], &["1", "2"], &["2", "1"], &["2"], &["3"], &[], &["1"]] {
            world.find("b", found);
            assert!(world.adopt(), "{found:?}");
            assert!(!world.adopt(), "{found:?}");
        }
    }

    #[test]
    fn counters_survive_a_change_of_the_set_and_of_the_plan_by_name() {
        let mut world = World::new(&["a", "b"]);
        world.find("a", &["1"]);
        world.find("b", &["1", "2"]);
        world.adopt();
        let (of_a, of_b) = (world.counters(0, 0), world.counters(1, 1));
        assert!(!Arc::ptr_eq(&of_a, &world.counters(1, 0)), "one for each cluster and address");
        world.find("b", &["3", "2"]);
        world.plan = plan(&["c", "b", "a"]);
        world.assessor.adopt(world.plan.clone());
        assert!(world.adopt());
        assert!(Arc::ptr_eq(&of_b, &world.counters(1, 1)));
        assert!(Arc::ptr_eq(&of_a, &world.counters(2, 0)));
        let before = world.interned.live()[ClusterIndex(2)].in_flight.clone();
        world.plan = plan(&["a"]);
        world.assessor.adopt(world.plan.clone());
        assert!(world.adopt());
        assert!(Arc::ptr_eq(&before, &world.interned.live()[ClusterIndex(0)].in_flight));
    }
}
