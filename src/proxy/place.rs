//! Where an exchange goes: the decisions of `decision`, applied to live counters.

use super::refusal::Refusal;
use super::worker::Worker;
use crate::decision::endpoint::{self, Chance};
use crate::decision::plan::{ClassIndex, ClusterIndex, Reports, Strategy};
use crate::decision::retry::ENDPOINTS_MAX;
use crate::decision::shed::Shed;
use crate::decision::signal::{Choice, ClusterSignals, EndpointSignals, Why};
use crate::decision::spill::{self, Picked};
use crate::decision::strategy;
use crate::decision::units::mix;
use crate::shared::{Held, LiveEndpoint, View};
use std::sync::Arc;

/// Where an exchange goes, counted in there until this is dropped.
#[derive(Debug)]
pub struct Place {
    /// The cluster.
    pub cluster: ClusterIndex,
    /// Its number among the permitted ones of the class.
    pub slot: usize,
    /// The endpoint, by index in the cluster's signals.
    pub endpoint: usize,
    /// Why there.
    pub why: Why,
    in_cluster: Held,
    in_endpoint: Held,
    /// The endpoint's counters.
    pub live: Arc<LiveEndpoint>,
}

impl Place {
    /// What is believed of the endpoint.
    #[must_use]
    pub fn signals<'a>(&self, view: &'a View) -> &'a EndpointSignals {
        &view.signals.clusters[self.cluster].endpoints[self.endpoint]
    }

    /// The counts alone, for a flow that outlives its view.
    #[must_use]
    pub fn into_counts(self) -> (Held, Held) {
        (self.in_cluster, self.in_endpoint)
    }
}

/// What was tried already for this exchange.
#[derive(Debug, Default)]
pub struct Tried {
    /// Endpoints by id.
    pub endpoints: Vec<u32>,
    /// Attempts by cluster.
    clusters: Vec<(ClusterIndex, usize)>,
    /// Where the client was served before.
    pub stay: Option<Stay>,
    /// Whether the last of them still waits for its answer: the next is a hedge.
    pub waits: bool,
    /// The cluster in whose queue the exchange has waited and whose next turn it has.
    pub turn: Option<ClusterIndex>,
    /// The cluster that is left for another: who has waited at an endpoint that was found dead does not try whether
    /// its siblings are dead, too, and not found out yet.
    pub left: Option<ClusterIndex>,
}

/// Where a client was served before.
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    /// What the endpoint is called in cookies.
    pub identity: u64,
    /// Whether it stays in the endpoint's cluster whatever else speaks for another.
    pub across_clusters: bool,
}

impl Tried {
    /// Notes an attempt that failed.
    pub fn add(&mut self, cluster: ClusterIndex, endpoint: u32) {
        if self.endpoints.contains(&endpoint) {
            return;
        }
        self.endpoints.push(endpoint);
        match self.clusters.iter_mut().find(|(known, _)| *known == cluster) {
            Some((_, count)) => *count += 1,
            None => self.clusters.push((cluster, 1)),
        }
    }

    /// Passes over those that were found dead since the exchange began: its view does not know.
    pub fn pass_over_dead(&mut self, worker: &Worker, view: &View, class: ClassIndex) {
        let latest = worker.view();
        let choices = view.signals.classes.get(class).map(|class| class.choices.as_slice());
        for choice in choices.unwrap_or_default() {
            let beliefs = &view.signals.clusters[choice.cluster];
            for endpoint in beliefs.usable.iter().map(|index| beliefs.endpoints[*index].id) {
                let uses = latest.signals.clusters.iter().any(|cluster| cluster.uses(endpoint));
                if !uses && !self.endpoints.contains(&endpoint) {
                    self.endpoints.push(endpoint);
                }
            }
        }
    }

    /// Whether somebody could still be tried, were `place` to fail as well.
    #[must_use]
    pub fn leaves_others(
        &self,
        view: &View,
        class: ClassIndex,
        place: &Place,
        reach: Reach,
    ) -> bool {
        self.after(view, place).choices(view, class, reach).next().is_some()
    }

    /// Likewise, in another cluster.
    #[must_use]
    pub fn leaves_other_clusters(
        &self,
        view: &View,
        class: ClassIndex,
        place: &Place,
        reach: Reach,
    ) -> bool {
        let after = self.after(view, place);
        after.choices(view, class, reach).any(|cluster| cluster != place.cluster)
    }

    /// What will have been tried if `place` fails as well.
    fn after(&self, view: &View, place: &Place) -> Tried {
        let (endpoints, clusters) = (self.endpoints.clone(), self.clusters.clone());
        let mut after = Tried { endpoints, clusters, left: self.left, ..Tried::default() };
        after.add(place.cluster, place.signals(view).id);
        after
    }

    /// The clusters that may be tried.
    fn choices<'a>(
        &'a self,
        view: &'a View,
        class: ClassIndex,
        reach: Reach,
    ) -> impl Iterator<Item = ClusterIndex> + 'a {
        let choices = view.signals.classes.get(class).map(|class| class.choices.as_slice());
        let choices = choices.unwrap_or_default().iter().map(|choice| choice.cluster);
        choices.filter(move |cluster| reach.includes(view, *cluster) && self.allows(*cluster, view))
    }

    /// The first cluster that may be tried and is at its ceiling: the exchange waits in that cluster's queue.
    #[must_use]
    pub fn first_full(&self, view: &View, class: ClassIndex, reach: Reach) -> Option<ClusterIndex> {
        self.choices(view, class, reach).find(|&cluster| {
            let live = &view.clusters[cluster];
            let is_full = |ceiling| live.in_flight.get() >= ceiling || !live.queue.is_empty();
            view.plan.clusters[cluster].ceiling.is_some_and(is_full)
        })
    }

    /// The endpoint of a cluster where the client was served before, by index: usable, and not tried yet.
    fn stays_at(&self, beliefs: &ClusterSignals) -> Option<usize> {
        let wanted = self.stay?.identity;
        beliefs.usable.iter().copied().find(|index| {
            let known = &beliefs.endpoints[*index];
            mix(endpoint::identity(known)) == wanted && !self.endpoints.contains(&known.id)
        })
    }

    /// Whether another endpoint of the cluster is worth trying.
    fn allows(&self, cluster: ClusterIndex, view: &View) -> bool {
        let beliefs = &view.signals.clusters[cluster];
        let fresh = |index: &usize| !self.endpoints.contains(&beliefs.endpoints[*index].id);
        let known = self.clusters.iter().find(|(known, _)| *known == cluster);
        let may_be_more = match known {
            Some((_, count)) => *count < ENDPOINTS_MAX,
            // One other cluster, not all of them: an outage must not cost every timeout there is.
            None => self.clusters.len() < 2,
        };
        may_be_more
            && self.left != Some(cluster)
            && (self.endpoints.is_empty() || beliefs.usable.iter().any(fresh))
    }
}

/// How far an exchange may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Wherever it is permitted.
    Anywhere,
    /// To clusters of this site: it comes over another edge, and two crossings could be endless.
    ThisSite,
}

impl Reach {
    fn includes(self, view: &View, cluster: ClusterIndex) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::ThisSite => {
                let cluster = &view.plan.clusters[cluster];
                // Another edge is another site, whatever it is said to be.
                cluster.site == view.plan.site && cluster.reports != Reports::Tidegate
            }
        }
    }
}

/// Notes that an exchange of this priority was asked for; says whether it is dropped on purpose.
#[must_use]
pub fn is_shed(worker: &Worker, view: &View, class: ClassIndex, priority: u8) -> bool {
    if let Some(count) = view.slots.requested(worker.id, class, priority) {
        count.add(1);
    }
    let shed = view.signals.classes.get(class).map(|beliefs| beliefs.shed).unwrap_or_default();
    shed != Shed::default()
        && worker
            .with_credits(view, class, |credits| credits.sheds(shed, priority))
            .unwrap_or(false)
}

/// Chooses cluster and endpoint for an exchange of `class`, and counts it in.
///
/// # Errors
/// The refusal, when nobody can take it.
pub fn place(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    tried: &Tried,
    key: u64,
    reach: Reach,
) -> Result<Place, Refusal> {
    let permitted = &view.plan.classes[class].permitted.clusters;
    if permitted.is_empty() {
        return Err(Refusal::NoPermittedCluster);
    }
    let beliefs = view.signals.classes.get(class).ok_or(Refusal::NoHealthyCluster)?;
    let choices = &beliefs.choices;
    if choices.is_empty() {
        let unfunded = beliefs.unfunded;
        return Err(if unfunded { Refusal::Budget } else { Refusal::NoHealthyCluster });
    }
    let mut full: Vec<ClusterIndex> = Vec::new();
    loop {
        let has_capacity = |cluster: ClusterIndex| {
            let ceiling = view.plan.clusters[cluster].ceiling.unwrap_or(u32::MAX);
            reach.includes(view, cluster)
                && tried.allows(cluster, view)
                && !full.contains(&cluster)
                // Who comes does not go before those who wait.
                && (tried.turn == Some(cluster) || view.clusters[cluster].queue.is_empty())
                && view.clusters[cluster].in_flight.get() < ceiling
        };
        let stays = |choice: &&Choice| {
            let beliefs = &view.signals.clusters[choice.cluster];
            has_capacity(choice.cluster) && tried.stays_at(beliefs).is_some()
        };
        let across = tried.stay.is_some_and(|stay| stay.across_clusters);
        let stays = choices.iter().find(|choice| across && stays(choice)).map(|choice| Picked {
            cluster: choice.cluster,
            slot: choice.slot,
            why: Why::Affinity,
        });
        let Some(picked) = stays.or_else(|| choose(worker, view, class, has_capacity)) else {
            let any_untried = choices.iter().any(|choice| {
                reach.includes(view, choice.cluster) && tried.allows(choice.cluster, view)
            });
            return Err(if any_untried { Refusal::Overloaded } else { Refusal::NoHealthyCluster });
        };
        match enter(worker, view, class, &picked, tried, key) {
            Some(mut place) => {
                // A second choice of cluster is a fail-over, or a hedge, whatever else spoke for it.
                if tried.clusters.iter().any(|(cluster, _)| *cluster != place.cluster) {
                    place.why = if tried.waits { Why::Hedge } else { Why::Failover };
                }
                return Ok(place);
            }
            None => full.push(picked.cluster),
        }
    }
}

/// The cluster, by the service's strategy.
fn choose(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    has_capacity: impl Fn(ClusterIndex) -> bool,
) -> Option<Picked> {
    let choices = &view.signals.classes[class].choices;
    let in_flight = |cluster: ClusterIndex| view.clusters[cluster].in_flight.get();
    match view.plan.service_of(class).strategy {
        Strategy::Nearest => {
            let offered = |place: usize| {
                if let Some(slot) = view.slots.slot(worker.id, class, place) {
                    slot.offered.add(1);
                }
            };
            worker.with_credits(view, class, |credits| {
                spill::pick(choices, credits, has_capacity, offered)
            })?
        }
        Strategy::RoundRobin => strategy::round_robin(choices, worker.next_turn(), has_capacity),
        Strategy::LeastRequest => strategy::least_request(choices, in_flight, has_capacity),
        Strategy::Priority => {
            let healthy = |cluster: ClusterIndex| {
                let beliefs = &view.signals.clusters[cluster];
                beliefs.usable.len() as f64 / beliefs.endpoints.len().max(1) as f64
            };
            let roll = worker.dice.borrow_mut().unit();
            strategy::priority(choices, healthy, roll, has_capacity)
        }
        Strategy::Waterfall => {
            let capacity = |cluster: ClusterIndex| view.plan.clusters[cluster].capacity;
            strategy::waterfall(choices, in_flight, capacity, has_capacity)
        }
    }
}

/// The endpoint inside the picked cluster; `None` when the cluster is at its ceiling after all.
fn enter(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    picked: &Picked,
    tried: &Tried,
    key: u64,
) -> Option<Place> {
    let live = &view.clusters[picked.cluster];
    let ceiling = view.plan.clusters[picked.cluster].ceiling.unwrap_or(u32::MAX);
    let beliefs = &view.signals.clusters[picked.cluster];
    let in_flight = |index: usize| live.endpoints.get(index).map_or(0, |e| e.in_flight.get());
    let policy = view.plan.service_of(class).endpoint_policy;
    let pick = || {
        let mut dice = worker.dice.borrow_mut();
        let now = worker.about_now();
        worker.with_turns(picked.cluster, |turns| {
            let mut chance = Chance { dice: &mut dice, turns, now, key };
            endpoint::pick(policy, beliefs, &tried.endpoints, in_flight, &mut chance)
        })
    };
    let index = tried.stays_at(beliefs).or_else(pick)?;
    let endpoint = live.endpoints.get(index)?;
    // Last: who is counted out again tells those who wait.
    let in_cluster = match ceiling {
        u32::MAX => Held::enter(&live.in_flight),
        ceiling => Held::enter_queued(&live.in_flight, ceiling, &live.queue)?,
    };
    Some(Place {
        cluster: picked.cluster,
        slot: picked.slot,
        endpoint: index,
        why: picked.why,
        in_cluster,
        in_endpoint: Held::enter(&endpoint.in_flight),
        live: endpoint.clone(),
    })
}
