//! The shapes of the policies of services and routes.

use crate::config::scalar::{Size, Within};
use crate::config::shape::{Spanned, shape, words};
use std::time::Duration;

shape! {
    /// The rate limit of a client.
    RateLimit {
        /// The number of requests ...
        requests: Within<1, 1000000000> = required,
        /// ... in this time.
        per: Duration = "1s",
        /// The requests that may arrive at once; by default as many as `requests`.
        burst: Within<1, 1000000000> = optional,
        /// The key that identifies a client: client_ip, all, or header:NAME.
        key: Spanned<String> = "client_ip",
        /// Whose requests count: those of this proxy, or of all proxies of the site (needs `fleet`).
        scope: LimitScope = "proxy",
    }
}

words! {
    /// Whose exchanges a limit counts.
    LimitScope {
        /// Those of this proxy.
        Proxy = "proxy",
        /// Those of all proxies of the site; each has a part.
        Site = "site",
    }
}

shape! {
    /// Cross-origin resource sharing: pages of these origins may read responses in a browser.
    CorsFile {
        /// https://HOST, https://HOST:PORT, https://*.DOMAIN, null, or "*" for all.
        origins: Vec<Spanned<String>> = required,
        /// Permitted methods.
        methods: Vec<Spanned<String>> = "[GET, HEAD, POST]",
        /// Request fields that pages may set beside the safelisted ones; "*" permits any.
        headers: Vec<Spanned<String>> = optional,
        /// Response fields that pages may read beside the safelisted ones.
        expose: Vec<Spanned<String>> = optional,
        /// How long a browser may keep the answer to a preflight.
        max_age: Duration = "10m",
        /// Whether requests may carry cookies and Authorization; not with "*" as origin.
        credentials: bool = "false",
    }
}

words! {
    /// A coding of compressed responses.
    CompressionAlgorithm {
        /// Zstandard.
        Zstd = "zstd",
        /// Brotli.
        Brotli = "br",
        /// gzip.
        Gzip = "gzip",
    }
}

shape! {
    /// Compression of responses (cargo feature compression), off unless this key is present. Never of sensitive data.
    CompressionFile {
        /// The codings, the preferred one first, among those that a client accepts alike; an empty list turns compression off.
        algorithms: Vec<CompressionAlgorithm> = "[zstd, br, gzip]",
        /// Content types: TYPE/SUBTYPE, TYPE/* or TYPE/*+SUFFIX.
        types: Vec<Spanned<String>> = "[text/*, application/json, application/javascript, application/xml, application/wasm, application/x-ndjson, application/*+json, application/*+xml, image/svg+xml, font/otf, font/ttf]",
        /// The least length of a compressed response; one of unknown length is long enough.
        min_size: Size = "1KiB",
    }
}

shape! {
    /// JSON Web Tokens.
    JwtFile {
        /// A file with the keys, in JSON (RFC 7517); the file is watched.
        jwks_file: Spanned<String> = required,
        /// The required issuer.
        issuer: String = optional,
        /// The required audience.
        audience: String = optional,
    }
}

shape! {
    /// An external authorization service.
    ForwardFile {
        /// http://HOST:PORT/PATH or https://; an answer 2xx permits the request.
        url: Spanned<String> = required,
        /// A file with the authorities for the service's certificate (https); by default the system's.
        ca: Spanned<String> = optional,
        /// Fields of its answer that are added to the request for the cluster; the client's own fields of these names
        /// are removed.
        response_headers: Vec<Spanned<String>> = optional,
        /// Whether its redirects and 4xx answers are sent to the client unchanged.
        pass_response: bool = "true",
    }
}

shape! {
    /// Authentication of clients: exactly one of these.
    AuthFile {
        /// A file with users and password hashes, as `htpasswd -B` writes it; the file is watched.
        basic_file: Spanned<String> = optional,
        /// JSON Web Tokens.
        jwt: JwtFile = optional,
        /// An external authorization service.
        forward: ForwardFile = optional,
    }
}
