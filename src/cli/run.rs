//! `tidegate run`

use super::welcome::{welcome, without_a_file};
use super::{fail, read_config};
use crate::config::{Bootstrap, Config, load};
use crate::server::key_origin::KeyOrigin;
use crate::server::logs::own_log;
use crate::server::origin::Origin;
use crate::server::{Options, Running, StartError, run as run_server};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the proxy until it stops.
pub(super) fn run(path: &Path) -> ExitCode {
    if path != Path::new("-") && !path.exists() {
        return fail(&without_a_file(&format!("there is no file {}", path.display())));
    }
    let (text, folder) = match read_config(path) {
        Ok(read) => read,
        Err(message) => return fail(&message),
    };
    let outcome = load(&text, &folder, &|name| std::env::var(name).ok());
    let started = match (outcome.config, outcome.bootstrap) {
        (Some(config), _) if path == Path::new("-") => Ok((Origin::Text(text), config)),
        (Some(config), _) => Ok((Origin::File(path.to_path_buf()), config)),
        (None, Some(bootstrap)) => from_key(bootstrap, folder),
        (None, None) => {
            for problem in &outcome.problems {
                eprintln!("{}", problem.render(&path.display().to_string()));
            }
            return fail("the configuration has errors; nothing was started");
        }
    };
    let (origin, Config { settings, .. }) = match started {
        Ok(started) => started,
        Err(message) => return fail(&format!("{message}\nnothing was started")),
    };
    let log = match own_log(&settings) {
        Ok(log) => Some(log),
        Err(message) => return fail(&message),
    };
    let name = origin.name();
    let greet = |running: &Running| {
        // For people: programs read the log.
        if std::io::stderr().is_terminal() {
            let plan = &running.shared.view.load().plan;
            eprintln!("{}", welcome(plan, &running.addresses, running.admin.as_ref(), path));
        }
    };
    match run_server(Options { origin, signals: true, pin: true, log }, greet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Io(message)) => fail(&message),
        Err(StartError::Config(problems)) => {
            let all: Vec<String> = problems.iter().map(|p| p.render(&name)).collect();
            fail(&format!("cannot start\n{}", all.join("\n")))
        }
    }
}

/// The configuration that a key in NATS holds, or the last good one.
fn from_key(bootstrap: Bootstrap, folder: PathBuf) -> Result<(Origin, Config), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (key, config) = runtime.block_on(KeyOrigin::start(bootstrap, folder))?;
    Ok((Origin::Key(Arc::new(key)), config))
}
