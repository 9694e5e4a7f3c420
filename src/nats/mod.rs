//! NATS: connections with TLS and credentials, and the value of a key in a JetStream bucket.
//!
//! # Not here
//! Reports on NATS (`fleet`), and what happens to a configuration that a key holds (`server`).

#[cfg(feature = "nats")]
mod bucket;
#[cfg(not(feature = "nats"))]
#[path = "no_bucket.rs"]
mod bucket;
#[cfg(feature = "nats")]
pub mod connect;
pub mod key;

pub use bucket::{follow, read_once};
