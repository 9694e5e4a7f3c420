//! The shapes of sites and clusters.

use crate::config::error::{Problem, Problems, below};
use crate::config::scalar::{Amount, AutoDuration, StatusRange, Within, target};
use crate::config::shape::{Decode, Pairs, Spanned, shape, unknown_key, words, wrong_word};
use crate::config::yaml::{Kind, Node};
use crate::decision::plan::Target;
use serde_json::{Value, json};
use std::time::Duration;

words! {
    /// The kind of a site.
    SiteKind {
        /// The operator's own data centre.
        Idc = "idc",
        /// A cloud region.
        Cloud = "cloud",
    }
}

shape! {
    /// The price of traffic.
    Cost {
        /// Dollars for each GiB from the cluster to the proxy.
        per_gib: Amount = "0",
        /// Dollars for each million requests.
        per_million_requests: Amount = "0",
    }
}

shape! {
    /// A site, whose values its clusters inherit.
    Site {
        /// idc or cloud.
        kind: SiteKind = "cloud",
        /// The site's environment; by default that of this proxy.
        environment: String = optional,
        /// Data classes that the site may process; by default general, and sensitive for an idc.
        accepts: Vec<String> = optional,
        /// Capabilities that the site's clusters offer.
        offers: Vec<String> = optional,
        /// The price of the site's traffic.
        cost: Cost = optional,
        /// The capacity group of the line to the site.
        capacity_group: Spanned<String> = optional,
    }
}

shape! {
    /// A line that several clusters share: at least one of its limits.
    CapacityGroup {
        /// Concurrent exchanges over the line, for the whole process or site.
        concurrent: Within<1, 1000000> = optional,
        /// Mbit/s over the line in each direction, for the whole process or site; 0.1 to 1000000.
        mbit_per_s: Amount = optional,
        /// process or fleet.
        shared_by: SharedBy = "process",
    }
}

/// An endpoint: an address, or an address with a weight.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The position in the file.
    pub at: crate::config::error::Position,
    /// The address.
    pub target: Target,
    /// The endpoint's share of traffic, relative to the other endpoints.
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
                "address": {"type": "string", "description": "IP:PORT, HOST:PORT or unix:/path."},
                "weight": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1,
                    "description": "The endpoint's share of traffic, relative to the other endpoints."},
            }},
        ]})
    }
}

shape! {
    /// The discovery of endpoints that are not listed.
    Discover {
        /// HOST:PORT whose A and AAAA records are the endpoints.
        dns: Spanned<String> = optional,
        /// Name whose SRV records are the endpoints.
        srv: Spanned<String> = optional,
        /// A file with a list of endpoints; the file is watched.
        file: Spanned<String> = optional,
        /// A Kubernetes Service whose EndpointSlices are watched.
        kubernetes: Kubernetes = optional,
    }
}

shape! {
    /// A Kubernetes Service, and the API server that knows its endpoints.
    Kubernetes {
        /// The Service's namespace; by default that of the context, or of the proxy's own pod.
        namespace: Spanned<String> = optional,
        /// The Service's name.
        service: Spanned<String> = required,
        /// The port of the pods, as a number or as the name in the Service's list; by default the only one.
        port: Spanned<String> = optional,
        /// A kubeconfig file; without one, the proxy runs in a pod of the cluster.
        kubeconfig: Spanned<String> = optional,
        /// The context in the kubeconfig file; by default its current one.
        context: Spanned<String> = optional,
    }
}

words! {
    /// The kind of a probe.
    ProbeKind {
        /// An HTTP request.
        Http = "http",
        /// A TCP connection.
        Tcp = "tcp",
        /// A TCP connection and a TLS handshake.
        Tls = "tls",
        /// A health check by grpc.health.v1.
        Grpc = "grpc",
        /// No probes: traffic alone decides.
        None = "none",
    }
}

shape! {
    /// The probes of endpoints.
    Probe {
        /// http, tcp, tls, grpc or none.
        kind: ProbeKind = "tcp",
        /// Path of an http probe.
        path: String = "/",
        /// Host of an http probe; the endpoint's address by default.
        host: String = optional,
        /// Further fields of an http probe.
        headers: Pairs = optional,
        /// Statuses that an http probe accepts.
        status: Vec<StatusRange> = "[200-399]",
        /// The service name in a grpc probe; by default the empty name, which means the whole server.
        service: String = optional,
        /// The port of probes, if it differs from the endpoint's.
        port: Within<1, 65535> = optional,
        /// The time between two probes of an endpoint.
        interval: Duration = "500ms",
        /// The timeout of a probe, at most the interval.
        timeout: Spanned<Duration> = "400ms",
        /// Consecutive failures that take an endpoint down.
        fall: Within<1, 100> = "2",
        /// Consecutive successes that bring an endpoint up again.
        rise: Within<1, 100> = "3",
    }
}

words! {
    /// The meaning of a capacity.
    CapacityMode {
        /// A limit: more exchanges are refused or sent elsewhere.
        Limit = "limit",
        /// A hint for the waterfall strategy: nothing is refused.
        Hint = "hint",
    }
}

words! {
    /// The scope of a ceiling or a line.
    SharedBy {
        /// It applies to each process.
        Process = "process",
        /// The proxies of the site that `fleet.peers` lists share it.
        Fleet = "fleet",
    }
}

shape! {
    /// The capacity of a cluster, if known.
    Capacity {
        /// Concurrent exchanges, for the whole process or site.
        concurrent: Within<1, 1000000> = required,
        /// limit or hint.
        mode: CapacityMode = "limit",
        /// process or fleet.
        shared_by: SharedBy = "process",
    }
}

shape! {
    /// Limits for a cluster.
    ClusterLimits {
        /// Concurrent connections.
        connections: Within<1, 1000000> = "65536",
        /// Exchanges that wait for a connection, or for capacity.
        pending: Within<1, 1000000> = "65536",
    }
}

shape! {
    /// Timeouts for a cluster.
    ClusterTimeouts {
        /// The connect timeout; auto is four round trips plus 200 ms, between 250 ms and 2 s.
        connect: AutoDuration = "auto",
        /// The connect timeout for all attempts of an exchange together.
        connect_total: Duration = "2s",
        /// The keep-alive time of an idle connection; auto learns when the cluster closes its connections.
        pool_idle: AutoDuration = "auto",
        /// How long an exchange may wait for a connection or for capacity; auto is the service's timeout, at most 5
        /// s.
        queue: AutoDuration = "auto",
    }
}

words! {
    /// The failback mode.
    FailbackMode {
        /// The proxy returns traffic automatically.
        Auto = "auto",
        /// Traffic returns when an operator undrains the cluster.
        Manual = "manual",
    }
}

shape! {
    /// How traffic returns to a cluster after an outage.
    Failback {
        /// auto or manual.
        mode: FailbackMode = "auto",
        /// How long the cluster must be healthy before traffic returns.
        hold: Duration = "0s",
    }
}

/// A kind of failure: a status, or a missing response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Statuses in this range.
    Status(StatusRange),
    /// The connection was reset before the response.
    Reset,
    /// The connection could not be made.
    Connect,
    /// The response did not arrive in time.
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
    /// Outlier detection: which endpoints are ejected because of their traffic.
    Outlier {
        /// Consecutive failures that eject an endpoint; refused connections and failed handshakes need fewer.
        consecutive: Within<1, 1000> = "5",
        /// Ejects an endpoint whose success rate is below this fraction of the other endpoints' median, 0 to 1.
        success: Amount = optional,
        /// Ejects an endpoint whose latency is above this multiple of the other endpoints' median.
        latency: Amount = optional,
        /// The percentage of endpoints that outlier detection may eject at the same time.
        max_percent: Within<0, 100> = "50",
        /// If fewer percent of the endpoints are healthy, all are used, even when no cluster has a healthy endpoint;
        /// 0 disables this.
        panic_percent: Within<0, 100> = "0",
        /// Statuses and causes that count as failures, for ejection and for the success rate: 500, 500-504, reset,
        /// connect, timeout.
        failures: Vec<Failure> = "[502, 503, 504, reset, connect, timeout]",
    }
}

words! {
    /// The version of the PROXY header.
    SendProxy {
        /// No header.
        None = "none",
        /// The text format.
        V1 = "v1",
        /// The binary format.
        V2 = "v2",
    }
}

words! {
    /// The protocol of upstream connections.
    ClusterProtocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2 with prior knowledge.
        Http2 = "http2",
        /// Negotiated by ALPN with TLS; HTTP/1.1 without TLS.
        Auto = "auto",
    }
}

words! {
    /// How a cluster reports its load.
    ReportsWord {
        /// Not at all: the proxy infers the load.
        None = "none",
        /// By ORCA's endpoint-load-metrics field.
        Orca = "orca",
        /// By another Tidegate in front of the cluster.
        Tidegate = "tidegate",
    }
}

shape! {
    /// TLS towards a cluster.
    UpstreamTls {
        /// The name that the endpoints' certificates must have; by default that of discover.dns, else each
        /// endpoint's address.
        server_name: String = optional,
        /// `system`, or a file with certificate authorities.
        ca: Spanned<String> = "system",
        /// A file with the proxy's client certificate.
        client_cert: Spanned<String> = optional,
        /// A file with the certificate's key.
        client_key: Spanned<String> = optional,
    }
}

shape! {
    /// A cluster: endpoints in one site that serve a service.
    Cluster {
        /// The cluster's site; without one, the cluster is a site of its own.
        site: Spanned<String> = optional,
        /// idc or cloud, for a cluster without a site.
        kind: Spanned<SiteKind> = "cloud",
        /// The cluster's environment; by default the site's.
        environment: Spanned<String> = optional,
        /// Data classes that the cluster may process; the list may narrow the site's, never widen it.
        accepts: Vec<Spanned<String>> = optional,
        /// Capabilities, in addition to the site's.
        offers: Vec<String> = optional,
        /// The price of the cluster's traffic; by default the site's.
        cost: Cost = optional,
        /// The capacity group of the line to the cluster; by default the site's.
        capacity_group: Spanned<String> = optional,
        /// The endpoints, if they are not discovered.
        endpoints: Vec<Endpoint> = optional,
        /// The discovery of endpoints.
        discover: Discover = optional,
        /// http1, http2 or auto.
        protocol: ClusterProtocol = "auto",
        /// TLS, if the cluster uses it.
        tls: UpstreamTls = optional,
        /// The PROXY header that connections to the cluster begin with: none, v1 or v2.
        send_proxy_protocol: SendProxy = "none",
        /// The probes of the endpoints.
        probe: Probe = optional,
        /// The capacity; learned if it is absent.
        capacity: Capacity = optional,
        /// Limits.
        limits: ClusterLimits = optional,
        /// Timeouts.
        timeouts: ClusterTimeouts = optional,
        /// The Host field that the cluster receives: preserve, endpoint or a name.
        host: String = "preserve",
        /// The percentage of its usual exchanges that the cluster receives; the rest goes to the next clusters; 0
        /// drains the cluster.
        dial: Within<0, 100> = "100",
        /// The time over which a returning endpoint's share grows.
        slow_start: Duration = "30s",
        /// Outlier detection: which endpoints are ejected because of their traffic.
        outlier: Outlier = optional,
        /// How traffic returns to the cluster after an outage.
        failback: Failback = optional,
        /// How the cluster reports its load: none, orca or tidegate.
        reports: ReportsWord = "none",
        /// Allows link-local and metadata addresses as endpoints.
        allow_link_local: bool = "false",
    }
}
