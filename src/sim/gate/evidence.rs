//! How soon one proxy of S9 can tell an overloaded cluster from one at its best utilisation: the bound that
//! docs/simulation.md states beside the gate.
//!
//! A response takes a wait and a service time (M/M/c). A sequential probability ratio test gathers, for each answer, the
//! divergence of the two distributions in nats, and needs `ln(1/a)` nats for a share `a` of false alarms (Wald 1945).

use crate::baseline::oracle::erlang_c;

const SERVERS: usize = 20;
const SERVICE: f64 = 0.020;

/// The density of response times at a utilisation.
fn density(utilisation: f64, seconds: f64) -> f64 {
    let waits = erlang_c(SERVERS, utilisation * SERVERS as f64);
    let serves = 1.0 / SERVICE;
    let drains = SERVERS as f64 * (1.0 - utilisation) / SERVICE;
    // The formula has a removable gap where both rates are equal.
    let drains = if (drains - serves).abs() < 1e-3 { serves + 1e-3 } else { drains };
    let both = serves * drains / (drains - serves)
        * ((-serves * seconds).exp() - (-drains * seconds).exp());
    (1.0 - waits) * serves * (-serves * seconds).exp() + waits * both
}

/// Nats that each answer of a cluster at utilisation `is` tells against the utilisation `would_be`.
fn nats(is: f64, would_be: f64) -> f64 {
    const STEP: f64 = 1e-4;
    let one = |number: u32| {
        let seconds = (f64::from(number) + 0.5) * STEP;
        let (here, there) = (density(is, seconds), density(would_be, seconds));
        here * (here / there).ln() * STEP
    };
    (0..6_000).map(one).sum()
}

#[test]
fn one_proxy_of_s9_can_tell_an_overload_within_a_second_and_not_much_sooner() {
    let false_alarms: f64 = 0.01;
    let seconds = (1.0 / false_alarms).ln() / nats(0.95, 0.84) / 32.0;
    assert!((0.8..1.0).contains(&seconds), "{seconds}");
}
