//! Prequal (Wydrowski et al., NSDI 2024, arXiv 2312.10172): probes sent ahead report in-flight requests and latency of a
//! server; the policy picks the fastest of the cold servers, or the least busy if all are hot. Pool of 16, three probes a
//! request, hot above the 0.6 quantile, probes expire after a second.
//!
//! A probe goes to a server drawn at random, and its result stands for the endpoint. Left out: sinkhole ejection by
//! probes.

use super::open;
use super::spread::draw_endpoint;
use crate::policy::{Ask, Pick, Policy};
use decision::units::Dice;

const POOL: usize = 16;
const PROBES: usize = 3;
const HOT: f64 = 0.6;
const HISTORY: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Probe {
    pick: Pick,
    /// Exchanges in flight for each server of the endpoint.
    load: f64,
    latency: f64,
    back: f64,
}

/// Probes that are answered or in flight, and recent loads.
#[derive(Debug, Default)]
pub struct Prequal {
    pool: Vec<Probe>,
    history: Vec<f64>,
}

impl Prequal {
    fn probe(&mut self, ask: &Ask<'_>, places: &[usize], dice: &mut Dice) {
        for _ in 0..PROBES {
            let pick = draw_endpoint(ask, places, dice);
            let place = pick.place;
            let there = &ask.truth[place].endpoints[pick.endpoint];
            let servers = there.servers.1.max(1) as f64;
            let waiting = there.queue.len() as f64;
            let service = ask.spec.mean_service() * ask.truth[place].slow / there.speed;
            self.pool.push(Probe {
                pick,
                load: (there.busy as f64 + waiting) / servers,
                latency: ask.edge.rtt[place] + service * (1.0 + waiting / servers),
                back: ask.now + ask.edge.rtt[place],
            });
        }
        // The pool holds answers; a probe in flight is not in the pool yet.
        let answered = |probe: &&Probe| probe.back <= ask.now;
        let mut excess = self.pool.iter().filter(answered).count().saturating_sub(POOL);
        self.pool.retain(|probe| {
            let drop = excess > 0 && probe.back <= ask.now;
            excess -= usize::from(drop);
            !drop
        });
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
            .filter(|probe| probe.back <= ask.now && places.contains(&probe.pick.place))
            .collect();
        if usable.len() < 2 {
            return Some(draw_endpoint(ask, &places, dice));
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
        // An exchange is counted on the probe that selected the server.
        let (pick, back) = (best.pick, best.back);
        let servers = ask.spec.places[pick.place].endpoints[pick.endpoint].max(1) as f64;
        if let Some(used) = self.pool.iter_mut().find(|p| p.pick == pick && p.back == back) {
            used.load += 1.0 / servers;
        }
        Some(pick)
    }
}
