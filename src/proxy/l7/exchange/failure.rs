//! The failure of an exchange, or of one attempt: the cause, and the consequences.
//!
//! The two are independent. [`What`] decides the client's answer; [`Blame`] and [`Retry`] decide the consequences for
//! the endpoint and the request. An attempt that ends because its answer is slow, or because another attempt was
//! quicker, has not failed: `attempt` has those results.
//!
//! # Invariants
//! There is no retry once a byte of the final response was sent to the client.

use crate::decision::health::Cause;
use crate::decision::refusal;
use crate::decision::retry::Kind;
use crate::refusal::Refusal;

/// A failure of an exchange, or of one attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The failure for the client.
    pub what: What,
    /// Whether the endpoint is blamed.
    pub blame: Blame,
    /// Whether another attempt may follow.
    pub retry: Retry,
}

/// The failure for the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The client gets this refusal, unless there is a retry.
    Refused(Refusal),
    /// The client is gone, or its response has begun.
    Over,
}

/// Whether the endpoint is blamed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The endpoint is blamed, if the refusal is a fault of endpoints.
    Endpoint,
    /// Nothing is blamed: the endpoint was already blamed, or is not involved.
    Nobody,
}

/// Whether another attempt may follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// No.
    No,
    /// If the retry budget grants a retry of this kind.
    IfGranted(Kind),
    /// Yes: the retry budget has granted a retry of this kind.
    Granted(Kind),
}

impl Failure {
    /// The client is gone, or its response has begun.
    pub const OVER: Failure = Failure { what: What::Over, blame: Blame::Nobody, retry: Retry::No };

    /// The client gets this refusal.
    #[must_use]
    pub fn refuse(refusal: Refusal) -> Failure {
        Failure { what: What::Refused(refusal), blame: Blame::Endpoint, retry: Retry::No }
    }

    /// A retry if the retry budget grants it; else the client gets this refusal.
    #[must_use]
    pub fn retry(kind: Kind, refusal: Refusal) -> Failure {
        debug_assert_eq!(refusal.retry(), refusal::Retry::Elsewhere, "{refusal:?}");
        Failure { retry: Retry::IfGranted(kind), ..Failure::refuse(refusal) }
    }

    /// A retry that was granted. The caller that asked the budget has handled the blame.
    #[must_use]
    pub fn granted(kind: Kind, refusal: Refusal) -> Failure {
        let (blame, retry) = (Blame::Nobody, Retry::Granted(kind));
        Failure { blame, retry, ..Failure::refuse(refusal) }
    }

    /// The same failure without blame.
    #[must_use]
    pub fn excused(self) -> Failure {
        Failure { blame: Blame::Nobody, ..self }
    }

    /// The client's refusal, if an answer is still possible.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self.what {
            What::Refused(refusal) => Some(refusal),
            What::Over => None,
        }
    }

    /// The kind of the possible retry.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        match self.retry {
            Retry::IfGranted(kind) | Retry::Granted(kind) => Some(kind),
            Retry::No => None,
        }
    }

    /// Whether the connection was stale: the endpoint is not blamed, and a new connection may succeed.
    #[must_use]
    pub fn is_stale(self) -> bool {
        self.blame == Blame::Nobody && matches!(self.retry, Retry::IfGranted(_))
    }

    /// The cause for which the endpoint is blamed, if any.
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
