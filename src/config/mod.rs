//! From text to a [`Plan`](crate::decision::plan::Plan): parse, then check. This module reads the files that the
//! configuration names; it has no other side effects.
//!
//! [`yaml`] parses text into a tree with positions, [`shape`] converts the tree into the shapes of [`file`], and
//! [`check`] compiles the shapes. Each step reports *all* its problems with line, column and path, so that an
//! operator can fix them in one pass.
//!
//! # Not here
//! Sockets and threads (`server`). The data plane does not use this module, only the plan.

mod acme;
mod bootstrap;
pub mod check;
mod clusters;
mod compiler;
mod compression;
mod cors;
pub mod difference;
#[cfg(test)]
mod divided;
pub mod documents;
mod effective;
pub mod endpoints;
pub mod error;
pub mod expand;
pub mod file;
mod fleet;
mod groups;
mod headers;
mod kubernetes;
mod listeners;
mod matches;
mod merge;
mod nats;
mod pages;
mod patterns;
mod policies;
mod probes;
mod reach;
mod rewrites;
mod routes;
pub mod scalar;
mod scaling;
pub mod scenario;
pub mod schema;
mod secrets;
mod services;
mod settings;
mod shadow;
pub mod shape;
mod sockets;
mod tls;
mod tracing;
mod unused;
pub mod yaml;

pub use bootstrap::Bootstrap;
pub use check::Config;
pub use documents::Documents;
pub use error::{Problem, Severity};
pub use settings::Settings;

use std::path::Path;
use std::sync::Arc;

/// Bytes of a configuration, at most: ten thousand routes are about two MiB.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// The result of loading a configuration.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration, unless a problem is an error.
    pub config: Option<Config>,
    /// The source that the text names instead of a configuration, unless a problem is an error.
    pub bootstrap: Option<Bootstrap>,
    /// All problems, in the order of the file.
    pub problems: Vec<Problem>,
}

/// Parses and checks `text` and the files that it includes. Relative paths start at `folder`; `variable` looks up
/// `${NAME}`.
#[must_use]
pub fn load(text: &str, folder: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Outcome {
    load_documents(&Documents::read(text.to_owned(), folder, variable, None), folder, variable)
}

/// Parses and checks a configuration of several documents, as [`load`] does.
#[must_use]
pub fn load_documents(
    documents: &Documents,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Outcome {
    let mut problems = error::Problems::default();
    let read = read(documents, folder, variable, &mut problems);
    let mut problems = problems.into_sorted();
    for problem in &mut problems {
        problem.file = documents.name_at(problem.at).map(Arc::from);
    }
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    let (config, bootstrap) = match read.filter(|_| !failed) {
        Some(Read::Config(config)) => (Some(*config), None),
        Some(Read::Bootstrap(bootstrap)) => (None, Some(bootstrap)),
        None => (None, None),
    };
    Outcome { config, bootstrap, problems }
}

enum Read {
    Config(Box<Config>),
    Bootstrap(Bootstrap),
}

fn read(
    documents: &Documents,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut error::Problems,
) -> Option<Read> {
    if documents.main.len() > BYTES_MAX {
        problems.error(error::Position::START, "", "the file is larger than 32 MiB");
        return None;
    }
    let tree = tree(documents, variable, problems)?;
    if tree.is_null() {
        problems.error(error::Position::START, "", "the configuration is empty");
        return None;
    }
    if bootstrap::is_bootstrap(&tree) {
        return bootstrap::bootstrap(&tree, folder, problems).map(Read::Bootstrap);
    }
    documents.problems().iter().cloned().for_each(|problem| problems.push(problem));
    let file = shape::decode_root::<file::File>(&tree, problems)?;
    let mut config = check::check(&file, folder, problems);
    unused::warn(&file, problems);
    // With an error the effective configuration is not used, and the file may not have the expected shapes.
    if problems.errors() == 0 {
        config.effective = effective::effective(&tree, &config.plan);
    }
    Some(Read::Config(Box::new(config)))
}

/// The tree of all documents; `None` if one of them is not YAML.
fn tree(
    documents: &Documents,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut error::Problems,
) -> Option<yaml::Node> {
    let mut expanded = Vec::with_capacity(documents.included.len() + 1);
    for (file, text) in documents.texts() {
        let mut own = error::Problems::default();
        expanded.push((file, expand::expand(text, variable, &mut own)));
        problems.of_file(file, own);
    }
    // Further problems of a line with an unset variable are consequences.
    problems.ignore_lines_with_problems();
    let mut trees = Vec::with_capacity(expanded.len());
    for (file, expanded) in expanded {
        let (tree, wrongs) = yaml::parse(&expanded.text);
        let original = |at| error::Position { file, ..expanded.original(at) };
        for wrong in wrongs {
            let at = original(wrong.at);
            problems.push(Problem { hint: wrong.hint, ..Problem::error(at, "", wrong.message) });
        }
        trees.push(tree.map(|tree| tree.relocated(&original)));
    }
    // All files are parsed before one that is not YAML ends the check.
    let trees: Option<Vec<yaml::Node>> = trees.into_iter().collect();
    let mut trees = trees?.into_iter();
    let mut all = trees.next()?;
    trees.for_each(|included| merge::merge(&mut all, included, documents, problems));
    Some(all)
}
