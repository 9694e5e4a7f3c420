//! The lines of capacity groups: exchanges at once, and bytes a second by the allowance that the proxy uses.
//!
//! # Units
//! Bytes and seconds of virtual time.

use super::policy::Edge;
use decision::capacity_group::{GroupIndex, allowance};
use decision::plan::{ClusterIndex, Plan};

/// The lines of one proxy.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By group: the bytes so far, and those that the line may have carried.
    all: Vec<(u64, Option<u64>)>,
    swept: f64,
}

impl Lines {
    /// Extends the allowances.
    pub(super) fn sweep(&mut self, plan: &Plan, now: f64) {
        let elapsed = (now - self.swept).max(0.0);
        self.swept = now;
        self.all.resize(plan.groups.len(), (0, None));
        for ((carried, allowed), group) in self.all.iter_mut().zip(&plan.groups) {
            let limit = group.bytes_per_s;
            *allowed = limit.map(|limit| allowance(*carried, *allowed, limit, elapsed));
        }
    }

    /// Counts the bytes of a response from a place. The proxy counts them while they arrive; the mean is the same.
    pub(super) fn carry(&mut self, plan: &Plan, place: usize, bytes: f64) {
        let group = plan.clusters.get(ClusterIndex(place)).and_then(|cluster| cluster.group);
        if let Some((carried, _)) = group.and_then(|GroupIndex(at)| self.all.get_mut(at)) {
            *carried += bytes.max(0.0) as u64;
        }
    }

    /// Whether the line to a cluster takes no further exchange.
    pub(super) fn is_full(&self, plan: &Plan, edge: &Edge, cluster: ClusterIndex) -> bool {
        let Some(group) = plan.clusters[cluster].group else { return false };
        let line = self.all.get(group.0);
        if line.is_some_and(|(carried, allowed)| allowed.is_some_and(|most| *carried >= most)) {
            return true;
        }
        let Some(most) = plan.groups.get(group).and_then(|group| group.concurrent) else {
            return false;
        };
        let same = plan.clusters.enumerated().filter(|(_, other)| other.group == Some(group));
        same.map(|(index, _)| edge.at(index.0)).sum::<u32>() >= most
    }
}
