//! Orders in a build without the cargo feature `acme`: the configuration refuses `tls.acme`, so nothing is ordered.

use super::{Certificates, Names};
use crate::decision::acme::Directory;
use std::path::PathBuf;
use std::sync::Arc;

/// Does nothing.
pub(super) fn follow(
    _certificates: Arc<Certificates>,
    _directory: Directory,
    _names: Names,
) -> std::future::Ready<()> {
    std::future::ready(())
}

/// Does nothing.
pub(super) fn answer(_certificates: Arc<Certificates>, _folder: PathBuf) -> std::future::Ready<()> {
    std::future::ready(())
}
