//! NATS in a build without the cargo feature `nats`: the configuration refuses `fleet.nats`, so nobody follows it.

use super::Fleet;
use crate::decision::fleet::Nats;
use std::sync::Arc;

/// Does nothing.
pub(super) fn follow(_fleet: Arc<Fleet>, _nats: Nats) -> std::future::Ready<()> {
    std::future::ready(())
}
