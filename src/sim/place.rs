//! A place that serves: endpoints with servers and a queue each, and what it reports of itself.

use super::spec::{PlaceSpec, Service};
use crate::decision::report::Report;
use crate::decision::units::Dice;
use std::collections::VecDeque;

/// What an endpoint does with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It serves.
    Up,
    /// It refuses connections.
    Down,
    /// It answers 503 in a millisecond.
    Faulty,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Servers by its spec, and now.
    pub servers: (usize, usize),
    /// Servers at work.
    pub busy: usize,
    /// Who waits.
    pub queue: VecDeque<u32>,
    /// How quick its servers are.
    pub speed: f64,
    /// What it does.
    pub state: State,
    /// Grows when all it had is lost.
    pub epoch: u32,
}

/// A place.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// How many times as long it takes.
    pub slow: f64,
    /// Milliseconds by which the way here is longer.
    pub wan_ms: f64,
    curve: Option<(f64, f64)>,
    stated: Option<f64>,
    /// Decayed sums over a second: busy seconds, completions, time.
    busy_area: f64,
    completions: f64,
    span: f64,
    good: f64,
    arrivals: f64,
    updated: f64,
}

/// Window of service time and completions in a report, and of arrivals.
const WINDOW: f64 = 1.0;
const ARRIVALS: f64 = 0.2;

impl Place {
    /// A place by its spec, idle.
    #[must_use]
    pub fn new(spec: &PlaceSpec) -> Place {
        let endpoint = |(index, servers): (usize, &usize)| Endpoint {
            servers: (*servers, *servers),
            busy: 0,
            queue: VecDeque::new(),
            speed: spec.speeds.get(index).copied().unwrap_or(1.0),
            state: State::Up,
            epoch: 0,
        };
        Place {
            endpoints: spec.endpoints.iter().enumerate().map(endpoint).collect(),
            slow: 1.0,
            wan_ms: 0.0,
            curve: spec.curve,
            stated: spec.stated,
            busy_area: 0.0,
            completions: 0.0,
            span: 0.0,
            good: 0.0,
            arrivals: 0.0,
            updated: 0.0,
        }
    }

    /// Servers at work.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.busy).sum()
    }

    /// Servers there are.
    #[must_use]
    pub fn servers(&self) -> usize {
        let up = self.endpoints.iter().filter(|endpoint| endpoint.state == State::Up);
        up.map(|endpoint| endpoint.servers.1).sum()
    }

    /// Who waits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.queue.len()).sum()
    }

    /// Whether anybody serves.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.state == State::Up)
    }

    /// Moves its account on to `now`; call before anything changes.
    pub fn account(&mut self, now: f64) {
        let elapsed = now - self.updated;
        self.updated = now;
        let keep = (-elapsed / WINDOW).exp();
        self.busy_area = self.busy_area * keep + self.busy() as f64 * elapsed;
        self.span = self.span * keep + elapsed;
        self.completions *= keep;
        self.good *= keep;
        self.arrivals *= (-elapsed / ARRIVALS).exp();
    }

    /// Notes an arrival.
    pub fn arrived(&mut self) {
        self.arrivals += 1.0 / ARRIVALS;
    }

    /// Notes a completion.
    pub fn completed(&mut self) {
        self.completions += 1.0;
        self.good += 1.0 / WINDOW;
    }

    /// One service time here, in seconds.
    pub fn service(&self, endpoint: usize, service: &Service, dice: &mut Dice) -> f64 {
        if let Some((base, slope)) = self.curve {
            let rate = self.arrivals;
            return (base + slope * rate.powi(4)) * self.slow * (0.9 + 0.2 * dice.unit());
        }
        service.draw(dice) * self.slow / self.endpoints[endpoint].speed
    }

    /// What it says of itself.
    #[must_use]
    pub fn report(&self) -> Report {
        let in_flight = (self.busy() + self.waiting()) as f64;
        let capacity = self.stated.unwrap_or(self.servers() as f64);
        let service = if self.completions < 0.5 { 0.0 } else { self.busy_area / self.completions };
        let queue = match capacity > 0.0 && self.curve.is_none() {
            true => (in_flight - capacity).max(0.0) * service / capacity,
            false => 0.0,
        };
        Report {
            queue,
            service,
            in_flight,
            capacity: Some(capacity).filter(|_| self.curve.is_none()),
            utilisation: None,
            arrivals: self.arrivals,
            good: self.good,
            age: 0.0,
        }
    }
}
