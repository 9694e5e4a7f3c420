//! The effect of a change of dial under the current load: the production decisions in virtual time, before and after
//! the change.
//!
//! [`expect`] simulates one service with its measured distances, service times and demand, once with the current
//! dials and once with the changed dial. Both runs have the same seed, so that they differ by the dial alone.
//!
//! # Units
//! Seconds, exchanges a second; milliseconds and dollars an hour in results.

use super::engine::Engine;
use super::outcome::{NOWHERE, Outcome};
use super::policy::Policy;
use super::spec::{EdgeSpec, PlaceSpec, Service, Spec};
use super::world;
use decision::change::Shift;
use decision::permit::Permitted;
use decision::plan::{Class, Cluster, ClusterIndex, Kind, Plan, ServiceIndex};
use std::sync::Arc;

/// Virtual seconds of a run, and when measuring begins.
pub const SECONDS: f64 = 14.0;
const MEASURED_FROM: f64 = 6.0;
/// The most requests a second in a simulation; a greater demand is scaled down together with the clusters.
const RATE_MAX: f64 = 600.0;
/// The assumed load of a cluster of unknown capacity, and of a cluster that is known to be full.
const USUAL_LOAD: f64 = 0.6;
const FULL_LOAD: f64 = 0.95;

/// The known properties of a cluster.
#[derive(Clone, Debug)]
pub struct Known {
    /// Round trip.
    pub distance: f64,
    /// Service time, if known.
    pub service: Option<f64>,
    /// Exchanges a second of this class now.
    pub rate: f64,
    /// Whether the cluster currently accepts less than it is offered.
    pub full: bool,
    /// The current dial and the changed dial, in percent.
    pub dials: (u8, u8),
    /// Bytes of a response, for the price.
    pub bytes: f64,
}

/// The figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Exchanges a second by cluster, parallel to the given clusters.
    pub rates: Vec<f64>,
    /// Exchanges a second that were not served.
    pub refused: f64,
    /// 99th percentile in milliseconds, if any exchange was served.
    pub p99_ms: Option<f64>,
    /// Dollars an hour.
    pub usd_per_hour: f64,
}

/// The figures before and after the change, and the assumptions.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// With the current dials.
    pub now: Figures,
    /// With the changed dial.
    pub after: Figures,
    /// Values that were not measured.
    pub assumed: Vec<String>,
}

/// The demand of a class.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Exchanges a second.
    pub rate: f64,
    /// Deviation of the logarithm of response times, if known; otherwise service times are exponential.
    pub spread: Option<f64>,
}

/// The effect of the dials of `clusters`, and of the shifts before and after the change, on a class with this demand.
#[must_use]
pub fn expect(
    plan: &Plan,
    class: &Class,
    clusters: &[(ClusterIndex, Known)],
    Demand { rate: demand, spread }: Demand,
    shifts: (Option<&Shift>, Option<&Shift>),
    seed: u64,
) -> Expectation {
    let mut expectation = Expectation::default();
    let scale = (demand / RATE_MAX).max(1.0);
    let known = clusters.iter().filter_map(|(_, known)| known.service);
    let service = known.fold(f64::INFINITY, f64::min);
    let service = if service.is_finite() { service } else { 0.020 };
    let mut spec = spec(plan, clusters, (demand / scale, service), scale, &mut expectation.assumed);
    match spread {
        Some(spread) => spec.service = Service::Lognormal(service, spread.clamp(0.02, 1.5)),
        None => expectation.assumed.push("exponential service times".to_owned()),
    }
    let run = |dial: &dyn Fn(&Known) -> u8, shift: Option<&Shift>| {
        let all: Vec<Cluster> = clusters
            .iter()
            .map(|(index, known)| Cluster { dial: dial(known), ..plan.clusters[*index].clone() })
            .collect();
        let own = Arc::new(scaled(own_plan(plan, class, all), scale));
        let make = |spec: &Spec, edge: usize| -> Box<dyn Policy> {
            let mut engine = Engine::with_plan(own.clone(), spec, edge, seed);
            if let Some(shift) = shift {
                engine.shift(shift.clone());
            }
            Box::new(engine)
        };
        figures(&spec, &world::run(&spec, &make, seed), scale)
    };
    expectation.now = run(&|known| known.dials.0, shifts.0);
    expectation.after = run(&|known| known.dials.1, shifts.1);
    expectation
}

/// A plan whose lines are as much narrower as the demand is less.
fn scaled(mut plan: Plan, scale: f64) -> Plan {
    for group in &mut plan.groups {
        let narrower = |most: u32| (f64::from(most) / scale).round().max(1.0) as u32;
        group.concurrent = group.concurrent.map(narrower);
        group.bytes_per_s = group.bytes_per_s.map(|rate| rate / scale);
    }
    plan
}

/// A plan with these clusters and the service of a class alone, with all their settings.
#[must_use]
pub fn own_plan(plan: &Plan, class: &Class, clusters: Vec<Cluster>) -> Plan {
    let all: Vec<ClusterIndex> = (0..clusters.len()).map(ClusterIndex).collect();
    let mut service = plan.services[class.service].clone();
    service.clusters.clone_from(&all);
    let class = |id| Class {
        service: ServiceIndex(0),
        permitted: Permitted { clusters: all.clone(), rejected: Vec::new() },
        id,
        ..class.clone()
    };
    Plan {
        site: plan.site.clone(),
        environment: plan.environment.clone(),
        clusters: clusters.into_iter().collect(),
        groups: plan.groups.clone(),
        services: vec![service].into(),
        classes: vec![class(1), class(2)].into(),
        ..Plan::default()
    }
}

fn spec(
    plan: &Plan,
    clusters: &[(ClusterIndex, Known)],
    (demand, service): (f64, f64),
    scale: f64,
    assumed: &mut Vec<String>,
) -> Spec {
    let place = |(index, known): &(ClusterIndex, Known)| {
        let cluster = &plan.clusters[*index];
        let own = known.service.unwrap_or(service);
        let servers = servers(cluster, known, own, demand * scale, assumed) / scale;
        let servers = (servers.round() as usize).max(1);
        PlaceSpec {
            speeds: vec![(service / own).clamp(0.01, 100.0)],
            usd_per_request: cluster.prices.dollars(known.bytes),
            response_bytes: known.bytes,
            ..PlaceSpec::queue(&cluster.name, cluster.kind, servers)
        }
    };
    let places = clusters.iter().map(place).collect();
    let rtt_ms = clusters.iter().map(|(_, known)| known.distance * 1e3).collect();
    Spec {
        places,
        edges: vec![EdgeSpec { rtt_ms, workers: 2, share: 1.0 }],
        service: Service::Exponential(service),
        kinds: Vec::new(),
        services: 1,
        probe: None,
        demand: vec![(0.0, demand)],
        changes: Vec::new(),
        seconds: SECONDS,
        measured_from: MEASURED_FROM,
        reports: None,
        fleet: false,
        jitter: 0.1,
        impatience: None,
        sensitive: 0.0,
        usd_per_hour: None,
    }
}

/// Exchanges that a cluster can work on at once.
fn servers(
    cluster: &Cluster,
    known: &Known,
    service: f64,
    demand: f64,
    assumed: &mut Vec<String>,
) -> f64 {
    if known.full {
        return (known.rate * service / FULL_LOAD).max(1.0);
    }
    if let Some(stated) = cluster.ceiling.or(cluster.capacity) {
        return f64::from(stated);
    }
    let load = match cluster.kind {
        Kind::Idc => known.rate.max(demand) * service / USUAL_LOAD,
        Kind::Cloud => 4.0 * known.rate.max(demand) * service / USUAL_LOAD,
    };
    let servers = load.ceil().max(1.0);
    assumed.push(format!("{} works on {servers} exchanges at once", cluster.name));
    servers
}

fn figures(spec: &Spec, outcome: &Outcome, scale: f64) -> Figures {
    let span = SECONDS - MEASURED_FROM;
    let mut figures = Figures { rates: vec![0.0; spec.places.len()], ..Figures::default() };
    let measured = |at: f32| (MEASURED_FROM..SECONDS).contains(&f64::from(at));
    for record in outcome.records.iter().filter(|record| measured(record.at)) {
        match figures.rates.get_mut(usize::from(record.place)) {
            Some(rate) if record.place != NOWHERE && record.ok => *rate += scale / span,
            Some(_) | None => figures.refused += scale / span,
        }
    }
    for (rate, place) in figures.rates.iter().zip(&spec.places) {
        figures.usd_per_hour += rate * place.usd_per_request * 3600.0;
    }
    let summary = outcome.between(MEASURED_FROM, SECONDS);
    figures.p99_ms = (summary.good > 0.0).then_some(summary.p99);
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;
    use decision::capacity_group::CapacityGroup;
    use decision::plan::ClassIndex;
    use decision::price::Prices;

    /// Three places; the first is full.
    fn asked(dial: u8) -> Expectation {
        priced(dial, Prices::default(), 0.0)
    }

    /// The same with a price of the first place, and responses of this size.
    fn priced(dial: u8, prices: Prices, bytes: f64) -> Expectation {
        world(dial, prices, bytes, None)
    }

    fn world(dial: u8, prices: Prices, bytes: f64, shift: Option<&Shift>) -> Expectation {
        let place = |name, kind| PlaceSpec::queue(name, kind, 4);
        let places = vec![place("idc", Kind::Idc), place("near", Kind::Cloud)];
        let mut assumed = Vec::new();
        let template = spec(&Plan::default(), &[], (1.0, 0.02), 1.0, &mut assumed);
        let mut plan = engine::plan(&Spec { places, ..template });
        plan.clusters[ClusterIndex(0)].prices = prices;
        let known = |distance, rate, dials| Known {
            distance,
            service: Some(0.02),
            rate,
            full: false,
            dials,
            bytes,
        };
        let near = (ClusterIndex(0), known(0.001, 100.0, (100, dial)));
        let clusters = [near, (ClusterIndex(1), known(0.03, 0.0, (100, 100)))];
        let demand = Demand { rate: 100.0, spread: Some(0.2) };
        expect(&plan, &plan.classes[ClassIndex(0)], &clusters, demand, (None, shift), 1)
    }

    #[test]
    fn a_drain_moves_everything_to_the_next() {
        let told = asked(0);
        assert!(told.now.rates[0] > 95.0 && told.now.rates[1] < 5.0, "{told:?}");
        assert!(told.after.rates[0] < 1.0 && told.after.rates[1] > 95.0, "{told:?}");
        assert!(told.after.p99_ms > told.now.p99_ms, "{told:?}");
        assert!(told.after.refused < 1.0, "{told:?}");
    }

    #[test]
    fn the_price_of_a_gib_is_distance_for_large_responses() {
        // A MiB costs a ten-thousandth of a dollar, which counts as 98 ms; the other place is 29 ms farther.
        let prices = Prices { per_gib: 0.1, per_million_requests: 0.0 };
        let (small, large) = (priced(100, prices, 1_024.0), priced(100, prices, 1_048_576.0));
        assert!(small.now.rates[0] > 90.0, "{small:?}");
        assert!(large.now.rates[1] > 80.0, "{large:?}");
    }

    #[test]
    fn a_line_is_narrower_in_a_smaller_world() {
        let group = CapacityGroup {
            name: "line".to_owned(),
            concurrent: Some(40),
            bytes_per_s: Some(1e6),
            shared: false,
        };
        let plan = scaled(Plan { groups: vec![group].into(), ..Plan::default() }, 4.0);
        let group = plan.groups.first().unwrap();
        assert_eq!((group.concurrent, group.bytes_per_s), (Some(10), Some(250_000.0)));
    }

    #[test]
    fn a_shift_moves_its_part() {
        let shift = Shift { from: "idc".to_owned(), to: "near".to_owned(), percent: 40 };
        let told = world(100, Prices::default(), 0.0, Some(&shift));
        assert!(told.now.rates[0] > 95.0 && told.now.rates[1] < 5.0, "{told:?}");
        assert!((30.0..50.0).contains(&told.after.rates[1]), "{told:?}");
    }

    #[test]
    fn a_dial_moves_its_part_and_no_change_moves_nothing() {
        let half = asked(50);
        assert!((40.0..60.0).contains(&half.after.rates[1]), "{half:?}");
        let same = asked(100);
        assert_eq!(same.now, same.after);
    }
}
