//! Tidegate.
pub mod config;
pub mod decision;
pub mod http;
pub mod os;
pub mod proxy;
pub mod shared;
pub mod telemetry;
