//! Traefik's configuration as one tree, from YAML and TOML files and from labels of Docker Compose.
//!
//! Keys are compared without regard to case, as Traefik does with labels.

use super::super::Unreadable;
use super::super::model::Origin;
use crate::config::yaml::{Kind, Node, parse};
use std::rc::Rc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Levels of labels, and of TOML, at most.
const DEPTH_MAX: usize = 24;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) at: Origin,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The tree of a YAML text.
    pub(super) fn of_yaml(text: &str, file: &Rc<str>) -> Result<Tree, Unreadable> {
        let (node, wrong) = parse(text);
        match (node, wrong.first()) {
            (Some(node), None) => Ok(convert(&node, file)),
            (_, Some(wrong)) => Err(Unreadable(format!(
                "{file}:{}:{}: {}",
                wrong.at.line, wrong.at.column, wrong.message
            ))),
            (None, None) => Err(Unreadable(format!("{file}: not YAML"))),
        }
    }

    /// The tree of a TOML text.
    ///
    /// # Errors
    /// A syntax error with its line, or more than [`DEPTH_MAX`] levels.
    pub(super) fn of_toml(text: &str, file: &Rc<str>) -> Result<Tree, Unreadable> {
        let places = Places::of(text, file);
        match DeTable::parse(text) {
            Ok(table) => places.table(table.get_ref(), 1, 0),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let at = places.at(offset);
                Err(Unreadable(format!("{at}: {}", error.message())))
            }
        }
    }

    /// An empty map.
    pub(super) fn empty(at: &Origin) -> Tree {
        Tree { at: at.clone(), value: Value::Map(Vec::new()) }
    }

    /// The value at a dotted path.
    pub(super) fn get(&self, path: &str) -> Option<&Tree> {
        let mut found = self;
        for key in path.split('.') {
            let Value::Map(entries) = &found.value else { return None };
            found = &entries.iter().find(|(known, _)| known.eq_ignore_ascii_case(key))?.1;
        }
        Some(found)
    }

    /// The text at a dotted path.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match &self.get(path)?.value {
            Value::Text(text) => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Whether a value is `true`.
    pub(super) fn is_true(&self, path: &str) -> bool {
        self.text(path).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// The texts of a list; of a label, the parts between commas.
    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        match self.get(path).map(|tree| &tree.value) {
            Some(Value::Text(text)) => text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|p| !p.is_empty())
                .collect(),
            Some(Value::List(items)) => items
                .iter()
                .filter_map(|item| match &item.value {
                    Value::Text(text) => Some(text.clone()),
                    Value::List(_) | Value::Map(_) => None,
                })
                .collect(),
            Some(Value::Map(_)) | None => Vec::new(),
        }
    }

    /// The items of a list; of labels, `name[0]`, `name[1]`.
    pub(super) fn items(&self, path: &str) -> Vec<&Tree> {
        let (parent, key) = path.rsplit_once('.').map_or(("", path), |(parent, key)| (parent, key));
        match self.get(path).map(|tree| &tree.value) {
            Some(Value::List(items)) => items.iter().collect(),
            Some(Value::Text(_) | Value::Map(_)) | None => {
                let parent = if parent.is_empty() { Some(self) } else { self.get(parent) };
                let Some(Value::Map(entries)) = parent.map(|tree| &tree.value) else {
                    return Vec::new();
                };
                let start = format!("{}[", key.to_ascii_lowercase());
                let is_item =
                    |(known, _): &&(String, Tree)| known.to_ascii_lowercase().starts_with(&start);
                entries.iter().filter(is_item).map(|(_, item)| item).collect()
            }
        }
    }

    /// The entries of a map.
    pub(super) fn entries(&self, path: &str) -> &[(String, Tree)] {
        let found = if path.is_empty() { Some(self) } else { self.get(path) };
        match found.map(|tree| &tree.value) {
            Some(Value::Map(entries)) => entries,
            Some(Value::Text(_) | Value::List(_)) | None => &[],
        }
    }

    /// Adds the entries of another tree; maps of the same name are joined.
    pub(super) fn join(&mut self, other: Tree) {
        let (Value::Map(own), Value::Map(more)) = (&mut self.value, other.value) else { return };
        for (key, value) in more {
            match own.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&key)) {
                Some((_, known)) if matches!(known.value, Value::Map(_)) => known.join(value),
                Some((_, known)) => *known = value,
                None => own.push((key, value)),
            }
        }
    }

    /// Adds a text at a dotted path, as a label does.
    pub(super) fn put(&mut self, path: &str, text: &str, at: &Origin) {
        let keys: Vec<&str> = path.split('.').collect();
        if keys.len() > DEPTH_MAX {
            return;
        }
        let mut tree = Tree { at: at.clone(), value: Value::Text(text.to_owned()) };
        for key in keys.iter().rev() {
            tree = Tree { at: at.clone(), value: Value::Map(vec![((*key).to_owned(), tree)]) };
        }
        self.join(tree);
    }
}

fn convert(node: &Node, file: &Rc<str>) -> Tree {
    let value = match &node.kind {
        Kind::Null => Value::Map(Vec::new()),
        Kind::Scalar { text, .. } => Value::Text(text.clone()),
        Kind::List(items) => Value::List(items.iter().map(|item| convert(item, file)).collect()),
        Kind::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| {
                    let mut tree = convert(value, file);
                    tree.at.line = key.at.line;
                    (key.text().unwrap_or_default().to_owned(), tree)
                })
                .collect(),
        ),
    };
    Tree { at: Origin { file: file.clone(), line: node.at.line }, value }
}

/// The lines of a TOML file.
struct Places<'a> {
    file: &'a Rc<str>,
    /// Offsets of the first bytes of the lines.
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn of(text: &str, file: &'a Rc<str>) -> Places<'a> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Places { file, starts }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    fn at(&self, offset: usize) -> Origin {
        Origin { file: self.file.clone(), line: self.line(offset) }
    }

    /// A table. The place of an entry is that of its key; the first header that names a table has the table's key.
    fn table(&self, table: &DeTable<'_>, line: usize, depth: usize) -> Result<Tree, Unreadable> {
        let mut entries = Vec::new();
        for (key, value) in table {
            let mut tree = self.value(value, depth + 1)?;
            tree.at.line = self.line(key.span().start);
            entries.push((key.span().start, key.get_ref().to_string(), tree));
        }
        // The parser sorts the keys by name.
        entries.sort_by_key(|(offset, ..)| *offset);
        let entries = entries.into_iter().map(|(_, key, tree)| (key, tree)).collect();
        Ok(Tree { at: Origin { file: self.file.clone(), line }, value: Value::Map(entries) })
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Tree, Unreadable> {
        let at = self.at(value.span().start);
        if depth > DEPTH_MAX {
            return Err(Unreadable(format!("{at}: more than 24 levels of tables")));
        }
        let own = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Text(number.to_string()),
            DeValue::Float(number) => Value::Text(number.to_string()),
            DeValue::Boolean(truth) => Value::Text(truth.to_string()),
            DeValue::Datetime(moment) => Value::Text(moment.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| self.value(item, depth + 1));
                Value::List(items.collect::<Result<Vec<Tree>, Unreadable>>()?)
            }
            DeValue::Table(table) => return self.table(table, at.line, depth),
        };
        Ok(Tree { at, value: own })
    }
}
