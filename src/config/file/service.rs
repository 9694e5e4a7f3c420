//! Services and routes as they are written.

use super::policy::{AuthFile, RateLimit};
use crate::config::error::Problems;
use crate::config::scalar::{Amount, Network, OptionalDuration, Within};
use crate::config::shape::{Decode, Named, Pairs, Spanned, shape, words};
use crate::config::yaml::{Kind, Node};
use serde_json::{Value, json};
use std::time::Duration;

words! {
    /// How a cluster is chosen.
    Strategy {
        /// Nearest first, spill by load.
        Nearest = "nearest",
        /// Each in turn.
        RoundRobin = "round_robin",
        /// The fewest in flight.
        LeastRequest = "least_request",
        /// By health alone.
        Priority = "priority",
        /// Fill each to 0.9 of its stated capacity.
        Waterfall = "waterfall",
    }
}

words! {
    /// How an endpoint is chosen.
    EndpointPolicy {
        /// The shorter expected wait of two.
        LeastWait = "least_wait",
        /// Each in turn.
        RoundRobin = "round_robin",
        /// The less busy of two.
        RandomTwo = "random_two",
        /// The same key to the same endpoint.
        Hash = "hash",
    }
}

shape! {
    /// What the hash policy hashes: one of these.
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
    /// What a budget binds.
    BudgetScope {
        /// Spilling.
        Spill = "spill",
        /// Failing over, too.
        All = "all",
    }
}

words! {
    /// Whose budget it is.
    BudgetSharedBy {
        /// Each process has all of it.
        Process = "process",
        /// The proxies of the site that `fleet.peers` lists have it together.
        Fleet = "fleet",
    }
}

shape! {
    /// What a service's traffic may cost.
    BudgetFile {
        /// Dollars an hour.
        usd_per_hour: Amount = required,
        /// This proxy's part of them; of the site's proxies where they share it.
        share: Amount = "1",
        /// process or fleet.
        shared_by: BudgetSharedBy = "process",
        /// spill, or all: failing over, too.
        applies_to: BudgetScope = "spill",
    }
}

shape! {
    /// Clients stay where they were served.
    AffinityFile {
        /// The cookie that says where.
        cookie: Spanned<String> = required,
        /// How long it lasts; as long as the client's session without it.
        ttl: OptionalDuration = "none",
        /// Whether they stay in the cluster, too, whatever speaks for another.
        across_clusters: bool = "false",
        /// File whose content encrypts the cookie, the same for all proxies of the service; without it a
        /// random key, kept in state_dir.
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
    /// A second attempt beside a slow first one.
    Hedge {
        /// After so long without an answer, or none.
        after: OptionalDuration = required,
    }
}

shape! {
    /// Copies of requests, whose answers nobody sees.
    MirrorFile {
        /// Who gets them.
        service: Spanned<String> = required,
        /// Percent of the requests.
        percent: Amount = "100",
    }
}

words! {
    /// What a service speaks.
    ServiceProtocol {
        /// HTTP.
        Http = "http",
        /// gRPC.
        Grpc = "grpc",
    }
}

shape! {
    /// What clients ask for.
    Service {
        /// Its clusters; the order breaks ties and holds before anything is measured.
        clusters: Vec<Spanned<String>> = required,
        /// http, or grpc: calls may be silent, and refusals are its statuses. What an http2 cluster serves may be both.
        protocol: ServiceProtocol = "http",
        /// Data class of what it carries, or several.
        data: DataClasses = "general",
        /// Capabilities every serving cluster must offer.
        needs: Vec<String> = optional,
        /// Its environment; this site's by default.
        environment: String = optional,
        /// nearest, round_robin, least_request, priority or waterfall.
        strategy: Strategy = "nearest",
        /// least_wait, round_robin, random_two or hash.
        endpoint_policy: EndpointPolicy = "least_wait",
        /// What the hash policy hashes.
        hash: Hash = optional,
        /// To the response head.
        timeout: Duration = "15s",
        /// To the end of the response.
        total_timeout: OptionalDuration = "none",
        /// To the response head, for one attempt.
        per_try_timeout: OptionalDuration = "none",
        /// Retries.
        retry: Retry = optional,
        /// A second attempt beside a slow first one, for idempotent requests.
        hedge: Hedge = optional,
        /// What its traffic may cost.
        budget: BudgetFile = optional,
        /// Which requests are dropped first when every cluster is overloaded: the lowest.
        priority: Within<0, 9> = "5",
        /// Clients stay where they were served, by a cookie.
        affinity: AffinityFile = optional,
        /// Exchanges at once; more are refused.
        concurrency: Within<1, 1000000> = optional,
        /// How often a client may come.
        rate_limit: RateLimit = optional,
        /// Networks whose clients may come; all without it.
        allow: Vec<Network> = optional,
        /// Networks whose clients may not.
        deny: Vec<Network> = optional,
        /// What a client must prove.
        auth: AuthFile = optional,
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
    /// Sends the client elsewhere.
    Redirect {
        /// Location; {host}, {path} and {query} stand for the request's.
        to: String = required,
        /// 301, 302, 303, 307 or 308.
        status: Within<301, 308> = "302",
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
    /// Edits of a head.
    HeaderEdits {
        /// Fields that replace all of their name.
        set: Pairs = optional,
        /// Fields to append.
        add: Pairs = optional,
        /// Names to remove.
        remove: Vec<Spanned<String>> = optional,
    }
}

shape! {
    /// Changes of the path.
    Rewrite {
        /// A prefix, whole segments, to strip.
        strip_prefix: Spanned<String> = optional,
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
    /// From requests to a service.
    Route {
        /// Hosts, exact or with a leading "*."; any without it.
        hosts: Vec<Spanned<String>> = optional,
        /// An exact path.
        path: Spanned<String> = optional,
        /// A prefix of whole segments.
        path_prefix: Spanned<String> = optional,
        /// A regular expression, matched from beginning to end.
        path_regex: Spanned<String> = optional,
        /// Methods; any without it.
        methods: Vec<Spanned<String>> = optional,
        /// Fields that must be there with this value.
        headers: Pairs = optional,
        /// Listeners; every http listener without it.
        listeners: Vec<Spanned<String>> = optional,
        /// Who serves.
        service: Spanned<String> = optional,
        /// Services and their shares.
        split: Named<Within<0, 1000000>> = optional,
        /// Sends the client elsewhere.
        redirect: Redirect = optional,
        /// A fixed answer.
        respond: Respond = optional,
        /// Data classes beside the service's.
        data: DataClasses = optional,
        /// What the hash policy hashes; the service's by default.
        hash: Hash = optional,
        /// Capabilities beside the service's.
        needs: Vec<String> = optional,
        /// Edits of the request's head.
        request_headers: HeaderEdits = optional,
        /// Edits of the response's head.
        response_headers: HeaderEdits = optional,
        /// Changes of the path.
        rewrite: Rewrite = optional,
        /// To the response head; the service's by default.
        timeout: Duration = optional,
        /// To the end of the response; the service's by default.
        total_timeout: OptionalDuration = optional,
        /// To the response head, for one attempt; the service's by default.
        per_try_timeout: OptionalDuration = optional,
        /// Retries of one request; the budget is the service's.
        retry: RouteRetry = optional,
        /// A second attempt beside a slow first one; the service's by default.
        hedge: Hedge = optional,
        /// Copies of the requests, whose answers nobody sees.
        mirror: MirrorFile = optional,
        /// Which requests are dropped first; the service's by default.
        priority: Within<0, 9> = optional,
        /// Clients stay where they were served, by a cookie.
        affinity: AffinityFile = optional,
        /// Exchanges at once; more are refused.
        concurrency: Within<1, 1000000> = optional,
        /// How often a client may come.
        rate_limit: RateLimit = optional,
        /// Networks whose clients may come; all without it.
        allow: Vec<Network> = optional,
        /// Networks whose clients may not.
        deny: Vec<Network> = optional,
        /// What a client must prove.
        auth: AuthFile = optional,
    }
}
