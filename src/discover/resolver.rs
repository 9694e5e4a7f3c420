//! Resolves names to addresses, and keeps the last good answer of each name and family.
//!
//! A and AAAA records are queried and cached separately: a name server that fails for one family must not remove the
//! addresses of the other. The cache outlives a reload and is shared by clusters.
//!
//! # Invariants
//! * "No such name" and "no such record" empty a cache entry only when repeated after 5 s.
//! * After any other failure the last good answer stays, without a time limit.
//!
//! # Not here
//! Which names are resolved, and when (`dns`).

use crate::decision::units::Timestamp;
use crate::os::clock;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::system_conf::parse_resolv_conf;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// Bounds of a time to live: 0 s would overload the name server, and a week would hide every change.
const TTL_MIN: Duration = Duration::from_secs(1);
pub(super) const TTL_MAX: Duration = Duration::from_secs(300);
/// The interval between the two negative answers that empty a cache entry, and the interval before the next query
/// after a failure.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Concurrent queries, at most.
const ASKING_MAX: usize = 64;
/// The most cached answers; the oldest is removed first.
const KNOWN_MAX: usize = 16_384;
/// Files with the name servers and local names; both are read again when they change.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Resolves names.
#[derive(Debug)]
pub struct Resolver {
    /// A name server to use instead of the system's.
    server: Option<SocketAddr>,
    asks: Mutex<Option<(Stamps, TokioResolver)>>,
    known: Mutex<Known>,
    asking: Semaphore,
}

/// The last good answers.
type Known = BTreeMap<(String, Family), Memory<Vec<IpAddr>>>;

/// Metadata of each of [`SYSTEM_FILES`]; `None` if the file does not exist.
type Stamps = [Option<(SystemTime, u64, u64)>; 2];

/// An address family.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Family {
    /// A records.
    Four,
    /// AAAA records.
    Six,
}

impl Family {
    fn other(self) -> Family {
        match self {
            Family::Four => Family::Six,
            Family::Six => Family::Four,
        }
    }
}

/// The reason why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The name server answered that there is no such name or record.
    Nobody,
    /// Any other failure, in words.
    Unknown(String),
}

/// The result of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct QueryResult {
    /// When to query again; `None` when this answer does not determine it.
    pub(super) wait: Option<Duration>,
    /// Whether the name server answered.
    pub(super) answered: bool,
    /// Whether the result contains cached addresses that the name server did not confirm this time.
    pub(super) stale: bool,
}

impl Resolver {
    /// Uses the system's name servers, or the one at `server`. Without any, names in `/etc/hosts` and `localhost`
    /// still resolve.
    #[must_use]
    pub fn new(server: Option<SocketAddr>) -> Resolver {
        Resolver {
            server,
            asks: Mutex::default(),
            known: Mutex::default(),
            asking: Semaphore::new(ASKING_MAX),
        }
    }

    /// Cached addresses of a name; `None` before the first answer.
    pub(super) fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(vec![address]);
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |family| known.get(&(host.to_owned(), family)).and_then(|m| m.last.clone());
        match (of(Family::Four), of(Family::Six)) {
            (None, None) => None,
            (four, six) => Some(four.into_iter().chain(six).flatten().collect()),
        }
    }

    /// Queries one family of a name's addresses and caches the answer.
    pub(super) async fn ask(&self, host: &str, family: Family) -> QueryResult {
        if host.parse::<IpAddr>().is_ok() {
            return QueryResult { wait: Some(TTL_MAX), answered: true, stale: false };
        }
        let answer = self.look_up(host, family).await;
        let now = clock::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), family);
        if !known.contains_key(&key) && known.len() >= KNOWN_MAX {
            let oldest = known.iter().min_by_key(|(_, memory)| memory.queried);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                known.remove(&oldest);
            }
        }
        let sibling = known.get(&(host.to_owned(), family.other()));
        // A failure is logged once per name, not per family: when the first family fails, and when no family fails
        // any more.
        let sibling_fails = sibling.is_some_and(|sibling| sibling.failing);
        let log_as = (!sibling_fails).then_some(host);
        known.entry(key).or_default().fold(answer, log_as, now)
    }

    /// Queries both families; `on_answer` is called after each answer.
    pub(super) async fn ask_both(&self, host: &str, on_answer: impl Fn()) -> QueryResult {
        let one = async |family| {
            let queried = self.ask(host, family).await;
            on_answer();
            queried
        };
        let (four, six) = tokio::join!(one(Family::Four), one(Family::Six));
        QueryResult {
            wait: four.wait.into_iter().chain(six.wait).min(),
            answered: four.answered || six.answered,
            stale: four.stale || six.stale,
        }
    }

    async fn look_up(
        &self,
        host: &str,
        family: Family,
    ) -> Result<(Vec<IpAddr>, Duration), Failure> {
        let resolver = self.current()?;
        let _one_of = self.asking.acquire().await;
        let lookup = match family {
            Family::Four => resolver.ipv4_lookup(host).await,
            Family::Six => resolver.ipv6_lookup(host).await,
        };
        let lookup = lookup.map_err(|error| classify(&error))?;
        let found = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
        let found: Vec<IpAddr> = found.collect();
        if found.is_empty() { Err(Failure::Nobody) } else { Ok((found, time_to_live(&lookup))) }
    }

    /// The records of an SRV name, and how long they are valid. A target of `.` means that the service does not exist
    /// (RFC 2782).
    pub(super) async fn services(&self, name: &str) -> Result<(Vec<SRV>, Duration), Failure> {
        let resolver = self.current()?;
        let _one_of = self.asking.acquire().await;
        let lookup = resolver.srv_lookup(name).await.map_err(|error| classify(&error))?;
        let record = |data: &RData| match data {
            RData::SRV(srv) if !srv.target.is_root() => Some(srv.clone()),
            _ => None,
        };
        let records = lookup.answers().iter().filter_map(|answer| record(&answer.data));
        let records: Vec<SRV> = records.collect();
        if records.is_empty() { Err(Failure::Nobody) } else { Ok((records, time_to_live(&lookup))) }
    }

    /// A resolver for the system's files as they are now.
    fn current(&self) -> Result<TokioResolver, Failure> {
        let stamps = match self.server {
            Some(_) => Stamps::default(),
            None => SYSTEM_FILES.map(stamp),
        };
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolver)) = asks.as_ref()
            && *known == stamps
        {
            return Ok(resolver.clone());
        }
        let built = match self.server {
            Some(server) => by_server(server),
            None => by_file(SYSTEM_FILES[0]),
        };
        let resolver = built.map_err(|error| Failure::Unknown(error.to_string()))?;
        *asks = Some((stamps, resolver.clone()));
        Ok(resolver)
    }
}

fn stamp(path: &str) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

fn by_server(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = server.port();
    tcp.port = server.port();
    build(vec![NameServerConfig::new(server.ip(), true, vec![udp, tcp])], ResolveHosts::Never)
}

/// A resolver for a file like `/etc/resolv.conf`. If the file does not exist or names no server, `localhost` and
/// `/etc/hosts` still resolve.
fn by_file(file: &str) -> Result<TokioResolver, NetError> {
    let read = std::fs::read(file).map_err(NetError::from).and_then(parse_resolv_conf);
    let built = read.and_then(|(config, said)| {
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        *builder.options_mut() = said;
        options(builder.options_mut());
        builder.build()
    });
    built.or_else(|error| {
        tracing::warn!(file, %error, "no name server configured in {file}: only localhost and /etc/hosts resolve");
        build(Vec::new(), ResolveHosts::Always)
    })
}

fn build(servers: Vec<NameServerConfig>, hosts: ResolveHosts) -> Result<TokioResolver, NetError> {
    let config = ResolverConfig::from_parts(None, vec![], servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    options(builder.options_mut());
    builder.options_mut().use_hosts_file = hosts;
    builder.build()
}

fn options(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(2);
    options.attempts = 1;
    // Answers are cached here; a second cache would only delay changes.
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

fn time_to_live(lookup: &Lookup) -> Duration {
    let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    Duration::from_secs(seconds.into())
}

fn classify(error: &NetError) -> Failure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NXDomain | ResponseCode::NoError,
            ..
        })) => Failure::Nobody,
        _ => Failure::Unknown(error.to_string()),
    }
}

/// The last good answer to one query.
#[derive(Debug)]
pub(super) struct Memory<T> {
    /// `None` before the first answer.
    pub(super) last: Option<T>,
    /// Since when the name server has answered that there is no such name or record.
    nobody_since: Option<Timestamp>,
    /// Whether the query currently fails: a failure is logged when it begins and when it ends.
    failing: bool,
    queried: Timestamp,
}

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory { last: None, nobody_since: None, failing: false, queried: Timestamp::START }
    }
}

impl<T: Default + PartialEq> Memory<T> {
    /// Folds an answer in; a failure is logged if `log_as` is given.
    pub(super) fn fold(
        &mut self,
        answer: Result<(T, Duration), Failure>,
        log_as: Option<&str>,
        now: Timestamp,
    ) -> QueryResult {
        self.queried = now;
        let failing = matches!(answer, Err(Failure::Unknown(_)));
        let (wait, answered) = match answer {
            Ok((found, ttl)) => {
                self.nobody_since = None;
                self.last = Some(found);
                (Some(ttl.clamp(TTL_MIN, TTL_MAX)), true)
            }
            Err(Failure::Nobody) => {
                let since = *self.nobody_since.get_or_insert(now);
                if now.since(since) >= ASK_AGAIN {
                    self.last = Some(T::default());
                }
                (self.is_something().then_some(ASK_AGAIN), true)
            }
            Err(Failure::Unknown(error)) => {
                if let Some(name) = log_as.filter(|_| !self.failing) {
                    tracing::warn!(
                        name,
                        error,
                        "DNS name {name} not resolved, the last good answer stays: {error}"
                    );
                }
                (Some(ASK_AGAIN), false)
            }
        };
        if let Some(name) = log_as.filter(|_| self.failing && !failing) {
            tracing::info!(name, "DNS name {name} resolved again");
        }
        self.failing = failing;
        QueryResult { wait, answered, stale: failing && self.is_something() }
    }

    fn is_something(&self) -> bool {
        self.last.as_ref().is_some_and(|last| *last != T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> Failure {
        Failure::Unknown("SERVFAIL".to_owned())
    }

    #[test]
    fn only_two_negative_answers_five_seconds_apart_empty_a_cache_entry() {
        let at = |secs| Timestamp::START.plus(Duration::from_secs(secs));
        let ttl = Duration::from_secs(9);
        let mut memory = Memory::<Vec<u8>>::default();
        assert_eq!(memory.fold(Ok((vec![7], ttl)), Some("a"), at(0)).wait, Some(ttl));
        let stale = memory.fold(Err(unknown()), Some("a"), at(1));
        assert_eq!((stale.answered, stale.stale), (false, true));
        for (secs, left) in [(2, 1), (6, 1), (7, 0)] {
            memory.fold(Err(Failure::Nobody), Some("a"), at(secs));
            assert_eq!(memory.last.as_ref().map(Vec::len), Some(left), "after {secs} s");
        }
        // A good answer in between restarts the 5 s.
        memory.fold(Ok((vec![7], ttl)), Some("a"), at(8));
        memory.fold(Err(Failure::Nobody), Some("a"), at(9));
        memory.fold(Ok((vec![7], ttl)), Some("a"), at(13));
        memory.fold(Err(Failure::Nobody), Some("a"), at(15));
        assert_eq!(memory.last, Some(vec![7]));
    }

    #[test]
    fn a_family_without_records_does_not_shorten_the_time_to_live_of_the_other() {
        let mut six = Memory::<Vec<u8>>::default();
        assert_eq!(six.fold(Err(Failure::Nobody), Some("a"), Timestamp::START).wait, None);
        assert_eq!(six.fold(Err(unknown()), Some("a"), Timestamp::START).wait, Some(ASK_AGAIN));
    }

    #[tokio::test]
    async fn without_a_name_server_localhost_still_resolves() {
        let empty = std::env::temp_dir().join(format!("tidegate-resolv-{}", std::process::id()));
        std::fs::write(&empty, "# nobody\n").unwrap();
        for file in [empty.to_str().unwrap(), "/nonexistent/resolv.conf"] {
            let resolver = Resolver::new(None);
            *resolver.asks.lock().unwrap() =
                Some((SYSTEM_FILES.map(stamp), by_file(file).unwrap()));
            assert!(resolver.ask("localhost", Family::Four).await.answered, "{file}");
            let known = resolver.known("localhost").unwrap();
            assert!(known.contains(&IpAddr::from([127, 0, 0, 1])), "{file}: {known:?}");
        }
        std::fs::remove_file(empty).unwrap();
    }
}
