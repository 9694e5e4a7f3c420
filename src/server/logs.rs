//! The logs of the process, which settings and signals change.

use super::files;
use crate::config::{Settings, file::AccessLogFormat, file::LogFormat, file::LogLevel};
use crate::telemetry::access_log::{AccessLog, Format};
use crate::telemetry::cells::Registry;
use crate::telemetry::log::Log;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The queue of access log lines.
const WAITING: usize = 65_536;

/// The access log and the process's own log.
#[derive(Debug)]
pub struct Logs {
    access: AccessLog,
    access_path: watch::Sender<String>,
    own: Option<Arc<Log>>,
    own_path: String,
}

impl Logs {
    /// Starts the access log according to `settings`, and the task that writes it; `own` is the process
    /// log.
    #[must_use]
    pub fn start(
        settings: &Settings,
        own: Option<Arc<Log>>,
        registry: Arc<Registry>,
    ) -> (Logs, JoinHandle<()>) {
        let (access, lines) = AccessLog::new(format(settings), WAITING, registry.clone());
        let (access_path, path) = watch::channel(settings.access_log_path.clone());
        let writer = tokio::spawn(files::write_lines(lines, path, registry));
        (Logs { access, access_path, own, own_path: settings.log_path.clone() }, writer)
    }

    /// The access log that workers write to.
    #[must_use]
    pub fn access(&self) -> &AccessLog {
        &self.access
    }

    /// Applies new settings. The format of the process's own log is fixed at the start.
    pub fn apply(&mut self, settings: &Settings) {
        self.access.set_format(format(settings));
        let path = &settings.access_log_path;
        self.access_path.send_if_modified(|now| {
            let differs = now != path;
            now.clone_from(path);
            differs
        });
        let Some(own) = &self.own else { return };
        own.set_level(level(settings.log_level));
        if self.own_path != settings.log_path {
            own.write_to(&settings.log_path);
            self.own_path.clone_from(&settings.log_path);
        }
    }

    /// Reopens the files, for example after log rotation.
    pub fn reopen(&self) {
        self.access_path.send_modify(|_| {});
        if let Some(own) = &self.own {
            own.write_to(&self.own_path);
        }
    }
}

/// Starts the process's own log.
///
/// # Errors
/// When the file cannot be opened.
pub fn own_log(settings: &Settings) -> Result<Arc<Log>, String> {
    let json = settings.log_format == LogFormat::Json;
    Log::start(&settings.log_path, level(settings.log_level), json).map(Arc::new)
}

/// The level in the form that the log expects.
fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn format(settings: &Settings) -> Format {
    match settings.access_log {
        AccessLogFormat::Json => Format::Json,
        AccessLogFormat::Common => Format::Common,
        AccessLogFormat::Off => Format::Off,
    }
}
