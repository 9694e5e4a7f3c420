//! Settings that all routes of a service share are written once, at the service.

use super::capabilities::Capabilities;
use super::document::{Doc, Map};
use super::model::Model;

/// Keys that a service may have instead of its routes.
const KEYS: &[&str] = &[
    "timeout",
    "total_timeout",
    "retry",
    "rate_limit",
    "concurrency",
    "compression",
    "request_headers",
    "response_headers",
    "error_pages",
    "affinity",
];

/// Moves what all routes of a service agree on to the service.
pub(super) fn hoist(model: &mut Model, capabilities: &Capabilities) {
    for service in &mut model.services {
        for key in KEYS {
            if service.keys.get(key).is_some() || !capabilities.has(&format!("services.*.{key}")) {
                continue;
            }
            let uses = |keys: &Map| keys.get("service").and_then(Doc::text) == Some(&service.name);
            let is_part = |keys: &Map| matches!(keys.get("split"), Some(Doc::Map(parts)) if parts.0.iter().any(|(n, _)| *n == service.name));
            if model.rules.iter().any(|rule| is_part(&rule.keys)) {
                continue;
            }
            let mut values = model.rules.iter().filter(|rule| uses(&rule.keys));
            let Some(first) = values.next().and_then(|rule| rule.keys.get(key)).cloned() else {
                continue;
            };
            // A rate limit is one bucket at the service, and one for each route at the routes.
            let limits = matches!(*key, "rate_limit" | "concurrency");
            let rest: Vec<_> = values.collect();
            if limits && !rest.is_empty()
                || rest.iter().any(|rule| rule.keys.get(key) != Some(&first))
            {
                continue;
            }
            service.keys.set(key, first);
            for rule in model.rules.iter_mut().filter(|rule| uses(&rule.keys)) {
                rule.keys.remove(key);
            }
        }
    }
}
