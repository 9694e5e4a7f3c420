//! HTTP: a connection's loop, and the one walk of an exchange.

pub mod carrier;
pub mod client;
pub mod connection;
pub mod connection_info;
pub mod exchange;
pub mod h1;
pub mod h2;
pub mod h2_connection;
pub mod h2_room;
#[cfg(feature = "http3")]
pub mod h3;
#[cfg(feature = "http3")]
pub mod h3_connection;
#[cfg(feature = "http3")]
pub mod h3_listener;
pub mod message;
pub mod rate;
pub mod streams;
