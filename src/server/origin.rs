//! The origin of the configuration: a file or a text, with its name for messages and the folder for its relative
//! paths.

use std::path::{Path, PathBuf};

/// The source of the configuration.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file, which is watched.
    File(PathBuf),
    /// Text, read once.
    Text(String),
}

impl Origin {
    /// The name in messages: the path, or `-` for a text.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Origin::File(path) => path.display().to_string(),
            Origin::Text(_) => "-".to_owned(),
        }
    }

    /// The folder that relative paths begin at.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        match self {
            Origin::File(path) => folder_of(path),
            Origin::Text(_) => PathBuf::from("."),
        }
    }

    /// The text.
    ///
    /// # Errors
    /// The reason why the file cannot be read.
    pub async fn read(&self) -> Result<String, String> {
        match self {
            Origin::Text(text) => Ok(text.clone()),
            Origin::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("cannot read the file: {error}")),
        }
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
