//! `${VAR}` and `${VAR:-default}`: expanded in the text before parsing, with positions preserved.
//!
//! A variable's value is a scalar or part of a scalar, and never adds structure. Inside quotes the value is escaped.
//! A whole scalar that YAML would read differently is quoted. A part of a scalar that YAML would read differently is
//! refused. Control characters are errors: a line break could inject configuration. Defaults are part of the file and
//! are inserted as written. Comments are not expanded. `$${` stands for a literal `${`.

use super::error::{Position, Problems};

/// Expanded text, and the mapping from its positions to the file as written.
#[derive(Debug)]
pub struct Expanded {
    /// The text to parse.
    pub text: String,
    /// For each expansion: the line and column after the expansion in the new text, and the difference to the old
    /// column.
    shifts: Vec<(usize, usize, isize)>,
}

impl Expanded {
    /// Maps a position of the expanded text to the file as written.
    #[must_use]
    pub fn original(&self, at: Position) -> Position {
        let before =
            |(line, column, _): &&(usize, usize, isize)| *line == at.line && *column <= at.column;
        let shift = self.shifts.iter().rev().find(before).map_or(0, |(.., shift)| *shift);
        Position { column: at.column.saturating_add_signed(shift).max(1), ..at }
    }
}

/// Replaces the value of an unset variable. A word keeps the structure of the text.
const UNKNOWN: &str = "unknown";

/// Expands all variables. A variable that cannot be expanded is reported and replaced by a word, so that the rest of
/// the file can be checked.
pub fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Expanded {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), shifts: Vec::new() };
    let mut block = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let indent = line.len() - line.trim_start().len();
        if !line.trim().is_empty() && block.is_some_and(|outer| indent <= outer) {
            block = None;
        }
        expand_line(line, number + 1, block.is_some(), &mut expanded, variable, problems);
        if block.is_none() && begins_block(line) {
            block = Some(indent);
        }
    }
    expanded
}

/// Whether the following lines, if indented further, are literal text (`|`, `>`).
fn begins_block(line: &str) -> bool {
    let code = line[..comment_start(line).unwrap_or(line.len())].trim_end();
    let bare = code.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+'));
    let before = bare.strip_suffix(['|', '>']).map(str::trim_end);
    before.is_some_and(|before| before.ends_with([':', '-']))
}

fn expand_line(
    line: &str,
    number: usize,
    is_literal: bool,
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
        let at = Position { line: number, column: old, ..Position::START };
        let (value, used) = match found {
            _ if found.starts_with("$${") => ("${".to_owned(), 3),
            _ if found.starts_with("${") => match substitute(found, at, variable, problems) {
                Some((Value::Default(text), used)) => (text, used),
                Some((Value::Variable(text), used)) => {
                    let start = code_end - rest.len() + dollar;
                    let context = match is_literal {
                        true => Context::Literal,
                        false => Context::of(&line[..start], &line[start + used..]),
                    };
                    let fitted = context.fit(&text).unwrap_or_else(|| {
                        let name = &found[2..used - 1];
                        let message =
                            format!("the value of `{name}` would change the meaning of the line");
                        let hint = "put the whole value between double quotes";
                        problems.error_with_hint(at, "", message, hint);
                        UNKNOWN.to_owned()
                    });
                    (fitted, used)
                }
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

/// The origin of a value.
enum Value {
    /// The environment.
    Variable(String),
    /// The file's own default.
    Default(String),
}

/// The kind of scalar that a value is inserted into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Context {
    /// A scalar in double quotes.
    Double,
    /// A scalar in single quotes.
    Single,
    /// A whole plain scalar.
    Whole,
    /// A plain scalar that contains other text as well.
    Part,
    /// Literal text under `|` or `>`.
    Literal,
}

impl Context {
    fn of(before: &str, after: &str) -> Context {
        match scan(before).1 {
            Some('"') => Context::Double,
            Some(_) => Context::Single,
            None => {
                let (left, right) = (before.trim_end(), after.trim_start());
                let apart = left.len() < before.len();
                let begins = left.is_empty()
                    || left.ends_with(['[', '{', ','])
                    || apart && left.ends_with([':', '-']);
                let colon = right
                    .strip_prefix(':')
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
                let comment = right.starts_with('#') && right.len() < after.len();
                let ends =
                    right.is_empty() || right.starts_with([',', ']', '}']) || colon || comment;
                if begins && ends { Context::Whole } else { Context::Part }
            }
        }
    }

    /// The value as written in this context; `None` when the context cannot represent the value.
    fn fit(self, value: &str) -> Option<String> {
        let escaped = || value.replace('\\', "\\\\").replace('"', "\\\"");
        match self {
            Context::Literal => Some(value.to_owned()),
            Context::Double => Some(escaped()),
            Context::Single => Some(value.replace('\'', "''")),
            Context::Whole | Context::Part if is_plain(value) => Some(value.to_owned()),
            Context::Whole => Some(format!("\"{}\"", escaped())),
            Context::Part => None,
        }
    }
}

/// Whether a value is valid as a plain scalar, or as part of one, at any position.
fn is_plain(value: &str) -> bool {
    let leads = |c: char| "-?:,[]{}#&*!|>'\"%@`".contains(c);
    let signed =
        value.strip_prefix('-').is_some_and(|rest| rest.starts_with(char::is_alphanumeric));
    let blank = value.trim() != value;
    !(blank
        || value.starts_with(leads) && !signed
        || value.contains([',', '[', ']', '{', '}', '"', '\''])
        || value.contains(": ")
        || value.contains(" #")
        || value.ends_with(':'))
}

/// The value of the reference at the start of `text`, and the length of the reference in bytes.
fn substitute(
    text: &str,
    at: Position,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<(Value, usize)> {
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
        problems.error(
            at,
            "",
            format!("`{name}` is not a variable name: use letters, digits and `_`"),
        );
        return None;
    }
    let value = variable(name).filter(|value| !(value.is_empty() && default.is_some()));
    let default = || default.map(|text| Value::Default(text.to_owned()));
    let Some(value) = value.map(Value::Variable).or_else(default) else {
        let hint = format!("set it, or write `${{{name}:-default}}`");
        problems.error_with_hint(at, "", format!("the variable `{name}` is not set"), hint);
        return None;
    };
    if let Value::Variable(text) = &value
        && text.chars().any(char::is_control)
    {
        problems.error(at, "", format!("the variable `{name}` holds a control character"));
        return None;
    }
    Some((value, end + 1))
}

/// The start of a comment: a `#` at the start of the line or after a blank, outside quotes.
fn comment_start(line: &str) -> Option<usize> {
    scan(line).0
}

/// The start of a comment, and the quote that is open at the end of the line.
fn scan(line: &str) -> (Option<usize>, Option<char>) {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return (Some(at), None),
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
            (Some('"'), '"') if before == '\\' => {}
            (Some(open), _) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    (None, quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<Expanded, Vec<super::super::Problem>> {
        let mut problems = Problems::default();
        let variable = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "EVIL" => Some("a\nb".to_owned()),
            "LIST" => Some("a, b: c".to_owned()),
            "QUOTE" => Some("x\\\"', y".to_owned()),
            "V6" => Some("[::]:80".to_owned()),
            "MINUS" => Some("-5".to_owned()),
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
    fn a_value_is_a_scalar_and_adds_no_structure() {
        for (text, expected) in [
            ("a: [${LIST}]", r#"a: ["a, b: c"]"#),
            ("a: ${LIST} # c", r#"a: "a, b: c" # c"#),
            ("- ${V6}", r#"- "[::]:80""#),
            ("{a: ${V6}, b: ${PORT}}", r#"{a: "[::]:80", b: 8080}"#),
            ("${LIST}: x", r#""a, b: c": x"#),
            ("a: '${QUOTE}'", r#"a: 'x\"'', y'"#),
            (r#"a: "${QUOTE} ${PORT}""#, r#"a: "x\\\"', y 8080""#),
            ("a: 127.0.0.1:${PORT}", "a: 127.0.0.1:8080"),
            ("a: ${MINUS}", "a: -5"),
            ("a: [${NONE:-b, c}]", "a: [b, c]"),
            ("a: |\n  ${QUOTE}\nb: ${QUOTE}", "a: |\n  x\\\"', y\nb: \"x\\\\\\\"', y\""),
        ] {
            assert_eq!(run(text).unwrap().text, expected, "{text}");
        }
        for text in ["a: http://${LIST}/", "a: [b${LIST}]", "a: ${V6}x"] {
            let problems = run(text).unwrap_err();
            assert!(problems[0].message.contains("would change the meaning of the line"), "{text}");
        }
    }

    #[test]
    fn positions_refer_to_the_file_as_written() {
        let expanded = run("a: {b: ${PORT}, c: d}").unwrap();
        let at = expanded.text.find('c').unwrap() + 1;
        let original = expanded.original(Position { column: at, ..Position::START });
        assert_eq!(original.column, "a: {b: ${PORT}, c".len());
    }

    #[test]
    fn an_expansion_failure_is_an_error_with_its_position() {
        for (text, column) in [("a: ${NONE}", 4), ("a: ${EVIL}", 4), ("a: b${", 5), ("${a b}", 1)] {
            let problems = run(text).unwrap_err();
            assert_eq!((problems[0].at.line, problems[0].at.column), (1, column), "{text}");
        }
    }
}
