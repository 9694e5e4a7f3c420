//! The listener's side: which certificate a name gets, who may resume, what is offered.

use super::certificate::{self, Certificate};
use super::listed::ListedClients;
use super::provider;
use crate::decision::plan::ListenerTls;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A listener's TLS, built.
#[derive(Clone, Debug)]
pub struct Secured {
    /// For rustls: what costs least is chosen.
    pub config: Arc<ServerConfig>,
    /// The same for clients that choose themselves.
    pub by_client: Arc<ServerConfig>,
    /// For QUIC, where HTTP/3 is spoken.
    #[cfg(feature = "http3")]
    pub quic: Option<Quic>,
    /// Its certificates.
    pub names: Arc<ByName>,
    /// Which clients are let in: differs with the authorities that must vouch for them, and is never 0,
    /// which is no TLS.
    pub clients: u64,
}

/// A listener's TLS as QUIC has it.
#[cfg(feature = "http3")]
#[derive(Clone)]
pub struct Quic(pub Arc<quinn::crypto::rustls::QuicServerConfig>);

#[cfg(feature = "http3")]
impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quic")
    }
}

/// Certificates by the names they are for.
#[derive(Debug, Default)]
pub struct ByName {
    /// As they are listed; the first is for who names nobody known.
    pub certificates: Vec<Certificate>,
    exact: BTreeMap<String, usize>,
    /// By what follows the `*`.
    wildcard: BTreeMap<String, usize>,
}

impl ByName {
    /// Certificates in the order they are listed; the first that is for a name has it.
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
        ByName { certificates, exact, wildcard }
    }

    /// Which certificate is for a name: exactly, or by a wildcard of one label (RFC 6125 §6.4.3).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let by_label = || self.wildcard.get(name.get(name.find('.')?..)?);
        self.exact.get(&name).or_else(by_label).copied()
    }

    /// Whether a request for `host` may come over a connection that named `sni`: both are for the same
    /// certificate, or the host is nobody's (RFC 9110 §7.4, 421).
    #[must_use]
    pub fn agree(&self, sni: &str, host: &str) -> bool {
        // Whoever asked for a name that is nobody's was shown the first.
        let shown = self.find(sni).unwrap_or(0);
        self.find(host).is_none_or(|of_host| of_host == shown)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = hello.server_name().and_then(|name| self.find(name)).unwrap_or(0);
        self.certificates.get(index).map(|certificate| certificate.key.clone())
    }
}

/// Builds what a listener needs.
///
/// # Errors
/// The first problem with its files.
pub fn build(terms: &ListenerTls) -> Result<Secured, String> {
    let load = |files: &crate::decision::plan::KeyPair| certificate::load(&files.cert, &files.key);
    let certificates = terms.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let names = Arc::new(ByName::new(certificates));
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(terms.only_tls13))
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
    // Sessions are in the tickets; a cache would be one more thing to lose at a reload.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    // One, as Go's servers do: a client that resumes by it gets another, so each of its connections has one.
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

/// The same for QUIC, which speaks HTTP/3 alone, and TLS 1.3.
#[cfg(feature = "http3")]
fn quic(mut config: ServerConfig) -> Result<Quic, String> {
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::crypto::rustls::QuicServerConfig::try_from(config);
    config.map(|config| Quic(Arc::new(config))).map_err(|error| error.to_string())
}

/// The versions that are spoken.
#[must_use]
pub fn versions(only_tls13: bool) -> &'static [&'static SupportedProtocolVersion] {
    static NEW: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    if only_tls13 { &NEW } else { &BOTH }
}

/// Sets of client authorities whose tickets are kept.
const TICKETERS_MAX: usize = 64;

/// The ticketer of a set of client authorities: a session that was begun under one must not go on under
/// another, and one that was begun before a reload may go on after it.
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
