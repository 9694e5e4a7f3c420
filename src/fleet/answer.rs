//! The server side of a fleet connection: the peer sends one byte as a request, and gets a report as one line.

use super::{Fleet, MEMBER, SITE};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// How long a peer may send no request.
const IDLE: Duration = Duration::from_secs(60);
/// The deadline for sending one report to a peer.
const TAKEN: Duration = Duration::from_secs(5);
/// The least time between two reports on one connection.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The permit for one connection of a peer.
#[derive(Debug)]
pub struct Answering(Arc<Fleet>, #[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// Why a connection of a peer ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The peer closed it, was idle, or sent an unknown request.
    Closed,
    /// The peer did not read a report in time.
    Unread,
}

impl Fleet {
    /// The permit for one more connection, below the limit.
    #[must_use]
    pub fn enter(self: &Arc<Fleet>) -> Option<Answering> {
        let permit = self.answering.clone().try_acquire_owned().ok()?;
        Some(Answering(self.clone(), permit))
    }
}

impl Answering {
    /// Sends reports until the peer closes the connection, sends an unknown request, is idle, or does not read. Calls
    /// `early` for each request that was sent before the pause after the last report ended.
    pub async fn answer<S>(self, mut stream: S, early: impl Fn()) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let site = self.0.identity().site;
        let mut is_first = true;
        while let Some((question, waited)) = question(&mut stream).await {
            let of_site = match question {
                MEMBER => false,
                SITE => true,
                _ => return Ended::Closed,
            };
            if self.0.identity().site != site {
                // A reload has renamed the site: the next connection begins with the new name.
                return Ended::Closed;
            }
            if waited && !is_first {
                early();
            }
            is_first = false;
            let line = format!("{}\n", self.0.told(of_site));
            let written = async {
                stream.write_all(line.as_bytes()).await?;
                stream.flush().await
            };
            match timeout(TAKEN, written).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ended::Closed,
                Err(_) => return Ended::Unread,
            }
            // A flood of requests waits in the peer's own send buffer.
            tokio::time::sleep(PAUSE).await;
        }
        Ended::Closed
    }
}

/// Reads the next request, and whether it was there already; `None` when the peer closes the connection or is idle.
async fn question<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(u8, bool)> {
    let mut question = [0; 1];
    let (read, waited) = match timeout(Duration::ZERO, stream.read(&mut question)).await {
        Ok(read) => (read, true),
        Err(_) => (timeout(IDLE, stream.read(&mut question)).await.ok()?, false),
    };
    (read.ok()? == 1).then_some((question[0], waited))
}
