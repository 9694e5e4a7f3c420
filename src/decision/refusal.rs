//! Why an exchange is not served, and all consequences of the reason: one row per refusal.
//!
//! The row holds the status and text for the client, the word for headers, metrics and logs, the gRPC status,
//! whether the client's connection stays open, whether a retry is possible, and the cause of failure that counts
//! against the endpoint. A new refusal is one row of the table below and one row of `docs/operations.md`.
//!
//! # Not here
//! How a refusal is sent (`proxy`), and whether the retry budget grants a retry ([`retry`](super::retry)).

use super::health::Cause;

/// Whether the client's connection stays open after a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connection {
    /// The connection stays open: the request was read to its end, or can be.
    Keep,
    /// The connection is closed, because the start of the next request is unknown or no further request
    /// should come.
    Close,
}

/// Whether another endpoint may be tried before the client gets the refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// No: another endpoint would give the same result.
    Never,
    /// Yes, as far as [`retry::Kind`](super::retry::Kind) and the retry budget allow.
    Elsewhere,
}

/// All properties of a refusal.
#[derive(Clone, Copy, Debug)]
struct Row {
    status: u16,
    label: &'static str,
    grpc_status: u8,
    connection: Connection,
    retry: Retry,
    blame: Option<Cause>,
    text: &'static str,
}

/// Status codes of gRPC (`grpc/grpc`, `doc/statuscodes.md`).
mod grpc {
    pub(super) const INVALID_ARGUMENT: u8 = 3;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const PERMISSION_DENIED: u8 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const UNIMPLEMENTED: u8 = 12;
    pub(super) const UNAVAILABLE: u8 = 14;
    pub(super) const UNAUTHENTICATED: u8 = 16;
}

/// Declares [`Refusal`] and its table. Columns: variant, status, label, gRPC status, connection, retry, blame, text.
/// `{service}` in a text stands for the service's name; if the text is empty, the response body is the label alone.
macro_rules! refusals {
    ($($(#[$doc:meta])*
        $name:ident $status:literal $label:literal $grpc:ident $connection:ident $retry:ident
        $blame:expr, $text:literal;)*) => {
        /// Why an exchange is not served.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// All refusals, in the order of the table.
            pub const ALL: &[Refusal] = &[$(Refusal::$name),*];
        }

        /// One row per refusal, in the order of the variants.
        const ROWS: [Row; Refusal::ALL.len()] = [$(Row {
            status: $status,
            label: $label,
            grpc_status: grpc::$grpc,
            connection: Connection::$connection,
            retry: Retry::$retry,
            blame: $blame,
            text: $text,
        }),*];
    };
}

refusals! {
    /// The request violates HTTP or this proxy's stricter reading of it.
    BadRequest 400 "bad_request" INVALID_ARGUMENT Close Never None, "";
    /// No route matches host and path.
    NoRoute 404 "no_route" UNIMPLEMENTED Keep Never None, "no route matches this host and path";
    /// A route matches host and path, but not the method.
    MethodNotAllowed 405 "method_not_allowed" UNIMPLEMENTED Keep Never None,
        "no route for this path allows this method";
    /// The client sent its request too slowly.
    RequestTimeout 408 "request_timeout" DEADLINE_EXCEEDED Close Never None, "";
    /// The request body is longer than the limit.
    BodyTooLarge 413 "body_too_large" INVALID_ARGUMENT Close Never None, "";
    /// The request target is longer than the limit.
    UriTooLong 414 "uri_too_long" INVALID_ARGUMENT Close Never None, "";
    /// The request expects something other than `100-continue`.
    ExpectationFailed 417 "expectation_failed" INVALID_ARGUMENT Close Never None, "";
    /// The request head is longer than the limit or has too many fields.
    HeadersTooLarge 431 "headers_too_large" INVALID_ARGUMENT Close Never None, "";
    /// The request has a transfer coding that is not implemented.
    NotImplemented 501 "not_implemented" UNIMPLEMENTED Close Never None, "";
    /// No endpoint accepted a connection.
    UpstreamConnect 502 "upstream_connect" UNAVAILABLE Keep Elsewhere Some(Cause::GatewayStatus),
        "no endpoint of service `{service}` accepted a connection";
    /// The upstream connection was closed or reset before a response head.
    UpstreamReset 502 "upstream_reset" UNAVAILABLE Keep Elsewhere Some(Cause::Reset),
        "an endpoint of service `{service}` closed or reset the connection before its response";
    /// The response violates HTTP or this proxy's stricter reading of it.
    UpstreamMalformed 502 "upstream_malformed" UNAVAILABLE Keep Never Some(Cause::Protocol),
        "the response of service `{service}` is malformed";
    /// No cluster is permitted to serve the exchange.
    NoPermittedCluster 503 "no_permitted_cluster" UNAVAILABLE Keep Never None,
        "no cluster of service `{service}` is permitted for this request";
    /// Every permitted cluster is down or drained.
    NoHealthyCluster 503 "no_healthy_cluster" UNAVAILABLE Keep Never None,
        "every cluster permitted for service `{service}` is down or draining";
    /// Every permitted cluster, or the proxy itself, is at its limit.
    Overloaded 503 "overloaded" RESOURCE_EXHAUSTED Keep Elsewhere None,
        "every cluster permitted for service `{service}` is at capacity";
    /// The proxy is draining.
    Draining 503 "draining" UNAVAILABLE Close Never None, "";
    /// No response head arrived in time.
    UpstreamTimeout 504 "upstream_timeout" DEADLINE_EXCEEDED Keep Elsewhere
        Some(Cause::ResponseTimeout), "no response from service `{service}` in time";
    /// The request has already passed through this site.
    Loop 508 "loop" UNAVAILABLE Keep Never None, "the request has already passed through this site";
    /// Only clusters with a price are left, and the service's budget is spent.
    Budget 503 "budget" UNAVAILABLE Keep Never None, "only priced clusters are left, and the budget of service `{service}` is spent";
    /// The request's host has another certificate than its connection.
    Misdirected 421 "misdirected" UNAVAILABLE Close Never None,
        "this host has another certificate: open a new connection for it";
    /// The request carries no valid credentials.
    Unauthorized 401 "unauthorized" UNAUTHENTICATED Keep Never None, "";
    /// The client's address or its credentials are not allowed.
    Forbidden 403 "forbidden" PERMISSION_DENIED Keep Never None, "";
    /// The client's rate is above its limit.
    RateLimited 429 "rate_limited" RESOURCE_EXHAUSTED Keep Never None, "";
}

impl Refusal {
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The HTTP status for the client.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// The word in the field `tidegate-refusal`, in metrics and in logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// The status for a gRPC client.
    #[must_use]
    pub fn grpc_status(self) -> u8 {
        self.row().grpc_status
    }

    /// Whether the client's connection stays open.
    #[must_use]
    pub fn keeps_connection(self) -> bool {
        self.row().connection == Connection::Keep
    }

    /// Whether another endpoint may be tried before the client gets this refusal.
    #[must_use]
    pub fn retry(self) -> Retry {
        self.row().retry
    }

    /// The cause of failure that counts against the endpoint of the attempt; `None` if the endpoint is
    /// not at fault.
    #[must_use]
    pub fn blame(self) -> Option<Cause> {
        self.row().blame
    }

    /// One line of text for people; empty if the label is enough. `service` is the name of the request's
    /// service.
    #[must_use]
    pub fn text(self, service: &str) -> String {
        self.row().text.replace("{service}", service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_status_of_an_error_and_its_own_label() {
        for refusal in Refusal::ALL {
            assert!((400..600).contains(&refusal.status()), "{refusal:?}");
            let same = Refusal::ALL.iter().filter(|other| other.label() == refusal.label());
            assert_eq!(same.count(), 1, "{refusal:?}");
        }
    }

    #[test]
    fn every_refusal_stands_in_the_docs_with_its_statuses() {
        let page = include_str!("../../docs/operations.md");
        for refusal in Refusal::ALL {
            let (status, grpc) = (refusal.status(), refusal.grpc_status());
            let row = format!("| `{}` | {status} | {grpc} |", refusal.label());
            assert!(page.contains(&row), "docs/operations.md lacks the row `{row}`");
        }
    }

    #[test]
    fn only_an_endpoints_fault_is_blamed_on_the_endpoint() {
        for refusal in Refusal::ALL {
            let is_upstream = refusal.label().starts_with("upstream_");
            assert_eq!(refusal.blame().is_some(), is_upstream, "{refusal:?}");
        }
    }

    #[test]
    fn a_text_names_the_service() {
        assert_eq!(
            Refusal::Overloaded.text("shop"),
            "every cluster permitted for service `shop` is at capacity"
        );
        assert_eq!(Refusal::BadRequest.text("shop"), "");
    }
}
