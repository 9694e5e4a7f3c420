//! `tidegate check`

use super::{FAILED, print, read_config};
use crate::config::error::Position;
use crate::config::{Documents, Problem, Severity, load_documents};
use std::path::Path;
use std::process::ExitCode;

/// The output format for problems.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    /// One line for each problem.
    Text,
    /// A JSON array.
    Json,
}

/// Prints all problems; fails if there is an error, or a warning under `strict`.
pub(super) fn check(path: &Path, format: Format, strict: bool) -> ExitCode {
    let (text, folder) = match read_config(path) {
        Ok(read) => read,
        Err(message) => {
            let problem = Problem::error(Position::START, "", &message);
            let name = path.display().to_string();
            print(&match format {
                Format::Text => problem.render(&name) + "\n",
                Format::Json => format!("[{}]\n", problem.to_json(&name)),
            });
            return FAILED;
        }
    };
    let variable = |name: &str| std::env::var(name).ok();
    let documents = Documents::read(text, &folder, &variable, None);
    let outcome = load_documents(&documents, &folder, &variable);
    let name = path.display().to_string();
    let output = match format {
        Format::Text => {
            let shown =
                |problem: &Problem| problem.render(&name) + "\n" + &source(&documents, problem.at);
            let lines = outcome.problems.iter().map(shown);
            let mut lines: String = lines.collect();
            let of = |severity| outcome.problems.iter().filter(|p| p.severity == severity).count();
            let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
            match (errors, warnings) {
                (0, 0) => lines.push_str(&format!("{name}: valid\n")),
                (0, _) => lines.push_str(&format!("{name}: valid, {warnings} warning(s)\n")),
                _ => lines.push_str(&format!("{name}: {errors} error(s), {warnings} warning(s)\n")),
            }
            for included in &documents.included {
                lines.push_str(&format!("{name}: includes {}\n", included.name));
            }
            lines
        }
        Format::Json => {
            let all: Vec<_> = outcome.problems.iter().map(|p| p.to_json(&name)).collect();
            serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
        }
    };
    let printed = print(&output);
    let is_warning = |problem: &Problem| problem.severity == Severity::Warning;
    let warned = strict && outcome.problems.iter().any(is_warning);
    let failed = outcome.config.is_none() && outcome.bootstrap.is_none();
    if failed || warned { FAILED } else { printed }
}

/// Characters of a source line that are shown before and after the position of a problem.
const BEFORE: usize = 60;
const AFTER: usize = 30;

/// The line of a problem with a caret below the position; empty if the text has no such line.
fn source(documents: &Documents, at: Position) -> String {
    let Some(line) = documents.text_at(at).lines().nth(at.line.saturating_sub(1)) else {
        return String::new();
    };
    if line.trim().is_empty() {
        return String::new();
    }
    let caret = at.column.saturating_sub(1);
    let from = caret.saturating_sub(BEFORE);
    // A tab is printed as one blank, so that the caret is aligned.
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = line.chars().skip(from).take(BEFORE + AFTER).map(plain).collect();
    let (number, margin) = (at.line, " ".repeat(at.line.to_string().len()));
    format!(" {number} | {shown}\n {margin} | {}^\n", " ".repeat(caret - from))
}
