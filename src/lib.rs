//! Tidegate: a latency-aware layer-4/7 proxy for hybrid clouds.
//!
//! **Decisions are pure functions, I/O is a thin layer around them, one immutable view is published, and a
//! test enforces these rules.**
//!
//! ```text
//!  config file / API   DNS, SRV, files, Kubernetes  probes           finished exchanges
//!         |                      |                   |                      |
//!      config                 discover             probe           slots of each worker
//!         | Plan                 +----- Event -------+                      |  swept every 50 ms
//!         v                             v                                   v
//!   server::reload            decision::assess  <---------------------------+     (control thread)
//!         |                             | Signals
//!         +------> View { plan, signals } ----> ArcSwap ----> worker 0 ... worker N
//! ```
//!
//! * [`decision`] decides: routes, constraints, clusters, endpoints, retries. Pure; no clock, no socket.
//! * [`http`] reads and writes HTTP/1: strict, no I/O.
//! * [`proxy`] is the data plane: each worker owns its listening sockets, pools and accumulators; no
//!   request takes a lock that another core holds.
//! * [`shared`] has all state that threads share.
//! * [`policy`] has access control and rate limits: networks, limits, passwords, tokens.
//! * [`fleet`] exchanges reports with other proxies; [`nats`] has what the fleet and a configuration in NATS share.
//! * [`acme`] orders and renews certificates.
//! * [`scaling`] answers autoscalers.
//! * [`traces`] sends the spans of traced exchanges to a collector.
//! * [`config`], [`discover`], [`probe`], [`telemetry`], [`admin`], [`os`] do what their names say, and
//!   [`server`] is the only module that uses all of them. `tests/tidy.rs` has the table of permitted
//!   imports.
//!
//! [`decision`], [`http`], [`os`], [`tls`], [`policy`], [`telemetry`], [`shared`], [`proxy`] and [`sim`] are crates of their own,
//! members of the workspace; their manifests enforce the table.

pub mod acme;
pub mod admin;
pub mod cli;
pub mod config;
pub mod discover;
pub mod fleet;
pub mod nats;
pub mod probe;
pub mod scaling;
pub mod server;
pub mod traces;

pub use tidegate_decision as decision;
pub use tidegate_http as http;
pub use tidegate_os as os;
pub use tidegate_policy as policy;
pub use tidegate_proxy as proxy;
pub use tidegate_shared as shared;
pub use tidegate_sim as sim;
pub use tidegate_telemetry as telemetry;
pub use tidegate_tls as tls;
