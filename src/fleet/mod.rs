//! The fleet: requests reports from peers, sends reports to them, and keeps the state that the admin API shows.
//!
//! Each proxy *pulls* reports from its peers over their admin API; no peer can push a report. Therefore the TLS and
//! the token of the admin API authenticate reports, a slow receiver delays only itself, and the receiver's own clock
//! bounds the age of a report: a report is never older than its request. The rules are in `crate::decision::fleet`;
//! the request path does not use the fleet.
//!
//! With `fleet.nats`, proxies also publish reports on NATS (`nats`). Such a report has no request: its age counts from
//! its arrival.
//!
//! # Bounds
//! Outgoing: one connection to each peer of the site and two to each other site; on each, one report a second of at
//! most [`LINE_MAX`] bytes, with a deadline. Incoming: [`ANSWERED_MAX`] connections.

mod answer;
mod ask;
mod bus;
#[cfg(feature = "nats")]
mod nats;
#[cfg(not(feature = "nats"))]
#[path = "no_nats.rs"]
mod nats;
mod needs;
mod own;
pub mod properties;
mod samples;
mod tend;

use crate::decision::acme::Challenge;
use crate::decision::fleet::broadcast::is_broadcast;
use crate::decision::fleet::lease::Shares;
use crate::decision::fleet::{
    FORGIVEN, Heard, Identity, LIVE, Link, Members, Merged, Nats, Peer, Refused, Report, SITE_LIVE,
    links,
};
use crate::decision::plan::Address;
use crate::decision::units::{Timestamp, hash, mix};
use crate::os::clock;
use crate::shared::Shared;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use answer::{Answering, Ended};
pub use bus::BusPicture;
pub use needs::Needs;

/// The protocol in `Upgrade`.
pub const PROTOCOL: &str = "tidegate-fleet";
/// The response field with the identity of the responding proxy.
pub const IDENTITY: &str = "tidegate-fleet";
/// The path of the report.
pub const PATH: &str = "/api/v1/fleet/report";
/// The longest report in bytes, its end of line included.
pub const LINE_MAX: usize = 64 * 1024;
/// The limit of incoming connections from peers.
pub const ANSWERED_MAX: usize = 256;
/// How long a report is cached, so that a burst of requests costs one computation.
const REPORT_FRESH: Duration = Duration::from_millis(200);

/// The request for a proxy's own report, and the request for the sum over its site.
const MEMBER: u8 = b'm';
const SITE: u8 = b's';

/// The state of the other proxies, and the reports for them.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    incarnation: u64,
    state: Mutex<State>,
    refused: [AtomicU64; Refused::ALL.len()],
    /// Response times that other proxies told.
    samples: AtomicU64,
    answering: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    /// This proxy's name.
    instance: String,
    peers: Vec<Peer>,
    site: String,
    members: Members,
    /// Ceilings and budgets that the site's proxies share.
    shares: Shares,
    /// When the last decision on the shares was sent to the control thread; `None` if sending failed.
    decided: Option<Timestamp>,
    links: Vec<LinkState>,
    /// The connection to NATS, if one is configured.
    bus: Option<bus::Bus>,
    /// Incremented with each report.
    sequence: u64,
    /// When the last report was made, and its two forms on the wire.
    lines: Option<(Timestamp, Arc<str>, Arc<str>)>,
    /// The connections; they end when they are dropped.
    tasks: JoinSet<()>,
}

/// The state of a link.
#[derive(Clone, Debug)]
struct LinkState {
    link: Link,
    since: Timestamp,
    /// The last requested peer.
    url: String,
    is_own: bool,
    error: Option<String>,
}

/// The known state of the fleet at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// This proxy's own report.
    pub own: Report,
    /// The links to peers, and the proxies that publish on NATS.
    pub peers: Vec<PeerPicture>,
    /// The connection to NATS, if one is configured.
    pub bus: Option<BusPicture>,
    /// Sites, this proxy's own first.
    pub sites: Vec<SitePicture>,
}

/// The state of one link, or of a proxy that publishes on NATS.
#[derive(Clone, Debug)]
pub struct PeerPicture {
    /// The site.
    pub site: String,
    /// The last requested peer; `None` for a proxy that publishes on NATS.
    pub url: Option<String>,
    /// The instance at this address, once known.
    pub instance: Option<String>,
    /// Age of the last report in seconds; `None` before the first report.
    pub age: Option<f64>,
    /// Seconds since the first request.
    pub waited: f64,
    /// Whether the last report is recent.
    pub live: bool,
    /// Whether the peer is this proxy itself.
    pub is_own: bool,
    /// Whether the peer is draining.
    pub leaving: bool,
    /// The reason why there is no recent report.
    pub error: Option<String>,
}

/// A site.
#[derive(Clone, Debug)]
pub struct SitePicture {
    /// Its name.
    pub name: String,
    /// Whether it is this proxy's own site.
    pub is_own: bool,
    /// The sum over its members, once there was a report.
    pub report: Option<Report>,
    /// Age of that report in seconds; without a report, the seconds since the first request. For this proxy's own
    /// site: the age of the oldest report of a peer.
    pub age: f64,
    /// Whether the report is recent.
    pub live: bool,
}

/// Reads a report from a line of JSON. Names and numbers are checked when the report is merged.
///
/// # Errors
/// [`Refused::Oversize`] or [`Refused::Malformed`].
fn read(line: &[u8]) -> Result<Report, Refused> {
    if line.len() > LINE_MAX {
        return Err(Refused::Oversize);
    }
    serde_json::from_slice(line).map_err(|_| Refused::Malformed)
}

impl Fleet {
    /// A fleet of one.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Fleet {
        let incarnation = u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX);
        Fleet {
            shared,
            incarnation,
            state: Mutex::default(),
            refused: Default::default(),
            samples: AtomicU64::new(0),
            answering: Arc::new(Semaphore::new(ANSWERED_MAX)),
        }
    }

    /// Sets the name of this proxy: its host, and the port of its admin API, which distinguishes the proxies of one
    /// host. Without a port, the process id is used.
    pub fn listens_at(&self, admin: Option<&Address>) {
        let port = match admin {
            Some(Address::Ip(address)) => u32::from(address.port()),
            Some(Address::Unix(_)) | None => std::process::id(),
        };
        self.state().instance = format!("{}:{port}", own::host_name());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the list of peers and the NATS cluster; the state of peers that stay is kept.
    pub fn adopt(self: &Arc<Fleet>, peers: &[Peer], nats: Option<&Nats>) {
        let site = self.shared.view.load().plan.site.clone();
        let mut state = self.state();
        let same_bus = state.site == site && state.bus.as_ref().map(|bus| &bus.nats) == nats;
        if state.peers == peers && same_bus {
            return;
        }
        let scatter = hash(state.instance.as_bytes());
        let all = links(peers, &site, |peer| mix(scatter ^ hash(peer.url.as_bytes())));
        (state.peers, state.site) = (peers.to_vec(), site);
        let on_bus = |source: &str| same_bus && nats.is_some() && is_broadcast(source);
        state.members.keep(|source| on_bus(source) || all.iter().any(|link| link.source == source));
        state.tasks = JoinSet::new();
        let since = clock::now();
        state.bus = nats.map(|nats| bus::Bus::new(nats, since));
        if let Some(nats) = nats {
            state.tasks.spawn(nats::follow(self.clone(), nats.clone()));
        }
        state.tasks.spawn(tend::tend(self.clone()));
        state.links.clear();
        for link in all {
            state.tasks.spawn(ask::follow(self.clone(), link.clone()));
            let url = link.peers.first().map_or(String::new(), |peer| peer.url.clone());
            state.links.push(LinkState { link, since, url, is_own: false, error: None });
        }
    }

    /// Stops all requests to peers.
    pub fn stop(&self) {
        self.state().tasks = JoinSet::new();
    }

    /// Merges a report that was requested at `at`.
    fn hear(
        &self,
        link: &Link,
        url: &str,
        report: Report,
        at: Timestamp,
    ) -> Result<Merged, Refused> {
        let own = self.identity();
        let mut state = self.state();
        let merged = state.members.merge(&link.source, &link.site, &own, report, at);
        if let Some(known) = state.links.iter_mut().find(|known| known.link.source == link.source) {
            url.clone_into(&mut known.url);
            known.is_own = merged == Ok(Merged::Own);
            known.error = merged.err().map(|reason| format!("refused: {}", reason.label()));
        }
        let told = state.members.take_told();
        drop(state);
        self.use_samples(told);
        if let Err(reason) = merged {
            self.refuse(reason);
        }
        merged
    }

    /// Counts a refused report.
    fn refuse(&self, reason: Refused) {
        let counters = Refused::ALL.iter().zip(&self.refused);
        for (_, count) in counters.filter(|(known, _)| **known == reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes why a connection ended; a new reason is logged.
    fn lost(&self, link: &Link, url: &str, error: &str) {
        let mut state = self.state();
        let known = state.links.iter_mut().find(|known| known.link.source == link.source);
        let Some(known) = known else { return };
        url.clone_into(&mut known.url);
        if known.error.as_deref() != Some(error) {
            known.error = Some(error.to_owned());
            tracing::warn!(
                site = link.site,
                peer = url,
                "no report from fleet peer {url}: {error}"
            );
        }
    }

    /// Refused reports by reason.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let counters = Refused::ALL.iter().zip(&self.refused);
        counters.map(|(reason, count)| (reason.label(), count.load(Ordering::Relaxed))).collect()
    }

    /// The identity of this proxy.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let state = self.state();
        let site = self.shared.view.load().plan.site.clone();
        Identity { site, incarnation: self.incarnation, instance: state.instance.clone() }
    }

    /// The report that this proxy sends, of itself or of its site: JSON without an end of line.
    #[must_use]
    pub fn told(&self, of_site: bool) -> Arc<str> {
        let now = clock::now();
        let mut state = self.state();
        if let Some((at, member, site)) = &state.lines
            && now.since(*at) < REPORT_FRESH
        {
            return if of_site { site.clone() } else { member.clone() };
        }
        state.sequence += 1;
        let mut own = self.own(&state);
        let site = state.members.site(&own, now);
        state.shares.tell(&mut own, now);
        let text = |report: &Report| serde_json::to_string(&report.unnamed()).unwrap_or_default();
        let member: Arc<str> = text(&own.for_members()).into();
        let site: Arc<str> = text(&site).into();
        state.lines = Some((now, member.clone(), site.clone()));
        if of_site { site } else { member }
    }

    fn own(&self, state: &State) -> Report {
        let view = self.shared.view.load();
        let expected = state.expected(&view.plan.site);
        let now = clock::now().secs_since(Timestamp::START);
        Report {
            by: Identity {
                site: view.plan.site.clone(),
                incarnation: self.incarnation,
                instance: state.instance.clone(),
            },
            sequence: state.sequence,
            members: 1,
            expected,
            leaving: self.shared.is_draining(),
            challenges: self.shared.challenges.own(),
            samples: crate::decision::fleet::samples::texts(
                &view.plan,
                &view.signals,
                (expected, hash(state.instance.as_bytes())),
                now,
            ),
            ..own::report(&view)
        }
    }

    /// Whether no other proxy is configured.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let state = self.state();
        state.links.is_empty() && state.bus.is_none()
    }

    /// The challenges of ACME authorities that other proxies of the site want to have answered.
    #[must_use]
    pub fn challenges(&self) -> Vec<Challenge> {
        let own = self.identity();
        let state = self.state();
        let theirs = state.members.colleagues(&own, clock::now(), LIVE);
        theirs.flat_map(|(report, _)| report.challenges.iter().cloned()).collect()
    }

    /// The known state of the fleet.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let now = clock::now();
        let state = self.state();
        let own = self.own(&state);
        let mut peers: Vec<_> = state.links.iter().map(|known| state.peer(known, now)).collect();
        peers.extend(state.publishers(now));
        let bus = state.bus.as_ref().map(|bus| bus.picture());
        let mut sites = vec![state.own_site(&own, now)];
        let mut names: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for known in state.links.iter().filter(|known| !known.link.member) {
            names.insert(&known.link.site, known.since);
        }
        for (_, heard) in state.members.published() {
            let site = &heard.report.by.site;
            if *site != own.by.site {
                names.entry(site).or_insert(heard.at);
            }
        }
        sites.extend(names.iter().map(|(name, since)| {
            let heard = state.members.other_site(name, now);
            let age = now.since(heard.map_or(*since, |heard| heard.at));
            SitePicture {
                name: (*name).to_owned(),
                is_own: false,
                report: heard.map(|heard| heard.report.clone()),
                age: age.as_secs_f64(),
                live: heard.is_some() && age <= SITE_LIVE,
            }
        }));
        Picture { own, peers, bus, sites }
    }
}

impl State {
    /// Proxies of this site that are configured, this one included.
    fn configured(&self) -> u32 {
        let others = self.links.iter().filter(|known| known.link.member && !known.is_own);
        u32::try_from(others.count() + 1).unwrap_or(u32::MAX)
    }

    fn peer(&self, known: &LinkState, now: Timestamp) -> PeerPicture {
        let heard = self.members.heard(&known.link.source);
        let fresh = if known.link.member { LIVE } else { SITE_LIVE };
        let age = heard.map(|heard| now.since(heard.at));
        let is_live = known.is_own || age.is_some_and(|age| age <= fresh);
        PeerPicture {
            site: known.link.site.clone(),
            url: Some(known.url.clone()),
            instance: heard.map(|heard| heard.report.by.instance.clone()),
            age: age.map(|age| age.as_secs_f64()),
            waited: now.since(known.since).as_secs_f64(),
            live: is_live,
            is_own: known.is_own,
            leaving: heard.is_some_and(|heard| heard.report.leaving),
            error: known.error.clone(),
        }
    }

    fn own_site(&self, own: &Report, now: Timestamp) -> SitePicture {
        let members = self.links.iter().filter(|known| known.link.member && !known.is_own);
        let heard = members.map(|known| {
            let heard: Option<&Heard> = self.members.heard(&known.link.source);
            now.since(heard.map_or(known.since, |heard| heard.at))
        });
        let age = heard.max().unwrap_or_default().max(self.bus_age(&own.by.site, now));
        SitePicture {
            name: own.by.site.clone(),
            is_own: true,
            report: Some(self.members.site(own, now)),
            age: age.as_secs_f64(),
            live: age <= LIVE,
        }
    }
}

/// The longest pause between two attempts to reach a peer: shorter than the silence after which an incarnation
/// with a smaller number is accepted.
const PAUSE_MAX: Duration = Duration::from_secs(4);
const _: () = assert!(PAUSE_MAX.as_secs() < FORGIVEN.as_secs());

#[cfg(test)]
mod traffic;
