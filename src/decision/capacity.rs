//! How many exchanges an endpoint can serve at once, learned from its queue, and how many endpoints the forecast
//! demand needs.
//!
//! A cluster in a cloud is ready a minute after it was requested, so the request must come before the spill. Demand
//! is work: exchanges a second times the service time. The number of servers of a cluster follows from the number of
//! busy servers and the length of the queue (Sakasegawa 1977). The current completion rate is a worse estimate: it
//! lags behind a rising rate, and a cluster that spills is kept below its limit. But the completion rate of a full
//! cluster, which other proxies share, does limit how much this proxy can send before the next cluster is needed.
//!
//! The forecast is assigned to the clusters in their order: to the own data centre up to nine tenths of its
//! capacity, the rest to the first cloud.
//!
//! # Units
//! Exchanges a second; endpoints; exchanges in service at once.

/// The part of an endpoint's capacity that is planned for use; the rest is reserve, because arrivals are random.
const UTILISATION: f64 = 0.7;
/// The utilisation of the own data centre above which cloud endpoints are requested.
const HOME_FULL: f64 = 0.9;
/// The window in which exchanges in service and the queue are averaged, in seconds.
const WINDOW: f64 = 5.0;
/// For how long a cluster must queue before the queue counts, in seconds (time with a queue less time without): at
/// first, later, and when far fewer exchanges are in service than before. In the last case the cluster may have
/// lost servers.
const FIRST: f64 = 5.0;
const BELIEVED: f64 = 1.0;
const SHRUNK: f64 = 10.0;
const MUCH_LESS: f64 = 0.7;
/// The window in which the concurrency is learned, in seconds: downwards, and upwards.
const LEARNED: f64 = 3.0;
const RISES: f64 = 3.0;
/// Time constant with which the highest rate is forgotten, in seconds, and the highest multiple of it that can be the capacity:
/// there are gaps between queues.
const MOST_WITHIN: f64 = 60.0;
const ABOVE_MOST: f64 = 1.3;
/// A queue in service times that cannot be distinguished from no queue.
const QUEUE_MIN: f64 = 0.05;

/// The concurrency of one cluster's endpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capacity {
    concurrency: Option<f64>,
    /// Recent exchanges in service per endpoint, and the recent queue in service times.
    at_work: f64,
    queue: f64,
    queues_for: f64,
    /// Good responses a second of an endpoint while the cluster was full; and for how long the cluster has been full,
    /// less the time it was not.
    rate: Option<f64>,
    full_for: f64,
    /// The highest rate of good responses of an endpoint in the last minute.
    most: f64,
}

/// The most that a cluster was observed to serve; `None` before the cluster first had a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learned {
    /// Exchanges at once, over the endpoints in use.
    pub at_once: Option<f64>,
    /// Good answers a second to this proxy, over the endpoints in use, while the cluster was full.
    pub rate: Option<f64>,
}

/// The observations of one sweep of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Good answers a second.
    pub rate: f64,
    /// Service time, in seconds.
    pub service: f64,
    /// Queue delay, in seconds.
    pub queue: f64,
    /// Endpoints in use.
    pub endpoints: usize,
    /// Whether the queue is longer than tolerated.
    pub full: bool,
    /// Whether less is sent there than is demanded, because of a queue a moment ago.
    pub bounded: bool,
}

impl Capacity {
    /// Folds a sweep in.
    pub fn fold(&mut self, seen: Seen, elapsed: f64) {
        let endpoints = seen.endpoints as f64;
        let (at_work, queue) = (seen.rate * seen.service / endpoints, seen.queue / seen.service);
        if !(at_work.is_finite() && queue.is_finite()) {
            return;
        }
        self.learn_rate(seen.rate / endpoints, seen.full, elapsed);
        self.most = (self.most * (-elapsed / MOST_WITHIN).exp()).max(seen.rate / endpoints);
        let news = 1.0 - (-elapsed / WINDOW).exp();
        self.at_work += (at_work - self.at_work) * news;
        self.queue += (queue - self.queue) * news;
        let queues = seen.bounded || self.queue > QUEUE_MIN;
        // A queue of many service times is not due to chance, so it counts sooner.
        let sure = self.queue.clamp(1.0, 5.0);
        let step = if queues { sure * elapsed } else { -elapsed };
        self.queues_for = (self.queues_for + step).clamp(0.0, 1.2 * SHRUNK);
        let (at_work, queue) = (self.at_work * endpoints, self.queue.max(QUEUE_MIN));
        // A cluster whose queue comes again and again serves no more than it once served.
        let most = if seen.bounded { ABOVE_MOST * self.most * seen.service } else { f64::INFINITY };
        // An endpoint serves at least one exchange at once.
        let found = || (servers(at_work, queue) / endpoints).min(most).max(1.0);
        self.concurrency = match self.concurrency {
            None => (self.queues_for >= FIRST).then(found),
            Some(known) => {
                let needed = if self.at_work < MUCH_LESS * known { SHRUNK } else { BELIEVED };
                // If the cluster has no queue with this many exchanges in service, its capacity is greater than
                // estimated.
                let more = queue_of(at_work, known * endpoints) > queue;
                if !(more || known > most || queues && self.queues_for >= needed) {
                    return;
                }
                let found = found();
                let window = if found > known { RISES } else { LEARNED };
                Some(known + (found - known) * (1.0 - (-elapsed / window).exp()))
            }
        };
    }

    /// The completion rate of a full cluster is its capacity for this proxy's traffic; the traffic of other proxies
    /// is not included.
    fn learn_rate(&mut self, rate: f64, full: bool, elapsed: f64) {
        let step = if full { elapsed } else { -elapsed };
        self.full_for = (self.full_for + step).clamp(0.0, 2.0 * BELIEVED);
        let news = 1.0 - (-elapsed / BELIEVED).exp();
        self.rate = match self.rate {
            None => (self.full_for >= BELIEVED).then_some(rate),
            Some(known) if full => Some(known + (rate - known) * news),
            // A higher completion rate than the estimate raises the estimate.
            Some(known) => Some(known.max(rate)),
        };
    }

    /// The completion rate of an endpoint for this proxy's traffic, a second, while its cluster was full.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate.filter(|rate| *rate > 0.0)
    }

    /// What this number of endpoints serves at most.
    #[must_use]
    pub fn learned(&self, endpoints: usize) -> Learned {
        let all = |each: f64| each * endpoints as f64;
        Learned { at_once: self.concurrency().map(all), rate: self.rate().map(all) }
    }

    /// Exchanges that an endpoint serves at once; `None` before the cluster first had a queue.
    #[must_use]
    pub fn concurrency(&self) -> Option<f64> {
        self.concurrency
    }
}

/// The queue of `servers` servers, in service times, while `at_work` of them are busy.
fn queue_of(at_work: f64, servers: f64) -> f64 {
    let waits = (at_work / servers).powf((2.0 * (servers + 1.0)).sqrt() - 1.0);
    if servers > at_work { waits / (servers - at_work) } else { f64::INFINITY }
}

/// The number of servers that have this queue, in service times, while `at_work` of them are busy.
fn servers(at_work: f64, queue: f64) -> f64 {
    let (mut low, mut high) = (at_work, 10.0 * at_work + 10.0);
    for _ in 0..24 {
        let servers = 0.5 * (low + high);
        if queue_of(at_work, servers) > queue { low = servers } else { high = servers }
    }
    high
}

/// One cluster in its order.
#[derive(Clone, Copy, Debug)]
pub struct Supply {
    /// The capacity of one endpoint.
    pub each: Option<f64>,
    /// The cluster's capacity for this traffic with the current endpoints.
    pub rate: Option<f64>,
    /// Endpoints in use; 0 while the cluster is down.
    pub endpoints: usize,
    /// Whether more endpoints can be added within a minute.
    pub is_cloud: bool,
}

/// The part of `demand` that each cluster should be able to serve, in order.
#[must_use]
pub fn pour(demand: f64, supplies: &[Supply]) -> Vec<f64> {
    let mut left = demand;
    let mut pour = |supply: &Supply| {
        let takes = match (supply.is_cloud, supply.endpoints) {
            (true, _) => left,
            (false, 0) => 0.0,
            // A cluster that was never full has served all its traffic so far; its capacity is not known.
            (false, _) => supply.rate.map_or(left, |rate| left.min(HOME_FULL * rate)),
        };
        left -= takes;
        takes
    };
    supplies.iter().map(&mut pour).collect()
}

/// The number of endpoints that each cluster needs for its part. Not rounded, because the numbers of several proxies
/// are added up first. `None` if the capacity of an endpoint is not known.
#[must_use]
pub fn replicas(parts: &[f64], supplies: &[Supply]) -> Vec<Option<f64>> {
    // For a cluster that was never full, the capacity of the same application elsewhere is the best estimate.
    let anywhere = supplies.iter().find_map(|supply| supply.each);
    let needed = |(part, supply): (&f64, &Supply)| {
        let each = supply.each.or(anywhere).filter(|each| *each > 0.0)?;
        Some(part / (each * UTILISATION))
    };
    parts.iter().zip(supplies).map(needed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_of_a_full_cluster_is_for_its_endpoints() {
        let mut capacity = Capacity::default();
        assert_eq!(capacity.learned(2), Learned::default());
        let seen = Seen {
            rate: 100.0,
            service: 0.1,
            queue: 0.2,
            endpoints: 2,
            full: true,
            bounded: false,
        };
        (0..600).for_each(|_| capacity.fold(seen, 0.05));
        let Learned { at_once, rate } = capacity.learned(2);
        assert!((rate.unwrap() - 100.0).abs() < 1.0, "{rate:?}");
        // 10 exchanges are in service on balance, and there is a queue: hardly more servers than that.
        assert!((10.0..14.0).contains(&at_once.unwrap()), "{at_once:?}");
    }

    fn supply(rate: Option<f64>, endpoints: usize, is_cloud: bool) -> Supply {
        let each = rate.filter(|_| endpoints > 0).map(|rate| rate / endpoints as f64);
        Supply { each, rate, endpoints, is_cloud }
    }

    #[test]
    fn demand_beyond_the_home_cluster_is_requested_of_the_first_cloud() {
        let supplies =
            [supply(Some(1_000.0), 10, false), supply(None, 2, true), supply(Some(500.0), 5, true)];
        let parts = pour(1_600.0, &supplies);
        assert_eq!(parts, [900.0, 700.0, 0.0]);
        let needed = replicas(&parts, &supplies);
        assert!((needed[1].unwrap() - 10.0).abs() < 1e-9, "700 / (100 x 0.7): {needed:?}");
        assert_eq!(pour(500.0, &supplies), [500.0, 0.0, 0.0]);
    }

    #[test]
    fn a_cluster_that_is_down_gets_no_demand_and_unknown_needs_are_not_published() {
        let supplies = [supply(None, 0, false), supply(None, 2, true)];
        let parts = pour(100.0, &supplies);
        assert_eq!(parts, [0.0, 100.0]);
        assert_eq!(replicas(&parts, &supplies), [None, None]);
    }

    const SEEN: Seen =
        Seen { rate: 0.0, service: 0.020, queue: 0.0, endpoints: 2, full: false, bounded: false };

    /// The wait at a single server is learned as service time, which would make it two servers.
    #[test]
    fn a_cluster_with_recurring_queues_serves_no_more_than_it_served() {
        let seen = Seen {
            rate: 40.0,
            service: 0.033,
            queue: 0.003,
            endpoints: 1,
            full: true,
            bounded: false,
        };
        let concurrency = |seen: Seen| {
            let mut capacity = Capacity::default();
            (0..600).for_each(|_| capacity.fold(seen, 0.05));
            capacity.concurrency().unwrap()
        };
        assert!(concurrency(seen) > 2.0, "{}", concurrency(seen));
        let bounded = concurrency(Seen { bounded: true, ..seen });
        assert!((1.0..=1.3 * 40.0 * 0.033 + 1e-9).contains(&bounded), "{bounded}");
    }

    fn fold(capacity: &mut Capacity, seen: Seen, seconds: usize) -> f64 {
        (0..20 * seconds).for_each(|_| capacity.fold(seen, 0.05));
        capacity.concurrency().unwrap_or(0.0)
    }

    #[test]
    fn the_queue_follows_from_the_number_of_servers() {
        // Erlang's formula, at 1, 4 and 20 servers.
        #[rustfmt::skip]
        let table = [(0.5, 1.0, 1.0), (0.9, 9.0, 1.0), (2.8, 0.357, 4.0), (3.6, 1.97, 4.0), (17.0, 0.137, 20.0), (19.0, 0.755, 20.0)];
        for (at_work, queue, truth) in table {
            let found = servers(at_work, queue);
            assert!((found / truth - 1.0).abs() < 0.06, "{found} of {truth}");
            // An error of half or twice the queue is small here.
            assert!(servers(at_work, 0.5 * queue) < 1.35 * truth);
            assert!(servers(at_work, 2.0 * queue) > 0.75 * truth);
        }
        assert!(servers(0.0, 0.05).is_finite());
    }

    #[test]
    fn a_queue_shows_the_concurrency_of_an_endpoint() {
        let mut capacity = Capacity::default();
        assert_eq!(
            fold(&mut capacity, Seen { rate: 700.0, ..SEEN }, 10),
            0.0,
            "no queue, no limit"
        );
        // 20 servers, 17 at work.
        let full = Seen { rate: 850.0, queue: 0.00274, ..SEEN };
        capacity.fold(full, 0.05);
        assert_eq!(capacity.concurrency(), None, "a moment's queue says nothing");
        let learned = fold(&mut capacity, full, 20);
        assert!((learned - 10.0).abs() < 0.5, "{learned}");
        let learned = fold(&mut capacity, Seen { rate: 1_300.0, ..SEEN }, 30);
        assert!(learned > 13.0, "it does what it does without a queue: {learned}");
        let lull = fold(&mut capacity, Seen { rate: 100.0, queue: 0.005, ..SEEN }, 3);
        assert!(lull > 0.95 * learned, "a lull that is taken for a queue: {lull}");
        let lost = fold(&mut capacity, Seen { rate: 400.0, queue: 0.020, ..SEEN }, 40);
        assert!((4.0..5.0).contains(&lost), "it lost servers: {lost}");
        assert_eq!(fold(&mut capacity, Seen { rate: f64::NAN, ..SEEN }, 1), lost);
        assert_eq!(fold(&mut capacity, Seen { endpoints: 0, ..SEEN }, 1), lost);
    }

    #[test]
    fn capacity_grows_with_endpoints_and_is_at_least_one_each() {
        let mut capacity = Capacity::default();
        let quiet = Seen { rate: 10.0, queue: 0.1, endpoints: 2, ..SEEN };
        assert_eq!(fold(&mut capacity, quiet, 9), 1.0);
        assert_eq!(fold(&mut capacity, Seen { endpoints: 40, ..quiet }, 5), 1.0);
    }
}
