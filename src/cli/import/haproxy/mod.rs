//! HAProxy: frontends and their rules, backends and their servers.

mod acl;
mod backend;
mod changes;
mod errors;
mod format;
mod frontend;
mod keywords;
mod parse;
mod rules;
mod userlist;

#[cfg(test)]
mod tests;

use super::Unreadable;
use super::files::Files;
use super::model::Model;
use parse::{Line, Section};
use std::path::PathBuf;

/// What all parts of the translation share.
pub(super) struct Translation<'a> {
    model: Model,
    files: &'a dyn Files,
    folder: PathBuf,
    sections: &'a [Section],
}

impl<'a> Translation<'a> {
    /// The section that serves as a backend of this name.
    fn backend(&self, name: &str) -> Option<&'a Section> {
        let serves =
            |s: &&Section| matches!(s.kind.as_str(), "backend" | "listen") && s.name == name;
        self.sections.iter().find(serves)
    }
}

/// Whether a section has HTTP; HAProxy's own default is TCP.
fn is_http(section: &Section) -> bool {
    let mode = section.lines.iter().rev().find(|line| line.word(0) == "mode");
    mode.is_some_and(|line| line.word(1) == "http")
}

/// The last line of a keyword.
fn last<'a>(section: &'a Section, words: &[&str]) -> Option<&'a Line> {
    let is_it =
        |line: &&Line| words.iter().enumerate().all(|(index, word)| line.word(index) == *word);
    section.lines.iter().rev().find(is_it)
}

/// Whether an option is set and not unset later.
fn option(section: &Section, name: &str) -> bool {
    let on = section.lines.iter().rposition(|l| l.word(0) == "option" && l.word(1) == name);
    let off = section
        .lines
        .iter()
        .rposition(|l| l.word(0) == "no" && l.word(1) == "option" && l.word(2) == name);
    on.is_some_and(|on| off.is_none_or(|off| off < on))
}

/// Reads haproxy.cfg.
///
/// # Errors
/// A file that cannot be read, or a syntax error with its line.
pub(super) fn read(paths: &[PathBuf], files: &dyn Files) -> Result<Model, Unreadable> {
    let mut sections = Vec::new();
    for path in paths {
        sections.extend(parse::sections(path, files)?);
    }
    let folder = files.absolute(std::path::Path::new("."));
    let mut translation =
        Translation { model: Model::default(), files, folder, sections: &sections };
    for section in &sections {
        keywords::note(&mut translation.model, section);
    }
    for section in sections.iter().filter(|s| matches!(s.kind.as_str(), "frontend" | "listen")) {
        frontend::frontend(&mut translation, section);
    }
    userlist::note_unused(&mut translation);
    Ok(translation.model)
}
