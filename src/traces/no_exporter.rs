//! The exporter in a build without the cargo feature `otel`: the configuration refuses `tracing`, so none starts.

use super::Orders;
use crate::shared::Trace;
use crate::telemetry::cells::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Never exists.
#[derive(Debug)]
pub(super) enum Running {}

impl Running {
    pub(super) async fn end(self, _within: Duration) {
        match self {}
    }
}

/// Starts nothing.
pub(super) fn start(
    _queue: mpsc::Receiver<Trace>,
    _orders: watch::Receiver<Orders>,
    _registry: Arc<Registry>,
) -> Option<Running> {
    None
}
