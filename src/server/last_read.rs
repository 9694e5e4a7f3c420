//! Whether the configuration file is still the one that was read last, without reading it.

use super::origin::Origin;
use crate::config::Documents;
use crate::os::clock;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A file that changed less than this ago has no stamp and is always read: timestamps of file systems are coarse, and a
/// second change may have the same one.
const STEP_MAX: Duration = Duration::from_secs(2);
/// After this many checks without a read the file is read anyway, since some file systems report stale timestamps.
const TRUSTED: u32 = 60;

/// Which file it is, its size, and when its contents or its attributes changed last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`; `None` if it changed just now, or cannot be examined.
    async fn read(path: &Path) -> Option<Stamp> {
        let found = tokio::fs::metadata(path).await.ok()?;
        Stamp::of(&found, clock::since_epoch())
    }

    fn of(found: &Metadata, now: Duration) -> Option<Stamp> {
        let (seconds, nanos) = (found.ctime(), found.ctime_nsec());
        let changed = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        // A time in the future is of another clock.
        let age = now.checked_sub(changed)?;
        let file = (found.dev(), found.ino());
        (age >= STEP_MAX).then_some(Stamp { file, bytes: found.len(), changed: (seconds, nanos) })
    }
}

/// The stamp of the file that was read last.
#[derive(Debug, Default)]
pub(super) struct LastRead {
    stamp: Option<Stamp>,
    trusted: u32,
}

impl LastRead {
    /// Reads the configuration. With `only_if_changed`, a file that is unchanged is not read again, and the result is `before`,
    /// the documents of the last read.
    pub(super) async fn read(
        &mut self,
        origin: &Origin,
        before: &Arc<Documents>,
        only_if_changed: bool,
    ) -> Result<Arc<Documents>, String> {
        let stamp = match origin {
            Origin::File(path) => Stamp::read(path).await,
            Origin::Text(_) | Origin::Key(_) => None,
        };
        if only_if_changed && self.is_unchanged(stamp) {
            return Ok(before.clone());
        }
        let documents = origin.read(before).await?;
        self.set(stamp.filter(|_| documents.is_alone()));
        Ok(documents)
    }

    /// Whether the file is unchanged since it was read, by its stamp.
    fn is_unchanged(&mut self, stamp: Option<Stamp>) -> bool {
        let same = stamp.is_some() && stamp == self.stamp && self.trusted < TRUSTED;
        self.trusted = if same { self.trusted + 1 } else { 0 };
        same
    }

    /// Stores the stamp of the file, taken before the read.
    fn set(&mut self, stamp: Option<Stamp>) {
        *self = LastRead { stamp, trusted: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_after_any_change_and_now_and_then() {
        let folder = std::env::temp_dir().join(format!("tidegate-stamp-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, other) = (folder.join("a"), folder.join("b"));
        let seen = |after: Duration| {
            let found = std::fs::metadata(&path).unwrap();
            let changed = Duration::new(found.ctime() as u64, found.ctime_nsec() as u32);
            Stamp::of(&found, changed + after)
        };
        std::fs::write(&path, "one").unwrap();
        assert_eq!(seen(Duration::from_millis(1_999)), None, "it may change again in this step");
        assert_eq!(Stamp::of(&std::fs::metadata(&path).unwrap(), Duration::ZERO), None);
        let first = seen(STEP_MAX);
        assert!(first.is_some());

        let mut last = LastRead::default();
        assert!(!last.is_unchanged(first), "nothing was read yet");
        last.set(first);
        assert!((0..TRUSTED).all(|_| last.is_unchanged(first)));
        assert!(!last.is_unchanged(first), "now it is read though nothing seems to have changed");
        last.set(None);
        assert!(!last.is_unchanged(None), "a file without a stamp is read each time");

        // The same size, in place and by a rename, in a later step of the clock.
        last.set(first);
        for change in [&path, &other] {
            let before = seen(STEP_MAX);
            while seen(STEP_MAX) == before {
                std::fs::write(change, "two").unwrap();
                if change == &other {
                    std::fs::rename(&other, &path).unwrap();
                }
            }
            assert!(!last.is_unchanged(seen(STEP_MAX)));
            last.set(seen(STEP_MAX));
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
