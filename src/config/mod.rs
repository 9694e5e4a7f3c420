//! Text to [`Plan`](crate::decision::plan::Plan): parse, then check. Nothing here touches the world beyond the files it is given.
//!
//! [`yaml`] reads text into a tree with positions, [`shape`] turns the tree into the shapes of
//! [`file`], and [`check`] compiles those. Each step reports *all* its problems, each with its line,
//! column and path, because an operator who fixes one error at a time gives up at the fifth.
//!
//! # Not here
//! Sockets and threads (`server`). The data plane never sees this room, only its plan.

pub mod check;
mod clusters;
mod compiler;
pub mod difference;
mod effective;
pub mod endpoints;
pub mod error;
pub mod expand;
pub mod file;
mod fleet;
mod headers;
mod listeners;
mod policies;
mod probes;
mod reach;
mod routes;
pub mod scalar;
pub mod scenario;
pub mod schema;
mod secrets;
mod services;
mod settings;
pub mod shape;
mod tls;
mod unused;
pub mod yaml;

pub use check::Config;
pub use error::{Problem, Severity};
pub use settings::Settings;

use std::path::Path;

/// Bytes of a configuration, at most: ten thousand routes take about two MiB.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a text came to.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration, unless a problem is an error.
    pub config: Option<Config>,
    /// All problems, in the order of the file.
    pub problems: Vec<Problem>,
}

/// Parses and checks `text`. Relative paths start at `folder`; `variable` looks up `${NAME}`.
#[must_use]
pub fn load(text: &str, folder: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Outcome {
    let mut problems = error::Problems::default();
    let config = read(text, folder, variable, &mut problems);
    let problems = problems.into_sorted();
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    Outcome { config: config.filter(|_| !failed), problems }
}

fn read(
    text: &str,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut error::Problems,
) -> Option<Config> {
    if text.len() > BYTES_MAX {
        problems.error(error::Position::START, "", "the file is larger than 32 MiB");
        return None;
    }
    let expanded = expand::expand(text, variable, problems);
    // What else is wrong on a line whose variables are not known is a consequence.
    problems.ignore_lines_with_problems();
    let (tree, wrongs) = yaml::parse(&expanded.text);
    for wrong in wrongs {
        let at = expanded.original(wrong.at);
        problems.push(Problem { hint: wrong.hint, ..Problem::error(at, "", wrong.message) });
    }
    let tree = tree?.relocated(&|at| expanded.original(at));
    if tree.is_null() {
        problems.error(error::Position::START, "", "the configuration is empty");
        return None;
    }
    let file = shape::decode_root::<file::File>(&tree, problems)?;
    let mut config = check::check(&file, folder, problems);
    unused::warn(&file, problems);
    // With an error nobody uses it, and what is written need not have its shape.
    if problems.errors() == 0 {
        config.effective = effective::effective(&tree, &config.plan);
    }
    Some(config)
}
