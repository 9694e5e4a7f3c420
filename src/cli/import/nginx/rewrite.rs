//! `return`, `rewrite` and the URI of `proxy_pass`: redirects, fixed answers and rewrites of the path.

use super::super::document::{Doc, Map};
use super::super::model::{PathTest, Rule, When, redirect};
use super::super::pattern::{anchored, whole};
use super::Translation;
use super::condition::rule;
use super::parse::Directive;
use super::upstream::Target;
use super::values::Scope;

/// The keys of a `return`.
pub(super) fn returned(
    translation: &mut Translation<'_>,
    directive: &Directive,
    scope: &Scope<'_>,
) -> Map {
    let mut keys = Map::default();
    let (status, text) = match directive.words.as_slice() {
        [only] => match only.parse::<u16>() {
            Ok(status) => (status, None),
            Err(_) => (302, Some(only.as_str())),
        },
        [status, text, ..] => (status.parse().unwrap_or(0), Some(text.as_str())),
        [] => (0, None),
    };
    match (status, text) {
        (301 | 302 | 303 | 307 | 308, Some(to)) => match redirect_to(scope, to) {
            Ok(to) => redirect(&mut keys, &to, status),
            Err(name) => {
                let hint = format!("a redirect cannot have `${name}`");
                translation.model.left_out(&directive.at, &directive.shown(), &hint);
                keys.set("respond.status", Doc::word(404));
            }
        },
        (200..=599, text) => {
            keys.set("respond.status", Doc::word(status));
            let text = text.map(|text| scope.expanded(text));
            match text {
                Some(text) if text.contains('$') => {
                    translation.model.left_out(
                        &directive.at,
                        &directive.shown(),
                        "the body cannot have variables",
                    );
                }
                Some(text) => keys.set("respond.body", text),
                None => {}
            }
        }
        _ => {
            let hint = "the answer is 403; a connection is not closed without an answer";
            translation.model.differs(&directive.at, &directive.shown(), hint);
            keys.set("respond.status", Doc::word(403));
        }
    }
    keys
}

/// A target of a redirect: `{uri}` as path and query.
fn redirect_to(scope: &Scope<'_>, to: &str) -> Result<String, String> {
    let to = scope.template(to)?;
    let to = to.replace("{uri}", "{path}?{query}").replace("??{query}", "?{query}");
    Ok(to)
}

/// A `rewrite` that answers with a redirect.
pub(super) fn redirecting(
    translation: &mut Translation<'_>,
    directive: &Directive,
    scope: &Scope<'_>,
    base: &When,
) -> Option<Rule> {
    let (pattern, to, flag) = (directive.word(0), directive.word(1), directive.word(2));
    let absolute =
        to.starts_with("http://") || to.starts_with("https://") || to.starts_with("$scheme");
    let status = match flag {
        "permanent" => 301,
        "redirect" => 302,
        _ if absolute => 302,
        // An internal rewrite belongs to the location.
        _ if scope.levels.len() > 2 => return None,
        _ => {
            let hint = "write a route with `path_regex` and `rewrite` for it";
            translation.model.left_out(&directive.at, &directive.shown(), hint);
            return None;
        }
    };
    let everything = matches!(
        pattern,
        "^" | ".*"
            | "^.*"
            | "^.*$"
            | "^/.*"
            | "^/.*$"
            | "^(.*)"
            | "^(.*)$"
            | "(.*)"
            | "^/(.*)"
            | "^/(.*)$"
            | "/"
    );
    let rooted = pattern.starts_with("^/(.*)");
    let to = match rooted {
        true => to.replace("/$1", "$uri"),
        false => to.replace("$1", "$uri"),
    };
    let to = match to.strip_suffix('?') {
        Some(bare) => bare.to_owned(),
        None if to.contains("$request_uri") || to.contains("$args") => to,
        None => format!("{to}$is_args$args"),
    };
    let (path, to) = match (everything, redirect_to(scope, &to)) {
        (true, Ok(to)) => (base.path.clone(), to),
        (false, Ok(to)) if base.path == PathTest::Prefix("/".to_owned()) => {
            match whole(pattern, false) {
                Ok(pattern) => (PathTest::Regex(pattern), to),
                Err(hint) => {
                    translation.model.left_out(&directive.at, &directive.shown(), hint);
                    return None;
                }
            }
        }
        (_, _) => {
            let hint = "a redirect cannot have a part of the path: write one route for each path";
            translation.model.left_out(&directive.at, &directive.shown(), hint);
            return None;
        }
    };
    let mut keys = Map::default();
    redirect(&mut keys, &to, status);
    Some(rule(&directive.at, When { path, ..base.clone() }, keys))
}

/// The rewrite by the URI of `proxy_pass`, or by `rewrite` in the location.
pub(super) fn rewrite(
    translation: &mut Translation<'_>,
    keys: &mut Map,
    target: &Target,
    scope: &Scope<'_>,
    path: &PathTest,
    pass: &Directive,
) {
    if own_rewrite(translation, keys, scope) {
        return;
    }
    let Some(uri) = &target.uri else { return };
    match path {
        PathTest::Prefix(prefix) if uri.contains(['$', '?']) => {
            let hint =
                format!("the path below `{prefix}` cannot be replaced by variables or a query");
            translation.model.left_out(&pass.at, &pass.shown(), &hint);
        }
        PathTest::Prefix(prefix) => {
            let (from, to) = (prefix.trim_end_matches('/'), uri.trim_end_matches('/'));
            if prefix.ends_with('/') != uri.ends_with('/') {
                let hint = "nginx joins the rest of the path without, or with two, slashes; Tidegate with one";
                translation.model.differs(&pass.at, &pass.shown(), hint);
            }
            if from != to {
                if !from.is_empty() {
                    keys.set("rewrite.strip_prefix", from);
                }
                if !to.is_empty() {
                    keys.set("rewrite.add_prefix", to);
                }
            }
        }
        PathTest::Exact(path) if path != uri && !uri.contains(['$', '?']) => {
            keys.set("rewrite.path_regex.match", anchored(&regex::escape(path)));
            keys.set("rewrite.path_regex.replace", uri.as_str());
        }
        PathTest::Exact(_) => {}
        PathTest::Regex(pattern) => {
            keys.set("rewrite.path_regex.match", anchored(pattern));
            keys.set("rewrite.path_regex.replace", uri.as_str());
        }
    }
}

fn is_literal(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_~".contains(c))
}

/// A `rewrite` in the location; whether there is one.
fn own_rewrite(translation: &mut Translation<'_>, keys: &mut Map, scope: &Scope<'_>) -> bool {
    let own: &[Directive] = scope.levels.last().copied().unwrap_or_default();
    for directive in own.iter().filter(|d| d.name == "rewrite") {
        let pattern = directive.word(0);
        if matches!(directive.word(2), "permanent" | "redirect")
            || directive.word(1).starts_with("http")
        {
            continue;
        }
        let prefix = pattern
            .strip_prefix('^')
            .and_then(|p| p.strip_suffix("/(.*)$").or(p.strip_suffix("/(.*)")));
        match prefix {
            Some(prefix)
                if directive.word(1) == "/$1" && prefix.starts_with('/') && is_literal(prefix) =>
            {
                keys.set("rewrite.strip_prefix", prefix);
            }
            _ => match whole(pattern, false) {
                Ok(pattern) if !directive.word(1).contains('?') => {
                    keys.set("rewrite.path_regex.match", anchored(&pattern));
                    keys.set("rewrite.path_regex.replace", directive.word(1));
                }
                Ok(_) | Err(_) => {
                    let hint = "`rewrite.path_regex` changes the path alone, by the `regex` crate's expressions";
                    translation.model.left_out(&directive.at, &directive.shown(), hint);
                }
            },
        }
        return true;
    }
    false
}
