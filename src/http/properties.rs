//! Properties that hold for any bytes: the bodies of the fuzz targets, and of the test that replays their seeds on a
//! stable compiler.
//!
//! # Panics
//! When a property does not hold: callers are tests and fuzz targets.

use super::chunked::{self, Decoder, Step};
use super::forward::{ClientCert, Edits, RequestContext, write_request};
use super::request::RequestHead;
use super::response::{RequestKind, ResponseHead};
use super::scan::{Scan, Scanner};
use super::target::{Target, authority};
use super::{EncodedSlash, Limits, Slashes, Violation};

/// The result for a whole head whose bytes arrive in two segments.
fn head_in_two(bytes: &[u8], cut: usize) -> Result<Option<usize>, Violation> {
    let limits = Limits::default();
    let mut scanner = Scanner::default();
    let first = scanner.advance(bytes.get(..cut).unwrap_or(bytes), &limits)?;
    match first {
        Scan::Complete(end) => Ok(Some(end)),
        Scan::Partial => match scanner.advance(bytes, &limits)? {
            Scan::Complete(end) => Ok(Some(end)),
            Scan::Partial => Ok(None),
        },
    }
}

/// A request head has the same result at every segmentation; the forwarded head is valid and has the same meaning.
pub fn request(bytes: &[u8]) {
    let whole = head_in_two(bytes, bytes.len());
    for cut in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
        assert_eq!(head_in_two(bytes, cut), whole, "cut at {cut}");
    }
    let Ok(Some(end)) = whole else { return };
    let mut head = RequestHead::default();
    if head.read(&bytes[..end], &Limits::default()).is_err() {
        return;
    }
    let context = RequestContext {
        peer: "192.0.2.1",
        trusted: false,
        scheme: "http",
        is_copy: false,
        received: "1.1",
        client_cert: ClientCert::default(),
        via: "",
        authority: if head.authority().is_empty() { "empty" } else { head.authority() },
        target: head.target().as_str(),
        request_id: b"id",
        trace_parent: b"00-0-0-00",
        continues_trace: false,
        edits: Edits::default(),
    };
    let mut out = Vec::new();
    write_request(&mut out, &head, &context);
    let limits =
        Limits { head_bytes: 60_000, target_bytes: 30_000, fields: 200, ..Limits::default() };
    let mut again = RequestHead::default();
    assert_eq!(again.read(&out, &limits), Ok(()), "{:?}", String::from_utf8_lossy(&out));
    assert_eq!(again.framing, head.framing);
    assert_eq!(again.target().as_str(), head.target().as_str());
    assert_eq!(again.method(), head.method());
    assert_eq!(again.upgrade(), head.upgrade());
}

/// A response head never announces a body where none is allowed.
pub fn response(bytes: &[u8]) {
    let Ok(Some(end)) = head_in_two(bytes, 0) else { return };
    let mut head = ResponseHead::default();
    let request_kind = RequestKind { head: false, upgrade: Some(b"websocket") };
    if head.read(&bytes[..end], request_kind, &Limits::default()).is_ok() {
        assert!((100..1000).contains(&head.status));
        if matches!(head.status, 100..=199 | 204 | 304) {
            assert_eq!(head.framing, super::Framing::None);
        }
    }
}

/// The body carried by `pieces`, and the number of bytes consumed.
pub(super) fn decode(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, Violation> {
    let mut decoder = Decoder::default();
    let (mut body, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.step(rest)? {
                Step::More => {
                    taken += rest.len();
                    break;
                }
                Step::Data { start, end } => {
                    body.extend_from_slice(&rest[start..end]);
                    rest = &rest[end..];
                    taken += end;
                }
                Step::End { used } => return Ok(Some((body, taken + used))),
            }
        }
    }
    Ok(None)
}

/// A chunked body has the same result at every segmentation, and the same content after it is encoded anew.
pub fn chunks(bytes: &[u8]) {
    let whole = decode(&[bytes]);
    for cut in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
        assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
    }
    if let Ok(Some((body, _))) = whole {
        let mut wire = Vec::new();
        if !body.is_empty() {
            chunked::write_size(&mut wire, body.len());
            wire.extend_from_slice(&body);
            wire.extend_from_slice(b"\r\n");
        }
        chunked::write_end(&mut wire, b"");
        assert_eq!(decode(&[&wire]), Ok(Some((body, wire.len()))));
    }
}

/// Canonicalising a target twice gives the same result as once, and no dot segment is left.
pub fn target(bytes: &[u8]) {
    let mut target = Target::default();
    let (encoded, slashes) = (EncodedSlash::Refuse, Slashes::Merge);
    if target.read(bytes, encoded, slashes).is_ok() {
        let mut again = Target::default();
        assert_eq!(again.read(target.as_str().as_bytes(), encoded, slashes), Ok(()));
        assert_eq!(again.as_str(), target.as_str());
        assert!(target.path().starts_with('/'));
        let segments = target.path().split('/').collect::<Vec<_>>();
        assert!(!segments.contains(&"..") && !segments.contains(&"."));
        assert!(!target.path().contains("//"));
    }
    if let Ok(authority) = authority(bytes) {
        assert!(!authority.host.is_empty() && !authority.host.contains(['@', '/', ' ', ',']));
    }
}

/// Only trailers that may be forwarded are kept; parsing the kept trailers again gives the same fields.
pub fn trailers(bytes: &[u8]) {
    let Ok(kept) = super::trailers::read(bytes, super::Underscores::Refuse) else { return };
    let mut lines = Vec::new();
    super::trailers::write(&mut lines, bytes, &kept);
    lines.extend_from_slice(b"\r\n");
    let again = super::trailers::read(&lines, super::Underscores::Refuse);
    assert!(again.is_ok(), "what was written can be read");
    let again = again.unwrap_or_default();
    assert_eq!(again.len(), kept.len(), "{:?}", String::from_utf8_lossy(&lines));
    for field in &again {
        assert!(super::trailers::may_forward(field.name.of(&lines), field.role));
    }
}

/// An HTTP/2 head, given as `method`, `scheme`, `authority`, `path` and one field a line, becomes exactly one HTTP/1
/// head, with the same method, path and host.
pub fn translated(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let uri = ::http::Uri::builder().scheme("https").authority(next()).path_and_query(next());
    let mut request = ::http::Request::builder().method(next());
    let Ok(uri) = uri.build() else { return };
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        request = request.header(name, value);
    }
    let Ok(request) = request.uri(uri).body(()) else { return };
    let (parts, ()) = request.into_parts();
    let (mut out, limits) = (Vec::new(), Limits::default());
    for ends in [true, false] {
        out.clear();
        if super::translate::request_head(&parts, ends, None, &limits, &mut out).is_err() {
            continue;
        }
        match head_in_two(&out, out.len()) {
            Ok(Some(end)) => assert_eq!(end, out.len(), "{:?}", String::from_utf8_lossy(&out)),
            Ok(None) => unreachable!("a head without its end: {:?}", String::from_utf8_lossy(&out)),
            Err(_) => continue,
        }
        let mut head = RequestHead::default();
        if head.read(&out, &limits).is_ok() {
            assert_eq!(head.method(), parts.method.as_str());
            let host = parts.uri.authority().map_or("", |authority| authority.host());
            let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
            // The final dot of a host has no meaning, and is removed.
            let bare = host.strip_suffix('.').unwrap_or(&host);
            assert_eq!(head.host().trim_matches(['[', ']']), bare);
        }
    }
}

/// A gRPC timeout is bounded, and a gRPC status adds no other field line.
pub fn grpc(bytes: &[u8]) {
    if let Some(timeout) = super::grpc::timeout(bytes) {
        // Eight digits of hours (gRPC over HTTP/2).
        assert!(timeout <= std::time::Duration::from_secs(99_999_999 * 3_600));
    }
    let lines = super::grpc::status_lines(14, &String::from_utf8_lossy(bytes));
    assert_eq!(lines.matches('\n').count(), 3);
    assert!(lines.is_ascii() && lines.ends_with("\r\n"));
}
