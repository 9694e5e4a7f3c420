//! nginx's locations as rules: exact paths, then `^~` prefixes, then expressions, then the other prefixes, longest first.

use super::super::document::{Doc, Map};
use super::super::model::{PathTest, Rule, When, is_canonical};
use super::super::pattern::whole;
use super::Translation;
use super::condition::{Server, condition, rule};
use super::map::{Case, cases, decided};
use super::parse::Directive;
use super::rewrite::{redirecting, returned, rewrite};
use super::settings::settings;
use super::upstream::target;
use super::values::Scope;

/// Levels of locations inside locations, and of named locations.
const DEPTH_MAX: usize = 8;

/// A location with its scope.
struct Location<'a> {
    path: PathTest,
    /// Whether it precedes expressions.
    is_early: bool,
    scope: Scope<'a>,
    directive: &'a Directive,
}

/// What the answer to a request is.
enum Answer {
    /// Keys of a route.
    Keys(Map),
    /// Nothing that Tidegate can do.
    Nothing,
}

/// The rules of a server.
pub(super) fn rules(translation: &mut Translation<'_>, server: &Server<'_>, closes: bool) {
    let base = When {
        listeners: server.listeners.clone(),
        hosts: server.hosts.clone(),
        ..When::default()
    };
    let mut group = Vec::new();
    let ends = first_rules(
        translation,
        &server.scope,
        &base,
        &mut group,
        &PathTest::Prefix("/".to_owned()),
    );
    if !ends {
        let mut locations = Vec::new();
        gather(translation, &server.scope, &mut locations, 0);
        sort(translation, &mut locations);
        for location in &locations {
            of_location(translation, location, &base, &mut group);
        }
        let any = PathTest::Prefix("/".to_owned());
        let has_any = locations.iter().any(|location| location.path == any);
        if !has_any && (closes || server.scope.last("root").is_some_and(|_| !locations.is_empty()))
        {
            let mut keys = Map::default();
            keys.set("respond.status", Doc::word(404));
            group.push(rule(&server.at, base, keys));
        }
    }
    translation.model.groups.push(group);
}

/// Rules of `return`, `if` and `rewrite` in a block; whether they take all requests.
fn first_rules(
    translation: &mut Translation<'_>,
    scope: &Scope<'_>,
    base: &When,
    group: &mut Vec<Rule>,
    path: &PathTest,
) -> bool {
    let base = When { path: path.clone(), ..base.clone() };
    let Some(block) = scope.levels.last() else { return false };
    let is_rule = |d: &&Directive| matches!(d.name.as_str(), "return" | "if" | "rewrite");
    for directive in block.iter().filter(is_rule) {
        let mut ends = false;
        for case in cases(translation, scope, &[directive], &base) {
            ends = first_rule(translation, directive, &case, group);
        }
        // The last case is that of all other requests.
        if ends {
            return true;
        }
    }
    false
}

/// A rule of `return`, `if` or `rewrite`; whether it takes all requests of the case.
fn first_rule(
    translation: &mut Translation<'_>,
    directive: &Directive,
    case: &Case<'_>,
    group: &mut Vec<Rule>,
) -> bool {
    let Case { scope, when } = case;
    match directive.name.as_str() {
        "return" => {
            let keys = returned(translation, directive, scope);
            group.push(rule(&directive.at, when.clone(), keys));
            true
        }
        "rewrite" => {
            let Some(made) = redirecting(translation, directive, scope, when) else { return false };
            let is_all = made.when.path == when.path;
            group.push(made);
            is_all
        }
        _ => {
            conditional(translation, directive, scope, when, group);
            false
        }
    }
}

fn conditional(
    translation: &mut Translation<'_>,
    directive: &Directive,
    scope: &Scope<'_>,
    base: &When,
    group: &mut Vec<Rule>,
) {
    let known = decided(&directive.words, scope);
    if known == Some(false) {
        return;
    }
    let scheme = scheme_test(&directive.words);
    let inside = scope.inside(directive.inner());
    let before = group.len();
    let when = match (scheme, scope.tls) {
        _ if known == Some(true) => Some(base.clone()),
        (Some(tls), Some(own)) if tls == own => Some(base.clone()),
        (Some(_), Some(_)) => {
            translation.model.unneeded(&directive.at, &directive.shown(), "it is never true here");
            return;
        }
        (Some(tls), None) => {
            // The listeners with or without TLS.
            let mut when = base.clone();
            when.listeners.retain(|name| {
                let found = translation.model.listeners.iter().find(|block| block.name == *name);
                found.is_some_and(|block| block.keys.get("tls").is_some()) == tls
            });
            (!when.listeners.is_empty()).then_some(when)
        }
        (None, _) => condition(&directive.words, base),
    };
    if let Some(when) = when {
        first_rules(translation, &inside, &when, group, &base.path);
    }
    if group.len() == before {
        let hint = "write a route with `match` for the condition, or leave it to the application";
        translation.model.left_out(&directive.at, &directive.shown(), hint);
    }
}

/// All locations of a block, those inside others too.
fn gather<'a>(
    translation: &mut Translation<'_>,
    scope: &Scope<'a>,
    found: &mut Vec<Location<'a>>,
    depth: usize,
) {
    let Some(block) = scope.levels.last() else { return };
    for directive in block.iter().filter(|d| d.name == "location") {
        let (modifier, pattern) = match directive.words.as_slice() {
            [pattern] => match ["^~", "~*", "~", "="]
                .iter()
                .find_map(|m| Some((*m, pattern.strip_prefix(m)?)))
            {
                Some((modifier, pattern)) => (modifier, pattern),
                None => ("", pattern.as_str()),
            },
            [modifier, pattern] => (modifier.as_str(), pattern.as_str()),
            _ => continue,
        };
        if pattern.starts_with('@') {
            continue;
        }
        let path = match modifier {
            "~" | "~*" => match whole(pattern, modifier == "~*") {
                Ok(pattern) => PathTest::Regex(pattern),
                Err(hint) => {
                    translation.model.left_out(&directive.at, &directive.shown(), hint);
                    continue;
                }
            },
            "=" => PathTest::Exact(pattern.to_owned()),
            _ => {
                if !pattern.ends_with('/') {
                    let hint = "a prefix matches whole segments: not `/abc` by `/ab`";
                    translation.model.differs(&directive.at, &directive.shown(), hint);
                }
                PathTest::Prefix(pattern.to_owned())
            }
        };
        let is_early = modifier == "^~";
        let scope = scope.inside(directive.inner());
        if depth < DEPTH_MAX {
            gather(translation, &scope, found, depth + 1);
        }
        found.push(Location { path, is_early, scope, directive });
    }
}

fn sort(translation: &mut Translation<'_>, locations: &mut [Location<'_>]) {
    let length = |path: &PathTest| match path {
        PathTest::Prefix(path) | PathTest::Exact(path) => path.len(),
        PathTest::Regex(_) => 0,
    };
    let early: Vec<String> = locations
        .iter()
        .filter(|location| location.is_early)
        .filter_map(|location| match &location.path {
            PathTest::Prefix(path) => Some(path.clone()),
            PathTest::Exact(_) | PathTest::Regex(_) => None,
        })
        .collect();
    let has_patterns = locations.iter().any(|location| matches!(location.path, PathTest::Regex(_)));
    for location in locations.iter_mut() {
        let PathTest::Prefix(path) = &location.path else { continue };
        if !location.is_early && has_patterns && early.iter().any(|start| path.starts_with(start)) {
            location.is_early = true;
            let hint = "it precedes the regular expressions, as the `^~` location around it does";
            translation.model.differs(&location.directive.at, &location.directive.shown(), hint);
        }
    }
    locations.sort_by_key(|location| {
        let kind = match (&location.path, location.is_early) {
            (PathTest::Exact(_), _) => 0,
            (PathTest::Prefix(_), true) => 1,
            (PathTest::Regex(_), _) => 2,
            (PathTest::Prefix(_), false) => 3,
        };
        (kind, std::cmp::Reverse(length(&location.path)))
    });
}

fn of_location(
    translation: &mut Translation<'_>,
    location: &Location<'_>,
    base: &When,
    group: &mut Vec<Rule>,
) {
    if canonical(&location.path).is_none() {
        let hint = "the path is not in canonical form: no request has it";
        translation.model.left_out(&location.directive.at, &location.directive.shown(), hint);
        return;
    }
    let has = |name: &str| location.directive.inner().iter().any(|d| d.name == name);
    if has("internal") {
        translation.model.unneeded(
            &location.directive.at,
            &location.directive.shown(),
            "no request of a client reaches it",
        );
        return;
    }
    if first_rules(translation, &location.scope, base, group, &location.path) {
        return;
    }
    let base = When { path: location.path.clone(), ..base.clone() };
    let directives = depending(&location.scope);
    for case in cases(translation, &location.scope, &directives, &base) {
        of_case(translation, location, case, group);
    }
}

/// The directives of a location whose values may be those of a map.
fn depending<'a>(scope: &Scope<'a>) -> Vec<&'a Directive> {
    let own: &[Directive] = scope.levels.last().copied().unwrap_or_default();
    let passes = own.iter().filter(|d| matches!(d.name.as_str(), "proxy_pass" | "grpc_pass"));
    let fields = ["proxy_set_header", "grpc_set_header", "add_header"];
    let fields = fields.iter().flat_map(|name| scope.all(name));
    passes.chain(fields).chain(scope.last("auth_basic")).collect()
}

/// The rule of a location in one case of its maps.
fn of_case(
    translation: &mut Translation<'_>,
    location: &Location<'_>,
    case: Case<'_>,
    group: &mut Vec<Rule>,
) {
    let Case { scope, mut when } = case;
    let mut keys = match answer(translation, &scope, &location.path, location.directive, 0) {
        Answer::Keys(keys) => keys,
        Answer::Nothing => {
            let mut keys = Map::default();
            keys.set("respond.status", Doc::word(404));
            keys
        }
    };
    super::policy::policies(translation, &scope, &mut keys);
    super::policy::limit_except(translation, &scope, &mut when, &keys, group);
    group.push(rule(&location.directive.at, when, keys));
}

/// Whether a path can be that of a request.
fn canonical(path: &PathTest) -> Option<()> {
    match path {
        PathTest::Regex(_) => Some(()),
        PathTest::Prefix(path) | PathTest::Exact(path) => is_canonical(path).then_some(()),
    }
}

fn answer(
    translation: &mut Translation<'_>,
    scope: &Scope<'_>,
    path: &PathTest,
    directive: &Directive,
    depth: usize,
) -> Answer {
    let own: &[Directive] = scope.levels.last().copied().unwrap_or_default();
    let pass = own.iter().rev().find(|d| matches!(d.name.as_str(), "proxy_pass" | "grpc_pass"));
    if let Some(pass) = pass {
        return passed(translation, pass, scope, path);
    }
    let fallback = scope.last("try_files").and_then(|files| Some((files, files.words.last()?)));
    if let Some((files, name)) = fallback {
        let named = scope
            .levels
            .iter()
            .rev()
            .flat_map(|level| level.iter())
            .find(|d| d.name == "location" && d.word(0) == name);
        if let (Some(named), true) = (named, name.starts_with('@') && depth < DEPTH_MAX) {
            let hint =
                format!("Tidegate serves no files: all requests go where `{name}` sends them");
            translation.model.left_out(&files.at, &files.shown(), &hint);
            let inside = scope.inside(named.inner());
            return answer(translation, &inside, path, named, depth + 1);
        }
        let hint = "Tidegate serves no files: the answer is 404. Keep a web server for them, and route to it as a cluster";
        translation.model.left_out(&files.at, &files.shown(), hint);
        return Answer::Nothing;
    }
    let hint = "it serves no cluster: the answer is 404. Keep a web server for it, and route to it as a cluster";
    translation.model.left_out(&directive.at, &directive.shown(), hint);
    Answer::Nothing
}

fn passed(
    translation: &mut Translation<'_>,
    pass: &Directive,
    scope: &Scope<'_>,
    path: &PathTest,
) -> Answer {
    let (mut written, mut text) = (pass.word(0).to_owned(), scope.expanded(pass.word(0)));
    for whole_uri in ["$request_uri", "$uri$is_args$args"] {
        for text in [&mut written, &mut text] {
            *text = text.strip_suffix(whole_uri).map_or(text.clone(), str::to_owned);
        }
    }
    let mut keys = Map::default();
    if text.is_empty() || text.ends_with("://") {
        // The map has no value for these requests: nginx answers 500.
        keys.set("respond.status", Doc::word(500));
        return Answer::Keys(keys);
    }
    if let Some(split) = super::policy::split(translation, &text, scope, &pass.at) {
        keys.set("split", split);
    } else {
        let found = target(&text).filter(|target| !target.address.contains('$'));
        let Some(target) = found else {
            let hint = "the target depends on the request: write a route for each value";
            translation.model.left_out(&pass.at, &pass.shown(), hint);
            return Answer::Nothing;
        };
        let service = translation.service(&target, scope, &pass.at);
        keys.set("service", service);
        match target.uri.as_deref().filter(|uri| !uri.contains(['$', '?'])) {
            // With a variable in it, the URI replaces the whole path.
            Some(uri) if written.contains('$') => {
                keys.set("rewrite.path_regex.match", "^.*$");
                keys.set("rewrite.path_regex.replace", uri);
            }
            Some(_) | None => rewrite(translation, &mut keys, &target, scope, path, pass),
        }
    }
    settings(translation, &mut keys, scope);
    Answer::Keys(keys)
}

/// Whether a condition asks for https, or for http.
fn scheme_test(words: &[String]) -> Option<bool> {
    let text = words.join(" ").replace(['"', '\'', '(', ')'], "");
    match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["$scheme", "=", "https"] | ["$https", "=", "on"] | ["$scheme", "!=", "http"] => Some(true),
        ["$scheme", "=", "http"] | ["$scheme", "!=", "https"] | ["$https", "!=", "on"] => {
            Some(false)
        }
        ["$https", "=", ""] | ["$https", "="] => Some(false),
        ["$https"] => Some(true),
        _ => None,
    }
}
