//! A cluster's report of its own load, and the bounds of accepted values.
//!
//! Two forms: `tidegate-load` of another Tidegate, and `endpoint-load-metrics` of ORCA (the Open
//! Request Cost Aggregation of the xDS ecosystem: named metrics as text or JSON). A report is
//! untrusted: a value that is not a finite number in its range is left out, and a report without
//! any value is dropped.
//!
//! # Units
//! Seconds and events a second as `f64`.

use super::plan::Reports;

/// The longest queue that is accepted, in seconds.
const QUEUE_MAX: f64 = 10.0;
/// The longest service time that is accepted, in seconds.
const SERVICE_MAX: f64 = 100.0;
/// The greatest count that is accepted.
const COUNT_MAX: f64 = 1e6;

/// A cluster's load as its edge reports it, over all of its traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Delay before service.
    pub queue: f64,
    /// Service time; 0 when not reported.
    pub service: f64,
    /// Exchanges in flight.
    pub in_flight: f64,
    /// Exchanges that the cluster serves at once, if reported.
    pub capacity: Option<f64>,
    /// Utilisation in `0.0..1.0`, if reported.
    pub utilisation: Option<f64>,
    /// Arrivals a second.
    pub arrivals: f64,
    /// Good answers a second.
    pub good: f64,
    /// The report's age when it was sent.
    pub age: f64,
}

/// The age above which a report is not used, in seconds: proxies that act on old reports herd.
const FRESH_MAX: f64 = 0.25;

impl Report {
    /// The report of the configured kind; `field` returns the value of a header field.
    #[must_use]
    pub fn from_headers<'a>(
        kind: Reports,
        field: impl Fn(&str) -> Option<&'a str>,
    ) -> Option<Report> {
        match kind {
            Reports::None => None,
            Reports::Orca => field("endpoint-load-metrics").and_then(Report::from_orca),
            Reports::Tidegate => field("tidegate-load").and_then(Report::from_tidegate),
        }
    }

    /// Reads `q=1200;s=20000;n=14;c=200;u=0.61;l=500;g=480`: microseconds, counts, a share, and rates;
    /// `a` is the age of a cached report in milliseconds. Unknown names and invalid values are left
    /// out; `None` when nothing is left.
    #[must_use]
    pub fn from_tidegate(text: &str) -> Option<Report> {
        let mut report = Report::default();
        let mut any = false;
        for (name, value) in text.split(';').take(16).filter_map(|part| part.split_once('=')) {
            let Some(value) = number(value) else { continue };
            any |= report.take(name.trim(), value);
        }
        any.then_some(report)
    }

    fn take(&mut self, name: &str, value: f64) -> bool {
        match name {
            "q" => self.queue = (value / 1e6).min(QUEUE_MAX),
            "s" => self.service = (value / 1e6).min(SERVICE_MAX),
            "n" => self.in_flight = value.min(COUNT_MAX),
            "c" if value > 0.0 => self.capacity = Some(value.clamp(1.0, COUNT_MAX)),
            "u" => self.utilisation = Some(value.min(1.0)),
            "l" => self.arrivals = value.min(COUNT_MAX),
            "g" => self.good = value.min(COUNT_MAX),
            "a" => self.age = value / 1e3,
            _ => return false,
        }
        true
    }

    /// Writes the form that [`from_tidegate`](Report::from_tidegate) reads.
    pub fn write_tidegate(&self, out: &mut String) {
        use std::fmt::Write;
        let micros = |seconds: f64| (seconds.clamp(0.0, SERVICE_MAX) * 1e6).round();
        let mut write = |name: &str, value: f64| {
            let separator = if out.is_empty() { "" } else { ";" };
            // Writing to a string cannot fail.
            write!(out, "{separator}{name}={value}").unwrap_or_default();
        };
        write("q", micros(self.queue.min(QUEUE_MAX)));
        write("s", micros(self.service));
        write("n", self.in_flight.clamp(0.0, COUNT_MAX).round());
        if let Some(capacity) = self.capacity {
            write("c", capacity.clamp(1.0, COUNT_MAX).round());
        }
        if let Some(utilisation) = self.utilisation {
            write("u", (utilisation.clamp(0.0, 1.0) * 1e3).round() / 1e3);
        }
        write("l", self.arrivals.clamp(0.0, COUNT_MAX).round());
        write("g", self.good.clamp(0.0, COUNT_MAX).round());
        if self.age > 0.0 {
            write("a", (self.age.min(3600.0) * 1e3).round());
        }
    }

    /// Reads ORCA's header: `TEXT cpu_utilization=0.3, rps_fractional=120` or `JSON {"...": 0.3}`.
    /// Application utilisation takes precedence over the processor's; `eps` is subtracted from the rate.
    #[must_use]
    pub fn from_orca(text: &str) -> Option<Report> {
        let text = text.trim();
        let (format, rest) = text.split_once(' ').unwrap_or(("TEXT", text));
        let mut values: [Option<f64>; 4] = [None; 4];
        let mut note = |name: &str, value: &str| {
            let names = ["application_utilization", "cpu_utilization", "rps_fractional", "eps"];
            let at = names.iter().position(|known| *known == name.trim().trim_matches('"'));
            if let (Some(at), Some(value)) = (at, number(value)) {
                values[at] = Some(value);
            }
        };
        let (pairs, between) = match format {
            "JSON" => (rest.trim().strip_prefix('{')?.strip_suffix('}')?, ':'),
            "TEXT" => (rest, '='),
            _ => (text.strip_prefix("TEXT").unwrap_or(text), '='),
        };
        for (name, value) in pairs.split(',').take(64).filter_map(|p| p.split_once(between)) {
            note(name, value);
        }
        let [application, processor, rate, errors] = values;
        let utilisation = application.filter(|value| *value > 0.0).or(processor);
        if utilisation.is_none() && rate.is_none() {
            return None;
        }
        let arrivals = rate.unwrap_or(0.0).min(COUNT_MAX);
        Some(Report {
            utilisation: utilisation.map(|value| value.min(1.0)),
            arrivals,
            good: (arrivals - errors.unwrap_or(0.0)).max(0.0),
            ..Report::default()
        })
    }

    /// The invariants of every parsed report, for tests and fuzzing.
    ///
    /// # Panics
    /// When an invariant is violated: a bug of this file.
    pub fn assert_in_range(&self) {
        let counts = [self.in_flight, self.arrivals, self.good];
        assert!(counts.iter().all(|count| (0.0..=COUNT_MAX).contains(count)), "{self:?}");
        assert!((0.0..=SERVICE_MAX).contains(&self.service) && self.age >= 0.0, "{self:?}");
        assert!(self.capacity.is_none_or(|c| (1.0..=COUNT_MAX).contains(&c)), "{self:?}");
        assert!(self.utilisation.is_none_or(|u| (0.0..=1.0).contains(&u)), "{self:?}");
        for service in [0.0, 0.02, SERVICE_MAX] {
            assert!((0.0..=QUEUE_MAX).contains(&self.queue_delay(service)), "{self:?}");
        }
        let mut written = String::new();
        self.write_tidegate(&mut written);
        assert!(!written.contains("NaN") && !written.contains("inf"), "{written}");
    }

    /// Whether the report states a queue; without a value for the queue, the queue is unknown, not 0.
    #[must_use]
    pub fn tells_queue(&self) -> bool {
        let tells = self.queue > 0.0 || self.capacity.is_some() || self.utilisation.is_some();
        tells && self.age <= FRESH_MAX
    }

    /// The queue delay, from the first value that the report has: the delay itself, the utilisation, or
    /// the number in flight. `service` is the proxy's estimate of the service time, used if none is
    /// reported.
    #[must_use]
    pub fn queue_delay(&self, service: f64) -> f64 {
        let service = if self.service > 0.0 { self.service } else { service };
        let by_count = self
            .capacity
            .map_or(0.0, |capacity| (self.in_flight - capacity).max(0.0) * service / capacity);
        let by_utilisation = self.utilisation.map_or(0.0, |u| waiting(u, self.capacity, service));
        let said = if self.queue > 0.0 { self.queue } else { by_count.max(by_utilisation) };
        said.clamp(0.0, QUEUE_MAX)
    }

    /// The mean queue delay implied by the reported arrivals, capacity and service time, in seconds.
    #[must_use]
    pub fn queue_due(&self) -> f64 {
        let Some(capacity) = self.capacity.filter(|capacity| *capacity > 0.0) else { return 0.0 };
        // Near full utilisation the formula diverges; a cluster that spills stays below it.
        let utilisation = (self.arrivals * self.service / capacity).min(0.95);
        waiting(utilisation, Some(capacity), self.service).clamp(0.0, QUEUE_MAX)
    }
}

/// Servers assumed behind a reported utilisation: a single server would already queue at a third of its
/// capacity.
const SERVERS_UNKNOWN: f64 = 32.0;

/// Mean wait at `utilisation` of this many servers (Sakasegawa 1977), in seconds.
fn waiting(utilisation: f64, servers: Option<f64>, service: f64) -> f64 {
    let servers = servers.unwrap_or(SERVERS_UNKNOWN);
    let utilisation = utilisation.clamp(0.0, 0.995);
    let power = (2.0 * (servers + 1.0)).sqrt() - 1.0;
    service * utilisation.powf(power) / (servers * (1.0 - utilisation))
}

/// A finite, non-negative number.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    if text.len() > 32 {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    #[test]
    fn encoding_and_decoding_are_inverse() {
        let text = "q=1200;s=20000;n=14;c=200;u=0.61;l=500;g=480";
        let report = Report::from_tidegate(text).unwrap();
        assert_eq!((report.queue, report.service, report.capacity), (0.0012, 0.02, Some(200.0)));
        let mut written = String::new();
        report.write_tidegate(&mut written);
        assert_eq!(written, text);
    }

    #[test]
    fn invalid_parts_are_skipped_and_accepted_values_are_in_range() {
        assert_eq!(Report::from_tidegate("q=NaN;s=inf;n=-3;c=0;hello"), None);
        assert_eq!(Report::from_tidegate(""), None);
        let huge = Report::from_tidegate("q=9e99;s=1e300;c=1e12;u=7").unwrap();
        assert_eq!((huge.queue, huge.capacity, huge.utilisation), (10.0, Some(1e6), Some(1.0)));
        let mut dice = Dice::seeded(3);
        for _ in 0..20_000 {
            let length = dice.below(40);
            let text: String = (0..length)
                .map(|_| char::from(b"qsnclug=;.-+eENai0123456789,: {}\"TX"[dice.below(35)]))
                .collect();
            for report in [Report::from_tidegate(&text), Report::from_orca(&text)] {
                report.iter().for_each(Report::assert_in_range);
            }
        }
    }

    #[test]
    fn orca_is_read_in_both_forms() {
        let text =
            Report::from_orca("TEXT cpu_utilization=0.3, rps_fractional=120.5,eps=2").unwrap();
        assert_eq!((text.utilisation, text.arrivals, text.good), (Some(0.3), 120.5, 118.5));
        let json = "JSON {\"cpu_utilization\": 0.3, \"application_utilization\": 0.7}";
        assert_eq!(Report::from_orca(json).unwrap().utilisation, Some(0.7));
        assert_eq!(Report::from_orca("TEXT named_metrics.x=1"), None);
        assert_eq!(Report::from_orca("BIN AAAA"), None);
    }
}
