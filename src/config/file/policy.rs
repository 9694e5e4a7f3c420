//! Policies of services and routes as they are written.

use crate::config::scalar::Within;
use crate::config::shape::{Spanned, shape};
use std::time::Duration;

shape! {
    /// How often a client may come.
    RateLimit {
        /// So many requests ...
        requests: Within<1, 1000000000> = required,
        /// ... in so long.
        per: Duration = "1s",
        /// How many may come at once; as many as `requests` without it.
        burst: Within<1, 1000000000> = optional,
        /// Who is a client: client_ip, all, or header:NAME.
        key: Spanned<String> = "client_ip",
    }
}

shape! {
    /// Signed tokens.
    JwtFile {
        /// File with the keys, in JSON (RFC 7517); it is watched.
        jwks_file: Spanned<String> = required,
        /// Who must have issued them.
        issuer: String = optional,
        /// For whom they must be.
        audience: String = optional,
    }
}

shape! {
    /// A service that is asked.
    ForwardFile {
        /// http://HOST:PORT/PATH or https://; 2xx lets in.
        url: Spanned<String> = required,
        /// File with the authorities that prove who it is (https); the system's without it.
        ca: Spanned<String> = optional,
        /// Fields of its answer that clusters are given; a client's own are removed.
        response_headers: Vec<Spanned<String>> = optional,
        /// Whether its redirects and 4xx go to the client as they are.
        pass_response: bool = "true",
    }
}

shape! {
    /// What a client must prove: one of these.
    AuthFile {
        /// File with users and hashes of passwords, as `htpasswd -B` writes it; it is watched.
        basic_file: Spanned<String> = optional,
        /// Signed tokens.
        jwt: JwtFile = optional,
        /// A service that is asked.
        forward: ForwardFile = optional,
    }
}
