//! Changes of a folder's entries, by inotify.
//!
//! The watch covers only events that may mean new content: create, rename, close after write, delete. A watch that
//! includes `open` wakes a thread for each file that is read in the folder: in the folder of a busy web root this
//! costs as much processor time as proxying.

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// A watch of folders, not of files: after a rename over the file, or a swapped link, a watch of the file
/// itself would still follow the old file.
#[derive(Debug)]
pub struct FolderWatch(AsyncFd<OwnedFd>);

impl FolderWatch {
    /// Watches folders, without their subfolders.
    ///
    /// # Errors
    /// When a folder does not exist, or the kernel has no watch left.
    pub fn new<'p>(folders: impl IntoIterator<Item = &'p Path>) -> io::Result<FolderWatch> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let what = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE;
        for folder in folders {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            inotify::add_watch(&descriptor, folder, what)?;
        }
        #[expect(deprecated, reason = "the other constructor is unsafe; it owns its descriptor")]
        let registered = AsyncFd::new(descriptor)?;
        Ok(FolderWatch(registered))
    }

    /// Waits until an entry with a name that `matters` changes, or until events were lost.
    ///
    /// # Errors
    /// When the folder can no longer be watched.
    pub async fn changed(&self, matters: impl Fn(&OsStr) -> bool) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let found = drain(self.0.get_ref(), &matters)?;
            ready.clear_ready();
            if found {
                return Ok(());
            }
        }
    }
}

/// Reads all queued events; returns whether one of them matters.
fn drain(descriptor: &OwnedFd, matters: &impl Fn(&OsStr) -> bool) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(descriptor, &mut space);
    let mut found = false;
    loop {
        match events.next() {
            // An event without a name: the queue overflowed, or the folder itself was removed.
            Ok(event) => {
                let name = event.file_name();
                found |= name.is_none_or(|name| matters(OsStr::from_bytes(name.to_bytes())));
            }
            Err(Errno::AGAIN) => return Ok(found),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn is_told(watch: &FolderWatch, within: Duration) -> bool {
        let ours = |name: &OsStr| name == "ours";
        tokio::time::timeout(within, watch.changed(ours)).await.is_ok_and(|changed| changed.is_ok())
    }

    #[tokio::test]
    async fn a_change_is_reported_and_a_read_is_not() {
        let folder = std::env::temp_dir().join(format!("tidegate-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (ours, other) = (folder.join("ours"), folder.join("other"));
        let watch = FolderWatch::new([folder.as_path()]).unwrap();
        let soon = Duration::from_secs(10);
        std::fs::write(&ours, "1").unwrap();
        assert!(is_told(&watch, soon).await, "written");
        std::fs::write(&other, "2").unwrap();
        std::fs::rename(&other, &ours).unwrap();
        assert!(is_told(&watch, soon).await, "renamed over");
        // All events are queued before the call returns, so the test need not wait.
        std::fs::read(&ours).unwrap();
        std::fs::write(&other, "3").unwrap();
        assert!(!is_told(&watch, Duration::ZERO).await, "read, and another one written");
        std::fs::remove_file(&ours).unwrap();
        assert!(is_told(&watch, soon).await, "gone");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
