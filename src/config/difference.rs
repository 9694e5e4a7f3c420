//! The differences between two texts of a configuration, key by key, without values that may be secret.
//!
//! The texts are compared as written: defaults are not filled in, and `${VAR}` is not expanded. Therefore a text
//! with unknown keys or invalid values can be compared too; a text that is not YAML cannot.

use super::documents::Documents;
use super::error::{Position, Problems};
use super::merge::merge;
use super::yaml::{Kind, Node, parse};
use std::collections::BTreeMap;

/// A key that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The path of the key, such as `services.shop.clusters`.
    pub path: String,
    /// The position in the new text, if the key is present.
    pub at: Option<Position>,
    /// The old value; `None` if the key is new.
    pub before: Option<String>,
    /// The new value; `None` if the key was removed.
    pub after: Option<String>,
}

/// Sections whose values are never shown; the names of their header fields are shown.
const HIDDEN_BELOW: [&str; 3] = ["request_headers", "response_headers", "headers"];
/// Parts of a key's name that mark its value as secret.
const HIDDEN: [&str; 6] = ["secret", "password", "token", "authorization", "cookie", "credential"];
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 200;

/// The keys of `after` that differ from `before`, in the order of their paths; `None` if one of the texts is not
/// YAML.
#[must_use]
pub fn difference(before: &Documents, after: &Documents) -> Option<Vec<Change>> {
    let (before, after) = (leaves(before)?, leaves(after)?);
    let mut changes = Vec::new();
    for (path, (_, value)) in &before {
        if !after.contains_key(path) {
            let before = Some(shown(path, value));
            changes.push(Change { path: path.clone(), at: None, before, after: None });
        }
    }
    for (path, (at, value)) in &after {
        let known = before.get(path).map(|(_, value)| value);
        if known == Some(value) {
            continue;
        }
        let before = known.map(|known| shown(path, known));
        let after = Some(shown(path, value));
        changes.push(Change { path: path.clone(), at: Some(*at), before, after });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Some(changes)
}

type Leaves = BTreeMap<String, (Position, String)>;

/// The values of a configuration by their paths, with their positions.
fn leaves(documents: &Documents) -> Option<Leaves> {
    let mut merged: Option<Node> = None;
    for (file, text) in documents.texts() {
        let (tree, wrongs) = parse(&without_braces(text));
        if !wrongs.is_empty() {
            return None;
        }
        let tree = tree?.relocated(&|at| Position { file, ..at });
        match &mut merged {
            // Of a key that is written twice, the first value is compared.
            Some(all) => merge(all, tree, documents, &mut Problems::default()),
            None => merged = Some(tree),
        }
    }
    let mut all = Leaves::new();
    collect(&merged?, String::new(), &mut all);
    Some(all)
}

/// `${VAR}` as `$(VAR)`, of the same length: in YAML, braces would begin a map.
fn without_braces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, variable) = rest.split_at(at);
        let Some(end) = variable.find(['}', '\n']).filter(|end| variable[*end..].starts_with('}'))
        else {
            out.push_str(before);
            out.push_str("$(");
            rest = &variable[2..];
            continue;
        };
        out.push_str(before);
        out.push_str("$(");
        out.push_str(&variable[2..end]);
        out.push(')');
        rest = &variable[end + 1..];
    }
    out + rest
}

fn collect(node: &Node, path: String, all: &mut Leaves) {
    let below = |name: &str| match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    };
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                collect(value, below(key.text().unwrap_or_default()), all);
            }
        }
        Kind::List(items) if items.iter().any(|item| matches!(item.kind, Kind::Map(_))) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{path}[{index}]"), all);
            }
        }
        Kind::Null | Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => {
            all.insert(path, (node.at, written(node)));
        }
    }
}

fn written(node: &Node) -> String {
    match &node.kind {
        Kind::Null => String::new(),
        Kind::Scalar { text, .. } => text.clone(),
        Kind::List(items) => {
            format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        Kind::Map(_) => "{}".to_owned(),
    }
}

/// A value with secrets removed.
fn shown(path: &str, value: &str) -> String {
    let mut keys = path.split('.').map(|key| key.split('[').next().unwrap_or_default());
    let below = keys.clone().any(|key| HIDDEN_BELOW.contains(&key));
    let last = keys.next_back().unwrap_or_default().to_ascii_lowercase();
    let hidden = HIDDEN.iter().any(|word| last.contains(word)) && !last.ends_with("_file");
    if (below || hidden) && !value.is_empty() {
        return "redacted".to_owned();
    }
    let text = match value.split_once("://") {
        // A URL may contain a name and a password.
        Some((scheme, rest)) => match rest.split('/').next().and_then(|host| host.rfind('@')) {
            Some(at) => format!("{scheme}://redacted{}", &rest[at..]),
            None => value.to_owned(),
        },
        None => value.to_owned(),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "services:\n  shop:\n    clusters: [a, b]\n    timeout: 15s\nlisteners:\n  web: { address: ${BIND:-0.0.0.0}:80, service: shop }\n";

    type Told = (String, Option<String>, Option<String>, Option<usize>);

    fn compare(old: &str, new: &str) -> Option<Vec<Change>> {
        difference(&Documents::alone(old.to_owned()), &Documents::alone(new.to_owned()))
    }

    fn one(new: &str) -> Vec<Told> {
        let changes = compare(OLD, new).unwrap().into_iter();
        changes.map(|c| (c.path, c.before, c.after, c.at.map(|at| at.line))).collect()
    }

    #[test]
    fn the_same_has_no_changes_whatever_its_layout() {
        assert_eq!(one(OLD), []);
        assert_eq!(one(&OLD.replace("[a, b]", "\n    - a\n    - b")), []);
    }

    #[test]
    fn a_changed_a_new_and_a_missing_key_have_their_paths_and_lines() {
        let new = OLD.replace("clusters: [a, b]", "clustrs: [a, b]").replace("15s", "5s");
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            one(&new),
            [
                ("services.shop.clusters".to_owned(), text("[a, b]"), None, None),
                ("services.shop.clustrs".to_owned(), None, text("[a, b]"), Some(3)),
                ("services.shop.timeout".to_owned(), text("15s"), text("5s"), Some(4)),
            ]
        );
    }

    #[test]
    fn nothing_that_may_be_secret_is_shown() {
        let new = format!(
            "{OLD}routes:\n- request_headers: {{ set: {{ authorization: Bearer xyzzy }} }}\n  respnse_headers: {{ set: {{ x-api-token: xyzzy }} }}\nfleet: {{ url: nats://me:xyzzy@host:4222/a }}\nadmin: {{ token: xyzzy, token_file: token }}\n"
        );
        let told = format!("{:?}", compare(OLD, &new).unwrap());
        assert!(!told.contains("xyzzy"), "{told}");
        assert!(
            told.contains("nats://redacted@host:4222/a") && told.contains("\"token\""),
            "{told}"
        );
    }

    #[test]
    fn what_is_not_yaml_cannot_be_compared() {
        assert_eq!(compare(OLD, "a: [b"), None);
        assert_eq!(compare(OLD, "${a: b\n: c"), None);
    }
}
