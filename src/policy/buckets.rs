//! A bounded table of token buckets by key (GCRA: one point in time per bucket).
//!
//! A bucket is stored as the time at which it is full again. A full bucket is equivalent to an absent one, so full
//! buckets are evicted first. If none is found, the bucket that will be full soonest is evicted: its key gets its
//! full burst a little early. Two keys never share a bucket, however many keys there are.
//!
//! # Units
//! Times are [`Timestamp`]s passed by the caller. Keys are 64 bits of a keyed hash: among a million keys the
//! probability that any two are equal is below one in ten million.
//!
//! # Invariants
//! * A table holds at most `keys_max` buckets.
//! * Within any time `span`, a key that is never evicted passes at most `burst + span / each` times.

use crate::decision::units::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Parts of a table, each with a lock of its own.
const SHARDS: usize = 64;
/// The most buckets that are examined to make space for one.
const LOOKED_AT: usize = 16;

/// How fast buckets fill.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Interval between two tokens, above zero.
    pub each: Duration,
    /// The most tokens in a bucket.
    pub burst: u32,
}

/// Buckets by key.
#[derive(Debug)]
pub struct Table {
    quota: Quota,
    shards: Vec<Mutex<Shard>>,
    shard_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<u64, usize>,
    buckets: Vec<Bucket>,
    /// The position where the next search for space begins.
    hand: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    key: u64,
    full_at: Timestamp,
}

impl Table {
    /// An empty table for at most `keys_max` keys, and at least one per shard.
    #[must_use]
    pub fn new(quota: Quota, keys_max: usize) -> Table {
        let shard_max = (keys_max / SHARDS).max(1);
        Table { quota, shards: (0..SHARDS).map(|_| Mutex::default()).collect(), shard_max }
    }

    /// Takes a token of a key's bucket. `newcomer` is called when the table does not contain the key.
    ///
    /// # Errors
    /// The time until a token is available, or the error of `newcomer`.
    pub fn take(
        &self,
        key: u64,
        now: Timestamp,
        newcomer: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<(), Duration> {
        self.take_part(key, 1, now, newcomer)
    }

    /// Takes a token of one part of `parts` of a key's bucket. The number of parts may change from call to call.
    ///
    /// # Errors
    /// As [`Table::take`].
    pub fn take_part(
        &self,
        key: u64,
        parts: u32,
        now: Timestamp,
        newcomer: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<(), Duration> {
        let quota = self.quota.part(parts);
        // The upper bits: the shard's map uses the lower ones.
        let shard = &self.shards[(key >> 58) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Shard { places, buckets, .. } = &mut *shard;
        if let Some(bucket) = places.get(&key).and_then(|place| buckets.get_mut(*place)) {
            bucket.full_at = quota.next(bucket.full_at, now)?;
            return Ok(());
        }
        newcomer()?;
        let bucket = Bucket { key, full_at: quota.next(now, now)? };
        shard.insert(bucket, self.shard_max, now);
        Ok(())
    }

    /// Removes full buckets and releases their memory.
    pub fn forget(&self, now: Timestamp) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.buckets.len();
            shard.buckets.retain(|bucket| bucket.full_at > now);
            if shard.buckets.len() < before {
                let places = shard.buckets.iter().enumerate().map(|(at, bucket)| (bucket.key, at));
                shard.places = places.collect();
                shard.buckets.shrink_to_fit();
            }
        }
    }

    /// Number of keys in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        let of = |shard: &Mutex<Shard>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).buckets.len()
        };
        self.shards.iter().map(of).sum()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Quota {
    /// One part of `parts`: tokens come as many times more slowly, and the burst is divided; at least one token.
    fn part(self, parts: u32) -> Quota {
        if parts <= 1 {
            return self;
        }
        Quota { each: self.each.saturating_mul(parts), burst: (self.burst / parts).max(1) }
    }

    /// The time at which a bucket is full again after one token is taken.
    fn next(self, full_at: Timestamp, now: Timestamp) -> Result<Timestamp, Duration> {
        let missing = full_at.since(now);
        let most = self.each.saturating_mul(self.burst.saturating_sub(1));
        match missing.checked_sub(most) {
            Some(wait) if !wait.is_zero() => Err(wait),
            Some(_) | None => Ok(now.plus(missing.saturating_add(self.each))),
        }
    }
}

impl Shard {
    fn insert(&mut self, bucket: Bucket, most: usize, now: Timestamp) {
        if self.buckets.len() < most {
            self.places.insert(bucket.key, self.buckets.len());
            self.buckets.push(bucket);
            return;
        }
        let place = self.idlest(now);
        if let Some(old) = self.buckets.get_mut(place) {
            self.places.remove(&old.key);
            *old = bucket;
            self.places.insert(bucket.key, place);
        }
    }

    /// The index of a full bucket, or else of the examined bucket that will be full soonest.
    fn idlest(&mut self, now: Timestamp) -> usize {
        let count = self.buckets.len().max(1);
        let mut best = (self.hand % count, Timestamp::from_nanos(u64::MAX));
        for _ in 0..LOOKED_AT.min(count) {
            let at = self.hand % count;
            self.hand = at + 1;
            let full_at = self.buckets.get(at).map_or(now, |bucket| bucket.full_at);
            if full_at < best.1 {
                best = (at, full_at);
            }
            if full_at <= now {
                break;
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { each: Duration::from_secs(10), burst: 3 };

    fn key(number: u64) -> u64 {
        crate::decision::units::mix(number)
    }

    fn passes(table: &Table, number: u64, now: Timestamp) -> usize {
        (0..10).filter(|_| table.take(key(number), now, || Ok(())).is_ok()).count()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_secs(secs))
    }

    #[test]
    fn a_bucket_gives_its_burst_then_a_token_each_span() {
        let table = Table::new(QUOTA, 1_000);
        assert_eq!(passes(&table, 1, at(0)), 3);
        assert_eq!(table.take(key(1), at(4), || Ok(())), Err(Duration::from_secs(6)));
        assert_eq!(passes(&table, 1, at(10)), 1);
        assert_eq!(passes(&table, 1, at(30)), 2);
        assert_eq!(passes(&table, 1, at(1_000)), 3);
    }

    #[test]
    fn a_full_table_neither_grows_nor_shares_buckets() {
        let table = Table::new(QUOTA, 640);
        for number in 0..20_000 {
            assert_eq!(passes(&table, number, at(0)), 3, "{number} shares a bucket");
            assert!(table.len() <= 640);
        }
    }

    #[test]
    fn the_bucket_that_is_full_soonest_is_evicted() {
        // Keys of one shard, so that the search examines all of them.
        let table = Table::new(QUOTA, 8 * SHARDS);
        let take = |number: u64, now| table.take(number, now, || Ok(()));
        let used_up = 0..7;
        for guilty in used_up.clone() {
            (0..3).for_each(|_| assert_eq!(take(guilty, at(0)), Ok(())));
        }
        for stranger in 100..1_000 {
            assert_eq!(take(stranger, at(0)), Ok(()));
        }
        for guilty in used_up {
            assert!(take(guilty, at(0)).is_err(), "{guilty} was forgiven by a flood of strangers");
        }
    }

    #[test]
    fn a_new_key_is_charged_once_and_refused_beyond_the_limit() {
        let table = Table::new(QUOTA, 640);
        let turned_away = Err(Duration::from_secs(1));
        assert_eq!(table.take(key(1), at(0), || turned_away), turned_away);
        assert!(table.is_empty());
        assert_eq!(table.take(key(1), at(0), || Ok(())), Ok(()));
        assert_eq!(table.take(key(1), at(0), || turned_away), Ok(()));
    }

    #[test]
    fn only_full_buckets_are_removed() {
        let table = Table::new(QUOTA, 6_400);
        (0..100).for_each(|number| assert_eq!(table.take(key(number), at(0), || Ok(())), Ok(())));
        assert_eq!(passes(&table, 7, at(0)), 2);
        table.forget(at(10));
        assert_eq!(table.len(), 1);
        assert_eq!(passes(&table, 7, at(10)), 1);
    }
}
