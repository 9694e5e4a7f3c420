//! The authorization service (`auth.forward`): after a 2xx response the request passes, and the listed response
//! fields are added to the request for the cluster; redirects and 4xx go to the client; any other result refuses
//! the request.
//!
//! When the service is unavailable, requests are refused. Connections to the service are kept and bounded: a slow
//! service must not use up the process's descriptors.

use super::{DenialResponse, Passed, PolicyRequest, Refused};
use crate::decision::plan::{Address, UpstreamTls};
use crate::decision::policy::Forward;
use crate::tls::client::{self, Speaks};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, SET_COOKIE};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

/// Deadline of one authorization: waiting for a permit, connecting, request and response.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Concurrent requests to one service, and therefore the most connections to it.
const QUESTIONS_MAX: usize = 128;
/// Idle connections kept.
const IDLE_MAX: usize = 32;
/// Limit of a response body, in bytes.
const BODY_MAX: usize = 256 * 1024;
/// Fields of the client's request that are sent to the service.
const SHOWN: [&str; 11] = [
    "accept",
    "accept-language",
    "authorization",
    "cookie",
    "origin",
    "proxy-authorization",
    "referer",
    "sec-fetch-mode",
    "user-agent",
    "x-request-id",
    "x-requested-with",
];
/// Response fields that concern only the service's own connection and response; they are not copied.
const OWN: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    http::header::TRANSFER_ENCODING,
    http::header::TE,
    http::header::TRAILER,
    http::header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Sender = SendRequest<Empty<Bytes>>;

/// One authorization service.
pub struct Service {
    terms: Forward,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    pool: Arc<Pool>,
}

/// Connections to one service, shared by all workers.
struct Pool {
    seats: Semaphore,
    idle: Mutex<Vec<Sender>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Service").field("terms", &self.terms).finish_non_exhaustive()
    }
}

impl Service {
    /// A service with these terms.
    ///
    /// # Errors
    /// The reason why its certificate authorities or its name are invalid.
    pub fn new(terms: &Forward) -> Result<Service, String> {
        let tls = terms.secure.then(|| connector(terms)).transpose()?;
        let pool = Pool { seats: Semaphore::new(QUESTIONS_MAX), idle: Mutex::default() };
        Ok(Service { terms: terms.clone(), tls, pool: Arc::new(pool) })
    }

    /// Shares the connections of `other`, if both have the same terms.
    pub fn share(&mut self, other: &Service) {
        if self.terms.asks_the_same(&other.terms) {
            self.pool = other.pool.clone();
        }
    }

    /// Asks the service whether a request may pass.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn ask(&self, request: &PolicyRequest<'_>) -> Result<Passed, Refused> {
        let until = tokio::time::Instant::now() + ANSWER_MAX;
        let seat = tokio::time::timeout_at(until, self.pool.seats.acquire()).await;
        let Ok(Ok(_seat)) = seat else { return Err(Refused::Full) };
        match tokio::time::timeout_at(until, Box::pin(self.exchange(request))).await {
            Ok(Ok((parts, body))) => self.judge(&parts, body),
            Ok(Err(error)) => {
                tracing::debug!(%error, service = self.terms.authority, "authorization service not reached");
                Err(Refused::Unavailable)
            }
            Err(_) => Err(Refused::Unavailable),
        }
    }

    fn judge(&self, answer: &http::response::Parts, body: Bytes) -> Result<Passed, Refused> {
        let (status, fields) = (answer.status.as_u16(), &answer.headers);
        match status {
            200..=299 => self.passed(fields),
            301..=303 | 307 | 308 | 400..=499 if self.terms.pass_response => {
                let lines = lines(fields, |name| !is_own(fields, name));
                Err(Refused::Response(Box::new(DenialResponse {
                    status,
                    lines,
                    body: body.to_vec(),
                })))
            }
            401 => {
                let challenge = fields.get("www-authenticate");
                let challenge =
                    challenge.and_then(|challenge| challenge.to_str().ok()).unwrap_or("Bearer");
                Err(Refused::Unauthorized(challenge.to_owned()))
            }
            500.. => Err(Refused::Unavailable),
            _ => Err(Refused::Forbidden),
        }
    }

    /// The fields for the cluster and for the client of a request that passes.
    fn passed(&self, fields: &HeaderMap) -> Result<Passed, Refused> {
        let mut granted = Vec::new();
        for name in &self.terms.response_headers {
            for value in fields.get_all(name.as_str()) {
                // A truncated value could be another user's name.
                let value = std::str::from_utf8(value.as_bytes());
                let value = value.map_err(|_| Refused::Unavailable)?;
                granted.push((name.clone(), value.to_owned()));
            }
        }
        Ok(Passed { granted, lines: lines(fields, |name| *name == SET_COOKIE) })
    }

    async fn exchange(
        &self,
        request: &PolicyRequest<'_>,
    ) -> io::Result<(http::response::Parts, Bytes)> {
        // A keep-alive connection may have been closed meanwhile; an authorization request is safe to
        // repeat.
        while let Some(mut sender) = self.pool.take() {
            if sender.ready().await.is_err() {
                continue;
            }
            if let Ok(answer) = sender.send_request(self.check_request(request)?).await {
                return self.read(sender, answer).await;
            }
        }
        let mut sender = self.connect().await?;
        let answer = sender.send_request(self.check_request(request)?).await;
        self.read(sender, answer.map_err(io::Error::other)?).await
    }

    /// Reads a whole response, and keeps the connection open.
    async fn read(
        &self,
        sender: Sender,
        answer: http::Response<Incoming>,
    ) -> io::Result<(http::response::Parts, Bytes)> {
        let (parts, body) = answer.into_parts();
        match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => {
                self.pool.keep(sender);
                Ok((parts, body.to_bytes()))
            }
            // The response has no body.
            Err(_) if parts.status.is_success() => Ok((parts, Bytes::new())),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    async fn connect(&self) -> io::Result<Sender> {
        let stream = TcpStream::connect(&self.terms.authority).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => begin(stream).await,
            Some((connector, name)) => begin(connector.connect(name.clone(), stream).await?).await,
        }
    }

    fn check_request(
        &self,
        request: &PolicyRequest<'_>,
    ) -> io::Result<http::Request<Empty<Bytes>>> {
        let mut check = http::Request::get(&self.terms.target)
            .header("host", &self.terms.host)
            .header("x-forwarded-for", request.client.to_string())
            .header("x-forwarded-method", request.method)
            .header("x-forwarded-proto", request.scheme)
            .header("x-forwarded-host", request.host)
            .header("x-forwarded-uri", request.target);
        for name in SHOWN {
            if let Some(value) = (request.field)(name) {
                check = check.header(name, value);
            }
        }
        check.body(Empty::new()).map_err(io::Error::other)
    }
}

impl Pool {
    fn take(&self) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<Sender> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to an authorization service failed");
        }
    });
    Ok(sender)
}

fn connector(terms: &Forward) -> Result<(TlsConnector, ServerName<'static>), String> {
    let name = match terms.host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => &terms.host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (ca, server_name) = (terms.ca.clone(), Some(name));
    let built = client::build(&UpstreamTls { server_name, ca, client: None, alpn: vec![] }, 0)?;
    let nowhere = Address::Unix(std::path::PathBuf::new());
    let name = built.name_of(&nowhere).ok_or("no TLS server name")?;
    Ok((TlsConnector::from(built.config(Speaks::Http1).clone()), name))
}

/// Whether a field concerns only the response itself.
fn is_own(fields: &HeaderMap, name: &HeaderName) -> bool {
    let nominated = || {
        let lists = fields.get_all(CONNECTION).iter().filter_map(|list| list.to_str().ok());
        lists
            .flat_map(|list| list.split(','))
            .any(|one| name.as_str().eq_ignore_ascii_case(one.trim()))
    };
    OWN.contains(name) || name.as_str().starts_with("tidegate-") || nominated()
}

/// Complete lines of the selected fields.
fn lines(fields: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| wanted(name)) {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines
}
