//! The client's address as the proxies in front report it: `X-Forwarded-For`, else `Forwarded` (RFC 7239). And the
//! scheme of the client's request.
//!
//! Addresses have many forms: with a port, in brackets, with a zone, in quotes. All of them are parsed. If a hop cannot
//! be parsed, the client is [`UNKNOWN`], which no `allow` admits and every `deny` refuses. It is never the trusted
//! proxy that passed the request on.

use super::chars;
use super::field::Role;
use super::request::RequestHead;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The client's address when a trusted proxy reports it in a form that cannot be parsed.
pub const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The client's address: from the right, the first hop that is not trusted. An untrusted peer is the client,
/// whatever its fields say.
#[must_use]
pub fn client_address(
    head: &RequestHead,
    peer: IpAddr,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    if !trusted(peer) {
        return peer;
    }
    let by_list = head.value(Role::ForwardedFor).is_some();
    let is_it = |name: &[u8]| match by_list {
        true => name.eq_ignore_ascii_case(b"x-forwarded-for"),
        false => name.eq_ignore_ascii_case(b"forwarded"),
    };
    let bytes = head.bytes();
    let lines = head.fields().iter().rev().filter(|field| is_it(field.name.of(bytes)));
    let mut client = peer;
    for line in lines {
        for element in split_outside_quotes(line.value.of(bytes), b',').into_iter().rev() {
            let hop = if by_list { address(element) } else { forwarded_for(element) };
            let Some(address) = hop else { return UNKNOWN };
            // IPv4-mapped addresses become IPv4, so that one client has one address.
            client = address.to_canonical();
            if !trusted(client) {
                return client;
            }
        }
    }
    client
}

/// `https` or `http`: as a trusted peer reports it, else that of the connection.
#[must_use]
pub fn scheme(head: &RequestHead, trusted: bool, of_connection: &'static str) -> &'static str {
    match head.value(Role::ForwardedProto).filter(|_| trusted) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        Some(_) | None => of_connection,
    }
}

/// The `for` parameter of one element of `Forwarded`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut pairs = split_outside_quotes(element, b';').into_iter();
    pairs.find_map(|pair| {
        let (name, value) = chars::trim(pair).split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then(|| address(value))
    })?
}

/// The parts between `stop` bytes outside of quotes.
fn split_outside_quotes(text: &[u8], stop: u8) -> Vec<&[u8]> {
    let mut quoted = false;
    let cut = |byte: &u8| {
        quoted ^= *byte == b'"';
        *byte == stop && !quoted
    };
    text.split(cut).collect()
}

/// An address in any form that proxies write: alone, with a port, in brackets, with a zone, in quotes.
fn address(written: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(chars::trim(written)).ok()?;
    let text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?.trim_matches([' ', '\t']),
        None => text,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let is_whole = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return is_whole.then(|| v6(inside)).flatten();
    }
    if let Some((host, port)) = text.split_once(':').filter(|(_, port)| !port.contains(':')) {
        return is_port(port).then(|| host.parse::<Ipv4Addr>().ok()).flatten().map(IpAddr::V4);
    }
    text.parse().ok().map(IpAddr::V4).or_else(|| v6(text))
}

/// An IPv6 address; a zone (RFC 4007 §11) is ignored, since only the host that wrote it can interpret it.
fn v6(text: &str) -> Option<IpAddr> {
    let bare = match text.split_once('%') {
        Some((_, "")) => return None,
        Some((bare, _)) => bare,
        None => text,
    };
    bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// A port, or an obfuscated port (RFC 7239 §6.2).
fn is_port(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (1..=5).contains(&text.len()) && digits || text.strip_prefix('_').is_some_and(is_name)
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    const PROXY: &str = "10.0.0.9";

    /// The client's address according to these lines; 10.0.0.0/24 is trusted.
    fn client(lines: &str) -> String {
        let mut head = RequestHead::default();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        head.read(text.as_bytes(), &Limits::default()).unwrap();
        let trusted = |address: IpAddr| address.to_string().starts_with("10.0.0.");
        client_address(&head, PROXY.parse().unwrap(), trusted).to_string()
    }

    #[test]
    fn an_address_is_read_however_it_is_written() {
        for (written, expected) in [
            ("198.51.100.5", "198.51.100.5"),
            ("198.51.100.5:4444", "198.51.100.5"),
            ("\"198.51.100.5:4444\"", "198.51.100.5"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("1.1.1.1, 198.51.100.5:1, 10.0.0.1:2", "198.51.100.5"),
            ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ] {
            assert_eq!(client(&format!("X-Forwarded-For: {written}")), expected, "{written}");
        }
    }

    #[test]
    fn an_unreadable_hop_is_an_unknown_client_and_never_the_proxy() {
        for written in [
            "unknown",
            "_hidden",
            "",
            "1.1.1.1,",
            "1.1.1.1, 10.0.0.1:x",
            "198.51.100.5:",
            "198.51.100.5:123456",
            "[2001:db8::1",
            "[198.51.100.5]",
            "2001:db8::1]",
            "fe80::1%",
            "\"198.51.100.5",
            "1.2.3",
            "256.1.1.1",
            "198.51.100.5 x",
            "a.example",
        ] {
            assert_eq!(client(&format!("X-Forwarded-For: {written}")), "0.0.0.0", "{written}");
        }
    }

    #[test]
    fn forwarded_is_used_without_x_forwarded_for() {
        for (lines, expected) in [
            ("Forwarded: for=198.51.100.5", "198.51.100.5"),
            ("Forwarded: For=\"198.51.100.5:80\";proto=https;by=10.0.0.1", "198.51.100.5"),
            ("Forwarded: proto=http; for=\"[2001:db8::1]:_port\", for=10.0.0.3", "2001:db8::1"),
            (
                "Forwarded: for=1.1.1.1\r\nForwarded: for=198.51.100.5;host=\"a,b;c\"",
                "198.51.100.5",
            ),
            ("Forwarded: for=198.51.100.5, proto=http", "0.0.0.0"),
            ("Forwarded: for=unknown", "0.0.0.0"),
            ("Forwarded: for=_gazonk, for=10.0.0.1", "0.0.0.0"),
            ("Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 198.51.100.5", "198.51.100.5"),
            ("X-Real-IP: 1.1.1.1", PROXY),
        ] {
            assert_eq!(client(lines), expected, "{lines}");
        }
    }
}
