//! All TLS settings of a plan: parallel to its listeners and clusters, immutable, replaced as a whole.

use super::client::{self, Upstream};
use super::server::{self, Secured};
use crate::decision::index::Table;
use crate::decision::plan::{ClusterIndex, ListenerIndex, ListenerTls, Plan, UpstreamTls};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The TLS settings of a plan's listeners and clusters.
#[derive(Debug, Default)]
pub struct Store {
    /// Parallel to the plan's listeners.
    pub listeners: Table<ListenerIndex, Option<Secured>>,
    /// Parallel to the plan's clusters.
    pub clusters: Table<ClusterIndex, Option<Upstream>>,
    /// TLS settings of the admin API.
    pub admin: Option<Secured>,
    /// TLS settings of the external scaler.
    pub scaler: Option<Secured>,
    /// Fingerprint of the files.
    pub fingerprint: u64,
}

impl Store {
    /// Builds the TLS settings of a plan.
    ///
    /// # Errors
    /// Every problem, with the path of its configuration.
    pub fn build(plan: &Plan) -> Result<Store, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let fingerprint = fingerprint(plan);
        let mut listeners = Table::default();
        for listener in &plan.listeners {
            let built = listener.tls.as_ref().map(server::build).transpose();
            listeners.push(built.unwrap_or_else(|problem| {
                problems.push((format!("listeners.{}.tls", listener.name), problem));
                None
            }));
        }
        let mut clusters = Table::default();
        for cluster in &plan.clusters {
            let built = cluster.tls.as_ref().map(|terms| client::build(terms, id(terms)));
            clusters.push(built.transpose().unwrap_or_else(|problem| {
                problems.push((format!("clusters.{}.tls", cluster.name), problem));
                None
            }));
        }
        let mut beside = |terms: &Option<ListenerTls>, path: &str| {
            let built = terms.as_ref().map(server::build).transpose();
            built.unwrap_or_else(|problem| {
                problems.push((path.to_owned(), problem));
                None
            })
        };
        let admin = beside(&plan.admin_tls, "admin.tls");
        let scaler = beside(&plan.scaler_tls, "scaling.tls");
        match problems.is_empty() {
            true => Ok(Store { listeners, clusters, admin, scaler, fingerprint }),
            false => Err(problems),
        }
    }

    /// The TLS settings of a listener; `None` without TLS.
    #[must_use]
    pub fn listener(&self, index: ListenerIndex) -> Option<&Secured> {
        self.listeners.get(index)?.as_ref()
    }

    /// The TLS settings of a cluster; `None` without TLS.
    #[must_use]
    pub fn cluster(&self, index: ClusterIndex) -> Option<&Upstream> {
        self.clusters.get(index)?.as_ref()
    }

    /// Keeps the TLS settings of sockets that keep their address until a restart although it is another one in the
    /// configuration: of the admin API, and of the external scaler.
    pub fn keep(&mut self, (admin, scaler): (bool, bool), old: &Store) {
        if admin && self.admin.is_none() {
            self.admin.clone_from(&old.admin);
        }
        if scaler && self.scaler.is_none() {
            self.scaler.clone_from(&old.scaler);
        }
    }

    /// The set of client authorities of a listener; 0 without TLS.
    #[must_use]
    pub fn clients_of(&self, listener: ListenerIndex) -> u64 {
        self.listener(listener).map_or(0, |secured| secured.clients)
    }
}

/// A fingerprint that changes with the files of a plan's TLS and policies: a hash of their metadata, symbolic links
/// followed; 0 without files.
#[must_use]
pub fn fingerprint(plan: &Plan) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut hasher, files) = (DefaultHasher::new(), files(plan));
    if files.is_empty() {
        return 0;
    }
    for path in files {
        path.hash(&mut hasher);
        let stamp = std::fs::metadata(path)
            .map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
        stamp.ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// A hash of an upstream's settings and the contents of its files; never 0, which stands for no TLS.
#[must_use]
pub fn id(terms: &UpstreamTls) -> u64 {
    let mut hasher = DefaultHasher::new();
    terms.hash(&mut hasher);
    for path in terms.client.iter().flat_map(|pair| [&pair.cert, &pair.key]).chain(&terms.ca) {
        std::fs::read(path).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish() | 1
}

fn files(plan: &Plan) -> Vec<&Path> {
    let mut files: Vec<&PathBuf> = Vec::new();
    let of_listeners = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    for terms in of_listeners.chain(&plan.admin_tls).chain(&plan.scaler_tls) {
        files.extend(terms.certificates.iter().flat_map(|pair| [&pair.cert, &pair.key]));
        files.extend(terms.acme.iter().flat_map(|acme| &acme.domains).map(|domain| &domain.file));
        files.extend(&terms.client_ca);
    }
    files.extend(plan.policies.iter().filter_map(|policy| policy.auth.as_ref()?.file()));
    for terms in plan.clusters.iter().filter_map(|cluster| cluster.tls.as_ref()) {
        files.extend(terms.client.iter().flat_map(|pair| [&pair.cert, &pair.key]));
        files.extend(&terms.ca);
    }
    files.into_iter().map(PathBuf::as_path).collect()
}
