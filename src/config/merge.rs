//! Several documents as one tree.
//!
//! Maps of the first level are merged by key: `clusters` may stand in each file, one cluster in one file only. Lists of
//! the first level (`routes`) follow each other in the order of the files. Any other key stands in one file; `version`
//! may be repeated.

use super::documents::Documents;
use super::error::{Position, Problems, below};
use super::yaml::{Kind, Node};

/// Adds the tree of an included file to `all`. Reports each duplicate with both places.
pub(super) fn merge(all: &mut Node, included: Node, names: &Documents, problems: &mut Problems) {
    let entries = match included.kind {
        Kind::Map(entries) => entries,
        // Nothing but comments.
        Kind::Null => return,
        Kind::Scalar { .. } | Kind::List(_) => {
            let hint = "write sections, as in the main file: { clusters: {…} }";
            problems.error_with_hint(included.at, "", "must be a map", hint);
            return;
        }
    };
    // A main file without a map was reported.
    let Kind::Map(known) = &mut all.kind else { return };
    for (key, value) in entries {
        let name = key.text().unwrap_or_default().to_owned();
        let refused = match name.as_str() {
            "include" => Some("an included file cannot include others"),
            "config" => Some("an included file cannot name a source"),
            _ => None,
        };
        if let Some(message) = refused {
            problems.error_with_hint(key.at, name, message, "only the main file may");
            continue;
        }
        let Some((first, section)) = known.iter_mut().find(|(known, _)| known.text() == key.text())
        else {
            known.push((key, value));
            continue;
        };
        match (&mut section.kind, value.kind) {
            (Kind::Map(entries), Kind::Map(more)) => {
                for (key, value) in more {
                    let text = key.text().unwrap_or_default();
                    match entries.iter().find(|(known, _)| known.text() == key.text()) {
                        Some((first, _)) => {
                            twice(&below(&name, text), key.at, first.at, names, problems);
                        }
                        None => entries.push((key, value)),
                    }
                }
            }
            (Kind::List(items), Kind::List(more)) => items.extend(more),
            (_, Kind::Null) => {}
            (kind @ Kind::Null, other) => (*kind, section.at) = (other, value.at),
            (Kind::Scalar { text, .. }, Kind::Scalar { text: again, .. })
                if name == "version" && *text == again => {}
            (Kind::Map(_) | Kind::List(_) | Kind::Scalar { .. }, _) => {
                twice(&name, key.at, first.at, names, problems);
            }
        }
    }
}

fn twice(path: &str, at: Position, first: Position, names: &Documents, problems: &mut Problems) {
    let file = names.name_at(first).unwrap_or("the main file");
    let message = format!("written twice: first in {file}:{}:{}", first.line, first.column);
    problems.error_with_hint(at, path, message, "remove or rename one of the two");
}
