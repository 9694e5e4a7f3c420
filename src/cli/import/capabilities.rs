//! Which keys this version of Tidegate has.
//!
//! The importers write every key that Tidegate may have. This module asks the schema of the running program, removes
//! what the program would not accept, and notes it: what is written always passes `check`.

use super::document::{Doc, Map};
use super::model::{Field, Model, Test, Value, When};
use crate::config::schema::schema;
use serde_json::Value as Json;

/// Keys that make a request more exposed when they are missing: the route is closed instead.
pub(super) const PROTECTS: &[&str] = &["auth", "allow", "deny"];

/// The keys of this version.
#[derive(Debug)]
pub(super) struct Capabilities {
    schema: Json,
    /// Whether values of header fields may have `{variables}`.
    variables: bool,
}

impl Capabilities {
    /// Those of this program.
    pub(super) fn of_this_version() -> Capabilities {
        let schema = schema();
        // Variables came with the edits of listeners.
        let made = Capabilities { schema, variables: false };
        let variables = made.has("listeners.*.request_headers");
        Capabilities { variables, ..made }
    }

    fn knows(&self, test: &Test) -> bool {
        self.has(&format!("routes.*.{}", key_of(test)))
    }

    /// Whether there is a key, such as `routes.*.match.client`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.at(path).is_some()
    }

    fn at(&self, path: &str) -> Option<&Json> {
        path.split('.').try_fold(&self.schema, child)
    }

    /// Removes from a model what this version does not have.
    pub(super) fn restrict(&self, model: &mut Model) {
        let mut top = std::mem::take(&mut model.top);
        let origin = model.listeners.first().map(|block| block.at.clone());
        for key in trim(&mut top, Some(&self.schema), self.variables) {
            if let Some(at) = &origin {
                model.left_out(at, &key, MISSING);
            }
        }
        model.top = top;
        self.restrict_blocks(model);
        let mut rules = std::mem::take(&mut model.rules);
        rules.retain_mut(|rule| {
            if let Some(lacking) = self.lacking(&rule.when) {
                let refuses = refuses(&rule.keys);
                let then = if refuses { "; it refuses more requests until then" } else { "" };
                let hint = format!("it needs `{lacking}`: {MISSING}{then}");
                model.left_out(&rule.at, "this rule", &hint);
                if !refuses {
                    return false;
                }
                // Without the condition it must not let through what it refused.
                rule.when.tests.retain(|test| self.knows(test));
                if rule.keys.get("service").is_some() {
                    close(&mut rule.keys);
                }
            }
            for key in trim(&mut rule.keys, self.at("routes.*"), self.variables) {
                model.left_out(&rule.at, &format!("for `routes.{key}`"), MISSING);
                if key.split('.').next().is_some_and(|first| PROTECTS.contains(&first)) {
                    close(&mut rule.keys);
                }
            }
            true
        });
        model.rules = rules;
    }

    fn restrict_blocks(&self, model: &mut Model) {
        for section in ["listeners", "services", "clusters"] {
            let blocks = match section {
                "listeners" => &mut model.listeners,
                "services" => &mut model.services,
                _ => &mut model.clusters,
            };
            let mut blocks = std::mem::take(blocks);
            for block in &mut blocks {
                for key in trim(&mut block.keys, self.at(&format!("{section}.*")), self.variables) {
                    model.left_out(
                        &block.at,
                        &format!("for `{section}.{}.{key}`", block.name),
                        MISSING,
                    );
                }
            }
            match section {
                "listeners" => model.listeners = blocks,
                "services" => model.services = blocks,
                _ => model.clusters = blocks,
            }
        }
        // A listener for TLS without a certificate cannot serve.
        let bare: Vec<String> = model
            .listeners
            .iter()
            .filter(|block| {
                block.keys.get("tls").is_some()
                    && block.keys.get("tls.certificates").is_none()
                    && block.keys.get("tls.acme").is_none()
            })
            .map(|block| block.name.clone())
            .collect();
        for name in &bare {
            if let Some(at) = model.listeners.iter().position(|block| block.name == *name) {
                let block = model.listeners.remove(at);
                let hint =
                    "there is no certificate file for it: add the listener with `tls.certificates`";
                model.left_out(&block.at, &format!("listener {name}"), hint);
            }
        }
        model.rules.retain_mut(|rule| {
            let listed = !rule.when.listeners.is_empty();
            rule.when.listeners.retain(|listener| !bare.contains(listener));
            !listed || !rule.when.listeners.is_empty()
        });
    }

    /// The first key that conditions need and this version lacks.
    fn lacking(&self, when: &When) -> Option<&'static str> {
        let missing = when.tests.iter().find(|test| !self.knows(test)).map(key_of);
        missing.or(has_doubles(when).then_some("two tests of one field"))
    }
}

/// Removes the keys of a map that are not in the schema; returns their paths below the map.
fn trim(map: &mut Map, schema: Option<&Json>, variables: bool) -> Vec<String> {
    let mut removed = Vec::new();
    map.0.retain_mut(|(key, value)| {
        let Some(below) = schema.and_then(|schema| child(schema, key)) else {
            removed.push(key.clone());
            return false;
        };
        let Doc::Map(inner) = value else { return true };
        let was_empty = inner.0.is_empty();
        if !variables && matches!(key.as_str(), "request_headers" | "response_headers") {
            removed.extend(plain_values(inner, key));
        }
        removed
            .extend(trim(inner, Some(below), variables).into_iter().map(|k| format!("{key}.{k}")));
        was_empty || !inner.0.is_empty()
    });
    removed
}

/// Without variables, removes the edits that have one.
fn plain_values(edits: &mut Map, key: &str) -> Vec<String> {
    let mut removed = Vec::new();
    for (edit, fields) in &mut edits.0 {
        let Doc::Map(fields) = fields else { continue };
        fields.0.retain_mut(|(name, value)| {
            let Doc::Text(text) = value else { return true };
            if text.replace("{{", "").replace("}}", "").contains('{') {
                removed.push(format!("{key}.{edit}.{name}"));
                return false;
            }
            *text = text.replace("{{", "{").replace("}}", "}");
            true
        });
    }
    edits.0.retain(|(_, fields)| !matches!(fields, Doc::Map(map) if map.0.is_empty()));
    removed
}

const MISSING: &str = "this version of Tidegate has no such key";

/// Refuses all clients: what protected the route could not be translated.
pub(super) fn close(keys: &mut Map) {
    keys.remove("allow");
    keys.set("deny", Doc::texts(&["0.0.0.0/0", "::/0"]));
}

/// Whether a rule refuses requests, all or some.
fn refuses(keys: &Map) -> bool {
    let status = keys.get("respond.status").and_then(Doc::text).and_then(|s| s.parse::<u16>().ok());
    status.is_some_and(|status| status >= 400) || PROTECTS.iter().any(|key| keys.get(key).is_some())
}

/// The key of a route that a test is written with.
fn key_of(test: &Test) -> &'static str {
    match (&test.field, &test.value, test.negated) {
        (Field::Header(_), Value::Exact(_), false) => "headers",
        (_, _, true) => "match.not",
        (Field::Header(_), _, false) => "match.headers",
        (Field::Query(_), _, false) => "match.query",
        (Field::Client, _, false) => "match.client",
    }
}

/// The schema of a key; `*` is each item of a list, and each name of a map by names.
fn child<'a>(schema: &'a Json, key: &str) -> Option<&'a Json> {
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().find_map(|choice| child(choice, key));
    }
    if schema["type"] == "array" {
        return if key == "*" { Some(&schema["items"]) } else { child(&schema["items"], key) };
    }
    match schema["properties"].get(key) {
        Some(below) => Some(below),
        None => schema.get("additionalProperties").filter(|below| below.is_object()),
    }
}

/// Whether two tests concern the same field: a map has one value for each name.
fn has_doubles(when: &When) -> bool {
    let same = |a: &Test, b: &Test| {
        let networks = a.negated && a.field == Field::Client;
        a.field == b.field && a.negated == b.negated && !networks
    };
    when.tests
        .iter()
        .enumerate()
        .any(|(index, one)| when.tests[..index].iter().any(|other| same(one, other)))
}
