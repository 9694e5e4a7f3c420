//! The JSON Schema of the configuration, generated from the shapes, with examples from the reference file.

use super::file::{Bootstrap, File};
use super::shape::{Decode, as_written};
use super::yaml::{Kind, Node, parse};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The file with every key. What has no default there is a comment, which is read here, too.
const REFERENCE: &str = include_str!("../../config/reference.yaml");
/// The examples of one key.
const EXAMPLES_MAX: usize = 3;

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
    if let Some(tree) = parse(&uncommented(REFERENCE)).0 {
        let mut known = BTreeMap::new();
        collect(&tree, &mut known);
        exemplify(&mut schema, &[&tree], &known);
    }
    schema
}

/// The keys of a shape.
fn names(schema: &Value) -> Vec<&String> {
    schema["properties"].as_object().into_iter().flat_map(|keys| keys.keys()).collect()
}

/// The reference with its commented keys and items as if they were not comments.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let bare = line.trim_start();
        let is_key = |text: &str| {
            let key = text.split(':').next().unwrap_or_default();
            text.contains(':') && key.chars().all(|c| c.is_ascii_lowercase() || "_-".contains(c))
        };
        match bare.strip_prefix("# ") {
            Some(rest) if is_key(rest) || rest.starts_with("- ") => {
                format!("{}{rest}\n", &line[..line.len() - bare.len()])
            }
            Some(_) | None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// The values of each name, wherever it is a key: services and routes share keys that only one of them shows.
fn collect<'a>(node: &'a Node, known: &mut BTreeMap<&'a str, Vec<&'a Node>>) {
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| collect(item, known)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                known.entry(key.text().unwrap_or_default()).or_default().push(value);
                collect(value, known);
            }
        }
        Kind::Null | Kind::Scalar { .. } => {}
    }
}

/// Adds the values of the reference to the keys of `schema`; `nodes` are the reference's values of its shape.
fn exemplify(schema: &mut Value, nodes: &[&Node], known: &BTreeMap<&str, Vec<&Node>>) {
    let entries = |nodes: &[&Node]| -> Vec<(String, Node)> {
        let of = |node: &&Node| match &node.kind {
            Kind::Map(entries) => entries.clone(),
            Kind::Null | Kind::Scalar { .. } | Kind::List(_) => Vec::new(),
        };
        let named = |(key, value): (Node, Node)| Some((key.text()?.to_owned(), value));
        nodes.iter().flat_map(of).filter_map(named).collect()
    };
    let items = |nodes: &[&Node]| -> Vec<Node> {
        let of = |node: &&Node| match &node.kind {
            Kind::List(items) => items.clone(),
            Kind::Null | Kind::Scalar { .. } | Kind::Map(_) => Vec::new(),
        };
        nodes.iter().flat_map(of).collect()
    };
    if let Some(each) = schema.get_mut("items") {
        let items = items(nodes);
        return exemplify(each, &items.iter().collect::<Vec<_>>(), known);
    }
    let entries = entries(nodes);
    if let Some(each) = schema.get_mut("additionalProperties").filter(|each| each.is_object()) {
        exemplify(each, &entries.iter().map(|(_, value)| value).collect::<Vec<_>>(), known);
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        let here: Vec<&Node> =
            entries.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect();
        exemplify(property, &here, known);
        let elsewhere = known.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let found = if here.is_empty() { elsewhere } else { &here };
        let mut examples: Vec<Value> = Vec::new();
        let is_number = property["type"] == "number";
        for value in found.iter().filter_map(|node| plain(node)) {
            // 0.40 is kept as it is written, to be shown so; in JSON it is a number.
            let number =
                value.as_str().filter(|_| is_number).and_then(|text| text.parse::<f64>().ok());
            let value = number.map_or(value.clone(), |number| json!(number));
            if examples.len() < EXAMPLES_MAX && !examples.contains(&value) {
                examples.push(value);
            }
        }
        let is_leaf = property.get("properties").is_none() && property.get("enum").is_none();
        if let Some(object) = property.as_object_mut().filter(|_| is_leaf && !examples.is_empty()) {
            object.insert("examples".to_owned(), Value::Array(examples));
        }
    }
}

/// A value, unless it is a map.
fn plain(node: &Node) -> Option<Value> {
    as_written(node).filter(|value| !value.is_object())
}
