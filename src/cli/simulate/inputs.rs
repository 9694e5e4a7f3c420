//! The inputs of a simulation, each with its source: measured by the running proxy, configured, given, or assumed.
//!
//! An operator who doubts a result begins here: what was assumed, and how to replace the assumption.

use super::known::{Known, KnownCluster};
use crate::config::scenario::Scenario;
use crate::decision::capacity_group::CapacityGroup;
use crate::decision::plan::{Cluster, Kind};
use serde::Serialize;

/// Requests a second, if no argument gives a rate.
const RATE: f64 = 200.0;
/// The mean service time in seconds, if it was not measured.
const SERVICE: f64 = 0.020;
/// The size of a response in bytes, for prices, if it was not measured.
const RESPONSE_BYTES: f64 = 20_000.0;
/// The load of the nearest cluster at the usual rate, if its capacity is unknown.
const USUAL_LOAD: f64 = 0.7;
/// The 99th percentile of a normal distribution, in standard deviations above the median.
const TO_P99: f64 = 2.326;

/// Where an input comes from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    /// By an argument or the scenario's file.
    Given,
    /// By the running proxy.
    Measured,
    /// By the configuration.
    Configured,
    /// By no one.
    Assumed,
}

impl Source {
    /// All, in the order of the output.
    pub(super) const ALL: [Source; 4] =
        [Source::Given, Source::Measured, Source::Configured, Source::Assumed];

    /// The heading of its inputs.
    pub(super) fn label(self) -> &'static str {
        match self {
            Source::Given => "given",
            Source::Measured => "measured by the running proxy",
            Source::Configured => "configured",
            Source::Assumed => "assumed",
        }
    }
}

/// An input.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Input {
    /// Its name, with its unit.
    pub(super) name: &'static str,
    /// The cluster that it describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<String>,
    /// Its value, if it is a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<f64>,
    /// Where it comes from.
    pub(super) source: Source,
    /// The same in words.
    pub(super) text: String,
}

/// All inputs of a simulation.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs {
    /// In the order in which they were needed.
    pub(super) list: Vec<Input>,
}

/// The inputs of a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// The round trip, in milliseconds.
    pub(super) distance_ms: f64,
    /// The mean service time, in seconds.
    pub(super) service: f64,
    /// Exchanges that it serves at once.
    pub(super) servers: usize,
    /// Its endpoints.
    pub(super) endpoints: usize,
    /// Bytes of a response.
    pub(super) bytes: f64,
    /// The dial in percent.
    pub(super) dial: u8,
    /// Whether it is down at the beginning.
    pub(super) is_down: bool,
}

/// The load of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Requests a second.
    pub(super) rate: f64,
    /// The mean service time of the quickest cluster, in seconds.
    pub(super) service: f64,
    /// The deviation of the logarithm of service times; `None`: exponential.
    pub(super) spread: Option<f64>,
}

impl Inputs {
    fn add(&mut self, name: &'static str, value: f64, source: Source, text: String) {
        self.list.push(Input { name, cluster: None, value: Some(value), source, text });
    }

    fn of(
        &mut self,
        cluster: &str,
        (name, value): (&'static str, f64),
        source: Source,
        text: String,
    ) {
        let text = format!("`{cluster}` {text}");
        let cluster = Some(cluster.to_owned());
        self.list.push(Input { name, cluster, value: Some(value), source, text });
    }

    /// Lists an assumption that has no number.
    pub(super) fn assume(&mut self, name: &'static str, text: &str) {
        let (cluster, value, source) = (None, None, Source::Assumed);
        self.list.push(Input { name, cluster, value, source, text: text.to_owned() });
    }

    /// The load of the service.
    pub(super) fn load(
        &mut self,
        given: Option<f64>,
        scenario: &Scenario,
        known: &Known,
        clusters: &[&Cluster],
    ) -> Load {
        let rate = match (given.or(scenario.rate), known.rate) {
            (Some(rate), _) => (rate, Source::Given, format!("{rate:.0} requests/s")),
            (None, Some(rate)) => (rate, Source::Measured, format!("{rate:.0} requests/s")),
            (None, None) => {
                let how = "--rate, or --admin of a proxy with traffic";
                (RATE, Source::Assumed, format!("{RATE} requests/s ({how})"))
            }
        };
        self.add("requests_per_s", rate.0, rate.1, rate.2);
        let of = |cluster: &&&Cluster| known.clusters.get(&cluster.name)?.service_ms;
        let least = clusters.iter().filter_map(|cluster| of(&cluster)).reduce(f64::min);
        let (service, source) = match (scenario.service_time, least) {
            (Some(seconds), _) => (seconds, Source::Given),
            (None, Some(ms)) => (ms / 1e3, Source::Measured),
            (None, None) => (SERVICE, Source::Assumed),
        };
        let text = format!("a mean service time of {} ms", short(service * 1e3));
        self.add("service_ms", service * 1e3, source, text);
        let spread = known.quantiles.filter(|_| scenario.service_time.is_none());
        let spread = spread.map(|(p50, p99)| ((p99 / p50).max(1.0).ln() / TO_P99).clamp(0.02, 1.5));
        match (spread, known.quantiles) {
            (Some(spread), Some((p50, p99))) => {
                let (p50, p99) = (short(p50), short(p99));
                let text = format!(
                    "lognormal service times, as wide as the responses are now (median {p50} ms, p99 {p99} ms)"
                );
                self.add("service_spread", spread, Source::Measured, text);
            }
            _ => self.assume("service_spread", "exponential service times"),
        }
        Load { rate: rate.0, service, spread }
    }

    /// The inputs of a cluster; `number` counts the clouds up to it, from 1.
    pub(super) fn site(
        &mut self,
        cluster: &Cluster,
        number: usize,
        known: &Known,
        load: Load,
        scenario: &Scenario,
    ) -> Site {
        let (name, nothing) = (cluster.name.as_str(), KnownCluster::default());
        let of = known.clusters.get(name).unwrap_or(&nothing);
        let (distance_ms, source) = match of.distance_ms {
            Some(ms) => (ms, Source::Measured),
            None if cluster.kind == Kind::Idc => (1.0, Source::Assumed),
            None => (40.0 * number.max(1) as f64 - 10.0, Source::Assumed),
        };
        let text = format!("is {} ms away", short(distance_ms));
        self.of(name, ("distance_ms", distance_ms), source, text);
        let service = match (scenario.service_time, of.service_ms) {
            (None, Some(ms)) => ms / 1e3,
            _ => load.service,
        };
        if (service - load.service).abs() > 1e-6 {
            let text = format!("serves a request in {} ms", short(service * 1e3));
            self.of(name, ("service_ms", service * 1e3), Source::Measured, text);
        }
        let endpoints = of
            .endpoints
            .unwrap_or_else(|| cluster.source.stated_count().map_or(2, |count| count.max(1)));
        let servers = self.servers(cluster, of, Load { service, ..load });
        let dial = of.dial.unwrap_or(cluster.dial);
        if dial != 100 {
            let source = if of.dial.is_some() { Source::Measured } else { Source::Configured };
            self.of(
                name,
                ("dial_percent", f64::from(dial)),
                source,
                format!("has a dial of {dial} %"),
            );
        }
        if of.is_down {
            self.of(name, ("is_down", 1.0), Source::Measured, "is down".to_owned());
        }
        let bytes = self.price(cluster, of, known);
        Site { distance_ms, service, servers, endpoints, bytes, dial, is_down: of.is_down }
    }

    /// The exchanges that a cluster serves at once.
    fn servers(&mut self, cluster: &Cluster, of: &KnownCluster, load: Load) -> usize {
        let home = (load.rate * load.service / USUAL_LOAD).ceil().max(1.0);
        let configured = cluster.ceiling.or(cluster.capacity).map(f64::from);
        let (servers, source, how) = match (configured, of.concurrent) {
            (Some(stated), _) => (stated, Source::Configured, ""),
            (None, Some(learned)) => {
                (learned.round(), Source::Measured, " (as it did when it was full)")
            }
            (None, None) => {
                let servers = if cluster.kind == Kind::Idc { home } else { 4.0 * home };
                (servers, Source::Assumed, " (set capacity.concurrent to change this)")
            }
        };
        let servers = servers.max(1.0);
        let text = format!("serves {servers:.0} exchanges at once{how}");
        self.of(&cluster.name, ("concurrent", servers), source, text);
        servers as usize
    }

    /// The price of a request to a cluster, and the size of a response behind the price.
    fn price(&mut self, cluster: &Cluster, of: &KnownCluster, known: &Known) -> f64 {
        let (name, prices) = (cluster.name.as_str(), cluster.prices);
        let elsewhere: Vec<f64> = known.clusters.values().filter_map(|of| of.bytes).collect();
        let mean = elsewhere.iter().sum::<f64>() / (elsewhere.len() as f64).max(1.0);
        let (bytes, source, how) = match of.bytes {
            Some(bytes) => (bytes, Source::Measured, ""),
            None if mean > 0.0 => (mean, Source::Assumed, ", as at the other clusters"),
            None => (RESPONSE_BYTES, Source::Assumed, ""),
        };
        // A line with a rate limits the bytes of all responses.
        if prices.per_gib > 0.0 || cluster.group.is_some() {
            let text = format!("answers with {bytes:.0} bytes{how}");
            self.of(name, ("response_bytes", bytes), source, text);
        }
        let each = prices.dollars(bytes);
        if each > 0.0 {
            let (gib, million) = (prices.per_gib, prices.per_million_requests);
            let text = format!(
                "costs ${gib} a GiB and ${million} a million requests: ${:.2} a million requests",
                each * 1e6
            );
            self.of(name, ("usd_per_request", each), Source::Configured, text);
        }
        bytes
    }

    /// The limits of a line; returns its name.
    pub(super) fn line<'a>(&mut self, group: &'a CapacityGroup) -> &'a str {
        let name = group.name.as_str();
        if let Some(most) = group.concurrent {
            let text = format!("the line {name} carries {most} exchanges at once");
            self.add("line_concurrent", f64::from(most), Source::Configured, text);
        }
        if let Some(rate) = group.whole().mbit_per_s() {
            let text = format!("the line {name} carries {} Mbit/s", short(rate));
            self.add("line_mbit_per_s", rate, Source::Configured, text);
        }
        name
    }

    /// The balance of the service's budget at the beginning.
    pub(super) fn balance(&mut self, usd_per_hour: f64, full: f64, known: Option<f64>) -> f64 {
        let (left, source) = match known {
            Some(left) => (left, Source::Measured),
            None => (full, Source::Assumed),
        };
        self.add("budget_left_usd", left, source, format!("${left:.4} left of the budget"));
        let text = format!("a budget of ${usd_per_hour} an hour");
        self.add("budget_usd_per_hour", usd_per_hour, Source::Configured, text);
        left
    }
}

/// A figure with three digits.
pub(super) fn short(figure: f64) -> String {
    let decimals = match figure.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.0995 => 2,
        _ => 3,
    };
    let text = format!("{figure:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::price::Prices;

    #[test]
    fn a_figure_is_short_and_not_rounded_away() {
        let texts = [0.0, 0.012, 0.25, 1.0, 20.04, 347.6].map(short);
        assert_eq!(texts, ["0", "0.012", "0.25", "1", "20", "348"]);
    }

    #[test]
    fn each_input_behind_a_dollar_is_listed_with_its_source() {
        let prices = Prices { per_gib: 1.0, per_million_requests: 100.0 };
        let cluster = Cluster { prices, kind: Kind::Cloud, ..Cluster::named("near") };
        let scenario = Scenario::from_word("outage:idc").unwrap();
        let load = Load { rate: 100.0, service: 0.02, spread: None };
        let sources = |known: &Known| {
            let mut inputs = Inputs::default();
            let site = inputs.site(&cluster, 1, known, load, &scenario);
            let source = |name| inputs.list.iter().find(|input| input.name == name).unwrap().source;
            let each = inputs.list.iter().find(|input| input.name == "usd_per_request").unwrap();
            assert!((each.value.unwrap() - prices.dollars(site.bytes)).abs() < 1e-15);
            (site.bytes, [source("distance_ms"), source("concurrent"), source("response_bytes")])
        };
        assert_eq!(sources(&Known::default()), (RESPONSE_BYTES, [Source::Assumed; 3]));
        let near = KnownCluster {
            distance_ms: Some(31.0),
            concurrent: Some(7.0),
            bytes: Some(512.0),
            ..KnownCluster::default()
        };
        let idc = KnownCluster { bytes: Some(1_000.0), ..KnownCluster::default() };
        let mut known = Known::default();
        known.clusters.insert("idc".to_owned(), idc);
        assert_eq!(sources(&known).0, 1_000.0, "the size elsewhere is better than none");
        known.clusters.insert("near".to_owned(), near);
        assert_eq!(sources(&known), (512.0, [Source::Measured; 3]));
    }
}
