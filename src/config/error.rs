//! Problems of a configuration: where, what, and what to do about it.

use serde::Serialize;

/// A place in the file as written: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The first character.
    pub const START: Position = Position { line: 1, column: 1 };
}

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but an operator should know.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// Where.
    pub at: Position,
    /// The key, as `clusters.shop.probe.interval`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// An error without a hint.
    pub fn error(at: Position, path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            at,
            path: path.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// `FILE:LINE:COL: error: PATH: message (hint)`
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        let hint = self.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        let Position { line, column } = self.at;
        format!("{file}:{line}:{column}: {severity}: {path}{}{hint}", self.message)
    }

    /// The problem as `check --format json` prints it.
    #[must_use]
    pub fn to_json(&self, file: &str) -> serde_json::Value {
        serde_json::json!({
            "severity": self.severity,
            "file": file,
            "line": self.at.line,
            "column": self.at.column,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        })
    }
}

/// Collects problems, so that all are told at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>, Vec<usize>);

impl Problems {
    /// Notes one.
    pub fn push(&mut self, problem: Problem) {
        if self.1.binary_search(&problem.at.line).is_err() {
            self.0.push(problem);
        }
    }

    /// Takes no more problems of the lines that have one now.
    pub fn ignore_lines_with_problems(&mut self) {
        self.1 = self.0.iter().map(|problem| problem.at.line).collect();
        self.1.sort_unstable();
    }

    /// Notes an error.
    pub fn error(&mut self, at: Position, path: impl Into<String>, message: impl Into<String>) {
        self.push(Problem::error(at, path, message));
    }

    /// How many errors were noted.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Notes an error that says what to do.
    pub fn error_with_hint(
        &mut self,
        at: Position,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Problem { hint: Some(hint.into()), ..Problem::error(at, path, message) });
    }

    /// Notes a warning.
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

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All, in the order of the file.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| problem.at);
        self.0
    }
}

/// The known name nearest to a wrong one, if one is near: at most a third of its letters differ.
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

/// Edit distance with swaps of neighbours (Damerau-Levenshtein, restricted).
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

/// `did you mean …?` for a wrong name, when one is near; else the names there are, when few.
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
    fn near_misses_are_named() {
        let known = ["listeners", "clusters", "services"];
        assert_eq!(nearest("lisetners", known), Some("listeners"));
        assert_eq!(nearest("cluster", known), Some("clusters"));
        assert_eq!(nearest("zebra", known), None);
    }
}
