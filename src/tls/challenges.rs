//! Open challenges of ACME authorities, which the workers answer: HTTP-01 with a text (RFC 8555 §8.3), TLS-ALPN-01 with a
//! handshake (RFC 8737).
//!
//! # Not here
//! Orders, and the challenges of other proxies (`acme`).

use crate::decision::acme::Challenge;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::ClientHello;
use std::sync::Arc;

/// The ALPN protocol of TLS-ALPN-01.
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// Open challenges. Workers read them without a lock; at most some hundreds exist, and only during orders.
#[derive(Debug, Default)]
pub struct Challenges {
    answered: ArcSwap<Vec<Answer>>,
    own: ArcSwap<Vec<Challenge>>,
}

/// A challenge and its answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The challenge.
    pub challenge: Challenge,
    /// For TLS-ALPN-01: the configuration with the certificate that proves the control of the name.
    pub config: Arc<ServerConfig>,
}

impl Challenges {
    /// Replaces the challenges of this proxy's own orders, which other proxies of the site are told.
    pub fn set_own(&self, own: Vec<Challenge>) {
        self.own.store(Arc::new(own));
    }

    /// The challenges of this proxy's own orders.
    #[must_use]
    pub fn own(&self) -> Vec<Challenge> {
        self.own.load().to_vec()
    }

    /// Replaces the challenges that this proxy answers.
    pub fn answer(&self, all: Vec<Answer>) {
        self.answered.store(Arc::new(all));
    }

    /// The challenges that this proxy answers.
    #[must_use]
    pub fn answered(&self) -> Arc<Vec<Answer>> {
        self.answered.load_full()
    }

    /// The text for a token.
    #[must_use]
    pub fn text(&self, token: &str) -> Option<String> {
        let all = self.answered.load();
        let found = all.iter().find(|answer| answer.challenge.token() == token)?;
        Some(found.challenge.key_authorization.clone())
    }

    /// The configuration for a handshake of an authority: the client offers `acme-tls/1` and nothing else, and names
    /// the domain of a challenge.
    #[must_use]
    pub fn config(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let name = hello.server_name()?;
        let mut offered = hello.alpn()?;
        if offered.next() != Some(PROTOCOL) || offered.next().is_some() {
            return None;
        }
        let all = self.answered.load();
        let of_name = |answer: &&Answer| answer.challenge.domain.eq_ignore_ascii_case(name);
        Some(all.iter().rev().find(of_name)?.config.clone())
    }
}
