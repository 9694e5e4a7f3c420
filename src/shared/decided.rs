//! One exchange and its decision, on the way from a worker to the admin API.
//!
//! A worker hands over references and a few short texts; the sentences are made by the receiver. [`may_record`] decides
//! without a lock or an allocation whether an exchange is recorded at all.

use super::View;
use crate::decision::index::EndpointIndex;
use crate::decision::plan::{ClassIndex, ClusterIndex, ListenerIndex};
use crate::decision::route::RouteIndex;
use crate::decision::signal::Why;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Length of the queue of decisions between the workers and the admin API.
pub const DECISIONS_WAITING: usize = 64;

/// An exchange and its decision. Times are spans; `at` is the time since 1970.
#[derive(Debug)]
pub struct Decision {
    /// The end of the exchange.
    pub at: Duration,
    /// The view that decided.
    pub view: Arc<View>,
    /// The exchange's id, as in the access log and in the request to the cluster; empty if a policy refused it first.
    pub request_id: String,
    /// The method of the request.
    pub method: String,
    /// The host of the request.
    pub host: String,
    /// The path of the request, without its query.
    pub path: String,
    /// The listener that received the request.
    pub listener: ListenerIndex,
    /// The route.
    pub route: Option<RouteIndex>,
    /// The class.
    pub class: ClassIndex,
    /// The cluster of the last attempt, the endpoint's index in the cluster's signals, and the reason.
    pub selection: Option<(ClusterIndex, EndpointIndex, Why)>,
    /// The refusal, if the exchange was not served.
    pub refusal: Option<&'static str>,
    /// Nearer clusters and why each was not selected.
    pub rejected: Vec<String>,
    /// The status sent, 0 for none.
    pub status: u16,
    /// The number of attempts.
    pub attempts: u32,
    /// How long the last connection took, if one was made.
    pub connected: Option<Duration>,
    /// From sending the request to the response head.
    pub first_byte: Option<Duration>,
    /// From the request head to the end of the response.
    pub duration: Duration,
}

/// How much an operator wants to see a decision: under load the least urgent are left out first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// The exchange went to the nearest cluster.
    Usual,
    /// The exchange went elsewhere, or was refused.
    Unusual,
    /// A trusted client asked for the decision.
    Requested,
}

/// Whether an exchange is recorded: each urgency has a part of the queue that lesser ones may not fill.
#[must_use]
pub fn may_record(queue: &mpsc::Sender<Decision>, urgency: Urgency) -> bool {
    let reserved = match urgency {
        Urgency::Usual => DECISIONS_WAITING / 2,
        Urgency::Unusual => DECISIONS_WAITING / 8,
        Urgency::Requested => 0,
    };
    queue.capacity() > reserved
}
