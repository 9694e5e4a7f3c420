//! Discovery: endpoints of clusters, from lists, DNS, files and Kubernetes, as events.
//!
//! There is one task for each cluster that is not a plain list of addresses. After a failure the last endpoints
//! stay; only a confirmed empty answer, or an empty file, empties a cluster.

mod api_health;
mod dns;
mod file;
#[cfg(feature = "k8s")]
mod kubernetes;
#[cfg(not(feature = "k8s"))]
#[path = "no_kubernetes.rs"]
mod kubernetes;
mod resolver;

pub use api_health::{ApiHealth, ApiHealths, Fault};
pub use file::Parse;
pub use resolver::Resolver;

use crate::decision::assess::{Event, Found};
use crate::decision::plan::{Address, Cluster, EndpointSpec, Plan, Source, Target, is_link_local};
use crate::decision::units::Timestamp;
use crate::shared::View;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// When each cluster's DNS last gave a good answer.
pub type Ages = Arc<Mutex<BTreeMap<String, Timestamp>>>;

/// Finds the endpoints of all clusters of the plan in force.
#[derive(Debug)]
pub struct Discovery {
    events: mpsc::Sender<Event>,
    view: Arc<ArcSwap<View>>,
    resolver: Arc<Resolver>,
    parse: Parse,
    ages: Ages,
    api_healths: ApiHealths,
    tasks: BTreeMap<String, (Source, bool, JoinHandle<()>)>,
}

impl Discovery {
    /// Creates a discovery without endpoints. `view` tells which endpoints are down; `parse` parses an endpoints
    /// file.
    #[must_use]
    pub fn new(
        events: mpsc::Sender<Event>,
        view: Arc<ArcSwap<View>>,
        resolver: Resolver,
        parse: Parse,
    ) -> Discovery {
        Discovery {
            events,
            view,
            resolver: Arc::new(resolver),
            parse,
            ages: Ages::default(),
            api_healths: ApiHealths::default(),
            tasks: BTreeMap::new(),
        }
    }

    /// When each cluster's DNS last gave a good answer.
    #[must_use]
    pub fn ages(&self) -> Ages {
        self.ages.clone()
    }

    /// How the API server of each cluster answers.
    #[must_use]
    pub fn api_healths(&self) -> ApiHealths {
        self.api_healths.clone()
    }

    /// Switches to the sources of this plan; tasks of unchanged sources continue.
    pub fn follow(&mut self, plan: &Plan) {
        let wanted = |name: &String, source: &Source, link_local: bool| {
            plan.clusters.iter().any(|cluster| {
                cluster.name == *name
                    && cluster.source == *source
                    && cluster.allow_link_local == link_local
            })
        };
        self.tasks.retain(|name, (source, link_local, task)| {
            let keep = wanted(name, source, *link_local);
            if !keep {
                task.abort();
            }
            keep
        });
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        ages.retain(|name, _| self.tasks.contains_key(name));
        drop(ages);
        let mut healths = self.api_healths.lock().unwrap_or_else(PoisonError::into_inner);
        healths.retain(|name, _| self.tasks.contains_key(name));
        drop(healths);
        for cluster in &plan.clusters {
            if listed(cluster).is_none() && !self.tasks.contains_key(&cluster.name) {
                let task = self.start(cluster);
                let task = (cluster.source.clone(), cluster.allow_link_local, task);
                self.tasks.insert(cluster.name.clone(), task);
            }
        }
    }

    fn start(&self, cluster: &Cluster) -> JoinHandle<()> {
        let teller = Teller {
            cluster: cluster.name.clone(),
            allow_link_local: cluster.allow_link_local,
            events: self.events.clone(),
            view: self.view.clone(),
            ages: self.ages.clone(),
            api_healths: self.api_healths.clone(),
            sent_usable: Arc::default(),
        };
        let resolver = self.resolver.clone();
        match cluster.source.clone() {
            Source::Static(specs) => tokio::spawn(dns::follow_list(resolver, specs, teller)),
            Source::Dns { host, port } => {
                let spec = EndpointSpec { target: Target::Name(host, port), weight: 1 };
                tokio::spawn(dns::follow_list(resolver, vec![spec], teller))
            }
            Source::Srv { name } => tokio::spawn(dns::follow_srv(resolver, name, teller)),
            Source::File { path } => tokio::spawn(file::follow(path, self.parse, resolver, teller)),
            Source::Kubernetes(source) => tokio::spawn(kubernetes::follow(source, teller)),
        }
    }
}

/// The endpoints of a cluster that lists only addresses, which needs no discovery; `None` for other clusters.
#[must_use]
pub fn listed(cluster: &Cluster) -> Option<Vec<Found>> {
    let Source::Static(specs) = &cluster.source else { return None };
    addresses(specs)
}

fn addresses(specs: &[EndpointSpec]) -> Option<Vec<Found>> {
    specs
        .iter()
        .map(|spec| match &spec.target {
            Target::Address(address) => {
                Some(Found { address: address.clone(), weight: spec.weight })
            }
            Target::Name(..) => None,
        })
        .collect()
}

/// Sends the endpoints of one cluster to the control thread.
#[derive(Clone)]
struct Teller {
    cluster: String,
    allow_link_local: bool,
    events: mpsc::Sender<Event>,
    view: Arc<ArcSwap<View>>,
    ages: Ages,
    api_healths: ApiHealths,
    /// Whether usable endpoints were sent before.
    sent_usable: Arc<AtomicBool>,
}

impl Teller {
    async fn tell(&self, mut found: Vec<Found>) {
        let count = found.len();
        found.retain(|found| {
            let allowed = self.allows(&found.address);
            if !allowed {
                let address = &found.address;
                tracing::warn!(cluster = self.cluster, %address, "endpoint {address} of cluster {} ignored: link-local", self.cluster);
            }
            allowed
        });
        let usable = !found.is_empty();
        if count > 0 && !usable && self.sent_usable.load(Ordering::Relaxed) {
            // Otherwise anyone who controls the name could empty the cluster.
            tracing::warn!(
                cluster = self.cluster,
                "discovery of cluster {} found only link-local addresses: the last endpoints stay",
                self.cluster
            );
            return;
        }
        self.sent_usable.fetch_or(usable, Ordering::Relaxed);
        let event = Event::Endpoints { cluster: self.cluster.clone(), found };
        // Waits for space instead of shedding: the queue is bounded and the control thread drains it.
        if self.events.send(event).await.is_err() {
            tracing::debug!("endpoints dropped: the control thread has ended");
        }
    }

    fn allows(&self, address: &Address) -> bool {
        match address {
            Address::Ip(address) => self.allow_link_local || !is_link_local(address.ip()),
            Address::Unix(_) => true,
        }
    }

    /// Whether an endpoint of the cluster is known to be down, or is ignored as link-local.
    fn is_down(&self, address: &Address) -> bool {
        let view = self.view.load();
        let index = view.plan.clusters.find(|cluster| cluster.name == self.cluster);
        let cluster = index.and_then(|index| view.signals.clusters.get(index));
        let mut endpoints = cluster.into_iter().flat_map(|cluster| cluster.endpoints.iter());
        let known = endpoints.find(|endpoint| endpoint.address == *address);
        !self.allows(address) || known.is_some_and(|endpoint| !endpoint.up)
    }

    fn answered(&self, now: Timestamp) {
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        ages.insert(self.cluster.clone(), now);
    }

    /// Changes the health of the cluster's API server.
    #[cfg_attr(
        not(feature = "k8s"),
        expect(dead_code, reason = "only Kubernetes has an API server")
    )]
    fn count_api(&self, change: impl FnOnce(&mut ApiHealth)) {
        let mut healths = self.api_healths.lock().unwrap_or_else(PoisonError::into_inner);
        change(healths.entry(self.cluster.clone()).or_default());
    }
}
