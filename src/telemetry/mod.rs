//! Metrics, the process log and the access log.

pub mod access_log;
pub mod cells;
pub mod counter;
pub mod latencies;
pub mod log;
pub mod metrics;
pub mod results;
