//! One permitted cluster of a class at one sweep: its state, its dial and its distance.

use super::cluster::ClusterState;
use crate::plan::ClusterIndex;
use crate::units::Timestamp;

/// One permitted cluster at this sweep.
#[derive(Clone, Copy)]
pub(super) struct PermittedCluster<'a> {
    pub(super) cluster: ClusterIndex,
    pub(super) state: &'a ClusterState,
    pub(super) dial: u8,
}

/// Distance of an unmeasured cluster, beyond the farthest measured one, in seconds.
const UNMEASURED: f64 = 0.050;

impl PermittedCluster<'_> {
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.state.is_live(self.dial, now)
    }

    /// The share that dial and slow start let through.
    pub(super) fn open(&self, now: Timestamp) -> f64 {
        self.state.return_share(now) * f64::from(self.dial) / 100.0
    }
}

/// The distance of each cluster, in seconds; an unmeasured cluster counts as the farthest.
pub(super) fn distances(places: &[PermittedCluster<'_>]) -> Vec<f64> {
    let measured = || places.iter().map(|place| place.state.distance());
    let farthest = measured().flatten().fold(0.0, f64::max);
    measured().map(|distance| distance.unwrap_or(farthest + UNMEASURED)).collect()
}
