//! Gauges: numbers of concurrent exchanges, connections or flows. A gauge has several writers, because a
//! ceiling applies to the whole process.

use super::queue::Queue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A number of concurrent exchanges, connections or flows, padded to a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// The current number.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The limit of a gauge, padded to a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct Ceiling(AtomicU32);

/// No limit.
const NO_CEILING: u32 = u32::MAX;

impl Default for Ceiling {
    /// No limit.
    fn default() -> Ceiling {
        Ceiling(AtomicU32::new(NO_CEILING))
    }
}

impl Ceiling {
    /// The limit now, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|most| *most != NO_CEILING)
    }

    /// Sets the limit; `None` is none.
    pub fn set(&self, most: Option<u32>) {
        self.0.store(most.unwrap_or(NO_CEILING), Ordering::Relaxed);
    }
}

/// One unit of a gauge. Dropping it decrements the gauge and wakes the first waiter of its queue, if it has one.
#[derive(Debug)]
pub struct Held(Arc<Gauge>, Option<Arc<Queue>>);

impl Held {
    /// Increments the gauge without a limit.
    #[must_use]
    pub fn enter(gauge: &Arc<Gauge>) -> Held {
        gauge.0.fetch_add(1, Ordering::Relaxed);
        Held(gauge.clone(), None)
    }

    /// Increments the gauge, unless it has reached `ceiling`.
    #[must_use]
    pub fn enter_below(gauge: &Arc<Gauge>, ceiling: u32) -> Option<Held> {
        let before = gauge.0.fetch_add(1, Ordering::Relaxed);
        let held = Held(gauge.clone(), None);
        (before < ceiling).then_some(held)
    }

    /// As [`Held::enter_below`]; dropping the unit wakes the first waiter of `queue`.
    #[must_use]
    pub fn enter_queued(gauge: &Arc<Gauge>, ceiling: u32, queue: &Arc<Queue>) -> Option<Held> {
        let mut held = Held::enter_below(gauge, ceiling)?;
        held.1 = Some(queue.clone());
        Some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = self.0.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a gauge fell below zero");
        if let Some(queue) = &self.1 {
            queue.wake_first();
        }
    }
}

/// A connection to an endpoint, counted for its cluster and for the process until dropped.
#[derive(Debug)]
pub struct Counted {
    pub(super) _of_all: Held,
    pub(super) _of_cluster: Held,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_holds_and_gauges_end_at_zero() {
        const CEILING: u32 = 2;
        let (gauge, inside) = (Arc::new(Gauge::default()), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (gauge, inside) = (gauge.clone(), inside.clone());
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        if let Some(held) = Held::enter_below(&gauge, CEILING) {
                            let before = inside.fetch_add(1, Ordering::SeqCst);
                            assert!(before < CEILING, "{} hold it at once", before + 1);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(held);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(gauge.get(), 0);
        let full: Vec<_> =
            (0..CEILING).map(|_| Held::enter_below(&gauge, CEILING).unwrap()).collect();
        assert!(Held::enter_below(&gauge, CEILING).is_none(), "the ceiling is reached");
        assert_eq!(gauge.get(), CEILING, "a refused attempt is counted out again");
        drop(full);
        assert!(Held::enter_below(&gauge, CEILING).is_some(), "there is capacity again");
    }
}
