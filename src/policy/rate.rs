//! How often a client may come: the governor crate's GCRA, one bucket a client, shared by all workers.

use super::Asked;
use crate::decision::policy::{Rate, RateKey};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Clients remembered one by one; beyond that they share buckets, so that a flood of addresses is bounded.
const CLIENTS_MAX: usize = 1_000_000;
/// Buckets they then share.
const SHARED: u64 = 65_536;

/// The buckets of one policy.
#[derive(Debug)]
pub struct Limiter {
    buckets: DefaultKeyedRateLimiter<u64>,
    clock: DefaultClock,
    key: RateKey,
    /// Keyed anew each time: nobody can find a name whose bucket is another's.
    hasher: RandomState,
}

impl Limiter {
    /// Empty buckets.
    #[must_use]
    pub fn new(rate: &Rate) -> Limiter {
        let one = NonZeroU32::MIN;
        let requests = NonZeroU32::new(rate.requests).unwrap_or(one);
        let each = (rate.per / requests.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(each).unwrap_or_else(|| Quota::per_second(requests));
        let burst = NonZeroU32::new(rate.burst).unwrap_or(one);
        Limiter {
            buckets: RateLimiter::keyed(quota.allow_burst(burst)),
            clock: DefaultClock::default(),
            key: rate.key.clone(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// After how long it may come.
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), Duration> {
        let mut key = self.hasher.hash_one(client(&self.key, asked));
        if self.buckets.len() >= CLIENTS_MAX {
            key %= SHARED;
        }
        self.buckets.check_key(&key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Lets go of buckets that are full again.
    pub fn forget(&self) {
        self.buckets.retain_recent();
        self.buckets.shrink_to_fit();
    }
}

/// Who counts as one: each kind in a space of its own, so that no header passes for an address.
#[derive(Hash)]
enum Client<'a> {
    All,
    Address([u8; 4]),
    Subnet([u8; 8]),
    Named(&'a [u8]),
}

fn client<'a>(key: &RateKey, asked: &Asked<'a>) -> Client<'a> {
    let by_address = || match asked.client.to_canonical() {
        IpAddr::V4(address) => Client::Address(address.octets()),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            Client::Subnet([a, b, c, d, e, f, g, h])
        }
    };
    match key {
        RateKey::All => Client::All,
        RateKey::ClientIp => by_address(),
        RateKey::Header(name) => (asked.field)(name).map_or_else(by_address, Client::Named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(client: &str, field: &'a dyn Fn(&str) -> Option<&'a [u8]>) -> Asked<'a> {
        let client = client.parse().unwrap();
        Asked { client, method: "GET", scheme: "http", host: "a", target: "/", field }
    }

    fn rate(key: RateKey) -> Rate {
        Rate { requests: 1, per: Duration::from_secs(3_600), burst: 3, key }
    }

    fn passes(limiter: &Limiter, client: &str) -> usize {
        (0..10).filter(|_| limiter.check(&asked(client, &|_| None)).is_ok()).count()
    }

    #[test]
    fn each_client_has_a_burst_and_a_subnet_of_ipv6_is_one() {
        let limiter = Limiter::new(&rate(RateKey::ClientIp));
        assert_eq!(passes(&limiter, "192.0.2.1"), 3);
        assert_eq!(passes(&limiter, "192.0.2.2"), 3);
        assert_eq!(passes(&limiter, "2001:db8::1"), 3);
        assert_eq!(passes(&limiter, "2001:db8::2"), 0);
        assert_eq!(passes(&limiter, "2001:db8:0:1::2"), 3);
        let wait = limiter.check(&asked("192.0.2.1", &|_| None)).unwrap_err();
        assert!(
            wait > Duration::from_secs(3_500) && wait <= Duration::from_secs(3_600),
            "{wait:?}"
        );
    }

    #[test]
    fn a_header_tells_clients_apart_and_all_are_one() {
        let limiter = Limiter::new(&rate(RateKey::Header("x-key".to_owned())));
        let count = |key: &'static [u8]| {
            let field = move |name: &str| (name == "x-key").then_some(key);
            (0..10).filter(|_| limiter.check(&asked("192.0.2.1", &field)).is_ok()).count()
        };
        assert_eq!((count(b"a"), count(b"b"), count(b"a")), (3, 3, 0));
        assert_eq!(count(&[192, 0, 2, 1]), 3);
        assert_eq!(passes(&limiter, "192.0.2.1"), 3, "who sends none goes by address");
        let limiter = Limiter::new(&rate(RateKey::All));
        assert_eq!(passes(&limiter, "192.0.2.1") + passes(&limiter, "192.0.2.2"), 3);
    }

    #[test]
    fn who_came_long_ago_is_forgotten() {
        let each = Rate { per: Duration::from_nanos(1), ..rate(RateKey::ClientIp) };
        let limiter = Limiter::new(&each);
        (0..100_u8).for_each(|last| {
            assert!(limiter.check(&asked(&format!("192.0.2.{last}"), &|_| None)).is_ok())
        });
        assert_eq!(limiter.buckets.len(), 100);
        limiter.forget();
        assert_eq!(limiter.buckets.len(), 0);
    }
}
