//! A successor takes over: the same program, perhaps a newer one, started with the listening sockets.
//!
//! Both accept for a moment; then this process drains. Nobody who connects meanwhile is refused, since no
//! socket is ever closed.

use super::reload::Reloader;
use crate::os::inherit::{self, Program};
use crate::os::notify;
use socket2::Socket;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

/// How long a successor may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// What it takes to hand over.
#[derive(Debug)]
pub(super) struct Upgrade {
    program: Option<Program>,
    admin: Option<Socket>,
    admin_task: Option<JoinHandle<()>>,
    done: bool,
}

impl Upgrade {
    /// Of this program, if it has a process of its own.
    pub(super) fn new(ours: bool) -> Upgrade {
        let program = ours.then(Program::this).transpose();
        let program = program.unwrap_or_else(|error| {
            tracing::warn!(%error, "upgrades unavailable: the running program cannot be determined");
            None
        });
        Upgrade { program, admin: None, admin_task: None, done: false }
    }

    /// Notes the admin API's socket and task.
    pub(super) fn keep_admin(&mut self, socket: Option<Socket>, task: JoinHandle<()>) {
        (self.admin, self.admin_task) = (socket, Some(task));
    }

    /// Starts a successor.
    pub(super) fn begin(&self, reloader: &Reloader) -> Waiting {
        let program = self.program.as_ref()?;
        let sockets = reloader.sockets().chain(&self.admin);
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
                    // Whoever waits for its word learns of its end, and reaps it.
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

    /// Leaves the admin API to the successor.
    pub(super) fn finish(&mut self) {
        tracing::info!("successor ready: this process drains");
        self.done = true;
        self.admin = None;
        if let Some(task) = self.admin_task.take() {
            task.abort();
        }
    }

    /// Whether a successor has taken over.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }
}

/// A successor that is waited for: its number once it is ready.
pub(super) type Waiting = Option<oneshot::Receiver<Option<u32>>>;

/// Waits until a successor is ready, or is not to be; never, where there is none.
pub(super) async fn ready(waiting: &mut Waiting) -> Option<u32> {
    let Some(receiver) = waiting else { return std::future::pending().await };
    let ready = receiver.await.unwrap_or(None);
    *waiting = None;
    ready
}

/// When the service manager wants a sign of life.
pub(super) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As it says, if this process is its own.
    pub(super) fn new(ours: bool) -> Watchdog {
        let every = notify::watchdog().filter(|every| ours && !every.is_zero());
        Watchdog(every.map(|every| {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Waits until it wants one; never, where it wants none.
    pub(super) async fn wait(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }
}
