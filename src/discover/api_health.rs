//! How the API servers of Kubernetes clusters answer: the time of the last answer, and failures by reason.

use crate::decision::units::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Why an answer of an API server was not used, or not used in full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// There are no credentials: a kubeconfig, token or plugin is missing or broken.
    Credentials,
    /// There is no connection, or it broke.
    Connect,
    /// There was no answer in time.
    Timeout,
    /// 401: the token is unknown or has expired.
    Unauthorized,
    /// 403: the role lacks a permission.
    Forbidden,
    /// 410: the version to continue from is gone, and the list is read anew.
    Expired,
    /// Another status.
    Status,
    /// The answer is not what the API defines.
    Malformed,
    /// The answer is beyond a bound.
    TooLarge,
    /// An address cannot be an endpoint. The other endpoints are used.
    Address,
    /// Slices lack the configured port. The other slices are used.
    Port,
    /// Slices belong to another Service. The other slices are used.
    Foreign,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 12] = [
        Fault::Credentials,
        Fault::Connect,
        Fault::Timeout,
        Fault::Unauthorized,
        Fault::Forbidden,
        Fault::Expired,
        Fault::Status,
        Fault::Malformed,
        Fault::TooLarge,
        Fault::Address,
        Fault::Port,
        Fault::Foreign,
    ];

    /// The reason in metrics and the log.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Fault::Credentials => "credentials",
            Fault::Connect => "connect",
            Fault::Timeout => "timeout",
            Fault::Unauthorized => "unauthorized",
            Fault::Forbidden => "forbidden",
            Fault::Expired => "expired",
            Fault::Status => "status",
            Fault::Malformed => "malformed",
            Fault::TooLarge => "too_large",
            Fault::Address => "address",
            Fault::Port => "port",
            Fault::Foreign => "foreign",
        }
    }
}

/// The health of one API server, as seen for one cluster.
#[derive(Clone, Debug, Default)]
pub struct ApiHealth {
    /// The last answer; `None` before the first.
    pub answered: Option<Timestamp>,
    faults: [u64; Fault::ALL.len()],
}

impl ApiHealth {
    /// Counts a fault.
    pub fn count(&mut self, fault: Fault) {
        let place = Fault::ALL.iter().position(|known| *known == fault);
        if let Some(count) = place.and_then(|place| self.faults.get_mut(place)) {
            *count += 1;
        }
    }

    /// The counts of all faults, by label.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, u64)> {
        Fault::ALL.iter().map(|fault| fault.label()).zip(self.faults).collect()
    }
}

/// The health of the API server of each cluster that follows one.
pub type ApiHealths = Arc<Mutex<BTreeMap<String, ApiHealth>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_label_and_count() {
        let mut health = ApiHealth::default();
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            for _ in 0..number {
                health.count(fault);
            }
        }
        let counts: Vec<u64> = health.faults().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, (0..12).collect::<Vec<_>>());
        let labels: std::collections::BTreeSet<_> = Fault::ALL.map(Fault::label).into();
        assert_eq!(labels.len(), Fault::ALL.len());
    }
}
