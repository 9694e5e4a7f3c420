//! A request head: parsed once, strictly, into spans over its bytes.

use super::field::{self, ConnectionOptions, Field, Fields, Role, Span};
use super::target::{self, Target};
use super::{Framing, Limits, Version, Violation, chars, swar};

/// A request head. Reused between exchanges, so that parsing does not allocate.
#[derive(Clone, Debug)]
pub struct RequestHead {
    bytes: Vec<u8>,
    method: Span,
    authority: Span,
    host: String,
    target: Target,
    fields: Fields,
    /// The version the client spoke.
    pub version: Version,
    /// The framing of the body.
    pub framing: Framing,
    /// Whether the client keeps the connection open after this exchange.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    upgrade: Option<Span>,
}

impl Default for RequestHead {
    fn default() -> RequestHead {
        RequestHead::EMPTY
    }
}

impl RequestHead {
    /// A head without content.
    pub const EMPTY: RequestHead = RequestHead {
        bytes: Vec::new(),
        method: Span { start: 0, end: 0 },
        authority: Span { start: 0, end: 0 },
        host: String::new(),
        target: Target::EMPTY,
        fields: Fields::EMPTY,
        version: Version::Http11,
        framing: Framing::None,
        keep_alive: true,
        expects_continue: false,
        upgrade: None,
    };

    /// Parses a complete head, as delimited by [`Scanner`](super::scan::Scanner).
    ///
    /// # Errors
    /// The first [`Violation`]; the head's content is then undefined.
    pub fn read(&mut self, head: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
        self.upgrade = None;
        self.authority = Span::default();
        let (raw_target, fields_at) = self.read_request_line(limits)?;
        self.fields.read(&self.bytes, fields_at, limits)?;
        let options = field::connection_options(&self.bytes, &mut self.fields)?;
        self.read_target(raw_target, limits)?;
        self.read_framing()?;
        self.read_expectation()?;
        self.read_upgrade(options)?;
        self.keep_alive = match self.version {
            Version::Http11 => !options.close,
            Version::Http10 => options.keep_alive && !options.close,
        };
        Ok(())
    }

    fn read_request_line(&mut self, limits: &Limits) -> Result<(Span, usize), Violation> {
        const BAD: Violation = Violation::Malformed("an invalid request line");
        let line_end = swar::find(&self.bytes, b'\n').ok_or(BAD)?;
        let line = self.bytes[..line_end].strip_suffix(b"\r").ok_or(BAD)?;
        let is_space = |byte: &u8| *byte == b' ';
        let method_end = line.iter().position(is_space).ok_or(BAD)?;
        let target_end = line.iter().rposition(is_space).ok_or(BAD)?;
        if target_end == method_end {
            return Err(BAD);
        }
        if !chars::is_token(&line[..method_end]) {
            return Err(Violation::Malformed("an invalid method"));
        }
        self.version = version(&line[target_end + 1..])?;
        let target = Span::new(method_end + 1, target_end);
        if target_end - method_end - 1 > limits.target_bytes {
            return Err(Violation::TargetTooLong);
        }
        if target.of(line).iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f)) {
            return Err(Violation::Malformed("an invalid byte in the target"));
        }
        if &line[..method_end] == b"CONNECT" {
            return Err(Violation::Method);
        }
        self.method = Span::new(0, method_end);
        Ok((target, line_end + 1))
    }

    fn read_target(&mut self, raw: Span, limits: &Limits) -> Result<(), Violation> {
        let host = self.fields.of(Role::Host).next().map(|field| field.value);
        if self.fields.of(Role::Host).nth(1).is_some() {
            return Err(Violation::Malformed("several Host fields"));
        }
        if host.is_none() && self.version == Version::Http11 {
            return Err(Violation::Malformed("no Host"));
        }
        let bytes = raw.of(&self.bytes);
        self.authority = host.unwrap_or_default();
        self.host.clear();
        if let Some(host) = host {
            self.host.push_str(target::authority(host.of(&self.bytes))?.host);
        }
        if bytes == b"*" {
            if self.method.of(&self.bytes) != b"OPTIONS" {
                return Err(Violation::Malformed("an asterisk target without OPTIONS"));
            }
            self.target.set_asterisk();
        } else if bytes.first() == Some(&b'/') {
            self.target.read(bytes, limits.encoded_slash, limits.slashes)?;
        } else {
            self.read_absolute(raw, limits)?;
        }
        self.host.make_ascii_lowercase();
        Ok(())
    }

    /// Absolute form takes precedence over `Host`, which is derived from it (RFC 9112 §3.2.2).
    fn read_absolute(&mut self, raw: Span, limits: &Limits) -> Result<(), Violation> {
        const BAD: Violation = Violation::Malformed("an invalid target");
        let bytes = raw.of(&self.bytes);
        let scheme_len = ["http://", "https://"]
            .into_iter()
            .find(|scheme| {
                bytes.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes()))
            })
            .map(str::len)
            .ok_or(BAD)?;
        let rest = &bytes[scheme_len..];
        let path_at =
            rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let start = raw.range().start + scheme_len;
        self.authority = Span::new(start, start + path_at);
        self.host.clear();
        self.host.push_str(target::authority(&rest[..path_at])?.host);
        match rest.get(path_at) {
            Some(b'/') => self.target.read(&rest[path_at..], limits.encoded_slash, limits.slashes),
            Some(b'?') => {
                let rooted = [b"/", &rest[path_at..]].concat();
                self.target.read(&rooted, limits.encoded_slash, limits.slashes)
            }
            Some(_) => Err(Violation::Malformed("a fragment in the target")),
            None => self.target.read(b"/", limits.encoded_slash, limits.slashes),
        }
    }

    fn read_framing(&mut self) -> Result<(), Violation> {
        let length = field::content_length(&self.bytes, &self.fields)?;
        let has_coding = self.fields.of(Role::TransferEncoding).next().is_some();
        if has_coding && length.is_some() {
            return Err(Violation::Malformed("Content-Length and Transfer-Encoding"));
        }
        if has_coding && self.version == Version::Http10 {
            return Err(Violation::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        let chunked = field::is_chunked(&self.bytes, &self.fields)?;
        self.framing = match (chunked, length) {
            (true, _) => Framing::Chunked,
            (false, None | Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        };
        Ok(())
    }

    fn read_expectation(&mut self) -> Result<(), Violation> {
        self.expects_continue = false;
        for field in self.fields.of(Role::Expect) {
            if !field.value.of(&self.bytes).eq_ignore_ascii_case(b"100-continue") {
                return Err(Violation::Expectation);
            }
            self.expects_continue =
                self.version == Version::Http11 && self.framing != Framing::None;
        }
        Ok(())
    }

    /// An upgrade that may become a tunnel: in both fields, for one token, without a body. All other offers are ignored,
    /// as RFC 9110 §7.8 permits.
    fn read_upgrade(&mut self, options: ConnectionOptions) -> Result<(), Violation> {
        if !options.upgrade || self.version == Version::Http10 {
            return Ok(());
        }
        let mut offers = self.fields.of(Role::Upgrade);
        let Some(span) = offers.next().map(|field| field.value) else { return Ok(()) };
        let is_sole = offers.next().is_none();
        let is_protocol =
            |text: &[u8]| text.iter().all(|b| chars::TOKEN[*b as usize] || *b == b'/');
        let all = self.fields.of(Role::Upgrade).map(|field| field.value.of(&self.bytes));
        if !all.flat_map(chars::list).all(is_protocol) {
            return Err(Violation::Malformed("an invalid Upgrade"));
        }
        let value = span.of(&self.bytes);
        let is_tunnel = is_sole && !value.is_empty() && is_protocol(value);
        if is_tunnel && self.framing != Framing::None {
            return match value.eq_ignore_ascii_case(WEBSOCKET) {
                true => Err(Violation::Malformed("an Upgrade with a body")),
                false => Ok(()),
            };
        }
        self.upgrade = is_tunnel.then_some(span);
        Ok(())
    }

    /// Ignores an offered upgrade that is neither `websocket` nor one of these.
    pub fn limit_upgrade(&mut self, allowed: &[String]) {
        let is_it = |token: &[u8]| {
            let mut others = allowed.iter().map(String::as_bytes);
            token.eq_ignore_ascii_case(WEBSOCKET) || others.any(|o| o.eq_ignore_ascii_case(token))
        };
        self.upgrade = self.upgrade.filter(|span| is_it(span.of(&self.bytes)));
    }

    /// The head's bytes, which all spans refer to.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The method, a token.
    #[must_use]
    pub fn method(&self) -> &str {
        std::str::from_utf8(self.method.of(&self.bytes)).unwrap_or_default()
    }

    /// Host and port as they are forwarded; empty for an HTTP/1.0 request without `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        let written = std::str::from_utf8(self.authority.of(&self.bytes)).unwrap_or_default();
        // An empty port is valid and has no meaning.
        written.strip_suffix(':').unwrap_or(written)
    }

    /// The host in lower case, without port, for route matching.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The canonical target.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// All fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        self.fields.all()
    }

    /// Whether a field name contains an underscore.
    #[must_use]
    pub fn has_underscores(&self) -> bool {
        self.fields.has_underscores()
    }

    /// The token of an `Upgrade` that may become a tunnel.
    #[must_use]
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|span| span.of(&self.bytes))
    }

    /// The first value of the field with this role.
    #[must_use]
    pub fn value(&self, role: Role) -> Option<&[u8]> {
        self.fields.of(role).next().map(|field| field.value.of(&self.bytes))
    }

    /// The first value of the field `name`, in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .all()
            .iter()
            .find(|field| field.name.of(&self.bytes).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value.of(&self.bytes))
    }

    /// Whether a field of this name, in any case, has a value that passes the test.
    #[must_use]
    pub fn has_value(&self, name: &str, passes: &dyn Fn(&[u8]) -> bool) -> bool {
        self.fields.all().iter().any(|field| {
            field.name.of(&self.bytes).eq_ignore_ascii_case(name.as_bytes())
                && passes(field.value.of(&self.bytes))
        })
    }

    /// The method of the request that a preflight announces (Fetch §3.3.2); `None` for any other request.
    #[must_use]
    pub fn announced_method(&self) -> Option<&str> {
        if self.method() != "OPTIONS" {
            return None;
        }
        self.field("origin")?;
        std::str::from_utf8(self.field("access-control-request-method")?).ok()
    }

    /// Whether the method is idempotent (RFC 9110 §9.2.2), so that the request may be retried.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        const ALL: [&[u8]; 6] = [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"];
        ALL.contains(&self.method.of(&self.bytes))
    }

    /// `Max-Forwards`, for the methods that use it (RFC 9110 §7.6.2).
    #[must_use]
    pub fn max_forwards(&self) -> Option<u64> {
        match self.method.of(&self.bytes) {
            b"OPTIONS" | b"TRACE" => self.value(Role::MaxForwards).and_then(chars::decimal),
            _ => None,
        }
    }

    /// Whether the response consists of a head only (RFC 9110 §9.3.2).
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method.of(&self.bytes) == b"HEAD"
    }
}

/// The upgrade that is always allowed.
const WEBSOCKET: &[u8] = b"websocket";

fn version(text: &[u8]) -> Result<Version, Violation> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::Http11),
        _ => Err(Violation::Malformed("an unsupported version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<RequestHead, Violation> {
        let mut request = RequestHead::default();
        request.read(head.as_bytes(), &Limits::default())?;
        Ok(request)
    }

    #[test]
    fn an_ordinary_request() {
        let head =
            read("GET /a/../b?x=1 HTTP/1.1\r\nHost: A.example:8080\r\nX: y\r\n\r\n").unwrap();

        assert_eq!(head.method(), "GET");
        assert_eq!(head.host(), "a.example");
        assert_eq!(head.authority(), "A.example:8080");
        assert_eq!(head.target().as_str(), "/b?x=1");
        assert_eq!(head.framing, Framing::None);
        assert!(head.keep_alive);
    }

    #[test]
    fn the_absolute_form_wins_over_host() {
        let head = read("GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();

        assert_eq!((head.host(), head.authority()), ("b.example", "b.example"));
    }

    #[test]
    fn a_nominated_field_is_for_one_hop_unless_it_is_protected() {
        let head = read(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-one, authorization, host\r\nX-One: 1\r\n\
             Authorization: b\r\n\r\n",
        )
        .unwrap();

        let roles: Vec<Role> = head.fields().iter().map(|field| field.role).collect();
        assert_eq!(roles, [Role::Host, Role::Connection, Role::HopByHop, Role::Protected]);
    }

    #[test]
    fn upgrades_need_both_fields_and_no_body() {
        let offer =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(read(offer).unwrap().upgrade(), Some(&b"websocket"[..]));
        let only_one = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(read(only_one).unwrap().upgrade(), None);
        for offer in ["TLS/1.2, TLS/1.1", "websocket, x", "h2c, websocket", "websocket,", ""] {
            let list = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {offer}\r\n\r\n"
            );
            assert_eq!(read(&list).unwrap().upgrade(), None, "{offer}");
        }
        let other = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
        for (allowed, expected) in
            [(vec![], None), (vec!["spdy/3.1".to_owned()], Some(&b"SPDY/3.1"[..]))]
        {
            let mut head = read(other).unwrap();
            head.limit_upgrade(&allowed);
            assert_eq!(head.upgrade(), expected);
        }
        let with_body = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\nContent-Length: 1\r\n\r\n";
        assert_eq!(read(with_body).unwrap().upgrade(), None);
        let mut h2c =
            read("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
                .unwrap();
        h2c.limit_upgrade(&[]);
        assert_eq!(h2c.upgrade(), None);
        let body = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n";
        assert!(read(body).is_err());
    }
}
