//! A cluster and a service with the defaults of the configuration, as a start for simulations and tests.
//!
//! # Not here
//! The defaults of the configuration itself (`config`), which include listeners, sites and inheritance.

use super::{
    Cluster, ClusterIndex, EndpointPolicy, Failback, HashKey, HostPolicy, Kind, Probe, ProbeKind,
    Reports, Retry, SendProxy, Service, Source, Strategy,
};
use crate::edits::Edits;
use crate::outlier::Outlier;
use crate::price::Prices;
use std::time::Duration;

/// Connections, and exchanges waiting for one: more than any simulated world needs.
const CONNECTIONS_MAX: u32 = 1 << 20;

impl Cluster {
    /// A cloud cluster in a site of its own name: no endpoints, a TCP probe every 500 ms, all other fields at
    /// their defaults. Other values are set by struct update: `Cluster { dial: 0, ..Cluster::named("far") }`.
    #[must_use]
    pub fn named(name: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            site: name.to_owned(),
            kind: Kind::Cloud,
            environment: String::new(),
            accepts: Vec::new(),
            offers: Vec::new(),
            source: Source::Static(Vec::new()),
            probe: Probe::default(),
            ceiling: None,
            shared: false,
            capacity: None,
            group: None,
            connections_max: CONNECTIONS_MAX,
            pending_max: CONNECTIONS_MAX,
            tls: None,
            send_proxy: SendProxy::None,
            http2: false,
            host: HostPolicy::Preserve,
            dial: 100,
            connect: None,
            connect_total: Duration::from_secs(2),
            pool_idle: None,
            queue: None,
            slow_start: Duration::from_secs(30),
            outlier: Outlier::default(),
            failback: Failback { manual: false, hold: Duration::ZERO },
            prices: Prices::default(),
            reports: Reports::None,
            allow_link_local: false,
        }
    }
}

impl Default for Probe {
    /// A connection each half second: down after two failures, up after three successes.
    fn default() -> Probe {
        Probe {
            kind: ProbeKind::Tcp,
            interval: Duration::from_millis(500),
            timeout: Duration::from_millis(400),
            fall: 2,
            rise: 3,
            port: None,
        }
    }
}

impl Service {
    /// A service of `clusters`, in the operator's order: strategy `nearest`, no policy, all other fields at their
    /// defaults.
    #[must_use]
    pub fn named(name: &str, clusters: Vec<ClusterIndex>) -> Service {
        Service {
            name: name.to_owned(),
            clusters,
            data: Vec::new(),
            needs: Vec::new(),
            environment: String::new(),
            strategy: Strategy::Nearest,
            endpoint_policy: EndpointPolicy::LeastWait,
            hash_key: HashKey::ClientIp,
            timeout: Duration::from_secs(15),
            total_timeout: None,
            per_try_timeout: None,
            retry: Retry { budget: 0.2, retries: 1 },
            budget: None,
            hedge: None,
            priority: 5,
            policy: None,
            affinity: None,
            cors: None,
            compression: None,
            request_edits: Edits::default(),
            response_edits: Edits::default(),
            error_pages: None,
        }
    }
}
