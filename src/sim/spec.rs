//! What a world is: places, edges, demand, and what changes when. Plain data.

use crate::decision::plan::Kind;
use crate::decision::units::Dice;

/// A world to simulate. Seconds and requests a second, unless a name says otherwise.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where requests are served, in the operator's order.
    pub places: Vec<PlaceSpec>,
    /// Where they come from.
    pub edges: Vec<EdgeSpec>,
    /// How long serving one takes, where its kind does not say otherwise.
    pub service: Service,
    /// Kinds of request; where there are none, all are alike.
    pub kinds: Vec<RequestKind>,
    /// How many services share the places, each with the same part of the demand.
    pub services: usize,
    /// Work of an http probe at a server, in seconds: it waits in the queue like a request. Without it probes
    /// only connect.
    pub probe: Option<f64>,
    /// Requests a second of all edges at these moments, linear between them.
    pub demand: Vec<(f64, f64)>,
    /// What changes, and when.
    pub changes: Vec<(f64, Change)>,
    /// How long it goes on.
    pub seconds: f64,
    /// From when on it is measured.
    pub measured_from: f64,
    /// Whether places report their load, and how old a report is when it arrives.
    pub reports: Option<f64>,
    /// Standard deviation of the logarithm of a path's time.
    pub jitter: f64,
    /// Clients that give up and ask again, by themselves.
    pub impatience: Option<Impatience>,
    /// The share of requests that may be served by an IDC alone.
    pub sensitive: f64,
    /// What spilling may cost, of all proxies together, each with the same part.
    pub usd_per_hour: Option<f64>,
}

/// Where requests are served.
#[derive(Clone, Debug)]
pub struct PlaceSpec {
    /// Its name.
    pub name: String,
    /// IDC or cloud.
    pub kind: Kind,
    /// How many servers each endpoint has; they share a queue.
    pub endpoints: Vec<usize>,
    /// How quick each endpoint is; 1 where it says nothing.
    pub speeds: Vec<f64>,
    /// What it is said to take at once; the truth where it says nothing.
    pub stated: Option<f64>,
    /// Dollars a request.
    pub usd_per_request: f64,
    /// How it grows, if it does.
    pub scaler: Option<Scaler>,
    /// Instead of servers: service time `a + b·rate⁴`, in seconds.
    pub curve: Option<(f64, f64)>,
    /// Milliseconds, there and back, that lie behind a middlebox which accepts connections for the place.
    pub beyond_ms: f64,
}

impl PlaceSpec {
    /// A place with one queue before so many servers.
    #[must_use]
    pub fn queue(name: &str, kind: Kind, servers: usize) -> PlaceSpec {
        PlaceSpec {
            name: name.to_owned(),
            kind,
            endpoints: vec![servers],
            speeds: Vec::new(),
            stated: None,
            usd_per_request: 0.0,
            scaler: None,
            curve: None,
            beyond_ms: 0.0,
        }
    }
}

/// A kind of request: what asks for it, what the proxy sees of it, and how long it takes.
#[derive(Clone, Copy, Debug)]
pub struct RequestKind {
    /// Its part of the demand, relative to the other kinds'.
    pub share: f64,
    /// How long serving it takes; `None` is the world's service time.
    pub time: Option<Service>,
    /// Which path it asks for, as far as the proxy tells paths apart.
    pub path: u8,
    /// How its client behaves.
    pub client: Client,
    /// Clients that ask for it again as soon as they have their answer, besides the demand.
    pub closed: usize,
    /// From when on it is asked for, in seconds.
    pub from: f64,
}

impl RequestKind {
    /// Polite clients that ask for one path.
    #[must_use]
    pub fn of(share: f64, path: u8, time: Service) -> RequestKind {
        RequestKind { share, time: Some(time), path, client: Client::Polite, closed: 0, from: 0.0 }
    }
}

/// How a client behaves. Seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Client {
    /// It sends its request at once and takes the answer.
    Polite,
    /// It leaves so long after it asked, answer or not.
    Leaves(f64),
    /// It never finishes its upload: a server waits for it so long, and then resets the connection.
    Stalls(f64),
}

/// A proxy: how far it is from each place, in milliseconds there and back.
#[derive(Clone, Debug)]
pub struct EdgeSpec {
    /// Parallel to the places.
    pub rtt_ms: Vec<f64>,
    /// Its workers.
    pub workers: usize,
    /// Its share of the demand, relative to the others'.
    pub share: f64,
}

/// An autoscaler that looks at utilisation (Kubernetes' HPA).
#[derive(Clone, Copy, Debug)]
pub struct Scaler {
    /// Servers of one pod.
    pub pod: usize,
    /// Pods at least, and at most.
    pub pods: (usize, usize),
    /// Utilisation it aims at.
    pub target: f64,
    /// From a decision to ready pods.
    pub delay: f64,
    /// Between two decisions.
    pub period: f64,
    /// Whether it also follows what the proxies say will be wanted.
    pub forecast: bool,
}

/// Clients with a deadline of their own.
#[derive(Clone, Copy, Debug)]
pub struct Impatience {
    /// How long one waits.
    pub timeout: f64,
    /// How often it asks again.
    pub retries: u8,
}

/// How long serving takes at a server of speed 1.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// Exponential, by its mean.
    Exponential(f64),
    /// Lognormal, by its mean and the deviation of its logarithm.
    Lognormal(f64, f64),
    /// One of two: short, long, and the share of the long ones.
    Bimodal(f64, f64, f64),
    /// Always the same.
    Constant(f64),
}

impl Service {
    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match *self {
            Service::Exponential(mean) | Service::Lognormal(mean, _) => mean,
            Service::Bimodal(short, long, share) => short + (long - short) * share,
            Service::Constant(seconds) => seconds,
        }
    }

    /// One service time.
    pub fn draw(&self, dice: &mut Dice) -> f64 {
        match *self {
            Service::Exponential(mean) => mean * exponential(dice),
            Service::Lognormal(mean, sigma) => {
                mean * (sigma * normal(dice) - sigma * sigma / 2.0).exp()
            }
            Service::Bimodal(short, long, share) => {
                if dice.unit() < share {
                    long
                } else {
                    short
                }
            }
            Service::Constant(seconds) => seconds,
        }
    }
}

/// Exponential with mean 1.
pub fn exponential(dice: &mut Dice) -> f64 {
    -(1.0 - dice.unit()).ln()
}

/// Standard normal (Box and Muller 1958).
pub fn normal(dice: &mut Dice) -> f64 {
    let radius = (2.0 * exponential(dice)).sqrt();
    radius * (std::f64::consts::TAU * dice.unit()).cos()
}

/// Something that changes.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A place has this part of its servers.
    Servers {
        /// Which.
        place: usize,
        /// Part of what it has by its spec.
        factor: f64,
    },
    /// A place takes so many times as long.
    Slow {
        /// Which.
        place: usize,
        /// How many times.
        factor: f64,
    },
    /// A place is gone: what it had is lost, and it refuses connections.
    Down(usize),
    /// It is back.
    Up(usize),
    /// Endpoints answer 503 in a millisecond, or no longer do.
    Faulty {
        /// Which place.
        place: usize,
        /// How many of its endpoints.
        endpoints: usize,
        /// Whether they do now.
        on: bool,
    },
    /// The way to a place takes longer by so many milliseconds.
    Wan {
        /// Which.
        place: usize,
        /// Milliseconds, there and back.
        ms: f64,
    },
    /// Serving takes this from now on.
    Mix(Service),
    /// Every place takes so many times as long, as after a release.
    Release(f64),
    /// A place's endpoints are replaced by others that take so many times as long.
    Replaced {
        /// Which.
        place: usize,
        /// How many times.
        factor: f64,
    },
}

/// Proxies that have the same places in the same order, as one of them sees it.
#[derive(Clone, Debug)]
pub struct Group {
    /// One proxy's part of its group's demand.
    pub part: f64,
    /// The group's part of all demand.
    pub share: f64,
    /// Parts of all demand that other groups have at their nearest places.
    pub others: Vec<f64>,
}

impl Spec {
    /// The group of a proxy.
    #[must_use]
    pub fn group(&self, edge: usize) -> Group {
        let nearest = |edge: &EdgeSpec| {
            let all = 0..edge.rtt_ms.len();
            all.min_by(|a, b| edge.rtt_ms[*a].total_cmp(&edge.rtt_ms[*b])).unwrap_or(0)
        };
        let own = nearest(&self.edges[edge]);
        let all: f64 = self.edges.iter().map(|edge| edge.share).sum();
        let mut others = vec![0.0; self.places.len()];
        let mut share = 0.0;
        for other in &self.edges {
            match nearest(other) {
                place if place == own => share += other.share,
                place => others[place] += other.share / all,
            }
        }
        Group { part: self.edges[edge].share / share, share: share / all, others }
    }

    /// What one request of the demand takes on average, in seconds, at a server of speed 1.
    #[must_use]
    pub fn mean_service(&self) -> f64 {
        let shares: f64 = self.kinds.iter().map(|kind| kind.share).sum();
        if shares <= 0.0 {
            return self.service.mean();
        }
        let part = |kind: &RequestKind| kind.share * kind.time.unwrap_or(self.service).mean();
        self.kinds.iter().map(part).sum::<f64>() / shares
    }

    /// Demand of all edges at a moment.
    #[must_use]
    pub fn demand_at(&self, second: f64) -> f64 {
        let after = self.demand.iter().position(|(at, _)| *at > second);
        match after {
            Some(0) => self.demand[0].1,
            None => self.demand.last().map_or(0.0, |(_, rate)| *rate),
            Some(after) => {
                let ((from, low), (to, high)) = (self.demand[after - 1], self.demand[after]);
                low + (high - low) * (second - from) / (to - from).max(1e-9)
            }
        }
    }
}
