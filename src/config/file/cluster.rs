//! Sites and clusters as they are written.

use crate::config::error::{Problem, Problems, below};
use crate::config::scalar::{Amount, AutoDuration, StatusRange, Within, target};
use crate::config::shape::{Decode, Pairs, Spanned, shape, unknown_key, words, wrong_word};
use crate::config::yaml::{Kind, Node};
use crate::decision::plan::Target;
use serde_json::{Value, json};
use std::time::Duration;

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
    pub at: crate::config::error::Position,
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
            let problem = Problem::error(node.at, path, "`address` is missing");
            problems.lacking(path, &["address"], problem);
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
        /// Connects, and shakes hands by TLS.
        Tls = "tls",
        /// Asks by grpc.health.v1.
        Grpc = "grpc",
        /// Nothing: traffic alone decides.
        None = "none",
    }
}

shape! {
    /// How endpoints are probed.
    Probe {
        /// http, tcp, tls, grpc or none.
        kind: ProbeKind = "tcp",
        /// Path of an http probe.
        path: String = "/",
        /// Host of an http probe; the endpoint's address by default.
        host: String = optional,
        /// Further fields of an http probe.
        headers: Pairs = optional,
        /// Healthy statuses of an http probe.
        status: Vec<StatusRange> = "[200-399]",
        /// Service a grpc probe asks for; all of the server by default.
        service: String = optional,
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

words! {
    /// Whose ceiling it is.
    SharedBy {
        /// Each process has all of it.
        Process = "process",
        /// The proxies of the site that `fleet.peers` lists have it together.
        Fleet = "fleet",
    }
}

shape! {
    /// What a cluster can take, where that is known.
    Capacity {
        /// Exchanges at once, over the whole process or site.
        concurrent: Within<1, 1000000> = required,
        /// limit or hint.
        mode: CapacityMode = "limit",
        /// process or fleet.
        shared_by: SharedBy = "process",
    }
}

shape! {
    /// Bounds towards a cluster.
    ClusterLimits {
        /// Connections at once.
        connections: Within<1, 1000000> = "65536",
        /// Exchanges at once that wait for a connection, or for room below the capacity.
        pending: Within<1, 1000000> = "65536",
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
        /// How long an exchange may wait for a connection or for room; auto is the service's timeout, at most 5 s.
        queue: AutoDuration = "auto",
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

/// What counts as a failure: statuses, and what may happen instead of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// These statuses.
    Status(StatusRange),
    /// The connection died before the response.
    Reset,
    /// No connection.
    Connect,
    /// No response in time.
    Timeout,
}

impl Decode for Failure {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        match node.text() {
            Some("reset") => Some(Failure::Reset),
            Some("connect") => Some(Failure::Connect),
            Some("timeout") => Some(Failure::Timeout),
            Some(text) if !text.starts_with(|first: char| first.is_ascii_digit()) => {
                let words = &["reset", "connect", "timeout", "a status such as 503"];
                wrong_word(Some(text), words, node.at, path, problems);
                None
            }
            _ => StatusRange::decode(node, path, problems).map(Failure::Status),
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [{"enum": ["reset", "connect", "timeout"]}, StatusRange::schema()]})
    }
}

shape! {
    /// Which endpoints traffic takes out of use.
    Outlier {
        /// Failures in a row that eject an endpoint; refused connections and handshakes need fewer.
        consecutive: Within<1, 1000> = "5",
        /// Ejects who succeeds less often than this part of its siblings' median, 0 to 1.
        success: Amount = optional,
        /// Ejects who takes longer than this many times its siblings' median.
        latency: Amount = optional,
        /// Percent of the endpoints that traffic may have out of use at once.
        max_percent: Within<0, 100> = "50",
        /// With fewer percent of them in use all are used, even when no cluster has any left; 0 is never.
        panic_percent: Within<0, 100> = "0",
        /// Statuses and causes that count as failures, for ejection and success: 500, 500-504, reset, connect, timeout.
        failures: Vec<Failure> = "[502, 503, 504, reset, connect, timeout]",
    }
}

words! {
    /// A PROXY header.
    SendProxy {
        /// None.
        None = "none",
        /// A line of text.
        V1 = "v1",
        /// Binary.
        V2 = "v2",
    }
}

words! {
    /// What an upstream connection speaks.
    ClusterProtocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2, without being asked.
        Http2 = "http2",
        /// By ALPN with TLS, else HTTP/1.1.
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
    /// TLS towards a cluster.
    UpstreamTls {
        /// Name its endpoints must prove; that of discover.dns, else each one's address.
        server_name: String = optional,
        /// `system`, or a file with authorities.
        ca: Spanned<String> = "system",
        /// File with the certificate we show.
        client_cert: Spanned<String> = optional,
        /// File with its key.
        client_key: Spanned<String> = optional,
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
        /// http1, http2 or auto.
        protocol: ClusterProtocol = "auto",
        /// TLS, where it speaks that.
        tls: UpstreamTls = optional,
        /// Which PROXY header its connections begin with: none, v1 or v2.
        send_proxy_protocol: SendProxy = "none",
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
        /// Percent it gets of what would choose it: of what nearer clusters leave; 0 drains.
        dial: Within<0, 100> = "100",
        /// A returning endpoint's share grows over this span.
        slow_start: Duration = "30s",
        /// Which endpoints traffic takes out of use.
        outlier: Outlier = optional,
        /// How it gets its traffic back after an outage.
        failback: Failback = optional,
        /// How it says what its load is: none, orca or tidegate.
        reports: ReportsWord = "none",
        /// Allows link-local and metadata addresses as endpoints.
        allow_link_local: bool = "false",
    }
}
