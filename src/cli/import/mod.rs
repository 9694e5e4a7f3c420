//! `tidegate import`: from the configuration of nginx, HAProxy or Traefik to one of Tidegate.
//!
//! [`nginx`], [`haproxy`] and [`traefik`] read a format and fill a [`model`]; [`order`] turns rules in order into routes
//! by specificity; [`write`] writes the YAML. Everything that is not translated is a note with its line.
//!
//! # Not here
//! Whether the result is valid: the text is loaded as `tidegate check` does, and the problems are printed.

mod capabilities;
mod companions;
mod compression;
mod conditions;
mod document;
mod files;
mod haproxy;
mod hoist;
mod model;
mod nginx;
mod order;
mod pages;
mod pattern;
mod repair;
mod traefik;
mod write;

#[cfg(test)]
mod tests;

use super::{FAILED, print};
use crate::config::Severity;
use capabilities::Capabilities;
use files::{Disk, Files};
use model::Model;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use write::Written;

/// The exit code when something was not translated.
const INCOMPLETE: u8 = 3;

/// The options of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The program whose configuration is read.
    #[arg(value_enum)]
    format: Format,
    /// Its configuration files: nginx.conf; haproxy.cfg; Traefik's static and dynamic files in YAML or TOML, or a
    /// Docker Compose file with labels.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write the configuration to this file instead of standard output, and password files and error pages of the
    /// original beside it.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A format that can be imported.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// nginx.conf, with the files that it includes.
    Nginx,
    /// haproxy.cfg.
    Haproxy,
    /// Traefik 2 and 3: YAML or TOML files, or Docker Compose with labels.
    Traefik,
}

/// Why a file cannot be imported at all.
#[derive(Debug, Eq, PartialEq)]
struct Unreadable(String);

/// Reads the files and writes the equivalent configuration. Exit code 0: everything is translated; 1: a file could not be
/// read; 3: something was not translated.
pub(super) fn import(options: &Options) -> ExitCode {
    let disk = Disk { has_output: options.output.is_some() };
    let written = match translate(options.format, &options.files, &disk) {
        Ok(written) => written,
        Err(Unreadable(message)) => return super::fail(&message),
    };
    for line in &written.remarks {
        eprintln!("{line}");
    }
    let folder = options.output.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    match companions::write(folder, &written.companions) {
        Ok(told) => told.iter().for_each(|line| eprintln!("{line}")),
        Err(message) => return super::fail(&message),
    }
    let outcome = crate::config::load(&written.text, folder, &|name| std::env::var(name).ok());
    let errors = outcome.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let shown = options.output.as_deref().unwrap_or(Path::new("-")).display().to_string();
    for problem in errors {
        eprintln!("{}", problem.render(&shown));
    }
    let done = match &options.output {
        Some(path) => match std::fs::write(path, &written.text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::fail(&format!("cannot write {}: {error}", path.display())),
        },
        None => print(&written.text),
    };
    match done == FAILED || !written.left_out {
        true => done,
        false => ExitCode::from(INCOMPLETE),
    }
}

fn translate(format: Format, paths: &[PathBuf], files: &dyn Files) -> Result<Written, Unreadable> {
    let model = read(format, paths, files)?;
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let source = names.join(", ");
    if model.listeners.is_empty() {
        let message = match format {
            Format::Nginx => "no `server` block that can be translated",
            Format::Haproxy => "no `bind` line that can be translated",
            Format::Traefik => "no entry point that can be translated",
        };
        return Err(nothing(&source, message, &write::remarks_of(model)));
    }
    let written = write::write(model, &source, &Capabilities::of_this_version());
    match written.serves_nothing {
        true => Err(nothing(&source, "no listener can be translated", &written.remarks)),
        false => Ok(written),
    }
}

fn nothing(source: &str, message: &str, remarks: &[String]) -> Unreadable {
    let remarks: String = remarks.iter().map(|line| format!("\n{line}")).collect();
    Unreadable(format!("{source}: {message}{remarks}"))
}

fn read(format: Format, paths: &[PathBuf], files: &dyn Files) -> Result<Model, Unreadable> {
    match format {
        Format::Nginx => nginx::read(paths, files),
        Format::Haproxy => haproxy::read(paths, files),
        Format::Traefik => traefik::read(paths, files),
    }
}
