//! The exchange of reports between proxies and sites, as pure functions: reports, their bounds, and their merge.
//!
//! The rule of this module: reports of the fleet can improve a decision, and the loss of reports never makes a
//! decision wrong. No request depends on a report.
//!
//! # Not here
//! Sockets and JSON (`fleet` of the proxy).

pub mod broadcast;
pub mod division;
pub mod lease;
mod members;
pub mod report;
pub mod samples;

pub use members::{FORGIVEN, Heard, LIVE, Link, Members, Merged, SITE_LIVE, links};
pub use report::{ClusterRow, Identity, Report, ServiceRow};

use super::nats::Servers;
use std::path::PathBuf;

/// Another proxy whose reports this proxy requests.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Peer {
    /// The peer's site.
    pub site: String,
    /// The URL of its admin API as configured; it identifies the peer.
    pub url: String,
    /// Whether its admin API uses TLS.
    pub secure: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The file with the token for its admin API.
    pub token_file: Option<PathBuf>,
    /// The certificate authorities for its certificate; those of the system if `None`.
    pub ca: Option<PathBuf>,
}

/// A NATS cluster on which proxies publish their reports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Nats {
    /// The servers.
    pub servers: Servers,
    /// The prefix of all subjects.
    pub subject: String,
}

/// Peers in a configuration.
pub const PEERS_MAX: usize = 256;

/// The reason for which a report was refused.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refused {
    /// Not a report.
    Malformed,
    /// Longer than a report may be.
    Oversize,
    /// The report has more clusters or services than allowed.
    TooMany,
    /// A name that is not valid in a configuration.
    Name,
    /// A number that is negative, not finite, or out of range.
    Value,
    /// The site differs from the configured site of the peer.
    Site,
    /// Another peer already reports this instance.
    Instance,
    /// Not newer than the last report.
    Stale,
    /// Bytes beyond the requested report.
    Unasked,
    /// No complete report in time.
    Timeout,
    /// More reports than are read of one publisher, or of all unknown ones.
    Flood,
    /// More publishers than are kept.
    Full,
}

impl Refused {
    /// All reasons, for metrics.
    pub const ALL: [Refused; 12] = [
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
        Refused::Flood,
        Refused::Full,
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
            Refused::Flood => "flood",
            Refused::Full => "full",
        }
    }
}
