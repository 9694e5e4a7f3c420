//! The demand of a class, and its spilled exchanges.

use super::ClassState;
use crate::load::Tally;
use crate::shed::PRIORITIES;
use crate::signal::Why;

impl ClassState {
    /// Counts demand.
    pub(super) fn count(
        &mut self,
        tallies: &[Tally],
        by_priority: &[f64; PRIORITIES],
        elapsed: f64,
    ) {
        self.by_priority.fold(by_priority, elapsed);
        // Shed exchanges are demand, too.
        let sent: f64 = tallies.iter().map(|tally| tally.accepted - tally.retried).sum();
        let requested = by_priority.iter().sum::<f64>().max(sent);
        self.forecast.observe(requested, elapsed);
        let keep = (-elapsed).exp();
        self.demand = self.demand * keep + requested / elapsed * (1.0 - keep);
        self.count_spilled(tallies, elapsed);
    }

    /// Counts spilled exchanges by the reasons that were in force when they were sent: the next reasons would be wrong for
    /// exchanges of the last second.
    fn count_spilled(&mut self, tallies: &[Tally], elapsed: f64) {
        let first = |tally: &Tally| (tally.accepted - tally.retried).max(0.0);
        let sent: f64 = tallies.iter().map(first).sum();
        let spilled = tallies.iter().zip(&self.whys).filter(|(_, why)| **why == Why::Spill);
        let spilled: f64 = spilled.map(|(tally, _)| first(tally)).sum();
        let keep = (-elapsed).exp();
        self.sent_rate = self.sent_rate * keep + sent / elapsed * (1.0 - keep);
        self.spilled_rate = self.spilled_rate * keep + spilled / elapsed * (1.0 - keep);
    }

    /// Whether spilling began or ended with this sweep; with hysteresis.
    pub(in crate::assess) fn spilling_changed(&mut self, spill: f64) -> Option<bool> {
        let spilling = if self.spilling { spill > 0.005 } else { spill > 0.02 };
        (spilling != std::mem::replace(&mut self.spilling, spilling)).then_some(spilling)
    }
}
