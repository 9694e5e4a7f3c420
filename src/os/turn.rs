//! Turns of the thread's event loop: whether the kernel was asked for events since a moment.
//!
//! A turn begins when the runtime has polled the kernel for events. After a sleep the runtime calls a hook
//! (`on_thread_unpark`). A busy runtime does not sleep: it polls between two tasks, without a hook. But right after that
//! poll, before any task runs, it wakes the tasks that have yielded. So [`in_use`] registers a waker there, without a
//! task, that begins the next turn.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

thread_local! {
    static CURRENT: Cell<Turn> = const { Cell::new(Turn(0)) };
    /// Uses of the current turn.
    static USES: Cell<u32> = const { Cell::new(0) };
    static NEXT: Waker = Waker::from(Arc::new(Next));
}

/// The number of uses in one turn from which the waker is registered. A registered waker costs one more poll of the
/// kernel before the runtime sleeps, so it should replace several system calls.
const BUSY: u32 = 4;

/// A turn of the thread's event loop.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Turn(u64);

/// The current turn. It never changes on a thread whose runtime does not call [`begin`].
#[must_use]
pub fn current() -> Turn {
    CURRENT.get()
}

/// The current turn, which something will be compared with: in a busy loop, the next turn begins as soon as the kernel
/// is asked for events again. Call it in a task.
#[must_use]
pub fn in_use() -> Turn {
    let uses = USES.get() + 1;
    USES.set(uses);
    // A thread without a runtime has no later moment to tell.
    if uses == BUSY && tokio::runtime::Handle::try_current().is_ok() {
        NEXT.with(|next| {
            let yielding = pin!(tokio::task::yield_now());
            let _ends_later = yielding.poll(&mut Context::from_waker(next));
        });
    }
    current()
}

/// Begins the next turn: the runtime has just asked the kernel for events.
pub fn begin() {
    CURRENT.set(Turn(CURRENT.get().0 + 1));
    USES.set(0);
}

struct Next;

impl Wake for Next {
    fn wake(self: Arc<Self>) {
        begin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn turns_follow_each_other_on_each_thread() {
        let first = current();
        begin();
        assert!(current() > first);
        let elsewhere = std::thread::spawn(current).join().unwrap();
        assert!(elsewhere < current(), "another thread has turns of its own");
    }

    #[tokio::test]
    async fn a_busy_loop_begins_a_turn_when_the_kernel_was_asked() {
        let first = in_use();
        tokio::task::yield_now().await;
        assert_eq!(current(), first, "one use is not worth a turn");
        for _ in 1..BUSY {
            assert_eq!(in_use(), first);
        }
        assert_eq!(current(), first, "the kernel has not been asked yet");
        tokio::task::yield_now().await;
        assert!(current() > first);
        let second = current();
        tokio::task::yield_now().await;
        assert_eq!(current(), second, "a turn without uses");
    }

    #[tokio::test]
    async fn the_next_turn_knows_what_had_arrived_before_it() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = tokio::net::UnixStream::from_std(ours).unwrap();
        ours.writable().await.unwrap();
        let mut byte = [0];
        assert!(ours.try_read(&mut byte).is_err(), "the runtime knows of no byte");
        theirs.write_all(b"x").unwrap();
        let first = current();
        (0..BUSY).for_each(|_| assert_eq!(in_use(), first));
        assert!(ours.try_read(&mut byte).is_err(), "the runtime still knows of no byte");
        while current() == first {
            tokio::task::yield_now().await;
        }
        assert_eq!(ours.try_read(&mut byte).ok(), Some(1));
    }

    #[test]
    fn a_thread_without_a_runtime_stays_in_its_turn() {
        let first = current();
        (0..2 * BUSY).for_each(|_| assert_eq!(in_use(), first));
    }
}
