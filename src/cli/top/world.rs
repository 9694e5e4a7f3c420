//! What the admin API answers, and the states that follow from the answers.
//!
//! Every figure comes from the API; this file adds sums, shares and the words for states. A figure that is absent or null
//! is `None`: what is unknown must not become zero.

use crate::cli::text::span;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// All answers of one poll.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) status: Status,
    pub(super) clusters: Vec<Cluster>,
    pub(super) services: Vec<Service>,
    /// Drills and shifts, the newest first.
    pub(super) operations: Vec<Running>,
    /// Absent where the proxy does not answer for a fleet.
    pub(super) fleet: Option<Fleet>,
    pub(super) history: History,
}

/// `/api/v1/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) site: String,
    pub(super) version: String,
    pub(super) uptime_s: u64,
    pub(super) draining: bool,
    pub(super) config: Config,
}

/// The configuration in `/api/v1/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) generation: u64,
    pub(super) last_reload: Option<Reload>,
}

/// The last reload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reload {
    pub(super) ok: Option<bool>,
    pub(super) error: Option<String>,
}

/// One of `/api/v1/clusters`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) site: String,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) why: Option<String>,
    pub(super) dial_percent: Option<u8>,
    pub(super) distance_ms: Option<f64>,
    pub(super) service_ms: Option<f64>,
    pub(super) queue_ms: Option<f64>,
    pub(super) tolerates_ms: Option<f64>,
    pub(super) in_flight: Option<f64>,
    pub(super) success_ratio: Option<f64>,
    pub(super) cost_usd_per_h: Option<f64>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// One address of a cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) state: String,
    pub(super) in_flight: Option<f64>,
    /// The cause as one word; a sentence and its age in seconds where the proxy tells them.
    pub(super) last_error: Option<String>,
    pub(super) last_error_text: Option<String>,
    pub(super) last_error_age_s: Option<f64>,
}

/// One of `/api/v1/services`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) name: String,
    /// Names of clusters, the nearest first.
    pub(super) order: Vec<String>,
    pub(super) spilling: bool,
    pub(super) forecast_rps: Option<f64>,
    pub(super) requests_per_s: Option<f64>,
    pub(super) refused_per_s: Option<f64>,
    pub(super) errors_per_s: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) cost_usd_per_h: Option<f64>,
    pub(super) budget_left_usd: Option<f64>,
    /// Requests a second by cluster.
    pub(super) to: BTreeMap<String, f64>,
}

/// One of `/api/v1/operations`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Running {
    pub(super) id: u64,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) to: Option<String>,
    pub(super) percent: Option<u8>,
    pub(super) phase: String,
    pub(super) outcome: Option<String>,
    pub(super) seconds_left: Option<f64>,
}

/// `/api/v1/fleet`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fleet {
    pub(super) members: Vec<Member>,
    pub(super) sites: Vec<SiteReport>,
}

/// A proxy of the fleet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Member {
    pub(super) site: Option<String>,
    pub(super) age_s: Option<f64>,
    /// `live`, `leaving`, `silent` or `unknown`.
    pub(super) state: String,
    pub(super) error: Option<String>,
}

/// The report of a site's proxies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SiteReport {
    #[serde(alias = "site")]
    pub(super) name: String,
    pub(super) live: bool,
    pub(super) age_s: Option<f64>,
    pub(super) members: Option<u64>,
    pub(super) expected: Option<u64>,
    pub(super) clusters: Option<Vec<SentTo>>,
}

/// What a site's proxies send to a cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SentTo {
    pub(super) requests_per_s: Option<f64>,
}

/// `/api/v1/history`: requests a second of each service, and the events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub(super) step_s: u64,
    pub(super) services: BTreeMap<String, Course>,
    pub(super) events: Vec<Event>,
}

/// The past of a service, the newest value last; null is unknown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Course {
    pub(super) requests_per_s: Vec<Option<f64>>,
}

/// Something that happened. Which fields are present follows from `kind`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) time: String,
    kind: String,
    cluster: String,
    state: String,
    #[serde(deserialize_with = "or_empty")]
    cause: String,
    endpoint: String,
    service: String,
    spilling: bool,
    ok: bool,
    error: String,
    generation: u64,
    name: String,
    percent: Option<u8>,
    empty: bool,
    phase: String,
    outcome: Option<String>,
}

/// How a cluster, site or service is: one word, one colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Health {
    /// Up, or served by the nearest cluster.
    Good,
    /// Up, and its queue is near the tolerated one.
    Full,
    Degraded,
    Down,
    Draining,
    /// A dial below 100 % is in force.
    Dialled,
    Spilling,
    FailedOver,
    Refused,
    Idle,
    /// No news: the figures are the last known ones.
    Silent,
    Unknown,
}

impl Health {
    /// The state as a word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Health::Good => "up",
            Health::Full => "full",
            Health::Degraded => "degraded",
            Health::Down => "down",
            Health::Draining => "draining",
            Health::Dialled => "by hand",
            Health::Spilling => "spilling",
            Health::FailedOver => "failed over",
            Health::Refused => "refused",
            Health::Idle => "idle",
            Health::Silent => "no news",
            Health::Unknown => "unknown",
        }
    }

    /// The state as a shape, for who sees no colours.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Health::Good => "●",
            Health::Full | Health::Spilling | Health::FailedOver => "○",
            Health::Degraded => "▲",
            Health::Down | Health::Refused => "■",
            Health::Draining | Health::Dialled => "◆",
            Health::Idle | Health::Silent | Health::Unknown => "·",
        }
    }
}

/// A queue of this part of the tolerated one counts as full.
const FULL: f64 = 0.8;

impl Cluster {
    /// The state of the cluster as this proxy measures it.
    pub(super) fn health(&self) -> Health {
        let is_full =
            self.queue_ms.zip(self.tolerates_ms).is_some_and(|(q, t)| t > 0.0 && q > FULL * t);
        match self.state.as_str() {
            "up" if self.dial_percent.is_some_and(|dial| dial < 100) => Health::Dialled,
            "up" if is_full => Health::Full,
            "up" => Health::Good,
            "degraded" => Health::Degraded,
            "down" => Health::Down,
            "draining" => Health::Draining,
            _ => Health::Unknown,
        }
    }
}

impl Service {
    /// Requests a second that its first cluster serves, and those that others serve.
    pub(super) fn home_and_away(&self) -> (f64, f64) {
        let all: f64 = self.to.values().sum();
        let home = self.order.first().and_then(|first| self.to.get(first)).copied();
        let home = home.unwrap_or(0.0);
        (home, (all - home).max(0.0))
    }

    /// Requests a second that clients make.
    pub(super) fn demand(&self) -> Option<f64> {
        let served: f64 = self.to.values().sum();
        Some(served + self.refused_per_s?)
    }
}

impl Running {
    /// What runs, how much is away, and for how long, in words.
    pub(super) fn told(&self) -> String {
        let to = self.to.as_ref().map_or(String::new(), |to| format!(" to {to}"));
        let percent = self.percent.unwrap_or(0);
        let outcome = self.outcome.as_ref().map_or(String::new(), |outcome| format!(", {outcome}"));
        let left = self.seconds_left.filter(|left| (0.0..1e9).contains(left)).unwrap_or(0.0);
        let left = span(Duration::from_secs_f64(left));
        let Running { kind, name, phase, .. } = self;
        format!("{kind} of {name}{to}: {percent} % away, {phase}{outcome}, at most {left} left")
    }
}

impl World {
    /// The running drill or shift.
    pub(super) fn running(&self) -> Option<&Running> {
        self.operations.first().filter(|operation| operation.phase != "ended")
    }

    /// Requests a second that this proxy sends to a cluster, over all services.
    pub(super) fn rate_to(&self, cluster: &str) -> Option<f64> {
        let known: Vec<f64> =
            self.services.iter().filter_map(|service| service.to.get(cluster).copied()).collect();
        let is_served = self.services.iter().any(|s| s.order.iter().any(|name| name == cluster));
        (!known.is_empty() || is_served).then(|| known.iter().sum())
    }

    /// The state of a service.
    pub(super) fn health_of(&self, service: &Service) -> Health {
        let Some(demand) = service.demand() else { return Health::Unknown };
        if demand <= 0.05 {
            return Health::Idle;
        }
        let (_, away) = service.home_and_away();
        let refused = service.refused_per_s.unwrap_or(0.0);
        let errors = service.errors_per_s.unwrap_or(0.0);
        let first = service.order.first();
        let home = first.and_then(|first| self.clusters.iter().find(|c| c.name == *first));
        let is_away = away / demand > 0.02;
        match home.map(Cluster::health) {
            _ if refused / demand > 0.5 => Health::Refused,
            _ if refused > 0.5 && refused / demand > 0.005 => Health::Degraded,
            _ if errors / demand > 0.02 => Health::Degraded,
            Some(Health::Down) if is_away => Health::FailedOver,
            Some(Health::Draining | Health::Dialled) if is_away => Health::Dialled,
            Some(_) | None if service.spilling || is_away => Health::Spilling,
            Some(_) | None => Health::Good,
        }
    }

    /// The names of all sites: the own one, then those with clusters, then those that only report.
    pub(super) fn sites(&self) -> Vec<String> {
        let with_clusters: BTreeSet<&str> = self.clusters.iter().map(|c| c.site.as_str()).collect();
        let fleet = self.fleet.iter();
        let reporting: BTreeSet<&str> = fleet
            .flat_map(|fleet| {
                let members = fleet.members.iter().filter_map(|member| member.site.as_deref());
                members.chain(fleet.sites.iter().map(|site| site.name.as_str()))
            })
            .collect();
        let own = self.status.site.as_str();
        let mut all = vec![own];
        all.extend(with_clusters.iter().filter(|name| **name != own));
        all.extend(reporting.iter().filter(|name| **name != own && !with_clusters.contains(*name)));
        all.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// The clusters of a site.
    pub(super) fn clusters_of<'a>(&'a self, site: &'a str) -> impl Iterator<Item = &'a Cluster> {
        self.clusters.iter().filter(move |cluster| cluster.site == site)
    }

    /// The report of a site's proxies.
    pub(super) fn report_of(&self, site: &str) -> Option<&SiteReport> {
        self.fleet.as_ref()?.sites.iter().find(|report| report.name == site)
    }

    /// The proxies of a site: those that report, all, and the age in seconds of the oldest news. Without a fleet the own
    /// site has this proxy alone.
    pub(super) fn proxies_of(&self, site: &str) -> Option<(u64, u64, f64)> {
        let report = self.report_of(site);
        if let Some((heard, all)) = report.and_then(|report| report.members.zip(report.expected)) {
            let report = report?;
            // The own site's report counts the proxies that report, and is as old as that of the oldest of them.
            let heard = match site == self.status.site {
                true => heard.max(1),
                false if report.live => heard,
                false => 0,
            };
            return Some((heard, all.max(heard), report.age_s.unwrap_or(0.0)));
        }
        let members = self.fleet.iter().flat_map(|fleet| &fleet.members);
        let members: Vec<&Member> =
            members.filter(|member| member.site.as_deref() == Some(site)).collect();
        if members.is_empty() {
            return (site == self.status.site).then_some((1, 1, 0.0));
        }
        let is_heard = |member: &&&Member| matches!(member.state.as_str(), "live" | "leaving");
        let heard = members.iter().filter(is_heard).count() as u64;
        let oldest = members.iter().filter_map(|member| member.age_s).fold(0.0, f64::max);
        Some((heard, members.len() as u64, oldest))
    }

    /// The state of a site: of its clusters, or of its proxies where it has no clusters.
    pub(super) fn health_of_site(&self, site: &str) -> Health {
        let is_silent = self.proxies_of(site).is_some_and(|(heard, ..)| heard == 0);
        let all: Vec<Health> = self.clusters_of(site).map(Cluster::health).collect();
        let any = |health: Health| all.contains(&health);
        match all.first() {
            _ if is_silent => Health::Silent,
            None if self.proxies_of(site).is_some() => Health::Good,
            None => Health::Unknown,
            Some(first) if all.iter().all(|health| health == first) => *first,
            Some(_) if any(Health::Down) || any(Health::Degraded) => Health::Degraded,
            Some(_) if any(Health::Full) => Health::Full,
            Some(_) if any(Health::Draining) || any(Health::Dialled) => Health::Dialled,
            Some(_) => Health::Good,
        }
    }
}

/// A text; null is an empty one.
fn or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Event {
    /// The event as a sentence, and the state that it stands for.
    pub(super) fn told(&self) -> (String, Health) {
        let Event { cluster, state, cause, endpoint, service, name, error, .. } = self;
        let why = if cause.is_empty() { String::new() } else { format!(": {cause}") };
        match self.kind.as_str() {
            "spill" if self.spilling => (format!("{service} spills"), Health::Spilling),
            "spill" => (format!("{service} is back home"), Health::Good),
            "cluster" => {
                let of = Cluster { state: state.clone(), ..Cluster::default() };
                (format!("{cluster} is {state}{why}"), of.health())
            }
            "ejected" => (format!("{endpoint} of {cluster} ejected{why}"), Health::Degraded),
            "returned" => (format!("{endpoint} of {cluster} returned"), Health::Good),
            "reload" if self.ok => {
                (format!("reloaded, generation {}", self.generation), Health::Good)
            }
            "reload" => (format!("reload refused: {error}"), Health::Down),
            "certificates" if self.ok => ("certificates reloaded".to_owned(), Health::Good),
            "certificates" => ("certificates refused".to_owned(), Health::Down),
            "dial" => match self.percent {
                None => (format!("{name}: dial taken back"), Health::Dialled),
                Some(0) => (format!("{name} drained"), Health::Draining),
                Some(percent) => (format!("{name} dialled to {percent} %"), Health::Dialled),
            },
            "drill" | "shift" => {
                let outcome = self.outcome.as_deref().unwrap_or(&self.phase);
                (format!("{} of {name}: {outcome}{why}", self.kind), Health::Dialled)
            }
            "budget" if self.empty => (format!("{service}: budget spent"), Health::Full),
            "budget" => (format!("{service}: budget available again"), Health::Good),
            other => (other.to_owned(), Health::Unknown),
        }
    }

    /// The time of day in UTC, as in RFC 3339; the whole text where it is written in another way.
    pub(super) fn clock(&self) -> &str {
        let time = self.time.split_once('T').map(|(_, time)| time);
        time.and_then(|time| time.get(..8)).unwrap_or(&self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(text: &str) -> Cluster {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_state_of_a_cluster_includes_its_queue_and_its_dial() {
        for (text, expected) in [
            (r#"{"state": "up", "dial_percent": 100}"#, Health::Good),
            (r#"{"state": "up", "queue_ms": 9, "tolerates_ms": 10}"#, Health::Full),
            (r#"{"state": "up", "queue_ms": null, "tolerates_ms": 10}"#, Health::Good),
            (r#"{"state": "up", "dial_percent": 50}"#, Health::Dialled),
            (r#"{"state": "draining", "dial_percent": 0}"#, Health::Draining),
            (r#"{"state": "down"}"#, Health::Down),
            (r#"{"state": "molten"}"#, Health::Unknown),
        ] {
            assert_eq!(cluster(text).health(), expected, "{text}");
        }
    }

    #[test]
    fn the_state_of_a_service_follows_from_where_its_requests_go() {
        let mut world = World {
            clusters: vec![cluster(r#"{"name": "idc", "site": "east", "state": "up"}"#)],
            ..World::default()
        };
        let of = |refused: f64, errors: f64, home: f64, away: f64| Service {
            order: vec!["idc".to_owned(), "cloud".to_owned()],
            refused_per_s: Some(refused),
            errors_per_s: Some(errors),
            to: [("idc".to_owned(), home), ("cloud".to_owned(), away)].into(),
            ..Service::default()
        };
        for (service, expected) in [
            (of(0.0, 0.0, 0.0, 0.0), Health::Idle),
            (of(0.0, 0.0, 100.0, 1.0), Health::Good),
            (of(0.0, 0.0, 70.0, 30.0), Health::Spilling),
            (of(0.0, 5.0, 100.0, 0.0), Health::Degraded),
            (of(2.0, 0.0, 100.0, 0.0), Health::Degraded),
            (of(60.0, 0.0, 40.0, 0.0), Health::Refused),
            (Service { refused_per_s: None, ..of(0.0, 0.0, 9.0, 0.0) }, Health::Unknown),
        ] {
            assert_eq!(world.health_of(&service), expected, "{service:?}");
        }
        world.clusters[0].state = "down".to_owned();
        assert_eq!(world.health_of(&of(0.0, 0.0, 0.0, 50.0)), Health::FailedOver);
    }

    #[test]
    fn a_silent_site_is_told_from_an_idle_one() {
        let fleet = r#"{"members": [{"site": "east", "state": "live", "age_s": 0},
            {"site": "west", "state": "silent", "age_s": 74.2}],
            "sites": [{"site": "west", "live": false, "age_s": 74.2, "members": 2, "expected": 3}]}"#;
        let world = World {
            status: Status { site: "east".to_owned(), ..Status::default() },
            clusters: vec![cluster(r#"{"name": "idc", "site": "east", "state": "up"}"#)],
            fleet: Some(serde_json::from_str(fleet).unwrap()),
            ..World::default()
        };
        assert_eq!(world.sites(), ["east", "west"]);
        assert_eq!(world.proxies_of("east"), Some((1, 1, 0.0)));
        assert_eq!(world.proxies_of("west"), Some((0, 3, 74.2)));
        assert_eq!(world.health_of_site("west"), Health::Silent);
        assert_eq!(world.health_of_site("east"), Health::Good);
    }

    #[test]
    fn an_event_is_a_sentence() {
        for (text, expected) in [
            (r#"{"kind": "spill", "service": "shop", "spilling": true}"#, "shop spills"),
            (
                r#"{"kind": "cluster", "cluster": "idc", "state": "down", "cause": "refused"}"#,
                "idc is down: refused",
            ),
            (
                r#"{"kind": "drill", "name": "east", "phase": "moving", "outcome": null, "cause": null}"#,
                "drill of east: moving",
            ),
            (
                r#"{"kind": "shift", "name": "shop", "phase": "ended", "outcome": "stopped", "cause": "shop: p99 was 9 ms"}"#,
                "shift of shop: stopped: shop: p99 was 9 ms",
            ),
            (r#"{"kind": "dial", "name": "idc", "percent": 0}"#, "idc drained"),
            (r#"{"kind": "dial", "name": "idc", "percent": null}"#, "idc: dial taken back"),
            (r#"{"kind": "reload", "ok": false, "error": "line 3"}"#, "reload refused: line 3"),
            (r#"{"kind": "something-new"}"#, "something-new"),
        ] {
            let event: Event = serde_json::from_str(text).unwrap();
            assert_eq!(event.told().0, expected);
        }
        let event: Event = serde_json::from_str(r#"{"time": "2026-01-02T03:04:05.6Z"}"#).unwrap();
        assert_eq!(event.clock(), "03:04:05");
    }
}
