//! Keep-alive of HTTP/2 connections (PING, RFC 9113 §6.7).
//!
//! gRPC calls and event streams may be silent without limit, and TCP keep-alive detects only a dead host: the
//! kernel of a hung process still acknowledges bytes.

use h2::{Ping, PingPong};
use std::time::Duration;

/// The interval between two pings while exchanges are in flight.
const EVERY: Duration = Duration::from_secs(30);
/// The timeout of a ping.
const WITHIN: Duration = Duration::from_secs(20);

/// Returns when a ping is not answered in time or cannot be sent. Pings are sent only while `is_needed`.
pub async fn unanswered(ping: Option<PingPong>, is_needed: impl Fn() -> bool) {
    let Some(mut ping) = ping else { return std::future::pending().await };
    loop {
        tokio::time::sleep(EVERY).await;
        if !is_needed() {
            continue;
        }
        let answered = tokio::time::timeout(WITHIN, ping.ping(Ping::opaque())).await;
        if !matches!(answered, Ok(Ok(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Whether a connection stays open with a peer that answers pings, or with one that hangs.
    async fn lasts(hangs: bool, needed: bool) -> Option<Duration> {
        let (near, far) = tokio::io::duplex(4_096);
        let stopped = std::rc::Rc::new(Cell::new(false));
        let is_stopped = stopped.clone();
        let server = async move {
            let Ok(mut connection) = h2::server::handshake(far).await else { return };
            std::future::poll_fn(|context| match is_stopped.get() {
                true => std::task::Poll::Pending,
                false => connection.poll_closed(context).map(drop),
            })
            .await;
        };
        let client = async {
            let (_send, mut connection) = h2::client::handshake(near).await.expect("it begins");
            let ping = connection.ping_pong();
            let begun = tokio::time::Instant::now();
            tokio::select! {
                _ = connection => None,
                () = unanswered(ping, || needed) => Some(begun.elapsed()),
                () = tokio::time::sleep(Duration::from_secs(600)) => None,
                () = async {
                    tokio::time::sleep(Duration::from_secs(100)).await;
                    stopped.set(hangs);
                    std::future::pending::<()>().await;
                } => None,
            }
        };
        tokio::select! {
            ended = client => ended,
            () = server => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answered_ping_continues_and_an_unanswered_one_ends() {
        assert_eq!(lasts(false, true).await, None);
        let found = lasts(true, true).await.expect("it is found out");
        let most = Duration::from_secs(100) + EVERY + WITHIN + Duration::from_secs(1);
        assert!(found > Duration::from_secs(100) && found <= most, "{found:?}");
        // No exchange is in flight: no ping is sent.
        assert_eq!(lasts(true, false).await, None);
    }
}
