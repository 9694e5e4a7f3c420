//! What the proxy tells of itself: metrics and the access log.

pub mod access_log;
pub mod cells;
pub mod log;
pub mod metrics;
