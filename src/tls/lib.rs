//! TLS: builds rustls configurations from certificates, selects them by SNI, and replaces them when files change.
//!
//! The only provider is aws-lc-rs; the hybrid key exchange of X25519 and ML-KEM is preferred. Session tickets survive
//! reloads, and are not valid under another set of client authorities.
//!
//! # Not here
//! Sockets (`os`), and the treatment of an authenticated client (`proxy`).

use tidegate_decision as decision;
use tidegate_os as os;

pub mod certificate;
pub mod challenges;
pub mod client;
pub mod client_cert;
pub mod handshake;
pub mod hello;
pub mod in_clear;
mod listed;
pub mod properties;
pub mod server;
pub mod store;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

/// The cryptography provider.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(ordered(rustls::crypto::aws_lc_rs::default_provider())))
        .clone()
}

/// Prefers AES-128 to AES-256, whose suite uses SHA-384: processors have instructions for SHA-256 but not for
/// SHA-384, and hashing was a sixth of a handshake. Go and BoringSSL have the same preference.
fn ordered(mut provider: CryptoProvider) -> CryptoProvider {
    let is_costly =
        |suite: CipherSuite| suite.as_str().is_some_and(|name| name.contains("AES_256_GCM_SHA384"));
    provider.cipher_suites.sort_by_key(|suite| is_costly(suite.suite()));
    provider
}

/// Whether a client with these suites, best first, has no AES instructions; its own order is then used.
#[must_use]
pub fn prefers_chacha(offered: &[CipherSuite]) -> bool {
    let name = |suite: &CipherSuite| suite.as_str().unwrap_or_default();
    let known = provider();
    let ours = |offered: &&CipherSuite| known.cipher_suites.iter().any(|s| s.suite() == **offered);
    offered.iter().find(ours).is_some_and(|first| name(first).contains("CHACHA20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_is_first_unless_a_client_begins_with_chacha() {
        let suites: Vec<CipherSuite> = provider().cipher_suites.iter().map(|s| s.suite()).collect();
        assert_eq!(suites[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(suites.len(), rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES.len());
        let (aes, chacha) =
            (CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        // Unknown suites (GREASE) are skipped (RFC 8701).
        let grease = CipherSuite::Unknown(0x1a1a);
        assert!(!prefers_chacha(&[grease, aes, chacha]));
        assert!(prefers_chacha(&[grease, chacha, aes]));
        assert!(prefers_chacha(&[CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]));
        assert!(!prefers_chacha(&[]));
    }
}
