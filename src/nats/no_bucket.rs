//! Keys in NATS in a build without the cargo feature `nats`: the configuration refuses them, so nobody follows one.

use super::key::{Ask, Found, Seen};
use crate::decision::nats::BucketKey;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Does nothing.
pub fn follow(
    _key: BucketKey,
    _seen: Arc<watch::Sender<Seen>>,
    _asked: mpsc::Receiver<Ask>,
) -> std::future::Ready<()> {
    std::future::ready(())
}

/// Always fails.
///
/// # Errors
/// This build has no NATS.
pub fn read_once(_key: &BucketKey) -> std::future::Ready<Result<Found, String>> {
    std::future::ready(Err("this build has no NATS".to_owned()))
}
