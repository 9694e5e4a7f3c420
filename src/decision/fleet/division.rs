//! The division of a limit among the proxies of a site (`rate_limit.scope: site`).
//!
//! While the proxies hear each other, each has an equal part. A silent proxy may be dead, or cut off and still serving;
//! no proxy can tell. The rule: a proxy that hears more than half of its site takes the parts of the silent ones over
//! after [`LIVE`]; any other proxy keeps the part that it has when all serve.
//!
//! # Invariants
//! * At most one side of a partition hears more than half. That side has at most the whole limit, and the other sides
//!   less than half of it: however the site is cut, the sum is below 1.5 times the limit. Without a cut it is at most the
//!   limit, except while a proxy that starts is not yet heard (about a second).
//! * Losing news never raises the limit of a proxy that hears half of its site or less.

use super::members::{LIVE, Members};
use super::report::Identity;
use crate::units::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// The number of parts into which this proxy divides a limit of its site: it has one of them. `configured` is the number
/// of configured proxies of the site, this one included.
#[must_use]
pub fn parts(heard: &Members, own: &Identity, configured: u32, now: Timestamp) -> u32 {
    let mut live = BTreeSet::from([own.instance.as_str()]);
    let mut known = live.clone();
    let mut gone = BTreeSet::new();
    for (report, at) in heard.colleagues(own, now, Duration::MAX) {
        let instance = report.by.instance.as_str();
        known.insert(instance);
        if now.since(at) <= LIVE {
            live.insert(instance);
        } else if report.leaving {
            // It said that it ends: its silence is no riddle.
            gone.insert(instance);
        }
    }
    let count = |set: &BTreeSet<&str>| u32::try_from(set.len()).unwrap_or(u32::MAX);
    let all = configured.max(count(&known)).saturating_sub(count(&gone));
    let live = count(&live);
    if live.saturating_mul(2) > all { live } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Report;

    fn identity(number: u32) -> Identity {
        Identity { site: "a".to_owned(), incarnation: 1, instance: format!("gw-{number}") }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_secs(100 + seconds))
    }

    /// The last report of another proxy: its number, the second, and whether it was leaving.
    type Last = (u32, u64, bool);

    /// What proxy 0 of `configured` believes when it heard these others last.
    fn believes(configured: u32, heard: &[Last], now: u64) -> u32 {
        let (own, mut members) = (identity(0), Members::default());
        for (number, second, leaving) in heard {
            let report = Report {
                by: identity(*number),
                sequence: 1,
                members: 1,
                expected: 1,
                leaving: *leaving,
                ..Report::default()
            };
            members.merge(&format!("peer {number}"), "a", &own, report, at(*second)).unwrap();
        }
        parts(&members, &own, configured, at(now))
    }

    #[test]
    fn more_than_half_take_over_and_others_keep_their_part() {
        #[rustfmt::skip]
        let table: [(u32, &[Last], u64, u32, &str); 11] = [
            (1, &[], 9, 1, "alone"),
            (3, &[], 9, 3, "nobody was heard yet"),
            (3, &[(1, 9, false), (2, 9, false)], 9, 3, "all serve"),
            (3, &[(1, 9, false), (2, 6, false)], 9, 3, "silent for 3 s: still counted"),
            (3, &[(1, 9, false), (2, 5, false)], 9, 2, "two of three take over"),
            (3, &[(1, 5, false), (2, 5, false)], 9, 3, "one of three may be cut off"),
            (2, &[(1, 5, false)], 9, 2, "half of the site is not more than half"),
            (2, &[(1, 9, true)], 9, 2, "a draining proxy still serves"),
            (2, &[(1, 5, true)], 9, 1, "a proxy that said it ends is gone"),
            (1, &[(1, 9, false), (2, 9, false)], 9, 3, "found over NATS, not configured"),
            (1, &[(1, 9, false), (2, 5, false)], 9, 2, "one of those fell silent"),
        ];
        for (configured, heard, now, expected, why) in table {
            assert_eq!(believes(configured, heard, now), expected, "{why}");
        }
    }

    #[test]
    fn however_a_site_is_cut_the_sum_stays_below_one_and_a_half() {
        for all in 1..=6_u32 {
            // Each way to assign the proxies to sides.
            for cut in 0..3_u32.pow(all) {
                let side = |number: u32| cut / 3_u32.pow(number) % 3;
                let size =
                    |number: u32| (0..all).filter(|other| side(*other) == side(number)).count();
                let sum: f64 = (0..all)
                    .map(|number| {
                        let others = u32::try_from(size(number)).unwrap() - 1;
                        let heard: Vec<_> = (1..all)
                            .map(|other| (other, if other <= others { 9 } else { 5 }, false))
                            .collect();
                        1.0 / f64::from(believes(all, &heard, 9))
                    })
                    .sum();
                assert!(sum < 1.5, "{all} proxies, cut {cut}: {sum}");
                if (0..all).all(|number| side(number) == side(0)) {
                    assert!((sum - 1.0).abs() < 1e-9, "without a cut: {sum}");
                }
            }
        }
    }
}
