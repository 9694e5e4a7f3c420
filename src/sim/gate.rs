//! The gates: for each scenario, figures of the engine with a bound.
//!
//! A gate applies with and without reports. If the suite has no bound for the case without reports, the bound
//! is a quarter weaker, and the verdict shows the bound that was applied. Figures are means over seeds.

mod field;
mod slate;

use super::outcome::Outcome;
use super::scenario::MONEY;
use super::spec::Spec;

/// The runs of one scenario: outcomes by seed.
pub struct Runs<'a> {
    /// The world, as the engine ran it.
    pub spec: &'a Spec,
    /// The engine's outcomes.
    pub engine: &'a [Outcome],
    /// Another policy, by name; empty when it was not run.
    pub other: &'a dyn Fn(&str) -> &'a [Outcome],
    /// The engine's outcomes in the scenario that this one is compared with, by seed: see [`compared_with`].
    pub compared: &'a [Outcome],
}

/// A gate and its result.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The requirement.
    pub gate: String,
    /// The figure: the mean over seeds, and half its 95 % interval.
    pub figure: (f64, f64),
    /// The bound.
    pub bound: f64,
    /// Whether the figure must be at most the bound, else at least.
    pub at_most: bool,
    /// The best figure that any policy can have in the same runs, where a bound of it is known: the mean over seeds, and
    /// half its 95 % interval.
    pub best: Option<(f64, f64)>,
}

/// What a verdict says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// The figure is within the bound.
    Met,
    /// The figure is not within the bound.
    Missed,
    /// No policy can have a figure within the bound: the best possible figure, with its interval, is not within the bound.
    Impossible,
}

impl Verdict {
    /// Met, missed, or impossible; an impossible gate is never counted as met.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        let beyond = |(best, half): (f64, f64)| match self.at_most {
            true => best - half > self.bound,
            false => best + half < self.bound,
        };
        match (self.is_met(), self.best.is_some_and(beyond)) {
            (true, _) => Judgement::Met,
            (false, true) => Judgement::Impossible,
            (false, false) => Judgement::Missed,
        }
    }

    /// Whether the figure is within the bound.
    #[must_use]
    pub fn is_met(&self) -> bool {
        match self.at_most {
            true => self.figure.0 <= self.bound,
            false => self.figure.0 >= self.bound,
        }
    }
}

/// Mean and half the 95 % interval of its estimate.
#[must_use]
pub fn interval(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    if values.len() < 2 {
        return (mean, f64::NAN);
    }
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (count - 1.0);
    // Student's t for 1..=9 degrees of freedom; the normal's beyond.
    const T: [f64; 9] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26];
    let t = T.get(values.len() - 2).copied().unwrap_or(1.96);
    (mean, t * (variance / count).sqrt())
}

/// Whether a bound is an upper or a lower bound.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Limit {
    AtMost,
    AtLeast,
}

struct Judge<'a> {
    runs: &'a Runs<'a>,
    verdicts: Vec<Verdict>,
}

impl Judge<'_> {
    fn note(&mut self, gate: &str, values: &[f64], bound: f64, limit: Limit) {
        if values.is_empty() {
            // There is no run to compare with.
            return;
        }
        let figure = interval(values);
        let at_most = limit == Limit::AtMost;
        let gate = gate.to_owned();
        self.verdicts.push(Verdict { gate, figure, bound, at_most, best: None });
    }

    /// Adds to the last verdict the best figures that any policy can have, by seed.
    fn best(&mut self, values: &[f64]) {
        if let (Some(verdict), false) = (self.verdicts.last_mut(), values.is_empty()) {
            verdict.best = Some(interval(values));
        }
    }

    fn each(&self, figure: impl Fn(&Outcome) -> f64) -> Vec<f64> {
        self.runs.engine.iter().map(figure).collect()
    }

    fn at_most(&mut self, gate: &str, bound: f64, figure: impl Fn(&Outcome) -> f64) {
        let values = self.each(figure);
        self.note(gate, &values, bound, Limit::AtMost);
    }

    fn at_least(&mut self, gate: &str, bound: f64, figure: impl Fn(&Outcome) -> f64) {
        let values = self.each(figure);
        self.note(gate, &values, bound, Limit::AtLeast);
    }

    /// The ratio of the engine's figure to the figure of another policy, seed by seed.
    fn ratio(&self, other: &str, figure: impl Fn(&Outcome) -> f64) -> Vec<f64> {
        let others = (self.runs.other)(other);
        let pairs = self.runs.engine.iter().zip(others);
        pairs.map(|(engine, other)| figure(engine) / figure(other).max(1e-9)).collect()
    }

    fn mean_over(&mut self, other: &str, from: f64, to: f64, bound: f64) {
        let values = self.ratio(other, |outcome| outcome.between(from, to).mean);
        if !values.is_empty() {
            self.note(
                &format!("mean over {other}'s, {from}-{to} s"),
                &values,
                bound,
                Limit::AtMost,
            );
        }
    }

    fn needless(&mut self, spans: &[(f64, f64)], bound: f64) {
        let inside = |at: f32| spans.iter().any(|(from, to)| (*from..*to).contains(&f64::from(at)));
        self.at_most("needless spill", bound, |o| o.of(|record| inside(record.at)).needless);
    }
}

/// The scenario that a scenario is compared with, and whether its clusters report.
#[must_use]
pub fn compared_with(scenario: &'static str, reported: bool) -> Option<(&'static str, bool)> {
    match scenario {
        "S8-forecast" => Some(("S8-reactive", reported)),
        _ if scenario.starts_with("S13-x") => Some(("S13", reported)),
        _ if scenario.ends_with(FLEET) && !reported => Some((scenario, true)),
        _ => None,
    }
}

/// The end of the name of a scenario with a fleet. Its runs with reports are without the fleet.
const FLEET: &str = "-fleet";

/// The verdicts on a scenario.
#[must_use]
pub fn judge<'a>(scenario: &str, runs: &'a Runs<'a>) -> Vec<Verdict> {
    let reported = runs.spec.reports.is_some();
    // The bounds with and without reports. If the suite has one bound, it is a quarter weaker without reports.
    let of = |with: f64, without: f64| if reported { with } else { without };
    let one = |with: f64| of(with, with * 1.25);
    let (start, end) = (runs.spec.measured_from, runs.spec.seconds);
    let mut judge = Judge { runs, verdicts: Vec::new() };
    let is_compared = ["S9", "S12", "S15", "S26"].contains(&scenario.trim_end_matches(FLEET));
    if scenario.ends_with(FLEET) && is_compared && !reported {
        let means = runs.engine.iter().zip(runs.compared);
        let mean = |outcome: &Outcome| outcome.between(start, end).mean;
        let values: Vec<f64> = means.map(|(fleet, reports)| mean(fleet) / mean(reports)).collect();
        judge.note("mean over that with reports", &values, 1.03, Limit::AtMost);
    }
    let scenario = scenario.trim_end_matches(FLEET);
    match scenario {
        "S1" => {
            judge.mean_over("O1", start, end, of(1.02, 1.06));
            judge.mean_over("O2", start, end, one(1.12));
            judge.at_most("p99 0.5 s after the step over the new steady one", one(1.2), |o| {
                o.between(10.5, 11.5).p99 / o.between(15.0, 30.0).p99
            });
            judge.needless(&[(5.0, 10.0), (32.0, 45.0)], of(0.015, 0.02));
        }
        "S2" => {
            judge.mean_over("O1", start, end, of(1.02, 1.06));
            judge.mean_over("O2", start, end, one(1.12));
        }
        "S3" => {
            judge.mean_over("O1", 10.0, 20.0, of(1.08, 1.15));
            judge.needless(&[(20.0, 30.0)], 0.10);
        }
        "S4" => {
            judge.at_most("errors from 0.6 s after the fall", 0.005, |o| {
                1.0 - o.between(10.6, end).good
            });
            judge.at_most("still in the cloud from 3 s after the return", 0.05, |o| {
                1.0 - o.between(43.0, end).home
            });
            judge.at_most("p99 of the return over the outage's", one(1.5), |o| {
                o.between(40.0, 43.0).p99 / o.between(20.0, 40.0).p99
            });
        }
        "S5a" | "S5b" => judge.mean_over("O1", 10.0, end, of(1.06, 1.10)),
        "S6" => judge.at_least("good answers", 0.99, |o| o.between(10.0, 40.0).good),
        "S7" => {
            judge.at_most("at the far IDC from 2 s after", 0.05, |o| o.between(12.0, 30.0).home);
            judge.at_least("at the near IDC from 2 s after", 0.90, |o| o.between(32.0, 40.0).home);
        }
        "S8" => judge.mean_over("O1", 10.0, end, one(1.2)),
        "S8-forecast" => {
            let lost = |outcome: &Outcome| 1.0 - outcome.between(start, end).good;
            let pairs = runs.engine.iter().zip(runs.compared);
            let values: Vec<f64> =
                pairs.map(|(with, without)| lost(with) / lost(without).max(1e-9)).collect();
            judge.note("shed over that of a reactive scaler", &values, one(0.5), Limit::AtMost);
        }
        "S9" | "S26" => {
            judge.mean_over("O1", start, end, one(1.15));
            judge.at_most("seconds in a row above 1.3 of capacity", one(1.0), |o| {
                longest_overload(o, 1.3)
            });
        }
        "S10" => {
            let values = judge.ratio("prequal", |outcome| outcome.between(start, end).p99);
            judge.note("p99 over Prequal's", &values, 1.0, Limit::AtMost);
        }
        "S11" => {
            judge.at_least("good answers from 5 s after the trigger is gone", 0.99, |o| {
                o.between(25.0, end - 1.0).good
            });
        }
        "S12" => {
            judge.at_most("violations", 0.0, |o| {
                o.records.iter().filter(|record| record.violation).count() as f64
            });
            judge.at_least("good answers", 0.999, |o| o.between(start, end).good);
        }
        "S12b" => {
            let allowed = MONEY / 3600.0 * (300.0 + 1.02 * end);
            judge.at_most("dollars over burst and 1.02 of the budget", 1.0, |o| {
                o.usd.iter().sum::<f64>() / allowed
            });
            judge.at_least("good answers", 0.999, |o| o.between(start, end).good);
        }
        "S14" => {
            judge.needless(&[(20.0, 55.0)], of(0.03, 0.25));
            judge.needless(&[(55.0, end)], of(0.03, 0.06));
        }
        "S15" => {
            judge.needless(&[(start, end)], one(0.02));
            judge.at_most("switches", 0.0, |o| o.switches(runs.spec, 5.0) as f64);
        }
        "S16" => {
            judge.at_least("good answers", 0.99, |o| o.between(start, end).good);
            judge.at_most("switches in 20 periods", 40.0, |o| o.switches(runs.spec, 0.5) as f64);
        }
        "S17" => {
            judge.at_most("p99 of the first 3 s over that of the next 10", one(1.5), |o| {
                o.between(10.0, 13.0).p99 / o.between(15.0, 25.0).p99
            });
        }
        _ => {}
    }
    field::judge(scenario, &mut judge);
    slate::judge(scenario, &mut judge, one(1.05));
    // Without reports a configured capacity is not known to the proxies.
    if scenario.starts_with("S13-x") && reported {
        let means = runs.engine.iter().map(|outcome| outcome.between(start, end).mean);
        let truths = runs.compared.iter().map(|outcome| outcome.between(start, end).mean);
        let values: Vec<f64> =
            means.zip(truths).map(|(mean, truth)| (mean / truth - 1.0).abs()).collect();
        judge.note("mean differs from that with the truth by", &values, 0.08, Limit::AtMost);
    }
    if matches!(
        scenario,
        "S1" | "S2" | "S3" | "S5a" | "S5b" | "S7" | "S8" | "S9" | "S10" | "S14" | "S17" | "S26"
    ) {
        // The mean covers good answers only, so a policy that sheds would look fast.
        judge.at_least("good answers", 0.999, |o| o.between(start, end).good);
    }
    judge.verdicts
}

/// The most seconds in a row in which the load of a place was above `bound` times its servers.
fn longest_overload(outcome: &Outcome, bound: f32) -> f64 {
    let places = outcome.load.first().map_or(0, Vec::len);
    let longest = |place: usize| {
        let over = outcome.load.iter().map(|load| load[place] > bound);
        over.fold((0, 0), |(run, most), over| {
            let run = if over { run + 1 } else { 0 };
            (run, most.max(run))
        })
    };
    (0..places).map(|place| longest(place).1).max().unwrap_or(0) as f64
}

#[cfg(test)]
mod evidence;
