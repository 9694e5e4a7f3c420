//! Who exists: endpoints of clusters, from lists, DNS and files, as events.
//!
//! One task a cluster that is not a plain list of addresses. A failure keeps what was known; only a
//! positive answer that there is nobody empties a cluster.

mod dns;
mod file;

pub use dns::Resolver;
pub use file::Parse;

use crate::decision::assess::{Event, Found};
use crate::decision::plan::{Cluster, EndpointSpec, Plan, Source, Target};
use crate::decision::units::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// When each cluster's DNS last answered well.
pub type Ages = Arc<Mutex<BTreeMap<String, Timestamp>>>;

/// Finds the endpoints of all clusters of the plan in force.
#[derive(Debug)]
pub struct Discovery {
    events: mpsc::Sender<Event>,
    resolver: Arc<Resolver>,
    parse: Parse,
    ages: Ages,
    tasks: BTreeMap<String, (Source, bool, JoinHandle<()>)>,
}

impl Discovery {
    /// A discovery that has found nobody. `parse` reads an endpoints file.
    #[must_use]
    pub fn new(events: mpsc::Sender<Event>, resolver: Resolver, parse: Parse) -> Discovery {
        let (ages, tasks) = (Ages::default(), BTreeMap::new());
        Discovery { events, resolver: Arc::new(resolver), parse, ages, tasks }
    }

    /// When each cluster's DNS last answered well.
    #[must_use]
    pub fn ages(&self) -> Ages {
        self.ages.clone()
    }

    /// Looks for the endpoints of this plan from now on; unchanged sources go on undisturbed.
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
            ages: self.ages.clone(),
            told: Arc::default(),
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
        }
    }
}

/// The endpoints of a cluster that lists only addresses: nothing to look for.
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

/// Tells the control thread of one cluster's endpoints.
#[derive(Clone, Debug)]
struct Teller {
    cluster: String,
    allow_link_local: bool,
    events: mpsc::Sender<Event>,
    ages: Ages,
    /// Whether it has told of endpoints that may be used.
    told: Arc<AtomicBool>,
}

impl Teller {
    async fn tell(&self, mut found: Vec<Found>) {
        use crate::decision::plan::{Address, is_link_local};
        let count = found.len();
        found.retain(|found| match &found.address {
            Address::Ip(address) if !self.allow_link_local && is_link_local(address.ip()) => {
                tracing::warn!(cluster = self.cluster, %address, "a link-local address is left out");
                false
            }
            Address::Ip(_) | Address::Unix(_) => true,
        });
        let usable = !found.is_empty();
        if count > 0 && !usable && self.told.load(Ordering::Relaxed) {
            // Whoever can answer so would otherwise take a cluster out of use.
            tracing::warn!(
                cluster = self.cluster,
                "none of it may be used: the last endpoints stay"
            );
            return;
        }
        self.told.fetch_or(usable, Ordering::Relaxed);
        let event = Event::Endpoints { cluster: self.cluster.clone(), found };
        // Waited for, not shed: the queue is bounded and the control thread drains it.
        if self.events.send(event).await.is_err() {
            tracing::debug!("the control thread is gone");
        }
    }

    fn answered(&self, now: Timestamp) {
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        ages.insert(self.cluster.clone(), now);
    }
}
