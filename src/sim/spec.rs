//! The description of a world: places, edges, demand, and changes over time. Plain data.

use decision::plan::Kind;
use decision::units::Dice;

/// A world to simulate. Seconds and requests a second, unless a name says otherwise.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Places, in the operator's order.
    pub places: Vec<PlaceSpec>,
    /// Edges.
    pub edges: Vec<EdgeSpec>,
    /// The service time of kinds without their own.
    pub service: Service,
    /// Kinds of request; without kinds, all requests are alike.
    pub kinds: Vec<RequestKind>,
    /// Number of services that share the places, each with the same part of the demand.
    pub services: usize,
    /// Work of an HTTP probe at a server, in seconds: the probe waits in the queue like a request. `None`: probes
    /// only connect.
    pub probe: Option<f64>,
    /// Requests a second of all edges at these moments, linear between them.
    pub demand: Vec<(f64, f64)>,
    /// Changes, with their times.
    pub changes: Vec<(f64, Change)>,
    /// Duration.
    pub seconds: f64,
    /// When measuring begins.
    pub measured_from: f64,
    /// Whether places report their load, and how old a report is when it arrives.
    pub reports: Option<f64>,
    /// Whether the proxies of a site tell each other response times, once a second. Edges with the same distances are of
    /// one site.
    pub fleet: bool,
    /// Standard deviation of the logarithm of a path's time.
    pub jitter: f64,
    /// Clients that time out and retry, by themselves.
    pub impatience: Option<Impatience>,
    /// The share of requests that only an IDC may serve.
    pub sensitive: f64,
    /// The budget for spilling, of all proxies together, each with the same part.
    pub usd_per_hour: Option<f64>,
}

/// A place that serves requests.
#[derive(Clone, Debug)]
pub struct PlaceSpec {
    /// The place's name.
    pub name: String,
    /// IDC or cloud.
    pub kind: Kind,
    /// Servers of each endpoint; they share a queue.
    pub endpoints: Vec<usize>,
    /// Speed of each endpoint; 1 if not listed.
    pub speeds: Vec<f64>,
    /// Configured capacity; the true capacity if `None`.
    pub stated: Option<f64>,
    /// Dollars a request.
    pub usd_per_request: f64,
    /// Bytes of a response, as the proxy counts them.
    pub response_bytes: f64,
    /// Autoscaling, if any.
    pub scaler: Option<Scaler>,
    /// Instead of servers: service time `a + b·rate⁴`, in seconds.
    pub curve: Option<(f64, f64)>,
    /// Milliseconds of the round trip that are behind a middlebox; the middlebox accepts connections for
    /// the place.
    pub beyond_ms: f64,
}

impl PlaceSpec {
    /// A place with one queue for this many servers.
    #[must_use]
    pub fn queue(name: &str, kind: Kind, servers: usize) -> PlaceSpec {
        PlaceSpec {
            name: name.to_owned(),
            kind,
            endpoints: vec![servers],
            speeds: Vec::new(),
            stated: None,
            usd_per_request: 0.0,
            response_bytes: 1.0,
            scaler: None,
            curve: None,
            beyond_ms: 0.0,
        }
    }
}

/// A kind of request: its demand, its path as seen by the proxy, and its service time.
#[derive(Clone, Copy, Debug)]
pub struct RequestKind {
    /// Share of the demand, relative to the other kinds.
    pub share: f64,
    /// Service time; `None` is the world's service time.
    pub time: Option<Service>,
    /// The request's path, as far as the proxy distinguishes paths.
    pub path: u8,
    /// The client's behaviour.
    pub client: Client,
    /// Closed-loop clients of this kind, which send again after each response, in addition to the demand.
    pub closed: usize,
    /// When the demand of this kind begins, in seconds.
    pub from: f64,
}

impl RequestKind {
    /// Clients that wait for the response, of one path.
    #[must_use]
    pub fn of(share: f64, path: u8, time: Service) -> RequestKind {
        RequestKind { share, time: Some(time), path, client: Client::Polite, closed: 0, from: 0.0 }
    }
}

/// The behaviour of a client. Seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Client {
    /// The client sends its request at once and waits for the response.
    Polite,
    /// The client leaves this long after its request, answered or not.
    Leaves(f64),
    /// The client never finishes its upload: a server waits for this time, and then resets the connection.
    Stalls(f64),
}

/// A proxy: its distance from each place, in milliseconds of round trip.
#[derive(Clone, Debug)]
pub struct EdgeSpec {
    /// Parallel to the places.
    pub rtt_ms: Vec<f64>,
    /// Number of workers.
    pub workers: usize,
    /// Share of the demand, relative to the other edges.
    pub share: f64,
}

/// An autoscaler that follows utilisation (Kubernetes' HPA).
#[derive(Clone, Copy, Debug)]
pub struct Scaler {
    /// Servers of one pod.
    pub pod: usize,
    /// The least and the greatest number of pods.
    pub pods: (usize, usize),
    /// Target utilisation.
    pub target: f64,
    /// Time from a decision to ready pods, in seconds.
    pub delay: f64,
    /// Interval between two decisions, in seconds.
    pub period: f64,
    /// Whether it also follows the proxies' forecast.
    pub forecast: bool,
}

/// Clients with a timeout of their own.
#[derive(Clone, Copy, Debug)]
pub struct Impatience {
    /// The timeout, in seconds.
    pub timeout: f64,
    /// The number of retries.
    pub retries: u8,
}

/// Service time at a server of speed 1.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// Exponential, by its mean.
    Exponential(f64),
    /// Lognormal, by its mean and the deviation of its logarithm.
    Lognormal(f64, f64),
    /// One of two: short, long, and the share of the long ones.
    Bimodal(f64, f64, f64),
    /// Constant.
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

/// A change of the world.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A place has this part of its servers.
    Servers {
        /// The place.
        place: usize,
        /// The part of the servers in the spec.
        factor: f64,
    },
    /// A factor of a place's service times.
    Slow {
        /// The place.
        place: usize,
        /// The factor.
        factor: f64,
    },
    /// A place goes down: its exchanges are lost, and it refuses connections.
    Down(usize),
    /// A place returns.
    Up(usize),
    /// Endpoints begin to answer 503 in a millisecond, or stop.
    Faulty {
        /// The place.
        place: usize,
        /// Number of its endpoints.
        endpoints: usize,
        /// Whether they answer 503 from now on.
        on: bool,
    },
    /// The round trip to a place becomes longer by this many milliseconds.
    Wan {
        /// The place.
        place: usize,
        /// Milliseconds, there and back.
        ms: f64,
    },
    /// The service time from now on.
    Mix(Service),
    /// A factor of all places' service times, as after a release.
    Release(f64),
    /// A place's endpoints are replaced by others with a factor of the service time.
    Replaced {
        /// The place.
        place: usize,
        /// The factor.
        factor: f64,
    },
}

/// Proxies with the same places in the same order, from the view of one of them.
#[derive(Clone, Debug)]
pub struct Group {
    /// One proxy's part of its group's demand.
    pub part: f64,
    /// The group's part of all demand.
    pub share: f64,
    /// Parts of all demand that other groups send to their nearest places.
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

    /// Mean service time of a request, in seconds, at a server of speed 1.
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
