//! Files with secrets: their permissions.

use super::error::Problems;
use super::shape::Spanned;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
