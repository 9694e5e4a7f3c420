//! `${VAR}` and `${VAR:-default}`, expanded in the text before parsing, positions kept.
//!
//! A value with a control character is an error: a line break would forge configuration. Comments
//! are left alone. `$${` is a literal `${`.

use super::error::{Position, Problems};

/// Expanded text, and how its positions map to the file as written.
#[derive(Debug)]
pub struct Expanded {
    /// The text to parse.
    pub text: String,
    /// Line, column after an expansion in the new text, and what to add to get the old column.
    shifts: Vec<(usize, usize, isize)>,
}

impl Expanded {
    /// A position of the expanded text, in the file as written.
    #[must_use]
    pub fn original(&self, at: Position) -> Position {
        let before =
            |(line, column, _): &&(usize, usize, isize)| *line == at.line && *column <= at.column;
        let shift = self.shifts.iter().rev().find(before).map_or(0, |(.., shift)| *shift);
        Position { line: at.line, column: at.column.saturating_add_signed(shift).max(1) }
    }
}

/// Stands for a value that is not known: a word, so that it does not change what the text is.
const UNKNOWN: &str = "unknown";

/// Expands all variables. One that cannot be is noted and replaced by a word, so that the rest of the
/// file can be judged, too.
pub fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Expanded {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), shifts: Vec::new() };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        expand_line(line, number + 1, &mut expanded, variable, problems);
    }
    expanded
}

fn expand_line(
    line: &str,
    number: usize,
    expanded: &mut Expanded,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    let code_end = comment_start(line).unwrap_or(line.len());
    let (mut rest, comment) = line.split_at(code_end);
    let (mut old, mut new) = (1_usize, 1_usize);
    while let Some(dollar) = rest.find('$') {
        let (plain, found) = rest.split_at(dollar);
        let width = plain.chars().count();
        (old, new) = (old + width, new + width);
        expanded.text.push_str(plain);
        let at = Position { line: number, column: old };
        let (value, used) = match found {
            _ if found.starts_with("$${") => ("${".to_owned(), 3),
            _ if found.starts_with("${") => match substitute(found, at, variable, problems) {
                Some(done) => done,
                None => (UNKNOWN.to_owned(), found.find('}').map_or(found.len(), |end| end + 1)),
            },
            _ => ("$".to_owned(), 1),
        };
        old += found[..used].chars().count();
        new += value.chars().count();
        expanded.text.push_str(&value);
        expanded.shifts.push((number, new, old as isize - new as isize));
        rest = &found[used..];
    }
    expanded.text.push_str(rest);
    expanded.text.push_str(comment);
}

/// The value of the reference at the start of `text`, and the bytes the reference takes.
fn substitute(
    text: &str,
    at: Position,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<(String, usize)> {
    let Some(end) = text.find('}') else {
        problems.error_with_hint(at, "", "`${` without `}`", "write `$${` for a literal `${`");
        return None;
    };
    let inside = &text[2..end];
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) {
        problems.error(at, "", format!("`{name}` is not a variable's name"));
        return None;
    }
    let value = variable(name).filter(|value| !(value.is_empty() && default.is_some()));
    let Some(value) = value.or_else(|| default.map(str::to_owned)) else {
        let hint = format!("set it, or write `${{{name}:-default}}`");
        problems.error_with_hint(at, "", format!("the variable `{name}` is not set"), hint);
        return None;
    };
    if value.chars().any(char::is_control) {
        problems.error(at, "", format!("the variable `{name}` holds a control character"));
        return None;
    }
    Some((value, end + 1))
}

/// Where a comment begins: a `#` at the start or after a blank, outside quotes.
fn comment_start(line: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return Some(at),
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
            (Some('"'), '"') if before == '\\' => {}
            (Some(open), _) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<Expanded, Vec<super::super::Problem>> {
        let mut problems = Problems::default();
        let variable = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "EVIL" => Some("a\nb".to_owned()),
            _ => None,
        };
        let expanded = expand(text, &variable, &mut problems);
        let problems = problems.into_sorted();
        if problems.is_empty() { Ok(expanded) } else { Err(problems) }
    }

    #[test]
    fn values_defaults_literals_and_comments() {
        let expanded = run("a: ${PORT} ${NONE:-x} $${PORT} $5 # ${NONE}\nb: '#${PORT}'\n").unwrap();
        assert_eq!(expanded.text, "a: 8080 x ${PORT} $5 # ${NONE}\nb: '#8080'\n");
    }

    #[test]
    fn positions_refer_to_the_file_as_written() {
        let expanded = run("a: {b: ${PORT}, c: d}").unwrap();
        let at = expanded.text.find('c').unwrap() + 1;
        let original = expanded.original(Position { line: 1, column: at });
        assert_eq!(original.column, "a: {b: ${PORT}, c".len());
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error_with_its_place() {
        for (text, column) in [("a: ${NONE}", 4), ("a: ${EVIL}", 4), ("a: b${", 5), ("${a b}", 1)] {
            let problems = run(text).unwrap_err();
            assert_eq!((problems[0].at.line, problems[0].at.column), (1, column), "{text}");
        }
    }
}
