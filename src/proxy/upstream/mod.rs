//! Connections towards clusters.

pub mod connect;
pub mod pool;
