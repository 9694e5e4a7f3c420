//! The JSON Schema of the configuration, generated from the shapes.

use super::file::{Bootstrap, File};
use super::shape::Decode;
use serde_json::{Value, json};

/// The whole schema (JSON Schema 2020-12): a configuration, or a file that names the source of one.
#[must_use]
pub fn schema() -> Value {
    let (mut schema, mut source) = (File::schema(), Bootstrap::schema());
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("Tidegate configuration"));
        let required = object.remove("required");
        let kinds = json!([
            { "required": required, "properties": { "config": false } },
            { "required": ["config"], "propertyNames": { "enum": names(&source) } },
        ]);
        object.insert("oneOf".to_owned(), kinds);
    }
    schema["properties"]["config"] = source["properties"]["config"].take();
    schema
}

/// The keys of a shape.
fn names(schema: &Value) -> Vec<&String> {
    schema["properties"].as_object().into_iter().flat_map(|keys| keys.keys()).collect()
}
