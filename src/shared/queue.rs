//! The queue of exchanges that wait for capacity of a cluster or for a connection: first in, first out, over all workers.
//!
//! The lock is taken only when an exchange waits, which is the exception. Releasing capacity wakes the first waiter;
//! a waiter that is served or leaves wakes the next. Each worker's tick also wakes the first waiter, so that a missed
//! wake-up costs at most one tick.
//!
//! # Not here
//! The limits on waiting exchanges and on their waiting time (`proxy`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The number of waiting exchanges in all queues of the process. While it is 0, no queue needs to be checked.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Whether any queue of the process has a waiting exchange.
#[must_use]
pub fn any_waits() -> bool {
    WAITING.load(Ordering::Relaxed) > 0
}

/// The waiting exchanges, first in front.
#[derive(Debug, Default)]
pub struct Queue {
    count: AtomicU32,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    line: VecDeque<Waiter>,
    tickets: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    worker: usize,
    waker: Waker,
}

/// The waiter that gets an idle connection of a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum For {
    /// The queue is empty.
    Nobody,
    /// The first waiter belongs to this worker and was woken.
    Here,
    /// The first waiter belongs to another worker.
    Elsewhere,
}

impl Waiting {
    /// Tickets increase along the queue.
    fn place(&self, ticket: u64) -> Option<usize> {
        self.line.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Joins the end of the queue for a worker; dropping the turn leaves the queue.
    #[must_use]
    pub fn join(&self, worker: usize) -> Turn<'_> {
        let mut waiting = self.lock();
        WAITING.fetch_add(1, Ordering::Relaxed);
        waiting.tickets += 1;
        let ticket = waiting.tickets;
        waiting.line.push_back(Waiter { ticket, worker, waker: Waker::noop().clone() });
        self.count.store(u32::try_from(waiting.line.len()).unwrap_or(u32::MAX), Ordering::SeqCst);
        Turn { queue: self, ticket }
    }

    /// Wakes the first waiter.
    pub fn wake_first(&self) {
        if !self.is_empty() {
            let waker = self.lock().line.front().map(|first| first.waker.clone());
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Decides which waiter gets a connection that has become idle in a worker.
    #[must_use]
    pub fn claims(&self, worker: usize) -> For {
        if self.is_empty() {
            return For::Nobody;
        }
        let waiting = self.lock();
        match waiting.line.front() {
            None => For::Nobody,
            Some(first) if first.worker != worker => For::Elsewhere,
            Some(first) => {
                let waker = first.waker.clone();
                drop(waiting);
                waker.wake();
                For::Here
            }
        }
    }
}

/// A place in a queue.
#[derive(Debug)]
pub struct Turn<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Turn<'_> {
    /// Makes an attempt, if this is the first waiter; otherwise registers to be woken.
    pub fn poll<T>(&self, context: &Context<'_>, attempt: impl FnOnce() -> Option<T>) -> Poll<T> {
        let mut waiting = self.queue.lock();
        let place = waiting.place(self.ticket);
        if let Some(own) = place.and_then(|place| waiting.line.get_mut(place)) {
            own.waker.clone_from(context.waker());
        }
        // The lock is released first: the attempt may wake other waiters.
        drop(waiting);
        match place {
            Some(0) => attempt().map_or(Poll::Pending, Poll::Ready),
            Some(_) | None => Poll::Pending,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        if let Some(place) = waiting.place(self.ticket) {
            waiting.line.remove(place);
        }
        WAITING.fetch_sub(1, Ordering::Relaxed);
        let count = u32::try_from(waiting.line.len()).unwrap_or(u32::MAX);
        self.queue.count.store(count, Ordering::SeqCst);
        let next = waiting.line.front().map(|first| first.waker.clone());
        drop(waiting);
        next.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// One waiter and the number of times it was woken.
    fn waiter(queue: &Queue, worker: usize) -> (Turn<'_>, Arc<Woken>) {
        let woken = Arc::new(Woken::default());
        let turn = queue.join(worker);
        let waker = Waker::from(woken.clone());
        assert!(turn.poll(&Context::from_waker(&waker), || None::<()>).is_pending());
        (turn, woken)
    }

    fn times(woken: &Woken) -> usize {
        woken.0.swap(0, Ordering::SeqCst)
    }

    #[test]
    fn the_first_waiter_is_woken_and_a_leaving_one_wakes_the_next() {
        let queue = Queue::default();
        queue.wake_first();
        let (one, first) = waiter(&queue, 0);
        let (two, second) = waiter(&queue, 1);
        let (three, third) = waiter(&queue, 0);
        let context = Context::from_waker(Waker::noop());
        assert_eq!(two.poll(&context, || Some(2)), Poll::Pending);
        queue.wake_first();
        assert_eq!([times(&first), times(&second), times(&third)], [1, 0, 0]);
        drop(two);
        drop(one);
        assert_eq!((times(&second), times(&third)), (0, 1));
        assert_eq!(three.poll(&context, || Some(3)), Poll::Ready(3));
        drop(three);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_idle_connection_of_a_worker_serves_the_first_waiter() {
        let queue = Queue::default();
        assert_eq!(queue.claims(0), For::Nobody);
        let (_one, first) = waiter(&queue, 0);
        let (_two, _) = waiter(&queue, 1);
        assert_eq!((queue.claims(1), times(&first)), (For::Elsewhere, 0));
        assert_eq!((queue.claims(0), times(&first)), (For::Here, 1));
    }
}
