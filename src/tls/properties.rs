//! Properties that hold for any bytes: see `http::properties`.
//!
//! # Panics
//! When a property does not hold: callers are tests and fuzz targets.

use super::hello::Hello;

/// A ClientHello has the same server name however its bytes are fragmented.
pub fn hello(bytes: &[u8]) {
    let whole = Hello::default().read(bytes);
    for cut in (1..bytes.len()).step_by(bytes.len() / 16 + 1) {
        let mut hello = Hello::default();
        let Ok(first) = hello.read(&bytes[..cut]) else { continue };
        let read = match first {
            Some(name) => Ok(Some(name)),
            None => hello.read(&bytes[cut..]),
        };
        if let (Ok(Some(whole)), Ok(Some(read))) = (&whole, &read) {
            assert_eq!(whole, read, "cut at {cut}");
        }
        // A ClientHello in one record is also one in two records.
        assert!(whole.as_ref().is_ok_and(Option::is_some) <= read.is_ok_and(|name| name.is_some()));
    }
}
