//! `tidegate run`

use super::{fail, read_config};
use crate::config::{Config, Settings, file::LogFormat, file::LogLevel, load};
use crate::server::reload::Origin;
use crate::server::{Options, StartError, run as run_server};
use std::path::Path;
use std::process::ExitCode;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Runs the proxy until it is told to stop.
pub(super) fn run(path: &Path) -> ExitCode {
    let (text, folder) = match read_config(path) {
        Ok(read) => read,
        Err(message) => return fail(&message),
    };
    let outcome = load(&text, &folder, &|name| std::env::var(name).ok());
    let Some(Config { settings, .. }) = outcome.config else {
        for problem in &outcome.problems {
            eprintln!("{}", problem.render(&path.display().to_string()));
        }
        return fail("the configuration has errors; nothing was started");
    };
    if let Err(message) = start_log(&settings) {
        return fail(&message);
    }
    let origin = match path == Path::new("-") {
        true => Origin::Text(text),
        false => Origin::File(path.to_path_buf()),
    };
    match run_server(Options { origin, signals: true, pin: true }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Io(message)) => fail(&message),
        Err(StartError::Config(problems)) => {
            let all: Vec<String> =
                problems.iter().map(|p| p.render(&path.display().to_string())).collect();
            fail(&format!("cannot start\n{}", all.join("\n")))
        }
    }
}

fn start_log(settings: &Settings) -> Result<(), String> {
    let level = match settings.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries speak from warnings up, whatever we were asked to say.
    let filter = format!("warn,tidegate={level}");
    let writer = match settings.log_path.as_str() {
        "stdout" => BoxMakeWriter::new(std::io::stdout),
        "stderr" => BoxMakeWriter::new(std::io::stderr),
        path => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|error| format!("log.path: cannot open {path}: {error}"))?;
            BoxMakeWriter::new(std::sync::Mutex::new(file))
        }
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false);
    let started = match settings.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| format!("log: {error}"))
}
