//! A configuration that is the value of a key in NATS.
//!
//! The last value that was put in force is kept in `state_dir`. A start uses it if the key cannot be read, or if its
//! value is not a valid configuration.

use super::kept::Kept;
use crate::config::error::Position;
use crate::config::{Bootstrap, Config, Documents, Outcome, Problem, load_documents};
use crate::decision::units::hash;
use crate::nats::key::{Ask, Found, Seen};
use crate::nats::{follow, read_once};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long a start without a kept configuration waits for NATS.
const START: Duration = Duration::from_secs(5);
/// Between two attempts of it.
const AGAIN: Duration = Duration::from_millis(250);
/// For a requested read of the key.
const ASKED: Duration = Duration::from_secs(10);
/// To write the last good configuration.
const STORED: Duration = Duration::from_secs(1);
/// Requested reads that wait.
const ASKS: usize = 4;

/// A key in NATS as the source of the configuration.
#[derive(Debug)]
pub struct KeyOrigin {
    bootstrap: Bootstrap,
    /// The folder that relative paths begin at: that of the file which names the source.
    pub(super) folder: PathBuf,
    first: Kept,
    /// Why the first one is the last good one, if it is.
    why_kept: Option<String>,
    seen: Arc<watch::Sender<Seen>>,
    asks: mpsc::Sender<Ask>,
    asked: Mutex<Option<mpsc::Receiver<Ask>>>,
    in_force: Mutex<InForce>,
}

#[derive(Debug)]
struct InForce {
    hash: u64,
    revision: u64,
    /// Whether it was read from `state_dir`, and not yet from NATS.
    kept: bool,
}

/// The source of the configuration in force.
#[derive(Clone, Debug)]
pub struct SourcePicture {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Whether there is a connection, and the key can be read.
    pub connected: bool,
    /// Why not.
    pub error: Option<String>,
    /// The revision in force.
    pub revision: u64,
    /// The newest revision that was read; `None` before the first.
    pub newest: Option<u64>,
    /// Whether the configuration in force is the last good one in `state_dir`.
    pub kept: bool,
}

impl KeyOrigin {
    /// Finds the configuration to start with: the value of the key, or else the last good one. Relative paths begin at
    /// `folder`.
    ///
    /// # Errors
    /// Why there is neither.
    pub async fn start(
        bootstrap: Bootstrap,
        folder: PathBuf,
    ) -> Result<(KeyOrigin, Config), String> {
        let name = bootstrap.key.name();
        let kept = match &bootstrap.state_dir {
            Some(state) => Kept::read(state, &bootstrap.key),
            None => Err("there is no `state_dir`".to_owned()),
        };
        let patience = if kept.is_ok() { Duration::ZERO } else { START };
        let load = |text: &str| {
            let mut outcome = load_value(&of_key(text.to_owned()), &folder);
            let problems = outcome.problems.iter().map(|problem| problem.render(&name));
            let mut config =
                outcome.config.take().ok_or_else(|| problems.collect::<Vec<_>>().join("\n"))?;
            with_state(&mut config, bootstrap.state_dir.as_ref());
            Ok::<_, String>(config)
        };
        let read = first_value(&bootstrap, patience).await;
        let read = read.and_then(|found| Ok((found.text?, found.revision)));
        let loaded = read.and_then(|(text, revision)| {
            let config = load(&text)?;
            Ok((Kept { text: text.to_string(), revision }, None, config))
        });
        let (first, why_kept, config) = loaded.or_else(|why| {
            let kept = kept.map_err(|none| format!("{name}: {why}\nno last good one: {none}"))?;
            let config = load(&kept.text).map_err(|problems| {
                format!("{name}: {why}\nthe last good one is not valid here:\n{problems}")
            })?;
            Ok::<_, String>((kept, Some(why), config))
        })?;
        let (asks, asked) = mpsc::channel(ASKS);
        let in_force = InForce {
            hash: hash(first.text.as_bytes()),
            revision: first.revision,
            kept: why_kept.is_some(),
        };
        let origin = KeyOrigin {
            bootstrap,
            folder,
            first,
            why_kept,
            seen: Arc::new(watch::channel(Seen::default()).0),
            asks,
            asked: Mutex::new(Some(asked)),
            in_force: Mutex::new(in_force),
        };
        Ok((origin, config))
    }

    /// The key in messages.
    pub(super) fn name(&self) -> String {
        self.bootstrap.key.name()
    }

    /// The folder for state, unless the configuration names one.
    pub(super) fn state_dir(&self) -> Option<&PathBuf> {
        self.bootstrap.state_dir.as_ref()
    }

    /// Follows the key from now on, in the calling runtime. Changes can be awaited at the receiver.
    pub(super) fn follow(&self) -> watch::Receiver<Seen> {
        let changes = self.seen.subscribe();
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(why) = &self.why_kept {
            let (name, revision) = (self.name(), self.first.revision);
            tracing::warn!("{name}: {why}; started with the last good one, revision {revision}");
        }
        if let Some(asked) = asked {
            tokio::spawn(follow(self.bootstrap.key.clone(), self.seen.clone(), asked));
        }
        changes
    }

    /// The newest value that was read; the first one until then.
    ///
    /// # Errors
    /// Why the key has no text.
    pub(super) fn text(&self) -> Result<String, String> {
        match &self.seen.borrow().found {
            Some(found) => found.text.as_ref().map(ToString::to_string).map_err(Clone::clone),
            None => Ok(self.first.text.clone()),
        }
    }

    /// Reads the key now.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) async fn refresh(&self) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        if self.asks.try_send(done).is_err() {
            return Err("too many requests to read it wait already".to_owned());
        }
        match timeout(ASKED, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("it is no longer followed".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Notes the text that was put in force, and keeps it if the key holds it.
    ///
    /// # Errors
    /// Why it is not kept.
    pub(super) async fn adopt(&self, text: &str) -> Result<(), String> {
        let (revision, is_kept) = self.note(hash(text.as_bytes()));
        let folder = self.bootstrap.state_dir.clone().filter(|_| !is_kept);
        let Some(folder) = folder else { return Ok(()) };
        let (kept, key) = (Kept { text: text.to_owned(), revision }, self.bootstrap.key.clone());
        let stored = tokio::task::spawn_blocking(move || kept.store(&folder, &key));
        // A file system that hangs must not delay the reload.
        match timeout(STORED, stored).await {
            Ok(Ok(stored)) => stored.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("not written in time".to_owned()),
        }
    }

    /// Notes that the text with this hash is in force: its revision, and whether it is known from `state_dir` alone.
    fn note(&self, now: u64) -> (u64, bool) {
        let found = self.found(now);
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = found.is_none() && in_force.kept && in_force.hash == now;
        let revision = found.map_or(in_force.revision, |found| found.revision);
        *in_force = InForce { hash: now, revision, kept };
        (revision, kept)
    }

    /// The source as it is now.
    pub(super) fn picture(&self) -> SourcePicture {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.found(in_force.hash) {
            (in_force.revision, in_force.kept) = (found.revision, false);
        }
        let seen = self.seen.borrow();
        SourcePicture {
            bucket: self.bootstrap.key.bucket.clone(),
            key: self.bootstrap.key.key.clone(),
            connected: seen.connected,
            error: seen.error.clone(),
            revision: in_force.revision,
            newest: seen.found.as_ref().map(|found| found.revision),
            kept: in_force.kept,
        }
    }

    /// The newest value, if its text has this hash.
    fn found(&self, hash: u64) -> Option<Found> {
        let seen = self.seen.borrow();
        seen.found.clone().filter(|found| found.text.is_ok() && found.hash == hash)
    }
}

/// The value of the key; without an answer the read is repeated for so long.
async fn first_value(bootstrap: &Bootstrap, patience: Duration) -> Result<Found, String> {
    let deadline = Instant::now() + patience;
    loop {
        match read_once(&bootstrap.key).await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// The value of a key as a configuration of one document.
pub(super) fn of_key(text: String) -> Documents {
    Documents::of_key(text, &|name| std::env::var(name).ok())
}

/// Loads documents that have to be a configuration, not the name of a source.
pub(super) fn load_value(documents: &Documents, folder: &Path) -> Outcome {
    let mut outcome = load_documents(documents, folder, &|name| std::env::var(name).ok());
    if outcome.bootstrap.take().is_some() {
        let message = "only the file of a start may name a source: restart the proxy with it";
        outcome.problems.push(Problem::error(Position::START, "config", message));
    }
    outcome
}

/// A configuration in NATS keeps its state where its source does, unless it names another folder.
pub(super) fn with_state(config: &mut Config, folder: Option<&PathBuf>) {
    let state_dir = &mut config.settings.state_dir;
    *state_dir = state_dir.take().or_else(|| folder.cloned());
}
