//! The counts of workers in plain memory, for simulations in virtual time, which have only one
//! thread.
//!
//! The proxy counts in the slots of `shared` instead. The assessor reads both through
//! [`Samples`](super::assess::Samples).

use super::exchange::{End, Ended, Exchanges, Open};
use super::index::Table;
use super::load::Tally;
use super::plan::ClassIndex;
use super::shed::PRIORITIES;
use std::collections::BTreeMap;

/// Counts of one class at one of its permitted clusters.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The counts since the last sweep.
    pub tally: Tally,
    ended: Vec<Ended>,
    open: BTreeMap<u64, Open>,
}

/// The accounts of one proxy, by class and permitted cluster.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: Table<ClassIndex, Vec<Account>>,
    requested: Table<ClassIndex, [f64; PRIORITIES]>,
}

impl Account {
    /// Exchange number `id` was sent at second `now`.
    pub fn sent(&mut self, id: u64, now: f64, stratum: u8) {
        self.tally.accepted += 1.0;
        self.tally.waiting += 1.0;
        self.open.insert(id, Open { sent: now, stratum });
    }

    /// The response head of exchange number `id` came; returns the response time, in seconds.
    pub fn answered(&mut self, id: u64, now: f64) -> f64 {
        let latency = self.over(id, now, End::Answered).unwrap_or(0.0);
        self.tally.completed += 1.0;
        self.tally.latency_sum += latency;
        self.tally.latency_squares += latency * latency;
        latency
    }

    /// Exchange number `id` failed.
    pub fn failed(&mut self, id: u64, now: f64) {
        self.over(id, now, End::Unanswered);
        self.tally.failed += 1.0;
    }

    /// The client of exchange number `id` left.
    pub fn abandoned(&mut self, id: u64, now: f64) {
        self.tally.abandoned += 1.0;
        self.tally.abandoned_seconds += self.over(id, now, End::Unanswered).unwrap_or(0.0);
    }

    fn over(&mut self, id: u64, now: f64, end: End) -> Option<f64> {
        self.tally.waiting -= 1.0;
        let Open { sent, stratum } = self.open.remove(&id)?;
        self.ended.push(Ended { sent, ended: now, stratum, end });
        Some(now - sent)
    }
}

impl Ledger {
    /// Empty accounts of classes with this many permitted clusters each.
    pub fn new(clusters: impl Iterator<Item = usize>) -> Ledger {
        let accounts: Table<_, Vec<Account>> =
            clusters.map(|count| vec![Account::default(); count]).collect();
        Ledger { requested: accounts.iter().map(|_| [0.0; PRIORITIES]).collect(), accounts }
    }

    /// The account of a class at its permitted cluster number `slot`.
    pub fn at(&mut self, class: ClassIndex, slot: usize) -> &mut Account {
        &mut self.accounts[class][slot]
    }

    /// Counts an exchange of this priority as demand.
    pub fn ask(&mut self, class: ClassIndex, priority: u8) {
        self.requested[class][usize::from(priority)] += 1.0;
    }

    /// As [`Samples::class`](super::assess::Samples::class).
    pub fn class(&mut self, class: ClassIndex, slot: usize) -> Tally {
        let account = self.at(class, slot);
        let tally = account.tally;
        account.tally = Tally { waiting: tally.waiting, ..Tally::default() };
        tally
    }

    /// As [`Samples::exchanges`](super::assess::Samples::exchanges).
    pub fn exchanges(&mut self, class: ClassIndex, slot: usize, into: &mut Exchanges) {
        let account = self.at(class, slot);
        into.ended.append(&mut account.ended);
        into.open.extend(account.open.values());
    }

    /// As [`Samples::requested`](super::assess::Samples::asked).
    pub fn requested(&mut self, class: ClassIndex) -> [f64; PRIORITIES] {
        self.requested.get_mut(class).map(std::mem::take).unwrap_or_default()
    }
}
