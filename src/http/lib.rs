//! The HTTP/1 codec: bytes in, results out. No I/O, no clock, no task.
//!
//! Attacks on proxies exploit differences between parsers. Therefore this codec has one strict interpretation (RFC
//! 9112, RFC 9110, RFC 3986), and everything forwarded is *encoded anew*: request line, framing and chunks are never
//! copied as received.
//!
//! # Invariants
//! * A result depends on the bytes alone, never on their segmentation.
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
pub mod swar;
pub mod target;
pub mod trace_parent;
pub mod trailers;
pub mod translate;

/// Why bytes from a peer are refused: a fixed sentence for the log and the response body.
pub type Why = &'static str;

/// Why a request is refused; the status follows from the variant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Violation {
    /// Outside the grammar of RFC 9112, or ambiguous between parsers: 400.
    Malformed(Why),
    /// The target is longer than the limit: 414.
    TargetTooLong,
    /// The head is longer, or has more fields, than the limit: 431.
    HeadTooLarge,
    /// A transfer coding we do not implement (RFC 9112 §6.1): 501.
    UnknownCoding,
    /// An `Expect` other than `100-continue` (RFC 9110 §10.1.1): 417.
    Expectation,
    /// `CONNECT`, which a reverse proxy does not support: 405.
    Method,
}

impl Violation {
    /// The violation in a sentence.
    #[must_use]
    pub fn why(self) -> Why {
        match self {
            Violation::Malformed(why) => why,
            Violation::TargetTooLong => "the target is too long",
            Violation::HeadTooLarge => "the head is too long, or has too many fields",
            Violation::UnknownCoding => "unsupported transfer coding",
            Violation::Expectation => "unsupported expectation",
            Violation::Method => "CONNECT is not supported",
        }
    }
}

/// Limits of a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of the whole head, request line and final empty line included. At most 256 KiB.
    pub head_bytes: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
    /// Number of fields.
    pub fields: usize,
    /// Treatment of field names that contain an underscore.
    pub underscores: Underscores,
    /// Treatment of an encoded slash (`%2F`) in a path.
    pub encoded_slash: EncodedSlash,
    /// Treatment of consecutive slashes in a path.
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

/// Underscores in names collide with hyphens in applications with CGI-style names.
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

/// The two versions that the codec writes; a higher minor version is treated as 1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of a body is determined (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This number of bytes.
    Length(u64),
    /// Chunks, then optional trailers.
    Chunked,
    /// Until the connection is closed: responses only.
    Close,
}
