//! Settings of the process: workers, admin API, logs, drain.

use super::compiler::{MODE, rooted};
use super::error::Problems;
use super::file::{self, File};
use super::fleet;
use super::nats;
use super::scalar::{AddressOrOff, Workers};
use super::scaling;
use super::secrets;
use super::sockets;
use super::tracing;
use crate::decision::fleet::{Nats, Peer};
use crate::decision::plan::Address;
use crate::decision::scaling::Webhook;
use crate::decision::traces::Collector;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The number of worker threads; `None` is one for each usable core.
    pub workers: Option<usize>,
    /// The address of the admin API.
    pub admin: Option<Address>,
    /// Permissions of the admin API's unix socket.
    pub admin_mode: u32,
    /// The file with the admin token.
    pub admin_token_file: Option<PathBuf>,
    /// The file with the token that permits fleet reports alone.
    pub fleet_token_file: Option<PathBuf>,
    /// Further values of `Host` that the admin API accepts.
    pub admin_hosts: Vec<String>,
    /// The format of the access log.
    pub access_log: file::AccessLogFormat,
    /// `stdout`, `stderr` or a path.
    pub access_log_path: String,
    /// The level of the log.
    pub log_level: file::LogLevel,
    /// The format of the log.
    pub log_format: file::LogFormat,
    /// `stdout`, `stderr` or a path.
    pub log_path: String,
    /// The time from failing readiness to closing the listeners.
    pub drain_delay: Duration,
    /// The time from closing the listeners to the end of the process.
    pub drain_deadline: Duration,
    /// The folder for state that survives a restart.
    pub state_dir: Option<PathBuf>,
    /// The proxies whose reports are requested.
    pub peers: Vec<Peer>,
    /// The NATS cluster on which proxies publish their reports.
    pub nats: Option<Nats>,
    /// The collector of traces.
    pub collector: Option<Collector>,
    /// The address that serves metrics and health alone.
    pub metrics: Option<SocketAddr>,
    /// The address of the KEDA external scaler.
    pub scaler: Option<SocketAddr>,
    /// The receiver of webhooks.
    pub webhook: Option<Webhook>,
}

/// Compiles the settings and reports problems.
pub(super) fn settings(file: &File, folder: &Path, problems: &mut Problems) -> Settings {
    let admin = file.admin.as_ref();
    let address = match admin.and_then(|admin| admin.address.clone()) {
        Some(AddressOrOff(address)) => address.map(|address| rooted(&address, folder)),
        None => Some(Address::Ip(([127, 0, 0, 1], 9901).into())),
    };
    let off_loopback = matches!(&address, Some(Address::Ip(ip)) if !ip.ip().is_loopback());
    if let Some(admin) =
        admin.filter(|admin| off_loopback && admin.insecure != Some(true) && admin.tls.is_none())
    {
        let hint = "listen on 127.0.0.1, set `admin.tls`, or `admin.insecure: true`";
        let message = "the admin API would listen on a non-loopback address without TLS";
        problems.error_with_hint(admin.at, "admin.address", message, hint);
    }
    let token_file = admin.and_then(|admin| admin.token_file.as_ref());
    let admin_token_file =
        token_file.map(|token| secrets::token_file(problems, folder, token, "admin.token_file"));
    let (log, access_log, drain) =
        (file.log.as_ref(), file.access_log.as_ref(), file.drain.as_ref());
    Settings {
        workers: match file.runtime.as_ref().and_then(|runtime| runtime.workers) {
            Some(Workers::Count(count)) => Some(count),
            Some(Workers::Auto) | None => None,
        },
        admin: address,
        admin_mode: admin.and_then(|admin| admin.mode).map_or(MODE, |mode| mode.0),
        fleet_token_file: fleet::token_file(file, folder, admin_token_file.as_deref(), problems),
        admin_token_file,
        admin_hosts: admin.and_then(|admin| admin.allowed_hosts.clone()).unwrap_or_default(),
        access_log: access_log.and_then(|log| log.format).unwrap_or(file::AccessLogFormat::Json),
        access_log_path: log_path(access_log.and_then(|log| log.path.clone()), "stdout", folder),
        log_level: log.and_then(|log| log.level).unwrap_or(file::LogLevel::Info),
        log_format: log.and_then(|log| log.format).unwrap_or(file::LogFormat::Text),
        log_path: log_path(log.and_then(|log| log.path.clone()), "stderr", folder),
        drain_delay: drain.and_then(|drain| drain.delay).unwrap_or_default(),
        drain_deadline: drain.and_then(|drain| drain.deadline).unwrap_or(Duration::from_secs(30)),
        state_dir: file.state_dir.as_ref().map(|path| folder.join(path)),
        peers: fleet::peers(file, folder, problems),
        nats: nats::nats(file, folder, problems),
        collector: tracing::collector(file, folder, problems),
        scaler: sockets::scaler(file, problems),
        metrics: sockets::metrics(file, problems),
        webhook: scaling::webhook(file, folder, problems),
    }
}

fn log_path(written: Option<String>, default: &str, folder: &Path) -> String {
    match written.as_deref() {
        None => default.to_owned(),
        Some(stream @ ("stdout" | "stderr")) => stream.to_owned(),
        Some(path) => folder.join(path).to_string_lossy().into_owned(),
    }
}
