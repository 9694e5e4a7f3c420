//! Number of connections of each client address, over all workers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections by client address. Locked once per connection, and only for listeners with a limit per client:
/// the limit holds over all workers.
#[derive(Debug, Default)]
pub struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of a client; dropping it decrements the count.
#[derive(Debug)]
pub struct OfClient {
    clients: Clients,
    address: IpAddr,
}

impl Clients {
    /// Counts a connection, unless its client has `most` already.
    #[must_use]
    pub fn enter(&self, address: IpAddr, most: usize) -> Option<OfClient> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(OfClient { clients: Clients(self.0.clone()), address })
    }
}

impl Drop for OfClient {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
