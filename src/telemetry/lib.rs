//! Metrics, the process log and the access log.

use tidegate_decision as decision;
use tidegate_os as os;
use tidegate_tls as tls;

pub mod access_log;
pub mod cells;
pub mod counter;
pub mod latencies;
pub mod log;
pub mod metrics;
pub mod results;
