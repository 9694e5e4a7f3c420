//! Puts a configuration in force in four steps: parse, check, build, publish. A start, a changed file, SIGHUP and the
//! API all take these steps.
//!
//! Nothing changes before the last step, so a failure leaves nothing to undo.

use super::control;
use super::files;
use super::logs::Logs;
use super::worker;
use crate::admin::Access;
use crate::config::error::Position;
use crate::config::{Config, Outcome, Problem, Settings, Severity, load};
use crate::decision::plan::{Address, BindKey, Plan, Secret, Transport};
use crate::discover::Discovery;
use crate::os::inherit::Inherited;
use crate::os::{clock, listen};
use crate::policy;
use crate::shared::Shared;
use crate::tls::store::{self, Store};
use arc_swap::ArcSwap;
use serde_json::json;
use socket2::Socket;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The results of the last reloads, for the API and metrics.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The generation in force.
    pub generation: u64,
    /// The hash of the text in force.
    pub hash: String,
    /// When the configuration was put in force, since 1970.
    pub loaded_at: Duration,
    /// Whether the last reload succeeded.
    pub ok: bool,
    /// The time of the last reload, since 1970.
    pub at: Duration,
    /// The error of the last reload, if it failed.
    pub error: Option<String>,
    /// Successful reloads.
    pub succeeded: u64,
    /// Failed reloads.
    pub failed: u64,
    /// The configuration in force, in the format of the file.
    pub effective: Arc<serde_json::Value>,
}

/// The source of the configuration.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file, which is watched.
    File(PathBuf),
    /// Text, read once.
    Text(String),
}

/// The time for a stopped listener to accept its queued connections.
const STOPPED: Duration = Duration::from_secs(5);
/// The time for which a changed file must stay unchanged before it is loaded.
const HOLDS_STILL: Duration = Duration::from_millis(60);

/// Loads configurations and puts them in force.
#[derive(Debug)]
pub struct Reloader {
    origin: Origin,
    shared: Arc<Shared>,
    control: mpsc::Sender<control::Command>,
    workers: Vec<mpsc::Sender<worker::Command>>,
    discovery: Discovery,
    listening: BTreeMap<BindKey, Listening>,
    settings: Settings,
    status: Arc<Mutex<Status>>,
    seen: Option<u64>,
    /// The fingerprint of the TLS files in force, or of those that were rejected last.
    certificates: u64,
    /// Whether this reload was started by a check of the file and not by an operator.
    looking: bool,
    /// The key of affinity cookies without a configured secret.
    cookie_secret: Secret,
    access: Arc<ArcSwap<Access>>,
    logs: Logs,
    inherited: Inherited,
    /// The keys of stopped sockets that flows or connections may still use.
    lingering: Vec<BindKey>,
    /// Whether a successor listens on the same addresses: the socket files belong to it then.
    handed_over: bool,
}

/// The access rules of the admin API in the settings.
fn access(settings: &Settings) -> Access {
    let token = settings
        .admin_token_file
        .as_ref()
        .and_then(|path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()));
    Access { token, allowed_hosts: settings.admin_hosts.clone() }
}

#[derive(Debug)]
struct Listening {
    name: String,
    bound: Address,
    /// Copies of the workers' sockets, for a successor.
    sockets: Vec<Socket>,
}

impl Reloader {
    /// A reloader without a configuration in force.
    #[must_use]
    pub fn new(
        origin: Origin,
        shared: Arc<Shared>,
        control: mpsc::Sender<control::Command>,
        workers: Vec<mpsc::Sender<worker::Command>>,
        discovery: Discovery,
        logs: Logs,
        settings: Settings,
    ) -> Reloader {
        let (listening, status) = (BTreeMap::new(), Arc::default());
        let access = Arc::new(ArcSwap::from_pointee(access(&settings)));
        let cookie_secret = files::cookie_secret(settings.state_dir.as_deref());
        Reloader {
            cookie_secret,
            access,
            origin,
            shared,
            control,
            workers,
            discovery,
            listening,
            settings,
            status,
            seen: None,
            certificates: 0,
            looking: false,
            inherited: Inherited::default(),
            lingering: Vec::new(),
            handed_over: false,
            logs,
        }
    }

    /// Adds the sockets that this process inherited, before it binds its own.
    pub fn inherit(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    /// Hands the socket files over to a successor.
    pub fn hand_over(&mut self) {
        self.handed_over = true;
    }

    /// The sockets to pass to a successor.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        let passed = self.listening.iter().filter(|(key, _)| key.transport != Transport::Quic);
        passed.flat_map(|(_, listening)| &listening.sockets)
    }

    /// The logs of the process.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The results of the last reloads.
    #[must_use]
    pub fn status(&self) -> Arc<Mutex<Status>> {
        self.status.clone()
    }

    /// The address of each listener, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<String, Address> {
        let entry = |l: &Listening| (l.name.clone(), l.bound.clone());
        self.listening.values().map(entry).collect()
    }

    /// Reads the source again and puts its configuration in force, if the text has changed or `only_if_changed` is
    /// not set.
    ///
    /// # Errors
    /// All problems; the previous configuration stays in force.
    pub async fn reload(&mut self, only_if_changed: bool) -> Result<u64, Vec<Problem>> {
        self.looking = only_if_changed;
        let text = match self.read().await {
            Ok(text) => text,
            Err(message) => {
                // A missing file is reported once, not at every check.
                let hash = fingerprint(&message);
                if only_if_changed && self.seen.replace(hash) == Some(hash) {
                    return Ok(self.generation());
                }
                return self.fail(vec![Problem::error(Position::START, "", message)]);
            }
        };
        let hash = fingerprint(&text);
        if only_if_changed {
            if self.seen == Some(hash) {
                self.recertify().await;
                return Ok(self.generation());
            }
            // A half-written file may be valid and have another meaning: the file must stay unchanged first.
            tokio::time::sleep(HOLDS_STILL).await;
            if self.read().await.as_ref() != Ok(&text) {
                return Ok(self.generation());
            }
        }
        self.seen = Some(hash);
        self.put_in_force(&text).await
    }

    /// Loads certificates whose files have changed; the ones in force stay if the new ones are invalid.
    async fn recertify(&mut self) {
        let plan = self.shared.view.load().plan.clone();
        let known = self.certificates;
        let build = move || match store::fingerprint(&plan) {
            same if same == known => None,
            other => Some((other, build_all(&plan))),
        };
        let Ok(Some((fingerprint, built))) = tokio::task::spawn_blocking(build).await else {
            return;
        };
        self.certificates = fingerprint;
        match built {
            Ok((tls, mut policies)) => {
                policies.inherit(&self.shared.view.load().policies);
                tracing::info!("certificates, keys and passwords reloaded");
                control::broadcast(&self.shared, json!({"kind": "certificates", "ok": true}));
                let (tls, policies) = (Arc::new(tls), Arc::new(policies));
                log_undelivered(
                    self.control.send(control::Command::Certify { tls, policies }).await,
                );
            }
            Err(problems) => {
                for (path, problem) in problems {
                    tracing::error!(
                        "certificates, keys and passwords not reloaded, the previous ones stay in force: {path}: {problem}"
                    );
                }
                control::broadcast(&self.shared, json!({"kind": "certificates", "ok": false}));
            }
        }
    }

    async fn read(&self) -> Result<String, String> {
        match &self.origin {
            Origin::Text(text) => Ok(text.clone()),
            Origin::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("cannot read the file: {error}")),
        }
    }

    fn folder(&self) -> PathBuf {
        match &self.origin {
            Origin::File(path) => folder_of(path),
            Origin::Text(_) => PathBuf::from("."),
        }
    }

    async fn put_in_force(&mut self, text: &str) -> Result<u64, Vec<Problem>> {
        let (folder, owned) = (self.folder(), text.to_owned());
        // Parsing and checking a large file takes milliseconds, which would delay this thread's timers.
        let parse = move || load(&owned, &folder, &|name| std::env::var(name).ok());
        let Ok(outcome) = tokio::task::spawn_blocking(parse).await else {
            let problem = Problem::error(Position::START, "", "the check did not finish");
            return self.fail(vec![problem]);
        };
        let Outcome { config: Some(config), problems } = outcome else {
            // A file that the configuration refers to may be created later: load it again at the next check.
            self.seen = None;
            return self.fail(outcome.problems);
        };
        let Config { mut plan, settings, mut tls, mut policies, effective } = config;
        plan.cookie_secret = Some(self.cookie_secret);
        policies.inherit(&self.shared.view.load().policies);
        if settings.admin != self.settings.admin && tls.admin.is_none() {
            // The admin API keeps its address until a restart, and must not continue there without TLS.
            tls.admin.clone_from(&self.shared.view.load().tls.admin);
        }
        let plan = Arc::new(plan);
        let built = match self.build(&plan) {
            Ok(built) => built,
            Err(problem) => {
                self.seen = None;
                return self.fail(vec![problem]);
            }
        };
        for problem in problems.iter().chain(&self.needs_restart(&settings)) {
            tracing::warn!("{}", problem.render(&self.name()));
        }
        let generation = self.publish(plan, (Arc::new(tls), Arc::new(policies)), built, text).await;
        match &generation {
            Ok(_) => {
                self.access.store(Arc::new(access(&settings)));
                self.logs.apply(&settings);
                let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
                status.effective = Arc::new(effective);
                drop(status);
                self.settings = Settings {
                    workers: self.settings.workers,
                    admin: self.settings.admin.clone(),
                    state_dir: self.settings.state_dir.clone(),
                    log_format: self.settings.log_format,
                    ..settings
                };
            }
            // An address in use may be free at the next check.
            Err(_) => self.seen = None,
        }
        generation
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The access rules of the admin API, updated at each reload.
    #[must_use]
    pub fn access(&self) -> Arc<ArcSwap<Access>> {
        self.access.clone()
    }

    /// Binds sockets for new listeners. They do not listen yet.
    fn build(&mut self, plan: &Plan) -> Result<Vec<Built>, Problem> {
        let mut built: Vec<Built> = Vec::new();
        for (listener, key) in plan
            .listeners
            .iter()
            .flat_map(|listener| listener.bind_keys().map(move |s| (listener, s)))
        {
            if self.listening.contains_key(&key) {
                continue;
            }
            // Where the kernel chose a port, all transports of the listener use that port.
            let chosen = self.listening.iter().map(|(known, listening)| (known, &listening.bound));
            let chosen = chosen.chain(built.iter().map(|built| (&built.key, &built.bound)));
            let mut beside = chosen.filter(|(known, _)| known.address == key.address);
            let address = beside.next().map_or(&key.address, |(_, bound)| bound).clone();
            let wanted = BindKey { address, ..key.clone() };
            // The trial bind would fail because of our own sockets there, which are about to be closed.
            let mut known = self.listening.keys().chain(&self.lingering);
            let ours = known.any(|known| same_port(known, &wanted));
            // A predecessor keeps its QUIC sockets until it ends.
            let theirs = key.transport == Transport::Quic && Inherited::has_predecessor();
            let trial = if ours || theirs { listen::Trial::None } else { listen::Trial::First };
            // Only the process that accepted them knows its QUIC connections: QUIC sockets are not passed on.
            let found = match key.transport {
                Transport::Quic => Vec::new(),
                Transport::Stream | Transport::Datagram => self.inherited.for_key(&wanted),
            };
            let count = self.workers.len();
            let sockets = match found.is_empty() {
                false => listen::share_out(&wanted, found, count),
                true => listen::bind(&wanted, listener.mode, count, trial),
            };
            let sockets =
                sockets.map_err(|error| unbound(&listener.name, &listener.address, &error))?;
            let bound = sockets.first();
            let bound = bound.map_or(wanted.address.clone(), |socket| {
                listen::local_address(socket, &wanted.address)
            });
            built.push(Built { name: listener.name.clone(), key, bound, sockets });
        }
        Ok(built)
    }

    async fn publish(
        &mut self,
        plan: Arc<Plan>,
        (tls, policies): (Arc<Store>, Arc<policy::Store>),
        built: Vec<Built>,
        text: &str,
    ) -> Result<u64, Vec<Problem>> {
        for built in &built {
            if let Err(error) = listen::listen(&built.sockets) {
                return self.fail(vec![unbound(&built.name, &built.bound, &error)]);
            }
        }
        let generation = self.generation() + 1;
        self.stop_unwanted(&plan).await;
        let (done, adopted) = oneshot::channel();
        // A change during the read of the files is noticed at the next check.
        self.certificates = 0;
        let adopt = control::Command::Adopt { plan: plan.clone(), tls, policies, generation, done };
        if self.control.send(adopt).await.is_err() || adopted.await.is_err() {
            let message = "the control thread is gone";
            return self.fail(vec![Problem::error(Position::START, "", message)]);
        }
        self.discovery.follow(&plan);
        self.hand_out(&plan, built).await;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::since_epoch();
        *status = Status {
            generation,
            hash: format!("{:016x}", fingerprint(text)),
            loaded_at: now,
            ok: true,
            at: now,
            error: None,
            succeeded: status.succeeded + 1,
            failed: status.failed,
            effective: status.effective.clone(),
        };
        drop(status);
        tracing::info!(generation, "configuration generation {generation} in force");
        control::broadcast(
            &self.shared,
            json!({"kind": "reload", "ok": true, "generation": generation}),
        );
        Ok(generation)
    }

    /// Sends the new sockets to the workers.
    async fn hand_out(&mut self, plan: &Plan, built: Vec<Built>) {
        for Built { name, key, bound, sockets } in built {
            let by = key.transport.label();
            tracing::info!(listener = name, address = %bound, by, "listener {name} listening on {bound}");
            let copies = sockets.iter().filter_map(|socket| socket.try_clone().ok()).collect();
            for (worker, socket) in self.workers.iter().zip(sockets) {
                let key = key.clone();
                log_undelivered(worker.send(worker::Command::Listen { key, socket }).await);
            }
            self.listening.insert(key, Listening { name, bound, sockets: copies });
        }
        if !self.inherited.is_empty() {
            let count = self.inherited.len();
            tracing::warn!(
                count,
                "{count} inherited sockets closed: no listener has their addresses"
            );
            self.inherited = Inherited::default();
        }
        for listener in &plan.listeners {
            for key in listener.bind_keys() {
                if let Some(listening) = self.listening.get_mut(&key) {
                    listening.name.clone_from(&listener.name);
                }
            }
            // The socket stays; the permissions of its file may have changed.
            if let Address::Unix(path) = &listener.address
                && let Err(error) = listen::set_mode(path, listener.mode)
            {
                tracing::warn!(%error, path = %path.display(), "mode of unix socket {} not changed", path.display());
            }
        }
    }

    /// Stops the listeners that the plan does not have, while the old view still contains them: their queued
    /// connections are served first.
    async fn stop_unwanted(&mut self, plan: &Plan) {
        let wanted =
            |key: &BindKey| plan.listeners.iter().any(|l| l.bind_keys().any(|s| s == *key));
        let gone: Vec<BindKey> =
            self.listening.keys().filter(|key| !wanted(key)).cloned().collect();
        for key in gone {
            self.listening.remove(&key);
            if key.transport != Transport::Stream && !self.lingering.contains(&key) {
                self.lingering.push(key.clone());
            }
            let address = &key.address;
            tracing::info!(%address, "listener on {address} stopped");
            for worker in &self.workers {
                let (done, stopped) = oneshot::channel();
                log_undelivered(
                    worker.send(worker::Command::Stop { key: key.clone(), done }).await,
                );
                if !matches!(tokio::time::timeout(STOPPED, stopped).await, Ok(Ok(()))) {
                    tracing::warn!(%address, "listener on {address} not stopped in time by a worker");
                }
            }
            if let Address::Unix(path) = address
                && !self.handed_over
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::debug!(%error, path = %path.display(), "unix socket file not removed");
            }
        }
    }

    /// Stops all listeners.
    pub async fn stop_listening(&mut self) {
        self.stop_unwanted(&Plan::default()).await;
    }

    fn needs_restart(&self, settings: &Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut changed = |path: &str, differs: bool| {
            if differs {
                let message = "changed; takes effect at the next start";
                let problem = Problem::error(Position::START, path, message);
                problems.push(Problem { severity: Severity::Warning, ..problem });
            }
        };
        changed("runtime.workers", settings.workers != self.settings.workers);
        changed("admin.address", settings.admin != self.settings.admin);
        changed("state_dir", settings.state_dir != self.settings.state_dir);
        changed("log.format", settings.log_format != self.settings.log_format);
        problems
    }

    fn fail(&self, problems: Vec<Problem>) -> Result<u64, Vec<Problem>> {
        let name = self.name();
        let text: Vec<String> = problems.iter().map(|problem| problem.render(&name)).collect();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if self.looking && status.error.as_ref() == Some(&text.join("\n")) {
            // The next check skips this text: its error was logged and counted.
            return Err(problems);
        }
        for (problem, line) in problems.iter().zip(&text) {
            match problem.severity {
                Severity::Error => tracing::error!("{line}"),
                Severity::Warning => tracing::warn!("{line}"),
            }
        }
        if status.generation > 0 {
            let errors = problems.iter().filter(|one| one.severity == Severity::Error).count();
            tracing::error!(
                errors,
                "configuration rejected, the previous one stays in force: {errors} errors"
            );
        }
        status.ok = false;
        status.at = clock::since_epoch();
        status.failed += 1;
        status.error = Some(text.join("\n"));
        drop(status);
        let event = json!({"kind": "reload", "ok": false, "error": text.join("\n")});
        control::broadcast(&self.shared, event);
        Err(problems)
    }

    fn name(&self) -> String {
        match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Text(_) => "-".to_owned(),
        }
    }

    fn generation(&self) -> u64 {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).generation
    }
}

/// The folder of a file, for its relative paths.
#[must_use]
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Reads the files of a plan: TLS and policies.
fn build_all(plan: &Plan) -> Result<(Store, policy::Store), Vec<(String, String)>> {
    match (Store::build(plan), policy::Store::build(plan)) {
        (Ok(tls), Ok(policies)) => Ok((tls, policies)),
        (tls, policies) => {
            Err([tls.err(), policies.err()].into_iter().flatten().flatten().collect())
        }
    }
}

/// Bound sockets of a listener whose configuration is not in force yet.
struct Built {
    name: String,
    key: BindKey,
    bound: Address,
    sockets: Vec<Socket>,
}

fn same_port(a: &BindKey, b: &BindKey) -> bool {
    a.transport.collides(b.transport)
        && matches!((&a.address, &b.address), (Address::Ip(a), Address::Ip(b)) if a.port() == b.port() && a.port() != 0)
}

fn unbound(name: &str, address: &Address, error: &std::io::Error) -> Problem {
    let message = format!("cannot listen on {address}: {error}");
    Problem::error(Position::START, format!("listeners.{name}.address"), message)
}

fn log_undelivered<T>(result: Result<(), mpsc::error::SendError<T>>) {
    if result.is_err() {
        tracing::error!("command to a worker dropped: the worker has ended");
    }
}

fn fingerprint(text: &str) -> u64 {
    crate::decision::units::hash(text.as_bytes())
}
