//! The HTTP/1 codec: bytes in, verdicts and events out. No I/O, no clock, no task.
//!
//! A proxy is attacked where two parsers disagree, so this one has a single strict reading
//! (RFC 9112, RFC 9110, RFC 3986) and everything it lets through is *written anew*: request line,
//! framing and chunks are never copied as they came.
//!
//! # Invariants
//! * A verdict depends on the bytes alone, never on how they were cut into segments.
//! * What [`forward`] writes is accepted by [`request`] with the same meaning.
//!
//! # Not here
//! Sockets, deadlines and retries (`proxy`), and the choice of a cluster (`decision`).

pub mod chars;
pub mod chunked;
pub mod field;
pub mod forward;
pub mod grpc;
pub mod hops;
pub mod properties;
pub mod request;
pub mod response;
pub mod scan;
pub mod target;
pub mod trailers;
pub mod translate;
pub mod words;

/// Why bytes from a peer are refused, as a fixed sentence for the log and the answer's body.
pub type Why = &'static str;

/// What a strict reading found wrong with a request (the status follows from the variant).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Violation {
    /// Not the grammar of RFC 9112, or a meaning that two parsers could read differently: 400.
    Malformed(Why),
    /// The target is longer than the limit: 414.
    TargetTooLong,
    /// The head is longer, or has more fields, than the limit: 431.
    HeadTooLarge,
    /// A transfer coding we do not implement (RFC 9112 §6.1): 501.
    UnknownCoding,
    /// An `Expect` other than `100-continue` (RFC 9110 §10.1.1): 417.
    Expectation,
    /// `CONNECT`, which a reverse proxy does not serve: 405.
    Method,
}

/// How large a head may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of the whole head, request line and final empty line included. At most 256 KiB.
    pub head_bytes: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
    /// Number of fields.
    pub fields: usize,
    /// What to do with a field name that has an underscore.
    pub underscores: Underscores,
    /// What to do with an encoded slash (`%2F`) in a path.
    pub encoded_slash: EncodedSlash,
    /// What to do with several slashes in a row in a path.
    pub slashes: Slashes,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 16 * 1024,
            target_bytes: 8 * 1024,
            fields: 100,
            underscores: Underscores::Refuse,
            encoded_slash: EncodedSlash::Refuse,
            slashes: Slashes::Merge,
        }
    }
}

/// Underscores in names collide with hyphens once a CGI-style application has read them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Underscores {
    /// Answer 400.
    Refuse,
    /// Forward the request without the field.
    Drop,
    /// Forward the field.
    Allow,
}

/// `%2F` in a path is one segment to some applications and two to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EncodedSlash {
    /// Answer 400.
    Refuse,
    /// Forward it as it is, never decoded.
    Keep,
}

/// `//` in a path is one slash to some applications and two to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slashes {
    /// Route and forward one slash.
    Merge,
    /// Answer 400.
    Refuse,
    /// Route and forward them as they are.
    Keep,
}

/// The two versions spoken on the wire; a higher minor version is answered as 1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of a body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is no body.
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunks, then perhaps trailers.
    Chunked,
    /// Until the connection is closed: responses only.
    Close,
}
