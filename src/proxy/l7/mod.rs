//! HTTP: the client's connections ([`inbound`]), the steps of one exchange ([`exchange`]) and the cluster's
//! connections ([`outbound`]). Each module uses only the modules after it.
//!
//! All three use the lowest layer: the interface of a [`client`] to the exchange, the properties of its connection
//! ([`connection_info`]), and the flow-control capacity of HTTP/2 streams ([`h2_capacity`]).

pub mod client;
pub mod connection_info;
pub mod exchange;
pub mod h2_capacity;
pub mod inbound;
pub mod outbound;
