//! The addresses beside the listeners and the admin API: of the KEDA external scaler, and of the metrics.

use super::error::Problems;
use super::file::File;
use super::listeners::overlaps;
use super::scalar::ListenAddress;
use super::shape::Spanned;
use crate::decision::plan::{Address, Plan, Transport};
use std::net::SocketAddr;

type Written<'a> = Option<&'a Spanned<ListenAddress>>;

fn scaler_written(file: &File) -> Written<'_> {
    file.scaling.as_ref()?.address.as_ref()
}

fn metrics_written(file: &File) -> Written<'_> {
    file.admin.as_ref()?.metrics.as_ref()
}

/// The address of the KEDA external scaler.
pub(super) fn scaler(file: &File, problems: &mut Problems) -> Option<SocketAddr> {
    ip(scaler_written(file), "scaling.address", "KEDA connects over TCP", problems)
}

/// The address that serves metrics and health alone.
pub(super) fn metrics(file: &File, problems: &mut Problems) -> Option<SocketAddr> {
    let why = "metrics are read over TCP: a unix socket is `admin.address`";
    ip(metrics_written(file), "admin.metrics", why, problems)
}

fn ip(written: Written<'_>, key: &str, why: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let Spanned { value, at } = written?;
    match &value.0 {
        Address::Ip(address) => Some(*address),
        Address::Unix(_) => {
            problems.error_with_hint(*at, key, why, "write IP:PORT");
            None
        }
    }
}

/// Reports addresses that a listener, the admin API, or the other of the two already has.
pub(super) fn check_overlap(
    file: &File,
    plan: &Plan,
    admin: Option<&Address>,
    problems: &mut Problems,
) {
    let listeners = plan
        .listeners
        .iter()
        .filter(|listener| listener.transports().any(|transport| transport == Transport::Stream))
        .map(|other| (format!("listener `{}`", other.name), other.address.clone()));
    let admin = admin.map(|address| ("the admin API".to_owned(), address.clone()));
    let mut taken: Vec<(String, Address)> = listeners.chain(admin).collect();
    for (key, written) in
        [("scaling.address", scaler_written(file)), ("admin.metrics", metrics_written(file))]
    {
        let Some(Spanned { value, at }) = written else { continue };
        if let Some((who, address)) = taken.iter().find(|(_, known)| overlaps(known, &value.0)) {
            let message = format!("`{}` overlaps {who} ({address})", value.0);
            problems.error(*at, key, message);
        }
        taken.push((format!("`{key}`"), value.0.clone()));
    }
}
