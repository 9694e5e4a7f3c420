//! The compiled configuration, immutable.
//!
//! Every name is resolved to an index, every inheritance rule is applied, every constraint is part
//! of a class. Indices are valid only with the plan they came from; state that outlives a plan is
//! keyed by name.

mod defaults;
mod source;

pub use super::index::{ClassIndex, ClusterIndex, ListenerIndex, ServiceIndex};
pub use super::listener::*;
pub use source::{EndpointSpec, Kubernetes, ServicePort, Source, Target};

use super::budget::SpendingLimit;
use super::capacity_group::{CapacityGroup, GroupIndex};
use super::compression::Compression;
use super::cors::Cors;
use super::edits::Edits;
use super::index::Table;
use super::outlier::Outlier;
use super::pages::ErrorPages;
use super::permit::Permitted;
use super::policy::{Policy, PolicyIndex};
use super::price::Prices;
use super::route::RouteTable;
use super::traces::Sampling;
use super::units::hash;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The compiled configuration as the data plane reads it.
#[derive(Debug, Default)]
pub struct Plan {
    /// Name of this proxy's site.
    pub site: String,
    /// Environment of this site.
    pub environment: String,
    /// Proxies of this site that are configured, this one included.
    pub members: u32,
    /// Whether the proxies of this site report response times to each other.
    pub pools: bool,
    /// The name of this host.
    pub host: String,
    /// The addresses on which the proxy accepts connections.
    pub listeners: Table<ListenerIndex, Listener>,
    /// Clusters.
    pub clusters: Table<ClusterIndex, Cluster>,
    /// Capacity groups.
    pub groups: Table<GroupIndex, CapacityGroup>,
    /// Services.
    pub services: Table<ServiceIndex, Service>,
    /// Services configured as gRPC, by index.
    pub grpc: BTreeSet<ServiceIndex>,
    /// Classes: a service with its permitted clusters.
    pub classes: Table<ClassIndex, Class>,
    /// Routes.
    pub routes: RouteTable,
    /// Policies of services and routes.
    pub policies: Table<PolicyIndex, Policy>,
    /// By service: names of request fields, in lower case, that only a policy of the service or of its routes may
    /// set.
    pub asserted: Table<ServiceIndex, Vec<String>>,
    /// TLS of the admin API.
    pub admin_tls: Option<ListenerTls>,
    /// TLS of the external scaler.
    pub scaler_tls: Option<ListenerTls>,
    /// The horizon of desired replicas; `None` without `scaling`: then they are part of no report to the fleet.
    pub lead: Option<Duration>,
    /// The key for affinity cookies of services without `secret`; the process sets this key.
    pub cookie_secret: Option<Secret>,
    /// The traces to record; `None` without a collector.
    pub sampling: Option<Sampling>,
}

/// A socket's address: IP and port, or a path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Address {
    /// IP address and port.
    Ip(SocketAddr),
    /// A unix-domain socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether the same address is another endpoint on each host: a loopback or link-local address, or a unix-domain socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Address::Ip(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
            },
            Address::Unix(_) => true,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where a cluster runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The operator's own data centre.
    Idc,
    /// A cloud region.
    Cloud,
}

/// One cluster: endpoints in one data centre (IDC) or cloud region.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// The site's name; the cluster's own name if no site is configured.
    pub site: String,
    /// IDC or cloud.
    pub kind: Kind,
    /// The environment; only services of the same environment are served.
    pub environment: String,
    /// Data classes that the cluster accepts.
    pub accepts: Vec<String>,
    /// Capabilities that the cluster offers.
    pub offers: Vec<String>,
    /// The source of its endpoints.
    pub source: Source,
    /// The probe.
    pub probe: Probe,
    /// Exchanges at once, over the whole process; a hard ceiling.
    pub ceiling: Option<u32>,
    /// Whether the ceiling applies to all proxies of the site together.
    pub shared: bool,
    /// Configured capacity in exchanges at once, for the waterfall.
    pub capacity: Option<u32>,
    /// The capacity group of its line.
    pub group: Option<GroupIndex>,
    /// Connections at once to this cluster, over the whole process.
    pub connections_max: u32,
    /// Exchanges that may wait for a connection at once, over the whole process.
    pub pending_max: u32,
    /// TLS, if the cluster uses TLS.
    pub tls: Option<UpstreamTls>,
    /// Whether the cluster speaks HTTP/2 without negotiation.
    pub http2: bool,
    /// The PROXY header at the start of its connections.
    pub send_proxy: SendProxy,
    /// The `Host` that the cluster gets.
    pub host: HostPolicy,
    /// Configured dial: percent of the exchanges that would choose this cluster.
    pub dial: u8,
    /// Timeout of one connection attempt; `None` derives it from the round trip.
    pub connect: Option<Duration>,
    /// Timeout of all connection attempts of one exchange.
    pub connect_total: Duration,
    /// How long an idle connection is kept; `None`: learned.
    pub pool_idle: Option<Duration>,
    /// How long an exchange may wait for a connection or for capacity; `None`: the timeout of the
    /// exchange, at most [`QUEUE_MAX`].
    pub queue: Option<Duration>,
    /// A returning endpoint's share grows over this span.
    pub slow_start: Duration,
    /// Outlier detection.
    pub outlier: Outlier,
    /// How the cluster gets its traffic back after a failure.
    pub failback: Failback,
    /// The price of its traffic.
    pub prices: Prices,
    /// How the cluster's edge reports its load.
    pub reports: Reports,
    /// Whether link-local addresses, which clouds use for metadata, may be endpoints.
    pub allow_link_local: bool,
}

/// The longest wait for a connection or for capacity if no value is configured.
pub const QUEUE_MAX: Duration = Duration::from_secs(5);

/// The PROXY header at the start of a cluster's connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SendProxy {
    /// No header.
    #[default]
    None,
    /// Version 1, a line of text.
    V1,
    /// Version 2, in binary.
    V2,
}

/// How a cluster's edge proxy reports its load.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reports {
    /// No reports: load is inferred from responses.
    #[default]
    None,
    /// By ORCA's `endpoint-load-metrics`.
    Orca,
    /// By `tidegate-load`, from another Tidegate.
    Tidegate,
}

/// How a cluster gets its traffic back after it was down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failback {
    /// Whether an operator must put it back into service (`undrain`).
    pub manual: bool,
    /// How long the cluster must be healthy first.
    pub hold: Duration,
}

/// The `Host` that a cluster gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostPolicy {
    /// The client's.
    Preserve,
    /// The endpoint's address.
    Endpoint,
    /// This name.
    Name(String),
}

/// The probe of a cluster's endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The probe's kind.
    pub kind: ProbeKind,
    /// Interval between two probes of one endpoint.
    pub interval: Duration,
    /// Timeout of a probe.
    pub timeout: Duration,
    /// Consecutive failures that take an endpoint down.
    pub fall: u32,
    /// Consecutive successes that bring it up again.
    pub rise: u32,
    /// The probe's port, if it differs from the endpoint's.
    pub port: Option<u16>,
}

/// The kind of a probe.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// No probe: endpoints count as up until exchanges fail.
    None,
    /// Connects by TCP.
    Tcp,
    /// Connects, and completes a TLS handshake.
    Tls,
    /// Calls `grpc.health.v1`.
    Grpc {
        /// The service; empty stands for the whole server.
        service: String,
    },
    /// Sends an HTTP request.
    Http {
        /// Path and query.
        path: String,
        /// `Host`; the endpoint's address when absent.
        host: Option<String>,
        /// Further fields.
        headers: Vec<(String, String)>,
        /// Status codes that are healthy.
        status: Vec<std::ops::RangeInclusive<u16>>,
    },
}

/// A service that clients request.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its clusters, in the operator's order.
    pub clusters: Vec<ClusterIndex>,
    /// Data classes of the service's traffic.
    pub data: Vec<String>,
    /// Capabilities that every serving cluster must offer.
    pub needs: Vec<String>,
    /// Its environment.
    pub environment: String,
    /// How a cluster is chosen.
    pub strategy: Strategy,
    /// How an endpoint is chosen.
    pub endpoint_policy: EndpointPolicy,
    /// The key of the `hash` policy.
    pub hash_key: HashKey,
    /// To the response head.
    pub timeout: Duration,
    /// To the end of the response.
    pub total_timeout: Option<Duration>,
    /// To the response head, for one attempt.
    pub per_try_timeout: Option<Duration>,
    /// Retries.
    pub retry: Retry,
    /// The budget for spill; `None`: no limit.
    pub budget: Option<SpendingLimit>,
    /// How long to wait for a response before a hedge is sent to another endpoint.
    pub hedge: Option<Duration>,
    /// The priority when every cluster is overloaded: 0 to 9; the lowest is shed first.
    pub priority: u8,
    /// The access policy.
    pub policy: Option<PolicyIndex>,
    /// Whether a client's requests stay at the endpoint that served its first request.
    pub affinity: Option<Affinity>,
    /// Cross-origin rules of its routes that have none.
    pub cors: Option<Arc<Cors>>,
    /// Compression of the responses of its routes that have no setting of their own.
    pub compression: Option<Arc<Compression>>,
    /// Edits of its requests' heads.
    pub request_edits: Edits,
    /// Edits of its responses' heads.
    pub response_edits: Edits,
    /// Error pages; those of the listener follow.
    pub error_pages: Option<ErrorPages>,
}

/// Session affinity by cookie: a client stays at the endpoint that served it first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Affinity {
    /// The cookie's name.
    pub cookie: String,
    /// The lifetime of the cookie; `None`: the browser session.
    pub ttl: Option<Duration>,
    /// Whether a client also stays in its cluster when load or distance would choose another cluster.
    pub across_clusters: bool,
    /// The key that encrypts the cookie; `None`: [`Plan::cookie_secret`].
    pub secret: Option<Secret>,
}

/// A key of 128 bits, which is never printed.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Secret(pub [u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// How a cluster is chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strategy {
    /// Nearest first, spill by load.
    Nearest,
    /// Each in turn.
    RoundRobin,
    /// The cluster with the fewest exchanges in flight.
    LeastRequest,
    /// Spill by health only, as Envoy's priorities do.
    Priority,
    /// Fill each cluster to 0.9 of its configured capacity, nearest first.
    Waterfall,
}

impl Strategy {
    /// The word of the configuration.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Strategy::Nearest => "nearest",
            Strategy::RoundRobin => "round_robin",
            Strategy::LeastRequest => "least_request",
            Strategy::Priority => "priority",
            Strategy::Waterfall => "waterfall",
        }
    }
}

/// How an endpoint is chosen inside a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndpointPolicy {
    /// The shorter expected wait of two.
    LeastWait,
    /// Each in turn, by weight.
    RoundRobin,
    /// Of two random endpoints, the one with fewer exchanges in flight.
    RandomTwo,
    /// Consistent hashing: the same key goes to the same endpoint.
    Hash,
}

/// The key of the `hash` policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
}

/// A service's retries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Retries as a share of requests.
    pub budget: f64,
    /// Retries of one request, at most.
    pub retries: u32,
}

/// A service and the clusters that may serve it: the unit in which load is estimated.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its service.
    pub service: ServiceIndex,
    /// Data classes of its exchanges: the service's and the route's.
    pub data: Vec<String>,
    /// The clusters that may serve it, and the others with the reason.
    pub permitted: Permitted,
    /// Whether samples are connection times rather than response times.
    pub l4: bool,
    /// Stable across plans with the same service and permitted names.
    pub id: u64,
}

impl Plan {
    /// The listener whose socket this is.
    #[must_use]
    pub fn listener_at(&self, transport: Transport, address: &Address) -> Option<ListenerIndex> {
        let is_it = |known: &Listener| {
            known.address == *address && known.transports().any(|own| own == transport)
        };
        self.listeners.find(is_it)
    }

    /// The identity of a class, for state that outlives a plan.
    #[must_use]
    pub fn class_id(service: &str, data: &[String], clusters: &[&str], l4: bool) -> u64 {
        let text = format!("{service}\0{}\0\0{}\0{l4}", data.join("\0"), clusters.join("\0"));
        hash(text.as_bytes())
    }

    /// Whether the service of a class is configured as gRPC.
    #[must_use]
    pub fn says_grpc(&self, class: ClassIndex) -> bool {
        self.grpc.contains(&self.classes[class].service)
    }

    /// Whether a class serves gRPC: its service is configured as gRPC, or all its clusters speak it.
    #[must_use]
    pub fn serves_grpc_alone(&self, class: ClassIndex) -> bool {
        let clusters = &self.classes[class].permitted.clusters;
        self.says_grpc(class)
            || !clusters.is_empty() && clusters.iter().all(|index| self.clusters[*index].http2)
    }

    /// Whether a class may serve gRPC: one of its clusters speaks HTTP/2, or may negotiate HTTP/2.
    #[must_use]
    pub fn may_serve_grpc(&self, class: ClassIndex) -> bool {
        let offers = |tls: &UpstreamTls| tls.alpn.iter().any(|name| name == "h2");
        let speaks = |index: &ClusterIndex| {
            let cluster = &self.clusters[*index];
            cluster.http2 || cluster.tls.as_ref().is_some_and(offers)
        };
        self.says_grpc(class) || self.classes[class].permitted.clusters.iter().any(speaks)
    }

    /// The service of a class.
    #[must_use]
    pub fn service_of(&self, class: ClassIndex) -> &Service {
        &self.services[self.classes[class].service]
    }
}

/// Whether an address is link-local, or is an address outside that range at which a cloud serves metadata or
/// host services: those of Alibaba, Oracle and Azure, and those of AWS and Google over IPv6.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    const SERVICES: [[u8; 4]; 3] = [[100, 100, 100, 200], [192, 0, 0, 192], [168, 63, 129, 16]];
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || SERVICES.contains(&address.octets()),
        IpAddr::V6(address) => {
            let segments = address.segments();
            address.is_unicast_link_local()
                || segments[..2] == [0xfd00, 0xec2]
                || segments[..2] == [0xfd20, 0xce]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_link_local;

    #[test]
    fn metadata_addresses_are_detected_and_neighbouring_ones_are_not() {
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            assert!(is_link_local(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "100.100.100.201", "168.63.129.17", "fd00:ec3::254", "::1"] {
            assert!(!is_link_local(text.parse().unwrap()), "{text}");
        }
    }
}
