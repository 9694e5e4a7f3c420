//! The suite: worlds S0-S25, small enough for a laptop, each with its gates.
//!
//! Unless a scenario says otherwise: an IDC of 20 servers at 1 ms, clouds of 40 at 30 and 70 ms (there and
//! back), jitter 0.1, exponential service of 20 ms (so the IDC takes 1,000 requests/s), ten proxies of two
//! workers each.

mod field;

pub use field::OTHERS;

use super::spec::{Change, EdgeSpec, Impatience, PlaceSpec, Scaler, Service, Spec};
use decision::plan::Kind;

/// A world and its name.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// `S1`, `S5b`, ...
    pub name: &'static str,
    /// A short description.
    pub about: &'static str,
    /// The world, without reports.
    pub spec: Spec,
}

/// Capacity of the IDC, in requests a second.
pub const HOME: f64 = 1_000.0;

/// The budget of S12b, in dollars an hour.
pub const MONEY: f64 = 7.2;

fn idc() -> PlaceSpec {
    PlaceSpec::queue("idc", Kind::Idc, 20)
}

fn base(seconds: f64, demand: &[(f64, f64)]) -> Spec {
    let cloud = |name, servers| PlaceSpec::queue(name, Kind::Cloud, servers);
    Spec {
        places: vec![idc(), cloud("near", 40), cloud("far", 40)],
        edges: edges(10, &[1.0, 30.0, 70.0]),
        service: Service::Exponential(0.020),
        kinds: Vec::new(),
        services: 1,
        probe: None,
        demand: demand.iter().map(|(at, load)| (*at, load * HOME)).collect(),
        changes: Vec::new(),
        seconds,
        measured_from: 5.0,
        reports: None,
        fleet: false,
        jitter: 0.1,
        impatience: None,
        sensitive: 0.0,
        usd_per_hour: None,
    }
}

fn edges(count: usize, rtt_ms: &[f64]) -> Vec<EdgeSpec> {
    vec![EdgeSpec { rtt_ms: rtt_ms.to_vec(), workers: 2, share: 1.0 }; count]
}

/// A step at `at`: the rate before it, and after.
fn step(at: f64, before: f64, after: f64) -> [(f64, f64); 2] {
    [(at, before), (at + 0.001, after)]
}

/// Two regions whose latency is a curve of their own load (SLATE, arXiv 2412.12492 and its benchmark).
fn slate(one_way_ms: f64, west: f64) -> Spec {
    let place = |name| PlaceSpec {
        curve: Some((0.031_48, 1.286e-12)),
        stated: Some(500.0 * 0.020),
        ..PlaceSpec::queue(name, Kind::Cloud, 100_000)
    };
    let far = 2.0 * one_way_ms;
    let edge = |rtt_ms: [f64; 2], share| EdgeSpec { rtt_ms: rtt_ms.to_vec(), workers: 2, share };
    Spec {
        places: vec![place("west"), place("east")],
        edges: vec![edge([0.2, far], west), edge([far, 0.2], 100.0)],
        demand: vec![(0.0, west + 100.0)],
        measured_from: 10.0,
        ..base(40.0, &[(0.0, 1.0)])
    }
}

/// All scenarios; `full` selects the long form of those that have one.
#[must_use]
pub fn all(full: bool) -> Vec<Scenario> {
    let mut all = latency();
    all.extend(faults());
    all.extend(others(full));
    all.extend(field::all());
    all.extend(fleets(&all));
    all
}

/// Scenarios of proxies with little traffic each, in which the proxies of a site tell each other response times.
fn fleets(all: &[Scenario]) -> Vec<Scenario> {
    let with = |name, about, of: &str| {
        let of = all.iter().find(|scenario| scenario.name == of);
        of.map(|of| scenario(name, about, Spec { fleet: true, ..of.spec.clone() }))
    };
    let thousand = Spec { fleet: true, ..thousand_proxies() };
    let mut fleets: Vec<Scenario> = [
        with("S9-fleet", "S9 with a fleet", "S9"),
        with("S12-fleet", "S12 with a fleet", "S12"),
        with("S15-fleet", "S15 with a fleet", "S15"),
        with("S19-3-few-fleet", "S19-3-few with a fleet", "S19-3-few"),
        with("S19-10-few-fleet", "S19-10-few with a fleet", "S19-10-few"),
        with("S19-50-few-fleet", "S19-50-few with a fleet", "S19-50-few"),
        with("S19i-few-fleet", "S19i-few with a fleet", "S19i-few"),
    ]
    .into_iter()
    .flatten()
    .collect();
    fleets.push(scenario("S26-fleet", "1,000 proxies of 20 sites with a fleet", thousand));
    fleets
}

/// S9 with four times the places and demand, and 50 proxies at each of 20 sites.
fn thousand_proxies() -> Spec {
    let mut spec = many_sites();
    let sites: Vec<EdgeSpec> = (0..20)
        .map(|site| {
            let mut edge = spec.edges[site % 5].clone();
            edge.rtt_ms.iter_mut().for_each(|ms| *ms += 0.2 * (site / 5) as f64);
            edge
        })
        .collect();
    spec.edges = (0..1_000).map(|proxy| sites[proxy % 20].clone()).collect();
    spec.places.iter_mut().for_each(|place| place.endpoints[0] *= 4);
    spec.demand.iter_mut().for_each(|(_, rate)| *rate *= 4.0);
    spec
}

/// Whether a scenario is one of S18-S25.
#[must_use]
pub fn is_field(name: &str) -> bool {
    let number = name.trim_start_matches('S').split(|c: char| !c.is_ascii_digit()).next();
    number.and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|number| number >= 18)
}

/// The scenario called `name`.
#[must_use]
pub fn named(name: &str) -> Option<Scenario> {
    all(false).into_iter().find(|scenario| scenario.name == name)
}

fn scenario(name: &'static str, about: &'static str, spec: Spec) -> Scenario {
    Scenario { name, about, spec }
}

fn latency() -> Vec<Scenario> {
    let tide = [&[(0.0, 0.7)], &step(10.0, 0.7, 1.3)[..], &step(30.0, 1.3, 0.7)[..]].concat();
    let flash = [&[(0.0, 0.45)], &step(10.0, 0.45, 4.5)[..], &step(20.0, 4.5, 0.45)[..]].concat();
    vec![
        scenario("S0-20-500", "SLATE: one way 20 ms, W 500, E 100", slate(20.0, 500.0)),
        scenario("S0-20-600", "SLATE: one way 20 ms, W 600, E 100", slate(20.0, 600.0)),
        scenario("S0-20-700", "SLATE: one way 20 ms, W 700, E 100", slate(20.0, 700.0)),
        scenario("S0-50-500", "SLATE: one way 50 ms, W 500, E 100", slate(50.0, 500.0)),
        scenario("S0-50-600", "SLATE: one way 50 ms, W 600, E 100", slate(50.0, 600.0)),
        scenario("S0-50-700", "SLATE: one way 50 ms, W 700, E 100", slate(50.0, 700.0)),
        scenario("S1", "load 0.7, 1.3, 0.7 of the IDC", base(45.0, &tide)),
        scenario("S3", "flash crowd: tenfold for 10 s", base(35.0, &flash)),
    ]
}

fn faults() -> Vec<Scenario> {
    let changed = |changes: &[(f64, Change)], load: f64, seconds: f64| Spec {
        changes: changes.to_vec(),
        ..base(seconds, &[(0.0, load)])
    };
    let mut endpoints = changed(
        &[
            (10.0, Change::Faulty { place: 0, endpoints: 1, on: true }),
            (25.0, Change::Faulty { place: 0, endpoints: 4, on: true }),
            (40.0, Change::Faulty { place: 0, endpoints: 4, on: false }),
        ],
        0.5,
        50.0,
    );
    endpoints.places[0].endpoints = vec![5; 4];
    let flapping: Vec<(f64, Change)> = (0..20)
        .flat_map(|n| {
            let at = 10.0 + 6.0 * f64::from(n);
            [(at, Change::Down(0)), (at + 3.0, Change::Up(0))]
        })
        .collect();
    vec![
        scenario(
            "S4",
            "the IDC is out for 30 s",
            changed(&[(10.0, Change::Down(0)), (40.0, Change::Up(0))], 0.7, 55.0),
        ),
        scenario(
            "S5a",
            "grey: the IDC takes three times as long",
            changed(&[(10.0, Change::Slow { place: 0, factor: 3.0 })], 0.7, 40.0),
        ),
        scenario(
            "S5b",
            "the IDC loses 75 % of its servers",
            changed(&[(10.0, Change::Servers { place: 0, factor: 0.25 })], 0.7, 40.0),
        ),
        scenario(
            "S6",
            "sinkhole: a quarter of the IDC, then all of it, says 503 in 1 ms",
            endpoints,
        ),
        scenario(
            "S7",
            "the way to the IDC is 80 ms longer for 20 s",
            changed(
                &[
                    (10.0, Change::Wan { place: 0, ms: 80.0 }),
                    (30.0, Change::Wan { place: 0, ms: 0.0 }),
                ],
                0.7,
                40.0,
            ),
        ),
        scenario(
            "S16",
            "the IDC flaps: up 3 s, down 3 s, for 2 min",
            changed(&flapping, 0.7, 135.0),
        ),
    ]
}

fn others(full: bool) -> Vec<Scenario> {
    let period = if full { 600.0 } else { 120.0 };
    let wave = |n: u32| {
        let part = f64::from(n) / 60.0;
        (part * period, 0.9 - 0.5 * (std::f64::consts::TAU * part).cos())
    };
    let day: Vec<(f64, f64)> = (0..=60).map(wave).collect();
    let mut cold = base(100.0, &[&[(0.0, 0.7)], &step(10.0, 0.7, 2.5)[..]].concat());
    cold.places[1].endpoints = vec![4];
    let scaler =
        Scaler { pod: 4, pods: (1, 20), target: 0.7, delay: 60.0, period: 15.0, forecast: false };
    cold.places[1].scaler = Some(scaler);
    let ramp = [(0.0, 0.7), (20.0, 0.7), (110.0, 2.2)];
    let mut reactive = base(150.0, &ramp);
    reactive.measured_from = 20.0;
    reactive.places.truncate(2);
    reactive.edges = edges(10, &[1.0, 30.0]);
    reactive.places[1].endpoints = vec![4];
    reactive.places[1].scaler = Some(scaler);
    let mut foreseen = reactive.clone();
    foreseen.places[1].scaler = Some(Scaler { forecast: true, ..scaler });
    let mut domino = base(25.0, &[(0.0, 9.0)]);
    domino.edges = edges(1, &[1.0, 30.0, 70.0]);
    for (place, servers) in domino.places.iter_mut().zip([200, 60, 400]) {
        place.endpoints = vec![servers];
    }
    domino.changes = vec![(10.0, Change::Down(0))];
    let mut storm = base(45.0, &[(0.0, 1.2)]);
    storm.impatience = Some(Impatience { timeout: 0.2, retries: 3 });
    for place in 0..3 {
        storm.changes.push((10.0, Change::Servers { place, factor: 0.1 }));
        storm.changes.push((20.0, Change::Servers { place, factor: 1.0 }));
    }
    let mut uneven = base(40.0, &[(0.0, 0.8 * 28.0 / 20.0)]);
    uneven.places.truncate(1);
    uneven.places[0].endpoints = vec![2; 6];
    uneven.places[0].speeds = vec![1.0, 2.0, 4.0, 1.0, 2.0, 4.0];
    uneven.edges = edges(10, &[1.0]);
    let mut mix = base(75.0, &[(0.0, 0.15)]);
    mix.service = Service::Bimodal(0.010, 0.210, 0.05);
    mix.changes = vec![(20.0, Change::Mix(Service::Bimodal(0.010, 0.210, 0.40)))];
    let mut residency = base(30.0, &[(0.0, 1.2)]);
    residency.sensitive = 0.3;
    // The clouds cost a hundredth of a cent per request. The budget pays for 20 spilled requests a second, and for a
    // burst of five minutes.
    let mut money = base(240.0, &[(0.0, 1.02)]);
    money.edges = edges(2, &[1.0, 30.0, 70.0]);
    money.usd_per_hour = Some(MONEY);
    for cloud in &mut money.places[1..] {
        cloud.usd_per_request = 1e-4;
    }
    let trickle = Spec { edges: edges(100, &[1.0, 30.0, 70.0]), ..base(60.0, &[(0.0, 0.1)]) };
    vec![
        scenario("S2", "a day: 0.4 to 1.4 and back", base(period, &day)),
        scenario("S8", "cold cloud: pods are ready 60 s late", cold),
        scenario("S8-reactive", "a ramp to 2.2 in 90 s, the cloud scales by utilisation", reactive),
        scenario("S8-forecast", "likewise, it also follows what the proxies foresee", foreseen),
        scenario("S9", "100 proxies of 5 sites, reports 1 s old", many_sites()),
        scenario("S10", "servers of speed 1:2:4", uneven),
        scenario("S11", "retry storm: clients give up after 200 ms and ask thrice more", storm),
        scenario("S12", "30 % may be served by the IDC alone; load 1.2", residency.clone()),
        scenario("S12b", "a budget for 20 spilled requests/s, two proxies; load 1.02", money),
        scenario("S13", "S1's peak, the stated capacity being true", stated(1.0)),
        scenario("S13-x0.5", "likewise, stated as half", stated(0.5)),
        scenario("S13-x0.8", "likewise, stated as 0.8", stated(0.8)),
        scenario("S13-x1.25", "likewise, stated as 1.25", stated(1.25)),
        scenario("S13-x2", "likewise, stated as twice", stated(2.0)),
        scenario("S14", "the share of slow requests goes from 5 % to 40 %", mix),
        scenario("S15", "one request a second from each of 100 proxies", trickle),
        scenario("S17", "the IDC of one proxy falls; the next place is a third of it", domino),
    ]
}

fn stated(factor: f64) -> Spec {
    let mut spec = base(60.0, &[(0.0, 1.3)]);
    // A wrong capacity must be detected within 30 s.
    spec.measured_from = 35.0;
    spec.places[0].stated = Some(20.0 * factor);
    spec
}

fn many_sites() -> Spec {
    let sites = [
        [1.0, 30.0, 70.0],
        [30.0, 1.0, 50.0],
        [70.0, 50.0, 1.0],
        [12.0, 22.0, 70.0],
        [40.0, 8.0, 45.0],
    ];
    let edges = (0..100)
        .map(|n| EdgeSpec { rtt_ms: sites[n % 5].to_vec(), workers: 2, share: 1.0 })
        .collect();
    Spec {
        edges,
        demand: [&[(0.0, 1.5 * HOME)], &step(10.0, 1.5 * HOME, 3.2 * HOME)[..]].concat(),
        ..base(35.0, &[(0.0, 1.0)])
    }
}
