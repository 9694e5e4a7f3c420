//! Fields of a head or a trailer section: strict parsing of lines, and roles of the names a proxy must know.

use super::chars::{self, NAME, UNDERSCORE};
use super::{Limits, Underscores, Violation, swar};

/// A range of a head's bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span `start..end`. Callers stay within `Limits::head_bytes`, which is at most 256 KiB.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= u32::MAX as usize, "{start}..{end}");
        Span { start: start as u32, end: end as u32 }
    }

    /// The range of bytes.
    #[must_use]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes in `bytes`.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// The name, as received.
    pub name: Span,
    /// The value, without white space around it.
    pub value: Span,
    /// The role of the name.
    pub role: Role,
}

impl Field {
    /// The whole line, if it was received in the form we write: one space before the value, none after it.
    #[must_use]
    pub fn line<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (start, end) = (self.name.range().start, self.value.range().end + 2);
        let line = bytes.get(start..end)?;
        let between = bytes.get(self.name.range().end..self.value.range().start)?;
        (between == b": " && line.ends_with(b"\r\n")).then_some(line)
    }
}

/// The role of a field for a proxy. Names without a role are [`Role::Plain`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Forwarded as it is.
    Plain,
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Upgrade`
    Upgrade,
    /// `Expect`
    Expect,
    /// `TE`: forwarded only as `trailers`.
    Te,
    /// `Trailer`
    Trailer,
    /// `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`, `HTTP2-Settings` and the names listed in `Connection`: for
    /// one hop only (RFC 9110 §7.6.1).
    HopByHop,
    /// `X-Forwarded-For`
    ForwardedFor,
    /// `X-Forwarded-Proto`
    ForwardedProto,
    /// `X-Forwarded-Host`
    ForwardedHost,
    /// `Forwarded`, `X-Real-IP` and other fields about the client: trusted from trusted peers only.
    ForwardedOther,
    /// `X-Forwarded-Client-Cert`: by the listener's setting.
    ForwardedClientCert,
    /// `X-Request-Id`
    RequestId,
    /// `traceparent`
    TraceParent,
    /// `tracestate`
    TraceState,
    /// `Via`: the proxies that the message has passed.
    Via,
    /// `Max-Forwards`: how many more times an OPTIONS or TRACE request may be forwarded.
    MaxForwards,
    /// `Authorization`, `Cookie`: `Connection` cannot list them.
    Protected,
    /// `User-Agent`, for the access log.
    UserAgent,
    /// `tidegate-*` and `endpoint-load-metrics`: exchanged between the edge proxies of two sites only.
    Tidegate,
    /// `Content-Type`, which identifies gRPC.
    ContentType,
    /// `Date`
    Date,
}

impl Role {
    /// The role of a field name.
    #[must_use]
    pub fn of(name: &[u8]) -> Role {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Role::Te,
            3 if is("via") => Role::Via,
            4 if is("host") => Role::Host,
            4 if is("date") => Role::Date,
            6 if is("expect") => Role::Expect,
            6 if is("cookie") => Role::Protected,
            7 if is("upgrade") => Role::Upgrade,
            7 if is("trailer") => Role::Trailer,
            9 if is("forwarded") || is("x-real-ip") => Role::ForwardedOther,
            10 if is("connection") => Role::Connection,
            10 if is("keep-alive") => Role::HopByHop,
            10 if is("user-agent") => Role::UserAgent,
            10 if is("tracestate") => Role::TraceState,
            11 if is("traceparent") => Role::TraceParent,
            12 if is("x-request-id") => Role::RequestId,
            12 if is("content-type") => Role::ContentType,
            12 if is("max-forwards") => Role::MaxForwards,
            13 if is("authorization") => Role::Protected,
            14 if is("content-length") => Role::ContentLength,
            14 if is("http2-settings") => Role::HopByHop,
            15 if is("x-forwarded-for") => Role::ForwardedFor,
            16 if is("proxy-connection") => Role::HopByHop,
            16 if is("x-forwarded-host") => Role::ForwardedHost,
            16 if is("x-forwarded-port") => Role::ForwardedOther,
            17 if is("x-forwarded-proto") => Role::ForwardedProto,
            17 if is("transfer-encoding") => Role::TransferEncoding,
            18 if is("proxy-authenticate") => Role::HopByHop,
            19 if is("proxy-authorization") => Role::HopByHop,
            23 if is("x-forwarded-client-cert") => Role::ForwardedClientCert,
            21 if is("endpoint-load-metrics") => Role::Tidegate,
            _ if starts_with(name, b"tidegate-") => Role::Tidegate,
            _ if starts_with(name, b"x-forwarded-") => Role::ForwardedOther,
            _ => Role::Plain,
        }
    }

    /// The role's bit in a set of roles.
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether `Connection` may list the field. A sender cannot remove fields that frame, route, authenticate or trace a
    /// request.
    #[must_use]
    pub fn may_be_nominated(self) -> bool {
        matches!(
            self,
            Role::Plain
                | Role::UserAgent
                | Role::Trailer
                | Role::HopByHop
                | Role::Date
                | Role::ContentType
                | Role::RequestId
        )
    }
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix)
}

/// The fields of a head, in order, and the set of roles among them: most lookups are for a role that is absent.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    roles: u32,
    has_underscores: bool,
}

impl Fields {
    /// No fields.
    pub const EMPTY: Fields = Fields { list: Vec::new(), roles: 0, has_underscores: false };

    /// All fields.
    #[must_use]
    pub fn all(&self) -> &[Field] {
        &self.list
    }

    /// All fields, without the set of roles.
    #[must_use]
    pub fn into_list(self) -> Vec<Field> {
        self.list
    }

    /// Whether a name contains an underscore.
    #[must_use]
    pub fn has_underscores(&self) -> bool {
        self.has_underscores
    }

    /// The fields with this role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Field> {
        let list = if self.has(role) { self.list.as_slice() } else { &[] };
        list.iter().filter(move |field| field.role == role)
    }

    /// Marks the fields whose names `is_hidden` selects as hop-by-hop, so that they are not forwarded.
    pub fn hide(&mut self, bytes: &[u8], is_hidden: impl Fn(&[u8]) -> bool) {
        for field in self.list.iter_mut().filter(|field| is_hidden(field.name.of(bytes))) {
            field.role = Role::HopByHop;
            self.roles |= Role::HopByHop.bit();
        }
    }

    /// Whether there may be a field with this role; `false` is certain.
    fn has(&self, role: Role) -> bool {
        self.roles & role.bit() != 0
    }

    fn clear(&mut self) {
        self.list.clear();
        self.roles = 0;
        self.has_underscores = false;
    }

    /// Parses the field lines in `bytes[at..]`, which end with an empty line, and replaces the previous fields.
    ///
    /// # Errors
    /// [`Violation`] for the first line that is not `token ":" OWS value OWS CRLF` (RFC 9112 §5): no
    /// folding, no space before the colon, no control bytes.
    pub fn read(&mut self, bytes: &[u8], mut at: usize, limits: &Limits) -> Result<(), Violation> {
        self.clear();
        loop {
            let rest = &bytes[at..];
            if rest.starts_with(b"\r\n") {
                return if rest.len() == 2 { Ok(()) } else { Err(MISPLACED_END) };
            }
            let (name_len, has_underscore) = name(rest)?;
            let value_start = at + name_len + 1;
            let value = &bytes[value_start..];
            let value_len = swar::value_len(value);
            if !value[value_len..].starts_with(b"\r\n") {
                return Err(Violation::Malformed("a control byte in a field value"));
            }
            let field = field(bytes, at, name_len, value_start + value_len);
            at = value_start + value_len + 2;
            if has_underscore {
                match limits.underscores {
                    Underscores::Refuse => return Err(Violation::Malformed("_ in a field name")),
                    Underscores::Drop => continue,
                    Underscores::Allow => self.has_underscores = true,
                }
            }
            if self.list.len() >= limits.fields {
                return Err(Violation::HeadTooLarge);
            }
            self.roles |= field.role.bit();
            self.list.push(field);
        }
    }
}

/// The length of the name at the start of a line, and whether it contains an underscore.
fn name(line: &[u8]) -> Result<(usize, bool), Violation> {
    let mut seen = 0;
    let letters = swar::letters_len(line);
    let end = line[letters..].iter().position(|byte| {
        let mark = NAME[usize::from(*byte)];
        seen |= mark;
        mark == 0
    });
    let len = end.map_or(line.len(), |end| letters + end);
    match line.get(len) {
        Some(b':') if len > 0 => Ok((len, seen & UNDERSCORE != 0)),
        Some(b' ' | b'\t') if len == 0 => Err(Violation::Malformed("a folded or blank field line")),
        Some(b' ' | b'\t') => Err(Violation::Malformed("space before a colon")),
        _ => Err(Violation::Malformed("an invalid field name")),
    }
}

const MISPLACED_END: Violation = Violation::Malformed("an empty line inside a head");

fn field(bytes: &[u8], at: usize, name_len: usize, line_end: usize) -> Field {
    let name = &bytes[at..at + name_len];
    let (mut start, mut end) = (at + name_len + 1, line_end);
    while start < end && matches!(bytes[start], b' ' | b'\t') {
        start += 1;
    }
    while end > start && matches!(bytes[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    Field { name: Span::new(at, at + name_len), value: Span::new(start, end), role: Role::of(name) }
}

/// The options of the `Connection` fields (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionOptions {
    /// `close`
    pub close: bool,
    /// `keep-alive`
    pub keep_alive: bool,
    /// `upgrade`
    pub upgrade: bool,
    others: bool,
}

/// Parses `Connection` and marks the fields it lists as hop-by-hop.
///
/// # Errors
/// [`Violation`] when an option is not a token.
pub fn connection_options(
    bytes: &[u8],
    fields: &mut Fields,
) -> Result<ConnectionOptions, Violation> {
    let mut options = ConnectionOptions::default();
    for field in fields.of(Role::Connection) {
        // The most frequent value.
        if field.value.of(bytes) == b"keep-alive" {
            options.keep_alive = true;
            continue;
        }
        for option in chars::list(field.value.of(bytes)) {
            if !chars::is_token(option) {
                return Err(Violation::Malformed("an invalid Connection option"));
            }
            match () {
                () if option.eq_ignore_ascii_case(b"close") => options.close = true,
                () if option.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                () if option.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                () => options.others = true,
            }
        }
    }
    if options.others {
        strip_nominated(bytes, fields);
    }
    Ok(options)
}

fn strip_nominated(bytes: &[u8], fields: &mut Fields) {
    fields.roles |= Role::HopByHop.bit();
    let fields = &mut fields.list;
    for index in 0..fields.len() {
        if fields[index].role != Role::Connection {
            continue;
        }
        let value = fields[index].value;
        for option in chars::list(value.of(bytes)) {
            for field in fields.iter_mut() {
                if field.role.may_be_nominated()
                    && field.name.of(bytes).eq_ignore_ascii_case(option)
                {
                    field.role = Role::HopByHop;
                }
            }
        }
    }
}

/// The single length of all `Content-Length` fields; identical duplicates are merged.
///
/// # Errors
/// [`Violation`] when a value is not plain decimal digits, or two differ.
pub fn content_length(bytes: &[u8], fields: &Fields) -> Result<Option<u64>, Violation> {
    let mut length = None;
    for field in fields.of(Role::ContentLength) {
        let value = chars::decimal(field.value.of(bytes))
            .ok_or(Violation::Malformed("an invalid Content-Length"))?;
        if length.is_some_and(|known| known != value) {
            return Err(Violation::Malformed("differing Content-Length fields"));
        }
        length = Some(value);
    }
    Ok(length)
}

/// Whether the body is chunked: exactly one `Transfer-Encoding`, exactly `chunked`.
///
/// # Errors
/// [`Violation::UnknownCoding`] for another coding below `chunked`, [`Violation::Malformed`] for several
/// fields, an obfuscated one, or one that does not end with `chunked`: its length cannot be known
/// (RFC 9112 §6.3).
pub fn is_chunked(bytes: &[u8], fields: &Fields) -> Result<bool, Violation> {
    let mut codings = fields.of(Role::TransferEncoding);
    let Some(first) = codings.next() else { return Ok(false) };
    if codings.next().is_some() {
        return Err(Violation::Malformed("several Transfer-Encoding fields"));
    }
    let value = first.value.of(bytes);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let all_tokens =
        value.split(|byte| *byte == b',').all(|coding| chars::is_token(chars::trim(coding)));
    let repeats_chunked =
        chars::list(value).filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count() > 1;
    let last = chars::list(value).last().unwrap_or_default();
    match all_tokens && !repeats_chunked {
        true if last.eq_ignore_ascii_case(b"chunked") => Err(Violation::UnknownCoding),
        true => Err(Violation::Malformed("a Transfer-Encoding that does not end with chunked")),
        false => Err(Violation::Malformed("an invalid Transfer-Encoding")),
    }
}
