//! What chooses. The production engine and every baseline answer the same questions, with the same
//! knowledge: what one proxy sees. Oracles alone look at the places themselves.

use super::place::Place;
use super::spec::Spec;
use crate::decision::report::Report;
use crate::decision::units::Dice;

/// A choice: place and endpoint by index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pick {
    /// The place.
    pub place: usize,
    /// Its endpoint.
    pub endpoint: usize,
}

/// What one proxy knows by itself.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Its number.
    pub index: usize,
    /// Exchanges in flight by place and endpoint.
    pub in_flight: Vec<Vec<u32>>,
    /// Which endpoints its health checks and outlier detection let it use.
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

    /// The less busy of two usable endpoints; any when none is usable.
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

/// What a policy is asked.
pub struct Ask<'a> {
    /// Now, in seconds.
    pub now: f64,
    /// Which worker asks.
    pub worker: usize,
    /// What its proxy knows.
    pub edge: &'a Edge,
    /// Places that may serve, nearest by the probes first.
    pub permitted: &'a [usize],
    /// Whether only an IDC may serve it.
    pub sensitive: bool,
    /// Which service it is for.
    pub service: usize,
    /// Its path, as far as the proxy tells paths apart.
    pub path: u8,
    /// Whether its client never finishes its upload.
    pub uploads: bool,
    /// Names the attempt for as long as it lasts.
    pub id: u32,
    /// Failed attempts of this exchange.
    pub tried: &'a [Pick],
    /// The truth, for oracles.
    pub truth: &'a [Place],
    /// The world, for oracles, and for what operators state (capacities).
    pub spec: &'a Spec,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Answered.
    Good,
    /// The connection was refused.
    Refused,
    /// It died before an answer.
    Reset,
    /// 503.
    Status,
    /// The client left first.
    Abandoned,
    /// The place broke it off because of what its client did.
    ClientsFault,
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Where it was.
    pub pick: Pick,
    /// Which worker's.
    pub worker: usize,
    /// Now, in seconds.
    pub now: f64,
    /// How long it took.
    pub latency: f64,
    /// How it ended.
    pub end: End,
    /// What the place says of its load.
    pub report: Option<Report>,
    /// Whether only an IDC might serve it.
    pub sensitive: bool,
    /// Which service it was for.
    pub service: usize,
    /// What named the attempt.
    pub id: u32,
}

/// What a probe came back with.
#[derive(Clone, Copy, Debug)]
pub struct Probed {
    /// Which endpoint.
    pub pick: Pick,
    /// Now, in seconds.
    pub now: f64,
    /// The handshake's round trip, in seconds; `None`: it was refused.
    pub rtt: Option<f64>,
    /// From the probe's request to its answer, where it sends one.
    pub answer: Option<f64>,
    /// What the place says of its load.
    pub report: Option<Report>,
}

/// Chooses for one proxy.
pub trait Policy {
    /// Where the exchange goes; `None` sheds it.
    fn pick(&mut self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Pick>;
    /// An attempt ended.
    fn answered(&mut self, _answer: &Answer) {}
    /// Every 50 ms.
    fn tick(&mut self, _now: f64, _edge: &Edge) {}
    /// Which endpoints to probe now, if the policy says so itself; `None` leaves it to the world.
    fn due_probes(&mut self, _now: f64) -> Option<Vec<Pick>> {
        None
    }
    /// What a place should be able to serve a minute from now, in requests a second, of this proxy's.
    fn wanted(&self, _place: usize) -> f64 {
        0.0
    }
    /// A probe came back.
    fn probed(&mut self, _probed: &Probed) {}
    /// A place's endpoints were replaced by as many others.
    fn replaced(&mut self, _place: usize, _now: f64) {}
}

/// Makes the policy of the proxy with this number.
pub type Make<'a> = &'a dyn Fn(&Spec, usize) -> Box<dyn Policy>;
