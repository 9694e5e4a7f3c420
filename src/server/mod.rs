//! The top module, which uses all others: threads, start, reload, drain, stop.

mod backend;
mod balances;
mod config_watch;
#[cfg(test)]
mod constraints;
pub mod control;
pub mod files;
mod fresh;
pub mod kept;
pub mod key_origin;
mod last_read;
pub mod logs;
mod main_task;
pub mod origin;
pub mod properties;
pub mod reload;
mod reports;
pub mod run;
mod signals;
mod sockets;
mod status;
mod upgrade;

pub use crate::os::process::use_small_pages;
pub use run::{Options, Running, StartError, run, start};
