//! The gates of S18-S25: the effect of slow pages, releases and misbehaving clients on other exchanges.

use super::{Judge, Limit};
use crate::outcome::{NOWHERE, Outcome, Record};
use crate::scenario::OTHERS;

/// The largest share of other clients' requests beyond the nearest place in any `width` seconds within `from..to`.
fn worst_away(outcome: &Outcome, from: f64, to: f64, width: f64) -> f64 {
    let windows = ((to - from) / width) as usize;
    let away = |window: usize| {
        let begin = from + window as f64 * width;
        away(outcome, begin, begin + width)
    };
    (0..windows).map(away).fold(0.0, f64::max)
}

/// The share of other clients' requests that were not served by the nearest place.
fn away(outcome: &Outcome, from: f64, to: f64) -> f64 {
    let others = |r: &&Record| {
        r.kind == OTHERS && (from..to).contains(&f64::from(r.at)) && r.place != NOWHERE
    };
    let (all, away) =
        outcome.records.iter().filter(others).fold((0.0, 0.0), |(all, away), r| {
            (all + 1.0, away + f64::from(u8::from(r.place != 0)))
        });
    if all > 0.0 { away / all } else { 0.0 }
}

/// The share of other clients' requests that did not succeed.
fn refused(outcome: &Outcome, from: f64, to: f64) -> f64 {
    1.0 - outcome.of(|r| r.kind == OTHERS && (from..to).contains(&f64::from(r.at))).good
}

/// The worst value of all seeds, for bounds that apply to every seed.
fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Adds the verdicts on a field scenario.
pub(super) fn judge(scenario: &str, judge: &mut Judge<'_>) {
    let (start, end) = (judge.runs.spec.measured_from, judge.runs.spec.seconds);
    let name = scenario.split('-').next().unwrap_or(scenario);
    match name {
        "S18a" | "S18b" | "S18c" => {
            judge.at_most("others away from home", 0.01, |o| away(o, start, end));
            judge.at_most("in the worst 5 s", 0.04, |o| worst_away(o, start, end, 5.0));
            judge.at_most("others refused", 0.0, |o| refused(o, start, end));
        }
        "S18o" => {
            judge.mean_over("O1", 20.0, 35.0, 1.15);
            judge.at_most("others away afterwards", 0.05, |o| away(o, 40.0, end));
        }
        "S19" => release(scenario, judge),
        "S19c" => {
            judge.at_most("needless spill, first 3 s", 0.45, |o| o.between(20.0, 23.0).needless);
            judge.at_most("needless spill, 3 s to 10 s", 0.20, |o| o.between(23.0, 30.0).needless);
            judge.at_most("needless spill from 10 s on", 0.04, |o| o.between(30.0, end).needless);
        }
        "S19i" => {
            judge.at_most("needless spill, first 3 s", 0.30, |o| o.between(20.0, 23.0).needless);
            judge.at_most("needless spill from 10 s on", 0.03, |o| o.between(30.0, end).needless);
        }
        "S19r" => {
            judge.at_most("needless spill from 3 s on", 0.03, |o| o.between(23.0, end).needless);
        }
        "S21" => {
            judge.at_most("at the farther place from 1 s on", 0.02, |o| {
                let later = |r: &Record| (21.0..40.0).contains(&f64::from(r.at));
                let all = o.of(later).count.max(1) as f64;
                o.of(|r| later(r) && r.place == 2).count as f64 / all
            });
            judge.at_most("away from 3 s after the return", 0.05, |o| away(o, 43.0, end));
        }
        "S22" => {
            judge.at_most("others away from home", 0.01, |o| away(o, start, end));
            judge.at_most("in the worst 5 s", 0.05, |o| worst_away(o, start, end, 5.0));
            judge.at_most("others refused", 0.0, |o| refused(o, start, end));
        }
        "S25" => {
            judge.at_most("needless spill", 0.01, |o| o.between(start, end).needless);
            let spec = judge.runs.spec;
            judge.at_most("switches", 0.0, |o| o.switches(spec, 5.0) as f64);
        }
        _ => {}
    }
}

fn release(scenario: &str, judge: &mut Judge<'_>) {
    let hundred = scenario.ends_with("-100");
    let fifty = scenario.starts_with("S19-50");
    let needless = |from, to| move |o: &Outcome| o.between(from, to).needless;
    if !hundred {
        let (first, then, later) = if fifty { (0.45, 0.20, 0.04) } else { (0.30, 0.30, 0.03) };
        judge.at_most("needless spill, first 3 s", first, needless(20.0, 23.0));
        judge.at_most("needless spill, 3 s to 10 s", then, needless(23.0, 30.0));
        judge.at_most("needless spill from 10 s on", later, needless(30.0, 50.0));
        judge.at_most("needless spill when quicker again", 0.03, needless(83.0, 95.0));
    }
    // Without reports, one of many proxies with little traffic sees too little.
    let few = scenario.ends_with("-few") && judge.runs.spec.reports.is_none();
    judge.mean_over("O1", 50.0, 65.0, if few { 1.5 } else { 1.2 });
    let ratios = judge.ratio("O1", |outcome| outcome.between(50.0, 65.0).mean);
    if !ratios.is_empty() {
        judge.note("worst seed's mean over O1's, 50-65 s", &[worst(&ratios)], 1.5, Limit::AtMost);
    }
}
