//! A simulated world in virtual time that runs the production decisions: edges with workers, clusters with
//! servers and queues, paths with jitter, changes, prices.
//!
//! # The rule
//! As in `decision`: no clock, socket, file, task, log or unseeded chance. The same spec, policy and seed
//! give the same trace, in a test, in the benchmark and in `tidegate simulate`.
//!
//! * [`spec`] describes a world, [`world`] runs it, [`place`] is a place that serves requests.
//! * [`policy`] is the interface of policies; [`engine`] is the production code, [`baseline`] has the alternatives.
//! * [`endpoints`] is another, smaller world: the endpoints of one cluster.
//! * [`expect`] simulates the effect of a change of dial, from the measurements of a running proxy.
//! * [`outcome`] is the result; [`scenario`] lists the worlds of the suite, [`gate`] their requirements;
//!   [`plot`] draws charts.
//!
//! # Not here
//! Running the suite (`benches/routing`), and the operator's own configuration (`cli::simulate`).

pub mod baseline;
pub mod endpoints;
pub mod engine;
pub mod expect;
pub mod gate;
mod lines;
pub mod outcome;
pub mod place;

pub mod plot;
pub mod policy;
pub mod scaler;
pub mod scenario;

pub mod spec;
pub mod watch;
pub mod world;
