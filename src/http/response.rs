//! A cluster's response head, parsed as strictly as a request's: a cluster may be hostile, too.

use super::field::{self, Field, Fields, Role, Span};
use super::{Framing, Limits, Underscores, Version, Violation, swar};

/// A response head, as spans over its bytes. Reused between exchanges.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status code, 100-999: codes above 599 have no defined meaning, but are in use.
    pub status: u16,
    reason: Span,
    fields: Fields,
    /// The framing of the body, given the request's method.
    pub framing: Framing,
    /// The length in the head, also without a body (`HEAD`, 304).
    pub stated_length: Option<u64>,
    /// Whether the cluster keeps the connection open.
    pub keep_alive: bool,
    /// Whether this is the 101 response to an upgrade.
    pub upgrades: bool,
}

impl Default for ResponseHead {
    fn default() -> ResponseHead {
        ResponseHead {
            status: 0,
            reason: Span::default(),
            fields: Fields::EMPTY,
            framing: Framing::None,
            stated_length: None,
            keep_alive: false,
            upgrades: false,
        }
    }
}

/// The properties of the request that the parsing of its response depends on.
#[derive(Clone, Copy, Debug)]
pub struct RequestKind<'a> {
    /// `HEAD`: the response has no body, whatever its fields say.
    pub head: bool,
    /// The token of the forwarded upgrade.
    pub upgrade: Option<&'a [u8]>,
}

impl ResponseHead {
    /// Parses a complete head.
    ///
    /// # Errors
    /// The first [`Violation`]: the response is then 502 and the connection is not reused.
    pub fn read(
        &mut self,
        bytes: &[u8],
        request_kind: RequestKind<'_>,
        limits: &Limits,
    ) -> Result<(), Violation> {
        let (version, fields_at) = self.read_status_line(bytes)?;
        self.fields.read(bytes, fields_at, limits)?;
        let options = field::connection_options(bytes, &mut self.fields)?;
        self.keep_alive = match version {
            Version::Http11 => !options.close,
            Version::Http10 => options.keep_alive && !options.close,
        };
        self.upgrades = self.status == 101;
        if self.upgrades {
            self.check_upgrade(bytes, options.upgrade, request_kind)?;
        }
        self.read_framing(bytes, version, request_kind)
    }

    fn read_status_line(&mut self, bytes: &[u8]) -> Result<(Version, usize), Violation> {
        const BAD: Violation = Violation::Malformed("an invalid status line");
        let line_end = swar::value_len(bytes);
        let (line, rest) = bytes.split_at(line_end);
        if !rest.starts_with(b"\r\n") {
            return Err(BAD);
        }
        let version = match line.get(..9) {
            Some(b"HTTP/1.1 ") => Version::Http11,
            Some(b"HTTP/1.0 ") => Version::Http10,
            _ => return Err(BAD),
        };
        let digits =
            line.get(9..12).filter(|code| code.iter().all(u8::is_ascii_digit)).ok_or(BAD)?;
        self.status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        if self.status < 100 {
            return Err(BAD);
        }
        self.reason = match line.get(12) {
            None => Span::new(12, 12),
            Some(b' ') => Span::new(13, line_end),
            Some(_) => return Err(BAD),
        };
        Ok((version, line_end + 2))
    }

    fn check_upgrade(
        &self,
        bytes: &[u8],
        option: bool,
        request_kind: RequestKind<'_>,
    ) -> Result<(), Violation> {
        let token = self.value(bytes, Role::Upgrade);
        match (request_kind.upgrade, token) {
            (Some(requested), Some(given)) if option && requested.eq_ignore_ascii_case(given) => {
                Ok(())
            }
            _ => Err(Violation::Malformed("101 for an upgrade that was not requested")),
        }
    }

    fn read_framing(
        &mut self,
        bytes: &[u8],
        version: Version,
        request_kind: RequestKind<'_>,
    ) -> Result<(), Violation> {
        let length = field::content_length(bytes, &self.fields)?;
        let has_coding = self.fields.of(Role::TransferEncoding).next().is_some();
        self.stated_length = length.filter(|_| !has_coding);
        // These responses have no body, whatever their fields say (RFC 9112 §6.3).
        if matches!(self.status, 100..=199 | 204 | 304) {
            self.framing = Framing::None;
            // A cluster that announces chunks may send them: they must not be read as another response.
            self.keep_alive &= !has_coding || self.status == 304;
            return Ok(());
        }
        if has_coding && length.is_some() {
            return Err(Violation::Malformed("Content-Length and Transfer-Encoding"));
        }
        if has_coding && version == Version::Http10 {
            return Err(Violation::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        let chunked = field::is_chunked(bytes, &self.fields)?;
        self.framing = match (request_kind.head, chunked, length) {
            (true, ..) | (false, false, Some(0)) => Framing::None,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => Framing::Close,
        };
        if self.framing == Framing::Close {
            self.keep_alive = false;
        }
        Ok(())
    }

    /// An interim response other than 101 (RFC 9110 §15.2).
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The reason phrase.
    #[must_use]
    pub fn reason<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.reason.of(bytes)
    }

    /// All fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        self.fields.all()
    }

    /// Removes the fields whose names `is_hidden` selects.
    pub fn hide(&mut self, bytes: &[u8], is_hidden: impl Fn(&[u8]) -> bool) {
        self.fields.hide(bytes, is_hidden);
    }

    /// The first value of a field between edges, as text.
    #[must_use]
    pub fn tidegate_field<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a str> {
        let mut named = self
            .fields
            .of(Role::Tidegate)
            .filter(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
        std::str::from_utf8(named.next()?.value.of(bytes)).ok()
    }

    /// The first value of the field with this role.
    #[must_use]
    pub fn value<'a>(&self, bytes: &'a [u8], role: Role) -> Option<&'a [u8]> {
        self.fields.of(role).next().map(|field| field.value.of(bytes))
    }
}

/// The name of the first field line that is invalid by itself, escaped and truncated; empty if every line is valid.
#[must_use]
pub fn offender(head: &[u8]) -> String {
    const SHOWN: usize = 40;
    let limits = Limits { underscores: Underscores::Allow, ..Limits::default() };
    let is_bad = |line: &&[u8]| {
        let text = [*line, b"\r\n"].concat();
        !matches!(*line, b"\r\n") && Fields::EMPTY.clone().read(&text, 0, &limits).is_err()
    };
    let Some(line) = head.split_inclusive(|byte| *byte == b'\n').skip(1).find(is_bad) else {
        return String::new();
    };
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.iter().take(SHOWN).flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RequestKind<'static> = RequestKind { head: false, upgrade: None };

    fn read(head: &str, request_kind: RequestKind<'_>) -> Result<ResponseHead, Violation> {
        let mut response = ResponseHead::default();
        response.read(head.as_bytes(), request_kind, &Limits::default())?;
        Ok(response)
    }

    #[test]
    fn framing_follows_the_rfc() {
        let head = RequestKind { head: true, upgrade: None };
        for (text, kind, framing, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", PLAIN, Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, Framing::None, true),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", PLAIN, Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\n", PLAIN, Framing::Close, false),
            ("HTTP/1.1 999 No\r\nContent-Length: 2\r\n\r\n", PLAIN, Framing::Length(2), true),
            ("HTTP/1.1 204 No Content\r\n\r\n", PLAIN, Framing::None, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", PLAIN, Framing::None, true),
            ("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", PLAIN, Framing::None, false),
            ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", PLAIN, Framing::None, true),
            ("HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n", PLAIN, Framing::None, true),
            ("HTTP/1.1 100 C\r\nContent-Length: 3\r\n\r\n", PLAIN, Framing::None, true),
            ("HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n", PLAIN, Framing::None, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", PLAIN, Framing::Length(1), false),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                PLAIN,
                Framing::None,
                false,
            ),
        ] {
            let response = read(text, kind).unwrap();
            assert_eq!((response.framing, response.keep_alive), (framing, keep_alive), "{text}");
        }
    }

    #[test]
    fn hostile_responses_are_refused() {
        for text in [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 O\x01K\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        ] {
            assert!(read(text, PLAIN).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_invalid_line_is_named() {
        for (lines, expected) in [
            ("A: b\r\nX-Bad : c\r\nD: e\r\n", "X-Bad "),
            ("A: b\r\nX\u{1b}[31m: c\r\n", "X\\x1b[31m"),
            ("X-Ctl: a\u{1}b\r\n", "X-Ctl"),
            ("X-Lf: a\nB: c\r\n", "X-Lf"),
            ("A: b\r\n\tfolded\r\n", "\\tfolded\\r\\n"),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", ""),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            assert_eq!(offender(head.as_bytes()), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_101_must_match_the_requested_upgrade() {
        let request_kind = RequestKind { head: false, upgrade: Some(b"websocket") };
        let text = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        assert!(read(text, request_kind).unwrap().upgrades);
        let framed = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n";
        let response = read(framed, request_kind).unwrap();
        assert!(response.upgrades && response.framing == Framing::None);
        let other = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
        assert!(read(other, request_kind).is_err());
    }
}
