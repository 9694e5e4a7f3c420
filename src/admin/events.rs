//! Server-sent events: state changes when they happen, and a snapshot every second.

use super::connection::Client;
use super::{Backend, api};
use crate::telemetry::results::AdminRefusal;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

/// The queue of events for a slow reader; when the queue is full, the stream is closed. A snapshot is skipped while
/// events are queued.
const WAITING_MAX: usize = 256;
/// Concurrent streams: an eighth of the connections.
const STREAMS_MAX: usize = 32;
/// How long one snapshot serves all streams.
const FRESH: Duration = Duration::from_millis(500);

static STREAMS: Semaphore = Semaphore::const_new(STREAMS_MAX);

/// The newest snapshot, made once for all streams.
#[derive(Debug, Default)]
pub(super) struct Snapshot(Mutex<Option<(Instant, Bytes)>>);

impl Snapshot {
    fn of(backend: &Backend) -> Bytes {
        let mut kept = backend.memory.snapshot.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((made, frame)) if made.elapsed() < FRESH => frame.clone(),
            Some(_) | None => {
                let text = api::snapshot(backend).unwrap_or_else(|error| {
                    tracing::error!(%error, "snapshot not written");
                    "null".to_owned()
                });
                let frame = frame("snapshot", &text);
                *kept = Some((Instant::now(), frame.clone()));
                frame
            }
        }
    }
}

fn frame(kind: &str, text: &str) -> Bytes {
    Bytes::from(format!("event: {kind}\ndata: {text}\n\n"))
}

struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub(super) async fn events(
    State(backend): State<Arc<Backend>>,
    Extension(client): Extension<Client>,
) -> Response {
    let Ok(stream) = STREAMS.try_acquire() else {
        backend.shared.registry.admin_refused.count(AdminRefusal::EventStreams);
        let message = format!("all {STREAMS_MAX} event streams are in use\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], message).into_response();
    };
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(feed(backend, (sender, client), stream));
    ([(CONTENT_TYPE, "text/event-stream")], Body::new(Events(receiver))).into_response()
}

async fn feed(
    backend: Arc<Backend>,
    (sender, client): (mpsc::Sender<Bytes>, Client),
    _open: SemaphorePermit<'static>,
) {
    let mut news = backend.shared.news.subscribe();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            // Events before snapshots: a snapshot already includes their effect.
            biased;
            received = news.recv() => match received {
                Ok(text) => frame(&kind_of(&text), &text),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    frame("missed", &missed.to_string())
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            () = sender.closed() => return,
            _ = seconds.tick() => match sender.capacity() {
                WAITING_MAX => Snapshot::of(&backend),
                _ => continue,
            },
        };
        match sender.try_send(frame) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return client.unread(),
            Err(TrySendError::Closed(_)) => return,
        }
    }
}

/// The name of an event: its `kind`, so that a page can subscribe to the kinds that it needs.
fn kind_of(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_str(text).map_or("event".to_owned(), |Kind { kind }| kind)
}
