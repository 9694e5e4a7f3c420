//! The selection of a cluster and an endpoint for each attempt: the rules of `decision`, applied to live counters.

use super::refusal::Refusal;
use super::worker::Worker;
use crate::decision::endpoint::{self, Chance};
use crate::decision::index::EndpointIndex;
use crate::decision::plan::{ClassIndex, ClusterIndex, Reports, Strategy};
use crate::decision::retry::ENDPOINTS_MAX;
use crate::decision::shed::Shed;
use crate::decision::signal::{Choice, ClusterSignals, EndpointSignals, Why};
use crate::decision::spill::{self, Picked};
use crate::decision::strategy;
use crate::decision::units::mix;
use crate::shared::{Held, LiveEndpoint, Purse, View};
use std::sync::Arc;

/// The cluster and endpoint of one attempt. The exchange counts as in flight at the endpoint until this value
/// is dropped.
#[derive(Debug)]
pub struct Selection {
    /// The cluster.
    pub cluster: ClusterIndex,
    /// The cluster's position among the class's permitted clusters.
    pub slot: usize,
    /// The endpoint, by index in the cluster's signals.
    pub endpoint: EndpointIndex,
    /// The reason for the cluster.
    pub why: Why,
    in_flight: InFlight,
    /// The endpoint's counters.
    pub live: Arc<LiveEndpoint>,
}

impl Selection {
    /// The endpoint's signals.
    #[must_use]
    pub fn signals<'a>(&self, view: &'a View) -> &'a EndpointSignals {
        &view.signals.clusters[self.cluster].endpoints[self.endpoint]
    }

    /// The in-flight counts alone, for a flow that outlives the view of its selection.
    #[must_use]
    pub fn into_counts(self) -> InFlight {
        self.in_flight
    }
}

/// Counts an exchange at its cluster, endpoint and capacity group until dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held to be counted until dropped")]
pub struct InFlight {
    cluster: Held,
    endpoint: Held,
    group: Option<Held>,
}

/// The earlier attempts of an exchange, and the restrictions on the next attempt.
#[derive(Debug, Default)]
pub struct Tried {
    /// Endpoints by id.
    pub endpoints: Vec<u32>,
    /// Attempts by cluster.
    clusters: Vec<(ClusterIndex, usize)>,
    /// The endpoint selected by session affinity.
    pub stay: Option<Stay>,
    /// Whether the last attempt still waits for its response: the next attempt is a hedge.
    pub waits: bool,
    /// The cluster in whose queue the exchange has waited, and whose next free capacity it gets.
    pub turn: Option<ClusterIndex>,
    /// The cluster that the next attempt avoids: one of its endpoints did not answer, and others may be down as well.
    pub left: Option<ClusterIndex>,
}

/// The endpoint of earlier requests of the client (session affinity).
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    /// The endpoint's identity in cookies.
    pub identity: u64,
    /// Whether affinity also decides the cluster, before distance and load.
    pub across_clusters: bool,
}

impl Tried {
    /// Adds a failed attempt.
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

    /// Excludes endpoints that were ejected after the exchange loaded its view.
    pub fn pass_over_dead(&mut self, worker: &Worker, view: &View, class: ClassIndex) {
        let latest = worker.view();
        let choices = view.signals.classes.get(class).map(|class| class.choices.as_slice());
        for choice in choices.unwrap_or_default() {
            let beliefs = &view.signals.clusters[choice.cluster];
            if latest
                .signals
                .clusters
                .get(choice.cluster)
                .is_some_and(|one| Arc::ptr_eq(one, beliefs))
            {
                continue;
            }
            for endpoint in beliefs.usable.iter().map(|index| beliefs.endpoints[*index].id) {
                if !latest.uses(endpoint) && !self.endpoints.contains(&endpoint) {
                    self.endpoints.push(endpoint);
                }
            }
        }
    }

    /// Whether another endpoint could be tried if `selection` failed as well.
    #[must_use]
    pub fn leaves_others(
        &self,
        view: &View,
        class: ClassIndex,
        selection: &Selection,
        reach: Reach,
    ) -> bool {
        self.after(view, selection).choices(view, class, reach).next().is_some()
    }

    /// Whether an endpoint of another cluster could be tried if `selection` failed as well.
    #[must_use]
    pub fn leaves_other_clusters(
        &self,
        view: &View,
        class: ClassIndex,
        selection: &Selection,
        reach: Reach,
    ) -> bool {
        let after = self.after(view, selection);
        after.choices(view, class, reach).any(|cluster| cluster != selection.cluster)
    }

    /// The attempts, `selection` included.
    fn after(&self, view: &View, selection: &Selection) -> Tried {
        let (endpoints, clusters) = (self.endpoints.clone(), self.clusters.clone());
        let mut after = Tried { endpoints, clusters, left: self.left, ..Tried::default() };
        after.add(selection.cluster, selection.signals(view).id);
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

    /// The first cluster that may be tried and is full, or whose group is: the exchange waits in its queue.
    #[must_use]
    pub fn first_full(&self, view: &View, class: ClassIndex, reach: Reach) -> Option<ClusterIndex> {
        self.choices(view, class, reach)
            .find(|&cluster| view.clusters[cluster].queue_of_full().is_some())
    }

    /// The index of the affinity endpoint in a cluster, if the endpoint is usable and not tried yet.
    fn stays_at(&self, beliefs: &ClusterSignals) -> Option<EndpointIndex> {
        let wanted = self.stay?.identity;
        beliefs.usable.iter().copied().find(|index| {
            let known = &beliefs.endpoints[*index];
            mix(endpoint::identity(known)) == wanted && !self.endpoints.contains(&known.id)
        })
    }

    /// Whether another endpoint of the cluster is worth trying.
    fn allows(&self, cluster: ClusterIndex, view: &View) -> bool {
        let beliefs = &view.signals.clusters[cluster];
        let fresh = |index: &EndpointIndex| !self.endpoints.contains(&beliefs.endpoints[*index].id);
        let known = self.clusters.iter().find(|(known, _)| *known == cluster);
        let may_be_more = match known {
            Some((_, count)) => *count < ENDPOINTS_MAX,
            // At most two clusters: an outage must not cost the client one timeout for each cluster.
            None => self.clusters.len() < 2,
        };
        may_be_more
            && self.left != Some(cluster)
            && (self.endpoints.is_empty() || beliefs.usable.iter().any(fresh))
    }
}

/// The clusters that an exchange may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// All permitted clusters.
    Anywhere,
    /// The clusters of this site: the exchange comes from another site's proxy, and forwarding it again could loop.
    ThisSite,
}

impl Reach {
    fn includes(self, view: &View, cluster: ClusterIndex) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::ThisSite => {
                let cluster = &view.plan.clusters[cluster];
                // A cluster behind another Tidegate counts as another site, whatever its `site` says.
                cluster.site == view.plan.site && cluster.reports != Reports::Tidegate
            }
        }
    }
}

/// Counts a requested exchange of this priority; returns whether it is shed.
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

/// Selects the cluster and the endpoint for an exchange of `class`, and counts the exchange there.
///
/// # Errors
/// The refusal, when no endpoint can take the exchange.
pub fn select(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    tried: &Tried,
    key: u64,
    reach: Reach,
) -> Result<Selection, Refusal> {
    worker.shared.demand.add(worker.id);
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
    let funds = Funds::of(view, class);
    loop {
        let has_capacity = |cluster: ClusterIndex| {
            reach.includes(view, cluster)
                && funds.allow(cluster)
                && tried.allows(cluster, view)
                && !full.contains(&cluster)
                && view.clusters[cluster].takes(tried.turn == Some(cluster))
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
            let is_untried = |choice: &&Choice| {
                reach.includes(view, choice.cluster) && tried.allows(choice.cluster, view)
            };
            let mut untried = choices.iter().filter(is_untried);
            let has_money = untried.clone().any(|choice| funds.allow(choice.cluster));
            return Err(match untried.next() {
                None => Refusal::NoHealthyCluster,
                Some(_) if has_money => Refusal::Overloaded,
                Some(_) => Refusal::Budget,
            });
        };
        match enter(worker, view, class, &picked, tried, key) {
            Some(mut selection) => {
                // In a second cluster the reason is fail-over or hedge, whatever the strategy's reason was.
                if tried.clusters.iter().any(|(cluster, _)| *cluster != selection.cluster) {
                    selection.why = if tried.waits { Why::Hedge } else { Why::Failover };
                }
                funds.pay(selection.cluster);
                return Ok(selection);
            }
            None => full.push(picked.cluster),
        }
    }
}

/// The money of a class's service for its choices. Costs nothing unless a budget limits one of the choices.
struct Funds<'a> {
    /// The choices, and the purse, if a budget limits one of the choices.
    limited: Option<(&'a [Choice], &'a Purse)>,
}

impl<'a> Funds<'a> {
    fn of(view: &'a View, class: ClassIndex) -> Funds<'a> {
        let choices = view.signals.classes.get(class).map(|class| class.choices.as_slice());
        let choices = choices.filter(|choices| choices.iter().any(|choice| choice.usd > 0.0));
        let purse = || view.slots.purse(view.plan.classes[class].service);
        Funds { limited: choices.and_then(|choices| Some((choices, purse()?))) }
    }

    /// Whether an exchange may be sent to this cluster: it costs nothing that a budget limits, or there is money.
    fn allow(&self, cluster: ClusterIndex) -> bool {
        self.limited
            .is_none_or(|(choices, purse)| usd(choices, cluster) <= 0.0 || !purse.is_empty())
    }

    /// Pays for an exchange with this cluster.
    fn pay(&self, cluster: ClusterIndex) {
        if let Some((choices, purse)) = self.limited {
            purse.pay(usd(choices, cluster));
        }
    }
}

/// The expected cost of an exchange with a cluster.
fn usd(choices: &[Choice], cluster: ClusterIndex) -> f64 {
    choices.iter().find(|choice| choice.cluster == cluster).map_or(0.0, |choice| choice.usd)
}

/// Picks the cluster by the service's strategy.
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
            let offered = |position: usize| {
                if let Some(slot) = view.slots.slot(worker.id, class, position) {
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

/// Picks the endpoint in the cluster; `None` when the cluster or its group has become full meanwhile.
fn enter(
    worker: &Worker,
    view: &View,
    class: ClassIndex,
    picked: &Picked,
    tried: &Tried,
    key: u64,
) -> Option<Selection> {
    let live = &view.clusters[picked.cluster];
    let beliefs = &view.signals.clusters[picked.cluster];
    let in_flight =
        |index: EndpointIndex| live.endpoints.get(index).map_or(0, |e| e.in_flight.get());
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
    // Counted last: dropping a count wakes the first exchange in its queue.
    let group = match &live.group {
        None => None,
        Some(group) => Some(group.enter()?),
    };
    let in_cluster = match live.ceiling.get() {
        None => Held::enter(&live.in_flight),
        Some(ceiling) => Held::enter_queued(&live.in_flight, ceiling, &live.queue)?,
    };
    Some(Selection {
        cluster: picked.cluster,
        slot: picked.slot,
        endpoint: index,
        why: picked.why,
        in_flight: InFlight {
            cluster: in_cluster,
            endpoint: Held::enter(&endpoint.in_flight),
            group,
        },
        live: endpoint.clone(),
    })
}
