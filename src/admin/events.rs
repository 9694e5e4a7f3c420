//! Server-sent events: state changes as they happen, and a snapshot a second.

use super::{Backend, api};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// Events that may wait for a slow reader; then it is cut off.
const WAITING_MAX: usize = 256;

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

pub(super) async fn events(State(backend): State<Arc<Backend>>) -> Response {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(feed(backend, sender));
    ([(CONTENT_TYPE, "text/event-stream")], Body::new(Events(receiver))).into_response()
}

async fn feed(backend: Arc<Backend>, sender: mpsc::Sender<Bytes>) {
    let mut news = backend.shared.news.subscribe();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        let (kind, text) = tokio::select! {
            // News first: a snapshot can wait for what it would show.
            biased;
            told = news.recv() => match told {
                Ok(text) => (kind_of(&text), text),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    ("missed".to_owned(), missed.to_string())
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = seconds.tick() => ("snapshot".to_owned(), api::snapshot(&backend).to_string()),
        };
        let frame = Bytes::from(format!("event: {kind}\ndata: {text}\n\n"));
        if sender.try_send(frame).is_err() {
            return;
        }
    }
}

/// The name of an event: its `kind`, so that a page listens to what it wants.
fn kind_of(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_str(text).map_or("event".to_owned(), |Kind { kind }| kind)
}
