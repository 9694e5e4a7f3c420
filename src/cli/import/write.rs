//! From a model to the text of a configuration, and to the list of remarks.

use super::capabilities::Capabilities;
use super::document::{self, Doc, Map};
use super::model::{
    Block, Companion, Field, Model, Note, PathTest, Rule, Test, Value, Verdict, When, block,
};
use super::{hoist, order, repair};
use std::fmt::Write;

/// The text of an imported configuration and the remarks on it.
#[derive(Debug)]
pub(super) struct Written {
    /// The configuration.
    pub(super) text: String,
    /// The remarks, the most serious first, as lines.
    pub(super) remarks: Vec<String>,
    /// Files that the configuration names, to be written beside it.
    pub(super) companions: Vec<Companion>,
    /// Whether something has no equivalent.
    pub(super) left_out: bool,
    /// Whether no listener could be written: the configuration serves nothing.
    pub(super) serves_nothing: bool,
}

/// Writes a model with the keys that this version of Tidegate has.
pub(super) fn write(mut model: Model, source: &str, capabilities: &Capabilities) -> Written {
    for group in std::mem::take(&mut model.groups) {
        let settled = order::settle(group);
        for rule in &settled.unreachable {
            let hint = "an earlier rule accepts all of its requests, so it is not written";
            model.unneeded(&rule.at, "this rule", hint);
        }
        for (first, second) in &settled.conflicts {
            let hint =
                format!("its precedence over the rule of {} is lost: too many rules", second.at);
            model.left_out(&first.at, "this rule", &hint);
        }
        model.rules.extend(settled.rules);
    }
    capabilities.restrict(&mut model);
    hoist::hoist(&mut model, capabilities);
    prune(&mut model);
    repair::repair(&mut model, &|model| {
        let mut text = String::new();
        body(&mut text, model);
        text
    });
    prune(&mut model);
    let notes = merged(std::mem::take(&mut model.notes));
    let left_out = notes.iter().any(|(note, _)| note.verdict == Verdict::LeftOut);
    let remarks = remarks(&notes);
    let mut text = format!(
        "# Imported from {} by `tidegate import`. Next: tidegate check --config FILE\n",
        source.chars().filter(|c| !c.is_control()).collect::<String>()
    );
    for line in &remarks {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    let mut rest = String::new();
    body(&mut rest, &model);
    // Those of services that nothing uses are not written.
    let mut companions = std::mem::take(&mut model.companions);
    companions.retain(|companion| rest.contains(&companion.name));
    text.push_str(&rest);
    let serves_nothing = model.listeners.is_empty();
    Written { text, remarks, companions, left_out, serves_nothing }
}

fn body(text: &mut String, model: &Model) {
    text.push_str("version: 1\n");
    for (key, value) in &model.top.0 {
        document::entry(text, 0, key, value, "");
    }
    for (section, blocks) in [
        ("listeners", &model.listeners),
        ("services", &model.services),
        ("clusters", &model.clusters),
    ] {
        if blocks.is_empty() {
            // The three sections are required.
            let _ = write!(text, "\n{section}: {{}}\n");
            continue;
        }
        let _ = write!(text, "\n{section}:\n");
        for block in blocks {
            let keys = Doc::Map(block.keys.clone());
            document::entry(text, 1, &block.name, &keys, &block.at.to_string());
        }
    }
    if !model.rules.is_empty() {
        text.push_str("\nroutes:\n");
    }
    let http: Vec<&str> = http_listeners(model).map(|block| block.name.as_str()).collect();
    for rule in &model.rules {
        document::item(text, 1, &Doc::Map(route(rule, &http)), &rule.at.to_string());
    }
}

/// The listeners that speak HTTP.
fn http_listeners(model: &Model) -> impl Iterator<Item = &Block> {
    model
        .listeners
        .iter()
        .filter(|block| block.keys.get("protocol").and_then(Doc::text) == Some("http"))
}

fn route(rule: &Rule, http: &[&str]) -> Map {
    let mut map = conditions(&rule.when);
    let listeners = &rule.when.listeners;
    let all = http.iter().all(|name| listeners.iter().any(|listener| listener == name));
    if !listeners.is_empty() && !all {
        map.set("listeners", Doc::texts(listeners));
    }
    map.0.extend(rule.keys.0.iter().cloned());
    map
}

fn conditions(when: &When) -> Map {
    let mut map = Map::default();
    if !when.hosts.is_empty() {
        map.set("hosts", Doc::texts(&when.hosts));
    }
    match &when.path {
        PathTest::Exact(path) => map.set("path", path.as_str()),
        PathTest::Prefix(path) => map.set("path_prefix", path.as_str()),
        PathTest::Regex(pattern) => map.set("path_regex", pattern.as_str()),
    }
    if !when.methods.is_empty() {
        map.set("methods", Doc::texts(&when.methods));
    }
    for test in &when.tests {
        match test {
            Test { negated: false, field: Field::Header(name), value: Value::Exact(value) }
                if map.get("headers").is_none_or(|known| match known {
                    Doc::Map(known) => known.get(name).is_none(),
                    Doc::Text(_) | Doc::Word(_) | Doc::List(_) => true,
                }) =>
            {
                map.put("headers", name, value.as_str());
            }
            test => further(&mut map, test),
        }
    }
    map
}

/// A test under `match`.
fn further(map: &mut Map, test: &Test) {
    let place = if test.negated { "match.not" } else { "match" };
    let value = match &test.value {
        Value::Exact(value) => Doc::from(value.as_str()),
        Value::Regex(pattern) => Map(vec![("regex".to_owned(), pattern.as_str().into())]).into(),
        Value::Present => Map(vec![("present".to_owned(), Doc::word("true"))]).into(),
        Value::Networks(networks) => Doc::texts(networks),
    };
    match &test.field {
        Field::Header(name) => map.put(&format!("{place}.headers"), name, value),
        Field::Query(name) => map.put(&format!("{place}.query"), name, value),
        Field::Client => match value {
            Doc::List(networks) => {
                networks
                    .into_iter()
                    .for_each(|network| map.push(&format!("{place}.client"), network));
            }
            Doc::Text(_) | Doc::Word(_) | Doc::Map(_) => {}
        },
    }
}

/// Removes services and clusters that nothing uses.
fn prune(model: &mut Model) {
    let mut services = Vec::new();
    for keys in
        model.rules.iter().map(|rule| &rule.keys).chain(model.listeners.iter().map(|l| &l.keys))
    {
        for path in ["service", "mirror.service"] {
            services.extend(keys.get(path).and_then(Doc::text).map(str::to_owned));
        }
        if let Some(Doc::Map(split)) = keys.get("split") {
            services.extend(split.0.iter().map(|(name, _)| name.clone()));
        }
        if let Some(Doc::Map(sni)) = keys.get("sni") {
            services.extend(sni.0.iter().filter_map(|(_, name)| name.text().map(str::to_owned)));
        }
    }
    let dead = |used: &[String], blocks: &mut Vec<Block>| {
        blocks.retain(|block| used.contains(&block.name));
    };
    dead(&services, &mut model.services);
    let mut clusters = Vec::new();
    for service in &model.services {
        if let Some(Doc::List(names)) = service.keys.get("clusters") {
            clusters.extend(names.iter().filter_map(Doc::text).map(str::to_owned));
        }
    }
    dead(&clusters, &mut model.clusters);
    if model.services.is_empty() {
        add_unused(model);
    }
}

/// Adds a service without requests: a configuration has at least one.
fn add_unused(model: &mut Model) {
    const NAME: &str = "unused";
    let Some(at) = model.listeners.first().map(|block| block.at.clone()) else { return };
    let cluster = &mut block(&mut model.clusters, NAME, &at).keys;
    cluster.set("endpoints", Doc::texts(&["127.0.0.1:1"]));
    block(&mut model.services, NAME, &at).keys.set("clusters", Doc::texts(&[NAME]));
    let hint = "no route forwards requests, but there must be a service: `unused` gets none";
    model.differs(&at, "services", hint);
}

/// The remarks on a model of which nothing can be written.
pub(super) fn remarks_of(model: Model) -> Vec<String> {
    remarks(&merged(model.notes))
}

/// Notes with the same text as one, with all their places.
fn merged(mut notes: Vec<Note>) -> Vec<(Note, Vec<usize>)> {
    notes.sort();
    notes.dedup();
    let mut merged: Vec<(Note, Vec<usize>)> = Vec::new();
    for note in notes {
        let same = merged.iter_mut().find(|(known, _)| {
            (known.verdict, &known.at.file, &known.what, &known.hint)
                == (note.verdict, &note.at.file, &note.what, &note.hint)
        });
        match same {
            Some((_, more)) => more.push(note.at.line),
            None => merged.push((note, Vec::new())),
        }
    }
    merged
}

/// Whether YAML allows this character within a comment (YAML 1.2.2 §5.1).
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Further places of a note that are listed.
const PLACES_MAX: usize = 12;

fn remarks(notes: &[(Note, Vec<usize>)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (verdict, title) in [
        (Verdict::LeftOut, "Not translated:"),
        (Verdict::Differs, "Translated, but different in a detail:"),
        (Verdict::Unneeded, "Needs no equivalent:"),
    ] {
        let of_kind = notes.iter().filter(|(note, _)| note.verdict == verdict);
        let mut first = true;
        for (note, more) in of_kind {
            if first {
                lines.push(title.to_owned());
                first = false;
            }
            let mut also =
                more.iter().take(PLACES_MAX).map(usize::to_string).collect::<Vec<_>>().join(", ");
            if more.len() > PLACES_MAX {
                also.push_str(", ...");
            }
            let also = if more.is_empty() { String::new() } else { format!(" (also {also})") };
            let line = format!("  {}: `{}`: {}{also}", note.at, note.what, note.hint);
            // A remark is a comment of the configuration, and may have words of the original: it must stay on its line.
            lines.push(line.chars().filter(|c| is_printable(*c)).collect());
        }
    }
    lines
}
