//! Files with secrets: their permissions.

use super::error::Problems;
use super::shape::Spanned;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The path of a file with a token, once the file was checked: it must be readable and have a token.
pub(super) fn token_file(
    problems: &mut Problems,
    folder: &Path,
    written: &Spanned<String>,
    key: &str,
) -> PathBuf {
    let path = folder.join(&written.value);
    match std::fs::read_to_string(&path) {
        Err(error) => {
            problems.error(written.at, key, format!("cannot read `{}`: {error}", written.value));
        }
        Ok(text) if text.trim().is_empty() => {
            problems.error(written.at, key, format!("token file `{}` is empty", written.value));
        }
        Ok(_) => warn_if_public(problems, &path, written, key),
    }
    path
}

/// Warns when every user of the machine may read a file with a secret. A missing file is reported by its reader.
pub(super) fn warn_if_public(
    problems: &mut Problems,
    path: &Path,
    written: &Spanned<String>,
    key: &str,
) {
    let Ok(data) = std::fs::metadata(path) else { return };
    if data.permissions().mode() & 0o004 != 0 {
        let message = format!(
            "file `{}` holds a secret and every user of this machine may read it",
            written.value
        );
        problems.warning(written.at, key, message, "run `chmod o-r` on the file");
    }
}
