//! Files that only their owner may read. Each is written beside its place and renamed, so that a crash leaves the old
//! file or the new one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes the bytes into a new file beside `path`, whose name has `.new` at its end; returns its path.
///
/// # Errors
/// The file system's error.
pub fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    // A file that was left behind might have other permissions.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(beside)
}

/// Replaces a file as a whole.
///
/// # Errors
/// The file system's error.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::rename(write_beside(path, bytes)?, path)
}
