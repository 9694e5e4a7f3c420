//! The response times in a proxy's report to the other proxies of its site, within a bound of bytes.
//!
//! # Units
//! Seconds; bytes.

use crate::plan::{ClusterIndex, Plan, ServiceIndex};
use crate::pool::{MOST, NEW, Recent, Texts};
use crate::signal::Signals;
use std::collections::BTreeMap;

/// The number of samples a second for one service at one cluster that all proxies of a site should report together.
const ALL: usize = 128;
/// The smallest limit of samples for one service at one cluster in a report.
const LEAST: usize = 4;
/// A proxy may report this number, divided by the square of the number of proxies, of bytes a second: in a larger site each
/// proxy receives more reports, and fewer samples of each suffice.
const BYTES: f64 = 37_500.0;
/// The least and the most bytes of samples in one report, names included. If fewer are permitted a second, only every second
/// or third report contains samples.
const PART: (f64, f64) = (40.0, 512.0);
const EVERY_MAX: f64 = 3.0;

/// The limit of samples for one service at one cluster in one report, in a site of `members` proxies.
fn most(members: u32) -> usize {
    (ALL / members.max(1) as usize).clamp(LEAST, MOST)
}

/// The interval between two reports with samples, in seconds, and the limit of bytes in each, in a site of `members` proxies.
fn room(members: u32) -> (usize, usize) {
    let bytes = BYTES / f64::from(members.max(1)).powi(2);
    let every = (PART.0 / bytes).ceil().clamp(1.0, EVERY_MAX);
    (every as usize, (bytes * every).clamp(PART.0, PART.1) as usize)
}

/// The encoded samples for a report to the other proxies of the site, which has `members` proxies. Services and clusters that
/// do not fit take turns. `scatter` differs between proxies, so that they do not all report samples in the same second.
#[must_use]
pub fn texts(plan: &Plan, signals: &Signals, (members, scatter): (u32, u64), now: f64) -> Texts {
    let (every, mut left) = room(members);
    let second = (now as u64).wrapping_add(scatter) as usize;
    if !second.is_multiple_of(every) {
        return Texts::new();
    }
    let mut all: BTreeMap<(ServiceIndex, ClusterIndex), Recent> = BTreeMap::new();
    for (class, signals) in plan.classes.iter().zip(&signals.classes) {
        for (cluster, recent) in class.permitted.clusters.iter().zip(&signals.recent) {
            all.entry((class.service, *cluster)).or_default().merge(recent);
        }
    }
    all.values_mut().for_each(|recent| recent.newest.retain(|one| now - one.ended <= NEW));
    let all: Vec<_> = all.into_iter().filter(|(_, recent)| !recent.newest.is_empty()).collect();
    let first = if all.is_empty() { 0 } else { second / every % all.len() };
    let mut texts = Texts::new();
    for ((service, cluster), recent) in all[first..].iter().chain(&all[..first]) {
        let (service, cluster) = (&plan.services[*service].name, &plan.clusters[*cluster].name);
        let text = recent.encode(most(members));
        let length = service.len() + cluster.len() + text.len();
        if length > left && !texts.is_empty() {
            break;
        }
        left = left.saturating_sub(length);
        texts.entry(service.clone()).or_default().insert(cluster.clone(), text);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permit::Permitted;
    use crate::plan::{Class, Cluster, Service};
    use crate::pool::{Observed, Totals};
    use crate::signal::ClassSignals;
    use std::sync::Arc;

    #[test]
    fn a_large_site_tells_fewer_samples_each() {
        assert_eq!([1, 8, 10, 50, 1_000].map(most), [16, 16, 12, 4, 4]);
        let rooms = [1, 8, 10, 20, 50, 1_000].map(room);
        assert_eq!(rooms, [(1, 512), (1, 512), (1, 375), (1, 93), (3, 45), (3, 40)]);
    }
    /// A plan with three services at one cluster, the signals of a moment, and that moment.
    fn three_services(total: u16) -> (Plan, Signals, f64) {
        let now = 100.0;
        let names = ["accounts", "search", "shop"];
        let observed = |n: usize| Observed {
            ended: now - 0.1 * (16 - n) as f64,
            seconds: 0.001 * (n + 1) as f64,
            stratum: 0,
        };
        let recent = Recent { total, endpoints: 0, newest: (0..16).map(observed).collect() };
        let class = |service: usize| Class {
            service: ServiceIndex(service),
            data: Vec::new(),
            permitted: Permitted { clusters: vec![ClusterIndex(0)], rejected: Vec::new() },
            l4: false,
            id: service as u64,
        };
        let signals = Arc::new(ClassSignals { recent: vec![recent], ..ClassSignals::default() });
        let plan = Plan {
            services: names
                .iter()
                .map(|name| Service::named(name, vec![ClusterIndex(0)]))
                .collect(),
            clusters: vec![Cluster::named("idc")].into(),
            classes: (0..3).map(class).collect(),
            ..Plan::default()
        };
        let signals = Signals { classes: vec![signals; 3].into(), ..Signals::default() };
        (plan, signals, now)
    }
    #[test]
    fn services_take_turns_where_a_report_has_no_room_for_all() {
        let (plan, signals, now) = three_services(100);
        let told = |members, seconds: f64| -> Vec<String> {
            texts(&plan, &signals, (members, 2), now + seconds).into_keys().collect()
        };
        assert_eq!(told(2, 0.0), ["accounts", "search", "shop"]);
        let nothing = Vec::<String>::new();
        assert_eq!(told(2, 4.0), nothing, "no new ones");
        // In a site of 30, one in every second.
        let mut turns: Vec<Vec<String>> = (0..6).map(|n| told(30, 0.5 * f64::from(n))).collect();
        turns.sort();
        turns.dedup();
        assert_eq!(turns, [["accounts"], ["search"], ["shop"]]);
        assert_eq!([told(50, 0.0), told(50, 1.0), told(50, 2.0)].map(|of| of.len()), [1, 0, 0]);
    }
    #[test]
    fn samples_are_dated_by_the_totals_of_two_reports() {
        let mut totals = Totals::default();
        let mut news = |total: u16, at: f64| {
            let (plan, signals, now) = three_services(total);
            totals.news(&texts(&plan, &signals, (2, 0), now), at)
        };
        assert_eq!(news(100, 50.0)[0].observed.len(), 16, "the first ones are new");
        let told = news(108, 52.0);
        assert_eq!(told.len(), 3);
        assert_eq!((told[2].service.as_str(), told[2].cluster.as_str()), ("shop", "idc"));
        let ended: Vec<f64> = told[2].observed.iter().map(|one| one.ended).collect();
        assert_eq!(ended, [50.25, 50.5, 50.75, 51.0, 51.25, 51.5, 51.75, 52.0]);
        assert!((told[2].observed[7].seconds / 0.016 - 1.0).abs() < 0.006);
        assert_eq!(news(108, 53.0), [], "no new one");
        assert_eq!(news(140, 54.0)[0].observed.len(), 16, "16 of 32");
        let late = &news(146, 74.0)[0].observed;
        assert_eq!((late.len(), late[15].ended), (16, 74.0), "after a silence, all of them");
        assert!(late[0].ended > 71.0, "none is older than three seconds");
        assert_eq!(news(150, 74.1), [], "two reports that were delayed together");
    }
}
