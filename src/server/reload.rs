//! Puts a configuration in force in four steps: parse, check, build, publish. The start, a changed file, SIGHUP and
//! the API use the same steps.
//!
//! Nothing changes before the last step, so a failure leaves nothing to undo.

use super::control;
use super::files;
use super::key_origin::KeyOrigin;
use super::last_read::LastRead;
use super::logs::Logs;
use super::origin::{Loaded, Origin};
use super::sockets::{Built, Sockets, log_undelivered, unbound};
use super::status::{Status, Texts};
use crate::acme::Certificates;
use crate::admin::Access;
use crate::config::error::Position;
use crate::config::{Config, Documents, Outcome, Problem, Settings, Severity};
use crate::decision::plan::{Address, Plan, Secret};
use crate::discover::Discovery;
use crate::fleet::Fleet;
use crate::os::inherit::Inherited;
use crate::os::{clock, listen};
use crate::policy;
use crate::proxy::worker_thread;
use crate::scaling::Scaling;
use crate::shared::Shared;
use crate::tls::store::{self, Store};
use crate::traces::Traces;
use arc_swap::ArcSwap;
use serde_json::json;
use socket2::Socket;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Problems of a rejected file that are kept for the API.
const PROBLEMS_MAX: usize = 100;
/// The time for which a changed file must stay unchanged before it is loaded.
const HOLDS_STILL: Duration = Duration::from_millis(60);

/// The condition of a reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReloadIf {
    /// No condition: the operator requested the reload.
    Requested,
    /// The text of the configuration has changed since it was last read.
    Changed,
}

/// Loads configurations and puts them in force.
#[derive(Debug)]
pub struct Reloader {
    origin: Origin,
    shared: Arc<Shared>,
    control: mpsc::Sender<control::Command>,
    sockets: Sockets,
    discovery: Discovery,
    settings: Settings,
    status: Arc<Mutex<Status>>,
    seen: Option<u64>,
    /// What was read last.
    documents: Arc<Documents>,
    last_read: LastRead,
    /// The fingerprint of `documents`.
    fingerprint: u64,
    /// The fingerprint of the TLS files in force, or of those that were rejected last.
    certificates: u64,
    /// Whether a check of the file started this reload, not an operator.
    looking: bool,
    /// The key of affinity cookies without a configured secret.
    cookie_secret: Secret,
    access: Arc<ArcSwap<Access>>,
    logs: Logs,
    fleet: Arc<Fleet>,
    acme: Arc<Certificates>,
    traces: Traces,
    scaling: Arc<Scaling>,
}

impl Reloader {
    /// A reloader without a configuration in force.
    #[must_use]
    pub fn new(
        origin: Origin,
        shared: Arc<Shared>,
        control: mpsc::Sender<control::Command>,
        workers: Vec<mpsc::Sender<worker_thread::Command>>,
        discovery: Discovery,
        (logs, traces): (Logs, Traces),
        settings: Settings,
    ) -> Reloader {
        let access = Arc::new(ArcSwap::from_pointee(files::access(&settings)));
        let cookie_secret = files::cookie_secret(settings.state_dir.as_deref());
        let fleet = Arc::new(Fleet::new(shared.clone()));
        let scaling = Arc::new(Scaling::new(shared.clone(), fleet.clone()));
        let acme = Arc::new(Certificates::new(shared.clone(), fleet.clone()));
        Reloader {
            cookie_secret,
            access,
            origin,
            shared,
            control,
            sockets: Sockets::new(workers),
            discovery,
            settings,
            status: Arc::default(),
            seen: None,
            documents: Arc::default(),
            last_read: LastRead::default(),
            fingerprint: 0,
            certificates: 0,
            looking: false,
            fleet,
            acme,
            scaling,
            logs,
            traces,
        }
    }

    /// Adds the sockets that this process inherited, before it binds its own.
    pub fn inherit(&mut self, inherited: Inherited) {
        self.sockets.inherit(inherited);
    }

    /// The other proxies, as far as they are known.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// The certificates that are ordered.
    #[must_use]
    pub fn acme(&self) -> &Arc<Certificates> {
        &self.acme
    }

    /// The interfaces for autoscalers.
    #[must_use]
    pub fn scaling(&self) -> &Arc<Scaling> {
        &self.scaling
    }

    /// Hands the socket files over to a successor.
    pub fn hand_over(&mut self) {
        self.sockets.hand_over();
    }

    /// The sockets to pass to a successor.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.to_pass()
    }

    /// The logs of the process.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The exporter of traces.
    pub fn traces(&mut self) -> &mut Traces {
        &mut self.traces
    }

    /// What was read last from the source.
    #[must_use]
    pub fn documents(&self) -> &Arc<Documents> {
        &self.documents
    }

    /// The results of the last reloads.
    #[must_use]
    pub fn status(&self) -> Arc<Mutex<Status>> {
        self.status.clone()
    }

    /// The address of each listener, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<String, Address> {
        self.sockets.addresses()
    }

    /// Puts the configuration of the start in force.
    ///
    /// # Errors
    /// All problems.
    pub async fn start(&mut self, loaded: Box<Loaded>) -> Result<u64, Vec<Problem>> {
        self.fingerprint = loaded.documents.fingerprint();
        self.documents = loaded.documents;
        self.seen = Some(self.fingerprint);
        let result = self.put_in_force(loaded.outcome).await;
        self.keep_texts(&result);
        result
    }

    /// Reads the source again and puts its configuration in force, if `when` says so.
    ///
    /// # Errors
    /// All problems; the previous configuration stays in force.
    pub async fn reload(&mut self, when: ReloadIf) -> Result<u64, Vec<Problem>> {
        let only_if_changed = when == ReloadIf::Changed;
        self.looking = only_if_changed;
        if !only_if_changed && let Err(message) = self.origin.refresh().await {
            // The last text that was seen stays in force; nothing was rejected.
            tracing::error!("configuration not read: {message}");
            return Err(vec![Problem::error(Position::START, "", message)]);
        }
        let read = self.last_read.read(&self.origin, &self.documents, only_if_changed).await;
        let documents = match read {
            Ok(documents) => documents,
            Err(message) => {
                // A missing file is reported once, not at every check.
                let hash = fingerprint(&message);
                if only_if_changed && self.seen.replace(hash) == Some(hash) {
                    return Ok(self.generation());
                }
                return self.fail(vec![Problem::error(Position::START, "", message)]);
            }
        };
        if !Arc::ptr_eq(&documents, &self.documents) {
            self.documents = documents.clone();
            self.fingerprint = documents.fingerprint();
        }
        if only_if_changed {
            if self.seen == Some(self.fingerprint) {
                self.recertify().await;
                return Ok(self.generation());
            }
            // A half-written file may be valid and have another meaning: the files must stay unchanged first.
            tokio::time::sleep(HOLDS_STILL).await;
            if self.origin.read(&documents).await.as_ref() != Ok(&documents) {
                return Ok(self.generation());
            }
        }
        let origin = self.origin.clone();
        // Parsing and checking a large file takes milliseconds, which would delay this thread's timers.
        let parse = tokio::task::spawn_blocking(move || origin.load(&documents));
        self.seen = Some(self.fingerprint);
        let result = match parse.await {
            Ok(outcome) => self.put_in_force(outcome).await,
            Err(_) => {
                self.fail(vec![Problem::error(Position::START, "", "the check did not finish")])
            }
        };
        self.keep_texts(&result);
        result
    }

    /// Keeps the texts that the API compares: the text in force, or the rejected text.
    fn keep_texts(&self, result: &Result<u64, Vec<Problem>>) {
        let problems = result.as_ref().err().map_or(&[][..], Vec::as_slice);
        let read = self.documents.clone();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.origin.name();
        let rejected = !problems.is_empty();
        let problems = problems.iter().take(PROBLEMS_MAX);
        let problems = problems.map(|problem| problem.to_json(&name)).collect();
        let texts = match rejected {
            true => {
                let in_force = status.texts.in_force.clone();
                Texts { name, in_force, rejected: Some(read), problems }
            }
            false => Texts { name, in_force: read, rejected: None, problems },
        };
        status.texts = Arc::new(texts);
    }

    /// Loads certificates whose files have changed; if the new certificates are invalid, the old ones
    /// stay in force.
    async fn recertify(&mut self) {
        let plan = self.shared.view.load().plan.clone();
        let known = self.certificates;
        let build = move || match store::fingerprint(&plan) {
            same if same == known => None,
            other => Some((other, files::build(&plan))),
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
                let sent = self.control.send(control::Command::Certify { tls, policies }).await;
                log_undelivered("the control thread", sent);
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

    async fn put_in_force(&mut self, outcome: Outcome) -> Result<u64, Vec<Problem>> {
        let Outcome { config: Some(config), problems, .. } = outcome else {
            // A file that the configuration refers to may be created later: load it again at the next check.
            self.seen = None;
            return self.fail(outcome.problems);
        };
        let Config { mut plan, settings, mut tls, mut policies, effective } = config;
        plan.cookie_secret = Some(self.cookie_secret);
        policies.inherit(&self.shared.view.load().policies);
        let now = &self.settings;
        // These sockets keep their addresses until a restart, and must not lose TLS there.
        let moved = (settings.admin != now.admin, settings.scaler != now.scaler);
        tls.keep(moved, &self.shared.view.load().tls);
        let plan = Arc::new(plan);
        let built = match self.sockets.bind(&plan) {
            Ok(built) => built,
            Err(problem) => {
                self.seen = None;
                return self.fail(vec![problem]);
            }
        };
        for problem in problems.iter().chain(&self.needs_restart(&settings)) {
            log(problem.severity, &problem.render(&self.origin.name()));
        }
        let generation = self.publish(plan, (Arc::new(tls), Arc::new(policies)), built).await;
        match &generation {
            Ok(_) => {
                self.access.store(Arc::new(files::access(&settings)));
                self.logs.apply(&settings);
                self.fleet.adopt(&settings.peers, settings.nats.as_ref());
                self.acme.adopt(&self.shared.view.load().plan, !self.looking);
                let site = self.shared.view.load().plan.site.clone();
                self.traces.adopt(settings.collector.as_ref(), &site);
                if self.shared.view.load().plan.lead.is_some() {
                    self.scaling.begin();
                }
                self.scaling.notify(settings.webhook.as_ref());
                if let Origin::Key(key) = &self.origin {
                    self.keep(key, &self.documents.main).await;
                }
                let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
                status.effective = Arc::new(effective);
                drop(status);
                self.settings = Settings {
                    workers: self.settings.workers,
                    admin: self.settings.admin.clone(),
                    metrics: self.settings.metrics,
                    scaler: self.settings.scaler,
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

    /// Keeps a text of a key in NATS for a start without NATS.
    async fn keep(&self, key: &KeyOrigin, text: &str) {
        if let Err(error) = key.adopt(text).await {
            self.shared.registry.state_unwritten.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("last good configuration not kept, a restart needs NATS: {error}");
        }
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

    async fn publish(
        &mut self,
        plan: Arc<Plan>,
        (tls, policies): (Arc<Store>, Arc<policy::Store>),
        built: Vec<Built>,
    ) -> Result<u64, Vec<Problem>> {
        for built in &built {
            if let Err(error) = listen::listen(&built.sockets) {
                return self.fail(vec![unbound(&built.name, &built.bound, &error)]);
            }
        }
        let generation = self.generation() + 1;
        self.sockets.stop_unwanted(&plan).await;
        let (done, adopted) = oneshot::channel();
        // A change during the read of the files is noticed at the next check.
        self.certificates = 0;
        let adopt = control::Command::Adopt { plan: plan.clone(), tls, policies, generation, done };
        if self.control.send(adopt).await.is_err() || adopted.await.is_err() {
            let message = "the control thread is gone";
            return self.fail(vec![Problem::error(Position::START, "", message)]);
        }
        self.discovery.follow(&plan);
        self.sockets.hand_out(&plan, built).await;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::since_epoch();
        *status = Status {
            generation,
            hash: format!("{:016x}", self.fingerprint),
            loaded_at: now,
            ok: true,
            at: now,
            error: None,
            succeeded: status.succeeded + 1,
            failed: status.failed,
            effective: status.effective.clone(),
            texts: status.texts.clone(),
        };
        drop(status);
        tracing::info!(generation, "configuration generation {generation} in force");
        control::broadcast(
            &self.shared,
            json!({"kind": "reload", "ok": true, "generation": generation}),
        );
        Ok(generation)
    }

    /// Stops all listeners.
    pub async fn stop_listening(&mut self) {
        self.sockets.stop_unwanted(&Plan::default()).await;
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
        changed("admin.metrics", settings.metrics != self.settings.metrics);
        changed("scaling.address", settings.scaler != self.settings.scaler);
        changed("state_dir", settings.state_dir != self.settings.state_dir);
        changed("log.format", settings.log_format != self.settings.log_format);
        problems
    }

    fn fail(&self, problems: Vec<Problem>) -> Result<u64, Vec<Problem>> {
        let name = self.origin.name();
        let text: Vec<String> = problems.iter().map(|problem| problem.render(&name)).collect();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if self.looking && status.error.as_ref() == Some(&text.join("\n")) {
            // The next check skips this text: its error was logged and counted.
            return Err(problems);
        }
        for (problem, line) in problems.iter().zip(&text) {
            log(problem.severity, line);
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

    fn generation(&self) -> u64 {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).generation
    }
}

/// Logs a rendered problem.
fn log(severity: Severity, line: &str) {
    match severity {
        Severity::Error => tracing::error!("{line}"),
        Severity::Warning => tracing::warn!("{line}"),
        Severity::Note => tracing::info!("{line}"),
    }
}

fn fingerprint(text: &str) -> u64 {
    crate::decision::units::hash(text.as_bytes())
}
