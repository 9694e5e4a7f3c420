//! Where the endpoints of a cluster come from, and how each is written.

use super::Address;
use std::path::PathBuf;

/// The source of endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Addresses, and host names that resolve like `dns`.
    Static(Vec<EndpointSpec>),
    /// A and AAAA records of this name.
    Dns {
        /// The name.
        host: String,
        /// The port of every endpoint.
        port: u16,
    },
    /// SRV records of this name.
    Srv {
        /// The name.
        name: String,
    },
    /// A watched YAML file with a list of endpoints.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// The EndpointSlices of a Kubernetes Service.
    Kubernetes(Kubernetes),
}

/// A Service of a Kubernetes cluster, and how the cluster's API server is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kubernetes {
    /// The Service's namespace; by default that of the context, or of the proxy's own pod.
    pub namespace: Option<String>,
    /// The Service's name.
    pub service: String,
    /// The port of the pods; by default the only one.
    pub port: Option<ServicePort>,
    /// The kubeconfig file; without one, the API server of the cluster in which the proxy runs.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig file; by default its current one.
    pub context: Option<String>,
}

/// A port of the pods of a Kubernetes Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServicePort {
    /// The port's number.
    Number(u16),
    /// The name in the Service's list of ports.
    Name(String),
}

impl Source {
    /// The number of endpoints, if the configuration states it.
    #[must_use]
    pub fn stated_count(&self) -> Option<usize> {
        match self {
            Source::Static(specs) => Some(specs.len()),
            Source::Dns { .. }
            | Source::Srv { .. }
            | Source::File { .. }
            | Source::Kubernetes(_) => None,
        }
    }

    /// The host name that all endpoints share: the default server name of TLS.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Source::Dns { host, .. } => Some(host),
            Source::Static(_)
            | Source::Srv { .. }
            | Source::File { .. }
            | Source::Kubernetes(_) => None,
        }
    }
}

/// An endpoint as configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointSpec {
    /// The endpoint's address.
    pub target: Target,
    /// The endpoint's share relative to its siblings, 1-1000.
    pub weight: u16,
}

/// An endpoint's address or name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// An address.
    Address(Address),
    /// A name to resolve, and the port.
    Name(String, u16),
}
