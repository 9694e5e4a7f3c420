//! The condition of `if`, and the rules of a server.

use super::super::document::Map;
use super::super::model::{Field, Origin, Rule, Test, Value, When};
use super::super::pattern::whole;
use super::values::Scope;

/// A server with its scope and its listeners.
pub(super) struct Server<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) at: Origin,
    /// Names of listeners.
    pub(super) listeners: Vec<String>,
    /// Hosts; empty is any.
    pub(super) hosts: Vec<String>,
}

/// Conditions and that of an `if`, if routes have such a condition.
pub(super) fn condition(test: &[String], when: &When) -> Option<When> {
    let text = test.join(" ");
    let text = text.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
    let parts: Vec<&str> = text.split_whitespace().collect();
    match parts.as_slice() {
        [variable, operator, value] => {
            compared(variable, operator, value.trim_matches(['"', '\'']), when)
        }
        [variable] => compared(variable, "", "", when),
        _ => None,
    }
}

/// The conditions of `when` together with a comparison of a variable with a value; `None` if it cannot be translated.
pub(super) fn compared(variable: &str, operator: &str, value: &str, when: &When) -> Option<When> {
    let mut when = when.clone();
    let field = match variable.strip_prefix('$')? {
        "host" | "http_host" if operator == "=" => {
            when.hosts = vec![value.to_ascii_lowercase()];
            return Some(when);
        }
        "request_method" if operator == "=" => {
            when.methods = vec![value.to_owned()];
            return Some(when);
        }
        "request_method" if operator == "~" => {
            let names = value.trim_matches(['^', '$', '(', ')']);
            when.methods = names.split('|').map(str::to_owned).collect();
            let plain = when
                .methods
                .iter()
                .all(|m| !m.is_empty() && m.chars().all(|c| c.is_ascii_uppercase()));
            return plain.then_some(when);
        }
        "remote_addr" => Field::Client,
        name => match (name.strip_prefix("http_"), name.strip_prefix("arg_")) {
            (Some(header), _) => Field::Header(header.replace('_', "-")),
            (None, Some(parameter)) => Field::Query(parameter.to_owned()),
            (None, None) => return None,
        },
    };
    let value_of =
        |pattern: &str, ignores_case| whole(pattern, ignores_case).ok().map(Value::Regex);
    let (negated, value) = match (operator, &field) {
        ("=" | "!=", Field::Client) => (operator == "!=", Value::Networks(vec![value.to_owned()])),
        (_, Field::Client) => return None,
        ("=", _) => (false, Value::Exact(value.to_owned())),
        ("!=", _) => (true, Value::Exact(value.to_owned())),
        ("~", _) => (false, value_of(value, false)?),
        ("~*", _) => (false, value_of(value, true)?),
        ("!~", _) => (true, value_of(value, false)?),
        ("!~*", _) => (true, value_of(value, true)?),
        ("", _) => (false, Value::Present),
        _ => return None,
    };
    when.tests.push(Test { negated, field, value });
    when.tests.sort();
    Some(when)
}

/// A rule of a server.
pub(super) fn rule(at: &Origin, when: When, keys: Map) -> Rule {
    Rule { at: at.clone(), when, keys }
}
