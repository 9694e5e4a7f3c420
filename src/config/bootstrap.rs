//! A file that names the source of the configuration, instead of having the configuration.

use super::error::Problems;
use super::file::{self, File};
use super::nats;
use super::shape::{Decode, decode_root};
use super::yaml::{Kind, Node};
use crate::decision::nats::BucketKey;
use std::path::{Path, PathBuf};

/// The source of the configuration.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The key, whose value is the whole configuration.
    pub key: BucketKey,
    /// The folder for the last good configuration.
    pub state_dir: Option<PathBuf>,
}

/// Whether a file names a source.
pub(super) fn is_bootstrap(tree: &Node) -> bool {
    let Kind::Map(entries) = &tree.kind else { return false };
    entries.iter().any(|(key, _)| key.text() == Some("config"))
}

/// Reads a file that names a source, with what is wrong about it.
pub(super) fn bootstrap(tree: &Node, folder: &Path, problems: &mut Problems) -> Option<Bootstrap> {
    let Kind::Map(entries) = &tree.kind else { return None };
    let (schema, own) = (File::schema(), file::Bootstrap::schema());
    let belongs_there =
        |key: &str| schema["properties"].get(key).is_some() && own["properties"].get(key).is_none();
    let (there, here): (Vec<_>, Vec<_>) =
        entries.iter().cloned().partition(|(key, _)| key.text().is_some_and(belongs_there));
    for (key, _) in &there {
        let name = key.text().unwrap_or_default();
        let message = "stands beside `config`: this file only names the source";
        let hint = match name {
            "include" => "the source holds one text: write all sections into it",
            _ => "write it into the configuration that the source holds",
        };
        problems.error_with_hint(key.at, name, message, hint);
    }
    let here = Node { at: tree.at, kind: Kind::Map(here) };
    let written = decode_root::<file::Bootstrap>(&here, problems)?;
    let key = nats::bucket_key(&written.config, folder, problems)?;
    if written.state_dir.is_none() {
        let message =
            "without `state_dir` a start needs NATS: the last good configuration is not kept";
        let hint = "set `state_dir`, beside `config`";
        problems.warning(written.config.at, "config", message, hint);
    }
    Some(Bootstrap { key, state_dir: written.state_dir.map(|path| folder.join(path)) })
}
