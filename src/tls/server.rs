//! TLS of listeners: selection of certificates by name, session resumption, and ALPN.

use super::certificate::{self, Certificate};
use super::listed::ListedClients;
use super::provider;
use crate::decision::acme::{Acme, ChallengeKind};
use crate::decision::listener::LeastTls;
use crate::decision::plan::ListenerTls;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The TLS settings of a listener, ready for handshakes.
#[derive(Clone, Debug)]
pub struct Secured {
    /// Configuration in which the server's order of cipher suites, the cheapest first, is used.
    pub config: Arc<ServerConfig>,
    /// The same, but with the client's order of cipher suites.
    pub by_client: Arc<ServerConfig>,
    /// Configuration for QUIC, if HTTP/3 is enabled.
    #[cfg(feature = "http3")]
    pub quic: Option<Quic>,
    /// The listener's certificates.
    pub names: Arc<ByName>,
    /// Identifies the set of client authorities; never 0, which stands for no TLS.
    pub clients: u64,
}

/// The TLS settings of a listener for QUIC.
#[cfg(feature = "http3")]
#[derive(Clone)]
pub struct Quic(pub Arc<quinn::crypto::rustls::QuicServerConfig>);

#[cfg(feature = "http3")]
impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quic")
    }
}

/// Certificates by name.
#[derive(Debug, Default)]
pub struct ByName {
    /// In configured order; the first is used for unknown names.
    pub certificates: Vec<Certificate>,
    exact: BTreeMap<String, usize>,
    /// Wildcards, by the labels after `*.`.
    wildcard: BTreeMap<String, usize>,
    /// Names whose certificate an ACME authority has not issued yet: their handshakes are refused, because the
    /// certificate of another name would only teach clients to ignore a warning.
    pub pending: BTreeSet<String>,
    /// Whether authorities may validate names by a handshake (TLS-ALPN-01).
    pub answers_acme: bool,
}

impl ByName {
    /// Indexes certificates in configured order; the first one with a name is used for that name.
    #[must_use]
    pub fn new(certificates: Vec<Certificate>) -> ByName {
        let (mut exact, mut wildcard) = (BTreeMap::new(), BTreeMap::new());
        for (index, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                match name.strip_prefix('*') {
                    Some(rest) => wildcard.entry(rest.to_owned()).or_insert(index),
                    None => exact.entry(name.clone()).or_insert(index),
                };
            }
        }
        ByName { certificates, exact, wildcard, ..ByName::default() }
    }

    /// The certificate for a name: an exact match, else a wildcard of one label (RFC 6125 §6.4.3).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let by_label = || self.wildcard.get(name.get(name.find('.')?..)?);
        self.exact.get(&name).or_else(by_label).copied()
    }

    /// The certificate for a connection with this server name, if any: the first one for unknown names.
    fn shown(&self, name: Option<&str>) -> Option<&Certificate> {
        let known = name.and_then(|name| self.find(name));
        let index = known.or_else(|| (!name.is_some_and(|name| self.awaits(name))).then_some(0))?;
        self.certificates.get(index)
    }

    /// Whether there is no certificate for a connection with this server name.
    #[must_use]
    pub fn lacks(&self, name: Option<&str>) -> bool {
        !self.pending.is_empty() && self.shown(name).is_none()
    }

    fn awaits(&self, name: &str) -> bool {
        !self.pending.is_empty()
            && self.pending.contains(&name.trim_end_matches('.').to_ascii_lowercase())
    }

    /// Whether a request for `host` is allowed on a connection whose server name was `sni`: both names have the same
    /// certificate, or no certificate has the host (RFC 9110 §7.4, status 421).
    #[must_use]
    pub fn agree(&self, sni: &str, host: &str) -> bool {
        // An unknown server name was answered with the first certificate.
        let shown = self.find(sni).unwrap_or(0);
        self.find(host).is_none_or(|of_host| of_host == shown)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown(hello.server_name()).map(|certificate| certificate.key.clone())
    }
}

/// Builds the TLS settings of a listener.
///
/// # Errors
/// The first problem with its files.
pub fn build(terms: &ListenerTls) -> Result<Secured, String> {
    let load = |files: &crate::decision::plan::KeyPair| certificate::load(&files.cert, &files.key);
    let certificates = terms.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let names = Arc::new(with_issued(certificates, terms.acme.as_ref()));
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(terms.least_tls))
        .map_err(|error| error.to_string())?;
    let mut authorities = Vec::new();
    let builder = match &terms.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            authorities = std::fs::read(path).map_err(|error| error.to_string())?;
            builder.with_client_cert_verifier(Arc::new(ListedClients::read(path)?))
        }
    };
    let mut config = builder.with_cert_resolver(names.clone());
    config.alpn_protocols = terms.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.ticketer = ticketer(&authorities)?;
    // Sessions are stored in tickets; a session cache would be lost at a reload.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    // One ticket per handshake, like Go's servers: each resumption issues a new ticket, so that every
    // connection has one.
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    let clients = crate::decision::units::hash(&authorities) | 1;
    let by_client = Arc::new(config.clone());
    config.ignore_client_order = true;
    Ok(Secured {
        #[cfg(feature = "http3")]
        quic: terms.http3.then(|| quic(config.clone())).transpose()?,
        config: Arc::new(config),
        by_client,
        names,
        clients,
    })
}

/// Adds the certificates that an ACME authority has issued. A file that cannot be used is no error of the configuration:
/// its name has no certificate until it is ordered again.
fn with_issued(mut certificates: Vec<Certificate>, acme: Option<&Acme>) -> ByName {
    let mut pending = BTreeSet::new();
    for domain in acme.iter().flat_map(|acme| &acme.domains) {
        match certificate::load(&domain.file, &domain.file) {
            Ok(certificate) => certificates.push(certificate),
            Err(problem) => {
                if domain.file.exists() {
                    tracing::warn!("certificate for {} not used: {problem}", domain.name);
                }
                pending.insert(domain.name.clone());
            }
        }
    }
    let answers_acme = acme.is_some_and(|acme| acme.challenge == ChallengeKind::TlsAlpn01);
    ByName { pending, answers_acme, ..ByName::new(certificates) }
}

/// The same for QUIC, with HTTP/3 and TLS 1.3 only.
#[cfg(feature = "http3")]
fn quic(mut config: ServerConfig) -> Result<Quic, String> {
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::crypto::rustls::QuicServerConfig::try_from(config);
    config.map(|config| Quic(Arc::new(config))).map_err(|error| error.to_string())
}

/// The enabled TLS versions: `least` and all newer ones.
#[must_use]
pub fn versions(least: LeastTls) -> &'static [&'static SupportedProtocolVersion] {
    static NEW: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    match least {
        LeastTls::Tls13 => &NEW,
        LeastTls::Tls12 => &BOTH,
    }
}

/// The number of sets of client authorities whose ticket keys are kept.
const TICKETERS_MAX: usize = 64;

/// The ticket keys of a set of client authorities. A session begun under one set must not be resumed under another;
/// a session begun before a reload may be resumed after it.
fn ticketer(authorities: &[u8]) -> Result<Arc<dyn ProducesTickets>, String> {
    type Known = BTreeMap<Vec<u8>, Arc<dyn ProducesTickets>>;
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ticketer) = known.get(authorities) {
        return Ok(ticketer.clone());
    }
    let made = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
    if known.len() < TICKETERS_MAX {
        known.insert(authorities.to_vec(), made.clone());
    }
    Ok(made)
}
