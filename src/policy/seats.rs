//! Concurrency limits: a counter, so that the limit may change while seats are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The seats of one policy.
#[derive(Debug)]
pub struct Seats {
    most: u32,
    taken: AtomicU32,
}

/// A taken seat, until dropped.
#[derive(Debug)]
pub struct Taken(Arc<Seats>);

impl Seats {
    /// Seats of which none is taken.
    #[must_use]
    pub fn new(most: u32) -> Seats {
        Seats { most, taken: AtomicU32::new(0) }
    }

    /// Takes a seat, if fewer than one part of `parts` are taken; each part has at least one seat.
    #[must_use]
    pub fn take(self: &Arc<Seats>, parts: u32) -> Option<Taken> {
        let most = (self.most / parts.max(1)).max(1);
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // Dropped if it is one too many, which undoes the count.
        let taken = Taken(self.clone());
        (before < most).then_some(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_in_parts_and_a_refused_seat_is_not_counted() {
        let seats = Arc::new(Seats::new(6));
        let mut held: Vec<Taken> = (0..10).filter_map(|_| seats.take(1)).collect();
        assert_eq!(held.len(), 6);
        assert!(seats.take(2).is_none(), "a smaller part waits until enough have ended");
        held.truncate(2);
        held.extend((0..10).filter_map(|_| seats.take(2)));
        assert_eq!(held.len(), 3);
        held.clear();
        assert_eq!((0..10).filter_map(|_| seats.take(100)).map(std::mem::forget).count(), 1);
    }
}
