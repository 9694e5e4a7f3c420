//! A place that serves: endpoints with servers and a queue each, and their load report.

use super::spec::{PlaceSpec, Service};
use decision::report::Report;
use decision::units::Dice;
use std::collections::VecDeque;

/// The behaviour of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The endpoint serves.
    Up,
    /// The endpoint refuses connections.
    Down,
    /// The endpoint answers 503 in a millisecond.
    Faulty,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The number of servers according to the spec, and now.
    pub servers: (usize, usize),
    /// Servers that are busy.
    pub busy: usize,
    /// The queue.
    pub queue: VecDeque<u32>,
    /// The speed of the servers.
    pub speed: f64,
    /// The behaviour.
    pub state: State,
    /// Incremented when all exchanges of the endpoint are lost.
    pub epoch: u32,
}

/// A place.
#[derive(Clone, Debug)]
pub struct Place {
    /// The endpoints of the place.
    pub endpoints: Vec<Endpoint>,
    /// Factor of the service time.
    pub slow: f64,
    /// Milliseconds that are added to the distance.
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
    /// An idle place according to its spec.
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

    /// Servers that are busy.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.busy).sum()
    }

    /// The total number of servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        let up = self.endpoints.iter().filter(|endpoint| endpoint.state == State::Up);
        up.map(|endpoint| endpoint.servers.1).sum()
    }

    /// Exchanges in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.queue.len()).sum()
    }

    /// Whether any endpoint serves.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.state == State::Up)
    }

    /// Advances the account to `now`; call before any change.
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

    /// Counts an arrival.
    pub fn arrived(&mut self) {
        self.arrivals += 1.0 / ARRIVALS;
    }

    /// Counts a completion.
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

    /// The load report.
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
