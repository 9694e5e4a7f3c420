//! The answering side of a conversation: one byte asks, one line answers.

use super::{Fleet, MEMBER, SITE};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;

/// How long a peer may ask nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How long a peer may take for an answer.
const TAKEN: Duration = Duration::from_secs(5);
/// Between two answers in one conversation.
const PAUSE: Duration = Duration::from_millis(100);

/// The right to one conversation.
#[derive(Debug)]
pub struct Answering(Arc<Fleet>, #[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Fleet {
    /// The right to one more conversation, if there is room.
    #[must_use]
    pub fn enter(self: &Arc<Fleet>) -> Option<Answering> {
        let permit = self.answering.clone().try_acquire_owned().ok()?;
        Some(Answering(self.clone(), permit))
    }
}

impl Answering {
    /// Answers until the peer leaves, asks what is no question, is idle, or does not take its answer.
    pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S) {
        let site = self.0.identity().site;
        let mut question = [0; 1];
        while let Ok(Ok(1)) = tokio::time::timeout(IDLE, stream.read(&mut question)).await {
            let of_site = match question[0] {
                MEMBER => false,
                SITE => true,
                _ => return,
            };
            if self.0.identity().site != site {
                // A reload has renamed the site: a new conversation begins with the new name.
                return;
            }
            let line = format!("{}\n", self.0.told(of_site));
            let written = async {
                stream.write_all(line.as_bytes()).await?;
                stream.flush().await
            };
            if !matches!(tokio::time::timeout(TAKEN, written).await, Ok(Ok(()))) {
                return;
            }
            // A flood of questions waits in the peer's own send buffer.
            tokio::time::sleep(PAUSE).await;
        }
    }
}
