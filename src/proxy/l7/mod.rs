//! HTTP: the client's connections ([`inbound`]), the walk of one exchange ([`exchange`]) and the cluster's connections
//! ([`outbound`]), each knowing only those after it.
//!
//! On the ground floor, known by all three: what a [`client`] is to an exchange, what is known of its connection
//! ([`connection_info`]), and how much a stream of HTTP/2 takes ([`h2_room`]).

pub mod client;
pub mod connection_info;
pub mod exchange;
pub mod h2_room;
pub mod inbound;
pub mod outbound;
