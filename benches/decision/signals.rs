//! The signals of a cluster for the decision's benchmark, and for the test that counts its instructions.

use std::sync::Arc;
use tidegate::decision::endpoint::{Cost, prepare};
use tidegate::decision::index::{EndpointIndex, Table};
use tidegate::decision::plan::Address;
use tidegate::decision::signal::{ClusterSignals, EndpointSignals};

/// A cluster with this number of endpoints, of unequal response times, all of them up.
pub(super) fn cluster(endpoints: usize, weight: &dyn Fn(usize) -> f64) -> ClusterSignals {
    let endpoint = |index: usize| EndpointSignals {
        id: index as u32,
        address: Address::Ip(([127, 0, 0, 1], 80).into()),
        weight: weight(index),
        up: true,
        rtt: Some(0.001),
        latency: 0.020,
        slowness: 1.0 + 0.5 * (index % 7) as f64,
        trickle: (0.03, 2.0),
        returns: 0,
        cost: Cost::default(),
        requests_per_s: 0.0,
        last_error: None,
    };
    let usable: Arc<[EndpointIndex]> = (0..endpoints).map(EndpointIndex).collect();
    let mut endpoints: Table<_, _> = (0..endpoints).map(endpoint).collect();
    let wheel = prepare(&mut endpoints, &usable, |index| weight(index.0));
    ClusterSignals {
        dial: 100,
        rtt: Some(0.001),
        distance: Some(0.001),
        endpoints: Arc::new(endpoints),
        usable,
        members: 1,
        wheel: Arc::new(wheel),
        ..ClusterSignals::default()
    }
}
