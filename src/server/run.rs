//! The process: start, run, drain, stop.

use super::backend::{Sources, backend};
use super::control::{self, Figures};
use super::files::{self, Dials};
use super::fresh::{count_panics, shared};
use super::logs::Logs;
use super::reload::{Origin, Reloader, folder_of};
use super::signals::{Signal, Signals};
use super::upgrade::{self, Upgrade, Waiting, Watchdog};
use super::worker;
use crate::admin;
use crate::config::endpoints::endpoints_file;
use crate::config::{Config, Problem, Settings, load};
use crate::decision::assess::Event;
use crate::decision::plan::{Address, BindKey, EndpointSpec, Plan, Transport};
use crate::discover::{Discovery, Resolver};
use crate::os::inherit::{self, Inherited};
use crate::os::notify;
use crate::os::watch::FolderWatch;
use crate::os::{clock, cores, listen, process};
use crate::shared::{Decision, Shared};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::cells::Registry;
use crate::telemetry::log::Log;
use socket2::Socket;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The options of a proxy.
#[derive(Clone, Debug)]
pub struct Options {
    /// The source of the configuration.
    pub origin: Origin,
    /// Whether this process handles signals; a demo or a test runs several proxies in one process.
    pub signals: bool,
    /// Whether workers are pinned to cores.
    pub pin: bool,
    /// The process's log, if the proxy may change it.
    pub log: Option<Arc<Log>>,
}

/// The reason why the proxy could not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has problems.
    Config(Vec<Problem>),
    /// The operating system reported an error.
    Io(String),
}

/// A started proxy.
#[derive(Debug)]
pub struct Running {
    /// The state that all threads share.
    pub shared: Arc<Shared>,
    /// The address of each listener.
    pub addresses: BTreeMap<String, Address>,
    /// The address of the admin API.
    pub admin: Option<Address>,
    stop: mpsc::Sender<Stop>,
    main: tokio::task::JoinHandle<()>,
}

/// The ways to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// Drain: exchanges may finish until the drain deadline.
    Drain,
    /// Stop at once.
    Now,
}

impl Running {
    /// Stops the proxy, and waits until it has stopped.
    pub async fn stop(self, how: Stop) {
        if self.stop.send(how).await.is_err() {
            tracing::debug!("stop request ignored: the proxy has stopped already");
        }
        self.wait().await;
    }

    /// Waits until the proxy has stopped.
    pub async fn wait(self) {
        if let Err(error) = self.main.await {
            tracing::error!(%error, "main task failed");
        }
    }
}

/// Decisions that are kept for the admin API.
const DECISIONS: usize = 1_000;
/// The interval between two checks of the configuration file, in addition to the watch.
const LOOK: Duration = Duration::from_millis(500);
/// The interval between two writes of the budgets' balances.
const COUNT: Duration = Duration::from_secs(5);
/// The interval between two measurements of the memory in use.
const WEIGH: Duration = Duration::from_millis(250);
/// The delay between the first report of a change and the read of the file: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// The time for a worker to end.
const ENDED: Duration = Duration::from_secs(5);
/// The time without a published view after which the control thread counts as stalled.
const STALLED: Duration = Duration::from_secs(5);
/// The time for the last lines of the access log at the end.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Runs the proxy until a signal or command stops it.
///
/// # Errors
/// [`StartError`].
pub fn run(options: Options) -> Result<(), StartError> {
    // Before this process opens sockets of its own.
    let inherited = if options.signals { Inherited::take() } else { Inherited::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()
        .map_err(|error| StartError::Io(error.to_string()))?;
    runtime.block_on(async {
        let running = start_with(options, inherited).await?;
        running.wait().await;
        Ok(())
    })
}

/// Starts the proxy; the calling runtime runs its background tasks.
///
/// # Errors
/// [`StartError`].
pub async fn start(options: Options) -> Result<Running, StartError> {
    start_with(options, Inherited::default()).await
}

async fn start_with(options: Options, mut inherited: Inherited) -> Result<Running, StartError> {
    let settings = first_settings(&options.origin)?;
    let workers = settings.workers.unwrap_or_else(|| cores::allowed().len());
    let config = name_of(&options.origin);
    let registry = Arc::new(Registry::default());
    let (shared, channels) = shared(workers, registry.clone());
    let events = shared.events.clone();
    count_panics(registry.clone());
    let signals = Signals::new(options.signals);
    let (logs, log_writer) = Logs::start(&settings, options.log.clone(), registry);
    let figures = Arc::new(Mutex::new(Figures::default()));
    let (control, control_in) = mpsc::channel(64);
    let control_thread = control::ControlSetup {
        shared: shared.clone(),
        events: channels.events,
        commands: control_in,
        figures: figures.clone(),
        first: kept_events(&settings),
    };
    let mut threads = vec![thread("control", move || control::run(control_thread))?];
    let worker_senders = start_workers(&shared, logs.access(), options.pin, &mut threads)?;
    let resolver = Resolver::new(name_server());
    let discovery = Discovery::new(events, shared.view.clone(), resolver, parse_endpoints);
    let ages = discovery.ages();
    let admin_listener = bind_admin(&settings, &mut inherited).map_err(StartError::Io)?;
    let mut reloader = Reloader::new(
        options.origin.clone(),
        shared.clone(),
        control.clone(),
        worker_senders.clone(),
        discovery,
        logs,
        settings.clone(),
    );
    reloader.inherit(inherited);
    let status = reloader.status();
    reloader.reload(false).await.map_err(StartError::Config)?;
    log_start(&shared.view.load().plan, &config);
    let addresses = reloader.addresses();
    let (requests, requests_in) = mpsc::channel(64);
    let memory = Arc::new(Mutex::new(VecDeque::new()));
    tokio::spawn(remember(channels.decisions, memory.clone()));
    let mut upgrade = Upgrade::new(options.signals);
    let admin = admin_listener.map(|(listener, address, copy)| {
        tracing::info!(%address, "admin API listening on {address}");
        let sources = Sources { shared: shared.clone(), status, figures, ages };
        let backend = backend(sources, requests, memory, address.clone(), reloader.access());
        upgrade.keep_admin(copy, tokio::spawn(admin::serve(listener, backend)));
        address
    });
    let (stop, stopping) = mpsc::channel(4);
    let main = Main {
        options,
        settings,
        shared: shared.clone(),
        reloader,
        control,
        workers: worker_senders,
        threads,
        signals,
        log_writer: Some(log_writer),
        upgrade,
    };
    if main.options.signals {
        inherit::tell_predecessor();
        notify::tell("READY=1");
    }
    let main = tokio::spawn(main.run(requests_in, stopping));
    Ok(Running { shared, addresses, admin, stop, main })
}

/// The name of a configuration in messages: its path, or `-` for text.
fn name_of(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Text(_) => "-".to_owned(),
    }
}

/// The events for dials and budgets stored in `state_dir`.
fn kept_events(settings: &Settings) -> Vec<Event> {
    let dials = settings.state_dir.as_deref().map(Dials::load).unwrap_or_default();
    let budgets = settings.state_dir.as_deref().map(files::load_budgets).unwrap_or_default();
    dials.events().into_iter().chain(budgets).collect()
}

/// Parses an endpoints file; the error is one line with all problems.
fn parse_endpoints(text: &str, folder: &Path) -> Result<Vec<EndpointSpec>, String> {
    endpoints_file(text, folder).map_err(|problems| {
        problems.iter().map(|problem| problem.render("")).collect::<Vec<_>>().join("; ")
    })
}

fn log_start(plan: &Plan, config: &str) {
    let version = env!("CARGO_PKG_VERSION");
    let (site, environment) = (&plan.site, &plan.environment);
    tracing::info!(version, site, environment, config, "tidegate {version} started");
}

/// The settings at the start, or all problems.
fn first_settings(origin: &Origin) -> Result<Settings, StartError> {
    let (text, folder) = match origin {
        Origin::Text(text) => (text.clone(), PathBuf::from(".")),
        Origin::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                StartError::Io(format!("cannot read {}: {error}", path.display()))
            })?;
            (text, folder_of(path))
        }
    };
    let outcome = load(&text, &folder, &|name| std::env::var(name).ok());
    match outcome.config {
        Some(Config { settings, .. }) => Ok(settings),
        None => Err(StartError::Config(outcome.problems)),
    }
}

/// A dial in words; without a percentage, the configured dial is in force again.
fn dialled(percent: Option<u8>) -> String {
    percent.map_or("reset".to_owned(), |percent| percent.to_string())
}

/// A name server to use instead of the system's, for split horizons and tests: `TIDEGATE_NAME_SERVER`.
fn name_server() -> Option<std::net::SocketAddr> {
    let value = std::env::var("TIDEGATE_NAME_SERVER").ok()?;
    value
        .parse()
        .map_err(|error| tracing::error!(%error, value, "`{value}` ignored: not an address"))
        .ok()
}

type Thread = JoinHandle<io::Result<()>>;

fn thread(
    name: &str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<Thread, StartError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| StartError::Io(format!("cannot start a thread: {error}")))
}

fn start_workers(
    shared: &Arc<Shared>,
    log: &AccessLog,
    pin: bool,
    threads: &mut Vec<Thread>,
) -> Result<Vec<mpsc::Sender<worker::Command>>, StartError> {
    let count = shared.busy.len();
    let allowed = cores::allowed();
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(64)).unzip();
    let mut senders = Vec::with_capacity(count);
    for (id, inbox) in inboxes.into_iter().enumerate() {
        let (sender, commands) = mpsc::channel(256);
        senders.push(sender);
        let setup = worker::WorkerSetup {
            id,
            // Workers are pinned only if there is a core for each.
            core: (pin && count <= allowed.len()).then(|| allowed[id]),
            shared: shared.clone(),
            log: log.clone(),
            commands,
            inbox,
            outboxes: outboxes.clone(),
        };
        threads.push(thread(&format!("worker-{id}"), move || worker::run(setup))?);
    }
    Ok(senders)
}

/// The admin API's listener, its address, and a copy of its socket.
type AdminListener = (admin::Listener, Address, Option<Socket>);

fn bind_admin(
    settings: &Settings,
    inherited: &mut Inherited,
) -> Result<Option<AdminListener>, String> {
    let Some(address) = &settings.admin else { return Ok(None) };
    let failed = |error: io::Error| format!("admin.address: cannot listen on {address}: {error}");
    let key = BindKey { transport: Transport::Stream, address: address.clone(), takes_all: false };
    let found = inherited.for_key(&key);
    let sockets = match found.is_empty() {
        false => listen::share_out(&key, found, 1),
        true => listen::bind(&key, settings.admin_mode, 1, listen::Trial::First),
    };
    let mut sockets = sockets.map_err(failed)?;
    listen::listen(&sockets).map_err(failed)?;
    let socket = sockets.pop().ok_or("admin.address: no socket")?;
    let bound = listen::local_address(&socket, address);
    let copy = socket.try_clone().ok();
    let listener = match address {
        Address::Ip(_) => {
            tokio::net::TcpListener::from_std(socket.into()).map(admin::Listener::Tcp)
        }
        Address::Unix(_) => {
            tokio::net::UnixListener::from_std(socket.into()).map(admin::Listener::Unix)
        }
    };
    Ok(Some((listener.map_err(failed)?, bound, copy)))
}

async fn remember(mut decisions: mpsc::Receiver<Decision>, memory: Arc<Mutex<VecDeque<Decision>>>) {
    while let Some(decision) = decisions.recv().await {
        {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            if memory.len() == DECISIONS {
                memory.pop_front();
            }
            memory.push_back(decision);
        }
        // A sample is sufficient: at most a hundred decisions a second.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The main task: the configuration file, signals, requests of the API, and the end.
struct Main {
    options: Options,
    settings: Settings,
    shared: Arc<Shared>,
    reloader: Reloader,
    control: mpsc::Sender<control::Command>,
    workers: Vec<mpsc::Sender<worker::Command>>,
    threads: Vec<Thread>,
    signals: Signals,
    log_writer: Option<tokio::task::JoinHandle<()>>,
    upgrade: Upgrade,
}

impl Main {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<admin::Request>,
        mut stop: mpsc::Receiver<Stop>,
    ) {
        let mut watch = self.watch();
        let mut looks = tokio::time::interval(LOOK);
        let mut weighings = tokio::time::interval(WEIGH);
        let mut counts = tokio::time::interval(COUNT);
        let memory_max = process::memory_limit();
        let mut successor: Waiting = None;
        let mut alive = Watchdog::new(self.options.signals);
        let mut signals = std::mem::replace(&mut self.signals, Signals::none());
        let mut settle: Option<tokio::time::Instant> = None;
        let how = loop {
            tokio::select! {
                // Stop first: it makes all other events irrelevant.
                biased;
                how = stop.recv() => break how.unwrap_or(Stop::Now),
                signal = signals.next() => match signal {
                    Signal::Stop => break Stop::Drain,
                    Signal::Reload => self.reload_and_notify().await,
                    Signal::Upgrade if successor.is_some() => tracing::warn!("SIGUSR2 ignored: an upgrade is in progress"),
                    Signal::Upgrade => successor = self.upgrade.begin(&self.reloader),
                    Signal::Reopen => self.reloader.logs().reopen(),
                },
                taken = upgrade::ready(&mut successor) => match taken {
                    Some(process) => {
                        self.upgrade.finish();
                        notify::tell(&format!("MAINPID={process}"));
                        self.reloader.hand_over();
                        break Stop::Drain;
                    }
                    None => tracing::error!("upgrade failed: this process continues"),
                },
                () = alive.wait() => self.give_sign(),
                Some(request) = requests.recv() => self.serve(request).await,
                changed = self.changed(watch.as_ref()), if settle.is_none() => match changed {
                    Ok(()) => settle = Some(tokio::time::Instant::now() + SETTLE),
                    Err(error) => {
                        tracing::warn!(%error, "watch of the configuration folder lost: the file is polled");
                        watch = None;
                    }
                },
                () = tokio::time::sleep_until(settle.unwrap_or_else(tokio::time::Instant::now)),
                    if settle.is_some() =>
                {
                    settle = None;
                    self.reload(true).await;
                }
                _ = counts.tick() => {
                    self.keep_budgets();
                    self.shared.view.load().policies.forget();
                    self.shared.offenders.forget(clock::now());
                }
                _ = weighings.tick() => self.measure_memory(memory_max),
                _ = looks.tick(), if matches!(self.options.origin, Origin::File(_)) => {
                    self.reload(true).await;
                }
            }
        };
        // Later requests of the admin API fail at once.
        drop(requests);
        self.stop(how, &mut signals, &mut stop).await;
    }

    /// Publishes the share of the memory limit that is resident, in percent.
    fn measure_memory(&self, max_bytes: u64) {
        let percent = process::resident_bytes() * 100 / max_bytes.max(1);
        let percent = u32::try_from(percent).unwrap_or(u32::MAX);
        self.shared.memory_percent.store(percent, Ordering::Relaxed);
    }

    /// Sends the watchdog notification to the service manager, but only while the control thread publishes views.
    fn give_sign(&self) {
        if clock::now().since(self.shared.view.load().signals.at) < STALLED {
            notify::tell("WATCHDOG=1");
        }
    }

    /// Stores the balances of budgets, if there are budgets and a `state_dir`.
    fn keep_budgets(&self) {
        let Some(folder) = &self.settings.state_dir else { return };
        let view = self.shared.view.load();
        let services = view.plan.services.iter().zip(&view.signals.budgets);
        let left: BTreeMap<String, f64> =
            services.filter_map(|(service, left)| Some((service.name.clone(), (*left)?))).collect();
        if !left.is_empty()
            && let Err(error) = files::store_budgets(folder, &left)
        {
            tracing::warn!(%error, "budgets not stored: a restart begins with the last stored ones");
        }
    }

    /// Reloads, and notifies the service manager of the begin and the end.
    async fn reload_and_notify(&mut self) {
        let micros = clock::monotonic_micros();
        notify::tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        self.reload(false).await;
        notify::tell("READY=1");
    }

    async fn reload(&mut self, only_if_changed: bool) {
        // The error was logged where it occurred.
        if let Err(problems) = self.reloader.reload(only_if_changed).await {
            tracing::debug!(problems = problems.len(), "reload failed");
        }
    }

    fn watch(&self) -> Option<FolderWatch> {
        let Origin::File(path) = &self.options.origin else { return None };
        let watch = FolderWatch::new(&folder_of(path));
        watch
            .map_err(
                |error| tracing::warn!(%error, "configuration folder not watched: the file is polled"),
            )
            .ok()
    }

    /// Waits until the configuration file may have changed.
    async fn changed(&self, watch: Option<&FolderWatch>) -> io::Result<()> {
        let (Some(watch), Origin::File(path)) = (watch, &self.options.origin) else {
            return std::future::pending().await;
        };
        // The file itself, or the links that Kubernetes swaps (`..data`); other files of the folder, such as logs,
        // are ignored.
        let is_ours = |found: &OsStr| {
            Some(found) == path.file_name() || found.as_encoded_bytes().starts_with(b"..")
        };
        watch.changed(is_ours).await
    }

    async fn serve(&mut self, request: admin::Request) {
        match request {
            admin::Request::Reload(done) => {
                let result = self.reloader.reload(false).await;
                let name = name_of(&self.options.origin);
                let answer = result
                    .map_err(|all| all.iter().map(|problem| problem.to_json(&name)).collect());
                if done.send(answer).is_err() {
                    tracing::debug!("result of a reload dropped: the admin client has gone");
                }
            }
            admin::Request::Dial(event, done) => {
                let result = self.dial(event).await;
                if done.send(result).is_err() {
                    tracing::debug!("result of a dial dropped: the admin client has gone");
                }
            }
        }
    }

    async fn dial(&self, event: Event) -> Result<(), String> {
        match &event {
            Event::DialCluster { cluster, percent } => {
                tracing::info!(
                    cluster,
                    percent = dialled(*percent),
                    "dial of cluster {cluster} set by an operator"
                );
            }
            Event::DialSite { site, percent } => {
                tracing::info!(
                    site,
                    percent = dialled(*percent),
                    "dial of site {site} set by an operator"
                );
            }
            _ => {}
        }
        let (done, dials) = oneshot::channel();
        let gone = || "the control thread is gone".to_owned();
        let command = control::Command::Dial { event, done };
        self.control.send(command).await.map_err(|_| gone())?;
        let (clusters, sites) = dials.await.map_err(|_| gone())?;
        match &self.settings.state_dir {
            Some(folder) => Dials { clusters, sites }
                .store(folder)
                .map_err(|error| format!("in force, but not kept over a restart: {error}")),
            None => Ok(()),
        }
    }

    /// Stops the proxy: readiness fails at once; listeners close after `drain.delay`; remaining connections have
    /// until `drain.deadline`. A second signal ends the wait.
    async fn stop(mut self, how: Stop, signals: &mut Signals, stop: &mut mpsc::Receiver<Stop>) {
        self.keep_budgets();
        self.shared.draining.store(true, Ordering::Relaxed);
        // After an upgrade only this process ends; the service continues.
        if !self.upgrade.is_done() {
            notify::tell("STOPPING=1");
        }
        if how == Stop::Drain {
            self.drain(signals, stop).await;
        }
        self.end_threads().await;
        // The last sender of the access log; without it the writer ends.
        drop(self.reloader);
        if let Some(writer) = self.log_writer.take()
            && tokio::time::timeout(LOG_FLUSH, writer).await.is_err()
        {
            tracing::warn!("access log: last lines not written in time");
        }
        if let Some(Address::Unix(path)) = &self.settings.admin
            && !self.upgrade.is_done()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "unix socket file not removed");
        }
        tracing::info!("proxy stopped");
    }

    /// Closes the listeners after `drain.delay` and waits for the last connection, at most `drain.deadline`. A further
    /// signal ends the wait.
    async fn drain(&mut self, signals: &mut Signals, stop: &mut mpsc::Receiver<Stop>) {
        tracing::info!("proxy draining");
        let shared = self.shared.clone();
        let settings = self.reloader.settings();
        let (delay, deadline) = (settings.drain_delay, settings.drain_deadline);
        let (reloader, workers) = (&mut self.reloader, &self.workers);
        let drain = async {
            tokio::time::sleep(delay).await;
            reloader.stop_listening().await;
            let empty = async {
                while shared.connections.get() > 0 {
                    for worker in workers {
                        log_undelivered(worker.send(worker::Command::Drain).await);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            if tokio::time::timeout(deadline, empty).await.is_err() {
                let left = shared.connections.get();
                tracing::warn!(left, "{left} connections cut: drain_deadline is over");
            }
        };
        tokio::select! {
            // A second signal first.
            biased;
            () = signals.stop() => tracing::warn!("drain cut short: stop requested again"),
            _ = stop.recv() => tracing::warn!("drain cut short: stop requested again"),
            () = drain => {}
        }
    }

    /// Ends the workers and the control thread, and joins them.
    async fn end_threads(&mut self) {
        for worker in &self.workers {
            let (done, ended) = oneshot::channel();
            let sent = worker.send(worker::Command::End(done)).await.is_ok();
            if sent && !matches!(tokio::time::timeout(ENDED, ended).await, Ok(Ok(()))) {
                tracing::warn!("worker has not ended in time");
            }
        }
        // Includes what was spent during the drain.
        self.keep_budgets();
        if self.control.send(control::Command::End).await.is_err() {
            tracing::debug!("control thread has ended already");
        }
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "thread failed"),
                    Err(_) => tracing::error!("thread panicked"),
                }
            }
        });
        if joined.await.is_err() {
            tracing::error!("threads not joined");
        }
    }
}

fn log_undelivered<T>(result: Result<(), mpsc::error::SendError<T>>) {
    if result.is_err() {
        tracing::debug!("command to a worker dropped: the worker has ended");
    }
}
