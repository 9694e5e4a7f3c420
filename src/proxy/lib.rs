//! The data plane: client connections in, exchanges out. It depends on the plan and the view, never
//! on a file format.
//!
//! All state of a worker belongs to one thread and is shared by `Rc`, without locks. `l7` serves
//! HTTP, `l4` carries bytes, `upstream` has the connections towards clusters.

use tidegate_decision as decision;
use tidegate_http as http;
use tidegate_os as os;
use tidegate_policy as policy;
use tidegate_shared as shared;
use tidegate_telemetry as telemetry;
use tidegate_tls as tls;

pub mod accept;
pub mod admission;
pub mod body;
pub mod boxed;
pub mod buffer;
pub mod coalesce;
pub mod deadline;
#[cfg(feature = "compression")]
pub mod encoder;
#[cfg(not(feature = "compression"))]
#[path = "no_encoder.rs"]
pub mod encoder;
pub mod flow_trace;
pub mod l4;
pub mod l7;
pub mod leavers;
pub mod listener_terms;
pub mod ping;
pub mod refusal;
pub mod refusal_log;
pub mod rejected;
pub mod selection;
pub mod tunnel;
pub mod udp;
pub mod upstream;
pub mod withheld;
pub mod worker;
pub mod worker_thread;
