//! Results: figures of the ordinary requests of a scenario, gates, and the tables of all scenarios.

use super::client::Outcome;
use super::load::Sample;
use super::proxies::{Kind, USD_PER_MILLION};
use std::fmt::Write;
use std::time::Duration;

/// Unit of a figure, for how it is shown.
#[derive(Clone, Copy)]
enum Unit {
    Share,
    Count,
    Seconds,
    Replicas,
}

impl Unit {
    fn show(self, figure: f64) -> String {
        // The sum of no values is -0; this makes it 0.
        let figure = figure + 0.0;
        match self {
            Unit::Share => format!("{:.1} %", figure * 100.0),
            Unit::Count => format!("{figure:.0}"),
            Unit::Seconds if figure.is_finite() => format!("{figure:.2} s"),
            Unit::Seconds => "never".to_owned(),
            Unit::Replicas => format!("{figure:.1}"),
        }
    }
}

/// A figure without its bound.
pub struct Figure {
    what: &'static str,
    value: f64,
    unit: Unit,
}

impl Figure {
    /// A fraction of 1.
    pub fn share(what: &'static str, value: f64) -> Figure {
        Figure { what, value, unit: Unit::Share }
    }

    pub fn count(what: &'static str, value: f64) -> Figure {
        Figure { what, value, unit: Unit::Count }
    }

    /// Infinity is `never`.
    pub fn seconds(what: &'static str, value: f64) -> Figure {
        Figure { what, value, unit: Unit::Seconds }
    }

    pub fn replicas(what: &'static str, value: f64) -> Figure {
        Figure { what, value, unit: Unit::Replicas }
    }

    pub fn at_most(self, most: f64) -> Gate {
        let bound = format!("≤ {}", self.unit.show(most));
        let met = self.value <= most;
        self.gate(bound, met)
    }

    pub fn at_least(self, least: f64) -> Gate {
        let bound = format!("≥ {}", self.unit.show(least));
        let met = self.value >= least;
        self.gate(bound, met)
    }

    pub fn within(self, least: f64, most: f64) -> Gate {
        let bound = format!("{} to {}", self.unit.show(least), self.unit.show(most));
        let met = (least..=most).contains(&self.value);
        self.gate(bound, met)
    }

    fn gate(self, bound: String, met: bool) -> Gate {
        Gate { what: self.what, figure: Some(self.unit.show(self.value)), bound, met }
    }
}

/// A figure with its bound.
pub struct Gate {
    pub what: &'static str,
    /// The printed figure; `None` if this proxy exports no such figure.
    figure: Option<String>,
    bound: String,
    pub met: bool,
}

impl Gate {
    /// The same gate for a proxy that exports no such figure.
    pub fn only_of(self, kind: Kind, whose: Kind) -> Gate {
        match kind == whose {
            true => self,
            false => Gate { figure: None, ..self },
        }
    }
}

/// Requests of one load that were due within some span.
#[derive(Clone, Copy)]
pub struct Answers<'a>(pub &'a [Sample]);

impl<'a> Answers<'a> {
    /// The requests due between two moments, in seconds since the start of the load.
    pub fn between(self, from: f64, until: f64) -> Answers<'a> {
        let at = |seconds: f64| {
            self.0.partition_point(|sample| sample.due < Duration::from_secs_f64(seconds))
        };
        Answers(&self.0[at(from)..at(until)])
    }

    fn count(self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.0.iter().filter(|sample| wanted(&sample.outcome)).count()
    }

    /// Requests that no endpoint answered, for any reason.
    pub fn lost(self) -> f64 {
        self.count(|outcome| !matches!(outcome, Outcome::Served(_))) as f64
    }

    pub fn refused(self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Refused(_)))
    }

    pub fn failed(self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// The fraction of served requests that endpoints whose names start with `name` served; 0 without any.
    pub fn share(self, name: &str) -> f64 {
        let served = self.count(|outcome| matches!(outcome, Outcome::Served(_)));
        let by = self.0.iter().filter(|sample| sample.is_served_by(name)).count();
        by as f64 / served.max(1) as f64
    }

    /// The fraction of served requests that the IDC did not serve.
    pub fn cloud(self) -> f64 {
        let served = self.count(|outcome| matches!(outcome, Outcome::Served(_)));
        match served {
            0 => 0.0,
            _ => 1.0 - self.share("idc"),
        }
    }

    /// The greatest share of the clouds in any `span` seconds, from second to second.
    pub fn worst_cloud(self, span: f64) -> f64 {
        let (first, last) = (self.begin().floor(), self.end());
        let windows = (last - first - span).max(0.0) as usize;
        let shares = (0..=windows).map(|n| {
            let from = first + n as f64;
            self.between(from, from + span).cloud()
        });
        shares.fold(0.0, f64::max)
    }

    fn begin(self) -> f64 {
        self.0.first().map_or(0.0, |sample| sample.due.as_secs_f64())
    }

    fn end(self) -> f64 {
        self.0.last().map_or(0.0, |sample| sample.due.as_secs_f64())
    }

    /// The latency that the given part of the served requests did not exceed, in seconds.
    pub fn quantile(self, part: f64) -> f64 {
        let served = |sample: &&Sample| matches!(sample.outcome, Outcome::Served(_));
        let mut all: Vec<f64> =
            self.0.iter().filter(served).map(|sample| sample.took.as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        let last = all.len().saturating_sub(1);
        all.get(((all.len() as f64 * part) as usize).min(last)).copied().unwrap_or(f64::INFINITY)
    }

    /// The longest of all, served or not, in seconds.
    pub fn slowest(self) -> f64 {
        self.0.iter().map(|sample| sample.took.as_secs_f64()).fold(0.0, f64::max)
    }

    /// Dollars an hour for the clouds, at the rate of this span.
    fn usd_per_hour(self) -> f64 {
        let cloud =
            self.count(|by| matches!(by, Outcome::Served(name) if !name.starts_with("idc")));
        let hours = (self.end() - self.begin()).max(1.0) / 3_600.0;
        cloud as f64 * USD_PER_MILLION / 1e6 / hours
    }

    /// The count of each refusal and failure, the frequent ones first.
    fn reasons(self) -> String {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for sample in self.0 {
            if let Outcome::Refused(why) | Outcome::Failed(why) = &sample.outcome {
                *counts.entry(why).or_default() += 1;
            }
        }
        let causes: Vec<String> = counts.iter().map(|(why, n)| format!("{n}x {why}")).collect();
        causes.join(", ")
    }
}

/// The result of one scenario with one proxy.
pub struct Played {
    pub scenario: &'static str,
    pub kind: Kind,
    /// The row of the first table.
    pub row: String,
    pub gates: Vec<Gate>,
    /// Refusals and failures by reason, for the terminal.
    pub reasons: String,
}

impl Played {
    /// The results of the other clients' requests in the measured span; `endpoints` in the order of the row's shares.
    pub fn of(
        (scenario, kind): (&'static str, Kind),
        answers: Answers<'_>,
        endpoints: &[String],
        gates: Vec<Gate>,
    ) -> Played {
        let shares: Vec<String> =
            endpoints.iter().map(|name| format!("{:.0}", answers.share(name) * 100.0)).collect();
        let row = format!(
            "| {scenario} | {} | {:.1} % | {} | {} | {} | {} | {} | {:.2} |",
            kind.name(),
            answers.cloud() * 100.0,
            shares.join(":"),
            millis(answers.quantile(0.5)),
            millis(answers.quantile(0.99)),
            answers.failed(),
            answers.refused(),
            answers.usd_per_hour(),
        );
        Played { scenario, kind, row, gates, reasons: answers.reasons() }
    }
}

fn millis(seconds: f64) -> String {
    match seconds.is_finite() {
        true => format!("{:.0}", seconds * 1_000.0),
        false => "-".to_owned(),
    }
}

/// Both tables, as Markdown: the figures of every proxy, and Tidegate's gates with the same figures of the others.
pub fn tables(all: &[Played]) -> String {
    let mut text = String::from(
        "| scenario | proxy | to the cloud | share per endpoint, % | p50 ms | p99 ms | errors | refused | $/h |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for played in all {
        writeln!(text, "{}", played.row).unwrap();
    }
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| all.iter().any(|played| played.kind == *kind))
        .collect();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    write!(
        text,
        "\n| scenario | gate | bound | {} | |\n|---|---|---|{}---|\n",
        names.join(" | "),
        "---|".repeat(kinds.len())
    )
    .unwrap();
    for (number, first) in all.iter().enumerate() {
        if all[..number].iter().any(|earlier| earlier.scenario == first.scenario) {
            continue;
        }
        for (line, gate) in first.gates.iter().enumerate() {
            let mut verdict = "";
            write!(text, "| {} | {} | {} |", first.scenario, gate.what, gate.bound).unwrap();
            for kind in &kinds {
                let same =
                    |played: &&Played| played.scenario == first.scenario && played.kind == *kind;
                let gate = all.iter().find(same).and_then(|played| played.gates.get(line));
                let figure = gate.and_then(|gate| gate.figure.as_deref()).unwrap_or("-");
                write!(text, " {figure} |").unwrap();
                if let (Kind::Tidegate, Some(gate)) = (kind, gate) {
                    verdict = if gate.met { "met" } else { "missed" };
                }
            }
            writeln!(text, " {verdict} |").unwrap();
        }
    }
    text
}
