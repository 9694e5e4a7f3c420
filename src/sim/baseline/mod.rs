//! Published policies, each in a file that names its source and its omissions. All have the same inputs as the
//! engine: probes, their own exchanges, and reports if the world has reports. All have the same health checks
//! and outlier detection. Capacities that an operator would have to configure are the true ones.

pub mod c3;
pub mod dgd;
pub mod gmsr;
pub mod hazl;
pub mod l3;
pub mod load_aware;
pub mod locality;
pub mod oracle;
pub mod peak_ewma;
pub mod prequal;
pub mod spread;
pub mod waterfall;

use super::engine::Engine;
use super::policy::{Ask, Edge, Pick, Policy};
use super::spec::Spec;
use decision::units::Dice;

/// A policy's name in tables, and its constructor for a proxy.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Builds the policy of the proxy with this number, with this seed.
    pub make: fn(&Spec, usize, u64) -> Box<dyn Policy>,
}

/// All policies, the engine first and the oracles last.
pub const ALL: &[Entry] = &[
    Entry { name: "tidegate", make: |s, e, d| Box::new(Engine::new(s, e, d)) },
    Entry { name: "round-robin", make: |_, _, _| Box::new(spread::RoundRobin::default()) },
    Entry { name: "least-request", make: |_, _, _| Box::new(spread::LeastRequest) },
    Entry { name: "locality-failover", make: |_, _, _| Box::new(locality::Failover) },
    Entry { name: "envoy-priority", make: |_, _, _| Box::new(locality::Priority) },
    Entry { name: "waterfall-0.6", make: |s, e, _| Box::new(waterfall::Waterfall::new(s, e, 0.6)) },
    Entry { name: "waterfall-0.8", make: |s, e, _| Box::new(waterfall::Waterfall::new(s, e, 0.8)) },
    Entry { name: "waterfall-0.9", make: |s, e, _| Box::new(waterfall::Waterfall::new(s, e, 0.9)) },
    Entry { name: "waterfall-1.0", make: |s, e, _| Box::new(waterfall::Waterfall::new(s, e, 1.0)) },
    Entry { name: "waterfall-1.1", make: |s, e, _| Box::new(waterfall::Waterfall::new(s, e, 1.1)) },
    Entry { name: "hazl", make: |_, _, _| Box::new(hazl::Hazl::default()) },
    Entry { name: "envoy-load-aware", make: |s, _, _| Box::new(load_aware::LoadAware::new(s)) },
    Entry { name: "peak-ewma", make: |s, _, _| Box::new(peak_ewma::PeakEwma::new(s)) },
    Entry { name: "prequal", make: |_, _, _| Box::new(prequal::Prequal::default()) },
    Entry { name: "c3", make: |s, _, _| Box::new(c3::C3::new(s)) },
    Entry { name: "l3", make: |s, _, _| Box::new(l3::L3::new(s)) },
    Entry { name: "gmsr", make: |_, _, _| Box::new(gmsr::Gmsr::default()) },
    Entry { name: "dgd-lb", make: |s, _, _| Box::new(dgd::Dgd::new(s)) },
    Entry { name: "O1", make: |s, e, _| Box::new(oracle::Split::new(s, e)) },
    Entry { name: "O2", make: |_, _, _| Box::new(oracle::Threshold) },
];

/// The entry called `name`.
#[must_use]
pub fn entry(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}

/// Permitted places that are live and not tried yet, nearest first; then those that are tried.
#[must_use]
pub fn open(ask: &Ask<'_>) -> Vec<usize> {
    let live = ask.permitted.iter().copied().filter(|place| ask.edge.is_live(*place));
    let tried = |place: &usize| ask.tried.iter().any(|pick| pick.place == *place);
    let all: Vec<usize> = live.collect();
    let fresh: Vec<usize> = all.iter().copied().filter(|place| !tried(place)).collect();
    if fresh.is_empty() { all } else { fresh }
}

/// An endpoint of a place.
pub fn at(edge: &Edge, place: usize, dice: &mut Dice) -> Pick {
    Pick { place, endpoint: edge.endpoint(place, dice) }
}

/// Number of servers, as an operator would configure it.
#[must_use]
pub fn stated(spec: &Spec, place: usize) -> f64 {
    let spec = &spec.places[place];
    spec.stated.unwrap_or(spec.endpoints.iter().sum::<usize>() as f64)
}

/// A split applied by error diffusion: a tenth is every tenth exchange.
#[derive(Clone, Debug, Default)]
pub struct Diffusion(Vec<f64>);

impl Diffusion {
    /// The place of the next turn, by `weights` over `places`.
    pub fn next(&mut self, places: &[usize], weights: &[f64]) -> Option<usize> {
        let all: f64 = places.iter().map(|place| weights[*place]).sum();
        if self.0.len() < weights.len() {
            self.0.resize(weights.len(), 0.0);
        }
        if all <= 0.0 {
            return places.first().copied();
        }
        for place in places {
            self.0[*place] += weights[*place] / all;
        }
        let best = places.iter().copied().max_by(|a, b| self.0[*a].total_cmp(&self.0[*b]))?;
        self.0[best] -= 1.0;
        Some(best)
    }
}
