//! Abandoned streams on a shared HTTP/2 connection.
//!
//! A stream is cancelled with RST_STREAM, and a cluster counts resets: beyond its limit the cluster treats the
//! connection as an attack and closes it, with all exchanges on it. The number of clients that leave is not limited.
//! Therefore only a few streams are cancelled at once; the rest of the responses is read and discarded meanwhile,
//! and these streams are cancelled one by one.
//!
//! # Invariants
//! * At most [`AT_ONCE`] streams, and one more each [`EACH`], are cancelled, in the order in which they were
//!   abandoned.
//! * An abandoned stream counts towards the connection's limit of streams, so each one ends within two seconds.

use super::multiplexed::Lease;
use crate::decision::units::Timestamp;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

/// The interval between two cancellations in the long run: 50 a second, half of the rate that this proxy itself
/// tolerates.
const EACH: Duration = Duration::from_millis(20);
/// The number of streams that may be cancelled at once.
const AT_ONCE: u32 = 25;

/// The rest of a stream. The future ends when no cancellation is necessary; dropping it cancels the stream.
pub type Rest = Pin<Box<dyn Future<Output = ()>>>;

/// The abandoned streams of a connection.
#[derive(Default)]
pub struct Leaving {
    rests: RefCell<VecDeque<(Rest, Lease)>>,
    /// The time until which the permitted cancellations are used.
    due: Cell<Timestamp>,
    more: Notify,
    /// Whether the connection has ended: nothing is left to cancel.
    over: Cell<bool>,
}

impl fmt::Debug for Leaving {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Leaving").field("rests", &self.rests.borrow().len()).finish()
    }
}

impl Leaving {
    /// Adds an abandoned stream.
    pub fn add(&self, rest: Rest, lease: Lease, now: Timestamp) {
        let waits = !self.rests.borrow().is_empty();
        if self.over.get() || !waits && self.may_cancel(now) {
            return;
        }
        self.rests.borrow_mut().push_back((rest, lease));
        self.more.notify_one();
    }

    fn may_cancel(&self, now: Timestamp) -> bool {
        let due = self.due.get().max(now);
        let may = due.since(now) <= EACH * (AT_ONCE - 1);
        if may {
            self.due.set(due.plus(EACH));
        }
        may
    }

    /// Reads the rest of abandoned streams, and cancels them one after the other; never ends. `now` is the clock.
    pub async fn run(&self, now: impl Fn() -> Timestamp) {
        loop {
            if self.rests.borrow().is_empty() {
                self.more.notified().await;
            }
            let turn = tokio::time::sleep(EACH);
            tokio::select! {
                // A stream that has ended needs no cancellation.
                biased;
                () = self.run_out() => {}
                () = turn => {
                    if self.may_cancel(now()) {
                        let first = self.rests.borrow_mut().pop_front();
                        drop(first);
                    }
                }
            }
        }
    }

    /// Ends when no stream is left.
    async fn run_out(&self) {
        loop {
            let news = self.more.notified();
            let all = poll_fn(|context| {
                let mut rests = self.rests.borrow_mut();
                rests.retain_mut(|(rest, _)| rest.as_mut().poll(context).is_pending());
                if rests.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::select! {
                biased;
                () = all => return,
                () = news => {}
            }
        }
    }

    /// The connection has ended.
    pub fn end(&self) {
        self.over.set(true);
        let rests = self.rests.take();
        drop(rests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancellations_have_a_small_burst_and_fifty_a_second() {
        let leaving = Leaving::default();
        let start = Timestamp::START.plus(Duration::from_secs(9));
        let cancelled = |millis: u64| {
            let now = start.plus(Duration::from_millis(millis));
            (0..1_000).filter(|_| leaving.may_cancel(now)).count()
        };
        assert_eq!(cancelled(0), 25);
        assert_eq!(cancelled(10), 0);
        assert_eq!((20..=1_000).step_by(20).map(cancelled).sum::<usize>(), 50);
        assert_eq!(cancelled(9_000), 25, "what was not used is not saved up");
    }
}
