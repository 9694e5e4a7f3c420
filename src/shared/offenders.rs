//! Client addresses whose connections were closed for abuse, and how long new connections of each address are
//! refused.
//!
//! Closing an abusive connection has no effect on a client that reconnects at once, so new connections are refused
//! too. The first offences have no consequence, since many clients may share one address. After each further offence
//! new connections are refused for a time that doubles, up to 30 s. Open connections continue.
//!
//! # Invariants
//! * At most 4,096 addresses are stored; when the table is full, the address whose wait ends first is removed.
//! * Connections opened before a wait began do not lengthen it, however many of them end in abuse.

use crate::decision::units::Timestamp;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Addresses stored at once.
const KNOWN_MAX: usize = 4_096;
/// The number of offences without a penalty.
const FREE: u32 = 3;
/// The first wait; each further one is twice as long.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// One offence expires after each such time without another.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// Addresses with recent offences. Locked once per connection, and only while there is an offender.
#[derive(Debug, Default)]
pub struct Offenders {
    any: AtomicBool,
    known: Mutex<HashMap<IpAddr, Offender>>,
}

#[derive(Clone, Copy, Debug)]
struct Offender {
    offences: u32,
    until: Timestamp,
}

impl Offenders {
    /// Records that a connection of this address was ended for abuse. Returns the wait that begins now, if one begins.
    pub fn offend(&self, address: IpAddr, now: Timestamp) -> Option<Duration> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let address = client(address);
        if known.len() >= KNOWN_MAX && !known.contains_key(&address) {
            make_room(&mut known, now);
        }
        let offender = known.entry(address).or_insert(Offender { offences: 0, until: now });
        self.any.store(true, Ordering::Relaxed);
        if now < offender.until {
            return None;
        }
        offender.offences = offender.left(now).saturating_add(1);
        let doublings = offender.offences.checked_sub(FREE + 1);
        let wait = doublings.map(|n| WAIT_FIRST.saturating_mul(1 << n.min(16)).min(WAIT_MAX));
        offender.until = now.plus(wait.unwrap_or_default());
        wait
    }

    /// Whether new connections of this address are refused now.
    #[must_use]
    pub fn must_wait(&self, address: IpAddr, now: Timestamp) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&client(address)).is_some_and(|offender| now < offender.until)
    }

    /// Removes addresses whose offences have expired.
    pub fn forget(&self, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, offender| offender.left(now) > 0);
        self.any.store(!known.is_empty(), Ordering::Relaxed);
    }
}

impl Offender {
    /// Offences that have not expired.
    fn left(self, now: Timestamp) -> u32 {
        let calm = now.since(self.until).as_secs() / FORGIVEN_AFTER.as_secs();
        self.offences.saturating_sub(u32::try_from(calm).unwrap_or(u32::MAX))
    }
}

fn make_room(known: &mut HashMap<IpAddr, Offender>, now: Timestamp) {
    known.retain(|_, offender| now < offender.until);
    if known.len() >= KNOWN_MAX {
        let soonest = known.iter().min_by_key(|(_, offender)| offender.until).map(|(at, _)| *at);
        soonest.and_then(|at| known.remove(&at));
    }
}

/// An IPv6 subnet counts as one client: it has more addresses than the table can store.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_millis(ms))
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    fn offend_often(offenders: &Offenders, address: IpAddr) {
        (0..FREE).for_each(|_| assert_eq!(offenders.offend(address, at(0)), None));
        assert_eq!(offenders.offend(address, at(0)), Some(WAIT_FIRST));
    }

    #[test]
    fn penalties_start_after_the_first_offences_and_grow() {
        let offenders = Offenders::default();
        (0..FREE).for_each(|_| assert_eq!(offenders.offend(address(1), at(0)), None));
        assert!(!offenders.must_wait(address(1), at(0)));
        let mut now = 0;
        for secs in [1, 2, 4, 8, 16, 30, 30] {
            let wait = offenders.offend(address(1), at(now));
            assert_eq!(wait, Some(Duration::from_secs(secs)));
            (0..100).for_each(|_| assert_eq!(offenders.offend(address(1), at(now)), None));
            assert!(offenders.must_wait(address(1), at(now + secs * 1_000 - 1)));
            assert!(!offenders.must_wait(address(2), at(now)), "others do not wait");
            now += secs * 1_000;
            assert!(!offenders.must_wait(address(1), at(now)));
        }
    }

    #[test]
    fn penalties_shrink_and_expire_without_offences() {
        let offenders = Offenders::default();
        offend_often(&offenders, address(1));
        assert!(offenders.must_wait(address(1), at(999)));
        offenders.forget(at(1_000));
        assert_eq!(offenders.offend(address(1), at(21_000)), None, "two of four are forgiven");
        offenders.forget(at(90_000));
        assert!(offenders.known.lock().unwrap().is_empty());
        assert!(!offenders.any.load(Ordering::Relaxed));
    }

    #[test]
    fn addresses_are_bounded_and_counted_by_subnet() {
        let offenders = Offenders::default();
        for number in 0..10_000 {
            offend_often(&offenders, address(number));
        }
        assert_eq!(offenders.known.lock().unwrap().len(), KNOWN_MAX);
        assert!(offenders.must_wait(address(9_999), at(1)));
        let offenders = Offenders::default();
        for number in 0..=FREE {
            let host = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, number as u16));
            assert_eq!(offenders.offend(host, at(0)).is_some(), number == FREE);
        }
        assert!(offenders.must_wait("2001:db8:0:7::ffff".parse().unwrap(), at(1)));
        assert!(!offenders.must_wait("2001:db8:0:8::1".parse().unwrap(), at(1)));
    }
}
