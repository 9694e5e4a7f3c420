//! TLS: certificates become configurations of rustls, chosen by SNI, swapped when their files change.
//!
//! One provider, aws-lc-rs, with the hybrid key exchange of X25519 and ML-KEM preferred. Tickets outlive reloads,
//! and never cross from one set of client authorities to another.
//!
//! # Not here
//! Sockets (`os`), and what a listener does with a client that is who it says (`proxy`).

pub mod certificate;
pub mod client;
pub mod handshake;
pub mod hello;
pub mod server;
pub mod store;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

/// The one provider of cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}
