//! A sequence lock over atomics: one writer replaces a group of numbers, readers see a whole group or none.
//!
//! The writer makes the version odd, stores the numbers, and makes the version even. A reader that finds an odd
//! version, or a version that changed during its loads, has no result. Neither side ever waits.
//!
//! The atomics come from `super`, so that `tests/model` can check this file with every interleaving and every
//! value that the memory model permits for a load.
//!
//! # Invariants
//! * Every group that is read is one that was written as a whole.

use super::atomic::{AtomicU64, Ordering, fence};

/// `N` numbers with one writer and any number of readers.
#[derive(Debug)]
pub struct SeqLock<const N: usize> {
    /// 0 before the first write; odd during a write.
    version: AtomicU64,
    numbers: [AtomicU64; N],
}

impl<const N: usize> Default for SeqLock<N> {
    fn default() -> SeqLock<N> {
        SeqLock { version: AtomicU64::new(0), numbers: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> SeqLock<N> {
    /// Replaces the numbers. Only one thread may write.
    pub fn write(&self, numbers: [u64; N]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the reader's fence: a reader that sees a new number also sees the odd version.
        fence(Ordering::SeqCst);
        for (cell, number) in self.numbers.iter().zip(numbers) {
            cell.store(number, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The numbers of the last write; `None` before the first one and during a write.
    #[must_use]
    pub fn read(&self) -> Option<[u64; N]> {
        let before = self.version.load(Ordering::Acquire);
        let numbers = self.numbers.each_ref().map(|cell| cell.load(Ordering::Relaxed));
        fence(Ordering::SeqCst);
        let unchanged = before == self.version.load(Ordering::Relaxed);
        (unchanged && before > 0 && before.is_multiple_of(2)).then_some(numbers)
    }
}
