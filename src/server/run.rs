//! Start: threads, sockets, the first configuration, and the main task.

use super::backend::{Sources, backend};
use super::balances::Balances;
use super::control::{self, Figures};
use super::files;
use super::fresh::{count_panics, shared};
use super::logs::Logs;
use super::main_task::{Main, Thread};
use super::origin::{Loaded, Origin};
use super::reload::Reloader;
use super::reports::Reports;
use super::signals::Signals;
use super::upgrade::Upgrade;
use crate::admin;
use crate::config::endpoints::endpoints_file;
use crate::config::{Config, Problem, Settings};
use crate::decision::assess::Event;
use crate::decision::change::Dials;
use crate::decision::plan::{Address, BindKey, EndpointSpec, Plan, Transport};
use crate::discover::{Discovery, Resolver};
use crate::os::inherit::Inherited;
use crate::os::{cores, listen};
use crate::proxy::worker_thread;
use crate::shared::Shared;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::cells::Registry;
use crate::telemetry::log::Log;
use crate::traces::Traces;
use socket2::Socket;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

pub use super::main_task::Stop;

/// The options of a proxy.
#[derive(Debug)]
pub struct Options {
    /// The source of the configuration.
    pub origin: Origin,
    /// The configuration of the source, if it is loaded already.
    pub loaded: Option<Box<Loaded>>,
    /// Whether this process handles signals; a demo or a test runs several proxies in one process.
    pub signals: bool,
    /// Whether worker threads are pinned to cores.
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

/// Runs the proxy until a signal or command stops it; calls `started` once it serves.
///
/// # Errors
/// [`StartError`].
pub fn run(options: Options, started: impl FnOnce(&Running)) -> Result<(), StartError> {
    // This must happen before the process opens other sockets.
    let inherited = if options.signals { Inherited::take() } else { Inherited::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()
        .map_err(|error| StartError::Io(error.to_string()))?;
    runtime.block_on(async {
        let running = start_with(options, inherited).await?;
        started(&running);
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
    let (loaded, settings) = first(&options.origin, options.loaded).await?;
    let workers = settings.workers.unwrap_or_else(|| cores::allowed().len());
    let registry = Arc::new(Registry::default());
    let (shared, channels) = shared(workers, registry.clone());
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
        first: kept_events(&settings, &shared),
    };
    let mut threads = vec![thread("control", move || control::run(control_thread))?];
    let worker_senders = start_workers(&shared, logs.access(), options.pin, &mut threads)?;
    let discovery = discovery(&shared);
    let (ages, api_healths) = (discovery.ages(), discovery.api_healths());
    let admin_listener = bind_admin(&settings, &mut inherited).map_err(StartError::Io)?;
    let scaler_socket = bind_beside(settings.scaler, "scaling.address", &settings, &mut inherited)?;
    let metrics_socket = bind_beside(settings.metrics, "admin.metrics", &settings, &mut inherited)?;
    let mut reloader = Reloader::new(
        options.origin.clone(),
        shared.clone(),
        control.clone(),
        worker_senders.clone(),
        discovery,
        (logs, Traces::new(channels.traces, shared.registry.clone())),
        settings.clone(),
    );
    reloader.inherit(inherited);
    reloader.fleet().listens_at(admin_listener.as_ref().map(|(_, address, _)| address));
    reloader.start(loaded).await.map_err(StartError::Config)?;
    log_start(&shared.view.load().plan, &options.origin.name());
    let addresses = reloader.addresses();
    let (requests, requests_in) = mpsc::channel(64);
    let decisions = admin::keep(channels.decisions);
    let mut upgrade = Upgrade::new(options.signals);
    let sources =
        Sources::of(&shared, &reloader, figures, (ages, api_healths), options.origin.clone());
    let admin = admin_listener.as_ref().map(|(_, address, _)| address.clone());
    let reports = kept_reports(&settings, &reloader, admin.as_ref());
    let access = reloader.access();
    let backend = Arc::new(backend(sources, requests, decisions, admin.clone(), access, reports));
    serve_admin(admin_listener, metrics_socket, &backend, &mut upgrade);
    serve_scaler(scaler_socket, &reloader, &mut upgrade);
    let (stop, stopping) = mpsc::channel(4);
    let main = Main {
        origin: options.origin,
        is_managed: options.signals,
        balances: Balances::new(settings.state_dir.clone()),
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
    main.announce();
    let main = tokio::spawn(main.run(requests_in, stopping));
    Ok(Running { shared, addresses, admin, stop, main })
}

/// The events for dials and budgets stored in `state_dir`. An unusable file is logged and counted.
fn kept_events(settings: &Settings, shared: &Shared) -> Vec<Event> {
    let Some(folder) = settings.state_dir.as_deref() else { return Vec::new() };
    let unread = || shared.registry.state_unread.fetch_add(1, Ordering::Relaxed);
    let dials = files::load_dials(folder).unwrap_or_else(|error| {
        tracing::warn!(error, "dials of the last run not restored: {error}");
        unread();
        Dials::default()
    });
    let budgets = files::load_budgets(folder).unwrap_or_else(|error| {
        tracing::warn!(error, "budgets of the last run not restored, all begin full: {error}");
        unread();
        BTreeMap::new()
    });
    let left = |(service, usd)| Event::BudgetLeft { service, usd };
    files::dial_events(dials).into_iter().chain(budgets.into_iter().map(left)).collect()
}

/// The reports of operations, which need `state_dir` and the admin API.
fn kept_reports(
    settings: &Settings,
    reloader: &Reloader,
    admin: Option<&Address>,
) -> Option<Reports> {
    let instance = reloader.fleet().identity().instance;
    let host = instance.rsplit_once(':').map_or(&*instance, |(host, _)| host);
    Some(Reports::of(settings.state_dir.as_deref()?, host, admin?))
}

fn discovery(shared: &Shared) -> Discovery {
    let resolver = Resolver::new(name_server());
    Discovery::new(shared.events.clone(), shared.view.clone(), resolver, parse_endpoints)
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

/// The initial configuration and its settings, or all problems.
async fn first(
    origin: &Origin,
    loaded: Option<Box<Loaded>>,
) -> Result<(Box<Loaded>, Settings), StartError> {
    let loaded = match loaded {
        Some(loaded) => loaded,
        None => {
            let failed = |error| StartError::Io(format!("{}: {error}", origin.name()));
            origin.load_first().await.map_err(failed)?
        }
    };
    match &loaded.outcome.config {
        Some(Config { settings, .. }) => {
            let settings = settings.clone();
            Ok((loaded, settings))
        }
        None => Err(StartError::Config(loaded.outcome.problems)),
    }
}

/// A name server to use instead of the system's, for split-horizon DNS and tests:
/// `TIDEGATE_NAME_SERVER`.
fn name_server() -> Option<SocketAddr> {
    let value = std::env::var("TIDEGATE_NAME_SERVER").ok()?;
    value
        .parse()
        .map_err(|error| tracing::error!(%error, value, "`{value}` ignored: not an address"))
        .ok()
}

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
) -> Result<Vec<mpsc::Sender<worker_thread::Command>>, StartError> {
    let count = shared.busy.len();
    let allowed = cores::allowed();
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(64)).unzip();
    let mut senders = Vec::with_capacity(count);
    for (id, inbox) in inboxes.into_iter().enumerate() {
        let (sender, commands) = mpsc::channel(256);
        senders.push(sender);
        let setup = worker_thread::WorkerSetup {
            id,
            // Workers are pinned only if there is a core for each.
            core: (pin && count <= allowed.len()).then(|| allowed[id]),
            shared: shared.clone(),
            log: log.clone(),
            commands,
            inbox,
            outboxes: outboxes.clone(),
        };
        threads.push(thread(&format!("worker-{id}"), move || worker_thread::run(setup))?);
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
    let failed = |error: io::Error| format!("admin.address: {}", listen::failure(address, &error));
    let (socket, bound) = bind_one(address, settings.admin_mode, inherited).map_err(failed)?;
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

/// A listener beside the admin API's, its address, and a copy of its socket.
type BesideListener = (tokio::net::TcpListener, Address, Option<Socket>);

/// Binds the address of `key`, if there is one.
fn bind_beside(
    address: Option<SocketAddr>,
    key: &str,
    settings: &Settings,
    inherited: &mut Inherited,
) -> Result<Option<BesideListener>, StartError> {
    let Some(address) = address.map(Address::Ip) else { return Ok(None) };
    let failed =
        |error: io::Error| StartError::Io(format!("{key}: {}", listen::failure(&address, &error)));
    let (socket, bound) = bind_one(&address, settings.admin_mode, inherited).map_err(failed)?;
    let copy = socket.try_clone().ok();
    let listener = tokio::net::TcpListener::from_std(socket.into()).map_err(failed)?;
    Ok(Some((listener, bound, copy)))
}

fn serve_admin(
    api: Option<AdminListener>,
    metrics: Option<BesideListener>,
    backend: &Arc<admin::Backend>,
    upgrade: &mut Upgrade,
) {
    if let Some((listener, address, copy)) = api {
        tracing::info!(%address, "admin API listening on {address}");
        upgrade.keep(copy, tokio::spawn(admin::serve(listener, backend.clone())));
    }
    if let Some((listener, address, copy)) = metrics {
        tracing::info!(%address, "metrics listening on {address}");
        upgrade.keep(copy, tokio::spawn(admin::serve_metrics(listener, backend.clone())));
    }
}

fn serve_scaler(socket: Option<BesideListener>, reloader: &Reloader, upgrade: &mut Upgrade) {
    if let Some((listener, address, copy)) = socket {
        tracing::info!(%address, "external scaler listening on {address}");
        upgrade.keep(copy, reloader.scaling().serve(listener));
    }
}

/// One listening socket, inherited or new, and its address with the port that the kernel chose for port 0.
fn bind_one(
    address: &Address,
    mode: u32,
    inherited: &mut Inherited,
) -> io::Result<(Socket, Address)> {
    let key = BindKey { transport: Transport::Stream, address: address.clone(), takes_all: false };
    let found = inherited.for_key(&key);
    let mut sockets = match found.is_empty() {
        false => listen::share_out(&key, found, 1)?,
        true => listen::bind(&key, mode, 1, listen::Trial::First)?,
    };
    listen::listen(&sockets)?;
    let socket = sockets.pop().ok_or(io::ErrorKind::NotFound)?;
    let bound = listen::local_address(&socket, address);
    Ok((socket, bound))
}
