//! Files of the process: logs, certificates, tokens of the admin API, and state that is kept over a restart.

use crate::admin::Access;
use crate::config::Settings;
use crate::decision::assess::Event;
use crate::decision::change::{Dials, Shift};
use crate::decision::plan::{Plan, Secret};
use crate::os::{clock, private_file};
use crate::policy;
use crate::telemetry::cells::Registry;
use crate::telemetry::log;
use crate::tls::store as tls;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The access rules of the admin API in the settings.
pub(super) fn access(settings: &Settings) -> Access {
    let read = |path: &Option<PathBuf>| {
        let text = std::fs::read_to_string(path.as_ref()?).ok()?;
        Some(text.trim().to_owned())
    };
    Access {
        token: read(&settings.admin_token_file),
        fleet_token: read(&settings.fleet_token_file),
        allowed_hosts: settings.admin_hosts.clone(),
    }
}

/// Reads the files of a plan: TLS and policies.
pub(super) fn build(plan: &Plan) -> Result<(tls::Store, policy::Store), Vec<(String, String)>> {
    match (tls::Store::build(plan), policy::Store::build(plan)) {
        (Ok(tls), Ok(policies)) => Ok((tls, policies)),
        (tls, policies) => {
            Err([tls.err(), policies.err()].into_iter().flatten().flatten().collect())
        }
    }
}

/// Writes lines to `stdout`, `stderr` or a file until all senders are dropped; reopens the file whenever `path` is
/// sent again. Lines that cannot be written are counted as dropped.
pub async fn write_lines(
    mut lines: mpsc::Receiver<String>,
    mut path: watch::Receiver<String>,
    registry: Arc<Registry>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut out = open(&path.borrow_and_update()).unwrap_or_else(|| Box::new(std::io::sink()));
    let (mut failed, mut last) = (false, false);
    loop {
        tokio::select! {
            biased;
            changed = path.changed(), if !last => {
                // No further path will be sent; queued lines may remain.
                last = changed.is_err();
                // If the new file cannot be opened, lines still go to the old file.
                if !last && let Some(opened) = open(&path.borrow_and_update()) { out = opened }
            }
            count = lines.recv_many(&mut batch, BATCH) => {
                if count == 0 { return }
                let mut text = batch.join("\n");
                text.push('\n');
                batch.clear();
                let written = tokio::task::spawn_blocking(move || {
                    let result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                    (out, result)
                });
                match written.await {
                    Ok((back, result)) => {
                        out = back;
                        if let Err(error) = &result && !failed {
                            let path = path.borrow();
                            tracing::error!(%error, path = *path, "access log {} not written: lines are dropped until a write succeeds", *path);
                        }
                        failed = result.is_err();
                        let lost = if failed { count as u64 } else { 0 };
                        registry.log_dropped.fetch_add(lost, Ordering::Relaxed);
                    }
                    Err(_) => return,
                }
                // While nobody waits for a line, a worker queues it without a system call.
                if count < BATCH {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Lines that are written at once.
const BATCH: usize = 1024;
/// The pause after the queue was emptied. Without it, a busy worker would wake the writer for each line, which cost two thirds as much
/// as the request itself.
const PAUSE: Duration = Duration::from_millis(20);

fn open(path: &str) -> Option<Box<dyn Write + Send>> {
    let failed = |error| tracing::error!(%error, path, "access log {path} not opened");
    log::open(path).map_err(failed).ok()
}

/// Reads the stored dials and shifts; none if there is no file.
///
/// # Errors
/// Why the file cannot be used.
pub fn load_dials(folder: &Path) -> Result<Dials, String> {
    read(&file(folder))
}

/// Stores the dials and shifts: writes a new file and renames it over the old one, so that a crash leaves a complete
/// file.
///
/// # Errors
/// The file's error.
pub fn store_dials(folder: &Path, dials: &Dials) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let beside = folder.join("dials.json.new");
    std::fs::write(&beside, serde_json::to_string_pretty(dials).unwrap_or_default())?;
    std::fs::rename(beside, file(folder))
}

/// The events that put stored dials and shifts in force.
#[must_use]
pub fn dial_events(dials: Dials) -> Vec<Event> {
    let cluster = |(cluster, percent): (String, u8)| Event::DialCluster {
        cluster,
        percent: Some(percent.min(100)),
    };
    let site =
        |(site, percent): (String, u8)| Event::DialSite { site, percent: Some(percent.min(100)) };
    let shift = |(service, shift): (String, Shift)| Event::Shift { service, shift: Some(shift) };
    let Dials { clusters, sites, shifts } = dials;
    let of_clusters = clusters.into_iter().map(cluster);
    of_clusters.chain(sites.into_iter().map(site)).chain(shifts.into_iter().map(shift)).collect()
}

/// The key of affinity cookies without a configured secret: stored in the folder and created if missing; without a
/// folder, random for each process.
#[must_use]
pub fn cookie_secret(folder: Option<&Path>) -> Secret {
    let Some(folder) = folder else { return random_secret() };
    let path = folder.join("affinity.key");
    match std::fs::read(&path) {
        Ok(kept) if kept.len() >= SECRET_BYTES => return policy::secret(&kept),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "affinity key not read: affinity cookies end at the next restart");
            return random_secret();
        }
    }
    let made = random_secret();
    let kept = std::fs::create_dir_all(folder).and_then(|()| private_file::replace(&path, &made.0));
    match kept {
        Ok(()) => policy::secret(&made.0),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "affinity key not stored: affinity cookies end at the next restart");
            made
        }
    }
}

/// Bytes of the stored key.
const SECRET_BYTES: usize = 16;

fn random_secret() -> Secret {
    let (first, second) = (clock::entropy(), clock::entropy());
    let mut key = [0; SECRET_BYTES];
    if aws_lc_rs::rand::fill(&mut key).is_err() {
        key = (u128::from(first) << 64 | u128::from(second)).to_be_bytes();
    }
    Secret(key)
}

/// Reads the stored balances of budgets, in dollars by service; none if there is no file.
///
/// # Errors
/// Why the file cannot be used.
pub fn load_budgets(folder: &Path) -> Result<BTreeMap<String, f64>, String> {
    read(&folder.join(BUDGETS))
}

fn read<T: Default + DeserializeOwned>(path: &Path) -> Result<T, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| format!("{} is not valid JSON: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Stores the balances of budgets: a restart does not refill a budget.
///
/// # Errors
/// The file's error.
pub fn store_budgets(folder: &Path, left: &BTreeMap<String, f64>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let beside = folder.join("budgets.json.new");
    std::fs::write(&beside, serde_json::to_string_pretty(left).unwrap_or_default())?;
    std::fs::rename(beside, folder.join(BUDGETS))
}

const BUDGETS: &str = "budgets.json";

fn file(folder: &Path) -> PathBuf {
    folder.join("dials.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_key_survives_and_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("tidegate-cookies-{}", std::process::id()));
        let made = cookie_secret(Some(&folder));
        assert!(cookie_secret(Some(&folder)) == made);
        let mode = std::fs::metadata(folder.join("affinity.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(cookie_secret(None) != cookie_secret(None));
        std::fs::write(folder.join("affinity.key"), "short").unwrap();
        assert!(cookie_secret(Some(&folder)) != made, "half a key is none");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn dials_and_budgets_are_restored_and_an_invalid_file_is_an_error() {
        let folder = std::env::temp_dir().join(format!("tidegate-dials-{}", std::process::id()));
        assert_eq!(load_dials(&folder), Ok(Dials::default()));
        let shift = Shift { from: "a".to_owned(), to: "b".to_owned(), percent: 40 };
        let dials = Dials {
            clusters: [("a".to_owned(), 50)].into(),
            shifts: [("shop".to_owned(), shift)].into(),
            ..Dials::default()
        };
        store_dials(&folder, &dials).unwrap();
        assert_eq!(load_dials(&folder), Ok(dials.clone()));
        assert!(matches!(
            &dial_events(dials)[..],
            [Event::DialCluster { .. }, Event::Shift { shift: Some(shift), .. }] if shift.percent == 40
        ));
        std::fs::write(file(&folder), r#"{"clusters": {"a": 50}}"#).unwrap();
        assert_eq!(load_dials(&folder).unwrap().clusters["a"], 50, "a file of an earlier version");
        std::fs::write(file(&folder), "{").unwrap();
        assert!(load_dials(&folder).unwrap_err().contains("dials.json is not valid JSON"));
        let left = BTreeMap::from([("shop".to_owned(), 0.25)]);
        store_budgets(&folder, &left).unwrap();
        assert_eq!(load_budgets(&folder), Ok(left));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
