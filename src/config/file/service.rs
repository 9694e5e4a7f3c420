//! The shapes of services and routes.

use super::matching::Matching;
use super::policy::{AuthFile, CompressionFile, CorsFile, LimitScope, RateLimit};
use super::rewrite::{Redirect, Rewrite};
use crate::config::error::Problems;
use crate::config::scalar::{Amount, Network, OptionalDuration, Within};
use crate::config::shape::{Decode, Named, Pairs, Spanned, shape, words};
use crate::config::yaml::{Kind, Node};
use serde_json::{Value, json};
use std::time::Duration;

words! {
    /// The strategy that chooses the cluster.
    Strategy {
        /// The nearest cluster first; spill by load.
        Nearest = "nearest",
        /// Each cluster in turn.
        RoundRobin = "round_robin",
        /// The cluster with the fewest exchanges in flight.
        LeastRequest = "least_request",
        /// By order and health alone.
        Priority = "priority",
        /// In order, each cluster up to 0.9 of its stated capacity.
        Waterfall = "waterfall",
    }
}

words! {
    /// The policy that chooses the endpoint.
    EndpointPolicy {
        /// Of two random endpoints, the one with the shorter expected wait.
        LeastWait = "least_wait",
        /// Each endpoint in turn.
        RoundRobin = "round_robin",
        /// Of two random endpoints, the one with fewer exchanges in flight.
        RandomTwo = "random_two",
        /// Consistent hashing: the same key goes to the same endpoint.
        Hash = "hash",
    }
}

shape! {
    /// The key of the hash policy: one of these.
    Hash {
        /// A header's value.
        header: String = optional,
        /// A cookie's value.
        cookie: String = optional,
        /// The client's address.
        client_ip: bool = "true",
    }
}

words! {
    /// The traffic that a budget limits.
    BudgetScope {
        /// Spilled traffic.
        Spill = "spill",
        /// Spill and fail-over.
        All = "all",
    }
}

words! {
    /// The scope of the budget.
    BudgetSharedBy {
        /// The budget applies to each process.
        Process = "process",
        /// The proxies of the site that `fleet.peers` lists share one budget.
        Fleet = "fleet",
    }
}

shape! {
    /// The budget of a service's traffic.
    BudgetFile {
        /// Dollars an hour.
        usd_per_hour: Amount = required,
        /// This proxy's part of the budget; the site's part if its proxies share the budget.
        share: Amount = "1",
        /// process or fleet.
        shared_by: BudgetSharedBy = "process",
        /// spill, or all: fail-over too.
        applies_to: BudgetScope = "spill",
    }
}

shape! {
    /// Session affinity: a client stays at its endpoint.
    AffinityFile {
        /// The name of the cookie that identifies the endpoint.
        cookie: Spanned<String> = required,
        /// The lifetime of the cookie; by default the browser session.
        ttl: OptionalDuration = "none",
        /// Whether clients also stay in their cluster, before distance and load.
        across_clusters: bool = "false",
        /// A file whose content encrypts the cookie, the same for all proxies of the service; by default a random
        /// key, kept in state_dir.
        secret_file: Spanned<String> = optional,
    }
}

shape! {
    /// Retries of a service.
    Retry {
        /// Retries as a share of requests.
        budget: Amount = "0.2",
        /// Retries of one request.
        retries: Within<0, 10> = "1",
    }
}

shape! {
    /// Hedging: a second attempt while a slow first one continues.
    Hedge {
        /// The time without a response after which a hedge is sent, or none.
        after: OptionalDuration = required,
    }
}

shape! {
    /// Copies of requests whose responses are discarded.
    MirrorFile {
        /// The service that receives the copies.
        service: Spanned<String> = required,
        /// The percentage of requests that are copied.
        percent: Amount = "100",
    }
}

words! {
    /// The protocol of a service.
    ServiceProtocol {
        /// HTTP.
        Http = "http",
        /// gRPC.
        Grpc = "grpc",
    }
}

shape! {
    /// A service that clients request.
    Service {
        /// The clusters; their order breaks ties, and applies before the first measurement.
        clusters: Vec<Spanned<String>> = required,
        /// http, or grpc: calls may be silent for long, and refusals are gRPC statuses. A service on an http2 cluster
        /// may carry both.
        protocol: ServiceProtocol = "http",
        /// The data class of the service's traffic, or several.
        data: DataClasses = "general",
        /// Capabilities that every cluster of the service must offer.
        needs: Vec<String> = optional,
        /// The service's environment; by default this site's.
        environment: String = optional,
        /// nearest, round_robin, least_request, priority or waterfall.
        strategy: Strategy = "nearest",
        /// least_wait, round_robin, random_two or hash.
        endpoint_policy: EndpointPolicy = "least_wait",
        /// The key of the hash policy.
        hash: Hash = optional,
        /// From the request to the response head.
        timeout: Duration = "15s",
        /// From the request to the end of the response.
        total_timeout: OptionalDuration = "none",
        /// From the request to the response head, for each attempt.
        per_try_timeout: OptionalDuration = "none",
        /// Retries.
        retry: Retry = optional,
        /// Hedging, for idempotent requests.
        hedge: Hedge = optional,
        /// The budget of the service's traffic.
        budget: BudgetFile = optional,
        /// The priority under overload of all clusters: requests of the lowest priority are shed first.
        priority: Within<0, 9> = "5",
        /// Session affinity by a cookie.
        affinity: AffinityFile = optional,
        /// Concurrent exchanges; more are refused.
        concurrency: Within<1, 1000000> = optional,
        /// Whose exchanges `concurrency` counts: those of this proxy, or of all proxies of the site (needs `fleet`).
        concurrency_scope: LimitScope = "proxy",
        /// The rate limit of a client.
        rate_limit: RateLimit = optional,
        /// Networks whose clients are allowed; all by default.
        allow: Vec<Network> = optional,
        /// Networks whose clients are denied.
        deny: Vec<Network> = optional,
        /// Authentication of clients.
        auth: AuthFile = optional,
        /// Cross-origin resource sharing.
        cors: CorsFile = optional,
        /// Compression of responses.
        compression: CompressionFile = optional,
        /// Edits of the header fields of requests; they apply before those of the route.
        request_headers: HeaderEdits = optional,
        /// Edits of the header fields of responses; they apply before those of the route.
        response_headers: HeaderEdits = optional,
        /// Files with the bodies of the proxy's own error responses, by status ("503") or class ("5xx").
        error_pages: Named<Spanned<String>> = optional,
    }
}

/// One data class, or a list of them.
#[derive(Clone, Debug)]
pub struct DataClasses(pub Vec<String>);

impl Decode for DataClasses {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Vec::<String>::decode(node, path, problems).map(DataClasses),
            Kind::Null | Kind::Scalar { .. } | Kind::Map(_) => {
                String::decode(node, path, problems).map(|class| DataClasses(vec![class]))
            }
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

shape! {
    /// A fixed answer.
    Respond {
        /// Its status.
        status: Within<200, 599> = "200",
        /// Its body, as text.
        body: String = optional,
    }
}

shape! {
    /// Edits of the header fields; values may contain variables.
    HeaderEdits {
        /// Fields that replace all fields of the same name.
        set: Pairs = optional,
        /// Fields to append.
        add: Pairs = optional,
        /// Names to remove.
        remove: Vec<Spanned<String>> = optional,
    }
}

shape! {
    /// Retries of a route.
    RouteRetry {
        /// Retries of one request.
        retries: Within<0, 10> = optional,
    }
}

shape! {
    /// A route from requests to a service.
    Route {
        /// The route's name in logs, metrics and explanations; by default its place, routes[0].
        name: Spanned<String> = optional,
        /// Hosts, exact or with a leading "*."; any by default.
        hosts: Vec<Spanned<String>> = optional,
        /// An exact path.
        path: Spanned<String> = optional,
        /// A prefix of whole segments.
        path_prefix: Spanned<String> = optional,
        /// A regular expression that must match the whole path.
        path_regex: Spanned<String> = optional,
        /// Methods; any by default.
        methods: Vec<Spanned<String>> = optional,
        /// Header fields that must be present with these values.
        headers: Pairs = optional,
        /// Further conditions by header fields, query parameters and the client's address.
        r#match: Matching = optional,
        /// Listeners; by default every http listener.
        listeners: Vec<Spanned<String>> = optional,
        /// The service.
        service: Spanned<String> = optional,
        /// Services and their shares of the requests.
        split: Named<Within<0, 1000000>> = optional,
        /// A redirect: https, or where to.
        redirect: Redirect = optional,
        /// A fixed answer.
        respond: Respond = optional,
        /// Data classes, in addition to the service's.
        data: DataClasses = optional,
        /// The key of the hash policy; by default the service's.
        hash: Hash = optional,
        /// Capabilities, in addition to the service's needs.
        needs: Vec<String> = optional,
        /// Edits of the request's header fields.
        request_headers: HeaderEdits = optional,
        /// Edits of the response's header fields.
        response_headers: HeaderEdits = optional,
        /// Rewrites of path and host for the cluster.
        rewrite: Rewrite = optional,
        /// From the request to the response head; by default the service's.
        timeout: Duration = optional,
        /// From the request to the end of the response; by default the service's.
        total_timeout: OptionalDuration = optional,
        /// From the request to the response head, for each attempt; by default the service's.
        per_try_timeout: OptionalDuration = optional,
        /// Retries of one request; the retry budget is the service's.
        retry: RouteRetry = optional,
        /// Hedging; by default the service's.
        hedge: Hedge = optional,
        /// Copies of the requests whose responses are discarded.
        mirror: MirrorFile = optional,
        /// The priority under overload; by default the service's.
        priority: Within<0, 9> = optional,
        /// Session affinity by a cookie.
        affinity: AffinityFile = optional,
        /// Concurrent exchanges; more are refused.
        concurrency: Within<1, 1000000> = optional,
        /// Whose exchanges `concurrency` counts: those of this proxy, or of all proxies of the site (needs `fleet`).
        concurrency_scope: LimitScope = "proxy",
        /// The rate limit of a client.
        rate_limit: RateLimit = optional,
        /// Networks whose clients are allowed; all by default.
        allow: Vec<Network> = optional,
        /// Networks whose clients are denied.
        deny: Vec<Network> = optional,
        /// Authentication of clients.
        auth: AuthFile = optional,
        /// Cross-origin resource sharing.
        cors: CorsFile = optional,
        /// Compression of responses; by default the service's.
        compression: CompressionFile = optional,
        /// Files with the bodies of the proxy's own error responses, by status ("503") or class ("5xx").
        error_pages: Named<Spanned<String>> = optional,
    }
}
