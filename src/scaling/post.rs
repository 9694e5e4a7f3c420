//! One message to the receiver of webhooks: HTTP/1.1 over a connection of its own, signed.
//!
//! The secret and the certificate authorities are read for each message, so replaced files need no reload.

use crate::decision::plan::UpstreamTls;
use crate::decision::scaling::Webhook;
use crate::tls::client::{Speaks, build};
use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::fmt::Write;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Not `tidegate-*`: a Tidegate before the receiver would remove such a field.
const SIGNATURE: HeaderName = HeaderName::from_static("x-tidegate-signature");
const ID: HeaderName = HeaderName::from_static("idempotency-key");

/// Posts a message; the whole exchange has `webhook.timeout`.
///
/// # Errors
/// Why the receiver has not accepted it, for the log.
pub(super) async fn post(webhook: Webhook, id: String, body: Bytes) -> Result<(), String> {
    let within = webhook.timeout;
    match timeout(within, exchange(webhook, id, body)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no response within {within:?}")),
    }
}

async fn exchange(webhook: Webhook, id: String, body: Bytes) -> Result<(), String> {
    let files = webhook.clone();
    let read = tokio::task::spawn_blocking(move || files_of(&files)).await;
    let (secret, tls) = read.map_err(|error| error.to_string())??;
    let request = http::Request::post(&webhook.target)
        .header(HOST, &webhook.host)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header(ID, id)
        .header(SIGNATURE, signature(&secret, &body))
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(&webhook.authority).await.map_err(|error| error.to_string())?;
    match tls {
        None => send(stream, request).await,
        Some((config, name)) => {
            let connector = tokio_rustls::TlsConnector::from(config);
            let stream = connector.connect(name, stream).await;
            send(stream.map_err(|error| error.to_string())?, request).await
        }
    }
}

async fn send<S>(stream: S, request: http::Request<Full<Bytes>>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_buf_size(16 * 1024).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    // The driver ends with this function: the response's body is not read.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("answered {status}")),
    }
}

type Tls = (Arc<rustls::ClientConfig>, ServerName<'static>);

fn files_of(webhook: &Webhook) -> Result<(Vec<u8>, Option<Tls>), String> {
    let path = &webhook.secret_file;
    let secret = std::fs::read_to_string(path);
    let secret = secret.map_err(|error| format!("secret file {}: {error}", path.display()))?;
    if secret.trim().is_empty() {
        return Err(format!("secret file {} is empty", path.display()));
    }
    let secret = secret.trim().as_bytes().to_vec();
    if !webhook.secure {
        return Ok((secret, None));
    }
    let terms =
        UpstreamTls { server_name: None, ca: webhook.ca.clone(), client: None, alpn: Vec::new() };
    let upstream = build(&terms, 0)?;
    let name = webhook.authority.rsplit_once(':').map_or(&*webhook.authority, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("`{name}` is not a server name"))?;
    Ok((secret, Some((upstream.config(Speaks::Http1).clone(), name))))
}

/// The signature of a body: HMAC-SHA256 in hexadecimal.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
    let mut text = "sha256=".to_owned();
    for byte in tag.as_ref() {
        if write!(text, "{byte:02x}").is_err() {
            // Writing to a string does not fail.
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn a_signature_is_hmac_sha256() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }
}
