//! What proxies and sites tell each other, as pure rules: reports, their bounds, and how they are merged.
//!
//! The law of this module: news from the fleet can make a choice better, and its loss never makes one wrong. Nothing
//! here is needed to serve a request.
//!
//! # Not here
//! Sockets and JSON (`crate::fleet`).

pub mod lease;
mod members;
pub mod report;

pub use members::{FORGIVEN, Heard, LIVE, Link, Members, Merged, SITE_LIVE, links};
pub use report::{ClusterRow, Identity, Report, ServiceRow};

use std::path::PathBuf;

/// A proxy that is asked for its state.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Peer {
    /// The peer's site.
    pub site: String,
    /// Its admin API as configured, which names the peer.
    pub url: String,
    /// Whether it is asked by TLS.
    pub secure: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// File with the token of its admin API.
    pub token_file: Option<PathBuf>,
    /// Authorities of its certificate; the system's where there are none.
    pub ca: Option<PathBuf>,
}

/// Peers in a configuration.
pub const PEERS_MAX: usize = 256;

/// Why news was refused.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refused {
    /// Not a report.
    Malformed,
    /// Longer than a report may be.
    Oversize,
    /// More clusters or services than a report may have.
    TooMany,
    /// A name that no configuration could have.
    Name,
    /// A number that is negative, not finite, or out of its range.
    Value,
    /// Another site than the configured one.
    Site,
    /// An instance that another peer speaks for.
    Instance,
    /// Older than what is known.
    Stale,
    /// Bytes that nobody asked for.
    Unasked,
    /// No whole answer in time.
    Timeout,
}

impl Refused {
    /// All reasons, for metrics.
    pub const ALL: [Refused; 10] = [
        Refused::Malformed,
        Refused::Oversize,
        Refused::TooMany,
        Refused::Name,
        Refused::Value,
        Refused::Site,
        Refused::Instance,
        Refused::Stale,
        Refused::Unasked,
        Refused::Timeout,
    ];

    /// The word in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::Oversize => "oversize",
            Refused::TooMany => "too_many",
            Refused::Name => "name",
            Refused::Value => "value",
            Refused::Site => "site",
            Refused::Instance => "instance",
            Refused::Stale => "stale",
            Refused::Unasked => "unasked",
            Refused::Timeout => "timeout",
        }
    }
}
