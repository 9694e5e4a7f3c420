//! Properties that hold for any bytes: see `http::properties`.
//!
//! # Panics
//! When a property does not hold: callers are tests and fuzz targets.

use super::{basic, jwt};

/// Credentials read from an `Authorization` field are of one scheme and parts of the field.
pub fn authorization(bytes: &[u8]) {
    let (basic, bearer) = (basic::credentials(bytes), jwt::bearer(bytes));
    assert!(basic.is_none() || bearer.is_none(), "two schemes at once");
    if let Some(token) = bearer {
        assert!(token.len() < bytes.len() && !token.starts_with(' '));
    }
    if let Some(credentials) = basic {
        // Three bytes of every four.
        assert!(credentials.len() <= bytes.len() * 3 / 4);
    }
}
