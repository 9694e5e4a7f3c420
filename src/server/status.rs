//! The results of the last reloads, and the texts that were read: for the API and the metrics.

use crate::config::Documents;
use std::sync::Arc;
use std::time::Duration;

/// The results of the last reloads, for the API and metrics.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The generation in force.
    pub generation: u64,
    /// The hash of the text in force.
    pub hash: String,
    /// When the configuration was put in force, since 1970.
    pub loaded_at: Duration,
    /// Whether the last reload succeeded.
    pub ok: bool,
    /// The time of the last reload, since 1970.
    pub at: Duration,
    /// The error of the last reload, if it failed.
    pub error: Option<String>,
    /// Successful reloads.
    pub succeeded: u64,
    /// Failed reloads.
    pub failed: u64,
    /// The configuration in force, in the format of the file.
    pub effective: Arc<serde_json::Value>,
    /// The texts that the API compares.
    pub texts: Arc<Texts>,
}

/// The text in force, and the last rejected text.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The name of the file.
    pub name: String,
    /// The text in force.
    pub in_force: Arc<Documents>,
    /// The text that was rejected; `None` if no text was rejected since, or if the file could not be read.
    pub rejected: Option<Arc<Documents>>,
    /// The problems of the last reload.
    pub problems: Vec<serde_json::Value>,
}
