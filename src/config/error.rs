//! Problems of a configuration: the position, the message and a hint.

use serde::Serialize;
use std::sync::Arc;

/// A position in a file as written. Lines and columns start at 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The file: 0 is the main file, others are the included files in their order.
    pub file: usize,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The first character.
    pub const START: Position = Position { file: 0, line: 1, column: 1 };
}

/// The severity of a problem.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but an operator should know about the problem.
    Warning,
    /// Nothing is wrong, but the operator may have meant something else.
    Note,
}

/// One problem.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The severity.
    pub severity: Severity,
    /// The position.
    pub at: Position,
    /// The name of the included file that the position lies in; `None` in the main file.
    pub file: Option<Arc<str>>,
    /// The key, as `clusters.shop.probe.interval`.
    pub path: String,
    /// The message.
    pub message: String,
    /// The action for the operator.
    pub hint: Option<String>,
}

impl Problem {
    /// An error without a hint.
    pub fn error(at: Position, path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            at,
            file: None,
            path: path.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// `FILE:LINE:COL: error: PATH: message (hint)`; `file` is the name of the main file.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let file = self.file.as_deref().unwrap_or(file);
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        let hint = self.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        let Position { line, column, .. } = self.at;
        format!("{file}:{line}:{column}: {severity}: {path}{}{hint}", self.message)
    }

    /// The problem as `check --format json` prints it; `file` is the name of the main file.
    #[must_use]
    pub fn to_json(&self, file: &str) -> serde_json::Value {
        serde_json::json!({
            "severity": self.severity,
            "file": self.file.as_deref().unwrap_or(file),
            "line": self.at.line,
            "column": self.at.column,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        })
    }
}

/// Collects problems, so that all of them are reported at once and each mistake once.
#[derive(Debug, Default)]
pub struct Problems {
    all: Vec<Problem>,
    /// Files and lines whose further problems are ignored, in order.
    ignored_lines: Vec<(usize, usize)>,
    /// Unknown keys: the path of the section and the key.
    unknown: Vec<(String, String)>,
    lacking: Vec<Lacking>,
}

/// A problem that may follow from another problem: a section lacks a key.
#[derive(Debug)]
struct Lacking {
    /// The index of the problem.
    problem: usize,
    section: String,
    /// The keys, any of which is sufficient.
    keys: Vec<String>,
}

impl Problems {
    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        if self.ignored_lines.binary_search(&(problem.at.file, problem.at.line)).is_err() {
            self.all.push(problem);
        }
    }

    /// Adds the problems of an included file, whose positions are those of that file alone.
    pub(super) fn of_file(&mut self, file: usize, others: Problems) {
        for mut problem in others.all {
            problem.at.file = file;
            self.push(problem);
        }
    }

    /// Ignores further problems of the lines that have a problem now.
    pub fn ignore_lines_with_problems(&mut self) {
        let places = self.all.iter().map(|problem| (problem.at.file, problem.at.line));
        self.ignored_lines = places.collect();
        self.ignored_lines.sort_unstable();
    }

    /// Reports that `section` lacks all of `keys`. The error is suppressed if one of the keys is present but
    /// invalid, or if an unknown key of the section resembles one of the keys: only that error is reported
    /// then.
    pub fn lacking(&mut self, section: &str, keys: &[&str], problem: Problem) {
        let (before, keys) = (self.all.len(), keys.iter().map(|key| (*key).to_owned()).collect());
        self.push(problem);
        if self.all.len() > before {
            self.lacking.push(Lacking { problem: before, section: section.to_owned(), keys });
        }
    }

    /// Reports an unknown key of `section`.
    pub fn unknown_key(&mut self, section: &str, name: &str, problem: Problem) {
        self.unknown.push((section.to_owned(), name.to_owned()));
        self.push(problem);
    }

    /// Whether the error about a missing key follows from another error.
    fn is_consequence(&self, lacking: &Lacking) -> bool {
        let misspelt = self.unknown.iter().filter(|(section, _)| *section == lacking.section);
        let is_meant = |name: &str| lacking.keys.iter().any(|key| looks_like(name, key));
        let paths: Vec<String> =
            lacking.keys.iter().map(|key| below(&lacking.section, key)).collect();
        let is_within = |path: &str| {
            let rests = paths.iter().filter_map(|key| path.strip_prefix(key.as_str()));
            rests.into_iter().any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let others = self.all.iter().enumerate().filter(|(index, _)| *index != lacking.problem);
        misspelt.into_iter().any(|(_, name)| is_meant(name))
            || others
                .filter(|(_, other)| other.severity == Severity::Error)
                .any(|(_, other)| is_within(&other.path))
    }

    /// Adds an error.
    pub fn error(&mut self, at: Position, path: impl Into<String>, message: impl Into<String>) {
        self.push(Problem::error(at, path, message));
    }

    /// The number of errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.all.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Adds an error with a hint.
    pub fn error_with_hint(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Problem { hint: Some(hint.into()), ..Problem::error(at, path, message) });
    }

    /// Adds a warning.
    pub fn warning(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = Problem::error(at, path, message);
        self.push(Problem { severity: Severity::Warning, hint: Some(hint.into()), ..problem });
    }

    /// The number of problems.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// All problems that do not follow from others, in the order of the file.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Problem> {
        let follow = self.lacking.iter().filter(|lacking| self.is_consequence(lacking));
        let follow: Vec<usize> = follow.map(|lacking| lacking.problem).collect();
        let all = self.all.into_iter().enumerate();
        let mut problems: Vec<Problem> =
            all.filter(|(index, _)| !follow.contains(index)).map(|(_, problem)| problem).collect();
        problems.sort_by_key(|problem| problem.at);
        problems
    }
}

/// The path of `key` below `path`.
#[must_use]
pub fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The known name nearest to a wrong name, if at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (wrong.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (edits(wrong, name), name))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Whether `wrong` was probably meant as `key`: the two are similar, or one is a prefix of the other.
fn looks_like(wrong: &str, key: &str) -> bool {
    let begins = wrong.len() > 2 && (key.starts_with(wrong) || wrong.starts_with(key));
    begins || nearest(wrong, [key]).is_some()
}

/// Edit distance with transpositions of neighbours (Damerau-Levenshtein, restricted).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// `did you mean …?` for a wrong name that resembles a known one; otherwise the known names, if there are few.
#[must_use]
pub fn suggestion<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(name) = nearest(wrong, known.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let names: Vec<&str> = known.into_iter().take(13).collect();
    match names.len() {
        0 => Some("there is none".to_owned()),
        1..=12 => Some(format!("known: {}", names.join(", "))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_suggested() {
        let known = ["listeners", "clusters", "services"];
        assert_eq!(nearest("lisetners", known), Some("listeners"));
        assert_eq!(nearest("cluster", known), Some("clusters"));
        assert_eq!(nearest("zebra", known), None);
    }
}
