//! HAProxy's grammar: sections of lines, lines of words.

use super::super::Unreadable;
use super::super::files::Files;
use super::super::model::Origin;
use std::path::Path;
use std::rc::Rc;

/// Lines of all files, at most.
const LINES_MAX: usize = 200_000;

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
    /// Its place.
    pub(super) at: Origin,
}

impl Line {
    /// A word by its position, or nothing.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The line as text, for notes.
    pub(super) fn shown(&self) -> String {
        self.words.join(" ")
    }

    /// The word after a word.
    pub(super) fn after(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|known| known == word)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// Whether there is a word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }
}

/// A section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    /// `frontend`, `backend`, `listen`, `defaults`, `global` or another.
    pub(super) kind: String,
    /// Its name.
    pub(super) name: String,
    /// Its lines, those of its `defaults` first.
    pub(super) lines: Vec<Line>,
    /// The place of its first line.
    pub(super) at: Origin,
}

const KINDS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "resolvers",
    "peers",
    "cache",
    "program",
    "mailers",
    "http-errors",
    "ring",
    "fcgi-app",
    "log-forward",
    "crt-store",
    "traces",
    "acme",
];

/// The sections of a file.
pub(super) fn sections(path: &Path, files: &dyn Files) -> Result<Vec<Section>, Unreadable> {
    let shown: Rc<str> = path.display().to_string().into();
    let text = files.read(path).map_err(|why| Unreadable(format!("{shown}: {why}")))?;
    let mut sections: Vec<Section> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let at = Origin { file: shown.clone(), line: index + 1 };
        if index >= LINES_MAX {
            return Err(Unreadable(format!("{at}: more than 200,000 lines")));
        }
        let words = words(raw).map_err(|why| Unreadable(format!("{at}: {why}")))?;
        let Some(first) = words.first() else { continue };
        if KINDS.contains(&first.as_str()) {
            let name = words.get(1).cloned().unwrap_or_default();
            let line = Line { words: words.clone(), at: at.clone() };
            let lines = inherited(&sections, &line);
            sections.push(Section { kind: first.clone(), name, lines, at });
            continue;
        }
        match sections.last_mut() {
            Some(section) => section.lines.push(Line { words, at }),
            None => return Err(Unreadable(format!("{at}: `{first}` is outside of any section"))),
        }
    }
    Ok(sections)
}

/// The lines of the `defaults` that a section inherits: those that it names, else the last.
fn inherited(sections: &[Section], line: &Line) -> Vec<Line> {
    if !matches!(line.word(0), "frontend" | "backend" | "listen") {
        return Vec::new();
    }
    let named = line.after("from");
    let is_it = |section: &&Section| {
        section.kind == "defaults" && named.is_none_or(|name| section.name == name)
    };
    sections.iter().rev().find(is_it).map_or(Vec::new(), |defaults| defaults.lines.clone())
}

/// The words of a line: quotes and backslashes as HAProxy reads them, `#` begins a comment.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.trim_start_matches('\u{feff}').chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'', Some('\'')) | ('"', Some('"')) => quote = None,
            // Other characters keep their backslash: `\.` in an expression.
            ('\\', None | Some('"')) => match chars.next() {
                Some(c) if " \\#\"'$".contains(c) => word.get_or_insert_default().push(c),
                Some(c) => word.get_or_insert_default().extend(['\\', c]),
                None => break,
            },
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("a quote is not closed") } else { Ok(words) }
}

/// A time such as `30s` or `500` (milliseconds) in seconds.
pub(super) fn time(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: f64 = text.get(..digits)?.parse().ok()?;
    let unit = match &text[digits..] {
        "us" => 0.000_001,
        "" | "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let seconds = number * unit;
    (seconds > 0.0 && seconds < 31_622_400.0).then_some(seconds)
}
