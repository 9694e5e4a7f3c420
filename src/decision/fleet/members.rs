//! The members of the fleet: the newest report of each source, merged so that order, duplicates and losses of reports
//! do not matter.
//!
//! A *source* is a configured peer from which this proxy requests reports. One source stands for one proxy, so the
//! configuration bounds the memory, whatever peers report. Publishers on a bus are further sources (`broadcast`).
//!
//! # Invariants
//! * The state after some reports of a source is the report with the greatest (incarnation, instance, sequence),
//!   independent of the order and the number of arrivals.
//! * A report that is not newer does not reduce the age of its source. The age counts from the moment at which this
//!   proxy *requested* the last new report, by its own clock. Clocks of different machines are never compared.

use super::report::{Identity, Report};
use super::{Peer, Refused};
use crate::pool::{Told, Totals};
use crate::units::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// A member whose last new report is older than this is not live.
pub const LIVE: Duration = Duration::from_secs(3);
/// A site whose last new report is older than this is shown as stale. Reports of sites are requested every two
/// seconds.
pub const SITE_LIVE: Duration = Duration::from_secs(6);
/// After this time without a report, an incarnation with a smaller number is accepted too: the clock of a
/// restarted proxy may have been set back.
pub const FORGIVEN: Duration = Duration::from_secs(10);

/// The last report of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The newest report.
    pub report: Report,
    /// The time of its request.
    pub at: Timestamp,
}

/// The result of merging a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Merged {
    /// The report was newer.
    News,
    /// The report was already known.
    Known,
    /// The peer is this proxy itself.
    Own,
}

/// Begins the source of a publisher on a bus; neither a URL nor a site's name begins like this.
const BROADCAST: &str = "bus ";

/// The source of a publisher on a bus.
pub(super) fn broadcast_source(site: &str, instance: &str) -> String {
    format!("{BROADCAST}{site} {instance}")
}

/// Whether a source is a publisher on a bus.
#[must_use]
pub fn is_broadcast(source: &str) -> bool {
    source.starts_with(BROADCAST)
}

/// The newest report of each source.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// By source.
    all: BTreeMap<String, Heard>,
    /// Response times in the reports of this site's other proxies since the last [`Members::take_told`].
    told: Vec<Told>,
    /// The sample counts of their last reports, by source.
    totals: BTreeMap<String, Totals>,
}

/// Response times of this many services and clusters are kept until they are taken.
const TOLD_MAX: usize = 1_024;

impl Members {
    /// Merges the report of `source` in `site` that was requested at `at`; `own` is this proxy.
    ///
    /// Instances are distinguished within a site: host names and ports may be the same in two sites.
    ///
    /// # Errors
    /// The reason why the report was refused; the state is then unchanged.
    pub fn merge(
        &mut self,
        source: &str,
        site: &str,
        own: &Identity,
        report: Report,
        at: Timestamp,
    ) -> Result<Merged, Refused> {
        report.check()?;
        if report.by.site != site {
            return Err(Refused::Site);
        }
        if (&report.by.site, &report.by.instance) == (&own.site, &own.instance) {
            // During an upgrade, the process that leaves may answer at this proxy's own address.
            let is_own = report.by.incarnation == own.incarnation || report.leaving;
            return if is_own { Ok(Merged::Own) } else { Err(Refused::Instance) };
        }
        let elsewhere = |(other, heard): (&String, &Heard)| {
            other != source
                && !is_broadcast(other)
                && heard.report.by.site == report.by.site
                && heard.report.by.instance == report.by.instance
                && at.since(heard.at) <= LIVE
        };
        if self.all.iter().any(elsewhere) {
            return Err(Refused::Instance);
        }
        // The same proxy on a bus: the age of an answer is known, and of a broadcast it is not.
        let published = broadcast_source(&report.by.site, &report.by.instance);
        self.all.remove(&published);
        if let Some(totals) = self.totals.remove(&published) {
            self.totals.entry(source.to_owned()).or_insert(totals);
        }
        self.renew(source, own, report, at)
    }

    /// The response times in the reports of this site's other proxies since the last call.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Takes a report that may speak for its source, if it is newer.
    pub(super) fn renew(
        &mut self,
        source: &str,
        own: &Identity,
        report: Report,
        at: Timestamp,
    ) -> Result<Merged, Refused> {
        let is_another = self.all.get(source).is_some_and(|known| known.report.by != report.by);
        if is_another {
            // Another process counts anew.
            self.totals.remove(source);
        }
        if let Some(known) = self.all.get(source) {
            let (old, new) = (&known.report.by, &report.by);
            let forgiven = at.since(known.at) > FORGIVEN && old != new;
            match (new, report.sequence).cmp(&(old, known.report.sequence)) {
                std::cmp::Ordering::Equal => return Ok(Merged::Known),
                std::cmp::Ordering::Less if !forgiven => return Err(Refused::Stale),
                std::cmp::Ordering::Less | std::cmp::Ordering::Greater => {}
            }
        }
        if report.by.site == own.site && self.told.len() < TOLD_MAX {
            let totals = self.totals.entry(source.to_owned()).or_default();
            self.told.extend(totals.news(&report.samples, at.secs_since(Timestamp::START)));
        }
        self.all.insert(source.to_owned(), Heard { report, at });
        Ok(Merged::News)
    }

    /// Forgets sources that are no longer configured.
    pub fn keep(&mut self, is_configured: impl Fn(&str) -> bool) {
        self.all.retain(|source, _| is_configured(source));
        self.totals.retain(|source, _| is_configured(source));
    }

    /// All sources and their last reports.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, &Heard)> {
        self.all.iter().map(|(source, heard)| (source.as_str(), heard))
    }

    /// The last report of a source.
    #[must_use]
    pub fn heard(&self, source: &str) -> Option<&Heard> {
        self.all.get(source)
    }

    /// The sum of `own` and the reports of the live members of its site; idle clusters are left out.
    #[must_use]
    pub fn site(&self, own: &Report, now: Timestamp) -> Report {
        let mut sum = own.clone();
        sum.wants.clear();
        sum.grants.clear();
        sum.challenges.clear();
        sum.samples.clear();
        for heard in self.all.values() {
            let live = now.since(heard.at) <= LIVE && !heard.report.leaving;
            let is_other = heard.report.by.instance != own.by.instance;
            if live && is_other && heard.report.by.site == own.by.site {
                sum.add(&heard.report);
            }
        }
        sum.expected = sum.expected.max(sum.members);
        sum.without_idle()
    }

    /// The reports of the other members of the site that are at most `age` old, and when each was requested.
    pub fn colleagues<'a>(
        &'a self,
        own: &'a Identity,
        now: Timestamp,
        age: Duration,
    ) -> impl Iterator<Item = (&'a Report, Timestamp)> {
        let recent = self.all.values().filter(move |heard| now.since(heard.at) <= age);
        let theirs = recent.filter(move |heard| {
            let by = &heard.report.by;
            by.site == own.site && by.instance != own.instance
        });
        theirs.map(|heard| (&heard.report, heard.at))
    }

    /// The report of another site. Among the recent reports of its sources, the report with the most members wins,
    /// then the newest.
    #[must_use]
    pub fn other_site(&self, site: &str, now: Timestamp) -> Option<&Heard> {
        let of_site = self.all.values().filter(|heard| heard.report.by.site == site);
        of_site.max_by_key(|heard| {
            let live = now.since(heard.at) <= SITE_LIVE;
            (live, if live { heard.report.members } else { 0 }, heard.at)
        })
    }
}

/// One link to a site: a list of peers. If a peer does not answer, the next one is requested.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Names the source of its reports.
    pub source: String,
    /// The site.
    pub site: String,
    /// Peers, the preferred one first; never empty.
    pub peers: Vec<Peer>,
    /// The interval between two requests.
    pub every: Duration,
    /// Whether the link requests the peer's own report instead of the sum over its site.
    pub member: bool,
}

/// The interval between two requests to a member of this site.
const MEMBER_EVERY: Duration = Duration::from_secs(1);
/// The interval between two requests on each link to another site. With two links, the newest report is at most
/// a second old.
const SITE_EVERY: Duration = Duration::from_secs(2);
/// Links to another site.
const LINKS_PER_SITE: usize = 2;

/// The links of a proxy: one to each peer of its own site, and two to each other site, however many peers of that
/// site there are. `scatter` differs between proxies, so that they do not all send to the same two peers.
#[must_use]
pub fn links(peers: &[Peer], own_site: &str, scatter: impl Fn(&Peer) -> u64) -> Vec<Link> {
    let mut sites: BTreeMap<&str, Vec<&Peer>> = BTreeMap::new();
    for peer in peers {
        sites.entry(&peer.site).or_default().push(peer);
    }
    let mut all = Vec::new();
    for (site, mut peers) in sites {
        if site == own_site {
            all.extend(peers.iter().map(|peer| Link {
                source: peer.url.clone(),
                site: site.to_owned(),
                peers: vec![(*peer).clone()],
                every: MEMBER_EVERY,
                member: true,
            }));
            continue;
        }
        peers.sort_by_key(|peer| scatter(peer));
        for number in 0..LINKS_PER_SITE.min(peers.len()) {
            let own = peers.iter().skip(number).step_by(LINKS_PER_SITE);
            all.push(Link {
                source: format!("{site}#{number}"),
                site: site.to_owned(),
                peers: own.map(|peer| (*peer).clone()).collect(),
                every: SITE_EVERY,
                member: false,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Observed, Recent};
    use crate::units::Dice;

    fn report(instance: &str, incarnation: u64, sequence: u64) -> Report {
        Report {
            by: Identity { site: "a".to_owned(), incarnation, instance: instance.to_owned() },
            sequence,
            members: 1,
            expected: 1,
            ..Report::default()
        }
    }

    fn own() -> Identity {
        report("own", 1, 1).by
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_secs(seconds))
    }

    fn peer(site: &str, number: usize) -> Peer {
        Peer {
            site: site.to_owned(),
            url: format!("https://{site}-{number}:9901"),
            ..Peer::default()
        }
    }

    #[test]
    fn order_duplicates_and_losses_lead_to_the_same_state() {
        for seed in 0..500 {
            let mut dice = Dice::seeded(seed);
            // Restarts, and another proxy at the same address, each with reports of its own.
            let mut sent: Vec<Report> = Vec::new();
            for incarnation in 1..=3 {
                let name = ["p", "p", "q"][dice.below(3)];
                let count = 1 + dice.below(6) as u64;
                sent.extend((1..=count).map(|sequence| report(name, incarnation, sequence)));
            }
            let newest = sent.last().unwrap().clone();
            // Each report arrives up to three times or not at all, in any order; only the newest is certain
            // to arrive.
            let mut arrived: Vec<Report> = vec![newest.clone()];
            for report in &sent {
                arrived.extend((0..dice.below(4)).map(|_| report.clone()));
            }
            for last in (1..arrived.len()).rev() {
                arrived.swap(last, dice.below(last + 1));
            }
            let mut members = Members::default();
            for report in arrived {
                let merged = members.merge("x", "a", &own(), report, at(1));
                assert!(!matches!(merged, Err(reason) if reason != Refused::Stale), "{merged:?}");
            }
            assert_eq!(members.heard("x").unwrap().report, newest, "replay with seed {seed}");
        }
    }

    #[test]
    fn a_replay_makes_nobody_younger() {
        let mut members = Members::default();
        let mut merge = |sequence: u64, seconds: u64| {
            let merged = members.merge("x", "a", &own(), report("p", 5, sequence), at(seconds));
            (merged, members.heard("x").unwrap().at)
        };
        assert_eq!(merge(7, 1), (Ok(Merged::News), at(1)));
        assert_eq!(merge(7, 2), (Ok(Merged::Known), at(1)));
        assert_eq!(merge(6, 3), (Err(Refused::Stale), at(1)));
        assert_eq!(merge(6, 60), (Err(Refused::Stale), at(1)), "not even after a long silence");
        assert_eq!(merge(8, 61), (Ok(Merged::News), at(61)));
    }

    #[test]
    fn a_restart_with_a_clock_that_was_set_back_is_accepted_after_a_silence() {
        let mut members = Members::default();
        let mut merge = |incarnation: u64, seconds: u64| {
            members.merge("x", "a", &own(), report("p", incarnation, 1), at(seconds))
        };
        assert_eq!(merge(5, 1), Ok(Merged::News));
        assert_eq!(merge(4, 2), Err(Refused::Stale));
        assert_eq!(merge(4, 12), Ok(Merged::News));
        assert_eq!(
            merge(u64::MAX, 13),
            Ok(Merged::News),
            "a forged one does not lock it for ever:"
        );
        assert_eq!(merge(6, 24), Ok(Merged::News));
    }

    #[test]
    fn nobody_speaks_for_another_site_another_member_or_us() {
        let mut members = Members::default();
        let mut merge = |source: &str, site: &str, name: &str, seconds: u64| {
            members.merge(source, site, &own(), report(name, 1, seconds), at(seconds))
        };
        assert_eq!(merge("x", "b", "p", 1), Err(Refused::Site));
        assert_eq!(merge("x", "a", "p", 1), Ok(Merged::News));
        assert_eq!(merge("y", "a", "p", 2), Err(Refused::Instance));
        assert_eq!(merge("y", "a", "own", 2), Ok(Merged::Own));
        assert_eq!(merge("y", "a", "p", 9), Ok(Merged::News), "it moved to another address");
    }

    #[test]
    fn a_namesake_in_another_site_is_not_this_proxy_nor_one_of_a_third_site() {
        let mut members = Members::default();
        let mut merge = |source: &str, site: &str, incarnation: u64, leaving: bool| {
            let by = Identity { site: site.to_owned(), ..report("own", incarnation, 1).by };
            let said = Report { by, leaving, ..report("own", incarnation, 1) };
            members.merge(source, site, &own(), said, at(1))
        };
        assert_eq!(merge("b#0", "b", 1, false), Ok(Merged::News));
        assert_eq!(merge("c#0", "c", 1, false), Ok(Merged::News));
        assert_eq!(merge("c#1", "c", 1, false), Err(Refused::Instance), "asked twice");
        assert_eq!(merge("x", "a", 1, false), Ok(Merged::Own));
        assert_eq!(merge("x", "a", 2, false), Err(Refused::Instance), "another process");
        assert_eq!(merge("x", "a", 2, true), Ok(Merged::Own), "the one that this proxy replaces");
        let heard = |site: &str| members.other_site(site, at(1)).map(|heard| &heard.report.by.site);
        assert_eq!((heard("b"), heard("c")), (Some(&"b".to_owned()), Some(&"c".to_owned())));
    }

    #[test]
    fn a_site_is_what_its_live_members_say() {
        let mut members = Members::default();
        let own = Report { expected: 4, ..report("own", 1, 1) };
        let leaving = Report { leaving: true, ..report("r", 1, 1) };
        for (source, said, seconds) in
            [("x", report("p", 1, 1), 10), ("y", report("q", 1, 1), 5), ("z", leaving, 10)]
        {
            assert_eq!(members.merge(source, "a", &own.by, said, at(seconds)), Ok(Merged::News));
        }

        let site = members.site(&own, at(11));

        assert_eq!((site.members, site.expected), (2, 4), "one is silent, one leaves");
        assert_eq!(members.site(&own, at(60)).members, 1);
    }

    #[test]
    fn response_times_are_told_once_by_live_members_of_the_own_site_only() {
        let recent = |total: u16| {
            let observed =
                |n: u16| Observed { ended: 0.0, seconds: 0.001 * f64::from(n), stratum: 1 };
            let newest = (total - 4..total).map(observed).collect();
            Recent { total, endpoints: 0, newest }.encode(4)
        };
        let said = |sequence: u64, total: u16| Report {
            samples: [("shop".to_owned(), [("idc".to_owned(), recent(total))].into())].into(),
            ..report("p", 1, sequence)
        };
        let mut members = Members::default();
        let mut told = |report: Report, seconds: u64| {
            members.merge("x", "a", &own(), report, at(seconds)).unwrap();
            members.take_told()
        };
        assert_eq!(told(said(1, 100), 10)[0].observed.len(), 4, "all of the first report");
        let new = told(said(2, 102), 11);
        let [one] = new.as_slice() else { panic!("{new:?}") };
        assert_eq!((one.service.as_str(), one.cluster.as_str()), ("shop", "idc"));
        let ended: Vec<f64> = one.observed.iter().map(|one| one.ended).collect();
        assert_eq!(ended, [10.5, 11.0], "since the first report");
        assert!((one.observed[1].seconds / 0.101 - 1.0).abs() < 0.01, "{one:?}");
        assert_eq!(told(said(2, 102), 12), [], "known already");
        assert_eq!(told(said(3, 102), 12), [], "no new one");
        assert_eq!(told(said(4, 103), 30)[0].observed.len(), 4, "after a silence");

        let elsewhere = |sequence, total| {
            let mut report = said(sequence, total);
            report.by.site = "b".to_owned();
            report
        };
        for (sequence, total) in [(1, 100), (2, 104)] {
            members.merge("b#0", "b", &own(), elsewhere(sequence, total), at(40)).unwrap();
        }
        assert_eq!(members.take_told(), [], "another site's proxies have other distances");
        let site = members.site(&said(9, 120), at(40));
        assert!(site.samples.is_empty(), "nor are they told to other sites");
    }

    #[test]
    fn of_another_site_the_fuller_news_counts_and_old_news_stays_visible() {
        let mut members = Members::default();
        let said = |name: &str, count: u32| Report {
            members: count,
            expected: 9,
            ..report(name, 1, u64::from(count))
        };
        for (source, said, seconds) in [("a#0", said("p", 5), 10), ("a#1", said("q", 4), 11)] {
            assert_eq!(members.merge(source, "a", &own(), said, at(seconds)), Ok(Merged::News));
        }
        let told = |seconds: u64| members.other_site("a", at(seconds)).unwrap().report.members;
        assert_eq!(told(12), 5);
        assert_eq!(told(17), 4, "the fuller one is stale");
        assert_eq!(told(1_000), 4, "cut off, and still shown with its age");
    }

    #[test]
    fn every_member_is_asked_and_two_proxies_of_each_other_site() {
        let mut peers: Vec<Peer> = (0..49).map(|number| peer("home", number)).collect();
        for site in 0..19 {
            peers.extend((0..3).map(|number| peer(&format!("s{site}"), number)));
        }
        let scatter = |peer: &Peer| crate::units::hash(peer.url.as_bytes());

        let links = links(&peers, "home", scatter);

        assert_eq!(links.len(), 49 + 38);
        assert_eq!(links.iter().filter(|link| link.member).count(), 49);
        let mut far = links.iter().filter(|link| !link.member);
        assert!(far.all(|link| (1..=2).contains(&link.peers.len())));
        let sources: std::collections::BTreeSet<_> = links.iter().map(|l| &l.source).collect();
        assert_eq!(sources.len(), links.len());
    }
}
