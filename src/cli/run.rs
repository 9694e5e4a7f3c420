//! `tidegate run`

use super::welcome::{welcome, without_a_file};
use super::{fail, read_config};
use crate::config::{Bootstrap, Documents, Settings, load_documents};
use crate::server::key_origin::KeyOrigin;
use crate::server::logs::own_log;
use crate::server::origin::{Loaded, Origin};
use crate::server::{Options, Running, StartError, run as run_server, use_small_pages};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The origin of the configuration, its settings, and the loaded configuration if it need not be loaded again.
type Started = (Origin, Settings, Option<Box<Loaded>>);

/// Runs the proxy until it stops.
pub(super) fn run(path: &Path) -> ExitCode {
    // Before anything that stays is allocated.
    use_small_pages();
    if path != Path::new("-") && !path.exists() {
        return fail(&without_a_file(&format!("there is no file {}", path.display())));
    }
    let (text, folder) = match read_config(path) {
        Ok(read) => read,
        Err(message) => return fail(&message),
    };
    let variable = |name: &str| std::env::var(name).ok();
    let documents = Documents::read(text, &folder, &variable, None);
    let mut outcome = load_documents(&documents, &folder, &variable);
    let started = match (&outcome.config, outcome.bootstrap.take()) {
        (Some(config), _) => {
            let settings = config.settings.clone();
            match path == Path::new("-") {
                // Loaded again, since what was logged before the log exists is lost.
                true => Ok((Origin::Text(documents.main), settings, None)),
                false => {
                    let loaded = Loaded { documents: Arc::new(documents), outcome };
                    Ok((Origin::File(path.to_path_buf()), settings, Some(Box::new(loaded))))
                }
            }
        }
        (None, Some(bootstrap)) => from_key(bootstrap, folder),
        (None, None) => {
            for problem in &outcome.problems {
                eprintln!("{}", problem.render(&path.display().to_string()));
            }
            return fail("the configuration has errors; nothing was started");
        }
    };
    let (origin, settings, loaded) = match started {
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
    match run_server(Options { origin, loaded, signals: true, pin: true, log }, greet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Io(message)) => fail(&message),
        Err(StartError::Config(problems)) => {
            let all: Vec<String> = problems.iter().map(|p| p.render(&name)).collect();
            fail(&format!("cannot start\n{}", all.join("\n")))
        }
    }
}

/// The configuration that a key in NATS holds, or the last good one.
fn from_key(bootstrap: Bootstrap, folder: PathBuf) -> Result<Started, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (key, config) = runtime.block_on(KeyOrigin::start(bootstrap, folder))?;
    Ok((Origin::Key(Arc::new(key)), config.settings, None))
}
