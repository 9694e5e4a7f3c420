//! Endpoints from DNS: names in lists, and SRV records.
//!
//! Names are resolved concurrently, and each answer is published when it arrives. Therefore listed
//! addresses and resolved names do not wait for a name without an answer.

use super::Teller;
use super::resolver::{ASK_AGAIN, Memory, Resolver};
use crate::decision::assess::Found;
use crate::decision::plan::{Address, EndpointSpec, Target};
use crate::os::clock;
use hickory_resolver::proto::rr::rdata::SRV;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The interval at which the health of the endpoints of SRV priorities is checked.
const LOOK: Duration = Duration::from_millis(250);
/// The greatest weight of an endpoint; greater SRV weights are scaled to it.
const WEIGHT_MAX: u16 = 1000;

/// Follows a list that contains names.
pub(super) async fn follow_list(resolver: Arc<Resolver>, specs: Vec<EndpointSpec>, teller: Teller) {
    let names: BTreeSet<&String> = specs.iter().filter_map(name_of).collect();
    let answered = Arc::new(Notify::new());
    // Dropped with this task: names are resolved only while the list is followed.
    let mut followers = JoinSet::new();
    for name in &names {
        let (resolver, name) = (resolver.clone(), (*name).clone());
        followers.spawn(follow_name(resolver, name, answered.clone(), teller.clone()));
    }
    let mut published = None;
    loop {
        let found = specs.iter().flat_map(|spec| endpoints_of(&resolver, spec)).collect();
        let all_answered = names.iter().all(|name| resolver.known(name).is_some());
        tell(found, all_answered, &mut published, &teller).await;
        answered.notified().await;
    }
}

fn name_of(spec: &EndpointSpec) -> Option<&String> {
    match &spec.target {
        Target::Name(host, _) => Some(host),
        Target::Address(_) => None,
    }
}

fn endpoints_of(resolver: &Resolver, spec: &EndpointSpec) -> Vec<Found> {
    match &spec.target {
        Target::Address(address) => vec![Found { address: address.clone(), weight: spec.weight }],
        Target::Name(host, port) => endpoints_at(resolver, host, *port, spec.weight),
    }
}

fn endpoints_at(resolver: &Resolver, host: &str, port: u16, weight: u16) -> Vec<Found> {
    let known = resolver.known(host).unwrap_or_default().into_iter();
    known.map(|ip| Found { address: Address::Ip(SocketAddr::new(ip, port)), weight }).collect()
}

/// Whether a name has no records; logged at the beginning and at the end of that state.
#[derive(Default)]
struct Nothing(bool);

impl Nothing {
    fn note(&mut self, is_nothing: bool, name: &str, teller: &Teller) {
        let cluster = &teller.cluster;
        match (self.0, is_nothing) {
            (false, true) => {
                tracing::warn!(
                    cluster,
                    name,
                    "DNS name {name} of cluster {cluster} has no records"
                );
            }
            (true, false) => tracing::info!(
                cluster,
                name,
                "DNS name {name} of cluster {cluster} has records again"
            ),
            (true, true) | (false, false) => {}
        }
        self.0 = is_nothing;
    }
}

async fn follow_name(resolver: Arc<Resolver>, name: String, answered: Arc<Notify>, teller: Teller) {
    let mut nothing = Nothing::default();
    loop {
        let result = resolver.ask_both(&name, || answered.notify_one()).await;
        if result.answered && !result.stale {
            teller.answered(clock::now());
        }
        let known = resolver.known(&name);
        nothing.note(known.is_some_and(|known| known.is_empty()), &name, &teller);
        tokio::time::sleep(result.wait.unwrap_or(ASK_AGAIN)).await;
    }
}

/// Follows an SRV name. Priorities are fall-backs: the targets of a priority are used only while every target of all
/// preceding priorities is down or has no address (RFC 2782).
pub(super) async fn follow_srv(resolver: Arc<Resolver>, name: String, teller: Teller) {
    let mut memory: Memory<Vec<SRV>> = Memory::default();
    let (mut published, mut nothing) = (None, Nothing::default());
    loop {
        let answer = resolver.services(&name).await;
        let result = memory.fold(answer, Some(&name), clock::now());
        if result.answered {
            teller.answered(clock::now());
        }
        nothing.note(memory.last.as_ref().is_some_and(Vec::is_empty), &name, &teller);
        let records = memory.last.clone().unwrap_or_default();
        let mut wait = result.wait.unwrap_or(ASK_AGAIN);
        let mut targets = ask_targets(&resolver, &records);
        while let Some(target_wait) = targets.join_next().await {
            wait = wait.min(target_wait.unwrap_or(ASK_AGAIN));
            // At first, partial answers are used. Later, a partial answer would remove endpoints.
            if published.is_none() && !targets.is_empty() {
                publish(&resolver, &memory, Round::UnderWay, &mut published, &teller).await;
            }
        }
        let until = clock::now().plus(wait);
        loop {
            publish(&resolver, &memory, Round::Over, &mut published, &teller).await;
            let left = until.since(clock::now());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// Resolves the addresses of all targets concurrently; each task returns the validity time of its
/// answer.
fn ask_targets(resolver: &Arc<Resolver>, records: &[SRV]) -> JoinSet<Duration> {
    let targets: BTreeSet<String> = records.iter().map(|srv| srv.target.to_ascii()).collect();
    let mut followers = JoinSet::new();
    for target in targets {
        let resolver = resolver.clone();
        followers.spawn(async move {
            resolver.ask_both(&target, || ()).await.wait.unwrap_or(ASK_AGAIN)
        });
    }
    followers
}

/// Whether targets are still being resolved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Round {
    UnderWay,
    Over,
}

async fn publish(
    resolver: &Resolver,
    memory: &Memory<Vec<SRV>>,
    round: Round,
    published: &mut Option<Vec<Found>>,
    teller: &Teller,
) {
    let records = memory.last.as_deref().unwrap_or_default();
    let known = |srv: &SRV| resolver.known(&srv.target.to_ascii()).is_some();
    let all_answered = memory.last.is_some() && records.iter().all(known);
    // A target that is still being resolved does not count as down: endpoints of later priorities are
    // not used meanwhile.
    let awaited = records.iter().filter(|srv| round == Round::UnderWay && !known(srv));
    let last = awaited.map(|srv| srv.priority).min().unwrap_or(u16::MAX);
    let records: Vec<&SRV> = records.iter().filter(|srv| srv.priority <= last).collect();
    let found = in_use(&priorities(resolver, &records), |address| teller.is_down(address));
    tell(found, all_answered, published, teller).await;
}

/// The endpoints of each priority, the preferred one first.
fn priorities(resolver: &Resolver, records: &[&SRV]) -> Vec<Vec<Found>> {
    let mut by_priority: BTreeMap<u16, Vec<&SRV>> = BTreeMap::new();
    for srv in records {
        by_priority.entry(srv.priority).or_default().push(srv);
    }
    let endpoints = |records: Vec<&SRV>| {
        let weights = scaled(&records.iter().map(|srv| srv.weight).collect::<Vec<_>>());
        let targets = records.iter().zip(weights);
        let at = |(srv, weight): (&&SRV, u16)| {
            endpoints_at(resolver, &srv.target.to_ascii(), srv.port, weight)
        };
        targets.flat_map(at).collect()
    };
    by_priority.into_values().map(endpoints).collect()
}

/// SRV weights as endpoint weights, in proportion. A weight of 0 beside others becomes the smallest weight
/// (RFC 2782: "a very small chance of being selected").
fn scaled(weights: &[u16]) -> Vec<u16> {
    let most = weights.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return vec![1; weights.len()];
    }
    let fit = most <= WEIGHT_MAX && !weights.contains(&0);
    let scale = |weight: u16| {
        let (weight, most) = (u32::from(weight), u32::from(most));
        let scaled = (weight * u32::from(WEIGHT_MAX) + most / 2) / most;
        u16::try_from(scaled).unwrap_or(WEIGHT_MAX).max(1)
    };
    weights.iter().map(|&weight| if fit { weight } else { scale(weight) }).collect()
}

/// The endpoints of the first priority, and of each next priority if all endpoints before it are down.
fn in_use(priorities: &[Vec<Found>], is_down: impl Fn(&Address) -> bool) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for endpoints in priorities {
        let fresh = |one: &&Found| !found.iter().any(|known| known.address == one.address);
        let fresh: Vec<Found> = endpoints.iter().filter(fresh).cloned().collect();
        found.extend(fresh);
        if endpoints.iter().any(|one| !is_down(&one.address)) {
            break;
        }
    }
    found
}

/// Publishes new endpoints. Until every name has an answer, an empty result does not replace the endpoints of an
/// earlier source.
async fn tell(
    mut found: Vec<Found>,
    all_answered: bool,
    published: &mut Option<Vec<Found>>,
    teller: &Teller,
) {
    found.sort();
    let is_news = !found.is_empty() || all_answered || published.is_some();
    if is_news && published.as_ref() != Some(&found) {
        teller.tell(found.clone()).await;
        *published = Some(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Found {
        Found { address: Address::Ip(SocketAddr::from(([127, 0, 0, 1], port))), weight: 1 }
    }

    #[test]
    fn weights_keep_their_proportions() {
        for (weights, expected) in [
            (vec![60_000, 6_000], vec![1000, 100]),
            (vec![7, 3], vec![7, 3]),
            (vec![0, 0], vec![1, 1]),
            (vec![0, 1, 4], vec![1, 250, 1000]),
            (vec![65_535, 1], vec![1000, 1]),
            (vec![], vec![]),
        ] {
            assert_eq!(scaled(&weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn a_priority_is_used_while_all_before_it_are_down() {
        let priorities = [vec![at(1), at(2)], vec![], vec![at(3), at(1)], vec![at(4)]];
        let ports = |down: &[u16]| -> Vec<u16> {
            let is_down = |address: &Address| down.iter().any(|port| at(*port).address == *address);
            let port = |found: Found| match found.address {
                Address::Ip(address) => address.port(),
                Address::Unix(_) => 0,
            };
            in_use(&priorities, is_down).into_iter().map(port).collect()
        };
        assert_eq!(ports(&[]), [1, 2]);
        assert_eq!(ports(&[1]), [1, 2]);
        assert_eq!(ports(&[1, 2]), [1, 2, 3]);
        assert_eq!(ports(&[1, 2, 3]), [1, 2, 3, 4]);
    }
}
