//! The collector of traces, and the share of traces that are recorded.

use super::error::Problems;
use super::file::File;
use super::fleet::split;
use crate::decision::plan::UpstreamTls;
use crate::decision::traces::{Collector, Sampling};
use crate::tls::client;
use std::net::IpAddr;
use std::path::Path;

/// The default share of traces that are recorded.
const RATIO: f64 = 0.01;

/// Compiles the collector of `tracing`, and reports problems.
pub(super) fn collector(file: &File, folder: &Path, problems: &mut Problems) -> Option<Collector> {
    const KEY: &str = "tracing.otlp";
    let written = file.tracing.as_ref()?;
    if !cfg!(feature = "otel") {
        let message = "this build has no OpenTelemetry: it needs the cargo feature `otel`";
        problems.error_with_hint(written.at, "tracing", message, "build with `--features otel`");
        return None;
    }
    if written.sample_ratio.is_some_and(|ratio| ratio.0 > 1.0) {
        let message = "must be from 0 to 1: recorded traces as a share of all";
        problems.error(written.at, "tracing.sample_ratio", message);
    }
    let url = &written.otlp;
    let Some((secure, host, port)) = split(&url.value) else {
        let message = format!("`{}` is not a URL such as http://HOST:4317", url.value);
        problems.error_with_hint(url.at, KEY, message, "OTLP over gRPC, usually port 4317");
        return None;
    };
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !secure && !is_local {
        let message = "paths and client addresses would be sent in plain text";
        problems.warning(url.at, KEY, message, "set up TLS at the collector, and write https://");
    }
    let ca = written.ca.as_ref().map(|ca| {
        let path = folder.join(&ca.value);
        if !secure {
            let message = "is used only with an https URL: remove it, or write https://";
            problems.error(ca.at, "tracing.ca", message);
            return path;
        }
        let (server_name, client, alpn) = (None, None, Vec::new());
        let terms = UpstreamTls { server_name, ca: Some(path.clone()), client, alpn };
        if let Err(error) = client::build(&terms, 0) {
            problems.error(ca.at, "tracing.ca", error);
        }
        path
    });
    Some(Collector { url: url.value.clone(), secure, host, port, ca })
}

/// The traces to record.
pub(super) fn sampling(file: &File) -> Option<Sampling> {
    let ratio = file.tracing.as_ref()?.sample_ratio;
    Some(Sampling::of(ratio.map_or(RATIO, |ratio| ratio.0)))
}
