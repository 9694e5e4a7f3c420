//! Endpoints from DNS: A, AAAA and SRV records, asked again when their time to live is over.
//!
//! "There is nobody" (NXDOMAIN, NODATA) must be said twice, 5 s apart, before it is believed; every
//! other failure keeps the last good answer for as long as it takes.

use super::Teller;
use crate::decision::assess::Found;
use crate::decision::plan::{Address, EndpointSpec, Target};
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
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of a time to live: a zero must not make us hammer, a week must not make us deaf.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
/// Between the two negative answers that empty a cluster, and after a failure.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Asks name servers.
#[derive(Debug)]
pub struct Resolver(Option<TokioResolver>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failure {
    /// The server says that there is nothing.
    Nobody,
    /// We could not find out.
    Unknown,
}

impl Resolver {
    /// The system's name servers, or the one at `server`.
    #[must_use]
    pub fn new(server: Option<SocketAddr>) -> Resolver {
        let built = match server {
            Some(server) => {
                let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
                udp.port = server.port();
                tcp.port = server.port();
                let servers = vec![NameServerConfig::new(server.ip(), true, vec![udp, tcp])];
                let config = ResolverConfig::from_parts(None, vec![], servers);
                let provider = TokioRuntimeProvider::default();
                let mut builder = TokioResolver::builder_with_config(config, provider);
                options(builder.options_mut());
                builder.options_mut().use_hosts_file = ResolveHosts::Never;
                builder.build()
            }
            None => TokioResolver::builder_tokio().and_then(|mut builder| {
                options(builder.options_mut());
                builder.build()
            }),
        };
        match built {
            Ok(resolver) => Resolver(Some(resolver)),
            Err(error) => {
                tracing::warn!(%error, "no name server is configured; host names stay unresolved");
                Resolver(None)
            }
        }
    }

    /// Addresses of a name, and how long they hold. Both families are asked apart, so that one's
    /// failure is not hidden by the other's answer.
    async fn addresses(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), Failure> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok((vec![address], TTL_MAX));
        }
        let resolver = self.0.as_ref().ok_or(Failure::Unknown)?;
        let (four, six) = tokio::join!(resolver.ipv4_lookup(host), resolver.ipv6_lookup(host));
        let mut found = (Vec::new(), TTL_MAX);
        let mut failures = Vec::new();
        for answer in [four, six] {
            match answer {
                Ok(lookup) => {
                    found.0.extend(lookup.answers().iter().filter_map(|r| r.data.ip_addr()));
                    found.1 = found.1.min(time_to_live(&lookup));
                }
                Err(error) => failures.push(classify(&error)),
            }
        }
        match found.0.is_empty() {
            false => Ok(found),
            true if failures.contains(&Failure::Unknown) => Err(Failure::Unknown),
            true => Err(Failure::Nobody),
        }
    }

    /// Targets of an SRV name with the lowest priority that has addresses, and how long they hold.
    async fn services(&self, name: &str) -> Result<(Vec<Found>, Duration), Failure> {
        let resolver = self.0.as_ref().ok_or(Failure::Unknown)?;
        let lookup = resolver.srv_lookup(name).await.map_err(|error| classify(&error))?;
        let mut ttl = time_to_live(&lookup);
        let mut records: Vec<_> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) if !srv.target.is_root() => Some(srv.clone()),
                _ => None,
            })
            .collect();
        records.sort_by_key(|srv| srv.priority);
        let mut found: Vec<Found> = Vec::new();
        let mut priority = None;
        for srv in records {
            if !found.is_empty() && priority != Some(srv.priority) {
                break;
            }
            priority = Some(srv.priority);
            match self.addresses(&srv.target.to_ascii()).await {
                Ok((addresses, holds)) => {
                    ttl = ttl.min(holds);
                    found.extend(addresses.into_iter().map(|ip| Found {
                        address: Address::Ip(SocketAddr::new(ip, srv.port)),
                        weight: srv.weight.clamp(1, 1000),
                    }));
                }
                Err(Failure::Unknown) => return Err(Failure::Unknown),
                Err(Failure::Nobody) => {}
            }
        }
        if found.is_empty() { Err(Failure::Nobody) } else { Ok((found, ttl)) }
    }
}

fn options(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(2);
    options.attempts = 1;
    // We keep answers ourselves; a second cache would only make them older.
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
        _ => Failure::Unknown,
    }
}

/// Follows a list with names in it. Each name is remembered for itself: what fails or vanishes is one
/// name's business, and addresses that are simply listed are always there.
pub(super) async fn follow_list(resolver: Arc<Resolver>, specs: Vec<EndpointSpec>, teller: Teller) {
    let mut memories: Vec<Memory<Vec<IpAddr>>> = specs.iter().map(|_| Memory::default()).collect();
    let mut told = None;
    loop {
        let mut wait = TTL_MAX;
        for (spec, memory) in specs.iter().zip(&mut memories) {
            if let Target::Name(host, _) = &spec.target {
                wait = wait.min(memory.hear(resolver.addresses(host).await, host, &teller));
            }
        }
        let listed = specs.iter().zip(&memories);
        let known = |(spec, memory): (&EndpointSpec, &Memory<Vec<IpAddr>>)| match &spec.target {
            Target::Address(address) => {
                vec![Found { address: address.clone(), weight: spec.weight }]
            }
            Target::Name(_, port) => {
                let ips = memory.last.iter().flatten();
                let address = |ip: &IpAddr| Address::Ip(SocketAddr::new(*ip, *port));
                ips.map(|ip| Found { address: address(ip), weight: spec.weight }).collect()
            }
        };
        let found: Vec<Found> = listed.flat_map(known).collect();
        let heard = memories.iter().any(|memory| memory.last.is_some());
        tell(found, heard, &mut told, &teller).await;
        tokio::time::sleep(wait).await;
    }
}

/// Follows an SRV name.
pub(super) async fn follow_srv(resolver: Arc<Resolver>, name: String, teller: Teller) {
    let mut memory: Memory<Vec<Found>> = Memory::default();
    let mut told = None;
    loop {
        let wait = memory.hear(resolver.services(&name).await, &name, &teller);
        let found = memory.last.clone().unwrap_or_default();
        tell(found, memory.last.is_some(), &mut told, &teller).await;
        tokio::time::sleep(wait).await;
    }
}

/// Tells what is new. While nobody has said anything yet, silence must not empty what an earlier
/// source had found.
async fn tell(mut found: Vec<Found>, heard: bool, told: &mut Option<Vec<Found>>, teller: &Teller) {
    found.sort();
    if (heard || !found.is_empty()) && told.as_ref() != Some(&found) {
        teller.tell(found.clone()).await;
        *told = Some(found);
    }
}

/// The last good answer to one question, and how often since then nobody was there.
#[derive(Debug)]
struct Memory<T> {
    last: Option<T>,
    nobody: u32,
}

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory { last: None, nobody: 0 }
    }
}

impl<T: Default> Memory<T> {
    /// Takes an answer in; gives how long to wait before asking again.
    fn hear(
        &mut self,
        answer: Result<(T, Duration), Failure>,
        name: &str,
        teller: &Teller,
    ) -> Duration {
        match answer {
            Ok((found, ttl)) => {
                self.nobody = 0;
                self.last = Some(found);
                teller.answered(clock::now());
                ttl.clamp(TTL_MIN, TTL_MAX)
            }
            Err(Failure::Nobody) => {
                self.nobody += 1;
                teller.answered(clock::now());
                if self.nobody >= 2 {
                    self.last = Some(T::default());
                }
                ASK_AGAIN
            }
            Err(Failure::Unknown) => {
                let cluster = &teller.cluster;
                tracing::warn!(cluster, name, "DNS did not answer; what was known is kept");
                ASK_AGAIN
            }
        }
    }
}
