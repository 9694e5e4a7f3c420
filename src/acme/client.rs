//! HTTPS to an authority: HTTP/1.1, a connection for each request, every exchange within a deadline.
//!
//! The authority names the URLs of all further requests; each must be https.

use crate::decision::acme::Directory;
use crate::decision::plan::UpstreamTls;
use crate::tls::client::{Speaks, build};
use bytes::Bytes;
use http::header::{HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The deadline of one exchange.
const EXCHANGE: Duration = Duration::from_secs(20);
/// The longest pause between two looks at an order that the library is told.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Bytes of a response's body.
pub(super) const BODY_MAX: usize = 256 * 1024;

/// A client of one authority.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    demanded: Arc<Demanded>,
}

/// What the authority demanded in its last refusal.
#[derive(Default)]
pub(super) struct Demanded {
    pause: Mutex<Option<Duration>>,
    requests: AtomicU64,
}

impl Demanded {
    /// The pause that the authority demanded, if it did.
    pub(super) fn pause(&self) -> Option<Duration> {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether a response demands a pause (RFC 8555 §6.6).
    fn note(&self, status: StatusCode, headers: &HeaderMap) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let is_refusal = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let pause = is_refusal.contains(&status).then(|| retry_after(headers)).flatten();
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = pause;
    }
}

impl Client {
    /// A client of this authority, and the place where it notes demanded pauses.
    ///
    /// # Errors
    /// Why the certificate authorities cannot be read.
    pub(super) fn new(directory: &Directory) -> Result<(Client, Arc<Demanded>), String> {
        let terms = UpstreamTls {
            server_name: None,
            ca: directory.ca.clone(),
            client: None,
            alpn: Vec::new(),
        };
        let tls = build(&terms, 0)?.config(Speaks::Http1).clone();
        let demanded = Arc::<Demanded>::default();
        Ok((Client { tls, demanded: demanded.clone() }, demanded))
    }

    async fn exchange(
        self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, String> {
        let url = request.uri().clone();
        let (Some("https"), Some(host)) = (url.scheme_str(), url.host()) else {
            return Err(format!("`{}` is not an https URL", url.to_string().escape_debug()));
        };
        let told = |error: std::io::Error| format!("{host}: {error}");
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
        let stream = TcpStream::connect((bare, url.port_u16().unwrap_or(443))).await;
        let connector = tokio_rustls::TlsConnector::from(self.tls);
        let stream = connector.connect(name, stream.map_err(told)?).await.map_err(told)?;
        let text = |error: hyper::Error| format!("{host}: {error}");
        let mut builder = hyper::client::conn::http1::Builder::new();
        let handshake = builder.max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(text)?;
        // The driver ends with this function.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let authority = url.authority().map_or(host, |authority| authority.as_str());
        let authority = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
        let agent = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(HOST, authority);
        request.headers_mut().insert(USER_AGENT, agent);
        let is_directory = request.method() == Method::GET;
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| "no path in the URL".to_owned())?;
        let (parts, body) = request.into_parts();
        // Never fails: the body is in memory.
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let request = Request::from_parts(parts, Full::new(body));
        let response = sender.send_request(request).await.map_err(text)?;
        let (mut parts, body) = response.into_parts();
        self.demanded.note(parts.status, &parts.headers);
        bound_pause(&mut parts.headers);
        let body = Limited::new(body, BODY_MAX).collect().await;
        let body = body.map_err(|error| format!("{host}: {error}"))?.to_bytes();
        if is_directory {
            check_directory(&body)?;
        }
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answered = tokio::time::timeout(EXCHANGE, client.exchange(request)).await;
            let answered =
                answered.unwrap_or_else(|_| Err(format!("no response within {EXCHANGE:?}")));
            answered.map_err(|why| Error::Other(why.into()))
        })
    }
}

/// Bounds `Retry-After`, which the library adds to the present time: the sum would overflow.
fn bound_pause(headers: &mut HeaderMap) {
    match retry_after(headers) {
        Some(pause) => {
            let seconds = pause.min(PAUSE_MAX).as_secs();
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        None => drop(headers.remove(RETRY_AFTER)),
    }
}

/// Refuses a directory with a URL for nonces that is none, over which the library would panic. The library judges
/// everything else.
fn check_directory(body: &[u8]) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Urls {
        #[serde(rename = "newNonce")]
        new_nonce: String,
    }
    let Ok(Urls { new_nonce }) = serde_json::from_slice(body) else { return Ok(()) };
    match new_nonce.parse::<http::Uri>() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the directory's newNonce is not a URL: {error}")),
    }
}

/// The pause in `Retry-After`: seconds, or the time until a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(SystemTime::from(date.timestamp()).duration_since(now()).unwrap_or_default())
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + crate::os::clock::since_epoch()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        let later =
            crate::os::clock::http_date(crate::os::clock::since_epoch() + Duration::from_secs(600));
        let read_later = read(&later).unwrap();
        assert!((590..=600).contains(&read_later.as_secs()), "{read_later:?}");
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn the_library_is_told_bounded_pauses_and_valid_urls_alone() {
        let bounded = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            bound_pause(&mut headers);
            headers.get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(bounded("3").as_deref(), Some("3"));
        assert_eq!(bounded(&u64::MAX.to_string()).as_deref(), Some("3600"));
        assert_eq!(bounded("Wed, 31 Dec 2098 23:59:59 GMT").as_deref(), Some("3600"));
        assert_eq!(bounded("soon"), None);
        assert_eq!(check_directory(br#"{"newNonce": "https://a.example/nonce"}"#), Ok(()));
        assert_eq!(check_directory(b"<html>"), Ok(()), "the library refuses it");
        for wrong in ["", "https://a b"] {
            let body = serde_json::json!({ "newNonce": wrong }).to_string();
            assert!(check_directory(body.as_bytes()).is_err(), "{wrong}");
        }
    }
}
