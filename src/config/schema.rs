//! The JSON Schema of the configuration, made from the shapes themselves.

use super::file::File;
use super::shape::Decode;
use serde_json::{Map, Value, json};

/// The whole schema (JSON Schema 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut schema = File::schema();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("Tidegate configuration"));
    }
    schema
}

/// Adds a description and the documented default to a key's schema.
pub fn describe(schema: &mut Value, about: &str, default: Option<&str>) {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), json!(about));
        if let Some(default) = default {
            object.insert("default".to_owned(), json!(default));
        }
    }
}

/// A map with these keys and no others.
#[must_use]
pub fn object(properties: Map<String, Value>, required: Vec<&str>) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
