//! Why an exchange is not served, and all consequences of the reason: one row per refusal.
//!
//! The row holds the status and text for the client, the word for headers, metrics and logs, the gRPC status,
//! whether the client's connection stays open, whether a retry is possible, the cause of failure that counts
//! against the endpoint, whether a cluster may have received the request, and where an operator looks. A new refusal
//! is one row of the table below; `tests/docs.rs` makes `docs/reference-refusals.md` from the rows and their comments.
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

/// Whether a cluster may have received the request, and may have acted on it. After a retry this holds for the last
/// attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// No byte of the request was sent to a cluster.
    No,
    /// The refusal can occur before and after the request was sent.
    Perhaps,
    /// An endpoint received the request and responded.
    Yes,
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
    sent: Sent,
    meaning: &'static str,
    look: &'static str,
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

/// Declares [`Refusal`] and its table. Columns: variant, status, label, gRPC status, connection, retry, blame, text;
/// whether the request was sent, where to look. `{service}` in a text stands for the service's name; if the text is
/// empty, the response body is the label alone. The comment of a variant is its meaning in the reference, and the last
/// column is Markdown with links from `docs/`.
macro_rules! refusals {
    ($($(#[doc = $doc:literal])+
        $name:ident $status:literal $label:literal $grpc:ident $connection:ident $retry:ident
        $blame:expr, $text:literal; $sent:ident, $look:literal;)*) => {
        /// Why an exchange is not served.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $name,)*
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
            sent: Sent::$sent,
            meaning: concat!($($doc),+),
            look: $look,
        }),*];
    };
}

refusals! {
    /// The request violates HTTP or this proxy's stricter reading of it. At the start of a connection: a PROXY header is missing
    /// or not expected, or the bytes are not TLS.
    BadRequest 400 "bad_request" INVALID_ARGUMENT Close Never None, "";
        Perhaps, "The text of the response names the rule. Behind a load balancer that sends the PROXY protocol: its address \
            must be in `proxy_protocol.from` ([PROXY protocol](protocols.md#proxy-protocol)).";
    /// No route matches the host and the path of the request. At L4: no service matches the server name of a TLS connection.
    NoRoute 404 "no_route" UNIMPLEMENTED Keep Never None, "no route matches this host and path";
        No, "`tidegate explain --host HOST --path PATH` shows the routes of the host. Add a route, or `service` at the listener.";
    /// A route matches the host and the path, but not the method.
    MethodNotAllowed 405 "method_not_allowed" UNIMPLEMENTED Keep Never None,
        "no route for this path allows this method";
        No, "The field `Allow` of the response lists the methods of the routes. Compare it with `methods`.";
    /// The request, its body, a PROXY header or a TLS handshake did not arrive in time.
    RequestTimeout 408 "request_timeout" DEADLINE_EXCEEDED Close Never None, "";
        Perhaps, "The client or its network is slow. The limits are `timeouts` of the listener.";
    /// The request body is longer than `limits.body`.
    BodyTooLarge 413 "body_too_large" INVALID_ARGUMENT Close Never None, "";
        Perhaps, "Raise `limits.body` of the listener if clients may upload more.";
    /// The request target is longer than `limits.uri`.
    UriTooLong 414 "uri_too_long" INVALID_ARGUMENT Close Never None, "";
        No, "Raise `limits.uri` of the listener, or look for a client that puts data into the query. A `rewrite` may also have made the target longer.";
    /// The field `Expect` has another value than `100-continue`.
    ExpectationFailed 417 "expectation_failed" INVALID_ARGUMENT Close Never None, "";
        No, "The client's library; no key changes this.";
    /// The request head is longer than `limits.head`, or has more fields than `limits.fields`.
    HeadersTooLarge 431 "headers_too_large" INVALID_ARGUMENT Close Never None, "";
        No, "Usually cookies. Raise `limits.head` or `limits.fields` of the listener.";
    /// The request has a transfer coding that is not implemented, or asks for an upgrade that an HTTP/2 cluster cannot serve.
    NotImplemented 501 "not_implemented" UNIMPLEMENTED Close Never None, "";
        No, "An upgrade such as WebSocket needs a cluster with `protocol: http1` or `auto`.";
    /// No endpoint accepted a connection, or its TLS handshake failed; or the service of `auth.forward` did not answer.
    UpstreamConnect 502 "upstream_connect" UNAVAILABLE Keep Elsewhere Some(Cause::GatewayStatus),
        "no endpoint of service `{service}` accepted a connection";
        No, "`tidegate clusters NAME` has the last error of each endpoint; TLS errors are in `tidegate_upstream_tls_failures_total`. \
            The text of the response says so if the authorization service is the cause.";
    /// The connection to the endpoint was closed or reset before a response head; or the endpoint answered 502, and no other
    /// endpoint could be tried.
    UpstreamReset 502 "upstream_reset" UNAVAILABLE Keep Elsewhere Some(Cause::Reset),
        "an endpoint of service `{service}` closed or reset the connection before its response";
        Perhaps, "The endpoint's log: a crash or a restart. If it happens to idle connections, the endpoint closes them first: \
            set `timeouts.pool_idle` of the cluster below the endpoint's own idle timeout.";
    /// The response violates HTTP or this proxy's stricter reading of it.
    UpstreamMalformed 502 "upstream_malformed" UNAVAILABLE Keep Never Some(Cause::Protocol),
        "the response of service `{service}` is malformed";
        Yes, "The log line `response of endpoint ADDRESS rejected` names the field and the rule.";
    /// No cluster may serve the exchange: data classes, environment or needs exclude each of them.
    NoPermittedCluster 503 "no_permitted_cluster" UNAVAILABLE Keep Never None,
        "no cluster of service `{service}` is permitted for this request";
        No, "`tidegate explain` names the constraint that excludes each cluster. List a cluster that accepts the data, or correct \
            the class: [Data residency](data-residency.md).";
    /// Every permitted cluster is down or drained. For a request from another site: every permitted cluster of this site.
    NoHealthyCluster 503 "no_healthy_cluster" UNAVAILABLE Keep Never None,
        "every cluster permitted for service `{service}` is down or draining";
        No, "`tidegate status` says why each cluster is not up. Repair the application or the probe; undrain a cluster that is \
            drained. A live cluster that a constraint excludes stands in the log: [Constraints](routing.md#constraints).";
    /// Every permitted cluster or the proxy itself is at its limit, or the limit of a policy is reached; or the endpoint answered
    /// 503, and no other endpoint could be tried.
    Overloaded 503 "overloaded" RESOURCE_EXHAUSTED Keep Elsewhere None,
        "every cluster permitted for service `{service}` is at capacity";
        Perhaps, "The text of the response names the limit. Clusters: the queue in `tidegate clusters`, the ceilings in \
            `GET /api/v1/clusters/NAME`, which `capacity` and `limits` set. Policies: `concurrency`. The proxy: \
            `tidegate_resource_used_ratio` ([When memory or descriptors run out](operations.md#when-memory-or-descriptors-run-out)). \
            Connections that are reset: `limits.connections` and `limits.connections_per_client` of the listener.";
    /// The proxy is stopping, or a reload removed the listener.
    Draining 503 "draining" UNAVAILABLE Close Never None, "";
        No, "Normal at a stop. If clients see it at each stop, raise `drain.delay`: [how long](gslb.md#draindelay).";
    /// No response head arrived in time; or the endpoint answered 504, and no other endpoint could be tried.
    UpstreamTimeout 504 "upstream_timeout" DEADLINE_EXCEEDED Keep Elsewhere
        Some(Cause::ResponseTimeout), "no response from service `{service}` in time";
        Perhaps, "`tidegate clusters NAME` has the service time of each endpoint. Raise `timeout` of the service or route if the work \
            may take longer.";
    /// The request has already passed through this site.
    Loop 508 "loop" UNAVAILABLE Keep Never None, "the request has already passed through this site";
        No, "`tidegate-via` of the request lists the sites. Two sites send the request to each other: [Between edges](routing.md#between-edges).";
    /// Only clusters with a price are left, and the service's budget is spent.
    Budget 503 "budget" UNAVAILABLE Keep Never None, "only priced clusters are left, and the budget of service `{service}` is spent";
        No, "`tidegate cost` shows the balance. Raise `budget`, wait (it is refilled continuously), or let failover pass with \
            `applies_to: spill`: [Cost](cost.md).";
    /// The host of the request has another certificate than the connection.
    Misdirected 421 "misdirected" UNAVAILABLE Close Never None,
        "this host has another certificate: open a new connection for it";
        No, "Browsers repeat the request over a new connection. If it persists, the client sends a Host that differs from its server \
            name: [TLS](protocols.md#tls).";
    /// The request carries no valid credentials.
    Unauthorized 401 "unauthorized" UNAUTHENTICATED Keep Never None, "";
        No, "`auth` of the route and of its service: [Authentication](authentication.md). The log names an invalid password file or key set.";
    /// `allow` or `deny` excludes the client's address, or the service of `auth.forward` denied the request.
    Forbidden 403 "forbidden" PERMISSION_DENIED Keep Never None, "";
        No, "`client` in the access log is the address that was judged. If it is the load balancer's, add that to `trusted_proxies`: \
            [Access control](policies.md).";
    /// The rate of the client is above `rate_limit`; or its address opened and reset too many HTTP/2 streams.
    RateLimited 429 "rate_limited" RESOURCE_EXHAUSTED Keep Never None, "";
        No, "`Retry-After` of the response. If all clients share one limit, add the load balancer to `trusted_proxies`: \
            [Rate limits](rate-limits.md).";
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

    /// Whether a cluster may have received the request.
    #[must_use]
    pub fn sent(self) -> Sent {
        self.row().sent
    }

    /// What the refusal means, in sentences.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.row().meaning.trim_start()
    }

    /// What an operator looks at, in Markdown with links from `docs/`.
    #[must_use]
    pub fn look(self) -> &'static str {
        self.row().look
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
    fn every_refusal_explains_itself_in_sentences() {
        for refusal in Refusal::ALL {
            for text in [refusal.meaning(), refusal.look()] {
                assert!(text.ends_with('.') && !text.contains("  "), "{refusal:?}: {text}");
            }
        }
    }

    #[test]
    fn a_request_whose_endpoint_is_blamed_for_its_response_was_sent() {
        for refusal in Refusal::ALL {
            let may_be_sent = refusal.sent() != Sent::No;
            let is_response =
                refusal.label().starts_with("upstream_") && *refusal != Refusal::UpstreamConnect;
            assert!(may_be_sent || !is_response, "{refusal:?}");
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
