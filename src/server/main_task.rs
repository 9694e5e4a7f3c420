//! The main task of a started proxy: the configuration file, signals, requests of the admin API, and
//! shutdown.

use super::balances::Balances;
use super::config_watch::ConfigWatch;
use super::control;
use super::files;
use super::origin::Origin;
use super::reload::{ReloadIf, Reloader};
use super::signals::{Signal, Signals};
use super::sockets::log_undelivered;
use super::upgrade::{self, Upgrade, Waiting, Watchdog};
use crate::admin;
use crate::config::Settings;
use crate::decision::assess::Event;
use crate::decision::plan::Address;
use crate::nats::key::Seen;
use crate::os::{clock, inherit, notify, process};
use crate::proxy::worker_thread;
use crate::shared::Shared;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The interval between two checks of the configuration file, in addition to the watch.
const LOOK: Duration = Duration::from_millis(500);
/// The interval between two writes of the budgets' balances.
const COUNT: Duration = Duration::from_secs(5);
/// The interval between two measurements of the memory in use.
const WEIGH: Duration = Duration::from_millis(250);
/// The delay between the notification of a change and reading the file, because editors write in several
/// steps.
const SETTLE: Duration = Duration::from_millis(100);
/// The time for a worker to end.
const ENDED: Duration = Duration::from_secs(5);
/// The time without a published view after which the control thread counts as stalled.
const STALLED: Duration = Duration::from_secs(5);
/// The time for the last lines of the access log at shutdown.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// The ways to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// Drain: exchanges may finish until the drain deadline.
    Drain,
    /// Stop at once.
    Now,
}

/// A thread of the proxy.
pub(super) type Thread = JoinHandle<io::Result<()>>;

/// The main task: the configuration file, signals, requests of the API, and shutdown.
pub(super) struct Main {
    pub(super) origin: Origin,
    /// Whether this process handles signals.
    pub(super) is_managed: bool,
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
    pub(super) reloader: Reloader,
    pub(super) control: mpsc::Sender<control::Command>,
    pub(super) workers: Vec<mpsc::Sender<worker_thread::Command>>,
    pub(super) threads: Vec<Thread>,
    pub(super) signals: Signals,
    pub(super) log_writer: Option<tokio::task::JoinHandle<()>>,
    pub(super) upgrade: Upgrade,
    pub(super) balances: Balances,
}

impl Main {
    /// Tells the predecessor and the service manager that the proxy is ready.
    pub(super) fn announce(&self) {
        if self.is_managed {
            inherit::tell_predecessor();
            notify::tell("READY=1");
        }
    }

    /// Runs until a request or a signal to stop, then shuts down.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<admin::Request>,
        mut stop: mpsc::Receiver<Stop>,
    ) {
        let mut watch = ConfigWatch::new(&self.origin, self.reloader.documents());
        let mut key = match &self.origin {
            Origin::Key(key) => Some(key.follow()),
            Origin::File(_) | Origin::Text(_) => None,
        };
        let mut looks = tokio::time::interval(LOOK);
        let mut weighings = tokio::time::interval(WEIGH);
        let mut counts = tokio::time::interval(COUNT);
        let memory_max = process::memory_limit();
        let mut successor: Waiting = None;
        let mut alive = Watchdog::new(self.is_managed);
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
                () = watch.changed(), if settle.is_none() => {
                    settle = Some(tokio::time::Instant::now() + SETTLE);
                }
                () = tokio::time::sleep_until(settle.unwrap_or_else(tokio::time::Instant::now)),
                    if settle.is_some() =>
                {
                    settle = None;
                    self.reload(ReloadIf::Changed).await;
                    watch.follow(&self.origin, self.reloader.documents());
                }
                () = changed_key(&mut key) => self.reload(ReloadIf::Changed).await,
                _ = counts.tick() => {
                    self.balances.keep(&self.shared);
                    self.shared.view.load().policies.forget();
                    self.shared.offenders.forget(clock::now());
                }
                _ = weighings.tick() => self.measure_memory(memory_max),
                _ = looks.tick(), if !matches!(self.origin, Origin::Text(_)) => {
                    self.reload(ReloadIf::Changed).await;
                    watch.follow(&self.origin, self.reloader.documents());
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

    /// Notifies the service manager's watchdog, but only while the control thread publishes views.
    fn give_sign(&self) {
        if clock::now().since(self.shared.view.load().signals.at) < STALLED {
            notify::tell("WATCHDOG=1");
        }
    }

    /// Reloads, and notifies the service manager of the beginning and the end.
    async fn reload_and_notify(&mut self) {
        let micros = clock::monotonic_micros();
        notify::tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        self.reload(ReloadIf::Requested).await;
        notify::tell("READY=1");
    }

    async fn reload(&mut self, when: ReloadIf) {
        // The error was logged where it occurred.
        if let Err(problems) = self.reloader.reload(when).await {
            tracing::debug!(problems = problems.len(), "reload failed");
        }
    }

    async fn serve(&mut self, request: admin::Request) {
        match request {
            admin::Request::Reload(done) => {
                let result = self.reloader.reload(ReloadIf::Requested).await;
                let name = self.origin.name();
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
            Event::Shift { service, shift } => {
                let percent = shift.as_ref().map(|shift| shift.percent);
                tracing::info!(
                    service,
                    percent = dialled(percent),
                    "shift of service {service} set by an operator"
                );
            }
            _ => {}
        }
        let (done, dials) = oneshot::channel();
        let gone = || "the control thread is gone".to_owned();
        let command = control::Command::Dial { event, done };
        self.control.send(command).await.map_err(|_| gone())?;
        let dials = dials.await.map_err(|_| gone())?;
        match &self.settings.state_dir {
            Some(folder) => files::store_dials(folder, &dials).map_err(|error| {
                self.shared.registry.state_unwritten.fetch_add(1, Ordering::Relaxed);
                format!("in force, but not stored for the next start: {error}")
            }),
            None => Ok(()),
        }
    }

    /// Stops the proxy: readiness fails at once; listeners close after `drain.delay`; remaining connections have
    /// until `drain.deadline`. A second signal ends the wait.
    async fn stop(mut self, how: Stop, signals: &mut Signals, stop: &mut mpsc::Receiver<Stop>) {
        self.balances.keep(&self.shared);
        self.shared.draining.store(true, Ordering::Relaxed);
        self.reloader.scaling().drain();
        // After an upgrade only this process ends; the service continues.
        if !self.upgrade.is_done() {
            notify::tell("STOPPING=1");
        } else {
            // The successor bears the same name in the fleet.
            self.reloader.fleet().stop();
            self.reloader.acme().stop();
        }
        if how == Stop::Drain {
            self.drain(signals, stop).await;
        }
        self.reloader.scaling().stop().await;
        self.reloader.fleet().stop();
        self.reloader.acme().stop();
        self.end_threads().await;
        self.reloader.traces().stop().await;
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
                    // A worker whose thread has ended has no connections to close.
                    for worker in workers.iter().filter(|worker| !worker.is_closed()) {
                        log_undelivered(
                            "a worker",
                            worker.send(worker_thread::Command::Drain).await,
                        );
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
            let sent = worker.send(worker_thread::Command::End(done)).await.is_ok();
            if sent && !matches!(tokio::time::timeout(ENDED, ended).await, Ok(Ok(()))) {
                tracing::warn!("worker has not ended in time");
            }
        }
        // Includes the spend during the drain.
        self.balances.flush(&self.shared).await;
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

/// Waits until a key in NATS has another value.
async fn changed_key(key: &mut Option<watch::Receiver<Seen>>) {
    if let Some(seen) = key
        && seen.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// A dial or a shift in words; without a percentage, the configuration applies again.
fn dialled(percent: Option<u8>) -> String {
    percent.map_or("reset".to_owned(), |percent| percent.to_string())
}
