//! The gRPC probe: one `grpc.health.v1.Health/Check`; the messages are encoded without a protobuf library.

use crate::decision::health::Cause;
use crate::os::stream::Stream;
use bytes::Bytes;
use http::{Method, Request, header};

/// Checks whether `service` (empty: the whole server) is serving.
pub(super) async fn check(
    stream: Stream,
    service: &str,
    authority: &str,
    secure: bool,
) -> Result<(), Cause> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(16 * 1024);
    let (send, connection) = builder.handshake(stream).await.map_err(|_| Cause::Protocol)?;
    // The connection is dropped, and thereby closed, with the call.
    let mut connection = std::pin::pin!(connection);
    let call = call(send, service, authority, secure);
    tokio::select! {
        // Poll the call first: its response may arrive together with the end of the connection.
        biased;
        result = call => result,
        _ = &mut connection => Err(Cause::Reset),
    }
}

async fn call(
    send: h2::client::SendRequest<Bytes>,
    service: &str,
    authority: &str,
    secure: bool,
) -> Result<(), Cause> {
    let authority = authority.strip_prefix("unix:").map_or(authority, |_| "localhost");
    let scheme = if secure { "https" } else { "http" };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "tidegate-probe")
        .body(())
        .map_err(|_| Cause::Protocol)?;
    let mut send = send.ready().await.map_err(|_| Cause::Reset)?;
    let (response, mut body) = send.send_request(request, false).map_err(|_| Cause::Reset)?;
    body.send_data(question(service), true).map_err(|_| Cause::Reset)?;
    let response = response.await.map_err(|_| Cause::Reset)?;
    if response.status() != 200 {
        return Err(Cause::ProbeStatus);
    }
    let mut answer = Vec::new();
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Cause::Reset)?;
        body.flow_control().release_capacity(data.len()).map_err(|_| Cause::Reset)?;
        answer.extend_from_slice(&data);
        if answer.len() > 1024 {
            return Err(Cause::Protocol);
        }
    }
    if is_serving(&answer) { Ok(()) } else { Err(Cause::ProbeStatus) }
}

/// `HealthCheckRequest { service = 1 }` with its gRPC prefix. Names are at most 127 bytes: `check` enforces it.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.extend([0x0a, service.len() as u8]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// `HealthCheckResponse { status = 1 }` with `SERVING` and its gRPC prefix.
fn is_serving(answer: &[u8]) -> bool {
    answer.len() >= 7 && answer[0] == 0 && answer[5..7] == [0x08, 0x01]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_health_protocol() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert!(is_serving(&[0, 0, 0, 0, 2, 8, 1]));
        assert!(!is_serving(&[0, 0, 0, 0, 2, 8, 2]));
        assert!(!is_serving(&[]));
    }
}
