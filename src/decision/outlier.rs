//! Outlier detection: whether an endpoint fails, or is slow, while its siblings are not.
//!
//! Endpoints are compared with their siblings, never with a fixed figure: when all endpoints fail alike,
//! the requests or the cluster are at fault, and ejections would only overload the remaining endpoints.
//!
//! # Units
//! Counts decay with a time constant of [`WINDOW`] seconds; latencies are seconds.
//!
//! # Not here
//! Consecutive failures and the duration of an ejection (`health`); clusters as a whole (`assess`).

use super::health::Cause;

/// A cluster's outlier settings, within bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Failures of exchanges in a row that eject an endpoint, 1-1000.
    pub consecutive: u32,
    /// Ejects an endpoint that succeeds less often than this part of its siblings' median, 0-1.
    pub success: Option<f64>,
    /// Ejects an endpoint whose response time is above this multiple of its siblings' median, above 1.
    pub latency: Option<f64>,
    /// Percent of a cluster's endpoints that failed exchanges may eject at once. Endpoints that refuse
    /// connections are ejected regardless of this limit.
    pub max_percent: u8,
    /// Below this percentage of usable endpoints a cluster uses all of them. 0 turns this off.
    pub panic_percent: u8,
    /// Which results count as failures of an endpoint and of its cluster.
    pub failures: Failures,
}

/// Which statuses and causes count as failures. Other results cause neither ejection nor retry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failures {
    /// A bit for each status from 100 to 611.
    statuses: [u64; 8],
    /// The connection was closed or reset before the response, or the response was not HTTP.
    pub reset: bool,
    /// No connection, or no TLS on it.
    pub connect: bool,
    /// No response head in time, or a hedge was answered first each time.
    pub timeout: bool,
}

impl Failures {
    /// Nothing.
    pub const NONE: Failures =
        Failures { statuses: [0; 8], reset: false, connect: false, timeout: false };

    fn place(status: u16) -> Option<(usize, u64)> {
        let bit = usize::from(status.checked_sub(100)?);
        (bit < 512).then_some((bit / 64, 1 << (bit % 64)))
    }

    /// Counts a status as well.
    pub fn add_status(&mut self, status: u16) {
        if let Some((word, bit)) = Failures::place(status) {
            self.statuses[word] |= bit;
        }
    }

    /// Whether an answer with this status is a failure.
    #[must_use]
    pub fn has_status(&self, status: u16) -> bool {
        Failures::place(status).is_some_and(|(word, bit)| self.statuses[word] & bit != 0)
    }

    /// Whether this cause counts. True for failures by status, which [`has_status`](Failures::has_status)
    /// has already selected.
    #[must_use]
    pub fn has(&self, cause: Cause) -> bool {
        match cause {
            Cause::Refused | Cause::ConnectTimeout | Cause::Tls(_) => self.connect,
            Cause::Reset | Cause::Protocol => self.reset,
            Cause::ResponseTimeout | Cause::Overtaken => self.timeout,
            Cause::GatewayStatus
            | Cause::Status
            | Cause::ProbeStatus
            | Cause::ProbeTimeout
            | Cause::Failing
            | Cause::Slow => true,
        }
    }
}

impl Default for Failures {
    fn default() -> Failures {
        let mut all = Failures { reset: true, connect: true, timeout: true, ..Failures::NONE };
        (502..=504).for_each(|status| all.add_status(status));
        all
    }
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier {
            consecutive: 5,
            success: None,
            latency: None,
            max_percent: 50,
            panic_percent: 0,
            failures: Failures::default(),
        }
    }
}

impl Outlier {
    /// Whether failed exchanges may eject one more endpoint.
    #[must_use]
    pub fn may_eject(&self, out: usize, all: usize) -> bool {
        (out + 1) * 100 <= usize::from(self.max_percent) * all
    }

    /// Whether so few endpoints are usable that all are used.
    #[must_use]
    pub fn panics(&self, in_use: usize, all: usize) -> bool {
        in_use * 100 < usize::from(self.panic_percent) * all
    }
}

/// Time constant of the counts, in seconds.
const WINDOW: f64 = 10.0;
/// With fewer exchanges in the window, an endpoint is neither judged nor used as a reference.
const JUDGED_FROM: f64 = 20.0;

/// Recent results of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    good: f64,
    failed: f64,
    seconds: f64,
}

impl Standing {
    /// Folds in the answers of `elapsed` seconds: their number, their times, and the number of failures.
    pub fn fold(&mut self, good: f64, seconds: f64, failed: f64, elapsed: f64) {
        let keep = (-elapsed / WINDOW).exp();
        self.good = self.good * keep + good;
        self.failed = self.failed * keep + failed;
        self.seconds = self.seconds * keep + seconds;
    }

    fn is_judged(&self) -> bool {
        self.good + self.failed >= JUDGED_FROM
    }

    fn success(&self) -> f64 {
        self.good / (self.good + self.failed)
    }

    /// The mean response time; `None` with few answers.
    fn latency(&self) -> Option<f64> {
        (self.good >= JUDGED_FROM).then(|| self.seconds / self.good)
    }
}

/// The results of all endpoints of a cluster, for the comparison of each with its siblings.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    /// The success ratios of the endpoints with enough exchanges, in ascending order.
    successes: Vec<f64>,
    /// The mean response times of the endpoints with enough answers, in ascending order.
    latencies: Vec<f64>,
}

impl Standings {
    /// The results of these endpoints.
    #[must_use]
    pub fn of<'a>(all: impl Iterator<Item = &'a Standing> + Clone) -> Standings {
        let judged = all.clone().filter(|one| one.is_judged());
        Standings {
            successes: sorted(judged.map(Standing::success)),
            latencies: sorted(all.filter_map(Standing::latency)),
        }
    }

    /// The cause if the endpoint with the results `own`, which is one of these endpoints, is an outlier; `None` if it
    /// is not, or if there are too few exchanges.
    #[must_use]
    pub fn verdict(&self, knobs: &Outlier, own: &Standing) -> Option<Cause> {
        if !own.is_judged() {
            return None;
        }
        if let Some(part) = knobs.success {
            // With an even number of siblings, the worse of the two middle ones: in doubt the endpoint is not ejected.
            let middle = self.successes.len().saturating_sub(2) / 2;
            let typical = without(&self.successes, own.success(), middle);
            if typical.is_some_and(|typical| own.success() < part * typical) {
                return Some(Cause::Failing);
            }
        }
        if let Some((times, own)) = knobs.latency.zip(own.latency()) {
            let middle = self.latencies.len().saturating_sub(1) / 2;
            let typical = without(&self.latencies, own, middle);
            if typical.is_some_and(|typical| own > times * typical) {
                return Some(Cause::Slow);
            }
        }
        None
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value number `place` of a sorted list that lacks one value `own`.
fn without(sorted: &[f64], own: f64, place: usize) -> Option<f64> {
    let first = sorted.partition_point(|value| value.total_cmp(&own).is_lt());
    sorted.get(if place < first { place } else { place + 1 }).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOBS: Outlier = Outlier {
        consecutive: 5,
        success: Some(0.9),
        latency: Some(3.0),
        max_percent: 50,
        panic_percent: 0,
        failures: Failures::NONE,
    };

    #[test]
    fn by_default_gateway_statuses_and_broken_connections_are_failures() {
        let mut failures = Failures::default();
        let counted: Vec<u16> = (0..1000).filter(|status| failures.has_status(*status)).collect();
        assert_eq!(counted, [502, 503, 504]);
        for cause in [Cause::Refused, Cause::Reset, Cause::ResponseTimeout, Cause::Overtaken] {
            assert!(failures.has(cause) && !Failures::NONE.has(cause), "{cause:?}");
        }
        [100, 500, 599].into_iter().for_each(|status| failures.add_status(status));
        assert!([100, 500, 599].iter().all(|status| failures.has_status(*status)));
        assert!(!failures.has_status(499) && !failures.has_status(501));
    }

    fn standing(good: f64, failed: f64, each: f64) -> Standing {
        let mut standing = Standing::default();
        standing.fold(good, good * each, failed, 0.05);
        standing
    }

    /// The verdict on one of several endpoints.
    fn blame(knobs: &Outlier, index: usize, all: &[Standing]) -> Option<Cause> {
        Standings::of(all.iter()).verdict(knobs, &all[index])
    }

    #[test]
    fn an_endpoint_that_fails_more_than_its_siblings_is_the_outlier() {
        let fine = standing(100.0, 0.0, 0.01);
        let all = [fine, standing(80.0, 20.0, 0.01), fine];
        let verdicts = [0, 1, 2].map(|index| blame(&KNOBS, index, &all));
        assert_eq!(verdicts, [None, Some(Cause::Failing), None]);
    }

    #[test]
    fn equal_failure_rates_have_no_outlier() {
        let all = [standing(50.0, 50.0, 0.01); 4];
        assert!((0..4).all(|index| blame(&KNOBS, index, &all).is_none()));
    }

    #[test]
    fn a_slow_endpoint_is_the_outlier_and_a_quick_one_is_not() {
        let all =
            [standing(40.0, 0.0, 0.01), standing(40.0, 0.0, 0.05), standing(40.0, 0.0, 0.001)];
        let verdicts = [0, 1, 2].map(|index| blame(&KNOBS, index, &all));
        assert_eq!(verdicts[1..], [Some(Cause::Slow), None]);
    }

    #[test]
    fn a_few_exchanges_are_no_evidence_and_old_ones_expire() {
        let fine = standing(100.0, 0.0, 0.01);
        assert_eq!(blame(&KNOBS, 1, &[fine, standing(5.0, 14.0, 0.01)]), None);
        assert_eq!(blame(&KNOBS, 1, &[fine, standing(5.0, 15.0, 0.01)]), Some(Cause::Failing));
        let mut old = standing(50.0, 50.0, 0.01);
        old.fold(0.0, 0.0, 0.0, 20.0);
        assert_eq!(blame(&KNOBS, 1, &[fine, old]), None);
    }

    #[test]
    fn without_measured_siblings_there_is_no_outlier() {
        let bad = standing(0.0, 100.0, 0.01);
        assert_eq!(blame(&KNOBS, 0, &[bad]), None);
        assert_eq!(blame(&KNOBS, 0, &[bad, Standing::default()]), None);
        let off = Outlier { success: None, latency: None, ..KNOBS };
        assert_eq!(blame(&off, 0, &[bad, standing(100.0, 0.0, 0.01)]), None);
    }

    #[test]
    fn caps_and_panic_go_by_percent() {
        let knobs = Outlier { max_percent: 34, panic_percent: 50, ..KNOBS };
        assert!(knobs.may_eject(0, 3) && !knobs.may_eject(1, 3) && !knobs.may_eject(0, 2));
        assert!(knobs.panics(1, 3) && !knobs.panics(2, 4) && knobs.panics(0, 1));
        assert!(!Outlier::default().panics(0, 4));
    }
}
