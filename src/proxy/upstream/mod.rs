//! Connections towards clusters.

pub mod connect;
pub mod pool;
pub mod warm;
