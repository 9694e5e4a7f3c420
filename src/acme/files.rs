//! The files of accounts, certificates and challenges. Only their owner may read them.

use crate::decision::acme::{CHALLENGES_MAX, Challenge};
use crate::os::clock;
use crate::os::private_file::replace;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// The age from which a challenge was left behind by a proxy that has ended.
const CHALLENGE_AGE_MAX: Duration = Duration::from_secs(3600);
/// Bytes of a challenge's file.
const CHALLENGE_BYTES_MAX: u64 = 1024;

/// Creates a folder that only its owner may enter, with its parents.
///
/// # Errors
/// The file system's error.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Locks the folder of an authority: of the proxies that share it, one orders at a time. `None`: another proxy has the
/// lock, which ends with the file.
///
/// # Errors
/// The file system's error.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn challenge_file(folder: &Path, challenge: &Challenge) -> PathBuf {
    folder.join("challenges").join(challenge.token())
}

/// Shows a challenge to the proxies that share the folder.
///
/// # Errors
/// The file system's error.
pub(super) fn show(shared: &Path, challenge: &Challenge) -> io::Result<()> {
    folder(&shared.join("challenges"))?;
    let text = serde_json::to_vec(challenge).unwrap_or_default();
    replace(&challenge_file(shared, challenge), &text)
}

/// Removes a challenge that has ended.
pub(super) fn hide(folder: &Path, challenge: &Challenge) {
    if let Err(error) = std::fs::remove_file(challenge_file(folder, challenge)) {
        tracing::debug!(%error, "file of a challenge not removed");
    }
}

/// The challenges in the folder. Files that are none are skipped; those left behind are removed.
pub(super) fn challenges(folder: &Path) -> Vec<Challenge> {
    let Ok(entries) = std::fs::read_dir(folder.join("challenges")) else { return Vec::new() };
    let files = entries.flatten().take(4 * CHALLENGES_MAX).filter_map(|entry| {
        let data = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let written = data.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        if clock::since_epoch().saturating_sub(written) > CHALLENGE_AGE_MAX {
            let removed = std::fs::remove_file(entry.path());
            tracing::debug!(ok = removed.is_ok(), "old challenge removed");
            return None;
        }
        let text = (data.len() <= CHALLENGE_BYTES_MAX).then(|| std::fs::read(entry.path()).ok())?;
        serde_json::from_slice(&text?).ok().filter(Challenge::is_valid)
    });
    files.take(CHALLENGES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("tidegate-acme-{name}-{}", std::process::id()));
        folder(&path).unwrap();
        path
    }

    #[test]
    fn files_are_for_their_owner_alone_and_replaced_as_a_whole() {
        let folder = scratch("files");
        let path = folder.join("a.example.pem");
        std::fs::write(folder.join("a.example.pem.new"), "left behind").unwrap();

        replace(&path, b"first").unwrap();
        replace(&path, b"second").unwrap();

        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn one_proxy_orders_at_a_time() {
        let folder = scratch("lock");
        let held = lock(&folder).unwrap();
        assert!(held.is_some() && lock(&folder).unwrap().is_none());
        drop(held);
        assert!(lock(&folder).unwrap().is_some());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn challenges_are_found_until_they_end_and_other_files_are_none() {
        let folder = scratch("challenges");
        let challenge = Challenge {
            domain: "shop.example".to_owned(),
            key_authorization: "token.thumb".to_owned(),
        };
        assert!(challenges(&folder).is_empty());
        show(&folder, &challenge).unwrap();
        let others = folder.join("challenges");
        std::fs::write(others.join("x"), "not json").unwrap();
        let forged = r#"{"domain":"a","key_authorization":"a\r\n.b"}"#;
        std::fs::write(others.join("y"), forged).unwrap();
        let old = others.join("z");
        std::fs::write(&old, serde_json::to_vec(&challenge).unwrap()).unwrap();
        let past = UNIX_EPOCH + Duration::from_secs(1);
        File::options().write(true).open(&old).unwrap().set_modified(past).unwrap();

        assert_eq!(challenges(&folder), std::slice::from_ref(&challenge));

        assert!(!old.exists(), "what was left behind is removed");
        hide(&folder, &challenge);
        assert!(challenges(&folder).is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
