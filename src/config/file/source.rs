//! A file that names the source of the configuration, as it is written.

use crate::config::scalar::Within;
use crate::config::shape::{Spanned, shape, words};

shape! {
    /// A file that names the source of the configuration instead of having the configuration.
    Bootstrap {
        /// The version of the format.
        version: Within<1, 1> = "1",
        /// The source of the configuration; beside it, this file has only `state_dir`.
        config: ConfigSource = required,
        /// The folder for the last good configuration, and for the state that survives a restart.
        state_dir: String = optional,
    }
}

words! {
    /// Where a configuration comes from.
    SourceKind {
        /// A key in a JetStream bucket.
        Nats = "nats",
    }
}

shape! {
    /// The source of the configuration; beside it, this file has only `state_dir`.
    ConfigSource {
        /// nats: a key in a JetStream bucket (cargo feature nats).
        source: SourceKind = required,
        /// The servers, separated by commas: tls://HOST:PORT or nats://HOST:PORT.
        url: Spanned<String> = required,
        /// File with the credentials as `nsc` writes it, or with the seed of an NKey.
        creds_file: Spanned<String> = optional,
        /// Authorities of the servers' certificates; the system's by default.
        ca: Spanned<String> = optional,
        /// Whether servers that NATS announces are not used, since their addresses are not reachable from here.
        ignore_discovered_servers: bool = "false",
        /// The bucket.
        bucket: Spanned<String> = required,
        /// The key, whose value is the whole configuration.
        key: Spanned<String> = required,
    }
}
