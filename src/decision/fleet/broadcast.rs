//! The fleet over a message bus (NATS), as pure rules: subjects, which proxy publishes the sum over a site, and rates.
//!
//! Each proxy publishes its report to the proxies of its site. One proxy of each site also publishes the sum over the
//! site to all sites, and a second one is its standby. So a proxy among a thousand receives the reports of its own site
//! and one sum for each site, but no report of a single proxy of another site.
//!
//! # Invariants
//! * The age of a published report counts from its arrival, since there is no request. Its time in transit is not known.
//!   A loan (`lease`) must not be used after its lender counts it as returned, so loans are not published.
//! * The subject identifies the publisher, since the bus restricts subjects to its users. A report that names another
//!   proxy is refused.
//! * Reports of at most [`PUBLISHERS_MAX`] proxies are kept. New publishers neither displace a publisher with a recent
//!   report, nor use up its rate.
//! * While a peer answers requests, the published reports of the same proxy are ignored: the age of an answer is known.

use super::members::{LIVE, Members, Merged, SITE_LIVE, broadcast_source};
use super::report::{Identity, Report, is_instance, is_name};
use super::{Heard, Refused};
use crate::units::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

pub use super::members::is_broadcast;

/// Proxies whose published reports are kept.
pub const PUBLISHERS_MAX: usize = 768;
/// Time without a published sum after which the first proxy of a site publishes it: with one report a second, this is
/// every two seconds.
const FIRST_AFTER: Duration = Duration::from_millis(1_500);
/// Time without a published sum after which the second proxy of a site publishes it: the first one has failed to.
const SECOND_AFTER: Duration = Duration::from_millis(3_200);
/// Age of the last report after which a member of this site is removed.
pub const FORGOTTEN: Duration = Duration::from_secs(600);

/// Reports a second that are read of a known publisher, and the burst: a connection that has stalled delivers many at
/// once.
const KNOWN: Rate = Rate { per_s: 4.0, burst: 32.0 };
/// The limit of reports from all unknown publishers together, a second. The burst covers the first reports of a whole site.
const UNKNOWN: Rate = Rate { per_s: 64.0, burst: 512.0 };

/// The content of a report, and its subscribers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// A proxy's own report, to the proxies of its site.
    Member,
    /// The sum over a site, to all sites.
    Site,
}

/// The proxy that published a report, as its subject states.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publisher {
    /// The content of its report.
    pub scope: Scope,
    /// The publisher's site.
    pub site: String,
    /// The publisher's instance.
    pub instance: String,
}

impl Scope {
    fn word(self) -> &'static str {
        match self {
            Scope::Member => "member",
            Scope::Site => "site",
        }
    }
}

impl Publisher {
    /// The subject below `prefix`: `PREFIX.member.SITE.INSTANCE` or `PREFIX.site.SITE.INSTANCE`. A dot of a name would
    /// separate tokens and is written as `~`, which no name has.
    #[must_use]
    pub fn subject(&self, prefix: &str) -> String {
        let (site, instance) = (token(&self.site), token(&self.instance));
        format!("{prefix}.{}.{site}.{instance}", self.scope.word())
    }

    /// The publisher that a subject below `prefix` names.
    #[must_use]
    pub fn read(prefix: &str, subject: &str) -> Option<Publisher> {
        let rest = subject.strip_prefix(prefix)?.strip_prefix('.')?;
        let mut tokens = rest.split('.');
        let scope = match tokens.next()? {
            "member" => Scope::Member,
            "site" => Scope::Site,
            _ => return None,
        };
        let mut name = || Some(tokens.next()?.replace('~', "."));
        let (site, instance) = (name()?, name()?);
        let is_valid = tokens.next().is_none() && is_name(&site) && is_instance(&instance);
        is_valid.then_some(Publisher { scope, site, instance })
    }

    fn source(&self) -> String {
        broadcast_source(&self.site, &self.instance)
    }
}

/// The subjects to subscribe to: the members of `site`, and the sums over all sites.
#[must_use]
pub fn subjects(prefix: &str, site: &str) -> [String; 2] {
    [format!("{prefix}.member.{}.*", token(site)), format!("{prefix}.site.*.*")]
}

fn token(name: &str) -> String {
    name.replace('.', "~")
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    per_s: f64,
    burst: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Timestamp,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Timestamp) -> bool {
        self.level = (self.level + rate.per_s * now.secs_since(self.at)).min(rate.burst);
        self.at = now;
        let is_enough = self.level >= 1.0;
        if is_enough {
            self.level -= 1.0;
        }
        is_enough
    }
}

/// Limits how many reports are read.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    known: BTreeMap<String, Bucket>,
    unknown: Option<Bucket>,
}

impl Intake {
    /// Whether a report of this publisher may be read now.
    ///
    /// # Errors
    /// [`Refused::Flood`].
    pub fn admit(
        &mut self,
        publisher: &Publisher,
        members: &Members,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let source = publisher.source();
        let full = |rate: Rate| Bucket { level: rate.burst, at: now };
        let is_admitted = if members.heard(&source).is_some() {
            if !self.known.contains_key(&source) {
                self.known.retain(|source, _| members.heard(source).is_some());
            }
            self.known.entry(source).or_insert_with(|| full(KNOWN)).take(KNOWN, now)
        } else {
            self.unknown.get_or_insert_with(|| full(UNKNOWN)).take(UNKNOWN, now)
        };
        if is_admitted { Ok(()) } else { Err(Refused::Flood) }
    }
}

impl Members {
    /// Merges a published report that arrived at `now`; `own` is this proxy.
    ///
    /// # Errors
    /// Why the report was refused; nothing changes then.
    pub fn merge_published(
        &mut self,
        publisher: &Publisher,
        own: &Identity,
        mut report: Report,
        now: Timestamp,
    ) -> Result<Merged, Refused> {
        let is_here = publisher.site == own.site;
        if !is_here && publisher.scope == Scope::Member {
            // Members of other sites are not subscribed to.
            return Err(Refused::Site);
        }
        let by = &mut report.by;
        if !(by.site.is_empty() || by.site == publisher.site) {
            return Err(Refused::Site);
        }
        if !(by.instance.is_empty() || by.instance == publisher.instance) {
            return Err(Refused::Instance);
        }
        (by.site, by.instance) = (publisher.site.clone(), publisher.instance.clone());
        if is_here && by.instance == own.instance {
            let is_own = by.incarnation == own.incarnation;
            return if is_own { Ok(Merged::Own) } else { Err(Refused::Instance) };
        }
        // Loans need an age that is known.
        report.wants.clear();
        report.grants.clear();
        report.check()?;
        // The own site's sum is made here.
        if is_here && publisher.scope == Scope::Site || self.is_requested(&report.by, now) {
            return Ok(Merged::Known);
        }
        let source = publisher.source();
        if self.heard(&source).is_none() {
            self.evict_silent(now)?;
        }
        self.renew(&source, own, report, now)
    }

    /// Whether the same proxy answers requests as a peer.
    fn is_requested(&self, by: &Identity, now: Timestamp) -> bool {
        self.sources().any(|(source, heard)| {
            let known = &heard.report.by;
            let is_same = (&known.site, &known.instance) == (&by.site, &by.instance);
            is_same && !is_broadcast(source) && now.since(heard.at) <= LIVE
        })
    }

    /// Removes the publisher with the oldest report, if the table is full.
    fn evict_silent(&mut self, now: Timestamp) -> Result<(), Refused> {
        let publishers = self.published().count();
        if publishers < PUBLISHERS_MAX {
            return Ok(());
        }
        let silent = self.published().filter(|(_, heard)| now.since(heard.at) > SITE_LIVE);
        let longest = silent.min_by_key(|(_, heard)| heard.at).map(|(source, _)| source.to_owned());
        let longest = longest.ok_or(Refused::Full)?;
        self.keep(|source| source != longest);
        Ok(())
    }

    /// The published reports, by source.
    pub fn published(&self) -> impl Iterator<Item = (&str, &Heard)> {
        self.sources().filter(|(source, _)| is_broadcast(source))
    }

    /// Removes silent publishers: members of `site` that have left, or that published nothing for [`FORGOTTEN`]; and of
    /// each other site all silent publishers but the last one, whose report stays with its age.
    pub fn forget_silent(&mut self, site: &str, now: Timestamp) {
        let mut last: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for (_, heard) in self.published() {
            let newest = last.entry(&heard.report.by.site).or_insert(heard.at);
            *newest = (*newest).max(heard.at);
        }
        let is_gone = |heard: &Heard| {
            let (by, age) = (&heard.report.by, now.since(heard.at));
            match by.site == site {
                true => age > FORGOTTEN || age > LIVE && heard.report.leaving,
                false => {
                    age > SITE_LIVE && last.get(&*by.site).is_some_and(|last| heard.at < *last)
                }
            }
        };
        let gone = self.published().filter(|(_, heard)| is_gone(heard));
        let gone: Vec<String> = gone.map(|(source, _)| source.to_owned()).collect();
        if !gone.is_empty() {
            self.keep(|source| !gone.iter().any(|gone| gone == source));
        }
    }

    /// Time without a published sum over the site after which this proxy has to publish it; `None` if other proxies have
    /// to. The live proxy with the lowest instance publishes the sum, and the next one is its standby. A proxy that is
    /// draining publishes the sum only if it is the last one.
    #[must_use]
    pub fn sum_due_after(
        &self,
        own: &Identity,
        is_leaving: bool,
        now: Timestamp,
    ) -> Option<Duration> {
        let others = self.colleagues(own, now, LIVE).filter(|(report, _)| !report.leaving);
        let before = |report: &Report| is_leaving || report.by.instance < own.instance;
        match others.filter(|(report, _)| before(report)).count() {
            0 => Some(FIRST_AFTER),
            1 if !is_leaving => Some(SECOND_AFTER),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "broadcast_tests.rs"]
mod tests;
