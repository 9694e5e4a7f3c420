//! Kubernetes in a build without the cargo feature `k8s`: the configuration refuses `discover.kubernetes`, so nobody
//! follows it.

use super::Teller;
use crate::decision::plan::Kubernetes;

/// Does nothing.
pub(super) fn follow(_source: Kubernetes, _teller: Teller) -> std::future::Ready<()> {
    std::future::ready(())
}
