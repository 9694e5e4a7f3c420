//! `map` as cases: each value of the map is the condition of a route, and the variable has the map's value there.
//!
//! A part of a location that uses the variable is translated once for each case, as if the value were written in its place.
//! nginx takes exact values before wildcards, and these before expressions; the cases are in this order, the default is
//! the last.

use super::super::model::{Field, Model, PathTest, Test, Value, When, is_canonical};
use super::super::pattern::whole;
use super::Translation;
use super::condition::compared;
use super::parse::Directive;
use super::settings::BUILT_IN;
use super::values::{Scope, names_in};

/// Cases of one place, at most.
const CASES_MAX: usize = 256;

/// A place of the original under one combination of values.
#[derive(Clone, Debug)]
pub(super) struct Case<'a> {
    /// The scope, in which the variables of the maps have their values.
    pub(super) scope: Scope<'a>,
    /// The conditions.
    pub(super) when: When,
}

/// A left side of a map.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    /// This value, without regard to case.
    Exact(String),
    /// Hosts below a domain, with the domain itself or without it.
    Hosts(Vec<String>),
    /// An expression, and whether it ignores case.
    Regex(String, bool),
}

/// A map that was read.
#[derive(Debug)]
struct Table {
    variable: String,
    source: String,
    entries: Vec<(Key, String)>,
    default: String,
}

/// The cases of directives: one if they use no map, else one for each value. The last has the conditions of `base`.
///
/// A map that cannot be translated is noted, and its variable has no value.
pub(super) fn cases<'a>(
    translation: &mut Translation<'_>,
    scope: &Scope<'a>,
    directives: &[&Directive],
    base: &When,
) -> Vec<Case<'a>> {
    let mut cases = vec![Case { scope: scope.clone(), when: base.clone() }];
    let http = translation.http;
    for map in http.iter().filter(|d| d.name == "map") {
        let Some(variable) = map.word(1).strip_prefix('$') else { continue };
        if !directives.iter().any(|directive| uses(directive, scope, variable)) {
            continue;
        }
        let next = table(map).and_then(|table| {
            if matches!(table.source.as_str(), "uri" | "document_uri" | "request_uri") {
                let hint = "paths are compared with their case, and without the query";
                translation.model.differs(&map.at, &map.shown(), hint);
            }
            multiplied(&translation.model, &cases, &table)
        });
        match next {
            Ok(next) => cases = next,
            Err(hint) => translation.model.left_out(&map.at, &map.shown(), &hint),
        }
    }
    cases
}

/// Whether the value of an `if` is known in a case: the value of the map decides it.
pub(super) fn decided(words: &[String], scope: &Scope<'_>) -> Option<bool> {
    let text = words.join(" ");
    let text = text.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
    let (variable, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let value = scope.bound(variable.strip_prefix('$')?).filter(|value| !value.contains('$'))?;
    let (operator, other) =
        rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    let other = other.trim().trim_matches(['"', '\'']);
    let search = |ignores_case: bool| {
        let pattern = if ignores_case { format!("(?i){other}") } else { other.to_owned() };
        regex::Regex::new(&pattern).ok().map(|regex| regex.is_match(value))
    };
    match operator {
        "" => Some(!value.is_empty() && value != "0"),
        "=" => Some(value == other),
        "!=" => Some(value != other),
        "~" => search(false),
        "~*" => search(true),
        "!~" => search(false).map(|found| !found),
        "!~*" => search(true).map(|found| !found),
        _ => None,
    }
}

/// Notes the maps that nothing translates.
pub(super) fn note(translation: &mut Translation<'_>) {
    let http = translation.http;
    for map in http.iter().filter(|d| d.name == "map") {
        let Some(variable) = map.word(1).strip_prefix('$') else {
            translation.model.left_out(&map.at, &map.shown(), "it has no variable");
            continue;
        };
        let mut uses = Vec::new();
        mentions(http, variable, &mut uses);
        note_uses(&mut translation.model, map, &uses);
    }
}

/// Directives whose translation depends on the value of a variable.
const DEPENDS: &[&str] = &[
    "proxy_pass",
    "grpc_pass",
    "proxy_set_header",
    "grpc_set_header",
    "add_header",
    "auth_basic",
    "return",
    "rewrite",
    "if",
    "set",
    "map",
];

fn note_uses(model: &mut Model, map: &Directive, uses: &[&Directive]) {
    if uses.is_empty() {
        return model.unneeded(&map.at, &map.shown(), "nothing uses it");
    }
    let uses: Vec<&&Directive> = uses.iter().filter(|directive| !is_built_in(directive)).collect();
    if uses.is_empty() {
        let why = "Tidegate sends X-Forwarded-*, X-Request-Id and upgrades by itself";
        return model.unneeded(&map.at, &map.shown(), why);
    }
    if let Err(hint) = table(map)
        && uses.iter().any(|directive| DEPENDS.contains(&directive.name.as_str()))
    {
        model.left_out(&map.at, &map.shown(), &hint);
    }
    for directive in uses {
        match directive.name.as_str() {
            "access_log" | "log_format" => {
                let hint = "the access log has every exchange, and fixed fields (`access_log`)";
                model.differs(&map.at, &map.shown(), hint);
            }
            name if !DEPENDS.contains(&name) => {
                let hint =
                    format!("`{name}` cannot depend on the request (line {})", directive.at.line);
                model.left_out(&map.at, &map.shown(), &hint);
            }
            _ => {}
        }
    }
}

/// A field of the request that Tidegate sends itself, whatever its value.
fn is_built_in(directive: &Directive) -> bool {
    let name = directive.word(0).to_ascii_lowercase();
    matches!(directive.name.as_str(), "proxy_set_header" | "grpc_set_header")
        && name != "host"
        && BUILT_IN.contains(&name.as_str())
}

fn uses(directive: &Directive, scope: &Scope<'_>, variable: &str) -> bool {
    let named = |word: &String| names_in(&scope.expanded(word)).iter().any(|name| name == variable);
    !is_built_in(directive) && directive.words.iter().any(named)
}

/// All directives that mention a variable, but the map that defines it.
fn mentions<'a>(directives: &'a [Directive], variable: &str, found: &mut Vec<&'a Directive>) {
    let named = |word: &String| names_in(word).iter().any(|name| name == variable);
    for directive in directives {
        let is_own =
            directive.name == "map" && directive.word(1).strip_prefix('$') == Some(variable);
        if is_own {
            continue;
        }
        if directive.words.iter().any(named) {
            found.push(directive);
        }
        mentions(directive.inner(), variable, found);
    }
}

/// Reads a map.
fn table(map: &Directive) -> Result<Table, String> {
    let source = map.word(0).replace(['{', '}'], "");
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let plain = source.strip_prefix('$').filter(is_name);
    let (Some(source), Some(variable)) = (plain, map.word(1).strip_prefix('$')) else {
        return Err("its source is not one variable".to_owned());
    };
    let has_hosts = map.inner().iter().any(|entry| entry.name == "hostnames");
    let (mut exact, mut wild, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
    let mut default = String::new();
    for entry in map.inner() {
        let value = entry.word(0).to_owned();
        if names_in(&value).iter().any(|name| name.starts_with(|c: char| c.is_ascii_digit())) {
            return Err(format!("the value of `{}` has a part of the match", entry.name));
        }
        match entry.name.as_str() {
            "hostnames" | "volatile" if entry.words.is_empty() => {}
            "default" => default = value,
            name if name.starts_with("~*") => {
                patterns.push((Key::Regex(name[2..].to_owned(), true), value));
            }
            name if name.starts_with('~') => {
                patterns.push((Key::Regex(name[1..].to_owned(), false), value));
            }
            name if has_hosts && name.ends_with(".*") => {
                return Err("hosts are exact, or begin with `*.`: list the names".to_owned());
            }
            name if has_hosts && name.starts_with("*.") => {
                wild.push((Key::Hosts(vec![name.to_ascii_lowercase()]), value));
            }
            name if has_hosts && name.starts_with('.') => {
                let name = name.to_ascii_lowercase();
                let hosts = vec![name.trim_start_matches('.').to_owned(), format!("*{name}")];
                wild.push((Key::Hosts(hosts), value));
            }
            name => exact.push((Key::Exact(name.trim_start_matches('\\').to_owned()), value)),
        }
    }
    // The longest wildcard is taken.
    wild.sort_by_key(|(key, _)| match key {
        Key::Hosts(hosts) => std::cmp::Reverse(hosts.iter().map(String::len).max()),
        Key::Exact(_) | Key::Regex(..) => std::cmp::Reverse(None),
    });
    let entries = [exact, wild, patterns].concat();
    Ok(Table { variable: variable.to_owned(), source: source.to_owned(), entries, default })
}

/// Each case, once for each entry of a map.
fn multiplied<'a>(
    model: &Model,
    cases: &[Case<'a>],
    table: &Table,
) -> Result<Vec<Case<'a>>, String> {
    use super::super::conditions::Apart;
    let mut next = Vec::new();
    for case in cases {
        for (key, value) in &table.entries {
            let Some(when) = condition(model, &case.when, &table.source, key)? else { continue };
            match case.when.and(&when) {
                Ok(when) => {
                    next.push(Case { scope: case.scope.with(&table.variable, value), when });
                }
                Err(Apart::Disjoint) => {}
                Err(Apart::Inexpressible) => {
                    return Err("a route has one path, prefix or expression".to_owned());
                }
            }
        }
        let scope = case.scope.with(&table.variable, &table.default);
        next.push(Case { scope, when: case.when.clone() });
        if next.len() > CASES_MAX {
            return Err(format!(
                "it makes more than {CASES_MAX} routes: write them for the values that matter"
            ));
        }
    }
    Ok(next)
}

/// The requests for which the source of a map has a value. Nothing if there are none.
fn condition(model: &Model, base: &When, source: &str, key: &Key) -> Result<Option<When>, String> {
    let none = || format!("a map of `${source}` has no equivalent among the conditions of a route");
    let when = match (source, key) {
        ("scheme", Key::Exact(scheme)) => return Ok(by_tls(model, base, scheme == "https")),
        ("https", Key::Exact(on)) => return Ok(by_tls(model, base, on == "on")),
        ("uri" | "document_uri" | "request_uri", key) => {
            let path = match key {
                Key::Exact(path) if is_canonical(path) => PathTest::Exact(path.clone()),
                Key::Regex(pattern, ignores_case) if !pattern.contains('?') => {
                    PathTest::Regex(whole(pattern, *ignores_case)?)
                }
                Key::Exact(path) => return Err(format!("`{path}` is no canonical path")),
                Key::Regex(..) | Key::Hosts(_) => return Err(none()),
            };
            When { path, ..When::default() }
        }
        ("host" | "http_host", Key::Exact(host)) => hosts(vec![host.to_ascii_lowercase()])?,
        ("host" | "http_host", Key::Hosts(all)) => hosts(all.clone())?,
        ("host" | "http_host", Key::Regex(..)) => {
            return Err("hosts are exact, or begin with `*.`: list the names".to_owned());
        }
        ("request_method", Key::Exact(method)) => {
            When { methods: vec![method.to_ascii_uppercase()], ..When::default() }
        }
        ("remote_addr", Key::Exact(address)) if address.parse::<std::net::IpAddr>().is_ok() => {
            tested(Test {
                negated: false,
                field: Field::Client,
                value: Value::Networks(vec![address.clone()]),
            })
        }
        ("request_method", Key::Regex(pattern, false)) => {
            compared("$request_method", "~", pattern, &When::default()).ok_or_else(none)?
        }
        (source, key) => tested(test(source, key).ok_or_else(none)??),
    };
    Ok(Some(when))
}

fn tested(test: Test) -> When {
    When { tests: vec![test], ..When::default() }
}

fn hosts(hosts: Vec<String>) -> Result<When, String> {
    let valid = |host: &String| {
        crate::config::scalar::is_host_name(host.trim_start_matches("*."))
            || host.parse::<std::net::IpAddr>().is_ok()
    };
    match hosts.iter().find(|host| !valid(host)) {
        Some(host) => Err(format!("`{host}` is no host")),
        None => Ok(When { hosts, ..When::default() }),
    }
}

/// The listeners with or without TLS.
fn by_tls(model: &Model, base: &When, tls: bool) -> Option<When> {
    let mut listeners = base.listeners.clone();
    listeners.retain(|name| {
        let found = model.listeners.iter().find(|block| block.name == *name);
        found.is_some_and(|block| block.keys.get("tls").is_some()) == tls
    });
    (!listeners.is_empty()).then(|| When { listeners, ..When::default() })
}

/// A test of a header field, a cookie or a parameter of the query; nothing if the source is none of them. A missing
/// field has the empty value.
fn test(source: &str, key: &Key) -> Option<Result<Test, String>> {
    if let Some(cookie) = source.strip_prefix("cookie_") {
        return Some(cookie_test(cookie, key));
    }
    let field = match (source.strip_prefix("http_"), source.strip_prefix("arg_")) {
        (Some(header), _) => Field::Header(header.replace('_', "-")),
        (None, Some(parameter)) => Field::Query(parameter.to_owned()),
        (None, None) => return None,
    };
    let (negated, value) = match key {
        Key::Exact(text) if text.is_empty() => (true, Value::Present),
        Key::Exact(text) => (false, without_case(text)),
        Key::Regex(pattern, ignores_case) => match whole(pattern, *ignores_case) {
            Ok(all) if !accepts_nothing(&all) => (false, Value::Regex(all)),
            Ok(_) => {
                return Some(Err(format!("`{pattern}` accepts a missing field, too")));
            }
            Err(hint) => return Some(Err(hint.to_owned())),
        },
        Key::Hosts(_) => return None,
    };
    Some(Ok(Test { negated, field, value }))
}

/// nginx compares the values of a map without regard to case.
fn without_case(text: &str) -> Value {
    match text.contains(|c: char| c.is_alphabetic()) {
        true => Value::Regex(format!("(?i){}", regex::escape(text))),
        false => Value::Exact(text.to_owned()),
    }
}

fn accepts_nothing(whole: &str) -> bool {
    regex::Regex::new(&format!("^(?:{whole})$")).is_ok_and(|regex| regex.is_match(""))
}

/// A cookie among those of the field `Cookie`.
fn cookie_test(name: &str, key: &Key) -> Result<Test, String> {
    let (negated, value) = match key {
        Key::Exact(text) if text.is_empty() => (true, "[^;]+".to_owned()),
        Key::Exact(text) => (false, format!("(?i:{})", regex::escape(text))),
        Key::Regex(..) | Key::Hosts(_) => {
            return Err("a cookie is compared with a whole value".to_owned());
        }
    };
    let pattern = format!("(.*; *)?{}={value}(;.*)?", regex::escape(name));
    Ok(Test { negated, field: Field::Header("cookie".to_owned()), value: Value::Regex(pattern) })
}
