//! Access to the kernel: time, sockets, cores, figures of the process.

use tidegate_decision as decision;

pub mod clock;
pub mod cores;
pub mod datagram;
pub mod inherit;
pub mod line_meter;
pub mod listen;
pub mod notify;
pub mod pipe;
pub mod private_file;
pub mod process;
pub mod proxy_header;
pub mod secure;
pub mod stream;
pub mod tcp_info;
pub mod turn;
pub mod watch;
