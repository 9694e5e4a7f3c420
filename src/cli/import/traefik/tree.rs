//! Traefik's configuration as one tree, from YAML files and from labels of Docker Compose.
//!
//! Keys are compared without regard to case, as Traefik does with labels.

use super::super::Unreadable;
use super::super::model::Origin;
use crate::config::yaml::{Kind, Node, parse};
use std::rc::Rc;

/// Levels of labels, at most.
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
