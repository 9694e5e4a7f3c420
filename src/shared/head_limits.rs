//! The limits of a listener in the terms of the codec: for its requests, and for invented ones.

use crate::decision::plan::{ListenerLimits, Slashes as PlannedSlashes, Underscores as Planned};
use crate::http::{EncodedSlash, Limits, Slashes, Underscores};

/// The bounds of a request's head.
#[must_use]
pub fn head_limits(limits: &ListenerLimits) -> Limits {
    Limits {
        head_bytes: limits.head,
        target_bytes: limits.uri,
        fields: limits.fields,
        underscores: match limits.underscores {
            Planned::Refuse => Underscores::Refuse,
            Planned::Drop => Underscores::Drop,
            Planned::Allow => Underscores::Allow,
        },
        encoded_slash: match limits.keep_encoded_slash {
            true => EncodedSlash::Keep,
            false => EncodedSlash::Refuse,
        },
        slashes: match limits.slashes {
            PlannedSlashes::Merge => Slashes::Merge,
            PlannedSlashes::Refuse => Slashes::Refuse,
            PlannedSlashes::Keep => Slashes::Keep,
        },
    }
}
