//! Compression of responses: by which coding, which responses, and what changes in their heads.
//!
//! Content codings are those of RFC 9110 §8.4.1, chosen by the request's `Accept-Encoding` (§12.5.3). A coding makes another
//! representation of the same resource, so that the head changes as well: the entity tag becomes weak, because it was made
//! for other bytes; `Content-Length` and `Accept-Ranges` are of the cluster's bytes and are left out; caches learn from
//! `Vary` that the response depends on `Accept-Encoding`.
//!
//! # Invariants
//! * A response that would be compressed for another client names `Accept-Encoding` in `Vary`, although it stays plain.
//! * The answers to `HEAD` and the 304 have the fields of the 200 to the same request.
//! * What states something about the exact bytes (ranges, digests, `no-transform`) is never touched.
//!
//! # Not here
//! Data of the class `sensitive` has no [`Compression`] at all: the configuration leaves it out, because the length of a
//! compressed response can reveal a secret within it (BREACH). The encoders are in `proxy::encoder`.

/// The content codings, in the order of preference by default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Algorithm {
    /// All of them, in the order of preference by default.
    pub const ALL: &[Algorithm] = &[Algorithm::Zstd, Algorithm::Brotli, Algorithm::Gzip];

    /// The name in `Content-Encoding`, in the configuration and in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Algorithm::Zstd => "zstd",
            Algorithm::Brotli => "br",
            Algorithm::Gzip => "gzip",
        }
    }

    /// Whether a client's word for a coding means this one; `x-gzip` is gzip (RFC 9110 §8.4.1.3).
    fn is_named(self, word: &[u8]) -> bool {
        word.eq_ignore_ascii_case(self.label().as_bytes())
            || self == Algorithm::Gzip && word.eq_ignore_ascii_case(b"x-gzip")
    }
}

/// The content types that are compressed by default: text, and formats that are text within.
pub const TYPES: &[&str] = &[
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "application/x-ndjson",
    "application/*+json",
    "application/*+xml",
    "image/svg+xml",
    "font/otf",
    "font/ttf",
];

/// The least size that is compressed by default, in bytes: below it a packet is saved by nothing.
pub const MIN_SIZE: u64 = 1024;

/// A pattern of content types.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TypePattern {
    /// What a type begins with, in lower case.
    start: String,
    /// What it ends with, behind at least one further character; `None` if the start is the whole type.
    end: Option<String>,
}

impl TypePattern {
    /// Reads `TYPE/SUBTYPE`, `TYPE/*` or `TYPE/*+SUFFIX`.
    ///
    /// # Errors
    /// Why the text is no such pattern, or none that is ever compressed.
    pub fn parse(text: &str) -> Result<TypePattern, &'static str> {
        let lower = text.to_ascii_lowercase();
        let is_token = |part: &str| {
            let is_mark = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
            !part.is_empty() && part.chars().all(is_mark)
        };
        let Some((kind, subtype)) = lower.split_once('/').filter(|(kind, _)| is_token(kind)) else {
            return Err("not a content type");
        };
        let pattern = match subtype.strip_prefix('*') {
            Some(end)
                if end.is_empty() || end.len() > 1 && end.starts_with('+') && is_token(end) =>
            {
                TypePattern { start: format!("{kind}/"), end: Some(end.to_owned()) }
            }
            None if is_token(subtype) => TypePattern { start: lower, end: None },
            Some(_) | None => return Err("not a content type"),
        };
        match is_never(pattern.start.as_bytes()) {
            true => Err("never compressed"),
            false => Ok(pattern),
        }
    }

    /// Whether a content type, without its parameters, is one of these.
    fn matches(&self, kind: &[u8]) -> bool {
        let Some(end) = &self.end else { return kind.eq_ignore_ascii_case(self.start.as_bytes()) };
        let (start, end) = (self.start.as_bytes(), end.as_bytes());
        kind.len() > start.len() + end.len()
            && kind[..start.len()].eq_ignore_ascii_case(start)
            && kind[kind.len() - end.len()..].eq_ignore_ascii_case(end)
    }
}

/// Whether a content type is never compressed: a stream of events must not wait for an encoder, and gRPC compresses its
/// messages itself.
fn is_never(kind: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let start = kind.get(..GRPC.len()).unwrap_or_default();
    kind.eq_ignore_ascii_case(b"text/event-stream")
        || start.eq_ignore_ascii_case(GRPC)
            && matches!(kind.get(GRPC.len()), None | Some(b'+' | b'-'))
}

/// What is compressed, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compression {
    /// The codings, the preferred one first; never empty.
    pub algorithms: Vec<Algorithm>,
    /// The content types.
    pub types: Vec<TypePattern>,
    /// The least length of a body that is compressed, in bytes. A body of unknown length is always long enough.
    pub min_size: u64,
}

/// What the fields of a request say about codings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request<'a> {
    /// The values of `Accept-Encoding`.
    accepts: Vec<&'a [u8]>,
    /// Whether a part of the body is requested, or the body must not be changed.
    keeps: bool,
    /// The lists of `If-None-Match`.
    known: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// Reads the fields of a head: names and values.
    #[must_use]
    pub fn of(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Request<'a> {
        let mut request = Request::default();
        for (name, value) in fields {
            match () {
                () if is(name, "accept-encoding") => request.accepts.push(value),
                () if is(name, "if-none-match") => request.known.push(value),
                () if is(name, "range") => request.keeps = true,
                () if is(name, "cache-control") => request.keeps |= forbids_change(value),
                () => {}
            }
        }
        request
    }

    /// The coding that the client prefers among those on offer, which are in the proxy's order of preference. `None` if the
    /// client prefers the plain form, or accepts none of them. A client without the field gets the plain form: it may be an
    /// old program that decodes nothing.
    fn preferred(&self, offered: &[Algorithm]) -> Option<Algorithm> {
        let weighted = |algorithm: &Algorithm| {
            let weight = self.weight(&|word| algorithm.is_named(word), true).unwrap_or(0);
            (weight > 0).then_some((weight, *algorithm))
        };
        let mut best: Option<(u16, Algorithm)> = None;
        for (weight, algorithm) in offered.iter().filter_map(weighted) {
            if best.is_none_or(|(known, _)| weight > known) {
                best = Some((weight, algorithm));
            }
        }
        let plain = self.weight(&|word| word.eq_ignore_ascii_case(b"identity"), false).unwrap_or(0);
        best.filter(|(weight, _)| *weight >= plain).map(|(_, algorithm)| algorithm)
    }

    /// The weight of a coding in thousandths: that of its own element, else that of `*` where `any` says so. Elements with an
    /// invalid weight are ignored.
    fn weight(&self, is_named: &dyn Fn(&[u8]) -> bool, any: bool) -> Option<u16> {
        let mut of_star = None;
        for element in self.accepts.iter().flat_map(|value| value.split(|byte| *byte == b',')) {
            let mut parts = element.splitn(2, |byte| *byte == b';');
            let word = trim(parts.next().unwrap_or_default());
            let Some(weight) = parts.next().map_or(Some(1000), thousandths) else { continue };
            if is_named(word) {
                return Some(weight);
            }
            if word == b"*" {
                of_star = of_star.or(Some(weight));
            }
        }
        of_star.filter(|_| any)
    }

    /// Whether the client has a representation with this strong entity tag, which was then sent plain.
    fn has_strong(&self, tag: &[u8]) -> bool {
        let tags = self.known.iter().flat_map(|value| value.split(|byte| *byte == b','));
        tags.map(trim).any(|known| known == tag)
    }
}

/// `q=0.5` as thousandths (RFC 9110 §12.4.2); `None` if it is not valid.
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at(parameter.iter().position(|byte| *byte == b'=')?);
    if !trim(name).eq_ignore_ascii_case(b"q") {
        return None;
    }
    let (whole, part) = match trim(&value[1..]) {
        [whole] => (whole, &[][..]),
        [whole, b'.', part @ ..] if part.len() <= 3 => (whole, part),
        _ => return None,
    };
    let digits = (0..3).map(|at| part.get(at).copied().unwrap_or(b'0'));
    let digits = digits.map(|digit| digit.is_ascii_digit().then(|| u16::from(digit - b'0')));
    let part = digits.into_iter().try_fold(0, |sum, digit| Some(sum * 10 + digit?))?;
    match (whole, part) {
        (b'0', part) => Some(part),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

/// What a response's head says about itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Response<'a> {
    /// The status.
    status: u16,
    /// The length of the body, or of the body that a `GET` would get; `None` if it is unknown.
    length: Option<u64>,
    /// `Content-Type`, without parameters.
    kind: Option<&'a [u8]>,
    /// The entity tag.
    tag: Option<&'a [u8]>,
    /// Whether the bytes are bound to the head: encoded already, a part, signed, digested, or not to be changed.
    is_bound: bool,
    /// Whether `Vary` covers `Accept-Encoding`.
    varies: bool,
}

impl<'a> Response<'a> {
    /// Reads the fields of the head of a response with this status: names and values.
    #[must_use]
    pub fn of(
        status: u16,
        length: Option<u64>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Response<'a> {
        let mut response = Response { status, length, ..Response::default() };
        for (name, value) in fields {
            match () {
                () if is(name, "content-type") => {
                    response.kind = value.split(|byte| *byte == b';').next().map(trim);
                }
                () if is(name, "etag") => response.tag = Some(value),
                () if is(name, "vary") => {
                    let mut names = value.split(|byte| *byte == b',').map(trim);
                    response.varies |= names.any(|name| name == b"*" || is(name, ACCEPT_ENCODING));
                }
                () if is(name, "cache-control") => response.is_bound |= forbids_change(value),
                () if is(name, "trailer") => {
                    let mut names = value.split(|byte| *byte == b',').map(trim);
                    response.is_bound |= names.any(binds);
                }
                () => response.is_bound |= binds(name),
            }
        }
        response
    }

    /// Whether the type is one of those, or unknown, as it is for most 304.
    fn may_be(&self, types: &[TypePattern]) -> bool {
        match self.kind {
            Some(kind) => !is_never(kind) && types.iter().any(|one| one.matches(kind)),
            None => self.status == 304,
        }
    }
}

const ACCEPT_ENCODING: &str = "accept-encoding";

/// Whether a field of a response binds its exact bytes.
fn binds(name: &[u8]) -> bool {
    const BINDING: [&str; 7] = [
        "content-encoding",
        "content-range",
        "content-digest",
        "repr-digest",
        "digest",
        "content-md5",
        "signature",
    ];
    BINDING.iter().any(|known| is(name, known))
}

/// Whether a response of this status has a representation that may be encoded.
fn may_be_encoded(status: u16) -> bool {
    // 205 has no body; 206 is a part; the body of a 226 is a difference to a body that the client has.
    matches!(status, 200..=203 | 207..=225 | 300 | 304 | 400..=599)
}

/// What happens to a response.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// The coding of the body. `HEAD` and 304 have the head that belongs to it, and no body.
    pub coding: Option<Algorithm>,
    /// Whether `Vary` must name `Accept-Encoding`, and does not.
    adds_vary: bool,
    /// Whether the entity tag must become weak.
    weakens: bool,
}

impl Compression {
    /// Decides about a response.
    #[must_use]
    pub fn judge(&self, request: &Request<'_>, response: &Response<'_>) -> Verdict {
        let is_kind = response.may_be(&self.types);
        let is_long = response.length.is_none_or(|length| length >= self.min_size);
        let is_candidate =
            is_kind && is_long && !response.is_bound && may_be_encoded(response.status);
        // The whole of which a 206 is a part would vary as well.
        let would_vary = is_candidate || is_kind && response.status == 206;
        let coding = match is_candidate && !request.keeps {
            true => request.preferred(&self.algorithms),
            false => None,
        };
        let weakens = coding.is_some() && response.weakens(request);
        Verdict { coding, adds_vary: would_vary && !response.varies, weakens }
    }
}

impl Response<'_> {
    /// Whether the entity tag is strong, and the client does not have the plain form with this tag.
    fn weakens(&self, request: &Request<'_>) -> bool {
        let Some(tag) = self.tag.filter(|tag| !tag.starts_with(b"W/")) else { return false };
        // A 304 of unknown type confirms what the client has.
        self.kind.is_some() || !request.has_strong(tag)
    }
}

impl Verdict {
    /// The plain form instead, because of the worker's bound.
    #[must_use]
    pub fn plain(self) -> Verdict {
        Verdict { coding: None, weakens: false, ..self }
    }

    /// Whether the cluster's field of this name is left out.
    #[must_use]
    pub fn hides(&self, name: &[u8]) -> bool {
        self.coding.is_some() && is(name, "accept-ranges") || self.weakens && is(name, "etag")
    }

    /// The lines to add to the head of `response`, each complete. `has_tag` is false where the operator's edits remove or
    /// replace the entity tag.
    #[must_use]
    pub fn lines(&self, response: &Response<'_>, has_tag: bool) -> Vec<u8> {
        let mut lines = Vec::with_capacity(96);
        if let Some(coding) = self.coding.filter(|_| response.status != 304) {
            push(&mut lines, "content-encoding", coding.label().as_bytes());
        }
        // A tag without quotes is none: it cannot be made weak, and is left out.
        let tag = response.tag.filter(|tag| self.weakens && has_tag && tag.starts_with(b"\""));
        if let Some(tag) = tag {
            push(&mut lines, "etag", &[b"W/", tag].concat());
        }
        if self.adds_vary {
            push(&mut lines, "vary", ACCEPT_ENCODING.as_bytes());
        }
        lines
    }
}

fn push(lines: &mut Vec<u8>, name: &str, value: &[u8]) {
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

fn is(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

/// Whether a `Cache-Control` field has `no-transform` (RFC 9111 §5.2).
fn forbids_change(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| is(trim(part), "no-transform"))
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Algorithm::{Brotli, Gzip, Zstd};

    fn fields(text: &str) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    fn usual() -> Compression {
        let types = TYPES.iter().map(|kind| TypePattern::parse(kind).unwrap()).collect();
        Compression { algorithms: Algorithm::ALL.to_vec(), types, min_size: MIN_SIZE }
    }

    fn judge(request: &str, status: u16, length: Option<u64>, response: &str) -> (Verdict, String) {
        let response = Response::of(status, length, fields(response));
        let verdict = usual().judge(&Request::of(fields(request)), &response);
        let lines = String::from_utf8(verdict.lines(&response, true)).unwrap();
        (verdict, lines.replace("\r\n", "\n"))
    }

    #[test]
    fn the_client_chooses_by_weight_and_the_proxy_among_equals() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, deflate, br", Some(Brotli)),
            ("gzip", Some(Gzip)),
            ("GZip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("deflate, compress", None),
            ("", None),
            (",,", None),
            ("*", Some(Zstd)),
            ("*;q=0", None),
            ("zstd;q=0, *", Some(Brotli)),
            ("*, zstd;q=0, br;q=0", Some(Gzip)),
            ("gzip, *;q=0", Some(Gzip)),
            ("gzip;q=1.0, br;q=0.999", Some(Gzip)),
            ("gzip;q=0.001", Some(Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("br;q=0.5, gzip;q=0.50", Some(Brotli)),
            ("gzip ; Q=0.9 , br; q=0.3", Some(Gzip)),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0.5, *;q=0.1", None),
            ("identity;q=0", None),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("*;q=0.5, identity;q=0.6", None),
            // Invalid weights are ignored with their element.
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.0001", None),
            ("gzip;q=0.9999", None),
            ("gzip;q=", None),
            ("gzip;q=-1", None),
            ("gzip;q=0.x", None),
            ("gzip;level=9", None),
            ("gzip;q=1;q=0", None),
            ("gzipped, xbr, zst", None),
        ] {
            let request = format!("Accept-Encoding: {accepted}");
            let chosen = Request::of(fields(&request)).preferred(Algorithm::ALL);
            assert_eq!(chosen, expected, "{accepted:?}");
        }
        assert_eq!(Request::default().preferred(Algorithm::ALL), None, "no field");
        let several = "accept-encoding: br;q=0.1\nAccept-Encoding: gzip\n";
        assert_eq!(Request::of(fields(several)).preferred(Algorithm::ALL), Some(Gzip));
        let all = Request::of(fields("accept-encoding: gzip, br, zstd"));
        assert_eq!(all.preferred(&[Gzip, Zstd]), Some(Gzip));
        assert_eq!(all.preferred(&[]), None);
    }

    #[test]
    fn types_are_matched_by_whole_parts() {
        let matches = |pattern: &str, kind: &str| {
            TypePattern::parse(pattern).unwrap().matches(kind.as_bytes())
        };
        for (pattern, kind, expected) in [
            ("text/html", "text/html", true),
            ("TEXT/HTML", "Text/Html", true),
            ("text/html", "text/htmlx", false),
            ("text/*", "text/x", true),
            ("text/*", "text/", false),
            ("text/*", "texts/x", false),
            ("text/*", "context/x", false),
            ("application/*+json", "application/problem+json", true),
            ("application/*+json", "application/+json", false),
            ("application/*+json", "application/json", false),
            ("application/*+json", "application/a+jsonx", false),
            ("application/*+json", "application/A+JSON", true),
        ] {
            assert_eq!(matches(pattern, kind), expected, "{pattern} {kind}");
        }
        for bad in ["", "text", "*", "*/*", "text/", "/html", "text/h*", "*/html", "text/*json"] {
            assert_eq!(TypePattern::parse(bad), Err("not a content type"), "{bad}");
        }
        for bad in ["a b/c", "text/html;q=1", "text/html, a/b", "text/*+", "te*/x"] {
            assert_eq!(TypePattern::parse(bad), Err("not a content type"), "{bad}");
        }
        for never in [
            "text/event-stream",
            "application/grpc",
            "Application/gRPC-web",
            "application/grpc+proto",
        ] {
            assert_eq!(TypePattern::parse(never), Err("never compressed"), "{never}");
        }
    }

    const ASKS: &str = "accept-encoding: gzip";
    const HTML: &str = "content-type: text/html; charset=utf-8";

    #[test]
    fn long_enough_text_is_compressed() {
        let (verdict, lines) = judge(ASKS, 200, Some(1024), HTML);
        assert_eq!(verdict.coding, Some(Gzip));
        assert_eq!(lines, "content-encoding: gzip\nvary: accept-encoding\n");
        assert!(verdict.hides(b"Accept-Ranges") && !verdict.hides(b"etag"));
        for (status, length, response) in [
            (200, None, HTML),
            (404, Some(5000), HTML),
            (503, Some(5000), "Content-Type: application/problem+json"),
            (201, Some(1 << 40), "content-type: IMAGE/SVG+XML"),
            (200, Some(2000), "content-type: text/html\ncache-control: public, max-age=9"),
            (200, Some(2000), "content-type: text/html\ntrailer: server-timing"),
        ] {
            assert_eq!(judge(ASKS, status, length, response).0.coding, Some(Gzip), "{response}");
        }
    }

    #[test]
    fn what_must_not_or_need_not_be_compressed_passes_untouched() {
        let with = |line: &str| format!("{HTML}\n{line}");
        for (status, length, response) in [
            (200, Some(1023), HTML.to_owned()),
            (200, Some(0), HTML.to_owned()),
            (200, Some(5000), String::new()),
            (200, Some(5000), "content-type: image/png".to_owned()),
            (200, Some(5000), "content-type: text/event-stream".to_owned()),
            (200, None, "content-type: Text/Event-Stream;charset=utf-8".to_owned()),
            (200, None, "content-type: application/grpc".to_owned()),
            (200, None, "content-type: application/grpc+json".to_owned()),
            (200, None, "content-type: application/grpc-web+json".to_owned()),
            (101, None, HTML.to_owned()),
            (204, None, HTML.to_owned()),
            (205, None, HTML.to_owned()),
            (226, None, HTML.to_owned()),
            (302, None, HTML.to_owned()),
            (200, None, with("content-encoding: br")),
            (200, None, with("content-encoding: identity")),
            (200, None, with("content-range: bytes 0-1/2")),
            (200, None, with("Content-Digest: sha-256=:x:")),
            (200, None, with("repr-digest: sha-256=:x:")),
            (200, None, with("digest: md5=x")),
            (200, None, with("content-md5: x")),
            (200, None, with("signature: sig1=:x:")),
            (200, None, with("trailer: expires, Content-Digest")),
            (200, None, with("cache-control: max-age=9, No-Transform")),
        ] {
            let (verdict, lines) = judge(ASKS, status, length, &response);
            assert_eq!((verdict, lines.as_str()), (Verdict::default(), ""), "{status} {response}");
        }
    }

    #[test]
    fn what_another_client_would_get_compressed_varies() {
        let vary = "vary: accept-encoding\n";
        for (request, status, length, response, expected) in [
            ("", 200, Some(5000), HTML, vary),
            ("accept-encoding: identity", 200, Some(5000), HTML, vary),
            ("accept-encoding: gzip\nrange: bytes=0-9", 200, Some(5000), HTML, vary),
            ("accept-encoding: gzip\ncache-control: no-transform", 200, None, HTML, vary),
            ("", 206, Some(10), "content-type: text/html\ncontent-range: bytes 0-9/5000", vary),
            ("", 206, Some(10), "content-type: image/png\ncontent-range: bytes 0-9/5000", ""),
            ("", 304, None, "", vary),
            ("", 200, Some(5000), "content-type: text/html\nvary: Origin", vary),
            ("", 200, Some(5000), "content-type: text/html\nvary: a, Accept-Encoding", ""),
            ("", 200, Some(5000), "content-type: text/html\nvary: *", ""),
            ("", 200, Some(5000), "content-type: text/html\nvary: a\nvary: accept-encoding", ""),
        ] {
            let (verdict, lines) = judge(request, status, length, response);
            assert_eq!((verdict.coding, lines.as_str()), (None, expected), "{request} {response}");
            assert!(!verdict.hides(b"etag") && !verdict.hides(b"accept-ranges"));
        }
    }

    #[test]
    fn the_tag_of_other_bytes_is_weak() {
        let tagged = |tag: &str| format!("{HTML}\nvary: *\netag: {tag}");
        for (tag, expected) in [
            ("\"a\"", "content-encoding: gzip\netag: W/\"a\"\n"),
            ("W/\"a\"", "content-encoding: gzip\n"),
            // Not an entity tag.
            ("a", "content-encoding: gzip\n"),
        ] {
            let (verdict, lines) = judge(ASKS, 200, None, &tagged(tag));
            assert_eq!(lines, expected);
            assert_eq!(verdict.hides(b"ETag"), !tag.starts_with("W/"), "{tag}");
        }
        // The plain form has the cluster's bytes.
        assert_eq!(judge("", 200, None, &tagged("\"a\"")).1, "");
        let response = tagged("\"a\"");
        let response = Response::of(200, None, fields(&response));
        let verdict = usual().judge(&Request::of(fields(ASKS)), &response);
        assert_eq!(verdict.plain().lines(&response, true), b"");
        assert!(!verdict.plain().hides(b"etag") && !verdict.plain().hides(b"accept-ranges"));
        // The operator's edits decide about the tag.
        assert_eq!(verdict.lines(&response, false), b"content-encoding: gzip\r\n");
    }

    #[test]
    fn a_304_has_the_tag_of_its_200() {
        let weak = "etag: W/\"a\"\nvary: accept-encoding\n";
        let typed = "content-type: text/html\netag: \"a\"";
        for (request, length, response, expected) in [
            ("accept-encoding: gzip\nif-none-match: W/\"a\"", None, "etag: \"a\"", weak),
            ("accept-encoding: gzip\nif-modified-since: x", None, "etag: \"a\"", weak),
            ("accept-encoding: gzip\nif-none-match: \"b\", W/\"a\"", None, "etag: \"a\"", weak),
            ("accept-encoding: gzip\nif-none-match: \"a\"", None, typed, weak),
            ("accept-encoding: gzip\nif-none-match: W/\"a\"", Some(1024), "etag: \"a\"", weak),
            // The 200 to this request would be plain.
            ("if-none-match: \"a\"", None, typed, "vary: accept-encoding\n"),
            ("accept-encoding: gzip\nif-none-match: W/\"a\"", Some(9), "etag: \"a\"", ""),
            ("accept-encoding: gzip", None, "content-type: image/png\netag: \"a\"", ""),
            // The client has the plain form, of a type that is not known.
            (
                "accept-encoding: gzip\nif-none-match: \"b\", \"a\"",
                None,
                "etag: \"a\"",
                "vary: accept-encoding\n",
            ),
        ] {
            let (_, lines) = judge(request, 304, length, response);
            assert_eq!(lines, expected, "{request} {response}");
        }
    }
}
