//! Connections to the admin API: their number, and how long each may block.
//!
//! A new connection is always accepted; at the limit, the connection that was idle for longest is closed. Therefore
//! a liveness probe is answered even while slow clients hold connections. A connection whose client does not read
//! its response is closed.

use crate::telemetry::cells::AdminRefusals;
use crate::telemetry::results::AdminRefusal;
use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// Concurrent connections, at most.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// The timeout of a request head, and of a handshake.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may read nothing; after that, the minimum rate in bytes a second.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_RATE_MIN: f64 = 4_096.0;

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Open>>>,
    next: AtomicU64,
    started: Instant,
    refused: Arc<AdminRefusals>,
}

#[derive(Debug)]
struct Open {
    /// The time of the last byte read or written, in milliseconds since the start.
    moved_ms: AtomicU64,
    /// The time since which a response waits to be read, in milliseconds since the start; `u64::MAX` if none waits.
    stalled_ms: AtomicU64,
    end: Notify,
    /// Whether the connection was counted as one whose client does not read.
    is_counted: AtomicBool,
}

/// The client of a connection, to count that it does not read.
#[derive(Clone, Debug)]
pub(super) struct Client(Arc<Connections>, Arc<Open>);

impl Client {
    /// Counts the connection, once.
    pub(super) fn unread(&self) {
        self.0.unread(&self.1);
    }
}

/// Counts one open connection until dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    all: Arc<Connections>,
    id: u64,
    own: Arc<Open>,
}

impl Connections {
    /// No connection yet; closed connections are counted in `refused`.
    pub(super) fn new(refused: Arc<AdminRefusals>) -> Connections {
        let (open, next) = (Mutex::default(), AtomicU64::new(0));
        Connections { open, next, started: Instant::now(), refused }
    }

    /// Counts a connection or a request that meets a limit.
    pub(super) fn count(&self, reason: AdminRefusal) {
        self.refused.count(reason);
    }

    /// Adds a connection; at the limit, closes the connection that was idle for longest.
    #[must_use]
    pub(super) fn enter(self: &Arc<Connections>) -> ConnectionGuard {
        let own = Arc::new(Open {
            moved_ms: AtomicU64::new(self.now_ms()),
            stalled_ms: AtomicU64::new(u64::MAX),
            end: Notify::new(),
            is_counted: AtomicBool::new(false),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= CONNECTIONS_MAX
            && end_least(&mut open, |open| Some(open.moved_ms.load(Ordering::Relaxed))).is_some()
        {
            self.count(AdminRefusal::Connections);
        }
        open.insert(id, own.clone());
        ConnectionGuard { all: self.clone(), id, own }
    }

    /// Closes the connection whose response has waited for longest to be read, if a response waits.
    pub(super) fn end_most_stalled(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = end_least(&mut open, |open| {
            Some(open.stalled_ms.load(Ordering::Relaxed)).filter(|since| *since != u64::MAX)
        });
        if let Some(open) = ended {
            self.unread(&open);
        }
    }

    /// Counts a connection whose client does not read, once.
    fn unread(&self, open: &Open) {
        if !open.is_counted.swap(true, Ordering::Relaxed) {
            self.count(AdminRefusal::Unread);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Ends the connection of the lowest rank, and returns it.
fn end_least(
    all: &mut BTreeMap<u64, Arc<Open>>,
    rank: impl Fn(&Open) -> Option<u64>,
) -> Option<Arc<Open>> {
    let ranked = all.iter().filter_map(|(id, open)| Some((rank(open)?, *id)));
    let ended = ranked.min().and_then(|(_, id)| all.remove(&id));
    ended.inspect(|open| open.end.notify_one())
}

impl ConnectionGuard {
    /// Runs `work` until this connection is to be closed.
    pub(super) async fn hold<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            // The close request first: it frees a connection for another client.
            biased;
            () = self.own.end.notified() => None,
            done = work => Some(done),
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut open = self.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.id);
    }
}

/// Serves a connection until one side closes it.
pub(super) async fn serve<S>(stream: S, router: Router, guard: &ConnectionGuard)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (all, own) = (guard.all.clone(), guard.own.clone());
    let client = Client(all.clone(), own.clone());
    let router = router.layer(Extension(client.clone()));
    let stream = Timed { stream, all, own, since: None, late: None, client };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection failed");
    }
}

/// A stream whose writes fail when the peer reads too slowly.
struct Timed<S> {
    stream: S,
    all: Arc<Connections>,
    own: Arc<Open>,
    /// The time since which a write waits; it advances with each byte that the peer reads.
    since: Option<Instant>,
    late: Option<Pin<Box<Sleep>>>,
    client: Client,
}

impl<S> Timed<S> {
    fn moved(&self) {
        self.own.moved_ms.store(self.all.now_ms(), Ordering::Relaxed);
    }

    fn took(&mut self, bytes: usize) {
        self.moved();
        let paid = Duration::from_secs_f64(bytes as f64 / WRITE_RATE_MIN);
        self.since = self.since.and_then(|since| since.checked_add(paid));
        if self.since.is_none_or(|since| since >= Instant::now()) {
            self.caught_up();
        }
    }

    fn caught_up(&mut self) {
        (self.since, self.late) = (None, None);
        self.own.stalled_ms.store(u64::MAX, Ordering::Relaxed);
    }

    /// Waits until the peer's rate falls below the minimum.
    fn poll_late<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.own.stalled_ms.store(self.all.now_ms(), Ordering::Relaxed);
        }
        let due = self.since.unwrap_or_else(Instant::now) + WRITE_TIMEOUT;
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if late.deadline() != due {
            late.as_mut().reset(due);
        }
        ready!(late.as_mut().poll(context));
        let late = Err(io::ErrorKind::TimedOut.into());
        self.note(&late);
        Poll::Ready(late)
    }

    /// Counts the connection if this error says that the client did not read in time. The error is this stream's own, or
    /// the kernel's for bytes that it has accepted (`TCP_USER_TIMEOUT`).
    fn note<T>(&mut self, result: &io::Result<T>) {
        let is_late = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        if is_late {
            self.client.unread();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, space));
        self.note(&read);
        self.moved();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) else {
            return self.poll_late(context);
        };
        self.note(&written);
        self.took(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        let Poll::Ready(written) = polled else { return self.poll_late(context) };
        self.note(&written);
        self.took(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context) else {
            return self.poll_late(context);
        };
        // The kernel has accepted all bytes.
        self.caught_up();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Poll::Ready(closed) = Pin::new(&mut self.stream).poll_shutdown(context) else {
            return self.poll_late(context);
        };
        Poll::Ready(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;

    /// A body that never ends.
    struct Endless;

    impl hyper::body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1_000])))))
        }
    }

    fn connections() -> Arc<Connections> {
        Arc::new(Connections::new(Arc::default()))
    }

    fn counted(all: &Connections, reason: AdminRefusal) -> u64 {
        all.refused.iter().find(|(label, _)| *label == reason.label()).unwrap().1
    }

    fn router() -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/long", get(|| async { vec![b'x'; 1_000_000] }))
            .route("/events", get(|| async { Body::new(Endless) }))
    }

    async fn ask(all: &Arc<Connections>, path: &str) -> (DuplexStream, JoinHandle<()>) {
        let (mut client, stream) = tokio::io::duplex(4_096);
        let guard = all.enter();
        let task = tokio::spawn(async move {
            guard.hold(serve(stream, router(), &guard)).await;
        });
        client.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        (client, task)
    }

    async fn ends_within(task: JoinHandle<()>, secs: u64) {
        let ended = tokio::time::timeout(Duration::from_secs(secs), task).await;
        assert!(ended.is_ok_and(|ended| ended.is_ok()), "it is held for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unread_response_or_stream_closes_its_connection() {
        for path in ["/long", "/events"] {
            let all = connections();
            let (_client, task) = ask(&all, path).await;
            ends_within(task, 11).await;
            assert_eq!(counted(&all, AdminRefusal::Unread), 1, "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_read_below_the_minimum_rate_is_closed_and_a_slow_reader_is_served() {
        let (mut client, task) = ask(&connections(), "/long").await;
        tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        ends_within(task, 30).await;

        let (mut client, _task) = ask(&connections(), "/long").await;
        let (mut all, mut space) = (0, [0; 2_048]);
        while all < 1_000_000 {
            let count = client.read(&mut space).await.unwrap();
            assert!(count > 0, "cut after {all}");
            all += count;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_request_closes_its_connection() {
        let (mut client, stream) = tokio::io::duplex(4_096);
        let guard = connections().enter();
        let task = tokio::spawn(async move { serve(stream, router(), &guard).await });
        client.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        ends_within(task, 11).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_is_answered_beside_any_number_of_idle_or_stalled_connections() {
        let all = connections();
        let mut held = Vec::new();
        for number in 0..2 * CONNECTIONS_MAX {
            held.push(ask(&all, ["/long", "/events"][number % 2]).await);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let running = held.iter().filter(|(_, task)| !task.is_finished()).count();
        assert!(running <= CONNECTIONS_MAX, "{running}");
        assert_eq!(counted(&all, AdminRefusal::Connections), CONNECTIONS_MAX as u64);
        let before = Instant::now();
        let (mut client, _task) = ask(&all, "/livez").await;
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        assert!(before.elapsed() < Duration::from_millis(100));
    }
}
