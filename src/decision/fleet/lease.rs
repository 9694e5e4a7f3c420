//! Ceilings and budgets that the proxies of a site share: each has its part, and lends what it does not need.
//!
//! A part is the ceiling divided by the proxies that are *configured*, live or not: a proxy that is cut off cannot tell
//! a dead proxy from one that still sends. So a lone proxy has its part and nothing else, and the parts never exceed
//! the ceiling. News makes it better: a proxy that needs less than its part lends up to half of it to those that ask.
//!
//! # Invariants
//! * A lender counts a loan as gone from the moment of the decision, before anybody is told, until [`HELD`] after it
//!   was last renewed.
//! * A borrower uses a loan until [`LEASE`] after the *question* to which the loan was the answer, by its own clock. The
//!   question precedes the answer, so the borrower stops before the lender starts, however long messages are under way
//!   and whichever of them are lost. Clocks need not agree; they must run equally fast within 5 %.
//! * So the ceilings of all proxies of a site never add up to more than the configured one (a ceiling below one exchange
//!   for each proxy excepted). An exchange that was begun under a loan runs to its end.

use super::members::Members;
use super::report::{Identity, Report};
use crate::decision::units::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a borrower relies on a loan after its question.
pub const LEASE: Duration = Duration::from_secs(3);
/// How long a lender counts a loan as gone after it was last renewed: the lease, the time for which a decision is
/// told, and a margin for clocks that run differently.
const HELD: Duration = Duration::from_millis(4_500);
/// For how long a decision is told: without a new one the loans are kept silent.
const TOLD: Duration = Duration::from_millis(700);
/// Beyond the recent use, what a proxy keeps for itself.
const HEADROOM: f64 = 1.25;
/// How quickly a peak of use is forgotten.
const PEAK_SECONDS: f64 = 2.0;

/// Begins the name of a service's budget; no cluster can have it.
pub const BUDGET: &str = "$";
/// The units in which a budget's dollars an hour are divided.
const BUDGET_UNITS: u32 = 10_000;
/// From this level of its bucket on a proxy lends; below the second one it asks.
const LEVELS: (f64, f64) = (0.9, 0.5);

/// The use of a shared ceiling, or of a budget in parts of it.
#[derive(Clone, Debug)]
pub struct Use {
    /// The cluster's name; of a budget, [`BUDGET`] and the service's name.
    pub name: String,
    /// The configured ceiling.
    pub total: u32,
    /// Exchanges in flight, and those that wait.
    pub now: u32,
}

/// This proxy's ceiling of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Share {
    /// The cluster's name; of a budget, [`BUDGET`] and the service's name.
    pub name: String,
    /// Its part, less what is lent.
    pub own: u32,
    /// What is borrowed.
    pub borrowed: u32,
    /// Until when that counts.
    pub until: Timestamp,
}

impl Share {
    /// The ceiling at `now`.
    #[must_use]
    pub fn ceiling(&self, now: Timestamp) -> u32 {
        self.own.saturating_add(if now <= self.until { self.borrowed } else { 0 })
    }
}

/// The use of a service's budget whose bucket is at `level` (0 to 1): a proxy that does not even spend what comes in
/// needs nothing of it, and one whose bucket falls needs all.
#[must_use]
pub fn budget_use(service: &str, level: f64, members: u32) -> Use {
    let calm = f64::from(part(BUDGET_UNITS, members).saturating_sub(1)) / HEADROOM;
    let now = match level {
        _ if level >= LEVELS.0 => 0,
        _ if level >= LEVELS.1 => calm as u32,
        _ => BUDGET_UNITS,
    };
    Use { name: format!("{BUDGET}{service}"), total: BUDGET_UNITS, now }
}

/// The part of a budget that a share of it is, 0 to 1; what is sure where no share is known.
#[must_use]
pub fn budget_part(share: Option<u32>, members: u32) -> f64 {
    let units = share.unwrap_or_else(|| sure(part(BUDGET_UNITS, members)));
    f64::from(units) / f64::from(BUDGET_UNITS)
}

/// A proxy's part of a ceiling among so many.
#[must_use]
pub fn part(total: u32, members: u32) -> u32 {
    (total / members.max(1)).max(1)
}

/// What nobody else can rely on of a part: half of it may be lent.
#[must_use]
pub fn sure(part: u32) -> u32 {
    part - part / 2
}

/// What this proxy needs, lends and borrows.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    clusters: BTreeMap<String, Lender>,
    /// When the first decision was: what was lent before a restart is not known, and may still be relied upon.
    since: Option<Timestamp>,
    /// What is told from now on, and what was decided after it.
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

/// What somebody may rely on.
#[derive(Clone, Copy, Debug)]
struct Loan {
    units: u32,
    until: Timestamp,
    /// The greatest smaller promise since: it counts when the greater one has run out.
    smaller: u32,
}

impl Shares {
    /// Decides anew: this proxy's ceilings from now on. `members` is the number of configured proxies of the site.
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
                    // Nobody has more than half a part to lend.
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

    /// Adds to a report what is told at `now`: the decision before the last one, which is in force by now.
    pub fn tell(&self, report: &mut Report, now: Timestamp) {
        if now.since(self.told.at) <= TOLD {
            report.wants.clone_from(&self.told.wants);
            report.grants.clone_from(&self.told.grants);
        }
    }

    /// Tells no loan until the next decision: the last one is not in force.
    pub fn withhold(&mut self) {
        self.told.grants.clear();
    }
}

impl Lender {
    /// What this proxy needs for itself: its recent peak, and some room to grow.
    fn need(&mut self, used: u32, now: Timestamp) -> u32 {
        let faded = self.peak * (-now.secs_since(self.at) / PEAK_SECONDS).exp();
        (self.peak, self.at) = (faded.max(f64::from(used)), now);
        (self.peak * HEADROOM).ceil() as u32 + 1
    }

    /// Divides what is to spare evenly among those who ask, nobody getting more than asked; the units by instance.
    fn lend(
        &mut self,
        spare: u32,
        askers: &mut [(&str, u32)],
        now: Timestamp,
    ) -> BTreeMap<String, u32> {
        // A promise that was not renewed is over.
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
            // What others may still rely on is not lent again.
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
