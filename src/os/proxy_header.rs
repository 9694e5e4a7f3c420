//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): a proxy in front sends the client's address
//! before all other bytes. The header is read exactly to its end, since the bytes that follow belong to another
//! protocol.

use super::stream::Stream;
use crate::decision::plan::SendProxy;
use ppp::{HeaderResult, v1, v2};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Source and destination of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client.
    pub client: SocketAddr,
    /// The address the client connected to.
    pub server: SocketAddr,
}

/// The signature of a version 2 header.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command LOCAL.
const LOCAL: u8 = 0x20;
/// The longest version 1 header, in bytes.
const LINE_MAX: usize = 107;
/// The most bytes after the first 16 of a version 2 header: addresses and TLVs.
const REST_MAX: usize = 2048;

/// Reads a header; `None` if it names no client (`LOCAL`, `UNKNOWN`).
///
/// # Errors
/// When the header is missing or malformed.
pub async fn read(stream: &mut Stream) -> io::Result<Option<Origin>> {
    let mut bytes = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut bytes).await?;
    if bytes == SIGNATURE {
        bytes.resize(16, 0);
        stream.read_exact(&mut bytes[12..]).await?;
        let rest = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if rest > REST_MAX {
            return Err(malformed());
        }
        bytes.resize(16 + rest, 0);
        stream.read_exact(&mut bytes[16..]).await?;
    } else if bytes.starts_with(b"PROXY ") {
        while !bytes.ends_with(b"\r\n") {
            if bytes.len() >= LINE_MAX {
                return Err(malformed());
            }
            bytes.push(stream.read_u8().await?);
        }
    } else {
        return Err(malformed());
    }
    parse(&bytes)
}

/// Parses the header at the start of these bytes, and returns its length: for fuzzing, without a socket.
///
/// # Errors
/// As [`read`].
pub fn read_from(bytes: &[u8]) -> io::Result<(Option<Origin>, usize)> {
    let (one, other) = std::os::unix::net::UnixStream::pair()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        let (mut one, mut other) = (
            tokio::net::UnixStream::from_std(one)?,
            Stream::Unix(tokio::net::UnixStream::from_std(other)?),
        );
        // More than any header, and less than a socket's receive buffer.
        let sent = &bytes[..bytes.len().min(4 * REST_MAX)];
        one.write_all(sent).await?;
        one.shutdown().await?;
        let origin = read(&mut other).await?;
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).await?;
        Ok((origin, sent.len() - rest.len()))
    })
}

fn parse(bytes: &[u8]) -> io::Result<Option<Origin>> {
    // LOCAL: the connection is the proxy's own; the rest is skipped, whatever the address family.
    if bytes.starts_with(SIGNATURE) && bytes.get(12) == Some(&LOCAL) {
        return Ok(None);
    }
    let origin = |client: (IpAddr, u16), server: (IpAddr, u16)| {
        Ok(Some(Origin { client: client.into(), server: server.into() }))
    };
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Unknown => Ok(None),
            v1::Addresses::Tcp4(ip) => origin(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            v1::Addresses::Tcp6(ip) => origin(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
        },
        HeaderResult::V2(Ok(header)) => match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => origin(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => origin(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            (v2::Command::Local, _)
            | (v2::Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => Ok(None),
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(malformed()),
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a PROXY header")
}

/// The header sent to a cluster, if it expects one.
#[must_use]
pub fn write(version: SendProxy, origin: Option<Origin>) -> Vec<u8> {
    // Both addresses must have the same family.
    let families = origin.map(|origin| match (origin.client, origin.server) {
        (client @ SocketAddr::V4(_), server @ SocketAddr::V4(_)) => (client, server),
        (client, server) => (mapped(client), mapped(server)),
    });
    match (version, families) {
        (SendProxy::None, _) => Vec::new(),
        (SendProxy::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (SendProxy::V1, Some((client, server))) => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (client.ip(), server.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), server.port())
                .into_bytes()
        }
        (SendProxy::V2, families) => {
            let header = match families {
                Some(addresses) => v2::Builder::with_addresses(
                    v2::Version::Two | v2::Command::Proxy,
                    v2::Protocol::Stream,
                    addresses,
                ),
                None => v2::Builder::new(v2::Version::Two | v2::Command::Local, 0),
            };
            header.build().unwrap_or_default()
        }
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(client: &str, server: &str) -> Origin {
        Origin { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    #[test]
    fn headers_are_written_and_parsed_alike() {
        for (client, server) in
            [("192.0.2.7:5000", "10.0.0.1:443"), ("[2001:db8::7]:5000", "[2001:db8::1]:443")]
        {
            for version in [SendProxy::V1, SendProxy::V2] {
                let bytes = write(version, Some(origin(client, server)));
                let read = parse(&bytes).unwrap().unwrap();
                assert_eq!(
                    (read.client.to_string(), read.server.to_string()),
                    (client.to_owned(), server.to_owned())
                );
            }
        }
        for version in [SendProxy::V1, SendProxy::V2] {
            assert!(parse(&write(version, None)).unwrap().is_none());
        }
        let mixed = write(SendProxy::V1, Some(origin("192.0.2.7:1", "[2001:db8::1]:2")));
        assert!(mixed.starts_with(b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2"));
        assert!(write(SendProxy::None, None).is_empty());
    }

    #[test]
    fn a_local_headers_block_is_skipped_whatever_its_family() {
        // An unspecified family, IPv4 and IPv6 that are too short, unix, and a family that does not exist.
        for (family, rest) in
            [(0x00, 0), (0x00, 7), (0x11, 3), (0x21, 12), (0x31, 0), (0x31, 5), (0xff, 9)]
        {
            let mut bytes = [&SIGNATURE[..], &[LOCAL, family, 0, rest]].concat();
            bytes.resize(16 + usize::from(rest), 0xaa);
            assert!(parse(&bytes).unwrap().is_none(), "family {family:#x}, {rest} bytes");
            bytes[12] = 0x10;
            assert!(parse(&bytes).is_err(), "another version");
        }
    }

    #[test]
    fn invalid_headers_are_refused() {
        for bytes in
            ["PROXY TCP4 1 2 3 4\r\n", "PROXY TCP9 1.1.1.1 2.2.2.2 3 4\r\n", "GET / HTTP/1.1\r\n"]
        {
            assert!(parse(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
