//! Prequal (Wydrowski et al., NSDI 2024, arXiv 2312.10172): probes sent ahead say how busy and how slow a
//! server is; the fastest of the cold ones, or the least busy if all are hot. Pool of 16, three probes a
//! request, hot above the 0.6 quantile, probes die after a second.
//!
//! A place's servers are alike, so a probe speaks for its place. Left out: sinkhole ejection by probes.

use super::spread::draw;
use super::{at, open};
use crate::decision::units::Dice;
use crate::sim::policy::{Ask, Pick, Policy};

const POOL: usize = 16;
const PROBES: usize = 3;
const HOT: f64 = 0.6;
const HISTORY: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Probe {
    place: usize,
    /// In flight for each server there.
    load: f64,
    latency: f64,
    back: f64,
}

/// Probes that are back or on their way, and recent loads.
#[derive(Debug, Default)]
pub struct Prequal {
    pool: Vec<Probe>,
    history: Vec<f64>,
}

impl Prequal {
    fn probe(&mut self, ask: &Ask<'_>, places: &[usize], dice: &mut Dice) {
        for _ in 0..PROBES {
            let place = draw(ask, places, dice);
            let there = &ask.truth[place];
            let servers = there.servers().max(1) as f64;
            let waiting = there.waiting() as f64;
            let service = ask.spec.service.mean() * there.slow;
            self.pool.push(Probe {
                place,
                load: (there.busy() as f64 + waiting) / servers,
                latency: ask.edge.rtt[place] + service * (1.0 + waiting / servers),
                back: ask.now + ask.edge.rtt[place],
            });
        }
        let excess = self.pool.len().saturating_sub(POOL + PROBES);
        self.pool.drain(..excess);
    }
}

impl Policy for Prequal {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places = open(ask);
        if places.is_empty() {
            return None;
        }
        self.probe(ask, &places, dice);
        self.pool.retain(|probe| ask.now - probe.back < 1.0);
        let usable: Vec<Probe> = self
            .pool
            .iter()
            .copied()
            .filter(|probe| probe.back <= ask.now && places.contains(&probe.place))
            .collect();
        if usable.len() < 2 {
            let place = draw(ask, &places, dice);
            return Some(at(ask.edge, place, dice));
        }
        self.history.extend(usable.iter().take(2).map(|probe| probe.load));
        let excess = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..excess);
        let mut loads = self.history.clone();
        loads.sort_by(f64::total_cmp);
        let hot = loads[((loads.len() - 1) as f64 * HOT) as usize];
        let cold = usable.iter().filter(|probe| probe.load <= hot);
        let best = cold
            .min_by(|a, b| a.latency.total_cmp(&b.latency))
            .or_else(|| usable.iter().min_by(|a, b| a.load.total_cmp(&b.load)))?;
        // What was sent is counted on the probe it used.
        let servers = ask.truth[best.place].servers().max(1) as f64;
        let (place, back) = (best.place, best.back);
        if let Some(used) = self.pool.iter_mut().find(|p| p.place == place && p.back == back) {
            used.load += 1.0 / servers;
        }
        Some(at(ask.edge, place, dice))
    }
}
