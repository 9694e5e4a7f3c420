//! The decisions: which route, which clusters may serve, which one does, which endpoint, and again.
//!
//! # The law
//! Nothing in this room reads a clock, opens a socket or file, starts a task, logs, locks, or rolls
//! dice that were not handed in. Moments, samples and chance are arguments; what comes out is a
//! value. So the same code runs in the proxy, in the simulator and in a test, and the same input
//! gives the same answer. `tests/tidy.rs` enforces it.
//!
//! # Vocabulary
//! A [`plan::Plan`] is what the operator wants, [`signal::Signals`] what we believe now; a *class* is
//! a service together with the set of clusters permitted to serve it.

pub mod assess;
pub mod backlog;
pub mod budget;
pub mod capacity;
pub mod demand;
pub mod endpoint;
pub mod excess;
pub mod exchange;
pub mod explain;
pub mod fleet;
pub mod growth;
pub mod health;
pub mod index;
pub mod latency;
pub mod ledger;
pub mod listener;
pub mod load;
pub mod order;
pub mod outlier;
pub mod permit;
pub mod plan;
pub mod policy;
pub mod price;
pub mod refusal;
pub mod report;
pub mod retry;
pub mod route;
pub mod service_time;
pub mod shed;
pub mod signal;
pub mod spill;
pub mod strata;
pub mod strategy;
pub mod suspicion;
pub mod tally;
pub mod terms;
pub mod tls_failure;
pub mod units;
pub mod why;
