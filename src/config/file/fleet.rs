//! The fleet as it is written.

use crate::config::shape::{Spanned, shape};

shape! {
    /// The other proxies, from which this proxy requests reports.
    Fleet {
        /// The proxies whose reports are requested: all proxies of this site, and some of each other site.
        peers: Vec<Peer> = optional,
        /// A file with the token that permits only the report that peers ask for; the admin token permits it too.
        token_file: Spanned<String> = optional,
        /// A NATS cluster on which proxies publish their reports; beside peers, or instead of them (cargo feature nats).
        nats: Nats = optional,
    }
}

shape! {
    /// A NATS cluster on which proxies publish their reports.
    Nats {
        /// The servers, separated by commas: tls://HOST:PORT or nats://HOST:PORT.
        url: Spanned<String> = required,
        /// File with the credentials as `nsc` writes it, or with the seed of an NKey.
        creds_file: Spanned<String> = optional,
        /// Authorities of the servers' certificates; the system's by default.
        ca: Spanned<String> = optional,
        /// The prefix of all subjects.
        subject: Spanned<String> = "tidegate.fleet",
        /// Whether servers that the cluster announces are not used, since their addresses are not reachable from here.
        ignore_discovered_servers: bool = "false",
    }
}

shape! {
    /// A proxy whose reports are requested.
    Peer {
        /// Its site.
        site: Spanned<String> = required,
        /// The URL of its admin API: https://HOST:PORT, or http://HOST:PORT.
        url: Spanned<String> = required,
        /// A file with the token for its admin API.
        token_file: Spanned<String> = optional,
        /// The certificate authorities for its certificate; by default those of the system.
        ca: Spanned<String> = optional,
    }
}
