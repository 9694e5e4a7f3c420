//! Why an exchange, or one attempt of it, failed: what happened, and what follows from that.
//!
//! The two are independent. [`What`] decides what the client is told; [`Blame`] and [`Retry`] decide what happens to
//! the endpoint and to the request. An attempt that ends for another reason than a failure (its answer is slow, or
//! another attempt was quicker) is no failure: `attempt` has those outcomes.
//!
//! # Invariants
//! Nothing is tried again once a byte of the final response went to the client.

use crate::decision::health::Cause;
use crate::decision::refusal;
use crate::decision::retry::Kind;
use crate::proxy::refusal::Refusal;

/// A failure of an exchange, or of one attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What happened.
    pub what: What,
    /// Who is to blame.
    pub blame: Blame,
    /// Whether another attempt may follow.
    pub retry: Retry,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The client gets this refusal, unless another attempt is made.
    Refused(Refusal),
    /// The client is gone, or was told all that it can be told.
    Over,
}

/// Who is to blame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The endpoint, where the refusal names a fault of an endpoint.
    Endpoint,
    /// Nobody: the endpoint was blamed already, or has no part in it.
    Nobody,
}

/// Whether another attempt may follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// No.
    No,
    /// If the retry budget grants this kind.
    IfGranted(Kind),
    /// Yes: the retry budget has granted this kind already.
    Granted(Kind),
}

impl Failure {
    /// The client is gone, or was told all that it can be told.
    pub const OVER: Failure = Failure { what: What::Over, blame: Blame::Nobody, retry: Retry::No };

    /// The client gets this refusal.
    #[must_use]
    pub fn refuse(refusal: Refusal) -> Failure {
        Failure { what: What::Refused(refusal), blame: Blame::Endpoint, retry: Retry::No }
    }

    /// Another attempt may follow if the retry budget grants it; else the client gets this refusal.
    #[must_use]
    pub fn retry(kind: Kind, refusal: Refusal) -> Failure {
        debug_assert_eq!(refusal.retry(), refusal::Retry::Elsewhere, "{refusal:?}");
        Failure { retry: Retry::IfGranted(kind), ..Failure::refuse(refusal) }
    }

    /// Another attempt is to follow. Whoever asked the retry budget for it has dealt with the blame.
    #[must_use]
    pub fn granted(kind: Kind, refusal: Refusal) -> Failure {
        let (blame, retry) = (Blame::Nobody, Retry::Granted(kind));
        Failure { blame, retry, ..Failure::refuse(refusal) }
    }

    /// The same failure, for which nobody is to blame.
    #[must_use]
    pub fn excused(self) -> Failure {
        Failure { blame: Blame::Nobody, ..self }
    }

    /// What the client is told, if it can be told anything.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self.what {
            What::Refused(refusal) => Some(refusal),
            What::Over => None,
        }
    }

    /// The kind of the attempt that may follow, if one may.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        match self.retry {
            Retry::IfGranted(kind) | Retry::Granted(kind) => Some(kind),
            Retry::No => None,
        }
    }

    /// Whether a connection had aged: the endpoint is excused, and a new connection to it may do.
    #[must_use]
    pub fn is_stale(self) -> bool {
        self.blame == Blame::Nobody && matches!(self.retry, Retry::IfGranted(_))
    }

    /// What the endpoint is to be blamed for, if it is to blame.
    #[must_use]
    pub fn cause(self) -> Option<Cause> {
        match (self.blame, self.what) {
            (Blame::Endpoint, What::Refused(refusal)) => refusal.blame(),
            (Blame::Endpoint, What::Over) | (Blame::Nobody, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_and_the_retry_decision_are_separate() {
        #[rustfmt::skip]
        let table = [
            (Failure::OVER,                                                   None,                         None,                      None,               false),
            (Failure::refuse(Refusal::UpstreamTimeout),                       Some(Refusal::UpstreamTimeout), Some(Cause::ResponseTimeout), None,           false),
            (Failure::refuse(Refusal::NoRoute),                               Some(Refusal::NoRoute),       None,                      None,               false),
            (Failure::retry(Kind::Died, Refusal::UpstreamReset),              Some(Refusal::UpstreamReset), Some(Cause::Reset),        Some(Kind::Died),   false),
            (Failure::retry(Kind::Unsent, Refusal::UpstreamReset).excused(),  Some(Refusal::UpstreamReset), None,                      Some(Kind::Unsent), true),
            (Failure::granted(Kind::GatewayStatus, Refusal::Overloaded),      Some(Refusal::Overloaded),    None,                      Some(Kind::GatewayStatus), false),
        ];
        for (failure, refusal, cause, kind, is_stale) in table {
            assert_eq!(failure.refusal(), refusal, "{failure:?}");
            assert_eq!(failure.cause(), cause, "{failure:?}");
            assert_eq!(failure.kind(), kind, "{failure:?}");
            assert_eq!(failure.is_stale(), is_stale, "{failure:?}");
        }
    }
}
