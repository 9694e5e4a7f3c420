//! One exchange: from a request head to the end of the response, for every protocol of the client and the cluster.
//!
//! Start with [`entry`], which has the walk. [`forward`] is the part that retries, `send` is one attempt, `response`
//! handles the response.

mod affinity;
pub mod answer;
pub mod attempt;
mod compression;
mod connecting;
mod context;
mod cors;
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
mod rewrite;
mod route_query;
mod send;
pub mod trace;
pub mod upload;
pub mod variables;
