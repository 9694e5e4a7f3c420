//! Heads encoded anew for the next hop; no received head is copied.
//!
//! Hop-by-hop fields and those listed in `Connection` are removed first; then the proxy's own fields are set
//! (RFC 9110 §7.6.1). The proxy states the framing once. Fields about the client (`X-Forwarded-*`, `Forwarded`) are trusted
//! from trusted peers only.

use super::field::{Field, Role};
use super::request::RequestHead;
use super::response::ResponseHead;
use super::{Framing, Version, chars};

/// The operator's edits of a head, in order: remove, set, add.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits<'a> {
    /// Names to remove.
    pub remove: &'a [String],
    /// Fields that replace all of the same name.
    pub set: &'a [(String, String)],
    /// Fields to append.
    pub add: &'a [(String, String)],
    /// Complete lines to append: fields whose values depend on the request.
    pub composed: &'a [u8],
}

impl Edits<'_> {
    /// Removes the lines whose fields an edit removes or replaces; no other edit applies to trailers.
    #[must_use]
    pub fn keep(&self, lines: &[u8]) -> Vec<u8> {
        let name =
            |line: &[u8]| line.split(|byte| *byte == b':').next().unwrap_or_default().to_vec();
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        lines.filter(|line| !self.drops(&name(line))).collect::<Vec<_>>().concat()
    }

    /// Applies the edits to complete lines.
    #[must_use]
    pub fn apply(&self, lines: &[u8]) -> Vec<u8> {
        let mut edited = self.keep(lines);
        self.write(&mut edited);
        edited
    }

    /// Whether an edit removes or replaces the fields of this name.
    #[must_use]
    pub fn drops(&self, name: &[u8]) -> bool {
        let same = |known: &String| known.as_bytes().eq_ignore_ascii_case(name);
        !(self.remove.is_empty() && self.set.is_empty())
            && (self.remove.iter().any(same) || self.set.iter().any(|(name, _)| same(name)))
    }

    fn write(&self, out: &mut impl FieldSink) {
        for (name, value) in self.set.iter().chain(self.add) {
            out.push(name.as_bytes(), value.as_bytes());
        }
        if !self.composed.is_empty() {
            out.lines(self.composed);
        }
    }
}

/// What a cluster is told about the client's certificate, in `X-Forwarded-Client-Cert`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCert<'a> {
    /// Whether the peer's own elements are kept.
    pub keeps: bool,
    /// The element for the client's certificate; empty without a verified one.
    pub element: &'a str,
}

/// Everything a forwarded request needs beside its own head.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The address the connection came from, as text.
    pub peer: &'a str,
    /// Whether the peer is trusted to name the client.
    pub trusted: bool,
    /// `http` or `https`, as on the client's connection.
    pub scheme: &'a str,
    /// `Host` for the cluster.
    pub authority: &'a str,
    /// Path and query for the cluster.
    pub target: &'a str,
    /// Used if the client sent no trusted request id.
    pub request_id: &'a [u8],
    /// The `traceparent` for the cluster.
    pub trace_parent: &'a [u8],
    /// Whether the request continues the client's trace, so that its `tracestate` is kept.
    pub continues_trace: bool,
    /// The sites that the request has passed, ending with this site, for a cluster behind another edge proxy. Empty
    /// for other clusters.
    pub via: &'a str,
    /// The protocol version of the request, in the form of `Via`; empty to leave `Via` out.
    pub received: &'a str,
    /// About the client's certificate.
    pub client_cert: ClientCert<'a>,
    /// Whether the request is a mirrored copy; the cluster receives a field that says so.
    pub is_copy: bool,
    /// The operator's edits.
    pub edits: Edits<'a>,
}

/// Writes a request's head for a cluster.
pub fn write_request(out: &mut Vec<u8>, head: &RequestHead, context: &RequestContext<'_>) {
    out.extend_from_slice(head.method().as_bytes());
    out.push(b' ');
    out.extend_from_slice(context.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_field(out, b"host", context.authority.as_bytes());
    let mut zero_length = false;
    for field in head.fields() {
        match field.role {
            Role::Plain
            | Role::Protected
            | Role::UserAgent
            | Role::ContentType
            | Role::Date
            | Role::Trailer => copy_field(out, head.bytes(), field, &context.edits),
            Role::Via => copy_field(out, head.bytes(), field, &context.edits),
            Role::MaxForwards => write_max_forwards(out, head, field, &context.edits),
            Role::ContentLength => zero_length |= head.framing == Framing::None,
            Role::ForwardedOther if context.trusted => {
                copy_field(out, head.bytes(), field, &context.edits);
            }
            Role::TraceState if context.continues_trace => {
                copy_field(out, head.bytes(), field, &context.edits);
            }
            Role::Host
            | Role::Expect
            | Role::TransferEncoding
            | Role::Connection
            | Role::Upgrade
            | Role::Te
            | Role::HopByHop
            | Role::ForwardedFor
            | Role::ForwardedProto
            | Role::ForwardedHost
            | Role::ForwardedOther
            | Role::ForwardedClientCert
            | Role::RequestId
            | Role::TraceParent
            | Role::TraceState
            | Role::Tidegate => {}
        }
    }
    if head.expects_continue {
        push_field(out, b"expect", b"100-continue");
    }
    if !context.via.is_empty() {
        push_field(out, b"tidegate-via", context.via.as_bytes());
    }
    if context.is_copy {
        push_field(out, b"tidegate-mirror", b"1");
    }
    if !context.received.is_empty() && !context.edits.drops(b"via") {
        // RFC 9110 §7.6.3; several lines are one list.
        out.extend_from_slice(b"via: ");
        out.extend_from_slice(context.received.as_bytes());
        out.extend_from_slice(b" tidegate\r\n");
    }
    write_forwarding(out, head, context);
    write_connection(out, head);
    match head.framing {
        Framing::Length(length) => push_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None | Framing::Close if zero_length => push_length(out, 0),
        Framing::None | Framing::Close => {}
    }
    context.edits.write(out);
    out.extend_from_slice(b"\r\n");
}

/// Writes `Max-Forwards`, decremented, for the two methods that use it (RFC 9110 §7.6.2).
fn write_max_forwards(out: &mut Vec<u8>, head: &RequestHead, field: &Field, edits: &Edits<'_>) {
    match head.max_forwards() {
        Some(hops) if !edits.drops(b"max-forwards") => {
            out.extend_from_slice(b"max-forwards: ");
            push_decimal(out, hops.saturating_sub(1));
            out.extend_from_slice(b"\r\n");
        }
        Some(_) | None => copy_field(out, head.bytes(), field, edits),
    }
}

fn write_forwarding(out: &mut Vec<u8>, head: &RequestHead, context: &RequestContext<'_>) {
    let believed = |role| context.trusted.then(|| head.value(role)).flatten();
    let unless_edited = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
        if !context.edits.drops(name.as_bytes()) {
            push_field(out, name.as_bytes(), value);
        }
    };
    if !context.edits.drops(b"x-forwarded-for") {
        out.extend_from_slice(b"x-forwarded-for: ");
        if context.trusted {
            for value in head.fields().iter().filter(|field| field.role == Role::ForwardedFor) {
                out.extend_from_slice(value.value.of(head.bytes()));
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(context.peer.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    write_client_cert(out, head, context);
    let scheme = believed(Role::ForwardedProto).unwrap_or(context.scheme.as_bytes());
    unless_edited(out, "x-forwarded-proto", scheme);
    let host = believed(Role::ForwardedHost).unwrap_or(head.authority().as_bytes());
    if !host.is_empty() {
        unless_edited(out, "x-forwarded-host", host);
    }
    let request_id = believed_request_id(head, context.trusted, context.request_id);
    unless_edited(out, "x-request-id", request_id);
    unless_edited(out, "traceparent", context.trace_parent);
}

/// Writes the elements for certificates of clients, the nearest client's last.
fn write_client_cert(out: &mut Vec<u8>, head: &RequestHead, context: &RequestContext<'_>) {
    const NAME: &str = "x-forwarded-client-cert";
    let ClientCert { keeps, element } = context.client_cert;
    if !keeps && element.is_empty() || context.edits.drops(NAME.as_bytes()) {
        return;
    }
    let is_one = |field: &&Field| keeps && field.role == Role::ForwardedClientCert;
    let kept = head.fields().iter().filter(is_one).map(|field| field.value.of(head.bytes()));
    let own = Some(element.as_bytes()).filter(|element| !element.is_empty());
    let all: Vec<&[u8]> = kept.chain(own).collect();
    if !all.is_empty() {
        push_field(out, NAME.as_bytes(), &all.join(&b","[..]));
    }
}

/// The request id of the exchange: the peer's if the peer is trusted, else our own.
#[must_use]
pub fn believed_request_id<'a>(head: &'a RequestHead, trusted: bool, own: &'a [u8]) -> &'a [u8] {
    let id = head.value(Role::RequestId).filter(|_| trusted);
    id.filter(|id| (1..=128).contains(&id.len())).unwrap_or(own)
}

fn write_connection(out: &mut Vec<u8>, head: &RequestHead) {
    if let Some(token) = head.upgrade() {
        out.extend_from_slice(b"connection: upgrade\r\n");
        push_field(out, b"upgrade", token);
    } else if head.value(Role::Te).is_some_and(accepts_trailers) {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
}

fn accepts_trailers(value: &[u8]) -> bool {
    chars::list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Everything a forwarded response needs beside its own head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// The version the client spoke: HTTP/1.0 gets no chunks.
    pub version: Version,
    /// Whether the client's connection stays open after this exchange.
    pub keep_alive: bool,
    /// The framing of the body towards the client.
    pub framing: Framing,
    /// A `Date` for a response without one (RFC 9110 §6.6.1).
    pub date: &'a str,
    /// The operator's edits.
    pub edits: Edits<'a>,
    /// Further fields of our own, complete lines.
    pub extra: &'a [u8],
}

/// The framing of a body towards the client, given its framing on the upstream side.
#[must_use]
pub fn client_framing(upstream: Framing, client: Version) -> Framing {
    match (upstream, client) {
        (Framing::Chunked | Framing::Close, Version::Http11) => Framing::Chunked,
        (Framing::Chunked | Framing::Close, Version::Http10) => Framing::Close,
        (Framing::None | Framing::Length(_), _) => upstream,
    }
}

/// Destination of fields: HTTP/1 lines, or fields of another protocol.
pub trait FieldSink {
    /// Writes a field.
    fn push(&mut self, name: &[u8], value: &[u8]);
    /// Writes a field of the head with these bytes.
    fn copy(&mut self, bytes: &[u8], field: &Field);
    /// Writes complete lines.
    fn lines(&mut self, lines: &[u8]);
}

impl FieldSink for Vec<u8> {
    fn push(&mut self, name: &[u8], value: &[u8]) {
        push_field(self, name, value);
    }

    fn copy(&mut self, bytes: &[u8], field: &Field) {
        match field.line(bytes) {
            Some(line) => self.extend_from_slice(line),
            None => push_field(self, field.name.of(bytes), field.value.of(bytes)),
        }
    }

    fn lines(&mut self, lines: &[u8]) {
        self.extend_from_slice(lines);
    }
}

/// Writes a final response's head (or a 101) for the client.
pub fn write_response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    bytes: &[u8],
    context: &ResponseContext<'_>,
) {
    push_status(out, head.status, head.reason(bytes));
    write_response_fields(out, head, bytes, context);
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields of a final response's head.
pub fn write_response_fields(
    out: &mut impl FieldSink,
    head: &ResponseHead,
    bytes: &[u8],
    context: &ResponseContext<'_>,
) {
    let mut dated = false;
    for field in head.fields() {
        match field.role {
            Role::ContentLength
            | Role::TransferEncoding
            | Role::Connection
            | Role::HopByHop
            | Role::Upgrade
            | Role::Te
            | Role::Tidegate => {}
            Role::Date => {
                dated = true;
                copy_field(out, bytes, field, &context.edits);
            }
            Role::Plain
            | Role::Via
            | Role::MaxForwards
            | Role::Host
            | Role::Expect
            | Role::Trailer
            | Role::ForwardedFor
            | Role::ForwardedProto
            | Role::ForwardedHost
            | Role::ForwardedOther
            | Role::ForwardedClientCert
            | Role::RequestId
            | Role::TraceParent
            | Role::TraceState
            | Role::Protected
            | Role::UserAgent
            | Role::ContentType => copy_field(out, bytes, field, &context.edits),
        }
    }
    if !dated && !context.edits.drops(b"date") {
        out.push(b"date", context.date.as_bytes());
    }
    if head.upgrades {
        out.push(b"connection", b"upgrade");
        out.push(b"upgrade", head.value(bytes, Role::Upgrade).unwrap_or_default());
    } else {
        write_offers(out, head, bytes);
        match context.framing {
            Framing::Length(length) => push_length(out, length),
            Framing::Chunked => out.push(b"transfer-encoding", b"chunked"),
            Framing::None | Framing::Close => {
                if let Some(length) = head.stated_length.filter(|_| head.status != 204) {
                    push_length(out, length);
                }
            }
        }
        match (context.keep_alive, context.version) {
            (true, Version::Http10) => out.push(b"connection", b"keep-alive"),
            (true, Version::Http11) => {}
            (false, _) => out.push(b"connection", b"close"),
        }
    }
    context.edits.write(out);
    out.lines(context.extra);
}

/// A 426 names the protocol to upgrade to (RFC 9110 §15.5.22). HTTP/2 and HTTP/3 drop the field.
fn write_offers(out: &mut impl FieldSink, head: &ResponseHead, bytes: &[u8]) {
    let offers = head.fields().iter().filter(|field| field.role == Role::Upgrade);
    let mut offers = offers.filter(|_| head.status == 426).peekable();
    if offers.peek().is_some() {
        out.push(b"connection", b"upgrade");
        offers.for_each(|field| out.copy(bytes, field));
    }
}

/// Writes an interim response (RFC 9110 §15.2), its fields without the hop-by-hop ones.
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8]) {
    push_status(out, head.status, head.reason(bytes));
    for field in head.fields().iter().filter(|field| field.role == Role::Plain) {
        copy_field(out, bytes, field, &Edits::default());
    }
    out.extend_from_slice(b"\r\n");
}

fn push_status(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

fn copy_field(out: &mut impl FieldSink, bytes: &[u8], field: &Field, edits: &Edits<'_>) {
    if !edits.drops(field.name.of(bytes)) {
        out.copy(bytes, field);
    }
}

/// Writes one field line.
pub fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_length(out: &mut impl FieldSink, length: u64) {
    let mut digits = [0; DIGITS];
    out.push(b"content-length", decimal(length, &mut digits));
}

/// Digits of the largest number.
const DIGITS: usize = 20;

fn decimal(mut number: u64, digits: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// Writes a number in decimal digits.
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(decimal(number, &mut [0; DIGITS]));
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::response::RequestKind;
    use super::*;
    use std::net::IpAddr;

    fn context(trusted: bool) -> RequestContext<'static> {
        RequestContext {
            peer: "10.0.0.9",
            trusted,
            scheme: "http",
            authority: "a",
            via: "",
            received: "1.1",
            client_cert: ClientCert::default(),
            is_copy: false,
            target: "/t",
            request_id: b"id",
            trace_parent: b"00-1-2-01",
            continues_trace: trusted,
            edits: Edits::default(),
        }
    }

    fn forward(text: &str, context: &RequestContext<'_>) -> (String, RequestHead) {
        let mut head = RequestHead::default();
        head.read(text.as_bytes(), &Limits::default()).unwrap();
        let mut out = Vec::new();
        write_request(&mut out, &head, context);
        let mut again = RequestHead::default();
        again.read(&out, &Limits::default()).expect("what is forwarded is valid");
        assert_eq!(again.framing, head.framing);
        (String::from_utf8(out).unwrap(), head)
    }

    const SPOOFED: &str = "POST /t HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1\r\n\
        X-Real-IP: 1.1.1.1\r\nX-Request-Id: theirs\r\nTraceparent: 00-aa\r\nTracestate: b=c\r\nTidegate-Via: x\r\n\
        Keep-Alive: 1\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n";

    #[test]
    fn fields_of_an_untrusted_client_are_replaced() {
        let (text, _) = forward(SPOOFED, &context(false));

        assert_eq!(
            text,
            "POST /t HTTP/1.1\r\nhost: a\r\nA: b\r\nvia: 1.1 tidegate\r\nx-forwarded-for: 10.0.0.9\r\n\
             x-forwarded-proto: http\r\nx-forwarded-host: a\r\nx-request-id: id\r\n\
             traceparent: 00-1-2-01\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }

    #[test]
    fn fields_of_a_trusted_peer_are_extended() {
        let (text, head) = forward(SPOOFED, &context(true));

        assert!(text.contains("x-forwarded-for: 1.1.1.1, 10.0.0.9\r\n"), "{text}");
        assert!(text.contains("x-request-id: theirs\r\n") && text.contains("Forwarded: for=1"));
        assert!(text.contains("Tracestate: b=c\r\n"), "{text}");
        assert!(!text.to_lowercase().contains("tidegate-via"));
        let peer = "10.0.0.9".parse().unwrap();
        let client = crate::hops::client_address(&head, peer, |address| address == peer);
        assert_eq!(client, "1.1.1.1".parse::<IpAddr>().unwrap());
        assert_eq!(crate::hops::client_address(&head, peer, |_| false), peer);
    }

    #[test]
    fn edits_remove_set_and_add() {
        let set = [("a".to_owned(), "new".to_owned())];
        let remove = ["x-request-id".to_owned()];
        let edits = Edits { remove: &remove, set: &set, ..Edits::default() };
        let (text, _) = forward(SPOOFED, &RequestContext { edits, ..context(false) });

        assert!(text.contains("\r\na: new\r\n") && !text.contains("A: b"));
        assert!(!text.contains("x-request-id"));
    }

    #[test]
    fn hops_are_added_and_counted() {
        let get = "GET /t HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nMax-Forwards: 3\r\n\r\n";
        let (text, _) = forward(get, &context(false));
        assert!(
            text.contains("Via: 1.0 x\r\n") && text.contains("via: 1.1 tidegate\r\n"),
            "{text}"
        );
        assert!(text.contains("Max-Forwards: 3\r\n"), "only two methods count: {text}");
        for method in ["OPTIONS", "TRACE"] {
            let (text, _) = forward(&get.replacen("GET", method, 1), &context(false));
            assert!(
                text.contains("max-forwards: 2\r\n") && !text.contains("Max-Forwards"),
                "{text}"
            );
        }
        let remove = ["via".to_owned()];
        let edits = Edits { remove: &remove, ..Edits::default() };
        let (text, _) = forward(get, &RequestContext { edits, ..context(false) });
        assert!(!text.to_lowercase().contains("via"), "{text}");
        let (text, _) = forward(get, &RequestContext { received: "", ..context(false) });
        assert!(text.contains("Via: 1.0 x") && !text.contains("tidegate"), "{text}");
    }

    #[test]
    fn edits_hold_for_lines_as_well() {
        let set = [("x-site".to_owned(), "edge".to_owned())];
        let remove = ["x-internal".to_owned()];
        let edits = Edits { remove: &remove, set: &set, ..Edits::default() };
        let lines = b"X-Internal: root\r\nx-site: forged\r\nx-user: a\r\n";
        assert_eq!(edits.keep(lines), b"x-user: a\r\n");
        assert_eq!(edits.apply(lines), b"x-user: a\r\nx-site: edge\r\n");
        assert_eq!(edits.keep(b""), b"");
    }

    #[test]
    fn only_a_426_has_an_upgrade_field() {
        for (status, expected) in [
            ("426 Upgrade Required", "connection: upgrade\r\nUpgrade: websocket, x/1\r\n"),
            ("200 OK", ""),
        ] {
            let text = format!(
                "HTTP/1.1 {status}\r\nConnection: Upgrade\r\nUpgrade: websocket, x/1\r\nContent-Length: 0\r\n\r\n"
            );
            let mut head = ResponseHead::default();
            let request_kind = RequestKind { head: false, upgrade: None };
            head.read(text.as_bytes(), request_kind, &Limits::default()).unwrap();
            let context = ResponseContext {
                version: Version::Http11,
                keep_alive: true,
                framing: head.framing,
                date: "now",
                edits: Edits::default(),
                extra: b"",
            };
            let mut out = Vec::new();
            write_response(&mut out, &head, text.as_bytes(), &context);
            let rest = format!("date: now\r\n{expected}content-length: 0\r\n\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 {status}\r\n{rest}"));
            // HTTP/2 has no such fields (RFC 9113 §8.2.2).
            let mut fields = super::super::translate::FieldMap::new(text.as_bytes());
            write_response_fields(&mut fields, &head, text.as_bytes(), &context);
            let fields = fields.into_fields().unwrap();
            assert!(!fields.contains_key("upgrade") && !fields.contains_key("connection"));
        }
    }

    #[test]
    fn responses_are_framed_for_the_client() {
        let bytes =
            b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nDate: d\r\nKeep-Alive: 1\r\n\r\n";
        let mut head = ResponseHead::default();
        head.read(bytes, RequestKind { head: false, upgrade: None }, &Limits::default()).unwrap();
        for (version, keep_alive, expected) in [
            (Version::Http11, true, "transfer-encoding: chunked\r\n"),
            (Version::Http11, false, "transfer-encoding: chunked\r\nconnection: close\r\n"),
            (Version::Http10, false, "connection: close\r\n"),
        ] {
            let framing = client_framing(head.framing, version);
            let edits = Edits::default();
            let context =
                ResponseContext { version, keep_alive, framing, date: "now", edits, extra: b"" };
            let mut out = Vec::new();
            write_response(&mut out, &head, bytes, &context);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, format!("HTTP/1.1 200 Fine\r\nDate: d\r\n{expected}\r\n"));
        }
    }
}
