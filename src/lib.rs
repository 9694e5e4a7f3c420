//! Tidegate.
pub mod decision;
pub mod http;
