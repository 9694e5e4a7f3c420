//! `http-request`, `http-response`, `redirect` and `use_backend` lines as rules in order.
//!
//! Lines are read from the last to the first: a line that ends the search goes in front of the rules that follow it, a
//! line that changes the request is applied to the rules that follow it, as far as its condition goes.

use super::super::capabilities::close;
use super::super::conditions::Apart;
use super::super::document::{Doc, Map};
use super::super::model::{Origin, Rule, When, redirect};
use super::acl::{Atom, Conjunction, condition};
use super::changes::change;
use super::format::location;
use super::parse::{Line, Section, time};
use super::userlist::{self, Members};
use super::{Translation, backend};

/// Rules of one frontend, at most.
const RULES_MAX: usize = 1_000;

/// The listeners of a frontend, by TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Binds {
    pub(super) plain: Vec<String>,
    pub(super) tls: Vec<String>,
}

impl Binds {
    pub(super) fn all(&self) -> Vec<String> {
        [self.plain.clone(), self.tls.clone()].concat()
    }
}

/// A condition as conditions of routes.
#[derive(Debug)]
struct Case {
    when: When,
    /// Paths and hosts that must not match: requests for them follow the rules below.
    except: Vec<When>,
    /// Users of whom the client is none.
    unauthenticated: Vec<Members>,
    /// The rate that was exceeded.
    rate: Option<u64>,
}

/// The rules of a section, in front of those that follow it.
pub(super) fn rules(
    translation: &mut Translation<'_>,
    section: &Section,
    binds: &Binds,
    mut following: Vec<Rule>,
) -> Vec<Rule> {
    let lists: Vec<&Line> = section.lines.iter().filter(|line| line.word(0) == "acl").collect();
    // `redirect` follows all of `http-request`, `use_backend` follows `redirect`.
    for keyword in ["use_backend", "redirect", "http-response", "http-request"] {
        for line in section.lines.iter().rev().filter(|line| line.word(0) == keyword) {
            if keyword == "use_backend" && section.kind == "backend" {
                // It would name itself without end.
                let why = "HAProxy ignores it in a backend";
                translation.model.unneeded(&line.at, &line.shown(), why);
                continue;
            }
            let cases = match condition(line, &lists).and_then(|all| cases(&all, binds)) {
                Ok(cases) => cases,
                Err(hint) => {
                    left_out(translation, line, &hint, &mut following);
                    continue;
                }
            };
            let is_plain = !line.has("if") && !line.has("unless");
            following = step(translation, section, line, &cases, is_plain, binds, following);
            if following.len() > RULES_MAX {
                left_out(
                    translation,
                    line,
                    "the rules after it have too many combinations",
                    &mut following,
                );
                following.truncate(RULES_MAX);
            }
        }
    }
    following
}

/// Notes a line. If it protects what follows, the rules that follow are closed.
fn left_out(translation: &mut Translation<'_>, line: &Line, hint: &str, following: &mut [Rule]) {
    let protects = matches!(line.word(1), "deny" | "reject" | "auth" | "tarpit" | "silent-drop");
    let hint = match protects && line.word(0) == "http-request" {
        true => format!("{hint}; until then the routes after it refuse all clients"),
        false => hint.to_owned(),
    };
    translation.model.left_out(&line.at, &line.shown(), &hint);
    if protects && line.word(0) == "http-request" {
        for rule in following.iter_mut().filter(|rule| rule.keys.get("service").is_some()) {
            close(&mut rule.keys);
        }
    }
}

fn cases(alternatives: &[Conjunction], binds: &Binds) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for conjunction in alternatives {
        if let Some(case) = case(conjunction, binds)? {
            cases.push(case);
        }
    }
    Ok(cases)
}

/// A conjunction as a case; nothing if it is never true.
fn case(conjunction: &Conjunction, binds: &Binds) -> Result<Option<Case>, String> {
    let mut case =
        Case { when: When::default(), except: Vec::new(), unauthenticated: Vec::new(), rate: None };
    for (negated, atom) in conjunction {
        match (atom, negated) {
            (Atom::Always, false) => {}
            (Atom::Always, true) => return Ok(None),
            (Atom::Authenticated(members), true) => case.unauthenticated.push(members.clone()),
            (Atom::Authenticated(_), false) => return Err("use `auth.basic_file`".to_owned()),
            (Atom::Rate(rate), false) => case.rate = Some(*rate),
            (Atom::Rate(_), true) => return Err("use `rate_limit`".to_owned()),
            (Atom::Sni(_), _) => return Err("routes use the host of the request".to_owned()),
            (Atom::Tls, negated) => {
                let listeners = if *negated { &binds.plain } else { &binds.tls };
                if listeners.is_empty() {
                    return Ok(None);
                }
                let when = When { listeners: listeners.clone(), ..When::default() };
                match case.when.and(&when) {
                    Ok(when) => case.when = when,
                    Err(_) => return Ok(None),
                }
            }
            (Atom::When(when), false) => match case.when.and(when) {
                Ok(when) => case.when = when,
                Err(Apart::Disjoint) => return Ok(None),
                Err(Apart::Inexpressible) => {
                    return Err("a route has one path, prefix or expression".to_owned());
                }
            },
            (Atom::When(when), true) => match when.tests.as_slice() {
                [] => case.except.push(when.clone()),
                tests => {
                    for test in tests {
                        let mut test = test.clone();
                        test.negated = !test.negated;
                        case.when.tests.push(test);
                    }
                    case.when.tests.sort();
                    case.when.tests.dedup();
                }
            },
        }
    }
    Ok(Some(case))
}

fn step(
    translation: &mut Translation<'_>,
    section: &Section,
    line: &Line,
    cases: &[Case],
    is_plain: bool,
    binds: &Binds,
    following: Vec<Rule>,
) -> Vec<Rule> {
    let mut following = following;
    if let Some((made, ends)) = ending(translation, line, binds) {
        let is_guard = |case: &Case| !case.unauthenticated.is_empty() || case.rate.is_some();
        let is_auth = line.word(0) == "http-request" && line.word(1) == "auth";
        if is_auth || cases.iter().any(is_guard) {
            return guarded(translation, section, line, cases, following);
        }
        if !ends {
            return following;
        }
        let mut front = Vec::new();
        for case in cases {
            // Requests that an exception names go on.
            for except in &case.except {
                match restricted(&following, except) {
                    Ok(passed) => front.extend(passed),
                    Err(()) => {
                        left_out(
                            translation,
                            line,
                            "a negated path cannot be combined with the rules after it",
                            &mut following,
                        );
                        return following;
                    }
                }
            }
            for rule in &made {
                if let Ok(when) = case.when.and(&rule.when) {
                    front.push(Rule { when, ..rule.clone() });
                }
            }
        }
        front.extend(following);
        return front;
    }
    changed(translation, line, cases, is_plain, following)
}

/// Applies a change, such as `http-request set-header`, to the rules that follow it: to all of them, or to copies of
/// them that are restricted to its condition.
fn changed(
    translation: &mut Translation<'_>,
    line: &Line,
    cases: &[Case],
    is_plain: bool,
    mut following: Vec<Rule>,
) -> Vec<Rule> {
    let Some(change) = change(translation, line) else { return following };
    if is_plain {
        following.iter_mut().for_each(|rule| change(&mut rule.keys));
        return following;
    }
    let mut front = Vec::new();
    for case in cases {
        let is_expressible =
            case.except.is_empty() && case.unauthenticated.is_empty() && case.rate.is_none();
        match restricted(&following, &case.when) {
            Ok(changed) if is_expressible => front.extend(changed),
            Ok(_) | Err(()) => {
                let hint = "write it at the routes of this condition";
                left_out(translation, line, hint, &mut following);
                return following;
            }
        }
    }
    front.iter_mut().for_each(|rule| change(&mut rule.keys));
    front.extend(following);
    front
}

/// The rules, each restricted to a condition; without those that the condition excludes.
fn restricted(rules: &[Rule], when: &When) -> Result<Vec<Rule>, ()> {
    let mut restricted = Vec::new();
    for rule in rules {
        match rule.when.and(when) {
            Ok(when) => restricted.push(Rule { when, ..rule.clone() }),
            Err(Apart::Disjoint) => {}
            Err(Apart::Inexpressible) => return Err(()),
        }
    }
    Ok(restricted)
}

/// Rate limits and authentication: properties of the rules that follow.
fn guarded(
    translation: &mut Translation<'_>,
    section: &Section,
    line: &Line,
    cases: &[Case],
    mut following: Vec<Rule>,
) -> Vec<Rule> {
    for case in cases {
        let limit = case.rate.and_then(|rate| Some((rate, period(section)?)));
        let is_known = limit.is_some() == case.unauthenticated.is_empty();
        // Requests that an exception names go on.
        let excepted: Result<Vec<Vec<Rule>>, ()> =
            case.except.iter().map(|except| restricted(&following, except)).collect();
        let (Ok(mut inside), Ok(excepted), true) =
            (restricted(&following, &case.when), excepted, is_known)
        else {
            let hint = "set `auth` or `rate_limit` at the routes of this condition";
            left_out(translation, line, hint, &mut following);
            continue;
        };
        match limit {
            Some((rate, seconds)) => {
                let mut map = Map::default();
                map.set("requests", Doc::word(rate.clamp(1, 1_000_000_000)));
                map.set("per", super::super::model::seconds(seconds));
                inside.iter_mut().for_each(|rule| rule.keys.set("rate_limit", map.clone()));
            }
            None => authenticated(translation, line, &case.unauthenticated, &mut inside),
        }
        let mut front = excepted.concat();
        front.extend(inside);
        front.extend(following);
        following = front;
    }
    following
}

/// Demands the password of one of these users. Where that cannot be demanded, the rules refuse all clients.
fn authenticated(
    translation: &mut Translation<'_>,
    line: &Line,
    members: &[Members],
    rules: &mut [Rule],
) {
    let closed = "until then the routes refuse all clients";
    match userlist::file(translation, members) {
        Ok(file) => {
            let hint = "the answer is 401, which asks for a password";
            match (line.word(0), line.word(1)) {
                ("http-request", "auth") => {}
                ("http-request", "deny" | "reject" | "tarpit") => {
                    translation.model.differs(&line.at, &line.shown(), hint);
                }
                _ => translation.model.left_out(&line.at, &line.shown(), hint),
            }
            let mut is_second = false;
            for rule in rules {
                if rule.keys.get("auth").is_some() {
                    is_second = true;
                    rule.keys.remove("auth");
                    close(&mut rule.keys);
                } else {
                    rule.keys.set("auth.basic_file", file.as_str());
                }
            }
            if is_second {
                let hint = format!("a route has one password file; {closed}");
                translation.model.left_out(&line.at, &line.shown(), &hint);
            }
        }
        Err(hint) => {
            rules.iter_mut().for_each(|rule| close(&mut rule.keys));
            translation.model.left_out(&line.at, &line.shown(), &format!("{hint}; {closed}"));
        }
    }
}

/// The period of the rate in the stick table.
fn period(section: &Section) -> Option<f64> {
    let mut lines = section.lines.iter().filter(|line| line.word(0) == "stick-table");
    lines.find_map(|line| {
        let text = line.shown();
        let (_, rest) = text.split_once("http_req_rate(")?;
        time(rest.split(')').next()?)
    })
}

/// A line that decides about a request: its rules, and whether they end the search.
fn ending(
    translation: &mut Translation<'_>,
    line: &Line,
    binds: &Binds,
) -> Option<(Vec<Rule>, bool)> {
    let mut keys = Map::default();
    match (line.word(0), line.word(1)) {
        ("use_backend", name) => {
            if name.contains('%') {
                let hint =
                    "the name of the backend depends on the request: write a route for each name";
                translation.model.left_out(&line.at, &line.shown(), hint);
                return Some((Vec::new(), false));
            }
            return Some((to_backend(translation, name, &line.at, binds), true));
        }
        ("redirect", _) | ("http-request", "redirect") => {
            if !redirected(translation, line, &mut keys) {
                return Some((Vec::new(), false));
            }
        }
        ("http-request", "deny" | "tarpit" | "reject" | "silent-drop") => {
            let status = line.after("deny_status").or(line.after("status"));
            let status = status.and_then(|status| status.parse::<u16>().ok()).unwrap_or(403);
            keys.set("respond.status", Doc::word(status.clamp(400, 599)));
            if line.word(1) != "deny" {
                translation.model.differs(
                    &line.at,
                    &line.shown(),
                    "the answer is immediate, with a status",
                );
            }
        }
        ("http-request", "return") => {
            let status =
                line.after("status").and_then(|status| status.parse::<u16>().ok()).unwrap_or(200);
            keys.set("respond.status", Doc::word(status.clamp(200, 599)));
            match line.after("string").or(line.after("lf-string")) {
                Some(text) if !text.contains("%[") => keys.set("respond.body", text),
                Some(_) => translation.model.left_out(
                    &line.at,
                    &line.shown(),
                    "the body cannot have variables",
                ),
                None if line.has("file") || line.has("errorfile") || line.has("errorfiles") => {
                    translation.model.left_out(
                        &line.at,
                        &line.shown(),
                        "write the body in `respond.body`",
                    );
                }
                None => {}
            }
        }
        ("http-request", "auth") => {}
        _ => return None,
    }
    Some((vec![Rule { at: line.at.clone(), when: When::default(), keys }], true))
}

/// The rules of a backend for all requests that are sent to it.
pub(super) fn to_backend(
    translation: &mut Translation<'_>,
    name: &str,
    at: &Origin,
    binds: &Binds,
) -> Vec<Rule> {
    let Some(section) = translation.backend(name) else {
        translation.model.left_out(at, name, "there is no backend of this name");
        return Vec::new();
    };
    let keys = backend::backend(translation, section);
    let last = Rule { at: at.clone(), when: When::default(), keys };
    match section.kind.as_str() {
        // The rules of a `listen` section are those of its own requests.
        "listen" => vec![last],
        _ => rules(translation, section, binds, vec![last]),
    }
}

/// The keys of a redirect, if it can be translated.
fn redirected(translation: &mut Translation<'_>, line: &Line, keys: &mut Map) -> bool {
    let from = if line.word(0) == "redirect" { 1 } else { 2 };
    let status = line.after("code").and_then(|code| code.parse::<u16>().ok()).unwrap_or(302);
    // `code` and the kind of the target may come in any order.
    let to = if let Some(scheme) = line.after("scheme") {
        Ok(format!("{scheme}://{{host}}{{path}}?{{query}}"))
    } else if let Some(to) = line.after("location") {
        location(to)
    } else if let Some(to) = line.after("prefix") {
        location(to).map(|to| format!("{to}{{path}}?{{query}}"))
    } else {
        Err(line.word(from).to_owned())
    };
    match to {
        Ok(to) => redirect(keys, &to, status),
        Err(part) => {
            let hint = format!("a redirect has no variable for `{part}`");
            translation.model.left_out(&line.at, &line.shown(), &hint);
            return false;
        }
    }
    true
}
