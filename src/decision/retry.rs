//! Whether a request may be retried: a budget, not a count, so that retries do not multiply a failure.
//!
//! There are three kinds (see the documentation of failures): (A) no byte was sent, so the request had no effect:
//! bounded by endpoints and time alone; (B) the connection was closed or reset before any byte of the response:
//! retried for idempotent requests that are still buffered; (C) a gateway status: as B. B and C use token buckets
//! that refill in proportion to the requests of the service. A hedge, sent while the first attempt is still in
//! flight, uses the bucket of C.

use super::units::Timestamp;

/// Endpoints of one cluster that kind A may try.
pub const ENDPOINTS_MAX: usize = 3;

/// How an attempt failed, as far as a retry depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Nothing was sent.
    Unsent,
    /// The request was sent, and the connection was closed or reset before any byte of a response.
    Died,
    /// The request was sent, and the endpoint was ejected before its response.
    Ejected,
    /// The cluster answered 502, 503 or 504.
    GatewayStatus,
    /// No response yet: a hedge is sent to another endpoint.
    Slow,
}

/// The properties of a request that decide whether another attempt is possible.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// RFC 9110 §9.2.2.
    pub idempotent: bool,
    /// Whether all bytes that were sent can be sent again.
    pub replayable: bool,
    /// Retries of kinds B and C so far.
    pub retried: u32,
    /// The number of retries that a request of the service may have.
    pub retries_max: u32,
}

/// The buckets of one service in one worker.
#[derive(Clone, Debug)]
pub struct Budget {
    share: f64,
    died: f64,
    status: f64,
    rate: f64,
    workers: f64,
    updated: Timestamp,
}

/// The least number of retries of kind B in 10 s, so that a service with little traffic survives the failure
/// of an endpoint.
const DIED_FLOOR: f64 = 100.0;
/// Retries of kind C a second in addition to the share.
const STATUS_PER_SECOND: f64 = 3.0;

impl Budget {
    /// A full budget: retries are at most `share` of requests. `workers` is the number of workers, which share the
    /// part of the budget that does not depend on the rate.
    #[must_use]
    pub fn new(share: f64, workers: usize, now: Timestamp) -> Budget {
        let workers = workers.max(1) as f64;
        Budget { share, died: DIED_FLOOR, status: 1.0, rate: 0.0, workers, updated: now }
    }

    /// Retries as a share of requests.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Counts a first attempt.
    pub fn request(&mut self, now: Timestamp) {
        self.refill(now);
        self.rate += 0.1;
        self.died += self.share;
        self.status += self.share;
        self.clamp();
    }

    fn refill(&mut self, now: Timestamp) {
        let elapsed = now.secs_since(self.updated);
        if elapsed < 0.001 {
            return;
        }
        self.updated = now;
        self.rate *= (-elapsed / 10.0).exp();
        self.died += elapsed * DIED_FLOOR / 10.0 / self.workers;
        self.status += elapsed * STATUS_PER_SECOND / self.workers;
        self.clamp();
    }

    fn clamp(&mut self) {
        // Each worker may hold a full bucket, because a dead endpoint may affect a single worker. The workers share
        // the refill rate.
        self.died = self.died.min((10.0 * self.share * self.rate).max(DIED_FLOOR));
        self.status = self.status.min((self.share * self.rate).max(1.0));
    }

    /// Whether the request may be tried again; a granted retry is deducted from the budget.
    pub fn grant(&mut self, kind: Kind, request: Request, now: Timestamp) -> bool {
        if kind == Kind::Unsent {
            return true;
        }
        let may_be_more = match kind {
            Kind::Slow => true,
            // Endpoints that fail together, for example when a cluster freezes, are ejected one after
            // the other.
            Kind::Ejected => request.retries_max > 0,
            Kind::Unsent | Kind::Died | Kind::GatewayStatus => {
                request.retried < request.retries_max
            }
        };
        let eligible = request.idempotent && request.replayable && may_be_more;
        if !eligible || self.share <= 0.0 {
            return false;
        }
        self.refill(now);
        let bucket = match kind {
            Kind::Died | Kind::Ejected | Kind::Unsent => &mut self.died,
            Kind::GatewayStatus | Kind::Slow => &mut self.status,
        };
        let granted = *bucket >= 1.0;
        if granted {
            *bucket -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const REQUEST: Request =
        Request { idempotent: true, replayable: true, retried: 0, retries_max: 1 };

    #[test]
    fn gateway_statuses_are_amplified_by_a_fifth_at_most() {
        let mut now = Timestamp::START;
        let mut budget = Budget::new(0.2, 1, now);
        let (mut requests, mut retries) = (0, 0);
        for _ in 0..20_000 {
            now = now.plus(Duration::from_millis(1));
            budget.request(now);
            requests += 1;
            retries += i32::from(budget.grant(Kind::GatewayStatus, REQUEST, now));
        }
        assert!(retries <= requests / 5 + 3 * 20 + 2, "{retries} of {requests}");
        assert!(retries >= requests / 6, "{retries} of {requests}");
    }

    #[test]
    fn many_workers_grant_no_more_than_one() {
        for workers in [1, 4, 32] {
            let mut now = Timestamp::START;
            let mut budgets: Vec<Budget> =
                (0..workers).map(|_| Budget::new(0.2, workers, now)).collect();
            let (mut status, mut died) = (0, 0);
            // A hundred requests a second in total, for a minute.
            for number in 0..6_000 {
                now = now.plus(Duration::from_millis(10));
                let budget = &mut budgets[number % workers];
                budget.request(now);
                status += i32::from(budget.grant(Kind::GatewayStatus, REQUEST, now));
                died += i32::from(budget.grant(Kind::Died, REQUEST, now));
            }
            assert!(status <= 1_200 + 180 + i32::try_from(workers).unwrap(), "{workers}: {status}");
            let full = 100 * i32::try_from(workers).unwrap();
            assert!(died <= 1_200 + 600 + full, "{workers}: {died}");
            assert!(status >= 1_200, "{workers}: {status}");
        }
    }

    #[test]
    fn hedges_are_a_fifth_at_most_whatever_retries_are_allowed() {
        let mut now = Timestamp::START;
        let mut budget = Budget::new(0.2, 1, now);
        let request = Request { retries_max: 0, ..REQUEST };
        let mut hedges = 0;
        for _ in 0..10_000 {
            now = now.plus(Duration::from_millis(1));
            budget.request(now);
            hedges += i32::from(budget.grant(Kind::Slow, request, now));
        }
        assert!((1_600..=2_032).contains(&hedges), "{hedges}");
        assert!(!budget.grant(Kind::Slow, Request { idempotent: false, ..request }, now));
        assert!(!budget.grant(Kind::Slow, Request { replayable: false, ..request }, now));
    }

    #[test]
    fn a_quiet_service_survives_a_death_with_all_its_requests() {
        let now = Timestamp::START;
        let mut budget = Budget::new(0.2, 1, now);
        for _ in 0..100 {
            budget.request(now);
            assert!(budget.grant(Kind::Died, REQUEST, now));
        }
    }

    #[test]
    fn a_request_that_may_have_been_processed_is_not_retried() {
        let now = Timestamp::START;
        let mut budget = Budget::new(0.2, 1, now);
        for request in [
            Request { idempotent: false, ..REQUEST },
            Request { replayable: false, ..REQUEST },
            Request { retried: 1, ..REQUEST },
        ] {
            assert!(!budget.grant(Kind::Died, request, now));
            assert!(!budget.grant(Kind::GatewayStatus, request, now));
            assert!(budget.grant(Kind::Unsent, request, now));
        }
    }

    #[test]
    fn attempts_at_dead_endpoints_continue_within_the_budget() {
        let now = Timestamp::START;
        let mut budget = Budget::new(0.2, 1, now);
        let met = Request { retried: 3, ..REQUEST };
        assert!((0..100).all(|_| budget.grant(Kind::Ejected, met, now)));
        assert!(!budget.grant(Kind::Ejected, met, now), "the budget is spent");
        let mut budget = Budget::new(0.2, 1, now);
        for request in [
            Request { idempotent: false, ..met },
            Request { replayable: false, ..met },
            Request { retries_max: 0, ..met },
        ] {
            assert!(!budget.grant(Kind::Ejected, request, now), "{request:?}");
        }
    }
}
