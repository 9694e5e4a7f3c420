//! A strict parser of all bytes of an HTTP/1.1 connection: of requests to a cluster, and of responses to a client.
//!
//! Written from RFC 9110 and RFC 9112 alone, and stricter where leniency enables attacks: no chunk extensions, no
//! leading empty line, no hop-by-hop field of the former hop. It shares no code with the proxy, so that it does not
//! repeat the proxy's errors.

/// A request as received by a cluster. Bytes above ASCII in values are Latin-1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// In order, without trailers.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub chunked: bool,
}

/// A response as received by a client. Interim responses precede their final one in the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// 0 when the head is incomplete.
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether a client that checks the framing regards the response as complete.
    pub complete: bool,
}

/// How a connection ended, as observed by its reader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closed {
    Clean,
    Reset,
    Open,
}

/// Parses all bytes of a connection to a cluster: returns the complete requests, and the number of bytes of an
/// incomplete last one.
///
/// # Errors
/// The violation with its offset. An incomplete message is checked as far as it goes.
pub fn requests(bytes: &[u8]) -> Result<(Vec<Request>, usize), String> {
    let mut wire = Wire { bytes, at: 0 };
    let mut whole = Vec::new();
    while wire.at < bytes.len() {
        let begun = wire.at;
        match request(&mut wire) {
            Ok(request) => whole.push(request),
            Err(Stop::Short) => return Ok((whole, bytes.len() - begun)),
            Err(Stop::Bad(at, why)) => return Err(format!("{why} at {at}")),
        }
    }
    Ok((whole, 0))
}

/// Parses all bytes of a connection to a client whose requests had these `methods`, in order.
///
/// # Errors
/// The violation with its offset; more responses than requests are a violation, too.
pub fn responses(bytes: &[u8], methods: &[&str], closed: Closed) -> Result<Vec<Response>, String> {
    let mut wire = Wire { bytes, at: 0 };
    let mut all = Vec::new();
    let (mut answered, mut interims, mut over) = (0, 0, false);
    while wire.at < bytes.len() {
        let begun = wire.at;
        if over {
            return Err(format!("bytes after a response that was the last at {begun}"));
        }
        let Some(method) = methods.get(answered) else {
            return Err(format!("an answer to what nobody asked at {begun}"));
        };
        match response(&mut wire, method, closed) {
            Ok(response) if response.status < 200 && response.status != 101 => {
                interims += 1;
                if interims > INTERIM_MAX {
                    return Err(format!("more than {INTERIM_MAX} interim responses at {begun}"));
                }
                all.push(response);
            }
            Ok(response) => {
                over = options(&response.fields).any(|option| option == "close");
                (answered, interims) = (answered + 1, 0);
                all.push(response);
            }
            Err(Stop::Bad(at, why)) => return Err(format!("{why} at {at}")),
            Err(Stop::Short) => {
                let (fields, body) = (Vec::new(), Vec::new());
                all.push(Response { status: 0, fields, body, complete: false });
                return Ok(all);
            }
        }
    }
    Ok(all)
}

/// Interim responses of one exchange, at most.
const INTERIM_MAX: usize = 16;

type Fields = Vec<(String, String)>;

/// Why parsing stopped: the bytes ended, or there is a violation at an offset.
#[derive(Debug)]
enum Stop {
    Short,
    Bad(usize, String),
}

type Read<T> = Result<T, Stop>;

fn bad<T>(at: usize, why: &str) -> Read<T> {
    Err(Stop::Bad(at, why.to_owned()))
}

fn must(holds: bool, at: usize, why: &str) -> Read<()> {
    if holds { Ok(()) } else { bad(at, why) }
}

/// The framing of a body (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Unstated,
    Length(u64),
    Chunked,
}

struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Wire<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next line without its end, and its offset. An incomplete line is checked, too: later bytes cannot repair a
    /// control byte.
    fn line(&mut self) -> Read<(usize, &'a [u8])> {
        let (begun, rest) = (self.at, self.rest());
        let end = rest.iter().position(|byte| *byte == b'\n');
        let text = &rest[..end.unwrap_or(rest.len())];
        for (place, byte) in text.iter().enumerate() {
            let last = place + 1 == text.len();
            must(*byte != b'\r' || last, begun + place, "a bare CR")?;
            let control = (*byte < b' ' && !b"\t\r".contains(byte)) || *byte == 0x7f;
            must(!control, begun + place, "a control byte")?;
        }
        let Some(end) = end else { return Err(Stop::Short) };
        let Some(line) = text.strip_suffix(b"\r") else { return bad(begun + end, "a bare LF") };
        self.at = begun + end + 1;
        Ok((begun, line))
    }

    /// Field lines to the empty line (RFC 9112 §5): `token ":" OWS value OWS`.
    fn fields(&mut self) -> Read<Fields> {
        let mut fields = Vec::new();
        loop {
            let (at, line) = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            must(!b" \t".contains(&line[0]), at, "a folded line")?;
            let colon = line.iter().position(|byte| *byte == b':');
            let Some(colon) = colon else { return bad(at, "a field line without colon") };
            must(is_token(&line[..colon]), at, "a field name that is no token")?;
            // Control bytes were refused with the line; the other bytes are VCHAR, SP, HTAB and obs-text.
            let value = trimmed(&line[colon + 1..]);
            fields.push((latin(&line[..colon]), latin(value)));
        }
    }

    /// Moves this number of bytes into `into`, or as many as there are.
    fn take(&mut self, count: u64, into: &mut Vec<u8>) -> Read<()> {
        let there = self.rest();
        let taken = usize::try_from(count).map_or(there.len(), |count| count.min(there.len()));
        into.extend_from_slice(&there[..taken]);
        self.at += taken;
        if taken as u64 == count { Ok(()) } else { Err(Stop::Short) }
    }

    fn line_end(&mut self) -> Read<()> {
        let (at, rest) = (self.at, self.rest());
        must(rest.first().is_none_or(|byte| *byte == b'\r'), at, "no CR after a chunk")?;
        must(rest.get(1).is_none_or(|byte| *byte == b'\n'), at + 1, "no LF after a chunk")?;
        if rest.len() < 2 {
            return Err(Stop::Short);
        }
        self.at += 2;
        Ok(())
    }

    /// Chunks and trailers (RFC 9112 §7.1), without extensions: a proxy that frames the body anew sends none.
    fn chunks(&mut self, into: &mut Vec<u8>) -> Read<()> {
        loop {
            let (at, line) = self.line()?;
            let digits = !line.is_empty() && line.iter().all(u8::is_ascii_hexdigit);
            must(digits, at, "a chunk size that is not hexadecimal digits alone")?;
            let size = u64::from_str_radix(&latin(line), 16).ok();
            let Some(size) = size.filter(|_| line.len() <= 16) else {
                return bad(at, "a chunk size out of range");
            };
            if size == 0 {
                let at = self.at;
                let trailers = self.fields()?;
                let never = trailers.iter().find(|(name, _)| is_never_trailer(name));
                return match never {
                    Some((name, _)) => bad(at, &format!("`{name}` among trailers")),
                    None => Ok(()),
                };
            }
            self.take(size, into)?;
            self.line_end()?;
        }
    }
}

fn request(wire: &mut Wire<'_>) -> Read<Request> {
    let (at, line) = wire.line()?;
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        return bad(at, "a request line that is not three words");
    };
    must(is_token(method), at, "a method that is no token")?;
    must(version == b"HTTP/1.1", at, "another version than HTTP/1.1")?;
    check_target(method, target, at)?;
    let (method, target) = (latin(method), latin(target));
    let fields = wire.fields()?;
    let framing = framing(&fields, at)?;
    check_host(&fields, at)?;
    check_hop(&fields, at)?;
    let (te, offered) = (has_option(&fields, "te"), has_option(&fields, "upgrade"));
    must(values(&fields, "te").all(|value| value == "trailers"), at, "`te` beyond trailers")?;
    must(values(&fields, "te").count() == usize::from(te), at, "`te` without its option")?;
    let upgrades = values(&fields, "upgrade").count();
    must(upgrades == usize::from(offered), at, "`upgrade` without its option")?;
    let continues = |value: &str| value == "100-continue";
    must(values(&fields, "expect").all(continues), at, "an unknown expectation")?;
    let mut body = Vec::new();
    match framing {
        Framing::Unstated => {}
        Framing::Length(length) => wire.take(length, &mut body)?,
        Framing::Chunked => wire.chunks(&mut body)?,
    }
    Ok(Request { method, target, fields, body, chunked: framing == Framing::Chunked })
}

/// Origin form, or authority form for CONNECT, or `*` for OPTIONS (RFC 9112 §3.2).
fn check_target(method: &[u8], target: &[u8], at: usize) -> Read<()> {
    let uri = |byte: &u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(byte);
    // A query is forwarded as browsers send it, including a stray percent sign.
    let question = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(question);
    must(path.iter().all(uri), at, "a byte in the path that no URI has")?;
    let visible = |byte: &u8| byte.is_ascii_graphic() && !b"\"#<>".contains(byte);
    must(query.iter().all(visible), at, "a byte in the query that no request line has")?;
    for (place, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = path.get(place + 1..place + 3).unwrap_or_default();
        let whole = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
        must(whole, at, "an invalid escape in the target")?;
    }
    match (method, target) {
        (b"CONNECT", _) => must(is_authority(target, true), at, "CONNECT without an authority"),
        (b"OPTIONS", b"*") | (_, [b'/', ..]) => Ok(()),
        _ => bad(at, "a target that is not in origin form"),
    }
}

fn check_host(fields: &Fields, at: usize) -> Read<()> {
    must(values(fields, "host").count() == 1, at, "not exactly one Host")?;
    let valid = |host: &str| host.is_empty() || is_authority(host.as_bytes(), false);
    must(values(fields, "host").all(valid), at, "an invalid Host")
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), the port in range.
fn is_authority(text: &[u8], needs_port: bool) -> bool {
    let text = latin(text);
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, port)) => {
            let literal = inside.parse::<std::net::Ipv6Addr>().is_ok();
            (if literal { "literal" } else { "" }, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let digits = port.strip_prefix(':').unwrap_or_default();
    let ported = digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits.parse::<u16>().is_ok_and(|port| port > 0);
    !host.is_empty() && host.bytes().all(named) && (ported || port.is_empty() && !needs_port)
}

/// Hop-by-hop fields of the former hop must not be forwarded (RFC 9110 §7.6.1), nor fields that it nominated.
fn check_hop(fields: &Fields, at: usize) -> Read<()> {
    for (name, _) in fields {
        let hop = HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop));
        must(!hop, at, &format!("`{name}` of a former hop"))?;
    }
    for option in options(fields) {
        let known = ["close", "keep-alive", "te", "upgrade"].contains(&option.as_str());
        must(known, at, &format!("a Connection option `{option}`"))?;
    }
    Ok(())
}

const HOP: [&str; 5] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
];

/// The framing: at most one Content-Length of digits, or one Transfer-Encoding that is `chunked`, never both (RFC
/// 9112 §6).
fn framing(fields: &Fields, at: usize) -> Read<Framing> {
    let lengths: Vec<&str> = values(fields, "content-length").collect();
    let codings: Vec<&str> = values(fields, "transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Unstated),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([], _) => bad(at, "Transfer-Encoding other than one `chunked`"),
        ([length], []) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            match length.parse().ok().filter(|_| digits) {
                Some(length) => Ok(Framing::Length(length)),
                None => bad(at, "a Content-Length that is no number"),
            }
        }
        (_, []) => bad(at, "several Content-Length"),
        _ => bad(at, "Content-Length with Transfer-Encoding"),
    }
}

fn response(wire: &mut Wire<'_>, method: &str, closed: Closed) -> Read<Response> {
    let (at, line) = wire.line()?;
    let Some(rest) = line.strip_prefix(b"HTTP/1.1 ") else { return bad(at, "no status line") };
    let digits = rest.get(..3).filter(|code| code.iter().all(u8::is_ascii_digit));
    let status = digits.and_then(|code| latin(code).parse::<u16>().ok());
    let Some(status) = status.filter(|status| *status >= 100) else {
        return bad(at, "no status code");
    };
    must(rest.get(3) == Some(&b' '), at, "no space after the status code")?;
    let fields = wire.fields()?;
    check_hop(&fields, at)?;
    let framing = framing(&fields, at)?;
    let unframed = status < 200 || status == 204;
    must(!unframed || framing == Framing::Unstated, at, "a framing where no body can be")?;
    let mut body = Vec::new();
    if status == 101 {
        let offers = has_option(&fields, "upgrade") && values(&fields, "upgrade").count() == 1;
        must(offers, at, "a 101 that names no protocol")?;
    }
    let bodiless = method == "HEAD" || matches!(status, 100 | 102..=199 | 204 | 304);
    let read = match framing {
        _ if bodiless => Ok(()),
        Framing::Length(length) => wire.take(length, &mut body),
        Framing::Chunked => wire.chunks(&mut body),
        // The body ends with the connection.
        Framing::Unstated => {
            let whole = wire.take(wire.rest().len() as u64, &mut body);
            if closed == Closed::Clean { whole } else { Err(Stop::Short) }
        }
    };
    let complete = match read {
        Ok(()) => true,
        Err(Stop::Short) => false,
        Err(bad) => return Err(bad),
    };
    if !complete {
        wire.at = wire.bytes.len();
    }
    Ok(Response { status, fields, body, complete })
}

/// Fields that frame, route, authenticate or trace must not be trailers (RFC 9110 §6.5.1).
fn is_never_trailer(name: &str) -> bool {
    const NEVER: &str = "host content-length transfer-encoding connection te trailer upgrade \
        expect authorization cookie set-cookie via forwarded traceparent tracestate x-real-ip \
        x-request-id max-forwards content-encoding content-type content-range range \
        cache-control location www-authenticate if-match if-none-match date age vary";
    const PREFIXES: [&str; 4] = ["x-forwarded-", "x-http-method", "x-original-", "tidegate-"];
    let name = name.to_ascii_lowercase();
    NEVER.split(' ').any(|never| never == name)
        || HOP.contains(&name.as_str())
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn values<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = &'a str> {
    let named = move |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
    fields.iter().filter(named).map(|(_, value)| value.as_str()).collect::<Vec<_>>().into_iter()
}

fn options(fields: &Fields) -> impl Iterator<Item = String> {
    let list = values(fields, "connection").flat_map(|value| value.split(','));
    list.map(|option| option.trim_matches([' ', '\t']).to_ascii_lowercase())
}

fn has_option(fields: &Fields, name: &str) -> bool {
    options(fields).any(|option| option == name)
}

fn is_token(text: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(tchar)
}

fn trimmed(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// One character for each byte, so that no byte is lost or merged.
fn latin(text: &[u8]) -> String {
    text.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "GET /p HTTP/1.1\r\nhost: a\r\nX-A: b\r\n\r\n";
    const LENGTH: &str = "POST /p?q=%2F HTTP/1.1\r\nhost: a:80\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKS: &str = "PUT / HTTP/1.1\r\nhost: [::1]:8\r\ntransfer-encoding: chunked\r\n\r\n\
        5\r\nhello\r\n00a\r\n0123456789\r\n0\r\nx-t: u\r\n\r\n";
    const OTHERS: &str = "OPTIONS * HTTP/1.1\r\nhost:\r\nconnection: te\r\nte: trailers\r\n\r\n\
        GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\
        CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\nexpect: 100-continue\r\nx:\t\u{e9} \r\n\r\n";

    #[test]
    fn a_valid_stream_is_accepted_and_incomplete_at_every_cut() {
        let stream = [PLAIN, LENGTH, CHUNKS, OTHERS].concat().into_bytes();
        let (whole, left) = requests(&stream).unwrap();
        assert_eq!((whole.len(), left), (6, 0));
        assert_eq!(whole[0].fields[1], ("X-A".to_owned(), "b".to_owned()));
        assert_eq!((whole[1].target.as_str(), &whole[1].body[..]), ("/p?q=%2F", &b"hello"[..]));
        assert_eq!((whole[2].chunked, &whole[2].body[..]), (true, &b"hello0123456789"[..]));
        assert_eq!((whole[2].fields.len(), whole[2].method.as_str()), (2, "PUT"));
        for cut in 0..stream.len() {
            let (some, left) = requests(&stream[..cut]).unwrap();
            assert_eq!(some[..], whole[..some.len()], "cut at {cut}");
            assert!(left <= cut && some.len() < 6, "cut at {cut}");
        }
    }

    #[test]
    fn bad_heads_are_refused_after_good_ones() {
        for head in "GET  / HTTP/1.1¦GET / HTTP/1.0¦GET / http/1.1¦G(T / HTTP/1.1¦ GET / HTTP/1.1¦\
            GET / HTTP/1.1 ¦GET /#a HTTP/1.1¦GET /\\ HTTP/1.1¦GET /| HTTP/1.1¦GET /%2 HTTP/1.1¦\
            GET /\u{e9} HTTP/1.1¦GET http://a/ HTTP/1.1¦GET * HTTP/1.1¦GET / HTTP/1.1\rX: y¦\
            GET /\0 HTTP/1.1¦GET / HTTP/1.1\r\n X: y¦GET / HTTP/1.1\r\nX : y¦\
            GET / HTTP/1.1\r\n: y¦GET / HTTP/1.1\r\nX¦GET / HTTP/1.1\r\nX: \x07¦\
            GET / HTTP/1.1\r\nX: y\n¦GET / HTTP/1.1\r\nHost: b¦GET / HTTP/1.1\r\nKeep-Alive: 5¦\
            GET / HTTP/1.1\r\nUpgrade: x¦GET / HTTP/1.1\r\nProxy-Connection: close¦\
            GET / HTTP/1.1\r\nTE: gzip¦GET / HTTP/1.1\r\nConnection: x-a¦\
            GET / HTTP/1.1\r\nTE: trailers¦GET / HTTP/1.1\r\nExpect: x¦\
            GET / HTTP/1.1\r\nContent-Length: +1¦GET / HTTP/1.1\r\nContent-Length:¦\
            GET / HTTP/1.1\r\nContent-Length: 1, 1¦\
            GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0¦\
            GET / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked¦\
            GET / HTTP/1.1\r\nTransfer-Encoding: Chunked, chunked¦\
            GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked¦\
            GET / HTTP/1.1\r\nTransfer-Encoding: gzip¦CONNECT / HTTP/1.1"
            .split('¦')
        {
            let stream = format!("{PLAIN}{head}\r\nhost: a\r\n\r\n0\r\n\r\n");
            assert!(requests(stream.as_bytes()).is_err(), "{head:?}");
        }
        for host in ["", "host: a b\r\n", "host: u@a\r\n", "host: a:\r\n", "host: a:65536\r\n"] {
            let stream = format!("GET / HTTP/1.1\r\n{host}\r\n");
            assert!(requests(stream.as_bytes()).is_err(), "{host:?}");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for body in "5;a\r\nhello\r\n¦5 \r\nhello\r\n¦ 5\r\n¦\r\n¦0x5\r\n¦-1\r\n¦g\r\n¦5\nhello¦\
             5\r\nhelloX¦5\r\nhello\n¦5\r\nhello\rX¦10000000000000000\r\n¦0\r\n\n¦0\r\nx\r\n¦\
             0\r\n x: y\r\n¦0\r\nhost: b\r\n\r\n¦0\r\nContent-Length: 5\r\n\r\n¦\
             0\r\nX-Forwarded-For: b\r\n\r\n¦0\r\nAuthorization: b\r\n\r\n¦0;a\r\n\r\n"
            .split('¦')
        {
            let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            assert!(requests(format!("{head}{body}").as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn responses_are_whole_by_their_framing() {
        let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello";
        let length = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let chunks = "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let interim = "HTTP/1.1 103 Early\r\nlink: x\r\n\r\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
        let none = "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n";
        let stream = [length, head, interim, chunks, none, closing].concat();
        let methods = ["GET", "HEAD", "GET", "GET", "GET"];
        for (closed, last) in [(Closed::Clean, true), (Closed::Reset, false), (Closed::Open, false)]
        {
            let all = responses(stream.as_bytes(), &methods, closed).unwrap();
            let seen: Vec<_> = all.iter().map(|r| (r.status, r.body.len(), r.complete)).collect();
            let [fine, bare] = [(200, 5, true), (200, 0, true)];
            let expected = [fine, bare, (103, 0, true), fine, (304, 0, true), (200, 5, last)];
            assert_eq!(seen, expected, "{closed:?}");
        }
        for cut in 0..length.len() {
            let all = responses(&length.as_bytes()[..cut], &["GET"], Closed::Clean).unwrap();
            assert!(all.iter().all(|response| !response.complete), "cut at {cut}");
        }
        for cut in 0..chunks.len() {
            let all = responses(&chunks.as_bytes()[..cut], &["GET"], Closed::Reset).unwrap();
            assert!(all.iter().all(|response| !response.complete), "cut at {cut}");
        }
    }

    #[test]
    fn bad_responses_are_refused() {
        let many = "HTTP/1.1 102 P\r\n\r\n".repeat(17);
        for text in "HTTP/1.0 200 OK\r\n\r\n¦HTTP/1.1 200\r\n\r\n¦HTTP/1.1 99 X\r\n\r\n¦x\r\n¦\
            HTTP/1.1 000 X\r\n\r\n¦HTTP/1.1 200 O\x01\r\n\r\n¦HTTP/1.1 200 OK\n\n¦\
            HTTP/1.1 200 OK\r\nkeep-alive: 5\r\n\r\n¦HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n¦\
            HTTP/1.1 100 C\r\ncontent-length: 0\r\n\r\n¦HTTP/1.1 101 S\r\n\r\n¦\
            HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n¦\
            HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n¦\
            HTTP/1.1 204 No\r\n\r\nhello¦\
            HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;\r\n"
            .split('¦')
            .chain([many.as_str()])
        {
            assert!(responses(text.as_bytes(), &["GET"], Closed::Clean).is_err(), "{text:?}");
        }
        let closed = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\nX";
        assert!(responses(closed.as_bytes(), &["GET", "GET"], Closed::Clean).is_err());
    }
}
