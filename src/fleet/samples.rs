//! Response times that the other proxies of the site told.

use super::Fleet;
use crate::decision::assess::Event;
use crate::decision::pool::Told;
use std::sync::atomic::Ordering;

impl Fleet {
    /// Counts them, and passes them to the control thread; if its queue is full, they are dropped and counted.
    pub(super) fn use_samples(&self, told: Vec<Told>) {
        if told.is_empty() {
            return;
        }
        let count: usize = told.iter().map(|told| told.observed.len()).sum();
        self.samples.fetch_add(count as u64, Ordering::Relaxed);
        self.shared.tell(Event::Told(told));
    }

    /// Response times that other proxies of the site told since the start.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}
