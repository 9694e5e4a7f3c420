//! The speed of each endpoint of a cluster relative to its siblings, used only if the difference is significant.
//!
//! The latency of an endpoint is treated as noise unless it differs from its siblings' latency by more than chance
//! explains. Until then all endpoints count as exactly equally fast and take turns. Logarithms are used, because
//! latencies are skewed: one response of a second among twenty of a millisecond is an outlier, not a new mean.
//!
//! # Units
//! Logarithms are natural, of microseconds. A slowness is a ratio to the siblings' typical latency.
//!
//! # Invariants
//! * Endpoints whose samples are alike have a slowness of exactly 1.
//! * The estimate of an unused endpoint returns to its siblings' latency, because its samples lose their weight.
//! * A slowness is finite and within [`SLOWNESS_MIN`]..=[`SLOWNESS_MAX`], whatever was observed.
//!
//! # Not here
//! Exchanges in flight, which each pick reads directly (`least_wait`); ejection (`health`, `outlier`).

/// The least and the greatest slowness.
pub const SLOWNESS_MIN: f64 = 0.02;
/// See [`SLOWNESS_MIN`].
pub const SLOWNESS_MAX: f64 = 50.0;

/// Latencies as a sum of logarithms and of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logs {
    /// How many.
    pub count: f64,
    /// The sum of their logarithms.
    pub sum: f64,
    /// The sum of the logarithms' squares.
    pub squares: f64,
}

impl Logs {
    /// Adds a latency in seconds.
    pub fn add(&mut self, seconds: f64) {
        let log = log(seconds);
        self.count += 1.0;
        self.sum += log;
        self.squares += log * log;
    }
}

/// The logarithm of a latency's microseconds, 0 to 21: clamped below 1 us and above 20 minutes.
#[must_use]
pub fn log(seconds: f64) -> f64 {
    let micros = seconds * 1e6;
    if micros.is_nan() { 0.0 } else { micros.clamp(1.0, 1.2e9).ln() }
}

/// Time constant of the weight of samples, in seconds, and the factor for an endpoint that has been slow for long.
const MEMORY: f64 = 4.0;
const MEMORY_SLOW: f64 = 16.0;
/// The greatest total weight of samples, and the least that is compared.
const SAMPLES_MAX: f64 = 100.0;
const WEIGHT_LEAST: f64 = 0.02;
/// An endpoint counts as different if it differs by this many standard errors and by this logarithm; the second pair
/// is for an endpoint that already counts as different.
const DIFFERS: (f64, f64) = (3.0, 0.4);
const STILL_DIFFERS: (f64, f64) = (1.5, 0.3);
/// The number of probes kept of a slow endpoint, and the logarithm below which these probes prove its
/// recovery.
const PROBES_SLOW: f64 = 2.0;
const RECOVERED: f64 = 0.35;
/// The weight of the last few samples.
const RECENT: f64 = 10.0;
/// Detection of a shift, in standard deviations: the excess over the siblings from which a sample counts, the most
/// that one sample may add, and the sum that proves a shift.
const SHIFT_LEAST: f64 = 0.5;
const SHIFT_MOST: f64 = 1.5;
const SHIFT_PROOF: f64 = 8.0;
/// Seconds after which a difference counts as permanent; a permanent difference needs less proof.
const HABIT: f64 = 20.0;
/// The factor by which the proof of a permanent difference may be weaker.
const HABIT_TRUST: f64 = 0.67;
/// Time constant of the outcomes of exchanges, in seconds.
const OUTCOMES: f64 = 5.0;
/// The latency that a failed exchange counts for, in seconds.
const FAILURE_COST: f64 = 0.6;
/// The share of its turns that a slow endpoint keeps, and the upper bound in exchanges a second.
const TRICKLE: f64 = 0.03;
const TRICKLE_PER_S: f64 = 4.0;
/// Seconds after which a slow endpoint gets an exchange again.
const PAUSE: f64 = 2.0;

/// The mean of logarithms and its weight.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    weight: f64,
    mean: f64,
}

impl Estimate {
    fn fold(&mut self, logs: Logs, most: f64) {
        if logs.count > 0.0 {
            let weight = self.weight + logs.count;
            self.mean = (self.mean * self.weight + logs.sum) / weight;
            self.weight = weight.min(most.max(logs.count.min(SAMPLES_MAX)));
        }
    }
}

/// Detects when an endpoint became slow: a cumulative sum (Page 1954) of the amount by which its
/// samples exceed those of its siblings. The sum grows only while the samples exceed.
#[derive(Clone, Copy, Debug, Default)]
struct Shift {
    fresh: Logs,
    since: Logs,
    sum: f64,
}

impl Shift {
    /// Folds new samples in; returns those since the shift, once there is one.
    fn fold(&mut self, usual: f64, sd: f64) -> Option<Estimate> {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.count <= 0.0 {
            return None;
        }
        self.since.count += fresh.count;
        self.since.sum += fresh.sum;
        // An extreme sample proves no more than a high sample: it may be a request of another kind.
        let excess = ((fresh.sum / fresh.count - usual) / sd).min(SHIFT_MOST);
        self.sum += (excess - SHIFT_LEAST) * fresh.count;
        let since = Estimate {
            weight: self.since.count.min(SAMPLES_MAX),
            mean: self.since.sum / self.since.count,
        };
        let shifted = self.sum >= SHIFT_PROOF;
        if shifted || self.sum <= 0.0 {
            *self = Shift::default();
        }
        shifted.then_some(since)
    }
}

/// The state of one endpoint.
#[derive(Clone, Debug)]
pub struct Speed {
    requests: Estimate,
    /// The mean of the last few samples.
    recent: Estimate,
    probes: Estimate,
    probed: Logs,
    shift: Shift,
    good: f64,
    failed: f64,
    /// Whether the latency of its requests differs from its siblings'.
    differs: bool,
    /// Whether its probes were slow too while its requests were slow. If so, fast probes prove its recovery.
    confirmed: bool,
    /// For how long the endpoint has been slow, 0 to 1: 1 is [`HABIT`] or longer.
    habit: f64,
    /// The greatest weight of samples: small while the endpoint is slow, so that its recovery is noticed soon.
    most: f64,
    slowness: f64,
}

impl Default for Speed {
    fn default() -> Speed {
        Speed {
            requests: Estimate::default(),
            recent: Estimate::default(),
            probes: Estimate::default(),
            probed: Logs::default(),
            shift: Shift::default(),
            good: 0.0,
            failed: 0.0,
            differs: false,
            confirmed: false,
            habit: 0.0,
            most: SAMPLES_MAX,
            slowness: 1.0,
        }
    }
}

impl Speed {
    /// Response time relative to the siblings; 1 if the difference is not significant.
    #[must_use]
    pub fn slowness(&self) -> f64 {
        self.slowness
    }

    /// Whether the endpoint counts as fast as its siblings, and its samples have lost their weight.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slowness == 1.0 && self.requests.weight < WEIGHT_LEAST
    }

    /// Typical latency in seconds, if the endpoint has answered since its return.
    #[must_use]
    pub fn typical(&self) -> Option<f64> {
        (self.requests.mean > 0.0).then(|| self.requests.mean.exp() / 1e6)
    }

    /// Folds in a probe's response time, in seconds.
    pub fn probed(&mut self, seconds: f64) {
        self.probed.add(seconds);
    }

    /// Folds in the results of `elapsed` seconds: latencies, successful exchanges, and failed exchanges.
    pub fn fold(&mut self, logs: Logs, good: f64, failed: f64, spread: &mut Spread, elapsed: f64) {
        let slow = if self.differs { self.habit } else { 0.0 };
        let keep = (-elapsed / (MEMORY + MEMORY_SLOW * slow)).exp();
        self.requests.weight *= keep;
        self.recent.weight *= keep;
        self.probes.weight *= (-elapsed / MEMORY).exp();
        spread.requests.fold(logs, self.requests);
        self.requests.fold(logs, self.most);
        self.recent.fold(logs, RECENT);
        self.shift.fresh = logs;
        let probed = std::mem::take(&mut self.probed);
        spread.probes.fold(probed, self.probes);
        self.probes.fold(probed, if self.differs { PROBES_SLOW } else { SAMPLES_MAX });
        let keep = (-elapsed / OUTCOMES).exp();
        self.good = self.good * keep + good;
        self.failed = self.failed * keep + failed;
    }

    /// Compares the endpoint with its siblings; `all` includes the endpoint.
    pub fn judge(&mut self, all: &Siblings, spread: &Spread, elapsed: f64) {
        let by_requests = self.by_requests(all, spread.requests.sd());
        self.hear_probes(all, spread);
        let slow = f64::from(u8::from(self.differs && by_requests > 1.0));
        self.habit += (slow - self.habit) * (1.0 - (-elapsed / HABIT).exp());
        let by_latency = match self.differs {
            true => by_requests,
            false => self.by_probes(all, spread),
        };
        self.slowness = (by_latency * self.by_failures(all)).clamp(SLOWNESS_MIN, SLOWNESS_MAX);
        self.notice_shift(all, spread.requests.sd());
    }

    /// A series of slow samples outweighs many earlier samples: from the start of the series on, only new
    /// samples count. A shift that all endpoints have is ignored.
    fn notice_shift(&mut self, all: &Siblings, sd: f64) {
        let usual = all.requests.mean_without(self.requests);
        let lately = all.recent.mean_without(self.recent);
        let (Some(usual), Some(lately)) = (usual, lately) else { return };
        if let Some(since) = self.shift.fold(usual.max(lately), sd).filter(|_| !self.differs) {
            self.requests = since;
        }
    }

    /// The share of its turns that the endpoint keeps although a sibling is faster, and the seconds after which it
    /// gets an exchange in any case, so that its recovery is noticed. `turns_per_s` is its rate of turns.
    #[must_use]
    pub fn trickle(&self, turns_per_s: f64) -> (f64, f64) {
        let watched = if self.confirmed { 0.5 } else { 1.0 };
        let part = (1.0 - 0.8 * self.habit) * watched;
        ((TRICKLE * part).min(TRICKLE_PER_S * part / turns_per_s.max(1e-3)), PAUSE / part)
    }

    fn by_requests(&mut self, all: &Siblings, sd: f64) -> f64 {
        let Some((difference, error)) = all.requests.without(self.requests, sd) else {
            self.differs = false;
            self.most = SAMPLES_MAX;
            return 1.0;
        };
        let (errors, least) = if self.differs { STILL_DIFFERS } else { DIFFERS };
        let proof = errors * (1.0 - HABIT_TRUST * self.habit) * error;
        self.differs = difference.abs() >= proof.max(least);
        self.most = match self.differs && difference > 0.0 {
            // The few samples that prove the difference can be disproved by as few samples.
            true => {
                let proving = (2.0 * sd / difference).powi(2);
                (proving * (1.0 + 9.0 * self.habit)).clamp(1.0, SAMPLES_MAX)
            }
            false => SAMPLES_MAX,
        };
        self.requests.weight = self.requests.weight.min(self.most);
        if self.differs { (self.requests.mean - all.requests.mean()).exp() } else { 1.0 }
    }

    /// If the probes were as slow as the requests and are fast again, the endpoint has recovered: the samples of
    /// its requests are forgotten.
    fn hear_probes(&mut self, all: &Siblings, spread: &Spread) {
        let slow = self.differs && self.requests.mean > all.requests.mean();
        let probes = all.probes.without(self.probes, spread.probes.sd());
        let Some((difference, _)) = probes.filter(|_| slow && self.probes.weight >= 1.5) else {
            self.confirmed &= slow;
            return;
        };
        if difference >= std::f64::consts::LN_2 {
            self.confirmed = true;
        } else if self.confirmed && difference < RECOVERED {
            self.requests = Estimate { weight: 0.0, mean: all.requests.mean() };
            (self.differs, self.confirmed, self.most) = (false, false, SAMPLES_MAX);
        }
    }

    /// Probes are requests of one kind: when probes take longer, requests do too. Probes decide only if
    /// requests agree with them, or if there are no requests.
    fn by_probes(&self, all: &Siblings, spread: &Spread) -> f64 {
        let Some((difference, error)) = all.probes.without(self.probes, spread.probes.sd()) else {
            return 1.0;
        };
        let agrees = match all.requests.without(self.requests, spread.requests.sd()) {
            Some((requests, error)) if self.requests.weight >= 2.0 => {
                requests.abs() >= error && (requests > 0.0) == (difference > 0.0)
            }
            Some(_) | None => true,
        };
        if !agrees || difference.abs() < std::f64::consts::LN_2.max(3.0 * error) {
            return 1.0;
        }
        let typical = if all.requests.weight >= 1.0 { all.requests } else { all.probes };
        let excess = self.probes.mean.exp() - (self.probes.mean - difference).exp();
        (1.0 + excess / typical.mean().exp()).clamp(0.25, 4.0)
    }

    /// Failed exchanges are often fast and must not attract traffic. An endpoint that fails more often than its
    /// siblings, by more than chance explains, counts as slower by the cost of its failures.
    fn by_failures(&self, all: &Siblings) -> f64 {
        let own = self.good + self.failed;
        let others = all.good + all.failed - own;
        if self.failed <= 0.0 || others <= 0.5 {
            return 1.0;
        }
        let failing = (all.failed / (own + others)).clamp(0.0, 1.0);
        let error = (failing * (1.0 - failing) * (1.0 / own + 1.0 / others)).sqrt();
        let (success, typical) = (self.good / own, (all.good - self.good) / others);
        if typical - success < 2.5 * error {
            return 1.0;
        }
        let latency = all.requests.mean().exp() / 1e6;
        let cost = (FAILURE_COST / latency.max(1e-3)).max(1.0);
        1.0 + cost * (typical.max(0.05) / success.max(0.05) - 1.0).max(0.0)
    }
}

/// The sums over all endpoints of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Siblings {
    requests: Total,
    recent: Total,
    probes: Total,
    good: f64,
    failed: f64,
}

impl Siblings {
    /// Adds one endpoint.
    pub fn add(&mut self, speed: &Speed) {
        self.requests.add(speed.requests);
        self.recent.add(speed.recent);
        self.probes.add(speed.probes);
        self.good += speed.good;
        self.failed += speed.failed;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    weight: f64,
    sum: f64,
}

impl Total {
    fn add(&mut self, one: Estimate) {
        self.weight += one.weight;
        self.sum += one.weight * one.mean;
    }

    fn mean(&self) -> f64 {
        self.sum / self.weight.max(1e-9)
    }

    fn mean_without(&self, one: Estimate) -> Option<f64> {
        let others = self.weight - one.weight;
        (others >= 0.5).then(|| (self.sum - one.weight * one.mean) / others)
    }

    /// The difference of one endpoint from the others, and its standard error.
    fn without(&self, one: Estimate, sd: f64) -> Option<(f64, f64)> {
        let others = self.weight - one.weight;
        if one.weight < WEIGHT_LEAST || others < 0.5 {
            return None;
        }
        let mean = self.mean_without(one)?;
        Some((one.mean - mean, sd * (1.0 / one.weight + 1.0 / others).sqrt()))
    }
}

/// The spread of latencies of one endpoint, pooled over the endpoints of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    requests: Pooled,
    probes: Pooled,
}

/// The sum of squared deviations from each endpoint's own mean.
#[derive(Clone, Copy, Debug)]
struct Pooled {
    count: f64,
    squares: f64,
}

/// Time constant of the deviations, in seconds, and the spread that is assumed before the first deviations.
const SPREAD_MEMORY: f64 = 10.0;
const SD_AT_FIRST: f64 = 1.0;
const FIRST_COUNT: f64 = 4.0;

impl Default for Pooled {
    fn default() -> Pooled {
        Pooled { count: FIRST_COUNT, squares: FIRST_COUNT * SD_AT_FIRST * SD_AT_FIRST }
    }
}

impl Pooled {
    fn fold(&mut self, logs: Logs, around: Estimate) {
        if logs.count <= 0.0 || around.weight < 1.0 {
            return;
        }
        let deviations =
            logs.squares - 2.0 * around.mean * logs.sum + logs.count * around.mean * around.mean;
        // The mean is itself an estimate, and a change of speed is not spread.
        let own = deviations.max(0.0) * around.weight / (around.weight + 1.0);
        let bound = 9.0 * self.sd() * self.sd() * logs.count;
        self.count += logs.count;
        self.squares += own.min(bound);
    }

    fn fade(&mut self, elapsed: f64) {
        // The assumed spread always has the weight of a few samples.
        let keep = (-elapsed / SPREAD_MEMORY).exp();
        let sd = self.sd();
        self.count = (self.count * keep).max(FIRST_COUNT);
        self.squares = (self.squares * keep).max(FIRST_COUNT * sd * sd);
    }

    fn sd(&self) -> f64 {
        (self.squares / self.count).sqrt().clamp(0.5, 2.0)
    }
}

impl Spread {
    /// Decays the deviations by `elapsed` seconds.
    pub fn fade(&mut self, elapsed: f64) {
        self.requests.fade(elapsed);
        self.probes.fade(elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Dice;

    const SWEEP: f64 = 0.05;

    /// A few endpoints, swept in the same way as by the assessor.
    struct Bench {
        speeds: Vec<Speed>,
        spread: Spread,
        dice: Dice,
    }

    impl Bench {
        fn new(count: usize, seed: u64) -> Bench {
            let speeds = vec![Speed::default(); count];
            Bench { speeds, spread: Spread::default(), dice: Dice::seeded(seed) }
        }

        /// Sweeps for `seconds`: endpoint `index` answers `rates[index]` exchanges a second, exponentially
        /// distributed around `means[index]` seconds.
        fn run(&mut self, seconds: f64, rates: &[f64], means: &[f64]) {
            for _ in 0..(seconds / SWEEP) as usize {
                self.sweep(rates, means, &vec![0.0; rates.len()], None);
            }
        }

        fn sweep(&mut self, rates: &[f64], means: &[f64], failing: &[f64], probes: Option<&[f64]>) {
            self.spread.fade(SWEEP);
            for index in 0..self.speeds.len() {
                let (mut logs, mut good, mut failed) = (Logs::default(), 0.0, 0.0);
                let mut due = rates[index] * SWEEP;
                while self.dice.unit() < due {
                    due -= 1.0;
                    if self.dice.unit() < failing[index] {
                        failed += 1.0;
                    } else {
                        good += 1.0;
                        logs.add(-(1.0 - self.dice.unit()).ln() * means[index]);
                    }
                }
                if let Some(probes) = probes {
                    self.speeds[index].probed(probes[index]);
                }
                self.speeds[index].fold(logs, good, failed, &mut self.spread, SWEEP);
            }
            let mut siblings = Siblings::default();
            self.speeds.iter().for_each(|speed| siblings.add(speed));
            for speed in &mut self.speeds {
                speed.judge(&siblings, &self.spread, SWEEP);
            }
        }

        fn slowness(&self) -> Vec<f64> {
            self.speeds.iter().map(Speed::slowness).collect()
        }
    }

    #[test]
    fn equal_endpoints_are_nearly_always_rated_equal() {
        let mut different = 0;
        for seed in 0..8 {
            let mut bench = Bench::new(3, seed);
            for _ in 0..600 {
                bench.run(SWEEP, &[20.0; 3], &[0.020; 3]);
                different += usize::from(bench.slowness() != [1.0; 3]);
            }
        }
        assert!(different <= 8 * 600 / 50, "{different} of {} sweeps", 8 * 600);
    }

    #[test]
    fn a_slow_endpoint_is_detected_in_a_second_and_restored_in_two() {
        for seed in 0..16 {
            let mut bench = Bench::new(3, seed);
            bench.run(10.0, &[20.0; 3], &[0.020; 3]);
            let known = (0..20).filter(|_| {
                bench.run(SWEEP, &[20.0; 3], &[0.200, 0.020, 0.020]);
                bench.slowness()[0] > 3.0 && bench.slowness()[1..].iter().all(|one| *one <= 1.0)
            });
            let known = known.count();
            assert!(known >= 4, "seed {seed}: {known} of 20 sweeps");
            // Like an endpoint that is hardly used any more.
            bench.run(2.0, &[5.0, 30.0, 30.0], &[0.020; 3]);
            assert!(bench.slowness()[0] <= 1.0, "seed {seed}: {:?}", bench.slowness());
        }
    }

    #[test]
    fn the_rating_of_an_unused_endpoint_decays_to_that_of_its_siblings() {
        for seed in 0..16 {
            let mut bench = Bench::new(2, seed);
            bench.run(10.0, &[30.0; 2], &[0.020; 2]);
            bench.run(1.0, &[30.0; 2], &[0.200, 0.020]);
            bench.run(20.0, &[0.0, 60.0], &[0.020; 2]);
            assert_eq!(bench.slowness(), [1.0, 1.0], "seed {seed}");
        }
    }

    #[test]
    fn an_endpoint_that_stays_slow_needs_less_evidence_and_gets_a_smaller_share() {
        let mut bench = Bench::new(2, 1);
        bench.run(10.0, &[30.0; 2], &[0.020; 2]);
        let (share, pause) = bench.speeds[0].trickle(30.0);
        assert_eq!((share, pause), (TRICKLE, PAUSE));
        bench.run(60.0, &[1.0, 60.0], &[0.200, 0.020]);
        let (later, longer) = bench.speeds[0].trickle(30.0);
        assert!(later < share / 2.0 && longer > pause * 2.0, "{later} {longer}");
        assert!(bench.slowness()[0] > 3.0);
    }

    #[test]
    fn errors_are_quick_and_do_not_attract() {
        let mut bench = Bench::new(3, 1);
        for _ in 0..100 {
            bench.sweep(&[20.0; 3], &[0.001, 0.020, 0.020], &[0.5, 0.0, 0.0], None);
        }
        assert!(bench.slowness()[0] > 2.0, "{:?}", bench.slowness());
        // A failure at all endpoints is not the fault of one endpoint.
        let mut bench = Bench::new(3, 1);
        for _ in 0..100 {
            bench.sweep(&[20.0; 3], &[0.020; 3], &[0.5; 3], None);
        }
        assert!(bench.slowness().iter().all(|slowness| *slowness < 1.5), "{:?}", bench.slowness());
    }

    #[test]
    fn probes_decide_without_requests_and_count_in_proportion_to_their_delay() {
        let run = |probes: [f64; 3], rates: [f64; 3]| {
            let mut bench = Bench::new(3, 1);
            for sweep in 0..200 {
                let probes = (sweep % 10 == 0).then_some(&probes[..]);
                bench.sweep(&rates, &[0.020; 3], &[0.0; 3], probes);
            }
            bench.slowness()
        };
        let slowness = run([0.100, 0.001, 0.001], [0.0, 5.0, 5.0]);
        assert!(slowness[0] >= 3.0 && slowness[1] == 1.0, "{slowness:?}");
        // A difference of 100 us is insignificant if requests take 20 ms.
        let slowness = run([0.0004, 0.0001, 0.0001], [0.0, 5.0, 5.0]);
        assert!(slowness[0] < 1.05, "{slowness:?}");
        // Equal latencies of requests overrule a slow probe.
        assert_eq!(run([0.100, 0.001, 0.001], [20.0; 3])[1..], [1.0, 1.0]);
    }

    #[test]
    fn slow_probes_show_the_recovery() {
        let mut bench = Bench::new(2, 3);
        bench.run(10.0, &[30.0; 2], &[0.020; 2]);
        for sweep in 0..400 {
            let probes = (sweep % 10 == 0).then_some(&[0.010, 0.001][..]);
            bench.sweep(&[2.0, 60.0], &[0.200, 0.020], &[0.0; 2], probes);
        }
        assert!(bench.speeds[0].confirmed && bench.slowness()[0] > 3.0);
        for sweep in 0..80 {
            let probes = (sweep % 10 == 0).then_some(&[0.001, 0.001][..]);
            bench.sweep(&[0.0, 60.0], &[0.020; 2], &[0.0; 2], probes);
        }
        assert_eq!(bench.slowness(), [1.0, 1.0]);
    }

    #[test]
    fn slowness_is_finite_and_bounded_for_any_input() {
        let values = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 1e9, 0.01];
        let mut dice = Dice::seeded(9);
        let mut bench = Bench::new(3, 9);
        for _ in 0..5_000 {
            let draw = |dice: &mut Dice| values[dice.below(values.len())];
            let means = [draw(&mut dice), draw(&mut dice), draw(&mut dice)];
            let probes = [draw(&mut dice), draw(&mut dice), draw(&mut dice)];
            bench.sweep(&[20.0, 5.0, 1.0], &means, &[0.9, 0.0, 0.1], Some(&probes));
            let fits = |slowness: &f64| (SLOWNESS_MIN..=SLOWNESS_MAX).contains(slowness);
            assert!(bench.slowness().iter().all(fits), "{:?}", bench.slowness());
        }
    }
}
