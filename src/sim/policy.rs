//! The interface of policies. The production engine and every baseline implement the same trait, with the same
//! inputs: the observations of one proxy. Only oracles use the true state of the places.

use super::place::Place;
use super::spec::Spec;
use decision::pool::{Texts, Told};
use decision::report::Report;
use decision::units::Dice;

/// A choice: place and endpoint by index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pick {
    /// The place.
    pub place: usize,
    /// Its endpoint.
    pub endpoint: usize,
}

/// The state that one proxy observes.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Its number.
    pub index: usize,
    /// Exchanges in flight by place and endpoint.
    pub in_flight: Vec<Vec<u32>>,
    /// Endpoints that its health checks and outlier detection allow.
    pub alive: Vec<Vec<bool>>,
    /// Round trip to each place as probed, in seconds.
    pub rtt: Vec<f64>,
}

impl Edge {
    /// Exchanges in flight at a place.
    #[must_use]
    pub fn at(&self, place: usize) -> u32 {
        self.in_flight[place].iter().sum()
    }

    /// Whether a place has a usable endpoint.
    #[must_use]
    pub fn is_live(&self, place: usize) -> bool {
        self.alive[place].iter().any(|alive| *alive)
    }

    /// The less busy of two usable endpoints; any endpoint when none is usable.
    pub fn endpoint(&self, place: usize, dice: &mut Dice) -> usize {
        let usable: Vec<usize> =
            (0..self.alive[place].len()).filter(|e| self.alive[place][*e]).collect();
        match usable.as_slice() {
            [] => dice.below(self.alive[place].len()),
            [only] => *only,
            [..] => {
                let (a, b) = dice.two_below(usable.len());
                let (a, b) = (usable[a], usable[b]);
                if self.in_flight[place][a] <= self.in_flight[place][b] { a } else { b }
            }
        }
    }
}

/// The inputs of a choice.
pub struct Ask<'a> {
    /// Now, in seconds.
    pub now: f64,
    /// The worker.
    pub worker: usize,
    /// The state that its proxy observes.
    pub edge: &'a Edge,
    /// Permitted places, the nearest by probes first.
    pub permitted: &'a [usize],
    /// Whether only an IDC may serve the request.
    pub sensitive: bool,
    /// The request's service.
    pub service: usize,
    /// The request's path, as far as the proxy distinguishes paths.
    pub path: u8,
    /// Whether the client never finishes its upload.
    pub uploads: bool,
    /// The id of the attempt.
    pub id: u32,
    /// Failed attempts of this exchange.
    pub tried: &'a [Pick],
    /// The true state of the places, for oracles.
    pub truth: &'a [Place],
    /// The world, for oracles, and for configured capacities.
    pub spec: &'a Spec,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Answered.
    Good,
    /// The connection was refused.
    Refused,
    /// The connection was reset before a response.
    Reset,
    /// 503.
    Status,
    /// The client left first.
    Abandoned,
    /// The place closed the exchange because of its client.
    ClientsFault,
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The attempt's place and endpoint.
    pub pick: Pick,
    /// The worker.
    pub worker: usize,
    /// Now, in seconds.
    pub now: f64,
    /// The attempt's duration, in seconds.
    pub latency: f64,
    /// How it ended.
    pub end: End,
    /// The place's load report.
    pub report: Option<Report>,
    /// Whether only an IDC may serve the request.
    pub sensitive: bool,
    /// The request's service.
    pub service: usize,
    /// The id of the attempt.
    pub id: u32,
}

/// The result of a probe.
#[derive(Clone, Copy, Debug)]
pub struct Probed {
    /// The endpoint.
    pub pick: Pick,
    /// Now, in seconds.
    pub now: f64,
    /// The handshake's round trip, in seconds; `None`: it was refused.
    pub rtt: Option<f64>,
    /// From the probe's request to its response, in seconds, if the probe sends a request.
    pub answer: Option<f64>,
    /// The place's load report.
    pub report: Option<Report>,
}

/// Chooses for one proxy.
pub trait Policy {
    /// Picks the place and endpoint of an exchange; `None` sheds it.
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick>;
    /// An attempt ended.
    fn answered(&mut self, _answer: &Answer) {}
    /// Every 50 ms.
    fn tick(&mut self, _now: f64, _edge: &Edge) {}
    /// The endpoints to probe now, if the policy decides; `None` leaves probing to the world.
    fn due_probes(&mut self, _now: f64) -> Option<Vec<Pick>> {
        None
    }
    /// The rate that a place should be able to serve in a minute, in requests a second, for this proxy's demand.
    fn wanted(&self, _place: usize) -> f64 {
        0.0
    }
    /// A probe ended.
    fn probed(&mut self, _probed: &Probed) {}
    /// The response times that the proxy reports to the other proxies of its site. `site`: the number of proxies there, and the
    /// number of this one.
    fn tells(&self, _site: (u32, u64), _now: f64) -> Texts {
        Texts::new()
    }
    /// Another proxy of the site reported these response times.
    fn hears(&mut self, _told: &[Told], _now: f64) {}
    /// A place's endpoints were replaced by as many others.
    fn replaced(&mut self, _place: usize, _now: f64) {}
}

/// Builds the policy of the proxy with this number.
pub type Make<'a> = &'a dyn Fn(&Spec, usize) -> Box<dyn Policy>;
