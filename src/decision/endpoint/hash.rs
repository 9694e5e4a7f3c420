//! Consistent hashing: weighted rendezvous hashing (Thaler & Ravishankar 1998).
//!
//! The loss of an endpoint moves only its own keys. The cost grows with the cluster's size; in
//! return no table has to be rebuilt when a weight changes.

use crate::index::{EndpointIndex, Table};
use crate::signal::EndpointSignals;
use crate::units::{hash, mix};

/// Picks one of `usable`, which is not empty.
pub(super) fn pick(
    endpoints: &Table<EndpointIndex, EndpointSignals>,
    usable: &[EndpointIndex],
    key: u64,
) -> EndpointIndex {
    let score = |index: &EndpointIndex| {
        let endpoint = &endpoints[*index];
        let bits = mix(key ^ identity(endpoint));
        let unit = ((bits >> 11) as f64 + 1.0) / ((1_u64 << 53) as f64 + 1.0);
        -endpoint.weight / unit.ln()
    };
    usable.iter().max_by(|a, b| score(a).total_cmp(&score(b))).copied().unwrap_or(usable[0])
}

/// The identity of an endpoint for hashing: its address, not its id, so that it is the same in every proxy and after
/// every restart.
#[must_use]
pub fn identity(endpoint: &EndpointSignals) -> u64 {
    use crate::plan::Address;
    match &endpoint.address {
        Address::Ip(std::net::SocketAddr::V4(address)) => {
            mix(u64::from(u32::from(*address.ip())) << 16 | u64::from(address.port()))
        }
        Address::Ip(std::net::SocketAddr::V6(address)) => {
            hash(&address.ip().octets()) ^ u64::from(address.port())
        }
        Address::Unix(path) => hash(path.as_os_str().as_encoded_bytes()),
    }
}
