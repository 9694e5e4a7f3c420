//! Turns of the thread's event loop: whether the kernel was asked for events since a moment.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Turn> = const { Cell::new(Turn(0)) };
}

/// A turn of the thread's event loop.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Turn(u64);

/// The current turn. It never changes on a thread whose runtime does not call [`begin`].
#[must_use]
pub fn current() -> Turn {
    CURRENT.get()
}

/// Begins the next turn: the runtime has just asked the kernel for events.
pub fn begin() {
    CURRENT.set(Turn(CURRENT.get().0 + 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_on_each_thread() {
        let first = current();
        begin();
        assert!(current() > first);
        let elsewhere = std::thread::spawn(current).join().unwrap();
        assert!(elsewhere < current(), "another thread has turns of its own");
    }
}
