//! Translation between HTTP/2 fields and HTTP/1 lines (RFC 9113 §8).
//!
//! A request is encoded as an HTTP/1 head and then parsed by the one strict parser, so that both protocols are routed,
//! limited and forwarded alike. A response is translated the other way.

use super::field::Field;
use super::forward::FieldSink;
use super::{Limits, Violation, chars};
use ::http::header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use ::http::{Method, Response, StatusCode, request};
use bytes::Bytes;

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// The protocol forbids it: the stream is reset (RFC 9113 §8.1.1).
    Malformed(&'static str),
    /// The proxy refuses the request.
    Refused(Violation),
}

/// A request for a tunnel (RFC 8441), translated to an HTTP/1 upgrade.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel<'a> {
    /// The protocol in the tunnel.
    pub protocol: &'a str,
    /// A `Sec-WebSocket-Key`, which HTTP/2 does not have.
    pub key: &'a str,
}

/// Names that belong to one HTTP/1 connection (RFC 9113 §8.2.2).
const CONNECTION_BOUND: [HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::PROXY_AUTHENTICATE];

/// Encodes a request head as HTTP/1. `ends` is true if no body follows.
///
/// # Errors
/// [`Wrong`].
pub fn request_head(
    parts: &request::Parts,
    ends: bool,
    tunnel: Option<Tunnel<'_>>,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let connects = parts.method == Method::CONNECT;
    let tunnel = tunnel.filter(|tunnel| connects && !ends && tunnel.protocol == "websocket");
    if connects && tunnel.is_none() {
        return Err(Wrong::Refused(Violation::Method));
    }
    if !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err(Wrong::Malformed("unsupported scheme"));
    }
    // Pseudo-fields count towards the limit: they are fields of the same list.
    if parts.headers.len() + 4 > limits.fields {
        return Err(Wrong::Refused(Violation::HeadTooLarge));
    }
    let authority = authority(parts)?;
    let method = if tunnel.is_some() { "GET" } else { parts.method.as_str() };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority);
    out.extend_from_slice(b"\r\n");
    let mut crumbs: Vec<&[u8]> = Vec::new();
    for (name, value) in &parts.headers {
        check_field(name, value)?;
        match *name {
            header::HOST => {}
            header::COOKIE => crumbs.push(value.as_bytes()),
            _ => push(out, name.as_str(), value.as_bytes()),
        }
    }
    if !crumbs.is_empty() {
        push(out, "cookie", &crumbs.join(&b"; "[..]));
    }
    if let Some(Tunnel { protocol, key }) = tunnel {
        push(out, "connection", b"upgrade");
        push(out, "upgrade", protocol.as_bytes());
        push(out, "sec-websocket-key", key.as_bytes());
    } else if !ends && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    match out.len() > limits.head_bytes {
        true => Err(Wrong::Refused(Violation::HeadTooLarge)),
        false => Ok(()),
    }
}

/// `:authority`, or `host` if `:authority` is absent. If both exist they must be equal (RFC 9113 §8.3.1).
fn authority(parts: &request::Parts) -> Result<&[u8], Wrong> {
    let pseudo = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    match (pseudo, hosts.next(), hosts.next()) {
        (.., Some(_)) => Err(Wrong::Malformed("several host fields")),
        (Some(pseudo), Some(host), None) if !pseudo.eq_ignore_ascii_case(host) => {
            Err(Wrong::Malformed("host and :authority differ"))
        }
        (Some(pseudo), _, None) => Ok(pseudo),
        (None, Some(host), None) => Ok(host),
        (None, None, None) => Err(Wrong::Malformed("no :authority and no host")),
    }
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Wrong> {
    let bound = CONNECTION_BOUND.contains(name) && *name != header::PROXY_AUTHENTICATE;
    if bound || ["keep-alive", "proxy-connection"].contains(&name.as_str()) {
        return Err(Wrong::Malformed("a connection-specific field"));
    }
    if *name == header::TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers") {
        return Err(Wrong::Malformed("TE other than trailers"));
    }
    match chars::trim(value.as_bytes()).len() == value.len() {
        true => Ok(()),
        false => Err(Wrong::Malformed("space around a field value")),
    }
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A response head from the lines we write for HTTP/1, without connection-specific fields. `None` for an invalid line,
/// which would be our bug.
#[must_use]
pub fn response_head(status: u16, lines: &[u8]) -> Option<Response<()>> {
    response(status, fields(lines)?)
}

/// A response head.
#[must_use]
pub fn response(status: u16, fields: HeaderMap) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = fields;
    Some(response)
}

/// Fields from complete lines.
#[must_use]
pub fn fields(lines: &[u8]) -> Option<HeaderMap> {
    if lines.is_empty() {
        return Some(HeaderMap::new());
    }
    let mut map = FieldMap::new(&[]);
    map.lines(lines);
    map.into_fields()
}

/// HTTP/2 fields, without connection-specific ones.
#[derive(Debug)]
pub struct FieldMap {
    fields: HeaderMap,
    /// The head from which fields are copied, so that they share its memory.
    bytes: Bytes,
    is_sound: bool,
}

/// Initial capacity: the fields of an ordinary head.
const ORDINARY: usize = 12;

impl FieldMap {
    /// An empty list; copied fields belong to the head with these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> FieldMap {
        let bytes = Bytes::copy_from_slice(bytes);
        FieldMap { fields: HeaderMap::with_capacity(ORDINARY), bytes, is_sound: true }
    }

    /// All fields; `None` if one was invalid, which would be our bug.
    #[must_use]
    pub fn into_fields(self) -> Option<HeaderMap> {
        self.is_sound.then_some(self.fields)
    }

    fn append(&mut self, name: &[u8], value: Result<HeaderValue, InvalidHeaderValue>) {
        match (HeaderName::from_bytes(name), value) {
            (Ok(name), Ok(value)) => {
                if !is_bound(&name) {
                    self.fields.append(name, value);
                }
            }
            _ => self.is_sound = false,
        }
    }
}

/// Whether a field is specific to an HTTP/1 connection.
fn is_bound(name: &HeaderName) -> bool {
    CONNECTION_BOUND[..3].contains(name) || name.as_str() == "keep-alive"
}

impl FieldSink for FieldMap {
    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.append(name, HeaderValue::from_bytes(chars::trim(value)));
    }

    fn copy(&mut self, bytes: &[u8], field: &Field) {
        let value = field.value.range();
        match value.end <= self.bytes.len() {
            true => {
                let value = HeaderValue::from_maybe_shared(self.bytes.slice(value));
                self.append(field.name.of(bytes), value);
            }
            false => self.is_sound = false,
        }
    }

    fn lines(&mut self, lines: &[u8]) {
        let lines = lines.split(|byte| *byte == b'\n');
        for line in lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
            match line.iter().position(|byte| *byte == b':') {
                Some(colon) => self.push(&line[..colon], &line[colon + 1..]),
                None => self.is_sound &= line.is_empty(),
            }
        }
    }
}

/// Encodes a response head as HTTP/1. `bare` is true if no body follows; `None` for an interim response, and for a
/// response to HEAD.
pub fn status_lines(status: StatusCode, fields: &HeaderMap, bare: Option<bool>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" \r\n");
    for (name, value) in fields {
        push(out, name.as_str(), value.as_bytes());
    }
    let has_length = fields.contains_key(header::CONTENT_LENGTH);
    // These responses have no body, whatever their fields say.
    let none = matches!(status.as_u16(), 204 | 304);
    match bare.filter(|_| !none) {
        Some(true) if !has_length => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Some(false) if !has_length => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Some(_) | None => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// An HTTP/2 request from the head we write for HTTP/1. `None` if that is invalid, which would be our bug. `trailers`
/// is true if the client accepts trailers.
#[must_use]
pub fn request(head: &[u8], scheme: &str, trailers: bool) -> Option<::http::Request<()>> {
    let line_end = memchr::memmem::find(head, b"\r\n")?;
    let line = std::str::from_utf8(&head[..line_end]).ok()?;
    let (method, rest) = line.split_once(' ')?;
    let (target, _) = rest.rsplit_once(' ')?;
    let mut map = fields(&head[line_end + 2..])?;
    let authority = map.remove(header::HOST)?;
    if trailers {
        map.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let path = if target == "*" { "*" } else { target };
    let uri = ::http::Uri::builder()
        .scheme(scheme)
        .authority(authority.as_bytes())
        .path_and_query(path)
        .build()
        .ok()?;
    let mut request = ::http::Request::builder().method(method).uri(uri).body(()).ok()?;
    *request.headers_mut() = map;
    Some(request)
}

/// A trailer section as lines that end with an empty line, for the HTTP/1 parser.
#[must_use]
pub fn trailer_lines(map: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in map {
        push(&mut lines, name.as_str(), value.as_bytes());
    }
    lines.extend_from_slice(b"\r\n");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Request;

    fn translate(build: request::Builder, ends: bool) -> Result<String, Wrong> {
        let (parts, ()) = build.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        request_head(&parts, ends, None, &Limits::default(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn get() -> request::Builder {
        Request::get("https://shop.example/a?b")
    }

    #[test]
    fn a_request_becomes_lines_and_cookies_become_one() {
        let text = translate(get().header("cookie", "a=1").header("cookie", "b=2"), true).unwrap();
        assert_eq!(text, "GET /a?b HTTP/1.1\r\nhost: shop.example\r\ncookie: a=1; b=2\r\n\r\n");
        let text = translate(Request::post("http://h/").header("host", "h"), false).unwrap();
        assert_eq!(text, "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
        let text = translate(Request::post("http://h/").header("content-length", "3"), false);
        assert!(text.unwrap().ends_with("content-length: 3\r\n\r\n"));
    }

    #[test]
    fn forbidden_fields_are_malformed() {
        for (name, value) in [
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "1"),
            ("proxy-connection", "x"),
            ("te", "gzip"),
            ("host", "other.example"),
            ("x-a", " padded"),
        ] {
            let result = translate(get().header(name, value), true);
            assert!(matches!(result, Err(Wrong::Malformed(_))), "{name}: {value}: {result:?}");
        }
        assert!(translate(get().header("te", "trailers"), true).is_ok());
        let many = (0..100).fold(get(), |build, n| build.header(format!("x-{n}"), "1"));
        assert_eq!(translate(many, true), Err(Wrong::Refused(Violation::HeadTooLarge)));
    }

    #[test]
    fn connection_fields_of_a_response_are_removed() {
        let lines = b"content-type: text/plain\r\ntransfer-encoding: chunked\r\nconnection: close\r\nx-a: 1\r\n\r\n";
        let response = response_head(200, lines).unwrap();
        assert_eq!(response.headers().len(), 2);
        assert!(response_head(200, b"nonsense\r\n").is_none());
    }
}
