//! The folders of the configuration file and of the files that it includes.

use super::origin::{Origin, folder_of};
use crate::config::Documents;
use crate::os::watch::FolderWatch;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A watch of the folders that have files of the configuration. A configuration that is not a file is not watched.
#[derive(Debug)]
pub(super) struct ConfigWatch {
    watch: Option<FolderWatch>,
    /// The name of the main file.
    main: OsString,
    documents: Arc<Documents>,
    /// The watched folders with their device and inode: a link to a folder may name another one later.
    folders: BTreeMap<PathBuf, Option<(u64, u64)>>,
}

impl ConfigWatch {
    /// A watch of the folders of `documents`.
    pub(super) fn new(origin: &Origin, documents: &Arc<Documents>) -> ConfigWatch {
        let mut watch = ConfigWatch {
            watch: None,
            main: OsString::new(),
            documents: documents.clone(),
            folders: BTreeMap::new(),
        };
        watch.follow(origin, documents);
        watch
    }

    /// Watches the folders of `documents` from now on; unchanged folders stay watched.
    pub(super) fn follow(&mut self, origin: &Origin, documents: &Arc<Documents>) {
        let Origin::File(path) = origin else { return };
        self.documents.clone_from(documents);
        let folder = folder_of(path);
        let mut folders = documents.folders(&folder);
        folders.insert(folder);
        let identity = |folder: PathBuf| {
            let found = std::fs::metadata(&folder).ok();
            (folder, found.map(|found| (found.dev(), found.ino())))
        };
        let folders: BTreeMap<_, _> = folders.into_iter().map(identity).collect();
        if folders == self.folders {
            return;
        }
        self.main = path.file_name().unwrap_or_default().to_owned();
        self.folders = folders;
        // A folder that does not exist yet is found by the poll.
        let existing = self.folders.iter().filter(|(_, identity)| identity.is_some());
        self.watch = FolderWatch::new(existing.map(|(folder, _)| folder.as_path()))
            .map_err(
                |error| tracing::warn!(%error, "configuration folder not watched: the file is polled"),
            )
            .ok();
    }

    /// Waits until a file of the configuration may have changed.
    pub(super) async fn changed(&mut self) {
        if let Some(watch) = &self.watch {
            // The files themselves, or the links that Kubernetes swaps (`..data`); other files of the folders, such
            // as logs, are ignored.
            let is_ours = |found: &OsStr| {
                found == self.main
                    || found.as_encoded_bytes().starts_with(b"..")
                    || found.to_str().is_some_and(|name| self.documents.may_include(name))
            };
            match watch.changed(is_ours).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "watch of the configuration folder lost: the file is polled");
                    self.watch = None;
                }
            }
        }
        std::future::pending().await
    }
}
