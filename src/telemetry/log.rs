//! The process log: its destination and level, both changeable at run time.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::EnvFilter;

/// The process's log.
pub struct Log {
    out: Out,
    set_filter: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Destination of lines; clones share it. One lock for each line: lines are rare.
#[derive(Clone)]
struct Out(Arc<Mutex<Box<dyn Write + Send>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Opens `stdout`, `stderr` or a file; a file is appended to.
///
/// # Errors
/// The error of opening the file.
pub fn open(path: &str) -> io::Result<Box<dyn Write + Send>> {
    Ok(match path {
        "stdout" => Box::new(io::stdout()),
        "stderr" => Box::new(io::stderr()),
        path => Box::new(OpenOptions::new().create(true).append(true).mode(MODE).open(path)?),
    })
}

/// Permissions of a new log file: not every account may read client addresses and paths.
const MODE: u32 = 0o640;

/// Libraries log from level `warn`, whatever `level` is. The NATS client logs each failed attempt as an error, and
/// `fleet` logs the first.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,async_nats=off,tidegate={level}"))
}

impl Log {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// When `path` cannot be opened, or the process already has a log.
    pub fn start(path: &str, level: &str, json: bool) -> Result<Log, String> {
        let opened =
            open(path).map_err(|error| format!("log.path: cannot open {path}: {error}"))?;
        let out = Out(Arc::new(Mutex::new(opened)));
        let writer = out.clone();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter(level))
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false);
        let refused = |error| eprintln!("log.level: {error}");
        let (started, set_filter): (_, Box<dyn Fn(EnvFilter) + Send + Sync>) = if json {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter| handle.reload(filter).unwrap_or_else(refused);
            (builder.try_init(), Box::new(set))
        } else {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter| handle.reload(filter).unwrap_or_else(refused);
            (builder.try_init(), Box::new(set))
        };
        started.map_err(|error| format!("log: {error}"))?;
        Ok(Log { out, set_filter })
    }

    /// Redirects the log to `path`. If that cannot be opened, keeps the old destination and logs an error.
    pub fn write_to(&self, path: &str) {
        match open(path) {
            Ok(opened) => *self.out.0.lock().unwrap_or_else(PoisonError::into_inner) = opened,
            Err(error) => {
                tracing::error!(%error, path, "log not moved to {path}: cannot open the file")
            }
        }
    }

    /// Changes the level.
    pub fn set_level(&self, level: &str) {
        (self.set_filter)(filter(level));
    }
}
