//! The configuration as it is written: one shape a block, each key with its default.
//!
//! An absent key is `None`; what it then means is decided in `check`, which knows where it is
//! inherited from. The defaults written here are those of the documentation and are compared with
//! `config/reference.yaml` by a test.

use super::error::Problems;
use super::scalar::{
    AddressOrOff, Amount, AutoDuration, FileMode, ListenAddress, Network, OptionalCount,
    OptionalDuration, OptionalSize, Size, StatusRange, Within, Workers, target,
};
use super::shape::{Decode, Named, Pairs, Spanned, below, shape, unknown_key, words};
use super::yaml::{Kind, Node};
use crate::decision::plan::Target;
use serde_json::{Value, json};
use std::time::Duration;

shape! {
    /// The whole file.
    File {
        /// Version of the format.
        version: Within<1, 1> = "1",
        /// Where this proxy runs.
        site: SiteHere = optional,
        /// What it may use of the machine.
        runtime: Runtime = optional,
        /// The admin API, metrics and dashboard.
        admin: Admin = optional,
        /// One line for each exchange.
        access_log: AccessLog = optional,
        /// What the proxy says of itself.
        log: Log = optional,
        /// How it stops.
        drain: Drain = optional,
        /// Folder for what must survive a restart; memory only without it.
        state_dir: String = optional,
        /// Where connections are accepted.
        listeners: Named<Listener> = required,
        /// Places: clusters inherit from them.
        sites: Named<Site> = optional,
        /// The places that serve.
        clusters: Named<Cluster> = required,
        /// What clients ask for.
        services: Named<Service> = required,
        /// From requests to services, for http listeners.
        routes: Vec<Route> = optional,
    }
}

shape! {
    /// Where this proxy runs.
    SiteHere {
        /// Name of the site; the host's name by default.
        name: String = optional,
        /// Environment of the site: services are served only by clusters of their own.
        environment: String = "production",
    }
}

shape! {
    /// What the proxy may use of the machine.
    Runtime {
        /// Worker threads, one core each; `auto` is the cores this process may use.
        workers: Workers = "auto",
    }
}

shape! {
    /// The admin API.
    Admin {
        /// Where it listens: IP:PORT, unix:/path or off.
        address: AddressOrOff = "127.0.0.1:9901",
        /// Permissions of a unix socket's file, in octal.
        mode: FileMode = "0660",
        /// File with the token that writes need; without it they answer 403.
        token_file: Spanned<String> = optional,
        /// Further values of Host under which it answers.
        allowed_hosts: Vec<String> = optional,
        /// Allows an address off loopback without TLS.
        insecure: bool = "false",
    }
}

words! {
    /// Form of the access log.
    AccessLogFormat {
        /// One JSON object a line.
        Json = "json",
        /// The common log format.
        Common = "common",
        /// None.
        Off = "off",
    }
}

shape! {
    /// One line for each exchange.
    AccessLog {
        /// `stdout`, `stderr` or a file.
        path: String = "stdout",
        /// json, common or off.
        format: AccessLogFormat = "json",
    }
}

words! {
    /// How much the proxy says.
    LogLevel {
        /// Failures of the proxy.
        Error = "error",
        /// And what an operator should look into.
        Warn = "warn",
        /// And what changes.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And everything.
        Trace = "trace",
    }
}

words! {
    /// Form of the log.
    LogFormat {
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    }
}

shape! {
    /// What the proxy says of itself.
    Log {
        /// error, warn, info, debug or trace.
        level: LogLevel = "info",
        /// text or json.
        format: LogFormat = "text",
        /// `stdout`, `stderr` or a file.
        path: String = "stderr",
    }
}

shape! {
    /// How the proxy stops.
    Drain {
        /// From failing readiness to closing the listeners.
        delay: Duration = "0s",
        /// From there to the end of whatever is still open.
        deadline: Duration = "30s",
    }
}

words! {
    /// What a listener speaks.
    Protocol {
        /// HTTP/1.
        Http = "http",
        /// Bytes.
        Tcp = "tcp",
    }
}

shape! {
    /// Where connections are accepted.
    Listener {
        /// IP:PORT or unix:/path; "[::]:80" takes IPv4 too.
        address: Spanned<ListenAddress> = required,
        /// Permissions of a unix socket's file, in octal.
        mode: FileMode = "0660",
        /// http or tcp.
        protocol: Protocol = required,
        /// http: the last route; tcp: who serves.
        service: Spanned<String> = optional,
        /// Peers whose X-Forwarded-*, X-Request-Id and traceparent are believed.
        trusted_proxies: Vec<Network> = optional,
        /// Deadlines.
        timeouts: ListenerTimeouts = optional,
        /// Bounds.
        limits: ListenerLimits = optional,
    }
}

shape! {
    /// Deadlines of a listener.
    ListenerTimeouts {
        /// From accept to the first byte.
        first_byte: Duration = "5s",
        /// From the first byte of a head to its end.
        head: Duration = "10s",
        /// Between exchanges on a kept connection.
        idle: Duration = "60s",
        /// Without progress while writing.
        write: Duration = "30s",
        /// Without a byte of a request body, while one is wanted.
        body_idle: Duration = "30s",
        /// Without a byte of a response.
        stream_idle: Duration = "5m",
        /// Without a byte either way of a tcp flow.
        idle_l4: Duration = "1h",
        /// Likewise once one side has closed.
        half_close: Duration = "60s",
    }
}

words! {
    /// What becomes of a field whose name has an underscore.
    Underscores {
        /// Answer 400.
        Refuse = "refuse",
        /// Leave it out.
        Drop = "drop",
        /// Forward it.
        Allow = "allow",
    }
}

words! {
    /// What becomes of %2F in a path.
    EncodedSlash {
        /// Answer 400.
        Refuse = "refuse",
        /// Forward it.
        Keep = "keep",
    }
}

shape! {
    /// Bounds of a listener.
    ListenerLimits {
        /// Connections at once.
        connections: Within<1, 10000000> = "100000",
        /// Connections at once from one address.
        connections_per_client: OptionalCount = "none",
        /// Bytes of a request's head.
        head: Size = "16KiB",
        /// Bytes of a request's target.
        uri: Size = "8KiB",
        /// Fields of a request.
        fields: Within<1, 1000> = "100",
        /// Bytes of a request's body.
        body: OptionalSize = "none",
        /// Least bytes a second of a request's body, over 10 s; 0 is no bound.
        body_rate: Size = "512",
        /// Field names with `_`: refuse, drop or allow.
        underscores: Underscores = "refuse",
        /// %2F in a path: refuse or keep.
        encoded_slash: EncodedSlash = "refuse",
    }
}

words! {
    /// Where a cluster stands.
    SiteKind {
        /// The operator's own data centre.
        Idc = "idc",
        /// A cloud region.
        Cloud = "cloud",
    }
}

shape! {
    /// What traffic costs.
    Cost {
        /// Dollars for a GiB from the cluster to us.
        per_gib: Amount = "0",
        /// Dollars for a million requests.
        per_million_requests: Amount = "0",
    }
}

shape! {
    /// A place; clusters inherit from it.
    Site {
        /// idc or cloud.
        kind: SiteKind = "cloud",
        /// Its environment; this proxy's by default.
        environment: String = optional,
        /// Data classes it may see; general, and sensitive for an idc, by default.
        accepts: Vec<String> = optional,
        /// Capabilities its clusters offer.
        offers: Vec<String> = optional,
        /// What its traffic costs.
        cost: Cost = optional,
    }
}

/// An endpoint: an address, or an address with a weight.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is written.
    pub at: super::error::Position,
    /// Where it is.
    pub target: Target,
    /// Its share relative to its siblings.
    pub weight: u16,
}

impl Decode for Endpoint {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        let mut weight = 1;
        let mut address = Some(node);
        if let Kind::Map(entries) = &node.kind {
            address = None;
            for (key, value) in entries {
                match key.text() {
                    Some("address") => address = Some(value),
                    Some("weight") => {
                        weight =
                            Within::<1, 1000>::decode(value, &below(path, "weight"), problems)?.0;
                    }
                    Some(_) | None => unknown_key(key, path, &["address", "weight"], problems),
                }
            }
        }
        let Some(address) = address else {
            problems.error(node.at, path, "`address` is missing");
            return None;
        };
        let text = String::decode(address, path, problems)?;
        match target(&text) {
            Ok(target) => {
                let weight = u16::try_from(weight).unwrap_or(1);
                Some(Endpoint { at: node.at, target, weight })
            }
            Err(message) => {
                problems.error(address.at, path, format!("`{text}`: {message}"));
                None
            }
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [
            {"type": "string"},
            {"type": "object", "required": ["address"], "additionalProperties": false, "properties": {
                "address": {"type": "string"},
                "weight": {"type": "integer", "minimum": 1, "maximum": 1000, "default": "1"},
            }},
        ]})
    }
}

shape! {
    /// Where endpoints come from, if they are not listed.
    Discover {
        /// HOST:PORT whose A and AAAA records are the endpoints.
        dns: Spanned<String> = optional,
        /// Name whose SRV records are the endpoints.
        srv: Spanned<String> = optional,
        /// File with a list of endpoints; watched.
        file: Spanned<String> = optional,
    }
}

words! {
    /// What a probe does.
    ProbeKind {
        /// Asks for a path.
        Http = "http",
        /// Connects.
        Tcp = "tcp",
        /// Nothing: traffic alone decides.
        None = "none",
    }
}

shape! {
    /// How endpoints are probed.
    Probe {
        /// http, tcp or none.
        kind: ProbeKind = "tcp",
        /// Path of an http probe.
        path: String = "/",
        /// Host of an http probe; the endpoint's address by default.
        host: String = optional,
        /// Further fields of an http probe.
        headers: Pairs = optional,
        /// Healthy statuses of an http probe.
        status: Vec<StatusRange> = "[200-399]",
        /// Another port than the endpoint's.
        port: Within<1, 65535> = optional,
        /// Between two probes of an endpoint.
        interval: Duration = "500ms",
        /// Longest a probe may take, at most the interval.
        timeout: Spanned<Duration> = "400ms",
        /// Failures in a row that take an endpoint down.
        fall: Within<1, 100> = "2",
        /// Successes in a row that bring it up.
        rise: Within<1, 100> = "3",
    }
}

words! {
    /// What capacity means.
    CapacityMode {
        /// A ceiling: never more.
        Limit = "limit",
        /// A figure for the waterfall strategy: nothing is refused.
        Hint = "hint",
    }
}

shape! {
    /// What a cluster can take, where that is known.
    Capacity {
        /// Exchanges at once, over the whole process.
        concurrent: Within<1, 1000000> = required,
        /// limit or hint.
        mode: CapacityMode = "limit",
    }
}

shape! {
    /// Bounds towards a cluster.
    ClusterLimits {
        /// Connections at once.
        connections: Within<1, 1000000> = "1024",
        /// Exchanges at once that wait for a connection.
        pending: Within<1, 1000000> = "1024",
    }
}

shape! {
    /// Deadlines towards a cluster.
    ClusterTimeouts {
        /// To connect; auto is four round trips and 200 ms, from 250 ms to 2 s.
        connect: AutoDuration = "auto",
        /// For all attempts of an exchange to connect.
        connect_total: Duration = "2s",
        /// How long an idle connection is kept; auto learns when the cluster closes them.
        pool_idle: AutoDuration = "auto",
    }
}

words! {
    /// How a cluster gets its traffic back.
    FailbackMode {
        /// By itself.
        Auto = "auto",
        /// When an operator undrains it.
        Manual = "manual",
    }
}

shape! {
    /// How a cluster gets its traffic back after an outage.
    Failback {
        /// auto or manual.
        mode: FailbackMode = "auto",
        /// How long it must be healthy first.
        hold: Duration = "0s",
    }
}

words! {
    /// What an upstream connection speaks.
    ClusterProtocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/1.1 without TLS.
        Auto = "auto",
    }
}

words! {
    /// How a cluster says what its load is.
    ReportsWord {
        /// Not at all: load is inferred.
        None = "none",
        /// By ORCA's endpoint-load-metrics.
        Orca = "orca",
        /// A Tidegate stands at its edge.
        Tidegate = "tidegate",
    }
}

shape! {
    /// One place that serves: endpoints in one site.
    Cluster {
        /// Its site; without one it is its own.
        site: Spanned<String> = optional,
        /// idc or cloud, when it has no site.
        kind: Spanned<SiteKind> = "cloud",
        /// Its environment; the site's by default.
        environment: Spanned<String> = optional,
        /// Data classes it may see; may narrow the site's, never widen them.
        accepts: Vec<Spanned<String>> = optional,
        /// Capabilities, beside the site's.
        offers: Vec<String> = optional,
        /// What its traffic costs; the site's by default.
        cost: Cost = optional,
        /// Its endpoints, if they are not discovered.
        endpoints: Vec<Endpoint> = optional,
        /// Where its endpoints come from.
        discover: Discover = optional,
        /// http1 or auto.
        protocol: ClusterProtocol = "auto",
        /// How its endpoints are probed.
        probe: Probe = optional,
        /// What it can take; learned without it.
        capacity: Capacity = optional,
        /// Bounds.
        limits: ClusterLimits = optional,
        /// Deadlines.
        timeouts: ClusterTimeouts = optional,
        /// Host it sees: preserve, endpoint or a name.
        host: String = "preserve",
        /// Percent of what would choose it that it gets.
        dial: Within<0, 100> = "100",
        /// A returning endpoint's share grows over this span.
        slow_start: Duration = "30s",
        /// How it gets its traffic back after an outage.
        failback: Failback = optional,
        /// How it says what its load is: none, orca or tidegate.
        reports: ReportsWord = "none",
        /// Allows link-local and metadata addresses as endpoints.
        allow_link_local: bool = "false",
    }
}

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

shape! {
    /// What a service's traffic may cost.
    BudgetFile {
        /// Dollars an hour.
        usd_per_hour: Amount = required,
        /// This proxy's part of them.
        share: Amount = "1",
        /// spill, or all: failing over, too.
        applies_to: BudgetScope = "spill",
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
    /// What clients ask for.
    Service {
        /// Its clusters; the order breaks ties and holds before anything is measured.
        clusters: Vec<Spanned<String>> = required,
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
        /// What its traffic may cost.
        budget: BudgetFile = optional,
        /// Which requests are dropped first when every cluster is overloaded: the lowest.
        priority: Within<0, 9> = "5",
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
        /// Which requests are dropped first; the service's by default.
        priority: Within<0, 9> = optional,
    }
}
