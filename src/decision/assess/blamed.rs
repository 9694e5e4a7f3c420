//! Clients that blame an endpoint.

use std::net::IpAddr;

/// Clients that blamed an endpoint since the last sweep: a client counts once, however often its exchanges fail.
#[derive(Debug, Default)]
pub(super) struct Blamed {
    clients: Vec<IpAddr>,
    others: f64,
}

/// The greatest number of clients that are distinguished between two sweeps.
const CLIENTS_MAX: usize = 32;

impl Blamed {
    /// Counts a client; a client without an address counts as a new one.
    pub(super) fn add(&mut self, client: Option<IpAddr>) {
        match client {
            Some(client) if self.clients.contains(&client) => {}
            Some(client) if self.clients.len() < CLIENTS_MAX => self.clients.push(client),
            Some(_) | None => self.others += 1.0,
        }
    }

    /// The number of clients.
    pub(super) fn count(&self) -> f64 {
        self.clients.len() as f64 + self.others
    }
}
