//! The refusal that answers a violation of the protocol.

use crate::decision::refusal::Refusal;
use crate::http::Violation;

/// The refusal for a request that the codec does not accept.
#[must_use]
pub fn refusal(violation: Violation) -> Refusal {
    match violation {
        Violation::Malformed(_) => Refusal::BadRequest,
        Violation::TargetTooLong => Refusal::UriTooLong,
        Violation::HeadTooLarge => Refusal::HeadersTooLarge,
        Violation::UnknownCoding => Refusal::NotImplemented,
        Violation::Expectation => Refusal::ExpectationFailed,
        Violation::Method => Refusal::MethodNotAllowed,
    }
}
