//! The hard constraints: which clusters may serve an exchange. They are checked before any score.
//!
//! No outage, no retry and no operator's dial relaxes the constraints. A cluster that is not listed
//! as permitted is not permitted.

use super::index::Table;
use super::plan::{Cluster, ClusterIndex};

/// Why a cluster may not serve.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// The cluster belongs to another environment.
    Environment,
    /// The cluster does not accept a data class of the exchange.
    DataClass,
    /// The cluster lacks a needed capability.
    Needs,
}

impl Reason {
    /// All reasons, in the order in which they are checked.
    pub const ALL: &[Reason] = &[Reason::Environment, Reason::DataClass, Reason::Needs];

    /// The word in the API and in the explain header.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Reason::Environment => "environment",
            Reason::DataClass => "data_class",
            Reason::Needs => "needs",
        }
    }
}

/// A service's clusters, sorted by whether they may serve.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Permitted {
    /// Permitted clusters, in the service's order.
    pub clusters: Vec<ClusterIndex>,
    /// Rejected clusters, with the reason.
    pub rejected: Vec<(ClusterIndex, Reason)>,
}

/// The demands of an exchange on a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// The exchange's environment.
    pub environment: &'a str,
    /// All data classes of the exchange.
    pub data: &'a [String],
    /// All capabilities that the exchange needs.
    pub needs: &'a [String],
}

/// Sorts `candidates` by whether they meet the demands.
#[must_use]
pub fn permit(
    demands: Demands<'_>,
    candidates: &[ClusterIndex],
    clusters: &Table<ClusterIndex, Cluster>,
) -> Permitted {
    let mut permitted = Permitted::default();
    for &index in candidates {
        match objection(demands, &clusters[index]) {
            None => permitted.clusters.push(index),
            Some(reason) => permitted.rejected.push((index, reason)),
        }
    }
    permitted
}

fn objection(demands: Demands<'_>, cluster: &Cluster) -> Option<Reason> {
    if cluster.environment != demands.environment {
        return Some(Reason::Environment);
    }
    if !demands.data.iter().all(|class| cluster.accepts.contains(class)) {
        return Some(Reason::DataClass);
    }
    if !demands.needs.iter().all(|need| cluster.offers.contains(need)) {
        return Some(Reason::Needs);
    }
    None
}
