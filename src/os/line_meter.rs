//! The bytes on the wire of all connections over one line, counted as sockets read and write them.
//!
//! Under TLS these are the encrypted bytes. Headers of TCP, UDP and IP are not included.

use std::sync::atomic::{AtomicU64, Ordering};

/// No limit.
const ENDLESS: u64 = u64::MAX;

/// The bytes of one line. Many threads count; one thread sets the allowances.
#[derive(Debug, Default)]
pub struct LineMeter {
    received: Direction,
    sent: Direction,
}

/// One direction, on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Direction {
    carried: AtomicU64,
    /// The carried bytes from which on the line is full.
    allowed: AtomicU64,
}

impl Default for Direction {
    fn default() -> Direction {
        Direction { carried: AtomicU64::new(0), allowed: AtomicU64::new(ENDLESS) }
    }
}

impl LineMeter {
    /// Counts bytes that came from a cluster.
    pub fn received(&self, bytes: usize) {
        self.received.carried.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that were sent to a cluster.
    pub fn sent(&self, bytes: usize) {
        self.sent.carried.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes received and sent so far.
    #[must_use]
    pub fn carried(&self) -> [u64; 2] {
        [&self.received, &self.sent].map(|one| one.carried.load(Ordering::Relaxed))
    }

    /// Whether neither direction has carried more than its allowance.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        [&self.received, &self.sent]
            .into_iter()
            .all(|one| one.carried.load(Ordering::Relaxed) < one.allowed.load(Ordering::Relaxed))
    }

    /// Replaces the allowances, received then sent: `next` gets the carried bytes and the allowance before, if there was
    /// one; `None` removes the limit.
    pub fn allow(&self, next: impl Fn(u64, Option<u64>) -> Option<u64>) {
        for one in [&self.received, &self.sent] {
            let before =
                Some(one.allowed.load(Ordering::Relaxed)).filter(|bytes| *bytes != ENDLESS);
            let allowed = next(one.carried.load(Ordering::Relaxed), before);
            one.allowed.store(allowed.unwrap_or(ENDLESS), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_has_its_own_credit() {
        let meter = LineMeter::default();
        meter.sent(1_000_000);
        assert!(meter.has_credit(), "no limit");
        meter.allow(|carried, before| {
            assert_eq!(before, None);
            Some(carried + 100)
        });
        meter.received(99);
        assert!(meter.has_credit());
        meter.received(1);
        assert!(!meter.has_credit(), "received all that is allowed");
        assert_eq!(meter.carried(), [100, 1_000_000]);
        meter.allow(|_, before| before.map(|before| before + 100));
        assert!(meter.has_credit());
        meter.sent(200);
        assert!(!meter.has_credit(), "sent all that is allowed");
        meter.allow(|_, _| None);
        assert!(meter.has_credit());
    }
}
