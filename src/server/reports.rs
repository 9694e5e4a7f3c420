//! Keeps the reports of operations in `state_dir/operations`, one file each, readable by their owner alone.
//!
//! File names contain the proxy's host name and the port of its admin API, because proxies may share a `state_dir`. One
//! thread writes, behind a bounded queue: a file system that is full, read-only or hangs delays nothing else.

use crate::admin::{Keep, KeptReport};
use crate::decision::plan::Address;
use crate::os::{clock, private_file};
use crate::telemetry::cells::Registry;
use serde_json::Value;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, UNIX_EPOCH};

/// The folder in `state_dir`.
const FOLDER: &str = "operations";
/// The greatest report that is read, in bytes.
const REPORT_MAX: u64 = 4 << 20;
/// The most files in the folder, of all proxies that ever used it: a proxy whose host has another name at each start, as in
/// a container, reads none of its earlier reports. The oldest are removed.
const FILES_MAX: usize = 200;
/// Changes that wait for the file system.
const QUEUE: usize = 32;

/// The reports of this proxy.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    folder: PathBuf,
    /// The beginning of the names of this proxy's files.
    name: String,
}

impl Reports {
    /// The reports in this `state_dir` of the proxy on `host` with its admin API at this address.
    pub(super) fn of(state_dir: &Path, host: &str, admin: &Address) -> Reports {
        let place = match admin {
            Address::Ip(address) => address.port().to_string(),
            Address::Unix(path) => {
                let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
                path.to_string_lossy().trim_matches('/').chars().map(plain).collect()
            }
        };
        Reports { folder: state_dir.join(FOLDER), name: format!("{host}-{place}.") }
    }

    /// The number of the operation in the name of a file of this proxy.
    fn id(&self, path: &Path) -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix(&self.name)?.strip_suffix(".json")?.parse().ok()
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{}{id}.json", self.name))
    }

    /// Reads the reports. A file that cannot be used is logged, counted and left alone.
    pub(super) fn read(&self, registry: &Registry) -> Vec<KeptReport> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let folder = self.folder.display();
                    registry.state_unread.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, %folder, "reports of operations not read: {folder}: {error}");
                }
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let own = paths.filter_map(|path| Some((self.id(&path)?, path)));
        let read = own.filter_map(|(id, path)| {
            let kept = read(id, &path);
            if let Err(error) = &kept {
                let file = path.display();
                registry.state_unread.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, %file, "report of an operation not read: {file}: {error}");
            }
            kept.ok()
        });
        read.collect()
    }

    /// The function that changes the files.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn keeper(self, registry: Arc<Registry>) -> io::Result<impl Fn(Keep)> {
        let (sender, changes): (SyncSender<Keep>, _) = sync_channel(QUEUE);
        let counts = registry.clone();
        let write = move || self.write_all(&changes, &counts);
        std::thread::Builder::new().name("reports".to_owned()).spawn(write)?;
        Ok(move |change| {
            if sender.try_send(change).is_err() {
                registry.state_unwritten.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("report of an operation not stored: the file system is behind");
            }
        })
    }

    /// Writes until all senders are dropped. The beginning and the end of failures are logged.
    fn write_all(&self, changes: &Receiver<Keep>, registry: &Registry) {
        let mut failed = false;
        for change in changes {
            let result = self.write(&change);
            if let Err(error) = &result {
                registry.state_unwritten.fetch_add(1, Ordering::Relaxed);
                if !failed {
                    let folder = self.folder.display();
                    tracing::warn!(%error, %folder, "reports of operations not stored in {folder}: {error}");
                }
            } else if failed {
                tracing::info!("reports of operations stored again");
            }
            failed = result.is_err();
        }
    }

    fn write(&self, change: &Keep) -> io::Result<()> {
        match change {
            Keep::Write { id, report } => {
                std::fs::create_dir_all(&self.folder)?;
                private_file::replace(&self.path(*id), report.to_string().as_bytes())?;
                self.bound()
            }
            Keep::Remove { id } => match std::fs::remove_file(self.path(*id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    /// Removes the oldest files beyond [`FILES_MAX`].
    fn bound(&self) -> io::Result<()> {
        let entries = std::fs::read_dir(&self.folder)?.filter_map(Result::ok);
        let mut files: Vec<_> = entries
            .filter(|entry| entry.path().extension().is_some_and(|found| found == "json"))
            .filter_map(|entry| Some((modified(&entry.metadata().ok()?), entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        files.drain(..surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
    }
}

fn modified(about: &Metadata) -> Duration {
    about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

fn read(id: u64, path: &Path) -> Result<KeptReport, String> {
    let failed = |error: io::Error| error.to_string();
    let file = File::open(path).map_err(failed)?;
    let written_at = clock::rfc3339(modified(&file.metadata().map_err(failed)?));
    let mut text = Vec::new();
    file.take(REPORT_MAX).read_to_end(&mut text).map_err(failed)?;
    let report: Value =
        serde_json::from_slice(&text).map_err(|error| format!("not valid JSON: {error}"))?;
    // The file may be a copy of another one.
    match report["id"].as_u64() == Some(id) && report["phase"].is_string() {
        true => Ok(KeptReport { id, report, written_at }),
        false => Err("not the report of this operation".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    fn write(reports: &Reports, id: u64) {
        let report = json!({"id": id, "phase": "ended", "name": "idc"});
        reports.write(&Keep::Write { id, report }).unwrap();
    }

    #[test]
    fn reports_are_read_by_their_proxy_alone_and_invalid_files_are_counted() {
        let folder = std::env::temp_dir().join(format!("tidegate-reports-{}", std::process::id()));
        let of = |host: &str, port: u16| {
            Reports::of(&folder, host, &Address::Ip(([127, 0, 0, 1], port).into()))
        };
        let (own, other, registry) = (of("gw-1", 9901), of("gw-1", 9902), Registry::default());
        assert!(own.read(&registry).is_empty(), "there is no folder yet");
        write(&own, 1);
        write(&own, 2);
        write(&other, 2);
        own.write(&Keep::Remove { id: 1 }).unwrap();
        own.write(&Keep::Remove { id: 7 }).unwrap();

        let read = own.read(&registry);

        assert_eq!(read.iter().map(|kept| kept.id).collect::<Vec<_>>(), [2]);
        assert!(read[0].written_at.starts_with("20"), "{}", read[0].written_at);
        let path = folder.join("operations/gw-1-9901.2.json");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(registry.state_unread.load(Ordering::Relaxed), 0);
        std::fs::copy(&path, folder.join("operations/gw-1-9901.3.json")).unwrap();
        std::fs::write(folder.join("operations/gw-1-9901.4.json"), "{").unwrap();
        assert_eq!(own.read(&registry).len(), 1);
        assert_eq!(registry.state_unread.load(Ordering::Relaxed), 2);
        let unix = Reports::of(&folder, "gw-1", &Address::Unix("/run/tidegate/admin.sock".into()));
        assert_eq!(unix.path(5), folder.join("operations/gw-1-run-tidegate-admin-sock.5.json"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_oldest_files_of_all_proxies_make_room() {
        let folder = std::env::temp_dir().join(format!("tidegate-bound-{}", std::process::id()));
        let reports = Reports::of(&folder, "new", &Address::Ip(([127, 0, 0, 1], 9901).into()));
        std::fs::create_dir_all(&reports.folder).unwrap();
        for id in 0..FILES_MAX as u64 {
            let path = reports.folder.join(format!("old-1.{id}.json"));
            let file = File::create(path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(id)).unwrap();
        }

        write(&reports, 1);

        assert!(!reports.folder.join("old-1.0.json").exists());
        assert!(reports.folder.join("old-1.1.json").exists() && reports.path(1).exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_counted_each_time() {
        let folder =
            std::env::temp_dir().join(format!("tidegate-no-folder-{}", std::process::id()));
        std::fs::write(&folder, "a file").unwrap();
        let reports = Reports::of(&folder, "gw", &Address::Ip(([127, 0, 0, 1], 1).into()));
        let (registry, (sender, changes)) = (Registry::default(), sync_channel(2));
        for id in 1..=2 {
            sender.send(Keep::Write { id, report: json!({"id": id}) }).unwrap();
        }
        drop(sender);

        reports.write_all(&changes, &registry);

        assert_eq!(registry.state_unwritten.load(Ordering::Relaxed), 2);
        std::fs::remove_file(folder).unwrap();
    }
}
