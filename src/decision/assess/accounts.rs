//! The accounts of services: what each has spent at each of its clusters since the start, and its budget.
//!
//! Bytes and exchanges are counted when they move, not when an exchange ends: a download of an hour is paid as it
//! arrives. An account belongs to the names of a service and a cluster, and survives a reload.

use super::class::Money;
use crate::budget::{Budget, Payment};
use crate::fleet::lease::{self, Share};
use crate::index::Table;
use crate::plan::{Class, ClusterIndex, Plan, Service, ServiceIndex};
use crate::price::Spend;
use crate::tally::Tally;
use crate::units::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The balance of a service. Dollars.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    /// What is left of the budget.
    pub(super) left: f64,
    /// How full the bucket is, 0 to 1.
    pub(super) level: f64,
    /// This proxy's part of a budget that the site shares, 0 to 1.
    pub(super) part: f64,
    /// What may be spent until the next sweep.
    pub(super) allowance: f64,
}

/// The accounts of all services of a plan.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// By service.
    budgets: BTreeMap<String, Budget>,
    /// By service: this proxy's shares of the budgets that the site's proxies share.
    shares: BTreeMap<String, Share>,
    /// Parallel to the service's clusters.
    spent: Table<ServiceIndex, Arc<Vec<Spend>>>,
    /// Dollars that the exchanges in flight are expected to cost: at the last sweep, and at this one so far.
    committed: Table<ServiceIndex, (f64, f64)>,
}

impl Accounts {
    /// Continues with a new plan; accounts and budgets of names that are no longer in the plan are closed.
    pub(super) fn adopt(&mut self, old: &Plan, plan: &Plan) {
        let mut budgets = std::mem::take(&mut self.budgets);
        for service in &plan.services {
            let Some(terms) = service.budget else { continue };
            let known = budgets.remove(&service.name);
            let left = known.as_ref().map(Budget::left);
            let kept = known.filter(|budget| budget.limit() == terms);
            let budget = kept.unwrap_or_else(|| Budget::new(terms, left));
            self.budgets.insert(service.name.clone(), budget);
        }
        self.shares.retain(|service, _| self.budgets.contains_key(service));
        let mut known: BTreeMap<(&str, &str), Spend> = BTreeMap::new();
        for (service, spent) in old.services.iter().zip(&self.spent) {
            for (cluster, spend) in service.clusters.iter().zip(spent.iter()) {
                known.insert((&service.name, &old.clusters[*cluster].name), *spend);
            }
        }
        let spent = plan.services.iter().map(|service| {
            let name = |cluster| plan.clusters[cluster].name.as_str();
            let spend = |cluster| known.get(&(service.name.as_str(), name(cluster))).copied();
            Arc::new(service.clusters.iter().map(|c| spend(*c).unwrap_or_default()).collect())
        });
        self.spent = spent.collect();
        self.committed = plan.services.iter().map(|_| (0.0, 0.0)).collect();
    }

    /// Puts the balance of a service from before a restart in force.
    pub(super) fn restore(&mut self, service: &str, usd: f64) {
        if let Some(budget) = self.budgets.get_mut(service) {
            *budget = Budget::new(budget.limit(), Some(usd));
        }
    }

    /// Puts a share of a service's budget in force.
    pub(super) fn share(&mut self, service: String, share: Share) {
        self.shares.insert(service, share);
    }

    /// Refills all budgets at the beginning of a sweep.
    pub(super) fn refill(&mut self, plan: &Plan, elapsed: f64, now: Timestamp) {
        for (service, budget) in &mut self.budgets {
            if budget.limit().shared && plan.members > 1 {
                let share = self.shares.get(service).map(|share| share.ceiling(now));
                budget.set_part(lease::fraction(share, plan.members));
            }
            budget.refill(elapsed);
        }
    }

    /// Pays for the traffic of a class since the last sweep. `unlimited` tells for each slot whether the traffic is
    /// fail-over; `bytes` is the mean size of a response there.
    pub(super) fn pay(
        &mut self,
        plan: &Plan,
        class: &Class,
        tallies: &[Tally],
        unlimited: &[bool],
        bytes: impl Fn(usize) -> f64,
    ) {
        let service = &plan.services[class.service];
        let (mut payment, mut committed) = (Payment::default(), 0.0);
        for (slot, (cluster, tally)) in class.permitted.clusters.iter().zip(tallies).enumerate() {
            if tally.accepted == 0.0 && tally.bytes == 0.0 && tally.waiting == 0.0 {
                continue;
            }
            let prices = plan.clusters[*cluster].prices;
            let usd = prices.cost(tally.accepted, tally.bytes);
            let at = service.clusters.iter().position(|known| known == cluster);
            let spent = self.spent.get_mut(class.service).map(Arc::make_mut);
            if let Some(spend) = spent.zip(at).and_then(|(spent, at)| spent.get_mut(at)) {
                spend.exchanges += tally.accepted;
                spend.bytes += tally.bytes;
                spend.usd += usd;
            }
            match unlimited.get(slot) {
                Some(true) => payment.unlimited += usd,
                Some(false) | None => payment.limited += usd,
            }
            committed += prices.cost(0.0, tally.waiting * bytes(slot));
        }
        self.committed[class.service].1 += committed;
        if let Some(budget) = self.budgets.get_mut(&service.name) {
            if budget.limit().binds_failover {
                payment.limited += std::mem::take(&mut payment.unlimited);
            }
            budget.spend(payment);
        }
    }

    /// Pays for exchanges and bytes of a service at a cluster, by name, that no class of the plan has counted.
    pub(super) fn late(&mut self, plan: &Plan, names: (&str, &str), traffic: (f64, f64)) {
        let Some(index) = plan.services.find(|service| service.name == names.0) else { return };
        let is_named = |cluster: &ClusterIndex| plan.clusters[*cluster].name == names.1;
        let at = plan.services[index].clusters.iter().position(is_named);
        // The price of a cluster that the service no longer has is unknown.
        let Some(at) = at else { return };
        let prices = plan.clusters[plan.services[index].clusters[at]].prices;
        let usd = prices.cost(traffic.0, traffic.1);
        let spent = self.spent.get_mut(index).map(Arc::make_mut);
        if let Some(spend) = spent.and_then(|spent| spent.get_mut(at)) {
            spend.exchanges += traffic.0;
            spend.bytes += traffic.1;
            spend.usd += usd;
        }
        if let Some(budget) = self.budgets.get_mut(names.0) {
            budget.spend(Payment { limited: usd, unlimited: 0.0 });
        }
    }

    /// The traffic of a service that its budget allows now.
    pub(super) fn money(&self, plan: &Plan, service: ServiceIndex) -> Money {
        match self.budgets.get(&plan.services[service].name) {
            None => Money { weight: 1.0, spill: true, failover: true, limits: (false, false) },
            Some(budget) => {
                let has_money = budget.has_money(self.committed[service].0);
                let binds_failover = budget.limit().binds_failover;
                Money {
                    weight: budget.weight(),
                    spill: has_money,
                    failover: has_money || !binds_failover,
                    limits: (true, binds_failover),
                }
            }
        }
    }

    /// Ends a sweep.
    pub(super) fn settle(&mut self, elapsed: f64) {
        self.budgets.values_mut().for_each(|budget| budget.settle(elapsed));
        self.committed.iter_mut().for_each(|(last, now)| *last = std::mem::take(now));
    }

    /// The balance of each service of the plan that has a budget.
    pub(super) fn balances(&self, plan: &Plan) -> Table<ServiceIndex, Option<Balance>> {
        let of = |(index, service): (ServiceIndex, &Service)| {
            let budget = self.budgets.get(&service.name)?;
            let (left, level) = (budget.left(), budget.level());
            let (part, allowance) = (budget.part(), left - self.committed[index].0);
            Some(Balance { left, level, part, allowance })
        };
        plan.services.enumerated().map(of).collect()
    }

    /// What each service of the plan has spent, parallel to its clusters.
    pub(super) fn spent(&self) -> Table<ServiceIndex, Arc<Vec<Spend>>> {
        self.spent.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::plan;
    use super::*;
    use crate::budget::SpendingLimit;
    use crate::plan::ClassIndex;
    use crate::price::Prices;

    const LIMIT: SpendingLimit =
        SpendingLimit { usd_per_hour: 36.0, share: 1.0, shared: false, binds_failover: false };

    /// Two clusters, of which `b` has a price, and a service with a budget.
    fn priced() -> Plan {
        let mut plan = plan(&["a", "b"]);
        plan.clusters[ClusterIndex(1)].prices =
            Prices { per_gib: 1.0, per_million_requests: 1_000.0 };
        plan.services[ServiceIndex(0)].budget = Some(LIMIT);
        plan
    }

    fn traffic(accepted: f64, bytes: f64, waiting: f64) -> Tally {
        Tally { accepted, bytes, waiting, ..Tally::default() }
    }

    fn paid(plan: &Plan, accounts: &mut Accounts, at_b: Tally, failover: bool) {
        let class = &plan.classes[ClassIndex(0)];
        accounts.pay(plan, class, &[traffic(7.0, 70.0, 0.0), at_b], &[true, failover], |_| 1e6);
    }

    #[test]
    fn an_account_has_exchanges_bytes_and_dollars_by_cluster_and_survives_a_reload() {
        let (old, gib) = (priced(), (1_u64 << 30) as f64);
        let mut accounts = Accounts::default();
        accounts.adopt(&Plan::default(), &old);
        paid(&old, &mut accounts, traffic(100.0, gib, 0.0), false);
        let b = Spend { exchanges: 100.0, bytes: gib, usd: 1.1 };
        let a = Spend { exchanges: 7.0, bytes: 70.0, usd: 0.0 };
        assert_eq!(**accounts.spent().first().unwrap(), [a, b]);
        // Another order of the clusters, and another service before this one.
        let mut new = priced();
        let mut service = new.services[ServiceIndex(0)].clone();
        service.clusters.reverse();
        let other = Service { name: "other".to_owned(), ..service.clone() };
        new.services = vec![other, service].into();
        accounts.adopt(&old, &new);
        let spent = accounts.spent();
        assert_eq!(*spent[ServiceIndex(1)], [b, a]);
        assert_eq!(*spent[ServiceIndex(0)], [Spend::default(); 2]);
    }

    #[test]
    fn spill_stops_when_balance_and_exchanges_in_flight_are_equal_and_failover_continues() {
        let plan = priced();
        let mut accounts = Accounts::default();
        accounts.adopt(&Plan::default(), &plan);
        let may_spill = |accounts: &Accounts| accounts.money(&plan, ServiceIndex(0)).spill;
        assert!(may_spill(&accounts));
        // $3 in the bucket; 4,000 exchanges in flight of a megabyte each cost $3.7.
        paid(&plan, &mut accounts, traffic(0.0, 0.0, 4_000.0), false);
        assert!(may_spill(&accounts), "what is in flight counts from the next sweep on");
        accounts.settle(0.05);
        assert!(!may_spill(&accounts));
        accounts.settle(0.05);
        assert!(may_spill(&accounts));
        paid(&plan, &mut accounts, traffic(3_100.0, 0.0, 0.0), false);
        let money = accounts.money(&plan, ServiceIndex(0));
        assert!(!money.spill && money.failover);
    }

    #[test]
    fn failover_makes_a_debt_of_one_burst_unless_the_budget_limits_it() {
        let mut plan = priced();
        let mut accounts = Accounts::default();
        accounts.adopt(&Plan::default(), &plan);
        let left = |accounts: &Accounts, plan: &Plan| {
            accounts.balances(plan)[ServiceIndex(0)].unwrap().left
        };
        paid(&plan, &mut accounts, traffic(10_000.0, 0.0, 0.0), true);
        assert!((left(&accounts, &plan) + 3.0).abs() < 1e-9);
        plan.services[ServiceIndex(0)].budget =
            Some(SpendingLimit { binds_failover: true, ..LIMIT });
        accounts.adopt(&plan, &plan);
        paid(&plan, &mut accounts, traffic(10_000.0, 0.0, 0.0), true);
        assert!((left(&accounts, &plan) + 13.0).abs() < 1e-9);
        assert!(!accounts.money(&plan, ServiceIndex(0)).failover);
    }
}
