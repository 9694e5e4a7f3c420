//! The client's side: connections of HTTP/1, HTTP/2 and HTTP/3, and their requests.
//!
//! Each protocol implements [`Client`](super::client::Client), so the exchange does not depend on the protocol.

pub mod body_rate;
pub mod h1;
mod h1_body;
pub mod h1_connection;
mod h1_response;
pub mod h2;
pub mod h2_connection;
mod h2_response;
#[cfg(feature = "http3")]
pub mod h3;
#[cfg(feature = "http3")]
pub mod h3_connection;
#[cfg(feature = "http3")]
pub mod h3_listener;
pub mod intake;
pub mod message;
pub mod stream_body;
pub mod streams;
