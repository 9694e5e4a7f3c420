//! A world in virtual time that drives the production decisions: edges with workers, clusters with
//! servers and queues, jittery paths, changes, money.
//!
//! # The law
//! As in `decision`: no clock, socket, file, task, log or unseeded chance. The same spec, policy and seed
//! give the same trace, in a test, in the benchmark and in `tidegate simulate`.
//!
//! * [`spec`] says what a world is, [`world`] lets it happen, [`place`] is where requests are served.
//! * [`policy`] is what chooses; [`engine`] is the production code as one, [`baseline`] are the others.
//! * [`endpoints`] is another, smaller world: the endpoints of one cluster.
//! * [`outcome`] is what came of it; [`scenario`] lists the worlds of the suite, [`gate`] what they ask;
//!   [`plot`] draws.
//!
//! # Not here
//! Running the suite (`benches/routing`), and the operator's own configuration (`cli::simulate`).

pub mod baseline;
pub mod endpoints;
pub mod engine;
pub mod gate;
pub mod outcome;
pub mod place;

pub mod plot;
pub mod policy;
pub mod scaler;
pub mod scenario;

pub mod spec;
pub mod watch;
pub mod world;
