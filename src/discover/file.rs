//! Endpoints from a file: a YAML list, checked four times a second.

use super::dns::follow_list;
use super::{Resolver, Teller, addresses};
use crate::decision::plan::EndpointSpec;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Parses the text of an endpoints file in a folder; the error is for the log.
pub type Parse = fn(&str, &Path) -> Result<Vec<EndpointSpec>, String>;

/// Interval between two checks of the file. A check is one `stat`.
const LOOK: Duration = Duration::from_millis(250);
/// Limit of an endpoints file, in bytes.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Follows a file. If the file cannot be read or parsed, the last endpoints stay; an empty list removes all
/// endpoints at once.
pub(super) async fn follow(path: PathBuf, parse: Parse, resolver: Arc<Resolver>, teller: Teller) {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut seen = None;
    let mut names: Option<tokio::task::JoinHandle<()>> = None;
    let mut missed = false;
    loop {
        let stamp = stamp(&path).await;
        if stamp.is_some() && stamp != seen {
            seen = stamp;
            match read(&path).await.and_then(|text| parse(&text, folder)) {
                Ok(specs) => {
                    if let Some(task) = names.take() {
                        task.abort();
                    }
                    match addresses(&specs) {
                        Some(found) => teller.tell(found).await,
                        None => {
                            let follow = follow_list(resolver.clone(), specs, teller.clone());
                            names = Some(tokio::spawn(follow));
                        }
                    }
                }
                Err(error) => {
                    let path = path.display();
                    tracing::warn!(cluster = teller.cluster, %path, error, "endpoints file {path} of cluster {} ignored, the last endpoints stay: {error}", teller.cluster);
                }
            }
        }
        if stamp.is_none() && !missed {
            missed = true;
            let path = path.display();
            tracing::warn!(cluster = teller.cluster, %path, "endpoints file {path} of cluster {} does not exist", teller.cluster);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn stamp(path: &PathBuf) -> Option<(std::time::SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = tokio::fs::metadata(path).await.ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

async fn read(path: &PathBuf) -> Result<String, String> {
    let data = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?;
    if data.len() > BYTES_MAX {
        return Err("the file is larger than 16 MiB".to_owned());
    }
    tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())
}
