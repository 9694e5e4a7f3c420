//! Results that are counted by variant: enums whose variants are values of a label.

use super::counter::variants;
use crate::decision::compression::Algorithm;
use crate::decision::permit::Reason;
use crate::decision::refusal::Refusal;
use crate::decision::signal::Why;
use crate::tls::handshake::Failure;

/// Declares enums whose variants are values of a label: variant and value.
macro_rules! results {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident $label:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Eq, PartialEq)]
            pub enum $name {
                $($(#[$about])* $variant,)*
            }

            impl $name {
                /// All variants, in the order of their declaration.
                pub const ALL: &[$name] = &[$($name::$variant),*];

                /// The word in the log and in metrics.
                #[must_use]
                pub fn label(self) -> &'static str {
                    match self {
                        $($name::$variant => $label,)*
                    }
                }
            }
        )*
        variants! { $($name),* }
    };
}

variants! { Refusal, Why, Failure, Reason, Algorithm }

results! {
    /// What the admin API refuses, closes or delays.
    AdminRefusal {
        /// A request that was answered 401 or 403: its token is missing, wrong, or not configured.
        Token "token",
        /// A request that was answered 403: its `Host` or `Origin` is foreign.
        Host "host",
        /// A connection that was closed because it was idle for longest and the limit was reached.
        Connections "connections",
        /// A connection that was closed because the client did not read.
        Unread "unread",
        /// A request that was answered 503 because too many responses waited to be read.
        Busy "busy",
        /// An event stream beyond the limit, answered 503.
        EventStreams "event_streams",
        /// A connection of a fleet peer, answered 503 because the limit of such connections was reached.
        FleetConnections "fleet_connections",
        /// A request that a fleet peer sent too soon after its previous one; it was answered late.
        FleetRequests "fleet_requests",
    }
    /// Which side aborted an exchange before the client had the complete response.
    Aborted {
        /// The client disconnected, or read nothing within the write timeout.
        Client "client",
        /// The cluster disconnected, was silent beyond its timeout, or sent an invalid response.
        Cluster "cluster",
        /// The total timeout of the exchange passed.
        Timeout "timeout",
    }
    /// Class of the status that the client received.
    StatusClass {
        /// An interim response.
        Informational "1xx",
        /// Success.
        Success "2xx",
        /// A redirect.
        Redirect "3xx",
        /// An error of the client.
        ClientError "4xx",
        /// An error of the proxy or of the cluster.
        ServerError "5xx",
        /// No status: an L4 flow, or an exchange aborted before its response.
        None "none",
    }
    /// The result of a request to the retry budget.
    RetryResult {
        /// The retry was made.
        Granted "granted",
        /// The budget was spent.
        Denied "denied",
    }
    /// The result of a hedge.
    HedgeResult {
        /// A hedge was sent in addition to the first attempt.
        Sent "sent",
        /// The hedge was answered first.
        Won "won",
        /// The retry budget was spent.
        Denied "denied",
    }
}

impl StatusClass {
    /// The class of an HTTP status; 0 stands for no status.
    #[must_use]
    pub fn of(status: u16) -> StatusClass {
        match status / 100 {
            1 => StatusClass::Informational,
            2 => StatusClass::Success,
            3 => StatusClass::Redirect,
            4 => StatusClass::ClientError,
            5 => StatusClass::ServerError,
            _ => StatusClass::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::{PerVariant, Variants};

    /// Each variant has its own counter, and its own label.
    fn check<E: Variants + PartialEq>() {
        let counts = PerVariant::<E>::default();
        for (index, variant) in E::ALL.iter().enumerate() {
            assert_eq!(variant.index(), index, "{variant:?}");
            counts[*variant].add(1 + index as u64);
        }
        for (index, (variant, count)) in counts.iter().enumerate() {
            assert_eq!(count, 1 + index as u64, "{variant:?}");
            let same = E::ALL.iter().filter(|other| other.label() == variant.label());
            assert_eq!(same.count(), 1, "{variant:?}");
        }
    }

    #[test]
    fn each_variant_has_a_counter_and_a_label_of_its_own() {
        check::<Refusal>();
        check::<Why>();
        check::<Failure>();
        check::<Reason>();
        check::<Algorithm>();
        check::<Aborted>();
        check::<StatusClass>();
        check::<RetryResult>();
        check::<HedgeResult>();
    }

    #[test]
    fn a_status_is_counted_in_its_class() {
        let classes =
            [0, 100, 204, 302, 404, 503, 600].map(|status| StatusClass::of(status).label());

        assert_eq!(classes, ["none", "1xx", "2xx", "3xx", "4xx", "5xx", "none"]);
    }
}
