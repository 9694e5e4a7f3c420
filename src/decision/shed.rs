//! Load shedding while clusters are overloaded: the excess is refused, from the lowest priority up.
//!
//! While the shortest queue is longer than the acceptable bound, demand exceeds capacity; an exchange that is
//! accepted then gets its response too late and delays other exchanges. Therefore the part of the demand that cannot
//! complete is refused, and a priority is refused only after all lower priorities are refused completely.
//!
//! Services share clusters, and a queue delays every service that uses the cluster. Therefore [`decide`] handles all
//! classes together: classes that share a cluster, and whose live clusters are all overloaded, refuse their lowest
//! priority first, whichever service it belongs to. A class with a live cluster that is not overloaded spills
//! instead.
//!
//! # Units
//! Exchanges a second; seconds.
//!
//! # Invariants
//! * No exchange is refused while an exchange of a lower priority in the same overloaded clusters is accepted.

use super::plan::ClusterIndex;

/// Number of priorities; priority 0 is refused first.
pub const PRIORITIES: usize = 10;
/// A queue that is always acceptable, in seconds.
const QUEUE_MIN: f64 = 0.250;
/// The acceptable queue as a multiple of the queue that is tolerated at the nearest cluster.
const QUEUE_TOLERABLE: f64 = 5.0;
/// A queue that is acceptable while it does not grow, in seconds: its clients wait for a response before they
/// send again, and a refusal would only make them send sooner.
const STEADY: f64 = 1.0;
/// The largest share that is refused: without some traffic the end of the overload would not be noticed.
const SHED_MAX: f64 = 0.95;
/// The window in which demand is counted, in seconds.
const WINDOW: f64 = 0.5;

/// The exchanges that are shed now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shed {
    /// Priorities below this are refused.
    pub below: u8,
    /// The share of this priority that is refused.
    pub share: f64,
}

/// The target of the queue while exchanges are refused, as a part of the longest acceptable queue.
const AIM: f64 = 0.5;
/// The gain of the controller: the accepted rate rises by this part of the served rate for each second that the
/// queue is shorter than the target.
const GAIN: f64 = 1.0;
/// The part of the longest acceptable queue below which a queue is as good as none. Then the accepted rate rises faster, up to
/// twice the served rate: with the gain alone, an overload that is over would cost refusals for many seconds.
const EMPTY: f64 = 0.2;

/// The noise of the measured served rate: the capacity may be higher by this factor. A higher priority is refused
/// only beyond it, or if the queue is longer than the acceptable queue by this factor.
const NOISE: f64 = 1.25;
const NOISE_BOUNDS: f64 = 2.0;

/// The queue above which exchanges are refused, in seconds: 250 ms, or five times the tolerable queue of the nearest
/// cluster if that is longer. `tolerable` is 0 if the class has a single live cluster.
#[must_use]
pub fn bound(tolerable: f64) -> f64 {
    QUEUE_MIN.max(QUEUE_TOLERABLE * tolerable)
}

/// Demand by priority.
#[derive(Clone, Copy, Debug, Default)]
pub struct PriorityDemand([f64; PRIORITIES]);

impl PriorityDemand {
    /// Folds in the demand since the last sweep, refused or not.
    pub fn fold(&mut self, counts: &[f64; PRIORITIES], elapsed: f64) {
        let keep = (-elapsed / WINDOW).exp();
        for (rate, count) in self.0.iter_mut().zip(counts) {
            *rate = *rate * keep + count / elapsed.max(1e-9) * (1.0 - keep);
        }
    }
}

/// The load of one class, as input of [`decide`].
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// The class's live clusters; for each cluster its observed queue, if known, and the exchanges sent to it per
    /// second.
    pub places: Vec<(ClusterIndex, Option<f64>, f64)>,
    /// The demand.
    pub by_priority: PriorityDemand,
    /// Good answers a second.
    pub served: f64,
    /// The service time of an exchange, if known.
    pub work: Option<f64>,
    /// The longest acceptable queue.
    pub bound: f64,
    /// Whether the class's queue does not grow: as many exchanges end as are sent.
    pub steady: bool,
    /// Whether the class already refuses exchanges.
    pub sheds: bool,
}

/// The shed decision for each class, parallel to `claims`.
#[must_use]
pub fn decide(claims: &[Claim]) -> Vec<Shed> {
    let shortest: Vec<f64> = claims.iter().map(|claim| shortest(claims, claim)).collect();
    let pressed = |index: usize| {
        let claim = &claims[index];
        let bound = if claim.steady { claim.bound.max(STEADY) } else { claim.bound };
        !claim.places.is_empty() && (claim.sheds || shortest[index] > bound)
    };
    let mut sheds = vec![Shed::default(); claims.len()];
    let mut decided = vec![false; claims.len()];
    for first in 0..claims.len() {
        if decided[first] || !pressed(first) {
            continue;
        }
        let pool = pool(claims, first, &pressed);
        let shed = together(claims, &shortest, &pool);
        for index in pool {
            decided[index] = true;
            sheds[index] = shed;
        }
    }
    sheds
}

/// The shortest queue among the clusters of the claim. The queue of a cluster is the mean of the queues that all
/// classes observe, weighted by their rates.
fn shortest(claims: &[Claim], claim: &Claim) -> f64 {
    let seen = |cluster: ClusterIndex| {
        let places = claims.iter().flat_map(|claim| &claim.places);
        let (mut sum, mut weight) = (0.0, 0.0);
        for (_, queue, rate) in places.filter(|place| place.0 == cluster) {
            if let Some(queue) = queue {
                sum += queue * (rate + 1e-6);
                weight += rate + 1e-6;
            }
        }
        if weight > 0.0 { sum / weight } else { 0.0 }
    };
    let queues = claim.places.iter().map(|(cluster, ..)| seen(*cluster));
    queues.reduce(f64::min).unwrap_or(0.0)
}

/// The classes that share overloaded clusters with class `first`: overloaded classes that share a cluster with
/// `first` or with another class of the result, and classes that have no other clusters.
fn pool(claims: &[Claim], first: usize, pressed: &impl Fn(usize) -> bool) -> Vec<usize> {
    let mut full: Vec<ClusterIndex> = claims[first].places.iter().map(|place| place.0).collect();
    let mut pool = vec![first];
    loop {
        let joins = |index: &usize| {
            let places = &claims[*index].places;
            let is_full = |place: &(ClusterIndex, Option<f64>, f64)| full.contains(&place.0);
            let meets = match pressed(*index) {
                true => places.iter().any(is_full),
                false => !places.is_empty() && places.iter().all(is_full),
            };
            meets && !pool.contains(index)
        };
        let Some(next) = (0..claims.len()).find(joins) else { return pool };
        if pressed(next) {
            full.extend(claims[next].places.iter().map(|place| place.0));
        }
        pool.push(next);
    }
}

/// The shed decision of a pool of classes, which is the same for all its classes.
fn together(claims: &[Claim], shortest: &[f64], pool: &[usize]) -> Shed {
    // Demand counts as work if the service times of all classes are known: the refusal of cheap exchanges frees
    // little capacity.
    let known = pool.iter().all(|index| claims[*index].work.is_some());
    let work = |claim: &Claim| claim.work.filter(|_| known).unwrap_or(1.0).max(1e-6);
    let mut by_priority = [0.0; PRIORITIES];
    let (mut served, mut queue, mut bound, mut weight) = (0.0, 0.0, 0.0, 0.0);
    for &index in pool {
        let claim = &claims[index];
        for (sum, rate) in by_priority.iter_mut().zip(claim.by_priority.0) {
            *sum += rate * work(claim);
        }
        served += claim.served * work(claim);
        let part = claim.by_priority.0.iter().sum::<f64>() * work(claim) + 1e-9;
        queue += shortest[index] * part;
        bound += claim.bound * part;
        weight += part;
    }
    let (queue, bound) = (queue / weight, bound / weight);
    let emptiness = (1.0 - queue / (EMPTY * bound)).max(0.0);
    let admits = served * (1.0 + GAIN * (AIM * bound - queue) + emptiness).clamp(0.5, 2.0);
    let all: f64 = by_priority.iter().sum();
    let noise = if queue <= NOISE_BOUNDS * bound { NOISE } else { 1.0 };
    let (unserved, shed) =
        (level(&by_priority, all - noise * served), level(&by_priority, all - admits));
    // To drain the queue, refusals reach at most the priority at which the capacity ends, or else the lowest
    // priority; a priority with capacity is not refused.
    let lowest = by_priority.iter().position(|rate| *rate > 0.0).unwrap_or_default() as u8;
    let bears = unserved.below.max(lowest);
    if shed.below > bears { Shed { below: bears, share: 1.0 } } else { shed }
}

/// The priorities that an excess covers, from the lowest up.
fn level(by_priority: &[f64; PRIORITIES], excess: f64) -> Shed {
    let all: f64 = by_priority.iter().sum();
    if !excess.is_finite() || excess <= 0.0 || all <= 0.0 {
        return Shed::default();
    }
    let mut excess = excess.min(SHED_MAX * all);
    for (priority, rate) in by_priority.iter().enumerate() {
        if *rate > 0.0 && excess <= *rate {
            return Shed { below: priority as u8, share: excess / rate };
        }
        excess -= rate;
    }
    Shed { below: (PRIORITIES - 1) as u8, share: SHED_MAX }
}

impl Shed {
    /// Whether an exchange of this priority is refused; `owed` is the worker's error-diffusion credit.
    pub fn takes(self, priority: u8, owed: &mut f64) -> bool {
        if priority < self.below {
            return true;
        }
        if priority > self.below || self.share <= 0.0 {
            return false;
        }
        *owed += self.share;
        let due = *owed >= 1.0;
        if due {
            *owed -= 1.0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_priority(rates: &[(usize, f64)]) -> PriorityDemand {
        let mut counts = [0.0; PRIORITIES];
        rates.iter().for_each(|(priority, rate)| counts[*priority] = rate * 10.0);
        let mut by_priority = PriorityDemand::default();
        by_priority.fold(&counts, 10.0);
        by_priority
    }

    fn claim(clusters: &[usize], queue: f64, rates: &[(usize, f64)], served: f64) -> Claim {
        Claim {
            places: clusters
                .iter()
                .map(|cluster| (ClusterIndex(*cluster), Some(queue), 100.0))
                .collect(),
            by_priority: by_priority(rates),
            served,
            work: Some(0.020),
            bound: 0.25,
            steady: false,
            sheds: false,
        }
    }

    /// The shed decision of a single class.
    fn alone(rates: &[(usize, f64)], served: f64, queue: f64) -> Shed {
        decide(&[claim(&[0], queue, rates, served)])[0]
    }

    fn close(shed: Shed, below: u8, share: f64) -> bool {
        shed.below == below && (shed.share - share).abs() < 0.02
    }

    #[test]
    fn nothing_is_shed_while_queues_are_short() {
        assert_eq!(alone(&[(5, 100.0)], 10.0, 0.25), Shed::default());
        assert_eq!(alone(&[], 0.0, 5.0), Shed::default());
        assert_eq!(alone(&[(5, 100.0)], f64::NAN, 5.0), Shed::default());
        assert_eq!((bound(0.1), bound(0.0)), (0.5, 0.25));
        assert!(decide(&[]).is_empty());
    }

    #[test]
    fn a_queue_that_does_not_grow_is_left_alone_below_a_second() {
        let steady = |queue| Claim { steady: true, ..claim(&[0], queue, &[(5, 100.0)], 80.0) };
        assert_eq!(decide(&[steady(0.9)])[0], Shed::default());
        assert!(decide(&[steady(1.1)])[0].share > 0.2);
        let sheds = Claim { sheds: true, ..steady(0.5) };
        assert!(
            decide(&[sheds])[0].share > 0.2,
            "what is being dropped goes on until the queue is short"
        );
    }

    #[test]
    fn the_excess_goes_from_the_lowest_priority_up() {
        let rates = [(2, 50.0), (5, 100.0), (9, 50.0)];
        // At 0.375 s the queue is a quarter of a second too long: three quarters of the served rate are accepted.
        assert!(close(alone(&rates, 180.0, 0.375), 2, 1.0), "5 has room, and is not dropped");
        assert!(
            close(alone(&rates, 130.0, 0.375), 2, 1.0),
            "nor where its capacity is measured short"
        );
        assert!(close(alone(&rates, 110.0, 0.375), 5, 0.675));
        assert!(
            close(alone(&rates, 130.0, 0.525), 5, 0.72),
            "a long queue is no error of measurement"
        );
        assert!(close(alone(&rates, 33.0, 0.375), 9, 0.5));
        let worst = alone(&rates, 0.0, 10.0);
        assert!(worst.below == 9 && worst.share <= 0.81, "some are let in to see: {worst:?}");
    }

    #[test]
    fn a_longer_queue_sheds_more_and_a_short_one_opens() {
        let shares = [0.3, 0.5, 0.6].map(|queue| alone(&[(5, 100.0)], 80.0, queue).share);
        assert!(shares.windows(2).all(|pair| pair[0] < pair[1]) && shares[0] > 0.2, "{shares:?}");
        let sheds = |queue| Claim { sheds: true, ..claim(&[0], queue, &[(5, 100.0)], 80.0) };
        assert!(close(decide(&[sheds(0.125)])[0], 5, 0.2), "as much as is served is let in");
        assert!(close(decide(&[sheds(0.05)])[0], 5, 0.14), "a little more than is served");
        assert_eq!(decide(&[sheds(0.0)])[0], Shed::default(), "the queue is gone");
    }

    #[test]
    fn across_services_the_lower_priority_is_shed_first() {
        let low = claim(&[0, 1], 0.5, &[(0, 100.0)], 60.0);
        let high = claim(&[1, 0], 0.5, &[(9, 100.0)], 60.0);
        let sheds = decide(&[high.clone(), low.clone()]);
        assert!(sheds[0] == sheds[1] && close(sheds[0], 0, 1.0), "drained by 0 alone: {sheds:?}");
        // One class has no estimate of the queue, or does not notice the queue at this sweep.
        for queue in [None, Some(0.3), Some(0.2)] {
            let mut blind = low.clone();
            blind.places.iter_mut().for_each(|place| place.1 = queue);
            let sheds = decide(&[high.clone(), blind]);
            assert!(
                sheds[0].below == 0 && sheds[1].below == 0 && sheds[1].share > 0.5,
                "{sheds:?}"
            );
        }
    }

    #[test]
    fn a_service_with_a_free_cluster_is_not_shed() {
        let mut roams = claim(&[0, 2], 0.5, &[(0, 100.0)], 60.0);
        roams.places[1].1 = Some(0.0);
        let stays = claim(&[0], 0.5, &[(9, 100.0)], 60.0);
        let elsewhere = claim(&[5], 0.5, &[(0, 100.0)], 90.0);
        let sheds = decide(&[roams, stays, elsewhere]);
        assert_eq!(sheds[0], Shed::default());
        assert!(sheds[1].below == 9 && sheds[1].share > 0.5, "{sheds:?}");
        assert!(sheds[2].below == 0 && sheds[2].share < 0.5, "{sheds:?}");
    }

    #[test]
    fn shed_exchanges_count_as_work() {
        let cheap = Claim { work: Some(0.001), ..claim(&[0], 0.5, &[(0, 500.0)], 250.0) };
        let costly = Claim { work: Some(0.020), ..claim(&[0], 0.5, &[(9, 75.0)], 37.0) };
        let sheds = decide(&[cheap, costly]);
        assert!(
            sheds[0].below == 9 && sheds[0].share > 0.3,
            "all that is cheap is not enough: {sheds:?}"
        );
    }

    #[test]
    fn a_share_of_a_tenth_takes_every_tenth_and_higher_priorities_never() {
        let shed = Shed { below: 5, share: 0.1 };
        let mut owed = 0.0;
        let taken = (0..1_000).filter(|_| shed.takes(5, &mut owed)).count();
        assert!((99..=100).contains(&taken), "{taken}");
        assert!(!shed.takes(6, &mut owed) && shed.takes(4, &mut owed));
        assert!(!Shed::default().takes(0, &mut owed));
    }

    #[test]
    fn a_shed_ends_soon_after_its_queue() {
        // As many requests are served as are accepted; the rest of 600 a second is refused.
        let steps = |queue: f64| {
            let mut accepted = 200.0;
            let sheds = |_: &usize| {
                let claim = Claim { sheds: true, ..claim(&[0], queue, &[(5, 600.0)], accepted) };
                let share = decide(&[claim])[0].share;
                accepted = 600.0 * (1.0 - share);
                share > 0.0
            };
            (0..100).take_while(sheds).count()
        };
        assert!(steps(0.0) <= 2, "{}", steps(0.0));
        assert!(steps(0.010) <= 3, "{}", steps(0.010));
        assert_eq!(steps(AIM * 0.25), 100, "the queue is as long as it should be");
    }
}
