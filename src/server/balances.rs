//! Keeps the balances of budgets in `state_dir`, so that a restart does not refill a bucket.
//!
//! Each write has its own thread: a file system that is full, read-only or hangs delays nothing else. A failure is
//! logged when it begins and when it ends, and counted each time.

use super::files;
use crate::shared::Shared;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// The time for the last write at shutdown.
const LAST: Duration = Duration::from_secs(1);

/// The writer of the balances.
#[derive(Debug, Default)]
pub(super) struct Balances {
    folder: Option<PathBuf>,
    /// The write that runs.
    running: Option<oneshot::Receiver<io::Result<()>>>,
    /// Whether the last write failed.
    failed: bool,
}

impl Balances {
    /// Writes to this folder; without a folder, nothing is kept.
    pub(super) fn new(folder: Option<PathBuf>) -> Balances {
        Balances { folder, ..Balances::default() }
    }

    /// Begins a write, unless no service has a budget.
    pub(super) fn keep(&mut self, shared: &Shared) {
        match self.running.as_mut().map(oneshot::Receiver::try_recv) {
            None => {}
            Some(Ok(result)) => self.note(shared, result),
            // The file system does not answer: a second write would only wait behind the first.
            Some(Err(oneshot::error::TryRecvError::Empty)) => {
                return self.note(shared, Err(io::ErrorKind::TimedOut.into()));
            }
            Some(Err(oneshot::error::TryRecvError::Closed)) => {
                self.note(shared, Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
        self.running = None;
        let Some(folder) = self.folder.clone() else { return };
        let view = shared.view.load();
        let services = view.plan.services.iter().zip(&view.signals.budgets);
        let left: BTreeMap<String, f64> =
            services.filter_map(|(service, left)| Some((service.name.clone(), (*left)?))).collect();
        if left.is_empty() {
            return;
        }
        let (done, result) = oneshot::channel();
        let write = move || {
            if done.send(files::store_budgets(&folder, &left)).is_err() {
                tracing::debug!("the balances of budgets were stored after the end of the proxy");
            }
        };
        match std::thread::Builder::new().name("state".to_owned()).spawn(write) {
            Ok(_) => self.running = Some(result),
            Err(error) => self.note(shared, Err(error)),
        }
    }

    /// Writes for the last time, and waits for the end of the write for at most a second.
    pub(super) async fn flush(&mut self, shared: &Shared) {
        self.wait(shared).await;
        self.keep(shared);
        self.wait(shared).await;
    }

    async fn wait(&mut self, shared: &Shared) {
        let Some(running) = &mut self.running else { return };
        let result = match tokio::time::timeout(LAST, running).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => return self.note(shared, Err(io::ErrorKind::TimedOut.into())),
        };
        self.running = None;
        self.note(shared, result);
    }

    /// Logs the beginning and the end of failures, and counts each.
    fn note(&mut self, shared: &Shared, result: io::Result<()>) {
        let failed = result.is_err();
        if let Err(error) = result {
            shared.registry.state_unwritten.fetch_add(1, Ordering::Relaxed);
            if !self.failed {
                tracing::warn!(%error, "budgets not stored: a restart begins with the last stored ones");
            }
        } else if self.failed {
            tracing::info!("budgets stored again");
        }
        self.failed = failed;
    }
}
