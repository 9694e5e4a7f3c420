//! This proxy's limits of capacity groups, and where the shares of the fleet go.
//!
//! The proxies of a site may share the line of a group (`shared_by: fleet`): its exchanges as they share the ceiling of a
//! cluster, its rate as they share a budget, in units of the whole.
//!
//! # Invariants
//! Without news each proxy has at most its part, so that the sum of all limits never exceeds the line.

use super::Assessor;
use crate::capacity_group::{CapacityGroup, GroupIndex, GroupSignals, Limits};
use crate::fleet::lease::{self, Share};
use crate::index::Table;
use crate::plan::Plan;
use crate::units::Timestamp;
use std::collections::BTreeMap;

/// This proxy's shares of the lines that the site's proxies share.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By name, with the prefix of what is shared.
    shares: BTreeMap<String, Share>,
}

impl Lines {
    /// Continues with a new plan: shares of lines that are no longer in the plan are dropped.
    pub(super) fn adopt(&mut self, plan: &Plan) {
        let is_known = |name: &str| plan.groups.iter().any(|group| group.name == name);
        self.shares.retain(|name, _| lease::line(name).is_some_and(is_known));
    }

    /// The limits of all groups at `now`. The use of the groups is not known here.
    pub(super) fn signals(&self, plan: &Plan, now: Timestamp) -> Table<GroupIndex, GroupSignals> {
        let share = |name: &str| self.shares.get(name).map(|share| share.ceiling(now));
        let of = |group| GroupSignals {
            limits: limits(group, plan.members, share),
            ..GroupSignals::default()
        };
        plan.groups.iter().map(of).collect()
    }
}

/// The limits of a group for one of `members` proxies, whose share has this ceiling. Without a share, what no other proxy
/// can have borrowed.
fn limits(group: &CapacityGroup, members: u32, share: impl Fn(&str) -> Option<u32>) -> Limits {
    if !group.shared || members < 2 {
        return group.whole();
    }
    let concurrent = group
        .concurrent
        .map(|total| lease::limit(total, share(&lease::line_name(&group.name)), members));
    let bytes_per_s = group
        .bytes_per_s
        .map(|total| total * lease::fraction(share(&lease::rate_name(&group.name)), members));
    Limits { concurrent, bytes_per_s }
}

impl Assessor {
    /// Puts shares in force: of budgets, of lines, and of the ceilings of clusters.
    pub(super) fn take_shares(&mut self, shares: Vec<Share>) {
        for share in shares {
            if let Some(service) = share.name.strip_prefix(lease::BUDGET) {
                let service = service.to_owned();
                self.accounts.share(service, share);
            } else if lease::line(&share.name).is_some() {
                self.lines.shares.insert(share.name.clone(), share);
            } else if let Some(state) = self.cluster_mut(&share.name) {
                state.share = Some(share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::Event;
    use std::sync::Arc;
    use std::time::Duration;

    fn group(shared: bool) -> CapacityGroup {
        CapacityGroup {
            name: "line".to_owned(),
            concurrent: Some(30),
            bytes_per_s: Some(6_000.0),
            shared,
        }
    }

    fn plan(members: u32, shared: bool) -> Plan {
        Plan { members, groups: vec![group(shared)].into(), ..Plan::default() }
    }

    fn at(seconds: f64) -> Timestamp {
        Timestamp::START.plus(Duration::from_secs_f64(seconds))
    }

    fn share(name: String, own: u32, borrowed: u32) -> Share {
        Share { name, own, borrowed, until: at(10.0) }
    }

    fn now(assessor: &Assessor, plan: &Plan, seconds: f64) -> (Option<u32>, Option<f64>) {
        let Limits { concurrent, bytes_per_s } =
            assessor.lines.signals(plan, at(seconds)).first().unwrap().limits;
        (concurrent, bytes_per_s)
    }

    #[test]
    fn a_line_is_whole_unless_several_proxies_share_it() {
        for (members, shared) in [(1, true), (3, false), (1, false)] {
            let whole = Limits { concurrent: Some(30), bytes_per_s: Some(6_000.0) };
            assert_eq!(limits(&group(shared), members, |_| Some(1)), whole);
        }
    }

    #[test]
    fn before_any_news_a_proxy_has_what_no_other_can_have_borrowed() {
        for members in 2..=7 {
            let Limits { concurrent, bytes_per_s } = limits(&group(true), members, |_| None);
            let (most, rate) = (concurrent.unwrap(), bytes_per_s.unwrap());
            let part = 30 / members;
            assert_eq!(most, part - part / 2, "{members}: the other half may be lent");
            let half = 6_000.0 / f64::from(members) / 2.0;
            assert!(rate >= half * 0.99 && rate <= half * 1.01, "{members}: {rate}");
        }
    }

    #[test]
    fn shares_apply_to_what_they_name_until_their_loan_ends() {
        let plan = Arc::new(plan(2, true));
        let mut assessor = Assessor::new(plan.clone(), 1, at(0.0));
        let shares = vec![
            share(lease::line_name("line"), 15, 7),
            share(lease::rate_name("line"), 5_000, 2_500),
            share(lease::line_name("other"), 1, 1),
            share("line".to_owned(), 1, 0),
        ];

        assessor.fold(Event::Shares(shares), at(1.0));

        assert_eq!(now(&assessor, &plan, 9.0), (Some(22), Some(4_500.0)));
        assert_eq!(now(&assessor, &plan, 10.1), (Some(15), Some(3_000.0)), "the loan has ended");
        assert_eq!(assessor.lines.shares.len(), 3);
        assessor.adopt(plan);
        assert_eq!(assessor.lines.shares.len(), 2, "unknown lines are forgotten");
    }
}
