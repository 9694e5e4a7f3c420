//! A client of the admin API: one request over TCP, TLS or a unix socket. The verbs of the command line use it.

use crate::decision::plan::UpstreamTls;
use crate::tls::client::{Speaks, build};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// The admin API of a running proxy.
#[derive(Clone, Default)]
pub struct Remote {
    /// `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT`, `unix:/PATH` or `unix:///PATH`.
    pub url: String,
    /// A PEM file with the certificate authorities for the API's certificate, or with the certificate itself; by
    /// default the authorities of the system.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must have; by default the URL's host.
    pub server_name: Option<String>,
    /// The bearer token.
    pub token: Option<String>,
    /// The name of the operator, for the audit trail: printable ASCII.
    pub operator: Option<String>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// GET, POST, PUT or DELETE.
    pub method: &'a str,
    /// The path with its query, escaped.
    pub path: &'a str,
    /// A JSON body.
    pub body: Option<&'a str>,
    /// The timeout of each read: how long the proxy may compute its answer.
    pub timeout: Duration,
}

/// A name as a part of a path or as a value of a query.
#[must_use]
pub fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

/// The timeout of each step: connecting, sending, and by default each read.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer, at most.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The kind of a URL.
#[derive(Debug, Eq, PartialEq)]
enum Way<'a> {
    Unix(&'a str),
    /// `HOST:PORT`.
    Plain(&'a str),
    Secure(&'a str),
}

impl<'a> Way<'a> {
    fn of(url: &'a str) -> Result<Way<'a>, String> {
        if let Some(rest) = url.strip_prefix("unix:") {
            return Ok(Way::Unix(rest.strip_prefix("//").unwrap_or(rest)));
        }
        let (way, rest): (fn(&'a str) -> Way<'a>, &str) = match url.split_once("://") {
            Some(("https", rest)) => (Way::Secure, rest),
            Some(("http", rest)) => (Way::Plain, rest),
            None => (Way::Plain, url),
            Some((scheme, _)) => {
                return Err(format!("`{scheme}://` is not http://, https:// or unix:"));
            }
        };
        let authority = rest.trim_end_matches('/');
        match authority.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(way(authority))
            }
            _ => Err(format!("`{url}` does not end in HOST:PORT")),
        }
    }
}

impl Remote {
    /// Whether the API is reached over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(Way::of(&self.url), Ok(Way::Secure(_)))
    }

    /// Requests `path`.
    ///
    /// # Errors
    /// The reason why there is no answer, as text for an operator.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        self.send(&Call { method: "GET", path, body: None, timeout: TIMEOUT })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The reason why there is no answer, as text for an operator. A change may be in force nevertheless.
    pub fn send(&self, call: &Call<'_>) -> Result<Answer, String> {
        let url = &self.url;
        let failed = |error: io::Error| format!("cannot query {url}: {error}");
        match Way::of(url)? {
            Way::Unix(socket) => {
                let stream = UnixStream::connect(socket).map_err(failed)?;
                stream.set_read_timeout(Some(call.timeout)).map_err(failed)?;
                stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
                self.ask(stream, "localhost", call)
            }
            Way::Plain(authority) => {
                self.ask(self.connect(authority, call.timeout)?, authority, call)
            }
            Way::Secure(authority) => {
                let session = self.session(authority)?;
                let stream = self.connect(authority, call.timeout)?;
                self.ask(StreamOwned::new(session, stream), authority, call)
            }
        }
    }

    /// Connects; tries each of the host's addresses.
    fn connect(&self, authority: &str, timeout: Duration) -> Result<TcpStream, String> {
        let failed = |error: io::Error| format!("cannot query {}: {error}", self.url);
        let mut last = Err(format!("cannot query {}: the host has no address", self.url));
        for address in authority.to_socket_addrs().map_err(failed)? {
            last = TcpStream::connect_timeout(&address, TIMEOUT).map_err(failed);
            if last.is_ok() {
                break;
            }
        }
        let stream = last?;
        stream.set_read_timeout(Some(timeout)).map_err(failed)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
        Ok(stream)
    }

    fn session(&self, authority: &str) -> Result<ClientConnection, String> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| format!("`{host}` is not a server name"))?;
        let (ca, client, alpn) = (self.ca.clone(), None, Vec::new());
        let upstream = build(&UpstreamTls { server_name: None, ca, client, alpn }, 0)?;
        ClientConnection::new(upstream.config(Speaks::Http1).clone(), name)
            .map_err(|error| format!("cannot query {}: {error}", self.url))
    }

    fn ask(
        &self,
        mut stream: impl Read + Write,
        host: &str,
        call: &Call<'_>,
    ) -> Result<Answer, String> {
        let url = &self.url;
        let failed = |error: io::Error| {
            let hint = match error.to_string().contains("UnknownIssuer") {
                true => " (`--ca` must name the authority of its certificate)",
                false => "",
            };
            match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("{url} does not answer within {} s", call.timeout.as_secs())
                }
                _ => format!("cannot query {url}: {error}{hint}"),
            }
        };
        stream.write_all(self.head(host, call).as_bytes()).map_err(failed)?;
        stream.flush().map_err(failed)?;
        let mut text = Vec::new();
        stream.take(BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
        answer(&text).ok_or(format!("{url} does not speak HTTP"))
    }
}

impl Remote {
    /// The request as it is sent.
    fn head(&self, host: &str, call: &Call<'_>) -> String {
        let Call { method, path, body, .. } = call;
        let field = |name: &str, value: &Option<String>| match value {
            Some(value) => format!("{name}{value}\r\n"),
            None => String::new(),
        };
        let authorization = field("authorization: Bearer ", &self.token);
        let operator = field("tidegate-operator: ", &self.operator);
        let length = body.map_or(String::new(), |body| {
            format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
        });
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: tidegate/{}\r\n\
             {authorization}{operator}{length}connection: close\r\n\r\n{}",
            env!("CARGO_PKG_VERSION"),
            body.unwrap_or_default()
        )
    }
}

fn answer(text: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_token_the_operator_and_the_length_of_its_body() {
        let text = |word: &str| Some(word.to_owned());
        let remote = Remote { token: text("t"), operator: text("ann"), ..Remote::default() };
        let path = format!("/api/v1/clusters/{}/dial", escaped("a/b ü\r\n"));
        let call = Call { method: "PUT", path: &path, body: Some("{}"), timeout: TIMEOUT };
        let head = remote.head("h:1", &call);
        assert!(
            head.starts_with("PUT /api/v1/clusters/a%2Fb%20%C3%BC%0D%0A/dial HTTP/1.1\r\n"),
            "{head}"
        );
        for part in
            ["host: h:1", "authorization: Bearer t", "tidegate-operator: ann", "content-length: 2"]
        {
            assert!(head.contains(&format!("{part}\r\n")), "{head}");
        }
        assert!(head.ends_with("\r\n\r\n{}"));
        let plain = Remote::default().head("h:1", &Call { method: "GET", body: None, ..call });
        assert!(!plain.contains("content-length") && !plain.contains("authorization"), "{plain}");
    }

    #[test]
    fn urls_of_each_kind_are_parsed() {
        for (url, way) in [
            ("unix:/run/a.sock", Way::Unix("/run/a.sock")),
            ("unix:///run/a.sock", Way::Unix("/run/a.sock")),
            ("127.0.0.1:9901", Way::Plain("127.0.0.1:9901")),
            ("http://localhost:9901/", Way::Plain("localhost:9901")),
            ("https://[::1]:9901", Way::Secure("[::1]:9901")),
        ] {
            assert_eq!(Way::of(url), Ok(way), "{url}");
        }
        for url in ["https://host", "host", "ftp://host:1", ":9901", "http://h:99999", ""] {
            assert!(Way::of(url).is_err(), "{url}");
        }
    }
}
