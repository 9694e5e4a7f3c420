//! The fleet as it is written.

use crate::config::shape::{Spanned, shape};

shape! {
    /// Other proxies that tell this one what they see.
    Fleet {
        /// Proxies that are asked for their state: all of this site, and some of each other site.
        peers: Vec<Peer> = optional,
        /// A file with the token that permits only the report that peers ask for; the admin token permits it too.
        token_file: Spanned<String> = optional,
    }
}

shape! {
    /// A proxy that is asked for its state.
    Peer {
        /// Its site.
        site: Spanned<String> = required,
        /// Its admin API: https://HOST:PORT, or http://HOST:PORT.
        url: Spanned<String> = required,
        /// File with the token of its admin API.
        token_file: Spanned<String> = optional,
        /// Authorities of its certificate; the system's by default.
        ca: Spanned<String> = optional,
    }
}
