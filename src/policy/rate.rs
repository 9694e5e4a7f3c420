//! Rate limits: a token bucket for each client, shared by all workers.
//!
//! A client sends the keys and can invent new ones. Therefore the number of new keys per address and second is
//! limited; beyond the limit the client is refused. [`super::buckets`] defines the behaviour of a full table.

use super::PolicyRequest;
use super::buckets::{Quota, Table};
use crate::decision::policy::{Rate, RateKey};
use crate::decision::units::Timestamp;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Clients with a bucket of their own, per policy.
const CLIENTS_MAX: usize = 1_000_000;
/// Addresses whose new keys are counted at the same time.
const SOURCES_MAX: usize = 65_536;
/// New keys of one address: 100 a second, with a burst of 1,000.
const NEW_KEYS: Quota = Quota { each: Duration::from_millis(10), burst: 1_000 };

/// The buckets of one policy.
#[derive(Debug)]
pub struct Limiter {
    buckets: Table,
    newcomers: Table,
    key: RateKey,
    /// A random key for each limiter: no client can find a key that collides with the key of another client.
    hasher: RandomState,
}

impl Limiter {
    /// A limiter with full buckets.
    #[must_use]
    pub fn new(rate: &Rate) -> Limiter {
        let each = (rate.per / rate.requests.max(1)).max(Duration::from_nanos(1));
        let quota = Quota { each, burst: rate.burst.max(1) };
        Limiter {
            buckets: Table::new(quota, CLIENTS_MAX),
            newcomers: Table::new(NEW_KEYS, SOURCES_MAX),
            key: rate.key.clone(),
            hasher: RandomState::new(),
        }
    }

    /// Takes a token for a request, from one part of `parts` of the client's bucket.
    ///
    /// # Errors
    /// The time after which the request may be repeated.
    pub fn check(
        &self,
        request: &PolicyRequest<'_>,
        parts: u32,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let key = self.hasher.hash_one(client(&self.key, request));
        let newcomer = || match source(&self.key, request) {
            Some(source) => self.newcomers.take(self.hasher.hash_one(source), now, || Ok(())),
            None => Ok(()),
        };
        self.buckets.take_part(key, parts, now, newcomer)
    }

    /// Removes full buckets.
    pub fn forget(&self, now: Timestamp) {
        self.buckets.forget(now);
        self.newcomers.forget(now);
    }
}

/// The address that is charged for a new key: the client's IPv4 address, or the first 48 bits of its IPv6 address,
/// since one client may have thousands of subnets. `None` if the client cannot invent the key.
fn source<'a>(key: &RateKey, request: &PolicyRequest<'a>) -> Option<Client<'a>> {
    match (key, request.client.to_canonical()) {
        (RateKey::Header(_), _) => Some(by_address(request)),
        (RateKey::ClientIp, IpAddr::V6(address)) => {
            let [a, b, c, d, e, f, ..] = address.octets();
            Some(Client::Subnet([a, b, c, d, e, f, 0, 0]))
        }
        (RateKey::ClientIp, IpAddr::V4(_)) | (RateKey::All, _) => None,
    }
}

/// The key of a bucket. Each kind of key is separate, so that a header value never equals an address.
#[derive(Hash)]
enum Client<'a> {
    All,
    Address([u8; 4]),
    Subnet([u8; 8]),
    Named(&'a [u8]),
}

fn client<'a>(key: &RateKey, request: &PolicyRequest<'a>) -> Client<'a> {
    match key {
        RateKey::All => Client::All,
        RateKey::ClientIp => by_address(request),
        RateKey::Header(name) => {
            (request.field)(name).map_or_else(|| by_address(request), Client::Named)
        }
    }
}

fn by_address<'a>(request: &PolicyRequest<'_>) -> Client<'a> {
    match request.client.to_canonical() {
        IpAddr::V4(address) => Client::Address(address.octets()),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            Client::Subnet([a, b, c, d, e, f, g, h])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::policy::Scope;

    const NOW: Timestamp = Timestamp::START;

    fn request<'a>(client: &str, field: &'a dyn Fn(&str) -> Option<&'a [u8]>) -> PolicyRequest<'a> {
        let client = client.parse().unwrap();
        PolicyRequest { client, method: "GET", scheme: "http", host: "a", target: "/", field }
    }

    fn rate(key: RateKey) -> Rate {
        Rate { requests: 1, per: Duration::from_secs(3_600), burst: 3, key, scope: Scope::Proxy }
    }

    fn passes(limiter: &Limiter, client: &str) -> usize {
        (0..10).filter(|_| limiter.check(&request(client, &|_| None), 1, NOW).is_ok()).count()
    }

    #[test]
    fn each_client_has_a_burst_and_a_subnet_of_ipv6_is_one() {
        let limiter = Limiter::new(&rate(RateKey::ClientIp));
        assert_eq!(passes(&limiter, "192.0.2.1"), 3);
        assert_eq!(passes(&limiter, "192.0.2.2"), 3);
        assert_eq!(passes(&limiter, "2001:db8::1"), 3);
        assert_eq!(passes(&limiter, "2001:db8::2"), 0);
        assert_eq!(passes(&limiter, "2001:db8:0:1::2"), 3);
        let wait = limiter.check(&request("192.0.2.1", &|_| None), 1, NOW).unwrap_err();
        assert!(
            wait > Duration::from_secs(3_500) && wait <= Duration::from_secs(3_600),
            "{wait:?}"
        );
    }

    #[test]
    fn header_values_are_separate_clients_and_all_is_one() {
        let limiter = Limiter::new(&rate(RateKey::Header("x-key".to_owned())));
        let count = |key: &'static [u8]| {
            let field = move |name: &str| (name == "x-key").then_some(key);
            (0..10).filter(|_| limiter.check(&request("192.0.2.1", &field), 1, NOW).is_ok()).count()
        };
        assert_eq!((count(b"a"), count(b"b"), count(b"a")), (3, 3, 0));
        assert_eq!(count(&[192, 0, 2, 1]), 3);
        assert_eq!(passes(&limiter, "192.0.2.1"), 3, "who sends none goes by address");
        let limiter = Limiter::new(&rate(RateKey::All));
        assert_eq!(passes(&limiter, "192.0.2.1") + passes(&limiter, "192.0.2.2"), 3);
    }

    #[test]
    fn a_client_that_invents_header_values_is_limited_alone() {
        let limiter = Limiter::new(&rate(RateKey::Header("x-key".to_owned())));
        let send = |client: &str, key: &str, now| {
            let field = |name: &str| (name == "x-key").then_some(key.as_bytes());
            limiter.check(&request(client, &field), 1, now)
        };
        assert_eq!(send("192.0.2.1", "an old one", NOW), Ok(()));
        let invented = (0..20_000).filter(|n| send("192.0.2.1", &n.to_string(), NOW).is_ok());
        assert_eq!(invented.count(), 999);
        assert_eq!(limiter.buckets.len(), 1_000);
        assert_eq!(send("192.0.2.1", "an old one", NOW), Ok(()), "a known key is not a new one");
        assert_eq!(send("192.0.2.2", "another's", NOW), Ok(()));
        let later = NOW.plus(Duration::from_secs(1));
        let invented = (0..20_000).filter(|n| send("192.0.2.1", &format!("b{n}"), later).is_ok());
        assert_eq!(invented.count(), 100);
    }

    #[test]
    fn subnets_of_one_network_are_bounded_as_well() {
        let limiter = Limiter::new(&rate(RateKey::ClientIp));
        let send = |client: &str| limiter.check(&request(client, &|_| None), 1, NOW);
        let subnets = (0..3_000).filter(|n| send(&format!("2001:db8:1:{n:x}::1")).is_ok());
        assert_eq!(subnets.count(), 1_000);
        assert_eq!(send("2001:db8:2::1"), Ok(()));
        let addresses =
            (0..3_000).filter(|n| send(&format!("10.0.{}.{}", n / 256, n % 256)).is_ok());
        assert_eq!(addresses.count(), 3_000);
    }

    #[test]
    fn a_part_of_a_limit_has_its_part_of_the_rate_and_of_the_burst() {
        let rate = Rate {
            requests: 60,
            per: Duration::from_secs(1),
            burst: 30,
            key: RateKey::All,
            scope: Scope::Site,
        };
        let limiter = Limiter::new(&rate);
        let mut now = NOW;
        let mut passes = |parts: u32, seconds: f64| {
            // A request each millisecond.
            let tries = (seconds * 1e3) as u64;
            let passed = (0..tries).filter(|_| {
                now = now.plus(Duration::from_millis(1));
                limiter.check(&request("192.0.2.1", &|_| None), parts, now).is_ok()
            });
            passed.count()
        };
        let burst_and_rate = passes(3, 10.0);
        assert!(
            (209..=211).contains(&burst_and_rate),
            "10 at once and 20 a second: {burst_and_rate}"
        );
        let taken_over = passes(2, 10.0);
        assert!((300..=306).contains(&taken_over), "30 a second, 15 at once: {taken_over}");
        let given_back = passes(3, 10.0);
        assert!((190..=201).contains(&given_back), "20 a second: {given_back}");
    }
}
