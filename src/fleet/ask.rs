//! The client side of a fleet connection: one task for each link connects, requests a report every second or two, and
//! passes reports on.

use super::{Fleet, IDENTITY, LINE_MAX, MEMBER, PATH, PAUSE_MAX, PROTOCOL, SITE, read};
use crate::decision::fleet::{Identity, Link, Merged, Peer, Refused, Report};
use crate::decision::plan::UpstreamTls;
use crate::os::clock;
use crate::tls::client::{Speaks, build};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// The deadline for the connection, the TLS handshake and the upgrade.
const CONNECTED: Duration = Duration::from_secs(4);
/// The deadline from a request to the end of the report.
const ANSWERED: Duration = Duration::from_secs(2);
/// The pause after the first failure; each further failure doubles the pause.
const PAUSE: Duration = Duration::from_millis(500);
/// The interval for checking whether a peer's address is this proxy's own.
const OWN_PAUSE: Duration = Duration::from_secs(30);

/// Connects to the peers of a link forever, one at a time: to the next peer when a connection ends.
pub(super) async fn follow(fleet: Arc<Fleet>, link: Link) {
    let mut failures = 0;
    for peer in link.peers.iter().cycle() {
        let (answered, error) = talk(&fleet, &link, peer).await;
        failures = if answered { 0 } else { failures + 1 };
        fleet.lost(&link, &peer.url, &error);
        let pause = PAUSE.saturating_mul(1 << failures.min(3)).min(PAUSE_MAX);
        // Between half of the pause and the whole pause, so that proxies do not reconnect in lockstep.
        let part = (clock::entropy() % 512) as f64 / 1024.0;
        sleep(pause.mul_f64(0.5 + part)).await;
    }
}

/// Runs one connection. Returns whether a report was received, and why the connection ended.
async fn talk(fleet: &Fleet, link: &Link, peer: &Peer) -> (bool, String) {
    let (stream, by) = match timeout(CONNECTED, connect(peer)).await {
        Ok(Ok(entered)) => entered,
        Ok(Err(error)) => return (false, error),
        Err(_) => return (false, "not connected in time".to_owned()),
    };
    let mut stream = BufReader::with_capacity(8 * 1024, stream);
    let mut questions = interval(link.every);
    questions.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let question = if link.member { MEMBER } else { SITE };
    let (mut line, mut answered) = (Vec::new(), false);
    loop {
        questions.tick().await;
        // The age of the report counts from this moment, before the request is sent: the report cannot
        // be older, whatever the peer's clock and the network delay.
        let at = clock::now();
        let answer = timeout(ANSWERED, ask(&mut stream, question, &mut line)).await;
        if clock::now().since(at) > link.every.saturating_sub(super::answer::PAUSE) {
            // The next request would be due within the peer's pause, and counted as too early.
            questions.reset();
        }
        let reason = match answer {
            Err(_) => Refused::Timeout,
            Ok(Err(error)) => return (answered, error.to_string()),
            Ok(Ok(())) if line.len() <= LINE_MAX && !line.ends_with(b"\n") => {
                return (answered, "connection closed".to_owned());
            }
            Ok(Ok(())) if line.len() <= LINE_MAX && !stream.buffer().is_empty() => Refused::Unasked,
            Ok(Ok(())) => match read(&line) {
                Ok(report) => {
                    let report = Report { by: by.clone(), ..report };
                    let heard = fleet.hear(link, &peer.url, report, at);
                    answered |= heard.is_ok();
                    if heard == Ok(Merged::Own) {
                        sleep(OWN_PAUSE).await;
                    }
                    continue;
                }
                Err(reason) => reason,
            },
        };
        fleet.refuse(reason);
        return (answered, format!("refused: {}", reason.label()));
    }
}

/// Sends a request, and reads a line of at most one byte more than [`LINE_MAX`].
async fn ask(
    stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin),
    question: u8,
    line: &mut Vec<u8>,
) -> io::Result<()> {
    line.clear();
    stream.write_all(&[question]).await?;
    stream.flush().await?;
    stream.take(LINE_MAX as u64 + 1).read_until(b'\n', line).await?;
    Ok(())
}

/// A connection, and the identity of the peer.
type Entered = (TokioIo<hyper::upgrade::Upgraded>, Identity);

/// Connects to a peer's admin API and upgrades the connection.
async fn connect(peer: &Peer) -> Result<Entered, String> {
    let failed = |error: io::Error| error.to_string();
    let stream = TcpStream::connect((peer.host.as_str(), peer.port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    // The files are read at each attempt, so a replaced token or certificate authority needs no reload.
    let files = peer.clone();
    let read = tokio::task::spawn_blocking(move || files_of(&files)).await;
    let (token, tls) = read.map_err(|error| error.to_string())??;
    match tls {
        None => enter(stream, peer, token).await,
        Some(config) => {
            let name = ServerName::try_from(peer.host.clone());
            let name = name.map_err(|_| format!("`{}` is not a server name", peer.host))?;
            let connector = tokio_rustls::TlsConnector::from(config);
            enter(connector.connect(name, stream).await.map_err(failed)?, peer, token).await
        }
    }
}

type Files = (Option<String>, Option<Arc<rustls::ClientConfig>>);

fn files_of(peer: &Peer) -> Result<Files, String> {
    let token = match &peer.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("token file {}: {error}", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    if !peer.secure {
        return Ok((token, None));
    }
    let (ca, client, alpn) = (peer.ca.clone(), None, Vec::new());
    let upstream = build(&UpstreamTls { server_name: None, ca, client, alpn }, 0)?;
    Ok((token, Some(upstream.config(Speaks::Http1).clone())))
}

async fn enter<S>(stream: S, peer: &Peer, token: Option<String>) -> Result<Entered, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| error.to_string();
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_buf_size(16 * 1024).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(failed)?;
    // The driver ends with this function, or earlier by giving up the stream.
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a fleet peer failed");
        }
    });
    let host = match peer.host.contains(':') {
        true => format!("[{}]:{}", peer.host, peer.port),
        false => format!("{}:{}", peer.host, peer.port),
    };
    let request = Request::get(PATH).header(HOST, host);
    let mut request = request.header(CONNECTION, "upgrade").header(UPGRADE, PROTOCOL);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            let named = response.headers().get(IDENTITY);
            let by = named.and_then(|named| serde_json::from_slice(named.as_bytes()).ok());
            let by = by.ok_or("response without an identity")?;
            Ok((TokioIo::new(hyper::upgrade::on(response).await.map_err(failed)?), by))
        }
        status => Err(format!("answered {status}")),
    }
}
