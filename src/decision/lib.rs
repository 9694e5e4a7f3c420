//! The decisions for each exchange: the route, the permitted clusters, the cluster, the endpoint,
//! and retries.
//!
//! # The rule
//! No code in this module reads a clock, opens a socket or file, starts a task, logs, locks, or
//! creates random numbers. Time, samples and dice are arguments; the result is a value. Therefore
//! the same code runs in the proxy, in the simulator and in tests, and the same input gives the
//! same result. `tests/tidy.rs` enforces it.
//!
//! # Vocabulary
//! A [`plan::Plan`] is the compiled configuration, [`signal::Signals`] are the current estimates; a
//! *class* is a service together with the set of clusters permitted to serve it.

pub mod acme;
pub mod assess;
pub mod backlog;
pub mod budget;
pub mod capacity;
pub mod capacity_group;
pub mod change;
pub mod compression;
pub mod congestion;
pub mod cors;
pub mod demand;
pub mod edits;
pub mod endpoint;
pub mod excess;
pub mod exchange;
pub mod explain;
pub mod fleet;
pub mod growth;
pub mod headroom;
pub mod health;
pub mod index;
pub mod latency;
pub mod ledger;
pub mod listener;
pub mod load;
pub mod matching;
pub mod nats;
pub mod operation;
pub mod order;
pub mod outlier;
pub mod pages;
pub mod password_hash;
pub mod permit;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod price;
pub mod refusal;
pub mod report;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod scaling;
pub mod service_time;
pub mod shed;
pub mod signal;
pub mod spill;
pub mod strata;
pub mod strategy;
pub mod suspicion;
pub mod tally;
pub mod template;
pub mod terms;
pub mod tls_failure;
pub mod traces;
pub mod units;
pub mod why;
