//! Whether an endpoint may be used. This file has all hysteresis between up and down.
//!
//! Probes take an endpoint down after `fall` consecutive failures and bring it up after `rise` successes. Exchanges
//! count too: refused connections eject the endpoint at once, because exchanges would fail until the next probe. An
//! ejection lasts 1 s·2^k up to 30 s, and a successful TCP connection never ends an ejection, since an application
//! that resets every request still accepts connections.
//!
//! Clients can cause failed exchanges, and one faulty client must not eject an endpoint. A series of failed exchanges
//! counts only if it comes from two client addresses, or with a failed probe, or after [`ALONE`]. A connect timeout
//! may be due to a full listen backlog: a series of connect timeouts counts only while no exchange is answered.
//!
//! # Not here
//! Slowness (`load`), and the return of traffic to a whole cluster (`assess`).

use super::tls_failure::TlsFailure;
use super::units::{Timestamp, mix};
use std::net::IpAddr;
use std::time::Duration;

/// The cause of a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The connection was refused, or the host is unreachable.
    Refused,
    /// The connection was not established in time.
    ConnectTimeout,
    /// The connection was closed or reset before the response.
    Reset,
    /// No response head in time.
    ResponseTimeout,
    /// A 502, 503 or 504 from the cluster.
    GatewayStatus,
    /// Another status that the operator counts as a failure.
    Status,
    /// A probe received an unhealthy status.
    ProbeStatus,
    /// A probe received no response in time.
    ProbeTimeout,
    /// The response was not HTTP.
    Protocol,
    /// The TLS handshake failed.
    Tls(TlsFailure),
    /// The endpoint fails more often than its siblings.
    Failing,
    /// The endpoint takes longer than its siblings.
    Slow,
    /// A hedge to another endpoint, sent later, was answered first.
    Overtaken,
}

impl Cause {
    /// The word in the API and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::ConnectTimeout => "connect_timeout",
            Cause::Reset => "reset",
            Cause::ResponseTimeout => "response_timeout",
            Cause::GatewayStatus => "gateway_status",
            Cause::Status => "status",
            Cause::ProbeStatus => "probe_status",
            Cause::ProbeTimeout => "probe_timeout",
            Cause::Protocol => "protocol",
            Cause::Tls(failure) => failure.label(),
            Cause::Failing => "success_rate",
            Cause::Slow => "latency",
            Cause::Overtaken => "overtaken",
        }
    }

    /// The cause in words, for the log.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Cause::Refused => "connections refused, or host unreachable",
            Cause::ConnectTimeout => "connections timed out",
            Cause::Reset => "connections closed before a response",
            Cause::ResponseTimeout => "no response in time",
            Cause::GatewayStatus => "responses with status 502, 503 or 504",
            Cause::Status => "responses with a status that counts as a failure",
            Cause::ProbeStatus => "probes got an unhealthy status",
            Cause::ProbeTimeout => "probes got no response in time",
            Cause::Protocol => "responses that are not valid HTTP",
            Cause::Tls(_) => "TLS handshakes failed",
            Cause::Failing => "lower success rate than the other endpoints",
            Cause::Slow => "higher latency than the other endpoints",
            Cause::Overtaken => "slower than hedges to other endpoints",
        }
    }

    /// The number of consecutive connect failures after which the endpoint is ejected at once; `None` for
    /// failures of exchanges, of which only a series counts.
    fn proof(self) -> Option<u32> {
        match self {
            Cause::Refused | Cause::Tls(_) => Some(2),
            Cause::ConnectTimeout => Some(3),
            Cause::Reset
            | Cause::ResponseTimeout
            | Cause::GatewayStatus
            | Cause::Status
            | Cause::Protocol
            | Cause::ProbeStatus
            | Cause::ProbeTimeout
            | Cause::Failing
            | Cause::Slow
            | Cause::Overtaken => None,
        }
    }

    /// Whether failures of this cause eject the endpoint at once, but only within the limit on ejections.
    #[must_use]
    pub fn is_limited(self) -> bool {
        self.proof().is_some() && !self.is_dead()
    }

    /// Whether the fault can persist although probes succeed.
    fn escapes_probes(self) -> bool {
        matches!(self, Cause::Failing | Cause::Slow | Cause::Overtaken)
    }

    /// Whether the endpoint is certainly dead: the limit on ejections does not apply to it.
    #[must_use]
    pub fn is_dead(self) -> bool {
        matches!(self, Cause::Refused | Cause::ConnectTimeout)
    }
}

/// Thresholds of probes.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Failures in a row that take an endpoint down.
    pub fall: u32,
    /// Successes in a row that bring it up.
    pub rise: u32,
    /// Whether a successful probe proves that requests are answered.
    pub proves_requests: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Unprobed,
    Up,
    Down,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    count: u32,
    /// The cause of the last failure.
    cause: Option<Cause>,
    /// When the first of these failures was reported.
    since: Timestamp,
    /// The client, if all failures have the same client; `None` for several clients, or for failures
    /// without a client.
    client: Option<IpAddr>,
}

impl Row {
    fn add(&mut self, cause: Cause, client: Option<IpAddr>, now: Timestamp) {
        if self.count == 0 {
            (self.since, self.client) = (now, client);
        }
        self.client = self.client.filter(|only| client == Some(*only));
        self.cause = Some(cause);
        self.count = self.count.saturating_add(1);
    }
}

/// The health of one endpoint.
#[derive(Clone, Debug)]
pub struct Health {
    state: State,
    good_probes: u32,
    bad_probes: u32,
    /// Exchanges that failed.
    exchanges: Row,
    /// Failed connection attempts.
    dials: Row,
    /// When the endpoint last answered an exchange.
    answered: Option<Timestamp>,
    ejected_until: Option<Timestamp>,
    /// Whether only time ends the ejection.
    sentenced: bool,
    ejections: u32,
    up_since: Option<Timestamp>,
    returned: bool,
    last_error: Option<(Cause, Timestamp)>,
    seed: u64,
}

impl Health {
    /// An endpoint that was never probed. `seed` sets the jitter of its ejections.
    #[must_use]
    pub fn new(seed: u64) -> Health {
        Health {
            state: State::Unprobed,
            good_probes: 0,
            bad_probes: 0,
            exchanges: Row::default(),
            dials: Row::default(),
            answered: None,
            ejected_until: None,
            sentenced: false,
            ejections: 0,
            up_since: None,
            returned: false,
            last_error: None,
            seed,
        }
    }

    /// Counts an endpoint without probes as up, unless failed exchanges have just ejected it.
    pub fn assume_up(&mut self, now: Timestamp) {
        let ejected = self.ejected_until.is_some_and(|until| now < until);
        if self.state != State::Up && !ejected {
            self.state = State::Up;
            self.up_since = Some(now);
        }
    }

    /// Folds a successful probe in. Returns whether the endpoint came up.
    pub fn probe_succeeded(&mut self, thresholds: Thresholds, now: Timestamp) -> bool {
        self.bad_probes = 0;
        self.good_probes = self.good_probes.saturating_add(1);
        let proven = self.good_probes >= thresholds.rise;
        if self.ejected_until.is_some_and(|until| now < until) {
            if self.sentenced || !(proven && thresholds.proves_requests) {
                return false;
            }
            self.ejected_until = None;
            self.up_since = Some(now);
        }
        match self.state {
            State::Up => false,
            State::Down if !proven => false,
            State::Unprobed | State::Down => {
                self.returned |= self.state == State::Down;
                self.state = State::Up;
                self.up_since = Some(now);
                self.forgive();
                true
            }
        }
    }

    /// Folds a failed probe in. Returns whether the endpoint went down. A connect timeout of a probe does not count
    /// while exchanges are answered: the listen backlog was full.
    pub fn probe_failed(&mut self, cause: Cause, thresholds: Thresholds, now: Timestamp) -> bool {
        if cause == Cause::ConnectTimeout && self.has_answered_since(now, BACKLOG) {
            return false;
        }
        self.good_probes = 0;
        self.bad_probes = self.bad_probes.saturating_add(1);
        self.last_error = Some((cause, now));
        let falls = self.state == State::Unprobed || self.bad_probes >= thresholds.fall;
        if !falls || self.state == State::Down {
            return false;
        }
        self.state = State::Down;
        true
    }

    /// Folds a failed exchange of `client` in; `None` if the failure has no client. Returns whether the
    /// endpoint is ejected at once; failures that must be compared with responses are judged by
    /// [`judge_row`](Health::judge_row). `may_eject` is false when too many siblings are ejected already; it matters only
    /// for a [limited](Cause::is_limited) cause.
    pub fn exchange_failed(
        &mut self,
        cause: Cause,
        client: Option<IpAddr>,
        may_eject: bool,
        now: Timestamp,
    ) -> bool {
        self.last_error = Some((cause, now));
        let Some(proof) = cause.proof() else {
            self.exchanges.add(cause, client, now);
            return false;
        };
        if cause == Cause::ConnectTimeout && self.has_answered_since(now, BACKLOG) {
            return false;
        }
        self.dials.add(cause, None, now);
        let proven = cause != Cause::ConnectTimeout && self.dials.count >= proof;
        proven && (may_eject || cause.is_dead()) && self.eject(cause, now)
    }

    /// Judges a series of failures, after it is known whether any exchange succeeded in between. Returns the cause if
    /// the endpoint is ejected now.
    pub fn judge_row(
        &mut self,
        consecutive: u32,
        may_eject: bool,
        now: Timestamp,
    ) -> Option<Cause> {
        let Row { count, cause, .. } = self.dials;
        let late = cause.filter(|cause| *cause == Cause::ConnectTimeout);
        if let Some(cause) = late.filter(|cause| Some(count) >= cause.proof()) {
            return self.eject(cause, now).then_some(cause);
        }
        let Row { count, cause, since, client } = self.exchanges;
        let vouched = client.is_none() || self.bad_probes > 0 || now.since(since) >= ALONE;
        let row = count >= consecutive && vouched;
        cause.filter(|cause| row && may_eject && self.eject(*cause, now))
    }

    fn has_answered_since(&self, now: Timestamp, span: Duration) -> bool {
        self.answered.is_some_and(|answered| now.since(answered) < span)
    }

    fn forgive(&mut self) {
        self.exchanges = Row::default();
        self.dials = Row::default();
    }

    /// Ejects the endpoint for a while unless it is already ejected; returns whether it was ejected now.
    pub fn eject(&mut self, cause: Cause, now: Timestamp) -> bool {
        if !self.is_usable(now) {
            return false;
        }
        self.last_error = Some((cause, now));
        self.sentenced = cause.escapes_probes();
        let nominal = Duration::from_secs(1 << self.ejections.min(5)).min(EJECTION_MAX);
        let jitter = mix(self.seed ^ u64::from(self.ejections)) % 256;
        self.ejected_until =
            Some(now.plus(nominal + nominal * u32::try_from(jitter).unwrap_or(0) / 1024));
        self.ejections = self.ejections.saturating_add(1);
        self.forgive();
        self.good_probes = 0;
        if cause.is_dead() && self.state == State::Up {
            self.state = State::Down;
        }
        self.returned = true;
        true
    }

    /// Notes that some exchanges were answered since the last call; more may have failed.
    pub fn exchanges_answered(&mut self, now: Timestamp) {
        self.answered = Some(now);
        if self.dials.cause == Some(Cause::ConnectTimeout) {
            self.dials = Row::default();
        }
    }

    /// Notes that exchanges succeeded since the last call and hardly any failed.
    pub fn exchanges_succeeded(&mut self, now: Timestamp) {
        self.forgive();
        let calm = self.up_since.is_some_and(|since| now.since(since) > EJECTION_MAX);
        if calm {
            self.ejections = 0;
        }
    }

    /// Notes the end of an ejection; returns whether an ejection has just ended.
    pub fn ejection_ended(&mut self, now: Timestamp) -> bool {
        let ended = self.ejected_until.is_some_and(|until| now >= until);
        if ended {
            self.ejected_until = None;
            self.up_since = Some(now);
        }
        ended
    }

    /// Whether exchanges may be sent to the endpoint.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.state != State::Down && self.ejected_until.is_none_or(|until| now >= until)
    }

    /// Whether the state does not change by time alone: there is no ejection that ends, no series of failures that is
    /// judged by its length, and no slow start of `span`.
    #[must_use]
    pub fn is_settled(&self, span: Duration, now: Timestamp) -> bool {
        let judged = self.exchanges.count == 0 || now.since(self.exchanges.since) > ALONE;
        judged && self.ejected_until.is_none() && self.slow_start(span, now) >= 1.0
    }

    /// Whether a probe or an exchange has ever succeeded or failed.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        self.state != State::Unprobed
    }

    /// Whether the endpoint should be probed more often because its state is in doubt.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        match self.state {
            State::Unprobed => false,
            State::Up => {
                let rows = self.exchanges.count + self.dials.count;
                self.bad_probes > 0 || rows > 0 || self.ejected_until.is_some()
            }
            State::Down => self.good_probes > 0,
        }
    }

    /// The part of its weight that a returning endpoint gets: a tenth at first, the whole weight after `span`.
    #[must_use]
    pub fn slow_start(&self, span: Duration, now: Timestamp) -> f64 {
        match self.up_since {
            Some(since) if self.returned && !span.is_zero() => {
                (0.1 + 0.9 * now.secs_since(since) / span.as_secs_f64()).clamp(0.1, 1.0)
            }
            _ => 1.0,
        }
    }

    /// The last failure, and when it was.
    #[must_use]
    pub fn last_error(&self) -> Option<(Cause, Timestamp)> {
        self.last_error
    }
}

/// The longest ejection, without jitter.
const EJECTION_MAX: Duration = Duration::from_secs(30);
/// How long a series of failures without a success must last before a single client address is enough. There may be
/// only one address, for example behind a load balancer whose forwarding headers are not trusted.
pub const ALONE: Duration = Duration::from_secs(2);
/// For how long after a response a connect timeout does not count, since the connection attempt began before the
/// response.
const BACKLOG: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: Thresholds = Thresholds { fall: 2, rise: 3, proves_requests: true };
    const TCP: Thresholds = Thresholds { fall: 2, rise: 3, proves_requests: false };

    /// One failure and the sweep after it.
    fn fail(health: &mut Health, cause: Cause, may_eject: bool, now: Timestamp) -> bool {
        health.exchange_failed(cause, None, may_eject, now)
            || health.judge_row(5, may_eject, now).is_some()
    }

    #[test]
    fn the_last_failure_is_remembered_with_its_time_through_a_recovery() {
        let at = |secs| Timestamp::START.plus(Duration::from_secs(secs));
        let mut health = Health::new(1);
        health.probe_succeeded(HTTP, at(1));
        assert_eq!(health.last_error(), None);
        health.exchange_failed(Cause::Reset, None, true, at(2));
        assert_eq!(health.last_error(), Some((Cause::Reset, at(2))));
        health.probe_failed(Cause::ProbeTimeout, HTTP, at(3));
        for secs in 4..8 {
            health.probe_succeeded(HTTP, at(secs));
        }
        assert_eq!(health.last_error(), Some((Cause::ProbeTimeout, at(3))));
        health.eject(Cause::Slow, at(9));
        assert_eq!(health.last_error(), Some((Cause::Slow, at(9))));
    }

    /// The same for one client.
    fn fail_for(health: &mut Health, client: u8, now: Timestamp) -> bool {
        let client = Some(IpAddr::from([10, 0, 0, client]));
        health.exchange_failed(Cause::Reset, client, true, now)
            || health.judge_row(5, true, now).is_some()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_millis(ms))
    }

    #[test]
    fn one_probe_decides_an_unprobed_endpoint_and_then_fall_and_rise_do() {
        let mut health = Health::new(1);
        assert!(health.probe_succeeded(HTTP, at(0)));
        assert!(!health.probe_failed(Cause::ProbeTimeout, HTTP, at(2)) && health.is_usable(at(1)));
        assert!(health.is_suspicious());
        assert!(health.probe_failed(Cause::ProbeTimeout, HTTP, at(2)) && !health.is_usable(at(2)));
        assert!(!health.probe_succeeded(HTTP, at(3)));
        assert!(!health.probe_succeeded(HTTP, at(4)) && !health.is_usable(at(4)));
        assert!(health.probe_succeeded(HTTP, at(5)) && health.is_usable(at(5)));
    }

    #[test]
    fn two_refused_connections_eject_at_once_without_a_cap() {
        let mut health = Health::new(1);
        health.probe_succeeded(HTTP, at(0));
        assert!(!fail(&mut health, Cause::Refused, false, at(1)));
        assert!(fail(&mut health, Cause::Refused, false, at(2)));
        assert!(!health.is_usable(at(2)));
    }

    #[test]
    fn gateway_errors_eject_only_under_the_cap_and_a_success_resets_them() {
        let mut health = Health::new(1);
        health.probe_succeeded(HTTP, at(0));
        for _ in 0..4 {
            assert!(!fail(&mut health, Cause::GatewayStatus, true, at(1)));
        }
        health.exchanges_succeeded(at(1));
        for _ in 0..20 {
            assert!(!fail(&mut health, Cause::GatewayStatus, false, at(1)));
        }
        assert!(fail(&mut health, Cause::GatewayStatus, true, at(1)));
    }

    #[test]
    fn only_time_ends_an_ejection_not_a_tcp_probe() {
        let mut health = Health::new(1);
        health.probe_succeeded(TCP, at(0));
        for _ in 0..5 {
            fail(&mut health, Cause::Reset, true, at(1));
        }
        for _ in 0..10 {
            health.probe_succeeded(TCP, at(2));
        }
        assert!(!health.is_usable(at(900)));
        assert!(health.ejection_ended(at(1_300)) && health.is_usable(at(1_300)));
        assert!(health.slow_start(Duration::from_secs(30), at(1_300)) < 0.11);
    }

    #[test]
    fn an_outlier_stays_ejected_for_its_time_despite_successful_probes() {
        let mut health = Health::new(1);
        health.probe_succeeded(HTTP, at(0));
        assert!(health.eject(Cause::Failing, at(1)) && !health.eject(Cause::Failing, at(2)));
        for _ in 0..10 {
            assert!(!health.probe_succeeded(HTTP, at(3)));
        }
        assert!(!health.is_usable(at(900)) && health.is_usable(at(1_300)));
        health.ejection_ended(at(1_300));
        for _ in 0..5 {
            fail(&mut health, Cause::GatewayStatus, true, at(1_400));
        }
        assert!(!health.is_usable(at(1_400)));
        for _ in 0..3 {
            health.probe_succeeded(HTTP, at(1_401));
        }
        assert!(health.is_usable(at(1_401)));
    }

    #[test]
    fn an_endpoint_that_is_never_probed_returns_after_its_ejection() {
        let mut health = Health::new(1);
        health.assume_up(at(0));
        fail(&mut health, Cause::Refused, false, at(1));
        assert!(fail(&mut health, Cause::Refused, false, at(2)));
        health.assume_up(at(500));
        assert!(!health.is_usable(at(500)));
        health.assume_up(at(1_400));
        assert!(health.is_usable(at(1_400)));
    }

    #[test]
    fn failures_of_one_client_eject_only_with_a_failed_probe_or_if_they_last() {
        let up = || {
            let mut health = Health::new(1);
            health.probe_succeeded(TCP, at(0));
            health
        };
        let mut health = up();
        assert!((1..1_000).all(|ms| !fail_for(&mut health, 1, at(ms))), "one client");
        assert!(fail_for(&mut health, 2, at(1_000)), "a second one is a witness");

        let mut health = up();
        assert!((1..10).all(|ms| !fail_for(&mut health, 1, at(ms))));
        health.probe_failed(Cause::ProbeTimeout, TCP, at(10));
        assert!(fail_for(&mut health, 1, at(11)), "the probe agrees");

        let mut health = up();
        assert!((1..10).all(|ms| !fail_for(&mut health, 1, at(ms))));
        assert!(fail_for(&mut health, 1, at(2_001)), "nothing was answered for so long");

        let mut health = up();
        for ms in (1..10_000).step_by(100) {
            assert!(!fail_for(&mut health, 1, at(ms)), "others are answered");
            health.exchanges_succeeded(at(ms));
        }
    }

    #[test]
    fn late_connections_do_not_eject_an_endpoint_that_answers() {
        let mut health = Health::new(1);
        health.probe_succeeded(TCP, at(0));
        for ms in (10..2_000).step_by(50) {
            assert!(!fail(&mut health, Cause::ConnectTimeout, true, at(ms)));
            assert!(!health.probe_failed(Cause::ConnectTimeout, TCP, at(ms)) || ms < 50);
            health.exchanges_answered(at(ms));
        }
        // The last attempts began before the last response.
        let last = 1_960;
        assert!((0..10).all(|_| !fail(&mut health, Cause::ConnectTimeout, true, at(last + 240))));
        for count in 1..=3 {
            let proven = fail(&mut health, Cause::ConnectTimeout, false, at(last + 260));
            assert_eq!(proven, count == 3);
        }
    }

    #[test]
    fn a_refused_connection_ejects_only_with_a_second_one() {
        let mut health = Health::new(1);
        health.probe_succeeded(TCP, at(0));
        assert!(!fail(&mut health, Cause::Reset, true, at(1)));
        assert!(!fail(&mut health, Cause::Refused, true, at(2)));
        assert!(fail(&mut health, Cause::Refused, true, at(3)));
    }

    #[test]
    fn ejections_grow_to_a_bound() {
        let mut health = Health::new(3);
        health.probe_succeeded(TCP, at(0));
        let mut now = at(0);
        let mut spans = Vec::new();
        for _ in 0..9 {
            for _ in 0..5 {
                fail(&mut health, Cause::Reset, true, now);
            }
            let start = now;
            while !health.is_usable(now) {
                now = now.plus(Duration::from_millis(10));
            }
            health.ejection_ended(now);
            spans.push(now.since(start));
        }
        assert!(spans.windows(2).take(5).all(|pair| pair[1] > pair[0]), "{spans:?}");
        assert!(spans.iter().all(|span| *span <= EJECTION_MAX * 5 / 4 + Duration::from_millis(10)));
    }
}
