//! The result of a simulation: a headline for each event, the figures before, during and after it, and over time.

use super::inputs::{Input, Source};
use crate::config::scenario::{Event, Scenario};
use crate::sim::outcome::{NOWHERE, Outcome};
use crate::sim::spec::Spec;
use serde::Serialize;
use std::fmt::Write as _;

/// The whole result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Forecast {
    /// The simulated service.
    pub(super) service: String,
    /// The scenario as it was named.
    pub(super) scenario: String,
    /// The seed of all random draws.
    pub(super) seed: u64,
    /// The duration in virtual seconds.
    pub(super) seconds: f64,
    /// One sentence for each event.
    pub(super) headlines: Vec<String>,
    /// The inputs.
    pub(super) inputs: Vec<Input>,
    /// Before the first event, during each, and after the last.
    pub(super) phases: Vec<Phase>,
    /// The whole time.
    pub(super) total: Phase,
    /// Dollars of the whole time.
    pub(super) usd: f64,
    /// Second by second.
    pub(super) over_time: Vec<Phase>,
}

/// The figures of a span of time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Phase {
    /// Its name.
    pub(super) name: String,
    /// Its beginning and end, in seconds.
    pub(super) from_s: f64,
    /// As `from_s`.
    pub(super) until_s: f64,
    /// Requests a second.
    pub(super) requests_per_s: f64,
    /// The share of each cluster in the requests that were sent, 0 to 1.
    pub(super) shares: Vec<Share>,
    /// Of the requests that succeeded.
    pub(super) mean_ms: Option<f64>,
    /// As `mean_ms`.
    pub(super) p50_ms: Option<f64>,
    /// As `mean_ms`.
    pub(super) p99_ms: Option<f64>,
    /// Requests that did not succeed.
    pub(super) errors: usize,
    /// The price of the requests that were served.
    pub(super) usd_per_hour: f64,
}

/// A cluster's share.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Share {
    /// The cluster's name.
    pub(super) cluster: String,
    /// From 0 to 1.
    pub(super) ratio: f64,
}

/// An event in words.
pub(super) fn words(event: &Event) -> String {
    match event {
        Event::Outage(cluster) => format!("an outage of {cluster}"),
        Event::Demand(factor) => format!("{factor} times the demand"),
        Event::Overload(factor) => format!("{factor} times the capacity of the nearest cluster"),
        Event::Slow(cluster, factor) => format!("{cluster} {factor} times slower"),
        Event::Wan(cluster, ms) => format!("{ms} ms more to {cluster}"),
    }
}

/// The spans of the scenario's events with their names, in the order of their beginnings.
pub(super) fn spans(scenario: &Scenario) -> Vec<(f64, f64, String)> {
    let mut spans: Vec<_> =
        scenario.steps.iter().map(|step| (step.at, step.until, words(&step.event))).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    spans
}

/// The figures of one span.
pub(super) fn phase(spec: &Spec, outcome: &Outcome, name: &str, span: (f64, f64)) -> Phase {
    let (from, until) = span;
    let within = |at: f32| (from..until).contains(&f64::from(at));
    let (mut counts, mut usd, mut errors) = (vec![0.0; spec.places.len()], 0.0, 0);
    for record in outcome.records.iter().filter(|record| within(record.at)) {
        errors += usize::from(!record.ok);
        if record.place == NOWHERE {
            continue;
        }
        let place = usize::from(record.place);
        counts[place] += 1.0;
        usd += spec.places[place].usd_per_request;
    }
    let (all, length): (f64, f64) = (counts.iter().sum(), (until - from).max(1e-9));
    let summary = outcome.between(from, until);
    let served = |ms: f64| (summary.good > 0.0).then_some(ms);
    let share = |(place, count): (&crate::sim::spec::PlaceSpec, &f64)| Share {
        cluster: place.name.clone(),
        ratio: if all > 0.0 { count / all } else { 0.0 },
    };
    Phase {
        name: name.to_owned(),
        from_s: from,
        until_s: until,
        requests_per_s: summary.count as f64 / length,
        shares: spec.places.iter().zip(&counts).map(share).collect(),
        mean_ms: served(summary.mean),
        p50_ms: served(summary.p50),
        p99_ms: served(summary.p99),
        errors,
        usd_per_hour: usd / length * 3600.0,
    }
}

/// The phases of a scenario: before the first event, each event, and after the last.
pub(super) fn phases(spec: &Spec, scenario: &Scenario, outcome: &Outcome) -> Vec<Phase> {
    let spans = spans(scenario);
    let first = spans.first().map_or(spec.seconds, |span| span.0);
    let last = spans.iter().map(|span| span.1).fold(0.0, f64::max);
    let mut all = Vec::new();
    if first > spec.measured_from {
        all.push(phase(spec, outcome, "before", (spec.measured_from, first)));
    }
    for (from, until, name) in &spans {
        all.push(phase(spec, outcome, name, (*from, *until)));
    }
    if !spans.is_empty() && spec.seconds - last >= 1.0 {
        all.push(phase(spec, outcome, "after", (last, spec.seconds)));
    }
    all
}

/// One sentence for each event: what moves, how slow, what it costs, and what is lost.
pub(super) fn headlines(phases: &[Phase]) -> Vec<String> {
    let before = phases.iter().find(|phase| phase.name == "before");
    let events = phases.iter().filter(|phase| phase.name != "before" && phase.name != "after");
    events.map(|event| headline(before, event)).collect()
}

fn headline(before: Option<&Phase>, event: &Phase) -> String {
    let was = |cluster: &str| {
        let of = |phase: &Phase| {
            phase.shares.iter().find(|share| share.cluster == cluster).map(|share| share.ratio)
        };
        before.and_then(of).unwrap_or(0.0)
    };
    let mut gained: Vec<&Share> =
        event.shares.iter().filter(|share| share.ratio - was(&share.cluster) >= 0.01).collect();
    gained.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    let moved: Vec<String> = gained
        .iter()
        .take(2)
        .map(|share| format!("{:.0} % to {}", share.ratio * 100.0, share.cluster))
        .collect();
    let moved = if moved.is_empty() { "no traffic moves".to_owned() } else { moved.join(", ") };
    let ms = |figure: Option<f64>| figure.map(|ms| format!("{ms:.0}"));
    let p99 = match (before.and_then(|phase| ms(phase.p99_ms)), ms(event.p99_ms)) {
        (Some(before), Some(during)) => format!("p99 {before} → {during} ms"),
        (None, Some(during)) => format!("p99 {during} ms"),
        (_, None) => "nothing is served".to_owned(),
    };
    let errors = match event.errors {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    format!("{}: {moved}, {p99}, ${:.2}/h, {errors}", event.name, event.usd_per_hour)
}

impl Forecast {
    /// The result for a terminal.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.headlines.iter().for_each(|line| put(&mut out, format_args!("{line}\n")));
        out.push('\n');
        out.push_str(&table(&self.phases));
        put(
            &mut out,
            format_args!(
                "\n{:.0} requests in {:.0} s, {} errors, ${:.4} (seed {})\n",
                self.total.requests_per_s * self.seconds,
                self.seconds,
                self.total.errors,
                self.usd,
                self.seed
            ),
        );
        for source in Source::ALL {
            let own: Vec<&Input> = self.inputs.iter().filter(|one| one.source == source).collect();
            if !own.is_empty() {
                put(&mut out, format_args!("\n{}:\n", source.label()));
                own.iter().for_each(|input| put(&mut out, format_args!("  {}\n", input.text)));
            }
        }
        out.push_str("\nover time:\n");
        let width = (self.over_time.len() / 12).max(1);
        out.push_str(&over_time(&self.over_time, width));
        out
    }

    /// Second by second, as CSV.
    pub(super) fn csv(&self) -> String {
        let shares = self.over_time.first().map(|row| row.shares.as_slice()).unwrap_or_default();
        let names: Vec<String> =
            shares.iter().map(|share| format!("share_{}", share.cluster)).collect();
        let mut text =
            format!("second,requests_per_s,{},mean_ms,p99_ms,bad,usd_per_h\n", names.join(","));
        for row in &self.over_time {
            let shares: Vec<String> =
                row.shares.iter().map(|share| format!("{:.4}", share.ratio)).collect();
            let bad =
                row.errors as f64 / (row.requests_per_s * (row.until_s - row.from_s)).max(1.0);
            put(
                &mut text,
                format_args!(
                    "{:.0},{:.1},{},{:.2},{:.2},{bad:.5},{:.4}\n",
                    row.from_s,
                    row.requests_per_s,
                    shares.join(","),
                    row.mean_ms.unwrap_or(0.0),
                    row.p99_ms.unwrap_or(0.0),
                    row.usd_per_hour
                ),
            );
        }
        text
    }
}

/// The phases side by side.
fn table(phases: &[Phase]) -> String {
    let wide = |phase: &Phase| phase.name.chars().count().max(12);
    let mut out = format!("{:16}", "");
    phases.iter().for_each(|phase| {
        put(&mut out, format_args!("  {:>width$}", phase.name, width = wide(phase)));
    });
    out.push('\n');
    let ms = |figure: Option<f64>| figure.map_or("–".to_owned(), |ms| format!("{ms:.1}"));
    let mut row = |name: &str, figure: &dyn Fn(&Phase) -> String| {
        put(&mut out, format_args!("{name:16}"));
        for phase in phases {
            put(&mut out, format_args!("  {:>width$}", figure(phase), width = wide(phase)));
        }
        out.push('\n');
    };
    row("seconds", &|phase| format!("{:.0}–{:.0}", phase.from_s, phase.until_s));
    row("requests/s", &|phase| format!("{:.0}", phase.requests_per_s));
    let shares = phases.first().map(|phase| phase.shares.as_slice()).unwrap_or_default();
    for (index, share) in shares.iter().enumerate() {
        let ratio = |phase: &Phase| phase.shares.get(index).map_or(0.0, |share| share.ratio);
        row(&share.cluster, &|phase| format!("{:.1} %", ratio(phase) * 100.0));
    }
    row("mean ms", &|phase| ms(phase.mean_ms));
    row("p99 ms", &|phase| ms(phase.p99_ms));
    row("errors", &|phase| phase.errors.to_string());
    row("$/h", &|phase| format!("{:.2}", phase.usd_per_hour));
    out
}

/// Every `width`-th second.
fn over_time(rows: &[Phase], width: usize) -> String {
    let mut text = format!("  {:>6} {:>10}", "second", "requests/s");
    let shares = rows.first().map(|row| row.shares.as_slice()).unwrap_or_default();
    shares.iter().for_each(|share| put(&mut text, format_args!(" {:>12}", share.cluster)));
    put(
        &mut text,
        format_args!(" {:>9} {:>9} {:>7} {:>9}\n", "mean ms", "p99 ms", "errors", "$/h"),
    );
    for row in rows.iter().step_by(width) {
        put(&mut text, format_args!("  {:>6.0} {:>10.0}", row.from_s, row.requests_per_s));
        for share in &row.shares {
            put(&mut text, format_args!(" {:>10.1} %", share.ratio * 100.0));
        }
        let (mean, p99) = (row.mean_ms.unwrap_or(0.0), row.p99_ms.unwrap_or(0.0));
        let (errors, usd) = (row.errors, row.usd_per_hour);
        put(&mut text, format_args!(" {mean:>9.1} {p99:>9.1} {errors:>7} {usd:>9.2}\n"));
    }
    text
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    out.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, ratios: [f64; 3], p99: Option<f64>, usd: f64, errors: usize) -> Phase {
        let share = |(cluster, ratio): (&str, f64)| Share { cluster: cluster.to_owned(), ratio };
        Phase {
            name: name.to_owned(),
            from_s: 0.0,
            until_s: 10.0,
            requests_per_s: 100.0,
            shares: ["idc", "near", "far"].into_iter().zip(ratios).map(share).collect(),
            mean_ms: p99,
            p50_ms: p99,
            p99_ms: p99,
            errors,
            usd_per_hour: usd,
        }
    }

    #[test]
    fn a_headline_tells_what_moves_how_slow_what_it_costs_and_what_is_lost() {
        let before = named("before", [1.0, 0.0, 0.0], Some(47.2), 0.0, 0);
        let outage = named("an outage of idc", [0.0, 0.75, 0.25], Some(91.6), 3.1, 0);
        let flash = named("10 times the demand", [1.0, 0.0, 0.0], None, 0.0, 1);
        assert_eq!(
            headlines(&[before, outage.clone(), flash]),
            [
                "an outage of idc: 75 % to near, 25 % to far, p99 47 → 92 ms, $3.10/h, 0 errors",
                "10 times the demand: no traffic moves, nothing is served, $0.00/h, 1 error"
            ]
        );
        let alone = headlines(&[outage]);
        assert!(alone[0].contains("p99 92 ms"), "without a time before: {alone:?}");
    }

    #[test]
    fn events_are_named_in_the_order_of_their_beginnings() {
        let text = "steps:\n- { from: 20s, until: 30s, event: \"slow:idc:3x\" }\n\
                    - { from: 5s, until: 9s, event: \"wan:idc:+80ms\" }\n";
        let spans = spans(&Scenario::from_text(text).unwrap());
        assert_eq!(spans[0], (5.0, 9.0, "80 ms more to idc".to_owned()));
        assert_eq!(spans[1], (20.0, 30.0, "idc 3 times slower".to_owned()));
    }
}
