//! Tidegate: a latency-aware layer-4/7 proxy for hybrid clouds.
//!
//! **Decide in pure functions, act in thin shells, publish one immutable view, and let a test enforce
//! it.**
//!
//! ```text
//!  config file / API        DNS, SRV, files        probes            finished exchanges
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
//! * [`proxy`] is the data plane: each worker owns its listening sockets, pools and accumulators; nothing
//!   on the path of a request takes a lock or crosses a core.
//! * [`shared`] is everything that crosses a thread, in one file.
//! * [`policy`] keeps who may come and how often: limits, passwords, tokens.
//! * [`fleet`] tells other proxies what this one sees, and hears what they see.
//! * [`config`], [`discover`], [`probe`], [`telemetry`], [`admin`], [`os`] do what their names say, and
//!   [`server`] is the only room that knows them all. `tests/tidy.rs` holds the table of who may know whom.

pub mod admin;
pub mod cli;
pub mod config;
pub mod decision;
pub mod discover;
pub mod fleet;
pub mod http;
pub mod os;
pub mod policy;
pub mod probe;
pub mod proxy;
pub mod server;
pub mod shared;
pub mod sim;
pub mod telemetry;
pub mod tls;
