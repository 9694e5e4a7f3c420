//! The state of one cluster: its endpoints, its dial, its return after an outage.

use super::endpoint::EndpointState;
use super::published::Published;
use super::rest::Rest;
use super::{Answers, Found, News, Samples};
use crate::endpoint::speed::{Siblings, Spread};
use crate::fleet::lease::Share;
use crate::health::Thresholds;
use crate::index::{EndpointIndex, Table};
use crate::outlier::{Outlier, Standing, Standings};
use crate::plan::{Address, Cluster, ClusterIndex, ProbeKind};
use crate::report::Report;
use crate::signal::State;
use crate::units::{Timestamp, hash, mean, mix, smooth};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The part of a probe's response time that is not the network, and the cluster where it was observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProbeWork {
    pub(super) seconds: f64,
    pub(super) learned_from: String,
}

/// The state of one cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterState {
    pub(super) endpoints: Table<EndpointIndex, EndpointState>,
    pub(super) discovered: bool,
    pub(super) dial: Option<u8>,
    /// This proxy's share of a ceiling that the site's proxies share.
    pub(super) share: Option<Share>,
    /// Whether the cluster was usable at the last sweep; `None` before all its endpoints were probed.
    was_up: Option<bool>,
    /// The moment since which no endpoint of the cluster has been usable.
    pub(super) down_since: Option<Timestamp>,
    ramp_from: Option<Timestamp>,
    pub(super) held_until: Option<Timestamp>,
    /// Whether the cluster returned with the last sweep.
    pub(super) returned: bool,
    /// The round trip to the previous endpoints: an assumption until the current ones are measured.
    rtt_before: Option<f64>,
    /// Whether most of the endpoints are new since the last sweep of its classes.
    pub(super) replaced: bool,
    pub(super) needs_undrain: bool,
    /// Seconds that a probe's response takes beyond the round trip, while no queue delays it.
    pub(super) excess: Option<f64>,
    /// The part of those seconds that is the probe's own work.
    pub(super) probe_work: Option<ProbeWork>,
    pub(super) loaded: bool,
    /// The last report that came with a probe's response, and when.
    pub(super) report: Option<(Report, Timestamp)>,
    pub(super) announced: Option<State>,
    pub(super) in_use: usize,
    /// Identifies the set of endpoints.
    pub(super) members: u64,
    /// Identifies their addresses, in any order, and whether one of them is another endpoint on each host.
    addresses: (u64, bool),
    spread: Spread,
    /// Recent exchanges completed, a second.
    pub(super) answered_per_s: f64,
    pub(super) rest: Rest,
    /// The round trip and whether it is settled, at the last sweep.
    measured: (Option<f64>, bool),
    pub(super) published: Published,
}

/// The share of a returning cluster at first, and the time in which the share doubles, in seconds.
const RETURN_SHARE: f64 = 0.02;
const RETURN_DOUBLES: f64 = 0.250;

impl ClusterState {
    /// Replaces the set of endpoints; the state of remaining endpoints is kept. Returns whether the set is another one.
    /// `id_of` gives an endpoint its id for the life of the process.
    pub(super) fn set_endpoints(
        &mut self,
        cluster: &Cluster,
        found: &[Found],
        mut id_of: impl FnMut(&Address) -> u32,
        seed: u64,
        now: Timestamp,
    ) -> bool {
        let was_discovered = std::mem::replace(&mut self.discovered, true);
        self.rtt_before = self.measure().or(self.rtt_before);
        if self.has_exactly(found) {
            self.replaced = false;
            let mut is_news = !was_discovered;
            for (endpoint, found) in self.endpoints.iter_mut().zip(found) {
                is_news |= endpoint.weight != found.weight;
                endpoint.weight = found.weight;
            }
            // A reload reports the endpoints of all static clusters again, and discovery at each refresh.
            if is_news {
                self.rest.wake();
            }
            return false;
        }
        self.rest.wake();
        let before = std::mem::take(&mut self.endpoints).into_iter();
        let mut before: BTreeMap<Address, EndpointState> =
            before.map(|endpoint| (endpoint.address.clone(), endpoint)).collect();
        let kept = found.iter().filter(|one| before.contains_key(&one.address)).count();
        self.replaced = !before.is_empty() && 2 * kept < found.len();
        let mut listed = BTreeSet::new();
        for endpoint in found {
            if !listed.insert(&endpoint.address) {
                continue;
            }
            if let Some(mut known) = before.remove(&endpoint.address) {
                known.weight = endpoint.weight;
                self.endpoints.push(known);
                continue;
            }
            let id = id_of(&endpoint.address);
            let seed = mix(seed ^ u64::from(id));
            let spread = cluster.probe.interval.min(Duration::from_millis(200));
            let offset = spread.mul_f64((seed % 1024) as f64 / 1024.0);
            let due = if self.was_up.is_none() { now } else { now.plus(offset) };
            self.endpoints.push(EndpointState::new(id, endpoint, seed, due));
        }
        // Added, not combined by exclusive or: `mix` of 0 is 0, and two sets would have one number.
        let more = |sum: u64, one: &EndpointState| mix(sum.wrapping_add(u64::from(one.id) + 1));
        self.members = self.endpoints.iter().fold(1, more);
        let all = self.endpoints.iter().map(|one| &one.address);
        let number = |address: &Address| hash(address.to_string().as_bytes());
        let sum = all.clone().map(number).fold(0, u64::wrapping_add);
        self.addresses = (mix(sum), all.clone().any(Address::is_local));
        true
    }

    /// Whether two proxies have the same endpoints: then both have this number.
    pub(super) fn fingerprint(&self, host: &str) -> u16 {
        let (addresses, is_local) = self.addresses;
        let number = if is_local { mix(addresses ^ hash(host.as_bytes())) } else { addresses };
        number as u16
    }

    /// Whether these are the cluster's endpoints, in the same order.
    fn has_exactly(&self, found: &[Found]) -> bool {
        let same = |(known, found): (&EndpointState, &Found)| known.address == found.address;
        !found.is_empty()
            && self.endpoints.len() == found.len()
            && self.endpoints.iter().zip(found).all(same)
    }

    /// Folds the samples of a sweep in and notes whether the cluster went down or returned, unless it rests. `elapsed`
    /// is for a cluster that was never swept before.
    pub(super) fn sweep(
        &mut self,
        (index, cluster): (ClusterIndex, &Cluster),
        samples: &mut impl Samples,
        elapsed: f64,
        news: &mut Vec<News>,
        now: Timestamp,
    ) {
        self.returned = false;
        let first = self.endpoints.first().map(|endpoint| endpoint.id);
        if first.is_some_and(|first| !samples.is_quiet(index, first)) {
            self.rest.stir();
        }
        if !self.rest.is_over(self.endpoints.len(), u64::from(first.unwrap_or(0)), now) {
            return;
        }
        let elapsed = self.rest.seconds(now).unwrap_or(elapsed);
        let mut answered = 0.0;
        self.spread.fade(elapsed);
        for endpoint in &mut self.endpoints {
            if cluster.probe.kind == ProbeKind::None {
                endpoint.health.assume_up(now);
            }
            let Answers { count, seconds, logs, rtt } = samples.endpoint(endpoint.id);
            endpoint.hear_rtt(rtt, now);
            let failures = std::mem::take(&mut endpoint.failures);
            endpoint.standing.fold(count, seconds, failures, elapsed);
            smooth(&mut endpoint.requests_per_s, (count + failures) / elapsed, elapsed);
            endpoint.speed.fold(logs, count, failures, &mut self.spread, elapsed);
            endpoint.unused &= count + failures <= 0.0;
            answered += count;
            // Where most exchanges fail, a few successes do not end a series of failures.
            let blamed = std::mem::take(&mut endpoint.blamed).count();
            if count > 0.0 {
                endpoint.health.exchanges_answered(now);
                if blamed <= count {
                    endpoint.health.exchanges_succeeded(now);
                }
            }
            endpoint.health.ejection_ended(now);
            news.extend(endpoint.returned(&cluster.name, now));
        }
        self.compare(answered, elapsed, now);
        self.eject_rows(cluster, news, now);
        self.eject_outliers(cluster, news, now);
        self.notice_return(cluster, now);
        let excess = |endpoint: &EndpointState| {
            let (answer, rtt) = endpoint.answer.lower_quartile().zip(endpoint.rtt.median())?;
            Some((answer - rtt).max(0.0))
        };
        let excesses = self.live(now).filter_map(excess);
        if let Some(excess) = mean(excesses).filter(|_| !self.loaded) {
            self.excess = Some(excess);
        }
        let settled = self.endpoints.iter().any(|endpoint| endpoint.rtt.is_settled());
        self.measured = (self.measure(), settled);
        let is_settled = |endpoint: &EndpointState| endpoint.is_settled(cluster, now);
        self.rest.begin(self.endpoints.iter().all(is_settled), now);
        self.published.observe(self.observe(cluster, now));
    }

    /// Compares the speeds of usable endpoints.
    fn compare(&mut self, answered: f64, elapsed: f64, now: Timestamp) {
        smooth(&mut self.answered_per_s, answered / elapsed, elapsed);
        let mut siblings = Siblings::default();
        self.live(now).for_each(|endpoint| siblings.add(&endpoint.speed));
        for endpoint in self.endpoints.iter_mut().filter(|one| one.health.is_usable(now)) {
            endpoint.speed.judge(&siblings, &self.spread, elapsed);
        }
    }

    /// Whether failed exchanges may eject one more endpoint.
    pub(super) fn may_eject(&self, knobs: &Outlier, now: Timestamp) -> bool {
        knobs.may_eject(self.out(now), self.endpoints.len())
    }

    /// The number of endpoints that are not usable.
    fn out(&self, now: Timestamp) -> usize {
        self.endpoints.len() - self.live(now).count()
    }

    /// Ejects endpoints whose exchanges failed in a row.
    fn eject_rows(&mut self, cluster: &Cluster, news: &mut Vec<News>, now: Timestamp) {
        let knobs = &cluster.outlier;
        let (mut out, all) = (self.out(now), self.endpoints.len());
        for endpoint in &mut self.endpoints {
            let may_eject = knobs.may_eject(out, all);
            if let Some(cause) = endpoint.health.judge_row(knobs.consecutive, may_eject, now) {
                out += 1;
                news.extend(endpoint.ejected(&cluster.name, cause));
            }
        }
    }

    /// Ejects outliers.
    fn eject_outliers(&mut self, cluster: &Cluster, news: &mut Vec<News>, now: Timestamp) {
        let knobs = &cluster.outlier;
        if knobs.success.is_none() && knobs.latency.is_none() {
            return;
        }
        let siblings = Standings::of(self.endpoints.iter().map(|endpoint| &endpoint.standing));
        let (mut out, all) = (self.out(now), self.endpoints.len());
        for endpoint in &mut self.endpoints {
            let Some(cause) = siblings.verdict(knobs, &endpoint.standing) else { continue };
            if knobs.may_eject(out, all) && endpoint.health.eject(cause, now) {
                out += 1;
                // After its return the endpoint is judged without its history.
                endpoint.standing = Standing::default();
                news.extend(endpoint.ejected(&cluster.name, cause));
            }
        }
    }

    fn notice_return(&mut self, cluster: &Cluster, now: Timestamp) {
        self.in_use = self.live(now).count();
        let usable = self.in_use > 0;
        self.returned = self.was_up == Some(false) && usable;
        self.down_since = if usable { None } else { self.down_since.or(Some(now)) };
        match self.was_up {
            Some(false) if usable => {
                let from = now.plus(cluster.failback.hold);
                self.held_until = Some(from);
                self.ramp_from = Some(from);
                self.needs_undrain |= cluster.failback.manual;
                self.was_up = Some(true);
            }
            Some(true) if !usable => self.was_up = Some(false),
            None if self.discovered && self.endpoints.iter().all(|e| e.health.is_probed()) => {
                self.was_up = Some(usable);
            }
            Some(_) | None => {}
        }
    }

    fn live(&self, now: Timestamp) -> impl Iterator<Item = &EndpointState> {
        self.endpoints.iter().filter(move |endpoint| endpoint.health.is_usable(now))
    }

    /// The round trip at the last sweep, in seconds: the mean of its endpoints' medians.
    pub(super) fn rtt(&self) -> Option<f64> {
        self.measured.0.or(self.rtt_before)
    }

    fn measure(&self) -> Option<f64> {
        mean(self.endpoints.iter().filter_map(|endpoint| endpoint.rtt.median()))
    }

    /// The distance, in seconds: the round trip, and the path behind a middlebox that answers for the cluster. The distance
    /// does not depend on other clusters' health.
    pub(super) fn distance(&self) -> Option<f64> {
        let work = self.probe_work.as_ref().map(|work| work.seconds);
        let behind = self.excess.zip(work).map_or(0.0, |(excess, work)| (excess - work).max(0.0));
        Some(self.rtt()? + behind)
    }

    /// The response time of probes minus the round trip, if the cluster was usable at the last sweep.
    pub(super) fn fresh_excess(&self) -> Option<f64> {
        self.excess.filter(|_| self.in_use > 0)
    }

    /// The number of endpoints that were usable at the last sweep.
    pub(super) fn usable_count(&self) -> usize {
        self.in_use
    }

    /// Whether the cluster's distance is certain enough for a comparison.
    pub(super) fn is_measured(&self) -> bool {
        self.measured.1
    }

    /// Whether the cluster may be chosen when all permitted clusters are down, since some answers are better than none.
    pub(super) fn is_last_resort(&self, cluster: &Cluster, dial: u8) -> bool {
        dial > 0 && cluster.outlier.panic_percent > 0 && !self.endpoints.is_empty()
    }

    /// Whether the cluster may be chosen at all.
    pub(super) fn is_live(&self, dial: u8, now: Timestamp) -> bool {
        let held = self.held_until.is_some_and(|until| now < until);
        dial > 0 && !held && self.live(now).next().is_some()
    }

    /// Whether the cluster has returned and waits for an operator. An operator's dial ends the wait.
    pub(super) fn awaits_undrain(&self) -> bool {
        self.needs_undrain && self.dial.is_none()
    }

    /// The share that the cluster may take during its return: it doubles every quarter of a second.
    pub(super) fn return_share(&self, now: Timestamp) -> f64 {
        let Some(from) = self.ramp_from else { return 1.0 };
        (RETURN_SHARE * (now.secs_since(from) / RETURN_DOUBLES).min(20.0).exp2()).min(1.0)
    }
}

/// The thresholds of a cluster's probe.
pub(super) fn thresholds(cluster: &Cluster) -> Thresholds {
    Thresholds {
        fall: cluster.probe.fall,
        rise: cluster.probe.rise,
        proves_requests: matches!(
            cluster.probe.kind,
            ProbeKind::Http { .. } | ProbeKind::Grpc { .. }
        ),
    }
}
