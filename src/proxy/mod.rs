//! The data plane: connections in, exchanges out. It knows a plan and a view, never a file format.
//!
//! Everything here runs on one worker's thread and is shared by `Rc`; nothing locks. `l7` serves
//! HTTP, `l4` carries bytes, `upstream` has the connections towards clusters.

pub mod accept;
pub mod admission;
pub mod body;
pub mod buffer;
pub mod coalesce;
pub mod deadline;
pub mod l4;
pub mod l7;
pub mod leavers;
pub mod ping;
pub mod refusal;
pub mod selection;
pub mod tunnel;
pub mod udp;
pub mod upstream;
pub mod worker;
