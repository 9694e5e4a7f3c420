//! What a configuration says of NATS: its servers, and the key that holds a configuration.
//!
//! # Not here
//! Connections (`nats`), and reports on NATS (`fleet::broadcast`).

mod credentials;

pub use credentials::Credentials;

use std::path::PathBuf;

/// Servers in a configuration.
pub const SERVERS_MAX: usize = 16;

/// The servers of NATS, and how this proxy connects to them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Servers {
    /// The servers, as `nats://HOST:PORT` or `tls://HOST:PORT`; never empty.
    pub urls: Vec<String>,
    /// File with the credentials.
    pub creds_file: Option<PathBuf>,
    /// Authorities of the servers' certificates; the system's where there are none.
    pub ca: Option<PathBuf>,
    /// Whether servers that NATS announces are not used.
    pub ignore_discovered: bool,
}

/// A key in a JetStream bucket.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BucketKey {
    /// The servers.
    pub servers: Servers,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

impl BucketKey {
    /// The key in messages: `nats:BUCKET/KEY`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("nats:{}/{}", self.bucket, self.key)
    }
}
