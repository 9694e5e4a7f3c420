//! Upstream connections.

pub mod connect;
pub mod leaving;
pub mod multiplexed;
pub mod pool;
pub mod warm;
