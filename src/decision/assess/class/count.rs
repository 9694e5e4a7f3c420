//! The demand of a class, its spilled exchanges and its dollars.

use super::ClassState;
use crate::decision::assess::place::PermittedCluster;
use crate::decision::load::Tally;
use crate::decision::plan::Plan;
use crate::decision::shed::PRIORITIES;
use crate::decision::signal::Why;

impl ClassState {
    /// Counts demand and dollars.
    pub(super) fn count(
        &mut self,
        plan: &Plan,
        places: &[PermittedCluster<'_>],
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
        self.spent_now = 0.0;
        for ((tally, place), spent) in tallies.iter().zip(places).zip(&mut self.spent) {
            let prices = plan.clusters[place.cluster].prices;
            let usd = prices.dollars(0.0) * tally.accepted
                + (prices.dollars(tally.bytes) - prices.dollars(0.0));
            *spent += usd;
            self.spent_now += usd;
        }
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
    pub(in crate::decision::assess) fn spilling_changed(&mut self, spill: f64) -> Option<bool> {
        let spilling = if self.spilling { spill > 0.005 } else { spill > 0.02 };
        (spilling != std::mem::replace(&mut self.spilling, spilling)).then_some(spilling)
    }
}
