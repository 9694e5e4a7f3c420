//! The gates of S0: SLATE's model, and the least mean that any policy can have in it.
//!
//! A place answers in `curve(rate)`, which is convex, so the mean is least where each place has an even rate: over a
//! long time the arrivals at a place with the mean rate `r` wait `curve(r)` or longer (Jensen's inequality), whatever the
//! policy knows. The best split of the demand of a run is therefore a bound for every policy in that run, an oracle
//! included.
//!
//! # Units
//! Milliseconds; requests a second.

use super::{Judge, Limit};
use crate::outcome::Outcome;
use crate::spec::Spec;

/// The means that SLATE's own model allows.
const OPTIMA: [(&str, f64); 6] = [
    ("S0-20-500", 54.3),
    ("S0-20-600", 64.6),
    ("S0-20-700", 79.1),
    ("S0-50-500", 69.4),
    ("S0-50-600", 83.3),
    ("S0-50-700", 100.0),
];
/// Parts of a proxy's demand between which the best split is searched.
const PARTS: usize = 200;

/// Judges a scenario of SLATE; `bound` is the allowed ratio to the model's optimum.
pub(super) fn judge(scenario: &str, judge: &mut Judge<'_>, bound: f64) {
    let Some((_, optimum)) = OPTIMA.iter().find(|(name, _)| *name == scenario) else { return };
    let spec = judge.runs.spec;
    let (start, end) = (spec.measured_from, spec.seconds);
    judge.at_most("mean over the model's optimum", bound, |o| o.between(start, end).mean / optimum);
    let better = match scenario {
        "S0-20-500" => 1.9,
        "S0-20-600" => 2.6,
        "S0-50-600" => 5.0,
        _ => return,
    };
    let ratios = judge.ratio("waterfall-1.0", |outcome| outcome.between(start, end).mean);
    let values: Vec<f64> = ratios.iter().map(|ratio| 1.0 / ratio).collect();
    judge.note("waterfall's mean over ours", &values, better, Limit::AtLeast);
    let waterfall = (judge.runs.other)("waterfall-1.0");
    let best: Vec<f64> = waterfall
        .iter()
        .map(|run| run.between(start, end).mean / least_mean(spec, &demand(run, start, end)))
        .collect();
    judge.best(&best);
}

/// The demand of each of the two proxies within a run.
fn demand(run: &Outcome, start: f64, end: f64) -> [f64; 2] {
    [0, 1].map(|edge| {
        let sent = |record: &crate::outcome::Record| {
            usize::from(record.edge) == edge && (start..end).contains(&f64::from(record.at))
        };
        run.of(sent).count as f64 / (end - start)
    })
}

/// The least mean response time of two proxies and two places with a curve each: the best of all splits of `demand`.
fn least_mean(spec: &Spec, demand: &[f64; 2]) -> f64 {
    let place = |place: usize, rate: f64| {
        let (base, slope) = spec.places[place].curve.unwrap_or_default();
        1e3 * (base + slope * rate.powi(4))
    };
    let mean = |away: [f64; 2]| {
        let [spilled, back] = [demand[0] * away[0], demand[1] * away[1]];
        let rates = [demand[0] - spilled + back, demand[1] - back + spilled];
        let waits: f64 = (0..2).map(|at| rates[at] * place(at, rates[at])).sum();
        let ways: f64 = (0..2)
            .map(|edge| {
                let rtt = &spec.edges[edge].rtt_ms;
                let (near, far) = (rtt[edge], rtt[1 - edge]);
                demand[edge] * (near + away[edge] * (far - near))
            })
            .sum();
        (waits + ways) / demand.iter().sum::<f64>()
    };
    let parts = || (0..=PARTS).map(|part| part as f64 / PARTS as f64);
    parts()
        .flat_map(|west| parts().map(move |east| [west, east]))
        .map(mean)
        .fold(f64::MAX, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Judgement, Runs};
    use crate::scenario::named;
    use crate::{baseline, world};

    #[test]
    fn the_best_split_is_the_published_optimum() {
        for (name, optimum) in OPTIMA {
            let spec = named(name).unwrap().spec;
            let [west, east] = [0, 1].map(|edge| spec.edges[edge].share);
            let least = least_mean(&spec, &[west, east]);
            assert!((least - optimum).abs() < 0.2, "{name}: {least}, published {optimum}");
        }
    }

    #[test]
    fn a_factor_beyond_the_optimum_is_impossible_and_an_attainable_one_is_missed() {
        for (name, expected) in
            [("S0-50-600", Judgement::Impossible), ("S0-20-500", Judgement::Missed)]
        {
            let spec = named(name).unwrap().spec;
            let run = |policy: &str, seed: u64| {
                let entry = baseline::entry(policy).unwrap();
                world::run(&spec, &|spec, edge| (entry.make)(spec, edge, seed), seed)
            };
            let waterfall = [1, 2].map(|seed| run("waterfall-1.0", seed));
            let engine = waterfall.clone();
            let runs = Runs { spec: &spec, engine: &engine, other: &|_| &waterfall, compared: &[] };
            let verdicts = crate::gate::judge(name, &runs);
            let factor = verdicts.iter().find(|v| v.gate.starts_with("waterfall")).unwrap();
            assert_eq!(factor.judgement(), expected, "{name}: {factor:?}");
        }
    }
}
