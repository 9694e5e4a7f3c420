//! A key in a JetStream bucket, by the client `async-nats`.

use super::connect;
use super::key::{self, Ask, Found, Key, Seen};
use crate::decision::nats::BucketKey;
use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::kv::{Entry, Operation, Store, Watch};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::StreamExt;

/// Changes that wait to be read; only the last one matters, and a lost one is found by the next read.
const QUEUED_IN: usize = 8;
/// Requests that wait to be sent.
const QUEUED_OUT: usize = 8;
/// Connection attempts of one client, at most. Then a new client is created, which reads the credentials file again.
const ATTEMPTS: usize = 1;

struct Bucket {
    client: Client,
    store: Store,
    key: String,
    watch: Option<Watch>,
    /// Whether it was logged that the key cannot be watched.
    complained: bool,
}

/// Follows a key until all senders of `asked` are gone.
pub async fn follow(key: BucketKey, seen: Arc<watch::Sender<Seen>>, asked: mpsc::Receiver<Ask>) {
    key::follow(&key.name(), || open(key.clone()), connect::pause, &seen, asked).await;
}

/// Connects, and reads the key once.
///
/// # Errors
/// Why it cannot be read.
pub async fn read_once(key: &BucketKey) -> Result<Found, String> {
    key::read(&mut open(key.clone()).await?).await
}

async fn open(key: BucketKey) -> Result<Bucket, String> {
    let options = connect::options(&key.servers, "tidegate configuration")
        .subscription_capacity(QUEUED_IN)
        .client_capacity(QUEUED_OUT)
        .max_reconnects(ATTEMPTS);
    let client = connect::connect(&key.servers, options).await?;
    let context = jetstream::new(client.clone());
    let store = match timeout(key::ANSWER, context.get_key_value(&key.bucket)).await {
        Ok(store) => store.map_err(|error| format!("bucket `{}`: {error}", key.bucket))?,
        Err(_) => return Err(format!("bucket `{}`: no answer in time", key.bucket)),
    };
    Ok(Bucket { client, store, key: key.key, watch: None, complained: false })
}

impl Key for Bucket {
    async fn read(&mut self) -> Result<Found, String> {
        let entry = self.store.entry(self.key.as_str()).await;
        match entry.map_err(|error| format!("key `{}`: {error}", self.key))? {
            Some(entry) => Ok(found(&entry)),
            None => Ok(Found::new(0, None)),
        }
    }

    async fn watch(&mut self) {
        if self.watch.is_some() {
            return;
        }
        let error = match timeout(key::ANSWER, self.store.watch(&self.key)).await {
            Ok(Ok(watch)) => {
                self.watch = Some(watch);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("key `{}` not watched, only read every 30 s: {error}", self.key);
        }
    }

    fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    async fn changed(&mut self) -> Found {
        loop {
            let Some(watch) = &mut self.watch else { return std::future::pending().await };
            match watch.next().await {
                Some(Ok(entry)) => return found(&entry),
                Some(Err(error)) => {
                    tracing::debug!(%error, "key not watched until the next read");
                    self.watch = None;
                }
                None => self.watch = None,
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

fn found(entry: &Entry) -> Found {
    let value = match entry.operation {
        Operation::Put => Some(&*entry.value),
        Operation::Delete | Operation::Purge => None,
    };
    Found::new(entry.revision, value)
}
