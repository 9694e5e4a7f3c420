//! Changes in the world: faults, releases, autoscalers.

use super::{Event, World};
use crate::place::State;
use crate::policy::End;
use crate::spec::Change;
use std::cmp::Reverse;

impl World<'_> {
    pub(super) fn change(&mut self, change: Change) {
        let now = self.seconds();
        match change {
            Change::Servers { place, factor } => {
                self.places[place].account(now);
                for endpoint in 0..self.places[place].endpoints.len() {
                    let by_spec = self.places[place].endpoints[endpoint].servers.0;
                    self.places[place].endpoints[endpoint].servers.1 =
                        (by_spec as f64 * factor).round() as usize;
                    self.fill(place, endpoint);
                }
            }
            Change::Slow { place, factor } => self.places[place].slow = factor,
            Change::Down(place) => self.fall(place),
            Change::Up(place) => {
                for endpoint in &mut self.places[place].endpoints {
                    endpoint.state = State::Up;
                }
            }
            Change::Faulty { place, endpoints, on } => {
                for endpoint in self.places[place].endpoints.iter_mut().take(endpoints) {
                    endpoint.state = if on { State::Faulty } else { State::Up };
                }
            }
            Change::Wan { place, ms } => self.places[place].wan_ms = ms,
            Change::Mix(service) => self.service = service,
            Change::Release(factor) => {
                self.places.iter_mut().for_each(|place| place.slow = factor);
            }
            Change::Replaced { place, factor } => {
                // The old endpoints drain: their exchanges are served to the end.
                self.places[place].slow = factor;
                self.proxies.iter_mut().for_each(|proxy| proxy.policy.replaced(place, now));
            }
        }
    }

    /// A place goes down: its exchanges are lost.
    fn fall(&mut self, place: usize) {
        let now = self.seconds();
        self.places[place].account(now);
        let mut lost = Vec::new();
        for endpoint in &mut self.places[place].endpoints {
            endpoint.state = State::Down;
            endpoint.epoch += 1;
            endpoint.busy = 0;
            lost.extend(endpoint.queue.drain(..));
        }
        // Exchanges in service are found among the pending events, which are cancelled.
        let served: Vec<u32> = self
            .events
            .iter()
            .filter_map(|Reverse((_, _, event))| match event {
                Event::Served { place: there, epoch, endpoint, request }
                    if *there as usize == place
                        && *epoch + 1 == self.places[place].endpoints[*endpoint as usize].epoch =>
                {
                    Some(*request)
                }
                _ => None,
            })
            .collect();
        lost.extend(served);
        lost.sort_unstable();
        for id in lost {
            self.turn_back(id, End::Reset, 0.0);
        }
    }

    /// Starts waiting requests if servers are free.
    pub(super) fn fill(&mut self, place: usize, endpoint: usize) {
        loop {
            let there = &mut self.places[place].endpoints[endpoint];
            if there.busy >= there.servers.1 {
                return;
            }
            let Some(next) = there.queue.pop_front() else { return };
            if self.requests[next as usize].abandoned {
                // The client's connection was closed, and the upstream connection with it: the request is not served.
                self.turn_back(next, End::Abandoned, 0.0);
                continue;
            }
            there.busy += 1;
            self.serve(next);
        }
    }

    pub(super) fn scale(&mut self, place: usize) {
        let Some(scaler) = self.spec.places[place].scaler else { return };
        if self.seconds() < self.spec.seconds {
            self.after(scaler.period, Event::Scale(place as u32));
        }
        let rps: f64 = self.proxies.iter().map(|proxy| proxy.policy.wanted(place)).sum();
        if let Some(servers) = scaler.decide(&self.places[place], rps * self.service.mean()) {
            let servers = servers as u32;
            self.after(scaler.delay, Event::Grow { place: place as u32, servers });
        }
    }

    pub(super) fn resize(&mut self, place: usize, servers: usize) {
        let now = self.seconds();
        self.places[place].account(now);
        let there = &mut self.places[place].endpoints[0];
        there.servers.1 = there.servers.1.max(servers);
        self.fill(place, 0);
    }
}
