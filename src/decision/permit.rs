//! The hard constraints: which clusters may serve an exchange at all. Checked before any score.
//!
//! Nothing relaxes them: not an outage, not a retry, not an operator's dial. Whoever is not named
//! as permitted is not permitted.

use super::plan::{Cluster, ClusterIndex};

/// Why a cluster may not serve.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// It is of another environment.
    Environment,
    /// It does not accept a data class of the exchange.
    DataClass,
    /// It lacks a needed capability.
    Needs,
}

impl Reason {
    /// The word the API and the explain header use.
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
    /// Those that may, in the service's order.
    pub clusters: Vec<ClusterIndex>,
    /// Those that may not.
    pub rejected: Vec<(ClusterIndex, Reason)>,
}

/// What an exchange demands of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// Its environment.
    pub environment: &'a str,
    /// All its data classes.
    pub data: &'a [String],
    /// All its needs.
    pub needs: &'a [String],
}

/// Sorts `candidates` by whether they meet the demands.
#[must_use]
pub fn permit(
    demands: Demands<'_>,
    candidates: &[ClusterIndex],
    clusters: &[Cluster],
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
