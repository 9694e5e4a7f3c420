//! The response to a client that sends plain HTTP to a TLS listener.
//!
//! Such a client can read neither a TLS alert nor the reason of a closed connection. All other bytes go to the handshake.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    tidegate-refusal: bad_request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    cache-control: no-store\r\n\
    content-length: 53\r\n\
    connection: close\r\n\r\n\
    bad_request: this port speaks TLS, use https instead\n";
/// Limits on reading such a request, in bytes and time: closing with unread bytes would reset the response.
const BYTES: u64 = 64 * 1024;
const SPAN: Duration = Duration::from_secs(1);

/// Whether a connection that begins with this byte is plain HTTP: methods are in upper case, and a TLS record
/// begins with 22.
#[must_use]
pub const fn is_http(first: u8) -> bool {
    first.is_ascii_uppercase()
}

/// Responds with 400 in plain HTTP, and closes the connection.
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let answer = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(BYTES), &mut tokio::io::sink()).await
    };
    if !matches!(tokio::time::timeout(SPAN, answer).await, Ok(Ok(_))) {
        tracing::trace!("answer to plaintext on a TLS listener not sent in time");
    }
}
