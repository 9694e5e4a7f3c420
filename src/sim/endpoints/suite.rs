//! S20: worlds of two to fifty endpoints, and the requirements on the choice in each.

use super::{Change, Endpoint, Outcome, Service, Setup, run};
use crate::gate::interval;

pub use crate::gate::Verdict;

/// A world and its subject.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name: the event, the number of endpoints, the load.
    pub name: String,
    /// The world.
    pub setup: Setup,
    /// The subject.
    pub about: About,
}

/// The subject of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum About {
    /// Endpoints whose speeds match their weights: shares must be fair, and latencies as good as with simple
    /// policies.
    Fair,
    /// The first endpoint is slow for a time.
    Slow {
        /// When it begins and ends.
        from: f64,
        /// See `from`.
        until: f64,
    },
    /// The first endpoint dies, and comes back.
    Killed {
        /// When it is back.
        back: f64,
    },
    /// Endpoints of speeds 1, 2 and 4.
    Speeds {
        /// The demand, as a part of the capacity.
        load: f64,
    },
}

/// The results of one policy in one case: means over seeds.
#[derive(Clone, Debug)]
pub struct Row {
    /// The case.
    pub case: String,
    /// The policy.
    pub policy: &'static str,
    /// Milliseconds.
    pub mean_ms: f64,
    /// See `mean_ms`.
    pub p50_ms: f64,
    /// See `mean_ms`.
    pub p99_ms: f64,
    /// The number of windows of 10 s in which an endpoint was due at least 50 exchanges, and the number of
    /// those in which it got more than 20 % more or less.
    pub windows: (usize, usize),
}

/// Servers of an endpoint of weight 1, and the mean service time in seconds.
const SERVERS: usize = 4;
const MEAN: f64 = 0.020;
/// When measuring begins.
const FROM: f64 = 5.0;
/// The length of a window, and the least number of exchanges due for a window to count.
const WINDOW: f64 = 10.0;
const DUE_MIN: f64 = 50.0;

fn setup(weights: &[u16], load: f64) -> Setup {
    let endpoint =
        |&weight: &u16| Endpoint { weight, servers: SERVERS * usize::from(weight), speed: 1.0 };
    let endpoints: Vec<Endpoint> = weights.iter().map(endpoint).collect();
    let servers: usize = endpoints.iter().map(|endpoint| endpoint.servers).sum();
    Setup {
        endpoints,
        rate: load * servers as f64 / MEAN,
        service: Service::Exponential(MEAN),
        workers: 2,
        seconds: FROM + 6.0 * WINDOW,
        changes: Vec::new(),
    }
}

/// The cases; `quick` leaves out the large ones.
#[must_use]
pub fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |name: String, setup: Setup, about: About| cases.push(Case { name, setup, about });
    let counts: &[usize] = if quick { &[2, 3] } else { &[2, 3, 8, 50] };
    let loads: &[f64] = if quick { &[0.05, 0.3] } else { &[0.05, 0.3, 0.6, 0.9] };
    for &count in counts {
        for &load in loads {
            let equal = setup(&vec![1; count], load);
            add(format!("equal {count} at {load}"), equal.clone(), About::Fair);
            // Without the dead endpoint the others must have sufficient capacity; otherwise the choice does not
            // matter.
            if count == 50 || load * count as f64 / (count as f64 - 1.0) > 1.0 {
                continue;
            }
            for (span, rest) in [(1.0, 30.0), (30.0, 45.0)] {
                let (from, until) = (20.0, 20.0 + span);
                let changes = vec![(from, 0, Change::Slow(10.0)), (until, 0, Change::Slow(1.0))];
                let setup = Setup { changes, seconds: until + rest, ..equal.clone() };
                let about = About::Slow { from, until };
                add(format!("slow {span} s, {count} at {load}"), setup, about);
            }
            let changes = vec![(20.0, 0, Change::Dies), (30.0, 0, Change::Returns)];
            let setup = Setup { changes, seconds: 90.0, ..equal };
            add(format!("killed, {count} at {load}"), setup, About::Killed { back: 30.0 });
        }
    }
    for weights in [&[1, 3][..], &[1, 2, 4], &[1, 1, 1, 10]] {
        for &load in loads {
            add(format!("weights {weights:?} at {load}"), setup(weights, load), About::Fair);
        }
    }
    for (name, service) in [("even", Service::Even(MEAN)), ("mixed", Service::Mixed(MEAN / 2.0))] {
        for &load in loads {
            let setup = Setup { service, ..setup(&[1; 3], load) };
            add(format!("{name} 3 at {load}"), setup, About::Fair);
        }
    }
    for load in [0.05, 0.3, 0.6, 0.9] {
        let mut setup = setup(&[1; 3], load * 7.0 / 3.0);
        for (endpoint, speed) in setup.endpoints.iter_mut().zip([1.0, 2.0, 4.0]) {
            endpoint.speed = speed;
        }
        add(format!("speeds 1:2:4 at {load}"), setup, About::Speeds { load });
    }
    for (count, workers) in [(2, 2), (3, 2), (3, 8)] {
        let mut low = setup(&vec![1; count], 0.3);
        (low.rate, low.workers) = (60.0, workers);
        let name = format!("60/s, {count}, {workers} workers");
        add(name.clone(), low.clone(), About::Fair);
        for (span, rest) in [(1.0, 30.0), (30.0, 45.0)] {
            let (from, until) = (20.0, 20.0 + span);
            let changes = vec![(from, 0, Change::Slow(10.0)), (until, 0, Change::Slow(1.0))];
            let slow = Setup { changes, seconds: until + rest, ..low.clone() };
            add(format!("slow {span} s, {name}"), slow, About::Slow { from, until });
        }
        let changes = vec![(20.0, 0, Change::Dies), (30.0, 0, Change::Returns)];
        let setup = Setup { changes, seconds: 90.0, ..low };
        add(format!("killed, {name}"), setup, About::Killed { back: 30.0 });
    }
    cases
}

/// Two counts over the time windows from `from` to `to`: windows in which each endpoint was due enough exchanges to
/// be judged, and the windows among them in which an endpoint's share was unfair.
fn windows(setup: &Setup, outcome: &Outcome, from: f64, to: f64) -> (usize, usize) {
    let weight: f64 = setup.endpoints.iter().map(|one| f64::from(one.weight)).sum();
    let (mut all, mut unfair) = (0, 0);
    let mut start = from;
    while start + WINDOW <= to + 1e-9 {
        let mut counts = vec![0.0; setup.endpoints.len()];
        outcome.between(start, start + WINDOW).for_each(|record| counts[record.endpoint] += 1.0);
        let sum: f64 = counts.iter().sum();
        for (count, endpoint) in counts.iter().zip(&setup.endpoints) {
            let due = sum * f64::from(endpoint.weight) / weight;
            if due >= DUE_MIN {
                all += 1;
                unfair += usize::from((count / due - 1.0).abs() > 0.2);
            }
        }
        start += WINDOW;
    }
    (all, unfair)
}

/// The time until which a case is fair to all its endpoints.
fn fair_until(case: &Case) -> f64 {
    match case.about {
        About::Fair => case.setup.seconds,
        About::Slow { from, .. } => from,
        About::Killed { .. } => 20.0,
        About::Speeds { .. } => 0.0,
    }
}

/// The time span in which latencies are measured.
fn span(case: &Case) -> (f64, f64) {
    match case.about {
        About::Slow { from, until } => (from, until),
        About::Fair | About::Killed { .. } | About::Speeds { .. } => (FROM, case.setup.seconds),
    }
}

/// Runs a policy in a case once for each seed.
#[must_use]
pub fn outcomes(case: &Case, policy: &str, seeds: u64) -> Vec<Outcome> {
    (1..=seeds).map(|seed| run(&case.setup, policy, seed)).collect()
}

/// The results of a policy.
#[must_use]
pub fn row(case: &Case, policy: &'static str, outcomes: &[Outcome]) -> Row {
    let (from, to) = span(case);
    let mean = |figure: &dyn Fn(&Outcome) -> f64| {
        outcomes.iter().map(figure).sum::<f64>() / outcomes.len().max(1) as f64
    };
    let latency = |outcome: &Outcome| {
        let sum: f64 = outcome.between(from, to).map(|record| record.latency).sum();
        sum / outcome.between(from, to).count().max(1) as f64
    };
    Row {
        case: case.name.clone(),
        policy,
        mean_ms: mean(&latency) * 1e3,
        p50_ms: mean(&|outcome| outcome.quantile(0.5, from, to)) * 1e3,
        p99_ms: mean(&|outcome| outcome.quantile(0.99, from, to)) * 1e3,
        windows: outcomes
            .iter()
            .map(|outcome| windows(&case.setup, outcome, FROM, fair_until(case)))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
    }
}

fn at_most(gate: String, values: &[f64], bound: f64) -> Verdict {
    Verdict { gate, figure: interval(values), bound, at_most: true, best: None }
}

fn at_least(gate: String, values: &[f64], bound: f64) -> Verdict {
    Verdict { at_most: false, ..at_most(gate, values, bound) }
}

/// The requirements on the engine in a case, given its outcomes; the baselines for comparison are run here.
#[must_use]
pub fn judge(case: &Case, engine: &[Outcome]) -> Vec<Verdict> {
    let (from, to) = span(case);
    let name = &case.name;
    let count = case.setup.endpoints.len() as f64;
    let p99 = |outcomes: &[Outcome]| {
        outcomes.iter().map(|one| one.quantile(0.99, from, to)).sum::<f64>()
            / outcomes.len().max(1) as f64
    };
    let over = |policy: &str| {
        let theirs = outcomes(case, policy, engine.len() as u64);
        p99(engine) / p99(&theirs).max(1e-9)
    };
    // The exchanges due to the first endpoint, and the exchanges that it got.
    let part = |from: f64, to: f64| -> Vec<f64> {
        engine.iter().map(|outcome| outcome.share(0, from, to) * count).collect()
    };
    match case.about {
        About::Fair => vec![
            at_most(format!("{name}: p99 over round robin's"), &[over("round_robin")], 1.05),
            at_most(format!("{name}: p99 over least request's"), &[over("least_request")], 1.2),
        ],
        About::Slow { from, until } => {
            // The recovery of an endpoint that was slow for long is accepted later.
            let rest = if until - from > 10.0 { 15.0 } else { 5.0 };
            let gate = format!("{name}: share of its due from {rest} s after");
            vec![at_least(gate, &part(until + rest, until + rest + 10.0), 0.8)]
        }
        About::Killed { back } => {
            let first = |outcome: &Outcome| {
                let up =
                    outcome.changes.iter().find(|(at, index, up)| *up && *index == 0 && *at > back);
                let up = up.map_or(f64::INFINITY, |(at, ..)| *at);
                let mut after = outcome.between(up, f64::INFINITY).filter(|r| r.endpoint == 0);
                after.next().map_or(f64::INFINITY, |record| record.sent - up)
            };
            let firsts: Vec<f64> = engine.iter().map(first).collect();
            let starts: Vec<f64> = engine
                .iter()
                .map(|outcome| outcome.share(0, back + 2.0, back + 12.0) * count)
                .collect();
            let pairs = |outcome: &Outcome| {
                let gone = outcome.changes.iter().filter(|(.., up)| !*up).count() as f64;
                gone - outcome.changes.iter().filter(|(.., up)| *up).count() as f64
            };
            let silent: Vec<f64> = engine.iter().map(pairs).collect();
            vec![
                at_most(format!("{name}: first exchange after it is up, s"), &firsts, 1.0),
                at_least(format!("{name}: share of its due, 2-12 s after"), &starts, 0.1),
                at_most(format!("{name}: share of its due, 2-12 s after"), &starts, 0.6),
                at_least(
                    format!("{name}: share of its due from 40 s after"),
                    &part(back + 40.0, to),
                    0.8,
                ),
                at_most(format!("{name}: ejections without a return"), &silent, 0.0),
            ]
        }
        About::Speeds { load } => {
            let bound = if load >= 0.3 { 1.0 } else { 1.4 };
            vec![at_most(format!("{name}: p99 over Prequal's"), &[over("prequal")], bound)]
        }
    }
}

/// The share of windows that were unfair, over all cases.
#[must_use]
pub fn fairness(rows: &[Row]) -> Verdict {
    let sum = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.windows.0, sum.1 + row.windows.1));
    let unfair = sum.1 as f64 / (sum.0 as f64).max(1.0);
    at_most("windows of 10 s outside 20 % of the fair share".to_owned(), &[unfair], 0.001)
}
