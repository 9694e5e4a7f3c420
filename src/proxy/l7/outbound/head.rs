//! Parses a response head of any protocol: its limits, and its violations.

use super::NoHead;
use crate::http::response::{RequestKind, ResponseHead};
use crate::http::{Limits, Underscores, Violation, Why};

pub(super) fn limits() -> Limits {
    Limits { underscores: Underscores::Allow, ..Limits::default() }
}

pub(super) fn why(violation: Violation) -> Why {
    match violation {
        Violation::Malformed(why) => why,
        Violation::TargetTooLong => "the status line is too long",
        Violation::HeadTooLarge => "the head is too long, or has too many fields",
        Violation::UnknownCoding => "unsupported transfer coding",
        Violation::Expectation | Violation::Method => "not a response",
    }
}

pub(super) fn read_whole(
    answer: &mut ResponseHead,
    bytes: &[u8],
    request_kind: RequestKind<'_>,
    limits: &Limits,
) -> Result<usize, NoHead> {
    match answer.read(bytes, request_kind, limits) {
        Ok(()) => Ok(bytes.len()),
        Err(violation) => Err(NoHead::Malformed(why(violation))),
    }
}
