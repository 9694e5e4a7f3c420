//! The files that an import reads.

use std::path::{Path, PathBuf};

/// Bytes of one file, at most.
pub(super) const BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files of one pattern, at most.
const MATCHES_MAX: usize = 1_000;

/// Access to files: a disk, or a table in tests.
pub(super) trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// The reason, without the name of the file.
    fn read(&self, path: &Path) -> Result<String, String>;

    /// The names of the entries of a folder, sorted; empty if it cannot be read.
    fn list(&self, folder: &Path) -> Vec<String>;

    /// The absolute form of a path: the generated file may be in another folder.
    fn absolute(&self, path: &Path) -> PathBuf;

    /// Whether files can be written beside the configuration.
    fn writes(&self) -> bool;
}

/// The file system.
pub(super) struct Disk {
    /// Whether the configuration is written to a file, not to standard output.
    pub(super) has_output: bool,
}

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        use std::io::Read;
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err("is larger than 8 MiB".to_owned());
        }
        // Comments may be in any encoding; names of hosts and paths are ASCII.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.take(MATCHES_MAX).collect();
        names.sort();
        names
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }

    fn writes(&self) -> bool {
        self.has_output
    }
}

/// The files of a pattern whose last components may have `*` and `?`, sorted.
pub(super) fn glob(files: &dyn Files, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let component = component.as_os_str().to_string_lossy();
        let is_pattern = component.contains(['*', '?', '[']);
        let mut next = Vec::new();
        for folder in found {
            if !is_pattern {
                next.push(folder.join(component.as_ref()));
                continue;
            }
            let names = files.list(&folder);
            let hidden = component.starts_with('.');
            let matching = names.iter().filter(|name| {
                (hidden || !name.starts_with('.')) && matches(component.as_bytes(), name.as_bytes())
            });
            next.extend(matching.map(|name| folder.join(name)));
            next.truncate(MATCHES_MAX);
        }
        found = next;
    }
    found
}

/// Whether a name matches a pattern with `*`, `?` and `[abc]`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut pattern_regex = String::from("^");
    for &byte in pattern {
        match byte {
            b'*' => pattern_regex.push_str(".*"),
            b'?' => pattern_regex.push('.'),
            b'[' | b']' | b'-' => pattern_regex.push(char::from(byte)),
            byte => pattern_regex.push_str(&regex::escape(&char::from(byte).to_string())),
        }
    }
    pattern_regex.push('$');
    let name = String::from_utf8_lossy(name);
    regex::Regex::new(&pattern_regex).is_ok_and(|regex| regex.is_match(&name))
}

/// A path of an imported file, which may be relative to a folder.
pub(super) fn beside(folder: &Path, path: &str) -> String {
    if Path::new(path).is_absolute() {
        return path.to_owned();
    }
    folder.join(path).display().to_string()
}
