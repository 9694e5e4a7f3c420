//! Changes of traffic that an operator makes at run time: dials, shifts, and the temporary change of a running
//! operation.
//!
//! A dial limits a cluster or a site for all services. A shift moves the traffic of one service from one cluster to
//! another. An operation (a drill, or a shift that is under way) holds a [`Temporary`] change: the change ends by itself
//! when nobody extends it, so that no crash and no lost connection leaves it in force.

use super::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A part of a service's traffic that goes to another cluster.
///
/// The cluster `to` is next in the order after `from`, whatever its distance; at 100 percent it takes the place of
/// `from`, and `from` becomes the last cluster of the order. While `to` is not live, the shift rests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Shift {
    /// The cluster that gives traffic away.
    pub from: String,
    /// The cluster that gets the traffic.
    pub to: String,
    /// The part of the exchanges of `from` that moves, in percent, from 1 to 100.
    pub percent: u8,
}

/// A change of traffic by an operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// The site keeps this part of its traffic; a service for which no other cluster is live keeps all of it.
    Site {
        /// The site's name.
        site: String,
        /// Percent.
        percent: u8,
    },
    /// A shift of a service, instead of the one that an operator set.
    Shift {
        /// The service's name.
        service: String,
        /// The shift; `None` for no shift.
        shift: Option<Shift>,
    },
}

/// A change that ends by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Temporary {
    /// The change.
    pub change: Change,
    /// The change ends at this moment.
    pub until: Timestamp,
}

/// All dials and shifts set by an operator.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Dials {
    /// Percent by cluster.
    #[serde(default)]
    pub clusters: BTreeMap<String, u8>,
    /// Percent by site.
    #[serde(default)]
    pub sites: BTreeMap<String, u8>,
    /// By service.
    #[serde(default)]
    pub shifts: BTreeMap<String, Shift>,
}
