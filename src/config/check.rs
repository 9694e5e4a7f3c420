//! From shapes to a plan: names resolved, inheritance applied, constraints folded into classes.
//! Every problem is told, none twice.

use super::error::{Position, Problem, Problems, suggestion};
use super::file::{self, File};
use super::policies::Written;
use super::scalar::Workers;
use super::shape::Spanned;
use super::{routes, scalar, secrets};
use crate::decision::budget::Terms;
use crate::decision::permit::{Demands, permit};
use crate::decision::plan::{
    Address, Affinity, Class, ClassIndex, EndpointPolicy, EndpointSpec, HashKey, Plan, Retry,
    Secret, Service, Strategy, Target,
};
use crate::tls::store::{self, Store};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// What the data plane reads.
    pub plan: Plan,
    /// What concerns the process around it.
    pub settings: Settings,
    /// What the plan needs for TLS.
    pub tls: Store,
    /// What its policies take.
    pub policies: crate::policy::Store,
    /// All of it in the words of the file, defaults and inheritance applied, for the API.
    pub effective: serde_json::Value,
}

/// What concerns the process around the data plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Worker threads; `None` is as many as cores may be used.
    pub workers: Option<usize>,
    /// Where the admin API listens.
    pub admin: Option<Address>,
    /// Permissions of its unix socket.
    pub admin_mode: u32,
    /// File with the admin token.
    pub admin_token_file: Option<PathBuf>,
    /// Further values of `Host` under which the admin API answers.
    pub admin_hosts: Vec<String>,
    /// Form of the access log.
    pub access_log: file::AccessLogFormat,
    /// `stdout`, `stderr` or a path.
    pub access_log_path: String,
    /// How much the proxy says.
    pub log_level: file::LogLevel,
    /// Form of the log.
    pub log_format: file::LogFormat,
    /// `stdout`, `stderr` or a path.
    pub log_path: String,
    /// From failing readiness to closing the listeners.
    pub drain_delay: Duration,
    /// From there to the end.
    pub drain_deadline: Duration,
    /// Folder for what must survive a restart.
    pub state_dir: Option<PathBuf>,
}

/// Bytes of a secret, at least.
const SECRET_BYTES_MIN: usize = 16;

/// Permissions of a unix socket's file: its user and group.
pub(super) const MODE: u32 = 0o660;

/// Collects what routes and listeners need while the plan grows.
pub(super) struct Compiler<'a> {
    pub(super) file: &'a File,
    pub(super) plan: Plan,
    pub(super) problems: &'a mut Problems,
    pub(super) tls: Store,
    /// Where relative paths begin.
    pub(super) folder: &'a Path,
    /// Services and data classes whose lack of disaster recovery was told.
    warned: BTreeSet<(String, Vec<String>)>,
    /// Services that no cluster may serve, with their data and needs: each is told once.
    unserved: BTreeSet<(String, Vec<String>, Vec<String>)>,
}

/// Compiles a file. What comes out is of use only when `problems` has no error.
pub fn check(file: &File, folder: &Path, problems: &mut Problems) -> Config {
    let settings = settings(file, folder, problems);
    let site = file.site.as_ref();
    let plan = Plan {
        site: site.and_then(|site| site.name.clone()).unwrap_or_else(host_name),
        environment: site
            .and_then(|site| site.environment.clone())
            .unwrap_or_else(|| "production".to_owned()),
        ..Plan::default()
    };
    let (tls, warned, unserved) = (Store::default(), BTreeSet::new(), BTreeSet::new());
    let mut compiler = Compiler { file, plan, problems, tls, folder, warned, unserved };
    compiler.clusters(folder);
    compiler.services();
    compiler.admin_tls(folder);
    compiler.listeners(folder, settings.admin.as_ref());
    routes::compile(&mut compiler);
    let Compiler { mut plan, mut tls, .. } = compiler;
    plan.asserted = super::policies::asserted(&plan);
    // What is wrong with their files was told where it is written.
    let policies = crate::policy::Store::build(&plan).unwrap_or_default();
    tls.fingerprint = store::fingerprint(&plan);
    Config { plan, settings, tls, policies, effective: serde_json::Value::Null }
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

fn settings(file: &File, folder: &Path, problems: &mut Problems) -> Settings {
    let admin = file.admin.as_ref();
    let address = match admin.and_then(|admin| admin.address.clone()) {
        Some(scalar::AddressOrOff(address)) => address.map(|address| rooted(&address, folder)),
        None => Some(Address::Ip(([127, 0, 0, 1], 9901).into())),
    };
    let off_loopback = matches!(&address, Some(Address::Ip(ip)) if !ip.ip().is_loopback());
    if let Some(admin) =
        admin.filter(|admin| off_loopback && admin.insecure != Some(true) && admin.tls.is_none())
    {
        let hint = "listen on 127.0.0.1, set `admin.tls`, or `admin.insecure: true`";
        let message = "off loopback the admin API would speak without TLS";
        problems.error_with_hint(admin.at, "admin.address", message, hint);
    }
    let token_file = admin.and_then(|admin| admin.token_file.as_ref());
    if let Some(token) = token_file {
        let path = folder.join(&token.value);
        match std::fs::read_to_string(&path) {
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", token.value);
                problems.error(token.at, "admin.token_file", message);
            }
            Ok(text) if text.trim().is_empty() => {
                problems.error(token.at, "admin.token_file", format!("`{}` is empty", token.value));
            }
            Ok(_) => secrets::warn_if_public(problems, &path, token, "admin.token_file"),
        }
    }
    let (log, access_log, drain) =
        (file.log.as_ref(), file.access_log.as_ref(), file.drain.as_ref());
    Settings {
        workers: match file.runtime.as_ref().and_then(|runtime| runtime.workers) {
            Some(Workers::Count(count)) => Some(count),
            Some(Workers::Auto) | None => None,
        },
        admin: address,
        admin_mode: admin.and_then(|admin| admin.mode).map_or(MODE, |mode| mode.0),
        admin_token_file: token_file.map(|token| folder.join(&token.value)),
        admin_hosts: admin.and_then(|admin| admin.allowed_hosts.clone()).unwrap_or_default(),
        access_log: access_log.and_then(|log| log.format).unwrap_or(file::AccessLogFormat::Json),
        access_log_path: log_path(access_log.and_then(|log| log.path.clone()), "stdout", folder),
        log_level: log.and_then(|log| log.level).unwrap_or(file::LogLevel::Info),
        log_format: log.and_then(|log| log.format).unwrap_or(file::LogFormat::Text),
        log_path: log_path(log.and_then(|log| log.path.clone()), "stderr", folder),
        drain_delay: drain.and_then(|drain| drain.delay).unwrap_or_default(),
        drain_deadline: drain.and_then(|drain| drain.deadline).unwrap_or(Duration::from_secs(30)),
        state_dir: file.state_dir.as_ref().map(|path| folder.join(path)),
    }
}

fn log_path(written: Option<String>, default: &str, folder: &Path) -> String {
    match written.as_deref() {
        None => default.to_owned(),
        Some(stream @ ("stdout" | "stderr")) => stream.to_owned(),
        Some(path) => folder.join(path).to_string_lossy().into_owned(),
    }
}

pub(super) fn owned(list: &Option<Vec<String>>) -> Vec<String> {
    list.clone().unwrap_or_default()
}

impl Compiler<'_> {
    fn services(&mut self) {
        if self.file.services.is_empty() {
            self.problems.error(self.file.at, "services", "there must be at least one service");
        }
        for (name, service) in &self.file.services.0 {
            let path = format!("services.{}", name.value);
            let mut clusters = Vec::new();
            if service.clusters.is_empty() {
                let problem = Problem::error(service.at, format!("{path}.clusters"), "is empty");
                self.problems.lacking(&path, &["clusters"], problem);
            }
            for (index, wanted) in service.clusters.iter().enumerate() {
                let path = format!("{path}.clusters[{index}]");
                match self.file.clusters.position(&wanted.value) {
                    Some(cluster) if clusters.contains(&cluster) => {
                        self.problems.error(wanted.at, path, "is listed twice");
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
            let retry = service.retry.as_ref();
            let spans = [
                ("timeout", service.timeout),
                ("total_timeout", service.total_timeout.and_then(|timeout| timeout.0)),
                ("per_try_timeout", service.per_try_timeout.and_then(|timeout| timeout.0)),
                ("hedge.after", service.hedge.as_ref().and_then(|hedge| hedge.after.0)),
            ];
            self.not_zero(service.at, &path, &spans);
            if retry.and_then(|retry| retry.budget).is_some_and(|budget| budget.0 > 1.0) {
                let message = "must be from 0 to 1: retries as a share of requests";
                self.problems.error(service.at, format!("{path}.retry.budget"), message);
            }
            if let Some(budget) = &service.budget
                && budget.share.is_some_and(|share| share.0 > 1.0)
            {
                let path = format!("{path}.budget.share");
                self.problems.error(budget.at, path, "must be from 0 to 1");
            }
            if service.data.as_ref().is_some_and(|data| data.0.iter().all(|c| c.trim().is_empty()))
            {
                let hint = "leave it out for `general`";
                let path = format!("{path}.data");
                self.problems.error_with_hint(service.at, path, "names no data class", hint);
            }
            if service.protocol == Some(file::ServiceProtocol::Grpc) {
                self.plan.grpc.insert(self.plan.services.len());
            }
            let hash_key =
                service.hash.as_ref().map_or(HashKey::ClientIp, |hash| self.hash_key(hash, &path));
            let policy = self.policy(&path, &Written::of_service(service));
            let affinity = service.affinity.as_ref().map(|written| self.affinity(written, &path));
            self.plan.services.push(Service {
                policy,
                affinity,
                name: name.value.clone(),
                clusters,
                data: service.data.clone().map_or(vec!["general".to_owned()], |data| data.0),
                needs: owned(&service.needs),
                environment: service
                    .environment
                    .clone()
                    .unwrap_or_else(|| self.plan.environment.clone()),
                strategy: strategy(service.strategy),
                endpoint_policy: endpoint_policy(service.endpoint_policy),
                hash_key,
                timeout: service.timeout.unwrap_or(Duration::from_secs(15)),
                total_timeout: service.total_timeout.and_then(|timeout| timeout.0),
                per_try_timeout: service.per_try_timeout.and_then(|timeout| timeout.0),
                retry: Retry {
                    budget: retry.and_then(|retry| retry.budget).map_or(0.2, |budget| budget.0),
                    retries: retry
                        .and_then(|retry| retry.retries)
                        .map_or(1, |retries| u32::try_from(retries.0).unwrap_or(1)),
                },
                hedge: service.hedge.as_ref().and_then(|hedge| hedge.after.0),
                priority: service.priority.map_or(5, priority),
                budget: service.budget.as_ref().map(|budget| Terms {
                    usd_per_hour: budget.usd_per_hour.0,
                    share: budget.share.map_or(1.0, |share| share.0),
                    binds_failover: budget.applies_to == Some(file::BudgetScope::All),
                }),
            });
        }
    }

    /// Notes each span of none: everything would be late at once.
    pub(super) fn not_zero(
        &mut self,
        at: Position,
        path: &str,
        spans: &[(&str, Option<Duration>)],
    ) {
        for (key, span) in spans {
            if span.is_some_and(|span| span.is_zero()) {
                self.problems.error(at, format!("{path}.{key}"), "must be more than 0");
            }
        }
    }

    /// Where clients stay.
    pub(super) fn affinity(&mut self, written: &file::AffinityFile, path: &str) -> Affinity {
        let cookie = &written.cookie;
        if !routes::is_field_name(&cookie.value) {
            let message = format!("`{}` is not a cookie's name", cookie.value.escape_debug());
            self.problems.error(cookie.at, format!("{path}.affinity.cookie"), message);
        }
        let path = format!("{path}.affinity");
        if written.secret_file.is_none() && self.file.state_dir.is_none() {
            let message = "its cookies hold until the next restart, and for no other proxy";
            let hint = "set `secret_file`, the same for all proxies, or `state_dir`";
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
                    Err(format!("`{}` has less than {SECRET_BYTES_MIN} bytes", file.value))
                }
                secret => Ok(crate::policy::secret(secret)),
            });
        secrets::warn_if_public(self.problems, &at, file, &path);
        read.map_err(|problem| self.problems.error(file.at, path, problem)).ok()
    }

    /// What a hash policy hashes.
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

    /// The class of a service for exchanges with further data classes and needs; made when new.
    pub(super) fn class_of(
        &mut self,
        service: &Spanned<String>,
        data: &[String],
        needs: &[String],
        l4: bool,
        path: &str,
    ) -> Option<ClassIndex> {
        let Some(index) = self.file.services.position(&service.value) else {
            // Without any that was told already.
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
            let message = format!("`{}` has `auth`, which only http can ask for", service.value);
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
            let why: Vec<String> = permitted
                .rejected
                .iter()
                .map(|(c, reason)| format!("{}: {}", self.plan.clusters[*c].name, reason.label()))
                .collect();
            let message = format!("no cluster may serve `{name}` here: {}", why.join(", "));
            self.problems.error(service.at, path, message);
        }
        let sensitive = all_data.iter().any(|class| class == "sensitive");
        let key = (name.clone(), all_data.clone());
        if permitted.clusters.len() == 1 && sensitive && self.warned.insert(key) {
            let only = self.plan.clusters[permitted.clusters[0]].name.clone();
            let message = format!("sensitive `{name}` has one permitted cluster, `{only}`");
            let hint = "no disaster recovery: its outage is the service's";
            self.problems.warning(service.at, path, message, hint);
        }
        let names: Vec<&str> =
            permitted.clusters.iter().map(|c| self.plan.clusters[*c].name.as_str()).collect();
        let id = Plan::class_id(&name, &all_data, &names, l4);
        let same = |class: &Class| class.id == id && class.data == all_data;
        if let Some(known) = self.plan.classes.iter().position(same) {
            return Some(known);
        }
        self.plan.classes.push(Class { service: index, data: all_data, permitted, l4, id });
        Some(self.plan.classes.len() - 1)
    }

    /// Notes a name that is not there, with the nearest that is.
    pub(super) fn unknown<'n>(
        &mut self,
        at: Position,
        path: &str,
        message: String,
        wrong: &str,
        known: impl IntoIterator<Item = &'n str> + Clone,
    ) {
        match suggestion(wrong, known) {
            Some(hint) => self.problems.error_with_hint(at, path, message, hint),
            None => self.problems.error(at, path, message),
        }
    }
}

/// A relative socket path starts at the file's folder, as every path does.
pub(super) fn rooted(address: &Address, folder: &Path) -> Address {
    match address {
        Address::Unix(path) => Address::Unix(folder.join(path)),
        Address::Ip(_) => address.clone(),
    }
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

/// A priority as the plan has it; its shape keeps the bounds.
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

/// A list of endpoints in a file of its own, for `discover.file`; its relative paths start at `folder`.
///
/// # Errors
/// All problems, when the list is not one.
pub fn endpoints_file(text: &str, folder: &Path) -> Result<Vec<EndpointSpec>, Vec<Problem>> {
    use super::shape::Decode;
    let mut problems = Problems::default();
    let (tree, wrongs) = super::yaml::parse(text);
    for wrong in wrongs {
        problems.error(wrong.at, "", wrong.message);
    }
    let read = match tree {
        Some(tree) if tree.is_null() => Some(Vec::new()),
        Some(tree) => Vec::<file::Endpoint>::decode(&tree, "endpoints", &mut problems),
        None => None,
    };
    let spec = |e: file::Endpoint| {
        let target = match e.target {
            Target::Address(address) => Target::Address(rooted(&address, folder)),
            name @ Target::Name(..) => name,
        };
        EndpointSpec { target, weight: e.weight }
    };
    match read {
        Some(list) if problems.count() == 0 => Ok(list.into_iter().map(spec).collect()),
        Some(_) | None => Err(problems.into_sorted()),
    }
}
