//! Ceilings, lines and budgets that the proxies of a site share: each proxy has a part, and lends the unused part to the
//! others.
//!
//! A part is the ceiling divided by the number of *configured* proxies, live or not: a proxy that is partitioned
//! cannot distinguish a dead proxy from one that still sends. A partitioned proxy therefore has only its part, and
//! the sum of the parts never exceeds the ceiling. While the proxies reach each other, a proxy that needs less than
//! its part lends up to half of it to those that need more.
//!
//! # Invariants
//! * A lender stops using the lent capacity at the moment of its decision, before the borrower learns of the loan,
//!   and uses it again only [`HELD`] after the last renewal.
//! * A borrower uses a loan until [`LEASE`] after it sent the *request* whose response granted the loan, by its own
//!   clock. The request precedes the response, so the borrower stops before the lender starts again, whatever the
//!   delay or loss of messages. Clocks need not agree; they must run equally fast within 5 %.
//! * Therefore the sum of the ceilings of all proxies of a site never exceeds the configured ceiling, unless that is
//!   below one exchange for each proxy. An exchange that began under a loan runs to its end.

use super::members::Members;
use super::report::{Identity, Report};
use crate::units::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a borrower uses a loan after the request that obtained it.
pub const LEASE: Duration = Duration::from_secs(3);
/// How long a lender does not use a loan after the last renewal: the lease, the time for which a decision is
/// reported, and a margin for clocks that run at different rates.
const HELD: Duration = Duration::from_millis(4_500);
/// For how long a decision is reported. Without a newer decision the loans are left out of the reports.
const TOLD: Duration = Duration::from_millis(700);
/// The capacity that a proxy keeps for itself, as a multiple of its recent use.
const HEADROOM: f64 = 1.25;
/// How quickly a peak of use is forgotten.
const PEAK_SECONDS: f64 = 2.0;

/// The prefixes of the names of a service's budget, and of a capacity group's exchanges and rate; no cluster name can
/// begin with them.
pub const BUDGET: &str = "$";
const LINE: &str = "#";
const RATE: &str = "%";
/// The number of units into which a budget or a rate is divided.
const UNITS: u32 = 10_000;
/// A proxy lends while its bucket is above the first level, and asks for a loan below the second.
const LEVELS: (f64, f64) = (0.9, 0.5);

/// The use of a shared ceiling or line, or of a budget or a rate (in units).
#[derive(Clone, Debug)]
pub struct Use {
    /// The cluster's name; for anything else, its prefix and the name of the service or the group.
    pub name: String,
    /// The configured ceiling.
    pub total: u32,
    /// Exchanges in flight and in the queue.
    pub now: u32,
}

/// What this proxy may use of something that proxies share: concurrent exchanges of a cluster or a line, or units of a
/// budget or a rate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Share {
    /// The name of the use.
    pub name: String,
    /// This proxy's part, less its loans.
    pub own: u32,
    /// The capacity borrowed from other proxies.
    pub borrowed: u32,
    /// The end of the borrowed capacity.
    pub until: Timestamp,
}

impl Share {
    /// The ceiling at `now`.
    #[must_use]
    pub fn ceiling(&self, now: Timestamp) -> u32 {
        self.own.saturating_add(if now <= self.until { self.borrowed } else { 0 })
    }
}

/// The use of a service's budget whose bucket is at `level` (0 to 1): a proxy that spends less than its refill needs
/// no loan, and a proxy whose bucket falls asks for the whole budget.
#[must_use]
pub fn budget_use(service: &str, level: f64, members: u32) -> Use {
    let calm = f64::from(part(UNITS, members).saturating_sub(1)) / HEADROOM;
    let now = match level {
        _ if level >= LEVELS.0 => 0,
        _ if level >= LEVELS.1 => calm as u32,
        _ => UNITS,
    };
    Use { name: format!("{BUDGET}{service}"), total: UNITS, now }
}

/// The use of the exchanges at once over a group's line; `now` are in flight or wait.
#[must_use]
pub fn line_use(group: &str, total: u32, now: u32) -> Use {
    Use { name: line_name(group), total, now }
}

/// The use of the rate of a group's line, as a part of the whole. A line that is used up to this proxy's limit asks for
/// more, because the need is a multiple of the use.
#[must_use]
pub fn rate_use(group: &str, used: f64) -> Use {
    let now = (used.clamp(0.0, 1.0) * f64::from(UNITS)).ceil() as u32;
    Use { name: rate_name(group), total: UNITS, now }
}

/// The name under which a group's exchanges are shared.
#[must_use]
pub fn line_name(group: &str) -> String {
    format!("{LINE}{group}")
}

/// The name under which a group's rate is shared.
#[must_use]
pub fn rate_name(group: &str) -> String {
    format!("{RATE}{group}")
}

/// The group of a share of a line; `None` for other shares.
#[must_use]
pub fn line(name: &str) -> Option<&str> {
    name.strip_prefix(LINE).or_else(|| name.strip_prefix(RATE))
}

/// The same for a share in units, as a part of the whole, 0 to 1.
#[must_use]
pub fn fraction(share: Option<u32>, members: u32) -> f64 {
    f64::from(limit(UNITS, share, members)) / f64::from(UNITS)
}

/// What one of `members` proxies may use of `total`: the ceiling of its share, and without a share the part that no other
/// proxy can have borrowed.
#[must_use]
pub fn limit(total: u32, share: Option<u32>, members: u32) -> u32 {
    share.unwrap_or_else(|| sure(part(total, members)))
}

/// One proxy's part of the ceiling `total` among `members` proxies.
#[must_use]
pub fn part(total: u32, members: u32) -> u32 {
    (total / members.max(1)).max(1)
}

/// The portion of a part that no other proxy can have borrowed: half of it, since the other half may be lent.
#[must_use]
pub fn sure(part: u32) -> u32 {
    part - part / 2
}

/// The needs, loans and borrowings of this proxy.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    clusters: BTreeMap<String, Lender>,
    /// The moment of the first decision. Loans from before a restart are not known and may still be in use.
    since: Option<Timestamp>,
    /// The decision that is reported now, and the decision made after it.
    told: Decided,
    next: Decided,
}

#[derive(Clone, Debug, Default)]
struct Decided {
    at: Timestamp,
    wants: BTreeMap<String, u32>,
    grants: BTreeMap<String, BTreeMap<String, u32>>,
}

#[derive(Clone, Debug, Default)]
struct Lender {
    peak: f64,
    at: Timestamp,
    /// By instance.
    loans: BTreeMap<String, Loan>,
}

/// A loan to another proxy.
#[derive(Clone, Copy, Debug)]
struct Loan {
    units: u32,
    until: Timestamp,
    /// The greatest smaller loan that was promised since; it applies when the greater one has expired.
    smaller: u32,
}

impl Shares {
    /// Decides this proxy's ceilings from now on. `members` is the number of configured proxies of the site.
    pub fn decide(
        &mut self,
        uses: &[Use],
        (heard, own, members): (&Members, &Identity, u32),
        now: Timestamp,
    ) -> Vec<Share> {
        self.clusters.retain(|name, _| uses.iter().any(|one| one.name == *name));
        self.told = std::mem::take(&mut self.next);
        self.next.at = now;
        let is_new = now.since(*self.since.get_or_insert(now)) < HELD;
        let mut shares = Vec::with_capacity(uses.len());
        for one in uses {
            let part = part(one.total, members);
            let lender = self.clusters.entry(one.name.clone()).or_default();
            let need = lender.need(one.now, now);
            let mut askers: Vec<(&str, u32)> = Vec::new();
            let (mut borrowed, mut until) = (0_u32, now.plus(LEASE));
            for (report, at) in heard.colleagues(own, now, LEASE) {
                let want = report.wants.get(&one.name).copied().unwrap_or(0);
                if want > 0 && !report.leaving {
                    askers.push((&report.by.instance, want));
                }
                let grants = report.grants.get(&one.name);
                let grant = grants.and_then(|grants| grants.get(&own.instance)).copied();
                if let Some(units) = grant.filter(|units| *units > 0) {
                    // No proxy can lend more than half of its part.
                    borrowed = borrowed.saturating_add(units.min(part / 2));
                    until = until.min(at.plus(LEASE));
                }
            }
            let spare = if is_new { 0 } else { part.saturating_sub(need).min(part / 2) };
            let lent = lender.lend(spare, &mut askers, now);
            let own = if is_new { sure(part) } else { part.saturating_sub(lender.held()).max(1) };
            let want = need.saturating_sub(part).min(one.total - part.min(one.total));
            if want > 0 {
                self.next.wants.insert(one.name.clone(), want);
            }
            if !lent.is_empty() {
                self.next.grants.insert(one.name.clone(), lent);
            }
            let borrowed = borrowed.min(one.total.saturating_sub(part));
            shares.push(Share { name: one.name.clone(), own, borrowed, until });
        }
        shares
    }

    /// Adds the loans to a report made at `now`. They are those of the decision before the last, which is
    /// already in force.
    pub fn tell(&self, report: &mut Report, now: Timestamp) {
        if now.since(self.told.at) <= TOLD {
            report.wants.clone_from(&self.told.wants);
            report.grants.clone_from(&self.told.grants);
        }
    }

    /// Reports no loan until the next decision, because the last decision is not yet in force.
    pub fn withhold(&mut self) {
        self.told.grants.clear();
    }
}

impl Lender {
    /// The need of this proxy: its recent peak, and headroom for growth.
    fn need(&mut self, used: u32, now: Timestamp) -> u32 {
        let faded = self.peak * (-now.secs_since(self.at) / PEAK_SECONDS).exp();
        (self.peak, self.at) = (faded.max(f64::from(used)), now);
        (self.peak * HEADROOM).ceil() as u32 + 1
    }

    /// Divides the spare units evenly among the proxies that ask; no proxy gets more than it asked for. Returns
    /// the units by instance.
    fn lend(
        &mut self,
        spare: u32,
        askers: &mut [(&str, u32)],
        now: Timestamp,
    ) -> BTreeMap<String, u32> {
        // A loan that was not renewed has expired.
        self.loans.retain(|_, loan| {
            if now > loan.until {
                *loan = Loan { units: loan.smaller, until: now.plus(HELD), smaller: 0 };
            }
            loan.units > 0
        });
        askers.sort_by_key(|(name, want)| (*want, *name));
        let (mut left, mut count) = (spare, u32::try_from(askers.len()).unwrap_or(u32::MAX));
        let mut lent = BTreeMap::new();
        for (name, want) in askers.iter() {
            let fair = (*want).min(left / count.max(1));
            (left, count) = (left - fair, count.saturating_sub(1));
            let held = self.loans.get(*name).map_or(0, |loan| loan.units);
            // Units that other proxies may still use are not lent again.
            let room = spare.saturating_sub(self.held());
            let units = if fair > held { held + (fair - held).min(room) } else { fair };
            if units == 0 {
                continue;
            }
            lent.insert((*name).to_owned(), units);
            if units >= held {
                let loan = Loan { units, until: now.plus(HELD), smaller: 0 };
                self.loans.insert((*name).to_owned(), loan);
            } else if let Some(loan) = self.loans.get_mut(*name) {
                loan.smaller = loan.smaller.max(units);
            }
        }
        lent
    }

    fn held(&self) -> u32 {
        self.loans.values().map(|loan| loan.units).sum()
    }
}

#[cfg(test)]
#[path = "lease_world.rs"]
mod world;
