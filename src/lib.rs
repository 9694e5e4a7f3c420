//! Tidegate.
pub mod config;
pub mod decision;
pub mod http;
