//! Content types of compressed responses, in the form of `compression.types`.

use super::document::{Doc, Map};
use super::model::{Model, Origin};
use crate::decision::compression::TypePattern;

/// Sets the types that Tidegate has words for. Notes the others; a type without subtype, as `text/`, is a prefix.
pub(super) fn set_types(
    model: &mut Model,
    at: &Origin,
    shown: &str,
    words: &[String],
    keys: &mut Map,
) {
    let mut types = Vec::new();
    for word in words {
        let kind = if word.ends_with('/') { format!("{word}*") } else { word.clone() };
        match TypePattern::parse(&kind) {
            Ok(_) => types.push(kind),
            Err(_) if matches!(word.as_str(), "*" | "*/*") => {
                model.differs(at, shown, "the types are those that are compressed by default");
                return;
            }
            Err(why) => {
                model.left_out(at, shown, &format!("`compression.types` without `{word}`: {why}"));
            }
        }
    }
    keys.set("compression.types", Doc::texts(&types));
}
