//! The JSON Schema of the configuration, generated from the shapes.

use super::file::File;
use super::shape::Decode;
use serde_json::{Value, json};

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
