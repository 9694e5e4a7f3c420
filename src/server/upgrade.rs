//! Upgrades: a successor process, perhaps of a newer version, is started with the listening sockets.
//!
//! Both processes accept connections for a moment; then this process drains. No socket is ever closed, so no client
//! is refused.

use super::reload::Reloader;
use crate::os::inherit::{self, Program};
use crate::os::notify;
use socket2::Socket;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

/// The deadline for a successor to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// The state of an upgrade.
#[derive(Debug)]
pub(super) struct Upgrade {
    program: Option<Program>,
    /// The listening sockets of the admin API, the metrics and the scaler, each with the task that accepts its connections.
    kept: Vec<(Option<Socket>, JoinHandle<()>)>,
    done: bool,
}

impl Upgrade {
    /// An upgrade of this program, if the proxy is the only one in its process.
    pub(super) fn new(ours: bool) -> Upgrade {
        let program = ours.then(Program::this).transpose();
        let program = program.unwrap_or_else(|error| {
            tracing::warn!(%error, "upgrades unavailable: the running program cannot be determined");
            None
        });
        Upgrade { program, kept: Vec::new(), done: false }
    }

    /// Stores a socket beside the listeners', and the task that accepts its connections.
    pub(super) fn keep(&mut self, socket: Option<Socket>, task: JoinHandle<()>) {
        self.kept.push((socket, task));
    }

    /// Starts a successor.
    pub(super) fn begin(&self, reloader: &Reloader) -> Waiting {
        let program = self.program.as_ref()?;
        let kept = self.kept.iter().filter_map(|(socket, _)| socket.as_ref());
        let sockets = reloader.sockets().chain(kept);
        let successor = match program.start(sockets) {
            Ok(successor) => successor,
            Err(error) => {
                let path = program.path().display();
                tracing::error!(%error, %path, "successor not started: cannot run {path}");
                return None;
            }
        };
        let process = successor.id();
        tracing::info!(process, "successor {process} starting");
        let (done, waiting) = oneshot::channel();
        tokio::spawn(async move {
            let ready = tokio::task::spawn_blocking(move || successor.wait());
            let ready = match tokio::time::timeout(READY_MAX, ready).await {
                Ok(Ok(Ok(()))) => Some(process),
                Ok(Ok(Err(error))) => {
                    tracing::error!(process, %error, "successor {process} failed before it was ready");
                    None
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::error!(process, "successor {process} killed: not ready in time");
                    // The task that waits for the successor also reaps it.
                    inherit::end(process);
                    None
                }
            };
            if done.send(ready).is_err() {
                tracing::debug!("end of a successor not reported: the main task has gone");
            }
        });
        Some(waiting)
    }

    /// Accepts no further connections of the admin API and of autoscalers: the successor serves them.
    pub(super) fn finish(&mut self) {
        tracing::info!("successor ready: this process drains");
        self.done = true;
        for (_, task) in self.kept.drain(..) {
            task.abort();
        }
    }

    /// Whether a successor has taken over.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }
}

/// A successor that is starting; resolves to its process id once it is ready.
pub(super) type Waiting = Option<oneshot::Receiver<Option<u32>>>;

/// Waits until a successor is ready or has failed; never returns without a successor.
pub(super) async fn ready(waiting: &mut Waiting) -> Option<u32> {
    let Some(receiver) = waiting else { return std::future::pending().await };
    let ready = receiver.await.unwrap_or(None);
    *waiting = None;
    ready
}

/// The timer of the service manager's watchdog.
pub(super) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// The watchdog timer; `ours` is true if the proxy is the only one in its process.
    pub(super) fn new(ours: bool) -> Watchdog {
        let every = notify::watchdog().filter(|every| ours && !every.is_zero());
        Watchdog(every.map(|every| {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Waits until a notification is due; never returns without a watchdog.
    pub(super) async fn wait(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }
}
