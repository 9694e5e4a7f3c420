//! What the signals of a cluster are made of: what is known of its endpoints, and what the sweep gives to it. The signals are
//! made anew only if one of the two has changed, since most clusters rest.

use crate::endpoint::Wheel;
use crate::health::Cause;
use crate::index::{EndpointIndex, Table};
use crate::plan::ClassIndex;
use crate::signal::{ClusterSignals, EndpointSignals};
use crate::units::Timestamp;
use std::sync::Arc;

/// The totals of a cluster's traffic over all classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) rate: f64,
    pub(super) failed_rate: f64,
    /// The longest queue that any class observes.
    pub(super) queue: Option<f64>,
    pub(super) service: Option<f64>,
    pub(super) total: Option<f64>,
    /// The class that sends most.
    pub(super) class: Option<ClassIndex>,
    pub(super) usd_per_hour: f64,
    pub(super) share: f64,
}

/// What a sweep gives to a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) traffic: Traffic,
    /// The effective dial.
    pub(super) dial: u8,
    pub(super) site_dial: u8,
    /// The number of proxies that may share the cluster's ceiling.
    pub(super) members: u32,
}

/// The inputs of the signals besides the endpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Inputs {
    pub(super) given: Given,
    pub(super) ceiling: Option<u32>,
    pub(super) distance: Option<f64>,
    pub(super) awaits_undrain: bool,
    pub(super) held_until: Option<Timestamp>,
    pub(super) return_share: f64,
}

/// The part of the signals that describes the endpoints.
#[derive(Debug, Default)]
pub(super) struct OfEndpoints {
    pub(super) endpoints: Arc<Table<EndpointIndex, EndpointSignals>>,
    pub(super) usable: Arc<[EndpointIndex]>,
    pub(super) returned: Vec<EndpointIndex>,
    pub(super) wheel: Arc<Wheel>,
    /// How many are up, and the last failure of the first that is not.
    pub(super) up: usize,
    pub(super) last_error: Option<Cause>,
}

/// The signals as they were last made.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) of_endpoints: OfEndpoints,
    /// The signals, and what they were made of; `None` if the endpoints have changed since.
    pub(super) signals: Option<(Inputs, Arc<ClusterSignals>)>,
}

impl Published {
    /// Adopts what is known of the endpoints after a sweep.
    pub(super) fn observe(&mut self, of_endpoints: OfEndpoints) {
        *self = Published { of_endpoints, signals: None };
    }
}
