//! Trailers: an allow-list, because a field that arrives after a decision must not change it.
//!
//! Fields that frame, route, authenticate or trace are dropped (RFC 9110 §6.5.1). The fields in practical use are
//! forwarded: gRPC status, digests, timings, and an application's own `x-` fields.

use super::field::{Field, Fields, Role};
use super::{Limits, Underscores, Violation};

/// Bytes of a trailer section, its final empty line included.
pub const BYTES_MAX: usize = 8 * 1024;
/// Fields in a trailer section.
pub const FIELDS_MAX: usize = 32;

/// Parses a trailer section that ends with an empty line; only fields that may be forwarded are kept.
///
/// # Errors
/// [`Violation`] for a malformed line or too many fields.
pub fn read(bytes: &[u8], underscores: Underscores) -> Result<Vec<Field>, Violation> {
    let mut fields = Fields::EMPTY;
    let limits = Limits { underscores, ..trailer_limits() };
    if bytes.len() > BYTES_MAX {
        return Err(Violation::Malformed("a trailer section over its limit"));
    }
    fields.read(bytes, 0, &limits)?;
    let mut fields = fields.into_list();
    fields.retain(|field| may_forward(field.name.of(bytes), field.role));
    Ok(fields)
}

/// As [`read`], for a response over HTTP/2, where names may contain underscores. Of a gRPC call, all metadata is
/// forwarded except fields that frame, route or authenticate.
///
/// # Errors
/// As [`read`].
pub fn read_call(bytes: &[u8], is_call: bool) -> Result<Vec<Field>, Violation> {
    let mut fields = Fields::EMPTY;
    let limits = Limits { underscores: Underscores::Allow, ..trailer_limits() };
    fields.read(bytes, 0, &limits)?;
    let mut fields = fields.into_list();
    let metadata =
        |field: &Field| is_call && field.role == Role::Plain && !is_never(field.name.of(bytes));
    fields.retain(|field| metadata(field) || may_forward(field.name.of(bytes), field.role));
    Ok(fields)
}

/// The limits of a trailer section, as limits of a head.
fn trailer_limits() -> Limits {
    Limits { fields: FIELDS_MAX, ..Limits::default() }
}

/// Whether a field of this name would change a decision that was already made.
fn is_never(name: &[u8]) -> bool {
    const NEVER: [&str; 5] = ["x-http-method", "x-original-", "x-auth", "authorization", "cookie"];
    NEVER.iter().any(|prefix| begins(name, prefix))
}

fn begins(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// Writes `fields` as lines.
pub fn write(out: &mut Vec<u8>, bytes: &[u8], fields: &[Field]) {
    for field in fields {
        out.extend_from_slice(field.name.of(bytes));
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value.of(bytes));
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a trailer of this name may be forwarded.
#[must_use]
pub fn may_forward(name: &[u8], role: Role) -> bool {
    const NAMES: [&str; 6] =
        ["server-timing", "digest", "content-digest", "repr-digest", "etag", "content-md5"];
    const PREFIXES: [&str; 2] = ["grpc-", "x-"];
    role == Role::Plain
        && !is_never(name)
        && (PREFIXES.iter().any(|prefix| begins(name, prefix))
            || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_trailers_pass() {
        let section = b"grpc-status: 0\r\nContent-Length: 5\r\nHost: b\r\nX-Sum: 1\r\n\
            Authorization: x\r\nX-Forwarded-For: 1\r\ntransfer-encoding: chunked\r\nfoo: 1\r\n\r\n";

        let fields = read(section, Underscores::Refuse).unwrap();

        let mut lines = Vec::new();
        write(&mut lines, section, &fields);
        assert_eq!(lines, b"grpc-status: 0\r\nX-Sum: 1\r\n");
    }
}
