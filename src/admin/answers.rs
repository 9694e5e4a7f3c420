//! Limits of admin requests and answers: a deadline for request bodies, and a limit on the bytes of unread answers.

use super::connection::Connections;
use crate::telemetry::results::AdminRefusal;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limit of a request body, and the deadline for reading it.
const BODY_MAX: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit on the bytes of all unread answers, and the unit in which they are counted.
const UNTAKEN_BYTES: usize = 16 * 1024 * 1024;
const UNIT_BYTES: usize = 16 * 1024;
const UNITS: usize = UNTAKEN_BYTES / UNIT_BYTES;
/// Answers that are computed at the same time.
const MADE_AT_ONCE: usize = 8;
/// The attempts to reserve memory for an answer, and the duration of each.
const TRIES: usize = 20;
const EACH_TRY: Duration = Duration::from_millis(250);

/// The limits of answers.
#[derive(Debug)]
pub(super) struct Bounds {
    made: Semaphore,
    untaken: Arc<Semaphore>,
    connections: Arc<Connections>,
}

/// The bytes of an answer, counted until they are written or dropped.
struct Counted {
    bytes: Bytes,
    _untaken: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bounds {
    /// Limits for the answers on these connections.
    pub(super) fn new(connections: Arc<Connections>) -> Bounds {
        let (made, untaken) = (Semaphore::new(MADE_AT_ONCE), Semaphore::new(UNITS));
        Bounds { made, untaken: Arc::new(untaken), connections }
    }

    /// Waits for memory; meanwhile ends the connections whose clients have read nothing for longest.
    async fn memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).clamp(1, UNITS)).unwrap_or(u32::MAX);
        for _ in 0..TRIES {
            let acquired = self.untaken.clone().acquire_many_owned(units);
            if let Ok(permit) = tokio::time::timeout(EACH_TRY, acquired).await {
                return permit.ok();
            }
            self.connections.end_most_stalled();
        }
        None
    }

    fn busy(&self) -> Response {
        self.connections.count(AdminRefusal::Busy);
        let message = "too many responses are waiting to be read\n";
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], message).into_response()
    }
}

/// Reads a request's body, computes the answer, and counts its bytes until the client has read them.
pub(super) async fn bounded(
    State(bounds): State<Arc<Bounds>>,
    request: Request,
    next: Next,
) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return match whole(request).await {
            Ok(request) => next.run(request).await,
            Err(refused) => refused.into_response(),
        };
    }
    let waited = tokio::time::timeout(TRIES as u32 * EACH_TRY, bounds.made.acquire()).await;
    let Ok(Ok(_made)) = waited else { return bounds.busy() };
    let (parts, body) = next.run(request).await.into_parts();
    // An event stream has no fixed size; its queue is bounded instead.
    let Some(bytes) = body.size_hint().exact() else { return Response::from_parts(parts, body) };
    let Some(untaken) = bounds.memory(usize::try_from(bytes).unwrap_or(usize::MAX)).await else {
        return bounds.busy();
    };
    let Ok(bytes) = to_bytes(body, usize::MAX).await else { return bounds.busy() };
    Response::from_parts(parts, Body::from(Bytes::from_owner(Counted { bytes, _untaken: untaken })))
}

async fn whole(request: Request) -> Result<Request, (StatusCode, &'static str)> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB\n")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 10 seconds\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::connection;
    use axum::Router;
    use axum::routing::{get, put};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    fn begin(bounds: &Arc<Bounds>) -> DuplexStream {
        let (client, stream) = tokio::io::duplex(4_096);
        let router = Router::new()
            .route("/long", get(|| async { vec![b'x'; 4 * 1024 * 1024] }))
            .route("/body", put(|body: Bytes| async move { body }))
            .layer(axum::middleware::from_fn_with_state(bounds.clone(), bounded));
        let place = bounds.connections.enter();
        tokio::spawn(async move {
            place.hold(connection::serve(stream, router, &place)).await;
        });
        client
    }

    async fn status(client: &mut DuplexStream) -> String {
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn unread_answers_are_bounded_in_bytes_and_the_oldest_are_dropped() {
        let refused = Arc::new(crate::telemetry::cells::AdminRefusals::default());
        let bounds = Arc::new(Bounds::new(Arc::new(Connections::new(refused.clone()))));
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut client = begin(&bounds);
            client.write_all(b"GET /long HTTP/1.1\r\n\r\n").await.unwrap();
            held.push(client);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(bounds.untaken.available_permits(), 0);

        let mut client = begin(&bounds);
        client.write_all(b"GET /long HTTP/1.1\r\n\r\n").await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(1), status(&mut client)).await;
        assert_eq!(answered.as_deref(), Ok("200"));
        assert!(refused.iter().any(|counted| counted == ("unread", 1)), "the oldest is counted");

        drop((client, held));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(bounds.untaken.available_permits(), UNITS, "what is given up is counted out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_or_endless_body_is_refused() {
        let bounds = Arc::new(Bounds::new(Arc::new(Connections::new(Arc::default()))));
        for (length, sent, expected) in [(5, 5, "200"), (5, 4, "408"), (70_000, 70_000, "413")] {
            let mut client = begin(&bounds);
            let head = format!("PUT /body HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(client);
            let sending = tokio::spawn(async move {
                drop(writer.write_all(&vec![b'x'; sent]).await);
                writer
            });
            let mut answer = [0; 12];
            let read =
                tokio::time::timeout(Duration::from_secs(11), reader.read_exact(&mut answer));
            assert!(read.await.is_ok_and(|read| read.is_ok()), "{expected}");
            assert_eq!(&answer[9..], expected.as_bytes());
            drop(sending);
        }
    }
}
