//! Follows the value of a key: it is watched, and also read every [`POLL`], since a watch may end unnoticed.
//!
//! # Revisions
//! A value replaces another one if its revision is greater. A smaller revision is taken when two reads in a row find
//! it: a replica may lag behind, but a bucket that was created anew begins at 1.
//!
//! # Bounds
//! Only the newest value is kept, of at most [`BYTES_MAX`] bytes. Each read has a deadline.

use crate::decision::units::hash;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Bytes of a value, the most that NATS recommends for a message.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Between two reads.
pub const POLL: Duration = Duration::from_secs(30);
/// For one read.
pub const ANSWER: Duration = Duration::from_secs(4);
/// Between two looks at the state of the connection.
const LOOK: Duration = Duration::from_secs(1);

/// A value at a revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The revision; 0 if the key never had a value.
    pub revision: u64,
    /// The text, or why there is none: the key was deleted, or its value is too long or not UTF-8.
    pub text: Result<Arc<str>, String>,
    /// The hash of the text; 0 without a text.
    pub hash: u64,
}

impl Found {
    /// The value of these bytes; `None` if the key was deleted.
    #[must_use]
    pub fn new(revision: u64, value: Option<&[u8]>) -> Found {
        let text = match value {
            None if revision == 0 => Err("the key has no value".to_owned()),
            None => Err("the key was deleted".to_owned()),
            Some(value) if value.len() > BYTES_MAX => {
                Err("the value is larger than 8 MiB".to_owned())
            }
            Some(value) => match std::str::from_utf8(value) {
                Ok(text) => Ok(Arc::from(text)),
                Err(_) => Err("the value is not UTF-8 text".to_owned()),
            },
        };
        let hash = text.as_ref().map_or(0, |text: &Arc<str>| hash(text.as_bytes()));
        Found { revision, text, hash }
    }
}

/// What is known of a key.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The newest value; `None` before the first read.
    pub found: Option<Found>,
    /// Whether there is a connection.
    pub connected: bool,
    /// Why there is none, or why the key cannot be read.
    pub error: Option<String>,
}

/// A request to read the key now.
pub type Ask = oneshot::Sender<Result<(), String>>;

/// A connection to the key.
pub trait Key: Send {
    /// Reads the value.
    fn read(&mut self) -> impl Future<Output = Result<Found, String>> + Send;
    /// Begins to watch the key, if it can be watched and is not yet.
    fn watch(&mut self) -> impl Future<Output = ()> + Send;
    /// Whether the key is watched.
    fn is_watched(&self) -> bool;
    /// The next change; does not return while the key is not watched.
    fn changed(&mut self) -> impl Future<Output = Found> + Send;
    /// Whether the connection exists.
    fn is_connected(&self) -> bool;
}

/// Follows a key until nobody can ask any more: `open` connects, and `pause` is the time before the next attempt after
/// a number of failures in a row.
pub async fn follow<K: Key, O: Future<Output = Result<K, String>> + Send>(
    name: &str,
    open: impl Fn() -> O,
    pause: impl Fn(usize) -> Duration,
    seen: &watch::Sender<Seen>,
    mut asked: mpsc::Receiver<Ask>,
) {
    let mut failures = 0;
    loop {
        let error = match open().await {
            Ok(mut key) => {
                failures = 0;
                match session(&mut key, name, seen, &mut asked).await {
                    Some(error) => error,
                    None => return,
                }
            }
            Err(error) => error,
        };
        failures += 1;
        lost(seen, name, &error);
        tokio::select! {
            // A request first: it ends the pause.
            biased;
            ask = asked.recv() => match ask {
                Some(done) => answer(done, Err(error)),
                None => return,
            },
            () = sleep(pause(failures)) => {}
        }
    }
}

/// Follows a key on one connection. Why it has ended; `None` if nobody can ask any more.
async fn session<K: Key>(
    key: &mut K,
    name: &str,
    seen: &watch::Sender<Seen>,
    asked: &mut mpsc::Receiver<Ask>,
) -> Option<String> {
    let (mut looks, mut polls) = (interval(LOOK), interval(POLL));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut revisions = Revisions::default();
    loop {
        tokio::select! {
            // Requests and looks first: a flood of changes must not delay them.
            biased;
            ask = asked.recv() => {
                let done = ask?;
                match read(key).await {
                    Ok(found) => {
                        take(seen, name, revisions.of_read(found, seen));
                        answer(done, Ok(()));
                    }
                    Err(error) => {
                        answer(done, Err(error.clone()));
                        return Some(error);
                    }
                }
            }
            _ = looks.tick() => {
                if !key.is_connected() {
                    return Some("connection lost".to_owned());
                }
            }
            _ = polls.tick() => {
                let was_watched = key.is_watched();
                match read(key).await {
                    Ok(found) => take(seen, name, revisions.of_read(found, seen)),
                    Err(error) => return Some(error),
                }
                key.watch().await;
                if key.is_watched() && !was_watched {
                    // It may have changed in between: read again.
                    polls.reset_immediately();
                }
            }
            found = key.changed() => take(seen, name, revisions.of_change(found, seen)),
        }
    }
}

/// Reads the value within the deadline.
pub(super) async fn read<K: Key>(key: &mut K) -> Result<Found, String> {
    timeout(ANSWER, key.read()).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

fn answer(done: Ask, result: Result<(), String>) {
    if done.send(result).is_err() {
        tracing::debug!("answer dropped: whoever asked has gone");
    }
}

/// The rule for revisions that become smaller.
#[derive(Default)]
struct Revisions {
    /// The smaller revision that the last read found.
    smaller: Option<u64>,
}

impl Revisions {
    /// A value that was read, if it replaces the known one.
    fn of_read(&mut self, found: Found, seen: &watch::Sender<Seen>) -> Option<Found> {
        if found.revision >= known(seen) {
            self.smaller = None;
            return Some(found);
        }
        let again = self.smaller.replace(found.revision) == Some(found.revision);
        again.then_some(found)
    }

    /// A change that was watched, if it replaces the known value.
    fn of_change(&self, found: Found, seen: &watch::Sender<Seen>) -> Option<Found> {
        (found.revision >= known(seen)).then_some(found)
    }
}

fn known(seen: &watch::Sender<Seen>) -> u64 {
    seen.borrow().found.as_ref().map_or(0, |found| found.revision)
}

/// Publishes a value, and that there is a connection.
fn take(seen: &watch::Sender<Seen>, name: &str, found: Option<Found>) {
    seen.send_if_modified(|seen| {
        if !seen.connected {
            tracing::info!("{name}: NATS connected");
        }
        (seen.connected, seen.error) = (true, None);
        let is_news = found.is_some() && seen.found != found;
        if is_news {
            seen.found = found;
        }
        is_news
    });
}

/// Notes why there is no connection; a new reason is logged.
fn lost(seen: &watch::Sender<Seen>, name: &str, error: &str) {
    seen.send_if_modified(|seen| {
        if seen.error.as_deref() != Some(error) {
            tracing::warn!("{name}: not followed, the configuration in force stays: {error}");
            seen.error = Some(error.to_owned());
        }
        seen.connected = false;
        false
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A key that nobody can watch.
    #[derive(Clone)]
    struct Deaf(Arc<World>);

    struct World {
        value: Mutex<Found>,
        connected: AtomicBool,
        opened: AtomicUsize,
    }

    impl Key for Deaf {
        async fn read(&mut self) -> Result<Found, String> {
            Ok(self.0.value.lock().unwrap().clone())
        }
        async fn watch(&mut self) {}
        fn is_watched(&self) -> bool {
            false
        }
        async fn changed(&mut self) -> Found {
            std::future::pending().await
        }
        fn is_connected(&self) -> bool {
            self.0.connected.load(Ordering::SeqCst)
        }
    }

    struct Rig {
        world: Arc<World>,
        seen: watch::Receiver<Seen>,
        asks: mpsc::Sender<Ask>,
    }

    impl Rig {
        fn start(value: Found) -> Rig {
            let world = Arc::new(World {
                value: Mutex::new(value),
                connected: AtomicBool::new(true),
                opened: AtomicUsize::new(0),
            });
            let (seen, receiver) = watch::channel(Seen::default());
            let (asks, asked) = mpsc::channel(1);
            let key = Deaf(world.clone());
            tokio::spawn(async move {
                let open = || {
                    key.0.opened.fetch_add(1, Ordering::SeqCst);
                    let is_there = key.is_connected();
                    std::future::ready(is_there.then(|| key.clone()).ok_or("gone".to_owned()))
                };
                follow("k", open, |_| Duration::from_secs(1), &seen, asked).await;
            });
            Rig { world, seen: receiver, asks }
        }

        fn put(&self, revision: u64, text: &str) {
            *self.world.value.lock().unwrap() = Found::new(revision, Some(text.as_bytes()));
        }

        /// The revision that is known after so long.
        async fn after(&self, span: Duration) -> u64 {
            sleep(span).await;
            self.seen.borrow().found.as_ref().map_or(0, |found| found.revision)
        }
    }

    #[test]
    fn a_value_is_text_of_bounded_length() {
        let told = |revision: u64, value: Option<&[u8]>| Found::new(revision, value).text;
        assert_eq!(told(1, Some(b"a: 1")), Ok("a: 1".into()));
        let long = vec![b'#'; BYTES_MAX + 1];
        assert!(told(1, Some(&long[1..])).is_ok());
        for (revision, value, why) in [
            (1, Some(&long[..]), "the value is larger than 8 MiB"),
            (1, Some(&b"\xff"[..]), "the value is not UTF-8 text"),
            (1, None, "the key was deleted"),
            (0, None, "the key has no value"),
        ] {
            assert_eq!(told(revision, value), Err(why.to_owned()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_no_watch_reports_is_found_by_the_next_read() {
        let rig = Rig::start(Found::new(1, Some(b"one")));
        assert_eq!(rig.after(LOOK).await, 1);
        rig.put(2, "two");
        assert_eq!(rig.after(POLL / 2).await, 1, "nobody told");

        assert_eq!(rig.after(POLL / 2).await, 2);

        rig.put(3, "three");
        let (done, answer) = oneshot::channel();
        rig.asks.send(done).await.unwrap();
        assert_eq!(answer.await.unwrap(), Ok(()));
        assert_eq!(rig.after(Duration::ZERO).await, 3, "on request at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_smaller_revision_counts_when_two_reads_in_a_row_find_it() {
        let rig = Rig::start(Found::new(7, Some(b"seven")));
        assert_eq!(rig.after(LOOK).await, 7);
        rig.put(6, "of a replica that lags");
        assert_eq!(rig.after(POLL).await, 7);
        rig.put(8, "eight");
        assert_eq!(rig.after(POLL).await, 8);
        rig.put(1, "of a new bucket");
        assert_eq!(rig.after(POLL).await, 8);

        assert_eq!(rig.after(POLL).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_is_reported_and_opened_again() {
        let rig = Rig::start(Found::new(1, Some(b"one")));
        assert_eq!(rig.after(LOOK / 2).await, 1);
        assert!(rig.seen.borrow().connected);
        rig.world.connected.store(false, Ordering::SeqCst);

        assert_eq!(rig.after(3 * LOOK).await, 1, "the value stays");

        assert_eq!(rig.seen.borrow().error.as_deref(), Some("gone"));
        assert!(!rig.seen.borrow().connected);
        let (done, answer) = oneshot::channel();
        rig.asks.send(done).await.unwrap();
        assert_eq!(answer.await.unwrap(), Err("gone".to_owned()));
        rig.put(2, "two");
        rig.world.connected.store(true, Ordering::SeqCst);
        assert_eq!(rig.after(2 * LOOK).await, 2, "read at once");
        assert!(rig.seen.borrow().connected && rig.seen.borrow().error.is_none());
        assert!(rig.world.opened.load(Ordering::SeqCst) > 2);
    }
}
