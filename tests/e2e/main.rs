//! End-to-end tests: the real binary between scripted clusters and raw clients.
#![allow(missing_docs, unreachable_pub, reason = "tests are named by their promises")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reads the clock to have a deadline"
)]

#[cfg(feature = "acme")]
mod acme;
mod admin;
mod affinity;
mod blame;
mod bounds;
mod breaking;
mod bulk;
mod capacity_group;
mod client_cert;
#[cfg(feature = "compression")]
mod compression;
mod constraints;
mod cors;
mod dashboard;
mod deadlines;
mod dial;
mod discovery;
mod edges;
mod explain;
mod failure;
#[allow(dead_code, reason = "chaos has it, too; its own tests are run here")]
#[path = "../chaos/fault.rs"]
mod fault;
mod first_run;
mod fleet;
#[cfg(feature = "nats")]
mod fleet_sites;
mod forecast;
mod foreign;
mod forward_auth;
mod headers;
mod hedge;
mod hostile;
mod http1;
mod http2;
mod http2_bounds;
#[cfg(feature = "http3")]
mod http3;
mod import;
#[cfg(feature = "k8s")]
mod kubernetes;
mod l4;
mod lifecycle;
mod logs;
#[allow(dead_code, reason = "likewise")]
#[path = "../chaos/lying_dns.rs"]
mod lying_dns;
mod metrics;
mod mirror;
mod money;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
mod nats_config;
mod outlier;
mod passage;
mod policies;
mod queue;
mod recovery;
mod reload;
mod remote;
mod scaler;
mod sidecar;
mod spill;
mod support;
mod terminal;
mod tls;
#[cfg(feature = "otel")]
mod traces;
mod udp;
mod upstream2;
mod webhook;
