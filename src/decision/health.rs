//! Whether an endpoint may be used: all hysteresis of up and down lives here.
//!
//! Probes take it down after `fall` failures in a row and bring it up after `rise` successes.
//! Traffic is heard too: refused connections eject at once, because waiting for a probe would fail
//! users. An ejection lasts 1 s·2^k up to 30 s, and a mere TCP success never ends one, since an
//! application that resets every request still accepts connections.
//!
//! # Not here
//! Slowness (`load`), and how traffic comes back to a whole cluster (`assess`).

use super::units::{Timestamp, mix};
use std::time::Duration;

/// What went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The connection was refused, or the host is unreachable.
    Refused,
    /// The connection did not come about in time.
    ConnectTimeout,
    /// The connection died before the response.
    Reset,
    /// No response head in time.
    ResponseTimeout,
    /// A 502, 503 or 504 from the cluster.
    GatewayStatus,
    /// A probe got an unhealthy status.
    ProbeStatus,
    /// A probe got no answer in time.
    ProbeTimeout,
    /// The answer was not HTTP.
    Protocol,
    /// The TLS handshake failed.
    Tls,
    /// It fails more often than its siblings.
    Failing,
    /// It takes longer than its siblings.
    Slow,
    /// Another endpoint, asked later, has answered first.
    Overtaken,
}

impl Cause {
    /// The word the API and metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::ConnectTimeout => "connect_timeout",
            Cause::Reset => "reset",
            Cause::ResponseTimeout => "response_timeout",
            Cause::GatewayStatus => "gateway_status",
            Cause::ProbeStatus => "probe_status",
            Cause::ProbeTimeout => "probe_timeout",
            Cause::Protocol => "protocol",
            Cause::Tls => "tls",
            Cause::Failing => "success_rate",
            Cause::Slow => "latency",
            Cause::Overtaken => "overtaken",
        }
    }

    /// How many in a row prove at once that nothing is there; `None` where only a row of exchanges does.
    fn proof(self) -> Option<u32> {
        match self {
            Cause::Refused | Cause::Tls => Some(2),
            Cause::ConnectTimeout => Some(3),
            Cause::Reset
            | Cause::ResponseTimeout
            | Cause::GatewayStatus
            | Cause::Protocol
            | Cause::ProbeStatus
            | Cause::ProbeTimeout
            | Cause::Failing
            | Cause::Slow
            | Cause::Overtaken => None,
        }
    }

    /// Whether a probe's success says nothing against it.
    fn escapes_probes(self) -> bool {
        matches!(self, Cause::Failing | Cause::Slow)
    }

    /// Whether it proves that nothing is there: then no cap on ejections applies.
    #[must_use]
    pub fn is_dead(self) -> bool {
        matches!(self, Cause::Refused | Cause::ConnectTimeout)
    }
}

/// Thresholds of probing.
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

/// The health of one endpoint.
#[derive(Clone, Debug)]
pub struct Health {
    state: State,
    good_probes: u32,
    bad_probes: u32,
    bad_exchanges: u32,
    /// What the last of them was.
    bad_cause: Option<Cause>,
    ejected_until: Option<Timestamp>,
    /// Whether only its time ends the ejection.
    sentenced: bool,
    ejections: u32,
    up_since: Option<Timestamp>,
    returned: bool,
    last_error: Option<Cause>,
    seed: u64,
}

impl Health {
    /// An endpoint nobody has probed. `seed` scatters the ends of its ejections.
    #[must_use]
    pub fn new(seed: u64) -> Health {
        Health {
            state: State::Unprobed,
            good_probes: 0,
            bad_probes: 0,
            bad_exchanges: 0,
            bad_cause: None,
            ejected_until: None,
            sentenced: false,
            ejections: 0,
            up_since: None,
            returned: false,
            last_error: None,
            seed,
        }
    }

    /// Counts an endpoint that is never probed as up, unless traffic has ejected it just now.
    pub fn assume_up(&mut self, now: Timestamp) {
        let ejected = self.ejected_until.is_some_and(|until| now < until);
        if self.state != State::Up && !ejected {
            self.state = State::Up;
            self.up_since = Some(now);
        }
    }

    /// Folds a successful probe in. Says whether the endpoint has come up by it.
    pub fn probe_succeeded(&mut self, thresholds: Thresholds, now: Timestamp) -> bool {
        self.bad_probes = 0;
        self.good_probes = self.good_probes.saturating_add(1);
        let proven = self.good_probes >= thresholds.rise;
        if self.ejected_until.is_some_and(|until| now < until) {
            if self.sentenced || !(proven && thresholds.proves_requests) {
                return false;
            }
            self.ejected_until = None;
        }
        match self.state {
            State::Up => false,
            State::Down if !proven => false,
            State::Unprobed | State::Down => {
                self.returned |= self.state == State::Down;
                self.state = State::Up;
                self.up_since = Some(now);
                self.bad_exchanges = 0;
                true
            }
        }
    }

    /// Folds a failed probe in. Says whether the endpoint has gone down by it.
    pub fn probe_failed(&mut self, cause: Cause, thresholds: Thresholds) -> bool {
        self.good_probes = 0;
        self.bad_probes = self.bad_probes.saturating_add(1);
        self.last_error = Some(cause);
        let falls = self.state == State::Unprobed || self.bad_probes >= thresholds.fall;
        if !falls || self.state == State::Down {
            return false;
        }
        self.state = State::Down;
        true
    }

    /// Folds a failed exchange in. Says whether it takes the endpoint out of use at once; a row of those that
    /// prove little by themselves is judged by [`judge_row`](Health::judge_row). `may_eject` is false when too
    /// many siblings are out already.
    pub fn exchange_failed(&mut self, cause: Cause, may_eject: bool, now: Timestamp) -> bool {
        self.last_error = Some(cause);
        self.bad_exchanges = self.bad_exchanges.saturating_add(1);
        self.bad_cause = Some(cause);
        let proven = cause.proof().is_some_and(|count| self.bad_exchanges >= count);
        proven && (may_eject || cause.is_dead()) && self.eject(cause, now)
    }

    /// Judges the failures that came in a row, once it is known whether any exchange succeeded among them: gives
    /// why the endpoint goes out of use now, if it does.
    pub fn judge_row(
        &mut self,
        consecutive: u32,
        may_eject: bool,
        now: Timestamp,
    ) -> Option<Cause> {
        let cause = self.bad_cause.filter(|cause| cause.proof().is_none())?;
        let row = self.bad_exchanges >= consecutive;
        (row && may_eject && self.eject(cause, now)).then_some(cause)
    }

    /// Takes it out of use for a while, unless it is already; says whether it was not.
    pub fn eject(&mut self, cause: Cause, now: Timestamp) -> bool {
        if !self.is_usable(now) {
            return false;
        }
        self.last_error = Some(cause);
        self.sentenced = cause.escapes_probes();
        let nominal = Duration::from_secs(1 << self.ejections.min(5)).min(EJECTION_MAX);
        let jitter = mix(self.seed ^ u64::from(self.ejections)) % 256;
        self.ejected_until =
            Some(now.plus(nominal + nominal * u32::try_from(jitter).unwrap_or(0) / 1024));
        self.ejections = self.ejections.saturating_add(1);
        self.bad_exchanges = 0;
        self.good_probes = 0;
        if cause.is_dead() && self.state == State::Up {
            self.state = State::Down;
        }
        self.returned = true;
        true
    }

    /// Notes that exchanges succeeded since the last call.
    pub fn exchanges_succeeded(&mut self, now: Timestamp) {
        self.bad_exchanges = 0;
        let calm = self.up_since.is_some_and(|since| now.since(since) > EJECTION_MAX);
        if calm {
            self.ejections = 0;
        }
    }

    /// Notes the end of an ejection; says whether one ended just now.
    pub fn ejection_ended(&mut self, now: Timestamp) -> bool {
        let ended = self.ejected_until.is_some_and(|until| now >= until);
        if ended {
            self.ejected_until = None;
            self.up_since = Some(now);
        }
        ended
    }

    /// Whether exchanges may be sent to it.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.state != State::Down && self.ejected_until.is_none_or(|until| now >= until)
    }

    /// Whether a probe or traffic has ever spoken for or against it.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        self.state != State::Unprobed
    }

    /// Whether it should be probed faster: a doubt in either direction.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        match self.state {
            State::Unprobed => false,
            State::Up => {
                self.bad_probes > 0 || self.bad_exchanges > 0 || self.ejected_until.is_some()
            }
            State::Down => self.good_probes > 0,
        }
    }

    /// The part of its weight a returning endpoint gets: a tenth at first, all after `span`.
    #[must_use]
    pub fn slow_start(&self, span: Duration, now: Timestamp) -> f64 {
        match self.up_since {
            Some(since) if self.returned && !span.is_zero() => {
                (0.1 + 0.9 * now.secs_since(since) / span.as_secs_f64()).clamp(0.1, 1.0)
            }
            _ => 1.0,
        }
    }

    /// What last went wrong.
    #[must_use]
    pub fn last_error(&self) -> Option<Cause> {
        self.last_error
    }
}

/// The longest an ejection lasts, jitter aside.
const EJECTION_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: Thresholds = Thresholds { fall: 2, rise: 3, proves_requests: true };
    const TCP: Thresholds = Thresholds { fall: 2, rise: 3, proves_requests: false };

    /// One failure, and the sweep after it.
    fn fail(health: &mut Health, cause: Cause, may_eject: bool, now: Timestamp) -> bool {
        health.exchange_failed(cause, may_eject, now)
            || health.judge_row(5, may_eject, now).is_some()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::START.plus(Duration::from_millis(ms))
    }

    #[test]
    fn one_probe_decides_an_unprobed_endpoint_and_then_fall_and_rise_do() {
        let mut health = Health::new(1);
        assert!(health.probe_succeeded(HTTP, at(0)));
        assert!(!health.probe_failed(Cause::ProbeTimeout, HTTP) && health.is_usable(at(1)));
        assert!(health.is_suspicious());
        assert!(health.probe_failed(Cause::ProbeTimeout, HTTP) && !health.is_usable(at(2)));
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
    fn gateway_errors_eject_only_under_the_cap_and_success_forgives() {
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
    fn a_tcp_success_never_ends_an_ejection_but_its_time_does() {
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
    fn an_outlier_stays_out_for_its_time_though_its_probes_succeed() {
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
