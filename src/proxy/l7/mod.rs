//! HTTP: a connection's loop, and the one walk of an exchange.

pub mod affinity;
pub mod answer;
pub mod attempt;
mod awaited;
pub mod carrier;
pub mod client;
mod compose;
mod connecting;
pub mod connection;
pub mod connection_info;
mod context;
pub mod entry;
pub mod exchange;
mod expect;
pub mod failure;
pub mod gate;
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
pub mod hedge;
pub mod inject;
pub mod message;
pub mod mirror;
pub mod rate;
pub mod record;
mod request_key;
mod response;
mod send;
pub mod streams;
pub mod upload;
