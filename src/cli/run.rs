//! `tidegate run`

use super::{fail, read_config};
use crate::config::{Config, load};
use crate::server::logs::own_log;
use crate::server::origin::Origin;
use crate::server::{Options, StartError, run as run_server};
use std::path::Path;
use std::process::ExitCode;

/// Runs the proxy until it stops.
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
    let log = match own_log(&settings) {
        Ok(log) => Some(log),
        Err(message) => return fail(&message),
    };
    let origin = match path == Path::new("-") {
        true => Origin::Text(text),
        false => Origin::File(path.to_path_buf()),
    };
    match run_server(Options { origin, signals: true, pin: true, log }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Io(message)) => fail(&message),
        Err(StartError::Config(problems)) => {
            let all: Vec<String> =
                problems.iter().map(|p| p.render(&path.display().to_string())).collect();
            fail(&format!("cannot start\n{}", all.join("\n")))
        }
    }
}
