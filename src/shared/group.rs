//! The live counters of capacity groups.

use super::gauge::{Ceiling, Gauge, Held};
use super::queue::Queue;
use crate::decision::capacity_group::{GroupIndex, GroupSignals, allowance};
use crate::decision::index::Table;
use crate::decision::plan::Plan;
use crate::decision::units::smooth;
use crate::os::line_meter::LineMeter;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The counters of a capacity group; they outlive views and reloads.
#[derive(Debug, Default)]
pub struct LiveGroup {
    name: String,
    in_flight: Arc<Gauge>,
    ceiling: Ceiling,
    /// Exchanges that wait because the group is full.
    pub queue: Arc<Queue>,
    /// The bytes of its connections.
    pub meter: Arc<LineMeter>,
}

impl LiveGroup {
    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Exchanges in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether the group is below its limits.
    #[must_use]
    pub fn has_capacity(&self) -> bool {
        self.ceiling.get().is_none_or(|most| self.in_flight.get() < most) && self.meter.has_credit()
    }

    /// Counts an exchange, unless the group is full.
    #[must_use]
    pub fn enter(&self) -> Option<Held> {
        let most = self.ceiling.get().unwrap_or(u32::MAX);
        let has_credit = self.meter.has_credit();
        has_credit.then(|| Held::enter_queued(&self.in_flight, most, &self.queue)).flatten()
    }
}

/// The groups of a plan with their counters; for the control thread.
#[derive(Debug, Default)]
pub(super) struct Groups {
    known: BTreeMap<String, (Arc<LiveGroup>, GroupSignals)>,
}

impl Groups {
    /// The counters for a plan, by its groups. Counters that the plan does not name are dropped.
    pub(super) fn live(&mut self, plan: &Plan) -> Table<GroupIndex, Arc<LiveGroup>> {
        self.known.retain(|name, _| plan.groups.iter().any(|group| group.name == *name));
        let live = |name: &String| {
            let fresh = || LiveGroup { name: name.clone(), ..LiveGroup::default() };
            let entry = self.known.entry(name.clone());
            entry.or_insert_with(|| (Arc::new(fresh()), GroupSignals::default())).0.clone()
        };
        plan.groups.iter().map(|group| &group.name).map(live).collect()
    }

    /// Sets the limits of all groups, wakes waiting exchanges, and returns the use of each group. `assessed` has the limits;
    /// `elapsed` is the time since the last call, in seconds.
    pub(super) fn sweep(
        &mut self,
        plan: &Plan,
        assessed: &Table<GroupIndex, GroupSignals>,
        elapsed: f64,
    ) -> Table<GroupIndex, GroupSignals> {
        let mut all = Table::with_capacity(plan.groups.len());
        for (group, assessed) in plan.groups.iter().zip(assessed) {
            let Some((live, signals)) = self.known.get_mut(&group.name) else { continue };
            signals.limits = assessed.limits;
            live.ceiling.set(signals.limits.concurrent);
            let rate = signals.limits.bytes_per_s;
            live.meter.allow(|carried, before| Some(allowance(carried, before, rate?, elapsed)));
            let bytes = live.meter.carried();
            for (direction, rate) in signals.bytes_per_s.iter_mut().enumerate() {
                let more = bytes[direction].saturating_sub(signals.bytes[direction]) as f64;
                if elapsed > 0.0 {
                    smooth(rate, more / elapsed, elapsed);
                }
            }
            (signals.bytes, signals.in_flight) = (bytes, live.in_flight());
            signals.full = !live.has_capacity();
            live.queue.wake_first();
            all.push(*signals);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::capacity_group::CapacityGroup;

    fn plan(concurrent: Option<u32>, bytes_per_s: Option<f64>) -> Plan {
        let (name, shared) = ("line".to_owned(), false);
        let group = CapacityGroup { name, concurrent, bytes_per_s, shared };
        Plan { groups: vec![group].into(), ..Plan::default() }
    }

    /// A sweep with the limits of the whole line.
    fn sweep(groups: &mut Groups, plan: &Plan, elapsed: f64) -> GroupSignals {
        let whole = |group: &CapacityGroup| GroupSignals {
            limits: group.whole(),
            ..GroupSignals::default()
        };
        let assessed = plan.groups.iter().map(whole).collect();
        groups.sweep(plan, &assessed, elapsed)[GroupIndex(0)]
    }

    #[test]
    fn a_group_is_full_at_its_number_of_exchanges_and_counters_survive_a_reload() {
        let mut groups = Groups::default();
        let live = groups.live(&plan(Some(2), None))[GroupIndex(0)].clone();
        sweep(&mut groups, &plan(Some(2), None), 0.05);
        let held = [live.enter().unwrap(), live.enter().unwrap()];
        assert!(live.enter().is_none() && !live.has_capacity());
        let wider = plan(Some(3), None);
        assert!(Arc::ptr_eq(&groups.live(&wider)[GroupIndex(0)], &live));
        let signals = sweep(&mut groups, &wider, 0.05);
        assert_eq!((signals.in_flight, signals.full), (2, false));
        drop(held);
        assert_eq!(live.in_flight(), 0);
        groups.live(&Plan::default());
        assert!(!Arc::ptr_eq(&groups.live(&wider)[GroupIndex(0)], &live), "forgotten");
    }

    #[test]
    fn a_group_is_full_while_its_line_has_carried_more_than_its_limit() {
        let (mut groups, plan) = (Groups::default(), plan(None, Some(1_000_000.0)));
        let live = groups.live(&plan)[GroupIndex(0)].clone();
        sweep(&mut groups, &plan, 0.0);
        assert!(live.enter().is_some());
        live.meter.received(300_000);
        assert!(live.enter().is_none(), "at once, without waiting for a sweep");
        assert!(sweep(&mut groups, &plan, 0.05).full);
        let signals = sweep(&mut groups, &plan, 0.06);
        assert!(!signals.full && live.enter().is_some());
        assert_eq!(signals.bytes, [300_000, 0]);
        assert!(signals.mbit_per_s() > 1.0, "{signals:?}");
    }
}
