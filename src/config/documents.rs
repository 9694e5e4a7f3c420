//! The documents of a configuration: the main file, and the files that its `include` names.
//!
//! A pattern starts at the folder of the main file and may have `*` and `?` in the name of the file, not in a folder:
//! therefore the folders to watch are known before any file exists. A file that several patterns match is read once.
//! An included file is read as a part of the main file: it cannot include others, and its relative paths start at the
//! folder of the main file, so that a section means the same in each of the files.
//!
//! # Bounds
//! [`FILES_MAX`] included files and [`BYTES_MAX`] bytes in all.

use super::error::{Position, Problem, Problems, Severity};
use super::yaml::{self, Kind, Node};
use super::{BYTES_MAX, expand};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Included files, at most.
const FILES_MAX: usize = 1_000;

/// One included file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// The path, as messages show it.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A pattern of `include`, with its place in the main file.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern {
    at: Position,
    path: String,
}

/// The texts of a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Documents {
    /// The text of the main file.
    pub main: String,
    /// The included files, in the order of the patterns and then of their names.
    pub included: Vec<Document>,
    patterns: Vec<Pattern>,
    problems: Vec<Problem>,
}

impl Documents {
    /// A configuration of one text, without the files that it includes.
    #[must_use]
    pub fn alone(main: String) -> Documents {
        Documents { main, ..Documents::default() }
    }

    /// The files that `main` includes, read from `folder`. The patterns of `before` are used again if the main text is
    /// the same.
    #[must_use]
    pub fn read(
        main: String,
        folder: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
        before: Option<&Documents>,
    ) -> Documents {
        let patterns = match before.filter(|before| before.main == main) {
            Some(before) => before.patterns.clone(),
            None => patterns(&main, variable),
        };
        let mut documents = Documents { main, patterns, ..Documents::default() };
        documents.include(folder);
        documents
    }

    /// The value of a key in NATS, which has no folder: each pattern of `include` is a problem.
    #[must_use]
    pub fn of_key(main: String, variable: &dyn Fn(&str) -> Option<String>) -> Documents {
        let refused = |pattern: Pattern| Problem {
            hint: Some("write all sections into the value of the key".to_owned()),
            ..Problem::error(pattern.at, "include", "a configuration in NATS cannot include files")
        };
        let problems = patterns(&main, variable).into_iter().map(refused).collect();
        Documents { main, problems, ..Documents::default() }
    }

    /// The texts with their positions' numbers: 0 is the main file.
    pub(super) fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        let included = self.included.iter().map(|document| document.text.as_str());
        std::iter::once(self.main.as_str()).chain(included).enumerate()
    }

    /// The text that `at` lies in.
    #[must_use]
    pub fn text_at(&self, at: Position) -> &str {
        self.texts().nth(at.file).map_or("", |(_, text)| text)
    }

    /// The name of the included file that `at` lies in; `None` in the main file.
    #[must_use]
    pub fn name_at(&self, at: Position) -> Option<&str> {
        let index = at.file.checked_sub(1)?;
        self.included.get(index).map(|document| document.name.as_str())
    }

    /// The problems of the patterns and of reading their files.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// A number that changes with each of the texts and names.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let hash = crate::decision::units::hash;
        if self.patterns.is_empty() {
            return hash(self.main.as_bytes());
        }
        let mut all = hash(self.main.as_bytes()).to_be_bytes().to_vec();
        for Document { name, text } in &self.included {
            all.extend(hash(name.as_bytes()).to_be_bytes());
            all.extend(hash(text.as_bytes()).to_be_bytes());
        }
        // A file that cannot be read is news too.
        for problem in &self.problems {
            all.extend(problem.message.as_bytes());
        }
        hash(&all)
    }

    /// Whether the main file includes no other.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The folders of the included files, below `folder`.
    #[must_use]
    pub fn folders(&self, folder: &Path) -> BTreeSet<PathBuf> {
        self.patterns.iter().map(|pattern| split(&pattern.path, folder).0).collect()
    }

    /// Whether a file called `name` may be an included one.
    #[must_use]
    pub fn may_include(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(last(&pattern.path), name))
    }

    /// Reads the files that the patterns match.
    fn include(&mut self, folder: &Path) {
        let mut bytes = self.main.len();
        let mut seen = BTreeSet::new();
        for pattern in self.patterns.clone() {
            for path in self.matching(&pattern, folder) {
                if !seen.insert(path.clone()) {
                    continue;
                }
                let name = shown(&path);
                if self.included.len() == FILES_MAX {
                    self.problem(&pattern, format!("more than {FILES_MAX} files"));
                    return;
                }
                match read(&path) {
                    Ok(text) if text == self.main => {
                        let hint = "put the included files into a folder of their own";
                        let message = format!("`{name}` is this file itself");
                        let problem = Problem::error(pattern.at, "include", message);
                        self.problems.push(Problem { hint: Some(hint.to_owned()), ..problem });
                    }
                    Ok(text) => {
                        bytes += text.len();
                        if bytes > BYTES_MAX {
                            self.problem(
                                &pattern,
                                "the files are larger than 32 MiB in all".into(),
                            );
                            return;
                        }
                        self.included.push(Document { name, text });
                    }
                    // Removed since the folder was listed.
                    Err(error)
                        if error.kind() == io::ErrorKind::NotFound && is_glob(&pattern.path) => {}
                    Err(error) => self.problem(&pattern, format!("cannot read `{name}`: {error}")),
                }
            }
        }
    }

    /// The files that a pattern matches, in the order of their names.
    fn matching(&mut self, pattern: &Pattern, folder: &Path) -> Vec<PathBuf> {
        let (folder, name) = split(&pattern.path, folder);
        if shown(&folder).contains(['*', '?']) || name.is_empty() {
            let hint = "`*` and `?` may stand in the name of the file: conf.d/*.yaml";
            let message = format!("`{}` names no file", pattern.path);
            let problem = Problem::error(pattern.at, "include", message);
            self.problems.push(Problem { hint: Some(hint.to_owned()), ..problem });
            return Vec::new();
        }
        if !is_glob(name) {
            return vec![folder.join(name)];
        }
        let listed = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.note(
                    pattern,
                    format!("matches no file: there is no folder `{}`", shown(&folder)),
                );
                return Vec::new();
            }
            Err(error) => {
                self.problem(
                    pattern,
                    format!("cannot read the folder `{}`: {error}", shown(&folder)),
                );
                return Vec::new();
            }
        };
        let names = listed.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let paths = names.filter(|found| matches(name, found)).map(|found| folder.join(found));
        // A link to a file is followed.
        let mut paths: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
        paths.sort();
        if paths.is_empty() {
            self.note(pattern, "matches no file".to_owned());
        }
        paths
    }

    fn problem(&mut self, pattern: &Pattern, message: String) {
        self.problems.push(Problem::error(pattern.at, "include", message));
    }

    fn note(&mut self, pattern: &Pattern, what: String) {
        let problem = Problem::error(pattern.at, "include", format!("`{}` {what}", pattern.path));
        self.problems.push(Problem { severity: Severity::Note, ..problem });
    }
}

/// Reads a regular file of bounded size: a pipe would block the reader.
fn read(path: &Path) -> io::Result<String> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if found.len() > BYTES_MAX as u64 {
        return Err(io::Error::other("it is larger than 32 MiB"));
    }
    std::fs::read_to_string(path)
}

/// The patterns of `include` in a text; none if the text cannot be read, which is reported elsewhere.
fn patterns(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Pattern> {
    if !text.contains("include") {
        return Vec::new();
    }
    let expanded = expand::expand(text, variable, &mut Problems::default());
    let Some(Node { kind: Kind::Map(entries), .. }) = yaml::parse(&expanded.text).0 else {
        return Vec::new();
    };
    let found = entries.into_iter().find(|(key, _)| key.text() == Some("include"));
    let Some((_, Node { kind: Kind::List(items), .. })) = found else { return Vec::new() };
    let read = |item: Node| {
        let path = item.text()?.to_owned();
        Some(Pattern { at: expanded.original(item.at), path })
    };
    items.into_iter().filter_map(read).collect()
}

/// The folder of a pattern, and the pattern of the file's name.
fn split<'p>(pattern: &'p str, folder: &Path) -> (PathBuf, &'p str) {
    match pattern.rsplit_once('/') {
        Some(("", name)) => (PathBuf::from("/"), name),
        Some((below, name)) => (folder.join(below), name),
        None => (folder.to_path_buf(), pattern),
    }
}

fn last(pattern: &str) -> &str {
    pattern.rsplit('/').next().unwrap_or_default()
}

fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// Whether a name matches a pattern: `*` is any characters, `?` is one. A leading dot matches a leading dot alone, so
/// that `*` finds neither the links of a ConfigMap nor the files of editors.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last `*`, and where its text ends: when the rest does not match, the star takes one character more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => (p, n) = (p + 1, n + 1),
            Some(_) | None => {
                let Some((at, end)) = star else { return false };
                star = Some((at, end + 1));
                (p, n) = (at + 1, end + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_names() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("*.yaml", ".a.yaml", false),
            (".*.yaml", ".a.yaml", true),
            ("*", "..data", false),
            ("?0-*.yaml", "10-shop.yaml", true),
            ("?0-*.yaml", "100-shop.yaml", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXb", false),
            ("exact.yaml", "exact.yaml", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
