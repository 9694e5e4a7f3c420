//! Endpoint selection in virtual time: the worlds of `sim::endpoints`.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests are named by their promises")]

use tidegate::sim::endpoints::suite::{self, About, Case};
use tidegate::sim::endpoints::{Outcome, run};

#[test]
fn endpoint_selection_meets_the_gates_of_the_small_worlds() {
    let (mut rows, mut missed) = (Vec::new(), Vec::new());
    for case in suite::cases(true) {
        let outcomes = suite::outcomes(&case, "tidegate", 1);
        rows.push(suite::row(&case, "tidegate", &outcomes));
        for verdict in suite::judge(&case, &outcomes) {
            // A single seed has noise: a tenth is allowed here.
            let slack = if verdict.at_most { 1.1 } else { 0.9 };
            let relaxed = suite::Verdict { bound: verdict.bound * slack, ..verdict };
            if !relaxed.is_met() {
                missed.push(relaxed);
            }
        }
    }
    missed.extend(Some(suite::fairness(&rows)).filter(|verdict| !verdict.is_met()));
    assert!(missed.is_empty(), "{missed:#?}");
}

fn low_rate(name: &str) -> Case {
    suite::cases(true).into_iter().find(|case| case.name == name).unwrap()
}

#[test]
fn three_equal_endpoints_have_a_third_each_at_sixty_requests_a_second() {
    for seed in 1..=4 {
        for name in ["60/s, 3, 2 workers", "60/s, 3, 8 workers"] {
            let outcome = run(&low_rate(name).setup, "tidegate", seed);
            for start in [5.0, 15.0, 25.0, 35.0, 45.0] {
                let shares = [0, 1, 2].map(|index| outcome.share(index, start, start + 10.0));
                let fair = |share: &f64| (0.27..=0.40).contains(share);
                assert!(shares.iter().all(fair), "seed {seed} from {start} s: {shares:?}");
            }
        }
    }
}

#[test]
fn a_slow_endpoint_of_two_has_little_effect_unlike_with_peak_ewma() {
    let case = low_rate("slow 30 s, 60/s, 2, 2 workers");
    let About::Slow { from, until } = case.about else {
        unreachable!("it is one of a slow endpoint")
    };
    let mut shares = [0.0; 2];
    for seed in 1..=4 {
        shares[0] += run(&case.setup, "tidegate", seed).share(0, from + 5.0, until) / 4.0;
        let peaks = run(&case.setup, "peak_ewma", seed);
        shares[1] += peaks.share(0, until + 5.0, until + 15.0) / 4.0;
    }
    assert!(shares[0] < 0.02, "while it is slow: {}", shares[0]);
    assert!(shares[1] < 0.2, "the old rule, 5 s after: {}", shares[1]);
}

#[test]
fn the_same_seed_gives_the_same_outcome_and_all_exchanges_end_well() {
    let case = low_rate("killed, 60/s, 3, 2 workers");
    let outcome = run(&case.setup, "tidegate", 3);
    assert_eq!(outcome, run(&case.setup, "tidegate", 3));
    let good = |outcome: &Outcome| outcome.records.iter().filter(|record| record.good).count();
    assert_eq!(good(&outcome), outcome.records.len());
}
