//! One exchange: a request's head to its response's end, whatever protocol the client and the cluster speak.
//!
//! Read [`entry`] first: it is the walk. [`forward`] is the part of it that retries, `send` one attempt, `response` what
//! comes back.

mod affinity;
pub mod answer;
pub mod attempt;
mod connecting;
mod context;
pub mod entry;
mod expect;
pub mod failure;
pub mod forward;
pub mod hedge;
pub mod inject;
pub mod mirror;
pub mod policy;
pub mod record;
mod request_head;
mod request_key;
mod response;
mod response_head;
mod send;
pub mod upload;
