//! Tidegate.
pub mod admin;
pub mod cli;
pub mod config;
pub mod decision;
pub mod discover;
pub mod http;
pub mod os;
pub mod probe;
pub mod proxy;
pub mod server;
pub mod shared;
pub mod telemetry;
