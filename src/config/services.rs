//! Services: their clusters, timeouts, retries and budget, and the classes of exchanges that routes and listeners
//! send to them.

use super::compiler::{Compiler, owned};
use super::error::Problem;
use super::file;
use super::headers::is_field_name;
use super::policies::Written;
use super::scalar;
use super::secrets;
use super::shape::Spanned;
use crate::decision::budget::SpendingLimit;
use crate::decision::permit::{Demands, Reason, permit};
use crate::decision::plan::{
    Affinity, Class, ClassIndex, ClusterIndex, EndpointPolicy, HashKey, Plan, Retry, Secret,
    Service, ServiceIndex, Strategy,
};
use std::time::Duration;

/// Bytes of a secret, at least.
const SECRET_BYTES_MIN: usize = 16;

/// The layer at which a listener forwards to a service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Layer {
    /// Connections and datagrams.
    L4,
    /// HTTP requests.
    L7,
}

impl Compiler<'_> {
    /// Compiles all services into the plan.
    pub(super) fn services(&mut self) {
        if self.file.services.is_empty() {
            self.problems.error(self.file.at, "services", "there must be at least one service");
        }
        for (name, written) in &self.file.services.0 {
            let path = format!("services.{}", name.value);
            let clusters = self.clusters_of(written, &path);
            self.check_service(written, &path);
            let service = self.service(&name.value, clusters, written, &path);
            let index = self.plan.services.push(service);
            if written.protocol == Some(file::ServiceProtocol::Grpc) {
                self.plan.grpc.insert(index);
            }
        }
    }

    /// The clusters that a service lists, by their index.
    fn clusters_of(&mut self, written: &file::Service, path: &str) -> Vec<ClusterIndex> {
        let mut clusters = Vec::new();
        if written.clusters.is_empty() {
            let message = "the list of clusters is empty: name at least one";
            let problem = Problem::error(written.at, format!("{path}.clusters"), message);
            self.problems.lacking(path, &["clusters"], problem);
        }
        for (index, wanted) in written.clusters.iter().enumerate() {
            let path = format!("{path}.clusters[{index}]");
            match self.file.clusters.position(&wanted.value).map(ClusterIndex) {
                Some(cluster) if clusters.contains(&cluster) => {
                    let message = format!("cluster `{}` is listed twice", wanted.value);
                    self.problems.error(wanted.at, path, message);
                }
                Some(cluster) => clusters.push(cluster),
                None if self.file.clusters.is_empty() => {}
                None if self.file.clusters.is_broken(&wanted.value) => {}
                None => {
                    let message = format!("there is no cluster `{}`", wanted.value);
                    let names = self.file.clusters.names();
                    self.unknown(wanted.at, &path, message, &wanted.value, names);
                }
            }
        }
        clusters
    }

    /// Reports invalid values.
    fn check_service(&mut self, written: &file::Service, path: &str) {
        let retry = written.retry.as_ref();
        let spans = [
            ("timeout", written.timeout),
            ("total_timeout", written.total_timeout.and_then(|timeout| timeout.0)),
            ("per_try_timeout", written.per_try_timeout.and_then(|timeout| timeout.0)),
            ("hedge.after", written.hedge.as_ref().and_then(|hedge| hedge.after.0)),
        ];
        self.not_zero(written.at, path, &spans);
        if retry.and_then(|retry| retry.budget).is_some_and(|budget| budget.0 > 1.0) {
            let message = "must be from 0 to 1: retries as a share of requests";
            self.problems.error(written.at, format!("{path}.retry.budget"), message);
        }
        if let Some(budget) = &written.budget
            && budget.share.is_some_and(|share| share.0 > 1.0)
        {
            let path = format!("{path}.budget.share");
            self.problems.error(budget.at, path, "must be from 0 to 1");
        }
        if written.data.as_ref().is_some_and(|data| data.0.iter().all(|c| c.trim().is_empty())) {
            let hint = "name at least one, or remove the key: the default is `general`";
            let path = format!("{path}.data");
            self.problems.error_with_hint(written.at, path, "lists no data class", hint);
        }
        let data = written.data.as_ref().map_or(&[][..], |data| &data.0);
        self.warn_of_sensitive(written.compression.as_ref(), data, path);
    }

    fn service(
        &mut self,
        name: &str,
        clusters: Vec<ClusterIndex>,
        written: &file::Service,
        path: &str,
    ) -> Service {
        let retry = written.retry.as_ref();
        let hash_key =
            written.hash.as_ref().map_or(HashKey::ClientIp, |hash| self.hash_key(hash, path));
        let policy = self.policy(path, &Written::of_service(written));
        let affinity = written.affinity.as_ref().map(|written| self.affinity(written, path));
        let cors = written.cors.as_ref().map(|written| self.cors(written, path));
        let compression =
            written.compression.as_ref().and_then(|written| self.compression(written, path));
        let request_edits =
            self.edits(written.request_headers.as_ref(), &format!("{path}.request_headers"));
        let response_edits =
            self.edits(written.response_headers.as_ref(), &format!("{path}.response_headers"));
        Service {
            request_edits,
            response_edits,
            error_pages: self.error_pages(written.error_pages.as_ref(), path),
            policy,
            cors,
            compression,
            affinity,
            name: name.to_owned(),
            clusters,
            data: written.data.clone().map_or(vec!["general".to_owned()], |data| data.0),
            needs: owned(&written.needs),
            environment: written
                .environment
                .clone()
                .unwrap_or_else(|| self.plan.environment.clone()),
            strategy: strategy(written.strategy),
            endpoint_policy: endpoint_policy(written.endpoint_policy),
            hash_key,
            timeout: written.timeout.unwrap_or(Duration::from_secs(15)),
            total_timeout: written.total_timeout.and_then(|timeout| timeout.0),
            per_try_timeout: written.per_try_timeout.and_then(|timeout| timeout.0),
            retry: Retry {
                budget: retry.and_then(|retry| retry.budget).map_or(0.2, |budget| budget.0),
                retries: retry
                    .and_then(|retry| retry.retries)
                    .map_or(1, |retries| u32::try_from(retries.0).unwrap_or(1)),
            },
            hedge: written.hedge.as_ref().and_then(|hedge| hedge.after.0),
            priority: written.priority.map_or(5, priority),
            budget: written.budget.as_ref().map(|budget| SpendingLimit {
                usd_per_hour: budget.usd_per_hour.0,
                share: budget.share.map_or(1.0, |share| share.0),
                shared: budget.shared_by == Some(file::BudgetSharedBy::Fleet),
                binds_failover: budget.applies_to == Some(file::BudgetScope::All),
            }),
        }
    }

    /// The session affinity of a service or route.
    pub(super) fn affinity(&mut self, written: &file::AffinityFile, path: &str) -> Affinity {
        let cookie = &written.cookie;
        if !is_field_name(&cookie.value) {
            let message = format!("`{}` is not a cookie's name", cookie.value.escape_debug());
            self.problems.error(cookie.at, format!("{path}.affinity.cookie"), message);
        }
        let path = format!("{path}.affinity");
        if written.secret_file.is_none() && self.file.state_dir.is_none() {
            let message = "cookies are encrypted with a random key: after a restart, and at other proxies, they are invalid";
            let hint =
                "set `secret_file` to the same file content at all proxies, or set `state_dir`";
            self.problems.warning(cookie.at, &path, message, hint);
        }
        Affinity {
            cookie: cookie.value.clone(),
            ttl: written.ttl.and_then(|ttl| ttl.0),
            across_clusters: written.across_clusters.unwrap_or(false),
            secret: written.secret_file.as_ref().and_then(|file| self.secret(file, &path)),
        }
    }

    fn secret(&mut self, file: &Spanned<String>, path: &str) -> Option<Secret> {
        let path = format!("{path}.secret_file");
        let at = self.folder.join(&file.value);
        let read = std::fs::read(&at)
            .map_err(|error| format!("cannot read `{}`: {error}", file.value))
            .and_then(|bytes| match bytes.trim_ascii() {
                secret if secret.len() < SECRET_BYTES_MIN => {
                    Err(format!("file `{}` has fewer than {SECRET_BYTES_MIN} bytes", file.value))
                }
                secret => Ok(crate::policy::secret(secret)),
            });
        secrets::warn_if_public(self.problems, &at, file, &path);
        read.map_err(|problem| self.problems.error(file.at, path, problem)).ok()
    }

    /// The key of a hash policy.
    pub(super) fn hash_key(&mut self, written: &file::Hash, path: &str) -> HashKey {
        let header = written.header.as_ref().map(|n| HashKey::Header(n.to_ascii_lowercase()));
        let cookie = written.cookie.as_ref().map(|name| HashKey::Cookie(name.clone()));
        let client = (written.client_ip != Some(false)).then_some(HashKey::ClientIp);
        header.or(cookie).or(client).unwrap_or_else(|| {
            let message = "needs one of `header`, `cookie` and `client_ip: true`";
            let path = format!("{path}.hash");
            let problem = Problem::error(written.at, &path, message);
            self.problems.lacking(&path, &["header", "cookie", "client_ip"], problem);
            HashKey::ClientIp
        })
    }

    /// The reason why a cluster may not serve a class, with the requirement and the cluster's value.
    fn objection(&self, index: ClusterIndex, reason: Reason, demands: Demands<'_>) -> String {
        let cluster = &self.plan.clusters[index];
        let name = &cluster.name;
        let missing = |wanted: &[String], had: &[String]| {
            let lacking = wanted.iter().filter(|one| !had.contains(one)).cloned();
            lacking.collect::<Vec<_>>().join(", ")
        };
        match reason {
            Reason::Environment => format!(
                "cluster {name} is of environment {}, the service of {}",
                cluster.environment, demands.environment
            ),
            Reason::DataClass => {
                let written = self.file.clusters.0.get(index.0).map(|(_, written)| written);
                let by_site = written.is_some_and(|w| w.accepts.is_none() && w.site.is_some());
                let accepts = match by_site {
                    true => format!("site {} accepts", cluster.site),
                    false => "it accepts".to_owned(),
                };
                format!(
                    "cluster {name} does not accept data class {} ({accepts} {})",
                    missing(demands.data, &cluster.accepts),
                    list_or_nothing(&cluster.accepts)
                )
            }
            Reason::Needs => format!(
                "cluster {name} does not offer {} (it offers {})",
                missing(demands.needs, &cluster.offers),
                list_or_nothing(&cluster.offers)
            ),
        }
    }

    /// The class of a service for exchanges with further data classes and needs; created on first use.
    pub(super) fn class_of(
        &mut self,
        service: &Spanned<String>,
        data: &[String],
        needs: &[String],
        layer: Layer,
        path: &str,
    ) -> Option<ClassIndex> {
        let l4 = layer == Layer::L4;
        let Some(index) = self.file.services.position(&service.value).map(ServiceIndex) else {
            // Without a cluster the error was reported already.
            if self.file.services.is_empty() || self.file.services.is_broken(&service.value) {
                return None;
            }
            let message = format!("there is no service `{}`", service.value);
            let names = self.file.services.names();
            self.unknown(service.at, path, message, &service.value, names);
            return None;
        };
        let of_service = self.plan.services.get(index)?;
        let proof = of_service.policy.is_some_and(|at| self.plan.policies[at].auth.is_some());
        if l4 && proof {
            let message =
                format!("service `{}` has `auth`, which needs an http listener", service.value);
            self.problems.error(service.at, path, message);
        }
        let (mut all_data, mut all_needs) = (of_service.data.clone(), of_service.needs.clone());
        all_data.extend(data.iter().filter(|class| !of_service.data.contains(class)).cloned());
        all_needs.extend(needs.iter().filter(|need| !of_service.needs.contains(need)).cloned());
        let demands =
            Demands { environment: &of_service.environment, data: &all_data, needs: &all_needs };
        let permitted = permit(demands, &of_service.clusters, &self.plan.clusters);
        let (name, candidates) = (of_service.name.clone(), of_service.clusters.len());
        let key = (name.clone(), all_data.clone(), all_needs.clone());
        if permitted.clusters.is_empty() && candidates > 0 && self.unserved.insert(key) {
            let why = permitted
                .rejected
                .iter()
                .map(|(cluster, reason)| self.objection(*cluster, *reason, demands));
            let why = why.collect::<Vec<_>>().join("; ");
            let message = format!("no cluster may serve service `{name}`: {why}");
            self.problems.error(service.at, path, message);
        }
        let sensitive = has_sensitive(&all_data);
        let key = (name.clone(), all_data.clone());
        if permitted.clusters.len() == 1 && sensitive && self.warned.insert(key) {
            let only = self.plan.clusters[permitted.clusters[0]].name.clone();
            let message =
                format!("sensitive service `{name}` has only one permitted cluster, `{only}`");
            let hint = "no disaster recovery: while this cluster is down, the service is down";
            self.problems.warning(service.at, path, message, hint);
        }
        let names: Vec<&str> =
            permitted.clusters.iter().map(|c| self.plan.clusters[*c].name.as_str()).collect();
        let id = Plan::class_id(&name, &all_data, &names, l4);
        let same = |class: &Class| class.id == id && class.data == all_data;
        if let Some(known) = self.plan.classes.find(same) {
            return Some(known);
        }
        Some(self.plan.classes.push(Class { service: index, data: all_data, permitted, l4, id }))
    }
}

fn list_or_nothing(items: &[String]) -> String {
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

fn strategy(written: Option<file::Strategy>) -> Strategy {
    match written.unwrap_or(file::Strategy::Nearest) {
        file::Strategy::Nearest => Strategy::Nearest,
        file::Strategy::RoundRobin => Strategy::RoundRobin,
        file::Strategy::LeastRequest => Strategy::LeastRequest,
        file::Strategy::Priority => Strategy::Priority,
        file::Strategy::Waterfall => Strategy::Waterfall,
    }
}

/// A priority of the plan; its shape guarantees the bounds.
pub(super) fn priority(written: scalar::Within<0, 9>) -> u8 {
    u8::try_from(written.0).unwrap_or(9)
}

fn endpoint_policy(written: Option<file::EndpointPolicy>) -> EndpointPolicy {
    match written.unwrap_or(file::EndpointPolicy::LeastWait) {
        file::EndpointPolicy::LeastWait => EndpointPolicy::LeastWait,
        file::EndpointPolicy::RoundRobin => EndpointPolicy::RoundRobin,
        file::EndpointPolicy::RandomTwo => EndpointPolicy::RandomTwo,
        file::EndpointPolicy::Hash => EndpointPolicy::Hash,
    }
}

/// Whether one of these data classes is `sensitive`.
pub(super) fn has_sensitive(data: &[String]) -> bool {
    data.iter().any(|class| class == "sensitive")
}
