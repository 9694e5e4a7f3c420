//! Two oracles with the true state. Neither is a strict bound: O1 does not know the queues, and O2 looks one
//! request ahead.
//!
//! O1: the static split of each second that minimises the mean of distance + service + wait, by M/M/c (Erlang
//! C) with the demand, servers and speeds of that second. O2: each request goes to the place with the least
//! distance + service + twice its wait, for its own wait and for the wait that it causes for others.

use super::{Diffusion, at, open};
use crate::place::Place;
use crate::policy::{Ask, Pick, Policy};
use crate::spec::{Group, Spec};
use decision::plan::Kind;
use decision::units::Dice;

/// O1.
#[derive(Debug)]
pub struct Split {
    weights: Vec<f64>,
    diffusion: Diffusion,
    decided: f64,
    group: Group,
    curves: Vec<Option<(f64, f64)>>,
}

impl Split {
    /// An oracle of a world.
    #[must_use]
    pub fn new(spec: &Spec, edge: usize) -> Split {
        Split {
            weights: vec![0.0; spec.places.len()],
            diffusion: Diffusion::default(),
            decided: -1.0,
            group: spec.group(edge),
            curves: spec.places.iter().map(|place| place.curve).collect(),
        }
    }
}

/// Probability that an arrival waits, of `servers` at `load` erlangs (Erlang C, by the stable recursion).
#[must_use]
pub fn erlang_c(servers: usize, load: f64) -> f64 {
    if load >= servers as f64 {
        return 1.0;
    }
    let mut blocked = 1.0;
    for n in 1..=servers {
        blocked = load * blocked / (n as f64 + load * blocked);
    }
    let utilisation = load / servers as f64;
    blocked / (1.0 - utilisation + utilisation * blocked)
}

/// Mean of distance + service + wait at a rate, in seconds.
fn response(place: &Place, curve: Option<(f64, f64)>, rtt: f64, service: f64, rate: f64) -> f64 {
    if let Some((base, slope)) = curve {
        return rtt + base + slope * rate.powi(4);
    }
    let servers = place.servers();
    if servers == 0 {
        return 1e3;
    }
    let service = service * place.slow / mean_speed(place);
    let load = rate * service;
    let spare = servers as f64 - load;
    if spare <= 0.02 * servers as f64 {
        // Above the capacity the wait grows with time; steep, but finite, so that a split exists.
        return rtt + service + 0.5 + 10.0 * (0.02 - spare / servers as f64);
    }
    rtt + service + erlang_c(servers, load) * service / spare
}

fn mean_speed(place: &Place) -> f64 {
    let sum: f64 = place.endpoints.iter().map(|e| e.speed * e.servers.1 as f64).sum();
    (sum / place.servers().max(1) as f64).max(1e-3)
}

impl Policy for Split {
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick> {
        let places: Vec<usize> =
            open(ask).into_iter().filter(|place| ask.truth[*place].is_up()).collect();
        if ask.sensitive {
            return places.first().map(|place| at(ask.edge, *place, dice));
        }
        if ask.now - self.decided >= 0.25 {
            self.decided = ask.now;
            let all = ask.spec.demand_at(ask.now);
            // The demand that only an IDC may serve is assigned to the IDC first.
            let bound = all * self.group.share * ask.spec.sensitive;
            let home = |place: usize| {
                let nearest = ask.permitted.iter().find(|p| ask.spec.places[**p].kind == Kind::Idc);
                if nearest == Some(&place) { bound } else { 0.0 }
            };
            let rate = all * self.group.share - bound;
            self.weights.fill(0.0);
            // Water-filling on marginal costs: each 400th of the demand goes to the place where the sum of all
            // response times grows least. This is exact for convex costs up to that size.
            let part = rate / 400.0;
            let mut rates = vec![0.0; self.weights.len()];
            let total = |place: usize, rate: f64| {
                let mean = ask.spec.mean_service();
                let there = &ask.truth[place];
                let others = all * self.group.others[place] + home(place);
                let rtt = ask.edge.rtt[place];
                let at = |rate| response(there, self.curves[place], rtt, mean, rate);
                // Other requests at the place are delayed too; their distance is unchanged.
                (rate + others) * at(rate + others) - others * rtt
            };
            for _ in 0..400 {
                let grows = |place: &usize| {
                    total(*place, rates[*place] + part) - total(*place, rates[*place])
                };
                let best = places.iter().copied().min_by(|a, b| grows(a).total_cmp(&grows(b)))?;
                rates[best] += part;
            }
            self.weights = rates;
        }
        let place = self.diffusion.next(&places, &self.weights)?;
        Some(at(ask.edge, place, dice))
    }
}

/// O2.
#[derive(Debug)]
pub struct Threshold;

impl Policy for Threshold {
    fn pick(&mut self, ask: &Ask<'_>, _dice: &mut Dice) -> Option<Pick> {
        let mut best: Option<(f64, Pick)> = None;
        for place in open(ask).into_iter().filter(|place| ask.truth[*place].is_up()) {
            let there = &ask.truth[place];
            for (index, endpoint) in there.endpoints.iter().enumerate() {
                if endpoint.servers.1 == 0 || endpoint.state != crate::place::State::Up {
                    continue;
                }
                let service = ask.spec.mean_service() * there.slow / endpoint.speed;
                // An oracle also knows the requests on their way.
                let seen = endpoint.busy + endpoint.queue.len();
                let coming = (ask.edge.in_flight[place][index] as usize * ask.spec.edges.len())
                    .saturating_sub(seen)
                    .min(seen);
                let ahead = (seen + coming + 1).saturating_sub(endpoint.servers.1) as f64;
                let wait = ahead * service / endpoint.servers.1 as f64;
                let cost = ask.edge.rtt[place] + service + 2.0 * wait;
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, Pick { place, endpoint: index }));
                }
            }
        }
        best.map(|(_, pick)| pick)
    }
}
