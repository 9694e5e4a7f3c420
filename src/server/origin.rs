//! The origin of the configuration: a file, a text or a key in NATS, with its name for messages and the folder for its
//! relative paths.

use super::key_origin::{KeyOrigin, load_value, of_key, with_state};
use crate::config::{Documents, Outcome};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The source of the configuration.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file, which is watched.
    File(PathBuf),
    /// Text, read once.
    Text(String),
    /// The value of a key in NATS, which is watched.
    Key(Arc<KeyOrigin>),
}

/// A configuration that was read and checked.
#[derive(Debug)]
pub struct Loaded {
    /// The texts.
    pub documents: Arc<Documents>,
    /// The result of the check.
    pub outcome: Outcome,
}

impl Origin {
    /// The name in messages: the path, `nats:BUCKET/KEY`, or `-` for a text.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Origin::File(path) => path.display().to_string(),
            Origin::Text(_) => "-".to_owned(),
            Origin::Key(key) => key.name(),
        }
    }

    /// The folder that relative paths begin at.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        match self {
            Origin::File(path) => folder_of(path),
            Origin::Text(_) => PathBuf::from("."),
            Origin::Key(key) => key.folder.clone(),
        }
    }

    /// The text, with the files that it includes; of a key in NATS, the last value that was seen. `before` is what was
    /// read last.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn read(&self, before: &Arc<Documents>) -> Result<Arc<Documents>, String> {
        let main = match self {
            Origin::Text(text) => text.clone(),
            Origin::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("cannot read the file: {error}"))?,
            Origin::Key(key) => return Ok(Arc::new(of_key(key.text()?))),
        };
        let (folder, before) = (self.folder(), before.clone());
        // Included files may lie on a slow file system.
        let read = tokio::task::spawn_blocking(move || {
            let variable = |name: &str| std::env::var(name).ok();
            let read = Documents::read(main, &folder, &variable, Some(&before));
            // Unchanged texts are kept once.
            if read == *before { before } else { Arc::new(read) }
        });
        read.await.map_err(|error| format!("cannot read the included files: {error}"))
    }

    /// Reads and loads the configuration for the start.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn load_first(&self) -> Result<Box<Loaded>, String> {
        let documents = self.read(&Arc::default()).await?;
        let outcome = self.load(&documents);
        Ok(Box::new(Loaded { documents, outcome }))
    }

    /// Reads a key in NATS now, before the next poll.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub async fn refresh(&self) -> Result<(), String> {
        match self {
            Origin::Text(_) | Origin::File(_) => Ok(()),
            Origin::Key(key) => {
                key.refresh().await.map_err(|why| format!("cannot read the key: {why}"))
            }
        }
    }

    /// Loads documents of this origin.
    #[must_use]
    pub fn load(&self, documents: &Documents) -> Outcome {
        let mut outcome = load_value(documents, &self.folder());
        if let (Origin::Key(key), Some(config)) = (self, &mut outcome.config) {
            with_state(config, key.state_dir());
        }
        outcome
    }
}

/// The folder of a file, for its relative paths.
#[must_use]
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        Some(_) | None => PathBuf::from("."),
    }
}
