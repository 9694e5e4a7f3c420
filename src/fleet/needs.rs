//! What the services of the other proxies need of each cluster, for autoscalers.

use super::{Fleet, State};
use crate::decision::fleet::{Identity, LIVE, Report, SITE_LIVE};
use crate::decision::scaling::Need;
use crate::decision::units::Timestamp;
use crate::os::clock;
use std::collections::{BTreeMap, BTreeSet};

/// Needs by service and cluster.
pub type Needs = BTreeMap<String, BTreeMap<String, Need>>;

impl Fleet {
    /// The sum over the other live proxies of this site and over the other live sites; proxies that drain are left out.
    #[must_use]
    pub fn needs_of_others(&self) -> Needs {
        let own = self.identity();
        let state = self.state();
        if state.links.is_empty() && state.bus.is_none() {
            return Needs::new();
        }
        state.needs_of_others(&own, clock::now())
    }
}

impl State {
    fn needs_of_others(&self, own: &Identity, now: Timestamp) -> Needs {
        let mut sum = Report::default();
        for (report, _) in self.members.colleagues(own, now, LIVE) {
            if !report.leaving {
                sum.add(report);
            }
        }
        let asked = self.links.iter().map(|known| known.link.site.as_str());
        let published = self.members.published().map(|(_, heard)| heard.report.by.site.as_str());
        let sites: BTreeSet<&str> =
            asked.chain(published).filter(|site| *site != own.site).collect();
        for heard in sites.into_iter().filter_map(|site| self.members.other_site(site, now)) {
            if now.since(heard.at) <= SITE_LIVE {
                sum.add(&heard.report);
            }
        }
        sum.needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::fleet::Link;
    use crate::fleet::LinkState;
    use std::time::Duration;

    fn report(site: &str, instance: &str, endpoints: f64) -> Report {
        let need = Need { endpoints, known_rps: 100.0 * endpoints, unknown_rps: 0.0 };
        let by = Identity { site: site.to_owned(), instance: instance.to_owned(), incarnation: 1 };
        let needs = [("shop".to_owned(), [("cloud".to_owned(), need)].into())].into();
        Report { by, needs, members: 1, expected: 1, ..Report::default() }
    }

    #[test]
    fn other_proxies_and_sites_are_added_while_they_are_live_and_do_not_drain() {
        let start = Timestamp::START.plus(Duration::from_secs(100));
        let after = |seconds| start.plus(Duration::from_secs(seconds));
        let link = Link {
            source: "gw-9:1".to_owned(),
            site: "west".to_owned(),
            peers: Vec::new(),
            every: Duration::from_secs(2),
            member: false,
        };
        let link = LinkState { link, since: start, url: String::new(), is_own: false, error: None };
        let mut state = State { links: vec![link], ..State::default() };
        let own = Identity { site: "east".into(), instance: "gw-1:1".into(), incarnation: 1 };
        let hear = |state: &mut State, report: Report, at| {
            let (site, source) = (report.by.site.clone(), report.by.instance.clone());
            state.members.merge(&source, &site, &own, report, at).unwrap();
        };
        hear(&mut state, report("east", "gw-2:1", 2.0), start);
        hear(&mut state, Report { leaving: true, ..report("east", "gw-3:1", 4.0) }, start);
        let others = |state: &State, at| {
            state.needs_of_others(&own, at).get("shop").map_or(0.0, |of| of["cloud"].endpoints)
        };

        assert_eq!(others(&state, after(1)), 2.0, "a proxy that drains is left out");
        assert_eq!(others(&state, after(4)), 0.0, "a proxy without a recent report is left out");
        hear(&mut state, report("west", "gw-9:1", 16.0), after(4));
        assert_eq!(others(&state, after(10)), 16.0, "the sum over another site counts for 6 s");
        assert_eq!(others(&state, after(11)), 0.0);
        hear(&mut state, report("east", "gw-1:1", 8.0), after(11));
        assert_eq!(others(&state, after(11)), 0.0, "this proxy's own report counts nowhere");
    }
}
