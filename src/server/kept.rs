//! The last good configuration of a key in NATS, kept in `state_dir`: used at the start when NATS has none.
//!
//! The first line names the key and the revision, as a comment: the file is a configuration that `tidegate check` reads.

use crate::decision::nats::BucketKey;
use crate::os::private_file;
use std::path::{Path, PathBuf};

/// A kept configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// The text, as it was in the key.
    pub text: String,
    /// Its revision.
    pub revision: u64,
}

const FILE: &str = "config.yaml";

/// The file in this folder.
#[must_use]
pub fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

impl Kept {
    /// Reads the configuration that was kept of this key.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read(folder: &Path, key: &BucketKey) -> Result<Kept, String> {
        let path = file(folder);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let line = text.split_once('\n');
        let read = line.and_then(|(first, text)| {
            let revision = first.strip_prefix(&heading(key))?.parse().ok()?;
            Some(Kept { text: text.to_owned(), revision })
        });
        read.ok_or_else(|| format!("{} is not of the key {}", path.display(), key.name()))
    }

    /// Keeps it. A crash leaves the old file or the new one; only the owner may read it.
    ///
    /// # Errors
    /// The file's error.
    pub fn store(&self, folder: &Path, key: &BucketKey) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let text = format!("{}{}\n{}", heading(key), self.revision, self.text);
        private_file::replace(&file(folder), text.as_bytes())
    }
}

/// The first line, up to the revision.
fn heading(key: &BucketKey) -> String {
    format!("# the last good configuration of {}, revision ", key.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_read_as_it_was_kept_by_its_owner_alone_and_only_for_its_key() {
        let folder = std::env::temp_dir().join(format!("tidegate-kept-{}", std::process::id()));
        let key = |bucket: &str| BucketKey {
            bucket: bucket.to_owned(),
            key: "idc.east".to_owned(),
            ..BucketKey::default()
        };
        assert!(Kept::read(&folder, &key("b")).is_err(), "there is none");
        let kept = Kept { text: "a: 1\n\nb: \u{e9}\n".to_owned(), revision: 7 };
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.yaml.new"), "left behind").unwrap();

        kept.store(&folder, &key("b")).unwrap();

        assert_eq!(Kept::read(&folder, &key("b")), Ok(kept));
        let told = Kept::read(&folder, &key("other")).unwrap_err();
        assert!(told.ends_with("config.yaml is not of the key nats:other/idc.east"), "{told}");
        let mode = std::fs::metadata(file(&folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(file(&folder), "a: 1\n").unwrap();
        assert!(Kept::read(&folder, &key("b")).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
