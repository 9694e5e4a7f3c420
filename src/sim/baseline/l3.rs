//! L3 (Middleware 2024; `w = 100 / ((inflight / rps + 1)^2 (L + 0.6 (1/S - 1)))`): new weights every 5 s
//! from averages over 5 s (latency, in flight) and 10 s (success, rate). Latency is the mean of the window.
//! Left out: the rate control, whose published code gives the same weights within noise in these worlds.

use super::{Diffusion, at, open};
use crate::policy::{Answer, Ask, Edge, End, Pick, Policy};
use crate::spec::Spec;
use decision::units::Dice;

const PERIOD: f64 = 5.0;

#[derive(Clone, Copy, Debug)]
struct Seen {
    latency: f64,
    in_flight: f64,
    success: f64,
    rate: f64,
    /// Since the last weights: sum, good, all.
    window: (f64, f64, f64),
}

/// Weights by place.
#[derive(Debug)]
pub struct L3 {
    seen: Vec<Seen>,
    weights: Vec<f64>,
    diffusion: Diffusion,
    decided: f64,
}

impl L3 {
    /// Starts with the initial averages of the published controller.
    #[must_use]
    pub fn new(spec: &Spec) -> L3 {
        let first = Seen {
            latency: 5.0,
            in_flight: 0.0,
            success: 1.0,
            rate: 100.0,
            window: (0.0, 0.0, 0.0),
        };
        L3 {
            seen: vec![first; spec.places.len()],
            weights: vec![1.0; spec.places.len()],
            diffusion: Diffusion::default(),
            decided: 0.0,
        }
    }
}

impl Policy for L3 {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let place = self.diffusion.next(&open(ask), &self.weights)?;
        Some(at(ask.edge, place, dice))
    }

    fn answered(&mut self, answer: &Answer) {
        let (sum, good, all) = &mut self.seen[answer.pick.place].window;
        *all += 1.0;
        if answer.end == End::Good {
            *good += 1.0;
            *sum += answer.latency;
        }
    }

    fn tick(&mut self, now: f64, edge: &Edge) {
        if now - self.decided < PERIOD {
            return;
        }
        self.decided = now;
        for (place, seen) in self.seen.iter_mut().enumerate() {
            let (quick, slow) = (1.0 - (-1.0_f64).exp(), 1.0 - (-0.5_f64).exp());
            let (sum, good, all) = std::mem::take(&mut seen.window);
            let latency = if good > 0.0 { sum / good } else { 0.1 };
            let success = if all > 0.0 { good / all } else { 1.0 };
            seen.latency += quick * (latency - seen.latency);
            seen.in_flight += quick * (f64::from(edge.at(place)) - seen.in_flight);
            seen.success += slow * (success - seen.success);
            seen.rate += slow * ((all / PERIOD).max(0.01) - seen.rate);
            let estimate = seen.latency + 0.6 * (1.0 / seen.success.max(0.01) - 1.0);
            let load = seen.in_flight / seen.rate + 1.0;
            self.weights[place] = (100.0 / (load * load * estimate)).max(1.0);
        }
    }
}
