//! The canonical form of the request target. Routing and forwarding use the same form, so they cannot disagree.
//!
//! In the path, unreserved characters are decoded, escapes are in upper case, consecutive slashes are merged, and dot
//! segments are resolved (RFC 3986 §6.2.2, §5.2.4). Forms that servers interpret differently are refused in the path: an
//! encoded slash, backslash or NUL, an invalid escape, parameters of a dot segment (`..;`), a byte outside ASCII.
//! The query is forwarded as received, and may contain a stray `%`.

use super::chars::{self, PATH};
use super::{EncodedSlash, Slashes, Violation};

/// A target in its one canonical form.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Target {
    /// Path and query as matched and forwarded; `*` for `OPTIONS *`.
    text: String,
    path_len: usize,
}

impl Target {
    /// No target.
    pub const EMPTY: Target = Target { text: String::new(), path_len: 0 };

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(..self.path_len).unwrap_or_default()
    }

    /// `?` and the query, or nothing.
    #[must_use]
    pub fn query(&self) -> &str {
        self.text.get(self.path_len..).unwrap_or_default()
    }

    /// Path and query.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Clears the target but keeps its allocation for the next request.
    pub fn clear(&mut self) {
        self.text.clear();
        self.path_len = 0;
    }

    /// Parses an origin-form target (RFC 9112 §3.2.1) and replaces the previous one.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for an ambiguous target.
    pub fn read(
        &mut self,
        raw: &[u8],
        encoded: EncodedSlash,
        slashes: Slashes,
    ) -> Result<(), Violation> {
        self.clear();
        let path_end = memchr::memchr(b'?', raw).unwrap_or(raw.len());
        let (path, query) = raw.split_at(path_end);
        if path.first() != Some(&b'/') {
            return Err(Violation::Malformed("a target that does not begin with /"));
        }
        let needs_work = normalise_into(&mut self.text, path, encoded)?;
        match slashes {
            Slashes::Merge if self.text.contains("//") => merge_slashes(&mut self.text),
            Slashes::Refuse if self.text.contains("//") => {
                return Err(Violation::Malformed("consecutive slashes in the path"));
            }
            Slashes::Merge | Slashes::Refuse | Slashes::Keep => {}
        }
        if needs_work || has_dot_segment(&self.text) {
            refuse_dot_parameters(&self.text)?;
            self.text = remove_dot_segments(&self.text);
        }
        self.path_len = self.text.len();
        push_query(&mut self.text, query)
    }

    /// The target of `OPTIONS *` (RFC 9112 §3.2.4).
    pub fn set_asterisk(&mut self) {
        self.clear();
        self.text.push('*');
        self.path_len = 1;
    }
}

/// Appends a path in canonical form; returns whether an escape was decoded, which may have produced a dot.
fn normalise_into(text: &mut String, raw: &[u8], encoded: EncodedSlash) -> Result<bool, Violation> {
    let mut decoded = false;
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        let plain = rest.iter().take_while(|byte| PATH[**byte as usize]).count();
        if plain > 0 {
            let (run, after) = rest.split_at(plain);
            text.push_str(std::str::from_utf8(run).map_err(|_| NOT_ASCII)?);
            rest = after;
            continue;
        }
        match byte {
            b'%' => {
                let value = escape(after).ok_or(Violation::Malformed("an invalid escape"))?;
                decoded |= push_escaped(text, value, encoded)?;
                rest = &after[2..];
            }
            b'#' => return Err(FRAGMENT),
            b'\\' => return Err(Violation::Malformed("a backslash in the path")),
            0x21..=0x7e => {
                push_escape(text, byte);
                rest = after;
            }
            _ => return Err(NOT_ASCII),
        }
    }
    Ok(decoded)
}

/// Appends a query as received. Quotes, angle brackets and bytes outside ASCII are escaped: strict parsers refuse
/// them in a request line, and browsers do not send them.
fn push_query(text: &mut String, raw: &[u8]) -> Result<(), Violation> {
    std::str::from_utf8(raw).map_err(|_| NOT_ASCII)?;
    for byte in raw {
        match byte {
            b'#' => return Err(FRAGMENT),
            b'"' | b'<' | b'>' | 0x80.. => push_escape(text, *byte),
            0x21..=0x7e => text.push(char::from(*byte)),
            ..=0x20 | 0x7f => return Err(NOT_ASCII),
        }
    }
    Ok(())
}

const FRAGMENT: Violation = Violation::Malformed("a fragment in the target");
const NOT_ASCII: Violation = Violation::Malformed("a byte in the target that must be escaped");

fn escape(after: &[u8]) -> Option<u8> {
    Some(chars::hex(*after.first()?)? << 4 | chars::hex(*after.get(1)?)?)
}

fn push_escaped(text: &mut String, value: u8, encoded: EncodedSlash) -> Result<bool, Violation> {
    match value {
        0 => Err(Violation::Malformed("%00 in the path")),
        b'\\' => Err(Violation::Malformed("%5C in the path")),
        b'/' if encoded == EncodedSlash::Refuse => Err(Violation::Malformed("%2F in the path")),
        b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
            text.push(char::from(value));
            Ok(true)
        }
        _ => {
            push_escape(text, value);
            Ok(false)
        }
    }
}

fn push_escape(text: &mut String, value: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(value >> 4)]));
    text.push(char::from(DIGITS[usize::from(value & 15)]));
}

fn merge_slashes(path: &mut String) {
    let mut before = ' ';
    path.retain(|letter| {
        let again = letter == '/' && before == '/';
        before = letter;
        !again
    });
}

/// Refuses `..;x` and `.;x`: servlet containers drop the parameter and then resolve the dots.
fn refuse_dot_parameters(path: &str) -> Result<(), Violation> {
    let climbs = |segment: &str| {
        let parameter = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.'));
        parameter.is_some_and(|rest| rest.starts_with(';') || rest.starts_with("%3B"))
    };
    match path.split('/').any(climbs) {
        true => Err(Violation::Malformed("parameters of a dot segment in the path")),
        false => Ok(()),
    }
}

fn has_dot_segment(path: &str) -> bool {
    path.as_bytes().windows(2).any(|pair| pair == b"/.")
}

/// RFC 3986 §5.2.4 for a path that begins with a slash; `..` at the root is ignored.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    kept.iter().fold(String::with_capacity(path.len()), |mut text, segment| {
        text.push('/');
        text.push_str(segment);
        text
    })
}

/// An authority, as routing and forwarding need it (RFC 9110 §7.2, RFC 3986 §3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Authority<'a> {
    /// Host without port, with brackets, without the final dot; case as received.
    pub host: &'a str,
    /// The port, when given.
    pub port: Option<u16>,
}

/// The host of `host [":" port]`, for routing; empty stands for no host.
///
/// # Errors
/// As [`authority`].
pub fn host(text: &str) -> Result<&str, Violation> {
    if text.is_empty() { Ok("") } else { authority(text.as_bytes()).map(|read| read.host) }
}

/// Reads `host [":" port]`.
///
/// # Errors
/// [`Violation::Malformed`] for user information, an empty host, or a port that is not 1-65,535.
pub fn authority(raw: &[u8]) -> Result<Authority<'_>, Violation> {
    const BAD: Violation = Violation::Malformed("an invalid Host");
    let until = |stop: u8| raw.iter().position(|byte| *byte == stop);
    let (host, port) = match raw.first() {
        Some(b'[') => {
            let (bracketed, after) = raw.split_at(until(b']').ok_or(BAD)? + 1);
            let inside = std::str::from_utf8(&bracketed[1..bracketed.len() - 1]);
            inside.map_err(|_| BAD)?.parse::<std::net::Ipv6Addr>().map_err(|_| BAD)?;
            (bracketed, after)
        }
        _ => raw.split_at(until(b':').unwrap_or(raw.len())),
    };
    let port = match port.split_first() {
        None => None,
        // A port may be empty (RFC 3986 §3.2.3).
        Some((b':', [])) => None,
        Some((b':', digits)) => Some(port_number(digits).ok_or(BAD)?),
        Some(_) => return Err(BAD),
    };
    let bare = host.strip_suffix(b".").unwrap_or(host);
    if bare.is_empty() || !(host.starts_with(b"[") || chars::all(bare, &chars::HOST)) {
        return Err(BAD);
    }
    let host = std::str::from_utf8(bare).map_err(|_| BAD)?;
    Ok(Authority { host, port })
}

fn port_number(digits: &[u8]) -> Option<u16> {
    let number = u16::try_from(chars::decimal(digits)?).ok()?;
    (number > 0 && digits.len() <= 5).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> Result<String, Violation> {
        let mut target = Target::default();
        target.read(raw.as_bytes(), EncodedSlash::Refuse, Slashes::Merge)?;
        Ok(target.as_str().to_owned())
    }

    #[test]
    fn every_spelling_has_one_canonical_form() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b?c=d&e", "/a/b?c=d&e"),
            ("/%61%2d%7E", "/a-~"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../etc", "/etc"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a//b", "/a/b"),
            ("//internal/x", "/internal/x"),
            ("/a/..//internal", "/internal"),
            ("/.//internal", "/internal"),
            ("/%2e//..//internal//", "/internal/"),
            ("/internal;x/y", "/internal;x/y"),
            ("/a/...;x", "/a/...;x"),
            ("/.hidden", "/.hidden"),
            ("/a...b", "/a...b"),
            ("/x?q={1}|[2]", "/x?q={1}|[2]"),
            ("/x?q=100%&u=%u20ac&z=%00&e=%61", "/x?q=100%&u=%u20ac&z=%00&e=%61"),
            ("/x?q=\u{e9}<\">", "/x?q=%C3%A9%3C%22%3E"),
            ("/x?//../..;", "/x?//../..;"),
            ("/x?next=%2Fhome", "/x?next=%2Fhome"),
            ("/x?../..", "/x?../.."),
            ("/?", "/?"),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
            assert_eq!(canonical(expected).as_deref(), Ok(expected), "{raw} is not stable");
        }
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        for raw in [
            "",
            "a",
            "?a",
            "/%2f",
            "/%5c",
            "/%00",
            "/%",
            "/%1",
            "/%zz",
            "/a#b",
            "/a\\b",
            "/a\u{e9}",
            "/a b",
            "/\x7f",
            "/?a#b",
            "/\t",
            "/?a b",
            "/?\x7f",
            "/?\n",
            "/x/..;/a",
            "/x/..;",
            "/x/.;a",
            "/x/%2e%2e;/a",
            "/x/%2e%2E%3b/a",
            "/..;a=1/b",
        ] {
            assert!(canonical(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn an_encoded_slash_may_be_kept_but_is_never_decoded() {
        let mut target = Target::default();
        assert_eq!(target.read(b"/a%2fb", EncodedSlash::Keep, Slashes::Merge), Ok(()));
        assert_eq!(target.as_str(), "/a%2Fb");
    }

    #[test]
    fn slashes_in_a_row_may_be_refused_or_kept() {
        let mut target = Target::default();
        assert!(target.read(b"/a//b", EncodedSlash::Refuse, Slashes::Refuse).is_err());
        assert_eq!(target.read(b"/a/b?//", EncodedSlash::Refuse, Slashes::Refuse), Ok(()));
        assert_eq!(target.read(b"/a//b/../c", EncodedSlash::Refuse, Slashes::Keep), Ok(()));
        assert_eq!(target.as_str(), "/a//c");
    }

    #[test]
    fn authorities() {
        for (raw, host, port) in [
            ("a.example", "a.example", None),
            ("a.example:80", "a.example", Some(80)),
            ("a.example.", "a.example", None),
            ("a:", "a", None),
            ("[::1]:", "[::1]", None),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("127.0.0.1", "127.0.0.1", None),
        ] {
            assert_eq!(authority(raw.as_bytes()), Ok(Authority { host, port }), "{raw}");
        }
        for raw in [
            "",
            ":80",
            ".",
            ":",
            "a::",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "u@a",
            "a b",
            "[::1",
            "[::1]x",
            "[zz]",
            "::1",
            "a:1:2",
            "a/b",
            "a,b:80x",
            "a\\b",
            "a:080080",
            "[1.2.3.4]",
            "a\u{e9}",
        ] {
            assert!(authority(raw.as_bytes()).is_err(), "{raw:?}");
        }
    }
}
