//! A YAML document to write: scalars, lists and maps, printed as a person writes them.
//!
//! Short lists and maps are on one line, longer ones are indented. Each entry may have a comment.

use std::fmt::Write;

/// Columns of a line, its comment included, as far as the values permit.
const COLUMNS_MAX: usize = 120;

/// A value to write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Doc {
    /// Text, quoted if YAML would read it as something else.
    Text(String),
    /// A number, a duration, a size or a fixed word: never quoted.
    Word(String),
    /// A list.
    List(Vec<Doc>),
    /// A map.
    Map(Map),
}

/// Keys and values, in the order of their insertion.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Map(pub(super) Vec<(String, Doc)>);

impl From<&str> for Doc {
    fn from(text: &str) -> Doc {
        Doc::Text(text.to_owned())
    }
}

impl From<String> for Doc {
    fn from(text: String) -> Doc {
        Doc::Text(text)
    }
}

impl From<Map> for Doc {
    fn from(map: Map) -> Doc {
        Doc::Map(map)
    }
}

impl Doc {
    /// A word.
    pub(super) fn word(text: impl ToString) -> Doc {
        Doc::Word(text.to_string())
    }

    /// A list of texts.
    pub(super) fn texts<T: AsRef<str>>(texts: &[T]) -> Doc {
        Doc::List(texts.iter().map(|text| Doc::Text(text.as_ref().to_owned())).collect())
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Doc::Text(text) | Doc::Word(text) => Some(text),
            Doc::List(_) | Doc::Map(_) => None,
        }
    }
}

impl Map {
    /// The value at a dotted path.
    pub(super) fn get(&self, path: &str) -> Option<&Doc> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        let (_, found) = self.0.iter().find(|(key, _)| key == first)?;
        match (rest, found) {
            (None, found) => Some(found),
            (Some(rest), Doc::Map(map)) => map.get(rest),
            (Some(_), Doc::Text(_) | Doc::Word(_) | Doc::List(_)) => None,
        }
    }

    /// Sets the value at a dotted path.
    pub(super) fn set(&mut self, path: &str, value: impl Into<Doc>) {
        match path.rsplit_once('.') {
            Some((map, key)) => self.put(map, key, value),
            None => self.set_key(path, value),
        }
    }

    /// Sets the value of a key, which may have dots, in the map at a dotted path.
    pub(super) fn put(&mut self, path: &str, key: &str, value: impl Into<Doc>) {
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        let mut inner = match self.0.iter_mut().find(|(known, _)| known == first) {
            Some((_, Doc::Map(map))) => std::mem::take(map),
            Some(_) | None => Map::default(),
        };
        match rest {
            Some(rest) => inner.put(rest, key, value),
            None => inner.set_key(key, value),
        }
        self.set_key(first, inner);
    }

    /// Sets the value of a key, which may have dots.
    pub(super) fn set_key(&mut self, key: &str, value: impl Into<Doc>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Sets the value at a dotted path unless there is one.
    pub(super) fn absent(&mut self, path: &str, value: impl Into<Doc>) {
        if self.get(path).is_none() {
            self.set(path, value);
        }
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: &str) -> Option<Doc> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    /// Appends to the list at a key; what is already in the list is not added again.
    pub(super) fn push(&mut self, path: &str, item: impl Into<Doc>) {
        let item = item.into();
        let mut items = match self.get(path) {
            Some(Doc::List(items)) => items.clone(),
            Some(_) | None => Vec::new(),
        };
        if !items.contains(&item) {
            items.push(item);
        }
        self.set(path, Doc::List(items));
    }
}

/// Writes `key: value` at an indentation, with a comment on its first line.
pub(super) fn entry(out: &mut String, depth: usize, key: &str, value: &Doc, comment: &str) {
    line(out, depth, &format!("{}:", scalar(key)), value, comment);
}

/// Writes `- value` at an indentation, with a comment on its first line.
pub(super) fn item(out: &mut String, depth: usize, value: &Doc, comment: &str) {
    line(out, depth, "-", value, comment);
}

fn line(out: &mut String, depth: usize, lead: &str, value: &Doc, comment: &str) {
    let indent = "  ".repeat(depth);
    let flow = flow(value);
    let comment = if comment.is_empty() { String::new() } else { format!("   # {comment}") };
    let width = indent.len() + lead.len() + flow.chars().count() + comment.chars().count() + 1;
    let is_scalar = matches!(value, Doc::Text(_) | Doc::Word(_));
    let is_empty = matches!(value, Doc::List(items) if items.is_empty())
        || matches!(value, Doc::Map(map) if map.0.is_empty());
    if is_scalar || is_empty || width <= COLUMNS_MAX && nesting(value) <= 3 {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{indent}{lead} {flow}{comment}");
        return;
    }
    match value {
        Doc::Map(map) if lead == "-" => {
            // The first key is on the line of the dash.
            let mut block = String::new();
            for (index, (key, value)) in map.0.iter().enumerate() {
                let comment = if index == 0 { comment.trim_start_matches([' ', '#']) } else { "" };
                entry(&mut block, depth + 1, key, value, comment);
            }
            out.push_str(&indent);
            out.push_str("- ");
            out.push_str(block.get(indent.len() + 2..).unwrap_or_default());
        }
        Doc::Map(map) => {
            let _ = writeln!(out, "{indent}{lead}{comment}");
            for (key, value) in &map.0 {
                entry(out, depth + 1, key, value, "");
            }
        }
        Doc::List(items) => {
            let _ = writeln!(out, "{indent}{lead}{comment}");
            for value in items {
                item(out, depth + 1, value, "");
            }
        }
        Doc::Text(_) | Doc::Word(_) => {}
    }
}

fn nesting(value: &Doc) -> usize {
    match value {
        Doc::Text(_) | Doc::Word(_) => 0,
        Doc::List(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Doc::Map(map) => 1 + map.0.iter().map(|(_, value)| nesting(value)).max().unwrap_or(0),
    }
}

fn flow(value: &Doc) -> String {
    match value {
        Doc::Text(text) => scalar(text),
        Doc::Word(word) => word.clone(),
        Doc::List(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Doc::Map(map) if map.0.is_empty() => "{}".to_owned(),
        Doc::Map(map) => {
            let pairs =
                map.0.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A scalar, quoted unless it is plain everywhere. `${` would be expanded in the text, so it is written as `$${`.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+~^$()*=;<".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/_.".contains(c));
    let is_word = ["null", "true", "false", "yes", "no", "on", "off", "~", "y", "n"];
    let numeric = text.parse::<f64>().is_ok()
        || text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('_')
        || text.starts_with("0x")
        || text.starts_with("0o")
        || text.starts_with('.');
    let bare = begins
        && text.chars().all(|c| plain(c) || c == ' ')
        && !text.ends_with([':', ' '])
        && !text.contains(": ")
        && !text.contains("::")
        && !numeric
        && !is_word.contains(&text.to_ascii_lowercase().as_str());
    if bare {
        return text.replace("${", "$${");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::{Kind, Node, parse};

    fn read(node: &Node) -> Doc {
        match &node.kind {
            Kind::Null => Doc::Text(String::new()),
            Kind::Scalar { text, .. } => Doc::Text(text.clone()),
            Kind::List(items) => Doc::List(items.iter().map(read).collect()),
            Kind::Map(entries) => Doc::Map(Map(entries
                .iter()
                .map(|(key, value)| (key.text().unwrap().to_owned(), read(value)))
                .collect())),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let texts = [
            "a",
            "10.0.0.1:80",
            "[::]:80",
            "*.example.com",
            "1.2",
            "0660",
            "on",
            "null",
            "~",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "#a",
            "é",
            "a\nb",
            "a\"b\\",
            "{x}",
            "-",
            "- a",
            "?",
            "!t",
            "&a",
            "a,b",
            "[a]",
            "%2F",
            "@a",
            "`a`",
            "'a'",
            "1_000",
            "0x1f",
            ".5",
            "a:",
            "::1",
            "12:30:45",
            "unix:/a",
            "^/a(/.*)?$",
            "\u{7f}",
            "\u{2028}",
            "=",
            "<<",
            "2020-01-01",
            "http://a/b?c=d&e",
        ];
        let long = "x".repeat(100);
        let mut map = Map::default();
        for (index, text) in texts.iter().chain([&long.as_str()]).enumerate() {
            map.set_key(&format!("k{index}"), *text);
            map.set_key(text, Doc::texts(&[text, text]));
        }
        map.set("nested.deep.deeper", Doc::List(vec![map.clone().into(), Doc::from("x")]));
        let mut text = String::new();
        entry(&mut text, 0, "root", &map.clone().into(), "a comment");
        let (tree, wrong) = parse(&text);
        assert!(wrong.is_empty(), "{wrong:?}\n{text}");
        let mut root = Map::default();
        root.set_key("root", map);
        assert_eq!(read(&tree.unwrap()), Doc::Map(root), "{text}");
    }
}
