//! Response times that the other proxies of the site told.

use super::Fleet;
use crate::decision::assess::Event;
use crate::decision::pool::Told;
use std::sync::atomic::Ordering;

impl Fleet {
    /// Counts them, and passes them to the control thread; if it is busy, they are dropped.
    pub(super) fn use_samples(&self, told: Vec<Told>) {
        if told.is_empty() {
            return;
        }
        let count: usize = told.iter().map(|told| told.observed.len()).sum();
        self.samples.fetch_add(count as u64, Ordering::Relaxed);
        if self.shared.events.try_send(Event::Told(told)).is_err() {
            tracing::debug!("response times of other proxies dropped");
        }
    }

    /// Response times that other proxies of the site told since the start.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}
