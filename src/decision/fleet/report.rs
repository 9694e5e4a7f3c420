//! The report that a proxy gives to other proxies, the bounds of a report, and the sum of the reports of a site.
//!
//! A report is the whole state at one moment, never a change: the next report makes up for a lost one. Reports are
//! small, since every proxy of a site receives the report of every other proxy once a second: each JSON key has one
//! letter, and each cluster or service is a row of numbers without trailing zeros.
//!
//! # Units
//! Seconds, exchanges a second and dollars inside; milliseconds in rows.
//!
//! # Invariants
//! A report that [`Report::check`] accepts has only valid names, and finite numbers within their ranges.

use super::Refused;
use crate::acme::{CHALLENGES_MAX, Challenge};
use crate::pool::{self, Recent};
use crate::scaling::Need;
use crate::signal::State;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::collections::BTreeMap;

/// Clusters, or services, in one report.
pub const ROWS_MAX: usize = 512;
/// Bytes of a name.
pub const NAME_MAX: usize = 128;
/// The greatest number in a report.
const NUMBER_MAX: f64 = 1e12;

/// The report of one proxy, or of a site: then the sum over its members.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The reporting proxy. On a connection it is sent once, in the response head.
    #[serde(flatten)]
    pub by: Identity,
    /// Greater with each report of an incarnation.
    #[serde(rename = "q")]
    pub sequence: u64,
    /// The number of live proxies whose reports are in the sum.
    #[serde(rename = "m", default = "one", skip_serializing_if = "is_one")]
    pub members: u32,
    /// The number of proxies configured for the site.
    #[serde(rename = "e", default = "one", skip_serializing_if = "is_one")]
    pub expected: u32,
    /// Whether the proxy is draining.
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Clusters, by name. A cluster that is up and has no traffic is left out.
    #[serde(rename = "c", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, ClusterRow>,
    /// Services with traffic, by name.
    #[serde(rename = "d", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceRow>,
    /// Exchanges that the proxy would have in flight beyond its part, by cluster with a shared ceiling.
    #[serde(rename = "w", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wants: BTreeMap<String, u32>,
    /// What services need of clusters, by service and cluster; only with `scaling`.
    #[serde(rename = "r", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<String, BTreeMap<String, Need>>,
    /// The loans of the proxy from its part, by cluster and borrowing instance.
    #[serde(rename = "g", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<String, BTreeMap<String, u32>>,
    /// The newest response times, encoded, by service and cluster. Only where the proxy receives few responses.
    #[serde(rename = "p", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub samples: pool::Texts,
    /// The challenges of ACME authorities that wait for an answer; any proxy of the site may receive the question.
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
}

/// The identity of the reporting proxy; in a site's report, of the proxy that made the sum.
#[derive(
    Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize,
)]
pub struct Identity {
    /// The site's name.
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// Greater after each start of the proxy.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub incarnation: u64,
    /// The proxy's name, unique in the fleet.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

/// The state of a cluster at a proxy or a site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClusterRow {
    /// The cluster's state.
    pub state: State,
    /// Exchanges in flight.
    pub in_flight: f64,
    /// Exchanges a second.
    pub requests_per_s: f64,
    /// Queue delay in seconds.
    pub queue: f64,
    /// Distance in seconds; 0 when not measured.
    pub distance: f64,
    /// Service time in seconds; 0 when not learned.
    pub service: f64,
    /// Dollars an hour.
    pub usd_per_hour: f64,
}

/// The state of a service at a proxy or a site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServiceRow {
    /// Exchanges a second.
    pub demand: f64,
    /// The share of exchanges that spilled.
    pub spill: f64,
    /// Dollars left of the budget; 0 without a budget, and when the budget is spent.
    pub budget_left: f64,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A row in which each position has a fixed meaning. Absent positions are 0; additional positions are
/// ignored.
trait Row: Sized {
    fn write(&self) -> Vec<f64>;
    fn read(at: impl Fn(usize) -> f64) -> Self;
}

impl Row for ClusterRow {
    fn write(&self) -> Vec<f64> {
        vec![
            code(self.state),
            self.in_flight,
            self.requests_per_s,
            self.queue * 1e3,
            self.usd_per_hour,
            self.distance * 1e3,
            self.service * 1e3,
        ]
    }

    fn read(at: impl Fn(usize) -> f64) -> ClusterRow {
        ClusterRow {
            // A state that only a later version knows counts as degraded.
            state: STATES.iter().copied().find(|s| code(*s) == at(0)).unwrap_or(State::Degraded),
            in_flight: at(1),
            requests_per_s: at(2),
            queue: at(3) / 1e3,
            usd_per_hour: at(4),
            distance: at(5) / 1e3,
            service: at(6) / 1e3,
        }
    }
}

impl Row for ServiceRow {
    fn write(&self) -> Vec<f64> {
        vec![self.demand, self.spill, self.budget_left]
    }

    fn read(at: impl Fn(usize) -> f64) -> ServiceRow {
        ServiceRow { demand: at(0), spill: at(1), budget_left: at(2) }
    }
}

impl Row for Need {
    fn write(&self) -> Vec<f64> {
        vec![self.endpoints, self.known_rps, self.unknown_rps]
    }

    fn read(at: impl Fn(usize) -> f64) -> Need {
        Need { endpoints: at(0), known_rps: at(1), unknown_rps: at(2) }
    }
}

const STATES: [State; 4] = [State::Up, State::Degraded, State::Down, State::Draining];

fn code(state: State) -> f64 {
    match state {
        State::Up => 0.0,
        State::Degraded => 1.0,
        State::Down => 2.0,
        State::Draining => 3.0,
    }
}

fn write_row<S: Serializer>(row: &impl Row, serializer: S) -> Result<S::Ok, S::Error> {
    let numbers = row.write();
    let used = numbers.iter().rposition(|number| *number != 0.0).map_or(0, |last| last + 1);
    let mut sequence = serializer.serialize_seq(Some(used))?;
    for number in numbers.iter().take(used).map(|number| short(*number)) {
        // `12`, not `12.0`.
        match number.fract() == 0.0 && number.abs() < 1e15 {
            true => sequence.serialize_element(&(number as i64))?,
            false => sequence.serialize_element(&number)?,
        }
    }
    sequence.end()
}

fn read_row<'de, D: Deserializer<'de>, R: Row>(deserializer: D) -> Result<R, D::Error> {
    let numbers = Vec::<f64>::deserialize(deserializer)?;
    Ok(R::read(|place| numbers.get(place).copied().unwrap_or(0.0)))
}

impl Serialize for ClusterRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_row(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ClusterRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ClusterRow, D::Error> {
        read_row(deserializer)
    }
}

impl Serialize for ServiceRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_row(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ServiceRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ServiceRow, D::Error> {
        read_row(deserializer)
    }
}

impl Serialize for Need {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_row(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Need {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Need, D::Error> {
        read_row(deserializer)
    }
}

/// Rounds a number to three significant digits and at most two decimals, to keep reports small.
fn short(number: f64) -> f64 {
    if !number.is_finite() || number.abs() < 0.005 {
        return 0.0;
    }
    let places = (number.abs().log10().floor() as i32 - 2).max(-2);
    let scale = 10_f64.powi(places.abs());
    if places < 0 { (number * scale).round() / scale } else { (number / scale).round() * scale }
}

/// Whether the text is a valid name of a site, cluster or service, by the rule of the configuration.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(valid)
}

/// Whether the text is a valid instance name: a host and a port.
pub(super) fn is_instance(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]/".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(valid)
}

impl Report {
    /// Checks names, numbers and counts.
    ///
    /// # Errors
    /// The first reason for which the whole report is refused.
    pub fn check(&self) -> Result<(), Refused> {
        let grants: usize = self.grants.values().map(BTreeMap::len).sum();
        let needs = self.needs.values().map(BTreeMap::len).sum();
        let samples: usize = self.samples.values().map(BTreeMap::len).sum();
        let counts = [
            self.clusters.len(),
            self.services.len(),
            self.wants.len(),
            grants,
            needs,
            self.needs.len(),
        ];
        let is_many = self.challenges.len() > CHALLENGES_MAX
            || self.samples.len().max(samples) > pool::PAIRS_MAX;
        if is_many || counts.iter().any(|count| *count > ROWS_MAX) {
            return Err(Refused::TooMany);
        }
        let mut texts = self.samples.values().flat_map(BTreeMap::values);
        let are_samples = texts.all(|text| Recent::decode(text).is_some());
        if !are_samples || !self.challenges.iter().all(Challenge::is_valid) {
            return Err(Refused::Value);
        }
        let needed = self.needs.iter().flat_map(|(name, of)| of.keys().chain([name]));
        let observed = self.samples.iter().flat_map(|(name, of)| of.keys().chain([name]));
        let names = self.clusters.keys().chain(self.services.keys()).chain(needed).chain(observed);
        if !is_instance(&self.by.instance)
            || !names.chain([&self.by.site]).all(|name| is_name(name))
        {
            return Err(Refused::Name);
        }
        let rows = self.clusters.values().flat_map(Row::write);
        let rows = rows.chain(self.services.values().flat_map(Row::write));
        let rows = rows.chain(self.needs.values().flat_map(BTreeMap::values).flat_map(Row::write));
        let valid = |number: f64| (0.0..=NUMBER_MAX).contains(&number);
        let shares = self.services.values().all(|row| row.spill <= 1.0);
        match rows.into_iter().all(valid)
            && shares
            && (1..=self.expected.max(1)).contains(&self.members)
        {
            true => Ok(()),
            false => Err(Refused::Value),
        }
    }

    /// The report for the other members of the site: clusters that are not idle. Distance and service time are left
    /// out, since proxies of one site measure them for themselves.
    #[must_use]
    pub fn for_members(&self) -> Report {
        let mut report = self.without_idle();
        for row in report.clusters.values_mut() {
            (row.distance, row.service) = (0.0, 0.0);
        }
        report
    }

    /// The report without clusters that are idle.
    #[must_use]
    pub fn without_idle(&self) -> Report {
        let mut report = self.clone();
        report.clusters.retain(|_, row| !row.is_idle());
        report
    }

    /// The report without identity, as sent on an open connection.
    #[must_use]
    pub fn unnamed(&self) -> Report {
        Report { by: Identity::default(), ..self.clone() }
    }

    /// Adds the report of another member of the site. Counts and rates are summed, the state is the worse one, and
    /// queue, distance and service time are means weighted by requests.
    pub fn add(&mut self, other: &Report) {
        self.members += 1;
        for (name, row) in &other.clusters {
            match self.clusters.get_mut(name) {
                Some(known) => known.add(row),
                None => {
                    self.clusters.insert(name.clone(), *row);
                }
            }
        }
        for (name, row) in &other.services {
            let known = self.services.entry(name.clone()).or_default();
            let demand = known.demand + row.demand;
            known.spill = mean(known.spill, known.demand, row.spill, row.demand);
            known.demand = demand;
            known.budget_left += row.budget_left;
        }
        for (service, clusters) in &other.needs {
            let known = self.needs.entry(service.clone()).or_default();
            for (cluster, need) in clusters {
                known.entry(cluster.clone()).or_default().add(*need);
            }
        }
    }
}

impl ClusterRow {
    /// Whether the cluster is up and has no traffic, so that it can be left out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let traffic = self.in_flight + self.requests_per_s + self.queue + self.usd_per_hour;
        self.state == State::Up && short(traffic) == 0.0
    }

    fn add(&mut self, other: &ClusterRow) {
        let (own, theirs) = (self.requests_per_s, other.requests_per_s);
        self.queue = mean(self.queue, own, other.queue, theirs);
        self.distance = mean_known(self.distance, own, other.distance, theirs);
        self.service = mean_known(self.service, own, other.service, theirs);
        self.in_flight += other.in_flight;
        self.requests_per_s += theirs;
        self.usd_per_hour += other.usd_per_hour;
        self.state = worse(self.state, other.state);
    }
}

/// The worse of two states: a cluster that one member cannot use is shown as unusable.
fn worse(a: State, b: State) -> State {
    let rank = |state: State| match state {
        State::Up => 0,
        State::Degraded => 1,
        State::Draining => 2,
        State::Down => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// The weighted mean of two numbers; the plain mean if both weights are 0.
fn mean(a: f64, weight_a: f64, b: f64, weight_b: f64) -> f64 {
    let all = weight_a + weight_b;
    if all > 0.0 { (a * weight_a + b * weight_b) / all } else { (a + b) / 2.0 }
}

/// As [`mean`], but 0 stands for unknown.
fn mean_known(a: f64, weight_a: f64, b: f64, weight_b: f64) -> f64 {
    match (a > 0.0, b > 0.0) {
        (true, true) => mean(a, weight_a, b, weight_b),
        (true, false) => a,
        (false, _) => b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = ClusterRow { in_flight: 12.0, requests_per_s: 340.5, ..ClusterRow::default() };
        let down = ClusterRow { state: State::Down, ..ClusterRow::default() };
        let service = ServiceRow { demand: 340.5, spill: 0.12, budget_left: 0.0 };
        Report {
            by: Identity {
                site: "idc-east".to_owned(),
                instance: "gw-1:9901".to_owned(),
                incarnation: 7,
            },
            sequence: 9,
            members: 1,
            expected: 1,
            leaving: false,
            clusters: [("idc".to_owned(), row), ("cloud".to_owned(), down)].into(),
            services: [("shop".to_owned(), service)].into(),
            ..Report::default()
        }
    }

    #[test]
    fn a_report_is_short_on_the_wire_and_comes_back_as_it_was() {
        let text = serde_json::to_string(&report()).unwrap();

        let expected = r#"{"s":"idc-east","n":7,"i":"gw-1:9901","q":9,"c":{"cloud":[2],"idc":[0,12,341]},"d":{"shop":[341,0.12]}}"#;
        assert_eq!(text, expected);
        let unnamed = serde_json::to_string(&report().unnamed()).unwrap();
        assert!(unnamed.starts_with(r#"{"q":9,"c":{"#), "{unnamed}");
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(back.clusters["idc"].requests_per_s, 341.0);
        assert_eq!((back.members, back.clusters["cloud"].state), (1, State::Down));
        assert_eq!(back.check(), Ok(()));
    }

    #[test]
    fn three_digits_count() {
        for (number, expected) in [
            (0.0, 0.0),
            (1e-9, 0.0),
            (0.001_234_5, 0.0),
            (0.123_4, 0.12),
            (1.236, 1.24),
            (1.0, 1.0),
            (99.96, 100.0),
            (123_456.0, 123_000.0),
            (f64::NAN, 0.0),
        ] {
            assert_eq!(short(number), expected, "{number}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_whole() {
        let change = |change: &dyn Fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            report.check()
        };
        let row = |number: f64| ClusterRow { in_flight: number, ..ClusterRow::default() };
        let cluster = |name: &str, number: f64| {
            change(&|report| {
                report.clusters.insert(name.to_owned(), row(number));
            })
        };
        assert_eq!(cluster("b", 1.0), Ok(()));
        for number in [f64::NAN, f64::INFINITY, -1.0, 1e13] {
            assert_eq!(cluster("b", number), Err(Refused::Value), "{number}");
        }
        for name in ["", "<b>", "a\u{1}b", &"x".repeat(129)] {
            assert_eq!(cluster(name, 1.0), Err(Refused::Name), "{name}");
        }
        assert_eq!(change(&|report| report.by.instance = "a b".to_owned()), Err(Refused::Name));
        assert_eq!(change(&|report| report.by.site.clear()), Err(Refused::Name));
        for (members, expected) in [(0, 1), (9, 3)] {
            let refused = change(&|report| (report.members, report.expected) = (members, expected));
            assert_eq!(refused, Err(Refused::Value));
        }
        let spill = ServiceRow { spill: 1.5, ..ServiceRow::default() };
        let refused = change(&|report| {
            report.services.insert("s".to_owned(), spill);
        });
        assert_eq!(refused, Err(Refused::Value));
        let many = change(&|report| {
            report.clusters = (0..=ROWS_MAX).map(|n| (format!("c{n}"), row(1.0))).collect();
        });
        assert_eq!(many, Err(Refused::TooMany));
    }

    #[test]
    fn challenges_travel_between_members_and_are_bounded() {
        let challenge = |key: &str| Challenge {
            domain: "shop.example".to_owned(),
            key_authorization: key.to_owned(),
        };
        let with = |challenges: Vec<Challenge>| Report { challenges, ..report() };
        let one = with(vec![challenge("a.b")]);
        let text = serde_json::to_string(&one.for_members()).unwrap();
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((&back.challenges, back.check()), (&one.challenges, Ok(())));
        assert_eq!(with(vec![challenge("a\r\n.b")]).check(), Err(Refused::Value));
        let many = vec![challenge("a.b"); CHALLENGES_MAX + 1];
        assert_eq!(with(many).check(), Err(Refused::TooMany));
    }

    #[test]
    fn samples_travel_between_members_and_are_checked() {
        let with = |service: &str, text: &str| Report {
            samples: [(service.to_owned(), [("idc".to_owned(), text.to_owned())].into())].into(),
            ..report()
        };
        let one = with("shop", "AAEAAAL3");
        let text = serde_json::to_string(&one.for_members()).unwrap();
        assert!(text.contains(r#""p":{"shop":{"idc":"AAEAAAL3"}}"#), "{text}");
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((&back.samples, back.check()), (&one.samples, Ok(())));
        assert_eq!(with("shop", "no").check(), Err(Refused::Value));
        assert_eq!(with("<b>", "AAEAAAL3").check(), Err(Refused::Name));
        let many = (0..=pool::PAIRS_MAX).map(|n| (format!("c{n}"), "AAEAAAL3".to_owned()));
        let many = many.collect();
        let many = Report { samples: [("shop".to_owned(), many)].into(), ..report() };
        assert_eq!(many.check(), Err(Refused::TooMany));
    }

    #[test]
    fn numbers_that_json_cannot_hold_are_no_report() {
        for row in ["[0,1e999]", "[0,NaN]", "[0,\"1\"]", "{}", "[[]]"] {
            let text = format!(r#"{{"s":"a","i":"b","n":1,"q":1,"c":{{"x":{row}}}}}"#);
            assert!(serde_json::from_str::<Report>(&text).is_err(), "{row}");
        }
    }

    #[test]
    fn a_site_is_the_sum_of_its_members() {
        let (mut site, mut other) = (report(), report());
        let row = ClusterRow {
            state: State::Degraded,
            in_flight: 3.0,
            requests_per_s: 681.0,
            queue: 0.003,
            distance: 0.010,
            ..ClusterRow::default()
        };
        other.clusters = [("idc".to_owned(), row), ("far".to_owned(), row)].into();
        other
            .services
            .insert("shop".to_owned(), ServiceRow { demand: 681.0, spill: 0.0, budget_left: 2.0 });

        site.add(&other);

        let idc = site.clusters["idc"];
        assert_eq!((idc.state, idc.in_flight, site.members), (State::Degraded, 15.0, 2));
        assert_eq!((idc.requests_per_s, idc.distance), (1_021.5, 0.010));
        assert!((idc.queue - 0.002).abs() < 1e-12, "two thirds of the requests wait 3 ms");
        let shop = site.services["shop"];
        assert!((shop.spill - 0.04).abs() < 1e-12 && shop.budget_left == 2.0, "{shop:?}");
        assert_eq!(site.clusters.len(), 3);
    }

    #[test]
    fn needs_are_checked_added_and_read_back() {
        let need = |endpoints| Need { endpoints, known_rps: 200.0, unknown_rps: 0.0 };
        let with = |cluster: &str, endpoints| Report {
            needs: [("shop".to_owned(), [(cluster.to_owned(), need(endpoints))].into())].into(),
            ..report()
        };
        let text = serde_json::to_string(&with("cloud", 2.5).unnamed()).unwrap();
        assert!(text.ends_with(r#""r":{"shop":{"cloud":[2.5,200]}}}"#), "{text}");
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(back.needs["shop"]["cloud"], need(2.5));
        for endpoints in [f64::NAN, -1.0, 1e13] {
            assert_eq!(with("cloud", endpoints).check(), Err(Refused::Value), "{endpoints}");
        }
        assert_eq!(with("<b>", 1.0).check(), Err(Refused::Name));
        let many = (0..=ROWS_MAX).map(|n| (format!("c{n}"), need(1.0))).collect();
        let many = Report { needs: [("shop".to_owned(), many)].into(), ..report() };
        assert_eq!(many.check(), Err(Refused::TooMany));

        let mut site = with("cloud", 2.5);
        site.add(&with("cloud", 1.5));
        site.add(&with("far", 1.0));

        assert_eq!(site.needs["shop"]["cloud"].endpoints, 4.0);
        assert_eq!(site.needs["shop"].len(), 2);
    }
}
