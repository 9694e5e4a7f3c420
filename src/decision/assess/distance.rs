//! The distance of a cluster, from its own measurements, independent of which other clusters are alive.
//!
//! The distance is the kernel's round trip, unless a middlebox accepts connections for the cluster. In that case the
//! response of an http or gRPC probe takes longer than the round trip and the probe's own work together, and the
//! difference is the distance behind the middlebox. The probe's work is learned as the least excess over the round
//! trip among the clusters of a service, because they run the same application.
//!
//! # Invariants
//! * A cluster that goes down, or leaves the plan, never changes another cluster's distance. Each cluster keeps the
//!   work that it was last compared with; that work rises only while the cluster where it was observed is alive.
//!
//! # Units
//! Seconds.

use super::cluster::{ClusterState, ProbeWork};
use crate::index::Table;
use crate::plan::{ClusterIndex, Plan};

/// The rate at which the estimate of the work grows. It grows after a release that makes every health check slower.
const GROWS: f64 = 10.0;

/// For each cluster of the plan, the clusters that run the same application, itself among them.
pub(super) fn same_application(plan: &Plan) -> Table<ClusterIndex, Vec<ClusterIndex>> {
    let mut same: Table<_, _> = plan.clusters.indices().map(|cluster| vec![cluster]).collect();
    for service in &plan.services {
        for &cluster in &service.clusters {
            same[cluster].extend(&service.clusters);
        }
    }
    for clusters in same.iter_mut() {
        clusters.sort_unstable();
        clusters.dedup();
    }
    same
}

/// Compares the probes' responses of clusters that run the same application.
pub(super) fn compare(
    plan: &Plan,
    same: &Table<ClusterIndex, Vec<ClusterIndex>>,
    clusters: &mut Table<ClusterIndex, ClusterState>,
    elapsed: f64,
) {
    let excess = |index: &ClusterIndex| {
        Some((&plan.clusters[*index].name, clusters[*index].fresh_excess()?))
    };
    let mut learned = Vec::new();
    for (index, others) in same.enumerated() {
        let state = &clusters[index];
        if state.excess.is_none() {
            continue;
        }
        let measured = || others.iter().filter_map(excess);
        let Some((name, least)) = measured().min_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        let work = match &state.probe_work {
            Some(work) if least > work.seconds => {
                if !measured().any(|(name, _)| *name == work.learned_from) {
                    continue;
                }
                work.seconds + (least - work.seconds) * (1.0 - (-elapsed / GROWS).exp())
            }
            Some(_) | None => least,
        };
        learned.push((index, ProbeWork { seconds: work, learned_from: name.clone() }));
    }
    for (index, work) in learned {
        clusters[index].probe_work = Some(work);
    }
}
