//! Maintains shared ceilings, lines, budgets and limits: decides four times a second what this proxy lends and borrows, and
//! which part of the site's limits it has.
//!
//! A decision goes to the control thread at once, and to peers only with the next decision: this proxy lowers its own
//! ceiling before a peer learns of a loan. If the control thread is late, nothing is lent.

use super::Fleet;
use crate::decision::assess::Event;
use crate::decision::fleet::Identity;
use crate::decision::fleet::division::parts;
use crate::decision::fleet::lease::{Use, budget_use, line_use, rate_use};
use crate::decision::units::Timestamp;
use crate::os::clock;
use crate::shared::View;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// The interval between two decisions.
const EVERY: Duration = Duration::from_millis(250);

/// Makes a decision at each interval, forever.
pub(super) async fn tend(fleet: Arc<Fleet>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        fleet.decide(clock::now());
    }
}

impl Fleet {
    fn decide(&self, now: Timestamp) {
        let view = self.shared.view.load();
        let mut state = self.state();
        let state = &mut *state;
        let count = state.configured();
        let uses = uses(&view, count);
        let is_divided = view.policies.is_divided();
        if uses.is_empty() && !is_divided {
            return;
        }
        let own = Identity {
            site: view.plan.site.clone(),
            incarnation: self.incarnation,
            instance: state.instance.clone(),
        };
        if is_divided {
            view.policies.divide(parts(&state.members, &own, count, now));
        }
        if uses.is_empty() {
            return;
        }
        // The control thread folds in received events before it publishes.
        let in_force = state.decided.is_some_and(|decided| decided < view.signals.at);
        let shares = state.shares.decide(&uses, (&state.members, &own, count), now);
        if !in_force {
            state.shares.withhold();
        }
        let sent = self.shared.events.try_send(Event::Shares(shares));
        state.decided = sent.is_ok().then_some(now);
    }
}

fn uses(view: &View, members: u32) -> Vec<Use> {
    if view.plan.members < 2 {
        return Vec::new();
    }
    let clusters = view.plan.clusters.iter().zip(view.clusters.iter());
    let shared = clusters.filter(|(cluster, _)| cluster.shared);
    let one = shared.filter_map(|(cluster, live)| {
        let now = live.in_flight.get().saturating_add(live.pending.get());
        Some(Use { name: cluster.name.clone(), total: cluster.ceiling?, now })
    });
    let services = view.plan.services.iter().zip(&view.signals.budget_levels);
    let budgets = services.filter(|(service, _)| service.budget.is_some_and(|terms| terms.shared));
    let budgets =
        budgets.filter_map(|(service, level)| Some(budget_use(&service.name, (*level)?, members)));
    one.chain(budgets).chain(lines(view)).collect()
}

/// The use of the lines that the proxies share: exchanges, those that wait included, and the rate of the busier direction.
fn lines(view: &View) -> impl Iterator<Item = Use> + '_ {
    let groups = view.plan.groups.enumerated().zip(&view.signals.groups);
    groups.filter(|((_, group), _)| group.shared).flat_map(|((index, group), signals)| {
        let clusters = view.plan.clusters.iter().zip(view.clusters.iter());
        let behind = clusters.filter(|(cluster, _)| cluster.group == Some(index));
        let waiting = behind.map(|(_, live)| live.pending.get()).fold(0, u32::saturating_add);
        let now = signals.in_flight.saturating_add(waiting);
        let exchanges = group.concurrent.map(|total| line_use(&group.name, total, now));
        let [received, sent] = signals.bytes_per_s;
        let part = |limit: f64| rate_use(&group.name, received.max(sent) / limit);
        exchanges.into_iter().chain(group.bytes_per_s.map(part))
    })
}
