//! The fleet as it is written.

use crate::config::shape::{Spanned, shape};

shape! {
    /// The other proxies, from which this proxy requests reports.
    Fleet {
        /// The proxies whose reports are requested: all proxies of this site, and some of each other site.
        peers: Vec<Peer> = optional,
        /// A file with the token that permits only the report that peers ask for; the admin token permits it too.
        token_file: Spanned<String> = optional,
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
