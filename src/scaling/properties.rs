//! Properties that hold for any bytes: see `http::properties`.
//!
//! # Panics
//! When a property does not hold: callers are tests and fuzz targets.

use super::message::{Scaled, read_metrics_request};
use super::protobuf::Writer;

/// A request of KEDA is malformed, or names a service and a cluster that read back as they were written.
pub fn request(bytes: &[u8]) {
    if let Ok((scaled, metric)) = read_metrics_request(bytes) {
        let entry = |key: &[u8], value: &str| {
            Writer::default().bytes(1, key).bytes(2, value.as_bytes()).end()
        };
        let written = Writer::default()
            .bytes(3, &entry(b"service", &scaled.service))
            .bytes(3, &entry(b"cluster", &scaled.cluster))
            .end();
        assert_eq!(Scaled::read(&written), Ok(scaled.clone()));
        let whole = Writer::default().bytes(1, &written).bytes(2, metric.as_bytes()).end();
        assert_eq!(read_metrics_request(&whole), Ok((scaled, metric)));
    }
    if let Ok(scaled) = Scaled::read(bytes) {
        assert!(scaled.service.len() + scaled.cluster.len() <= bytes.len());
    }
}
