//! HTTP: the client's connections ([`inbound`]), the walk of one exchange ([`exchange`]) and the cluster's connections
//! ([`outbound`]), each knowing only those after it.
//!
//! On the ground floor, known by all three: what a [`client`] is to an exchange, what is known of its connection
//! ([`connection_info`]), and the flow-control capacity of HTTP/2 streams ([`h2_capacity`]).

pub mod client;
pub mod connection_info;
pub mod exchange;
pub mod h2_capacity;
pub mod inbound;
pub mod outbound;
