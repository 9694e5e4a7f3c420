//! What `check` would refuse is removed and noted: what is written can always be loaded.
//!
//! The importers write what the original means. Odd originals have values that Tidegate does not accept: an address without
//! a port, a header name with a blank, two listeners at one address. `check` finds them all, with their paths.
//!
//! # Not here
//! Certificates and other files: they may be on another machine.

use super::capabilities::{PROTECTS, close};
use super::document::Doc;
use super::model::{Block, Model};
use crate::config::error::Problem;
use crate::config::{Severity, load};
use std::path::Path;

/// Rounds, at most: a removal may uncover another problem.
const ROUNDS_MAX: usize = 40;

/// Removes what `check` refuses. `text` writes the model.
pub(super) fn repair(model: &mut Model, text: &dyn Fn(&Model) -> String) {
    for _ in 0..ROUNDS_MAX {
        let outcome = load(&text(model), Path::new("."), &|_| None);
        let companions = &model.companions;
        let of_companion = |problem: &Problem| {
            // The file is written with the configuration.
            companions.iter().any(|known| problem.message.contains(&format!("/{}`", known.name)))
        };
        let is_error = |problem: &Problem| concerns_the_text(problem) && !of_companion(problem);
        let errors: Vec<Problem> = outcome.problems.into_iter().filter(is_error).collect();
        if errors.is_empty() {
            return;
        }
        let mut routes = Vec::new();
        let before = model.notes.len();
        for problem in &errors {
            match problem.path.strip_prefix("routes[") {
                Some(rest) => routes.extend(of_route(model, rest, &problem.message)),
                None => of_block(model, &problem.path, &problem.message),
            }
        }
        routes.sort_unstable();
        routes.dedup();
        for index in routes.into_iter().rev() {
            model.rules.remove(index);
        }
        if model.notes.len() == before {
            return;
        }
    }
}

/// Whether a problem is an error of the text, not of a file that it names.
pub(super) fn concerns_the_text(problem: &Problem) -> bool {
    let of_file = [".tls", ".basic_file", ".error_pages", ".jwks_file"];
    problem.severity == Severity::Error && !of_file.iter().any(|part| problem.path.contains(part))
}

/// Removes a key of a route; the index of the route, if it must be removed as a whole.
fn of_route(model: &mut Model, rest: &str, message: &str) -> Option<usize> {
    let (index, key) = rest.split_once(']')?;
    let index: usize = index.parse().ok().filter(|index| *index < model.rules.len())?;
    let key: String = key
        .trim_start_matches('.')
        .chars()
        .take_while(|c| c.is_ascii_alphabetic() || *c == '_')
        .collect();
    let at = model.rules[index].at.clone();
    let is_action = matches!(key.as_str(), "service" | "split" | "redirect" | "respond" | "mirror");
    let hint = format!("Tidegate does not accept it: {message}");
    model.left_out(&at, &format!("for `routes.{key}`"), &hint);
    let keys = &mut model.rules[index].keys;
    if !is_action && keys.remove(&key).is_some() {
        if PROTECTS.contains(&key.as_str()) {
            close(keys);
        }
        return None;
    }
    Some(index)
}

/// Removes a key of a listener, service or cluster, or the whole of it.
fn of_block(model: &mut Model, path: &str, message: &str) {
    let Some((section, rest)) = path.split_once('.') else { return };
    let blocks = match section {
        "listeners" => &mut model.listeners,
        "services" => &mut model.services,
        "clusters" => &mut model.clusters,
        _ => return,
    };
    // Names may have dots, and one may begin with another.
    let named = |block: &&Block| {
        rest.strip_prefix(block.name.as_str())
            .is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
    };
    let Some(name) =
        blocks.iter().filter(named).map(|block| block.name.clone()).max_by_key(String::len)
    else {
        return;
    };
    let Some(position) = blocks.iter().position(|block| block.name == name) else { return };
    let after = rest.get(name.len()..).unwrap_or_default().trim_start_matches('.');
    let key: String = after.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '_').collect();
    let at = blocks[position].at.clone();
    let required = matches!(
        (section, key.as_str()),
        (_, "")
            | ("listeners", "address" | "protocol" | "service" | "sni")
            | ("services", "clusters")
    );
    if (section, key.as_str()) == ("clusters", "endpoints") || required && section == "clusters" {
        endpoints(&mut blocks[position]);
    } else if required || blocks[position].keys.remove(&key).is_none() {
        blocks.remove(position);
        without(model, section, &name);
    }
    let hint = format!("Tidegate does not accept it: {message}");
    model.left_out(&at, &format!("for `{section}.{name}.{key}`"), &hint);
}

/// Keeps the endpoints that are addresses, and each once; without any, one that refuses connections.
fn endpoints(cluster: &mut Block) {
    let mut kept: Vec<Doc> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    if let Some(Doc::List(items)) = cluster.keys.get("endpoints") {
        for item in items {
            let address = match item {
                Doc::Map(map) => map.get("address").and_then(Doc::text),
                Doc::Text(_) | Doc::Word(_) | Doc::List(_) => item.text(),
            };
            let Some(address) = address else { continue };
            let valid =
                crate::config::scalar::target(address).is_ok() && !address.starts_with("169.254.");
            if valid && !seen.iter().any(|known| known == address) {
                seen.push(address.to_owned());
                kept.push(item.clone());
            }
        }
    }
    if Some(&Doc::List(kept.clone())) == cluster.keys.get("endpoints") || kept.is_empty() {
        kept = vec!["127.0.0.1:1".into()];
    }
    cluster.keys.set("endpoints", Doc::List(kept));
}

/// Removes what refers to a block that was removed.
fn without(model: &mut Model, section: &str, name: &str) {
    match section {
        "listeners" => model.rules.retain_mut(|rule| {
            let listed = !rule.when.listeners.is_empty();
            rule.when.listeners.retain(|listener| listener != name);
            !listed || !rule.when.listeners.is_empty()
        }),
        _ => {
            for rule in &mut model.rules {
                let refers = rule.keys.get("service").and_then(Doc::text) == Some(name)
                    || matches!(rule.keys.get("split"), Some(Doc::Map(parts)) if parts.0.iter().any(|(part, _)| part == name));
                if refers {
                    rule.keys.0.clear();
                    rule.keys.set("respond.status", Doc::word(404));
                }
            }
        }
    }
}
