//! Asking a running proxy's admin API: one plain request.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// Its body.
    pub(super) body: String,
}

/// How long asking may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer, at most.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Gets `path` from the admin API at `url` (`http://HOST:PORT`, `HOST:PORT` or `unix:/path`).
pub(super) fn get(url: &str, path: &str) -> Result<Answer, String> {
    let failed = |error: std::io::Error| format!("cannot ask {url}: {error}");
    // Off loopback reads need the token, too; from the environment, where `ps` does not show it.
    let token = std::env::var("TIDEGATE_TOKEN").ok().filter(|token| !token.contains(['\r', '\n']));
    let authorization =
        token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    let request = |host: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{authorization}connection: close\r\n\r\n")
    };
    let mut text = Vec::new();
    if let Some(socket) = url.strip_prefix("unix:") {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.write_all(request("localhost").as_bytes()).map_err(failed)?;
        stream.take(BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    } else {
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let address = host.to_socket_addrs().map_err(failed)?.next();
        let address = address.ok_or(format!("cannot ask {url}: no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.write_all(request(host).as_bytes()).map_err(failed)?;
        stream.take(BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    }
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(format!("{url} does not speak HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or(format!("{url} does not speak HTTP"))?;
    Ok(Answer { status, body: body.to_owned() })
}
