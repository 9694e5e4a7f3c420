//! TLS towards clusters: how an endpoint is authenticated, and the certificate that the proxy presents.

use super::certificate;
use super::listed::Listed;
use super::provider;
use super::server::versions;
use crate::decision::listener::LeastTls;
use crate::decision::plan::{Address, UpstreamTls};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, OnceLock};

/// The protocol inside TLS, which determines the protocols offered by ALPN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// The protocols of the cluster's configuration.
    Traffic,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// The client's protocol: no ALPN is offered.
    Bytes,
}

/// The TLS settings of a cluster, ready for handshakes.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Configurations for rustls; each has its own session cache.
    traffic: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    /// Identifies the settings: connections with different settings must not be shared.
    pub id: u64,
}

impl Upstream {
    /// Whether ALPN may select HTTP/2.
    #[must_use]
    pub fn offers_http2(&self) -> bool {
        self.traffic.alpn_protocols.iter().any(|name| name == b"h2")
    }

    /// The configuration for a protocol.
    #[must_use]
    pub fn config(&self, speaks: Speaks) -> &Arc<ClientConfig> {
        match speaks {
            Speaks::Traffic => &self.traffic,
            Speaks::Http1 => &self.http1,
            Speaks::Http2 => &self.http2,
            Speaks::Bytes => &self.bytes,
        }
    }

    /// The name that the endpoint's certificate must have: the configured one, else its address. `None` for a unix socket
    /// without a configured name.
    #[must_use]
    pub fn name_of(&self, endpoint: &Address) -> Option<ServerName<'static>> {
        match (&self.name, endpoint) {
            (Some(name), _) => Some(name.clone()),
            (None, Address::Ip(address)) => Some(ServerName::IpAddress(address.ip().into())),
            (None, Address::Unix(_)) => None,
        }
    }
}

/// Builds the TLS settings of a cluster. `id` identifies the settings and the contents of their files.
///
/// # Errors
/// The first problem with its files or name.
pub fn build(terms: &UpstreamTls, id: u64) -> Result<Upstream, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(LeastTls::Tls12))
        .map_err(|error| error.to_string())?;
    let verifier = match &terms.ca {
        Some(path) => Listed::read(path)?,
        None => Listed::by(system()?)?,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &terms.client {
        None => builder.with_no_client_auth(),
        Some(files) => {
            // Certificate and key are compared here: rustls would detect a mismatch only in a handshake.
            certificate::load(&files.cert, &files.key)?;
            let chain = certificate::chain(&files.cert)?;
            let key = certificate::private_key(&files.key)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
    };
    config.resumption = rustls::client::Resumption::in_memory_sessions(256);
    let parse = |name: &String| {
        ServerName::try_from(name.clone()).map_err(|_| format!("`{name}` is not a server name"))
    };
    let name = terms.server_name.as_ref().map(parse).transpose()?;
    let offering = |names: &[&str]| {
        let mut config = config.clone();
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let alpn: Vec<&str> = terms.alpn.iter().map(String::as_str).collect();
    Ok(Upstream {
        traffic: offering(&alpn),
        http1: offering(&["http/1.1"]),
        http2: offering(&["h2"]),
        bytes: offering(&[]),
        name,
        id,
    })
}

/// The system's certificate authorities, read once, because there are hundreds.
fn system() -> Result<Arc<RootCertStore>, String> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Certificates that are too old to be parsed are skipped.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => {
            Err("the system has no certificate authorities: install ca-certificates, or set `ca`"
                .to_owned())
        }
        false => Ok(roots.clone()),
    }
}
