//! What a client is told that speaks HTTP in clear where TLS is spoken.
//!
//! An alert of TLS would be noise to it, and a closed connection no hint. Any other bytes are left to the handshake.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    tidegate-refusal: bad_request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    cache-control: no-store\r\n\
    content-length: 53\r\n\
    connection: close\r\n\r\n\
    bad_request: this port speaks TLS, use https instead\n";
/// Of such a request so much is read, and for so long: bytes left unread would reset what was answered.
const BYTES: u64 = 64 * 1024;
const SPAN: Duration = Duration::from_secs(1);

/// Whether a connection that begins with this byte speaks HTTP: methods are in upper case, a record of TLS begins
/// with 22.
#[must_use]
pub const fn is_http(first: u8) -> bool {
    first.is_ascii_uppercase()
}

/// Answers 400 in clear, and ends the connection.
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
